//! The output of services: one pipe each, split into lines, kept in a bounded log of two files beneath
//! `/run/mmos/log`. Bounded in every way: how much is read at once, how long a line is, how much is kept.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::graph::UnitId;

/// A log is two files of at most this size: when one is full it becomes the old one, and the older one goes.
const FILE_LIMIT: u64 = 64 * 1024;
/// Longer lines are cut into several.
const LINE_LIMIT: usize = 2048;
/// So much is read from one service before the others get their turn.
const READ_LIMIT: usize = 16 * 1024;
/// The priority of a line that does not say: informational, syslog(3).
const DEFAULT_PRIORITY: u8 = 6;
/// The priority of the line that tells of a loss: a warning.
const LOSS_PRIORITY: u8 = 4;

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts up over the lines of its unit: a gap is a loss.
    pub seq: u64,
    /// When it was read, in microseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// 0 to 7, as in syslog(3).
    pub priority: u8,
    /// What it says.
    pub text: String,
}

impl Line {
    fn parse(line: &str) -> Option<Line> {
        let mut parts = line.splitn(4, ' ');
        Some(Line {
            seq: parts.next()?.parse().ok()?,
            time: parts.next()?.parse().ok()?,
            priority: parts.next()?.parse().ok()?,
            text: parts.next()?.to_owned(),
        })
    }
}

/// The outputs of all services.
#[derive(Debug)]
pub struct Outputs {
    folder: PathBuf,
    sinks: HashMap<UnitId, Sink>,
    console: Option<File>,
}

#[derive(Debug)]
struct Sink {
    reader: OwnedFd,
    writer: OwnedFd,
    name: String,
    file: Option<File>,
    size: u64,
    /// How often the files have been turned over.
    turns: u64,
    /// The number of the next line; `None` until the log has been looked at for the last one.
    next_seq: Option<u64>,
    partial: Vec<u8>,
    to_console: bool,
}

impl Outputs {
    /// Keeps logs beneath `folder`; goes on counting where each log there ends.
    pub fn new(folder: &Path) -> Outputs {
        if let Err(error) = fs::create_dir_all(folder) {
            log::error!("{} cannot be made: {error}; output of services is lost", folder.display());
        }
        Outputs { folder: folder.to_owned(), sinks: HashMap::new(), console: None }
    }

    /// The writing end of a unit's pipe, and, if it was made for this, the reading end, to be watched and kept.
    pub fn pipe(
        &mut self,
        id: UnitId,
        name: &str,
        to_console: bool,
    ) -> io::Result<(BorrowedFd<'_>, Option<BorrowedFd<'_>>)> {
        let mut new = false;
        if !self.sinks.contains_key(&id) {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            self.insert(id, name, reader, writer)?;
            new = true;
        }
        let sink = self.sinks.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        sink.to_console = to_console;
        if to_console && self.console.is_none() {
            // Never blocking on a console that nobody reads.
            let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits();
            let flags = i32::try_from(flags).unwrap_or(0);
            self.console = OpenOptions::new().write(true).custom_flags(flags).open("/dev/console").ok();
        }
        Ok((sink.writer.as_fd(), new.then(|| sink.reader.as_fd())))
    }

    /// Takes over a pipe whose reading end was kept for us.
    pub fn adopt(&mut self, id: UnitId, name: &str, reader: OwnedFd) -> io::Result<()> {
        // The writing end, by the reading one: proc(5), /proc/PID/fd.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let writer = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.insert(id, name, reader, writer)
    }

    fn insert(&mut self, id: UnitId, name: &str, reader: OwnedFd, writer: OwnedFd) -> io::Result<()> {
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        let sink = Sink {
            reader,
            writer,
            name: name.to_owned(),
            file: None,
            size: 0,
            turns: 0,
            next_seq: None,
            partial: Vec::new(),
            to_console: false,
        };
        self.sinks.insert(id, sink);
        Ok(())
    }

