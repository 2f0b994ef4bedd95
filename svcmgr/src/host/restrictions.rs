//! What a sandbox means for capabilities and for system calls: systemd.exec(5) says for each setting which of them it
//! takes away.

use super::seccomp::{Filter, Test};
use crate::unit::capability::Capabilities;
use crate::unit::sandbox::{AddressFamilies, CallFilter, Sandbox, Verdict};
use crate::unit::syscalls;

const EPERM: Verdict = Verdict::Error(1);
const ENOSYS: Verdict = Verdict::Error(38);
const EAFNOSUPPORT: Verdict = Verdict::Error(97);

/// The capabilities that may be had at all.
pub fn bounding(sandbox: &Sandbox) -> Capabilities {
    let taken = [
        (sandbox.private_devices, &["CAP_MKNOD", "CAP_SYS_RAWIO"] as &[&str]),
        (sandbox.protect_kernel_modules, &["CAP_SYS_MODULE"]),
        (sandbox.protect_kernel_logs, &["CAP_SYSLOG"]),
        (sandbox.protect_clock, &["CAP_SYS_TIME", "CAP_WAKE_ALARM"]),
    ];
    let names = taken.into_iter().filter(|(on, _)| *on).flat_map(|(_, names)| names.iter());
    names.filter_map(|name| Capabilities::named(name)).fold(sandbox.bounding, Capabilities::without)
}

/// The filters, in the order in which they are to be set: the last may forbid setting further ones.
pub fn filters(sandbox: &Sandbox) -> Vec<Filter> {
    let foreign = if sandbox.native_only { Verdict::Kill } else { ENOSYS };
    let mut filter = Filter::open(foreign);
    let mut forbid = |name: &str, tests: Vec<Test>, verdict: Verdict| {
        for number in syscalls::resolve(name).unwrap_or_default() {
            filter.add(number, tests.clone(), verdict);
        }
    };
    for (on, names) in [
        (sandbox.private_devices, &["@raw-io"] as &[&str]),
        (sandbox.protect_kernel_modules, &["@module"]),
        (sandbox.protect_kernel_logs, &["syslog"]),
        (sandbox.protect_clock, &["@clock"]),
        (sandbox.protect_hostname, &["sethostname", "setdomainname"]),
    ] {
        for name in names.iter().filter(|_| on) {
            forbid(name, Vec::new(), EPERM);
        }
    }
    if sandbox.lock_personality {
        // 0 is what it has, all bits set asks which it has: personality(2).
        forbid("personality", vec![Test::is_not(0, u32::MAX, 0), Test::is_not(0, u32::MAX, u32::MAX)], EPERM);
    }
    if sandbox.memory_deny_write_execute {
        let execute = libc::PROT_EXEC.unsigned_abs();
        forbid("mmap", vec![Test::has(2, execute | libc::PROT_WRITE.unsigned_abs())], EPERM);
        forbid("mprotect", vec![Test::has(2, execute)], EPERM);
        forbid("pkey_mprotect", vec![Test::has(2, execute)], EPERM);
        forbid("shmat", vec![Test::has(2, libc::SHM_EXEC.unsigned_abs())], EPERM);
    }
    if sandbox.restrict_realtime {
        // But for SCHED_RESET_ON_FORK, which goes with any policy: sched(7).
        let policy = !0x4000_0000_u32;
        let harmless = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE];
        let tests = harmless.map(|kind| Test::is_not(1, policy, kind.unsigned_abs())).to_vec();
        forbid("sched_setscheduler", tests, EPERM);
        // What it asks for is in memory, where no filter can look.
        forbid("sched_setattr", Vec::new(), EPERM);
    }
    if sandbox.restrict_suid_sgid {
        suid_sgid(&mut forbid);
    }
    namespaces(sandbox.restrict_namespaces, &mut forbid);
    if let Some(families) = &sandbox.restrict_address_families {
        address_families(families, &mut forbid);
    }
    let mut filters = Vec::new();
    if !filter.calls.is_empty() || sandbox.native_only {
        filters.push(filter);
    }
    filters.extend(sandbox.calls.as_ref().map(|calls| listed(calls, sandbox.call_error, foreign)));
    filters
}

type Forbid<'a> = &'a mut dyn FnMut(&str, Vec<Test>, Verdict);

/// No file may get a set-user-ID or set-group-ID bit.
fn suid_sgid(forbid: Forbid<'_>) {
    for bit in [libc::S_ISUID, libc::S_ISGID] {
        for (name, mode) in [
            ("chmod", 1),
            ("fchmod", 1),
            ("fchmodat", 2),
            ("fchmodat2", 2),
            ("mkdir", 1),
            ("mkdirat", 2),
            ("mknod", 1),
            ("mknodat", 2),
            ("creat", 1),
        ] {
            forbid(name, vec![Test::has(mode, bit)], EPERM);
        }
        for made in [libc::O_CREAT.unsigned_abs(), libc::O_TMPFILE.unsigned_abs()] {
            forbid("open", vec![Test::has(1, made), Test::has(2, bit)], EPERM);
            forbid("openat", vec![Test::has(2, made), Test::has(3, bit)], EPERM);
        }
    }
    // What it asks for is in memory, where no filter can look; programs fall back to openat.
    forbid("openat2", Vec::new(), ENOSYS);
}

