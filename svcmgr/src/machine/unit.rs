//! One unit: `(state, event) → (state', actions)`, by one exhaustive match. The pairs are explained at the head of
//! [`super`].

use crate::unit::resources::OomPolicy;
use crate::unit::time::Span;
use crate::unit::{Command, KillMode, Kind, Restart, Service, ServiceType, StartLimit, Unit};

use super::{CommandRef, Event, Exit, Goal, Now, Outcome, Phase, Role, UnitState};

/// What is killed is looked at again after this time, and killed again: SIGKILL cannot be refused, but a process in
/// the midst of a device's work ends only once that is over.
const KILL_AGAIN: Span = Span::seconds(5);

/// A service that `Restart=` brought back is steady at the latest once it has stayed up for so long.
const STEADY_BOUND: Span = Span::seconds(10);

/// What is to be done for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitAction {
    /// Make a process. Answer: [`Event::Spawned`], or the exit [`Exit::NotExecuted`].
    Spawn(Role, CommandRef),
    /// Send a signal to all of the unit's processes.
    Signal(i32),
    /// Say [`Event::Empty`] once none of the unit's processes is left, which may be now.
    AwaitEmpty,
    /// Remove what was made for the unit's processes, which are gone.
    Clean {
        /// They are to be made again.
        restarting: bool,
    },
}

