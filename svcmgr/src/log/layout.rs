//! The layout of a ring's file: its head, the frames of its tail, its blocks; see [`super::ring`].

use super::bytes::{Cursor, Writer};

pub(super) const TAIL: u64 = 256;
/// Where the tail ends and the blocks begin; so long, too, is a block before it is compressed, at most.
pub(super) const TAIL_END: u64 = 16 * 1024;
pub(super) const TAIL_LENGTH: usize = 16 * 1024;
pub(super) const TAIL_ROOM: usize = TAIL_LENGTH - 256;
/// The unit in which memory is given back.
pub const PAGE: u64 = 4096;

const HEAD_MAGIC: u32 = u32::from_le_bytes(*b"mLG1");
pub(super) const HEAD_SIZE: usize = 128;
pub(super) const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"mBLK");
pub(super) const BLOCK_HEAD: usize = 64;
pub(super) const FRAME_HEAD: usize = 7;
/// No block is longer: lz4 makes of what cannot be compressed a little more than it was.
const BLOCK_LIMIT: usize = 20 * 1024;

/// What a ring knows of itself, all of it in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// How often a head was written.
    pub(super) count: u64,
    /// Of the tail.
    pub(super) generation: u64,
    /// The first block that is kept.
    pub(super) start: u64,
    /// Behind the last block.
    pub(super) end: u64,
    /// How long the last block is.
    pub(super) last: u64,
    /// The number of the last line of the blocks, and what it was in all.
    pub(super) seq: u64,
    pub(super) cursor: u64,
    /// Lines that gave way to newer ones, and the cursor of the last of them.
    pub(super) overwritten: u64,
    pub(super) overwritten_to: u64,
    /// Lines that were never kept.
    pub(super) dropped: u64,
}

impl Head {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u32(HEAD_MAGIC);
        for value in [
            self.count,
            self.generation,
            self.start,
            self.end,
            self.last,
            self.seq,
            self.cursor,
            self.overwritten,
            self.overwritten_to,
            self.dropped,
        ] {
            writer.u64(value);
        }
        let sum = crc32fast::hash(&writer.bytes);
        writer.u32(sum);
        writer.bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Head> {
        let mut cursor = Cursor::new(bytes);
        if cursor.u32()? != HEAD_MAGIC {
            return None;
        }
        let head = Head {
            count: cursor.u64()?,
            generation: cursor.u64()?,
            start: cursor.u64()?,
            end: cursor.u64()?,
            last: cursor.u64()?,
            seq: cursor.u64()?,
            cursor: cursor.u64()?,
            overwritten: cursor.u64()?,
            overwritten_to: cursor.u64()?,
            dropped: cursor.u64()?,
        };
        let sum = crc32fast::hash(bytes.get(..cursor.position())?);
        (cursor.u32()? == sum && TAIL_END <= head.start && head.start <= head.end).then_some(head)
    }
}

/// A block, as its head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Where it is.
    pub at: u64,
    /// How long it is, with its head.
    pub length: u64,
    /// The block before it is so long; 0 if it was the first.
    pub(super) before: u64,
    pub(super) raw: usize,
    pub(super) sum: u32,
    /// How many lines it has.
    pub lines: u64,
    /// The number of its first line.
    pub first_seq: u64,
    /// The cursor of its first line.
    pub first: u64,
    /// The cursor of its last line.
    pub last: u64,
    /// When its last line was said.
    pub last_time: u64,
}

impl Block {
    /// Where the next one is.
    pub fn next(&self) -> u64 {
        self.at.saturating_add(self.length)
    }
}

/// The head of the block at `at`, if it is one.
pub(super) fn block_head(bytes: &[u8], at: u64) -> Option<Block> {
    let mut cursor = Cursor::new(bytes);
    if cursor.u32()? != BLOCK_MAGIC {
        return None;
    }
    let sum = cursor.u32()?;
    let packed = usize::try_from(cursor.u32()?).ok().filter(|packed| *packed <= BLOCK_LIMIT)?;
    let raw = usize::try_from(cursor.u32()?).ok().filter(|raw| *raw <= BLOCK_LIMIT)?;
    let length = u64::try_from(packed.checked_add(BLOCK_HEAD)?).ok()?;
    let (before, lines, first_seq) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (first, last, last_time) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    Some(Block { at, length, before, raw, sum, lines, first_seq, first, last, last_time })
}

/// A piece of the tail.
pub(super) struct Frame<'a> {
    pub(super) payload: &'a [u8],
    pub(super) is_partial: bool,
    pub(super) end: usize,
}

impl Frame<'_> {
    pub(super) fn sum(generation: u64, at: usize, is_partial: bool, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&generation.to_le_bytes());
        hasher.update(&at.to_le_bytes());
        hasher.update(&[u8::from(is_partial)]);
        hasher.update(payload);
        hasher.finalize()
    }

    /// The frame at `at`, if there is one of this generation.
    pub(super) fn read(tail: &[u8], at: usize, generation: u64) -> Option<Frame<'_>> {
        let mut cursor = Cursor::new(tail.get(at..)?);
        let (sum, length, kind) = (cursor.u32()?, usize::from(cursor.u16()?), cursor.u8()?);
        let begin = at.checked_add(FRAME_HEAD)?;
        let end = begin.checked_add(length)?;
        let payload = tail.get(begin..end).filter(|payload| !payload.is_empty())?;
        let is_partial = kind == 1;
        (kind <= 1 && Frame::sum(generation, at, is_partial, payload) == sum).then_some(Frame {
            payload,
            is_partial,
            end,
        })
    }
}
