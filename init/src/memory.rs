//! Step 6: does the root fit into the memory that is there? Known before its first byte is unpacked, so that a device
//! with too little RAM says so, instead of dying of it halfway.
//!
//! ```text
//!   while unpacking:  the tree + the workers   less what of the image is freed by the worst moment
//!   from then on:     the tree + the services  less the initramfs, which is freed by the switch
//! ```
//! No service runs before the last worker has ended, so the larger of the two is what it needs, and not their sum.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use rustix::fs::StatVfs;

use crate::available::{Available, UNKNOWN};
use crate::switch;

/// What a root takes in memory, and while it is put there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of tmpfs.
    pub bytes: u64,
    /// Inodes of tmpfs.
    pub inodes: u64,
    /// Bytes of the kernel's for extended attributes, which tmpfs takes off its room for inodes.
    pub xattrs: u64,
    /// Bytes beside it, while unpacking; of a root that is mounted, for as long as it is.
    pub working: u64,
    /// Bytes of the image, not counted as available, that are freed by the time when unpacking needs most.
    pub freed: u64,
    /// Bytes, not counted as available, that are freed between unpacking and the first service.
    pub given_back: u64,
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
pub enum TooLarge {
    /// There is too little memory.
    #[error("it needs {most}, and {} MiB are available", available >> 20)]
    Memory {
        /// Where most is needed.
        most: Moment,
        /// Bytes.
        available: u64,
    },
    /// There is enough, of the wrong kind.
    #[error(
        "it needs {} MiB for what the kernel keeps of its {inodes} files, and {} MiB are available outside of what is \
         set aside for pages that can be moved (CMA, movablecore=)",
        mib_up(*needed), available >> 20
    )]
    Kernel {
        /// Bytes.
        needed: u64,
        /// For so many inodes.
        inodes: u64,
        /// Bytes, with what is freed of the image.
        available: u64,
    },
}

impl TooLarge {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            TooLarge::Memory { most, available } => {
                let missing = mib_up(most.bytes()).saturating_sub(available >> 20).max(1);
                format!("Give the device at least {missing} MiB more RAM, or build a smaller image")
            }
            TooLarge::Kernel { needed, available, .. } => {
                let missing = mib_up(*needed).saturating_sub(available >> 20).max(1);
                format!("Set at least {missing} MiB less aside (cma=, movablecore=), or build an image of fewer files")
            }
        }
    }

    /// Whether fewer workers would need less.
    fn has_workers(&self) -> bool {
        matches!(self, TooLarge::Memory { most, .. } if most.has_workers)
    }
}

/// How a root comes to lie in RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its files are unpacked into a tmpfs.
    Unpacked,
    /// The image itself is in RAM, and is mounted; [`Need::bytes`] is what has to be copied of it.
    Mounted,
}

