//! What syslog(3) writes to `/dev/log`: `<PRIORITY>TIME TAG[PID]: TEXT`, of which everything but the text may be
//! missing. Format: RFC 3164, section 4, without the host name, as the C library has it.

use super::lines::text;
use super::record::{Entry, Source};

/// The priority of a message that does not say: user.notice, RFC 3164, 4.3.3.
const DEFAULT_PRIORITY: u8 = 13;
/// The longest tag. RFC 3164 says 32; programs have longer ones.
const TAG_LIMIT: usize = 64;

/// Reads a message. What is no part of the format is text.
pub fn parse(message: &[u8], time: u64) -> Entry {
    let message = text(trim(message));
    let (prefix, rest) = priority(&message).unwrap_or((DEFAULT_PRIORITY, &message));
    let rest = after_time(rest);
    let mut entry = Entry::new(Source::Syslog, time, prefix & 7, String::new());
    entry.facility = Some(prefix >> 3);
    entry.text = match tag(rest) {
        Some((name, pid, rest)) => {
            (entry.identifier, entry.pid) = (name.to_owned(), pid);
            rest.to_owned()
        }
        None => rest.to_owned(),
    };
    entry
}

/// Some senders end a message with a newline, some with NUL.
fn trim(mut message: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\0' | b'\r'] = message {
        message = rest;
    }
    message
}

/// `<N>`, of at most three digits and 191 (23 facilities, 8 priorities).
fn priority(message: &str) -> Option<(u8, &str)> {
    let (number, rest) = message.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| is_number && *number <= 191)?;
    Some((number, rest))
}

/// `Mmm dd hh:mm:ss `, which our own time stands in for.
fn after_time(text: &str) -> &str {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (Some(time), Some(rest)) = (text.get(..16), text.get(16..)) else { return text };
    // `d`: a digit; `s`: a digit or, in front of a day of one digit, a space.
    let is_form = time.bytes().zip("aaa sd dd:dd:dd ".bytes()).all(|(byte, form)| match form {
        b'a' => byte.is_ascii_alphabetic(),
        b'd' => byte.is_ascii_digit(),
        b's' => byte.is_ascii_digit() || byte == b' ',
        form => byte == form,
    });
    if is_form && MONTHS.iter().any(|month| time.starts_with(month)) { rest } else { text }
}

/// `TAG[PID]: ` or `TAG: ` at the beginning, and what follows it.
pub fn tag(text: &str) -> Option<(&str, Option<u32>, &str)> {
    let end = text.find(|c: char| c == ':' || c == '[' || c.is_whitespace())?;
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.len() > TAG_LIMIT || name.chars().any(char::is_control) {
        return None;
    }
    let (pid, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (pid, rest) = rest.split_once(']')?;
            (Some(pid.parse().ok()?), rest)
        }
        None => (None, rest),
    };
    let rest = rest.strip_prefix(':')?;
    // A path or an address is no tag.
    rest.strip_prefix(' ').or(Some(rest).filter(|rest| rest.is_empty())).map(|rest| (name, pid, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(message: &str) -> (u8, u8, String, Option<u32>, String) {
        let entry = parse(message.as_bytes(), 1);
        (entry.facility.unwrap(), entry.priority, entry.identifier, entry.pid, entry.text)
    }

    #[test]
    fn a_message_as_the_c_library_writes_it_is_taken_apart() {
        for (message, facility, priority, tag, pid, text) in [
            ("<13>Nov 25 03:35:08 logger: hello", 1, 5, "logger", None, "hello"),
            ("<30>Jan  1 00:00:00 sshd[4711]: Accepted for x", 3, 6, "sshd", Some(4711), "Accepted for x"),
            ("<3>app: on fire\n", 0, 3, "app", None, "on fire"),
            ("<11>Nov 25 03:35:08 a b", 1, 3, "", None, "a b"),
            ("no priority at all", 1, 5, "", None, "no priority at all"),
            ("<999>x", 1, 5, "", None, "<999>x"),
            ("<1 >x", 1, 5, "", None, "<1 >x"),
            ("<14>http://x is up", 1, 6, "", None, "http://x is up"),
            ("<14>tag[x]: text", 1, 6, "", None, "tag[x]: text"),
            ("<14>tag:", 1, 6, "tag", None, ""),
            ("<14>Nov 25 03:35:08", 1, 6, "", None, "Nov 25 03:35:08"),
            ("", 1, 5, "", None, ""),
            ("<14>é: ü\0", 1, 6, "é", None, "ü"),
        ] {
            assert_eq!(parts(message), (facility, priority, tag.into(), pid, text.into()), "{message}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse(&message, 1);
        }

        #[test]
        fn a_message_of_any_text_keeps_it(text in "\\PC{0,40}") {
            let entry = parse(format!("<14>Nov 25 03:35:08 tag[7]: {text}").as_bytes(), 1);
            prop_assert_eq!(entry.text, text);
        }
    }
}
