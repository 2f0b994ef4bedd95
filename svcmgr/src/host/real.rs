//! The real system: processes by pidfd, cgroups, state files, PID 1's descriptor store, all on one epoll descriptor.

mod children;
mod forked;
mod kept;
mod names;
mod pid1;
mod readiness;
mod records;
mod sockets;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use link::{Channel, ToInit};
use rustix::event::epoll::{self, EventFlags};

use super::cgroup::{Cgroups, MemoryEvents, Population};
use super::conditions::{self, System};
use super::directories;
use super::passed::Passed;
use super::private::Private;
use super::shield::Shield;
use super::spawn::{self, Surroundings};
use super::sys;
use super::token::Token;
use super::users;
use super::{Connection, Found, Host, Launch};
use crate::graph::UnitId;
use crate::insist::insist;
use crate::log::lines::{LineLimit, Style};
use crate::log::pipes::Pipes;
use crate::log::store::{Bounds, Store};
use crate::machine::{BootSummary, Now, Phase, Process, Role, SocketWork, UnitState, Verdict};
use crate::unit::specifier::Machine;
use crate::unit::{KillMode, Limit, Output, Unit};
pub use children::Adopted;
use children::Child;
use pid1::Pid1;

/// The real system.
#[derive(Debug)]
pub struct RealHost {
    /// All that is waited for, `urgent` among it.
    pub epoll: OwnedFd,
    /// What is urgent ([`Token::is_urgent`]), so that it can be asked for alone.
    urgent: OwnedFd,
    /// What services write.
    pub pipes: Pipes,
    /// What is kept of all that is said.
    pub store: Store,
    /// How many descriptors a service may have that does not say.
    pub descriptors: Option<Limit>,
    /// What keeps the supervisor from being ended for want of memory.
    pub shield: Option<Shield>,
    /// This machine.
    pub machine: Machine,
    /// What watches the folder of a PID file, and which folder that is.
    pid_files: HashMap<UnitId, (OwnedFd, PathBuf)>,
    names: HashMap<UnitId, names::Waiting>,
    /// What services have stored, and the number of the next of it.
    kept: HashMap<UnitId, Vec<kept::Kept>>,
    next_kept: u32,
    /// The sockets of `.socket` units, and connections that no service has yet, with the name of that service.
    sockets: HashMap<UnitId, sockets::Sockets>,
    connections: HashMap<UnitId, (String, OwnedFd)>,
    /// On which services say that they are ready.
    ready: HashMap<UnitId, OwnedFd>,
    pid1: Option<Pid1>,
    root: PathBuf,
    run: PathBuf,
    notify: String,
    cgroups: Option<Cgroups>,
    private: Private,
    null: OwnedFd,
    kmsg: Option<OwnedFd>,
    /// A tree, as all that grows with the services and is not small: a hash table is up to half empty.
    children: BTreeMap<(UnitId, Role), Child>,
    pids: HashMap<i32, (UnitId, Role)>,
    /// Children that are no longer the main process of a service (`MAINPID=`), by number: nobody else would bury them.
    former: BTreeMap<u32, OwnedFd>,
    populations: HashMap<UnitId, Population>,
    memory: HashMap<UnitId, MemoryEvents>,
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
        let epoll = insist(|| Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?))?;
        let urgent = insist(|| Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?))?;
        insist(|| Ok(epoll::add(&epoll, &urgent, Token::Urgent.data(), EventFlags::IN)?))?;
        for folder in [run.to_owned(), run.join("state")] {
            if let Err(error) = insist(|| fs::create_dir_all(&folder)) {
                log::error!("{} cannot be made: {error}", folder.display());
            }
        }
        let cgroups = cgroup.and_then(|folder| match insist(|| Cgroups::new(folder)) {
            Ok(cgroups) => Some(cgroups),
            Err(error) => {
                log::warn!("no cgroups in {}: {error}; services are held together by process groups", folder.display());
                None
            }
        });
        let null = insist(|| fs::OpenOptions::new().read(true).write(true).open("/dev/null"))?.into();
        let host = RealHost {
            epoll,
            urgent,
            pipes: Pipes::default(),
            store: Store::open(&run.join("log"), bounds),
            descriptors: None,
            shield: None,
            machine: Machine::of_this_system(root),
            pid_files: HashMap::new(),
            names: HashMap::new(),
            kept: HashMap::new(),
            next_kept: 0,
            sockets: HashMap::new(),
            connections: HashMap::new(),
            ready: HashMap::new(),
            pid1: channel.map(Pid1::new),
            root: root.to_owned(),
            run: run.to_owned(),
            notify: run.join("notify").display().to_string(),
            cgroups,
            private: Private::new(run),
            null,
            kmsg: None,
            children: BTreeMap::new(),
            pids: HashMap::new(),
            former: BTreeMap::new(),
            populations: HashMap::new(),
            memory: HashMap::new(),
            groups: HashMap::new(),
            lingering: Vec::new(),
        };
        if let Some(channel) = host.channel() {
            insist(|| host.watch(channel.as_fd(), Token::Init, EventFlags::IN))?;
        }
        Ok(host)
    }

    /// Where states, sockets and logs are.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Services' private folders get a file system of their own.
    pub fn keep_private_apart(&mut self) {
        self.private.keep_apart();
    }

    /// The group whose members may look at units.
    pub fn control_group(&self) -> Option<u32> {
        let found = insist(|| users::group(&self.root, link::paths::CONTROL_GROUP));
        let group = found.inspect_err(|error| log::warn!("/etc/group: {error}")).ok().flatten();
        if group.is_none() {
            log::info!("there is no group {}: only root may use the control socket", link::paths::CONTROL_GROUP);
        }
        group
    }

    /// Takes over the reading end of a unit's pipe.
    ///
    /// # Errors
    /// When its writing end cannot be had.
    pub fn adopt_output(&mut self, id: UnitId, unit: Option<&Unit>, reader: OwnedFd) -> io::Result<()> {
        let Some(unit) = unit else { return Ok(()) };
        let to_console = [&unit.service.output, &unit.service.error].contains(&&Output::LogAndConsole);
        self.pipes.adopt(&mut self.store, id, &unit.name, style(unit), to_console, reader)
    }

    /// The unit and role of a process that we know.
    pub fn role_of(&self, pid: i32) -> Option<(UnitId, Role)> {
        self.pids.get(&pid).copied()
    }

    /// The name of the unit in whose cgroup a process is.
    pub fn unit_of(&self, pid: i32) -> Option<String> {
        self.cgroups.as_ref()?.unit_of(pid)
    }

    /// The processes in a unit's cgroup; none where there are no cgroups.
    pub fn processes_of(&self, unit: &Unit) -> Vec<i32> {
        self.cgroups.as_ref().and_then(|cgroups| cgroups.processes(&unit.name).ok()).unwrap_or_default()
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

    /// Whether the kernel ended a process of a unit for want of memory since this was last asked.
    pub fn ran_out_of_memory(&mut self, id: UnitId) -> bool {
        match self.memory.get_mut(&id).map(MemoryEvents::has_killed) {
            Some(Ok(killed)) => killed,
            Some(Err(_)) => {
                self.memory.remove(&id);
                self.names.remove(&id);
                false
            }
            None => false,
        }
    }

    /// Watches the memory of a unit that limits it.
    fn watch_memory(&mut self, id: UnitId, unit: &Unit) {
        let watches = unit.service.resources.as_ref().is_some_and(|resources| resources.watches_memory());
        let Some(cgroups) = self.cgroups.as_ref().filter(|_| watches && !self.memory.contains_key(&id)) else { return };
        let watched = cgroups.memory_events(&unit.name).and_then(|events| {
            epoll::add(&self.epoll, events.file.as_fd(), Token::Memory(id).data(), EventFlags::PRI)?;
            Ok(events)
        });
        match watched {
            Ok(events) => {
                self.memory.insert(id, events);
            }
            Err(error) => log::debug!("{}: its memory is not watched: {error}", unit.name),
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
}

/// Knows the units of processes.
#[derive(Debug, Clone, Copy)]
pub struct Finder<'a> {
    pids: &'a HashMap<i32, (UnitId, Role)>,
    cgroups: Option<&'a Cgroups>,
}

impl Finder<'_> {
    /// The name of a process's unit.
    pub fn unit_of(&self, machine: &crate::machine::Machine, pid: i32) -> Option<String> {
        // One that we started is known even if it has ended, as long as that was not heard.
        let by_pid = self.pids.get(&pid).and_then(|(id, _)| machine.unit(*id));
        by_pid
            .map(|unit| unit.name.clone())
            .or_else(|| self.cgroups?.unit_of(pid).filter(|name| machine.find(name).is_some()))
    }
}

