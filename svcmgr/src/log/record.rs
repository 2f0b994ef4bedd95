//! One line of a log, and how lines are written down: each as its difference from the one before, so that most of a
//! line is its text. Little else would compress.

use super::varint::{self, put, take};

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Standard output or error of a service, or a stream of the journal.
    Output,
    /// The kernel's log.
    Kernel,
    /// `/dev/log`.
    Syslog,
    /// The journal's native socket.
    Journal,
    /// The supervisor itself, about the log: what was lost.
    Supervisor,
}

impl Source {
    const ALL: [Source; 5] = [Source::Output, Source::Kernel, Source::Syslog, Source::Journal, Source::Supervisor];

    /// The word for it in the control protocol.
    pub fn word(self) -> &'static str {
        match self {
            Source::Output => "output",
            Source::Kernel => "kernel",
            Source::Syslog => "syslog",
            Source::Journal => "journal",
            Source::Supervisor => "supervisor",
        }
    }

    /// Whether its lines may have fields.
    fn has_fields(self) -> bool {
        matches!(self, Source::Kernel | Source::Journal)
    }

    fn number(self) -> u8 {
        match self {
            Source::Output => 0,
            Source::Kernel => 1,
            Source::Syslog => 2,
            Source::Journal => 3,
            Source::Supervisor => 4,
        }
    }
}

/// What is said, before it has its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in microseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// 0 to 7, as in syslog(3).
    pub priority: u8,
    /// The facility, where the sender named one.
    pub facility: Option<u8>,
    /// Where it came from.
    pub source: Source,
    /// Who sent it, where that is known.
    pub pid: Option<u32>,
    /// What the sender calls itself; empty if it does not.
    pub identifier: String,
    /// The other fields of a native message, or of a line of the kernel's.
    pub fields: Vec<(String, String)>,
    /// What it says.
    pub text: String,
}

impl Entry {
    /// A line of this source, with nothing but time, priority and text.
    pub fn new(source: Source, time: u64, priority: u8, text: String) -> Entry {
        Entry { time, priority, facility: None, source, pid: None, identifier: String::new(), fields: Vec::new(), text }
    }
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts up over the lines of its unit: a gap is a loss.
    pub seq: u64,
    /// Counts up over the lines of all units.
    pub cursor: u64,
    /// The time by the wall clock then, in microseconds since 1970.
    pub wall: u64,
    /// What it says, and when.
    pub entry: Entry,
}

/// What a line is written as a difference from.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    seq: u64,
    cursor: u64,
    time: u64,
    /// Wall clock less `CLOCK_BOOTTIME`.
    offset: u64,
    pid: Option<u32>,
    facility: Option<u8>,
    identifier: String,
}

/// Two readings of two clocks differ by a little each time: not a change worth writing down.
const CLOCK_JITTER: u64 = 1000;
const CHANGED_SENDER: u8 = 0x40;
const CHANGED_CLOCK: u8 = 0x80;

impl Chain {
    /// Appends `line` to `out`.
    pub fn encode(&mut self, line: &Line, out: &mut Vec<u8>) {
        let entry = &line.entry;
        let offset = line.wall.wrapping_sub(entry.time);
        let drift = offset.wrapping_sub(self.offset).cast_signed();
        let new_clock = drift.unsigned_abs() > CLOCK_JITTER;
        let new_sender =
            self.pid != entry.pid || self.facility != entry.facility || self.identifier != entry.identifier;
        let mut flags = (entry.priority & 7) | (entry.source.number() << 3);
        if new_sender {
            flags |= CHANGED_SENDER;
        }
        if new_clock {
            flags |= CHANGED_CLOCK;
        }
        out.push(flags);
        put(out, line.seq.wrapping_sub(self.seq));
        put(out, line.cursor.wrapping_sub(self.cursor));
        put(out, varint::zigzag(entry.time.wrapping_sub(self.time).cast_signed()));
        if new_clock {
            put(out, varint::zigzag(drift));
            self.offset = offset;
        }
        if new_sender {
            put(out, entry.pid.map_or(0, |pid| u64::from(pid).saturating_add(1)));
            put(out, entry.facility.map_or(0, |facility| u64::from(facility).saturating_add(1)));
            text(out, &entry.identifier);
            self.pid = entry.pid;
            self.facility = entry.facility;
            self.identifier.clone_from(&entry.identifier);
        }
        if entry.source.has_fields() {
            put(out, u64::try_from(entry.fields.len()).unwrap_or(0));
            for (name, value) in &entry.fields {
                text(out, name);
                text(out, value);
            }
        }
        text(out, &entry.text);
        self.seq = line.seq;
        self.cursor = line.cursor;
        self.time = entry.time;
    }

