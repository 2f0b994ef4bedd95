//! The supervisor on a host of which any call can be made to fail: whatever fails, nobody is forgotten.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::*;
use crate::graph::Graph;
use crate::load::Loaded;
use crate::machine::{BootSummary, Now, Process, UnitState};
use crate::unit::StartType;
use crate::unit::parse::parse;
use crate::unit::specifier::Machine as ThisMachine;

/// A host that counts its calls, and fails the one that it is told to.
#[derive(Default)]
struct Double {
    calls: usize,
    fails: Option<usize>,
    time: u64,
    /// Processes, and whether they have been released.
    alive: BTreeMap<(UnitId, Role), bool>,
    written: BTreeMap<String, UnitState>,
    told: Vec<ToInit>,
    waiting: Vec<UnitId>,
}

impl Double {
    fn call(&mut self) -> io::Result<()> {
        self.calls = self.calls.saturating_add(1);
        match self.fails {
            Some(n) if n == self.calls => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            _ => Ok(()),
        }
    }
}

impl Host for Double {
    fn now(&self) -> Now {
        Now { mono: self.time, boot: self.time }
    }

    fn spawn(&mut self, launch: &Launch<'_>) -> Result<Process, String> {
        self.call().map_err(|error| error.to_string())?;
        assert!(self.alive.insert((launch.id, launch.role), false).is_none(), "a second process");
        Ok(Process { pid: 7, born: 1 })
    }

    fn release(&mut self, id: UnitId, role: Role) {
        let unit = format!("u{}.service", id.0);
        if let Some(released) = self.alive.get_mut(&(id, role)) {
            *released = true;
            // Unless writing failed, the process is written down before it may run.
            let state = self.written.get(&unit);
            let known = state.is_some_and(|state| state.main.is_some() || state.control.is_some());
            assert!(known || self.fails.is_some(), "{unit} runs unrecorded");
        }
    }

    fn signal(&mut self, id: UnitId, _: &Unit, _: &UnitState, _: i32) -> io::Result<()> {
        self.call()?;
        assert!(id.0 < 3);
        Ok(())
    }

    fn clean(&mut self, _: UnitId, _: &Unit, _: bool) {}

    fn sockets(&mut self, _: UnitId, _: &Unit, _: crate::machine::SocketWork) -> Result<(), String> {
        self.call().map_err(|error| error.to_string())
    }

    fn accept(&mut self, _: UnitId, _: &Unit) -> Option<crate::host::Connection> {
        None
    }

    fn hand_over(&mut self, _: UnitId, _: &Unit, _: crate::host::Connection) {}

    fn load_instance(&self, _: &str) -> Option<Unit> {
        None
    }

    fn ask(&mut self, _: &Unit) -> crate::machine::Verdict {
        crate::machine::Verdict::Go
    }

    fn watch_name(&mut self, _: UnitId, _: &Unit) {}

    fn find_main(&mut self, _: UnitId, _: &Unit) -> crate::host::Found {
        crate::host::Found::Unknown
    }

    fn await_empty(&mut self, id: UnitId, _: &Unit, _: bool) -> io::Result<bool> {
        self.call()?;
        let empty = !self.alive.keys().any(|(other, _)| *other == id);
        if !empty {
            self.waiting.push(id);
        }
        Ok(empty)
    }

    fn persist(&mut self, unit: &Unit, state: &UnitState) -> io::Result<()> {
        self.call()?;
        self.written.insert(unit.name.clone(), state.clone());
        Ok(())
    }

    fn persist_boot(&mut self, _: &BootSummary) -> io::Result<()> {
        self.call()
    }

    fn tell_init(&mut self, message: &ToInit) -> io::Result<()> {
        self.call()?;
        self.told.push(message.clone());
        Ok(())
    }
}

fn supervisor(fails: Option<usize>) -> Supervisor<Double> {
    let mut loaded = Loaded::default();
    for (n, text) in [
        "[Service]\nExecStartPre=/p\nExecStart=/x\nRestart=always\n",
        "[Unit]\nAfter=u0.service\n[Service]\nType=oneshot\nExecStart=/x\n",
        "[Unit]\nRequires=u0.service\nAfter=u0.service\n[Service]\nType=notify\nExecStart=/x\nExecStop=/s\nRestart=on-failure\n",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("u{n}.service");
        loaded.units.insert(name.clone(), parse(&name, Path::new("/u"), text, &ThisMachine::default()));
    }
    let graph = Graph::new(loaded);
    let starts = vec![(StartType::Auto, "unit".to_owned()); 3];
    Supervisor::new(Machine::new(graph, starts), Double { fails, time: 1, ..Double::default() })
}

