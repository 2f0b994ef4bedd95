//! What comes in by `/dev/log` and the journal's native socket: who sent it, whether that unit may say more now, and
//! into which ring it goes. All senders share these sockets, so they are always read; what one sends beyond its rate is
//! dropped and counted.

use std::collections::{HashMap, VecDeque};

use super::bucket::Bucket;
use super::socket::{Datagram, Socket};
use super::store::{Loss, OTHER, RingId, Store};
use super::{native, syslog};

/// Messages that are read from one socket before others get their turn.
const BATCH: usize = 64;
/// What a message costs of its unit's rate besides its length, in bytes.
const COST: usize = 64;
/// Senders that are remembered.
const RECENT: usize = 16;
/// For so long, in microseconds of `CLOCK_BOOTTIME`: no longer than a process number takes to be used again.
const REMEMBERED: u64 = 100_000;

/// Which format a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 3164.
    Syslog,
    /// The journal's own.
    Native,
}

/// What comes in.
#[derive(Debug, Default)]
pub struct Inlets {
    /// `/dev/log`.
    pub syslog: Option<Socket>,
    /// The journal's native socket.
    pub native: Option<Socket>,
    /// Whose processes send.
    pub senders: Senders,
    buckets: HashMap<RingId, Bucket>,
    told: bool,
}

impl Inlets {
    /// Reads what is there, up to a limit. `find` knows the unit of a process.
    pub fn drain(&mut self, format: Format, store: &mut Store, time: u64, mut find: impl FnMut(i32) -> Option<String>) {
        for _ in 0..BATCH {
            let socket = match format {
                Format::Syslog => &self.syslog,
                Format::Native => &self.native,
            };
            let received = match socket.as_ref().map(Socket::receive) {
                Some(Ok(Some(received))) => received,
                Some(Ok(None)) | None => return,
                Some(Err(error)) => {
                    if !std::mem::replace(&mut self.told, true) {
                        log::warn!("a socket of the journal cannot be read: {error}");
                    }
                    return;
                }
            };
            let unit = received.pid.and_then(|pid| self.senders.unit_of(pid, time, &mut find));
            let ring = store.ring(unit.as_deref().unwrap_or(OTHER));
            self.keep(format, store, ring, &received, time);
        }
    }

    fn keep(&mut self, format: Format, store: &mut Store, ring: RingId, received: &Datagram, time: u64) {
        let bucket = self.buckets.entry(ring).or_default();
        if !bucket.is_open(time) {
            return store.lose(ring, Loss::Rate, 1, time);
        }
        bucket.take(received.bytes.len().saturating_add(COST));
        let (mut entries, mut lost) = match format {
            Format::Syslog => (vec![syslog::parse(&received.bytes, time)], 0),
            Format::Native => {
                let message = native::parse(&received.bytes, time);
                (message.entries, message.lost)
            }
        };
        lost = lost.saturating_add(received.cut);
        for entry in &mut entries {
            // Whatever it says itself.
            entry.pid = received.pid.and_then(|pid| u32::try_from(pid).ok());
        }
        if !entries.is_empty() {
            store.append(ring, entries);
        }
        store.lose(ring, Loss::Cut, u64::try_from(lost).unwrap_or(u64::MAX), time);
    }
}

/// The units of processes that spoke a moment ago: one that has ended since is still known by that, and one that speaks
/// often is not looked up each time.
#[derive(Debug, Default)]
pub struct Senders {
    recent: VecDeque<(i32, u64, String)>,
}

