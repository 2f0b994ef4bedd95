//! What becomes of a unit's processes.

use super::{Phase, Step, UnitAction};
use crate::machine::{Exit, Outcome, Process, Role};
use crate::unit::resources::OomPolicy;
use crate::unit::{KillMode, Kind, ServiceType};

use Phase::{
    Active, Backoff, Condition, Done, Failed, FailureCommand, Inactive, Queued, Refused, StartForked, StartHeld,
    StartMain, StartPost, StartPre, StopCommand, StopFinal, StopHeld, StopKill, StopPost, StopTerm,
};

impl Step<'_> {
    /// In answer to an action, in the phase that asked for it; or a service names its main process.
    pub(super) fn spawned(&mut self, role: Role, process: Process) {
        match self.state.phase {
            StartForked if role == Role::Main => {
                self.state.main = Some(process);
                self.start_post(0);
            }
            Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active | StartHeld | StopHeld
            | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_) => match role {
                Role::Main => self.state.main = Some(process),
                Role::Control => self.state.control = Some(process),
            },
            Inactive | Queued | Backoff | Done | Failed | Refused => {}
        }
    }

    /// Which of its processes is the service cannot be known: it is all of them.
    pub(super) fn no_main(&mut self) {
        match self.state.phase {
            StartForked => self.start_post(0),
            Inactive | Queued | Condition(_) | StartPre(_) | StartMain(_) | StartPost(_) | Active | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Done | Failed | Refused => {}
        }
    }

    /// A service of type exec is up with that.
    pub(super) fn executed(&mut self) {
        match self.state.phase {
            StartMain(_) => match self.service.kind {
                ServiceType::Exec | ServiceType::Idle => self.start_post(0),
                ServiceType::Dbus => self.actions.push(UnitAction::WatchName),
                ServiceType::Oneshot | ServiceType::Notify | ServiceType::Forking => {}
            },
            Inactive | Queued | Condition(_) | StartPre(_) | StartForked | StartPost(_) | Active | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Done | Failed | Refused => {}
        }
    }

    /// A service of type notify is up with that.
    pub(super) fn ready(&mut self) {
        match self.state.phase {
            StartMain(_) => {
                if self.service.kind == ServiceType::Notify {
                    self.start_post(0);
                }
            }
            Inactive | Queued | Condition(_) | StartPre(_) | StartForked | StartPost(_) | Active | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Done | Failed | Refused => {}
        }
    }

    /// `STOPPING=1`: as if it had been told to, but that it has yet to end with success.
    pub(super) fn says_that_it_stops(&mut self) {
        match self.state.phase {
            Active => {
                self.state.said_stopping = true;
                self.state.phase = StopTerm;
                self.deadline(self.service.timeout_stop);
                if self.none_is_known() {
                    self.actions.push(UnitAction::WatchEmpty);
                }
            }
            Inactive | Queued | Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Done | Failed | Refused => {}
        }
    }

    /// A service of type dbus is up with that.
    pub(super) fn named(&mut self) {
        match self.state.phase {
            StartMain(_) => {
                if self.service.kind == ServiceType::Dbus {
                    self.start_post(0);
                }
            }
            Inactive | Queued | Condition(_) | StartPre(_) | StartForked | StartPost(_) | Active | StartHeld
            | StopHeld | StopCommand(_) | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_)
            | Backoff | Done | Failed | Refused => {}
        }
    }

    pub(super) fn main_exited(&mut self, exit: &Exit) {
        match self.state.phase {
            StartMain(n) if *exit == Exit::NeverRan => {
                self.state.main = None;
                self.start_main(n);
            }
            StartMain(n) => {
                self.main_is_gone(exit);
                self.main_ended_while_starting(n, exit);
            }
            StartPost(_) => self.main_is_gone(exit),
            StartHeld => {
                self.main_is_gone(exit);
                self.terminate();
            }
            // It ends with its last process.
            Active | StopHeld if self.service.ends_with_last => {
                self.main_is_gone(exit);
                self.actions.push(UnitAction::WatchEmpty);
            }
            Active | StopHeld => {
                self.main_is_gone(exit);
                self.stop_command(0);
            }
            // What it leaves has not been told.
            StopTerm if self.state.said_stopping => {
                self.main_is_gone(exit);
                self.terminate();
            }
            StopTerm if self.service.kill_mode == KillMode::Mixed && self.state.control.is_none() => {
                self.main_is_gone(exit);
                self.kill(StopKill);
            }
            StopTerm | StopKill | StopFinal => {
                self.main_is_gone(exit);
                self.await_empty();
            }
            Condition(_) | StartPre(_) | StartForked | StopCommand(_) | StopPost(_) | FailureCommand(_) => {
                self.main_is_gone(exit);
            }
            Inactive | Queued | Backoff | Done | Failed | Refused => self.state.main = None,
        }
    }

    /// The command beside it ended.
    pub(super) fn control_exited(&mut self, exit: &Exit) {
        self.state.control = None;
        let again = *exit == Exit::NeverRan;
        let next = |n: usize| n.saturating_add(1);
        match self.state.phase {
            Condition(n) if again => self.condition(n),
            StartPre(n) if again => self.start_pre(n),
            StartPost(n) if again => self.start_post(n),
            StopCommand(n) if again => self.stop_command(n),
            StopPost(n) if again => self.stop_post(n),
            FailureCommand(n) if again => self.failure_command(n),
            Condition(n) => self.condition_answered(n, exit),
            StartPre(n) => match self.control_failed("ExecStartPre", self.service.start_pre.get(n), exit) {
                true => self.terminate(),
                false => self.start_pre(next(n)),
            },
            StartPost(n) => match self.control_failed("ExecStartPost", self.service.start_post.get(n), exit) {
                true => self.terminate(),
                false => self.start_post(next(n)),
            },
            StopCommand(n) => {
                let directive = if self.unit.kind == Kind::Socket { "ExecStopPre" } else { "ExecStop" };
                self.control_failed(directive, self.service.stop.get(n), exit);
                self.stop_command(next(n));
            }
            StopPost(n) => {
                self.control_failed("ExecStopPost", self.service.stop_post.get(n), exit);
                self.stop_post(next(n));
            }
            FailureCommand(n) => self.failure_command(next(n)),
            StopTerm | StopKill | StopFinal => self.await_empty(),
            Inactive | Queued | StartMain(_) | StartForked | Active | StartHeld | StopHeld | Backoff | Done
            | Failed | Refused => {}
        }
    }

    /// systemd.service(5), `ExecCondition=`: 0 goes on, 1 to 254 leaves the unit out, anything else is a failure.
    fn condition_answered(&mut self, n: usize, exit: &Exit) {
        let command = self.service.condition.get(n);
        let ignored = command.is_some_and(|command| command.ignore_failure);
        match exit {
            Exit::Code(code @ 1..=254) if !ignored => {
                let program = command.map_or("", |command| command.program.as_str());
                self.state.outcome = Outcome::Skipped;
                self.state.reason = format!("skipped: ExecCondition={program} exited with code {code}");
                self.terminate();
            }
            exit => match self.control_failed("ExecCondition", command, exit) {
                true => self.terminate(),
                false => self.condition(n.saturating_add(1)),
            },
        }
    }

    /// None of its processes is left.
    pub(super) fn emptied(&mut self) {
        match self.state.phase {
            StopTerm | StopKill => {
                if self.none_is_known() {
                    self.stop_post(0);
                }
            }
            StopFinal => {
                if self.none_is_known() {
                    self.settle();
                }
            }
            StartForked => {
                self.fail(Outcome::ExitCode, "it left no process behind (Type=forking)");
                self.terminate();
            }
            Active | StopHeld if self.is_all_its_processes() => {
                if self.state.main.is_none() {
                    if self.state.reason.is_empty() {
                        "its last process ended".clone_into(&mut self.state.reason);
                    }
                    self.stop_command(0);
                }
            }
            Inactive | Queued | Condition(_) | StartPre(_) | StartMain(_) | StartPost(_) | Active | StartHeld
            | StopHeld | StopCommand(_) | StopPost(_) | FailureCommand(_) | Backoff | Done | Failed | Refused => {}
        }
    }

    /// The kernel ended one of its processes for want of memory.
    pub(super) fn out_of_memory(&mut self) {
        match self.state.phase {
            Condition(_) | StartPre(_) | StartMain(_) | StartForked | StartPost(_) | Active | StopHeld
            | StopCommand(_) => {
                if self.service.oom_policy() != OomPolicy::Continue {
                    let reason = "the kernel ended a process of it for want of memory (OOMPolicy=)";
                    self.fail(Outcome::OutOfMemory, reason);
                    self.terminate();
                }
            }
            // It is being ended anyhow.
            StartHeld | StopTerm | StopKill | StopPost(_) | StopFinal | FailureCommand(_) => {}
            Inactive | Queued | Backoff | Done | Failed | Refused => {}
        }
    }
}
