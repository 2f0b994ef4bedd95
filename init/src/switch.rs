//! Step 8: the unpacked tree becomes the root of all, and the initramfs's memory becomes free. As `switch_root(8)`
//! does it, for the same reasons.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::inside::{self, FileIn};
use crate::memory::Limits;
use crate::{early, mounted};

/// Where the root is unpacked, before it is the root.
pub const NEW_ROOT: &str = "/newroot";

/// Magic numbers of the file systems that an initramfs may be in (`<linux/magic.h>`).
const RAMFS_MAGIC: u64 = 0x8584_58f6;
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Deepest folder that is cleared; one deeper stays, and only keeps some memory.
const MAX_DEPTH: usize = 64;

/// Why the unpacked tree cannot become the root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No memory file system.
    #[error("the tmpfs for the root cannot be mounted on {NEW_ROOT}: {source}")]
    Tmpfs {
        /// Why.
        source: io::Error,
    },
    /// The tree has nothing to run.
    #[error("the root has no {init} that can be executed: {source}")]
    NoInit {
        /// What was looked for.
        init: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The tree has no place for a file system that every root needs.
    #[error("{path} of the root is no folder to mount on: {source}")]
    MountPoint {
        /// The folder.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("switching to the root failed, {action}: {source}")]
    Switch {
        /// Which step.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The new root's init did not start.
    #[error("{init} of the root cannot be executed: {source} (a missing ELF or script interpreter says so, too)")]
    Exec {
        /// What was to be executed.
        init: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Error::Tmpfs { .. } => "Use a kernel with CONFIG_TMPFS, and enough RAM",
            Error::NoInit { .. } => {
                "Put an init there: mmos-image adds ours; a tree captured by hand needs its own, executable, and its \
                 links within the tree"
            }
            Error::MountPoint { .. } => {
                "Make /proc, /sys, /dev, /run and /tmp of the image folders of their own (or leave them out), or links \
                 to folders that are there and differ"
            }
            Error::Switch { .. } => "This is not the image's fault; keep the kernel's log and report it",
            Error::Exec { .. } => "Use a static program, or put its interpreter into the root, for this processor",
        }
    }
}

/// Mounts an empty tmpfs for the root.
pub fn mount_new_root(limits: Limits) -> Result<(), Error> {
    let options = format!("mode=0755,size={},nr_inodes={}", limits.bytes, limits.inodes);
    let options = CString::new(options).unwrap_or_default();
    early::mount("tmpfs", NEW_ROOT, MountFlags::empty(), &options)
        .map_err(|errno| Error::Tmpfs { source: errno.into() })
}

/// Lets go of a root that shall not be booted, so that a shell has its memory.
pub fn discard_new_root() {
    let _ = rustix::mount::unmount(NEW_ROOT, UnmountFlags::DETACH);
    mounted::discard();
}

/// Whether the tree at `root` has an `init` to run, its links followed as if `root` were `/`.
pub fn check_init(root: &Path, init: &'static str) -> Result<(), Error> {
    match FileIn::find(root, Path::new(init)) {
        Ok(file) if file.is_executable() => Ok(()),
        Ok(_) => Err(Error::NoInit { init, source: io::Error::other("it is not marked executable") }),
        Err(source) => Err(Error::NoInit { init, source }),
    }
}

/// The folders of the new root that something is mounted on, found before anything is moved: afterwards a link among
/// them would be followed in what is left of the initramfs.
#[derive(Debug)]
pub struct Targets {
    moved: Vec<(&'static str, OwnedFd)>,
    tmp: OwnedFd,
}

/// Finds, or makes, those folders in the tree at `root`. Links are followed as if that were `/`.
pub fn check_targets(root: &Path) -> Result<Targets, Error> {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    let mut folder = |path: &'static str| {
        let unusable = |source| Error::MountPoint { path, source };
        let folder = inside::folder(root, Path::new(path)).map_err(unusable)?;
        let found = rustix::fs::fstat(&folder).map_err(|errno| unusable(errno.into()))?;
        let top = rustix::fs::stat(root).map_err(|errno| unusable(errno.into()))?;
        if (top.st_dev, top.st_ino) == (found.st_dev, found.st_ino) {
            return Err(unusable(io::Error::other("it is a link to the root itself")));
        }
        if taken.contains(&(found.st_dev, found.st_ino)) {
            return Err(unusable(io::Error::other("it is a link to another one of them")));
        }
        taken.push((found.st_dev, found.st_ino));
        Ok(folder)
    };
    let moved = early::MOVED.iter().map(|path| Ok((*path, folder(path)?))).collect::<Result<_, Error>>()?;
    Ok(Targets { moved, tmp: folder("/tmp")? })
}

/// Makes the tree at [`NEW_ROOT`] the root. `targets` are of that tree.
pub fn switch(targets: &Targets) -> Result<OwnedFd, Error> {
    let failed = |action: &str| {
        let action = action.to_owned();
        move |errno: Errno| Error::Switch { action, source: errno.into() }
    };
    let old = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("opening the initramfs"))?;
    for (path, target) in &targets.moved {
        if early::is_mount_point(path) {
            move_onto(path, target).map_err(failed(&format!("moving {path}")))?;
        }
    }
    // The new root gets a /tmp of its own; what lies in the initramfs's is of no use to anyone.
    let _ = rustix::mount::unmount("/tmp", UnmountFlags::DETACH);
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = rustix::process::fchdir(&targets.tmp)
        .and_then(|()| rustix::mount::mount("tmpfs", ".", "tmpfs", safe, c"mode=1777"));
    if let Err(errno) = mounted {
        log::warn!("/tmp of the root is no tmpfs: {errno}");
    }
    rustix::process::chdir(NEW_ROOT).map_err(failed("entering it"))?;
    rustix::mount::mount_move(".", "/").map_err(failed("moving it to /"))?;
    rustix::process::chroot(".").map_err(failed("making it the root"))?;
    rustix::process::chdir("/").map_err(failed("entering /"))?;
    Ok(old)
}

