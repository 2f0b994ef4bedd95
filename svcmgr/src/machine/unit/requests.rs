//! What people and other units ask of a unit.

use super::{Phase, Step, UnitAction};
use crate::machine::{Goal, Outcome, Verdict};

use Phase::{
    Active, Backoff, Condition, Done, Failed, FailureCommand, Inactive, Queued, Refused, StartForked, StartHeld,
    StartMain, StartPost, StartPre, StopCommand, StopFinal, StopHeld, StopKill, StopPost, StopTerm,
};

impl Step<'_> {
    /// To be up.
    pub(super) fn asked_to_start(&mut self, fresh: bool) {
        match self.state.phase {
            Inactive | Done | Failed | Backoff => self.queue(fresh),
            Queued | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active => {
                self.state.goal = Goal::Up;
            }
            // Nothing has been told yet. To be started again is more than to be up: that stays.
            StopHeld => {
                if self.state.goal == Goal::Down {
                    self.state.goal = Goal::Up;
                    self.up_again();
                }
            }
            StartHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_) => {
                self.state.goal = Goal::Again;
            }
            Refused => {}
        }
    }

    /// To be at rest.
    pub(super) fn asked_to_stop(&mut self) {
        match self.state.phase {
            Inactive | Done | Failed | Refused => self.state.goal = Goal::Down,
            Queued | Backoff => self.rest(Inactive, ""),
            Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) => self.hold(StartHeld, Goal::Down),
            Active => self.hold(StopHeld, Goal::Down),
            StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal
            | FailureCommand(_) => {
                self.state.goal = Goal::Down;
            }
        }
    }

    /// To be at rest, then up.
    pub(super) fn asked_to_restart(&mut self) {
        match self.state.phase {
            Inactive | Done | Failed | Backoff => self.queue(true),
            Queued | Refused => {}
            Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) => {
                self.hold(StartHeld, Goal::Again);
            }
            Active => self.hold(StopHeld, Goal::Again),
            StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal
            | FailureCommand(_) => {
                self.state.goal = Goal::Again;
            }
        }
    }

    /// The others are where they must be.
    pub(super) fn may_go(&mut self) {
        match self.state.phase {
            Queued if !self.unit.conditions.is_empty() => self.actions.push(UnitAction::Ask),
            Queued => self.begin(),
            StartHeld => self.terminate(),
            StopHeld => self.stop_command(0),
            Inactive | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active
            | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_) | Backoff | Done
            | Failed | Refused => {}
        }
    }

    /// Whether its conditions hold.
    pub(super) fn asked(&mut self, verdict: Verdict) {
        match (self.state.phase, verdict) {
            (Queued, Verdict::Go) => self.begin(),
            (Queued, Verdict::Skip(reason)) => {
                self.state.outcome = Outcome::Skipped;
                self.rest(Done, &reason);
            }
            (Queued, Verdict::Fail(reason)) => {
                self.state.outcome = Outcome::NotExecuted;
                self.rest(Failed, &reason);
            }
            // It was stopped meanwhile, or the answer came twice.
            (
                Inactive | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active | StartHeld
                | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
                | Backoff | Done | Failed | Refused,
                _,
            ) => {}
        }
    }

    /// A unit that it needs will not be up.
    pub(super) fn blocked(&mut self, reason: &str) {
        match self.state.phase {
            Queued => {
                self.state.outcome = Outcome::NotExecuted;
                self.rest(Failed, reason);
            }
            Inactive | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Done | Failed | Refused => {}
        }
    }
}
