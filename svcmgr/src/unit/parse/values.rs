//! The values of directives: what each may be, and what is said of one that may not.

use link::nearest::nearest;

use super::{Reader, optional, parse_boolean};
use crate::unit::command::{Command, is_variable};
use crate::unit::directive::Key;
use crate::unit::service::{Input, KillMode, Output, Restart, Service, ServiceType, SuccessStatus};
use crate::unit::specifier::Specifiers;
use crate::unit::syntax::Entry;
use crate::unit::time::Span;
use crate::unit::{Reference, Unit, is_valid_name, signal, words};

impl Reader<'_> {
    pub(super) fn references(&mut self, entry: &Entry, list: fn(&mut Unit) -> &mut Vec<Reference>) {
        // systemd.unit(5): dependencies cannot be reset by an empty assignment.
        let Some(value) = self.resolved(entry) else { return };
        for name in value.split_whitespace() {
            if !is_valid_name(name) {
                self.note(entry.line, format!("{}={name} is not the name of a unit, ignored", entry.key));
            } else if name != self.unit.name {
                list(&mut self.unit).push(Reference { name: name.to_owned(), line: entry.line });
            }
        }
    }

    pub(super) fn service_type(&mut self, entry: &Entry) {
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

    pub(super) fn restart(&mut self, entry: &Entry) {
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

    pub(super) fn unknown_value(&mut self, entry: &Entry, known: &[&str]) {
        let hint = match nearest(&entry.value, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("one of {} is due", known.join(", ")),
        };
        self.note(entry.line, format!("{}={} is ignored: {hint}", entry.key, entry.value));
    }

    pub(super) fn commands(&mut self, entry: &Entry, list: fn(&mut Service) -> &mut Vec<Command>) {
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

    pub(super) fn resolved(&mut self, entry: &Entry) -> Option<String> {
        let specifiers =
            Specifiers { unit: &self.unit.name, user: self.unit.service.user.as_deref(), machine: self.machine };
        match specifiers.resolve(&entry.value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(entry.line, format!("{}={} is ignored: {error}", entry.key, entry.value));
                None
            }
        }
    }

    pub(super) fn span(&mut self, entry: &Entry) -> Option<Span> {
        match Span::parse(&entry.value) {
            Ok(span) => Some(span),
            Err(error) => {
                self.note(entry.line, format!("{}= is ignored: {error}", entry.key));
                None
            }
        }
    }

    pub(super) fn timeouts(&mut self, entry: &Entry, start: bool, stop: bool) {
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

    pub(super) fn boolean(&mut self, entry: &Entry) -> Option<bool> {
        let value = parse_boolean(&entry.value);
        if value.is_none() {
            self.note(entry.line, format!("{}={} is ignored: yes or no is due", entry.key, entry.value));
        }
        value
    }

    pub(super) fn number(&mut self, entry: &Entry, range: std::ops::RangeInclusive<i32>) -> Option<i32> {
        let number = entry.value.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let text = format!("{}={} is ignored: a number from {least} to {most} is due", entry.key, entry.value);
            self.note(entry.line, text);
        }
        number
    }

    pub(super) fn kill_mode(&mut self, entry: &Entry) {
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

    pub(super) fn success(&mut self, entry: &Entry) {
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

    pub(super) fn environment(&mut self, entry: &Entry) {
        if entry.value.is_empty() {
            return self.unit.service.environment.clear();
        }
        let Some(value) = self.resolved(entry) else { return };
        match words::split(&value) {
            Ok(words) => {
                for word in words {
                    match word.text.split_once('=') {
                        Some((name, value)) if is_variable(name) => {
                            self.unit.service.environment.push((name.to_owned(), value.to_owned()));
                        }
                        _ => self.note(entry.line, format!("Environment={} is not NAME=value, ignored", word.text)),
                    }
                }
            }
            Err(error) => self.note(entry.line, format!("Environment={value} is ignored: {error}")),
        }
    }

    pub(super) fn environment_file(&mut self, entry: &Entry) {
        if entry.value.is_empty() {
            return self.unit.service.environment_files.clear();
        }
        let Some(value) = self.resolved(entry) else { return };
        let (path, optional) = optional(&value);
        if path.starts_with('/') {
            self.unit.service.environment_files.push((path.to_owned(), optional));
        } else {
            self.refuse(entry.line, format!("EnvironmentFile={path} is not an absolute path"));
        }
    }

    pub(super) fn input(&mut self, entry: &Entry) {
        self.unit.service.input = match entry.value.as_str() {
            "" | "null" => Input::Null,
            "tty" | "tty-force" | "tty-fail" => Input::Tty,
            other => {
                let text = format!("StandardInput={other} is not supported yet; null and tty are");
                return self.refuse(entry.line, text);
            }
        };
    }

    pub(super) fn output(&mut self, key: Key, entry: &Entry) {
        let service = &self.unit.service;
        let inherited = match (key, service.input) {
            (Key::StandardError, _) => service.output,
            (_, Input::Tty) => Output::Tty,
            // systemd.exec(5): inherit of a null input is the journal.
            (_, Input::Null) => Output::Log,
        };
        let output = match entry.value.as_str() {
            "" | "journal" | "syslog" => Output::Log,
            "inherit" => inherited,
            "null" => Output::Null,
            "tty" => Output::Tty,
            "kmsg" => Output::Kmsg,
            "journal+console" | "kmsg+console" | "syslog+console" => Output::LogAndConsole,
            other => {
                self.note(entry.line, format!("{}={other} is not supported yet: output goes to the log", entry.key));
                Output::Log
            }
        };
        if key == Key::StandardError {
            self.error_given = true;
            self.unit.service.error = output;
        } else {
            self.unit.service.output = output;
        }
    }
}
