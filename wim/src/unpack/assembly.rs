//! A blob whose contents come from several jobs: every worker writes its part where it belongs, and the hash, which can
//! only run forward, is passed from part to part. Jobs are handed out in the order of the source, so the part that the
//! hash waits for is always in some worker's hands: waiting ends.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sha1::{Digest, Sha1};

use crate::blob::Hash;

#[derive(Default)]
pub(super) struct Assembly {
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    /// Offset of each chunk in the resource, read by the first worker that needs it.
    table: Option<Arc<[u64]>>,
    hasher: Option<Sha1>,
    /// Contents up to here are hashed.
    hashed: u64,
    stopped: bool,
}

/// What became of a part.
pub(super) enum Turn {
    /// There is more to come.
    NotLast,
    /// It was the last: this is the hash of all, and the file that holds it.
    Last(Hash, Option<Arc<File>>),
    /// Another worker failed; nothing will come of this blob.
    Stopped,
}

impl Assembly {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that the parts are written to, made by whoever comes first.
    pub(super) fn file<E>(&self, make: impl FnOnce() -> Result<File, E>) -> Result<Arc<File>, E> {
        let mut state = self.lock();
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(make()?);
        state.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The chunk table, read by whoever comes first.
    pub(super) fn table<E>(&self, read: impl FnOnce() -> Result<Vec<u64>, E>) -> Result<Arc<[u64]>, E> {
        let mut state = self.lock();
        if let Some(table) = &state.table {
            return Ok(Arc::clone(table));
        }
        let table: Arc<[u64]> = read()?.into();
        state.table = Some(Arc::clone(&table));
        Ok(table)
    }

    /// Hashes the part `data` at `offset` once all before it is hashed; `size` is that of the whole blob.
    pub(super) fn hash(&self, offset: u64, data: &[u8], size: u64) -> Turn {
        let mut state = self.lock();
        while state.hashed != offset && !state.stopped {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return Turn::Stopped;
        }
        let mut hasher = state.hasher.take().unwrap_or_default();
        drop(state);
        hasher.update(data);
        let mut state = self.lock();
        state.hashed = offset.saturating_add(data.len() as u64);
        let turn = if state.hashed == size {
            state.table = None;
            Turn::Last(hasher.finalize().into(), state.file.take())
        } else {
            state.hasher = Some(hasher);
            Turn::NotLast
        };
        drop(state);
        self.turn.notify_all();
        turn
    }

    /// Wakes all who wait: the part that they wait for will not come.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.turn.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_give_the_hash_of_the_whole() {
        let data: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let assembly = Assembly::default();
        let last = Mutex::new(None);
        std::thread::scope(|scope| {
            for (n, part) in data.chunks(10_000).enumerate().collect::<Vec<_>>().into_iter().rev() {
                let (assembly, last, size) = (&assembly, &last, data.len() as u64);
                scope.spawn(move || {
                    if let Turn::Last(hash, _) = assembly.hash(n as u64 * 10_000, part, size) {
                        *last.lock().unwrap() = Some(hash);
                    }
                });
            }
        });
        assert_eq!(last.into_inner().unwrap(), Some(Hash::from(Sha1::digest(&data))));
    }

    #[test]
    fn a_stop_ends_all_waiting() {
        let assembly = Assembly::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(assembly.hash(5, b"x", 10), Turn::Stopped));
            assembly.stop();
            assert!(waiting.join().unwrap());
        });
    }
}
