//! Step 6: does the root fit into the memory that is there? Known before its first byte is unpacked, so that a device
//! with too little RAM says so, instead of dying of it halfway.

use std::path::Path;

/// What a root takes in memory, and while it is put there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of tmpfs.
    pub bytes: u64,
    /// Inodes of tmpfs.
    pub inodes: u64,
    /// Bytes beside it, while unpacking; of a root that is mounted, for as long as it is.
    pub working: u64,
    /// Bytes of the image, not counted as available, that are freed by the time when most is needed.
    pub freed: u64,
}

/// How large the tmpfs may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Why it does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs {needed} MiB of RAM ({root} MiB {}, {beside} MiB beside it {} and for the services{}), and {available} MiB \
     are available", kind.words().0, kind.words().1, less(*freed)
)]
pub struct TooLarge {
    kind: Kind,
    needed: u64,
    root: u64,
    beside: u64,
    freed: u64,
    available: u64,
}

fn less(freed: u64) -> String {
    if freed == 0 { String::new() } else { format!(", less {freed} MiB of the image that are freed meanwhile") }
}

/// How a root comes to lie in RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its files are unpacked into a tmpfs.
    Unpacked,
    /// The image itself is in RAM, and is mounted; [`Need::bytes`] is what has to be copied of it.
    Mounted,
}

impl Kind {
    /// What the root takes, and what is beside it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Kind::Unpacked => ("unpacked", "while unpacking"),
            Kind::Mounted => ("for a copy of the image", "for the driver that reads it"),
        }
    }
}

impl TooLarge {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        let missing = self.needed.saturating_sub(self.available).max(1);
        format!("Give the device at least {missing} MiB more RAM, or build a smaller image")
    }
}

/// What an inode of a tmpfs takes beside its pages: `shmem_inode_cache` and `dentry` slabs, with their rounding.
const INODE: u64 = 1024;
/// What must be left for the supervisor and the services to start in; a service that needs more has to be counted by
/// the maker of the image, and nothing here can know it.
const SERVICES: u64 = 16 << 20;
/// Where the amount of free memory is not known, the check cannot be made; the limit of the tmpfs still holds.
const UNKNOWN: u64 = u64::MAX;

/// Bytes of `MemAvailable` in `/proc/meminfo`. What the initramfs holds is not in it: of an image that lies there,
/// [`Need::freed`] says how much of it makes room for itself.
pub fn available(meminfo: &Path) -> u64 {
    std::fs::read_to_string(meminfo).ok().and_then(|text| parse(&text)).unwrap_or(UNKNOWN)
}

fn parse(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Whether `need` fits into `available` bytes, and the limits of the tmpfs: the root, and half of what is then left
/// for what services write; a runaway log shall not take the memory of everything else. Of a root that is mounted, the
/// tmpfs holds only what is written.
pub fn check(kind: Kind, need: Need, available: u64) -> Result<Limits, TooLarge> {
    let root = need.bytes.saturating_add(need.inodes.saturating_mul(INODE));
    let beside = need.working.saturating_add(SERVICES);
    let needed = root.saturating_add(beside).saturating_sub(need.freed);
    if needed > available {
        return Err(TooLarge {
            kind,
            needed: mib_up(needed),
            root: mib_near(root),
            beside: mib_near(beside),
            freed: mib_near(need.freed),
            available: available >> 20,
        });
    }
    let left = if available == UNKNOWN { 0 } else { available.saturating_add(need.freed).saturating_sub(root) };
    let (bytes, inodes) = match kind {
        Kind::Unpacked => (need.bytes, need.inodes),
        Kind::Mounted => (0, 0),
    };
    Ok(Limits {
        bytes: bytes.saturating_add((left >> 1).max(SERVICES)),
        inodes: inodes.saturating_add((left >> 1).max(SERVICES) >> 12),
    })
}

fn mib_up(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn mib_near(bytes: u64) -> u64 {
    bytes.saturating_add(1 << 19) >> 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:        1000 kB\nMemFree:  1 kB\nMemAvailable:     400000 kB\nBuffers: 0 kB\n";
        assert_eq!(parse(text), Some(400_000 * 1024));
        for text in ["", "MemAvailable: many kB", "MemAvailable: 99999999999999999999 kB", "MemAvailable: 5"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(available(Path::new("/nonexistent")), UNKNOWN);
    }

    #[test]
    fn a_root_that_does_not_fit_is_refused_with_both_numbers() {
        let need = Need { bytes: 300 * MIB, inodes: 1024, working: 24 * MIB, freed: 0 };
        let error = check(Kind::Unpacked, need, 200 * MIB).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("needs 341 MiB of RAM (301 MiB unpacked, 40 MiB beside"), "{text}");
        assert!(text.contains("and 200 MiB are available"), "{text}");
        assert!(error.remedy().contains("141 MiB more RAM"), "{}", error.remedy());
    }

    #[test]
    fn what_is_freed_in_time_makes_room_and_is_named_where_that_is_not_enough() {
        let need = Need { bytes: 100 * MIB, inodes: 1024, working: 4 * MIB, freed: 30 * MIB };
        assert!(check(Kind::Unpacked, Need { freed: 0, ..need }, 100 * MIB).is_err());
        assert!(check(Kind::Unpacked, need, 100 * MIB).is_ok());
        let text = check(Kind::Unpacked, need, 80 * MIB).unwrap_err().to_string();
        assert!(text.contains("needs 91 MiB of RAM (101 MiB unpacked, 20 MiB beside"), "{text}");
        assert!(text.contains("less 30 MiB of the image that are freed meanwhile), and 80 MiB"), "{text}");
    }

    #[test]
    fn services_get_room_to_write_and_not_all_of_the_memory() {
        let need = Need { bytes: 100 * MIB, inodes: 1000, working: MIB, freed: 0 };
        let limits = check(Kind::Unpacked, need, 1001 * MIB).unwrap();
        assert!(limits.bytes > 500 * MIB && limits.bytes < 560 * MIB, "{limits:?}");
        assert!(limits.inodes > 100_000);
    }

    #[test]
    fn an_image_that_is_mounted_takes_its_copy_and_leaves_the_rest_to_what_is_written() {
        let need = Need { bytes: 100 * MIB, inodes: 0, working: 4 * MIB, freed: 0 };
        let limits = check(Kind::Mounted, need, 300 * MIB).unwrap();
        assert_eq!(limits.bytes, 100 * MIB);
        let text = check(Kind::Mounted, need, 110 * MIB).unwrap_err().to_string();
        assert!(text.contains("needs 120 MiB of RAM (100 MiB for a copy of the image, 20 MiB beside it"), "{text}");
        assert!(text.contains("and 110 MiB are available"), "{text}");
    }

    #[test]
    fn unknown_memory_does_not_stop_the_boot() {
        assert!(check(Kind::Unpacked, Need { bytes: 300 * MIB, inodes: 1, working: 1, freed: 0 }, UNKNOWN).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_fits_and_what_fits_is_within_the_limits(
            bytes in any::<u64>(), inodes in any::<u64>(), working in any::<u64>(), freed in any::<u64>(),
            available in any::<u64>(),
        ) {
            // No more is freed than was written meanwhile.
            let freed = freed.min(bytes);
            if let Ok(limits) = check(Kind::Unpacked, Need { bytes, inodes, working, freed }, available) {
                prop_assert!(bytes < available.saturating_add(freed));
                prop_assert!(bytes <= limits.bytes && inodes <= limits.inodes);
            }
        }
    }
}
