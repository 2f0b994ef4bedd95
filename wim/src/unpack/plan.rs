//! The plan of an unpacking: contents in the order in which they lie in the source, cut into jobs that any worker can
//! take. Reading runs forward through the source once; the tree decides only where contents go.

use std::collections::HashMap;

use crate::blob::{Blob, Blobs, Hash, Location};
use crate::codec::{Codec, Compression};
use crate::error::WimError;
use crate::header::Header;
use crate::name::shown;
use crate::reader::Wim;
use crate::reparse;
use crate::resource::Chunked;
use crate::tree::{Kind, Tree};

/// Contents up to this size are one job or a part of one; larger ones are cut. Large enough that a job costs nothing
/// beside its decompression, small enough that input and output stay in a processor's own cache.
pub(super) const JOB: u64 = 512 << 10;
/// Unused bytes between two blobs that are read along rather than skipped.
const GAP: u64 = 64 << 10;

/// One blob that the tree uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) hash: Hash,
    pub(super) blob: Blob,
    /// Inodes that have these contents: a range of [`Plan::users`].
    pub(super) users: (usize, usize),
    /// Index of the [`super::assembly::Assembly`] where the contents come from several jobs.
    pub(super) assembly: Option<usize>,
}

/// A piece of work that one worker does alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    /// Whole blobs that lie close together: items `first..end`, all inside `len` bytes at `offset` of a part.
    Batch { first: usize, end: usize, part: u16, offset: u64, len: u64 },
    /// `count` chunks of one large blob.
    Part { item: usize, chunk: u64, count: u64 },
    /// One chunk of a solid resource, and the items that lie in it, wholly or in part.
    Solid { resource: usize, chunk: usize, first: usize, end: usize },
}

/// Everything there is to do after the directories exist.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    pub(super) jobs: Vec<Job>,
    pub(super) users: Vec<u32>,
    /// Files without contents, devices, fifos, sockets.
    pub(super) bare: Vec<u32>,
    pub(super) assemblies: usize,
    /// Sum of the sizes of all files, as they will be unpacked.
    pub(super) total: u64,
    /// Memory that a worker takes at most.
    pub(super) worker_memory: u64,
}

impl Plan {
    pub(super) fn users(&self, item: &Item) -> &[u32] {
        self.users.get(item.users.0..item.users.1).unwrap_or_default()
    }

    /// Whether any of it is in solid resources.
    pub(super) fn is_solid(&self) -> bool {
        self.jobs.iter().any(|job| matches!(job, Job::Solid { .. }))
    }

    /// Memory that the plan itself takes, about.
    pub(super) fn memory(&self) -> u64 {
        let items = self.items.len().saturating_mul(size_of::<Item>());
        let jobs = self.jobs.len().saturating_mul(size_of::<Job>());
        items.saturating_add(jobs).saturating_add(self.users.len().saturating_mul(4)) as u64
    }

    pub(super) fn new(wim: &Wim, tree: &Tree) -> Result<Plan, WimError> {
        let mut plan = Plan::default();
        plan.collect(wim, tree)?;
        plan.items.sort_by_key(|item| source_order(&wim.blobs, &item.blob));
        plan.check_overlaps(&wim.blobs, tree)?;
        plan.cut(wim, tree)?;
        Ok(plan)
    }

    fn collect(&mut self, wim: &Wim, tree: &Tree) -> Result<(), WimError> {
        let mut users: HashMap<Hash, Vec<u32>> = HashMap::new();
        for (inode, n) in tree.inodes.iter().zip(0_u32..) {
            match inode.kind {
                Kind::Directory => {}
                Kind::File if wim.size_of(&inode.hash) == Some(0) => self.bare.push(n),
                Kind::Special(_) => self.bare.push(n),
                Kind::File | Kind::Symlink(_) => {
                    let size = wim
                        .size_of(&inode.hash)
                        .ok_or_else(|| WimError::MissingBlob { file: shown(&tree.path_of(n)) })?;
                    if matches!(inode.kind, Kind::Symlink(_)) && (size == 0 || size > reparse::MAX_DATA) {
                        let why = "it is a link without a sound target";
                        return Err(WimError::Entry { path: shown(&tree.path_of(n)), why });
                    }
                    if inode.kind == Kind::File {
                        self.total = self.total.saturating_add(size);
                    }
                    users.entry(inode.hash).or_default().push(n);
                }
            }
        }
        for (hash, inodes) in users {
            let Some(blob) = wim.blobs.by_hash.get(&hash).copied() else { continue };
            let begin = self.users.len();
            self.users.extend(inodes);
            self.items.push(Item { hash, blob, users: (begin, self.users.len()), assembly: None });
        }
        Ok(())
    }

