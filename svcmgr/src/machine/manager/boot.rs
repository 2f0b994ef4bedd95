//! How a boot begins, also under a supervisor that takes over from one that died, and when it is complete.

use std::collections::BTreeSet;

use super::{Action, BootSummary, Machine, SupervisorTimes};
use crate::graph::UnitId;
use crate::machine::unit::UnitAction;
use crate::machine::{Event, Exit, Now, Phase, UnitState};
use crate::unit::failure::ErrorControl;
use crate::unit::time::Span;
use crate::unit::{Kind, ServiceType, StartType, Unit};

/// A service of which nobody knows more than that its program was executed has to live this long, in microseconds,
/// before the boot is complete with it: most that cannot work die at once.
pub(super) const LIVES: u64 = 100_000;

impl Machine {
    /// Takes over what the supervisor before this one wrote down. Before [`Machine::boot`].
    pub fn restore(&mut self, id: UnitId, state: UnitState) {
        let Some(slot) = self.states.get_mut(id.index()) else { return };
        // A unit that was refused when it was loaded may still run, from when it was not.
        if slot.phase == Phase::Refused && state.phase.is_down() {
            return;
        }
        *slot = state;
        if let Some(at) = slot.due() {
            self.timers.insert((at, id));
        }
        if !slot.phase.is_down() {
            self.busy = self.busy.saturating_add(1);
            self.checks.push_back(id);
        }
    }

    /// The boot was complete already, before the supervisor died.
    pub fn restore_boot(&mut self, summary: BootSummary) {
        self.boot_complete = Some(summary);
    }

    /// Starts the auto units but those that were taken over.
    pub fn boot(&mut self, now: Now, taken_over: &BTreeSet<UnitId>) {
        let autos: Vec<UnitId> = self.autos().collect();
        let mut seen = taken_over.clone();
        self.boot_begun = true;
        // By what was written down, before anything moves because of others.
        for id in taken_over {
            self.resume(*id);
            self.resume_trigger(*id);
            // Nobody heard it meanwhile.
            let span =
                self.state(*id).and_then(|state| state.watchdog).or(self.unit(*id).and_then(|u| u.service.watchdog));
            let span = span.filter(|span| *span != Span::ZERO);
            if let (Some(state), Some(span)) = (self.states.get_mut(id.index()), span)
                && state.phase == Phase::Active
            {
                state.watchdog_at = span.after(now.mono);
                self.timers.extend(state.due().map(|at| (at, *id)));
            }
        }
        if !self.ending {
            // The supervisor may have died between writing down a unit that waits and what it waits for.
            for id in taken_over {
                if self.phase(*id) == Phase::Queued {
                    self.pull(*id, true, &mut BTreeSet::new());
                }
            }
            for id in &autos {
                self.pull(*id, true, &mut seen);
            }
        }
        self.propagate(now);
        self.unsettled = autos.iter().copied().filter(|id| !self.is_settled(*id)).collect();
        let last = autos.iter().filter_map(|id| self.state(*id)?.active_at).max();
        self.last_up_at = self.last_up_at.max(last.unwrap_or(0));
        self.check_boot(now);
    }

    /// Actions that were lost with the supervisor before this one: whatever a unit's phase waits for is set going
    /// again. All of them may be carried out twice without harm.
    pub(super) fn resume(&mut self, id: UnitId) {
        let Some(state) = self.states.get(id.index()) else { return };
        let none_is_known = state.main.is_none() && state.control.is_none();
        let is_all =
            self.unit(id).is_some_and(|unit| unit.service.ends_with_last || unit.service.kind == ServiceType::Forking);
        match state.phase {
            Phase::StartForked => {
                self.actions
                    .extend([UnitAction::FindMain, UnitAction::WatchEmpty].map(|action| Action::Unit(id, action)));
            }
            Phase::Active | Phase::StopHeld if is_all && state.main.is_none() => {
                self.actions.push(Action::Unit(id, UnitAction::WatchEmpty));
            }
            _ => {}
        }
        if state.phase == Phase::StopTerm && state.said_stopping {
            if none_is_known {
                self.actions.push(Action::Unit(id, UnitAction::WatchEmpty));
            }
            return;
        }
        let signal = match state.phase {
            Phase::StopTerm => self.unit(id).map(|unit| unit.service.kill_signal),
            Phase::StopKill | Phase::StopFinal => self.unit(id).map(|unit| unit.service.final_kill_signal),
            _ => None,
        };
        if let Some(signal) = signal {
            self.actions.push(Action::Unit(id, UnitAction::Signal(signal)));
            if none_is_known {
                self.actions.push(Action::Unit(id, UnitAction::AwaitEmpty));
            }
            return;
        }
        // The process that this phase waits for was never made: as if it had not run.
        let lost = match state.phase {
            Phase::StartMain(_) if state.main.is_none() => Some(Event::MainExited(Exit::NeverRan)),
            Phase::Condition(_)
            | Phase::StartPre(_)
            | Phase::StartPost(_)
            | Phase::StopCommand(_)
            | Phase::StopPost(_)
            | Phase::FailureCommand(_)
                if state.control.is_none() =>
            {
                Some(Event::ControlExited(Exit::NeverRan))
            }
            _ => None,
        };
        self.events.extend(lost.map(|event| (id, event)));
    }

