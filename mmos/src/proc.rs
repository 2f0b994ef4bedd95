//! A `/proc` that is known to be the kernel's, and what it alone can tell: whose user namespace we are in, and which
//! boot this is. Whoever makes a user namespace may mount what he likes in it, so nothing is taken on trust here.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;

use crate::error::Error;

/// Inode number of the root of every proc file system: `PROC_ROOT_INO` in the kernel's `fs/proc/root.c`. A folder of
/// /proc that was bind-mounted over /proc has another one.
const ROOT_INODE: u64 = 1;
/// Inode number of the first user namespace: `PROC_USER_INIT_INO` of the kernel's `include/linux/proc_ns.h`, since
/// Linux 3.8, and `USER_NS_INIT_INO` of `include/uapi/linux/nsfs.h`. All later ones count from 0xF0000000.
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

const BOOT_ID: &str = "sys/kernel/random/boot_id";

/// The kernel's own `/proc`.
pub(crate) struct Proc {
    root: OwnedFd,
}

impl Proc {
    /// Opens `/proc` and makes sure that it is the root of a proc file system.
    pub(crate) fn open() -> Result<Proc, Error> {
        let fail = |errno| Error::unreadable("/proc", errno);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = match rustix::fs::open("/proc", flags, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Error::NoProc),
            Err(errno) => return Err(fail(errno)),
        };
        let is_proc = rustix::fs::fstatfs(&root).map_err(fail)?.f_type == PROC_SUPER_MAGIC;
        let is_root = rustix::fs::fstat(&root).map_err(fail)?.st_ino == ROOT_INODE;
        if is_proc && is_root { Ok(Proc { root }) } else { Err(Error::NoProc) }
    }

    /// Whether this process is in the first user namespace, the one in which uid 0 is root of the machine.
    pub(crate) fn in_first_user_namespace(&self) -> Result<bool, Error> {
        // `self` is our process in the pid namespace of this proc mount, which getpid() might not be.
        let pid = self.link("self")?.ok_or(Error::NoProc)?;
        if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::NoProc);
        }
        match self.link(&format!("{pid}/ns/user"))? {
            Some(name) => Ok(name == FIRST_USER_NAMESPACE),
            // Our own folder is there, and nothing is mounted over it: a kernel without CONFIG_USER_NS, with one
            // user namespace for all.
            None => self.exists(&format!("{pid}/status")),
        }
    }

    /// The kernel's name for this boot.
    pub(crate) fn boot_id(&self) -> Result<String, Error> {
        let path = || format!("/proc/{BOOT_ID}");
        let fail = |errno: Errno| Error::unreadable(path(), errno);
        // Containers mount /proc/sys over itself, read-only. That is root's to do, so a mount may be crossed here.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = rustix::fs::openat2(&self.root, BOOT_ID, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(fail)?;
        if rustix::fs::fstatfs(&file).map_err(fail)?.f_type != PROC_SUPER_MAGIC {
            return Err(Error::NoProc);
        }
        let mut text = String::new();
        // A UUID and a line feed are 37 bytes.
        let mut file = std::fs::File::from(file).take(64);
        file.read_to_string(&mut text).map_err(|source| Error::unreadable(path(), source))?;
        Ok(text.trim_end().to_owned())
    }

    /// Where the symbolic link at `path` points, without following it; `None` where there is nothing.
    fn link(&self, path: &str) -> Result<Option<String>, Error> {
        let Some(link) = self.look_at(path)? else { return Ok(None) };
        let target = rustix::fs::readlinkat(&link, "", Vec::new())
            .map_err(|errno| Error::unreadable(format!("/proc/{path}"), errno))?;
        Ok(Some(target.to_string_lossy().into_owned()))
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        Ok(self.look_at(path)?.is_some())
    }

    /// Opens `path` itself, refusing (with `EXDEV`) if anything is mounted on it or on the way to it.
    fn look_at(&self, path: &str) -> Result<Option<OwnedFd>, Error> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::unreadable(format!("/proc/{path}"), errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_to_ourselves_is_read_and_what_is_not_there_is_none() {
        let proc = Proc::open().unwrap();
        assert_eq!(proc.link("self").unwrap(), Some(std::process::id().to_string()));
        assert_eq!(proc.link("self-made").unwrap(), None);
    }

    #[test]
    fn a_path_through_a_link_is_refused() {
        let error = Proc::open().unwrap().link("self/ns/user").unwrap_err();
        assert_eq!(error.errno(), Errno::LOOP.raw_os_error());
    }

    #[test]
    fn a_path_out_of_proc_is_refused() {
        let error = Proc::open().unwrap().look_at("../etc").unwrap_err();
        assert_eq!(error.errno(), Errno::XDEV.raw_os_error());
    }

    #[test]
    fn the_boot_id_is_that_of_the_kernel() {
        let ours = Proc::open().unwrap().boot_id().unwrap();
        assert_eq!(ours, std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    }
}
