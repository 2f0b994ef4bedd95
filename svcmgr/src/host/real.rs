//! The real system: processes by pidfd, cgroups, state files, PID 1's descriptor store, all on one epoll descriptor.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use link::{Channel, ToInit};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{WaitId, WaitIdOptions};

use super::cgroup::{Cgroups, Population};
use super::spawn::{self, Surroundings};
use super::sys::{self, ChildStep, NEVER_RAN};
use super::{Host, Launch};
use crate::graph::UnitId;
use crate::machine::{BootSummary, Exit, Now, Process, Role, UnitState};
use crate::output::Outputs;
use crate::unit::{KillMode, Limit, Output, Unit};

/// What an epoll event speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum Token {
    Init,
    Signals,
    Notify,
    Listener,
    Client(u32),
    Output(UnitId),
    Process(UnitId, Role),
    Start(UnitId, Role),
    Population(UnitId),
}

impl Token {
    /// As the kernel keeps it: the kind in the upper half, the number in the lower.
    pub fn data(self) -> EventData {
        let (kind, number) = match self {
            Token::Init => (0, 0),
            Token::Signals => (1, 0),
            Token::Notify => (2, 0),
            Token::Listener => (3, 0),
            Token::Client(n) => (4, n),
            Token::Output(id) => (5, id.0),
            Token::Process(id, Role::Main) => (6, id.0),
            Token::Process(id, Role::Control) => (7, id.0),
            Token::Start(id, Role::Main) => (8, id.0),
            Token::Start(id, Role::Control) => (9, id.0),
            Token::Population(id) => (10, id.0),
        };
        EventData::new_u64(u64::from(number) | (kind << 32))
    }

    /// Back from what the kernel kept.
    pub fn from_data(data: EventData) -> Option<Token> {
        let data = data.u64();
        let number = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        let id = UnitId(number);
        Some(match data >> 32 {
            0 => Token::Init,
            1 => Token::Signals,
            2 => Token::Notify,
            3 => Token::Listener,
            4 => Token::Client(number),
            5 => Token::Output(id),
            6 => Token::Process(id, Role::Main),
            7 => Token::Process(id, Role::Control),
            8 => Token::Start(id, Role::Main),
            9 => Token::Start(id, Role::Control),
            10 => Token::Population(id),
            _ => return None,
        })
    }
}

#[derive(Debug)]
struct Child {
    pid: i32,
    /// None for one that was gone before we could take it over.
    pidfd: Option<OwnedFd>,
    /// Through which it is released and tells whether its program could be executed.
    socket: Option<OwnedFd>,
    /// Ours to reap; PID 1 reaps the others and tells us.
    ours: bool,
    /// Taken over before it executed its program.
    unexecuted: bool,
    /// Why its program could not be executed.
    failure: Option<String>,
}

/// What became of a process that the supervisor before this one made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It runs its program.
    Running,
    /// It waits to be released, in vain: it will end.
    Waiting,
    /// It is gone.
    Gone,
}

