//! Capabilities by name, and sets of them as `CapabilityBoundingSet=` writes them: systemd.exec(5), capabilities(7).

/// Names by number, from 0: `include/uapi/linux/capability.h`.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// None of them.
    pub const NONE: Capabilities = Capabilities(0);
    /// All, also those that a later kernel adds.
    pub const ALL: Capabilities = Capabilities(u64::MAX);

    /// The set of one, by its name in any case; `None` if there is no such capability.
    pub fn named(name: &str) -> Option<Capabilities> {
        let at = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        Some(Capabilities(1_u64.checked_shl(u32::try_from(at).ok()?)?))
    }

    /// All names, to look for the one that was meant.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }

    /// Those of both.
    pub fn union(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// Those that `other` has not.
    pub fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Whether all of `other` are in it.
    pub fn holds(self, other: Capabilities) -> bool {
        other.without(self).0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_name() {
        assert_eq!(Capabilities::named("CAP_CHOWN"), Some(Capabilities(1)));
        assert_eq!(Capabilities::named("cap_sys_admin"), Some(Capabilities(1 << 21)));
        assert_eq!(Capabilities::named("CAP_CHECKPOINT_RESTORE"), Some(Capabilities(1 << 40)));
        assert_eq!(Capabilities::named("CAP_SYS_ADMIM"), None);
    }

    #[test]
    fn sets_are_joined_and_parted() {
        let (a, b) = (Capabilities(0b011), Capabilities(0b110));
        assert_eq!((a.union(b), a.without(b)), (Capabilities(0b111), Capabilities(0b001)));
        assert!(Capabilities::ALL.holds(a) && !a.holds(b));
    }
}