/// Moves what is mounted on `path` onto the folder `target`: by way of the working directory, since a path through
/// `/proc/self/fd` ends when `/proc` itself has moved.
fn move_onto(path: &str, target: &OwnedFd) -> Result<(), Errno> {
    rustix::process::fchdir(target)?;
    rustix::mount::mount_move(path, ".")
}

/// Frees the initramfs, of which `old` is the root: removes all of it, if it is in memory, and nothing that is mounted
/// in it.
pub fn free_initramfs(old: &OwnedFd) {
    if !is_in_memory(old) {
        log::debug!("the first root is not in memory, and stays as it is");
        return;
    }
    match rustix::fs::fstat(old) {
        Ok(root) => clear(old, root.st_dev, MAX_DEPTH),
        Err(errno) => log::warn!("the initramfs stays in memory: {errno}"),
    }
}

/// Whether a file lies in a file system that is in memory.
pub fn is_in_memory(file: &impl AsFd) -> bool {
    let kind = rustix::fs::fstatfs(file).ok().and_then(|found| u64::try_from(found.f_type).ok());
    kind.is_some_and(|kind| [RAMFS_MAGIC, TMPFS_MAGIC].contains(&kind))
}

/// Removes what is in `folder` and on `device`.
fn clear(folder: &impl AsFd, device: u64, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(found) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if found.st_dev != device {
            continue;
        }
        let mut flags = AtFlags::empty();
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(inner) = rustix::fs::openat(folder, name, open, Mode::empty()) {
                clear(&inner, device, depth);
            }
            flags = AtFlags::REMOVEDIR;
        }
        // A mount point cannot be removed, and need not be.
        let _ = rustix::fs::unlinkat(folder, name, flags);
    }
}

