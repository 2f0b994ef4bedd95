//! Carries the machine's actions out on a [`Host`], in the order that makes a takeover exact: processes are made but
//! wait, states are written down, and only then is anything let go, signalled or answered.

mod describe;
#[cfg(test)]
mod double;
mod sockets;
mod undone;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use link::{Ending, ToInit};

use describe::{describe, is_no_news};
pub use describe::{describe_boot, describe_trigger, next_elapse};
use undone::Undone;

use crate::graph::UnitId;
use crate::host::{Found, Host, Launch};
use crate::machine::{Action, CommandRef, Event, Exit, Machine, Phase, Refusal, Role, UnitAction, WaiterId};
use crate::stuck::Jobs;
use crate::unit::failure::{EndAction, ErrorControl};
use crate::unit::{Command, Unit};

/// The machine and the system that it runs on.
#[derive(Debug)]
pub struct Supervisor<H> {
    /// All units.
    pub machine: Machine,
    /// The system.
    pub host: H,
    /// What is under way.
    pub jobs: Jobs,
    answers: VecDeque<(WaiterId, Result<(), String>)>,
    boot_just_complete: bool,
    ending: Option<Ending>,
    stopped: bool,
    /// Units whose notes have been said.
    noted: BTreeSet<UnitId>,
    /// Units that fail in a circle, of which nobody is told each time.
    circling: BTreeSet<UnitId>,
    undone: Undone,
}

impl<H: Host> Supervisor<H> {
    /// Joins both.
    pub fn new(machine: Machine, host: H) -> Supervisor<H> {
        Supervisor {
            machine,
            host,
            jobs: Jobs::default(),
            answers: VecDeque::new(),
            boot_just_complete: false,
            ending: None,
            stopped: false,
            noted: BTreeSet::new(),
            circling: BTreeSet::new(),
            undone: Undone::default(),
        }
    }

    /// Starts what is started at boot, but what was taken over, whose lost actions are carried out again.
    pub fn boot(&mut self, taken_over: &BTreeSet<UnitId>) {
        let now = self.host.now();
        for id in taken_over {
            if let Some(state) = self.machine.state(*id) {
                self.jobs.changed(*id, state.phase, now.mono);
            }
        }
        self.machine.boot(now, taken_over);
        self.carry_out();
    }

    /// Something happened to a unit.
    pub fn event(&mut self, id: UnitId, event: Event) {
        let now = self.host.now();
        self.machine.event(id, event, now);
        self.carry_out();
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        let now = self.host.now();
        if self.machine.next_deadline().is_some_and(|at| at <= now.mono) {
            self.machine.tick(now);
        }
        self.try_again(now.mono);
        self.carry_out();
    }

    /// See [`Machine::request_start`].
    pub fn start(&mut self, id: UnitId, waiter: WaiterId) -> Result<(), Refusal> {
        let result = self.machine.request_start(id, waiter, self.host.now());
        self.carry_out();
        result
    }

    /// See [`Machine::request_stop`].
    pub fn stop(&mut self, id: UnitId, waiter: WaiterId) {
        self.machine.request_stop(id, waiter, self.host.now());
        self.carry_out();
    }

    /// See [`Machine::request_restart`].
    pub fn restart(&mut self, id: UnitId, waiter: WaiterId) -> Result<(), Refusal> {
        let result = self.machine.request_restart(id, waiter, self.host.now());
        self.carry_out();
        result
    }

    /// Stops everything, then tells PID 1 to end the machine.
    pub fn shutdown(&mut self, ending: Ending) {
        self.shutdown_now(ending);
        self.carry_out();
    }

    fn shutdown_now(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        log::info!("stopping all services: {}", ending.word());
        self.ending = Some(ending);
        self.tell_init(ToInit::Stopping(ending));
        self.machine.shutdown(self.host.now());
    }

    /// How the machine is to end, if it is.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether all is stopped, after [`Supervisor::shutdown`].
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The next answer to somebody who waits.
    pub fn next_answer(&mut self) -> Option<(WaiterId, Result<(), String>)> {
        self.answers.pop_front()
    }

    /// Whether the boot became complete since this was last asked.
    pub fn take_boot_complete(&mut self) -> bool {
        std::mem::take(&mut self.boot_just_complete)
    }

    /// Works off all actions, and those that come of them.
    pub fn carry_out(&mut self) {
        loop {
            let actions = self.machine.take_actions();
            let dirty = self.machine.take_dirty();
            if actions.is_empty() && dirty.is_empty() {
                return;
            }
            let mut made = BTreeMap::new();
            let mut later = Vec::with_capacity(actions.len());
            for action in actions {
                match action {
                    Action::Unit(id, UnitAction::Spawn(role, command)) => {
                        self.spawn(id, role, command);
                        made.insert((id, role), ());
                    }
                    other => later.push(other),
                }
            }
            let mut dirty = dirty;
            dirty.append(&mut self.machine.take_dirty());
            self.write_down(dirty);
            for (id, role) in made.into_keys() {
                self.host.release(id, role);
            }
            for action in later {
                self.do_later(action);
            }
        }
    }