/// How a unit's lines are taken.
fn style(unit: &Unit) -> Style {
    let service = &unit.service;
    Style {
        priority: service.syslog_level,
        prefix: service.syslog_level_prefix,
        identifier: service.syslog_identifier.clone().unwrap_or_default(),
        pid: None,
        facility: service.syslog_facility,
        limit: service.line_limit().map(|(interval, burst)| LineLimit { interval: interval.0, burst }),
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
        let uses = |kind: Output| service.output == kind || service.error == kind;
        if uses(Output::Kmsg) && self.kmsg.is_none() {
            self.kmsg = fs::OpenOptions::new().write(true).open("/dev/kmsg").ok().map(OwnedFd::from);
        }
        let is_main = launch.role == Role::Main;
        let ready = match service.ready_fd.filter(|_| is_main) {
            Some(number) => Some((number, self.make_ready_pipe(launch.id, launch.unit)?)),
            None => None,
        };
        let to_console = uses(Output::LogAndConsole);
        let (output, new) = self
            .pipes
            .pipe(&mut self.store, launch.id, &launch.unit.name, style(launch.unit), to_console)
            .map_err(|error| format!("no pipe for its output: {error}"))?;
        if let Some(reader) = new {
            if let Err(error) = epoll::add(&self.epoll, reader, Token::Output(launch.id).data(), EventFlags::IN) {
                // It is made anew with the next process: one that nobody reads would stop its writers.
                self.pipes.remove(launch.id);
                return Err(format!("its output cannot be watched: {error}"));
            }
            if let Some(pid1) = &mut self.pid1 {
                pid1.store_soon(&format!("out:{}", launch.unit.name), reader.as_fd());
            }
        }
        let ready = ready.as_ref().map(|(number, writer)| (*number, writer.as_fd()));
        let kept = self.kept.get(&launch.id);
        let holds = sockets::Holds { sockets: &self.sockets, connections: &self.connections, kept };
        let passed = if is_main { sockets::passed(holds, launch, ready)? } else { Passed::default() };
        let around = Surroundings {
            passed,
            root: &self.root,
            run: &self.run,
            private: &self.private,
            null: self.null.as_fd(),
            output,
            kmsg: self.kmsg.as_ref().map(AsFd::as_fd),
            notify: &self.notify,
            cgroups: self.cgroups.as_ref(),
            descriptors: self.descriptors,
        };
        let born = link::boot::now_us();
        if let Some(shield) = &mut self.shield {
            shield.lower().map_err(|error| format!("it would outlive all others when memory ends: {error}"))?;
        }
        let spawned = spawn::spawn(launch, &around);
        if let Some(shield) = &mut self.shield {
            shield.made(spawned.as_ref().is_ok_and(|spawned| spawned.region.is_some()));
        }
        let spawned = spawned?;
        let key = (launch.id, launch.role);
        let watched =
            epoll::add(&self.epoll, &spawned.pidfd, Token::Process(launch.id, launch.role).data(), EventFlags::IN)
                .and_then(|()| {
                    let token = Token::Start(launch.id, launch.role);
                    epoll::add(&self.epoll, &spawned.socket, token.data(), EventFlags::IN)
                });
        if let Err(error) = watched {
            spawn::discard(spawned.pid);
            self.part(spawned.region);
            return Err(format!("its process cannot be watched: {error}"));
        }
        let child = Child {
            pid: spawned.pid,
            pidfd: Some(spawned.pidfd),
            socket: Some(spawned.socket),
            ours: true,
            unexecuted: false,
            program: launch.command.program.clone(),
            places: spawned.places,
            region: spawned.region,
            failure: None,
        };
        self.children.insert(key, child);
        self.pids.insert(spawned.pid, key);
        self.watch_memory(launch.id, launch.unit);
        if self.cgroups.is_none() {
            self.groups.entry(launch.id).or_default().push(spawned.pid);
        }
        Ok(Process { pid: spawned.pid, born })
    }

    fn release(&mut self, id: UnitId, role: Role) {
        let Some(child) = self.children.get_mut(&(id, role)) else { return };
        let Some(socket) = &child.socket else { return };
        let flags = rustix::net::SendFlags::NOSIGNAL;
        if let Err(error) = rustix::io::retry_on_intr(|| rustix::net::send(socket, b"g", flags)) {
            // It ends, with its socket closed, instead of waiting for ever; and its end is heard as any other.
            child.failure = Some(format!("it could not be let go: {error}"));
            child.socket = None;
        }
        if role == Role::Main {
            self.drop_connection(id);
        }
    }

    fn signal(&mut self, id: UnitId, unit: &Unit, state: &UnitState, signal: i32) -> io::Result<()> {
        let hits_all = match unit.service.kill_mode {
            KillMode::ControlGroup => true,
            // The last signal hits all, whichever it is.
            KillMode::Mixed => signal == libc::SIGKILL || matches!(state.phase, Phase::StopKill | Phase::StopFinal),
            KillMode::Process => false,
            KillMode::None => return Ok(()),
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

    fn await_empty(&mut self, id: UnitId, unit: &Unit, stopping: bool) -> io::Result<bool> {
        // What is not stopped is not waited for; main process and command are gone when this is asked.
        if stopping && matches!(unit.service.kill_mode, KillMode::Process | KillMode::None) {
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

    fn ask(&mut self, unit: &Unit) -> Verdict {
        let system = System { root: &self.root, proc: Path::new("/proc"), machine: &self.machine };
        conditions::verdict(unit, &system)
    }

    fn watch_name(&mut self, id: UnitId, unit: &Unit) {
        self.await_name(id, unit.service.bus_name.clone().unwrap_or_default());
    }

    fn find_main(&mut self, id: UnitId, unit: &Unit) -> Found {
        self.look_for_main(id, unit)
    }

    fn sockets(&mut self, id: UnitId, unit: &Unit, work: SocketWork) -> Result<(), String> {
        self.work_on_sockets(id, unit, work)
    }

    fn accept(&mut self, id: UnitId, unit: &Unit) -> Option<Connection> {
        self.accept_one(id, unit)
    }

    fn hand_over(&mut self, id: UnitId, unit: &Unit, connection: Connection) {
        self.keep_connection(id, unit, connection.fd);
    }

    fn load_instance(&self, name: &str) -> Option<Unit> {
        crate::load::load_instance(&self.root, &self.machine, name)
    }

    fn clean(&mut self, id: UnitId, unit: &Unit, restarting: bool) {
        self.memory.remove(&id);
        self.drop_connection(id);
        self.release_descriptors(id, unit, restarting);
        if let Some(made) = &unit.service.directories {
            directories::remove(&unit.name, made, restarting);
        }
        // systemd.exec(5), `PrivateTmp=`: kept while the service is only started again.
        if !restarting {
            self.private.remove(&unit.name);
        }
    }

    fn persist(&mut self, unit: &Unit, state: &UnitState) -> io::Result<()> {
        // Whatever is let run has been written down before, and PID 1 has its pipe, unless its socket is full.
        self.speak();
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
        self.tell(message.clone(), &[])
    }
}

/// Whether any process of these groups is there; forgets those that are not.
fn any_alive(groups: Option<&mut Vec<i32>>) -> bool {
    let Some(groups) = groups else { return false };
    groups.retain(|pid| sys::kill(pid.saturating_neg(), 0).is_ok());
    !groups.is_empty()
}

#[cfg(test)]
#[path = "real_tests.rs"]
mod tests;
