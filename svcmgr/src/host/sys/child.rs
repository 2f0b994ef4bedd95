//! Between fork and exec: the way of a child to its program. Nothing here allocates, locks, or returns to its caller;
//! all that is needed is prepared in a [`ChildPlan`] before the child is made.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use libc::{c_char, c_int, c_long};

use super::mounts::{self, MountPlan};
use super::{FIRST_FD, NEVER_RAN, NOT_EXECUTED, errno, privileges};
use crate::unit::capability::Capabilities;
use crate::unit::scheduling::MAX_CPUS;
use crate::unit::{KeyringMode, Limit};

/// The steps that can fail, as the child reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is what it sets up; in words in `real::children`")]
pub enum ChildStep {
    Session = 1,
    Terminal,
    Streams,
    Groups,
    User,
    Directory,
    Execute,
    Limits,
    Nice,
    OomScore,
    Scheduler,
    Affinity,
    IoPriority,
    Personality,
    Keyring,
    Namespaces,
    Network,
    Mounts,
    UserNamespace,
    Capabilities,
    Ambient,
    NoNewPrivileges,
    Filter,
    Descriptors,
}

impl ChildStep {
    /// The step of this number.
    pub fn from_number(number: u8) -> Option<ChildStep> {
        use ChildStep::{
            Affinity, Ambient, Capabilities, Descriptors, Directory, Execute, Filter, Groups, IoPriority, Keyring,
            Limits, Mounts, Namespaces, Network, Nice, NoNewPrivileges, OomScore, Personality, Scheduler, Session,
            Streams, Terminal, User, UserNamespace,
        };
        let all = [
            Session,
            Terminal,
            Streams,
            Groups,
            User,
            Directory,
            Execute,
            Limits,
            Nice,
            OomScore,
            Scheduler,
            Affinity,
            IoPriority,
            Personality,
            Keyring,
            Namespaces,
            Network,
            Mounts,
            UserNamespace,
            Capabilities,
            Ambient,
            NoNewPrivileges,
            Filter,
            Descriptors,
        ];
        all.into_iter().find(|step| *step as u8 == number)
    }
}

/// A child's standard stream.
#[derive(Debug, Clone, Copy)]
pub enum Stream<'a> {
    /// This descriptor.
    Fd(BorrowedFd<'a>),
    /// The terminal of the plan.
    Tty,
}

/// How the kernel schedules a child.
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedulingPlan<'a> {
    /// Policy and priority, sched_setscheduler(2).
    pub policy: Option<(c_int, c_int)>,
    /// Numbers of processors; none is all.
    pub affinity: &'a [u32],
    /// What ioprio_set(2) takes.
    pub io: Option<c_int>,
    /// In nanoseconds.
    pub timer_slack: Option<u64>,
    /// personality(2).
    pub personality: Option<u64>,
    /// What is written to its `coredump_filter`.
    pub coredump_filter: Option<&'a CStr>,
}

/// What a child is kept from.
#[derive(Debug, Clone, Copy)]
pub struct SandboxPlan<'a> {
    /// `CLONE_NEW…` flags of the namespaces that it gets.
    pub namespaces: c_int,
    /// What it sees of the file system; `None` is what all see.
    pub mounts: Option<&'a MountPlan>,
    /// A user namespace with its own user and root alone.
    pub private_users: bool,
    /// The capabilities that it may have at all.
    pub bounding: Capabilities,
    /// The capabilities that it keeps as its user.
    pub ambient: Capabilities,
    /// prctl(2), `PR_SET_SECUREBITS`.
    pub secure_bits: u32,
    /// Its programs give nothing that it has not.
    pub no_new_privileges: bool,
    /// Filters of system calls, in the order in which they are set.
    pub filters: &'a [Vec<libc::sock_filter>],
}