/// Takes `state` on by one event. The same state and event always give the same result.
pub fn step(unit: &Unit, state: &mut UnitState, event: Event, now: Now) -> Vec<UnitAction> {
    let mut step = Step { unit, service: &unit.service, state, now, actions: Vec::new() };
    step.take(event);
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
        use Event::{
            Blocked, ControlExited, Empty, Executed, Go, MainExited, OutOfMemory, Ready, Restart, Spawned, Start, Stop,
            Timeout,
        };
        use Phase::{
            Active, Backoff, Done, Failed, Inactive, Queued, Refused, StartHeld, StartMain, StartPost, StartPre,
            StopCommand, StopFinal, StopHeld, StopKill, StopPost, StopTerm,
        };
        match (self.state.phase, event) {
            // Start: to be up.
            (Inactive | Done | Failed | Backoff, Start { fresh }) => self.queue(fresh),
            (Queued | StartPre(_) | StartMain(_) | StartPost(_) | Active, Start { .. }) => self.state.goal = Goal::Up,
            // Nothing has been told yet. To be started again is more than to be up: that stays.
            (StopHeld, Start { .. }) => {
                if self.state.goal == Goal::Down {
                    self.state.goal = Goal::Up;
                    self.state.phase = Active;
                }
            }
            (StartHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal, Start { .. }) => {
                self.state.goal = Goal::Again;
            }
            (Refused, Start { .. }) => {}

            // Stop: to be at rest.
            (Inactive | Done | Failed | Refused, Stop) => self.state.goal = Goal::Down,
            (Queued | Backoff, Stop) => self.rest(Inactive, ""),
            (StartPre(_) | StartMain(_) | StartPost(_), Stop) => self.hold(StartHeld, Goal::Down),
            (Active, Stop) => self.hold(StopHeld, Goal::Down),
            (StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal, Stop) => {
                self.state.goal = Goal::Down;
            }

            // Restart: to be at rest, then up.
            (Inactive | Done | Failed | Backoff, Restart) => self.queue(true),
            (Queued | Refused, Restart) => {}
            (StartPre(_) | StartMain(_) | StartPost(_), Restart) => self.hold(StartHeld, Goal::Again),
            (Active, Restart) => self.hold(StopHeld, Goal::Again),
            (StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal, Restart) => {
                self.state.goal = Goal::Again;
            }

            // Go: the others are where they must be.
            (Queued, Go) => self.begin(),
            (StartHeld, Go) => self.terminate(),
            (StopHeld, Go) => self.stop_command(0),
            (
                Inactive | StartPre(_) | StartMain(_) | StartPost(_) | Active | StopCommand(_) | StopTerm | StopKill
                | StopPost(_) | StopFinal | Backoff | Done | Failed | Refused,
                Go,
            ) => {}

            // Blocked: a unit that it requires will not be up.
            (Queued, Blocked(reason)) => {
                self.state.outcome = Outcome::NotExecuted;
                self.rest(Failed, &reason);
            }
            (
                Inactive | StartPre(_) | StartMain(_) | StartPost(_) | Active | StartHeld | StopHeld | StopCommand(_)
                | StopTerm | StopKill | StopPost(_) | StopFinal | Backoff | Done | Failed | Refused,
                Blocked(_),
            ) => {}

            // Spawned: in answer to an action, in the phase that asked for it.
            (
                StartPre(_) | StartMain(_) | StartPost(_) | Active | StartHeld | StopHeld | StopCommand(_) | StopTerm
                | StopKill | StopPost(_) | StopFinal,
                Spawned(role, process),
            ) => match role {
                Role::Main => self.state.main = Some(process),
                Role::Control => self.state.control = Some(process),
            },
            (Inactive | Queued | Backoff | Done | Failed | Refused, Spawned(..)) => {}

            // Executed: a service of type exec is up with that.
            (StartMain(_), Executed) => {
                if self.service.kind == ServiceType::Exec {
                    self.start_post(0);
                }
            }
            (
                Inactive | Queued | StartPre(_) | StartPost(_) | Active | StartHeld | StopHeld | StopCommand(_)
                | StopTerm | StopKill | StopPost(_) | StopFinal | Backoff | Done | Failed | Refused,
                Executed,
            ) => {}

            // Ready: a service of type notify is up with that.
            (StartMain(_), Ready) => {
                if self.service.kind == ServiceType::Notify {
                    self.start_post(0);
                }
            }
            (
                Inactive | Queued | StartPre(_) | StartPost(_) | Active | StartHeld | StopHeld | StopCommand(_)
                | StopTerm | StopKill | StopPost(_) | StopFinal | Backoff | Done | Failed | Refused,
                Ready,
            ) => {}

            // The main process ended.
            (StartMain(n), MainExited(Exit::NeverRan)) => {
                self.state.main = None;
                self.start_main(n);
            }
            (StartMain(n), MainExited(exit)) => {
                self.main_is_gone(&exit);
                self.main_ended_while_starting(n, &exit);
            }
            (StartPost(_), MainExited(exit)) => self.main_is_gone(&exit),
            (StartHeld, MainExited(exit)) => {
                self.main_is_gone(&exit);
                self.terminate();
            }
            (Active | StopHeld, MainExited(exit)) => {
                self.main_is_gone(&exit);
                self.stop_command(0);
            }
            (StopTerm, MainExited(exit))
                if self.service.kill_mode == KillMode::Mixed && self.state.control.is_none() =>
            {
                self.main_is_gone(&exit);
                self.kill(StopKill);
            }
            (StopTerm | StopKill | StopFinal, MainExited(exit)) => {
                self.main_is_gone(&exit);
                self.await_empty();
            }
            (StartPre(_) | StopCommand(_) | StopPost(_), MainExited(exit)) => self.main_is_gone(&exit),
            (Inactive | Queued | Backoff | Done | Failed | Refused, MainExited(_)) => self.state.main = None,

            // The command beside it ended.
            (StartPre(n), ControlExited(Exit::NeverRan)) => {
                self.state.control = None;
                self.start_pre(n);
            }
            (StartPost(n), ControlExited(Exit::NeverRan)) => {
                self.state.control = None;
                self.start_post(n);
            }
            (StopCommand(n), ControlExited(Exit::NeverRan)) => {
                self.state.control = None;
                self.stop_command(n);
            }
            (StopPost(n), ControlExited(Exit::NeverRan)) => {
                self.state.control = None;
                self.stop_post(n);
            }
            (StartPre(n), ControlExited(exit)) => {
                self.state.control = None;
                match self.control_failed("ExecStartPre", self.service.start_pre.get(n), &exit) {
                    true => self.terminate(),
                    false => self.start_pre(n.saturating_add(1)),
                }
            }
            (StartPost(n), ControlExited(exit)) => {
                self.state.control = None;
                match self.control_failed("ExecStartPost", self.service.start_post.get(n), &exit) {
                    true => self.terminate(),
                    false => self.start_post(n.saturating_add(1)),
                }
            }
            (StopCommand(n), ControlExited(exit)) => {
                self.state.control = None;
                self.control_failed("ExecStop", self.service.stop.get(n), &exit);
                self.stop_command(n.saturating_add(1));
            }
            (StopPost(n), ControlExited(exit)) => {
                self.state.control = None;
                self.control_failed("ExecStopPost", self.service.stop_post.get(n), &exit);
                self.stop_post(n.saturating_add(1));
            }
            (StopTerm | StopKill | StopFinal, ControlExited(_)) => {
                self.state.control = None;
                self.await_empty();
            }
            (
                Inactive | Queued | StartMain(_) | Active | StartHeld | StopHeld | Backoff | Done | Failed | Refused,
                ControlExited(_),
            ) => self.state.control = None,

            // None of its processes is left.
            (StopTerm | StopKill, Empty) => {
                if self.none_is_known() {
                    self.stop_post(0);
                }
            }
            (StopFinal, Empty) => {
                if self.none_is_known() {
                    self.settle();
                }
            }
            (
                Inactive | Queued | StartPre(_) | StartMain(_) | StartPost(_) | Active | StartHeld | StopHeld
                | StopCommand(_) | StopPost(_) | Backoff | Done | Failed | Refused,
                Empty,
            ) => {}

            // The kernel ended one of its processes for want of memory.
            (StartPre(_) | StartMain(_) | StartPost(_) | Active | StopHeld | StopCommand(_), OutOfMemory) => {
                if self.service.oom_policy() != OomPolicy::Continue {
                    let reason = "the kernel ended a process of it for want of memory (OOMPolicy=)";
                    self.fail(Outcome::OutOfMemory, reason);
                    self.terminate();
                }
            }
            // It is being ended anyhow: this is why.
            (StartHeld | StopTerm | StopKill | StopPost(_) | StopFinal, OutOfMemory) => {}
            (Inactive | Queued | Backoff | Done | Failed | Refused, OutOfMemory) => {}

            // Its deadline has passed.
            (phase @ (StartPre(_) | StartMain(_) | StartPost(_)), Timeout) => {
                let what = match (phase, self.service.kind) {
                    (StartPre(_), _) => "ExecStartPre= did not end",
                    (StartPost(_), _) => "ExecStartPost= did not end",
                    (_, ServiceType::Notify) => "it did not say READY=1",
                    (_, ServiceType::Oneshot) => "it did not end",
                    (_, ServiceType::Exec) => "it was not executed",
                };
                let limit = self.service.timeout_start;
                self.fail(Outcome::Timeout, &format!("{what} within {limit} (TimeoutStartSec=)"));
                self.terminate();
            }
            (StopCommand(_), Timeout) => {
                let limit = self.service.timeout_stop;
                self.fail(Outcome::Timeout, &format!("ExecStop= did not end within {limit} (TimeoutStopSec=)"));
                self.terminate();
            }
            (StopTerm, Timeout) => {
                let limit = self.service.timeout_stop;
                self.fail(
                    Outcome::Timeout,
                    &format!("it did not end within {limit} (TimeoutStopSec=), and was killed"),
                );
                self.kill(StopKill);
            }
            (StopPost(_), Timeout) => {
                let limit = self.service.timeout_stop;
                self.fail(Outcome::Timeout, &format!("ExecStopPost= did not end within {limit} (TimeoutStopSec=)"));
                self.kill(StopFinal);
            }
            (phase @ (StopKill | StopFinal), Timeout) => self.kill(phase),
            (Backoff, Timeout) => {
                self.state.restarts = self.state.restarts.saturating_add(1);
                self.state.deadline = None;
                self.state.phase = Queued;
            }
            // It has stayed up: steady.
            (Active, Timeout) => {
                self.state.deadline = None;
                self.state.attempts = 0;
            }
            (Inactive | Queued | StartHeld | StopHeld | Done | Failed | Refused, Timeout) => self.state.deadline = None,
        }
    }

    /// To be started as soon as the order allows.
    fn queue(&mut self, fresh: bool) {
        if fresh {
            self.state.restarts = 0;
            self.state.attempts = 0;
            self.state.limit_count = 0;
        }
        self.state.goal = Goal::Up;
        self.state.deadline = None;
        self.state.phase = Phase::Queued;
    }

    /// Begins a run, if the start limit allows.
    fn begin(&mut self) {
        if !self.limit_allows() {
            let limit = self.unit.limit;
            let last = match self.state.reason.as_str() {
                "" => String::new(),
                reason => format!("; the last time: {reason}"),
            };
            let reason = format!(
                "started {} times within {} (StartLimitBurst=, StartLimitIntervalSec=){last}",
                limit.burst, limit.interval
            );
            return self.rest(Phase::Failed, &reason);
        }
        self.state.attempts = self.state.attempts.saturating_add(1);
        self.state.outcome = Outcome::Success;
        self.state.reason.clear();
        self.state.status.clear();
        self.state.exit_code = None;
        self.state.exit_signal = None;
        self.state.started_at = Some(self.now.boot);
        match self.unit.kind {
            Kind::Target => self.up(),
            Kind::Service => self.start_pre(0),
        }
    }

    /// Counts this start, if there may be one more: at most `burst` within `interval` from the first of them.
    fn limit_allows(&mut self) -> bool {
        let limit = self.unit.limit;
        if limit.burst == 0 || limit.interval == Span::ZERO {
            return true;
        }
        let over = limit.interval.after(self.state.limit_begun).is_some_and(|end| end < self.now.mono);
        if self.state.limit_count == 0 || over {
            self.state.limit_begun = self.now.mono;
            self.state.limit_count = 0;
        }
        if self.state.limit_count >= limit.burst {
            return false;
        }
        self.state.limit_count = self.state.limit_count.saturating_add(1);
        true
    }

    fn start_pre(&mut self, n: usize) {
        if n < self.service.start_pre.len() {
            self.state.phase = Phase::StartPre(n);
            self.spawn(Role::Control, CommandRef::StartPre(n), self.service.timeout_start);
        } else {
            self.start_main(0);
        }
    }

    fn start_main(&mut self, n: usize) {
        if n < self.service.start.len() {
            self.state.phase = Phase::StartMain(n);
            self.spawn(Role::Main, CommandRef::Start(n), self.service.timeout_start);
        } else {
            self.start_post(0);
        }
    }

    fn start_post(&mut self, n: usize) {
        if n < self.service.start_post.len() {
            self.state.phase = Phase::StartPost(n);
            self.spawn(Role::Control, CommandRef::StartPost(n), self.service.timeout_start);
        } else {
            self.up();
        }
    }

    /// All that belongs to starting is done.
    fn up(&mut self) {
        self.state.deadline = None;
        self.state.active_at = Some(self.now.boot);
        let oneshot = self.service.kind == ServiceType::Oneshot;
        if self.unit.kind == Kind::Service && oneshot && !self.service.remain_after_exit {
            self.state.attempts = 0;
            return self.stop_command(0);
        }
        self.state.phase = Phase::Active;
        if self.unit.kind == Kind::Service && !oneshot && self.state.main.is_none() {
            // It ended during ExecStartPost=.
            return self.stop_command(0);
        }
        self.state.reason.clear();
        if self.state.restarts > 0 && self.state.main.is_some() {
            self.deadline(steady_after(self.unit.limit));
        } else {
            self.state.attempts = 0;
        }
    }

    fn stop_command(&mut self, n: usize) {
        if self.unit.kind == Kind::Target {
            return self.settle();
        }
        if n < self.service.stop.len() {
            self.state.phase = Phase::StopCommand(n);
            self.spawn(Role::Control, CommandRef::Stop(n), self.service.timeout_stop);
        } else {
            self.terminate();
        }
    }

    /// To be stopped, as soon as the order allows. That may take longer than what it is doing was given.
    fn hold(&mut self, phase: Phase, goal: Goal) {
        self.state.goal = goal;
        self.state.deadline = None;
        self.state.phase = phase;
    }

    fn terminate(&mut self) {
        // There is nobody left who would be told first.
        if self.service.kill_mode == KillMode::Mixed && self.none_is_known() {
            return self.kill(Phase::StopKill);
        }
        self.state.phase = Phase::StopTerm;
        self.deadline(self.service.timeout_stop);
        self.actions.push(UnitAction::Signal(self.service.kill_signal));
        self.await_empty();
    }

    fn kill(&mut self, phase: Phase) {
        self.state.phase = phase;
        self.deadline(KILL_AGAIN);
        self.actions.push(UnitAction::Signal(libc::SIGKILL));
        self.await_empty();
    }

    fn stop_post(&mut self, n: usize) {
        if n < self.service.stop_post.len() {
            self.state.phase = Phase::StopPost(n);
            self.spawn(Role::Control, CommandRef::StopPost(n), self.service.timeout_stop);
        } else if n > 0 {
            self.kill(Phase::StopFinal);
        } else {
            self.settle();
        }
    }

    /// None of its processes is left: what it is to be now.
    fn settle(&mut self) {
        self.state.main = None;
        self.state.control = None;
        let reason = self.state.reason.clone();
        match self.state.goal {
            Goal::Down => self.rest(Phase::Inactive, &reason),
            Goal::Again => self.queue(true),
            Goal::Up if self.unit.kind == Kind::Target => self.rest(Phase::Done, &reason),
            Goal::Up if restarts_after(self.service.restart, self.state.outcome) => {
                self.state.phase = Phase::Backoff;
                self.deadline(self.service.restart_delay(self.state.restarts));
            }
            Goal::Up if self.state.outcome == Outcome::Success => self.rest(Phase::Done, &reason),
            Goal::Up => self.rest(Phase::Failed, &reason),
        }
        if self.service.leaves_something() {
            let restarting = matches!(self.state.phase, Phase::Queued | Phase::Backoff);
            self.actions.push(UnitAction::Clean { restarting });
        }
    }

    fn rest(&mut self, phase: Phase, reason: &str) {
        self.state.phase = phase;
        if phase == Phase::Inactive {
            self.state.goal = Goal::Down;
        }
        self.state.deadline = None;
        self.state.reason = reason.to_owned();
    }

    fn main_is_gone(&mut self, exit: &Exit) {
        self.state.main = None;
        (self.state.exit_code, self.state.exit_signal) = match exit {
            Exit::Code(code) => (Some(*code), None),
            Exit::Signal { signal, .. } => (None, Some(*signal)),
            Exit::NotExecuted(_) | Exit::NeverRan | Exit::Unknown => (None, None),
        };
        // One that was told to end may end as it likes: nobody asks how.
        let told = self.state.goal != Goal::Up
            || matches!(self.state.phase, Phase::StopTerm | Phase::StopKill | Phase::StopFinal);
        let number = match self.state.phase {
            Phase::StartMain(n) => n,
            _ => 0,
        };
        let ignored = self.service.start.get(number).is_some_and(|command| command.ignore_failure);
        let outcome = outcome_of(exit, self.service);
        if !told && !ignored && outcome != Outcome::Success {
            self.fail(outcome, &exit.to_string());
        } else if !told && self.state.outcome == Outcome::Success {
            self.state.reason = exit.to_string();
        }
    }

    fn main_ended_while_starting(&mut self, n: usize, exit: &Exit) {
        match self.service.kind {
            ServiceType::Oneshot => match self.state.outcome {
                Outcome::Success => self.start_main(n.saturating_add(1)),
                _ => self.terminate(),
            },
            ServiceType::Notify => {
                self.fail(Outcome::ExitCode, &format!("{exit} before it said READY=1"));
                self.terminate();
            }
            ServiceType::Exec => self.stop_command_if_it_ran(exit),
        }
    }

    /// The program ended before we heard that it was executed: it was, unless `exit` says otherwise.
    fn stop_command_if_it_ran(&mut self, exit: &Exit) {
        match exit {
            Exit::NotExecuted(_) => self.terminate(),
            _ => self.start_post(0),
        }
    }

    /// Notes how a command beside the service ended; whether that is a failure.
    fn control_failed(&mut self, directive: &str, command: Option<&Command>, exit: &Exit) -> bool {
        let ignored = command.is_some_and(|command| command.ignore_failure);
        if ignored || *exit == Exit::Code(0) {
            return false;
        }
        let program = command.map_or("", |command| command.program.as_str());
        let outcome = match exit {
            Exit::Code(_) => Outcome::ExitCode,
            Exit::Signal { core: true, .. } => Outcome::CoreDump,
            Exit::Signal { .. } => Outcome::Signal,
            Exit::NotExecuted(_) => Outcome::NotExecuted,
            Exit::NeverRan | Exit::Unknown => Outcome::Unknown,
        };
        self.fail(outcome, &format!("{directive}={program} {exit}"));
        true
    }

    /// The first failure of a run stays.
    fn fail(&mut self, outcome: Outcome, reason: &str) {
        if self.state.outcome == Outcome::Success {
            self.state.outcome = outcome;
            self.state.reason = reason.to_owned();
        }
    }

    fn spawn(&mut self, role: Role, command: CommandRef, limit: Span) {
        self.deadline(limit);
        self.actions.push(UnitAction::Spawn(role, command));
    }

    fn deadline(&mut self, span: Span) {
        self.state.deadline = span.after(self.now.mono);
    }

    fn none_is_known(&self) -> bool {
        self.state.main.is_none() && self.state.control.is_none()
    }

    fn await_empty(&mut self) {
        if self.none_is_known() {
            self.actions.push(UnitAction::AwaitEmpty);
        }
    }
}

