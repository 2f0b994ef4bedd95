//! A host of the tests: a small world of processes, of which any call can be made to fail. What a program does is what
//! its name says.

#![allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use link::ToInit;

use super::Supervisor;
use crate::graph::UnitId;
use crate::host::{Connection, Found, Host, Launch};
use crate::machine::{BootSummary, Event, Exit, Machine, Now, Phase, Process, Role, SocketWork, UnitState, Verdict};
use crate::unit::Unit;

/// The kinds of calls that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Spawn,
    Release,
    Signal,
    AwaitEmpty,
    FindMain,
    Sockets,
    Persist,
    PersistBoot,
    TellInit,
}

impl Call {
    pub const ALL: [Call; 9] = [
        Call::Spawn,
        Call::Release,
        Call::Signal,
        Call::AwaitEmpty,
        Call::FindMain,
        Call::Sockets,
        Call::Persist,
        Call::PersistBoot,
        Call::TellInit,
    ];
}

/// From the `first` call of a kind on (counted from 1), `length` of them fail.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub call: Call,
    pub first: usize,
    pub length: usize,
    pub errno: i32,
}

#[derive(Debug, Clone)]
pub struct Running {
    pub unit: UnitId,
    /// `None`: a child of one of the unit's processes.
    pub role: Option<Role>,
    pub program: String,
    pub released: bool,
    executed: bool,
}

#[derive(Debug, Default)]
pub struct Double {
    pub calls: BTreeMap<Call, usize>,
    pub fault: Option<Fault>,
    pub time: u64,
    pub processes: BTreeMap<i32, Running>,
    pub written: BTreeMap<String, UnitState>,
    pub boot_written: Option<BootSummary>,
    pub told: Vec<ToInit>,
    /// Units whose sockets are open; PID 1 keeps them, too.
    open: BTreeSet<UnitId>,
    /// Those whose sockets are watched.
    heard: BTreeSet<UnitId>,
    /// Units whose emptiness is told.
    watched: BTreeSet<UnitId>,
    /// Ends of processes that the supervisor has not heard of.
    ended: VecDeque<(UnitId, Role, Exit)>,
    last_pid: i32,
}

impl Double {
    pub fn new(fault: Option<Fault>) -> Double {
        Double { fault, time: 1, ..Double::default() }
    }

    fn call(&mut self, call: Call) -> io::Result<()> {
        let count = self.calls.entry(call).or_default();
        *count += 1;
        match self.fault {
            Some(fault) if fault.call == call && (fault.first..fault.first + fault.length).contains(count) => {
                Err(io::Error::from_raw_os_error(fault.errno))
            }
            _ => Ok(()),
        }
    }

    pub fn of(&self, unit: UnitId) -> impl Iterator<Item = (i32, &Running)> {
        self.processes.iter().filter(move |(_, running)| running.unit == unit).map(|(pid, running)| (*pid, running))
    }

    fn begin(&mut self, unit: UnitId, role: Option<Role>, program: &str) -> i32 {
        self.last_pid += 1;
        let released = role.is_none();
        let running = Running { unit, role, program: program.to_owned(), released, executed: false };
        self.processes.insert(self.last_pid, running);
        self.last_pid
    }

    fn end(&mut self, pid: i32, exit: Exit) {
        if let Some(Running { unit, role: Some(role), .. }) = self.processes.remove(&pid) {
            self.ended.push_back((unit, role, exit));
        }
    }

    /// The supervisor is dead: its watches are gone, and the processes that it did not let go end.
    pub fn survive(&mut self) {
        self.watched.clear();
        self.heard.clear();
        let waiting: Vec<i32> = self.processes.iter().filter(|(_, p)| !p.released).map(|(pid, _)| *pid).collect();
        waiting.into_iter().for_each(|pid| self.end(pid, Exit::NeverRan));
    }
}

impl Host for Double {
    fn now(&self) -> Now {
        Now { mono: self.time, boot: self.time }
    }

    fn spawn(&mut self, launch: &Launch<'_>) -> Result<Process, String> {
        self.call(Call::Spawn).map_err(|error| error.to_string())?;
        assert!(self.of(launch.id).all(|(_, other)| other.role != Some(launch.role)), "a second process");
        let pid = self.begin(launch.id, Some(launch.role), &launch.command.program);
        Ok(Process { pid, born: 1 })
    }