/// All that a child needs, prepared before it is made.
#[derive(Debug)]
pub struct ChildPlan<'a> {
    /// The program.
    pub program: &'a CStr,
    /// Its arguments, from `argv[0]`.
    pub arguments: &'a [&'a CStr],
    /// Its environment.
    pub environment: &'a [&'a CStr],
    /// Where it is to be; `None` stays.
    pub directory: Option<&'a CStr>,
    /// It may be elsewhere if that does not exist.
    pub directory_optional: bool,
    /// User, group, supplementary groups; `None` stays root.
    pub user: Option<(u32, u32, &'a [u32])>,
    /// Input, output, errors.
    pub streams: [Stream<'a>; 3],
    /// Other descriptors, and what each is to be, from the lowest on. Their own numbers are above all of these, and so is
    /// that of the socket by which it is released.
    pub passed: &'a [(BorrowedFd<'a>, RawFd)],
    /// `LISTEN_PID=`, a variable more, with room for its own number and a NUL.
    pub listen_pid: Option<&'a [Cell<u8>]>,
    /// Its terminal.
    pub tty: Option<&'a CStr>,
    /// Its cgroup's folder.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Its cgroup limits something: where that is memory, the kernel may end whoever shares what the child has.
    pub limits_memory: bool,
    /// Its file mode creation mask.
    pub umask: u32,
    /// Writing to a pipe that nobody reads fails, instead of ending it.
    pub ignore_sigpipe: bool,
    /// Its nice level; `None` stays.
    pub nice: Option<c_int>,
    /// What is written to its `oom_score_adj`.
    pub oom_score_adjust: Option<&'a CStr>,
    /// Its limits.
    pub limits: &'a [Limit],
    /// How the kernel schedules it.
    pub scheduling: SchedulingPlan<'a>,
    /// Its session keyring.
    pub keyring: KeyringMode,
    /// What it is kept from; `None` is nothing.
    pub sandbox: Option<SandboxPlan<'a>>,
}

/// What failed: the step, the error's number, and which of the places, limits or filters of the plan.
pub(super) type Failed = (ChildStep, c_int, u16);

