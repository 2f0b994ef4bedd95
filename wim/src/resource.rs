//! Resources: how contents are cut into chunks, and where each chunk lies. Header and blob table say where a resource
//! is; the workers and the metadata reader take its chunks from here.

use crate::bytes::{u32_at, u64_at};
use crate::codec::{Codec, Compression};
use crate::error::WimError;
use crate::header::ResourceHeader;
use crate::source::ReadAt;

/// How a WIM stores its resources, but for solid ones: these say it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) compression: Compression,
    pub(crate) chunk_size: u32,
    /// A length before each chunk, and the chunk table behind the last one: what can be written, and read, in one go
    /// (wimlib's resource.c). The table's offsets do not count the lengths.
    pub(crate) pipable: bool,
}

impl Layout {
    /// Bytes between two chunks.
    pub(crate) fn lead(self) -> u64 {
        if self.pipable { 4 } else { 0 }
    }
}

/// A compressed resource that is not solid: a table of n-1 offsets, then n chunks; or the other way round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunked {
    pub(crate) stored: u64,
    pub(crate) size: u64,
    pub(crate) layout: Layout,
}

/// The chunk table contradicts the resource's size.
#[derive(Debug)]
pub(crate) struct BadTable;

impl Chunked {
    pub(crate) fn chunks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.layout.chunk_size.max(1)))
    }

    /// Bytes of an entry of the chunk table.
    pub(crate) fn entry_len(&self) -> u64 {
        if u32::try_from(self.size).is_ok() { 4 } else { 8 }
    }

    /// Bytes of the chunk table, whatever the resource's length is.
    pub(crate) fn table_entries(&self) -> u64 {
        self.chunks().saturating_sub(1).saturating_mul(self.entry_len())
    }

    /// Bytes of the chunk table; an error where it would not leave a byte for each chunk, or more for all of them than
    /// they can have, which would be read for nothing.
    pub(crate) fn table_len(&self) -> Result<u64, BadTable> {
        let len = self.table_entries();
        let leads = self.chunks().checked_mul(self.layout.lead()).and_then(|leads| leads.checked_add(len));
        let with = |bytes: u64| leads.and_then(|leads| leads.checked_add(bytes));
        let (least, most) = (with(self.chunks()).ok_or(BadTable)?, with(self.size).ok_or(BadTable)?);
        if (least..=most).contains(&self.stored) { Ok(len) } else { Err(BadTable) }
    }

    /// Where the chunk table lies in the resource, and its length.
    pub(crate) fn table(&self) -> Result<(u64, u64), BadTable> {
        let len = self.table_len()?;
        Ok((if self.layout.pipable { self.stored.saturating_sub(len) } else { 0 }, len))
    }

    /// As [`Chunked::starts`], from all bytes of the resource.
    pub(crate) fn starts_in(&self, resource: &[u8], starts: &mut Vec<u64>) -> Result<(), BadTable> {
        let (at, _) = self.table()?;
        self.starts(resource.get(usize::try_from(at).map_err(|_| BadTable)?..).ok_or(BadTable)?, starts)
    }

    /// Where each chunk begins in the resource, with [`Layout::lead`] bytes before it, and where the last one ends,
    /// into `starts`. `table` is what [`Chunked::table`] says.
    pub(crate) fn starts(&self, table: &[u8], starts: &mut Vec<u64>) -> Result<(), BadTable> {
        let len = self.table_len()?;
        let table = table.get(..usize::try_from(len).map_err(|_| BadTable)?).ok_or(BadTable)?;
        let (mut base, end) =
            if self.layout.pipable { (0, self.stored.saturating_sub(len)) } else { (len, self.stored) };
        starts.clear();
        starts.push(base);
        let entry = if self.entry_len() == 4 { 4 } else { 8 };
        for bytes in table.chunks_exact(entry) {
            let offset = if entry == 4 { u32_at(bytes, 0).map(u64::from) } else { u64_at(bytes, 0) };
            base = base.saturating_add(self.layout.lead());
            starts.push(offset.and_then(|o| o.checked_add(base)).ok_or(BadTable)?);
        }
        starts.push(end);
        check_starts(starts, self.size, self.layout.chunk_size, self.layout.lead())
    }
}

/// That chunks follow each other, each with `lead` bytes before it, none is empty, and none is larger than what it
/// unpacks to.
fn check_starts(starts: &[u64], size: u64, chunk_size: u32, lead: u64) -> Result<(), BadTable> {
    let mut left = size;
    for (begin, end) in starts.iter().zip(starts.iter().skip(1)) {
        let stored = end.checked_sub(*begin).and_then(|len| len.checked_sub(lead)).ok_or(BadTable)?;
        let unpacked = left.min(chunk_size.into());
        if stored == 0 || stored > unpacked {
            return Err(BadTable);
        }
        left = left.saturating_sub(unpacked);
    }
    if left == 0 { Ok(()) } else { Err(BadTable) }
}

