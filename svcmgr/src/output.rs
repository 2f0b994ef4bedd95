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
        // More at once than is read at once.
        while outputs.drain(A, 7, false) {}
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
        let mut next = Outputs::new(dir.path());
        say(&mut next, "three\n");
        // Right after the files were turned over, the last number stands in the old one.
        fs::rename(dir.path().join("a.service"), dir.path().join("a.service.old")).unwrap();
        let mut third = Outputs::new(dir.path());
        say(&mut third, "four\n");
        assert_eq!(all(&third, 0).into_iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn who_reads_is_told_how_many_lines_are_lost() {
        let (_dir, mut outputs) = outputs();
        say(&mut outputs, "first\n");
        let mut tail = outputs.tail(A, "a.service", 0);
        assert_eq!(outputs.next_lines(A, &mut tail).len(), 1);
        // The follower does not read while the files are turned over many times.
        for n in 2..=5000 {
            say(&mut outputs, &format!("{n} {}\n", "x".repeat(100)));
        }
        let mut seen = Vec::new();
        loop {
            let next = outputs.next_lines(A, &mut tail);
            if next.is_empty() {
                break;
            }
            seen.extend(next);
        }
        let losses: Vec<&Line> = seen.iter().filter(|line| line.text.contains("lines lost")).collect();
        let [loss] = losses.as_slice() else { panic!("{losses:?}") };
        let shown = u64::try_from(seen.len().checked_sub(1).unwrap()).unwrap();
        let lost = 4999_u64.checked_sub(shown).unwrap();
        assert_eq!(loss.text, format!("[{lost} lines lost: the log keeps the newest alone]"));
        assert_eq!(loss.priority, 4);
        // Who asks for all that is kept sees it too, and who asks for the last lines does not.
        assert!(all(&outputs, 0)[0].text.contains("lines lost"));
        assert!(all(&outputs, 5).iter().all(|line| line.text.ends_with('x')));
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
