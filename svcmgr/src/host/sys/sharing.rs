//! A child that shares our memory until it executes its program. A copy of ours, as fork makes it, costs more than all
//! else that the start of a service takes: tables of pages for the child, and a fault for each page that we write to
//! afterwards. x86-64 alone: the child begins on a stack of its own, for which the C library has no door.
//!
//! The child runs beside us. So it works on a region of its own (stack, and all that it needs, copied), and makes its
//! system calls itself: the C library would write its error numbers into ours. For plain services only: what is kept per
//! memory and not per process (OOM score, dump filter) would change for us, too, and where a service's cgroup is short
//! of memory the kernel would end all who share what its child has.

use std::arch::asm;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_char, c_int};
use syscalls::{Errno, Sysno, syscall};

use super::child::{ChildPlan, ChildStep, SandboxPlan, SchedulingPlan, Stream};
use super::{CLONE_INTO_CGROUP, NEVER_RAN, NOT_EXECUTED, RawChild};
use crate::unit::KeyringMode;

/// Enough for [`walk`], which calls little.
const STACK: usize = 16 * 1024;
/// System V ABI for x86-64, "The Stack Frame".
const STACK_ALIGNMENT: usize = 16;
const PAGE: usize = 4096;

/// What the child works on: a page that nobody may touch, its stack, and what it needs. To be kept until it has executed
/// its program or is gone.
#[derive(Debug)]
pub struct Region {
    base: *mut u8,
    length: usize,
    /// Where what the child needs begins, and its stack ends: they share a page, so that it costs one fault.
    begin: usize,
    /// Where the next thing is put.
    free: usize,
}

/// All that a plain child needs. The pointers lead into its region.
struct Way {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    /// Null to stay.
    directory: *const c_char,
    directory_optional: bool,
    streams: [RawFd; 3],
    umask: u32,
    ignore_sigpipe: bool,
    limits: *const (u32, libc::rlimit),
    limit_count: usize,
    keyring: KeyringMode,
    report: RawFd,
}

/// Makes the child of `plan`, in its cgroup, if it is a plain one; `None` where it is not, or has to be made otherwise.
pub(super) fn spawn(plan: &ChildPlan<'_>, report: RawFd) -> Option<io::Result<RawChild>> {
    // Whoever adds to the plan decides here whether a plain child can do it.
    let ChildPlan {
        program,
        arguments,
        environment,
        directory,
        directory_optional,
        user: None,
        streams: [Stream::Fd(input), Stream::Fd(output), Stream::Fd(error)],
        tty: None,
        cgroup,
        umask,
        ignore_sigpipe,
        nice: None,
        oom_score_adjust: None,
        limits,
        scheduling:
            SchedulingPlan {
                policy: None,
                affinity: [],
                io: None,
                timer_slack: None,
                personality: None,
                coredump_filter: None,
            },
        keyring,
        sandbox: None::<SandboxPlan<'_>>,
        limits_memory: false,
        passed: [],
        listen_pid: None,
    } = plan
    else {
        return None;
    };
    let texts = || arguments.iter().chain(environment.iter()).chain(directory.iter()).chain([program]);
    let pointers = arguments.len().saturating_add(environment.len()).saturating_add(2);
    let needed = [
        texts().map(|text| text.count_bytes().saturating_add(1)).fold(0, usize::saturating_add),
        pointers.saturating_mul(size_of::<*const c_char>()),
        limits.len().saturating_mul(size_of::<(u32, libc::rlimit)>()),
        size_of::<Way>(),
        // For what has to be aligned.
        64,
    ];
    let mut region = Region::new(needed.into_iter().fold(0, usize::saturating_add)).ok()?;
    let limits: Vec<(u32, libc::rlimit)> = limits
        .iter()
        .map(|limit| (limit.resource.number(), libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard }))
        .collect();
    let directory = match directory {
        Some(text) => region.text(text)?,
        None => ptr::null(),
    };
    let way = Way {
        program: region.text(program)?,
        arguments: region.list(arguments)?,
        environment: region.list(environment)?,
        directory,
        directory_optional: *directory_optional,
        streams: [input.as_raw_fd(), output.as_raw_fd(), error.as_raw_fd()],
        umask: *umask,
        ignore_sigpipe: *ignore_sigpipe,
        limits: region.put(&limits)?,
        limit_count: limits.len(),
        keyring: *keyring,
        report,
    };
    let way = region.put(&[way])?;
    match clone3(&region, way, *cgroup) {
        Ok((pid, pidfd)) => {
            Some(Ok(RawChild { pid, pidfd: Some(pidfd), in_cgroup: cgroup.is_some(), region: Some(region) }))
        }
        // Out of processes or memory: another way would not change that.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) => Some(Err(error)),
        Err(_) => None,
    }
}