    /// Takes the next line off `input`; `None` at its end, or where it is not a line.
    pub fn decode(&mut self, input: &mut &[u8]) -> Option<Line> {
        let (flags, rest) = input.split_first()?;
        *input = rest;
        let source = *Source::ALL.get(usize::from((flags >> 3) & 7))?;
        self.seq = self.seq.wrapping_add(take(input)?);
        self.cursor = self.cursor.wrapping_add(take(input)?);
        self.time = self.time.wrapping_add(varint::unzigzag(take(input)?).cast_unsigned());
        if flags & CHANGED_CLOCK != 0 {
            self.offset = self.offset.wrapping_add(varint::unzigzag(take(input)?).cast_unsigned());
        }
        if flags & CHANGED_SENDER != 0 {
            self.pid = take(input)?.checked_sub(1).and_then(|pid| u32::try_from(pid).ok());
            self.facility = take(input)?.checked_sub(1).and_then(|facility| u8::try_from(facility).ok());
            self.identifier = string(input)?;
        }
        let mut fields = Vec::new();
        if source.has_fields() {
            for _ in 0..take(input)? {
                fields.push((string(input)?, string(input)?));
            }
        }
        let entry = Entry {
            time: self.time,
            priority: flags & 7,
            facility: self.facility,
            source,
            pid: self.pid,
            identifier: self.identifier.clone(),
            fields,
            text: string(input)?,
        };
        Some(Line { seq: self.seq, cursor: self.cursor, wall: self.time.wrapping_add(self.offset), entry })
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    put(out, u64::try_from(text.len()).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
}

fn string(input: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(take(input)?).ok()?;
    let (text, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = Line> {
        let numbers = (1..1000_u64, 1..1000_u64, any::<u32>(), any::<u32>(), 0..8_u8);
        let sender = (proptest::option::of(any::<u32>()), proptest::option::of(0..24_u8), "[a-z]{0,9}");
        (numbers, sender, "\\PC{0,40}", proptest::collection::vec(("[A-Z_]{1,9}", "\\PC{0,9}"), 0..3), 0..5_usize)
            .prop_map(|((seq, cursor, time, wall, priority), (pid, facility, identifier), text, fields, source)| {
                let source = Source::ALL[source];
                let fields = if source.has_fields() { fields } else { Vec::new() };
                let time = u64::from(time);
                let entry = Entry { time, priority, facility, source, pid, identifier, fields, text };
                Line { seq, cursor, wall: u64::from(wall), entry }
            })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(lines in proptest::collection::vec(line(), 0..20)) {
            let (mut bytes, mut chain) = (Vec::new(), Chain::default());
            for line in &lines {
                chain.encode(line, &mut bytes);
            }
            let (mut rest, mut chain) = (bytes.as_slice(), Chain::default());
            for line in &lines {
                let read = chain.decode(&mut rest).unwrap();
                // To the millisecond: see CLOCK_JITTER.
                prop_assert!(read.wall.abs_diff(line.wall) <= CLOCK_JITTER);
                prop_assert_eq!(&Line { wall: line.wall, ..read }, line);
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn rubbish_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut rest, mut chain) = (bytes.as_slice(), Chain::default());
            while chain.decode(&mut rest).is_some() {}
        }
    }
}