/// Lets processes do what they are there for, then passes time, until nothing is left to do.
fn play(supervisor: &mut Supervisor<Double>) {
    let mut before = Default::default();
    for _ in 0..400 {
        let running: Vec<((UnitId, Role), bool)> = supervisor.host.alive.iter().map(|(k, v)| (*k, *v)).collect();
        for ((id, role), released) in running {
            let Some(unit) = supervisor.machine.unit(id) else { continue };
            let oneshot = unit.service.kind == crate::unit::ServiceType::Oneshot;
            let stopping = supervisor.machine.state(id).is_some_and(|state| state.phase.is_stopping());
            if released && (role == Role::Control || oneshot || stopping) {
                supervisor.host.alive.remove(&(id, role));
                let exit = Exit::Code(0);
                supervisor.event(
                    id,
                    match role {
                        Role::Main => Event::MainExited(exit),
                        Role::Control => Event::ControlExited(exit),
                    },
                );
            } else if released && role == Role::Main {
                supervisor.event(id, Event::Executed);
                supervisor.event(id, Event::Ready);
            }
        }
        let phases: Vec<Phase> = (0..3).filter_map(|n| Some(supervisor.machine.state(UnitId(n))?.phase)).collect();
        let now = (phases, supervisor.host.alive.clone());
        // Time passes only where nothing else moves.
        if now == before {
            let Some(at) = supervisor.machine.next_deadline() else { return supervisor.tick() };
            supervisor.host.time = at.max(supervisor.host.time);
        }
        before = now;
        supervisor.tick();
    }
}

/// One whole life: boot, a restart on request, the end. How many calls it takes.
fn life(fails: Option<usize>) -> usize {
    let mut supervisor = supervisor(fails);
    supervisor.boot(&BTreeSet::new());
    play(&mut supervisor);
    assert!(supervisor.take_boot_complete(), "the boot does not end; call {fails:?} failed");
    supervisor.restart(UnitId(0), 1).unwrap();
    play(&mut supervisor);
    assert_eq!(supervisor.next_answer().map(|(waiter, _)| waiter), Some(1), "nobody answers; call {fails:?} failed");
    if fails.is_none() {
        assert_eq!(supervisor.machine.state(UnitId(2)).unwrap().phase, Phase::Active);
    }
    supervisor.shutdown(Ending::Poweroff);
    play(&mut supervisor);
    assert!(supervisor.is_stopped(), "it does not stop; call {fails:?} failed");
    assert!(supervisor.host.alive.is_empty(), "a process is forgotten; call {fails:?} failed");
    for id in (0..3).map(UnitId) {
        let (unit, state) = (supervisor.machine.unit(id).unwrap(), supervisor.machine.state(id).unwrap());
        assert!(state.phase.is_down());
        assert_eq!(supervisor.host.written.get(&unit.name), Some(state), "written late; call {fails:?} failed");
    }
    supervisor.host.calls
}

#[test]
fn whichever_call_fails_nobody_is_forgotten() {
    let calls = life(None);
    assert!(calls > 20, "{calls}");
    for n in 1..=calls {
        life(Some(n));
    }
}

#[test]
fn what_waited_when_the_supervisor_died_is_started_once() {
    let mut supervisor = supervisor(None);
    let waits = UnitState { phase: Phase::Queued, goal: crate::machine::Goal::Up, ..UnitState::default() };
    supervisor.machine.restore(UnitId(0), waits.clone());
    supervisor.machine.restore(UnitId(2), waits);
    // Something is heard of another unit before the boot goes on: nothing may be started by that yet.
    supervisor.event(UnitId(1), Event::Executed);
    assert!(supervisor.host.alive.is_empty());
    // The double makes no second process for one unit.
    supervisor.boot(&BTreeSet::from([UnitId(0), UnitId(2)]));
    play(&mut supervisor);
    let phases = [0, 2].map(|n| supervisor.machine.state(UnitId(n)).unwrap().phase);
    assert_eq!(phases, [Phase::Active; 2]);
}

#[test]
fn pid_1_hears_of_the_end_before_and_after() {
    let mut supervisor = supervisor(None);
    supervisor.boot(&BTreeSet::new());
    play(&mut supervisor);
    supervisor.shutdown(Ending::Reboot);
    assert_eq!(supervisor.host.told, [ToInit::Stopping(Ending::Reboot)]);
    play(&mut supervisor);
    assert_eq!(supervisor.host.told, [ToInit::Stopping(Ending::Reboot), ToInit::End(Ending::Reboot)]);
}
