//! Between fork and exec: the view of the file system that a service has, made of mounts of its own. Nothing here
//! allocates; what is to be mounted where is decided before, in [`crate::host::sandbox`].
//!
//! All that is shown elsewhere or again is copied first, by open_tree(2), and attached afterwards, by move_mount(2), so
//! that a copy is of what there was before anything was made read-only or hidden.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use libc::{c_int, c_uint};

use super::errno;

const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC.unsigned_abs();
const AT_RECURSIVE: c_uint = 0x8000;
const AT_EMPTY_PATH: c_uint = 0x1000;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;
const MOVE_MOUNT_T_SYMLINKS: c_uint = 0x10;

/// Attributes of mounts; mount_setattr(2).
pub mod attribute {
    /// It cannot be written.
    pub const READ_ONLY: u64 = 0x1;
    /// Set-user-ID has no effect.
    pub const NO_SUID: u64 = 0x2;
    /// Devices cannot be opened.
    pub const NO_DEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NO_EXEC: u64 = 0x8;
}

/// What becomes of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// This is seen there: of a path, as it was before.
    Copy {
        /// The path.
        source: CString,
        /// With what is mounted beneath it.
        recursive: bool,
    },
    /// What is there stays, and only its attributes change.
    Same,
    /// What is there already is a mount of its own, and only its attributes change.
    InPlace,
    /// An empty tmpfs with these options.
    Tmpfs(CString),
    /// A file system of the kernel's own: its type, and options.
    Kernel(CString, CString),
}

/// One place, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path.
    pub target: CString,
    /// What is seen there.
    pub what: What,
    /// Attributes to be set, beneath it too.
    pub set: u64,
    /// Attributes to be cleared.
    pub clear: u64,
    /// It, or its source, may be missing: then nothing happens.
    pub optional: bool,
    /// Folders to be made if they are missing, and whether the place itself is a file.
    pub make: Option<(Vec<CString>, bool)>,
    /// For the child: the copy of the source.
    pub copy: Cell<c_int>,
}

/// All places, in the order in which they are to be attached.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MountPlan {
    /// The places.
    pub places: Vec<Place>,
    /// The new root, if it is another.
    pub root: Option<CString>,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// The place that failed, and why.
pub type Failed = (u16, c_int);

/// Makes the view. The process is in a mount namespace of its own.
///
/// # Errors
/// Which place could not be made so, and the error's number; the number past the last place is the root.
pub fn make(plan: &MountPlan) -> Result<(), Failed> {
    // SAFETY: system calls with integers and with pointers to NUL-terminated strings of the plan.
    unsafe {
        // What is mounted in this view stays in it; what the host mounts later is seen.
        let slave = libc::MS_REC | libc::MS_SLAVE;
        if libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), slave, std::ptr::null()) < 0 {
            return Err((u16::MAX, errno()));
        }
    }
    for (number, place) in (0_u16..).zip(&plan.places) {
        copy(place).map_err(|errno| (number, errno))?;
    }
    for (number, place) in (0_u16..).zip(&plan.places) {
        attach(place).map_err(|errno| (number, errno))?;
    }
    // Last, since places beneath them had to be made.
    for (number, place) in (0_u16..).zip(&plan.places) {
        if matches!(place.what, What::Tmpfs(_)) && place.set != 0 {
            let result = change(libc::AT_FDCWD, &place.target, 0, place.set, 0);
            tolerated(result, place).map_err(|errno| (number, errno))?;
        }
    }
    match &plan.root {
        Some(root) => pivot(root).map_err(|errno| (u16::MAX, errno)),
        None => Ok(()),
    }
}

fn copy(place: &Place) -> Result<(), c_int> {
    let (source, recursive) = match &place.what {
        What::Copy { source, recursive } => (source, *recursive),
        What::Same | What::InPlace | What::Tmpfs(_) | What::Kernel(..) => return Ok(()),
    };
    match open_tree(source, recursive) {
        Ok(fd) => place.copy.set(fd),
        Err(errno) => tolerated(Err(errno), place)?,
    }
    Ok(())
}

