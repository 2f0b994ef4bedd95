//! The boot record: what `init` knows about this boot, kept for `is_mmos()`, the supervisor and boot analysis.
//!
//! Times are microseconds of `CLOCK_BOOTTIME`, which begins with the kernel.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Everything recorded about this boot; JSON in [`crate::paths::BOOT_RECORD`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BootRecord {
    /// The kernel's `/proc/sys/kernel/random/boot_id` of the boot that this record speaks of.
    pub boot_id: String,
    /// Version of `init`.
    pub version: String,
    /// The profile asked for by the kernel command line; `None` leaves it to the image.
    pub profile: Option<String>,
    /// Seconds after which the machine is reset, and the supervisor started anew, should they hang; 0 for never.
    /// `None` where no stage 1 of ours decided.
    #[serde(default)]
    pub watchdog: Option<u16>,
    /// The root that was unpacked or mounted.
    pub root: Option<Root>,
    /// The steps of stage 1 and stage 2, in order.
    pub stages: Vec<Stage>,
    /// What went wrong and did not stop the boot, in words.
    pub warnings: Vec<String>,
}

/// The root that was unpacked or mounted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// As given to `mmos.root=`.
    pub source: String,
    /// `wim`, `tar.zst`, `cpio.zst`; of those that are mounted, `squashfs`, `erofs`.
    pub format: String,
    /// Size of the source in bytes.
    pub source_bytes: u64,
    /// Sum of the sizes of all files in the root, in bytes; 0 of one that is mounted, since nothing is unpacked.
    pub unpacked_bytes: u64,
    /// Number of files, directories and other entries; of a root that is mounted, of inodes.
    pub entries: u64,
    /// Wall time of unpacking, or of copying and mounting, in microseconds.
    pub micros: u64,
    /// Threads that unpacked; 0 of a root that is mounted.
    pub workers: u32,
}

/// One step of the boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Short name, as in the boot table of `ARCHITECTURE.md`.
    pub name: String,
    /// When it began, in microseconds since the kernel started.
    pub begin_us: u64,
    /// When it ended, likewise.
    pub end_us: u64,
}

/// Microseconds since the kernel started (`CLOCK_BOOTTIME`).
pub fn now_us() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

impl BootRecord {
    /// Reads the record at `path`.
    ///
    /// # Errors
    /// `NotFound` where there is none; `InvalidData` where it is not such a record.
    pub fn read(path: &Path) -> io::Result<BootRecord> {
        serde_json::from_slice(&std::fs::read(path)?).map_err(io::Error::from)
    }

    /// Writes the record to `path` with mode 0644, as a whole: a reader sees the old one or the new one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let next = path.with_extension("new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&next)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        std::fs::rename(next, path)
    }
}
