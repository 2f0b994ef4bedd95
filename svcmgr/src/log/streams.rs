//! Streams to the journal (`/run/systemd/journal/stdout`), as `systemd-cat` and sd_journal_stream_fd(3) open them: seven
//! lines that say how to take what follows, then lines. Whose they are is known from the kernel when one is opened.
//! Order of the seven: `identifier`, unit, priority, whether lines may say their own, then to where they are forwarded
//! (`syslog`, `kmsg`, `console`), which is nowhere here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::lines::{Style, split, text};
use super::store::{OTHER, RingId, Store};

/// So many streams at once, half of them for root alone.
const MAX_STREAMS: usize = 128;
/// So many may wait to be accepted.
pub const BACKLOG: u16 = 64;
/// So much is read from one stream before others get their turn.
const READ_LIMIT: usize = 16 * 1024;
/// The seven lines together are no longer.
const HEADER_LIMIT: usize = 1024;
const HEADER_LINES: usize = 7;

/// All streams.
#[derive(Debug, Default)]
pub struct Streams {
    /// Where they come in.
    pub listener: Option<OwnedFd>,
    all: BTreeMap<u32, Stream>,
    next: u32,
    /// What the next supervisor must know of each, a file each; `None` if nothing is written down.
    folder: Option<PathBuf>,
    /// Those that PID 1 keeps, too.
    kept: BTreeSet<u32>,
}

#[derive(Debug)]
struct Stream {
    socket: OwnedFd,
    uid: u32,
    pid: Option<u32>,
    ring: RingId,
    /// `None` until its header is whole.
    style: Option<Style>,
    partial: Vec<u8>,
    bucket: Bucket,
    waits: bool,
    /// What is written down of it holds no longer once more of it has been read.
    stale: bool,
}

/// What the next supervisor must know of a stream.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    unit: String,
    uid: u32,
    pid: Option<u32>,
    style: Option<Style>,
    /// What has been read, and is no whole line.
    partial: Vec<u8>,
}

/// What came of a look at a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// It may be looked at again.
    Open,
    /// It has said more than its rate: not to be looked at until [`Streams::opened`] names it.
    Full,
    /// It is gone.
    Closed,
}

/// A stream that comes in.
#[derive(Debug)]
pub struct Caller {
    socket: OwnedFd,
    uid: u32,
    /// Who opened it.
    pub pid: i32,
}

impl Streams {
    /// The next one that comes in; `None` if there is none now, or nothing can be accepted.
    pub fn accept(&self) -> Option<Caller> {
        loop {
            match rustix::net::accept_with(self.listener.as_ref()?, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => {
                    let Ok(credentials) = rustix::net::sockopt::socket_peercred(&socket) else { continue };
                    let (uid, pid) = (credentials.uid.as_raw(), credentials.pid.as_raw_nonzero().get());
                    return Some(Caller { socket, uid, pid });
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return None,
            }
        }
    }

    /// Takes a stream of the unit `unit`, and its number; `None` if there are too many, and it is closed.
    pub fn admit(&mut self, caller: Caller, unit: Option<&str>, store: &mut Store) -> Option<u32> {
        let is_root = caller.uid == 0;
        let like = self.all.values().filter(|stream| (stream.uid == 0) == is_root).count();
        if like >= MAX_STREAMS / 2 {
            return None;
        }
        while self.all.contains_key(&self.next) || self.kept.contains(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = id.wrapping_add(1);
        let stream = Stream {
            socket: caller.socket,
            uid: caller.uid,
            pid: u32::try_from(caller.pid).ok().filter(|pid| *pid > 0),
            ring: store.ring(unit.unwrap_or(OTHER)),
            style: None,
            partial: Vec::new(),
            bucket: Bucket::default(),
            waits: false,
            stale: true,
        };
        self.all.insert(id, stream);
        Some(id)
    }

    /// Writes down what there is to know of streams in `folder`, from now on.
    pub fn write_down_in(&mut self, folder: PathBuf) {
        match std::fs::create_dir_all(&folder) {
            Ok(()) => self.folder = Some(folder),
            Err(error) => log::error!("{}: {error}; streams end with the supervisor", folder.display()),
        }
    }

    /// Takes a stream over from the supervisor before this one.
    ///
    /// # Errors
    /// When what that wrote down cannot be read.
    pub fn restore(&mut self, id: u32, socket: OwnedFd, store: &mut Store) -> io::Result<()> {
        let path = self.file(id).ok_or(io::ErrorKind::NotFound)?;
        let record: Record = serde_json::from_slice(&std::fs::read(path)?)?;
        let stream = Stream {
            socket,
            uid: record.uid,
            pid: record.pid,
            ring: store.ring(&record.unit),
            style: record.style,
            partial: record.partial,
            bucket: Bucket::default(),
            waits: false,
            stale: true,
        };
        self.all.insert(id, stream);
        self.kept.insert(id);
        Ok(())
    }

    /// Writes a stream down, if that is due: once it is known how its lines are to be taken; each of them, if the
    /// supervisor is about to leave. Whether PID 1 is to keep it from now on.
    pub fn write_down(&mut self, id: u32, store: &Store, leaving: bool) -> bool {
        let path = self.file(id);
        let (Some(stream), Some(path)) = (self.all.get_mut(&id), path) else { return false };
        let is_due = leaving || (stream.style.is_some() && stream.stale);
        let Some(unit) = store.name(stream.ring).filter(|_| is_due) else { return false };
        let record = Record {
            unit: unit.to_owned(),
            uid: stream.uid,
            pid: stream.pid,
            style: stream.style.clone(),
            // Known only to one who has the time to say so.
            partial: if leaving { stream.partial.clone() } else { Vec::new() },
        };
        let written =
            serde_json::to_vec(&record).map_err(io::Error::from).and_then(|bytes| std::fs::write(path, bytes));
        if let Err(error) = written {
            log::warn!("a stream of {unit} cannot be written down: {error}; it ends with the supervisor");
            return false;
        }
        stream.stale = false;
        self.kept.insert(id)
    }

    /// The streams that are gone and that PID 1 still keeps.
    pub fn take_gone(&mut self) -> Vec<u32> {
        let gone: Vec<u32> = self.kept.iter().filter(|id| !self.all.contains_key(id)).copied().collect();
        for id in &gone {
            self.kept.remove(id);
            if let Some(path) = self.file(*id) {
                let _ = std::fs::remove_file(path);
            }
        }
        gone
    }

    /// All streams.
    pub fn ids(&self) -> Vec<u32> {
        self.all.keys().copied().collect()
    }

    fn file(&self, id: u32) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(id.to_string()))
    }

