//! The bits that choose between kinds of items: they come from the front of a chunk, by a binary range decoder whose
//! probabilities adapt.
#![expect(clippy::indexing_slicing, reason = "the table has an entry for every byte")]

use super::super::BadChunk;

/// One decision: the latest bits of its own choose the odds of the next one. There are `N` odds, a power of two.
pub(super) struct Decision<const N: usize> {
    /// The latest bits, as many as choose one of the odds.
    latest: usize,
    /// How likely it is that the next bit is a zero, of 64. It is looked up early: the next bit is a branch.
    odds: u32,
    /// Of the latest 64 bits that each of the odds gave, how many are zeros,
    zeros: [u8; N],
    /// and all of them.
    recent: [u64; N],
}

impl<const N: usize> Decision<N> {
    pub(super) const START: Self = Decision { latest: 0, odds: 48, zeros: [48; N], recent: [0x5555_5555; N] };

    /// Takes a bit in.
    #[inline(always)]
    fn add(&mut self, bit: bool) {
        let at = self.latest & (N - 1);
        // Never `None`: the index is below `N`.
        if let (Some(zeros), Some(recent)) = (self.zeros.get_mut(at), self.recent.get_mut(at)) {
            let (without_oldest, oldest) = recent.overflowing_add(*recent);
            *zeros = zeros.wrapping_add(oldest.into()).wrapping_sub(bit.into());
            *recent = without_oldest | u64::from(bit);
        }
        self.latest = at << 1 | usize::from(bit);
        if let Some(zeros) = self.zeros.get(self.latest & (N - 1)) {
            self.odds = OF_ZERO[usize::from(*zeros)].into();
        }
    }
}

/// How likely a zero is, of 64, after so many zeros: neither bit is ever held for impossible.
static OF_ZERO: [u8; 256] = {
    let mut table = [63; 256];
    let mut zeros = 0;
    while zeros < 64 {
        table[zeros] = if zeros == 0 { 1 } else { zeros as u8 };
        zeros += 1;
    }
    table
};

/// The decoder: `code` is how far the input is into the range.
#[derive(Clone, Copy)]
pub(super) struct Range<'a> {
    range: u32,
    code: u32,
    rest: &'a [u8],
}

impl<'a> Range<'a> {
    pub(super) fn new(input: &'a [u8]) -> Result<Range<'a>, BadChunk> {
        let (first, rest) = input.split_first_chunk::<4>().ok_or(BadChunk)?;
        Ok(Range { range: u32::MAX, code: u32::from_le_bytes(*first).rotate_left(16), rest })
    }

    /// The next bit of a decision.
    #[inline(always)]
    pub(super) fn bit<const N: usize>(&mut self, decision: &mut Decision<N>) -> bool {
        let bound = self.bound(decision);
        self.bit_at(bound, decision)
    }

    /// Where the next bit of a decision turns from zero to one, for [`Range::bit_at`].
    #[inline(always)]
    pub(super) fn bound<const N: usize>(&mut self, decision: &Decision<N>) -> u32 {
        if self.range >> 16 == 0 {
            self.range <<= 16;
            self.code <<= 16;
            // Zeros follow the end.
            if let Some((unit, rest)) = self.rest.split_first_chunk::<2>() {
                self.code |= u32::from(u16::from_le_bytes(*unit));
                self.rest = rest;
            }
        }
        (self.range >> 6) * decision.odds
    }

    #[inline(always)]
    pub(super) fn bit_at<const N: usize>(&mut self, bound: u32, decision: &mut Decision<N>) -> bool {
        if self.code < bound {
            self.range = bound;
            decision.add(false);
            false
        } else {
            self.range -= bound;
            self.code -= bound;
            decision.add(true);
            true
        }
    }
}