    fn release(&mut self, id: UnitId, role: Role) {
        let Some(pid) = self.of(id).find(|(_, running)| running.role == Some(role)).map(|(pid, _)| pid) else { return };
        // Unless writing failed, the process is written down before it may run.
        let name = format!("u{}.service", id.0);
        let known = |state: &UnitState| [state.main, state.control].iter().flatten().any(|process| process.pid == pid);
        let may_be_unknown = self.fault.is_some_and(|fault| fault.call == Call::Persist);
        assert!(may_be_unknown || self.written.get(&name).is_some_and(known), "{name} runs unrecorded");
        match self.call(Call::Release) {
            Ok(()) => self.processes.get_mut(&pid).unwrap().released = true,
            Err(error) => self.end(pid, Exit::NotExecuted(format!("it could not be let go: {error}"))),
        }
    }

    fn signal(&mut self, id: UnitId, _: &Unit, _: &UnitState, signal: i32) -> io::Result<()> {
        self.call(Call::Signal)?;
        let hit = |running: &Running| running.program != "/deaf" || signal == libc::SIGKILL;
        let hit: Vec<i32> = self.of(id).filter(|(_, running)| hit(running)).map(|(pid, _)| pid).collect();
        hit.into_iter().for_each(|pid| self.end(pid, Exit::Signal { signal, core: false }));
        Ok(())
    }

    fn clean(&mut self, _: UnitId, _: &Unit, _: bool) {}

    fn sockets(&mut self, id: UnitId, _: &Unit, work: SocketWork) -> Result<(), String> {
        // What is closed is closed, whatever else does not go: close(2).
        if work == SocketWork::Close {
            self.open.remove(&id);
            self.heard.remove(&id);
        }
        self.call(Call::Sockets).map_err(|error| error.to_string())?;
        match work {
            SocketWork::Open => self.open.insert(id),
            SocketWork::Watch => self.heard.insert(id),
            SocketWork::Unwatch => self.heard.remove(&id),
            SocketWork::Flush | SocketWork::Close => true,
        };
        Ok(())
    }

    fn accept(&mut self, _: UnitId, _: &Unit) -> Option<Connection> {
        None
    }

    fn hand_over(&mut self, _: UnitId, _: &Unit, _: Connection) {}

    fn load_instance(&self, _: &str) -> Option<Unit> {
        None
    }

    fn ask(&mut self, _: &Unit) -> Verdict {
        Verdict::Go
    }

    fn watch_name(&mut self, _: UnitId, _: &Unit) {}

    fn find_main(&mut self, id: UnitId, _: &Unit) -> Found {
        // Nothing is found then; the real one says why in the log.
        if self.call(Call::FindMain).is_err() {
            return Found::Unknown;
        }
        let Some((&pid, running)) = self.processes.iter_mut().find(|(_, p)| p.unit == id && p.role.is_none()) else {
            return Found::Unknown;
        };
        running.role = Some(Role::Main);
        Found::Main(Process { pid, born: 0 })
    }

    fn await_empty(&mut self, id: UnitId, _: &Unit, _: bool) -> io::Result<bool> {
        self.call(Call::AwaitEmpty)?;
        let is_empty = self.of(id).next().is_none();
        if !is_empty {
            self.watched.insert(id);
        }
        Ok(is_empty)
    }

    fn persist(&mut self, unit: &Unit, state: &UnitState) -> io::Result<()> {
        self.call(Call::Persist)?;
        self.written.insert(unit.name.clone(), state.clone());
        Ok(())
    }

    fn persist_boot(&mut self, summary: &BootSummary) -> io::Result<()> {
        self.call(Call::PersistBoot)?;
        self.boot_written = Some(summary.clone());
        Ok(())
    }

    fn tell_init(&mut self, message: &ToInit) -> io::Result<()> {
        self.call(Call::TellInit)?;
        self.told.push(message.clone());
        Ok(())
    }
}

fn exited(role: Role, exit: Exit) -> Event {
    match role {
        Role::Main => Event::MainExited(exit),
        Role::Control => Event::ControlExited(exit),
    }
}

