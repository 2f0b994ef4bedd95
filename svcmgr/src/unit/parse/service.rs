//! `[Service]`: what a service is, and when it is started, ended, started again.

use link::nearest::nearest;

use super::{Reader, values};
use crate::unit::Relation;
use crate::unit::command::Command;
use crate::unit::directive::ServiceKey;
use crate::unit::service::{ExitSet, FailureMode, KillMode, NotifyAccess, Preserve, Restart, Service, ServiceType};
use crate::unit::signal;
use crate::unit::specifier::Specifiers;
use crate::unit::syntax::Entry;
use crate::unit::time::Span;

/// A service may ask for no more: PID 1 keeps all descriptors of all services, and has few itself.
const MAX_STORE: i32 = 512;

impl Reader<'_> {
    pub(super) fn obey_service(&mut self, key: ServiceKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            ServiceKey::StartLimitInterval => self.start_limit_interval(entry),
            ServiceKey::StartLimitBurst => self.start_limit_burst(entry),
            ServiceKey::StartLimitAction => self.end_action(entry, |unit| &mut unit.limit_action),
            ServiceKey::FailureAction => self.end_action(entry, |unit| &mut unit.failure_action),
            ServiceKey::Type => self.service_type(entry),
            ServiceKey::ExecCondition => self.commands(entry, |service| &mut service.condition),
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
            ServiceKey::SuccessExitStatus => self.exits(entry, |service| &mut service.success),
            ServiceKey::RestartPreventExitStatus => self.exits(entry, |service| &mut service.restart_prevent),
            ServiceKey::RestartForceExitStatus => self.exits(entry, |service| &mut service.restart_force),
            ServiceKey::RuntimeMaxSec => {
                if let Some(span) = self.span(entry) {
                    self.unit.service.runtime_max = if span == Span::ZERO { Span::INFINITY } else { span };
                }
            }
            ServiceKey::WatchdogSec => {
                if let Some(span) = self.span(entry) {
                    self.unit.service.watchdog =
                        Some(span).filter(|span| !matches!(*span, Span::ZERO | Span::INFINITY));
                }
            }
            ServiceKey::PidFile => {
                let Some(path) = self.resolved(entry) else { return };
                self.unit.service.pid_file = match path.strip_prefix('/') {
                    Some(_) => Some(path),
                    // systemd.service(5): a relative one is beneath /run.
                    None if path.is_empty() => None,
                    None => Some(format!("/run/{path}")),
                };
            }
            ServiceKey::BusName => {
                let Some(name) = self.resolved(entry) else { return };
                self.bus_name(entry, name);
            }
            ServiceKey::PermissionsStartOnly => {
                if let Some(yes) = self.boolean(entry) {
                    self.permissions_start_only = yes;
                }
            }
            ServiceKey::GuessMainPid => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.guess_main_pid = yes;
                }
            }
            ServiceKey::ExitType => {
                self.unit.service.ends_with_last = match value {
                    "main" | "" => false,
                    "cgroup" => true,
                    _ => return self.unknown_value(entry, &["main", "cgroup"]),
                };
            }
            ServiceKey::TimeoutAbortSec => {
                if let Some(span) = self.span(entry) {
                    self.unit.service.timeout_abort = Some(if span == Span::ZERO { Span::INFINITY } else { span });
                }
            }
            ServiceKey::TimeoutStartFailureMode => {
                self.unit.service.start_failure_mode = match value {
                    "terminate" | "" => FailureMode::Terminate,
                    "abort" => FailureMode::Abort,
                    "kill" => FailureMode::Kill,
                    _ => return self.unknown_value(entry, &["terminate", "abort", "kill"]),
                };
            }
            ServiceKey::WatchdogSignal => self.signal(entry, |service| &mut service.watchdog_signal),
            ServiceKey::FinalKillSignal => self.signal(entry, |service| &mut service.final_kill_signal),
            ServiceKey::RestartKillSignal if value.is_empty() => self.unit.service.restart_kill_signal = None,
            ServiceKey::RestartKillSignal => match signal::number(value) {
                Some(number) => self.unit.service.restart_kill_signal = Some(number),
                None => self.note(entry.line, format!("{}={value} is not a signal, and ignored", entry.key)),
            },
            ServiceKey::SendSighup => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.send_sighup = yes;
                }
            }
            ServiceKey::SendSigkill => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.send_sigkill = yes;
                }
            }
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
            ServiceKey::KillSignal => self.signal(entry, |service| &mut service.kill_signal),
            ServiceKey::KillMode => self.kill_mode(entry),
            ServiceKey::FileDescriptorStoreMax => {
                if let Some(most) = self.number(entry, 0..=MAX_STORE) {
                    self.unit.service.store_max = usize::try_from(most).unwrap_or(0);
                }
            }
            ServiceKey::FileDescriptorStorePreserve => {
                self.unit.service.store_preserve = match values::parse_boolean(value) {
                    Some(true) => Preserve::Yes,
                    Some(false) => Preserve::No,
                    None if matches!(value, "restart" | "") => Preserve::Restart,
                    None => return self.unknown_value(entry, &["no", "restart", "yes"]),
                };
            }
            ServiceKey::Sockets => {
                for relation in [Relation::TriggeredBy, Relation::Wants, Relation::After] {
                    self.references(relation, entry);
                }
            }
            ServiceKey::NonBlocking => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.non_blocking = yes;
                }
            }
        }
    }

    fn bus_name(&mut self, entry: &Entry, name: String) {
        // The D-Bus Specification, "Bus names"; a quote would lead out of the rule that asks for it.
        let is_name = name.contains('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if is_name && name.len() <= 255 {
            self.unit.service.bus_name = Some(name);
        } else {
            self.refuse(entry.line, format!("BusName={name} is not a name on a bus, such as org.example.Service"));
        }
    }

    fn service_type(&mut self, entry: &Entry) {
        self.type_line = entry.line;
        self.unit.service.kind = match entry.value.as_str() {
            "" | "simple" | "exec" => ServiceType::Exec,
            "idle" => ServiceType::Idle,
            "forking" => ServiceType::Forking,
            "dbus" => ServiceType::Dbus,
            "oneshot" => ServiceType::Oneshot,
            // notify-reload differs in reloading alone, and nobody can ask for that.
            "notify" | "notify-reload" => ServiceType::Notify,
            other => {
                let known = ["simple", "exec", "oneshot", "notify", "notify-reload", "forking", "idle", "dbus"];
                let hint = match nearest(other, known) {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => format!("{} are the types", known.join(", ")),
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
        let Some(commands) = self.read_commands(entry) else { return };
        let list = list(&mut self.unit.service);
        if commands.is_empty() {
            list.clear();
        }
        list.extend(commands);
    }

    /// The commands of a value, none if it is empty. `None` if it cannot be read.
    pub(super) fn read_commands(&mut self, entry: &Entry) -> Option<Vec<Command>> {
        if entry.value.is_empty() {
            return Some(Vec::new());
        }
        let specifiers =
            Specifiers { unit: &self.unit.name, user: self.unit.service.user.as_deref(), machine: self.machine };
        match Command::parse_all(&entry.value, entry.line, &specifiers) {
            Ok(commands) => Some(commands),
            // A service that skips one of its commands is another service.
            Err(error) => {
                self.refuse(entry.line, format!("{}={}: {error}", entry.key, entry.value));
                None
            }
        }
    }

    fn signal(&mut self, entry: &Entry, field: fn(&mut Service) -> &mut i32) {
        match signal::number(&entry.value) {
            Some(number) => *field(&mut self.unit.service) = number,
            None => self.note(entry.line, format!("{}={} is not a signal, and ignored", entry.key, entry.value)),
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
            "none" => KillMode::None,
            _ => return self.unknown_value(entry, &["control-group", "mixed", "process", "none"]),
        };
    }

    fn exits(&mut self, entry: &Entry, set: fn(&mut Service) -> &mut ExitSet) {
        if entry.value.is_empty() {
            *set(&mut self.unit.service) = ExitSet::default();
        }
        for word in entry.value.split_whitespace() {
            match (exit_code(word), signal::number(word)) {
                (Some(code), _) => set(&mut self.unit.service).codes.push(code),
                (None, Some(number)) => set(&mut self.unit.service).signals.push(number),
                (None, None) => {
                    self.note(entry.line, format!("{}={word} is neither an exit code nor a signal", entry.key));
                }
            }
        }
    }
}

/// An exit code, by number or by the name that systemd.exec(5) has for it, "Process Exit Codes".
fn exit_code(word: &str) -> Option<i32> {
    // The first from the C library, those from USAGE on from sysexits(3), those from 200 on systemd's own.
    let named = [
        ("SUCCESS", 0),
        ("FAILURE", 1),
        ("INVALIDARGUMENT", 2),
        ("NOTIMPLEMENTED", 3),
        ("NOPERMISSION", 4),
        ("NOTINSTALLED", 5),
        ("NOTCONFIGURED", 6),
        ("NOTRUNNING", 7),
        ("USAGE", 64),
        ("DATAERR", 65),
        ("NOINPUT", 66),
        ("NOUSER", 67),
        ("NOHOST", 68),
        ("UNAVAILABLE", 69),
        ("SOFTWARE", 70),
        ("OSERR", 71),
        ("OSFILE", 72),
        ("CANTCREAT", 73),
        ("IOERR", 74),
        ("TEMPFAIL", 75),
        ("PROTOCOL", 76),
        ("NOPERM", 77),
        ("CONFIG", 78),
        ("CHDIR", 200),
        ("EXEC", 203),
        ("USER", 217),
        ("CGROUP", 219),
    ];
    match word.parse::<u8>() {
        Ok(code) => Some(code.into()),
        Err(_) => named.iter().find(|(name, _)| *name == word).map(|(_, code)| *code),
    }
}
