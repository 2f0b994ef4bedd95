//! The system calls for which there is no safe wrapper: making a process in its cgroup, and, in the modules below, the
//! steps that it takes between fork and exec, where nothing may allocate or lock.

mod child;
pub mod mounts;
mod privileges;
#[cfg_attr(not(target_arch = "x86_64"), path = "sys/sharing_none.rs")]
mod sharing;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_char, c_int};

use child::child;
pub use child::{ChildPlan, ChildStep, SandboxPlan, SchedulingPlan, Stream};
pub use sharing::Region;

/// clone3(2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The exit code of a child that was never released, since the supervisor that made it died first.
pub const NEVER_RAN: i32 = 241;
/// The first descriptor that a service may get besides its standard streams; sd_listen_fds(3).
pub const FIRST_FD: i32 = 3;
/// The exit code of a child whose program could not be executed; systemd.exec(5), `EXIT_EXEC`.
pub const NOT_EXECUTED: i32 = 203;

/// A child that has been made and waits to be released.
#[derive(Debug)]
pub struct RawChild {
    /// Its number.
    pub pid: i32,
    /// A descriptor of it, if the kernel gave one along.
    pub pidfd: Option<OwnedFd>,
    /// Whether it is in its cgroup already.
    pub in_cgroup: bool,
    /// What it works on, if it shares our memory: to be kept until it has executed its program or is gone.
    pub region: Option<Region>,
}

/// Makes the child of `plan`. It reads one byte from `theirs` before it executes its program, and writes what failed
/// to it; the descriptor closes with the execution.
pub fn spawn(plan: &ChildPlan<'_>, theirs: BorrowedFd<'_>) -> io::Result<RawChild> {
    if let Some(made) = sharing::spawn(plan, theirs.as_raw_fd()) {
        return made;
    }
    let pointers = |list: &[&CStr]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let arguments = pointers(plan.arguments);
    let mut environment = pointers(plan.environment);
    if let Some(text) = plan.listen_pid {
        environment.insert(0, text.as_ptr().cast());
    }
    let tiers = [plan.cgroup, None];
    let mut last = io::Error::from_raw_os_error(libc::ENOSYS);
    for cgroup in tiers.iter().skip(usize::from(plan.cgroup.is_none())) {
        match clone3(*cgroup) {
            Ok(Cloned::Child) => child(plan, &arguments, &environment, theirs.as_raw_fd()),
            Ok(Cloned::Parent(pid, pidfd)) => {
                return Ok(RawChild { pid, pidfd: Some(pidfd), in_cgroup: cgroup.is_some(), region: None });
            }
            // Out of processes or memory: another way would not change that.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) => return Err(error),
            // A kernel without clone3 or without CLONE_INTO_CGROUP, or a cgroup that takes no processes that way.
            Err(error) => last = error,
        }
    }
    if last.raw_os_error() != Some(libc::ENOSYS) && plan.cgroup.is_none() {
        return Err(last);
    }
    // SAFETY: this process has one thread, and the child does nothing but call `child`, which allocates nothing.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => child(plan, &arguments, &environment, theirs.as_raw_fd()),
        pid => Ok(RawChild { pid, pidfd: None, in_cgroup: false, region: None }),
    }
}

enum Cloned {
    Child,
    Parent(i32, OwnedFd),
}

/// clone3(2) as fork does it, with a pidfd, and into a cgroup.
fn clone3(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all of clone_args are integers, for which zero is a value, and means "none" to clone3.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(libc::CLONE_PIDFD.unsigned_abs());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().unsigned_abs());
    }
    // SAFETY: `args` lives through the call and has the size that is given; without CLONE_VM the child gets a copy of
    // the address space, as with fork, and this process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: with CLONE_PIDFD the kernel has put a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(i32::try_from(pid).map_err(io::Error::other)?, pidfd))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn errno() -> c_int {
    // SAFETY: the C library's errno of this thread.
    unsafe { *libc::__errno_location() }
}

/// Blocks SIGINT, SIGTERM and SIGHUP and makes a descriptor from which they are read; all other signals get their
/// default actions back, whatever was inherited, and services with them. SIGPIPE alone stays ignored, in us.
///
/// With `children`, SIGCHLD is read from it, too.
pub fn signals(children: bool) -> io::Result<OwnedFd> {
    // SAFETY: signal sets on the stack; signal numbers that cannot be set are refused by the kernel without harm.
    unsafe {
        for number in 1..=31 {
            if number != libc::SIGPIPE {
                libc::signal(number, libc::SIG_DFL);
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, number);
        }
        if children {
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
        }
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// How many descriptors this process may have; getrlimit(2). rustix has no answer for a kernel that does not tell.
pub fn descriptor_limit() -> io::Result<rustix::process::Rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a pointer to memory of this stack.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let value = |number: u64| (number != libc::RLIM_INFINITY).then_some(number);
    Ok(rustix::process::Rlimit { current: value(limit.rlim_cur), maximum: value(limit.rlim_max) })
}

/// Has large buffers kept apart, so that each is given back at once when it is dropped: mallopt(3). Left to itself the C
/// library would learn from the first one to keep them together, and hold what lies between them.
pub fn keep_large_buffers_apart() {
    const LARGE: c_int = 64 * 1024;
    // SAFETY: sets a number of the allocator; no other thread is there.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// Gives the memory back that was freed: reading the units takes several times what stays of them.
pub fn give_memory_back() {
    // SAFETY: an integer.
    unsafe { libc::malloc_trim(0) };
}

/// A child that has ended and was not reaped, which it still is not after this.
pub fn ended_child() -> Option<i32> {
    // SAFETY: the structure is plain data, for which zero is a value, and lives through the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let result = libc::waitid(libc::P_ALL, 0, &raw mut info, options);
        (result == 0).then(|| info.si_pid()).filter(|pid| *pid > 0)
    }
}

/// Reaps a child that has ended.
pub fn reap(pid: i32) {
    // SAFETY: integers, and a null pointer, which asks for no status.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
}

/// Makes orphans of our children ours, where PID 1 is none of ours and would not tell how they end.
pub fn adopt_orphans() {
    // SAFETY: integers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } < 0 {
        log::warn!("orphans of services go to PID 1: {}", io::Error::last_os_error());
    }
}