    /// No two blobs of a solid resource share bytes: a few chunks could otherwise be made to be written again and
    /// again. That resources share none was checked when the blob table was read.
    fn check_overlaps(&self, blobs: &Blobs, tree: &Tree) -> Result<(), WimError> {
        for (a, b) in self.items.iter().zip(self.items.iter().skip(1)) {
            let same_space = match (a.blob.location, b.blob.location) {
                (Location::Solid { resource: x, .. }, Location::Solid { resource: y, .. }) => x == y,
                _ => false,
            };
            if same_space && extent(&a.blob).1 > extent(&b.blob).0 {
                let offset = source_order(blobs, &b.blob).1;
                let why = format!(
                    "the contents of {} and {} share bytes",
                    self.shown_user(a, tree),
                    self.shown_user(b, tree)
                );
                return Err(WimError::Damaged { what: "the blob table", offset, why });
            }
        }
        Ok(())
    }

    /// A file that has these contents, for a message.
    pub(super) fn shown_user(&self, item: &Item, tree: &Tree) -> String {
        shown(&self.users(item).first().map(|n| tree.path_of(*n)).unwrap_or_default())
    }

    fn cut(&mut self, wim: &Wim, tree: &Tree) -> Result<(), WimError> {
        let mut at = 0;
        while let Some(item) = self.items.get(at) {
            match item.blob.location {
                Location::Solid { resource, .. } => at = self.cut_solid(&wim.blobs, resource, at),
                _ if item.blob.size > JOB => {
                    self.cut_large(&wim.header, at, tree)?;
                    at = at.saturating_add(1);
                }
                _ => at = self.batch(&wim.header, at, tree)?,
            }
        }
        Ok(())
    }

    /// One batch from item `first` on; gives the item behind it.
    fn batch(&mut self, header: &Header, first: usize, tree: &Tree) -> Result<usize, WimError> {
        let (mut end, mut out, mut begin, mut finish) = (first, 0_u64, None, 0);
        let part = self.items.get(first).map_or(1, |item| item.blob.part);
        for item in self.items.iter().skip(first) {
            let (from, to) = extent(&item.blob);
            let start = *begin.get_or_insert(from);
            let fits = end == first
                || (out.saturating_add(item.blob.size) <= JOB
                    && to.saturating_sub(start) <= JOB
                    && from.saturating_sub(finish) <= GAP);
            let is_apart = item.blob.part != part || matches!(item.blob.location, Location::Solid { .. });
            if is_apart || item.blob.size > JOB || !fits {
                break;
            }
            if let Location::Chunked { stored, .. } = item.blob.location {
                let chunked = Chunked { stored, size: item.blob.size, layout: header.layout() };
                chunked.table_len().map_err(|_| self.bad_table(item, tree))?;
            }
            out = out.saturating_add(item.blob.size);
            finish = to;
            end = end.saturating_add(1);
        }
        let offset = begin.unwrap_or(0);
        let len = finish.saturating_sub(offset);
        self.jobs.push(Job::Batch { first, end, part, offset, len });
        self.grant(len.saturating_add(JOB));
        Ok(end)
    }

