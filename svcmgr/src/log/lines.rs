//! From bytes as a program wrote them to lines: where they end, what is too long, and how urgent they are.

use super::record::{Entry, Source};
use super::store::LINE_LIMIT;

/// The priority of a line that does not say: informational, syslog(3).
const DEFAULT_PRIORITY: u8 = 6;

/// How the lines of one source are to be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Style {
    /// The priority of a line that does not say.
    pub priority: u8,
    /// Whether a line may say by a `<N>` at its beginning, as sd-daemon(3) has it.
    pub prefix: bool,
    /// What the source calls itself.
    pub identifier: String,
    /// Who it is, where that is known.
    pub pid: Option<u32>,
    /// The facility of its lines, as in syslog(3).
    pub facility: Option<u8>,
    /// How many lines it may say in a while; `None` is as many as it likes.
    pub limit: Option<LineLimit>,
}

/// At most so many lines within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LineLimit {
    /// The time, in microseconds.
    pub interval: u64,
    /// How many.
    pub burst: u32,
}

impl Default for Style {
    fn default() -> Style {
        Style {
            priority: DEFAULT_PRIORITY,
            prefix: true,
            identifier: String::new(),
            pid: None,
            facility: None,
            limit: None,
        }
    }
}

impl Style {
    /// A line as an entry.
    pub fn entry(&self, line: &[u8], time: u64) -> Entry {
        let (priority, line) = match line {
            [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] if self.prefix => (digit.saturating_sub(b'0'), rest),
            line => (self.priority, line),
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut entry = Entry::new(Source::Output, time, priority, text(line));
        entry.identifier.clone_from(&self.identifier);
        entry.pid = self.pid;
        entry.facility = self.facility;
        entry
    }
}

/// Bytes as text: what is not UTF-8, and NUL, is replaced.
pub fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.into_owned() }
}

/// Hands the whole lines of `partial` to `each` and takes them out; also a line without an end, if `all` or too long.
pub fn split(partial: &mut Vec<u8>, all: bool, mut each: impl FnMut(&[u8])) {
    let mut rest = partial.as_slice();
    loop {
        let within = rest.get(..LINE_LIMIT.saturating_add(1)).unwrap_or(rest);
        let (line, after) = match within.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let (line, after) = rest.split_at(at);
                (line, after.get(1..).unwrap_or_default())
            }
            None if rest.len() > LINE_LIMIT => rest.split_at(whole(rest, LINE_LIMIT)),
            None if all && !rest.is_empty() => (rest, &[][..]),
            None => break,
        };
        each(line);
        rest = after;
    }
    let kept = rest.len();
    partial.drain(..partial.len().saturating_sub(kept));
    if partial.is_empty() && partial.capacity() > LINE_LIMIT {
        // A burst's memory is given back.
        *partial = Vec::new();
    }
}

/// At most `limit`, and not within a character, where it is UTF-8.
fn whole(bytes: &[u8], limit: usize) -> usize {
    let is_within = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (limit.saturating_sub(3)..=limit).rev().find(|at| !is_within(at)).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut bytes = "é".repeat(5000).into_bytes();
        bytes.push(b'\n');
        let mut lines = Vec::new();
        split(&mut bytes, false, |line| lines.push(text(line)));
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [4096, 4096, 1808]);
        assert_eq!(lines.concat(), "é".repeat(5000));
    }

    #[test]
    fn a_prefix_is_a_priority_only_where_it_is_to_be() {
        let style = Style { priority: 5, ..Style::default() };
        let entry = style.entry(b"<3>bad\r", 9);
        assert_eq!((entry.priority, entry.text.as_str(), entry.time), (3, "bad", 9));
        assert_eq!(style.entry(b"<9>what", 9).text, "<9>what");
        assert_eq!(style.entry(b"plain", 9).priority, 5);
        let entry = Style { prefix: false, ..style }.entry(b"<3>xml", 9);
        assert_eq!((entry.priority, entry.text.as_str()), (5, "<3>xml"));
        assert_eq!(Style::default().entry(b"a\0b\xff", 0).text, "a\u{fffd}b\u{fffd}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(pieces in proptest::collection::vec("[a-z\n]{0,50}", 0..20)) {
            let mut partial = Vec::new();
            let mut out = String::new();
            for piece in &pieces {
                partial.extend_from_slice(piece.as_bytes());
                split(&mut partial, false, |line| { out.push_str(&text(line)); out.push('\n'); });
            }
            out.push_str(&text(&partial));
            prop_assert_eq!(out, pieces.concat());
        }
    }
}
