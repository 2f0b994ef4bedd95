//! Reading a ring: blocks forwards and backwards, and the tail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::super::layout::{BLOCK_HEAD, Block, Frame, TAIL, block_head};
use super::Ring;
use crate::log::record::{Chain, Line};

impl Ring {
    /// The block at `at`, which is where a block begins; `None` at the end. One that has given way is looked for at
    /// the oldest that is kept.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn block(&self, at: u64) -> io::Result<Option<Block>> {
        let at = at.max(self.head.start);
        let Some(file) = self.file.as_ref().filter(|_| at < self.head.end) else { return Ok(None) };
        let mut bytes = [0; BLOCK_HEAD];
        file.read_exact_at(&mut bytes, at)?;
        block_head(&bytes, at)
            .filter(|block| block.next() <= self.head.end)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no block at {at}")))
    }

    /// The last block.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn last_block(&self) -> io::Result<Option<Block>> {
        match self.head.last {
            0 => Ok(None),
            last => self.block(self.head.end.saturating_sub(last)),
        }
    }

    /// The block before `block`.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn block_before(&self, block: &Block) -> io::Result<Option<Block>> {
        match block.at.checked_sub(block.before).filter(|at| block.before > 0 && *at >= self.head.start) {
            None => Ok(None),
            Some(at) => self.block(at),
        }
    }

    /// The last line there is.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn last_line(&self) -> io::Result<Option<Line>> {
        let mut last = None;
        self.read_tail(|line| last = Some(line))?;
        if last.is_none()
            && let Some(block) = self.last_block()?
        {
            self.read_block(&block, |line| last = Some(line))?;
        }
        Ok(last)
    }

    /// Hands the lines of a block to `each`.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read_block(&self, block: &Block, each: impl FnMut(Line)) -> io::Result<()> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("the block at {} is damaged", block.at));
        let Some(file) = &self.file else { return Ok(()) };
        let mut packed = vec![0; usize::try_from(block.length).unwrap_or(0).saturating_sub(BLOCK_HEAD)];
        file.read_exact_at(&mut packed, block.at.saturating_add(64))?;
        if crc32fast::hash(&packed) != block.sum {
            return Err(damaged());
        }
        let raw = lz4_flex::block::decompress(&packed, block.raw).map_err(|_| damaged())?;
        lines(&raw, each);
        Ok(())
    }

    /// Hands the lines of the tail to `each`.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read_tail(&self, each: impl FnMut(Line)) -> io::Result<()> {
        lines(&self.tail_bytes()?, each);
        Ok(())
    }

    /// The tail's lines, as they were written.
    pub(super) fn tail_bytes(&self) -> io::Result<Vec<u8>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let mut tail = vec![0; self.tail];
        file.read_exact_at(&mut tail, TAIL)?;
        let mut raw = Vec::with_capacity(tail.len());
        let mut at = 0;
        while let Some(frame) = Frame::read(&tail, at, self.head.generation).filter(|frame| !frame.is_partial) {
            raw.extend_from_slice(frame.payload);
            at = frame.end;
        }
        if at != self.tail {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its tail is damaged"));
        }
        Ok(raw)
    }
}

/// Hands the lines of a tail to `each`.
fn lines(mut raw: &[u8], mut each: impl FnMut(Line)) {
    let mut chain = Chain::default();
    while let Some(line) = chain.decode(&mut raw) {
        each(line);
    }
}

/// When the last line of a tail was said.
pub(super) fn last_time(raw: &[u8]) -> u64 {
    let mut time = 0;
    lines(raw, |line| time = line.entry.time);
    time
}

/// Reads until `buffer` is full or the file ends: how much.
pub(super) fn up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got: usize = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at.saturating_add(u64::try_from(got).unwrap_or(0))) {
            Ok(0) => break,
            Ok(n) => got = got.saturating_add(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
