//! The blob table: for every SHA-1 where its contents lie, and for every image where its metadata is.

use std::collections::HashMap;

use crate::bytes::{array, u16_at, u32_at};
use crate::codec::Compression;
use crate::error::WimError;
use crate::header::{Header, ResourceHeader};
use crate::resource::{Solid, read_whole};
use crate::source::ReadAt;

/// A SHA-1; all zero stands for an empty stream.
pub(crate) type Hash = [u8; 20];

/// A blob table of two million entries; Windows images have some hundred thousand. It is read into memory whole. The
/// parts of a split WIM share it: each has a table of its own.
const MAX_TABLE: u64 = 100 << 20;
const ENTRY_LEN: usize = 50;
/// Chunks of all solid resources together, whose places are kept in 32 MiB: 128 GiB at 32 KiB a chunk, the smallest
/// usual one.
const MAX_SOLID_CHUNKS: u64 = 4 << 20;
/// In the size field of a solid run's entry: this entry is a resource, not a blob.
const SOLID_MARK: u64 = 0x1_0000_0000;

/// Where a blob's contents lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// As they are.
    Stored { offset: u64 },
    /// In a compressed resource of their own.
    Chunked { offset: u64, stored: u64 },
    /// In a solid resource (index into [`Blobs::solids`]), from `offset` of its unpacked contents on.
    Solid { resource: usize, offset: u64 },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob {
    /// Number of the file that it lies in, of a split WIM.
    pub(crate) part: u16,
    pub(crate) location: Location,
    pub(crate) size: u64,
}

/// The whole table; of a split WIM, those of all parts.
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    pub(crate) by_hash: HashMap<Hash, Blob>,
    pub(crate) solids: Vec<Solid>,
    /// Metadata resources in the order of the images, each with its SHA-1.
    pub(crate) metadata: Vec<(ResourceHeader, Hash)>,
    /// Bytes of the tables of all parts, about.
    tables: u64,
    /// Chunks of all of `solids`, about.
    solid_chunks: u64,
}

struct Entry {
    at: ResourceHeader,
    part: u16,
    references: u32,
    hash: Hash,
}

impl Entry {
    fn parse(bytes: &[u8]) -> Option<Entry> {
        Some(Entry {
            at: ResourceHeader::parse(bytes, 0)?,
            part: u16_at(bytes, ResourceHeader::LEN)?,
            references: u32_at(bytes, 26)?,
            hash: array(bytes, 30)?,
        })
    }
}

impl Blobs {
    /// Adds the table of the file with this header; gives where the last resource of that file ends.
    pub(crate) fn add(&mut self, source: &dyn ReadAt, header: &Header) -> Result<u64, WimError> {
        let left = MAX_TABLE.saturating_sub(self.tables);
        let table = read_whole(source, &header.blob_table, header.layout(), "the blob table", left)?;
        self.tables = self.tables.saturating_add(table.len() as u64);
        if table.len() % ENTRY_LEN != 0 {
            let why = format!("{} bytes are no whole number of entries", table.len());
            return Err(damaged(0, &why));
        }
        let mut entries = Vec::with_capacity(table.len() / ENTRY_LEN);
        for bytes in table.chunks_exact(ENTRY_LEN) {
            let mut entry = Entry::parse(bytes).ok_or_else(|| damaged(0, "an entry is short"))?;
            // Only the later version knows solid resources; in the usual one the bit has no meaning (wimlib does so).
            if header.version != 0xe00 {
                entry.at.flags &= !ResourceHeader::SOLID;
            }
            entries.push(entry);
        }
        let end = check_extents(source, header, &entries)?;
        let mut number = 0_u64;
        for run in entries.chunk_by(|a, b| a.at.has(ResourceHeader::SOLID) == b.at.has(ResourceHeader::SOLID)) {
            if run.first().is_some_and(|e| e.at.has(ResourceHeader::SOLID)) {
                self.add_solid_run(source, header, run, number)?;
            } else {
                for (entry, n) in run.iter().zip(number..) {
                    self.add_plain(header, entry, n)?;
                }
            }
            number = number.saturating_add(run.len() as u64);
        }
        if header.part == 1 && self.metadata.len() as u64 != u64::from(header.images) {
            let why = format!("the header promises {} images, {} are here", header.images, self.metadata.len());
            return Err(damaged(0, &why));
        }
        Ok(end)
    }

    fn add_plain(&mut self, header: &Header, e: &Entry, number: u64) -> Result<(), WimError> {
        if header.parts > 1 && e.part != header.part {
            // It is in the table of its own part, too, or it is missed there (wimlib does so).
            return Ok(());
        }
        if e.at.has(ResourceHeader::METADATA) {
            // Count 0: an image that was deleted. All images are in the first part.
            if e.references > 0 && header.part == 1 {
                self.metadata.push((e.at, e.hash));
            }
            return Ok(());
        }
        if e.hash == [0; 20] || e.at.size == 0 {
            return Ok(());
        }
        if e.part != header.part {
            return Err(damaged(number, &format!("contents are in part {} of a split WIM", e.part)));
        }
        let location = if !e.at.has(ResourceHeader::COMPRESSED) {
            if e.at.stored != e.at.size {
                return Err(damaged(number, "contents are not compressed, and their two sizes differ"));
            }
            Location::Stored { offset: e.at.offset }
        } else if header.compression == Compression::None {
            return Err(damaged(number, "contents are compressed in an image without compression"));
        } else {
            Location::Chunked { offset: e.at.offset, stored: e.at.stored }
        };
        self.by_hash.entry(e.hash).or_insert(Blob { part: header.part, location, size: e.at.size });
        Ok(())
    }