impl Senders {
    /// The unit of a process; `find` looks it up.
    pub fn unit_of(&mut self, pid: i32, time: u64, mut find: impl FnMut(i32) -> Option<String>) -> Option<String> {
        self.recent.retain(|(_, at, _)| time.saturating_sub(*at) <= REMEMBERED);
        if let Some((_, _, unit)) = self.recent.iter().find(|(known, _, _)| *known == pid) {
            return Some(unit.clone());
        }
        let unit = find(pid)?;
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((pid, time, unit.clone()));
        Some(unit)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::log::reader::{Next, Query, Reader};
    use crate::log::record::Line;
    use crate::log::store::Bounds;
    use std::os::unix::net::UnixDatagram;

    struct Journal {
        _dir: tempfile::TempDir,
        store: Store,
        inlets: Inlets,
        senders: [UnixDatagram; 2],
    }

    impl Journal {
        fn new() -> Journal {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("log"), Bounds { unit: 64 << 10, all: 1 << 20 });
            let paths = ["dev-log", "socket"].map(|name| dir.path().join(name));
            let [syslog, native] =
                [0, 1].map(|n: usize| Some(Socket::from_fd(crate::bind::datagrams(&paths[n]).unwrap())));
            let senders = [0, 1].map(|n: usize| {
                let sender = UnixDatagram::unbound().unwrap();
                sender.connect(&paths[n]).unwrap();
                sender.set_nonblocking(true).unwrap();
                sender
            });
            Journal { _dir: dir, store, inlets: Inlets { syslog, native, ..Inlets::default() }, senders }
        }

        fn drain(&mut self, time: u64, unit: Option<&str>) {
            for format in [Format::Syslog, Format::Native] {
                self.inlets.drain(format, &mut self.store, time, |_| unit.map(str::to_owned));
            }
        }

        fn lines(&self, unit: &str) -> Vec<Line> {
            let mut reader = Reader::new(Query { units: vec![unit.to_owned()], ..Query::default() });
            let mut lines = Vec::new();
            loop {
                match reader.next(&self.store) {
                    Next::Line(_, line) => lines.push(line),
                    Next::Pause => {}
                    Next::End | Next::Over => return lines,
                }
            }
        }
    }

    #[test]
    fn messages_go_to_the_unit_of_their_sender_whatever_they_say_of_it() {
        let mut journal = Journal::new();
        journal.senders[0].send(b"<27>Nov 25 03:35:08 app[1]: by syslog").unwrap();
        journal.senders[1].send(b"MESSAGE=natively\nPRIORITY=4\n_PID=1\nSYSLOG_PID=1\nA=b\n").unwrap();
        journal.drain(7, Some("a.service"));
        journal.senders[0].send(b"from nobody").unwrap();
        journal.inlets.senders = Senders::default();
        journal.drain(8, None);
        let lines = journal.lines("a.service");
        let pid = Some(std::process::id());
        let got: Vec<_> =
            lines.iter().map(|line| (line.entry.text.as_str(), line.entry.priority, line.entry.pid)).collect();
        assert_eq!(got, [("by syslog", 3, pid), ("natively", 4, pid)]);
        assert_eq!(lines[1].entry.fields, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(journal.lines(OTHER).len(), 1);
    }

    #[test]
    fn a_flood_is_dropped_and_counted_and_does_not_touch_another_unit() {
        let mut journal = Journal::new();
        let message = [&b"<14>flood: "[..], &[b'x'; 1000]].concat();
        let sent = 8000_u64;
        for _ in 0..sent {
            journal.senders[0].send(&message).unwrap();
            journal.drain(1_000_000_000, Some("flood.service"));
        }
        journal.inlets.senders = Senders::default();
        journal.senders[1].send(b"MESSAGE=here\n").unwrap();
        journal.drain(1_000_000_001, Some("quiet.service"));
        assert_eq!(journal.lines("quiet.service").len(), 1);
        let ring = journal.store.find("flood.service").unwrap();
        let (kept, dropped) = (ring.seq(), journal.store.lost("flood.service").dropped);
        assert_eq!(kept + dropped, sent);
        assert!((3500..4500).contains(&kept), "{kept}");
        journal.store.tick(1_002_000_000);
        let last = journal.lines("flood.service").pop().unwrap();
        assert_eq!(
            last.entry.text,
            format!("[{dropped} lines dropped: more than one unit may say on the journal's sockets]")
        );
    }

    #[test]
    fn a_sender_that_has_ended_is_remembered_for_a_moment() {
        let mut senders = Senders::default();
        let found = |_| Some("a.service".to_owned());
        assert_eq!(senders.unit_of(7, 1_000_000, found).as_deref(), Some("a.service"));
        assert_eq!(senders.unit_of(7, 1_000_000 + REMEMBERED, |_| None).as_deref(), Some("a.service"));
        assert_eq!(senders.unit_of(7, 1_000_001 + REMEMBERED, |_| None), None);
        for pid in 0..1000 {
            senders.unit_of(pid, 1, found);
        }
        assert_eq!(senders.recent.len(), RECENT);
    }
}