/// Lets one thing happen in the world. Whether there was one.
fn happen(supervisor: &mut Supervisor<Double>) -> bool {
    if let Some((unit, role, exit)) = supervisor.host.ended.pop_front() {
        supervisor.event(unit, exited(role, exit));
        return true;
    }
    let host = &mut supervisor.host;
    let acts = |running: &Running| running.released && !running.executed;
    if let Some((&pid, running)) = host.processes.iter_mut().find(|(_, running)| acts(running)) {
        running.executed = true;
        let (unit, role, program) = (running.unit, running.role, running.program.clone());
        match program.as_str() {
            "/end" => host.end(pid, Exit::Code(0)),
            "/fail" => host.end(pid, Exit::Code(1)),
            "/fork" => {
                host.begin(unit, None, "/run");
                host.end(pid, Exit::Code(0));
            }
            "/deaf-and-child" => {
                host.begin(unit, None, "/deaf");
            }
            "/run" | "/ready" | "/deaf" => {}
            other => panic!("what does {other} do?"),
        }
        if role == Some(Role::Main) {
            supervisor.event(unit, Event::Executed);
        }
        if program == "/ready" {
            supervisor.event(unit, Event::Ready);
        }
        return true;
    }
    let empty = host.watched.iter().copied().find(|unit| host.of(*unit).next().is_none());
    if let Some(unit) = empty {
        host.watched.remove(&unit);
        supervisor.event(unit, Event::Empty);
    }
    empty.is_some()
}

/// Lets happen what happens, and time pass where nothing does, until nothing is left to come.
pub fn play(supervisor: &mut Supervisor<Double>) {
    for _ in 0..10_000 {
        if happen(supervisor) {
            continue;
        }
        let Some(at) = supervisor.next_deadline() else { return };
        supervisor.host.time = at.max(supervisor.host.time);
        supervisor.tick();
    }
    panic!("it does not come to rest; fault {:?}", supervisor.host.fault);
}

/// Whether what the machine believes is what is, once all has come to rest.
pub fn assert_true_to_the_world(supervisor: &Supervisor<Double>) {
    let Supervisor { machine, host, .. } = supervisor;
    let fault = host.fault;
    for (id, unit) in machine.graph().iter() {
        let state = machine.state(id).unwrap();
        let name = &unit.name;
        assert!(state.phase.is_down() || state.is_steady(), "{name} is {:?}; {fault:?}", state.phase);
        let roles = |wanted: Role| host.of(id).find(|(_, p)| p.role == Some(wanted)).map(|(pid, _)| pid);
        let known = |process: Option<Process>| process.map(|process| process.pid);
        assert_eq!(known(state.main), roles(Role::Main), "main process of {name}; {fault:?}");
        assert_eq!((known(state.control), roles(Role::Control)), (None, None), "control of {name}; {fault:?}");
        let runs = host.of(id).next().is_some() || host.open.contains(&id);
        assert_eq!(runs, state.phase == Phase::Active, "{name} is {:?}; {fault:?}", state.phase);
        let hears = unit.socket.is_some() && runs;
        assert_eq!(host.heard.contains(&id), hears, "{name} hears nothing; {fault:?}");
        // It is taken over as it is.
        let written = host.written.get(name).cloned().unwrap_or_default();
        assert_eq!(written, *state, "{name} was not written down; {fault:?}");
    }
}

/// The next supervisor on the same world, as [`crate::startup`] begins it.
pub fn take_over(machine: Machine, mut host: Double) -> Supervisor<Double> {
    host.survive();
    let mut machine = machine;
    let mut taken_over = BTreeSet::new();
    for (name, state) in &host.written {
        let id = machine.find(name).unwrap();
        machine.restore(id, state.clone());
        taken_over.insert(id);
    }
    if let Some(summary) = &host.boot_written {
        machine.restore_boot(summary.clone());
    }
    let mut gone = Vec::new();
    for id in &taken_over {
        let state = machine.state(*id).unwrap();
        for (role, process) in [(Role::Main, state.main), (Role::Control, state.control)] {
            let Some(process) = process else { continue };
            let is_there = host.processes.contains_key(&process.pid);
            let is_heard_of = host.ended.iter().any(|(unit, other, _)| unit == id && *other == role);
            if !is_there && !is_heard_of {
                gone.push((*id, role));
            }
        }
    }
    let mut next = Supervisor::new(machine, host);
    for (id, role) in gone {
        next.event(id, exited(role, Exit::Unknown));
    }
    next.boot(&taken_over);
    next
}
