//! Gives an image's memory back while it is unpacked: what lies before the earliest job that is not done yet is punched
//! out of the file. So image and tree need not both fit into memory: jobs run in the order of the source, and at any
//! time only what is still to come, and what the workers hold, is there twice.
//!
//! For a file in a tmpfs, as those of an initramfs are. On storage it would save nothing and destroy the image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, StatVfsMountFlags, fallocate, fstatfs, fstatvfs};
use rustix::io::Errno;

/// Holes are made in steps of this size: often enough to matter, seldom enough to cost nothing.
pub(crate) const STEP: u64 = 1 << 20;
/// `<linux/magic.h>`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The files of an image, eaten up from the first byte of the first to the last of the last.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    /// Each with its place in all of them, taken as one.
    files: Vec<(Range<u64>, File)>,
    /// All before this is a hole.
    freed: u64,
    /// The file system does not make holes, or no longer does.
    refused: bool,
}

/// What of an image the jobs of its unpacking need no more.
#[derive(Debug)]
pub(crate) struct Consumed {
    /// Where each of the files begins and ends, all taken as one.
    places: Vec<Range<u64>>,
    /// So many jobs, counted from the earliest that is not done, may be begun.
    window: usize,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The earliest job that is not done.
    next: usize,
    /// Later jobs that are done, and where each ended in the source.
    done: BTreeMap<usize, u64>,
    /// Nothing before this is needed any more.
    end: u64,
    holes: Holes,
    stopped: bool,
}

/// Whether the file at `path` lies in a tmpfs and may be written, so that unpacking can free it as it goes.
pub(crate) fn is_consumable(path: &Path) -> bool {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return false };
    let in_memory = fstatfs(&file).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS_MAGIC));
    let writable = fstatvfs(&file).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::RDONLY));
    in_memory && writable
}

/// What is freed of a source of which nothing before `end` is needed.
pub(crate) fn whole_steps(end: u64) -> u64 {
    end.saturating_sub(end % STEP)
}

impl Holes {
    /// Opens `files`, the parts of an image with their lengths, to make holes in them.
    pub(crate) fn open(files: &[(PathBuf, u64)]) -> Result<Holes, (PathBuf, io::Error)> {
        let mut opened = Vec::new();
        let mut begin = 0_u64;
        for (path, len) in files {
            let file = File::options().read(true).write(true).open(path).map_err(|error| (path.clone(), error))?;
            let end = begin.saturating_add(*len);
            opened.push((begin..end, file));
            begin = end;
        }
        Ok(Holes { files: opened, ..Holes::default() })
    }

    /// Nothing before `end` is needed any more.
    pub(crate) fn free_to(&mut self, end: u64) {
        let (from, to) = (self.freed, whole_steps(end));
        if !self.refused && from < to {
            // Refused, it stays until it is removed as a whole: no harm, but for the memory.
            self.refused = self.punch(from, to).is_err();
            self.freed = to;
        }
    }

    fn punch(&self, from: u64, to: u64) -> Result<(), Errno> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for (place, file) in &self.files {
            let (from, to) = (from.max(place.start), to.min(place.end));
            if from < to {
                fallocate(file, flags, from.saturating_sub(place.start), to.saturating_sub(from))?;
            }
        }
        Ok(())
    }
}

impl Consumed {
    /// Makes `holes` as jobs end. Of all jobs, `window` at most are begun and not freed at any time: this is what the need
    /// of memory relies on.
    pub(crate) fn new(holes: Holes, window: usize) -> Consumed {
        let places = holes.files.iter().map(|(place, _)| place.clone()).collect();
        let state = Mutex::new(State { holes, ..State::default() });
        Consumed { places, window, state, moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until job number `job` may begin. The earliest job never waits, so that all get their turn.
    pub(crate) fn begin(&self, job: usize) {
        let mut state = self.lock();
        while job >= state.next.saturating_add(self.window) && !state.stopped {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Job number `job`, which took the source up to `end` of this part, needs none of it any more.
    pub(crate) fn finished(&self, job: usize, part: u16, end: u64) {
        let place = self.places.get(usize::from(part.saturating_sub(1)));
        let end = place.map_or(0, |place| place.start.saturating_add(end).min(place.end));
        let mut state = self.lock();
        state.done.insert(job, end);
        let mut next = state.next;
        while let Some(end) = state.done.remove(&next) {
            state.end = state.end.max(end);
            next = next.saturating_add(1);
        }
        if next != state.next {
            state.next = next;
            self.moved.notify_all();
        }
        let end = state.end;
        state.holes.free_to(end);
    }

    /// Wakes all who wait: the job that they wait for will not end.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.moved.notify_all();
    }
}
