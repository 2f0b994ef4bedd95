//! What services write to standard output and error: one pipe each, split into lines. A service that writes more than
//! its rate is not read for a while: its pipe fills, and it waits for itself alone. So nothing of it is lost.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::bucket::Bucket;
use super::lines::{Style, split};
use super::record::Entry;
use super::store::{Loss, RingId, Store};
use crate::graph::UnitId;

/// So much is read from one service before the others get their turn.
const READ_LIMIT: usize = 16 * 1024;
/// So much is read of one that has ended: more than a pipe holds, unless somebody made it larger.
const LAST_LIMIT: usize = 1024 * 1024;

/// The pipes of all services.
#[derive(Debug, Default)]
pub struct Pipes {
    sinks: BTreeMap<UnitId, Sink>,
    console: Option<File>,
}

#[derive(Debug)]
struct Sink {
    reader: OwnedFd,
    writer: OwnedFd,
    name: String,
    ring: RingId,
    style: Style,
    to_console: bool,
    bucket: Bucket,
    /// When the interval of the limit of its lines began, and how many it has said since.
    counted: (u64, u32),
    waits: bool,
}

/// What came of a look at a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// It may be looked at again.
    Open,
    /// It has said more than its rate: not to be looked at until [`Pipes::opened`] names it.
    Full,
}

impl Pipes {
    /// The writing end of a unit's pipe, and, if it was made for this, the reading end, to be watched and kept.
    pub fn pipe(
        &mut self,
        store: &mut Store,
        id: UnitId,
        name: &str,
        style: Style,
        to_console: bool,
    ) -> io::Result<(BorrowedFd<'_>, Option<BorrowedFd<'_>>)> {
        let mut new = false;
        if !self.sinks.contains_key(&id) {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            self.insert(store, id, name, reader, writer)?;
            new = true;
        }
        if to_console && self.console.is_none() {
            // Never blocking on a console that nobody reads.
            let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits();
            let flags = i32::try_from(flags).unwrap_or(0);
            self.console = OpenOptions::new().write(true).custom_flags(flags).open("/dev/console").ok();
        }
        let sink = self.sinks.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        (sink.style, sink.to_console) = (style, to_console);
        Ok((sink.writer.as_fd(), new.then(|| sink.reader.as_fd())))
    }

    /// Takes over a pipe whose reading end was kept for us.
    pub fn adopt(
        &mut self,
        store: &mut Store,
        id: UnitId,
        name: &str,
        style: Style,
        to_console: bool,
        reader: OwnedFd,
    ) -> io::Result<()> {
        // The writing end, by the reading one: proc(5), /proc/PID/fd.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let writer = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.insert(store, id, name, reader, writer)?;
        self.pipe(store, id, name, style, to_console).map(|_| ())
    }

    fn insert(
        &mut self,
        store: &mut Store,
        id: UnitId,
        name: &str,
        reader: OwnedFd,
        writer: OwnedFd,
    ) -> io::Result<()> {
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        let sink = Sink {
            reader,
            writer,
            name: name.to_owned(),
            ring: store.ring(name),
            style: Style::default(),
            to_console: false,
            bucket: Bucket::default(),
            counted: (0, 0),
            waits: false,
        };
        self.sinks.insert(id, sink);
        Ok(())
    }

    /// Closes a pipe that nothing was written into yet.
    pub fn remove(&mut self, id: UnitId) {
        self.sinks.remove(&id);
    }

    /// The reading end of a unit's pipe.
    pub fn reader(&self, id: UnitId) -> Option<BorrowedFd<'_>> {
        self.sinks.get(&id).map(|sink| sink.reader.as_fd())
    }

    /// Reads what is there, up to a limit. `time` is that of the lines; `last` ends a line that is not ended, since
    /// the process that wrote it is gone, and asks for all there is.
    pub fn drain(&mut self, store: &mut Store, id: UnitId, time: u64, last: bool) -> Drained {
        let Some(sink) = self.sinks.get_mut(&id) else { return Drained::Open };
        let limit = if last { LAST_LIMIT } else { READ_LIMIT };
        let mut taken = 0;
        while taken < limit && (last || sink.bucket.is_open(time)) {
            let read = sink.read(store);
            sink.bucket.take(read);
            taken = taken.saturating_add(read);
            if read == 0 {
                break;
            }
        }
        if last || taken > 0 {
            let mut entries = split_rest(store, sink, time, last);
            let all = entries.len();
            entries.truncate(sink.allowed(all, time));
            let lost = all.saturating_sub(entries.len());
            store.lose(sink.ring, Loss::Limit, u64::try_from(lost).unwrap_or(u64::MAX), time);
            sink.keep(store, &mut self.console, entries);
        }
        if last || sink.bucket.is_open(time) {
            return Drained::Open;
        }
        sink.waits = true;
        Drained::Full
    }

    /// When the first pipe that was too full may be looked at again.
    pub fn next_opening(&self) -> Option<u64> {
        self.sinks.values().filter(|sink| sink.waits).map(|sink| sink.bucket.opens_at()).min()
    }

    /// The pipes that may be looked at again.
    pub fn opened(&mut self, now: u64) -> Vec<UnitId> {
        let open = self.sinks.iter_mut().filter(|(_, sink)| sink.waits && sink.bucket.opens_at() <= now);
        open.map(|(id, sink)| {
            sink.waits = false;
            *id
        })
        .collect()
    }
}

fn split_rest(store: &mut Store, sink: &Sink, time: u64, all: bool) -> Vec<Entry> {
    let Some(partial) = store.partial(sink.ring) else { return Vec::new() };
    let mut entries = Vec::new();
    split(partial, all, |line| entries.push(sink.style.entry(line, time)));
    entries
}

impl Sink {
    /// How many of so many lines are kept by the unit's own limit.
    fn allowed(&mut self, lines: usize, now: u64) -> usize {
        let Some(limit) = self.style.limit else { return lines };
        let (begun, said) = self.counted;
        let said = if now.saturating_sub(begun) > limit.interval {
            self.counted = (now, 0);
            0
        } else {
            said
        };
        let left = usize::try_from(limit.burst.saturating_sub(said)).unwrap_or(usize::MAX);
        let kept = lines.min(left);
        self.counted.1 = said.saturating_add(u32::try_from(kept).unwrap_or(u32::MAX));
        kept
    }

    /// Reads a piece into what is not ended yet. How much.
    fn read(&self, store: &mut Store) -> usize {
        let Some(partial) = store.partial(self.ring) else { return 0 };
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.reader, &mut buffer) {
                Ok(n) => {
                    partial.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    return n;
                }
                Err(rustix::io::Errno::AGAIN) => return 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::warn!("{}: its output cannot be read: {error}", self.name);
                    return 0;
                }
            }
        }
    }

    fn keep(&self, store: &mut Store, console: &mut Option<File>, entries: Vec<Entry>) {
        if self.to_console
            && let Some(console) = console
        {
            for entry in &entries {
                // A console that takes no more loses lines, as the kernel's own do.
                let _ = console.write_all(format!("{}: {}\r\n", self.name, entry.text).as_bytes());
            }
        }
        store.append(self.ring, entries);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
#[path = "pipes_tests.rs"]
mod tests;
