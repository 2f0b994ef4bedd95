//! How many threads and how much memory decompressing an archive may take, and what it takes.

use std::num::NonZeroUsize;

use super::queue::{Limits, PIECE};
use crate::root::{DEFAULT_MEMORY_BUDGET, UnpackOptions};

/// What decoders and pieces take at most, unless a single frame needs more: this much is promised beside the tree.
const MOST_MEMORY: u64 = 30 << 20;
/// What a further decoder may be ahead by: a frame as pzstd makes it, of four windows of 2 MiB.
const AHEAD: u64 = 8 << 20;
/// What the only decoder may be ahead by: files are written in bursts.
const AHEAD_ALONE: u64 = 4 << 20;

/// Pieces of the front frame whatever the budget is: in the hands of its decoder and of the parser, and on their way.
const IN_HAND: u64 = 4 * PIECE as u64;

/// How to decompress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Threads.
    pub(super) decoders: NonZeroUsize,
    pub(super) limits: Limits,
}

impl Effort {
    /// As much as these options allow.
    pub(super) fn new(options: &UnpackOptions<'_>) -> Effort {
        let wanted = options.workers.or_else(|| std::thread::available_parallelism().ok());
        let decoders = wanted.unwrap_or(NonZeroUsize::MIN);
        let memory = options.memory_budget.unwrap_or(DEFAULT_MEMORY_BUDGET).min(MOST_MEMORY);
        let others = (decoders.get() as u64).saturating_sub(1);
        let ahead = others.saturating_mul(AHEAD).max(AHEAD_ALONE).min(memory);
        Effort { decoders, limits: Limits { memory, ahead, frame: AHEAD.min(ahead) } }
    }

    /// For a look at the beginning.
    pub(super) fn least() -> Effort {
        Effort { decoders: NonZeroUsize::MIN, limits: Limits { memory: 0, ahead: 0, frame: 0 } }
    }

    /// Threads that work on a stream, the parser's among them.
    pub(super) fn threads(&self, seen: &Seen) -> u32 {
        let decoders = seen.frames.min(self.decoders.get() as u64);
        u32::try_from(decoders).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Memory that decompressing takes at most, where it turned out as `seen`.
    pub(super) fn memory(&self, seen: &Seen) -> u64 {
        let decoders = seen.frames.min(self.decoders.get() as u64);
        // The last piece of each frame is with the parser, or with its decoder.
        let ahead = seen.frames.saturating_mul(self.limits.frame).saturating_add(IN_HAND).min(self.limits.ahead);
        let needed = decoders.saturating_mul(seen.largest).saturating_add(ahead);
        // One frame is decompressed whatever it takes.
        needed.min(self.limits.memory.max(seen.largest.saturating_add(IN_HAND)))
    }
}

/// What decompressing has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) frames: u64,
    /// Memory of the largest decoder.
    pub(super) largest: u64,
    /// Frames without a checksum.
    pub(super) unchecked: u64,
}
