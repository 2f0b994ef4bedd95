//! `[Service]`: what its processes read, and where they write.

use super::Reader;
use crate::unit::directive::ExecKey;
use crate::unit::service::{Input, Output, Write};
use crate::unit::syntax::Entry;
use crate::unit::words;

impl Reader<'_> {
    pub(super) fn input_text(&mut self, entry: &Entry) {
        // C escapes are resolved, quotes are not; each assignment is a line.
        let Some(value) = self.resolved(entry) else { return };
        match words::unescaped(&value) {
            Ok(text) => self.input_bytes(value.is_empty(), format!("{text}\n").as_bytes()),
            Err(error) => self.refuse(entry.line, format!("StandardInputText={value}: {error}")),
        }
    }

    pub(super) fn input_bytes(&mut self, reset: bool, bytes: &[u8]) {
        let data = self.unit.service.input_data.get_or_insert_default();
        if reset {
            data.clear();
        } else {
            data.extend_from_slice(bytes);
        }
        if !self.input_given {
            self.unit.service.input = if data.is_empty() { Input::Null } else { Input::Data };
        }
    }

    pub(super) fn input(&mut self, entry: &Entry) {
        self.input_given = true;
        self.unit.service.input = match entry.value.as_str() {
            "" | "null" => Input::Null,
            "tty" | "tty-force" | "tty-fail" => Input::Tty,
            "data" => Input::Data,
            "socket" => Input::Socket,
            other => match other.strip_prefix("file:") {
                Some(path) if path.starts_with('/') => Input::File(path.into()),
                _ => {
                    let text =
                        format!("StandardInput={other} is not supported yet; null, tty, data, socket and file:/… are");
                    return self.refuse(entry.line, text);
                }
            },
        };
    }

    pub(super) fn output(&mut self, key: ExecKey, entry: &Entry) {
        let Some(value) = self.resolved(entry) else { return };
        let follows = value == "inherit" || value.is_empty();
        let output = match value.as_str() {
            // What else it may be is known at the end.
            "" | "inherit" | "journal" | "syslog" => Output::Log,
            "socket" => Output::Socket,
            "null" => Output::Null,
            "tty" => Output::Tty,
            "kmsg" => Output::Kmsg,
            "journal+console" | "kmsg+console" | "syslog+console" => Output::LogAndConsole,
            other => match other.split_once(':') {
                Some(("file", path)) if path.starts_with('/') => Output::File(Write::InPlace, path.into()),
                Some(("append", path)) if path.starts_with('/') => Output::File(Write::Append, path.into()),
                Some(("truncate", path)) if path.starts_with('/') => Output::File(Write::Truncate, path.into()),
                _ => {
                    let text = format!("{}={other} is not supported yet: output goes to the log", entry.key);
                    self.note(entry.line, text);
                    Output::Log
                }
            },
        };
        if key == ExecKey::StandardError {
            self.error_given = !follows;
            self.unit.service.error = output;
        } else {
            self.output_follows = follows;
            self.unit.service.output = output;
        }
    }

    /// systemd.exec(5): output is where input is from, where that has two directions, unless something else is said;
    /// errors are where output is.
    pub(super) fn finish_streams(&mut self) {
        let service = &mut self.unit.service;
        if self.output_follows {
            service.output = match service.input {
                Input::Tty => Output::Tty,
                Input::Socket => Output::Socket,
                Input::Null | Input::Data | Input::File(_) => Output::Log,
            };
        }
        if !self.error_given {
            service.error = service.output.clone();
        }
    }
}

/// RFC 4648, with white space or without.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut bits: u32 = 0;
    let mut count: u32 = 0;
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != '=') {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        bits = bits << 6 | u32::try_from(alphabet.find(c)?).ok()?;
        count = count.wrapping_add(6);
        if count >= 8 {
            count = count.wrapping_sub(8);
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}
