//! The lines of one unit: a file of a tmpfs, of which the oldest is given back once it is too large.
//!
//! ```text
//!   0     head, copy 0 ┐ the valid one with the higher count holds
//!   128   head, copy 1 ┘
//!   256   tail: frames of lines as they came, up to TAIL_END
//!   16384 blocks: full tails, compressed; punched out from `start` backwards, appended at `end`
//! ```
//! A frame belongs to the tail if its checksum fits, which is over the tail's generation too. So the head that has a
//! new block's end and the next generation makes the block valid and the tail void at once, and whenever the supervisor
//! dies, all lines are there, each once.

mod read;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::bytes::Writer;
use super::layout::{BLOCK_MAGIC, FRAME_HEAD, Frame, HEAD_SIZE, Head, TAIL, TAIL_END, TAIL_LENGTH, TAIL_ROOM};
pub use super::layout::{Block, PAGE};
use super::record::{Chain, Line};

/// A ring.
#[derive(Debug)]
pub struct Ring {
    path: PathBuf,
    file: Option<File>,
    head: Head,
    chain: Chain,
    tail: usize,
    tail_lines: u64,
    tail_first: u64,
    seq: u64,
    cursor: u64,
    /// Up to where the file was punched.
    punched: u64,
    /// The tail has been full: its pages are all there.
    sealed: bool,
    /// What was written of a line that is not ended, kept with the tail for the next supervisor.
    pub partial: Vec<u8>,
}

impl Ring {
    /// A ring in the file `path`, which is made with the first line, and replaces what is there.
    pub fn empty(path: PathBuf) -> Ring {
        let head = Head { start: TAIL_END, end: TAIL_END, ..Head::default() };
        Ring {
            path,
            file: None,
            head,
            chain: Chain::default(),
            tail: 0,
            tail_lines: 0,
            tail_first: 0,
            seq: 0,
            cursor: 0,
            punched: TAIL_END,
            sealed: false,
            partial: Vec::new(),
        }
    }

