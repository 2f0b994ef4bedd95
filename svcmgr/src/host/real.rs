//! The real system: processes by pidfd, cgroups, state files, PID 1's descriptor store, all on one epoll descriptor.

mod children;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use link::{Channel, ToInit};
use rustix::event::epoll::{self, EventFlags};
use rustix::process::{WaitId, WaitIdOptions};

use super::cgroup::{Cgroups, Population};
use super::spawn::{self, Surroundings};
use super::sys;
use super::token::Token;
use super::{Host, Launch};
use crate::graph::UnitId;
use crate::log::lines::Style;
use crate::log::pipes::Pipes;
use crate::log::store::{Bounds, Store};
use crate::machine::{BootSummary, Machine, Now, Process, Role, UnitState};
use crate::unit::{KillMode, Limit, Output, Unit};
pub use children::Adopted;
use children::Child;

/// The real system.
#[derive(Debug)]
pub struct RealHost {
    /// All that is waited for.
    pub epoll: OwnedFd,
    /// What services write.
    pub pipes: Pipes,
    /// What is kept of all that is said.
    pub store: Store,
    /// How many descriptors a service may have that does not say.
    pub descriptors: Option<Limit>,
    channel: Option<Channel>,
    root: PathBuf,
    run: PathBuf,
    notify: String,
    cgroups: Option<Cgroups>,
    null: OwnedFd,
    kmsg: Option<OwnedFd>,
    children: HashMap<(UnitId, Role), Child>,
    pids: HashMap<i32, (UnitId, Role)>,
    populations: HashMap<UnitId, Population>,
    /// Without cgroups: the process groups of each unit, and the units whose groups must be looked at now and then.
    groups: HashMap<UnitId, Vec<i32>>,
    lingering: Vec<UnitId>,
}

impl RealHost {
    /// Beneath `run`, with the channel to PID 1 if there is one, and cgroups where they can be had.
    pub fn new(
        root: &Path,
        run: &Path,
        cgroup: Option<&Path>,
        bounds: Bounds,
        channel: Option<Channel>,
    ) -> io::Result<RealHost> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for folder in [run.to_owned(), run.join("state")] {
            if let Err(error) = fs::create_dir_all(&folder) {
                log::error!("{} cannot be made: {error}", folder.display());
            }
        }
        let cgroups = cgroup.and_then(|folder| match Cgroups::new(folder) {
            Ok(cgroups) => Some(cgroups),
            Err(error) => {
                log::warn!("no cgroups in {}: {error}; services are held together by process groups", folder.display());
                None
            }
        });
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
        let host = RealHost {
            epoll,
            pipes: Pipes::default(),
            store: Store::open(&run.join("log"), bounds),
            descriptors: None,
            channel,
            root: root.to_owned(),
            run: run.to_owned(),
            notify: run.join("notify").display().to_string(),
            cgroups,
            null,
            kmsg: None,
            children: HashMap::new(),
            pids: HashMap::new(),
            populations: HashMap::new(),
            groups: HashMap::new(),
            lingering: Vec::new(),
        };
        if let Some(channel) = &host.channel {
            host.watch(channel.as_fd(), Token::Init, EventFlags::IN)?;
        }
        Ok(host)
    }

    /// Watches a descriptor.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: Token, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, token.data(), flags)?)
    }

    /// The channel to PID 1.
    pub fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    /// PID 1's end is gone: there is nobody to speak to.
    pub fn drop_channel(&mut self) {
        self.channel = None;
    }

    /// Gives a descriptor to PID 1 to keep.
    pub fn store(&self, name: &str, fd: BorrowedFd<'_>) {
        if let Some(channel) = &self.channel
            && let Err(error) = channel.send(&ToInit::Store(name.to_owned()), Some(fd))
        {
            log::warn!("PID 1 cannot keep the descriptor {name}: {error}");
        }
    }

    /// Takes over the reading end of a unit's pipe.
    ///
    /// # Errors
    /// When its writing end cannot be had.
    pub fn adopt_output(&mut self, id: UnitId, unit: Option<&Unit>, reader: OwnedFd) -> io::Result<()> {
        let Some(unit) = unit else { return Ok(()) };
        let to_console = [unit.service.output, unit.service.error].contains(&Output::LogAndConsole);
        self.pipes.adopt(&mut self.store, id, &unit.name, Style::default(), to_console, reader)
    }

    /// The unit and role of a process that we know.
    pub fn role_of(&self, pid: i32) -> Option<(UnitId, Role)> {
        self.pids.get(&pid).copied()
    }

    /// The name of the unit in whose cgroup a process is.
    pub fn unit_of(&self, pid: i32) -> Option<String> {
        self.cgroups.as_ref()?.unit_of(pid)
    }

    /// What is kept of all that is said, and who knows who said it.
    pub fn store_and_finder(&mut self) -> (&mut Store, Finder<'_>) {
        (&mut self.store, Finder { pids: &self.pids, cgroups: self.cgroups.as_ref() })
    }

    /// Whether a unit that was waited for is empty now.
    pub fn is_empty_now(&mut self, id: UnitId, unit: &Unit) -> bool {
        let Some(population) = self.populations.get_mut(&id) else { return false };
        match population.is_populated() {
            Ok(true) => false,
            Ok(false) | Err(_) => {
                self.populations.remove(&id);
                if let Some(cgroups) = &self.cgroups {
                    cgroups.remove(&unit.name);
                }
                true
            }
        }
    }

    /// Without cgroups: the units of those that linger whose process groups are gone now.
    pub fn lingering(&mut self) -> Vec<UnitId> {
        let groups = &mut self.groups;
        let (gone, left) =
            std::mem::take(&mut self.lingering).into_iter().partition(|id| !any_alive(groups.get_mut(id)));
        self.lingering = left;
        gone
    }

    /// Whether [`RealHost::lingering`] has to be asked again soon.
    pub fn has_lingering(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// The states that the supervisor before this one wrote down, by unit.
    pub fn states(&self) -> BTreeMap<String, UnitState> {
        let mut states = BTreeMap::new();
        let Ok(entries) = fs::read_dir(self.run.join("state")) else { return states };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let read = fs::read(entry.path()).map_err(|error| error.to_string());
            match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
                Ok(state) => {
                    states.insert(name, state);
                }
                Err(error) => log::error!("{}: not a unit's state: {error}", entry.path().display()),
            }
        }
        states
    }

    /// How the boot went, if it was complete before the supervisor died.
    pub fn boot_summary(&self) -> Option<BootSummary> {
        let bytes = fs::read(self.run.join("boot-complete")).ok()?;
        serde_json::from_slice(&bytes).inspect_err(|error| log::error!("how the boot went is lost: {error}")).ok()
    }
}

