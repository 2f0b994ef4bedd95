//! A SHA-1 that runs through several jobs: it can only run forward, so that each worker waits for those before it. Jobs
//! are handed out in order, and what a job waits for is in some worker's hands, who finishes it or breaks the chain:
//! waiting ends.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use sha1::{Digest, Sha1};

use crate::blob::Hash;

#[derive(Debug, Default)]
pub(super) struct Chain {
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Debug, Default)]
struct State {
    hasher: Sha1,
    /// Contents up to here are hashed.
    at: u64,
    broken: bool,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// There is more to come.
    More,
    /// It was the last: the hash of all.
    Whole(Hash),
    /// Some other part cannot be had.
    Broken,
}

impl Chain {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes `data`, which stands at `at` of `size` bytes, once all before it is hashed.
    pub(super) fn feed(&self, at: u64, data: &[u8], size: u64) -> Fed {
        let mut state = self.lock();
        while state.at != at && !state.broken {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.broken {
            return Fed::Broken;
        }
        // Nobody else gets on before `at` moves, so the hasher can be away from its place.
        let mut hasher = std::mem::take(&mut state.hasher);
        drop(state);
        hasher.update(data);
        let mut state = self.lock();
        state.at = at.saturating_add(data.len() as u64);
        let fed = if state.at == size {
            Fed::Whole(hasher.finalize().into())
        } else {
            state.hasher = hasher;
            Fed::More
        };
        drop(state);
        self.turn.notify_all();
        fed
    }

    /// Whether some part will not come.
    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// Says that a part will not come; whether this is the first that does not.
    pub(super) fn fail(&self) -> bool {
        let first = !std::mem::replace(&mut self.lock().broken, true);
        self.turn.notify_all();
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_give_the_hash_of_the_whole() {
        let data: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let (chain, size) = (Chain::default(), data.len() as u64);
        let fed: Vec<Fed> = std::thread::scope(|scope| {
            let parts: Vec<(usize, &[u8])> = data.chunks(10_000).enumerate().collect();
            let feed = |(n, part)| chain.feed(n as u64 * 10_000, part, size);
            let threads: Vec<_> = parts.into_iter().rev().map(|part| scope.spawn(move || feed(part))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(fed[0], Fed::Whole(Sha1::digest(&data).into()));
        assert!(fed[1..].iter().all(|fed| *fed == Fed::More));
    }

    #[test]
    fn a_part_that_does_not_come_ends_all_waiting() {
        let chain = Chain::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| chain.feed(5, b"x", 10));
            assert!(chain.fail() && !chain.fail());
            assert_eq!(waiting.join().unwrap(), Fed::Broken);
        });
    }
}
