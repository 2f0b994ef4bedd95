//! `[Service]`: what its processes run in.

use super::Reader;
use super::values::optional;
use crate::unit::command::is_variable;
use crate::unit::directive::ExecKey;
use crate::unit::limit::Limit;
use crate::unit::service::{Input, Output};
use crate::unit::syntax::Entry;
use crate::unit::words;

impl Reader<'_> {
    pub(super) fn obey_exec(&mut self, key: ExecKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            ExecKey::IgnoreSigpipe => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.ignore_sigpipe = yes;
                }
            }
            ExecKey::UMask => match u32::from_str_radix(value, 8).ok().filter(|mask| *mask <= 0o777) {
                Some(mask) => self.unit.service.umask = mask,
                // With a mask that is not what was meant, files would be open to others.
                None => self.refuse(entry.line, format!("UMask={value} is not a mask, such as 0027")),
            },
            ExecKey::SupplementaryGroups => {
                let Some(value) = self.resolved(entry) else { return };
                let groups = &mut self.unit.service.supplementary_groups;
                if value.is_empty() {
                    groups.clear();
                }
                groups.extend(value.split_whitespace().map(str::to_owned));
            }
            ExecKey::Nice => {
                self.unit.service.nice = self.number(entry, -20..=19).or(self.unit.service.nice);
            }
            ExecKey::OomScoreAdjust => {
                let known = self.unit.service.oom_score_adjust;
                self.unit.service.oom_score_adjust = self.number(entry, -1000..=1000).or(known);
            }
            ExecKey::Limit(resource) => {
                self.unit.service.limits.retain(|limit| limit.resource != resource);
                match Limit::parse(resource, value) {
                    Ok(limit) => self.unit.service.limits.push(limit),
                    // An empty one takes back what stood before.
                    Err(_) if value.is_empty() => {}
                    Err(error) => self.note(entry.line, format!("{}= is ignored: {error}", entry.key)),
                }
            }
            ExecKey::Environment => self.environment(entry),
            ExecKey::EnvironmentFile => self.environment_file(entry),
            ExecKey::User => {
                let user = (!value.is_empty()).then(|| value.to_owned());
                self.unit.service.user = user;
            }
            ExecKey::Group => self.unit.service.group = (!value.is_empty()).then(|| value.to_owned()),
            ExecKey::WorkingDirectory => {
                let Some(value) = self.resolved(entry) else { return };
                let (path, optional) = optional(&value);
                if path.is_empty() {
                    self.unit.service.working_directory = None;
                } else if path.starts_with('/') || path == "~" {
                    self.unit.service.working_directory = Some((path.to_owned(), optional));
                } else {
                    self.refuse(entry.line, format!("WorkingDirectory={path} is not an absolute path"));
                }
            }
            ExecKey::StandardInput => self.input(entry),
            ExecKey::StandardOutput | ExecKey::StandardError => self.output(key, entry),
            ExecKey::TtyPath => self.unit.service.tty = value.to_owned(),
        }
    }

    fn environment(&mut self, entry: &Entry) {
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

    fn environment_file(&mut self, entry: &Entry) {
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

    fn input(&mut self, entry: &Entry) {
        self.unit.service.input = match entry.value.as_str() {
            "" | "null" => Input::Null,
            "tty" | "tty-force" | "tty-fail" => Input::Tty,
            other => {
                let text = format!("StandardInput={other} is not supported yet; null and tty are");
                return self.refuse(entry.line, text);
            }
        };
    }

    fn output(&mut self, key: ExecKey, entry: &Entry) {
        let service = &self.unit.service;
        let inherited = match (key, service.input) {
            (ExecKey::StandardError, _) => service.output,
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
        if key == ExecKey::StandardError {
            self.error_given = true;
            self.unit.service.error = output;
        } else {
            self.unit.service.output = output;
        }
    }
}
