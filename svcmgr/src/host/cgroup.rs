//! A cgroup per service: who belongs to it, killing it whole, and when it is empty. cgroup v2 alone; see
//! `Documentation/admin-guide/cgroup-v2.rst`, "Core Interface Files".

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::sys;
use crate::unit::resources::{Resources, Setting, Totals};

/// So many of all tasks that the kernel can have may one service have that does not say (`TasksMax=`), in percent; as
/// with systemd (systemd-system.conf(5), `DefaultTasksMax=`).
const DEFAULT_TASKS: u64 = 15;

/// Processes may make others while they are told to end, which are then told, too; one that forks faster than it can be
/// told is left to SIGKILL, which hits all at once.
const ROUNDS: usize = 16;

/// In so many cgroups beneath a service's own its processes are looked for; with SIGKILL the kernel itself does.
const MOST_BENEATH: usize = 256;

/// The cgroups of all services, beneath one folder.
#[derive(Debug)]
pub struct Cgroups {
    folder: PathBuf,
    /// What is written into `pids.max` of a service that does not say.
    tasks: String,
    /// Killed whole, or that may be so, and not removed since: see [`Cgroups::takes_births`].
    killed: RefCell<BTreeSet<String>>,
    /// It has been tried to switch the controller on that counts tasks; whether that went does not change.
    counts_tasks: Cell<bool>,
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
        let tasks = all_tasks().saturating_mul(DEFAULT_TASKS) / 100;
        // Those that are there may have been killed by the supervisor before this one.
        let there = fs::read_dir(folder)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let killed = there.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        Ok(Cgroups {
            folder: folder.to_owned(),
            tasks: tasks.to_string(),
            killed: RefCell::new(killed),
            counts_tasks: Cell::new(false),
        })
    }

    /// The folder of a unit's cgroup, opened, made if need be; a new one with the unit's resources.
    pub fn open(&self, unit: &str, resources: Option<&Resources>, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
        let path = self.folder.join(unit);
        let is_new = match fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
        // One without its bounds is not left behind: the next time it would be taken for one that has them.
        let cgroup = rustix::fs::open(&path, flags, Mode::empty()).inspect_err(|_| {
            if is_new {
                let _ = fs::remove_dir(&path);
            }
        })?;
        if is_new && !resources.is_some_and(Resources::bounds_tasks) {
            self.bound_tasks(unit, &cgroup);
        }
        if let Some(resources) = resources.filter(|_| is_new) {
            self.share_out(unit, &path, resources, owner);
        }
        Ok(cgroup)
    }

    /// A service that forks without end takes its own share of all tasks, and leaves the others theirs.
    fn bound_tasks(&self, unit: &str, cgroup: &OwnedFd) {
        let bound = || -> io::Result<()> {
            let file = rustix::fs::openat(cgroup, "pids.max", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            File::from(file).write_all(self.tasks.as_bytes())
        };
        let is_missing =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
        let mut bounded = bound();
        if bounded.as_ref().is_err_and(is_missing) && !self.counts_tasks.replace(true) {
            match self.enable("pids") {
                Ok(()) => bounded = bound(),
                Err(error) => log::info!("how many tasks services may have is not bounded: {error}"),
            }
        }
        if let Err(error) = bounded
            && !is_missing(&error)
        {
            log::warn!("{unit}: how many tasks it may have cannot be bounded: {error}");
        }
    }

    /// Writes down what a new cgroup may use. What the kernel does not take is told, and the service runs without.
    fn share_out(&self, unit: &str, path: &Path, resources: &Resources, owner: Option<(u32, u32)>) {
        for Setting { controller, file, text } in resources.settings(totals(), &device_numbers) {
            if let Err(error) = self.enable(controller).and_then(|()| fs::write(path.join(file), &text)) {
                log::warn!("{unit}: {file} of its cgroup cannot be set to {text:?}: {error}; it runs without");
            }
        }
        if resources.watches_memory()
            && let Err(error) = self.enable("memory")
        {
            log::warn!("{unit}: its memory cannot be watched: {error}; it runs without");
        }
        if resources.delegate {
            self.enable_all(unit);
            // cgroup-v2.rst, "Delegation Containment": the folder and these files of it.
            let (uid, gid) = owner.unwrap_or((0, 0));
            for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                if let Err(error) = std::os::unix::fs::chown(path.join(file), Some(uid), Some(gid)) {
                    log::warn!("{unit}: its cgroup cannot be given to its user (Delegate=): {error}");
                }
            }
        }
    }

    /// Switches all controllers on that there are: whom a cgroup is given may want any of them.
    fn enable_all(&self, unit: &str) {
        let all = fs::read_to_string(self.folder.join("cgroup.controllers")).unwrap_or_default();
        let above = self.folder.parent().map(|folder| folder.join("cgroup.controllers"));
        let above = above.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let names: BTreeSet<&str> = all.split_whitespace().chain(above.split_whitespace()).collect();
        for controller in names {
            if let Err(error) = self.enable(controller) {
                log::debug!("{unit}: controller {controller}: {error}");
            }
        }
    }

    /// Switches a controller on for the units' cgroups: not before one needs it, since each costs every cgroup.
    fn enable(&self, controller: &str) -> io::Result<()> {
        let is_on = |folder: &Path, file: &str| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            text.split_whitespace().any(|word| word == controller)
        };
        // From the root of the hierarchy down to where the units are.
        let mut folders: Vec<&Path> =
            self.folder.ancestors().take_while(|folder| folder.join("cgroup.controllers").exists()).collect();
        folders.reverse();
        for folder in folders.into_iter().filter(|folder| !is_on(folder, "cgroup.subtree_control")) {
            if !is_on(folder, "cgroup.controllers") {
                return Err(io::Error::other(format!("the kernel has no controller {controller} there")));
            }
            fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
        Ok(())
    }

    /// Opens the file that tells how often the kernel ended processes of a unit for want of memory.
    pub fn memory_events(&self, unit: &str) -> io::Result<MemoryEvents> {
        let mut events = MemoryEvents { file: File::open(self.folder.join(unit).join("memory.events"))?, killed: 0 };
        events.killed = events.read()?;
        Ok(events)
    }

    /// Whether processes may be born into a unit's cgroup. Not after `cgroup.kill`: seen on Linux 6.18, each child
    /// that is born into a cgroup that was ever killed whole (`CLONE_INTO_CGROUP`) is killed at birth.
    pub fn takes_births(&self, unit: &str) -> bool {
        !self.killed.borrow().contains(unit)
    }

    /// Removes a unit's empty cgroup; the next one of the same name begins anew, and takes births.
    pub fn remove(&self, unit: &str) {
        let path = self.folder.join(unit);
        // Those that the service made in its own (`Delegate=`) first.
        let removed = match fs::remove_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let mut removed = Err(error);
                for folder in beneath(&path).iter().rev() {
                    // What the last of them says, the unit's own, is what counts.
                    removed = fs::remove_dir(folder);
                }
                removed
            }
            result => result,
        };
        match removed {
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

    /// The processes of a unit's cgroup and of those beneath it; none if there is no cgroup.
    pub fn processes(&self, unit: &str) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        for folder in beneath(&self.folder.join(unit)) {
            match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // A threaded one: its processes are told by the one above it.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
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
        let mut sent = Ok(());
        let mut told = BTreeSet::new();
        for _ in 0..ROUNDS {
            let before = told.len();
            for pid in self.processes(unit)? {
                if !told.insert(pid) {
                    continue;
                }
                // It may have ended meanwhile.
                if let Err(error) = sys::kill(pid, signal)
                    && error.raw_os_error() != Some(libc::ESRCH)
                {
                    sent = Err(error);
                }
                if signal != libc::SIGKILL {
                    let _ = sys::kill(pid, libc::SIGCONT);
                }
            }
            if told.len() == before {
                break;
            }
        }
        sent
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

/// `memory.events` of a unit; the kernel marks it (`EPOLLPRI`) whenever it changes.
#[derive(Debug)]
pub struct MemoryEvents {
    /// The file.
    pub file: File,
    killed: u64,
}

impl MemoryEvents {
    /// Whether a process was ended since this was last asked.
    ///
    /// # Errors
    /// When the file cannot be read: the cgroup is gone.
    pub fn has_killed(&mut self) -> io::Result<bool> {
        let killed = self.read()?;
        Ok(killed > std::mem::replace(&mut self.killed, killed))
    }

    fn read(&mut self) -> io::Result<u64> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(killed.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
    }
}

/// A cgroup and those beneath it, each before those in it.
fn beneath(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).filter(|_| next < MOST_BENEATH) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let found: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        all.extend(found);
        next = next.saturating_add(1);
    }
    all
}