    /// The ring in the file `path`, which is made with the first line. What a supervisor before this one left there
    /// is taken over, with what a service had written of a line that was not ended.
    ///
    /// # Errors
    /// When there is a file that cannot be read. One that is damaged is not an error: it begins anew, and says so.
    pub fn open(path: PathBuf) -> io::Result<Ring> {
        let mut ring = Ring::empty(path);
        match OpenOptions::new().read(true).write(true).open(&ring.path) {
            Ok(file) => ring.recover(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(ring)
    }

    fn recover(&mut self, file: File) -> io::Result<()> {
        let mut bytes = [0; TAIL_LENGTH];
        let length = read::up_to(&file, &mut bytes, 0)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        let copy = |n: usize| Head::from_bytes(bytes.get(n.saturating_mul(HEAD_SIZE)..)?);
        match [copy(0), copy(1)].into_iter().flatten().max_by_key(|head| head.count) {
            Some(head) => self.head = head,
            None if length == 0 => {}
            None => {
                log::error!("{}: not a log: it begins anew, and what it held is lost", self.path.display());
                file.set_len(0)?;
                return Ok(());
            }
        }
        self.sealed = self.head.end > TAIL_END;
        (self.seq, self.cursor) = (self.head.seq, self.head.cursor);
        let mut chain = Chain::default();
        let mut at = 0;
        let tail = bytes.get(256..).unwrap_or_default();
        while let Some(frame) = Frame::read(tail, at, self.head.generation) {
            if frame.is_partial {
                self.partial = frame.payload.to_vec();
                break;
            }
            let mut rest = frame.payload;
            while let Some(line) = chain.decode(&mut rest) {
                if self.tail_lines == 0 {
                    self.tail_first = line.cursor;
                }
                self.tail_lines = self.tail_lines.saturating_add(1);
                (self.seq, self.cursor) = (line.seq, line.cursor);
            }
            at = frame.end;
        }
        self.tail = at;
        self.chain = chain;
        self.file = Some(file);
        // What a supervisor that died did not come to.
        self.punch()
    }

    /// The number of the last line.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The cursor of the last line.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Lines that gave way to newer ones.
    pub fn overwritten(&self) -> u64 {
        self.head.overwritten
    }

    /// The cursor of the last line that gave way.
    pub fn overwritten_to(&self) -> u64 {
        self.head.overwritten_to
    }

    /// Lines that were never kept.
    pub fn dropped(&self) -> u64 {
        self.head.dropped
    }

    /// Counts lines that were never kept; written down with the next head.
    pub fn count_dropped(&mut self, lines: u64) {
        self.head.dropped = self.head.dropped.saturating_add(lines);
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> u64 {
        let tail = match (self.sealed, self.file.is_some()) {
            (true, _) => TAIL_END,
            (false, true) => TAIL.saturating_add(u64::try_from(self.tail).unwrap_or(0)),
            (false, false) => 0,
        };
        tail.next_multiple_of(PAGE).saturating_add(self.block_bytes())
    }

    /// How much memory its blocks take, in whole pages.
    pub fn block_bytes(&self) -> u64 {
        let begin = page_before(self.head.start);
        self.head.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX).saturating_sub(begin)
    }

    /// Appends lines, which have the numbers that follow, and what there is of a line that is not ended.
    ///
    /// # Errors
    /// When the file system takes no more: how many lines were written all the same.
    pub fn append(&mut self, lines: &[Line]) -> Result<(), (usize, io::Error)> {
        let mut written: usize = 0;
        let mut end: usize = 0;
        let mut payload = Vec::new();
        let mut chain = self.chain.clone();
        for line in lines {
            let before = payload.len();
            let mut next = chain.clone();
            next.encode(line, &mut payload);
            if payload.len() > TAIL_ROOM.saturating_sub(self.tail.saturating_add(FRAME_HEAD)) {
                payload.truncate(before);
                self.write(&payload, chain, lines.get(written..end).unwrap_or_default())
                    .and_then(|()| self.seal())
                    .map_err(|error| (written, error))?;
                written = end;
                payload.clear();
                next = Chain::default();
                next.encode(line, &mut payload);
                // What no tail holds would be written over the blocks.
                if payload.len() > TAIL_ROOM.saturating_sub(FRAME_HEAD) {
                    return Err((
                        written,
                        io::Error::new(io::ErrorKind::InvalidInput, "a line longer than any may be"),
                    ));
                }
            }
            chain = next;
            end = end.saturating_add(1);
        }
        self.write(&payload, chain, lines.get(written..).unwrap_or_default()).map_err(|error| (written, error))?;
        self.keep_partial().map_err(|error| (lines.len(), error))
    }

    /// Writes down what there is of a line that is not ended, behind the tail, where the next frame will be.
    fn keep_partial(&mut self) -> io::Result<()> {
        if self.partial.is_empty() {
            return Ok(());
        }
        if self.tail.saturating_add(FRAME_HEAD).saturating_add(self.partial.len()) > TAIL_ROOM {
            self.seal()?;
        }
        let frame = self.frame(&self.partial, true);
        self.put(&frame)
    }

    fn frame(&self, payload: &[u8], is_partial: bool) -> Vec<u8> {
        if payload.is_empty() {
            return Vec::new();
        }
        let mut writer = Writer::default();
        let sum = Frame::sum(self.head.generation, self.tail, is_partial, payload);
        writer.u32(sum);
        writer.u16(u16::try_from(payload.len()).unwrap_or(u16::MAX));
        writer.u8(u8::from(is_partial));
        writer.bytes.extend_from_slice(payload);
        writer.bytes
    }

    fn put(&mut self, frame: &[u8]) -> io::Result<()> {
        let at = TAIL.saturating_add(u64::try_from(self.tail).unwrap_or(0));
        self.file()?.write_all_at(frame, at)
    }

    fn write(&mut self, payload: &[u8], chain: Chain, lines: &[Line]) -> io::Result<()> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
        let frame = self.frame(payload, false);
        self.put(&frame)?;
        self.tail = self.tail.saturating_add(frame.len());
        self.chain = chain;
        if self.tail_lines == 0 {
            self.tail_first = first.cursor;
        }
        self.tail_lines = self.tail_lines.saturating_add(u64::try_from(lines.len()).unwrap_or(0));
        (self.seq, self.cursor) = (last.seq, last.cursor);
        Ok(())
    }

    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
            // Without a head the tail would belong to no generation.
            file.write_all_at(&self.head.to_bytes(), 0)?;
            self.file = Some(file);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes a block of the tail.
    fn seal(&mut self) -> io::Result<()> {
        if self.tail_lines == 0 {
            return Ok(());
        }
        let raw = self.tail_bytes()?;
        let packed = lz4_flex::block::compress(&raw);
        let mut writer = Writer::default();
        writer.u32(BLOCK_MAGIC);
        writer.u32(crc32fast::hash(&packed));
        writer.u32(u32::try_from(packed.len()).unwrap_or(u32::MAX));
        writer.u32(u32::try_from(raw.len()).unwrap_or(u32::MAX));
        let first_seq = self.seq.saturating_sub(self.tail_lines.saturating_sub(1));
        let last_time = read::last_time(&raw);
        for value in [self.head.last, self.tail_lines, first_seq, self.tail_first, self.cursor, last_time] {
            writer.u64(value);
        }
        writer.bytes.extend_from_slice(&packed);
        let length = u64::try_from(writer.bytes.len()).unwrap_or(0);
        let head = Head {
            generation: self.head.generation.wrapping_add(1),
            end: self.head.end.saturating_add(length),
            last: length,
            seq: self.seq,
            cursor: self.cursor,
            ..self.head
        };
        let at = self.head.end;
        self.file()?.write_all_at(&writer.bytes, at)?;
        self.set_head(head)?;
        self.tail = 0;
        self.tail_lines = 0;
        self.chain = Chain::default();
        self.sealed = true;
        Ok(())
    }

    fn set_head(&mut self, head: Head) -> io::Result<()> {
        let head = Head { count: self.head.count.wrapping_add(1), ..head };
        let at = if head.count.is_multiple_of(2) { 0 } else { 128 };
        self.file()?.write_all_at(&head.to_bytes(), at)?;
        self.head = head;
        Ok(())
    }

    /// Writes down what was counted.
    ///
    /// # Errors
    /// When the file system takes no more; the count stands in memory then.
    pub fn write_counts(&mut self) -> io::Result<()> {
        self.set_head(self.head)
    }

    /// The oldest block gives way. Whether there was one.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn evict(&mut self) -> io::Result<bool> {
        let head = match self.block(self.head.start) {
            Ok(None) => return Ok(false),
            Ok(Some(block)) => {
                let last = if block.next() >= self.head.end { 0 } else { self.head.last };
                Head {
                    start: block.next(),
                    last,
                    overwritten: self.head.overwritten.saturating_add(block.lines),
                    overwritten_to: block.last,
                    ..self.head
                }
            }
            // Where one block is unreadable, the way to those behind it is lost.
            Err(error) => {
                log::error!("{}: {error}: its older lines are lost", self.path.display());
                let lost = self.seq.saturating_sub(self.tail_lines).saturating_sub(self.head.overwritten);
                let overwritten = self.head.overwritten.saturating_add(lost);
                let overwritten_to = self.head.cursor;
                Head { start: self.head.end, last: 0, overwritten, overwritten_to, ..self.head }
            }
        };
        self.set_head(head)?;
        self.punch()?;
        Ok(true)
    }

