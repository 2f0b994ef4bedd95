//! All contents of a WIM against their SHA-1s, by all workers in the order of the source. Nothing stops at the first
//! damage: what is found is collected.
//!
//! ```text
//!   blob table ──► items in source order ──► cursor: next job ──► worker │ worker │ …   read, unpack, hash
//!                                                                    └──────┴──► damaged: SHA-1, why
//! ```
//!
//! Jobs are made when a worker asks for one, so that they take no memory; a blob that lies in several is hashed through
//! a [`Chain`].

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha1::{Digest, Sha1};

use super::chain::{Chain, Fed};
use crate::blob::{Blob, Hash, Location};
use crate::codec::Codec;
use crate::contents::{BAD_TABLE, Contents, PIECE, Unread, has_table, piece_len, slice, source_order};
use crate::error::WimError;
use crate::reader::Wim;
use crate::reparse;
use crate::root::{DEFAULT_MEMORY_BUDGET, UnpackOptions};

/// Damaged contents that are told one by one; of the others the number is kept.
pub(super) const MOST_TOLD: usize = 1000;

const UNSOUND_LINK: &str = "it is no sound target of a link";
const SHARED: &str = "it shares bytes with other contents";

/// Damage by SHA-1, bounded.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    pub(super) told: BTreeMap<Hash, String>,
    pub(super) untold: u64,
}

impl Damaged {
    pub(super) fn add(&mut self, hash: Hash, why: String) {
        if self.told.contains_key(&hash) {
            return;
        }
        if self.told.len() < MOST_TOLD {
            self.told.insert(hash, why);
        } else {
            self.untold = self.untold.saturating_add(1);
        }
    }
}

struct Item {
    hash: Hash,
    blob: Blob,
}

/// Everything there is to check.
pub(super) struct Check<'a> {
    wim: &'a Wim,
    /// Contents that are reparse data of a link with this tag, and have to make sense as such.
    links: &'a HashSet<(Hash, u32)>,
    items: Vec<Item>,
    /// Sum of their sizes.
    pub(super) bytes: u64,
    worker_memory: u64,
    damaged: Mutex<Damaged>,
    /// Links whose contents came in pieces.
    scattered: Mutex<Vec<usize>>,
    failure: Mutex<Option<WimError>>,
    stopped: AtomicBool,
}

/// Where the next job begins.
#[derive(Default)]
struct Cursor {
    item: usize,
    /// Bytes of this item that earlier jobs have.
    within: u64,
    /// The item's chain, where it has one.
    chain: Option<Arc<Chain>>,
}

enum Job {
    /// Small blobs, each whole.
    Whole(Range<usize>),
    /// A piece of a large one.
    Piece { item: usize, from: u64, len: u64, chain: Arc<Chain> },
    /// A chunk of a solid resource, and the items that lie in it: the first may have begun before it, the last may go
    /// on behind it.
    Solid { resource: usize, chunk: u64, items: Range<usize>, first: Option<Arc<Chain>>, last: Option<Arc<Chain>> },
}