    pub(super) fn autos(&self) -> impl Iterator<Item = UnitId> + '_ {
        self.graph.iter().map(|(id, _)| id).filter(|id| self.start_type(*id).0 == StartType::Auto)
    }

    /// How the boot went, once it is complete.
    pub fn boot_summary(&self) -> Option<&BootSummary> {
        self.boot_complete.as_ref()
    }

    /// How far this supervisor was when; to be said before the boot is complete.
    pub fn set_supervisor_times(&mut self, times: SupervisorTimes) {
        self.supervisor_times = times;
    }

    /// How far the supervisor was when, under which the boot became complete, or this one.
    pub fn supervisor_times(&self) -> SupervisorTimes {
        self.boot_complete.as_ref().map_or(self.supervisor_times, |summary| summary.supervisor)
    }

    /// The names of the units after which a unit starts.
    pub fn comes_after(&self, id: UnitId) -> impl Iterator<Item = &str> {
        self.node(id).after.iter().filter_map(|other| Some(self.unit(*other)?.name.as_str()))
    }

    /// All units.
    pub fn units(&self) -> impl Iterator<Item = (UnitId, &Unit)> {
        self.graph.iter()
    }

    pub(super) fn summarize_boot(&self) -> BootSummary {
        let mut summary =
            BootSummary { up_at: self.last_up_at, supervisor: self.supervisor_times, ..BootSummary::default() };
        for id in self.autos() {
            summary.auto = summary.auto.saturating_add(1);
            let Some((unit, state)) = self.unit(id).zip(self.state(id)) else { continue };
            if state.phase == Phase::Done || state.is_steady() {
                summary.up = summary.up.saturating_add(1);
            } else if unit.error_control == ErrorControl::Ignore {
                // The boot is as good without it.
                summary.auto = summary.auto.saturating_sub(1);
            } else {
                summary.failed.push(unit.name.clone());
            }
        }
        summary
    }

    /// Something happened to an auto unit during the boot.
    pub(super) fn note_boot(&mut self, id: UnitId, now: Now) {
        if self.is_settled(id) {
            self.unsettled.remove(&id);
        } else {
            self.unsettled.insert(id);
        }
        if matches!(self.phase(id), Phase::Active | Phase::Done)
            && let Some(at) = self.state(id).and_then(|state| state.active_at)
        {
            self.last_up_at = self.last_up_at.max(at.min(now.boot));
        }
        self.check_boot(now);
    }

    pub(super) fn check_boot(&mut self, now: Now) {
        self.boot_due = None;
        if !self.boot_begun || self.boot_complete.is_some() || !self.unsettled.is_empty() || !self.events.is_empty() {
            return;
        }
        let youngest = self.autos().filter_map(|id| self.executed_at(id)).max();
        let left = youngest.map_or(0, |at| at.saturating_add(LIVES).saturating_sub(now.boot));
        if left > 0 {
            self.boot_due = Some(now.mono.saturating_add(left));
            return;
        }
        self.boot_complete = Some(self.summarize_boot());
        self.actions.push(Action::BootComplete);
    }

    /// When the program of a unit was executed, if it is up and that is all that is known of it.
    pub(super) fn executed_at(&self, id: UnitId) -> Option<u64> {
        let (unit, state) = self.unit(id).zip(self.state(id))?;
        let known_by_that = unit.kind == Kind::Service && unit.service.kind == ServiceType::Exec;
        (known_by_that && state.phase == Phase::Active && state.restarts == 0).then_some(state.active_at?)
    }

    /// Whether the boot does not wait for it any longer; see "When the boot is complete" at the head of [`crate::machine`].
    pub(super) fn is_settled(&self, id: UnitId) -> bool {
        self.state(id).is_none_or(|state| state.phase.is_down() || state.is_steady()) || self.is_hopeless(id)
    }
}
