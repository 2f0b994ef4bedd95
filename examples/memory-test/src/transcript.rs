//! Understands what memtester writes while it writes it: made for a terminal, it draws progress with backspaces and
//! ends a test's line only if the test passed.
//!
//! Per loop `Loop 1/2:` and a line feed; per test `  %-20s: `, then progress, then `ok` and a line feed (memtester
//! 4.6.0, memtester.c and tests.c). What fails is said on stderr, and the next test begins on the same line.

/// Something that the transcript shows to have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A round over all tests has begun.
    Loop(u32),
    /// A test of this name has begun.
    Begun(String),
    /// The test that began last is over.
    Ended { name: String, passed: bool },
}

/// Room for a test's name: `%-20s`.
const NAME: usize = 20;
/// No line that means anything is longer; a memtester gone mad shall not fill our memory.
const LONGEST: usize = 4096;

/// The transcript so far.
#[derive(Debug, Default)]
pub struct Transcript {
    line: Vec<u8>,
    test: Option<String>,
}

impl Transcript {
    /// Takes the next bytes, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\x08' => {
                    self.line.pop();
                }
                b'\n' => self.line_ended(&mut events),
                _ => {
                    if self.line.len() < LONGEST {
                        self.line.push(byte);
                    }
                    if byte == b' ' {
                        self.test_begun(&mut events);
                    }
                }
            }
        }
        events
    }

    /// memtester has ended: a test that is still open did not pass.
    pub fn finish(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.test_ended(false, &mut events);
        events
    }

    fn line_ended(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if self.test.is_some() {
            self.test_ended(line.trim() == "ok", events);
        } else if let Some(number) = line.strip_prefix("Loop ") {
            let number = number.trim_end_matches(':').split('/').next().and_then(|number| number.parse().ok());
            events.extend(number.map(Event::Loop));
        }
    }

    fn test_begun(&mut self, events: &mut Vec<Event>) {
        let Some(line) = self.line.strip_suffix(b": ") else { return };
        let Some(name) = line.len().checked_sub(NAME).and_then(|at| line.split_at_checked(at)) else { return };
        let (before, name) = name;
        let name = String::from_utf8_lossy(name).trim_end().to_owned();
        let named = name.chars().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if before.ends_with(b"  ") && named {
            self.test_ended(false, events);
            self.line.clear();
            self.test = Some(name.clone());
            events.push(Event::Begun(name));
        }
    }

    fn test_ended(&mut self, passed: bool, events: &mut Vec<Event>) {
        events.extend(self.test.take().map(|name| Event::Ended { name, passed }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "memtester version 4.6.0 (64-bit)\nCopyright (C) 2001-2020 Charles Cazabon.\n\
        Licensed under the GNU General Public License version 2 (only).\n\npagesize is 4096\n\
        want 1MB (1048576 bytes)\ngot  1MB (1048576 bytes), trying mlock ...locked.\n";

    fn begun(name: &str) -> Event {
        Event::Begun(name.into())
    }

    fn ended(name: &str, passed: bool) -> Event {
        Event::Ended { name: name.into(), passed }
    }

    fn events(text: &str) -> Vec<Event> {
        let mut transcript = Transcript::default();
        let mut events = transcript.push(text.as_bytes());
        events.extend(transcript.finish());
        events
    }

    #[test]
    fn tests_that_pass_are_told_apart_from_their_progress() {
        let text = format!(
            "{HEAD}Loop 1/2:\n  Stuck Address       : setting   0\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08           \
             \x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08ok\n  Compare XOR         : ok\n  Sequential Increment: ok\n\
             \nLoop 2/2:\n  8-bit Writes        : \x08\\\x08|\x08 \x08ok\n\nDone.\n"
        );
        let expected = [
            Event::Loop(1),
            begun("Stuck Address"),
            ended("Stuck Address", true),
            begun("Compare XOR"),
            ended("Compare XOR", true),
            begun("Sequential Increment"),
            ended("Sequential Increment", true),
            Event::Loop(2),
            begun("8-bit Writes"),
            ended("8-bit Writes", true),
        ];
        assert_eq!(events(&text), expected);
    }

    #[test]
    fn a_test_that_fails_has_no_ok_and_the_next_one_begins_on_its_line() {
        let text =
            "Loop 1/1:\n  Stuck Address       : testing   3  Random Value        : \\  Compare XOR         : ok\n";
        let expected = [
            Event::Loop(1),
            begun("Stuck Address"),
            ended("Stuck Address", false),
            begun("Random Value"),
            ended("Random Value", false),
            begun("Compare XOR"),
            ended("Compare XOR", true),
        ];
        assert_eq!(events(text), expected);
    }

    #[test]
    fn a_test_in_which_memtester_died_did_not_pass() {
        assert_eq!(events("  Solid Bits          : setting  7"), [begun("Solid Bits"), ended("Solid Bits", false)]);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_mean_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..400) {
            let mut whole = Transcript::default();
            let all = whole.push(&bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut parts = Transcript::default();
            let mut some = parts.push(first);
            some.extend(parts.push(second));
            prop_assert_eq!(all, some);
        }

        #[test]
        fn each_test_that_begins_ends_once(text in "(  [A-Za-z -]{20}: |ok\n|Loop [0-9]+/3:\n|\x08|[a-z: ]{0,9}\n?){0,60}") {
            let mut open = None;
            for event in events(&text) {
                match event {
                    Event::Begun(name) => prop_assert_eq!(open.replace(name), None),
                    Event::Ended { name, .. } => prop_assert_eq!(open.take(), Some(name)),
                    Event::Loop(_) => prop_assert_eq!(&open, &None),
                }
            }
            prop_assert_eq!(open, None);
        }
    }
}