    /// A stream's socket.
    pub fn socket(&self, id: u32) -> Option<BorrowedFd<'_>> {
        self.all.get(&id).map(|stream| stream.socket.as_fd())
    }

    /// Ends a stream.
    pub fn remove(&mut self, id: u32) {
        self.all.remove(&id);
    }

    /// Reads what has come by a stream, up to a limit.
    pub fn drain(&mut self, id: u32, store: &mut Store, time: u64) -> Read {
        let Some(stream) = self.all.get_mut(&id) else { return Read::Closed };
        let read = stream.drain(store, time);
        if read == Read::Closed {
            self.all.remove(&id);
        }
        read
    }

    /// When the first stream that said too much may be looked at again.
    pub fn next_opening(&self) -> Option<u64> {
        self.all.values().filter(|stream| stream.waits).map(|stream| stream.bucket.opens_at()).min()
    }

    /// The streams that may be looked at again.
    pub fn opened(&mut self, now: u64) -> Vec<u32> {
        let open = self.all.iter_mut().filter(|(_, stream)| stream.waits && stream.bucket.opens_at() <= now);
        open.map(|(id, stream)| {
            stream.waits = false;
            *id
        })
        .collect()
    }
}

impl Stream {
    fn drain(&mut self, store: &mut Store, time: u64) -> Read {
        let mut buffer = [0; 4096];
        let mut taken: usize = 0;
        let mut closed = false;
        while taken < READ_LIMIT && self.bucket.is_open(time) && !closed {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(n) => {
                    closed = n == 0;
                    self.bucket.take(n);
                    taken = taken.saturating_add(n);
                    self.partial.extend_from_slice(buffer.get(..n).unwrap_or_default());
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => closed = true,
            }
        }
        if self.style.is_none() {
            match header(&mut self.partial, self.pid) {
                Ok(style) => self.style = style,
                Err(()) => return Read::Closed,
            }
        }
        if let Some(style) = &self.style {
            let mut entries = Vec::new();
            split(&mut self.partial, closed, |line| entries.push(style.entry(line, time)));
            if !entries.is_empty() {
                store.append(self.ring, entries);
            }
        }
        if closed {
            return Read::Closed;
        }
        if self.bucket.is_open(time) {
            return Read::Open;
        }
        self.waits = true;
        Read::Full
    }
}

