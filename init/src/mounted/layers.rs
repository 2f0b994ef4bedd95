//! The layers of the root: the image, a tmpfs for what is written, and the overlay of both
//! (`Documentation/filesystems/overlayfs.rst`). The two are mounted where the overlay finds them, and let go of as soon
//! as it has: it keeps each of them by a mount of its own, which nobody else sees.

use std::ffi::CString;
use std::fs::{File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use wim::filesystem::Kind;

use super::loopback::Loop;
use super::{Error, find};
use crate::memory::Limits;

/// Where the image is mounted until the overlay has it; a folder of the initramfs.
const IMAGE: &str = "/mmos-image";
/// Where the tmpfs is mounted until the overlay has it; likewise.
const CHANGES: &str = "/mmos-changes";
/// The folder of the tmpfs that lies over the image.
const UPPER: &str = "/mmos-changes/upper";
/// The folder of the tmpfs that the kernel works in.
const WORK: &str = "/mmos-changes/work";
/// So that it is as one file system to all who use it: folders of the image can be renamed, and all files have the same
/// device number. Both are since Linux 4.17 at the latest.
const OPTIONS: &str = "redirect_dir=on,xino=on";
/// Attributes by which the overlay itself knows what to do.
const OWN_ATTRIBUTES: &[u8] = b"trusted.overlay.";
/// `XATTR_LIST_MAX`, `XATTR_SIZE_MAX` of `<linux/limits.h>`.
const ATTRIBUTES_MAX: usize = 64 << 10;

/// Why there are no layers.
#[derive(Debug)]
pub enum Failure {
    /// The image itself was refused.
    Image(io::Error),
    /// What lies over it.
    Overlay(&'static str, io::Error),
}

impl Failure {
    /// As an error of an image of that kind.
    pub fn of(self, kind: Kind, compression: &str) -> Error {
        match self {
            Failure::Image(source) => Error::Mount { kind, compression: compression.to_owned(), source },
            Failure::Overlay(action, source) => Error::Overlay { action, source },
        }
    }
}

/// Mounts the file system in `device`, and over it a tmpfs within `limits`, on `target`.
pub fn mount(device: &Loop, kind: Kind, target: &str, limits: Limits) -> Result<(), Failure> {
    for folder in [IMAGE, CHANGES, target] {
        let _ = std::fs::create_dir(folder);
    }
    rustix::mount::mount(device.node(), IMAGE, kind.name(), MountFlags::RDONLY, c"")
        .map_err(|errno| Failure::Image(errno.into()))?;
    let failed = |action| move |error: io::Error| Failure::Overlay(action, error);
    let size = format!("mode=0700,size={},nr_inodes={}", limits.bytes, limits.inodes);
    let size = CString::new(size).unwrap_or_default();
    rustix::mount::mount("tmpfs", CHANGES, "tmpfs", MountFlags::empty(), size.as_c_str())
        .map_err(|errno| failed("mounting a tmpfs")(errno.into()))?;
    std::fs::create_dir(UPPER).and_then(|()| std::fs::create_dir(WORK)).map_err(failed("making its folders"))?;
    like(Path::new(IMAGE), Path::new(UPPER)).map_err(failed("taking over what the image's root is like"))?;
    let options = format!("lowerdir={IMAGE},upperdir={UPPER},workdir={WORK},{OPTIONS}");
    let options = CString::new(options).unwrap_or_default();
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(|errno| failed("mounting it")(errno.into()))?;
    for layer in [CHANGES, IMAGE] {
        if let Err(errno) = rustix::mount::unmount(layer, UnmountFlags::empty()) {
            // Nothing depends on it: the place where it is mounted goes with the initramfs.
            log::warn!("{layer} stays mounted: {errno}");
        }
        let _ = std::fs::remove_dir(layer);
    }
    Ok(())
}

/// Lets go of what a mount that failed has left.
pub fn discard() {
    for layer in [CHANGES, IMAGE] {
        let _ = rustix::mount::unmount(layer, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(layer);
    }
}

/// Makes the folder `to` what `from` is: the root's own mode, owner, times and attributes are those of the upper layer.
fn like(from: &Path, to: &Path) -> io::Result<()> {
    let meta = std::fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()))?;
    std::fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777))?;
    let mut list = vec![0; ATTRIBUTES_MAX];
    let length = match rustix::fs::listxattr(from, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut value = vec![0; ATTRIBUTES_MAX];
    for name in list.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(OWN_ATTRIBUTES) {
            continue;
        }
        let copied = rustix::fs::getxattr(from, name, &mut value[..]).and_then(|length| {
            let value = value.get(..length).unwrap_or_default();
            rustix::fs::setxattr(to, name, value, rustix::fs::XattrFlags::empty())
        });
        if let Err(errno) = copied {
            log::warn!("attribute {} of the root is lost: {errno}", String::from_utf8_lossy(name));
        }
    }
    File::open(to)?.set_times(FileTimes::new().set_accessed(meta.accessed()?).set_modified(meta.modified()?))
}

/// Takes the file `path` of the tree at `root`, if there is one, out of the image into the tmpfs: the overlay copies a
/// file as soon as it is opened to be written, all of it or with an error.
pub fn keep(root: &Path, path: &str) -> io::Result<()> {
    match find(root, path) {
        Some(file) => File::options().write(true).open(file).map(drop),
        None => Ok(()),
    }
}