fn namespaces(restricted: u32, forbid: Forbid<'_>) {
    if restricted == 0 {
        return;
    }
    for bit in (0..u32::BITS).filter_map(|n| 1_u32.checked_shl(n)).filter(|bit| restricted & bit != 0) {
        forbid("unshare", vec![Test::has(0, bit)], EPERM);
        forbid("clone", vec![Test::has(0, bit)], EPERM);
        forbid("setns", vec![Test::has(1, bit)], EPERM);
    }
    // Any kind, whatever the descriptor is.
    forbid("setns", vec![Test { argument: 1, mask: u32::MAX, value: 0, equal: true }], EPERM);
    // Its flags are in memory; the C library falls back to clone.
    forbid("clone3", Vec::new(), ENOSYS);
}

fn address_families(families: &AddressFamilies, forbid: Forbid<'_>) {
    if families.is_allow_list {
        let tests = families.families.iter().map(|family| Test::is_not(0, u32::MAX, *family)).collect();
        forbid("socket", tests, EAFNOSUPPORT);
    } else {
        for family in &families.families {
            let test = Test { argument: 0, mask: u32::MAX, value: *family, equal: true };
            forbid("socket", vec![test], EAFNOSUPPORT);
        }
    }
}

/// `SystemCallFilter=`.
fn listed(calls: &CallFilter, error: Option<u16>, foreign: Verdict) -> Filter {
    let refused = error.map_or(Verdict::Kill, Verdict::Error);
    let default = if calls.is_allow_list { refused } else { Verdict::Allow };
    let mut filter = Filter { default, ..Filter::open(foreign) };
    for (number, own) in &calls.calls {
        let verdict = match (own, calls.is_allow_list) {
            (Some(number), _) => Verdict::Error(*number),
            (None, true) => Verdict::Allow,
            (None, false) => refused,
        };
        filter.add(*number, Vec::new(), verdict);
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::parse::parse;
    use crate::unit::specifier::Machine;
    use std::path::Path;

    fn sandbox(lines: &str) -> Sandbox {
        let text = format!("[Service]\nExecStart=/x\n{lines}\n");
        let unit = parse("x.service", Path::new("/x.service"), &text, &Machine::default());
        assert!(unit.notes.is_empty() && unit.refused.is_none(), "{:?} {:?}", unit.notes, unit.refused);
        *unit.service.sandbox.unwrap()
    }

    fn number(name: &str) -> u32 {
        syscalls::number(name).unwrap()
    }

    #[test]
    fn protections_take_their_capabilities_away() {
        let set = bounding(&sandbox("PrivateDevices=yes\nProtectClock=yes"));
        let named = |name| Capabilities::named(name).unwrap();
        assert!(!set.holds(named("CAP_MKNOD")) && !set.holds(named("CAP_SYS_TIME")));
        assert!(set.holds(named("CAP_SYS_ADMIN")));
        let set = bounding(&sandbox("CapabilityBoundingSet=CAP_CHOWN CAP_KILL\nCapabilityBoundingSet=~CAP_KILL"));
        assert_eq!(set, named("CAP_CHOWN"));
    }

    #[test]
    fn a_list_of_calls_is_merged_over_its_lines() {
        let calls =
            sandbox("SystemCallFilter=@basic-io @mount\nSystemCallFilter=~@mount\nSystemCallFilter=chmod:EACCES");
        let filter = listed(calls.calls.as_ref().unwrap(), None, ENOSYS);
        assert_eq!(filter.default, Verdict::Kill);
        let verdict = |name| filter.calls.get(&number(name)).map(|rules| rules[0].verdict);
        assert_eq!(verdict("read"), Some(Verdict::Allow));
        // Always needed, so always there.
        assert_eq!(verdict("execve"), Some(Verdict::Allow));
        assert_eq!(verdict("mount"), None);
        assert_eq!(verdict("fchmod"), None);
        assert_eq!(verdict("chmod"), Some(Verdict::Error(13)));
        let calls = sandbox("SystemCallFilter=~@privileged\nSystemCallErrorNumber=EPERM");
        let filter = listed(calls.calls.as_ref().unwrap(), calls.call_error, ENOSYS);
        assert_eq!(filter.default, Verdict::Allow);
        assert_eq!(filter.calls[&number("reboot")][0].verdict, EPERM);
    }

    #[test]
    fn what_restricts_nothing_makes_no_filter() {
        assert!(filters(&Sandbox::default()).is_empty());
        assert_eq!(filters(&sandbox("RestrictNamespaces=no\nProtectHostname=no")).len(), 0);
        assert_eq!(filters(&sandbox("SystemCallArchitectures=native")).len(), 1);
        assert_eq!(filters(&sandbox("RestrictNamespaces=yes\nSystemCallFilter=@system-service")).len(), 2);
    }

    #[test]
    fn namespaces_are_restricted_to_those_that_are_listed() {
        assert_eq!(sandbox("RestrictNamespaces=~user").restrict_namespaces, libc::CLONE_NEWUSER.unsigned_abs());
        let others = sandbox("RestrictNamespaces=user pid\nRestrictNamespaces=net").restrict_namespaces;
        assert_eq!(others & libc::CLONE_NEWUSER.unsigned_abs(), 0);
        assert_eq!(others & libc::CLONE_NEWNET.unsigned_abs(), 0);
        assert_ne!(others & libc::CLONE_NEWUTS.unsigned_abs(), 0);
    }

    #[test]
    fn every_filter_is_one_that_the_kernel_takes() {
        for lines in [
            "RestrictNamespaces=yes\nRestrictSUIDSGID=yes\nRestrictRealtime=yes\nMemoryDenyWriteExecute=yes\nLockPersonality=yes\nProtectClock=yes",
            "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources",
            "SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        ] {
            for filter in filters(&sandbox(lines)) {
                let length = filter.program().unwrap().len();
                assert!(length < 400, "{length} instructions for {lines}");
            }
        }
    }
}