impl Region {
    fn new(needed: usize) -> io::Result<Region> {
        let front = STACK.saturating_add(PAGE);
        let length = front.saturating_add(needed).checked_next_multiple_of(PAGE).unwrap_or(usize::MAX);
        // At the end, and as aligned as a stack has to be.
        let begin = length.saturating_sub(needed) & !(STACK_ALIGNMENT.saturating_sub(1));
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which nobody else knows.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let region = Region { base: base.cast(), length, begin, free: begin };
        // SAFETY: the first page of that mapping.
        if unsafe { libc::mprotect(base, PAGE, libc::PROT_NONE) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(region)
    }

    /// Copies `items` into the region; `None` if there is no room.
    fn put<T>(&mut self, items: &[T]) -> Option<*const T> {
        let begin = self.free.checked_next_multiple_of(align_of::<T>())?;
        let end = begin.checked_add(size_of_val(items))?;
        if end > self.length {
            return None;
        }
        self.free = end;
        // SAFETY: `begin` to `end` is within the mapping, whose base is aligned to a page, and nobody uses it yet. What is
        // copied are numbers and pointers, which own nothing.
        unsafe {
            let target = self.base.add(begin).cast::<T>();
            ptr::copy_nonoverlapping(items.as_ptr(), target, items.len());
            Some(target)
        }
    }

    fn text(&mut self, text: &CStr) -> Option<*const c_char> {
        Some(self.put(text.to_bytes_with_nul())?.cast())
    }

    /// A list of texts, with a null pointer at its end.
    fn list(&mut self, texts: &[&CStr]) -> Option<*const *const c_char> {
        let mut pointers = Vec::with_capacity(texts.len().saturating_add(1));
        for text in texts {
            pointers.push(self.text(text)?);
        }
        pointers.push(ptr::null());
        self.put(&pointers)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone: the child that used it has other memory by now, or is gone.
        unsafe { libc::munmap(self.base.cast(), self.length) };
    }
}

/// clone3(2) with our memory and a stack of its own for the child, which walks `way`.
fn clone3(region: &Region, way: *const Way, cgroup: Option<BorrowedFd<'_>>) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all of clone_args are integers, for which zero is a value, and means "none" to clone3.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((libc::CLONE_PIDFD | libc::CLONE_VM).unsigned_abs());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    args.stack = (region.base as u64).saturating_add(PAGE as u64);
    args.stack_size = region.begin.saturating_sub(PAGE) as u64;
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().unsigned_abs());
    }
    let result: i64;
    // SAFETY: `args` lives through the call and has the size that is given. The parent goes on at 2. The child has a
    // stack of its own, aligned as the ABI wants it, on which there is nothing to return to: it calls `walk`, which does not
    // return, with `way`, which lives in its region. It changes no memory but its stack.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw mut args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") way,
            in("r13") walk as extern "C" fn(*const Way) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if result < 0 {
        return Err(io::Error::from_raw_os_error(c_int::try_from(result.unsigned_abs()).unwrap_or(libc::EINVAL)));
    }
    // SAFETY: with CLONE_PIDFD the kernel has put a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((i32::try_from(result).map_err(io::Error::other)?, pidfd))
}

