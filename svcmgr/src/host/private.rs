//! Folders that services have for themselves, beneath `/run/mmos/private`, where nobody but root can go and so nobody can
//! be beforehand: `UNIT/tmp` and `UNIT/var-tmp` for `PrivateTmp=`, and `.shared`, which holds what is seen instead of
//! what may not be seen.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::MountFlags;

/// The devices of `PrivateDevices=`: name and number; `Documentation/admin-guide/devices.txt`.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links that programs expect in `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Where all private folders are.
#[derive(Debug)]
pub struct Private {
    folder: PathBuf,
    /// It gets a file system of its own with the first of them.
    apart: bool,
}

impl Private {
    /// Beneath the run folder `run`.
    pub fn new(run: &Path) -> Private {
        Private { folder: run.join("private"), apart: false }
    }

    /// In a file system of their own: what services write there must not take the room of what the supervisor writes down,
    /// and programs can be executed in it, and devices opened.
    pub fn keep_apart(&mut self) {
        self.apart = true;
    }

    fn prepare(&self) -> io::Result<()> {
        if !self.apart {
            return Ok(());
        }
        make(&self.folder)?;
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
        let above = self.folder.parent().map(device).transpose()?;
        if above == Some(device(&self.folder)?) {
            // Half of the memory, as /tmp.
            let options = c"mode=0700,size=50%";
            rustix::mount::mount("tmpfs", &self.folder, "tmpfs", MountFlags::NOSUID, options)?;
        }
        Ok(())
    }

    /// The folder of what all services share, made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn shared(&self) -> io::Result<String> {
        let shared = self.folder.join(".shared");
        self.prepare()?;
        // Last made, so that what is there is whole.
        if !shared.exists() {
            self.make_shared(&shared)?;
        }
        text(&shared)
    }

    /// The folder of a unit, with its own `tmp` and `var-tmp`, made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn of(&self, unit: &str) -> io::Result<String> {
        self.prepare()?;
        let folder = self.folder.join(unit);
        for name in ["tmp", "var-tmp"] {
            let own = folder.join(name);
            make(&own)?;
            fs::set_permissions(&own, Permissions::from_mode(0o1777))?;
        }
        text(&folder)
    }

    /// Removes what a unit left.
    pub fn remove(&self, unit: &str) {
        match fs::remove_dir_all(self.folder.join(unit)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{unit}: its private folders stay: {error}");
            }
            _ => {}
        }
    }

    fn make_shared(&self, shared: &Path) -> io::Result<()> {
        let next = self.folder.join(".next");
        match fs::remove_dir_all(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let dev = next.join("dev");
        make(&dev)?;
        fs::set_permissions(&dev, Permissions::from_mode(0o755))?;
        for (name, major, minor) in DEVICES {
            let path = dev.join(name);
            let number = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)?;
            fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        }
        for (name, target) in LINKS {
            symlink(target, dev.join(name))?;
        }
        for name in ["pts", "shm", "mqueue", "hugepages"] {
            make(&dev.join(name))?;
            fs::set_permissions(dev.join(name), Permissions::from_mode(0o755))?;
        }
        // What the host's log socket is put on.
        fs::write(dev.join("log"), "")?;
        make(&next.join("dir"))?;
        fs::set_permissions(next.join("dir"), Permissions::from_mode(0o000))?;
        fs::write(next.join("file"), "")?;
        fs::set_permissions(next.join("file"), Permissions::from_mode(0o000))?;
        fs::rename(next, shared)
    }
}

/// Makes a folder and those above it, for root alone.
fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn text(path: &Path) -> io::Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| io::Error::other(format!("{} is not UTF-8", path.display())))
}
