//! The directory that a root is unpacked into, and every way to create something in it. Whatever an image holds,
//! nothing outside is touched: directories are opened by openat2(2) beneath the target without following symlinks, and
//! an entry is created by its bare name in an open directory, only where nothing is yet.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::error::TargetError;
use crate::holes;
use crate::meta::{Meta, Special, Time};
use crate::notes::Notes;

/// What mkfs makes in a new ext file system.
const LOST_FOUND: &[u8] = b"lost+found";

/// An existing directory to unpack into.
#[derive(Debug)]
pub(crate) struct Target {
    root: OwnedFd,
    path: PathBuf,
    /// It has the `lost+found` of a new file system, which the image may have, too.
    has_lost_found: bool,
    /// Not root: owners, device nodes and some attributes are beyond us, which is noted instead of failing.
    unprivileged: bool,
    /// What a new file has here without being told; `None` where that could not be found out.
    born: Option<Born>,
}

/// Owner and mode that a new file gets: by the process, its umask, and what the directory says (set-group-id, default
/// ACLs). Most files of most roots are to have just these, and then need not be given them.
#[derive(Debug, Clone, Copy)]
struct Born {
    uid: u32,
    gid: u32,
    /// What is left of the mode 0777.
    mode: u32,
}

impl Born {
    /// By a file that never gets a name.
    fn find(root: &OwnedFd) -> Option<Born> {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = fs::openat(root, ".", flags, Mode::from_raw_mode(0o777)).ok()?;
        let stat = fs::fstat(&file).ok()?;
        Some(Born { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 })
    }

    /// Whether a file that is created with the mode of `meta` has it then, and its owner.
    fn suits(&self, meta: &Meta) -> bool {
        (self.uid, self.gid) == (meta.uid, meta.gid) && meta.mode & !self.mode == 0 && meta.xattrs.is_empty()
    }
}

/// A directory inside the target, open, to create entries in.
pub(crate) struct Directory {
    fd: OwnedFd,
}

