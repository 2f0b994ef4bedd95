//! How a run of a unit goes on: from one command to the next, up, down, and to what it is to be after that.

use super::{CommandRef, Phase, Role, Step, UnitAction};
use crate::machine::{Exit, Goal, Outcome, Said, SocketWork};
use crate::unit::failure::Act;
use crate::unit::time::Span;
use crate::unit::{KillMode, Kind, ServiceType, StartLimit};

/// What is killed is looked at again after this time, and killed again: SIGKILL cannot be refused, but a process in
/// the midst of a device's work ends only once that is over.
const KILL_AGAIN: Span = Span::seconds(5);

/// A service that `Restart=` brought back is steady at the latest once it has stayed up for so long.
const STEADY_BOUND: Span = Span::seconds(10);

impl Step<'_> {
    /// To be started as soon as the order allows.
    pub(super) fn queue(&mut self, fresh: bool) {
        if fresh {
            self.state.restarts = 0;
            self.state.attempts = 0;
            self.state.limit_count = 0;
            self.state.failures = 0;
            self.state.job_at = self.unit.job_timeout.after(self.now.mono);
        }
        self.state.goal = Goal::Up;
        self.state.act = None;
        self.state.deadline = None;
        self.state.phase = Phase::Queued;
    }

    /// Begins a run, if the start limit allows.
    pub(super) fn begin(&mut self) {
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
            self.state.outcome = Outcome::StartLimit;
            self.actions.extend(self.unit.limit_action.map(UnitAction::End));
            return self.rest(Phase::Failed, &reason);
        }
        self.state.attempts = self.state.attempts.saturating_add(1);
        self.state.outcome = Outcome::Success;
        self.state.reason.clear();
        self.state.said = Said::default();
        self.state.said_stopping = false;
        self.state.watchdog = None;
        self.state.exit_code = None;
        self.state.exit_signal = None;
        self.state.started_at = Some(self.now.boot);
        let running_until = self.unit.job_running_timeout.after(self.now.mono);
        self.state.job_at = [self.state.job_at, running_until].into_iter().flatten().min();
        match self.unit.kind {
            Kind::Target | Kind::Timer => self.up(),
            Kind::Service => self.condition(0),
            Kind::Socket => self.start_pre(0),
        }
    }

    /// Counts this start, if there may be one more: at most `burst` within `interval` from the first of them.
    pub(super) fn limit_allows(&mut self) -> bool {
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

    pub(super) fn condition(&mut self, n: usize) {
        if n < self.service.condition.len() {
            self.state.phase = Phase::Condition(n);
            self.spawn(Role::Control, CommandRef::Condition(n), self.service.timeout_start);
        } else {
            self.start_pre(0);
        }
    }

    pub(super) fn start_pre(&mut self, n: usize) {
        if n < self.service.start_pre.len() {
            self.state.phase = Phase::StartPre(n);
            self.spawn(Role::Control, CommandRef::StartPre(n), self.service.timeout_start);
        } else {
            self.start_main(0);
        }
    }

    pub(super) fn start_main(&mut self, n: usize) {
        if self.unit.kind == Kind::Socket {
            self.state.phase = Phase::StartMain(n);
            self.state.deadline = None;
            self.actions.push(UnitAction::Sockets(SocketWork::Open));
        } else if n < self.service.start.len() {
            self.state.phase = Phase::StartMain(n);
            self.spawn(Role::Main, CommandRef::Start(n), self.service.timeout_start);
        } else {
            self.start_post(0);
        }
    }

    pub(super) fn start_post(&mut self, n: usize) {
        if n < self.service.start_post.len() {
            self.state.phase = Phase::StartPost(n);
            self.spawn(Role::Control, CommandRef::StartPost(n), self.service.timeout_start);
        } else {
            self.up();
        }
    }

    /// All that belongs to starting is done.
    pub(super) fn up(&mut self) {
        self.state.deadline = None;
        self.state.active_at = Some(self.now.boot);
        let oneshot = self.service.kind == ServiceType::Oneshot;
        if self.unit.kind == Kind::Service && oneshot && !self.service.remain_after_exit {
            self.state.attempts = 0;
            return self.stop_command(0);
        }
        self.state.phase = Phase::Active;
        if self.unit.kind == Kind::Service && !oneshot && self.state.main.is_none() {
            if !self.is_all_its_processes() {
                // It ended during ExecStartPost=.
                return self.stop_command(0);
            }
            self.actions.push(UnitAction::WatchEmpty);
        }
        self.state.reason.clear();
        if self.unit.kind == Kind::Timer {
            return self.begin_timer();
        }
        if self.state.restarts > 0 && self.state.main.is_some() {
            self.deadline(steady_after(self.unit.limit));
        } else {
            self.state.attempts = 0;
        }
        if !oneshot {
            self.state.runtime_at = self.service.runtime_max.after(self.now.mono);
            self.wind_watchdog();
        }
    }

    /// Stopping it was called off before anything was told.
    pub(super) fn up_again(&mut self) {
        self.state.phase = Phase::Active;
        if self.unit.kind == Kind::Timer {
            return self.schedule();
        }
        self.state.runtime_at = self.service.runtime_max.after(self.now.mono);
        self.wind_watchdog();
        // It was not asked whether all of it is gone, meanwhile.
        if self.state.main.is_none() && self.is_all_its_processes() {
            self.actions.push(UnitAction::WatchEmpty);
        }
    }

    /// From now on it has to say within a while that it lives.
    pub(super) fn wind_watchdog(&mut self) {
        let span = self.state.watchdog.or(self.service.watchdog).filter(|span| *span != Span::ZERO);
        self.state.watchdog_at = span.and_then(|span| span.after(self.now.mono));
    }

    /// Whether it is up for as long as any of its processes is there.
    pub(super) fn is_all_its_processes(&self) -> bool {
        self.service.ends_with_last || self.service.kind == ServiceType::Forking
    }

    pub(super) fn stop_command(&mut self, n: usize) {
        if matches!(self.unit.kind, Kind::Target | Kind::Timer) {
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
    pub(super) fn hold(&mut self, phase: Phase, goal: Goal) {
        self.state.goal = goal;
        self.state.deadline = None;
        self.state.phase = phase;
    }

    pub(super) fn terminate(&mut self) {
        // It has never had a process.
        if self.unit.kind == Kind::Socket && !self.service.has_commands() {
            return self.stop_post(0);
        }
        // There is nobody left who would be told first.
        if self.service.kill_mode == KillMode::Mixed && self.none_is_known() {
            return self.kill(Phase::StopKill);
        }
        self.state.phase = Phase::StopTerm;
        self.state.said_stopping = false;
        self.deadline(self.service.timeout_stop);
        let restarting = self.state.goal == Goal::Again;
        self.actions.extend(self.service.stop_signals(restarting).into_iter().map(UnitAction::Signal));
        self.await_empty();
    }

    /// As [`Step::terminate`], but so that it leaves a core.
    pub(super) fn abort(&mut self) {
        self.state.phase = Phase::StopTerm;
        self.deadline(self.service.timeout_abort.unwrap_or(self.service.timeout_stop));
        self.actions.push(UnitAction::Signal(self.service.watchdog_signal));
        self.await_empty();
    }

    pub(super) fn kill(&mut self, phase: Phase) {
        self.kill_by(phase, self.service.final_kill_signal);
    }

    /// By a signal; again, by SIGKILL, should some be left after a while.
    pub(super) fn kill_by(&mut self, phase: Phase, signal: i32) {
        self.state.phase = phase;
        self.deadline(KILL_AGAIN);
        self.actions.push(UnitAction::Signal(signal));
        self.await_empty();
    }

    pub(super) fn stop_post(&mut self, n: usize) {
        if n == 0 && self.unit.kind == Kind::Socket {
            self.actions.push(UnitAction::Sockets(SocketWork::Close));
        }
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
    pub(super) fn settle(&mut self) {
        self.state.main = None;
        self.state.control = None;
        let reason = self.state.reason.clone();
        let has_failed = !matches!(self.state.outcome, Outcome::Success | Outcome::Skipped);
        let handled = std::mem::take(&mut self.state.handled);
        let act = if has_failed && self.state.goal == Goal::Up && !handled { self.act_of_failure() } else { None };
        match (self.state.goal, act) {
            (Goal::Down, _) => self.rest(Phase::Inactive, &reason),
            (Goal::Again, _) => self.queue(true),
            (Goal::Up, _) if self.unit.kind == Kind::Target => self.rest(Phase::Done, &reason),
            (Goal::Up, Some((Act::None, _))) => self.rest(Phase::Failed, &reason),
            (Goal::Up, Some((act, delay))) => {
                self.state.act = Some(act);
                self.state.phase = Phase::Backoff;
                self.deadline(delay);
            }
            (Goal::Up, None) if !handled && self.comes_back() => {
                self.state.phase = Phase::Backoff;
                self.deadline(self.service.restart_delay(self.state.restarts));
            }
            (Goal::Up, None) if has_failed => self.rest(Phase::Failed, &reason),
            (Goal::Up, None) => self.rest(Phase::Done, &reason),
        }
        // Where it comes to rest, all is cleared away.
        if self.service.leaves_something() && matches!(self.state.phase, Phase::Queued | Phase::Backoff) {
            self.actions.push(UnitAction::Clean { restarting: true });
        }
    }

    /// `FailureCommand=`.
    pub(super) fn failure_command(&mut self, n: usize) {
        let actions = self.service.failure_actions.as_ref();
        if actions.is_some_and(|actions| n < actions.command.len()) {
            self.state.phase = Phase::FailureCommand(n);
            self.spawn(Role::Control, CommandRef::Failure(n), self.service.timeout_stop);
        } else {
            self.failure_is_handled();
        }
    }

    /// What its commands left is cleared away; then it has failed.
    pub(super) fn failure_is_handled(&mut self) {
        self.state.handled = true;
        self.kill(Phase::StopFinal);
    }

    pub(super) fn rest(&mut self, phase: Phase, reason: &str) {
        self.state.phase = phase;
        if phase == Phase::Inactive {
            self.state.goal = Goal::Down;
        }
        self.state.deadline = None;
        self.state.act = None;
        // Also where it has never come to a process that could have taken its connection, and out of a delay.
        if self.state.connection.take().is_some() || self.service.leaves_something() {
            self.actions.push(UnitAction::Clean { restarting: false });
        }
        reason.clone_into(&mut self.state.reason);
        self.actions.extend(match (phase, self.state.outcome) {
            (Phase::Failed, _) => self.unit.failure_action.map(UnitAction::End),
            (Phase::Done, Outcome::Success) => self.unit.success_action.map(UnitAction::End),
            _ => None,
        });
    }

    pub(super) fn main_ended_while_starting(&mut self, n: usize, exit: &Exit) {
        match self.service.kind {
            ServiceType::Oneshot => match self.state.outcome {
                Outcome::Success => self.start_main(n.saturating_add(1)),
                _ => self.terminate(),
            },
            ServiceType::Notify => {
                let (_, done) = self.service.readiness();
                self.fail(Outcome::ExitCode, &format!("{exit} before it {done}"));
                self.terminate();
            }
            ServiceType::Dbus => {
                self.fail(Outcome::ExitCode, &format!("{exit} before its name was on the bus (BusName=)"));
                self.terminate();
            }
            ServiceType::Exec | ServiceType::Idle => self.stop_command_if_it_ran(exit),
            ServiceType::Forking => match self.state.outcome {
                Outcome::Success => {
                    self.state.phase = Phase::StartForked;
                    self.state.reason.clear();
                    self.actions.extend([UnitAction::FindMain, UnitAction::WatchEmpty]);
                }
                _ => self.terminate(),
            },
        }
    }

    /// The program ended before we heard that it was executed: it was, unless `exit` says otherwise.
    pub(super) fn stop_command_if_it_ran(&mut self, exit: &Exit) {
        match exit {
            Exit::NotExecuted(_) => self.terminate(),
            _ => self.start_post(0),
        }
    }

    pub(super) fn spawn(&mut self, role: Role, command: CommandRef, limit: Span) {
        self.deadline(limit);
        self.actions.push(UnitAction::Spawn(role, command));
    }

    pub(super) fn deadline(&mut self, span: Span) {
        self.state.deadline = span.after(self.now.mono);
    }

    pub(super) fn none_is_known(&self) -> bool {
        self.state.main.is_none() && self.state.control.is_none()
    }

    pub(super) fn await_empty(&mut self) {
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
