//! The contents of single blobs, apart from any unpacking: what verifying, comparing and extracting read by. Only the
//! chunks that are asked for are read and unpacked, and the part of a chunk table that says where they are; so memory
//! is a chunk's or a job's, whatever a blob's size.

use crate::blob::{Blob, Location};
use crate::bytes::{u32_at, u64_at};
use crate::codec::Codec;
use crate::error::{WimError, chain};
use crate::reader::Wim;
use crate::resource::{Chunked, read, read_into, resize};
use crate::source::ReadAt;

/// Contents are handed on in pieces of this size, or of one chunk where that is larger.
pub(crate) const PIECE: u64 = 512 << 10;

/// Why contents could not be had.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The source, or memory, failed.
    Failed(WimError),
    /// The bytes are there and are wrong.
    Damaged(&'static str),
}

impl From<WimError> for Unread {
    fn from(error: WimError) -> Unread {
        Unread::Failed(error)
    }
}

impl Unread {
    /// In words, where going on with other contents makes sense.
    pub(crate) fn why(self) -> Result<String, WimError> {
        match self {
            Unread::Damaged(why) => Ok(why.to_owned()),
            Unread::Failed(error @ WimError::Read { .. }) => Ok(chain(&error)),
            Unread::Failed(error) => Err(error),
        }
    }

    /// The error of a file that has these contents.
    pub(crate) fn of(self, file: impl FnOnce() -> String) -> WimError {
        match self {
            Unread::Failed(error) => error,
            Unread::Damaged(_) => WimError::Decompress { file: file() },
        }
    }
}

/// Of a resource whose chunks cannot be found.
pub(crate) const BAD_TABLE: &str = "its chunk table is wrong";
const TABLE: Unread = Unread::Damaged(BAD_TABLE);
const BAD_CHUNK: Unread = Unread::Damaged("it does not decompress");
const OUTSIDE: Unread = Unread::Damaged("it lies outside its resource");

/// The file that a blob lies in.
fn source_of<'a>(wim: &'a Wim, blob: &Blob) -> &'a dyn ReadAt {
    wim.parts.source(blob.part)
}

/// Where blobs lie in the source: in this order reading runs forward through it once.
pub(crate) fn source_order(wim: &Wim, blob: &Blob) -> (u16, u64, u64) {
    match blob.location {
        Location::Stored { offset } | Location::Chunked { offset, .. } => (blob.part, offset, 0),
        Location::Solid { resource, offset } => {
            (blob.part, wim.blobs.solids.get(resource).map_or(0, |s| s.offset), offset)
        }
    }
}

/// The pieces of a blob outside solid resources: whole chunks, about [`PIECE`] long.
pub(crate) fn piece_len(wim: &Wim, blob: &Blob) -> u64 {
    match blob.location {
        Location::Chunked { .. } => {
            let chunk = u64::from(wim.header.chunk_size.max(1));
            chunk.saturating_mul(PIECE.checked_div(chunk).unwrap_or(1).max(1))
        }
        Location::Stored { .. } | Location::Solid { .. } => PIECE,
    }
}

/// Whether a blob has room for the chunks that its size makes of it.
pub(crate) fn has_table(wim: &Wim, blob: &Blob) -> bool {
    match blob.location {
        Location::Chunked { stored, .. } => chunked(wim, blob, stored).table_len().is_ok(),
        Location::Stored { .. } | Location::Solid { .. } => true,
    }
}

fn chunked(wim: &Wim, blob: &Blob, stored: u64) -> Chunked {
    Chunked { stored, size: blob.size, layout: wim.header.layout() }
}

/// Reads contents, with buffers and a decompressor that are used again.
pub(crate) struct Contents<'a> {
    wim: &'a Wim,
    codec: Codec,
    input: Vec<u8>,
    out: Vec<u8>,
    /// Resource and number of the solid chunk that `out` holds: neighbours in a solid resource cost one unpacking.
    held: Option<(usize, usize)>,
}

