//! What a unit's change does to others by what they are to each other (`BindsTo=`, `OnFailure=`, `Conflicts=`), and to
//! the machine; and how a unit of `Type=idle` waits for all others.

use std::collections::BTreeSet;

use super::{Action, Machine};
use crate::graph::UnitId;
use crate::machine::{Event, Now, Outcome, Phase};
use crate::unit::failure::{EndAction, ErrorControl};
use crate::unit::{ServiceType, StartType};

/// A unit of `Type=idle` waits no longer, in microseconds: systemd.service(5), "5s".
const IDLE_BOUND: u64 = 5_000_000;

impl Machine {
    /// A unit has gone from one phase to another: what that does to others.
    pub(super) fn affect(&mut self, id: UnitId, before: Phase, after: Phase) {
        if after.is_down() && !before.is_down() {
            // They cannot be without it.
            let bound = self.node(id).rare().bound_by.iter().copied().filter(|other| !self.phase(*other).is_down());
            self.events.extend(bound.map(|other| (other, Event::Stop)).collect::<Vec<_>>());
        }
        let outcome = self.state(id).map_or(Outcome::Success, |state| state.outcome);
        let started = match (after, outcome) {
            _ if self.ending => Vec::new(),
            (Phase::Failed, _) => self.node(id).rare().on_failure.clone(),
            (Phase::Done, Outcome::Success) => self.node(id).rare().on_success.clone(),
            _ => Vec::new(),
        };
        for other in started {
            // Not fresh, so that two that start each other come to their start limits.
            self.pull(other, false, &mut BTreeSet::new());
            // It has done its work, for what was before: this is another failure, or another success.
            if self.phase(other) == Phase::Done {
                self.events.push_back((other, Event::Start { fresh: false }));
            }
        }
        if after == Phase::Failed && self.boot_begun && self.boot_complete.is_none() {
            self.control_error(id);
        }
        // Others may be idle now.
        if !self.idle.is_empty() && !after.is_starting() && after != Phase::Queued {
            self.checks.extend(self.idle.keys().copied());
        }
    }

    /// A unit that is started at boot has failed: `[X-MMOS] ErrorControl=`.
    fn control_error(&mut self, id: UnitId) {
        let control = self.unit(id).map_or(ErrorControl::Normal, |unit| unit.error_control);
        if self.start_type(id).0 != StartType::Auto {
            return;
        }
        let at_once = match control {
            ErrorControl::Ignore | ErrorControl::Normal => return,
            ErrorControl::Severe => false,
            ErrorControl::Critical => true,
        };
        self.actions.push(Action::End(id, EndAction { ending: link::Ending::Reboot, at_once }));
    }

    /// Whether a unit that needs another one to be up already may have it: it is up, or comes up before this one.
    pub(super) fn is_up_or_awaited(&self, id: UnitId, other: UnitId) -> bool {
        let phase = self.phase(other);
        let comes_first = self.node(id).after.contains(&other);
        matches!(phase, Phase::Active | Phase::Done)
            || (comes_first && (phase == Phase::Queued || phase.is_starting()) && !self.is_hopeless(other))
    }

    pub(super) fn is_idle(&self, id: UnitId) -> bool {
        self.unit(id).is_some_and(|unit| unit.service.kind == ServiceType::Idle)
    }

    /// Whether a unit of `Type=idle` has waited for long enough, or for all others. It waits for none of its own kind.
    pub(super) fn idle_is_over(&mut self, id: UnitId, now: Now) -> bool {
        let since = *self.idle.entry(id).or_insert(now.mono);
        let end = since.saturating_add(IDLE_BOUND);
        let is_busy = self.busy > self.idle.len()
            && self.graph.iter().any(|(other, _)| {
                let phase = self.phase(other);
                (phase == Phase::Queued || phase.is_starting()) && !self.is_idle(other) && !self.is_hopeless(other)
            });
        if is_busy && end > now.mono {
            if let Some(state) = self.states.get_mut(id.index())
                && state.deadline.is_none()
            {
                state.deadline = Some(end);
                self.timers.extend(state.due().map(|at| (at, id)));
            }
            return false;
        }
        self.idle.remove(&id);
        true
    }
}