/// Breaks the chains of a job that does not come to its end: others may be waiting for it.
struct Unfinished<'a>(&'a Job);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let (first, last) = match self.0 {
            Job::Whole(_) => (None, None),
            Job::Piece { chain, .. } => (Some(chain), None),
            Job::Solid { first, last, .. } => (first.as_ref(), last.as_ref()),
        };
        for chain in first.into_iter().chain(last) {
            chain.fail();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Check<'a> {
    pub(super) fn new(wim: &'a Wim, links: &'a HashSet<(Hash, u32)>) -> Check<'a> {
        let mut all: Vec<Item> =
            wim.blobs.by_hash.iter().map(|(hash, blob)| Item { hash: *hash, blob: *blob }).collect();
        all.sort_unstable_by_key(|item| source_order(wim, &item.blob));
        let mut damaged = Damaged::default();
        // A few bytes that claim to be terabytes would cost a job for each piece of those.
        all.retain(|Item { hash, blob }| {
            let is_bounded = has_table(wim, blob);
            if !is_bounded {
                damaged.add(*hash, BAD_TABLE.into());
            }
            is_bounded
        });
        // In a solid resource a few chunks could be made to be hashed again and again, as different contents.
        let mut end = (usize::MAX, 0);
        all.retain(|Item { hash, blob }| {
            let Location::Solid { resource, offset } = blob.location else { return true };
            if end.0 == resource && offset < end.1 {
                damaged.add(*hash, SHARED.into());
                return false;
            }
            end = (resource, offset.saturating_add(blob.size));
            true
        });
        let solid = |resource: usize| wim.blobs.solids.get(resource).map_or(0, |s| s.size.min(s.chunk_size.into()));
        let job = |item: &Item| match item.blob.location {
            Location::Solid { resource, .. } => solid(resource).saturating_mul(2),
            // A table has at most eight bytes for a chunk, which are read apart from it.
            _ => piece_len(wim, &item.blob).saturating_mul(2),
        };
        let worker_memory = all.iter().map(job).max().unwrap_or(0).saturating_add(Codec::MEMORY);
        Check {
            wim,
            links,
            bytes: all.iter().fold(0, |sum, item| sum.saturating_add(item.blob.size)),
            items: all,
            worker_memory,
            damaged: Mutex::new(damaged),
            scattered: Mutex::default(),
            failure: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Blobs that are checked.
    pub(super) fn count(&self) -> u64 {
        self.items.len() as u64
    }

    /// As many as are asked for, and as the memory budget has buffers for; at least one.
    pub(super) fn workers(&self, options: &UnpackOptions<'_>) -> NonZeroUsize {
        let wanted = options.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let budget = options.memory_budget.unwrap_or(DEFAULT_MEMORY_BUDGET);
        let affordable = budget.checked_div(self.worker_memory).unwrap_or(u64::MAX);
        let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
        wanted.min(NonZeroUsize::new(affordable).unwrap_or(NonZeroUsize::MIN))
    }

    /// Checks all; an error is one that leaves no hope for the rest, such as memory that is not there.
    pub(super) fn run(self, workers: NonZeroUsize, advance: &(dyn Fn(u64) + Sync)) -> Result<Damaged, WimError> {
        let cursor = Mutex::new(Cursor::default());
        std::thread::scope(|scope| {
            for n in 1..workers.get() {
                // A thread that cannot be had is one worker less.
                let _ = std::thread::Builder::new()
                    .name(format!("verify {n}"))
                    .spawn_scoped(scope, || self.work(&cursor, advance));
            }
            self.work(&cursor, advance);
        });
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        self.check_scattered()?;
        Ok(self.damaged.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn work(&self, cursor: &Mutex<Cursor>, advance: &(dyn Fn(u64) + Sync)) {
        let mut contents = Contents::new(self.wim);
        while !self.stopped.load(Ordering::Relaxed) {
            let next = self.next(&mut lock(cursor));
            let Some(job) = next else { return };
            let unfinished = Unfinished(&job);
            match self.job(&mut contents, &job, advance) {
                Ok(()) => std::mem::forget(unfinished),
                Err(error) => {
                    self.stopped.store(true, Ordering::Relaxed);
                    lock(&self.failure).get_or_insert(error);
                }
            }
        }
    }

    fn next(&self, cursor: &mut Cursor) -> Option<Job> {
        let Item { blob, .. } = self.items.get(cursor.item)?;
        let begin = cursor.item;
        match blob.location {
            Location::Solid { resource, offset } => self.next_solid(cursor, resource, offset),
            _ if blob.size > PIECE => {
                let chain = cursor.chain.take().unwrap_or_default();
                let from = cursor.within;
                let left = blob.size.saturating_sub(from);
                let len = left.min(piece_len(self.wim, blob));
                // Once a piece is damaged, the others tell nothing.
                if len == left || chain.is_broken() {
                    *cursor = Cursor { item: begin.saturating_add(1), ..Cursor::default() };
                } else {
                    cursor.within = from.saturating_add(len);
                    cursor.chain = Some(Arc::clone(&chain));
                }
                Some(Job::Piece { item: begin, from, len, chain })
            }
            _ => {
                let mut bytes = 0_u64;
                let fits = |item: &&Item| {
                    bytes = bytes.saturating_add(item.blob.size);
                    bytes <= PIECE && !matches!(item.blob.location, Location::Solid { .. })
                };
                let count = self.items.iter().skip(begin).take_while(fits).count().max(1);
                cursor.item = begin.saturating_add(count);
                Some(Job::Whole(begin..cursor.item))
            }
        }
    }

    fn next_solid(&self, cursor: &mut Cursor, resource: usize, offset: u64) -> Option<Job> {
        let size = u64::from(self.wim.blobs.solids.get(resource)?.chunk_size.max(1));
        let begin = cursor.item;
        let chunk = offset.saturating_add(cursor.within).checked_div(size)?;
        let chunk_end = chunk.saturating_add(1).saturating_mul(size);
        let in_it = |item: &&Item| match item.blob.location {
            Location::Solid { resource: r, offset } => r == resource && offset < chunk_end,
            _ => false,
        };
        let end = begin.saturating_add(self.items.iter().skip(begin).take_while(in_it).count());
        let at_last = end.saturating_sub(1);
        let last = self.items.get(at_last).map(|item| (item.blob.location, item.blob.size));
        let first = cursor.chain.take();
        let goes_on = match last {
            Some((Location::Solid { offset, .. }, size)) if offset.saturating_add(size) > chunk_end => {
                Some(chunk_end.saturating_sub(offset))
            }
            _ => None,
        };
        let last = match goes_on {
            Some(within) => {
                // One that fills the whole chunk keeps the chain that it came with.
                let chain = first.clone().filter(|_| at_last == begin).unwrap_or_default();
                *cursor = Cursor { item: at_last, within, chain: Some(Arc::clone(&chain)) };
                Some(chain)
            }
            None => {
                *cursor = Cursor { item: end, ..Cursor::default() };
                None
            }
        };
        Some(Job::Solid { resource, chunk, items: begin..end, first, last })
    }

    fn job(&self, contents: &mut Contents<'_>, job: &Job, advance: &(dyn Fn(u64) + Sync)) -> Result<(), WimError> {
        match job {
            Job::Whole(items) => {
                for item in self.items.get(items.clone()).unwrap_or_default() {
                    match contents.piece(&item.blob, 0, item.blob.size) {
                        Ok(bytes) => self.whole(item, bytes),
                        Err(unread) => self.unread(item, unread)?,
                    }
                    advance(item.blob.size);
                }
            }
            Job::Piece { item, from, len, chain } => {
                if let Some(item) = self.items.get(*item) {
                    match contents.piece(&item.blob, *from, *len) {
                        Ok(bytes) => self.feed(chain, item, *from, bytes),
                        Err(unread) if chain.fail() => self.unread(item, unread)?,
                        Err(_) => {}
                    }
                }
                advance(*len);
            }
            Job::Solid { resource, chunk, items, first, last } => {
                let size = self.wim.blobs.solids.get(*resource).map_or(0, |s| s.chunk_size);
                let begin = chunk.saturating_mul(size.into());
                let number = usize::try_from(*chunk).unwrap_or(usize::MAX);
                let unpacked = contents.solid_chunk(*resource, number);
                let found = match unpacked {
                    Ok(bytes) => Ok((begin, bytes)),
                    Err(unread) => Err(unread.why()?),
                };
                let chain_of = |n: usize| match (n, first, last) {
                    (n, Some(first), _) if n == items.start => Some(first),
                    (n, _, Some(last)) if n.saturating_add(1) == items.end => Some(last),
                    _ => None,
                };
                // Those that are whole here first: nobody has to be waited for.
                let order = items.clone().filter(|n| chain_of(*n).is_none());
                for n in order.chain(items.clone().filter(|n| chain_of(*n).is_some())) {
                    if let Some(item) = self.items.get(n) {
                        self.in_solid(item, &found, chain_of(n));
                    }
                }
                advance(self.solid_bytes(items.clone(), begin, begin.saturating_add(size.into())));
            }
        }
        Ok(())
    }

    /// What of an item lies in a chunk, which begins at `found.0` of the resource.
    fn in_solid(&self, item: &Item, found: &Result<(u64, &[u8]), String>, chain: Option<&Arc<Chain>>) {
        let Location::Solid { offset, .. } = item.blob.location else { return };
        let bytes = found.as_ref().map_err(Clone::clone).and_then(|(begin, bytes)| {
            let end = offset.saturating_add(item.blob.size).min(begin.saturating_add(bytes.len() as u64));
            let from = offset.max(*begin);
            let part = slice(bytes, from.saturating_sub(*begin), end.saturating_sub(*begin));
            part.map(|part| (from.saturating_sub(offset), part)).ok_or_else(|| "it lies outside its resource".into())
        });
        match (bytes, chain) {
            (Ok((_, bytes)), None) => self.whole(item, bytes),
            (Ok((from, bytes)), Some(chain)) => self.feed(chain, item, from, bytes),
            (Err(why), None) => self.damaged(item, why),
            (Err(why), Some(chain)) => {
                if chain.fail() {
                    self.damaged(item, why);
                }
            }
        }
    }

    fn solid_bytes(&self, items: Range<usize>, begin: u64, end: u64) -> u64 {
        self.items.get(items).unwrap_or_default().iter().fold(0, |sum, item| {
            let Location::Solid { offset, .. } = item.blob.location else { return sum };
            let last = offset.saturating_add(item.blob.size).min(end);
            sum.saturating_add(last.saturating_sub(offset.max(begin)))
        })
    }

    fn whole(&self, item: &Item, bytes: &[u8]) {
        if Hash::from(Sha1::digest(bytes)) != item.hash {
            self.damaged(item, super::WRONG_HASH.into());
        } else {
            self.check_link(item, bytes);
        }
    }

    fn feed(&self, chain: &Chain, item: &Item, from: u64, bytes: &[u8]) {
        match chain.feed(from, bytes, item.blob.size) {
            Fed::Whole(hash) if hash != item.hash => self.damaged(item, super::WRONG_HASH.into()),
            Fed::Whole(_) if self.tags(item).next().is_some() => {
                let number = self.items.iter().position(|other| std::ptr::eq(other, item));
                lock(&self.scattered).extend(number);
            }
            Fed::Whole(_) | Fed::More | Fed::Broken => {}
        }
    }

    fn tags(&self, item: &Item) -> impl Iterator<Item = u32> {
        [reparse::SYMLINK, reparse::JUNCTION].into_iter().filter(|tag| self.links.contains(&(item.hash, *tag)))
    }

    fn check_link(&self, item: &Item, bytes: &[u8]) {
        let is_sound = |tag| bytes.len() as u64 <= reparse::MAX_DATA && reparse::target(tag, bytes).is_some();
        if !self.tags(item).all(is_sound) {
            self.damaged(item, UNSOUND_LINK.into());
        }
    }

    /// Links that cross chunks: at most one a chunk of the solid resources.
    fn check_scattered(&self) -> Result<(), WimError> {
        let mut contents = Contents::new(self.wim);
        for item in lock(&self.scattered).iter().filter_map(|n| self.items.get(*n)) {
            let mut whole = Vec::new();
            if item.blob.size <= reparse::MAX_DATA {
                let read = contents.read(&item.blob, |piece| {
                    whole.extend_from_slice(piece);
                    Ok::<_, Unread>(())
                });
                read.map_err(|unread| unread.of(String::new))?;
            }
            self.check_link(item, &whole);
        }
        Ok(())
    }

    fn unread(&self, item: &Item, unread: Unread) -> Result<(), WimError> {
        self.damaged(item, unread.why()?);
        Ok(())
    }

    fn damaged(&self, item: &Item, why: String) {
        lock(&self.damaged).add(item.hash, why);
    }
}
