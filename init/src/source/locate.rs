//! Finds the root image and makes it readable: waits for its device with the kernel's events, and mounts its file
//! system, read-only and only for as long as the image is read.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::devices::{BlockDevice, Places};
use super::protect::Protected;
use super::spec::{DeviceSpec, RootSpec};
use super::superblock;
use crate::inside::FileIn;
use crate::modules::Loader;
use crate::uevent::{Listener, Said};

/// Where the file system that holds the image is mounted; a folder of the initramfs that nothing else uses.
const MOUNT_POINT: &str = "/mmos-source";

/// How soon it is looked again where a device has not answered yet.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why there is no image to read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such file in the initramfs.
    #[error("the initramfs has no file {}: {source}", path.display())]
    NotInInitrd {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The device did not come.
    #[error("{device} did not appear within {seconds} s; {inventory}")]
    NoDevice {
        /// What was waited for.
        device: String,
        /// How long.
        seconds: u64,
        /// What is there instead.
        inventory: String,
    },
    /// The device holds no file system that could be mounted.
    #[error("/dev/{device} holds no file system that is known here, so {} cannot be looked for on it", path.display())]
    NoFileSystem {
        /// The device.
        device: String,
        /// The file that was to be found there.
        path: PathBuf,
    },
    /// The device cannot be read.
    #[error("/dev/{device} cannot be read: {source}")]
    Unreadable {
        /// The device.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// A mount might write to it.
    #[error("/dev/{device} cannot be made read-only, and no file system is mounted that could be written to: {source}")]
    Protect {
        /// The device.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused to mount it.
    #[error("the {kind} file system of /dev/{device} cannot be mounted read-only: {source}{modules}")]
    Mount {
        /// The device.
        device: String,
        /// What it holds.
        kind: &'static str,
        /// What went wrong with the file system's module, behind a "; ".
        modules: String,
        /// Why.
        source: io::Error,
    },
    /// The file system does not hold the file.
    #[error("the file system of /dev/{device} has no file {}: {source}", path.display())]
    NotOnDevice {
        /// The device.
        device: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Error::NotInInitrd { .. } => "Build the image again, or name another source with mmos.root=".into(),
            Error::NoDevice { .. } => "Check mmos.root=, the cable and the medium; raise mmos.rootwait= for a slow \
                                       device; add its driver to the image's modules"
                .into(),
            Error::NoFileSystem { .. } => "Without :/path the device itself is read as the image; with it the device \
                                           must hold ext2/3/4, vfat, exfat, squashfs, erofs, iso9660, xfs or btrfs"
                .into(),
            Error::Unreadable { .. } => "Check the medium, and put the image on it again".into(),
            Error::Protect { .. } => "Keep the image on a plain partition, or as the whole content of one".into(),
            Error::Mount { .. } => {
                "Add the file system's module to the image's modules, or repair the file system".into()
            }
            Error::NotOnDevice { .. } => "Copy the image there, or correct the path in mmos.root=".into(),
        }
    }
}

/// An image that can be read as long as this lives; dropped, its device is left alone again.
#[derive(Debug)]
pub struct Located {
    path: PathBuf,
    // Dropped in this order: what is mounted may write up to its end.
    _mount: Option<Mounted>,
    _protected: Option<Protected>,
}

impl Located {
    /// The file or device.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug)]
struct Mounted;

impl Drop for Mounted {
    fn drop(&mut self) {
        match rustix::mount::unmount(MOUNT_POINT, UnmountFlags::empty()) {
            Ok(()) => {
                let _ = std::fs::remove_dir(MOUNT_POINT);
            }
            Err(errno) => log::warn!("{MOUNT_POINT} is still in use, and stays mounted read-only: {errno}"),
        }
    }
}

/// Finds what `spec` names, waiting for a device up to `wait`. Drivers for devices that come meanwhile are loaded.
pub fn locate(
    spec: &RootSpec,
    wait: Duration,
    events: Option<&Listener>,
    modules: &mut Loader,
) -> Result<Located, Error> {
    let (device, path) = match spec {
        RootSpec::Initrd(path) => {
            let missing = |source| Error::NotInInitrd { path: path.clone(), source };
            let kind = std::fs::metadata(path).map_err(missing)?;
            if !kind.is_file() {
                return Err(missing(io::Error::other("it is not a file")));
            }
            return Ok(Located { path: path.clone(), _mount: None, _protected: None });
        }
        RootSpec::Device { device, path } => (device, path),
    };
    let places = Places::default();
    let found = wait_for(&places, device, wait, events, modules)?;
    let node = places.node(&found.name);
    let protected = Protected::hold(&node);
    match path {
        None => {
            // Nothing here writes to it; this is against what else runs on the device.
            let protected =
                protected.map_err(|error| log::warn!("{} is not made read-only: {error}", node.display())).ok();
            Ok(Located { path: node, _mount: None, _protected: protected })
        }
        Some(path) => {
            let protected = protected.map_err(|source| Error::Protect { device: found.name.clone(), source })?;
            mount(&found, &node, path, modules, protected)
        }
    }
}

/// Looks for the device now, and again after each event that could have brought it, until the wait is over.
fn wait_for(
    places: &Places,
    spec: &DeviceSpec,
    wait: Duration,
    events: Option<&Listener>,
    modules: &mut Loader,
) -> Result<BlockDevice, Error> {
    let deadline = Instant::now().checked_add(wait);
    let mut told = false;
    loop {
        if let Some(found) = places.find(spec) {
            return Ok(found);
        }
        let left = deadline.map_or(wait, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            let inventory = places.inventory();
            return Err(Error::NoDevice { device: spec.to_string(), seconds: wait.as_secs(), inventory });
        }
        if !told {
            log::info!("waiting up to {} s for {spec}", wait.as_secs());
            told = true;
        }
        // That a silent device answers is no event.
        next_change(events, if places.is_waiting() { left.min(LOOK_AGAIN) } else { left }, modules);
    }
}

/// Returns when a block device came or changed, when a driver was loaded, or when the time is over.
fn next_change(events: Option<&Listener>, wait: Duration, modules: &mut Loader) {
    let deadline = Instant::now().checked_add(wait);
    loop {
        let left = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = rustix::event::Timespec::try_from(left).ok();
        let mut fds: Vec<PollFd<'_>> = events.iter().map(|events| PollFd::new(*events, PollFlags::IN)).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return,
            Err(errno) if errno != Errno::INTR => {
                log::warn!("waiting for devices: {errno}");
                return;
            }
            Ok(_) | Err(_) => {}
        }
        let mut changed = false;
        let mut warnings = Vec::new();
        while let Some(events) = events {
            match events.receive() {
                Ok(Said::Event(event)) => {
                    changed |= event.subsystem == "block";
                    if let Some(modalias) = event.modalias.filter(|_| event.action == "add") {
                        warnings.extend(modules.load_for(&modalias));
                    }
                }
                Ok(Said::Lost) => {
                    changed = true;
                    warnings.extend(modules.load_for_devices());
                }
                Ok(Said::Nothing) => break,
                Err(error) => {
                    log::warn!("events about devices: {error}");
                    break;
                }
            }
        }
        for warning in warnings {
            log::warn!("{warning}");
        }
        if changed {
            return;
        }
    }
}

fn mount(
    found: &BlockDevice,
    node: &Path,
    path: &Path,
    modules: &mut Loader,
    protected: Protected,
) -> Result<Located, Error> {
    let device = found.name.clone();
    let probed = std::fs::File::open(node).and_then(|mut file| superblock::probe(&mut file));
    let kind = match probed {
        Ok(Some(file_system)) => file_system.kind,
        Ok(None) => return Err(Error::NoFileSystem { device, path: path.to_owned() }),
        Err(source) => return Err(Error::Unreadable { device, source }),
    };
    for helper in kind.helpers() {
        // Which of them the kernel was built to ask for is not told anywhere; those that are missing are not needed.
        let _ = modules.load(helper, "");
    }
    // It may be left from an attempt before; what matters is that it is there.
    let _ = std::fs::create_dir(MOUNT_POINT);
    let mut first = None;
    let mut told = String::new();
    for driver in kind.drivers() {
        if let Err(warning) = modules.load_file_system(driver)
            && told.is_empty()
        {
            told = format!("; {warning}");
        }
        let options = std::ffi::CString::new(kind.options(driver)).unwrap_or_default();
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        match rustix::mount::mount(node, MOUNT_POINT, *driver, flags, options.as_c_str()) {
            Ok(()) => {
                log::debug!("/dev/{device} mounted read-only as {driver}");
                return inside(device, path, Mounted, protected);
            }
            Err(errno) => first = first.or(Some((*driver, errno))),
        }
    }
    let (kind, errno) = first.unwrap_or(("", Errno::NODEV));
    // Where the driver is there, what was said about its module is of no use.
    let modules = if errno == Errno::NODEV { told } else { String::new() };
    Err(Error::Mount { device, kind, source: errno.into(), modules })
}

/// The image in the mounted file system. Links are followed as if that were the root: none leads out of it.
fn inside(device: String, path: &Path, mount: Mounted, protected: Protected) -> Result<Located, Error> {
    match FileIn::find(Path::new(MOUNT_POINT), path).and_then(|file| file.path()) {
        Ok(path) => Ok(Located { path, _mount: Some(mount), _protected: Some(protected) }),
        Err(source) => {
            // Before the device can be written again.
            drop(mount);
            Err(Error::NotOnDevice { device, path: path.to_owned(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_initramfs_lacks_is_named() {
        let mut modules = Loader::new("/nonexistent".into());
        let spec = "initrd:/no/such.wim".parse().unwrap();
        let error = locate(&spec, Duration::ZERO, None, &mut modules).unwrap_err();
        assert!(error.to_string().contains("/no/such.wim"), "{error}");
        assert!(!error.remedy().is_empty());
    }

    #[test]
    fn a_device_that_never_comes_ends_the_wait_in_time() {
        let places = Places::at("/nonexistent", "/dev");
        let mut modules = Loader::new("/nonexistent".into());
        let spec = DeviceSpec::PartLabel("images".into());
        let begin = Instant::now();
        let error = wait_for(&places, &spec, Duration::from_millis(30), None, &mut modules).unwrap_err();
        assert!(begin.elapsed() >= Duration::from_millis(30));
        assert!(error.to_string().contains("PARTLABEL=images did not appear"), "{error}");
        assert!(error.to_string().contains("no block device is there"), "{error}");
    }
}
