//! From a unit file's entries to a [`Unit`], by the table of directives. Whatever is wrong becomes a note with file
//! and line, or, where the unit could not do its work, the reason why it is refused. Nothing is dropped silently.

mod values;

use std::path::Path;

use link::nearest::nearest;

use super::directive::{self, Key, Section, Support};
use super::limit::Limit;
use super::service::{NotifyAccess, Restart, Service, ServiceType};
use super::specifier::Machine;
use super::syntax::{self, Entry};
use super::time::Span;
use super::{Kind, Note, StartLimit, StartType, Unit, signal, split_type};

/// Reads the unit `name` from `text`, the contents of the file at `path`.
pub fn parse(name: &str, path: &Path, text: &str, machine: &Machine) -> Unit {
    let kind = match split_type(name) {
        Some((_, "target")) => Kind::Target,
        _ => Kind::Service,
    };
    let mut reader = Reader {
        unit: Unit {
            name: name.to_owned(),
            path: path.to_owned(),
            kind,
            description: String::new(),
            requires: Vec::new(),
            wants: Vec::new(),
            after: Vec::new(),
            before: Vec::new(),
            limit: StartLimit::DEFAULT,
            start: None,
            service: Service::default(),
            refused: None,
            notes: Vec::new(),
        },
        machine,
        timeout_start_given: false,
        notify_access_given: false,
        error_given: false,
        type_line: 0,
        restart_line: 0,
    };
    let (entries, errors) = syntax::parse(text);
    for (line, error) in errors {
        reader.note(line, error.to_string());
    }
    // First, since %u in any line speaks of it.
    for entry in entries.iter().filter(|entry| entry.section == "Service" && entry.key == "User") {
        reader.obey(Key::User, entry);
    }
    for entry in &entries {
        reader.entry(entry);
    }
    reader.finish()
}

struct Reader<'a> {
    unit: Unit,
    machine: &'a Machine,
    timeout_start_given: bool,
    notify_access_given: bool,
    error_given: bool,
    type_line: u32,
    restart_line: u32,
}

