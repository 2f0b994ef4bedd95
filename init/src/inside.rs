//! Paths inside a tree that is not the root yet, resolved by the kernel as if it were: no link leads out of it.
//! `openat2(2)` with `RESOLVE_IN_ROOT`, so Linux 5.6 or later.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

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
