//! The bitstream of XPRESS and LZX: little-endian units of 16 bits, each read from its highest bit on, with bytes between
//! them where the formats say so. Source: \[MS-XCA\] 2.2.4, \[MS-PATCH\] 2.1.1.

use super::BadChunk;

/// Reads bits, up to [`Bits::SURE`] of them for one look at the input.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    /// What is not in `buffer` yet.
    rest: &'a [u8],
    /// The next bits, from the highest on. Behind those that are held may stand bits that the next look brings again.
    buffer: u64,
    /// How many are held: the lowest six bits of this, so that whole entries may be taken from it.
    held: u32,
    /// How many of the bits that are held, or were taken, lie behind the end of the input. They are zeros.
    beyond: u32,
}

impl<'a> Bits<'a> {
    /// How many bits there are after [`Bits::refill`].
    pub(super) const SURE: u32 = 48;

    pub(super) fn new(input: &'a [u8]) -> Self {
        Bits { rest: input, buffer: 0, held: 0, beyond: 0 }
    }

    /// Takes as many whole units as there is room for.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let Some(eight) = self.rest.first_chunk::<8>() else {
            *self = self.refilled_at_the_end();
            return;
        };
        self.buffer |= first_unit_highest(u64::from_le_bytes(*eight)).wrapping_shr(self.held);
        let units = (63_u32.wrapping_sub(self.held) >> 4) & 3;
        self.rest = self.rest.get(units as usize * 2..).unwrap_or_default();
        self.held = (self.held & 63) + (units << 4);
    }

    // By value: what is rare must not keep the rest from living in registers.
    #[cold]
    #[inline(never)]
    fn refilled_at_the_end(mut self) -> Self {
        // What an earlier look brought beyond `held` would be brought again, from other places.
        self.held &= 63;
        self.buffer &= !(u64::MAX >> self.held);
        while self.held < Self::SURE {
            let unit = match self.rest.split_first_chunk::<2>() {
                Some((unit, rest)) => {
                    self.rest = rest;
                    u16::from_le_bytes(*unit)
                }
                None => {
                    self.beyond = self.beyond.saturating_add(16);
                    0
                }
            };
            self.buffer |= u64::from(unit) << Self::SURE >> self.held;
            self.held += 16;
        }
        self
    }

    /// Takes two more units where there is room: then at least 32 bits are held.
    #[inline(always)]
    pub(super) fn refill_32(&mut self) {
        let Some(four) = self.rest.first_chunk::<4>() else { return self.refill() };
        let units = u64::from(u32::from_le_bytes(*four).rotate_left(16)) << 32;
        self.buffer |= units.wrapping_shr(self.held);
        // Four bytes, if fewer than 32 bits are held.
        let bytes = (!self.held >> 3) & 4;
        self.rest = self.rest.get(bytes as usize..).unwrap_or_default();
        self.held |= 32;
    }

    /// Sees to it that at least `count` bits are held, up to [`Bits::SURE`].
    #[inline(always)]
    pub(super) fn have(&mut self, count: u32) {
        if self.held & 63 < count {
            self.refill();
        }
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

    /// Takes `count` of the bits that are held, 0 to 31 of them.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let bits = (self.buffer >> 1).wrapping_shr(63_u32.wrapping_sub(count)) as u32;
        self.skip(count);
        bits
    }

    /// How many bits are held beyond the last whole unit: how far the next bit is from the end of its unit.
    #[inline(always)]
    pub(super) fn of_this_unit(&self) -> u32 {
        self.held & 15
    }

    /// Goes on with the bytes that lie `ahead` bits from here: of the bits before them, these stay. `input` is what this
    /// was made with, and `ahead` ends a unit that is held.
    #[inline(always)]
    pub(super) fn bytes_after(mut self, ahead: u32, input: &'a [u8]) -> Result<Self, BadChunk> {
        let units = (self.held & 63).saturating_sub(ahead) >> 4;
        let back = units.saturating_sub(self.beyond >> 4) as usize * 2;
        let from = input.len().checked_sub(self.rest.len() + back).ok_or(BadChunk)?;
        self.rest = input.get(from..).unwrap_or_default();
        self.beyond = self.beyond.saturating_sub(units << 4);
        self.held = ahead;
        self.buffer &= !(u64::MAX >> ahead);
        Ok(self)
    }

    /// Takes bytes, after [`Bits::bytes_after`].
    #[inline(always)]
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], BadChunk> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(BadChunk)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// Takes `len` bytes, after [`Bits::bytes_after`].
    pub(super) fn slice(&mut self, len: usize) -> Result<&'a [u8], BadChunk> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(BadChunk)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// That no bit was taken from behind the end of the input.
    pub(super) fn check(&self) -> Result<(), BadChunk> {
        if self.beyond > self.held & 63 { Err(BadChunk) } else { Ok(()) }
    }
}

/// Four units of 16 bits in the order of the input, lowest first, turned so that the first is the highest.
#[inline(always)]
fn first_unit_highest(units: u64) -> u64 {
    const EVEN: u64 = 0x0000_FFFF_0000_FFFF;
    let halves = units.rotate_left(32);
    (halves & EVEN) << 16 | (halves >> 16) & EVEN
}