    /// A run of solid entries describes resources and the blobs in them; a blob's offset counts through the unpacked
    /// contents of all resources of the run.
    fn add_solid_run(
        &mut self,
        source: &dyn ReadAt,
        header: &Header,
        run: &[Entry],
        number: u64,
    ) -> Result<(), WimError> {
        if header.pipable {
            return Err(damaged(number, "a solid resource is in a pipable WIM"));
        }
        let part = header.part;
        let first = self.solids.len();
        // Where each of the run's resources begins in the run's unpacked contents.
        let mut begins = Vec::new();
        let mut total = 0_u64;
        for entry in run.iter().filter(|e| e.at.size == SOLID_MARK) {
            let solid = Solid::read(source, part, &entry.at, MAX_SOLID_CHUNKS.saturating_sub(self.solid_chunks))?;
            self.solid_chunks = self.solid_chunks.saturating_add(solid.starts.len() as u64);
            begins.push(total);
            total = total.checked_add(solid.size).ok_or_else(|| damaged(number, "a solid run is too large"))?;
            self.solids.push(solid);
        }
        for (e, n) in run.iter().zip(number..).filter(|(e, _)| e.at.size != SOLID_MARK) {
            let size = e.at.stored;
            if e.at.has(ResourceHeader::METADATA) {
                return Err(damaged(n, "an image's metadata is in a solid resource"));
            }
            if e.hash == [0; 20] || size == 0 {
                continue;
            }
            let outside = || damaged(n, "a blob lies outside the solid resources of its run");
            let which = begins.partition_point(|b| *b <= e.at.offset).checked_sub(1).ok_or_else(outside)?;
            let offset = e.at.offset.saturating_sub(*begins.get(which).ok_or_else(outside)?);
            let resource = first.saturating_add(which);
            let holds = self.solids.get(resource).map(|s| s.size).ok_or_else(outside)?;
            if offset.checked_add(size).is_none_or(|end| end > holds) {
                return Err(outside());
            }
            self.by_hash.entry(e.hash).or_insert(Blob { part, location: Location::Solid { resource, offset }, size });
        }
        Ok(())
    }
}

/// That all resources lie inside the source, and no two with contents share bytes: a few bytes could otherwise be made
/// to unpack again and again, or to keep a chunk table in memory for every time that they are listed. The same contents
/// listed twice are the same resource. Gives where the last one ends.
fn check_extents(source: &dyn ReadAt, header: &Header, entries: &[Entry]) -> Result<u64, WimError> {
    let is_solid = |e: &Entry| e.at.has(ResourceHeader::SOLID);
    // What lies in another part of a split WIM is refused by its number.
    let is_plain = |e: &Entry| e.hash != [0; 20] && e.at.size > 0 && e.part == header.part;
    let is_resource = |e: &Entry| if is_solid(e) { e.at.size == SOLID_MARK } else { is_plain(e) };
    let mut resources: Vec<(&Entry, u64)> = entries
        .iter()
        .zip(0_u64..)
        .filter(|(e, _)| is_resource(e) && !e.at.has(ResourceHeader::METADATA) && e.at.stored > 0)
        .collect();
    resources.sort_unstable_by_key(|(e, _)| (e.at.offset, e.at.stored));
    for (e, _) in &resources {
        e.at.check_inside(if is_solid(e) { "a solid resource" } else { "the contents of a file" }, source.size())?;
    }
    for ((a, _), (b, number)) in resources.iter().zip(resources.iter().skip(1)) {
        let same = (a.at.offset, a.at.stored, a.hash) == (b.at.offset, b.at.stored, b.hash) && !is_solid(a);
        if a.at.end() > b.at.offset && (!same || is_solid(b)) {
            return Err(damaged(*number, "two resources share bytes"));
        }
    }
    let is_tree = |e: &Entry| !is_solid(e) && e.at.has(ResourceHeader::METADATA) && e.references > 0;
    let trees = || entries.iter().filter(|e| is_tree(e) && (header.parts == 1 || (e.part == 1 && header.part == 1)));
    for e in trees() {
        e.at.check_inside("the metadata of an image", source.size())?;
    }
    Ok(resources.iter().map(|(e, _)| *e).chain(trees()).map(|e| e.at.end()).max().unwrap_or(0))
}

fn damaged(entry: u64, why: &str) -> WimError {
    WimError::Damaged { what: "the blob table", offset: entry.saturating_mul(ENTRY_LEN as u64), why: why.to_owned() }
}
