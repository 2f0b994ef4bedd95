//! The journal's native protocol, as sd_journal_send(3) writes it: fields `NAME=VALUE` or, for values that may hold a
//! newline, `NAME`, then eight bytes of length, the value, a newline. An empty line begins another entry.
//! Format: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use super::lines::text;
use super::record::{Entry, Source};
use super::store::FIELDS_LIMIT;

/// The priority of an entry that does not say: informational, as journald has it.
const DEFAULT_PRIORITY: u8 = 6;
/// The longest name of a field; journald's own bound.
const NAME_LIMIT: usize = 64;
/// Entries of one message. libsystemd sends one.
const ENTRIES: usize = 64;

/// What a message held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// Bytes that were left out, since they were too many or no part of the format.
    pub lost: usize,
}

/// Reads a message.
pub fn parse(bytes: &[u8], time: u64) -> Message {
    let mut message = Message::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if message.entries.len() >= ENTRIES {
            message.lost = message.lost.saturating_add(rest.len());
            break;
        }
        let mut entry = Entry::new(Source::Journal, time, DEFAULT_PRIORITY, String::new());
        let (mut room, mut any) = (FIELDS_LIMIT, false);
        while let Some((field, after)) = field(rest) {
            rest = after;
            match field {
                Field::End => break,
                Field::Unreadable(length) => message.lost = message.lost.saturating_add(length),
                Field::Value(name, value) => {
                    any = true;
                    let lost = set(&mut entry, name, value, &mut room);
                    message.lost = message.lost.saturating_add(lost);
                }
            }
        }
        if any {
            message.entries.push(entry);
        }
    }
    message
}

enum Field<'a> {
    Value(&'a [u8], &'a [u8]),
    /// The end of an entry.
    End,
    /// So many bytes that are no field.
    Unreadable(usize),
}

/// The next field, and what follows it; `None` at the end.
fn field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, after) = bytes.split_at(end);
    let after = after.get(1..).unwrap_or_default();
    if line.is_empty() {
        return Some((Field::End, after));
    }
    if let Some(at) = line.iter().position(|byte| *byte == b'=') {
        let (name, value) = line.split_at(at);
        return Some((Field::Value(name, value.get(1..).unwrap_or_default()), after));
    }
    let Some((length, value)) = after.split_first_chunk() else {
        return Some((Field::Unreadable(bytes.len()), &[]));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    match value.split_at_checked(length) {
        Some((value, [b'\n', after @ ..])) => Some((Field::Value(line, value), after)),
        // Cut off, by the sender or by our own bound: what there is of it.
        None => Some((Field::Value(line, value), &[])),
        // Lengths are wrong: nothing that follows can be told apart.
        Some((_, [])) if !value.is_empty() => Some((Field::Value(line, value), &[])),
        Some(_) => Some((Field::Unreadable(bytes.len()), &[])),
    }
}

/// How many bytes of it were left out.
fn set(entry: &mut Entry, name: &[u8], value: &[u8], room: &mut usize) -> usize {
    let number = || std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<u8>().ok());
    match name {
        b"MESSAGE" => entry.text = text(value),
        b"PRIORITY" => entry.priority = number().filter(|number| *number <= 7).unwrap_or(entry.priority),
        b"SYSLOG_FACILITY" => entry.facility = number().filter(|number| *number < 24),
        b"SYSLOG_IDENTIFIER" => entry.identifier = text(value),
        // What the kernel knows better, or what only journald itself may say.
        b"SYSLOG_PID" | [b'_', ..] => {}
        name if is_name(name) => {
            let length = name.len().saturating_add(value.len()).saturating_add(8);
            match room.checked_sub(length) {
                Some(left) => {
                    *room = left;
                    entry.fields.push((text(name), text(value)));
                }
                None => return length,
            }
        }
        _ => return name.len().saturating_add(value.len()),
    }
    0
}

fn is_name(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    name.len() <= NAME_LIMIT && name.first().is_some_and(u8::is_ascii_uppercase) && name.iter().all(is_part)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        [name.as_bytes(), b"\n", &u64::try_from(value.len()).unwrap().to_le_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn fields_of_both_forms_make_an_entry() {
        let mut bytes =
            b"PRIORITY=3\nSYSLOG_IDENTIFIER=app\nCODE_FILE=a.c\nSYSLOG_FACILITY=3\n_PID=1\nSYSLOG_PID=1\n".to_vec();
        bytes.extend(binary("MESSAGE", b"two\nlines"));
        bytes.extend(b"9X=1\nlower=1\nMY_FIELD=a=b\n");
        let message = parse(&bytes, 5);
        let [entry] = message.entries.as_slice() else { panic!("{message:?}") };
        let got = (entry.priority, entry.facility, entry.identifier.as_str(), entry.text.as_str(), entry.pid);
        assert_eq!(got, (3, Some(3), "app", "two\nlines", None));
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(entry.fields, [field("CODE_FILE", "a.c"), field("MY_FIELD", "a=b")]);
        assert_eq!(message.lost, "9X1lower1".len());
    }

    #[test]
    fn several_entries_and_none_are_read() {
        let message = parse(b"MESSAGE=a\n\n\nMESSAGE=b\nPRIORITY=9\n", 5);
        assert_eq!(message.entries.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(message.entries[1].priority, DEFAULT_PRIORITY);
        assert_eq!(parse(b"", 5), Message::default());
        assert_eq!(parse(b"\n\n\n", 5), Message::default());
        assert_eq!(parse(&b"A=1\n\n".repeat(1000), 5).entries.len(), ENTRIES);
    }

    #[test]
    fn what_is_too_long_or_wrong_is_left_out_and_counted() {
        let many: Vec<u8> = (0..100).flat_map(|n| format!("F{n}={}\n", "x".repeat(200)).into_bytes()).collect();
        let message = parse(&many, 5);
        let kept: usize = message.entries[0].fields.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        assert!(kept <= FIELDS_LIMIT && message.lost > 15_000, "{kept} {}", message.lost);
        // A length that is larger than the message: what there is.
        let mut cut = binary("MESSAGE", &[b'x'; 100]);
        cut.truncate(50);
        let message = parse(&cut, 5);
        assert_eq!((message.entries[0].text.as_str(), message.lost), ("x".repeat(34).as_str(), 0));
        // One that does not fit what follows.
        let wrong = [&b"A=1\nMESSAGE\n"[..], &3_u64.to_le_bytes(), b"four\nB=2\n"].concat();
        let message = parse(&wrong, 5);
        assert_eq!((message.entries[0].fields.len(), message.lost), (1, wrong.len() - 4));
        assert_eq!(parse(b"no field at all", 5), Message { entries: Vec::new(), lost: 15 });
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes, 1);
        }

        #[test]
        fn every_value_comes_back(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            let message = parse(&binary("MESSAGE", &value), 1);
            prop_assert_eq!(&message.entries[0].text, &text(&value));
        }
    }
}
