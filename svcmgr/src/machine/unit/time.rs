//! What time brings: deadlines of phases, the watchdog, the bounds of a job and of a run.

use super::{Phase, Step, UnitAction};
use crate::machine::Outcome;
use crate::unit::failure::{Act, EndAction};
use crate::unit::time::Span;
use crate::unit::{FailureMode, ServiceType};

use Phase::{
    Active, Backoff, Condition, Done, Failed, FailureCommand, Inactive, Queued, Refused, StartForked, StartHeld,
    StartMain, StartPost, StartPre, StopCommand, StopFinal, StopHeld, StopKill, StopPost, StopTerm,
};

impl Step<'_> {
    /// The deadline of its phase has passed.
    pub(super) fn deadline_passed(&mut self) {
        let (start, stop) = (self.service.timeout_start, self.service.timeout_stop);
        match self.state.phase {
            phase @ (Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_)) => {
                let what = match (phase, self.service.kind) {
                    (Condition(_), _) => "ExecCondition= did not end",
                    (StartPre(_), _) => "ExecStartPre= did not end",
                    (StartPost(_), _) => "ExecStartPost= did not end",
                    (StartForked, _) if self.service.pid_file.is_some() => "its PIDFile= did not name a process of it",
                    (_, ServiceType::Notify) => &format!("it did not {}", self.service.readiness().0),
                    (_, ServiceType::Dbus) => "its name was not on the bus (BusName=)",
                    (_, ServiceType::Oneshot | ServiceType::Forking) => "it did not end",
                    (_, ServiceType::Exec | ServiceType::Idle) => "it was not executed",
                };
                self.fail(Outcome::Timeout, &format!("{what} within {start} (TimeoutStartSec=)"));
                match self.service.start_failure_mode {
                    FailureMode::Terminate => self.terminate(),
                    FailureMode::Abort => self.abort(),
                    FailureMode::Kill => self.kill(StopKill),
                }
            }
            StopCommand(_) => {
                self.fail(Outcome::Timeout, &format!("ExecStop= did not end within {stop} (TimeoutStopSec=)"));
                self.terminate();
            }
            StopTerm if !self.service.send_sigkill => {
                let reason = format!("it did not end within {stop} (TimeoutStopSec=), and runs on (SendSIGKILL=no)");
                self.fail(Outcome::Timeout, &reason);
                self.stop_post(0);
            }
            StopTerm => {
                let reason = format!("it did not end within {stop} (TimeoutStopSec=), and was killed");
                self.fail(Outcome::Timeout, &reason);
                self.kill(StopKill);
            }
            StopPost(_) => {
                self.fail(Outcome::Timeout, &format!("ExecStopPost= did not end within {stop} (TimeoutStopSec=)"));
                self.kill(StopFinal);
            }
            FailureCommand(_) => self.failure_is_handled(),
            phase @ (StopKill | StopFinal) => self.kill_by(phase, libc::SIGKILL),
            Backoff => self.delay_is_over(),
            // It has stayed up: steady.
            Active => {
                self.state.deadline = None;
                self.state.attempts = 0;
            }
            Inactive | Queued | StartHeld | StopHeld | Done | Failed | Refused => self.state.deadline = None,
        }
    }

    /// What was put off by a delay is done.
    fn delay_is_over(&mut self) {
        self.state.deadline = None;
        match self.state.act.take() {
            None | Some(Act::Restart) => {
                self.state.restarts = self.state.restarts.saturating_add(1);
                self.state.phase = Queued;
            }
            Some(Act::RunCommand) => self.failure_command(0),
            Some(Act::Reboot) => {
                let reboot = EndAction { ending: link::Ending::Reboot, at_once: false };
                let reason = self.state.reason.clone();
                self.rest(Failed, &reason);
                self.actions.push(UnitAction::End(reboot));
            }
            Some(Act::None) => {
                let reason = self.state.reason.clone();
                self.rest(Failed, &reason);
            }
        }
    }

    /// `WATCHDOG=1`.
    pub(super) fn alive(&mut self) {
        if self.state.phase == Active {
            self.wind_watchdog();
        }
    }

    /// `WATCHDOG_USEC=`.
    pub(super) fn watchdog_span(&mut self, span: Span) {
        self.state.watchdog = Some(span);
        if self.state.phase == Active {
            self.wind_watchdog();
        }
    }

    /// `EXTEND_TIMEOUT_USEC=`. Never less than it had; and how long SIGKILL takes is not its to say.
    pub(super) fn extend(&mut self, span: Span) {
        let later = span.after(self.now.mono);
        let extended = |at: Option<u64>| at.and_then(|at| Some(at.max(later?)));
        match self.state.phase {
            Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | StopCommand(_) | StopTerm
            | StopPost(_) => self.state.deadline = extended(self.state.deadline),
            Active => self.state.runtime_at = extended(self.state.runtime_at),
            Inactive | Queued | StartHeld | StopHeld | StopKill | StopFinal | FailureCommand(_) | Backoff | Done
            | Failed | Refused => {}
        }
    }

    /// It has not said `WATCHDOG=1` for too long, or it says that it should be ended.
    pub(super) fn watchdog_late(&mut self) {
        self.state.watchdog_at = None;
        if !matches!(self.state.phase, Active | StartPost(_) | StartMain(_) | StopHeld) {
            return;
        }
        let span = self.state.watchdog.or(self.service.watchdog);
        let within = span.map_or_else(String::new, |span| format!(" within {span}"));
        self.fail(Outcome::Watchdog, &format!("it did not say WATCHDOG=1{within} (WatchdogSec=)"));
        self.abort();
    }

    /// It was up for as long as it may.
    pub(super) fn runtime_over(&mut self) {
        self.state.runtime_at = None;
        if self.state.phase == Active {
            let limit = self.service.runtime_max;
            self.fail(Outcome::Timeout, &format!("it ran for longer than {limit} (RuntimeMaxSec=)"));
            self.stop_command(0);
        }
    }

    /// It was to be up, and was not in time.
    pub(super) fn job_late(&mut self) {
        self.state.job_at = None;
        let asked = format!("within {} (JobTimeoutSec=)", self.unit.job_timeout);
        let begun = format!("within {} of its begin (JobRunningTimeoutSec=)", self.unit.job_running_timeout);
        let reason = match (self.unit.job_timeout, self.unit.job_running_timeout) {
            (_, Span::INFINITY) => format!("it was not up {asked}"),
            (Span::INFINITY, _) => format!("it was not up {begun}"),
            _ => format!("it was not up {asked}, or {begun}"),
        };
        match self.state.phase {
            Queued | Backoff => {
                self.state.outcome = Outcome::Timeout;
                self.rest(Failed, &reason);
            }
            Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) => {
                self.fail(Outcome::Timeout, &reason);
                self.terminate();
            }
            Inactive | Active | StartHeld | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_)
            | StopFinal | FailureCommand(_) | Done | Failed | Refused => return,
        }
        self.actions.extend(self.unit.job_action.map(UnitAction::End));
    }
}