impl Reader<'_> {
    fn note(&mut self, line: u32, text: String) {
        self.unit.notes.push(Note { path: self.unit.path.clone(), line, text });
    }

    /// The unit cannot do its work. The first reason is the one that is shown; all are notes.
    fn refuse(&mut self, line: u32, text: String) {
        let note = Note { path: self.unit.path.clone(), line, text };
        if self.unit.refused.is_none() {
            self.unit.refused = Some(note.to_string());
        } else {
            self.unit.notes.push(note);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let Some(section) = Section::from_name(&entry.section) else {
            // "If a section name is prefixed with X-, it is ignored by systemd": systemd.unit(5).
            if !entry.section.starts_with("X-") && entry.section != "Target" {
                self.unknown_section(entry);
            }
            return;
        };
        let Some(row) = directive::find(section, &entry.key) else {
            if entry.key.starts_with("X-") {
                return;
            }
            return self.unknown_directive(section, entry);
        };
        match row.support {
            Support::Yes(key) => self.obey(key, entry),
            Support::Partly(key, why) => {
                self.note(entry.line, format!("{}= is obeyed in part: {why}", entry.key));
                self.obey(key, entry);
            }
            Support::Implied(_) => {}
            Support::Ignored(why) => {
                if !means_nothing(&entry.value) {
                    self.note(entry.line, format!("{}= is not supported yet and ignored: {why}", entry.key));
                }
            }
            Support::Refused(why) => {
                if !means_nothing(&entry.value) {
                    self.refuse(entry.line, format!("{}= is not supported yet: {why}", entry.key));
                }
            }
        }
    }

    fn unknown_section(&mut self, entry: &Entry) {
        let text = match nearest(&entry.section, ["Unit", "Service", "Install", "X-MMOS"]) {
            Some(meant) => {
                format!("{}= stands in the unknown section [{}]: did you mean [{meant}]?", entry.key, entry.section)
            }
            None => format!("{}= stands in the unknown section [{}], which is ignored", entry.key, entry.section),
        };
        self.note(entry.line, text);
    }

    fn unknown_directive(&mut self, section: Section, entry: &Entry) {
        let elsewhere = [Section::Unit, Section::Service, Section::Install, Section::Mmos]
            .into_iter()
            .find(|other| *other != section && directive::find(*other, &entry.key).is_some());
        let text = match (elsewhere, nearest(&entry.key, directive::names(section))) {
            (Some(other), _) => format!(
                "{}= belongs into the section [{}], not [{}], and is ignored here",
                entry.key,
                other.name(),
                section.name()
            ),
            (None, Some(meant)) => format!("unknown directive {}=: did you mean {meant}=?", entry.key),
            (None, None) => format!("unknown directive {}= in section [{}], ignored", entry.key, section.name()),
        };
        self.note(entry.line, text);
    }

    fn obey(&mut self, key: Key, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            Key::Description => self.unit.description = self.resolved(entry).unwrap_or_else(|| value.to_owned()),
            Key::Requires => self.references(entry, |unit| &mut unit.requires),
            Key::Wants => self.references(entry, |unit| &mut unit.wants),
            Key::After => self.references(entry, |unit| &mut unit.after),
            Key::Before => self.references(entry, |unit| &mut unit.before),
            Key::StartLimitInterval => {
                if let Some(span) = self.span(entry) {
                    self.unit.limit.interval = span;
                }
            }
            Key::StartLimitBurst => match value.parse() {
                Ok(burst) => self.unit.limit.burst = burst,
                Err(_) => self.note(entry.line, format!("StartLimitBurst={value} is not a number, ignored")),
            },
            Key::Type => self.service_type(entry),
            Key::ExecStartPre => self.commands(entry, |service| &mut service.start_pre),
            Key::ExecStart => self.commands(entry, |service| &mut service.start),
            Key::ExecStartPost => self.commands(entry, |service| &mut service.start_post),
            Key::ExecStop => self.commands(entry, |service| &mut service.stop),
            Key::ExecStopPost => self.commands(entry, |service| &mut service.stop_post),
            Key::Restart => self.restart(entry),
            Key::RestartSec => {
                if let Some(span) = self.span(entry) {
                    self.unit.service.restart_sec = span;
                }
            }
            Key::RestartSteps => match value.parse() {
                Ok(steps) => self.unit.service.restart_steps = steps,
                Err(_) => self.note(entry.line, format!("RestartSteps={value} is not a number, ignored")),
            },
            Key::RestartMaxDelaySec => {
                if let Some(span) = self.span(entry) {
                    self.unit.service.restart_max_delay = span;
                }
            }
            Key::TimeoutStartSec => self.timeouts(entry, true, false),
            Key::TimeoutStopSec => self.timeouts(entry, false, true),
            Key::TimeoutSec => self.timeouts(entry, true, true),
            Key::RemainAfterExit => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.remain_after_exit = yes;
                }
            }
            Key::SuccessExitStatus => self.success(entry),
            Key::NotifyAccess => {
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
            Key::KillSignal => match signal::number(value) {
                Some(number) => self.unit.service.kill_signal = number,
                None => self.note(entry.line, format!("KillSignal={value} is not a signal, SIGTERM is used")),
            },
            Key::KillMode => self.kill_mode(entry),
            Key::IgnoreSigpipe => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.ignore_sigpipe = yes;
                }
            }
            Key::UMask => match u32::from_str_radix(value, 8).ok().filter(|mask| *mask <= 0o777) {
                Some(mask) => self.unit.service.umask = mask,
                // With a mask that is not what was meant, files would be open to others.
                None => self.refuse(entry.line, format!("UMask={value} is not a mask, such as 0027")),
            },
            Key::SupplementaryGroups => {
                let Some(value) = self.resolved(entry) else { return };
                let groups = &mut self.unit.service.supplementary_groups;
                if value.is_empty() {
                    groups.clear();
                }
                groups.extend(value.split_whitespace().map(str::to_owned));
            }
            Key::Nice => {
                self.unit.service.nice = self.number(entry, -20..=19).or(self.unit.service.nice);
            }
            Key::OomScoreAdjust => {
                let known = self.unit.service.oom_score_adjust;
                self.unit.service.oom_score_adjust = self.number(entry, -1000..=1000).or(known);
            }
            Key::Limit(resource) => {
                self.unit.service.limits.retain(|limit| limit.resource != resource);
                match Limit::parse(resource, value) {
                    Ok(limit) => self.unit.service.limits.push(limit),
                    // An empty one takes back what stood before.
                    Err(_) if value.is_empty() => {}
                    Err(error) => self.note(entry.line, format!("{}= is ignored: {error}", entry.key)),
                }
            }
            Key::Environment => self.environment(entry),
            Key::EnvironmentFile => self.environment_file(entry),
            Key::User => {
                let user = (!value.is_empty()).then(|| value.to_owned());
                self.unit.service.user = user;
            }
            Key::Group => self.unit.service.group = (!value.is_empty()).then(|| value.to_owned()),
            Key::WorkingDirectory => {
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
            Key::StandardInput => self.input(entry),
            Key::StandardOutput | Key::StandardError => self.output(key, entry),
            Key::TtyPath => self.unit.service.tty = value.to_owned(),
            Key::Start => match StartType::from_word(value) {
                Some(start) => self.unit.start = Some(start),
                None => self.unknown_value(entry, &["auto", "demand", "disabled"]),
            },
        }
    }

    fn finish(mut self) -> Unit {
        if self.unit.kind == Kind::Target {
            return self.unit;
        }
        let type_line = self.type_line;
        let restart_line = self.restart_line;
        let service = &self.unit.service;
        let oneshot = service.kind == ServiceType::Oneshot;
        if service.start.is_empty() && self.unit.refused.is_none() {
            let text = match oneshot {
                // systemd.service(5): a oneshot may do with ExecStop= alone.
                true if !service.stop.is_empty() => "",
                _ => "there is no ExecStart= in section [Service]",
            };
            if !text.is_empty() {
                // A misspelt one is the usual cause, and then its line is the one to show.
                let meant = self.unit.notes.iter().find(|note| note.text.contains("did you mean ExecStart=?")).cloned();
                match meant {
                    Some(note) => self.refuse(note.line, format!("{text}; {}", note.text)),
                    None => self.refuse(0, text.to_owned()),
                }
            }
        }
        let service = &self.unit.service;
        if !oneshot && service.start.len() > 1 {
            let line = service.start.get(1).map_or(type_line, |command| command.line);
            self.refuse(line, "there is more than one ExecStart=, which only Type=oneshot may have".to_owned());
        }
        if oneshot && matches!(self.unit.service.restart, Restart::Always | Restart::OnSuccess) {
            self.refuse(restart_line, "a Type=oneshot cannot be started again after success".to_owned());
        }
        let service = &mut self.unit.service;
        if oneshot && !self.timeout_start_given {
            service.timeout_start = Span::INFINITY;
        }
        if service.kind == ServiceType::Notify
            && (!self.notify_access_given || service.notify_access == NotifyAccess::None)
        {
            service.notify_access = NotifyAccess::Main;
        }
        if !self.error_given {
            // systemd.exec(5): StandardError= defaults to inherit, that is, to what StandardOutput= is.
            service.error = service.output;
        }
        self.unit
    }
}

/// `-path` may be missing.
fn optional(value: &str) -> (&str, bool) {
    match value.strip_prefix('-') {
        Some(path) => (path, true),
        None => (value, false),
    }
}

/// Whether a value asks for nothing, so that not supporting the directive changes nothing.
fn means_nothing(value: &str) -> bool {
    value.is_empty() || parse_boolean(value) == Some(false)
}

/// systemd.syntax(7): "1, yes, true and on", "0, no, false and off".
fn parse_boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" | "y" | "t" => Some(true),
        "0" | "no" | "false" | "off" | "n" | "f" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
