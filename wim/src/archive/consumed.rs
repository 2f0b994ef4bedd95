//! Frees an archive while it is unpacked, as [`crate::unpack::consume`] does it for a WIM: nothing is read again that a
//! decoder has taken, so all before the earliest frame that is not decompressed is of no use, nor is what its own decoder
//! has taken of it. A piece is handed on only after this was told: when it is written, at least that is freed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::unpack::consume::Holes;

pub(super) struct Consumed(Mutex<State>);

struct State {
    holes: Holes,
    /// Frames that are being decompressed, each with the place in the source that its decoder has come to.
    frames: BTreeMap<u64, u64>,
    /// The furthest place that any decoder has come to.
    furthest: u64,
}

impl Consumed {
    pub(super) fn new(holes: Holes) -> Consumed {
        Consumed(Mutex::new(State { holes, frames: BTreeMap::new(), furthest: 0 }))
    }

    /// The decoder of this frame has come to `at`. Frames begin in their order: this is told of each before the next one
    /// may be looked for.
    pub(super) fn reached(&self, frame: u64, at: u64) {
        self.change(at, |frames| frames.insert(frame, at));
    }

    /// This frame, which ends at `at`, is decompressed.
    pub(super) fn ended(&self, frame: u64, at: u64) {
        self.change(at, |frames| frames.remove(&frame));
    }

    fn change(&self, at: u64, change: impl FnOnce(&mut BTreeMap<u64, u64>) -> Option<u64>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.frames);
        state.furthest = state.furthest.max(at);
        let end = state.frames.values().next().copied().unwrap_or(state.furthest);
        state.holes.free_to(end);
    }
}
