//! Paths inside a tree that is not the root yet, resolved by the kernel as if it were: no link leads out of it.
//! `openat2(2)` with `RESOLVE_IN_ROOT`, so Linux 5.6 or later.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The folder at `path`, in a tree whose `root` is taken for `/`; where the last part is missing, it is made.
///
/// # Errors
/// When it is anything but a folder, or a link on the way leads to nothing.
pub fn folder(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let open = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let root = rustix::fs::open(root, open, Mode::empty())?;
    let find = |path: &Path| rustix::fs::openat2(&root, path, open, Mode::empty(), ResolveFlags::IN_ROOT);
    match (find(path), path.parent(), path.file_name()) {
        (Err(Errno::NOENT), Some(parent), Some(name)) => {
            // A link that leads to nothing is there, and is not replaced: that is for the tree's maker to decide.
            match rustix::fs::mkdirat(find(parent)?, name, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => Err(io::Error::other("it is a link that leads to nothing in the root")),
                Err(errno) => Err(errno.into()),
                Ok(()) => Ok(find(path)?),
            }
        }
        (found, _, _) => Ok(found?),
    }
}

/// A file in a tree, held without being opened for reading.
#[derive(Debug)]
pub struct FileIn {
    fd: OwnedFd,
    mode: u32,
}

impl FileIn {
    /// Finds the file `path` where `root` is taken for `/`.
    ///
    /// # Errors
    /// When it is not there, or is anything but a file.
    pub fn find(root: &Path, path: &Path) -> io::Result<FileIn> {
        let open = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, open | OFlags::DIRECTORY, Mode::empty())?;
        let fd = rustix::fs::openat2(&root, path, open, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let mode = rustix::fs::fstat(&fd)?.st_mode;
        if FileType::from_raw_mode(mode).is_file() {
            Ok(FileIn { fd, mode })
        } else {
            Err(io::Error::other("it is not a file"))
        }
    }

    /// Whether anyone may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// Its true path, with no link left in it.
    pub fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_cannot_lead_out_of_the_tree() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("images")).unwrap();
        std::fs::write(real.join("images/v2.wim"), "x").unwrap();
        symlink("/images/v2.wim", real.join("root.wim")).unwrap();
        symlink("../../../../etc/passwd", real.join("out")).unwrap();
        let found = |path: &str| FileIn::find(&real, Path::new(path));
        assert_eq!(found("/root.wim").unwrap().path().unwrap(), real.join("images/v2.wim"));
        assert_eq!(found("/out").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(found("/images").is_err());
    }
}
