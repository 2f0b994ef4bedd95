//! What memory a device has, and what of it the kernel may use for itself.

use std::path::Path;

/// What a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// Bytes in all.
    pub all: u64,
    /// Bytes of these that the kernel may use for what it cannot move, as inodes are.
    pub kernel: u64,
}

/// Where the amount of free memory is not known, the check cannot be made; the limit of the tmpfs still holds.
pub const UNKNOWN: u64 = u64::MAX;

impl Available {
    /// What `/proc`, or another folder with its files, says: `MemAvailable` of `meminfo`. What the initramfs holds is not
    /// in it: of an image that lies there, [`crate::memory::Need::freed`] says how much of it makes room for itself.
    ///
    /// What is free in zones for pages that can be moved (`movablecore=`, memory that can be unplugged) and what is free
    /// of CMA is in it, too, and nothing that the kernel keeps for itself can lie there.
    pub fn read(proc: &Path) -> Available {
        let text = |name| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        Available::parse(&text("meminfo"), &text("zoneinfo"))
    }

    fn parse(meminfo: &str, zoneinfo: &str) -> Available {
        let all = kib(meminfo, "MemAvailable:").unwrap_or(UNKNOWN);
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
        let movable = free_pages(zoneinfo, "Movable").saturating_mul(page);
        let aside = movable.saturating_add(kib(meminfo, "CmaFree:").unwrap_or(0));
        Available { all, kernel: if all == UNKNOWN { UNKNOWN } else { all.saturating_sub(aside) } }
    }
}

/// Bytes that a line of `/proc/meminfo` tells in KiB.
fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Free pages of all zones that are called `name`, of `/proc/zoneinfo`: `Node 0, zone  Movable`, and then, with others,
/// `  pages free     57668`.
fn free_pages(zoneinfo: &str, name: &str) -> u64 {
    let mut is_wanted = false;
    let mut sum: u64 = 0;
    for line in zoneinfo.lines() {
        if let Some((_, zone)) = line.split_once(", zone") {
            is_wanted = zone.trim() == name;
        } else if is_wanted && let Some(free) = line.trim().strip_prefix("pages free") {
            sum = sum.saturating_add(free.trim().parse().unwrap_or(0));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Nothing of it is set aside.
    fn of(bytes: u64) -> Available {
        Available { all: bytes, kernel: bytes }
    }

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:        1000 kB\nMemFree:  1 kB\nMemAvailable:     400000 kB\nBuffers: 0 kB\n";
        assert_eq!(Available::parse(text, ""), of(400_000 * 1024));
        for text in ["", "MemAvailable: many kB", "MemAvailable: 99999999999999999999 kB", "MemAvailable: 5"] {
            assert_eq!(Available::parse(text, ""), of(UNKNOWN), "{text}");
        }
        assert_eq!(Available::read(Path::new("/nonexistent")), of(UNKNOWN));
    }

    #[test]
    fn what_is_set_aside_for_what_can_be_moved_is_nothing_for_the_kernel() {
        let zoneinfo = "Node 0, zone    DMA32\n  per-node stats\n      nr_inactive_anon 3\n  pages free     30000\n\
                        \x20       min      8\nNode 0, zone  Movable\n  pages free     25600\n        boost    0\n\
                        Node 1, zone  Movable\n  pages free     25600\nNode 1, zone   Device\n  pages free     7\n";
        let meminfo = "MemAvailable:     409600 kB\nCmaTotal:  65536 kB\nCmaFree:   51200 kB\n";
        let page = rustix::param::page_size() as u64;
        let kernel = (400 - 50) * MIB - 2 * 25600 * page;
        assert_eq!(Available::parse(meminfo, zoneinfo), Available { all: 400 * MIB, kernel });
        assert_eq!(Available::parse("MemAvailable: 8 kB\nCmaFree: 9 kB\n", ""), Available { all: 8192, kernel: 0 });
    }
}
