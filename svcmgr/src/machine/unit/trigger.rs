//! Sockets and timers: what arrives, what time brings, what the units that they start do. How both go through the phases
//! is in `ARCHITECTURE.md`, "What starts another unit".

use super::{Phase, Step, UnitAction};
use crate::machine::{Goal, Outcome, SocketWork, TriggerState, UnitState};
use crate::unit::Kind;

use Phase::{
    Active, Backoff, Condition, Done, Failed, FailureCommand, Inactive, Queued, Refused, StartForked, StartHeld,
    StartMain, StartPost, StartPre, StopCommand, StopFinal, StopHeld, StopKill, StopPost, StopTerm,
};

/// Whether the sockets of a unit are to be watched.
pub(in crate::machine) fn is_watching(kind: Kind, state: &UnitState) -> bool {
    let is_free = state.trigger.as_ref().is_none_or(|trigger| !trigger.taken && trigger.alarm_at.is_none());
    kind == Kind::Socket && state.phase == Active && is_free
}

impl Step<'_> {
    pub(super) fn trigger(&mut self) -> &mut TriggerState {
        self.state.trigger.get_or_insert_default()
    }

    /// The sockets are watched as the state says.
    pub(super) fn follow_watching(&mut self, before: bool) {
        match (before, is_watching(self.unit.kind, self.state)) {
            (false, true) => self.actions.push(UnitAction::Sockets(SocketWork::Watch)),
            (true, false) => self.actions.push(UnitAction::Sockets(SocketWork::Unwatch)),
            (true, true) | (false, false) => {}
        }
    }

    /// Something has arrived on one of its sockets.
    pub(super) fn incoming(&mut self) {
        match self.state.phase {
            Active if is_watching(self.unit.kind, self.state) => self.answer_incoming(),
            Inactive | Queued | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active
            | StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal
            | FailureCommand(_) | Backoff | Done | Failed | Refused => {}
        }
    }

    fn answer_incoming(&mut self) {
        let Some(socket) = &self.unit.socket else { return };
        let now = self.now.mono;
        let (poll, burst) = (socket.poll_limit, socket.poll_burst());
        if let Err(end) = self.trigger().polled.one_more(poll, burst, now) {
            self.trigger().alarm_at = Some(end);
            return;
        }
        let (limit, burst) = (socket.trigger_limit, socket.trigger_burst());
        if self.trigger().triggered.one_more(limit, burst, now).is_err() {
            let interval = limit.interval;
            let reason = format!(
                "its service was to be started more than {burst} times within {interval} (TriggerLimitBurst=, \
                 TriggerLimitIntervalSec=)"
            );
            self.fail(Outcome::StartLimit, &reason);
            return self.stop_command(0);
        }
        self.actions.push(if socket.accept { UnitAction::Accept } else { UnitAction::Trigger });
    }

    /// The time that it waits for has come.
    pub(super) fn alarm(&mut self) {
        let Some(trigger) = &mut self.state.trigger else { return };
        trigger.alarm_at = None;
        match self.state.phase {
            // A socket is watched again, by that alone.
            Active if self.unit.kind == Kind::Timer => {
                self.trigger().moments.last_trigger = Some(self.now.mono);
                self.actions.push(UnitAction::Trigger);
            }
            Inactive | Queued | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active
            | StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal
            | FailureCommand(_) | Backoff | Done | Failed | Refused => {}
        }
    }

    /// What it starts has left rest, whoever started it.
    pub(super) fn taken(&mut self) {
        let now = self.now.mono;
        let trigger = self.trigger();
        trigger.taken = true;
        trigger.alarm_at = None;
        trigger.moments.unit_active = Some(now);
    }

    /// What it starts has come to rest; with a reason, in a way that starting it again would not mend.
    pub(super) fn released(&mut self, reason: Option<&str>) {
        let now = self.now.mono;
        let trigger = self.trigger();
        trigger.taken = false;
        trigger.moments.unit_inactive = Some(now);
        match (self.state.phase, self.unit.kind, reason) {
            (Active, Kind::Socket, Some(reason)) => self.trigger_failed(reason),
            (Active, Kind::Socket, None) => {
                if self.unit.socket.as_ref().is_some_and(|socket| socket.flush_pending) {
                    self.actions.push(UnitAction::Sockets(SocketWork::Flush));
                }
            }
            (Active, Kind::Timer, _) => self.schedule(),
            (
                Inactive | Queued | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active
                | StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal
                | FailureCommand(_) | Backoff | Done | Failed | Refused,
                _,
                _,
            ) => {}
        }
    }

    /// What it is to start cannot be started.
    pub(super) fn trigger_failed(&mut self, reason: &str) {
        match self.state.phase {
            Active => {
                self.fail(Outcome::NotExecuted, reason);
                self.stop_command(0);
            }
            Inactive | Queued | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Done | Failed | Refused => {}
        }
    }

    /// It is to be up, since a socket or a timer says so: as if somebody had asked, but that its start limit counts.
    pub(super) fn triggered(&mut self) {
        let limit = (self.state.limit_begun, self.state.limit_count);
        match self.state.phase {
            Inactive | Done | Failed => {
                self.queue(true);
                (self.state.limit_begun, self.state.limit_count) = limit;
            }
            Queued | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Refused => self.asked_to_start(false),
        }
    }

    /// A timer is up: what it counts from begins.
    pub(super) fn begin_timer(&mut self) {
        let now = self.now.mono;
        let trigger = self.trigger();
        trigger.moments.active = now;
        trigger.moments.last_trigger = None;
        self.schedule();
    }

    /// When a timer elapses next; one that has nothing left to wait for may have done its work.
    pub(super) fn schedule(&mut self) {
        let Some(timer) = &self.unit.timer else { return };
        let now = self.now.mono;
        let trigger = self.state.trigger.get_or_insert_default();
        trigger.alarm_at = None;
        if trigger.taken {
            return;
        }
        match timer.next(&trigger.moments, now) {
            Some(at) => trigger.alarm_at = Some(at.saturating_add(timer.random_delay(&self.unit.name, now))),
            None if timer.remain_after_elapse || timer.repeats() => {}
            None => {
                self.state.goal = Goal::Up;
                self.stop_command(0);
            }
        }
    }
}