    fn do_later(&mut self, action: Action) {
        match action {
            Action::Unit(_, UnitAction::Spawn(..)) => {}
            Action::Unit(id, UnitAction::Signal(signal)) => self.signal(id, signal),
            Action::Unit(id, UnitAction::Ask) => {
                let Some(unit) = self.machine.unit(id) else { return };
                let verdict = self.host.ask(unit);
                let now = self.host.now();
                self.machine.event(id, Event::Asked(verdict), now);
            }
            Action::Unit(id, UnitAction::WatchName) => {
                if let Some(unit) = self.machine.unit(id) {
                    self.host.watch_name(id, unit);
                }
            }
            Action::Unit(id, UnitAction::FindMain) => self.find_main(id),
            Action::Unit(id, UnitAction::End(end)) => self.end(id, end),
            Action::Unit(id, action @ (UnitAction::AwaitEmpty | UnitAction::WatchEmpty)) => {
                self.await_empty(id, action == UnitAction::AwaitEmpty);
            }
            Action::Unit(id, UnitAction::Sockets(work)) => self.work_on_sockets(id, work),
            // The machine's own to do.
            Action::Unit(_, UnitAction::Trigger) => {}
            Action::Unit(id, UnitAction::Accept) => self.accept(id),
            Action::Unit(id, UnitAction::Clean { restarting }) => {
                if let Some(unit) = self.machine.unit(id) {
                    self.host.clean(id, unit, restarting);
                }
            }
            Action::Changed(id, from, to) => {
                self.jobs.changed(id, to, self.host.now().mono);
                self.tell(id, from, to);
            }
            Action::Answer(waiter, result) => self.answers.push_back((waiter, result)),
            Action::End(id, end) => self.end(id, end),
            Action::BootComplete => {
                self.boot_just_complete = true;
                self.write_boot_down();
                let Some(summary) = self.machine.boot_summary() else { return };
                log::info!("{}", describe_boot(&self.machine, summary, self.host.now()));
            }
            Action::AllStopped => self.finish(),
        }
    }

    /// Looks for the process that a service of `Type=forking` left; again, when its PID file may have changed.
    pub fn find_main(&mut self, id: UnitId) {
        let (Some(unit), Some(state)) = (self.machine.unit(id), self.machine.state(id)) else { return };
        if state.phase != Phase::StartForked {
            return;
        }
        let event = match self.host.find_main(id, unit) {
            Found::Main(process) => Event::Spawned(Role::Main, process),
            Found::Unknown => Event::NoMain,
            Found::Later => return,
        };
        let now = self.host.now();
        self.machine.event(id, event, now);
    }

    /// A unit asks for the end of the machine.
    fn end(&mut self, id: UnitId, end: EndAction) {
        let Some((unit, state)) = self.machine.unit(id).zip(self.machine.state(id)) else { return };
        log::error!("{}: {}: this ends the machine: {}", unit.name, state.reason, end.ending.word());
        self.shutdown_now(end.ending);
        if end.at_once {
            self.finish();
        }
    }

    /// Tells PID 1 to end the machine now, whatever still runs.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let Some(ending) = self.ending else { return };
        log::info!("all services are stopped: {}", ending.word());
        self.tell_init(ToInit::End(ending));
    }

    fn spawn(&mut self, id: UnitId, role: Role, command: CommandRef) {
        let (Some(unit), Some(state)) = (self.machine.unit(id), self.machine.state(id)) else { return };
        let Some(found) = find_command(unit, command) else { return };
        let ended = matches!(command, CommandRef::Stop(_) | CommandRef::StopPost(_) | CommandRef::Failure(_))
            .then_some((state.outcome, state.exit_code, state.exit_signal));
        let main_pid = state.main.map(|process| process.pid);
        let named = |other| {
            let unit = self.machine.unit(other)?;
            let name = unit.socket.as_ref().and_then(|socket| socket.descriptor_name.clone());
            Some((other, name.unwrap_or_else(|| unit.name.clone())))
        };
        let sockets = match role {
            Role::Main => self.machine.sockets_of(id).filter_map(named).collect(),
            Role::Control => Vec::new(),
        };
        let launch = Launch { id, unit, command: found, role, main_pid, sockets, ended };
        let event = match self.host.spawn(&launch) {
            Ok(process) => Event::Spawned(role, process),
            Err(reason) => {
                let exit = Exit::NotExecuted(format!("{} could not be started: {reason}", found.program));
                match role {
                    Role::Main => Event::MainExited(exit),
                    Role::Control => Event::ControlExited(exit),
                }
            }
        };
        let now = self.host.now();
        self.machine.event(id, event, now);
    }

    fn tell(&mut self, id: UnitId, from: Phase, to: Phase) {
        let (Some(unit), Some(state)) = (self.machine.unit(id), self.machine.state(id)) else { return };
        if to == Phase::Queued && self.noted.insert(id) {
            for note in &unit.notes {
                log::warn!("{note}");
            }
        }
        if state.phase != to {
            // It has moved on already: only where it came to is of interest, unless it was up meanwhile.
            if to != Phase::Active {
                return;
            }
        }
        if to == Phase::Backoff && is_no_news(unit, state, self.host.now()) {
            self.circling.insert(id);
            return;
        }
        if to == Phase::Active && self.circling.contains(&id) {
            return;
        }
        let line = describe(unit, state, from, to);
        if line.is_some() {
            self.circling.remove(&id);
        }
        match (line, to) {
            (Some(line), Phase::Failed) if unit.error_control != ErrorControl::Ignore => log::error!("{line}"),
            (Some(line), Phase::Backoff | Phase::StopKill) => log::warn!("{line}"),
            (Some(line), _) => log::info!("{line}"),
            (None, _) => {}
        }
    }
}

fn find_command(unit: &Unit, command: CommandRef) -> Option<&Command> {
    let service = &unit.service;
    match command {
        CommandRef::Condition(n) => service.condition.get(n),
        CommandRef::Failure(n) => service.failure_actions.as_ref()?.command.get(n),
        CommandRef::StartPre(n) => service.start_pre.get(n),
        CommandRef::Start(n) => service.start.get(n),
        CommandRef::StartPost(n) => service.start_post.get(n),
        CommandRef::Stop(n) => service.stop.get(n),
        CommandRef::StopPost(n) => service.stop_post.get(n),
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