/// The child's whole way. What fails is told to `report`: the step, the error's number, and which of the plan's.
pub(super) fn child(
    plan: &ChildPlan<'_>,
    arguments: &[*const c_char],
    environment: &[*const c_char],
    report: RawFd,
) -> ! {
    let (step, errno, which) = match prepare(plan, report).and_then(|()| privileges::forbid(plan)) {
        Ok(()) => {
            // SAFETY: program and both lists are NUL-terminated and live in the parent's copy of memory.
            unsafe { libc::execve(plan.program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            (ChildStep::Execute, errno(), 0)
        }
        Err(failed) => failed,
    };
    let [a, b, c, d] = errno.to_ne_bytes();
    let [e, f] = which.to_ne_bytes();
    let message = [step as u8, a, b, c, d, e, f];
    // SAFETY: the message is as long as is said; _exit ends this process without running anything of the parent's.
    unsafe {
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(NOT_EXECUTED)
    }
}

/// `Ok` unless a system call failed.
pub(super) fn check(step: ChildStep, result: c_long) -> Result<(), Failed> {
    if result < 0 { Err((step, errno(), 0)) } else { Ok(()) }
}

fn prepare(plan: &ChildPlan<'_>, report: RawFd) -> Result<(), Failed> {
    streams(plan, report)?;
    scheduling(plan)?;
    keyring(plan.keyring)?;
    if let Some(sandbox) = &plan.sandbox {
        namespaces(sandbox)?;
    }
    // SAFETY: an integer.
    unsafe { libc::umask(plan.umask) };
    privileges::take(plan)?;
    if let Some(path) = plan.directory {
        // SAFETY: a NUL-terminated string.
        let result = unsafe { libc::chdir(path.as_ptr()) };
        if !plan.directory_optional {
            check(ChildStep::Directory, result.into())?;
        }
    }
    // To be released: one byte. The other end closed means that the supervisor died before it wrote us down.
    let mut go = 0_u8;
    loop {
        // SAFETY: one byte of this process's own memory.
        match unsafe { libc::read(report, (&raw mut go).cast(), 1) } {
            1 => return Ok(()),
            -1 if errno() == libc::EINTR => {}
            // SAFETY: ends this process without running anything of the parent's.
            _ => unsafe { libc::_exit(NEVER_RAN) },
        }
    }
}

/// A session, signals, and no descriptors but its own.
fn streams(plan: &ChildPlan<'_>, report: RawFd) -> Result<(), Failed> {
    // SAFETY: system calls with integers, and with pointers to memory of the plan or of this stack.
    unsafe {
        check(ChildStep::Session, libc::setsid().into())?;
        libc::signal(libc::SIGPIPE, if plan.ignore_sigpipe { libc::SIG_IGN } else { libc::SIG_DFL });
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());

        let mut tty = -1;
        if let Some(path) = plan.tty {
            tty = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            check(ChildStep::Terminal, tty.into())?;
            // The session's terminal, unless another session has it: output alone needs none.
            libc::ioctl(tty, libc::TIOCSCTTY, 0);
        }
        for (target, stream) in (0..).zip(&plan.streams) {
            let from = match stream {
                Stream::Fd(fd) => fd.as_raw_fd(),
                Stream::Tty => tty,
            };
            // The supervisor's own 0 to 2 are open, so that no descriptor of the plan is one of them.
            check(ChildStep::Streams, libc::dup2(from, target).into())?;
        }
        // While it waits, the child keeps nothing but its own end of the socket. Above all not the other end, or the
        // supervisor's death would never close that; nor clients' connections, which would stay half open.
        let mut next = FIRST_FD;
        for (from, target) in plan.passed {
            check(ChildStep::Descriptors, libc::dup2(from.as_raw_fd(), *target).into())?;
            close_between(next, *target);
            next = target.saturating_add(1);
        }
        close_between(next, report);
        libc::syscall(libc::SYS_close_range, report.saturating_add(1), u32::MAX, 0);
    }
    if let Some(text) = plan.listen_pid {
        write_number(text, std::process::id());
    }
    Ok(())
}

/// Closes the descriptors from `first` up to, but not, `end`.
fn close_between(first: RawFd, end: RawFd) {
    if first < end {
        // SAFETY: integers; what is closed is the child's own.
        unsafe { libc::syscall(libc::SYS_close_range, first, end.saturating_sub(1), 0) };
    }
}

/// Writes a number where the text has room for it: behind what is not NUL.
fn write_number(text: &[Cell<u8>], number: u32) {
    let mut room = text.iter().skip_while(|cell| cell.get() != 0);
    let mut divisor: u32 = 1_000_000_000;
    while divisor > 0 {
        let digit = number.checked_div(divisor).unwrap_or(0).checked_rem(10).unwrap_or(0);
        // No zeros in front.
        if (number >= divisor || divisor == 1)
            && let Some(cell) = room.next()
        {
            cell.set(b'0'.saturating_add(u8::try_from(digit).unwrap_or(0)));
        }
        divisor = divisor.checked_div(10).unwrap_or(0);
    }
}

/// Priorities and limits, while it may still raise them.
fn scheduling(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    if let Some(score) = plan.oom_score_adjust {
        write_file(ChildStep::OomScore, c"/proc/self/oom_score_adj", score)?;
    }
    let scheduling = &plan.scheduling;
    if let Some(filter) = scheduling.coredump_filter {
        write_file(ChildStep::Limits, c"/proc/self/coredump_filter", filter)?;
    }
    // SAFETY: system calls with integers, and with pointers to memory of this stack of the sizes that are given.
    unsafe {
        if let Some(nice) = plan.nice {
            check(ChildStep::Nice, libc::setpriority(libc::PRIO_PROCESS, 0, nice).into())?;
        }
        if let Some((policy, priority)) = scheduling.policy {
            let parameter = libc::sched_param { sched_priority: priority };
            check(ChildStep::Scheduler, libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter))?;
        }
        if !scheduling.affinity.is_empty() {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            for cpu in scheduling.affinity.iter().filter(|cpu| **cpu < MAX_CPUS) {
                libc::CPU_SET(usize::try_from(*cpu).unwrap_or(0), &mut set);
            }
            let size = size_of::<libc::cpu_set_t>();
            check(ChildStep::Affinity, libc::sched_setaffinity(0, size, &raw const set).into())?;
        }
        if let Some(io) = scheduling.io {
            // 1: IOPRIO_WHO_PROCESS.
            check(ChildStep::IoPriority, libc::syscall(libc::SYS_ioprio_set, 1, 0, io))?;
        }
        if let Some(slack) = scheduling.timer_slack {
            check(ChildStep::Scheduler, libc::prctl(libc::PR_SET_TIMERSLACK, slack).into())?;
        }
        if let Some(personality) = scheduling.personality {
            check(ChildStep::Personality, libc::personality(personality).into())?;
        }
        for limit in plan.limits {
            let both = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
            check(ChildStep::Limits, libc::setrlimit(limit.resource.number(), &raw const both).into())?;
        }
    }
    Ok(())
}

