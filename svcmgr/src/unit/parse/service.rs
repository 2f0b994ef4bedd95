//! `[Service]`: what a service is, and when it is started, ended, started again.

use link::nearest::nearest;

use super::Reader;
use crate::unit::command::Command;
use crate::unit::directive::ServiceKey;
use crate::unit::service::{KillMode, NotifyAccess, Restart, Service, ServiceType, SuccessStatus};
use crate::unit::signal;
use crate::unit::specifier::Specifiers;
use crate::unit::syntax::Entry;
use crate::unit::time::Span;

impl Reader<'_> {
    pub(super) fn obey_service(&mut self, key: ServiceKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            ServiceKey::StartLimitInterval => self.start_limit_interval(entry),
            ServiceKey::StartLimitBurst => self.start_limit_burst(entry),
            ServiceKey::Type => self.service_type(entry),
            ServiceKey::ExecStartPre => self.commands(entry, |service| &mut service.start_pre),
            ServiceKey::ExecStart => self.commands(entry, |service| &mut service.start),
            ServiceKey::ExecStartPost => self.commands(entry, |service| &mut service.start_post),
            ServiceKey::ExecStop => self.commands(entry, |service| &mut service.stop),
            ServiceKey::ExecStopPost => self.commands(entry, |service| &mut service.stop_post),
            ServiceKey::Restart => self.restart(entry),
            ServiceKey::RestartSec => {
                if let Some(span) = self.span(entry) {
                    self.unit.service.restart_sec = span;
                }
            }
            ServiceKey::RestartSteps => match value.parse() {
                Ok(steps) => self.unit.service.restart_steps = steps,
                Err(_) => self.note(entry.line, format!("RestartSteps={value} is not a number, ignored")),
            },
            ServiceKey::RestartMaxDelaySec => {
                if let Some(span) = self.span(entry) {
                    self.unit.service.restart_max_delay = span;
                }
            }
            ServiceKey::TimeoutStartSec => self.timeouts(entry, true, false),
            ServiceKey::TimeoutStopSec => self.timeouts(entry, false, true),
            ServiceKey::TimeoutSec => self.timeouts(entry, true, true),
            ServiceKey::RemainAfterExit => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.remain_after_exit = yes;
                }
            }
            ServiceKey::SuccessExitStatus => self.success(entry),
            ServiceKey::NotifyAccess => {
                let access = match value {
                    "none" => NotifyAccess::None,
                    "main" => NotifyAccess::Main,
                    "exec" => NotifyAccess::Exec,
                    "all" => NotifyAccess::All,
                    _ => return self.unknown_value(entry, &["none", "main", "exec", "all"]),
                };
                self.unit.service.notify_access = access;
                self.notify_access_given = true;
            }
            ServiceKey::KillSignal => match signal::number(value) {
                Some(number) => self.unit.service.kill_signal = number,
                None => self.note(entry.line, format!("KillSignal={value} is not a signal, SIGTERM is used")),
            },
            ServiceKey::KillMode => self.kill_mode(entry),
        }
    }

    fn service_type(&mut self, entry: &Entry) {
        self.type_line = entry.line;
        self.unit.service.kind = match entry.value.as_str() {
            "" | "simple" | "exec" => ServiceType::Exec,
            "idle" => {
                let text = "Type=idle is taken as simple: it does not wait for the other units to be started";
                self.note(entry.line, text.to_owned());
                ServiceType::Exec
            }
            "oneshot" => ServiceType::Oneshot,
            // notify-reload differs in reloading alone, and nobody can ask for that.
            "notify" | "notify-reload" => ServiceType::Notify,
            known @ ("forking" | "dbus") => {
                let text = format!("Type={known} is not supported yet; simple, exec, oneshot and notify are");
                return self.refuse(entry.line, text);
            }
            other => {
                let known = ["simple", "exec", "oneshot", "notify"];
                let hint = match nearest(other, known) {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => "simple, exec, oneshot and notify are the types".to_owned(),
                };
                return self.refuse(entry.line, format!("unknown Type={other}: {hint}"));
            }
        };
    }

    fn restart(&mut self, entry: &Entry) {
        self.restart_line = entry.line;
        self.unit.service.restart = match entry.value.as_str() {
            "no" | "" => Restart::No,
            "on-success" => Restart::OnSuccess,
            "on-failure" => Restart::OnFailure,
            "on-abnormal" => Restart::OnAbnormal,
            "on-watchdog" => Restart::OnWatchdog,
            "on-abort" => Restart::OnAbort,
            "always" => Restart::Always,
            _ => {
                let known = ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"];
                return self.unknown_value(entry, &known);
            }
        };
    }

    fn commands(&mut self, entry: &Entry, list: fn(&mut Service) -> &mut Vec<Command>) {
        if entry.value.is_empty() {
            return list(&mut self.unit.service).clear();
        }
        let specifiers =
            Specifiers { unit: &self.unit.name, user: self.unit.service.user.as_deref(), machine: self.machine };
        match Command::parse_all(&entry.value, entry.line, &specifiers) {
            Ok(commands) => list(&mut self.unit.service).extend(commands),
            // A service that skips one of its commands is another service.
            Err(error) => self.refuse(entry.line, format!("{}={}: {error}", entry.key, entry.value)),
        }
    }

    fn timeouts(&mut self, entry: &Entry, start: bool, stop: bool) {
        let Some(span) = self.span(entry) else { return };
        // systemd.service(5): "pass infinity to disable", and 0 for compatibility.
        let span = if span == Span::ZERO { Span::INFINITY } else { span };
        if start {
            self.unit.service.timeout_start = span;
            self.timeout_start_given = true;
        }
        if stop {
            self.unit.service.timeout_stop = span;
        }
    }

    fn kill_mode(&mut self, entry: &Entry) {
        self.unit.service.kill_mode = match entry.value.as_str() {
            "" | "control-group" => KillMode::ControlGroup,
            "mixed" => KillMode::Mixed,
            "process" => KillMode::Process,
            "none" => {
                let text = "KillMode=none is not supported, control-group is used: a stop would stop nothing";
                return self.note(entry.line, text.to_owned());
            }
            _ => return self.unknown_value(entry, &["control-group", "mixed", "process"]),
        };
    }

    fn success(&mut self, entry: &Entry) {
        if entry.value.is_empty() {
            self.unit.service.success = SuccessStatus::default();
        }
        for word in entry.value.split_whitespace() {
            match (word.parse::<u8>(), signal::number(word)) {
                (Ok(code), _) => self.unit.service.success.codes.push(i32::from(code)),
                (Err(_), Some(number)) => self.unit.service.success.signals.push(number),
                (Err(_), None) => {
                    self.note(entry.line, format!("SuccessExitStatus={word} is neither an exit code nor a signal"));
                }
            }
        }
    }
}
