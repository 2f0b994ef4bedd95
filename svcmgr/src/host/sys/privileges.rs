//! Between fork and exec: who a child is and what it may do. First its groups, while it may choose them; then a user
//! namespace, capabilities and its user; at the very end, filters of system calls, which may forbid all of that.

use libc::{c_int, c_long, c_ulong};

use super::child::{ChildPlan, ChildStep, Failed, SandboxPlan, check};
use super::errno;
use crate::unit::capability::Capabilities;

/// The kernel knows no more: `CAP_LAST_CAP` is below it for as long as capabilities are 64 bits.
const CAPABILITIES: u32 = 64;
/// `_LINUX_CAPABILITY_VERSION_3`: capset(2).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Becomes the user of the plan, with the capabilities of the plan.
pub(super) fn take(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    // Raw calls for the identity, since the C library's would look for other threads.
    if let Some((_, gid, groups)) = plan.user {
        // SAFETY: integers, and a pointer to as many groups as are said.
        unsafe {
            check(ChildStep::Groups, libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
            check(ChildStep::Groups, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        }
    }
    let (uid, gid) = plan.user.map_or((0, 0), |(uid, gid, _)| (uid, gid));
    if let Some(sandbox) = &plan.sandbox {
        if sandbox.private_users {
            user_namespace(uid, gid)?;
        }
        bound(sandbox.bounding)?;
        // While it may still set them.
        if sandbox.secure_bits != 0 {
            let bits = c_ulong::from(sandbox.secure_bits);
            // SAFETY: integers.
            check(ChildStep::Capabilities, unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) }.into())?;
        }
        if sandbox.ambient != Capabilities::NONE {
            // SAFETY: integers.
            check(ChildStep::Ambient, unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())?;
        }
    }
    if plan.user.is_some() {
        // SAFETY: integers.
        check(ChildStep::User, unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    }
    match &plan.sandbox {
        Some(sandbox) => keep(sandbox, plan.user.is_some() && uid != 0),
        None => Ok(()),
    }
}

/// Forbids what the plan forbids, right before the program is executed.
pub(super) fn forbid(plan: &ChildPlan<'_>) -> Result<(), Failed> {
    let Some(sandbox) = &plan.sandbox else { return Ok(()) };
    // SAFETY: integers, and pointers to NUL-terminated strings and to programs of the length that is given.
    unsafe {
        if sandbox.no_new_privileges {
            check(ChildStep::NoNewPrivileges, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        }
        // Under a filter nobody could be told that there is no such program.
        if !sandbox.filters.is_empty() {
            check(ChildStep::Execute, libc::access(plan.program.as_ptr(), libc::X_OK).into())?;
        }
        for (number, filter) in (0_u16..).zip(sandbox.filters) {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
                filter: filter.as_ptr().cast_mut(),
            };
            let mode = c_ulong::from(libc::SECCOMP_MODE_FILTER);
            if libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) < 0 {
                return Err((ChildStep::Filter, errno(), number));
            }
        }
    }
    Ok(())
}

/// Gives up for good what is not in the set, for itself and for all that it executes.
fn bound(set: Capabilities) -> Result<(), Failed> {
    for number in (0..CAPABILITIES).filter(|number| !has(set, *number)) {
        // SAFETY: integers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(number), 0, 0, 0) };
        // The kernel has no more.
        if result < 0 && errno() == libc::EINVAL {
            break;
        }
        check(ChildStep::Capabilities, result.into())?;
    }
    Ok(())
}

/// What stays of the capabilities: as an ordinary user the ambient ones alone, as root those of the bounding set.
fn keep(sandbox: &SandboxPlan<'_>, is_ordinary: bool) -> Result<(), Failed> {
    let is_bound = sandbox.bounding != Capabilities::ALL;
    if sandbox.ambient == Capabilities::NONE && !is_bound {
        return Ok(());
    }
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut data = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: capget(2) and capset(2): a header, and data for 64 capabilities, all on this stack.
    unsafe {
        check(ChildStep::Capabilities, libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()))?;
        let ambient = halves(sandbox.ambient);
        let mut bounding = halves(sandbox.bounding);
        if is_ordinary {
            // Without ambient ones the kernel took all when the user changed.
            bounding = ambient;
        }
        for ((one, ambient), bounding) in data.iter_mut().zip(ambient).zip(bounding) {
            one.inheritable = ambient;
            one.permitted &= bounding | ambient;
            one.effective = one.permitted;
        }
        check(ChildStep::Capabilities, libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()))?;
        for number in (0..CAPABILITIES).filter(|number| has(sandbox.ambient, *number)) {
            let raised = libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, c_ulong::from(number), 0, 0);
            check(ChildStep::Ambient, raised.into())?;
        }
    }
    Ok(())
}