/// What there is on this machine: bytes of memory, and tasks.
fn totals() -> Totals {
    let pages = rustix::system::sysinfo();
    let memory = pages.totalram.saturating_mul(u64::from(pages.mem_unit).max(1));
    Totals { memory, tasks: all_tasks() }
}

/// How many tasks the kernel can have.
fn all_tasks() -> u64 {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].map(number);
    limits.into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// `MAJOR:MINOR` of a block device, or of the one that a path lies on.
fn device_numbers(path: &str) -> Option<String> {
    let found = rustix::fs::stat(path).inspect_err(|error| log::warn!("{path}: {error}; it is not limited")).ok()?;
    let is_block = rustix::fs::FileType::from_raw_mode(found.st_mode).is_block_device();
    let number = if is_block { found.st_rdev } else { found.st_dev };
    Some(format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::resources::{Amount, Amounts, Weights};

    #[test]
    fn a_new_cgroup_gets_what_the_unit_may_use_and_its_controllers_are_switched_on() {
        // Folders and files as the kernel has them, but for the writing, which only root may do to the real ones.
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mmos");
        fs::create_dir(&folder).unwrap();
        for file in ["cgroup.controllers", "mmos/cgroup.controllers"] {
            fs::write(dir.path().join(file), "cpuset cpu memory pids\n").unwrap();
        }
        for file in ["mmos/cgroup.procs", "cgroup.subtree_control", "mmos/cgroup.subtree_control"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let cgroups = Cgroups::new(&folder).unwrap();
        let mut resources = Resources::default();
        resources.set_amount(Amounts::MemoryMax, Amount::Number(4096));
        resources.set_weight(Weights::Io, 50);
        cgroups.open("x.service", Some(&resources), None).unwrap();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap_or_default();
        assert_eq!(read("mmos/x.service/memory.max"), "4096");
        assert_eq!(
            (read("cgroup.subtree_control"), read("mmos/cgroup.subtree_control")),
            ("+memory".into(), "+memory".into())
        );
        // There is no such controller: the service runs without.
        assert_eq!(read("mmos/x.service/io.weight"), "");
    }

    #[test]
    fn a_process_that_the_kernel_ended_for_want_of_memory_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.events");
        fs::write(&path, "low 0\nmax 3\noom 1\noom_kill 1\n").unwrap();
        let mut events = MemoryEvents { file: File::open(&path).unwrap(), killed: 1 };
        assert!(!events.has_killed().unwrap());
        fs::write(&path, "low 0\nmax 3\noom 1\noom_kill 3\n").unwrap();
        assert!(events.has_killed().unwrap() && !events.has_killed().unwrap());
    }
}