/// Becomes `init` of the new root; returns only if that fails.
pub fn execute(init: &'static str) -> Error {
    // The environment is the kernel's: HOME, TERM, and what of the command line it did not know.
    let source = Command::new(std::ffi::OsStr::from_bytes(init.as_bytes())).arg0(init).exec();
    Error::Exec { init, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
        fs::create_dir_all(root.path().join("usr/lib/mmos")).unwrap();
        fs::write(root.path().join("usr/lib/mmos/init"), "x").unwrap();
        fs::set_permissions(root.path().join("usr/lib/mmos/init"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("usr/sbin", root.path().join("sbin")).unwrap();
        root
    }

    fn reason(root: &Path) -> String {
        check_init(root, "/sbin/init").unwrap_err().to_string()
    }

    #[test]
    fn an_init_behind_absolute_links_is_found_inside_the_root() {
        let root = tree();
        symlink("/usr/lib/mmos/init", root.path().join("usr/sbin/init")).unwrap();
        check_init(root.path(), "/sbin/init").unwrap();
    }

    #[test]
    fn a_root_without_init_is_refused() {
        let root = tree();
        assert!(reason(root.path()).contains("has no /sbin/init"), "{}", reason(root.path()));
        // It is there on the host, and must not be taken for one in the root.
        symlink("/bin/sh", root.path().join("usr/sbin/init")).unwrap();
        assert!(reason(root.path()).contains("has no /sbin/init"));
    }

    #[test]
    fn an_init_that_cannot_be_executed_is_refused() {
        let root = tree();
        fs::write(root.path().join("usr/sbin/init"), "x").unwrap();
        fs::set_permissions(root.path().join("usr/sbin/init"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(reason(root.path()).contains("not marked executable"));
        fs::remove_file(root.path().join("usr/sbin/init")).unwrap();
        fs::create_dir(root.path().join("usr/sbin/init")).unwrap();
        assert!(reason(root.path()).contains("not a file"));
    }

    #[test]
    fn mount_points_are_found_by_links_inside_the_root_and_made_where_they_are_missing() {
        let root = tree();
        fs::create_dir_all(root.path().join("var/run")).unwrap();
        symlink("/var/run", root.path().join("run")).unwrap();
        let targets = check_targets(root.path()).unwrap();
        let (_, run) = targets.moved.iter().find(|(path, _)| *path == "/run").unwrap();
        let expect = fs::metadata(root.path().join("var/run")).unwrap();
        assert_eq!(rustix::fs::fstat(run).unwrap().st_ino, std::os::unix::fs::MetadataExt::ino(&expect));
        for made in ["proc", "sys", "dev", "tmp"] {
            assert!(root.path().join(made).is_dir(), "{made}");
        }
    }

    #[test]
    fn a_root_without_a_place_for_a_mount_is_blamed_with_the_folder_and_the_reason() {
        for (path, link, expect) in [
            ("run", "/var/run", "leads to nothing"),
            ("run", "/sbin/../../dev", "another one of them"),
            ("dev", ".", "the root itself"),
            ("sys", "sys", "symbolic links"),
            ("proc", "/usr/lib/mmos/init", "Not a directory"),
        ] {
            let root = tree();
            symlink(link, root.path().join(path)).unwrap();
            let error = check_targets(root.path()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expect) && text.contains("of the root is no folder"), "{path} -> {link}: {text}");
            assert!(error.remedy().contains("/run"), "{}", error.remedy());
        }
        let root = tree();
        fs::write(root.path().join("tmp"), "a file").unwrap();
        assert!(check_targets(root.path()).unwrap_err().to_string().starts_with("/tmp of the root"));
    }

    #[test]
    fn clearing_removes_the_tree_and_follows_no_link() {
        let root = tree();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        symlink(outside.path(), root.path().join("link")).unwrap();
        let fd = OwnedFd::from(fs::File::open(root.path()).unwrap());
        clear(&fd, rustix::fs::fstat(&fd).unwrap().st_dev, MAX_DEPTH);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn what_is_on_another_device_stays() {
        let root = tree();
        let fd = OwnedFd::from(fs::File::open(root.path()).unwrap());
        clear(&fd, rustix::fs::fstat(&fd).unwrap().st_dev.wrapping_add(1), MAX_DEPTH);
        assert!(root.path().join("usr/lib/mmos/init").exists());
    }
}
