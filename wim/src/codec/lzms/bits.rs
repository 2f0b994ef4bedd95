//! The bits of codewords and of numbers: they come from the back of a chunk, backwards, each byte from its highest bit
//! on. (Defined as units of 16 bits, little-endian, which is the same.)

/// Reads bits, up to [`Bits::SURE`] of them for one look at the input.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    /// What is not in `buffer` yet.
    rest: &'a [u8],
    /// The next bits, from the highest on. Behind the first `held` of them may stand those that the next look brings
    /// again.
    buffer: u64,
    /// Only the lowest six bits count.
    held: u32,
}

impl<'a> Bits<'a> {
    /// How many bits there are after [`Bits::refill`].
    pub(super) const SURE: u32 = 56;

    pub(super) fn new(input: &'a [u8]) -> Bits<'a> {
        Bits { rest: input, buffer: 0, held: 0 }
    }

    /// Takes as many whole bytes as there is room for.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let Some(eight) = self.rest.last_chunk::<8>() else {
            *self = self.refilled_at_the_end();
            return;
        };
        self.buffer |= u64::from_le_bytes(*eight).wrapping_shr(self.held);
        let bytes = (!self.held >> 3) & 7;
        let left = self.rest.len().wrapping_sub(bytes as usize);
        self.rest = self.rest.get(..left).unwrap_or_default();
        self.held |= Self::SURE;
    }

    // By value: what is rare must not keep the rest from living in registers.
    #[cold]
    #[inline(never)]
    fn refilled_at_the_end(mut self) -> Self {
        // What an earlier look brought beyond `held` would be brought again.
        self.held &= 63;
        self.buffer &= !(u64::MAX >> self.held);
        while self.held < Self::SURE {
            // Zeros follow the end.
            if let Some((byte, rest)) = self.rest.split_last() {
                self.buffer |= u64::from(*byte) << Self::SURE >> self.held;
                self.rest = rest;
            }
            self.held += 8;
        }
        self
    }

    /// The next 64 bits, for tables that look at the highest.
    #[inline(always)]
    pub(super) fn ahead(&self) -> u64 {
        self.buffer
    }

    /// Passes over as many of the bits that are held as the lowest six bits of `count` say.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.buffer = self.buffer.wrapping_shl(count);
        self.held = self.held.wrapping_sub(count);
    }
}