/// The child's whole way; see [`super::child::child`], which does the same for all others.
extern "C" fn walk(way: *const Way) -> ! {
    // SAFETY: its parent keeps the region until this process has other memory or is gone.
    let way = unsafe { &*way };
    let (step, error) = match prepare(way) {
        Ok(()) => {
            // SAFETY: program and both lists are NUL-terminated and lie in the region.
            let result = unsafe { syscall!(Sysno::execve, way.program, way.arguments, way.environment) };
            (ChildStep::Execute, result.err().unwrap_or(Errno::EINVAL))
        }
        Err(failed) => failed,
    };
    let [a, b, c, d] = error.into_raw().to_ne_bytes();
    let message = [step as u8, a, b, c, d, 0, 0];
    // SAFETY: the message is as long as is said.
    let _ = unsafe { syscall!(Sysno::write, way.report, message.as_ptr(), message.len()) };
    exit(NOT_EXECUTED)
}

/// Ends this process, and nothing of its parent's.
fn exit(code: i32) -> ! {
    loop {
        // SAFETY: an integer.
        let _ = unsafe { syscall!(Sysno::exit_group, code) };
    }
}

/// The kernel's own `struct sigaction`, which has no signals in its mask here.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

fn prepare(way: &Way) -> Result<(), (ChildStep, Errno)> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    const KEYCTL_LINK: c_int = 8;
    const SESSION_KEYRING: c_int = -3;
    const USER_KEYRING: c_int = -4;
    let failed = |step: ChildStep| move |error: Errno| (step, error);
    let none = 0_u64;
    let handler = if way.ignore_sigpipe { libc::SIG_IGN } else { libc::SIG_DFL };
    let action = Action { handler, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: integers, and pointers to what lies on this stack or in the region, of the sizes that are given.
    unsafe {
        syscall!(Sysno::setsid).map_err(failed(ChildStep::Session))?;
        let _ = syscall!(Sysno::rt_sigaction, libc::SIGPIPE, &raw const action, 0, size_of_val(&none));
        let _ = syscall!(Sysno::rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0, size_of_val(&none));
        for (target, from) in (0..).zip(way.streams) {
            // The supervisor's own 0 to 2 are open, so that no descriptor of the plan is one of them.
            syscall!(Sysno::dup3, from, target, 0).map_err(failed(ChildStep::Streams))?;
        }
        if way.report > 3 {
            let _ = syscall!(Sysno::close_range, 3, way.report.saturating_sub(1), 0);
        }
        let _ = syscall!(Sysno::close_range, way.report.saturating_add(1), u32::MAX, 0);
        for n in 0..way.limit_count {
            let limit = way.limits.add(n);
            let (resource, value) = ((&raw const (*limit).0).read(), &raw const (*limit).1);
            syscall!(Sysno::prlimit64, 0, resource, value, 0).map_err(failed(ChildStep::Limits))?;
        }
        if way.keyring != KeyringMode::Inherit {
            match syscall!(Sysno::keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) {
                Ok(_) if way.keyring == KeyringMode::Shared => {
                    syscall!(Sysno::keyctl, KEYCTL_LINK, USER_KEYRING, SESSION_KEYRING, 0, 0)
                        .map_err(failed(ChildStep::Keyring))?;
                }
                // A kernel without keys, or a container that may not have any.
                Ok(_) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES | Errno::EDQUOT) => {}
                Err(error) => return Err((ChildStep::Keyring, error)),
            }
        }
        let _ = syscall!(Sysno::umask, way.umask);
        if !way.directory.is_null()
            && let Err(error) = syscall!(Sysno::chdir, way.directory)
            && !way.directory_optional
        {
            return Err((ChildStep::Directory, error));
        }
    }
    // To be released: one byte. The other end closed means that the supervisor died before it wrote us down.
    let mut go = 0_u8;
    loop {
        // SAFETY: one byte of this stack.
        match unsafe { syscall!(Sysno::read, way.report, &raw mut go, 1) } {
            Ok(1) => return Ok(()),
            Err(Errno::EINTR) => {}
            _ => exit(NEVER_RAN),
        }
    }
}
