//! `[Unit]` and `[X-MMOS]`.

use super::Reader;
use crate::unit::condition::Condition;
use crate::unit::directive::{MmosKey, UnitKey};
use crate::unit::failure::{EndAction, ErrorControl, FailureActions, acts};
use crate::unit::syntax::Entry;
use crate::unit::time::Span;
use crate::unit::{Reference, Relation, StartType, Unit, is_valid_name};

/// What `ReadyFD=` may be at most: those who count are few, and the first are the usual ones.
const MAX_READY_FD: i32 = 255;

impl Reader<'_> {
    pub(super) fn obey_unit(&mut self, key: UnitKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            UnitKey::Relation(relation) => self.references(relation, entry),
            UnitKey::Alias => {
                let Some(value) = self.resolved(entry) else { return };
                self.unit
                    .aliases
                    .extend(value.split_whitespace().filter(|name| is_valid_name(name)).map(str::to_owned));
            }
            UnitKey::Description => self.unit.description = self.resolved(entry).unwrap_or_else(|| value.to_owned()),

            UnitKey::Condition(kind, directive) => {
                // An empty one takes back all that stood before: systemd.unit(5).
                if value.is_empty() {
                    return self.unit.conditions.clear();
                }
                let Some(value) = self.resolved(entry) else { return };
                self.unit.conditions.push(Condition::new(kind, directive, &value));
            }
            UnitKey::StartLimitAction => self.end_action(entry, |unit| &mut unit.limit_action),
            UnitKey::FailureAction => self.end_action(entry, |unit| &mut unit.failure_action),
            UnitKey::SuccessAction => self.end_action(entry, |unit| &mut unit.success_action),
            UnitKey::JobTimeoutAction => self.end_action(entry, |unit| &mut unit.job_action),
            UnitKey::JobTimeoutSec => {
                if let Some(span) = self.span(entry) {
                    // systemd.unit(5): 0 is none.
                    self.unit.job_timeout = if span == Span::ZERO { Span::INFINITY } else { span };
                }
            }
            UnitKey::JobRunningTimeoutSec => {
                if let Some(span) = self.span(entry) {
                    self.unit.job_running_timeout = if span == Span::ZERO { Span::INFINITY } else { span };
                }
            }
            UnitKey::StartLimitInterval => self.start_limit_interval(entry),
            UnitKey::StartLimitBurst => self.start_limit_burst(entry),
        }
    }

    pub(super) fn obey_mmos(&mut self, key: MmosKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            MmosKey::Start => match StartType::from_word(value) {
                Some(start) => self.unit.start = Some(start),
                None => self.unknown_value(entry, &["auto", "demand", "disabled"]),
            },
            MmosKey::FailureActions => match acts(value) {
                Ok(list) => self.failure_actions().list = list,
                // What was to be done about a failure would not be.
                Err(error) => self.refuse(entry.line, format!("FailureActions={value}: {error}")),
            },
            MmosKey::FailureCommand => {
                let mut commands = std::mem::take(&mut self.failure_actions().command);
                if let Some(read) = self.read_commands(entry) {
                    if read.is_empty() {
                        commands.clear();
                    }
                    commands.extend(read);
                }
                self.failure_actions().command = commands;
            }
            MmosKey::FailureResetPeriod => {
                if let Some(span) = self.span(entry) {
                    self.failure_actions().reset = span;
                }
            }
            MmosKey::ReadyFd => {
                let number = value.parse().ok().filter(|number| (3..=MAX_READY_FD).contains(number));
                match number {
                    Some(number) => self.unit.service.ready_fd = Some(number),
                    None if value.is_empty() => self.unit.service.ready_fd = None,
                    // It would never be up.
                    None => {
                        let text = format!("ReadyFD={value}: a descriptor from 3 to {MAX_READY_FD} is due");
                        self.refuse(entry.line, text);
                    }
                }
                self.ready_fd_line = entry.line;
            }
            MmosKey::ErrorControl => {
                self.unit.error_control = match value {
                    "ignore" => ErrorControl::Ignore,
                    "normal" | "" => ErrorControl::Normal,
                    "severe" => ErrorControl::Severe,
                    "critical" => ErrorControl::Critical,
                    _ => return self.unknown_value(entry, &["ignore", "normal", "severe", "critical"]),
                };
            }
        }
    }

    pub(super) fn references(&mut self, relation: Relation, entry: &Entry) {
        // systemd.unit(5): dependencies cannot be reset by an empty assignment.
        let Some(value) = self.resolved(entry) else { return };
        let file = self.files.get(self.file).filter(|_| self.file > 0).cloned();
        for name in value.split_whitespace() {
            if !is_valid_name(name) {
                self.note(entry.line, format!("{}={name} is not the name of a unit, ignored", entry.key));
            } else if name != self.unit.name {
                let reference = Reference { relation, name: name.to_owned(), line: entry.line, file: file.clone() };
                self.unit.references.push(reference);
            }
        }
    }

    pub(super) fn end_action(&mut self, entry: &Entry, field: fn(&mut Unit) -> &mut Option<EndAction>) {
        match EndAction::parse(&entry.value) {
            Some(action) => *field(&mut self.unit) = action,
            None => self.unknown_value(entry, &EndAction::WORDS),
        }
    }

    fn failure_actions(&mut self) -> &mut FailureActions {
        self.unit.service.failure_actions.get_or_insert_default()
    }

    pub(super) fn start_limit_interval(&mut self, entry: &Entry) {
        if let Some(span) = self.span(entry) {
            self.unit.limit.interval = span;
        }
    }

    pub(super) fn start_limit_burst(&mut self, entry: &Entry) {
        match entry.value.parse() {
            Ok(burst) => self.unit.limit.burst = burst,
            Err(_) => self.note(entry.line, format!("StartLimitBurst={} is not a number, ignored", entry.value)),
        }
    }
}
