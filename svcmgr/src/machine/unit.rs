//! One unit: `(state, event) → (state', actions)`. The pairs are explained at the head of [`super`]; each kind of event
//! has one exhaustive match over the phases, in the modules below: what people and other units ask for, what becomes of
//! processes, what time brings. What they lead to is in [`run`].

mod outcome;
mod processes;
mod requests;
mod run;
mod time;
mod trigger;

use crate::unit::failure::{Act, EndAction};
use crate::unit::{Kind, Service, Unit};

use super::{CommandRef, Event, Now, Phase, Role, SocketWork, UnitState};
pub(super) use trigger::is_watching;

/// What is to be done for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitAction {
    /// Look up whether its conditions hold, and say [`Event::Asked`].
    Ask,
    /// Make a process. Answer: [`Event::Spawned`], or the exit [`super::Exit::NotExecuted`].
    Spawn(Role, CommandRef),
    /// Find the process that the one that was started left, and say [`Event::Spawned`] or [`Event::NoMain`], once it is
    /// known.
    FindMain,
    /// Say [`Event::Named`] once its name on the bus has an owner.
    WatchName,
    /// Send a signal to all of the unit's processes.
    Signal(i32),
    /// Say [`Event::Empty`] once none of the unit's processes is left, which may be now.
    AwaitEmpty,
    /// The same, for one that is not being stopped: also where `KillMode=` would let processes stay.
    WatchEmpty,
    /// Remove what was made for the unit's processes, which are gone.
    Clean {
        /// They are to be made again.
        restarting: bool,
    },
    /// Do something about its sockets.
    Sockets(SocketWork),
    /// Start what it is there to start, or say [`Event::TriggerFailed`].
    Trigger,
    /// Take a connection, and start a service for it.
    Accept,
    /// End the machine.
    End(EndAction),
}

/// Takes `state` on by one event. The same state and event always give the same result.
pub fn step(unit: &Unit, state: &mut UnitState, event: Event, now: Now) -> Vec<UnitAction> {
    let mut step = Step { unit, service: &unit.service, state, now, actions: Vec::new() };
    let was_watching = is_watching(unit.kind, step.state);
    step.take(event);
    step.follow_watching(was_watching);
    if unit.kind == Kind::Timer
        && step.state.phase != Phase::Active
        && let Some(trigger) = &mut step.state.trigger
    {
        trigger.alarm_at = None;
    }
    // While it is up alone is it asked whether it lives, and for how long.
    if step.state.phase != Phase::Active {
        step.state.watchdog_at = None;
        step.state.runtime_at = None;
    }
    if step.state.phase.is_down() || step.state.phase == Phase::Active {
        step.state.job_at = None;
    }
    step.actions
}

struct Step<'a> {
    unit: &'a Unit,
    service: &'a Service,
    state: &'a mut UnitState,
    now: Now,
    actions: Vec<UnitAction>,
}

impl Step<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Start { fresh } => self.asked_to_start(fresh),
            Event::Stop => self.asked_to_stop(),
            Event::Restart => self.asked_to_restart(),
            Event::Go => self.may_go(),
            Event::Asked(verdict) => self.asked(verdict),
            Event::Blocked(reason) => self.blocked(&reason),
            Event::Spawned(role, process) => self.spawned(role, process),
            Event::NoMain => self.no_main(),
            Event::Executed => self.executed(),
            Event::Ready => self.ready(),
            Event::Named => self.named(),
            Event::Alive => self.alive(),
            Event::WatchdogSpan(span) => self.watchdog_span(span),
            Event::Extend(span) => self.extend(span),
            Event::Stopping => self.says_that_it_stops(),
            Event::MainExited(exit) => self.main_exited(&exit),
            Event::ControlExited(exit) => self.control_exited(&exit),
            Event::Empty => self.emptied(),
            Event::OutOfMemory => self.out_of_memory(),
            Event::Timeout => self.deadline_passed(),
            Event::WatchdogLate => self.watchdog_late(),
            Event::RuntimeOver => self.runtime_over(),
            Event::JobLate => self.job_late(),
            Event::Incoming => self.incoming(),
            Event::Alarm => self.alarm(),
            Event::Taken => self.taken(),
            Event::Released(reason) => self.released(reason.as_deref()),
            Event::TriggerFailed(reason) => self.trigger_failed(&reason),
            Event::Triggered => self.triggered(),
        }
    }

    /// What is done about this failure, by `[X-MMOS] FailureActions=`, and after how long. Counts it.
    fn act_of_failure(&mut self) -> Option<(Act, crate::unit::time::Span)> {
        let actions = self.service.failure_actions.as_ref().filter(|actions| !actions.list.is_empty())?;
        let over = actions.reset.after(self.state.failed_at).is_some_and(|end| end <= self.now.mono);
        if over {
            self.state.failures = 0;
        }
        let act = actions.of(self.state.failures);
        self.state.failures = self.state.failures.saturating_add(1);
        self.state.failed_at = self.now.mono;
        act
    }
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "unit_trigger_tests.rs"]
mod trigger_tests;