impl Target {
    /// # Errors
    /// When it cannot be opened, or holds something already (but for the `lost+found` of a new file system).
    pub(crate) fn open(path: &Path) -> Result<Target, TargetError> {
        let io = |action| move |e: io::Error| TargetError::Io { path: path.to_owned(), action, source: e };
        let mut has_lost_found = false;
        for entry in std::fs::read_dir(path).map_err(io("list"))? {
            let entry = entry.map_err(io("list"))?;
            if entry.file_name().as_encoded_bytes() != LOST_FOUND || !entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                return Err(TargetError::NotEmpty { path: path.to_owned() });
            }
            has_lost_found = true;
        }
        Ok(Target { has_lost_found, ..Target::open_beside(path)? })
    }

    /// As [`Target::open`], beside what is there. None of that is replaced, and no symlink in it followed.
    pub(crate) fn open_beside(path: &Path) -> Result<Target, TargetError> {
        let io = |action| move |e: io::Error| TargetError::Io { path: path.to_owned(), action, source: e };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from).map_err(io("open"))?;
        let born = Born::find(&root);
        let unprivileged = !rustix::process::geteuid().is_root();
        Ok(Target { root, path: path.to_owned(), has_lost_found: false, unprivileged, born })
    }

    /// Fails where the file system has less room than `need` bytes. A file system that does not say is trusted.
    pub(crate) fn check_room(&self, need: u64) -> Result<(), TargetError> {
        match fs::fstatvfs(&self.root) {
            Ok(stat) if stat.f_blocks > 0 => {
                let available = stat.f_bavail.saturating_mul(stat.f_frsize);
                if need > available {
                    return Err(TargetError::NoSpace { path: self.path.clone(), need, available });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Opens the directory at `path` inside the target; empty is the target itself.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<Directory, TargetError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if path.is_empty() {
            // Nothing is resolved. Without openat2(2), which the valgrind of Debian 12 lacks, a flat tree still unpacks.
            let opened = fs::openat(&self.root, c".", flags, Mode::empty());
            return opened.map(|fd| Directory { fd }).map_err(|e| self.failed("open directory", path, e));
        }
        // openat2 gives EAGAIN where a rename elsewhere in the system raced with the walk (openat2(2)).
        loop {
            match fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.map(|fd| Directory { fd }).map_err(|e| self.failed("open directory", path, e)),
            }
        }
    }

    pub(crate) fn failed(&self, action: &'static str, path: &[u8], error: impl Into<io::Error>) -> TargetError {
        TargetError::Io { path: self.path.join(OsStr::from_bytes(path)), action, source: error.into() }
    }

    /// Sets owner, attributes, mode and times of an open file or directory, in this order: a change of owner clears
    /// set-id bits and capabilities, and writing an attribute may change the mode.
    pub(crate) fn finish(&self, fd: impl AsFd, path: &[u8], meta: &Meta, notes: &Notes) -> Result<(), TargetError> {
        let fd = fd.as_fd();
        let (uid, gid) = owner(meta);
        let owned = self.allowed(fs::fchown(fd, uid, gid), "owners", path, notes);
        let owned = owned.map_err(|e| self.failed("set the owner of", path, e))?;
        for xattr in &meta.xattrs {
            let set = fs::fsetxattr(fd, &*xattr.name, &xattr.value, XattrFlags::empty());
            self.xattr_result(set, path, &xattr.name, notes)?;
        }
        fs::fchmod(fd, mode(meta, owned)).map_err(|e| self.failed("set the mode of", path, e))?;
        fs::futimens(fd, &times(meta)).map_err(|e| self.failed("set the times of", path, e))
    }

    /// As [`Target::finish`], for what cannot be opened for it: links, devices, fifos, sockets.
    fn finish_at(&self, at: &Entry<'_>, meta: &Meta, is_link: bool, notes: &Notes) -> Result<(), TargetError> {
        let (uid, gid) = owner(meta);
        let chown = fs::chownat(at.directory, at.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        let owned = self.allowed(chown, "owners", at.path, notes);
        let owned = owned.map_err(|e| self.failed("set the owner of", at.path, e))?;
        if !meta.xattrs.is_empty() {
            // There is no call on a descriptor for these; the kernel's own link to the directory stands in.
            let fd = std::os::fd::AsRawFd::as_raw_fd(&at.directory);
            let via = Path::new("/proc/self/fd").join(fd.to_string()).join(OsStr::from_bytes(at.name));
            for xattr in &meta.xattrs {
                let set = fs::lsetxattr(&via, &*xattr.name, &xattr.value, XattrFlags::empty());
                self.xattr_result(set, at.path, &xattr.name, notes)?;
            }
        }
        if !is_link {
            // The name was just created exclusively and is no symlink, so that following one is no concern.
            fs::chmodat(at.directory, at.name, mode(meta, owned), AtFlags::empty())
                .map_err(|e| self.failed("set the mode of", at.path, e))?;
        }
        fs::utimensat(at.directory, at.name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.failed("set the times of", at.path, e))
    }

    /// `Ok(false)`: refused because we are not root, and noted.
    fn allowed(&self, r: Result<(), Errno>, what: &'static str, path: &[u8], notes: &Notes) -> Result<bool, Errno> {
        match r {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::INVAL) if self.unprivileged => {
                notes.not_set(what, "only root may", path);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn xattr_result(&self, r: Result<(), Errno>, path: &[u8], name: &[u8], notes: &Notes) -> Result<(), TargetError> {
        match r {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => {
                notes.not_set("extended attributes", "the file system does not have them", path);
                Ok(())
            }
            Err(Errno::NOENT) => {
                notes.not_set("extended attributes of links and special files", "this needs /proc", path);
                Ok(())
            }
            Err(Errno::PERM) if self.unprivileged || name.starts_with(b"user.") => {
                // user.* is for files and directories alone (xattr(7)).
                notes.not_set("extended attributes", "they are not allowed here", path);
                Ok(())
            }
            Err(error) => Err(self.failed("set an extended attribute of", path, error)),
        }
    }
}

/// One name in an open directory; `path` is for messages.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a [u8],
    pub(crate) path: &'a [u8],
}

impl Directory {
    pub(crate) fn entry<'a>(&'a self, name: &'a [u8], path: &'a [u8]) -> Entry<'a> {
        Entry { directory: self.fd.as_fd(), name, path }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Nobody else may look before owner and mode are right.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;

impl Target {
    /// A new, empty, regular file, to be filled and finished.
    pub(crate) fn create(&self, at: &Entry<'_>) -> Result<File, TargetError> {
        self.create_with(at, PRIVATE_FILE)
    }

    /// A new regular file with `contents`, whole: owner, mode, times and all; with `sparse`, holes where it is zeros.
    pub(crate) fn file(
        &self,
        at: &Entry<'_>,
        contents: &[u8],
        sparse: bool,
        meta: &Meta,
        notes: &Notes,
    ) -> Result<(), TargetError> {
        let is_right = self.born.is_some_and(|born| born.suits(meta));
        let file = self.create_with(at, if is_right { mode(meta, false) } else { PRIVATE_FILE })?;
        holes::write(&file, contents, 0, sparse).map_err(|e| self.failed("write", at.path, e))?;
        if sparse {
            file.set_len(contents.len() as u64).map_err(|e| self.failed("write", at.path, e))?;
        }
        if is_right {
            return fs::futimens(&file, &times(meta)).map_err(|e| self.failed("set the times of", at.path, e));
        }
        self.finish(&file, at.path, meta, notes)
    }

    fn create_with(&self, at: &Entry<'_>, mode: Mode) -> Result<File, TargetError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(at.directory, at.name, flags, mode);
        fd.map(File::from).map_err(|e| self.failed("create", at.path, e))
    }

    /// An existing regular file of ours, to put contents into. Anything else is refused before it is opened: opening
    /// a device already acts on it, and writing to one would leave the target.
    pub(crate) fn reopen(&self, at: &Entry<'_>) -> Result<File, TargetError> {
        let refuse = || TargetError::NotRegular { path: self.path.join(OsStr::from_bytes(at.path)) };
        let seen = fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW);
        let seen = seen.map_err(|e| self.failed("look at", at.path, e))?;
        if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
            return Err(refuse());
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = fs::openat(at.directory, at.name, flags, Mode::empty());
        let fd = fd.map_err(|e| self.failed("open", at.path, e))?;
        let opened = fs::fstat(&fd).map_err(|e| self.failed("look at", at.path, e))?;
        if (opened.st_dev, opened.st_ino) != (seen.st_dev, seen.st_ino) {
            return Err(refuse());
        }
        Ok(File::from(fd))
    }

    /// A new directory, closed to others until it is finished.
    pub(crate) fn make_directory(&self, at: &Entry<'_>) -> Result<(), TargetError> {
        match fs::mkdirat(at.directory, at.name, PRIVATE_DIRECTORY) {
            Err(Errno::EXIST) if self.has_lost_found && at.path == LOST_FOUND => Ok(()),
            made => made.map_err(|e| self.failed("create directory", at.path, e)),
        }
    }

    pub(crate) fn symlink(&self, at: &Entry<'_>, to: &[u8], meta: &Meta, notes: &Notes) -> Result<(), TargetError> {
        fs::symlinkat(to, at.directory, at.name).map_err(|e| self.failed("create symlink", at.path, e))?;
        self.finish_at(at, meta, true, notes)
    }

    /// A device, fifo or socket; whether it was created. Device nodes are left out and noted where we are not root.
    pub(crate) fn special(
        &self,
        at: &Entry<'_>,
        what: Special,
        meta: &Meta,
        notes: &Notes,
    ) -> Result<bool, TargetError> {
        let (kind, device) = match what {
            Special::Fifo => (FileType::Fifo, 0),
            Special::Socket => (FileType::Socket, 0),
            Special::Char(device) => (FileType::CharacterDevice, device),
            Special::Block(device) => (FileType::BlockDevice, device),
        };
        let made = fs::mknodat(at.directory, at.name, kind, PRIVATE_FILE, device);
        let made = self.allowed(made, "device nodes", at.path, notes);
        if !made.map_err(|e| self.failed("create special file", at.path, e))? {
            return Ok(false);
        }
        self.finish_at(at, meta, false, notes)?;
        Ok(true)
    }

    /// A further name for what `old` names; a symlink is not followed.
    pub(crate) fn hard_link(&self, old: &Entry<'_>, new: &Entry<'_>) -> Result<(), TargetError> {
        fs::linkat(old.directory, old.name, new.directory, new.name, AtFlags::empty())
            .map_err(|e| self.failed("create hard link", new.path, e))
    }

    /// Whether there is something of this name, and whether that is a directory.
    pub(crate) fn look(&self, at: &Entry<'_>) -> Result<Option<bool>, TargetError> {
        match fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("look at", at.path, error)),
        }
    }

    /// Removes one name that is no directory.
    pub(crate) fn remove(&self, at: &Entry<'_>) -> Result<(), TargetError> {
        fs::unlinkat(at.directory, at.name, AtFlags::empty()).map_err(|e| self.failed("replace", at.path, e))
    }
}

fn owner(meta: &Meta) -> (Option<fs::Uid>, Option<fs::Gid>) {
    // The number of all ones means "leave it" to chown(2); readers refuse it.
    let some = |id: u32| (id != u32::MAX).then_some(id);
    (some(meta.uid).map(fs::Uid::from_raw), some(meta.gid).map(fs::Gid::from_raw))
}

/// Set-id bits make sense only with the owner that they are meant for.
fn mode(meta: &Meta, owned: bool) -> Mode {
    let mask = if owned { 0o7777 } else { 0o1777 };
    Mode::from_raw_mode(meta.mode & mask)
}

fn times(meta: &Meta) -> Timestamps {
    let spec = |t: Time| Timespec { tv_sec: t.seconds, tv_nsec: t.nanos.into() };
    let modified = spec(meta.modified);
    Timestamps { last_access: meta.accessed.map_or(modified, spec), last_modification: modified }
}
