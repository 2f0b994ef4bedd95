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

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts up over all units.
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
    next_seq: u64,
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
    partial: Vec<u8>,
    to_console: bool,
}

impl Outputs {
    /// Keeps logs beneath `folder`; goes on counting where the logs there end.
    pub fn new(folder: &Path) -> Outputs {
        if let Err(error) = fs::create_dir_all(folder) {
            log::error!("{} cannot be made: {error}; output of services is lost", folder.display());
        }
        Outputs {
            folder: folder.to_owned(),
            next_seq: last_seq(folder).saturating_add(1),
            sinks: HashMap::new(),
            console: None,
        }
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
            let seq = &mut self.next_seq;
            split(&mut sink.partial, false, |text| record(&mut lines, seq, time, text));
        }
        if last {
            let seq = &mut self.next_seq;
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
        Tail { path, turns: self.turns(id), next: current, file: old, rest: Vec::new(), skip }
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
            split(&mut self.rest, false, |text| match *skip {
                0 => lines.extend(Line::parse(&String::from_utf8_lossy(text))),
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

/// The highest number in the logs beneath `folder`, from before the supervisor's death.
fn last_seq(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let mut most = 0;
    for entry in entries.flatten() {
        let tail = File::open(entry.path()).and_then(|mut file| {
            let end = file.metadata()?.len();
            let from = end.saturating_sub(u64::try_from(LINE_LIMIT).unwrap_or(0).saturating_mul(8));
            io::Seek::seek(&mut file, io::SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        let Ok(tail) = tail else { continue };
        let text = String::from_utf8_lossy(&tail);
        most = most.max(text.lines().rev().find_map(Line::parse).map_or(0, |line| line.seq));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: UnitId = UnitId(0);

    fn outputs() -> (tempfile::TempDir, Outputs) {
        let dir = tempfile::tempdir().unwrap();
        let mut outputs = Outputs::new(dir.path());
        outputs.pipe(A, "a.service", false).unwrap();
        (dir, outputs)
    }

    fn say(outputs: &mut Outputs, text: &str) {
        let (writer, _) = outputs.pipe(A, "a.service", false).unwrap();
        rustix::io::write(writer, text.as_bytes()).unwrap();
        outputs.drain(A, 7, false);
    }

    fn all(outputs: &Outputs, lines: usize) -> Vec<Line> {
        let mut tail = outputs.tail(A, "a.service", lines);
        let mut out = Vec::new();
        loop {
            let next = outputs.next_lines(A, &mut tail);
            if next.is_empty() {
                return out;
            }
            out.extend(next);
        }
    }

    #[test]
    fn lines_get_number_time_and_priority() {
        let (_dir, mut outputs) = outputs();
        say(&mut outputs, "one\n<3>two\nthr");
        say(&mut outputs, "ee\r\n");
        let lines: Vec<_> = all(&outputs, 0).into_iter().map(|l| (l.seq, l.time, l.priority, l.text)).collect();
        let line = |seq, priority, text: &str| (seq, 7, priority, text.to_owned());
        assert_eq!(lines, [line(1, 6, "one"), line(2, 3, "two"), line(3, 6, "three")]);
        assert_eq!(all(&outputs, 1)[0].text, "three");
    }

    #[test]
    fn a_line_without_an_end_is_kept_when_its_writer_is_gone() {
        let (_dir, mut outputs) = outputs();
        say(&mut outputs, "dying wor");
        assert_eq!(all(&outputs, 0), []);
        outputs.drain(A, 8, true);
        assert_eq!(all(&outputs, 0)[0].text, "dying wor");
    }

    #[test]
    fn a_log_is_bounded_and_keeps_the_newest() {
        let (dir, mut outputs) = outputs();
        for n in 0..3000 {
            say(&mut outputs, &format!("line {n} {}\n", "x".repeat(100)));
        }
        let size: u64 = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(size <= FILE_LIMIT.saturating_mul(2), "{size}");
        let lines = all(&outputs, 0);
        assert!(lines.last().unwrap().text.starts_with("line 2999 "));
        assert!(lines.windows(2).all(|pair| pair[0].seq.checked_add(1) == Some(pair[1].seq)));
        assert!(lines.len() > 400, "{}", lines.len());
    }

    #[test]
    fn a_follower_sees_every_line_across_a_turn_of_the_files() {
        let (_dir, mut outputs) = outputs();
        let mut tail = outputs.tail(A, "a.service", 0);
        let mut seen = Vec::new();
        for n in 0..2000 {
            say(&mut outputs, &format!("{n} {}\n", "x".repeat(100)));
            seen.extend(outputs.next_lines(A, &mut tail).into_iter().map(|line| line.seq));
        }
        assert_eq!(seen, (1..=2000).collect::<Vec<u64>>());
    }

    #[test]
    fn counting_goes_on_after_the_supervisor_died() {
        let (dir, mut outputs) = outputs();
        say(&mut outputs, "one\ntwo\n");
        drop(outputs);
        assert_eq!(Outputs::new(dir.path()).next_seq, 3);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(pieces in proptest::collection::vec("[a-z\n]{0,50}", 0..20)) {
            let mut partial = Vec::new();
            let mut out = String::new();
            for piece in &pieces {
                partial.extend_from_slice(piece.as_bytes());
                split(&mut partial, false, |line| { out.push_str(&String::from_utf8_lossy(line)); out.push('\n'); });
            }
            out.push_str(&String::from_utf8_lossy(&partial));
            prop_assert_eq!(out, pieces.concat());
        }
    }
}