impl<'a> Contents<'a> {
    pub(crate) fn new(wim: &'a Wim) -> Contents<'a> {
        Contents { wim, codec: Codec::default(), input: Vec::new(), out: Vec::new(), held: None }
    }

    /// `len` bytes of a blob outside solid resources, from `from` on, where a chunk begins.
    pub(crate) fn piece(&mut self, blob: &Blob, from: u64, len: u64) -> Result<&[u8], Unread> {
        self.held = None;
        let source = source_of(self.wim, blob);
        let (offset, stored) = match blob.location {
            Location::Stored { offset } => {
                read_into(source, offset.saturating_add(from), len, &mut self.out)?;
                return Ok(&self.out);
            }
            Location::Chunked { offset, stored } => (offset, stored),
            Location::Solid { .. } => return Err(OUTSIDE),
        };
        let header = &self.wim.header;
        let chunked = chunked(self.wim, blob, stored);
        let chunk_size = u64::from(header.chunk_size.max(1));
        let first = from.checked_div(chunk_size).unwrap_or(0);
        let spans = spans(source, offset, &chunked, first, len.div_ceil(chunk_size))?;
        let (Some((begin, _)), Some((_, end))) = (spans.first(), spans.last()) else { return Ok(&[]) };
        read_into(source, offset.saturating_add(*begin), end.saturating_sub(*begin), &mut self.input)?;
        resize(&mut self.out, len)?;
        let chunk_len = usize::try_from(chunk_size).unwrap_or(usize::MAX);
        for ((from, to), out) in spans.iter().zip(self.out.chunks_mut(chunk_len)) {
            let chunk = slice(&self.input, from.saturating_sub(*begin), to.saturating_sub(*begin)).ok_or(TABLE)?;
            self.codec.chunk(header.compression, header.chunk_size, chunk, out).map_err(|_| BAD_CHUNK)?;
        }
        Ok(&self.out)
    }

    /// One chunk of a solid resource.
    pub(crate) fn solid_chunk(&mut self, resource: usize, chunk: usize) -> Result<&[u8], Unread> {
        if self.held == Some((resource, chunk)) {
            return Ok(&self.out);
        }
        self.held = None;
        let solid = self.wim.blobs.solids.get(resource).ok_or(OUTSIDE)?;
        let ends = (solid.starts.get(chunk).copied(), solid.starts.get(chunk.saturating_add(1)).copied());
        let (Some(from), Some(to)) = ends else { return Err(OUTSIDE) };
        let begin = (chunk as u64).saturating_mul(solid.chunk_size.into());
        read_into(self.wim.parts.source(solid.part), from, to.saturating_sub(from), &mut self.input)?;
        resize(&mut self.out, solid.size.saturating_sub(begin).min(solid.chunk_size.into()))?;
        let (format, size) = (solid.compression, solid.chunk_size);
        self.codec.chunk(format, size, &self.input, &mut self.out).map_err(|_| BAD_CHUNK)?;
        self.held = Some((resource, chunk));
        Ok(&self.out)
    }

    /// All contents of a blob, piece by piece.
    pub(crate) fn read<E: From<Unread>>(
        &mut self,
        blob: &Blob,
        mut to: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = 0;
        while at < blob.size {
            let left = blob.size.saturating_sub(at);
            let piece = match blob.location {
                Location::Solid { resource, offset } => {
                    let size = self.wim.blobs.solids.get(resource).map_or(1, |s| u64::from(s.chunk_size.max(1)));
                    let from = offset.saturating_add(at);
                    let chunk = from.checked_div(size).and_then(|n| usize::try_from(n).ok()).ok_or(OUTSIDE)?;
                    let within = from.checked_rem(size).unwrap_or(0);
                    let end = within.saturating_add(left).min(size);
                    slice(self.solid_chunk(resource, chunk)?, within, end).ok_or(OUTSIDE)?
                }
                _ => self.piece(blob, at, left.min(piece_len(self.wim, blob)))?,
            };
            at = at.saturating_add(piece.len() as u64);
            to(piece)?;
        }
        Ok(())
    }
}

/// Begin and end of `count` chunks from number `first` on, in a resource at `at` of the source. Their part of the table
/// alone is read.
fn spans(source: &dyn ReadAt, at: u64, chunked: &Chunked, first: u64, count: u64) -> Result<Vec<(u64, u64)>, Unread> {
    let (table_at, table_len) = chunked.table().map_err(|_| TABLE)?;
    let (chunks, entry, lead) = (chunked.chunks(), chunked.entry_len(), chunked.layout.lead());
    // The chunks lie behind their table, or before it.
    let (base, behind) = if table_at == 0 { (table_len, chunked.stored) } else { (0, table_at) };
    let last = first.saturating_add(count);
    // The table has no entry for the first chunk.
    let (from, to) = (first.max(1), last.min(chunks.saturating_sub(1)));
    let mut starts = Vec::new();
    if first == 0 {
        starts.push(base);
    }
    if from <= to {
        let begin = table_at.saturating_add(from.saturating_sub(1).saturating_mul(entry));
        let len = to.saturating_sub(from).saturating_add(1).saturating_mul(entry);
        let table = read(source, at.saturating_add(begin), len)?;
        for (bytes, n) in table.chunks_exact(if entry == 4 { 4 } else { 8 }).zip(from..) {
            let offset = if entry == 4 { u32_at(bytes, 0).map(u64::from) } else { u64_at(bytes, 0) };
            let base = base.saturating_add(n.saturating_mul(lead));
            starts.push(offset.and_then(|o| o.checked_add(base)).ok_or(TABLE)?);
        }
    }
    if last >= chunks {
        starts.push(behind);
    }
    let mut spans = Vec::with_capacity(starts.len());
    for ((begin, end), n) in starts.iter().zip(starts.iter().skip(1)).zip(first..) {
        let chunk_size = u64::from(chunked.layout.chunk_size);
        let unpacked = chunked.size.saturating_sub(n.saturating_mul(chunk_size)).min(chunk_size);
        let begin = begin.checked_add(lead).ok_or(TABLE)?;
        let is_sound = end.checked_sub(begin).is_some_and(|stored| stored > 0 && stored <= unpacked);
        if !is_sound || *end > behind {
            return Err(TABLE);
        }
        spans.push((begin, *end));
    }
    if spans.len() as u64 == count { Ok(spans) } else { Err(TABLE) }
}

pub(crate) fn slice(of: &[u8], from: u64, to: u64) -> Option<&[u8]> {
    of.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of our own")]
mod tests {
    use super::*;
    use crate::codec::Compression;
    use crate::resource::Layout;
    use proptest::prelude::*;

    proptest! {
        /// A part of the table says what the whole of it does.
        #[test]
        fn spans_agree_with_the_whole_table(pipable in any::<bool>(), stored in 0u64..120, size in 1u64..60_000, first in 0u64..16, count in 1u64..16,
                                            bytes in proptest::collection::vec(0_u8..40, 120)) {
            // Entries whose upper bytes are zero, so that some tables are sound.
            let bytes: Vec<u8> = bytes.iter().zip(0..).map(|(b, n)| if n % 4 == 0 { *b } else { 0 }).collect();
            let layout = Layout { compression: Compression::Xpress, chunk_size: 4096, pipable };
            let chunked = Chunked { stored, size, layout };
            let (first, last) = (first.min(chunked.chunks() - 1), (first + count).min(chunked.chunks()));
            prop_assume!(first < last);
            let mut starts = Vec::new();
            let whole = chunked.starts_in(&bytes, &mut starts).is_ok();
            match spans(&bytes, 0, &chunked, first, last - first) {
                Ok(spans) if whole => {
                    let expected: Vec<(u64, u64)> = (first..last)
                        .map(|n| usize::try_from(n).unwrap())
                        .map(|n| (starts[n] + layout.lead(), starts[n + 1]))
                        .collect();
                    prop_assert_eq!(spans, expected);
                }
                Ok(_) => {}
                Err(_) => prop_assert!(!whole),
            }
        }
    }
}
