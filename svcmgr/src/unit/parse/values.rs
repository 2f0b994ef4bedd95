//! Values that many directives share: what each may be, and what is said of one that may not.

use link::nearest::nearest;

use super::Reader;
use crate::unit::specifier::Specifiers;
use crate::unit::syntax::Entry;
use crate::unit::time::Span;
use crate::unit::words;

impl Reader<'_> {
    pub(super) fn unknown_value(&mut self, entry: &Entry, known: &[&str]) {
        let hint = match nearest(&entry.value, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("one of {} is due", known.join(", ")),
        };
        self.note(entry.line, format!("{}={} is ignored: {hint}", entry.key, entry.value));
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

    /// The words of a value, quotes and escapes resolved.
    pub(super) fn words(&mut self, entry: &Entry, value: &str) -> Option<Vec<String>> {
        match words::split(value) {
            Ok(words) => Some(words.into_iter().map(|word| word.text).collect()),
            Err(error) => {
                self.note(entry.line, format!("{}={value} is ignored: {error}", entry.key));
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
}

/// `-path` may be missing.
pub(super) fn optional(value: &str) -> (&str, bool) {
    match value.strip_prefix('-') {
        Some(path) => (path, true),
        None => (value, false),
    }
}

/// systemd.syntax(7): "1, yes, true and on", "0, no, false and off".
pub(super) fn parse_boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" | "y" | "t" => Some(true),
        "0" | "no" | "false" | "off" | "n" | "f" => Some(false),
        _ => None,
    }
}