fn attach(place: &Place) -> Result<(), c_int> {
    if let Some((folders, is_file)) = &place.make {
        make_place(folders, *is_file, &place.target);
    }
    match &place.what {
        What::InPlace => tolerated(change(libc::AT_FDCWD, &place.target, AT_RECURSIVE, place.set, place.clear), place),
        What::Same => match open_tree(&place.target, true) {
            Ok(fd) => finish(fd, place),
            Err(errno) => tolerated(Err(errno), place),
        },
        What::Copy { .. } => match place.copy.get() {
            -1 => Ok(()),
            fd => finish(fd, place),
        },
        What::Tmpfs(options) => mount(c"tmpfs", place, libc::MS_NOSUID | libc::MS_NODEV, options),
        What::Kernel(kind, options) => mount(kind, place, libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, options),
    }
}

/// Changes the attributes of a copy and puts it where it belongs.
fn finish(fd: c_int, place: &Place) -> Result<(), c_int> {
    let recursive = AT_EMPTY_PATH | AT_RECURSIVE;
    let changed = match place.set | place.clear {
        0 => Ok(()),
        _ => change(fd, c"", recursive, place.set, place.clear),
    };
    let result = changed.and_then(|()| {
        let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
        // SAFETY: integers, and pointers to NUL-terminated strings.
        let moved = unsafe {
            libc::syscall(libc::SYS_move_mount, fd, c"".as_ptr(), libc::AT_FDCWD, place.target.as_ptr(), flags)
        };
        if moved < 0 { Err(errno()) } else { Ok(()) }
    });
    // SAFETY: a descriptor of this process that nothing else uses.
    unsafe { libc::close(fd) };
    tolerated(result, place)
}

fn open_tree(path: &CStr, recursive: bool) -> Result<c_int, c_int> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: integers, and a pointer to a NUL-terminated string.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    c_int::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(errno)
}

fn change(fd: c_int, path: &CStr, flags: c_uint, set: u64, clear: u64) -> Result<(), c_int> {
    let attributes = MountAttr { set, clear, propagation: 0, userns: 0 };
    // SAFETY: the structure has the size that is given and lives through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, path.as_ptr(), flags, &raw const attributes, size_of::<MountAttr>())
    };
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn mount(kind: &CStr, place: &Place, flags: libc::c_ulong, options: &CStr) -> Result<(), c_int> {
    // SAFETY: pointers to NUL-terminated strings.
    let result =
        unsafe { libc::mount(kind.as_ptr(), place.target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    tolerated(if result < 0 { Err(errno()) } else { Ok(()) }, place)
}

/// The place itself, in an empty folder that hides what was there.
fn make_place(folders: &[CString], is_file: bool, target: &CStr) {
    // SAFETY: pointers to NUL-terminated strings. What cannot be made is found when it is mounted on.
    unsafe {
        for folder in folders {
            libc::mkdir(folder.as_ptr(), 0o755);
        }
        if is_file {
            let fd = libc::open(target.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644);
            if fd >= 0 {
                libc::close(fd);
            }
        } else {
            libc::mkdir(target.as_ptr(), 0o755);
        }
    }
}

/// What may be missing may.
fn tolerated(result: Result<(), c_int>, place: &Place) -> Result<(), c_int> {
    match result {
        Err(libc::ENOENT | libc::ENOTDIR | libc::ENODEV) if place.optional => Ok(()),
        other => other,
    }
}

/// pivot_root(2), "pivot_root(".", ".")": the new root over the old one, which is let go.
fn pivot(root: &CStr) -> Result<(), c_int> {
    // SAFETY: pointers to NUL-terminated strings.
    unsafe {
        if libc::chdir(root.as_ptr()) < 0
            || libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) < 0
            || libc::umount2(c".".as_ptr(), libc::MNT_DETACH) < 0
            || libc::chdir(c"/".as_ptr()) < 0
        {
            return Err(errno());
        }
    }
    Ok(())
}