/// Knows the units of processes.
#[derive(Debug, Clone, Copy)]
pub struct Finder<'a> {
    pids: &'a HashMap<i32, (UnitId, Role)>,
    cgroups: Option<&'a Cgroups>,
}

impl Finder<'_> {
    /// The name of a process's unit.
    pub fn unit_of(&self, machine: &Machine, pid: i32) -> Option<String> {
        // One that we started is known even if it has ended, as long as that was not heard.
        let by_pid = self.pids.get(&pid).and_then(|(id, _)| machine.unit(*id));
        by_pid
            .map(|unit| unit.name.clone())
            .or_else(|| self.cgroups?.unit_of(pid).filter(|name| machine.find(name).is_some()))
    }
}

impl Host for RealHost {
    fn now(&self) -> Now {
        use rustix::time::{ClockId, clock_gettime};
        let t = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
        let mono = seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000);
        Now { mono, boot: link::boot::now_us() }
    }

    fn spawn(&mut self, launch: &Launch<'_>) -> Result<Process, String> {
        let service = &launch.unit.service;
        let uses = |kind| service.output == kind || service.error == kind;
        if uses(Output::Kmsg) && self.kmsg.is_none() {
            self.kmsg = fs::OpenOptions::new().write(true).open("/dev/kmsg").ok().map(OwnedFd::from);
        }
        let to_console = uses(Output::LogAndConsole);
        let (output, new) = self
            .pipes
            .pipe(&mut self.store, launch.id, &launch.unit.name, Style::default(), to_console)
            .map_err(|error| format!("no pipe for its output: {error}"))?;
        if let Some(reader) = new {
            epoll::add(&self.epoll, reader, Token::Output(launch.id).data(), EventFlags::IN)
                .map_err(|error| format!("its output cannot be watched: {error}"))?;
            if let Some(channel) = &self.channel {
                let name = format!("out:{}", launch.unit.name);
                if let Err(error) = channel.send(&ToInit::Store(name.clone()), Some(reader)) {
                    log::warn!("PID 1 cannot keep the descriptor {name}: {error}");
                }
            }
        }
        let around = Surroundings {
            root: &self.root,
            null: self.null.as_fd(),
            output,
            kmsg: self.kmsg.as_ref().map(AsFd::as_fd),
            notify: &self.notify,
            cgroups: self.cgroups.as_ref(),
            descriptors: self.descriptors,
        };
        let born = link::boot::now_us();
        let spawned = spawn::spawn(launch, &around)?;
        let key = (launch.id, launch.role);
        let watched =
            epoll::add(&self.epoll, &spawned.pidfd, Token::Process(launch.id, launch.role).data(), EventFlags::IN)
                .and_then(|()| {
                    let token = Token::Start(launch.id, launch.role);
                    epoll::add(&self.epoll, &spawned.socket, token.data(), EventFlags::IN)
                });
        if let Err(error) = watched {
            // Its socket closes, so that it ends unreleased; nobody else reaps it.
            let _ = sys::kill(spawned.pid, libc::SIGKILL);
            drop(spawned.socket);
            let _ = rustix::process::waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED);
            return Err(format!("its process cannot be watched: {error}"));
        }
        let child = Child {
            pid: spawned.pid,
            pidfd: Some(spawned.pidfd),
            socket: Some(spawned.socket),
            ours: true,
            unexecuted: false,
            program: launch.command.program.clone(),
            failure: None,
        };
        self.children.insert(key, child);
        self.pids.insert(spawned.pid, key);
        if self.cgroups.is_none() {
            self.groups.entry(launch.id).or_default().push(spawned.pid);
        }
        Ok(Process { pid: spawned.pid, born })
    }

    fn release(&mut self, id: UnitId, role: Role) {
        let Some(child) = self.children.get(&(id, role)) else { return };
        let Some(socket) = &child.socket else { return };
        if let Err(error) = rustix::net::send(socket, b"g", rustix::net::SendFlags::NOSIGNAL) {
            log::warn!("process {} could not be released: {error}", child.pid);
        }
    }

    fn signal(&mut self, id: UnitId, unit: &Unit, state: &UnitState, signal: i32) -> io::Result<()> {
        let hits_all = match unit.service.kill_mode {
            KillMode::ControlGroup => true,
            KillMode::Mixed => signal == libc::SIGKILL,
            KillMode::Process => false,
        };
        if !hits_all {
            for process in [state.main, state.control].into_iter().flatten() {
                // It may have ended meanwhile; not reaped, so that the number is still its own.
                let _ = sys::kill(process.pid, signal);
                let _ = sys::kill(process.pid, libc::SIGCONT);
            }
            return Ok(());
        }
        if let Some(cgroups) = &self.cgroups {
            cgroups.signal(&unit.name, signal)?;
        }
        // Those that no cgroup holds: all, where there are none.
        if let Some(groups) = self.groups.get(&id) {
            for pid in groups {
                // A process that was made just now leads no group yet, and is alone: it gets the signal itself. It is
                // ours and not reaped, so that the number is still its own.
                let is_child = self.pids.get(pid).is_some_and(|(owner, _)| *owner == id);
                for signal in [signal, libc::SIGCONT] {
                    if sys::kill(pid.saturating_neg(), signal).is_err() && is_child {
                        let _ = sys::kill(*pid, signal);
                    }
                }
            }
        }
        Ok(())
    }

    fn await_empty(&mut self, id: UnitId, unit: &Unit) -> io::Result<bool> {
        // What is not stopped is not waited for; main process and command are gone when this is asked.
        if unit.service.kill_mode == KillMode::Process {
            self.groups.remove(&id);
            if let Some(cgroups) = &self.cgroups {
                cgroups.remove(&unit.name);
            }
            return Ok(true);
        }
        if let Some(cgroups) = &self.cgroups {
            let Some(mut population) = cgroups.events(&unit.name)? else { return Ok(true) };
            if !population.is_populated()? {
                self.populations.remove(&id);
                self.groups.remove(&id);
                drop(population);
                cgroups.remove(&unit.name);
                return Ok(true);
            }
            // Anew each time: one from before may speak of a cgroup of the same name that is gone.
            self.watch(population.file.as_fd(), Token::Population(id), EventFlags::PRI)?;
            self.populations.insert(id, population);
            return Ok(false);
        }
        if any_alive(self.groups.get_mut(&id)) {
            if !self.lingering.contains(&id) {
                self.lingering.push(id);
            }
            return Ok(false);
        }
        self.groups.remove(&id);
        Ok(true)
    }

    fn persist(&mut self, unit: &Unit, state: &UnitState) -> io::Result<()> {
        let folder = self.run.join("state");
        let next = folder.join(format!(".{}", unit.name));
        fs::write(&next, serde_json::to_vec(state)?)?;
        fs::rename(next, folder.join(&unit.name))
    }

    fn persist_boot(&mut self, summary: &BootSummary) -> io::Result<()> {
        let next = self.run.join(".boot-complete");
        fs::write(&next, serde_json::to_vec(summary)?)?;
        fs::rename(next, self.run.join("boot-complete"))
    }

    fn tell_init(&mut self, message: &ToInit) -> io::Result<()> {
        match &self.channel {
            Some(channel) => channel.send(message, None),
            None => Ok(()),
        }
    }
}

/// Whether any process of these groups is there; forgets those that are not.
fn any_alive(groups: Option<&mut Vec<i32>>) -> bool {
    let Some(groups) = groups else { return false };
    groups.retain(|pid| sys::kill(pid.saturating_neg(), 0).is_ok());
    !groups.is_empty()
}