    fn cut_large(&mut self, header: &Header, item: usize, tree: &Tree) -> Result<(), WimError> {
        let Some(found) = self.items.get(item) else { return Ok(()) };
        let chunk_size = part_size(&found.blob, header);
        let per_job = JOB.checked_div(chunk_size).unwrap_or(1).max(1);
        let table = match found.blob.location {
            Location::Chunked { stored, .. } => {
                let chunked = Chunked { stored, size: found.blob.size, layout: header.layout() };
                chunked.table_len().map_err(|_| self.bad_table(found, tree))?
            }
            _ => 0,
        };
        let chunks = found.blob.size.div_ceil(chunk_size);
        let mut chunk = 0;
        while chunk < chunks {
            let count = per_job.min(chunks.saturating_sub(chunk));
            self.jobs.push(Job::Part { item, chunk, count });
            chunk = chunk.saturating_add(count);
        }
        self.assemble(item);
        // Chunks are no longer than what they unpack to. The table is shared, and kept as eight bytes an entry.
        let job = per_job.saturating_mul(chunk_size);
        self.grant(job.saturating_mul(2).saturating_add(table.saturating_mul(3)));
        Ok(())
    }

    /// All jobs of one solid resource, whose first item is `first`; gives the item behind them.
    fn cut_solid(&mut self, blobs: &Blobs, resource: usize, first: usize) -> usize {
        let Some(solid) = blobs.solids.get(resource) else { return first.saturating_add(1) };
        // A power of two: the header was checked.
        let (chunk_size, shift) = (u64::from(solid.chunk_size), solid.chunk_size.trailing_zeros());
        let in_it = |item: &&Item| matches!(item.blob.location, Location::Solid { resource: r, .. } if r == resource);
        let end = first.saturating_add(self.items.iter().skip(first).take_while(in_it).count());
        let spans: Vec<(u64, u64)> = self
            .items
            .iter()
            .skip(first)
            .take(end.saturating_sub(first))
            .map(|item| extent(&item.blob))
            .map(|(from, to)| (from >> shift, to.saturating_sub(1) >> shift))
            .collect();
        let mut low = 0;
        for chunk in 0..solid.starts.len().saturating_sub(1) as u64 {
            // Items are in order and do not overlap, so both ends of those in a chunk only move forward.
            low = spans.iter().skip(low).position(|s| s.1 >= chunk).map_or(spans.len(), |n| low.saturating_add(n));
            let count = spans.iter().skip(low).take_while(|s| s.0 <= chunk).count();
            if count > 0 {
                let first = first.saturating_add(low);
                let chunk = usize::try_from(chunk).unwrap_or(usize::MAX);
                self.jobs.push(Job::Solid { resource, chunk, first, end: first.saturating_add(count) });
            }
        }
        for (item, span) in (first..end).zip(spans) {
            if span.0 != span.1 {
                self.assemble(item);
            }
        }
        self.grant(chunk_size.min(solid.size).saturating_mul(2));
        end
    }

    fn assemble(&mut self, item: usize) {
        if let Some(item) = self.items.get_mut(item) {
            item.assembly = Some(self.assemblies);
            self.assemblies = self.assemblies.saturating_add(1);
        }
    }

    fn grant(&mut self, bytes: u64) {
        self.worker_memory = self.worker_memory.max(bytes.saturating_add(Codec::MEMORY));
    }

    fn bad_table(&self, item: &Item, tree: &Tree) -> WimError {
        WimError::Decompress { file: self.shown_user(item, tree) }
    }
}

/// The size of the pieces that a large blob is made of: its chunks, or as much as a job where it is not compressed.
pub(super) fn part_size(blob: &Blob, header: &Header) -> u64 {
    match blob.location {
        Location::Chunked { .. } if header.compression != Compression::None => header.chunk_size.max(1).into(),
        _ => JOB,
    }
}

/// Begin and end of a blob, in the source or in its solid resource.
pub(super) fn extent(blob: &Blob) -> (u64, u64) {
    match blob.location {
        Location::Stored { offset } | Location::Solid { offset, .. } => (offset, offset.saturating_add(blob.size)),
        Location::Chunked { offset, stored } => (offset, offset.saturating_add(stored)),
    }
}

fn source_order(blobs: &Blobs, blob: &Blob) -> (u16, u64, usize, u64) {
    match blob.location {
        Location::Stored { offset } | Location::Chunked { offset, .. } => (blob.part, offset, 0, 0),
        Location::Solid { resource, offset } => {
            (blob.part, blobs.solids.get(resource).map_or(0, |s| s.offset), resource.saturating_add(1), offset)
        }
    }
}
