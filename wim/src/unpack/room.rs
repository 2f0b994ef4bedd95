//! How much room an unpacking takes, known before it begins: what the tree fills of a tmpfs, and how much of a source
//! that is consumed has been given back when tree and source together take most.

use super::consume;
use super::plan::{Item, Job, Plan, extent, part_size};
use crate::meta::{pages, symlink_pages};
use crate::reader::Wim;
use crate::tree::{Inode, Kind, Tree};

/// Bytes of tmpfs that the tree takes, without the kernel's own memory for inodes.
pub(super) fn tmpfs_bytes(wim: &Wim, tree: &Tree) -> u64 {
    tree.inodes.iter().fold(0, |sum, inode| sum.saturating_add(inode_bytes(inode, wim.size_of(&inode.hash))))
}

/// Bytes of tmpfs that one inode takes, whose contents or reparse data have this size.
fn inode_bytes(inode: &Inode, size: Option<u64>) -> u64 {
    let size = size.unwrap_or(0);
    match inode.kind {
        Kind::File => pages(size),
        // Reparse data holds the target twice in UTF-16, and a few bytes more.
        Kind::Symlink(_) => symlink_pages(size / 4),
        _ => 0,
    }
}

impl Plan {
    /// Bytes of its own that a consumed source has given back at the moment when tree and source together take most
    /// memory, while `window` jobs at most are begun and not freed; see [`super::consume`].
    pub(super) fn freed(&self, wim: &Wim, tree: &Tree, window: usize) -> u64 {
        let mut written = 0_u64;
        // What is in the tmpfs at most when all jobs before a job's window are begun, and where each job begins.
        let (mut after, mut begins) = (Vec::with_capacity(self.jobs.len()), Vec::with_capacity(self.jobs.len()));
        let before: Vec<u64> =
            wim.lengths().scan(0, |sum: &mut u64, len| Some(std::mem::replace(sum, sum.saturating_add(len)))).collect();
        let place = |(part, at): (u16, u64)| {
            before.get(usize::from(part.saturating_sub(1))).map_or(0, |before| before.saturating_add(at))
        };
        for job in &self.jobs {
            written = written.saturating_add(self.job_bytes(job, wim, tree));
            after.push(written);
            begins.push(place(self.job_begin(job, wim)));
        }
        begins.push(self.jobs.last().map_or(0, |job| place(self.job_end(job, wim))));
        let most = begins.iter().enumerate().map(|(earliest, begin)| {
            let last = earliest.saturating_add(window).min(after.len()).checked_sub(1);
            let there = last.and_then(|n| after.get(n)).copied().unwrap_or(0);
            // What remains of the source is not in memory twice; only what was freed makes room.
            i128::from(there).saturating_sub(i128::from(consume::whole_steps(*begin)))
        });
        let most = most.max().unwrap_or(0);
        u64::try_from(i128::from(written).saturating_sub(most)).unwrap_or(0)
    }

    /// Bytes of tmpfs that a job fills, at most.
    fn job_bytes(&self, job: &Job, wim: &Wim, tree: &Tree) -> u64 {
        let user = |n: &u32| tree.inode(*n).map_or(0, |inode| inode_bytes(inode, wim.size_of(&inode.hash)));
        let all = |users: &[u32]| users.iter().map(user).fold(0, u64::saturating_add);
        // The last piece of a blob brings copies for all further files that have these contents.
        let copies = |item: &Item| all(self.users(item).get(1..).unwrap_or_default());
        match *job {
            Job::Batch { first, end, .. } => {
                let items = self.items.get(first..end).unwrap_or_default();
                items.iter().map(|item| all(self.users(item))).fold(0, u64::saturating_add)
            }
            Job::Solid { first, end, resource, chunk } => {
                let size = wim.blobs.solids.get(resource).map_or(0, |solid| solid.chunk_size.into());
                let begin = (chunk as u64).saturating_mul(size);
                let until = begin.saturating_add(size);
                let piece = |item: &Item| {
                    let (from, to) = extent(&item.blob);
                    let here = pages(to.min(until).saturating_sub(from.max(begin)));
                    here.saturating_add(if to <= until { copies(item) } else { 0 })
                };
                self.items.get(first..end).unwrap_or_default().iter().map(piece).fold(0, u64::saturating_add)
            }
            Job::Part { item, chunk, count } => {
                let Some(found) = self.items.get(item) else { return 0 };
                let size = part_size(&found.blob, &wim.header);
                let left = found.blob.size.saturating_sub(chunk.saturating_mul(size));
                let bytes = pages(count.saturating_mul(size).min(left));
                let last = chunk.saturating_add(count).saturating_mul(size) >= found.blob.size;
                bytes.saturating_add(if last { copies(found) } else { 0 })
            }
        }
    }

    /// In which part of the source a job begins, and where, or before.
    fn job_begin(&self, job: &Job, wim: &Wim) -> (u16, u64) {
        match *job {
            Job::Batch { part, offset, .. } => (part, offset),
            Job::Solid { resource, chunk, .. } => chunk_start(wim, resource, chunk),
            Job::Part { item, chunk, .. } => {
                let Some(found) = self.items.get(item) else { return (1, 0) };
                let (from, to) = extent(&found.blob);
                // Chunks are no longer than what they unpack to, and tables take 12 bytes at most for one of 4 KiB: so
                // much of the source is left, or less.
                let done = chunk.saturating_mul(part_size(&found.blob, &wim.header));
                let left = found.blob.size.saturating_sub(done).saturating_add(found.blob.size >> 8);
                (found.blob.part, from.max(to.saturating_sub(left)))
            }
        }
    }

    fn job_end(&self, job: &Job, wim: &Wim) -> (u16, u64) {
        match *job {
            Job::Batch { part, offset, len, .. } => (part, offset.saturating_add(len)),
            Job::Solid { resource, chunk, .. } => chunk_start(wim, resource, chunk.saturating_add(1)),
            Job::Part { item, .. } => self.items.get(item).map_or((1, 0), |i| (i.blob.part, extent(&i.blob).1)),
        }
    }
}

fn chunk_start(wim: &Wim, resource: usize, chunk: usize) -> (u16, u64) {
    let solid = wim.blobs.solids.get(resource);
    solid.map_or((1, 0), |solid| (solid.part, solid.starts.get(chunk).copied().unwrap_or(0)))
}