/// A solid resource: many blobs, one after another, compressed together.
#[derive(Debug)]
pub(crate) struct Solid {
    /// Number of the file that it lies in, of a split WIM.
    pub(crate) part: u16,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) chunk_size: u32,
    pub(crate) compression: Compression,
    /// Where each chunk begins in the WIM, and where the last one ends.
    pub(crate) starts: Vec<u64>,
}

impl Solid {
    const HEADER_LEN: u64 = 16;

    /// Reads header and chunk table of the solid resource at `at`, which may have `most` chunks.
    pub(crate) fn read(source: &dyn ReadAt, part: u16, at: &ResourceHeader, most: u64) -> Result<Solid, WimError> {
        let damaged = |why: String| WimError::Damaged { what: "a solid resource", offset: at.offset, why };
        at.check_inside("a solid resource", source.size())?;
        if at.stored < Self::HEADER_LEN {
            return Err(damaged(format!("{} bytes do not hold its header", at.stored)));
        }
        let header = read(source, at.offset, Self::HEADER_LEN)?;
        let (size, chunk_size, kind) = (u64_at(&header, 0), u32_at(&header, 8), u32_at(&header, 12));
        let (Some(size), Some(chunk_size), Some(kind)) = (size, chunk_size, kind) else {
            return Err(damaged("its header is short".into()));
        };
        let compression = match kind {
            1 => Compression::Xpress,
            2 => Compression::Lzx,
            3 => Compression::Lzms,
            _ => return Err(damaged(format!("compression {kind} is unknown"))),
        };
        if !compression.accepts_chunk(chunk_size) {
            return Err(WimError::Unsupported {
                what: format!("chunks of {chunk_size} bytes with {compression}"),
                remedy: "export the image again with chunks of at most 64 MiB",
            });
        }
        let chunks = size.div_ceil(chunk_size.into());
        let table_len = chunks.checked_mul(4).filter(|len| {
            len.checked_add(chunks).and_then(|l| l.checked_add(Self::HEADER_LEN)).is_some_and(|l| l <= at.stored)
        });
        let table_len = table_len.ok_or_else(|| damaged(format!("{size} bytes do not fit in {}", at.stored)))?;
        if chunks > most {
            let what = "the chunk table of a solid resource";
            return Err(WimError::TooLarge { what, size: chunks, limit: most });
        }
        let table = read(source, at.offset.saturating_add(Self::HEADER_LEN), table_len)?;
        let mut next = at.offset.saturating_add(Self::HEADER_LEN).saturating_add(table_len);
        let mut starts = Vec::with_capacity((table.len() / 4).saturating_add(1));
        starts.push(next);
        for entry in table.chunks_exact(4) {
            next = next.saturating_add(u32_at(entry, 0).unwrap_or(0).into());
            starts.push(next);
        }
        if next > at.offset.saturating_add(at.stored) {
            return Err(damaged("its chunks are longer than itself".into()));
        }
        check_starts(&starts, size, chunk_size, 0).map_err(|BadTable| damaged("its chunk table is wrong".into()))?;
        Ok(Solid { part, offset: at.offset, size, chunk_size, compression, starts })
    }
}

/// Reads `len` bytes at `offset`. The caller has checked that they lie inside the source, so memory is at most the
/// source's own size.
pub(crate) fn read(source: &dyn ReadAt, offset: u64, len: u64) -> Result<Vec<u8>, WimError> {
    let mut bytes = Vec::new();
    read_into(source, offset, len, &mut bytes)?;
    Ok(bytes)
}

/// As [`read`], into a buffer that is used again.
pub(crate) fn read_into(source: &dyn ReadAt, offset: u64, len: u64, buffer: &mut Vec<u8>) -> Result<(), WimError> {
    resize(buffer, len)?;
    source.read_exact_at(buffer, offset).map_err(|source| WimError::Read { offset, len, source })
}

/// Makes `buffer` exactly `len` bytes long; what it held is lost.
pub(crate) fn resize(buffer: &mut Vec<u8>, len: u64) -> Result<(), WimError> {
    let no_memory = || WimError::NoMemory { bytes: len };
    let wanted = usize::try_from(len).map_err(|_| no_memory())?;
    buffer.try_reserve_exact(wanted.saturating_sub(buffer.len())).map_err(|_| no_memory())?;
    buffer.resize(wanted, 0);
    Ok(())
}

