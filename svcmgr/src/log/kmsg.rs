//! The kernel's log: one record a read, each with the kernel's own number and time.
//! Format: `Documentation/ABI/testing/dev-kmsg`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::clock;
use super::lines::text;
use super::record::{Entry, Source};
use super::store::{KERNEL, RingId, Store};

/// Records that are read before others get their turn.
const BATCH: usize = 256;
/// The longest record that the kernel hands out: `PRINTK_MESSAGE_MAX` is 2048, before 6.5 it was 8192.
const RECORD: usize = 8192;
/// Names of fields that are kept: what device a line speaks of.
const FIELDS: [&str; 2] = ["SUBSYSTEM", "DEVICE"];

/// The kernel's log, as far as it was read.
#[derive(Debug)]
pub struct Kmsg {
    fd: OwnedFd,
    ring: RingId,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    sequence: u64,
    /// In microseconds of the kernel's own clock, which stands still while the machine sleeps.
    time: u64,
    priority: u8,
    facility: u8,
    text: String,
    fields: Vec<(String, String)>,
}

impl Kmsg {
    /// Opens `path`. What is kept of it already is not read again.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, store: &mut Store) -> io::Result<Kmsg> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Kmsg { fd: rustix::fs::open(path, flags, Mode::empty())?, ring: store.ring(KERNEL) })
    }

    /// Reads what is there, up to a limit; `now` in microseconds of `CLOCK_BOOTTIME`. Whether there may be more.
    pub fn drain(&mut self, store: &mut Store, now: u64) -> bool {
        let asleep = clock::asleep();
        let mut last = store.get(self.ring).map_or(0, |ring| ring.seq());
        let mut entries = Vec::new();
        let mut buffer = [0; RECORD];
        let mut more = true;
        for _ in 0..BATCH {
            let read = match rustix::io::read(&self.fd, &mut buffer) {
                // Records were overwritten before they were read: the next read goes on with the oldest there is.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => continue,
                Ok(0) | Err(_) => {
                    more = false;
                    break;
                }
                Ok(n) => n,
            };
            let Some(record) = Record::parse(buffer.get(..read).unwrap_or_default()) else { continue };
            // Numbers of lines begin with 1, the kernel's with 0.
            let seq = record.sequence.saturating_add(1);
            if seq <= last {
                continue;
            }
            if last > 0 {
                store.skipped(self.ring, seq.saturating_sub(last).saturating_sub(1));
            }
            last = seq;
            let time = record.time.saturating_add(asleep).min(now);
            entries.push((seq, record.into_entry(time)));
        }
        if !entries.is_empty() {
            store.append_numbered(self.ring, entries);
        }
        more
    }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Record {
    /// `PRIORITY,SEQUENCE,TIME,FLAGS[,…];TEXT`, then lines ` KEY=VALUE`.
    fn parse(record: &[u8]) -> Option<Record> {
        let at = record.iter().position(|byte| *byte == b';')?;
        let (head, rest) = record.split_at(at);
        let mut head = std::str::from_utf8(head).ok()?.split(',');
        let prefix: u32 = head.next()?.parse().ok()?;
        let (sequence, time) = (head.next()?.parse().ok()?, head.next()?.parse().ok()?);
        let mut lines = rest.get(1..)?.split(|byte| *byte == b'\n');
        let text = unescape(lines.next()?);
        let fields = lines.filter_map(|line| {
            let line = unescape(line.strip_prefix(b" ")?);
            let (name, value) = line.split_once('=')?;
            FIELDS.contains(&name).then(|| (name.to_owned(), value.to_owned()))
        });
        let facility = u8::try_from(prefix >> 3).unwrap_or(u8::MAX);
        let priority = u8::try_from(prefix & 7).ok()?;
        Some(Record { sequence, time, priority, facility, text, fields: fields.collect() })
    }

    fn into_entry(self, time: u64) -> Entry {
        let mut entry = Entry::new(Source::Kernel, time, self.priority, self.text);
        entry.facility = Some(self.facility);
        entry.fields = self.fields;
        // Facility 0 is the kernel itself; who else writes there begins with a name, as in syslog.
        if self.facility != 0
            && let Some((name, pid, rest)) = super::syslog::tag(&entry.text)
        {
            (entry.identifier, entry.pid) = (name.to_owned(), pid);
            entry.text = rest.to_owned();
        }
        entry
    }
}

