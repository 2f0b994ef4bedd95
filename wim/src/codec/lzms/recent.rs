//! The latest matches of one kind, which the next ones can repeat.
#![expect(clippy::indexing_slicing, reason = "indices are masked")]

/// What can be repeated, and one more.
const RECENT: usize = 4;

/// The latest matches, as a ring. A match is taken in after the item behind it only: that one could not repeat it. So,
/// directly behind a match, those that can be repeated begin one further.
pub(super) struct Recent<T> {
    ring: [T; RECENT],
    /// Where the latest one is in the ring; those before it follow.
    latest: usize,
    /// Where the latest match ended.
    end: usize,
}

impl<T: Copy> Recent<T> {
    pub(super) fn new(first: [T; RECENT]) -> Recent<T> {
        Recent { ring: first, latest: 0, end: usize::MAX }
    }

    /// Takes a new one in.
    #[inline(always)]
    pub(super) fn add(&mut self, new: T) {
        self.latest = self.latest.wrapping_sub(1);
        self.ring[self.latest & (RECENT - 1)] = new;
    }

    /// Makes one of the three that can be repeated at `at` the latest.
    #[inline(always)]
    pub(super) fn repeat(&mut self, which: usize, at: usize) -> T {
        let place = which + usize::from(self.end == at);
        let chosen = self.ring[self.latest.wrapping_add(place) & (RECENT - 1)];
        for younger in (0..place).rev() {
            let to = self.latest.wrapping_add(younger + 1) & (RECENT - 1);
            self.ring[to] = self.ring[self.latest.wrapping_add(younger) & (RECENT - 1)];
        }
        self.ring[self.latest & (RECENT - 1)] = chosen;
        chosen
    }

    /// Says where the latest match ended.
    #[inline(always)]
    pub(super) fn ended(&mut self, at: usize) {
        self.end = at;
    }
}
