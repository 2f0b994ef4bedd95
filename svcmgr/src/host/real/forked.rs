//! The process that a service of `Type=forking` left: systemd.service(5), `PIDFile=` and `GuessMainPID=`.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::epoll::EventFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::RealHost;
use super::children::stat_field;
use crate::graph::UnitId;
use crate::host::Found;
use crate::host::files::read_small;
use crate::host::token::Token;
use crate::unit::Unit;

/// A PID file is no longer: a number, and white space.
const PID_FILE: u64 = 64;

impl RealHost {
    /// Looks for it; watches its PID file if that names none yet.
    pub(super) fn look_for_main(&mut self, id: UnitId, unit: &Unit) -> Found {
        let pid = match &unit.service.pid_file {
            Some(path) => {
                // Watched first, so that what is written meanwhile is seen.
                self.watch_pid_file(id, unit, Path::new(path));
                match self.named_by(unit, Path::new(path)) {
                    Some(pid) => pid,
                    None => return Found::Later,
                }
            }
            None if unit.service.guess_main_pid => match self.only_one(unit) {
                Some(pid) => pid,
                None => return Found::Unknown,
            },
            None => return Found::Unknown,
        };
        self.pid_files.remove(&id);
        match self.rename_main(id, pid) {
            Ok(process) => Found::Main(process),
            // It ended while we looked. Its PID file may yet name another; without one, all of its processes count.
            Err(_) if unit.service.pid_file.is_some() => Found::Later,
            Err(_) => Found::Unknown,
        }
    }

    /// What happened to the folder of a PID file has been seen.
    pub fn read_pid_watch(&self, id: UnitId) {
        if let Some((fd, _)) = self.pid_files.get(&id) {
            let mut buffer = [0; 4096];
            while rustix::io::read(fd, &mut buffer).is_ok_and(|n| n > 0) {}
        }
    }

    fn watch_pid_file(&mut self, id: UnitId, unit: &Unit, path: &Path) {
        // The folder may have to be made by the service itself: until then the nearest one that there is.
        let Some(folder) = path.ancestors().skip(1).find(|folder| folder.is_dir()) else { return };
        if self.pid_files.get(&id).is_some_and(|(_, watched)| watched == folder) {
            return;
        }
        let watched = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|fd| {
            let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY;
            inotify::add_watch(&fd, folder, flags)?;
            Ok(fd)
        });
        let result = watched.map_err(std::io::Error::from).and_then(|fd| {
            self.watch(fd.as_fd(), Token::PidFile(id), EventFlags::IN)?;
            Ok(fd)
        });
        match result {
            Ok(fd) => {
                self.pid_files.insert(id, (fd, folder.to_owned()));
            }
            Err(error) => log::warn!("{}: {} cannot be watched: {error}", unit.name, path.display()),
        }
    }

    /// The process that a PID file names, if it is one of the unit's. Whoever is not root may write into a file that is
    /// not root's, and must not have us watch, and end, any process.
    fn named_by(&self, unit: &Unit, path: &Path) -> Option<i32> {
        let (text, found) = match read_small(path, PID_FILE, true) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                log::warn!("{}: {} is no PID file: {error}", unit.name, path.display());
                return None;
            }
        };
        let pid: i32 = text.split_whitespace().next()?.parse().ok().filter(|pid| *pid > 1)?;
        stat_field(pid, 4)?;
        let is_roots = found.uid() == 0;
        let belongs = self.unit_of(pid).is_some_and(|name| name == unit.name);
        if !belongs && !is_roots {
            log::warn!("{}: {} names {pid}, which is no process of it, ignored", unit.name, path.display());
            return None;
        }
        // From another run, with a number that another service has now.
        self.role_of(pid).is_none().then_some(pid)
    }

    /// The only process of a unit that is nobody's child but ours or PID 1's.
    fn only_one(&self, unit: &Unit) -> Option<i32> {
        let ours = u64::from(std::process::id());
        let all = self.cgroups.as_ref()?.processes(&unit.name).ok()?;
        let mut orphans =
            all.into_iter().filter(|pid| stat_field(*pid, 4).is_some_and(|parent| parent == 1 || parent == ours));
        let first = orphans.next()?;
        orphans.next().is_none().then_some(first)
    }
}
