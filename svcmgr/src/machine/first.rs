//! When the first run of a unit went through what: kept for the analysis of the boot, whatever comes later.

use serde::{Deserialize, Serialize};

use super::{Phase, UnitState};

/// Times of `CLOCK_BOOTTIME`, in microseconds, of a unit's first run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FirstRun {
    /// It was to be started, and waited for what it comes after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<u64>,
    /// It waited for nothing any longer, and was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runnable_at: Option<u64>,
    /// It was ready; of a oneshot, done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<u64>,
    /// It ended without ever being ready: it failed, or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
}

impl UnitState {
    /// Notes what is new of the first run, once the unit has moved on at `now` (`CLOCK_BOOTTIME`).
    pub(super) fn note_first_run(&mut self, now: u64) {
        let first = &mut self.first;
        if first.ready_at.is_some() || first.ended_at.is_some() {
            return;
        }
        if self.phase == Phase::Queued {
            first.queued_at.get_or_insert(now);
        }
        if first.queued_at.is_none() {
            return;
        }
        first.runnable_at = first.runnable_at.or(self.started_at);
        first.ready_at = self.active_at;
        if first.ready_at.is_none() && self.phase != Phase::Queued && !self.phase.is_starting() {
            first.ended_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_stays_whatever_comes_later() {
        let mut state = UnitState::default();
        state.note_first_run(1);
        assert_eq!(state.first, FirstRun::default());
        state.phase = Phase::Queued;
        state.note_first_run(2);
        (state.phase, state.started_at) = (Phase::StartMain(0), Some(5));
        state.note_first_run(5);
        assert_eq!((state.first.queued_at, state.first.runnable_at, state.first.ready_at), (Some(2), Some(5), None));
        (state.phase, state.active_at) = (Phase::Active, Some(9));
        state.note_first_run(9);
        let first = FirstRun { queued_at: Some(2), runnable_at: Some(5), ready_at: Some(9), ended_at: None };
        assert_eq!(state.first, first);
        (state.phase, state.started_at, state.active_at) = (Phase::Backoff, Some(20), Some(30));
        state.note_first_run(31);
        assert_eq!(state.first, first);
    }

    #[test]
    fn a_first_run_that_never_gets_ready_has_ended() {
        let mut state = UnitState { phase: Phase::Queued, ..UnitState::default() };
        state.note_first_run(2);
        let mut blocked = state.clone();
        blocked.phase = Phase::Failed;
        blocked.note_first_run(3);
        assert_eq!((blocked.first.runnable_at, blocked.first.ended_at), (None, Some(3)));
        (state.phase, state.started_at) = (Phase::StartMain(0), Some(5));
        state.note_first_run(5);
        state.phase = Phase::StopTerm;
        state.note_first_run(7);
        assert_eq!((state.first.runnable_at, state.first.ready_at, state.first.ended_at), (Some(5), None, Some(7)));
    }
}