/// Bytes that the kernel wrote as `\x20`.
fn unescape(line: &[u8]) -> String {
    if !line.contains(&b'\\') {
        return text(line);
    }
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', b'x', a, b, ..] => hex(*a).zip(hex(*b)).map(|(a, b)| (a << 4) | b),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { rest.get(4..).unwrap_or_default() } else { after };
    }
    text(&bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::log::reader::{Next, Query, Reader};
    use crate::log::record::Line;
    use crate::log::store::Bounds;
    use proptest::prelude::*;

    #[test]
    fn a_record_has_number_time_priority_and_the_device_it_speaks_of() {
        let record = Record::parse(b"6,339,5140900,-;usb\\x09 1-1: new\\x5c\n SUBSYSTEM=usb\n DEVICE=+usb:1-1\n X=1\n");
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Record {
            sequence: 339,
            time: 5_140_900,
            priority: 6,
            facility: 0,
            text: "usb\t 1-1: new\\".into(),
            fields: vec![field("SUBSYSTEM", "usb"), field("DEVICE", "+usb:1-1")],
        };
        assert_eq!(record, Some(expected));
        let entry = Record::parse(b"29,1,5,-,caller=T1;svcmgr: a.service: active").unwrap().into_entry(5);
        let got = (entry.priority, entry.facility, entry.identifier.as_str(), entry.text.as_str());
        assert_eq!(got, (5, Some(3), "svcmgr", "a.service: active"));
        for wrong in ["", "6,1,2", ";", "x,1,2,-;y", "6,,2,-;y"] {
            assert_eq!(Record::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    fn lines(store: &Store) -> Vec<Line> {
        let mut reader = Reader::new(Query::default());
        let mut lines = Vec::new();
        loop {
            match reader.next(store) {
                Next::Line(_, line) => lines.push(line),
                Next::Pause => {}
                Next::End | Next::Over => return lines,
            }
        }
    }

    /// A socket of packets, which like the device gives one record a read.
    fn device(store: &mut Store) -> (OwnedFd, Kmsg) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (ours, fd) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (ours, Kmsg { fd, ring: store.ring(KERNEL) })
    }

    #[test]
    fn records_are_kept_once_and_those_that_were_overwritten_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { unit: 64 << 10, all: 1 << 20 };
        let mut store = Store::open(dir.path(), bounds);
        let (kernel, mut kmsg) = device(&mut store);
        let say = |kernel: &OwnedFd, n: u64| rustix::io::write(kernel, format!("6,{n},{n},-;line {n}\n").as_bytes());
        for n in [0, 1, 2, 5] {
            say(&kernel, n).unwrap();
        }
        kmsg.drain(&mut store, u64::MAX);
        // The next supervisor reads from the beginning.
        let mut store = Store::open(dir.path(), bounds);
        let (kernel, mut kmsg) = device(&mut store);
        for n in 1..8 {
            say(&kernel, n).unwrap();
        }
        kmsg.drain(&mut store, u64::MAX);
        let said: Vec<(u64, String)> = lines(&store).into_iter().map(|line| (line.seq, line.entry.text)).collect();
        let line = |n: u64| (n + 1, format!("line {n}"));
        let lost = "[2 lines lost: the kernel's log was not read in time, or the log keeps the newest alone]";
        assert_eq!(said, [line(0), line(1), line(2), (5, lost.into()), line(5), line(6), line(7)]);
        assert_eq!(store.lost(KERNEL).dropped, 2);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(record in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Record::parse(&record).map(|record| record.into_entry(1));
        }
    }
}