/// How long a service that `Restart=` brought back has to stay up until it is steady: for so long that, should it go on
/// crashing at that pace, its start limit would not end it.
fn steady_after(limit: StartLimit) -> Span {
    let StartLimit { interval, burst } = match limit {
        StartLimit { burst: 0, .. } | StartLimit { interval: Span::ZERO, .. } => StartLimit::DEFAULT,
        limit => limit,
    };
    Span(interval.0.checked_div(burst.into()).unwrap_or(0)).min(STEADY_BOUND)
}

/// What the end of a main process means; systemd.service(5), `SuccessExitStatus=`.
fn outcome_of(exit: &Exit, service: &Service) -> Outcome {
    match exit {
        Exit::Code(0) => Outcome::Success,
        Exit::Code(code) if service.success.codes.contains(code) => Outcome::Success,
        Exit::Code(_) => Outcome::ExitCode,
        Exit::Signal { signal, .. } if service.success.signals.contains(signal) => Outcome::Success,
        Exit::Signal { signal: libc::SIGHUP | libc::SIGINT | libc::SIGTERM | libc::SIGPIPE, .. }
            if service.kind != ServiceType::Oneshot =>
        {
            Outcome::Success
        }
        Exit::Signal { core: true, .. } => Outcome::CoreDump,
        Exit::Signal { .. } => Outcome::Signal,
        Exit::NotExecuted(_) => Outcome::NotExecuted,
        Exit::NeverRan | Exit::Unknown => Outcome::Unknown,
    }
}

/// systemd.service(5), "Exit causes and the effect of the Restart= settings".
fn restarts_after(policy: Restart, outcome: Outcome) -> bool {
    match policy {
        Restart::No | Restart::OnWatchdog => false,
        Restart::Always => true,
        Restart::OnSuccess => outcome == Outcome::Success,
        Restart::OnFailure => outcome != Outcome::Success,
        Restart::OnAbnormal => !matches!(outcome, Outcome::Success | Outcome::ExitCode | Outcome::NotExecuted),
        Restart::OnAbort => matches!(outcome, Outcome::Signal | Outcome::CoreDump),
    }
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