/// Reads a whole resource outside solid ones: the blob table, the XML data, an image's metadata. Memory grows with
/// what really unpacks, and never beyond `limit`.
pub(crate) fn read_whole(
    source: &dyn ReadAt,
    at: &ResourceHeader,
    layout: Layout,
    what: &'static str,
    limit: u64,
) -> Result<Vec<u8>, WimError> {
    at.check_inside(what, source.size())?;
    if at.size > limit {
        return Err(WimError::TooLarge { what, size: at.size, limit });
    }
    let damaged = |why: &str| WimError::Damaged { what, offset: at.offset, why: why.into() };
    if !at.has(ResourceHeader::COMPRESSED) {
        return if at.stored == at.size {
            read(source, at.offset, at.size)
        } else {
            Err(damaged("it is not compressed, and its two sizes differ"))
        };
    }
    let Layout { compression, chunk_size, .. } = layout;
    if compression == Compression::None {
        return Err(damaged("it is compressed in an image without compression"));
    }
    let chunked = Chunked { stored: at.stored, size: at.size, layout };
    let bad_table = |BadTable| damaged("its chunk table is wrong");
    let (table_at, table_len) = chunked.table().map_err(bad_table)?;
    let mut starts = Vec::new();
    let table = read(source, at.offset.saturating_add(table_at), table_len)?;
    chunked.starts(&table, &mut starts).map_err(bad_table)?;
    let (mut codec, mut input, mut out, mut whole) = (Codec::default(), Vec::new(), Vec::new(), Vec::new());
    for (begin, end) in starts.iter().zip(starts.iter().skip(1)) {
        let begin = begin.saturating_add(layout.lead());
        read_into(source, at.offset.saturating_add(begin), end.saturating_sub(begin), &mut input)?;
        resize(&mut out, at.size.saturating_sub(whole.len() as u64).min(chunk_size.into()))?;
        codec.chunk(compression, chunk_size, &input, &mut out).map_err(|_| damaged("it does not decompress"))?;
        whole.try_reserve(out.len()).map_err(|_| WimError::NoMemory { bytes: at.size })?;
        whole.extend_from_slice(&out);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(chunk_size: u32, pipable: bool) -> Layout {
        Layout { compression: Compression::Xpress, chunk_size, pipable }
    }

    #[test]
    fn a_table_must_leave_a_byte_for_every_chunk() {
        let huge = Chunked { stored: 1000, size: u64::MAX, layout: layout(32768, false) };
        assert!(huge.table_len().is_err());
        let padded = Chunked { stored: 32769, size: 32768, layout: layout(32768, false) };
        assert!(padded.table_len().is_err(), "a byte that no chunk has");
        let one = Chunked { stored: 10, size: 32768, layout: layout(32768, false) };
        let mut starts = Vec::new();
        one.starts(&[], &mut starts).unwrap();
        assert_eq!(starts, [0, 10]);
    }

    #[test]
    fn chunks_that_are_empty_too_large_or_out_of_order_are_refused() {
        let chunked = Chunked { stored: 4 + 30, size: 4096 + 100, layout: layout(4096, false) };
        let starts = |offset: u32| chunked.starts(&offset.to_le_bytes(), &mut Vec::new()).is_ok();
        assert!(starts(10));
        assert!(!starts(0), "the first chunk is empty");
        assert!(!starts(30), "the last chunk is empty");
        assert!(!starts(31), "the last chunk begins after its end");
        let large = Chunked { stored: 4 + 4097 + 1, ..chunked };
        assert!(large.starts(&4097u32.to_le_bytes(), &mut Vec::new()).is_err());
    }

    #[test]
    fn a_pipable_table_lies_behind_its_chunks_and_does_not_count_their_lengths() {
        // [4 length][10 chunk][4 length][20 chunk][4 table]
        let chunked = Chunked { stored: 42, size: 4096 + 100, layout: layout(4096, true) };
        assert_eq!(chunked.table().unwrap(), (38, 4));
        let mut starts = Vec::new();
        chunked.starts(&10_u32.to_le_bytes(), &mut starts).unwrap();
        assert_eq!(starts, [0, 14, 38]);
        assert!(chunked.starts(&0_u32.to_le_bytes(), &mut starts).is_err(), "the first chunk is empty");
        assert!(chunked.starts(&30_u32.to_le_bytes(), &mut starts).is_err(), "the last chunk is empty");
        let short = Chunked { stored: 13, ..chunked };
        assert!(short.table_len().is_err(), "two lengths, two bytes and a table are 14");
    }

    proptest! {
        #[test]
        fn any_table_is_refused_or_gives_every_chunk(stored in 0u64..200, size in 0u64..100_000, pipable in any::<bool>(),
                                                     table in proptest::collection::vec(any::<u8>(), 0..100)) {
            let chunked = Chunked { stored, size, layout: layout(4096, pipable) };
            let mut starts = Vec::new();
            if chunked.starts(&table, &mut starts).is_ok() && size > 0 {
                prop_assert_eq!(starts.len() as u64, chunked.chunks().saturating_add(1));
                let (table_at, _) = chunked.table().unwrap();
                prop_assert_eq!(*starts.last().unwrap(), if pipable { table_at } else { stored });
                prop_assert!(starts.windows(2).all(|w| w[0].saturating_add(chunked.layout.lead()) < w[1]));
            }
        }
    }
}
