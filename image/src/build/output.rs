//! The output folder of a build: one build in it at a time, and nothing left in it by one that did not end.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::host::entries;

/// The file whose lock a build holds.
pub const LOCK: &str = ".lock";
/// What the folder is called in which a root is put together.
pub const STAGING: &str = ".root-";

/// An output folder that no other build writes to while this is held.
pub struct Output {
    pub path: PathBuf,
    _lock: File,
}

impl Output {
    /// Makes the folder if it is absent, and waits until no other build is in it.
    pub fn take(path: &Path) -> anyhow::Result<Output> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize()?;
        let file = path.join(LOCK);
        let lock = File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
        let cannot = || format!("cannot lock {}", file.display());
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!("waiting for another build in {}", path.display());
                lock.lock().with_context(cannot)?;
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Output { path, _lock: lock })
    }

    /// Deletes what builds that were killed have left: roots half put together, and halves of `outputs`. A file of
    /// that kind beside them may be `mmos-image join` at work, and goes only with its process.
    pub fn clear(&self, outputs: &[&str]) -> anyhow::Result<()> {
        for (name, path) in entries(&self.path)? {
            let cannot = || format!("cannot delete {}, left by an earlier build", path.display());
            if name.starts_with(STAGING) && !path.is_symlink() && path.is_dir() {
                std::fs::remove_dir_all(&path).with_context(cannot)?;
            } else if is_left_over(&name, outputs) {
                std::fs::remove_file(&path).with_context(cannot)?;
            }
        }
        Ok(())
    }
}

/// Whether a file is the half of something, `NAME.PID.part`, that nobody will finish. Capturing appends another
/// `.part`.
fn is_left_over(name: &str, outputs: &[&str]) -> bool {
    let Some((whole, process)) = name
        .strip_suffix(".part")
        .map(|name| name.strip_suffix(".part").unwrap_or(name))
        .and_then(|name| name.rsplit_once('.'))
    else {
        return false;
    };
    let Some(process) = process.parse().ok().filter(|process| *process > 0) else { return false };
    // Of the outputs it cannot be at work any more: the lock is ours.
    outputs.contains(&whole) || kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_is_told_from_what_is_no_business_of_ours() {
        let (us, absent) = (std::process::id(), i32::MAX);
        for (name, left_over) in [
            (format!("root.wim.{us}.part"), true),
            (format!("root.wim.{us}.part.part"), true),
            (format!("initrd.img.{absent}.part"), true),
            (format!("initrd.img.{us}.part"), false),
            ("film.part".into(), false),
            ("root.wim".into(), false),
            ("a.0.part".into(), false),
        ] {
            assert_eq!(is_left_over(&name, &["root.wim"]), left_over, "{name}");
        }
    }
}
