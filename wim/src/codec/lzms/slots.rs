//! Slots: ranges of offsets and of lengths that share a symbol. Extra bits behind it choose one of the range.

use super::code::Entry;

/// A range of numbers: it begins with `base`, and `bits` more bits choose one.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) base: u32,
    pub(super) bits: u32,
}

/// How many offset slots there are for the largest chunk that the format knows.
const OFFSETS: usize = 799;
/// How many slots of 0, 1, 2, … extra bits there are.
const OFFSET_RUNS: [usize; 31] = {
    let mut runs = [0; 31];
    let known = [8, 0, 9, 7, 10, 15, 15, 20, 20, 30, 33, 40, 42, 45, 60, 73, 80, 85, 95, 105, 6];
    let (some, _) = runs.split_at_mut(known.len());
    some.copy_from_slice(&known);
    runs[30] = 1;
    runs
};

/// How many length slots there are.
pub(super) const LENGTHS: usize = 54;
const LENGTH_RUNS: [usize; 31] = {
    let mut runs = [0; 31];
    let known = [26, 4, 6, 4, 5, 2, 1, 1, 1, 1, 1];
    let (some, _) = runs.split_at_mut(known.len());
    some.copy_from_slice(&known);
    (runs[16], runs[30]) = (1, 1);
    runs
};

/// As many as the bits of a symbol choose, so that no choice is beyond.
pub(super) static OFFSET_SLOTS: [Slot; 1024] = slots(OFFSETS, &OFFSET_RUNS);
pub(super) static LENGTH_SLOTS: [Slot; 64] = slots(LENGTHS, &LENGTH_RUNS);

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn slots<const N: usize>(count: usize, runs: &[usize; 31]) -> [Slot; N] {
    let mut slots = [Slot { base: 0, bits: 0 }; N];
    let (mut slot, mut base, mut bits) = (0, 1, 0);
    while bits < runs.len() {
        let mut left = runs[bits];
        while left > 0 {
            slots[slot] = Slot { base, bits: bits as u32 };
            base += 1 << bits;
            slot += 1;
            left -= 1;
        }
        bits += 1;
    }
    assert!(slot == count);
    slots
}

/// How many offset slots the codes of a chunk of `size` bytes have: as many as its offsets need.
pub(super) fn offset_slots(size: usize) -> usize {
    OFFSET_SLOTS.iter().take(OFFSETS).take_while(|slot| (slot.base as usize) < size).count()
}

/// A symbol that means itself: its byte above how many bits its codeword has.
#[derive(Clone, Copy)]
pub(super) struct Byte(u16);

impl Byte {
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0.into()
    }

    #[inline(always)]
    pub(super) fn value(self) -> u8 {
        (self.0 >> 8) as u8
    }
}

impl Entry for Byte {
    const NONE: Byte = Byte(0);

    fn new(symbol: usize, _: u32, length: u32) -> Byte {
        Byte((symbol as u16) << 8 | length as u16)
    }

    #[inline(always)]
    fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn symbol(self) -> usize {
        self.value().into()
    }
}

/// A symbol that means a slot of offsets.
pub(super) type Offset = Number<1024>;
/// A symbol that means a slot of lengths.
pub(super) type Length = Number<64>;

/// A slot of `SIZE` ones, a power of two. From the lowest bit on: how many bits codeword and extra bits have together; in
/// the highest of 32 bits, the symbol; in 32 more, what is to be added to codeword and extra bits, read as one number.
#[derive(Clone, Copy)]
pub(super) struct Number<const SIZE: usize>(u64);

impl<const SIZE: usize> Number<SIZE> {
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0 as u32
    }

    /// The number that `ahead` begins with.
    #[inline(always)]
    pub(super) fn value(self, ahead: u64) -> u32 {
        let all = ahead.wrapping_shr(self.bits().wrapping_neg()) as u32;
        all.wrapping_add((self.0 >> 32) as u32)
    }
}

impl<const SIZE: usize> Entry for Number<SIZE> {
    const NONE: Self = Number(0);

    #[inline(always)]
    fn new(symbol: usize, codeword: u32, length: u32) -> Self {
        let slots = if SIZE == 64 { LENGTH_SLOTS.as_slice() } else { OFFSET_SLOTS.as_slice() };
        let slot = slots.get(symbol).copied().unwrap_or(Slot { base: 0, bits: 0 });
        let add = slot.base.wrapping_sub(codeword << slot.bits);
        let symbol = (symbol as u32) << (32 - SIZE.trailing_zeros());
        Number(u64::from(add) << 32 | u64::from(symbol | (slot.bits + length)))
    }

    #[inline(always)]
    fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn symbol(self) -> usize {
        (self.0 as u32 >> (32 - SIZE.trailing_zeros())) as usize
    }
}
