//! A cgroup per service: who belongs to it, killing it whole, and when it is empty. cgroup v2 alone; see
//! `Documentation/admin-guide/cgroup-v2.rst`, "Core Interface Files".

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::sys;

/// The cgroups of all services, beneath one folder.
#[derive(Debug)]
pub struct Cgroups {
    folder: PathBuf,
    /// Killed whole, and not removed since: see [`Cgroups::takes_births`].
    killed: RefCell<BTreeSet<String>>,
}

impl Cgroups {
    /// Uses `folder`, making it if need be.
    ///
    /// # Errors
    /// When it is not in a cgroup v2 hierarchy, or may not be written.
    pub fn new(folder: &Path) -> io::Result<Cgroups> {
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // A folder elsewhere has no such file.
        fs::metadata(folder.join("cgroup.procs"))?;
        Ok(Cgroups { folder: folder.to_owned(), killed: RefCell::default() })
    }

    /// The folder of a unit's cgroup, opened, made if need be.
    pub fn open(&self, unit: &str) -> io::Result<OwnedFd> {
        let path = self.folder.join(unit);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        Ok(rustix::fs::open(&path, flags, Mode::empty())?)
    }

    /// Whether processes may be born into a unit's cgroup. Not after `cgroup.kill`: seen on Linux 6.18, each child
    /// that is born into a cgroup that was ever killed whole (`CLONE_INTO_CGROUP`) is killed at birth.
    pub fn takes_births(&self, unit: &str) -> bool {
        !self.killed.borrow().contains(unit)
    }

    /// Removes a unit's empty cgroup; the next one of the same name begins anew, and takes births.
    pub fn remove(&self, unit: &str) {
        match fs::remove_dir(self.folder.join(unit)) {
            Ok(()) => {
                self.killed.borrow_mut().remove(unit);
            }
            // It stays, with cgroups beneath it, or somebody looks at it. Nothing is lost by that.
            Err(error) => log::debug!("{unit}: its empty cgroup stays: {error}"),
        }
    }

    /// Puts a process into a unit's cgroup.
    pub fn add(&self, unit: &str, pid: i32) -> io::Result<()> {
        fs::write(self.folder.join(unit).join("cgroup.procs"), pid.to_string())
    }

    /// The processes of a unit's cgroup; none if there is no cgroup.
    pub fn processes(&self, unit: &str) -> io::Result<Vec<i32>> {
        match fs::read_to_string(self.folder.join(unit).join("cgroup.procs")) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to all processes of a unit's cgroup and of the cgroups beneath it; SIGKILL hits them at once,
    /// so that none can fork away.
    pub fn signal(&self, unit: &str, signal: i32) -> io::Result<()> {
        let folder = self.folder.join(unit);
        if signal == libc::SIGKILL {
            match fs::write(folder.join("cgroup.kill"), "1") {
                Ok(()) => {
                    self.killed.borrow_mut().insert(unit.to_owned());
                    return Ok(());
                }
                // No cgroup: nothing to kill, or a kernel before 5.14.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::warn!("{}: cgroup.kill: {error}; killing one by one", folder.display()),
            }
        }
        for pid in self.processes(unit)? {
            // It may have ended meanwhile.
            let _ = sys::kill(pid, signal);
            if signal != libc::SIGKILL {
                let _ = sys::kill(pid, libc::SIGCONT);
            }
        }
        Ok(())
    }

    /// Opens the file that tells whether anybody is in a unit's cgroup; `None` if there is no cgroup.
    pub fn events(&self, unit: &str) -> io::Result<Option<Population>> {
        match File::open(self.folder.join(unit).join("cgroup.events")) {
            Ok(file) => Ok(Some(Population { file })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The unit in whose cgroup a process is.
    pub fn unit_of(&self, pid: i32) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        unit_in(&text, self.folder.file_name()?.to_str()?)
    }
}

/// The unit that the text of a `/proc/PID/cgroup` names; `ours` is the folder's last name.
pub fn unit_in(text: &str, ours: &str) -> Option<String> {
    // "0::/mmos/x.service/beneath": the path is relative to the hierarchy's mount, so that the last folder of ours is
    // what to look for.
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = path.split('/');
    parts.find(|part| *part == ours)?;
    parts.next().map(str::to_owned)
}

/// `cgroup.events` of a unit; the kernel marks it (`EPOLLPRI`) whenever it changes.
#[derive(Debug)]
pub struct Population {
    /// The file.
    pub file: File,
}

impl Population {
    /// Whether anybody is there.
    pub fn is_populated(&mut self) -> io::Result<bool> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        Ok(!text.lines().any(|line| line == "populated 0"))
    }
}