    /// All of the tail gives way, where there is no block.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn drop_tail(&mut self) -> io::Result<()> {
        let head = Head {
            generation: self.head.generation.wrapping_add(1),
            seq: self.seq,
            cursor: self.cursor,
            overwritten: self.head.overwritten.saturating_add(self.tail_lines),
            overwritten_to: self.cursor,
            ..self.head
        };
        self.set_head(head)?;
        (self.tail, self.tail_lines, self.chain, self.sealed) = (0, 0, Chain::default(), false);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(self.file()?, flags, PAGE, TAIL_END.saturating_sub(PAGE))?)
    }

    /// Gives the pages before the first block back.
    fn punch(&mut self) -> io::Result<()> {
        let to = page_before(self.head.start);
        let from = page_before(self.punched);
        if from < to {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(self.file()?, flags, from, to.saturating_sub(from))?;
            self.punched = to;
        }
        Ok(())
    }

    /// Behind the last block.
    pub fn end(&self) -> u64 {
        self.head.end
    }

    /// Where the first block is.
    pub fn start(&self) -> u64 {
        self.head.start
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn page_before(at: u64) -> u64 {
    at.checked_next_multiple_of(PAGE).map_or(at, |next| if next == at { at } else { next.saturating_sub(PAGE) })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
#[path = "ring_tests.rs"]
mod tests;