    /// The reading end of a unit's pipe.
    pub fn reader(&self, id: UnitId) -> Option<BorrowedFd<'_>> {
        self.sinks.get(&id).map(|sink| sink.reader.as_fd())
    }

    /// Reads what is there, up to a limit. `time` is that of the lines; `last` ends a line that is not ended, since
    /// the process that wrote it is gone. Whether anything was read.
    pub fn drain(&mut self, id: UnitId, time: u64, last: bool) -> bool {
        let Some(sink) = self.sinks.get_mut(&id) else { return false };
        let mut buffer = [0; 4096];
        let mut lines = String::new();
        let mut taken: usize = 0;
        while taken < READ_LIMIT {
            let n = match rustix::io::read(&sink.reader, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                Ok(n) => n,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    log::warn!("{}: its output cannot be read: {error}", sink.name);
                    break;
                }
            };
            taken = taken.saturating_add(n);
            sink.partial.extend_from_slice(buffer.get(..n).unwrap_or_default());
            let seq = sink.next_seq.get_or_insert_with(|| last_seq(&self.folder.join(&sink.name)).saturating_add(1));
            split(&mut sink.partial, false, |text| record(&mut lines, seq, time, text));
        }
        // Nothing is left over where nothing was ever read.
        if let (true, Some(seq)) = (last, &mut sink.next_seq) {
            split(&mut sink.partial, true, |text| record(&mut lines, seq, time, text));
        }
        if !lines.is_empty() {
            if sink.to_console
                && let Some(console) = &mut self.console
            {
                for line in lines.lines().filter_map(Line::parse) {
                    // A console that takes no more loses lines, as the kernel's own do.
                    let _ = console.write_all(format!("{}: {}\r\n", sink.name, line.text).as_bytes());
                }
            }
            if let Err(error) = sink.keep(&self.folder, lines.as_bytes()) {
                log::warn!("{}: its output cannot be kept: {error}", sink.name);
            }
        }
        taken > 0
    }

    /// Begins to read a unit's log at its last `lines` lines; 0 is all that is kept.
    pub fn tail(&self, id: UnitId, name: &str, lines: usize) -> Tail {
        let path = self.folder.join(name);
        let old = File::open(old_path(&path)).ok();
        let current = File::open(&path).ok();
        let mut skip = 0;
        if lines > 0 {
            let count = |path: &Path| fs::read(path).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count());
            skip = count(&old_path(&path)).saturating_add(count(&path)).saturating_sub(lines);
        }
        // Who asks for all is told of what is no longer kept.
        let expected = (lines == 0).then_some(1);
        Tail { path, turns: self.turns(id), next: current, file: old, rest: Vec::new(), skip, expected }
    }

    fn turns(&self, id: UnitId) -> u64 {
        self.sinks.get(&id).map_or(0, |sink| sink.turns)
    }

    /// The next lines of `tail`, as far as there are any now; about a page of them.
    pub fn next_lines(&self, id: UnitId, tail: &mut Tail) -> Vec<Line> {
        tail.next_lines(self.turns(id))
    }
}

impl Sink {
    fn keep(&mut self, folder: &Path, lines: &[u8]) -> io::Result<()> {
        let path = folder.join(&self.name);
        let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).mode(0o644).open(&path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        if self.size.saturating_add(length) > FILE_LIMIT && self.size > 0 {
            fs::rename(&path, old_path(&path))?;
            self.turns = self.turns.saturating_add(1);
            self.size = 0;
            self.file = Some(OpenOptions::new().append(true).create(true).mode(0o644).open(&path)?);
        }
        if let Some(file) = &mut self.file {
            file.write_all(lines)?;
            self.size = self.size.saturating_add(length);
        }
        Ok(())
    }
}

/// A reader of a log, which may go on for as long as lines come.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    turns: u64,
    file: Option<File>,
    next: Option<File>,
    rest: Vec<u8>,
    skip: usize,
    /// The number that the next line has if none was lost; `None` where it may have any.
    expected: Option<u64>,
}