/// The real system.
#[derive(Debug)]
pub struct RealHost {
    /// All that is waited for.
    pub epoll: OwnedFd,
    /// What services write.
    pub outputs: Outputs,
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
    pub fn new(root: &Path, run: &Path, cgroup: Option<&Path>, channel: Option<Channel>) -> io::Result<RealHost> {
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
            outputs: Outputs::new(&run.join("log")),
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

    /// The unit and role of a process that we know.
    pub fn role_of(&self, pid: i32) -> Option<(UnitId, Role)> {
        self.pids.get(&pid).copied()
    }

    /// The name of the unit in whose cgroup a process is.
    pub fn unit_of(&self, pid: i32) -> Option<String> {
        self.cgroups.as_ref()?.unit_of(pid)
    }

    /// What a process told about its start: `Some(true)`: its program is executed; `Some(false)`: it could not be.
    pub fn started(&mut self, id: UnitId, role: Role) -> Option<bool> {
        let child = self.children.get_mut(&(id, role))?;
        let socket = child.socket.as_ref()?;
        let mut message = [0; 5];
        let told = match rustix::net::recv(socket, &mut message, rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => true,
            Ok(_) => {
                let [step, a, b, c, d] = message;
                child.failure = Some(failure(step, i32::from_ne_bytes([a, b, c, d])));
                false
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return None,
            Err(error) => {
                log::debug!("process {}: its start cannot be followed: {error}", child.pid);
                true
            }
        };
        child.socket = None;
        Some(told)
    }

    /// How a process of ours ended, if it has.
    pub fn reap(&mut self, id: UnitId, role: Role) -> Option<Exit> {
        let child = self.children.get(&(id, role))?;
        if !child.ours {
            return None;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let pidfd = child.pidfd.as_ref()?;
        let exit = match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal { signal, core: status.dumped() },
                (None, None) => Exit::Unknown,
            },
            Ok(None) | Err(rustix::io::Errno::INTR) => return None,
            Err(error) => {
                log::warn!("process {} cannot be reaped: {error}", child.pid);
                Exit::Unknown
            }
        };
        self.forget(id, role, exit)
    }

    /// PID 1 says how a process that we took over ended.
    pub fn reaped(&mut self, pid: i32, exit: Exit) -> Option<(UnitId, Role, Exit)> {
        let (id, role) = self.role_of(pid)?;
        if self.children.get(&(id, role))?.ours {
            return None;
        }
        let exit = self.forget(id, role, exit)?;
        Some((id, role, exit))
    }

    /// Ends all bookkeeping of a process; how it ended, in the words that matter.
    pub fn forget(&mut self, id: UnitId, role: Role, exit: Exit) -> Option<Exit> {
        let child = self.children.remove(&(id, role))?;
        self.pids.remove(&child.pid);
        Some(match (exit, child.failure) {
            (_, Some(failure)) => Exit::NotExecuted(failure),
            (Exit::Code(NEVER_RAN), None) if child.unexecuted => Exit::NeverRan,
            (exit, None) => exit,
        })
    }

    /// A process that we took over has ended, and PID 1 has not said how yet: no longer watched, since its
    /// descriptor would be ready for ever.
    pub fn unwatch(&self, id: UnitId, role: Role) {
        if let Some(pidfd) = self.children.get(&(id, role)).and_then(|child| child.pidfd.as_ref()) {
            let _ = epoll::delete(&self.epoll, pidfd);
        }
    }

    /// Whether a process is still in the books.
    pub fn knows(&self, id: UnitId, role: Role) -> bool {
        self.children.contains_key(&(id, role))
    }

    /// Whether a process is ours to reap, not PID 1's.
    pub fn is_ours(&self, id: UnitId, role: Role) -> bool {
        self.children.get(&(id, role)).is_some_and(|child| child.ours)
    }

    /// Takes over a process that the supervisor before this one made, if it is still the one that it made.
    pub fn adopt(&mut self, id: UnitId, role: Role, process: Process) -> Adopted {
        let Ok(pidfd) = spawn::pidfd_open(process.pid) else { return Adopted::Gone };
        // The pidfd pins the process: what is read of it after opening speaks of the same one.
        if process.born != 0 && !born_at(process.pid, process.born) {
            return Adopted::Gone;
        }
        if let Err(error) = self.watch(pidfd.as_fd(), Token::Process(id, role), EventFlags::IN) {
            log::error!("process {} cannot be watched: {error}", process.pid);
        }
        let unexecuted = process.born != 0 && is_still_us(process.pid);
        let child =
            Child { pid: process.pid, pidfd: Some(pidfd), socket: None, ours: false, unexecuted, failure: None };
        self.children.insert((id, role), child);
        self.pids.insert(process.pid, (id, role));
        self.groups.entry(id).or_default().push(process.pid);
        if unexecuted { Adopted::Waiting } else { Adopted::Running }
    }

    /// A process that the supervisor before this one made is gone: kept in the books until PID 1 says how it ended.
    pub fn mourn(&mut self, id: UnitId, role: Role, process: Process, starting: bool) {
        let pid = process.pid;
        // It may have been gone before it ever ran: then its code says so.
        let child = Child { pid, pidfd: None, socket: None, ours: false, unexecuted: starting, failure: None };
        self.children.insert((id, role), child);
        self.pids.insert(pid, (id, role));
    }

    /// A service names another process as its main one.
    pub fn rename_main(&mut self, id: UnitId, pid: i32) -> io::Result<Process> {
        let pidfd = spawn::pidfd_open(pid)?;
        self.watch(pidfd.as_fd(), Token::Process(id, Role::Main), EventFlags::IN)?;
        if let Some(old) = self.children.remove(&(id, Role::Main)) {
            self.pids.remove(&old.pid);
        }
        // A grandchild of ours, or a child: waitid tells when the time comes; PID 1 if it is not ours.
        let child = Child {
            pid,
            pidfd: Some(pidfd),
            socket: None,
            ours: is_child_of_us(pid),
            unexecuted: false,
            failure: None,
        };
        self.children.insert((id, Role::Main), child);
        self.pids.insert(pid, (id, Role::Main));
        Ok(Process { pid, born: 0 })
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
        let (output, new) = self
            .outputs
            .pipe(launch.id, &launch.unit.name, uses(Output::LogAndConsole))
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

/// In words, what a child reported.
fn failure(step: u8, errno: i32) -> String {
    let error = io::Error::from_raw_os_error(errno);
    match ChildStep::from_number(step) {
        Some(ChildStep::Session) => format!("no session of its own: {error}"),
        Some(ChildStep::Terminal) => format!("its terminal cannot be opened (TTYPath=): {error}"),
        Some(ChildStep::Streams) => format!("its standard streams cannot be set: {error}"),
        Some(ChildStep::Groups) => format!("its groups cannot be set (Group=): {error}"),
        Some(ChildStep::User) => format!("its user cannot be set (User=): {error}"),
        Some(ChildStep::Directory) => format!("its working directory cannot be entered (WorkingDirectory=): {error}"),
        Some(ChildStep::Limits) => format!("its limits cannot be set (LimitNOFILE= and so on): {error}"),
        Some(ChildStep::Nice) => format!("its nice level cannot be set (Nice=): {error}"),
        Some(ChildStep::OomScore) => format!("its OOM score cannot be set (OOMScoreAdjust=): {error}"),
        Some(ChildStep::Execute) => format!("its program cannot be executed: {error}"),
        None => format!("it could not be started: {error}"),
    }
}

/// Field `n` (from 1) of `/proc/PID/stat`; proc_pid_stat(5). The name in field 2 may hold anything, even `) `.
fn stat_field(pid: i32, n: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(n.checked_sub(3)?)?.parse().ok()
}

/// Whether a process was made at `born` (microseconds of `CLOCK_BOOTTIME`), as exactly as the kernel tells: in clock
/// ticks. The supervisor took the time just before it made it.
fn born_at(pid: i32, born: u64) -> bool {
    let Some(ticks) = stat_field(pid, 22) else { return false };
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let started = ticks.saturating_mul(1_000_000).checked_div(per_second).unwrap_or(0);
    started.abs_diff(born) <= 100_000
}

fn is_still_us(pid: i32) -> bool {
    let exe = |who: &str| fs::read_link(format!("/proc/{who}/exe")).ok();
    exe(&pid.to_string()).is_some_and(|theirs| Some(theirs) == exe("self"))
}

fn is_child_of_us(pid: i32) -> bool {
    stat_field(pid, 4) == Some(u64::from(std::process::id()))
}