fn write_file(step: ChildStep, path: &CStr, text: &CStr) -> Result<(), Failed> {
    // SAFETY: NUL-terminated strings, and as many bytes as there are.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(step, file.into())?;
        let written = libc::write(file, text.as_ptr().cast(), text.count_bytes());
        let result = check(step, c_long::try_from(written).unwrap_or(0));
        libc::close(file);
        result
    }
}

/// keyctl(2): a session keyring of its own, so that no service finds another's keys.
fn keyring(mode: KeyringMode) -> Result<(), Failed> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    const KEYCTL_LINK: c_int = 8;
    const SESSION_KEYRING: c_int = -3;
    const USER_KEYRING: c_int = -4;
    if mode == KeyringMode::Inherit {
        return Ok(());
    }
    // SAFETY: integers, and a null pointer, which asks for an anonymous keyring.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) };
    match check(ChildStep::Keyring, joined) {
        // A kernel without keys, or a container that may not have any.
        Err((_, libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EDQUOT, _)) => return Ok(()),
        other => other?,
    }
    if mode == KeyringMode::Shared {
        // SAFETY: integers.
        let linked = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_LINK, USER_KEYRING, SESSION_KEYRING, 0, 0) };
        check(ChildStep::Keyring, linked)?;
    }
    Ok(())
}

fn namespaces(sandbox: &SandboxPlan<'_>) -> Result<(), Failed> {
    if sandbox.namespaces != 0 {
        // SAFETY: an integer.
        check(ChildStep::Namespaces, unsafe { libc::unshare(sandbox.namespaces) }.into())?;
    }
    if sandbox.namespaces & libc::CLONE_NEWNET != 0 {
        loopback_up()?;
    }
    match sandbox.mounts {
        Some(plan) => mounts::make(plan).map_err(|(place, errno)| (ChildStep::Mounts, errno, place)),
        None => Ok(()),
    }
}

/// In a new network namespace the loopback device is down: netdevice(7).
fn loopback_up() -> Result<(), Failed> {
    // SAFETY: the request is a structure of integers and a short name, for which zero is a value; it lives through
    // both calls.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
            *slot = c_char::from_ne_bytes([byte]);
        }
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap_or(1);
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(ChildStep::Network, socket.into())?;
        let result = check(ChildStep::Network, libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request).into());
        libc::close(socket);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_behind_its_name() {
        for number in [1, 42, 4_194_304, u32::MAX] {
            let text: Vec<Cell<u8>> = b"N=".iter().chain(&[0; 11]).map(|byte| Cell::new(*byte)).collect();
            write_number(&text, number);
            let bytes: Vec<u8> = text.iter().map(Cell::get).collect();
            assert_eq!(CStr::from_bytes_until_nul(&bytes).unwrap().to_str().unwrap(), format!("N={number}"));
        }
    }
}
