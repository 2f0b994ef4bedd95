//! Roots that the device mounts: a tree as a squashfs or EROFS, by the formats' own tools. The same tree gives the same
//! image.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::host::{self, entries};

/// What both tools would take the times of files from.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Writes `tree` to `to` as a squashfs; `epoch` is the time that the file system itself has.
///
/// zstd: smaller than gzip, and decompressed several times faster.
pub fn squashfs(tree: &Path, to: &Path, epoch: u64) -> anyhow::Result<()> {
    let mut command = Command::new("mksquashfs");
    command.arg(tree).arg(to).args(["-noappend", "-quiet", "-no-progress", "-comp", "zstd"]);
    command.args(["-mkfs-time", &epoch.to_string()]).env_remove(EPOCH);
    host::run(&mut command).map(drop)
}

/// Writes `tree` to `to` as an EROFS.
///
/// LZ4: what every kernel with EROFS knows, and the fastest to decompress.
pub fn erofs(tree: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("mkfs.erofs");
    // Else each image gets a number of its own.
    command.args(["--quiet", "-zlz4hc", "-U00000000-0000-0000-0000-000000000000"]).arg(to).arg(tree);
    // It becomes the time of the file system, and of all files that are younger: so there must be none.
    command.env(EPOCH, newest(tree)?.max(0).to_string());
    host::run(&mut command).map(drop)
}

/// The time of the youngest file in a tree, in seconds since 1970.
fn newest(path: &Path) -> anyhow::Result<i64> {
    let meta = std::fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut newest = meta.mtime();
    if meta.is_dir() {
        for (_, path) in entries(path)? {
            newest = newest.max(self::newest(&path)?);
        }
    }
    Ok(newest)
}