/// Takes descriptor `number`, which was inherited, and makes it close-on-exec.
///
/// # Errors
/// When it is not open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number; the descriptor is taken once, at the start, before anything else could own it.
    unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Sets a socket option: [setsockopt(2)](https://man7.org/linux/man-pages/man2/setsockopt.2.html).
pub fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: as many bytes as are said, which live through the call.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Binds a netlink socket to multicast groups, under a number that the kernel chooses: netlink(7).
pub fn bind_netlink(fd: BorrowedFd<'_>, groups: u32) -> io::Result<()> {
    // SAFETY: a structure of integers, for which zero is a value; it lives through the call, and its size is said.
    let result = unsafe {
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
        address.nl_groups = groups;
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).unwrap_or_default();
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether both descriptors are of one open file: [kcmp(2)](https://man7.org/linux/man-pages/man2/kcmp.2.html). Not, where
/// the kernel does not tell.
pub fn is_same_file(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: c_int = 0;
    let us = std::process::id();
    // SAFETY: integers.
    unsafe { libc::syscall(libc::SYS_kcmp, us, us, KCMP_FILE, a.as_raw_fd(), b.as_raw_fd()) == 0 }
}

/// Sends `signal` to the process `pid`, or, if negative, to the process group `-pid`; signal 0 asks whether it is
/// there. See [kill(2)](https://man7.org/linux/man-pages/man2/kill.2.html).
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // 0, -1 and 1 would hit ourselves, all, or PID 1.
    if (-1..=1).contains(&pid) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    /// Makes a process for `/bin/true` that waits to be released: it, and the supervisor's end of its socket.
    fn waiting(program: &CStr, limits_memory: bool) -> (RawChild, OwnedFd) {
        let null = std::fs::File::open("/dev/null").unwrap();
        let plan = ChildPlan {
            program,
            arguments: &[program],
            environment: &[c"A=b"],
            directory: None,
            directory_optional: false,
            user: None,
            streams: [Stream::Fd(null.as_fd()); 3],
            passed: &[],
            listen_pid: None,
            tty: None,
            cgroup: None,
            limits_memory,
            umask: 0o022,
            ignore_sigpipe: true,
            nice: None,
            oom_score_adjust: None,
            limits: &[],
            scheduling: SchedulingPlan::default(),
            keyring: crate::unit::KeyringMode::Inherit,
            sandbox: None,
        };
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        (spawn(&plan, theirs.as_fd()).unwrap(), ours)
    }

    fn exit_code(child: &RawChild) -> Option<i32> {
        let pidfd = child.pidfd.as_ref().unwrap();
        let deadline = Timespec { tv_sec: 10, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&deadline)).unwrap();
        if ended == 0 {
            kill(child.pid, libc::SIGKILL).unwrap();
        }
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap().exit_status()
    }

    /// Both ways to make one: with our memory, and with a copy of it.
    const WAYS: [bool; 2] = [false, true];

    #[test]
    fn a_child_that_nobody_releases_ends_once_its_supervisor_is_gone() {
        for way in WAYS {
            let (first, first_end) = waiting(c"/bin/true", way);
            // The second was made while the first one's socket was open.
            let (second, second_end) = waiting(c"/bin/true", way);
            rustix::io::write(&second_end, b"g").unwrap();
            drop(first_end);
            assert_eq!(exit_code(&first), Some(NEVER_RAN));
            assert_eq!(exit_code(&second), Some(0));
        }
    }

    #[test]
    fn a_child_says_what_failed_and_leaves_our_error_numbers_alone() {
        for way in WAYS {
            let (child, end) = waiting(c"/no/such/program", way);
            // SAFETY: the C library's errno of this thread.
            unsafe { *libc::__errno_location() = libc::EXDEV };
            rustix::io::write(&end, b"g").unwrap();
            assert_eq!(exit_code(&child), Some(NOT_EXECUTED));
            // SAFETY: likewise.
            assert!(way || unsafe { *libc::__errno_location() } != libc::ENOENT);
            let mut told = [0; 8];
            let length = rustix::io::read(&end, &mut told).unwrap();
            let [a, b, c, d] = libc::ENOENT.to_ne_bytes();
            assert_eq!(told[..length], [ChildStep::Execute as u8, a, b, c, d, 0, 0]);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn only_a_plain_child_shares_our_memory() {
        assert!(waiting(c"/bin/true", false).0.region.is_some());
        assert!(waiting(c"/bin/true", true).0.region.is_none());
    }
}