/// What is in memory at a time when that may be most: bytes, and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    when: &'static str,
    /// Whether fewer workers would need less.
    has_workers: bool,
    root: (u64, &'static str),
    beside: (u64, &'static str),
    freed: (u64, &'static str),
}

impl Moment {
    /// What it adds up to.
    fn bytes(&self) -> u64 {
        self.root.0.saturating_add(self.beside.0).saturating_sub(self.freed.0)
    }

    /// The one at which a root needs more.
    fn of(kind: Kind, need: Need) -> Moment {
        let root = root(need);
        match kind {
            Kind::Unpacked => {
                let unpacking = Moment {
                    when: "while it is unpacked",
                    has_workers: true,
                    root: (root, "unpacked"),
                    beside: (need.working, "for the workers"),
                    freed: (need.freed, "of the image that are freed meanwhile"),
                };
                let running = Moment {
                    when: "to run",
                    has_workers: false,
                    root: (root, "unpacked"),
                    beside: (SERVICES, "for the services"),
                    freed: (need.given_back, "of the initramfs that are freed before"),
                };
                if running.bytes() > unpacking.bytes() { running } else { unpacking }
            }
            Kind::Mounted => Moment {
                when: "to run",
                has_workers: false,
                root: (root, "for a copy of the image"),
                beside: (need.working.saturating_add(SERVICES), "for the driver that reads it and for the services"),
                freed: (0, ""),
            },
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moment { when, root, beside, freed, .. } = self;
        write!(f, "{} MiB of RAM {when} ({} MiB {}, ", mib_up(self.bytes()), mib_near(root.0), root.1)?;
        write!(f, "{} MiB {}", mib_near(beside.0), beside.1)?;
        if freed.0 > 0 {
            write!(f, ", less {} MiB {}", mib_near(freed.0), freed.1)?;
        }
        f.write_str(")")
    }
}

/// What an inode of a tmpfs takes beside its pages, in slabs: `shmem_inode_cache`, 760 bytes; `dentry`, 192; one
/// `radix_tree_node`, 584, that finds the pages of a file of more than one; with the rounding of each slab (Linux 6.12).
const INODE: u64 = 1700;
/// Of `nr_inodes` tmpfs takes one for so many bytes of extended attributes (`BOGO_INODE_SIZE`, `mm/shmem.c`).
const INODE_OF_LIMIT: u64 = 1024;
/// So many bytes of a larger file need one node more.
const BYTES_OF_A_NODE: u64 = 64 << 12;
/// What that takes.
const NODE: u64 = 600;
/// What must be left for the supervisor and the services to start in; a service that needs more has to be counted by
/// the maker of the image, and nothing here can know it.
const SERVICES: u64 = 16 << 20;

/// What the kernel keeps of the tree beside its pages.
fn kernels(need: Need) -> u64 {
    let nodes = (need.bytes / BYTES_OF_A_NODE).saturating_mul(NODE);
    need.inodes.saturating_mul(INODE).saturating_add(nodes).saturating_add(need.xattrs)
}

/// What the tree takes, with that.
fn root(need: Need) -> u64 {
    need.bytes.saturating_add(kernels(need))
}

/// Bytes that the initramfs, the file system at `root`, holds and gives back when it is left; 0 where it does not say,
/// as a ramfs does not, and where it is none.
pub fn initramfs(root: &Path) -> u64 {
    let found = in_memory(root);
    found.map_or(0, |found| found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize))
}

/// Whether the tmpfs at `root` is full. Of an initramfs that says that the kernel had no room to unpack all of it, which
/// it tells its log, and goes on.
pub fn is_full(root: &Path) -> bool {
    in_memory(root).is_some_and(|found| found.f_blocks > 0 && found.f_bfree == 0)
}

fn in_memory(root: &Path) -> Option<StatVfs> {
    let folder = std::fs::File::open(root).ok().filter(switch::is_in_memory)?;
    rustix::fs::fstatvfs(&folder).ok()
}

/// Whether `need` fits into `available` bytes, and the limits of the tmpfs: the root, and half of what is then left
/// for what services write; a runaway log shall not take the memory of everything else. Of a root that is mounted, the
/// tmpfs holds only what is written.
///
/// # Errors
/// Where it does not fit, with both numbers.
pub fn check(kind: Kind, need: Need, available: Available) -> Result<Limits, TooLarge> {
    let Available { all: available, kernel } = available;
    let most = Moment::of(kind, need);
    if most.bytes() > available {
        return Err(TooLarge::Memory { most, available });
    }
    // What is freed of the image may be of either kind.
    let (is_set_aside, room) = (kernel < available, kernel.saturating_add(need.freed));
    if kind == Kind::Unpacked && is_set_aside && kernels(need) > room {
        return Err(TooLarge::Kernel { needed: kernels(need), inodes: need.inodes, available: room });
    }
    if available != UNKNOWN {
        log::info!("the root needs {most}, and {} MiB are available", available >> 20);
    }
    let left =
        if available == UNKNOWN { 0 } else { available.saturating_add(need.given_back).saturating_sub(root(need)) };
    let (bytes, inodes) = match kind {
        Kind::Unpacked => (need.bytes, need.inodes.saturating_add(need.xattrs.div_ceil(INODE_OF_LIMIT))),
        Kind::Mounted => (0, 0),
    };
    Ok(Limits {
        bytes: bytes.saturating_add((left >> 1).max(SERVICES)),
        inodes: inodes.saturating_add((left >> 1).max(SERVICES) >> 12),
    })
}

/// Checks an unpacking by `most` workers, or by as many as fit, if one does: how many that are, and the limits.
///
/// # Errors
/// Where one worker is too many; and what `need`, which is asked for each number of them, says.
pub fn fit<E: From<TooLarge>>(
    most: NonZeroUsize,
    available: Available,
    need: impl Fn(NonZeroUsize) -> Result<Need, E>,
) -> Result<(NonZeroUsize, Limits), E> {
    let mut workers = most;
    loop {
        let error = match check(Kind::Unpacked, need(workers)?, available) {
            Ok(limits) => return Ok((workers, limits)),
            Err(error) => error,
        };
        let fewer = NonZeroUsize::new(workers.get().saturating_sub(1)).filter(|_| error.has_workers());
        let Some(fewer) = fewer else { return Err(error.into()) };
        log::info!("too little memory for {workers} workers, trying {fewer}: {error}");
        workers = fewer;
    }
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

    /// Of 98 MiB and 1024 inodes, which the kernel needs 2 MiB for, unpacked from the initramfs.
    fn need() -> Need {
        Need { bytes: 98 * MIB, inodes: 1024, xattrs: 0, working: 4 * MIB, freed: 30 * MIB, given_back: 40 * MIB }
    }

    /// Nothing of it is set aside.
    fn of(bytes: u64) -> Available {
        Available { all: bytes, kernel: bytes }
    }

    fn refusal(need: Need, available: u64) -> TooLarge {
        check(Kind::Unpacked, need, of(available)).unwrap_err()
    }

    #[test]
    fn what_is_set_aside_for_what_can_be_moved_holds_no_inodes() {
        // 1024 of them, and the nodes of 98 MiB.
        let need = Need { freed: 0, ..need() };
        let needed = kernels(need);
        let check = |kernel| check(Kind::Unpacked, need, Available { all: 400 * MIB, kernel });
        assert!(check(needed).is_ok());
        let error = check(needed - 1).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("needs 2 MiB for what the kernel keeps of its 1024 files, and 1 MiB are"), "{text}");
        assert!(error.remedy().contains("at least 1 MiB less aside"), "{}", error.remedy());
    }

    #[test]
    fn a_root_that_does_not_fit_is_refused_with_both_numbers() {
        let error = refusal(Need { bytes: 298 * MIB, working: 24 * MIB, freed: 0, ..need() }, 200 * MIB);
        let text = error.to_string();
        let wanted =
            "needs 325 MiB of RAM while it is unpacked (300 MiB unpacked, 24 MiB for the workers), and 200 MiB";
        assert!(text.contains(wanted), "{text}");
        assert!(error.remedy().contains("125 MiB more RAM"), "{}", error.remedy());
    }

    #[test]
    fn what_is_freed_in_time_makes_room_and_is_named_where_that_is_not_enough() {
        let need = Need { working: 8 * MIB, ..need() };
        assert!(check(Kind::Unpacked, Need { freed: 0, ..need }, of(80 * MIB)).is_err());
        assert!(check(Kind::Unpacked, need, of(80 * MIB)).is_ok());
        let text = refusal(need, 73 * MIB).to_string();
        assert!(text.contains("needs 78 MiB of RAM while it is unpacked (100 MiB unpacked, 8 MiB for the"), "{text}");
        assert!(text.contains("less 30 MiB of the image that are freed meanwhile), and 73 MiB"), "{text}");
    }

    #[test]
    fn workers_and_services_take_the_same_memory_one_after_the_other() {
        // 74 MiB while it is unpacked, 76 MiB when it runs: the larger of both, to the byte.
        let enough = root(need()) + SERVICES - 40 * MIB;
        assert!(check(Kind::Unpacked, need(), of(enough)).is_ok());
        let text = refusal(need(), enough - 1).to_string();
        assert!(text.contains("needs 76 MiB of RAM to run (100 MiB unpacked, 16 MiB for the services"), "{text}");
        assert!(text.contains("less 40 MiB of the initramfs that are freed before), and 75 MiB"), "{text}");
        // With more for the workers, it is the other way round.
        let need = Need { working: 16 * MIB, ..need() };
        assert!(check(Kind::Unpacked, need, of(enough + 10 * MIB)).is_ok());
        let text = refusal(need, enough + 10 * MIB - 1).to_string();
        assert!(text.contains("needs 86 MiB of RAM while it is unpacked"), "{text}");
    }

    #[test]
    fn as_many_workers_are_taken_as_fit_and_one_is_the_least() {
        // 10 MiB for each, and what they hold of the image is not freed.
        let by = |given_back| {
            move |workers: NonZeroUsize| {
                let workers = workers.get() as u64;
                let (working, freed) = (workers * 10 * MIB, (30 - workers) * MIB);
                Ok::<_, TooLarge>(Need { working, freed, given_back, ..need() })
            }
        };
        let four = NonZeroUsize::new(4).unwrap();
        let taken = |available, given_back| {
            fit(four, of(available * MIB), by(given_back * MIB)).map(|(workers, _)| workers.get())
        };
        // They need 114, 103, 92 and 81 MiB.
        assert_eq!(taken(114, 40), Ok(4));
        assert_eq!(taken(113, 40), Ok(3));
        assert_eq!(taken(92, 40), Ok(2));
        assert_eq!(taken(81, 40), Ok(1));
        let text = taken(80, 40).unwrap_err().to_string();
        assert!(text.contains("needs 81 MiB of RAM") && text.contains("10 MiB for the workers"), "{text}");
        // Where it is the services that do not fit, no number of workers changes that.
        let text = taken(82, 20).unwrap_err().to_string();
        assert!(text.contains("needs 96 MiB of RAM to run"), "{text}");
    }

    #[test]
    fn an_initramfs_in_a_tmpfs_is_measured_and_a_root_on_storage_is_none() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::write(folder.path().join("image"), vec![1; 3 << 20]).unwrap();
        assert!(initramfs(folder.path()) >= 3 * MIB);
        assert_eq!(initramfs(Path::new(env!("CARGO_MANIFEST_DIR"))), 0, "the sources lie on storage");
        assert_eq!(initramfs(Path::new("/nonexistent")), 0);
        assert!(!is_full(folder.path()) && !is_full(Path::new("/nonexistent")));
    }

    #[test]
    fn services_get_room_to_write_and_not_all_of_the_memory() {
        let need = Need { bytes: 100 * MIB, inodes: 1000, working: MIB, ..Need::default() };
        let limits = check(Kind::Unpacked, need, of(1001 * MIB)).unwrap();
        assert!(limits.bytes > 500 * MIB && limits.bytes < 560 * MIB, "{limits:?}");
        assert!(limits.inodes > 100_000);
    }

    #[test]
    fn an_image_that_is_mounted_takes_its_copy_and_leaves_the_rest_to_what_is_written() {
        let need = Need { bytes: 100 * MIB, working: 4 * MIB, ..Need::default() };
        let limits = check(Kind::Mounted, need, of(root(need) + 200 * MIB)).unwrap();
        assert_eq!(limits.bytes, 100 * MIB);
        let text = check(Kind::Mounted, need, of(110 * MIB)).unwrap_err().to_string();
        assert!(
            text.contains("needs 121 MiB of RAM to run (100 MiB for a copy of the image, 20 MiB for the"),
            "{text}"
        );
        assert!(text.contains("and 110 MiB are available"), "{text}");
    }

    #[test]
    fn extended_attributes_take_memory_and_their_share_of_the_limit() {
        let with = Need { xattrs: 10 * MIB, ..need() };
        assert_eq!(root(with) - root(need()), 10 * MIB);
        let limit = |need| check(Kind::Unpacked, need, of(root(need) + SERVICES)).unwrap().inodes;
        assert_eq!(limit(with) - limit(need()), 10 * 1024);
    }

    #[test]
    fn unknown_memory_does_not_stop_the_boot() {
        assert!(check(Kind::Unpacked, need(), of(UNKNOWN)).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_fits_and_what_fits_is_within_the_limits(
            bytes in any::<u64>(), inodes in any::<u64>(), xattrs in any::<u64>(), working in any::<u64>(),
            freed in any::<u64>(), given_back in any::<u64>(), available in any::<u64>(),
        ) {
            // No more is freed than was written meanwhile.
            let freed = freed.min(bytes);
            let need = Need { bytes, inodes, xattrs, working, freed, given_back };
            if let Ok(limits) = check(Kind::Unpacked, need, of(available)) {
                prop_assert!(bytes.saturating_add(working) <= available.saturating_add(freed));
                prop_assert!(bytes.saturating_add(SERVICES) <= available.saturating_add(given_back));
                prop_assert!(bytes <= limits.bytes && inodes <= limits.inodes);
            }
        }
    }
}