impl Tail {
    fn next_lines(&mut self, turns: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut buffer = [0; 4096];
        while lines.is_empty() {
            let n = self.file.as_mut().map_or(0, |file| file.read(&mut buffer).unwrap_or(0));
            if n == 0 {
                if let Some(next) = self.next.take() {
                    self.file = Some(next);
                } else if self.turns != turns || self.file.is_none() {
                    // Turned over since: what we hold is the old one, read to its end.
                    self.turns = turns;
                    match File::open(&self.path) {
                        Ok(file) => self.file = Some(file),
                        Err(_) => return lines,
                    }
                } else {
                    return lines;
                }
                continue;
            }
            self.rest.extend_from_slice(buffer.get(..n).unwrap_or_default());
            let skip = &mut self.skip;
            let expected = &mut self.expected;
            split(&mut self.rest, false, |text| match *skip {
                0 => {
                    let Some(line) = Line::parse(&String::from_utf8_lossy(text)) else { return };
                    lines.extend(expected.and_then(|expected| loss(expected, &line)));
                    *expected = Some(line.seq.saturating_add(1));
                    lines.push(line);
                }
                n => *skip = n.saturating_sub(1),
            });
        }
        lines
    }
}

/// Hands the whole lines of `partial` to `each` and takes them out; lines without an end too, if `all` or too long.
fn split(partial: &mut Vec<u8>, all: bool, mut each: impl FnMut(&[u8])) {
    let mut rest = partial.as_slice();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(at);
        each(line);
        rest = after.get(1..).unwrap_or_default();
    }
    // A log's own line is longer than what it holds by its three numbers.
    while rest.len() > LINE_LIMIT.saturating_mul(2) || (all && !rest.is_empty()) {
        let (line, after) = rest.split_at(rest.len().min(LINE_LIMIT));
        each(line);
        rest = after;
    }
    let kept = rest.len();
    partial.drain(..partial.len().saturating_sub(kept));
}

/// A line that stands for those that are missing before `next`, if any are: with the number of the last of them.
fn loss(expected: u64, next: &Line) -> Option<Line> {
    let lost = next.seq.checked_sub(expected).filter(|lost| *lost > 0)?;
    let lines = if lost == 1 { "line" } else { "lines" };
    let text = format!("[{lost} {lines} lost: the log keeps the newest alone]");
    Some(Line { seq: next.seq.saturating_sub(1), time: next.time, priority: LOSS_PRIORITY, text })
}

/// Appends what a service wrote as one or more records.
fn record(out: &mut String, seq: &mut u64, time: u64, line: &[u8]) {
    let (priority, line) = match line {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (digit.saturating_sub(b'0'), rest),
        line => (DEFAULT_PRIORITY, line),
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut chunks = line.chunks(LINE_LIMIT);
    let mut next = chunks.next().or(Some(&[]));
    while let Some(chunk) = next {
        // Writing to a String cannot fail.
        let _ = std::fmt::Write::write_fmt(
            out,
            format_args!("{seq} {time} {priority} {}\n", String::from_utf8_lossy(chunk).replace('\0', "\u{fffd}")),
        );
        *seq = seq.saturating_add(1);
        next = chunks.next();
    }
}

fn old_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

/// The number of the last line in the log at `path`, from before the supervisor's death; 0 if there is none.
fn last_seq(path: &Path) -> u64 {
    [path.to_owned(), old_path(path)].iter().find_map(|path| last_line(path).ok()?).map_or(0, |line| line.seq)
}

fn last_line(path: &Path) -> io::Result<Option<Line>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    let from = end.saturating_sub(u64::try_from(LINE_LIMIT).unwrap_or(0).saturating_mul(8));
    io::Seek::seek(&mut file, io::SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).lines().rev().find_map(Line::parse))
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
