//! What the end of a process means, and whether a service is started again after it.

use super::Step;
use crate::machine::{Exit, Goal, Outcome, Phase};
use crate::unit::{Command, Restart, Service, ServiceType};

impl Step<'_> {
    pub(super) fn main_is_gone(&mut self, exit: &Exit) {
        self.state.main = None;
        (self.state.exit_code, self.state.exit_signal) = match exit {
            Exit::Code(code) => (Some(*code), None),
            Exit::Signal { signal, .. } => (None, Some(*signal)),
            Exit::NotExecuted(_) | Exit::NeverRan | Exit::Unknown => (None, None),
        };
        // One that was told to end may end as it likes: nobody asks how.
        let told = self.state.goal != Goal::Up
            || matches!(self.state.phase, Phase::StopKill | Phase::StopFinal)
            || (self.state.phase == Phase::StopTerm && !self.state.said_stopping);
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

    /// Notes how a command beside the service ended; whether that is a failure.
    pub(super) fn control_failed(&mut self, directive: &str, command: Option<&Command>, exit: &Exit) -> bool {
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
    pub(super) fn fail(&mut self, outcome: Outcome, reason: &str) {
        if self.state.outcome == Outcome::Success {
            self.state.outcome = outcome;
            reason.clone_into(&mut self.state.reason);
        }
    }

    /// Whether `Restart=` and its like bring it back.
    pub(super) fn comes_back(&self) -> bool {
        let (code, signal) = (self.state.exit_code, self.state.exit_signal);
        if self.state.outcome == Outcome::Skipped || self.service.restart_prevent.holds(code, signal) {
            return false;
        }
        self.service.restart_force.holds(code, signal) || restarts_after(self.service.restart, self.state.outcome)
    }
}

/// What the end of a main process means; systemd.service(5), `SuccessExitStatus=`.
pub(super) fn outcome_of(exit: &Exit, service: &Service) -> Outcome {
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
pub(super) fn restarts_after(policy: Restart, outcome: Outcome) -> bool {
    match policy {
        Restart::No => false,
        Restart::Always => true,
        Restart::OnSuccess => outcome == Outcome::Success,
        Restart::OnFailure => outcome != Outcome::Success,
        Restart::OnAbnormal => {
            !matches!(outcome, Outcome::Success | Outcome::Skipped | Outcome::ExitCode | Outcome::NotExecuted)
        }
        Restart::OnAbort => matches!(outcome, Outcome::Signal | Outcome::CoreDump),
        Restart::OnWatchdog => outcome == Outcome::Watchdog,
    }
}
