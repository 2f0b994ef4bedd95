//! Under sudo(8), what a build made is handed over to the user who called it: images and cache are the user's, and the
//! next command, without sudo, must be able to use and to replace them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, openat, statat};

use super::{host, manifest, output};

/// A folder is opened as itself or not at all: a link put in its place meanwhile leads nowhere.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What to hand over when the build is done, and to whom.
pub struct HandOver {
    uid: Uid,
    gid: Gid,
    /// Folders that the build may make: those that are not there yet.
    folders: Vec<PathBuf>,
    out: PathBuf,
    /// Our cache, if it lies in a folder of the user.
    cache: Option<PathBuf>,
    /// Seconds since 1970 when the build began.
    begun: i64,
}

impl HandOver {
    /// Looks at what is there before the build; `None` where no other user called us. See sudo(8), ENVIRONMENT.
    pub fn prepare(out: &Path) -> anyhow::Result<Option<HandOver>> {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        let (Some(uid), Some(gid)) = (number("SUDO_UID"), number("SUDO_GID")) else { return Ok(None) };
        if uid == 0 || uid == u32::MAX || gid == u32::MAX || !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let mut folders = absent(&std::path::absolute(out)?);
        // With `sudo --set-home` the cache is root's, and stays so.
        let caches = host::caches().ok().filter(|path| nearest(path).is_some_and(|meta| meta.uid() == uid));
        let cache = caches.map(|path| path.join(host::CACHE));
        folders.extend(cache.iter().flat_map(|path| absent(path)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // File systems take their times from a clock that lags by a tick.
        let begun = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(1);
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(Some(HandOver { uid, gid, folders, out: out.to_owned(), cache, begun }))
    }

    /// Hands over what the build made: folders, `outputs` and what goes with them, and what is new in the cache.
    pub fn carry_out(&self, outputs: &[&str]) -> anyhow::Result<()> {
        for folder in self.folders.iter().filter(|folder| folder.is_dir()) {
            self.give(rustix::fs::CWD, folder)?;
        }
        for name in outputs.iter().chain(&[manifest::NAME, output::LOCK]) {
            let path = self.out.join(name);
            if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.uid() == 0 && meta.is_file() && meta.nlink() == 1)
            {
                self.give(rustix::fs::CWD, &path)?;
            }
        }
        let Some(cache) = self.cache.as_ref().filter(|path| path.is_dir()) else { return Ok(()) };
        let opened = rustix::fs::open(cache, FOLDER, Mode::empty()).map_err(anyhow::Error::from);
        opened.and_then(|folder| self.give_new(folder)).with_context(|| format!("{}", cache.display()))
    }

    /// Hands over what is new in a folder and below it. By descriptors, since the user may change the names meanwhile.
    fn give_new(&self, folder: OwnedFd) -> anyhow::Result<()> {
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.give_new(openat(&folder, name, FOLDER, Mode::empty())?)?;
            }
            if self.is_of_this_build(&stat) {
                self.give(folder.as_fd(), name)?;
            }
        }
        Ok(())
    }

    /// Whether root made this since the build began. A file with a second name may be any file of the system.
    fn is_of_this_build(&self, stat: &Stat) -> bool {
        let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        stat.st_uid == 0 && stat.st_ctime >= self.begun && (folder || stat.st_nlink == 1)
    }

    fn give(&self, folder: BorrowedFd<'_>, name: impl rustix::path::Arg) -> anyhow::Result<()> {
        Ok(chownat(folder, name, Some(self.uid), Some(self.gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// `path` and the folders above it, as far as they are not there.
fn absent(path: &Path) -> Vec<PathBuf> {
    path.ancestors().take_while(|path| std::fs::symlink_metadata(path).is_err()).map(Path::to_owned).collect()
}

/// What is there of `path`, or of the nearest folder above it.
fn nearest(path: &Path) -> Option<std::fs::Metadata> {
    path.ancestors().find_map(|path| std::fs::metadata(path).ok())
}