fn has(set: Capabilities, number: u32) -> bool {
    1_u64.checked_shl(number).is_some_and(|bit| set.0 & bit != 0)
}

fn halves(set: Capabilities) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = set.0.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// user_namespaces(7): a namespace in which root and the service's own user are themselves, and all others nobody. Only
/// a process outside may write such a map, so that one is made for it.
fn user_namespace(uid: u32, gid: u32) -> Result<(), Failed> {
    let step = ChildStep::UserNamespace;
    let mut pipe = [-1; 2];
    // SAFETY: system calls with integers, and with pointers to this stack. The second process is a copy of this one,
    // which has one thread, and does nothing but write two files.
    unsafe {
        let parent = libc::getpid();
        check(step, libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC).into())?;
        let [reader, writer] = pipe;
        let helper = libc::syscall(libc::SYS_clone, c_long::from(libc::SIGCHLD), 0, 0, 0, 0);
        check(step, helper)?;
        if helper == 0 {
            libc::close(writer);
            let mut go = 0_u8;
            let told = libc::read(reader, (&raw mut go).cast(), 1) == 1;
            let done = told && write_map(parent, b"uid_map", uid) && write_map(parent, b"gid_map", gid);
            libc::_exit(c_int::from(!done));
        }
        libc::close(reader);
        let unshared = check(step, libc::unshare(libc::CLONE_NEWUSER).into());
        if unshared.is_ok() {
            libc::write(writer, b"g".as_ptr().cast(), 1);
        }
        libc::close(writer);
        let mut status = 0;
        let helper = c_int::try_from(helper).unwrap_or(-1);
        while libc::waitpid(helper, &raw mut status, 0) < 0 && errno() == libc::EINTR {}
        unshared?;
        if status != 0 { Err((step, libc::EPERM, 1)) } else { Ok(()) }
    }
}

/// Writes `0 0 1` and, for another than root, `ID ID 1` to a map of the process.
fn write_map(pid: c_int, name: &[u8], id: u32) -> bool {
    let mut path = Text::default();
    path.push(b"/proc/");
    path.number(pid.unsigned_abs());
    path.push(b"/");
    path.push(name);
    path.push(b"\0");
    let mut map = Text::default();
    map.push(b"0 0 1\n");
    if id != 0 {
        map.number(id);
        map.push(b" ");
        map.number(id);
        map.push(b" 1\n");
    }
    // SAFETY: the path ends in NUL, and the text is as long as is said.
    unsafe {
        let file = libc::open(path.bytes.as_ptr().cast(), libc::O_WRONLY | libc::O_CLOEXEC);
        let length = isize::try_from(map.length).unwrap_or(-1);
        file >= 0 && libc::write(file, map.bytes.as_ptr().cast(), map.length) == length
    }
}

/// A short text on the stack.
struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; 64], length: 0 }
    }
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // One byte is left, so that it always ends.
            if let Some(slot) = self.bytes.get_mut(self.length).filter(|_| self.length < 63) {
                *slot = *byte;
                self.length = self.length.saturating_add(1);
            }
        }
    }

    fn number(&mut self, number: u32) {
        let mut divisor: u32 = 1_000_000_000;
        let mut begun = false;
        while divisor > 0 {
            let digit = number.checked_div(divisor).unwrap_or(0) % 10;
            begun |= digit != 0 || divisor == 1;
            if begun {
                self.push(&[b'0'.saturating_add(u8::try_from(digit).unwrap_or(0))]);
            }
            divisor /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_a_heap() {
        for number in [0, 7, 10, 4242, u32::MAX] {
            let mut text = Text::default();
            text.number(number);
            assert_eq!(text.bytes[..text.length], *number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_set_is_told_by_halves() {
        assert_eq!(halves(Capabilities(1 | 1 << 33)), [1, 2]);
        assert!(has(Capabilities(1 << 33), 33) && !has(Capabilities(1 << 33), 32));
        assert!(!has(Capabilities::ALL, 64));
    }
}