/// Takes the header off what was read; `None` until it is whole.
fn header(read: &mut Vec<u8>, pid: Option<u32>) -> Result<Option<Style>, ()> {
    let ends = read.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let Some(end) = ends.take(HEADER_LINES).nth(HEADER_LINES.saturating_sub(1)) else {
        return if read.len() > HEADER_LIMIT { Err(()) } else { Ok(None) };
    };
    if end > HEADER_LIMIT {
        return Err(());
    }
    let rest = read.split_off(end.saturating_add(1));
    let head = std::mem::replace(read, rest);
    let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
    let &[identifier, _unit, priority, prefix, ..] = lines.as_slice() else { return Err(()) };
    let priority = text(priority).parse().ok().filter(|priority| *priority <= 7).ok_or(())?;
    let prefix = match prefix {
        b"1" => true,
        b"0" => false,
        _ => return Err(()),
    };
    Ok(Some(Style { priority, prefix, identifier: text(identifier), pid, ..Style::default() }))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::log::reader::{Next, Query, Reader};
    use crate::log::store::Bounds;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    struct Journal {
        dir: tempfile::TempDir,
        store: Store,
        streams: Streams,
    }

    impl Journal {
        fn new() -> Journal {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("log"), Bounds { unit: 64 << 10, all: 1 << 20 });
            let listener = Some(crate::bind::connections(&dir.path().join("stdout"), 0o666, None, BACKLOG).unwrap());
            Journal { dir, store, streams: Streams { listener, ..Streams::default() } }
        }

        fn open(&mut self) -> (UnixStream, Option<u32>) {
            let stream = UnixStream::connect(self.dir.path().join("stdout")).unwrap();
            let caller = self.streams.accept().unwrap();
            assert_eq!(caller.pid, i32::try_from(std::process::id()).unwrap());
            let id = self.streams.admit(caller, Some("a.service"), &mut self.store);
            (stream, id)
        }

        fn lines(&self) -> Vec<(u8, String, String)> {
            let mut reader = Reader::new(Query::default());
            let mut lines = Vec::new();
            while let Next::Line(_, line) = reader.next(&self.store) {
                lines.push((line.entry.priority, line.entry.identifier, line.entry.text));
            }
            lines
        }
    }

    #[test]
    fn lines_of_a_stream_are_taken_as_its_header_says() {
        let mut journal = Journal::new();
        let (mut stream, id) = journal.open();
        let id = id.unwrap();
        for piece in [&b"app\n\n4\n"[..], b"1\n0\n0\n", b"0\nfirst\n<2>sec", b"ond\nlast"] {
            stream.write_all(piece).unwrap();
            assert_eq!(journal.streams.drain(id, &mut journal.store, 7), Read::Open);
        }
        drop(stream);
        assert_eq!(journal.streams.drain(id, &mut journal.store, 8), Read::Closed);
        assert_eq!(journal.streams.drain(id, &mut journal.store, 8), Read::Closed);
        let line = |priority, text: &str| (priority, "app".to_owned(), text.to_owned());
        assert_eq!(journal.lines(), [line(4, "first"), line(2, "second"), line(4, "last")]);
        let mut plain = b"app\nunit\n6\n0\n0\n0\n0\n<2>text\n".to_vec();
        let style = header(&mut plain, None).unwrap().unwrap();
        assert!(!style.prefix && plain == b"<2>text\n");
    }

    #[test]
    fn a_stream_that_is_none_is_closed() {
        for rubbish in [&[b'x'; 2000][..], b"a\nb\n9\n1\n0\n0\n0\n", b"a\nb\n6\ny\n0\n0\n0\n", b"\n\n\n\n\n\n\n"] {
            let mut journal = Journal::new();
            let (mut stream, id) = journal.open();
            stream.write_all(rubbish).unwrap();
            assert_eq!(journal.streams.drain(id.unwrap(), &mut journal.store, 7), Read::Closed, "{rubbish:?}");
            assert_eq!(journal.lines(), []);
        }
    }

    #[test]
    fn there_are_only_so_many_and_one_that_floods_waits() {
        let mut journal = Journal::new();
        let (mut stream, id) = journal.open();
        let open: Vec<_> = (0..MAX_STREAMS).map(|_| journal.open()).collect();
        let admitted = open.iter().filter(|(_, id)| id.is_some()).count();
        assert_eq!(admitted + 1, MAX_STREAMS / 2);
        stream.write_all(b"app\n\n6\n1\n0\n0\n0\n").unwrap();
        stream.set_nonblocking(true).unwrap();
        let (id, time) = (id.unwrap(), 1_000_000_000);
        let piece = [&[b'x'; 99][..], b"\n"].concat().repeat(100);
        let mut written = 0;
        loop {
            written += stream.write(&piece).unwrap_or(0);
            if journal.streams.drain(id, &mut journal.store, time) == Read::Full {
                break;
            }
        }
        assert!(written > 1 << 20 && written < 8 << 20, "{written}");
        let at = journal.streams.next_opening().unwrap();
        assert!(journal.streams.opened(at - 1).is_empty());
        assert_eq!(journal.streams.opened(at), [id]);
    }
}
