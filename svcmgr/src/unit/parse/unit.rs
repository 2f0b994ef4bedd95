//! `[Unit]` and `[X-MMOS]`.

use super::Reader;
use crate::unit::directive::{MmosKey, UnitKey};
use crate::unit::syntax::Entry;
use crate::unit::{Reference, StartType, Unit, is_valid_name};

impl Reader<'_> {
    pub(super) fn obey_unit(&mut self, key: UnitKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            UnitKey::Description => self.unit.description = self.resolved(entry).unwrap_or_else(|| value.to_owned()),
            UnitKey::Requires => self.references(entry, |unit| &mut unit.requires),
            UnitKey::Wants => self.references(entry, |unit| &mut unit.wants),
            UnitKey::After => self.references(entry, |unit| &mut unit.after),
            UnitKey::Before => self.references(entry, |unit| &mut unit.before),
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
        }
    }

    fn references(&mut self, entry: &Entry, list: fn(&mut Unit) -> &mut Vec<Reference>) {
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
