//! LZX, as WIM has it: \[MS-PATCH\] 2 with windows of 2^15 to 2^21 bytes, a bit that stands for blocks of 32768 bytes, and
//! x86 calls translated for files of 12,000,000 bytes, always. Every chunk begins anew.
//!
//! A chunk is a row of blocks. Each brings its codes, as differences from those before it. The main code has a symbol for
//! each literal byte and for each pair of a short length and an offset slot; a length beyond 8 takes a symbol of the
//! length code; the lowest three bits of an offset take one of the aligned code in blocks that have it.

use super::BadChunk;
use super::bits::Bits;
use super::calls;
use super::huffman::{Decoder, Entry, NONE, plain, symbol};
use super::token;
use super::window::copy_match;

const LITERALS: usize = 256;
/// The lengths in a main symbol; the last one stands for longer ones.
const LENGTHS: usize = 8;
const MAX_SLOTS: usize = 50;
const MAIN: usize = LITERALS + LENGTHS * MAX_SLOTS;
const LENGTH: usize = 249;
const PRE: usize = 20;
const ALIGNED: usize = 8;
const MIN_MATCH: u32 = 2;
/// The block size that one bit stands for.
const USUAL_BLOCK: usize = 32768;

static VERBATIM_ENTRIES: [Entry; MAIN] = main_entries(false);
static ALIGNED_ENTRIES: [Entry; MAIN] = main_entries(true);
static LENGTH_ENTRIES: [Entry; LENGTH] = plain();
static PRE_ENTRIES: [Entry; PRE] = plain();
static LOW_ENTRIES: [Entry; ALIGNED] = plain();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn main_entries(aligned: bool) -> [Entry; MAIN] {
    let mut entries = [NONE; MAIN];
    let mut symbol = 0;
    while symbol < MAIN {
        entries[symbol] = if symbol < LITERALS {
            token::literal(symbol as u8)
        } else {
            let pair = symbol - LITERALS;
            let (slot, length) = (pair / LENGTHS, pair % LENGTHS);
            let bits = SLOTS[slot].bits - if aligned && slot >= FIRST_ALIGNED { ALIGNED_BITS } else { 0 };
            // The offset of a long match comes behind the rest of its length.
            let taken = if length == LENGTHS - 1 { 0 } else { bits };
            token::a_match(length as u32 + MIN_MATCH, bits, taken, slot as u32)
        };
        symbol += 1;
    }
    entries
}

/// What offsets have beside the number that [`token::offset`] gives.
static BASES: [u32; 64] = bases();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn bases() -> [u32; 64] {
    let mut bases = [0; 64];
    let mut slot = RECENT;
    while slot < MAX_SLOTS {
        bases[slot] = SLOTS[slot].base.wrapping_sub(1 << SLOTS[slot].bits);
        slot += 1;
    }
    bases
}

/// The offsets of a slot begin with `base`, and `bits` more bits choose one.
#[derive(Clone, Copy)]
struct Slot {
    base: u32,
    bits: u32,
}

/// The first slots stand for the three latest offsets.
const RECENT: usize = 3;
/// The first slot whose offsets end in a symbol of the aligned code, in blocks that have one.
const FIRST_ALIGNED: usize = 8;
const ALIGNED_BITS: u32 = 3;

/// As many as six bits choose, so that no choice is beyond.
static SLOTS: [Slot; 64] = slots();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn slots() -> [Slot; 64] {
    let mut slots = [Slot { base: 0, bits: 0 }; 64];
    // Written offsets are two larger than real ones.
    let (mut slot, mut base) = (RECENT, 1);
    while slot < MAX_SLOTS {
        let bits = if slot < 4 {
            0
        } else if slot >= 36 {
            17
        } else {
            slot as u32 / 2 - 1
        };
        slots[slot] = Slot { base, bits };
        base += 1 << bits;
        slot += 1;
    }
    slots
}

/// How many slots a window of `size` bytes has, a power of two.
fn slots_of(size: u32) -> usize {
    // The last two bytes cannot match the first two; so no offset is larger than this.
    let largest = size.saturating_sub(3);
    SLOTS.iter().take(MAX_SLOTS).skip(RECENT).take_while(|slot| slot.base <= largest).count() + RECENT
}

/// Unpacks chunks of LZX.
pub(super) struct Lzx {
    main: Decoder<MAIN, 2048>,
    length: Decoder<LENGTH, 512>,
    pre: Decoder<PRE, 128>,
    aligned: Decoder<ALIGNED, 128>,
    main_lengths: [u8; MAIN],
    length_lengths: [u8; LENGTH],
}

impl Lzx {
    pub(super) const fn new() -> Lzx {
        Lzx {
            main: Decoder::new(),
            length: Decoder::new(),
            pre: Decoder::new(),
            aligned: Decoder::new(),
            main_lengths: [0; MAIN],
            length_lengths: [0; LENGTH],
        }
    }

    /// `window` is the size of a whole chunk.
    pub(super) fn chunk(&mut self, input: &[u8], window: u32, out: &mut [u8]) -> Result<(), BadChunk> {
        let mut bits = Bits::new(input);
        let mut recent = [1; RECENT];
        let main_symbols = LITERALS + LENGTHS * slots_of(window);
        self.main_lengths = [0; MAIN];
        self.length_lengths = [0; LENGTH];
        let (mut at, mut calls) = (0, false);
        while at < out.len() {
            bits.refill();
            let kind = bits.take(3);
            let size = match bits.take(1) {
                1 => USUAL_BLOCK,
                _ if window > 1 << 15 => bits.take(24) as usize,
                _ => bits.take(16) as usize,
            };
            let end = at.checked_add(size).filter(|end| *end > at && *end <= out.len()).ok_or(BadChunk)?;
            let block = out.get_mut(..end).ok_or(BadChunk)?;
            match kind {
                1 | 2 => {
                    let aligned = kind == 2;
                    self.read_codes(&mut bits, aligned, main_symbols)?;
                    if aligned {
                        self.decode::<true>(&mut bits, block, at, &mut recent)?;
                    } else {
                        self.decode::<false>(&mut bits, block, at, &mut recent)?;
                    }
                    // A byte that begins a call was a literal somewhere.
                    calls |= self.main_lengths.get(usize::from(calls::CALL)).is_some_and(|length| *length > 0);
                }
                3 => {
                    bits = stored(bits, input, block.get_mut(at..).ok_or(BadChunk)?, &mut recent)?;
                    calls = true;
                }
                _ => return Err(BadChunk),
            }
            at = end;
            bits.check()?;
        }
        if calls {
            calls::to_relative(out);
        }
        Ok(())
    }

    fn read_codes(&mut self, bits: &mut Bits, aligned: bool, main_symbols: usize) -> Result<(), BadChunk> {
        if aligned {
            let mut lengths = [0; ALIGNED];
            bits.refill();
            for length in &mut lengths {
                *length = bits.take(3) as u8;
            }
            self.aligned.set(&lengths, &LOW_ENTRIES)?;
        }
        let main = self.main_lengths.get_mut(..main_symbols).ok_or(BadChunk)?;
        let (literals, matches) = main.split_at_mut_checked(LITERALS).ok_or(BadChunk)?;
        read_lengths(&mut self.pre, bits, literals)?;
        read_lengths(&mut self.pre, bits, matches)?;
        self.main.set(main, if aligned { &ALIGNED_ENTRIES } else { &VERBATIM_ENTRIES })?;
        read_lengths(&mut self.pre, bits, &mut self.length_lengths)?;
        self.length.set(&self.length_lengths, &LENGTH_ENTRIES)
    }

    /// Unpacks a block to `block[at..]`; what is before is what matches copy from.
    #[inline(never)]
    fn decode<const WITH_ALIGNED: bool>(
        &self,
        from: &mut Bits,
        block: &mut [u8],
        mut at: usize,
        latest: &mut [u32; RECENT],
    ) -> Result<(), BadChunk> {
        // On the stack, where the compiler sees that nothing else changes them.
        let mut bits = *from;
        let [mut r0, mut r1, mut r2] = *latest;
        let entries = if WITH_ALIGNED { &ALIGNED_ENTRIES } else { &VERBATIM_ENTRIES };
        'block: loop {
            bits.refill();
            // What is held is enough for a literal and a match whose codewords are found at once.
            let (entry, ahead) = 'symbols: {
                for _ in 0..2 {
                    let Some(place) = block.get_mut(at) else { break 'block };
                    let mut entry = self.main.short(bits.ahead());
                    if token::is_match(entry) {
                        break 'symbols (entry, bits.ahead());
                    }
                    if entry == NONE {
                        bits.refill();
                        entry = self.main.long(bits.ahead(), entries)?;
                        if token::is_match(entry) {
                            break 'symbols (entry, bits.ahead());
                        }
                    }
                    bits.skip(entry);
                    *place = token::byte(entry);
                    at += 1;
                }
                continue 'block;
            };
            bits.skip(entry);
            let slot = usize::from(token::byte(entry));
            let mut length = token::length(entry);
            let mut offset = token::offset(ahead, entry) as u32;
            if length > LENGTHS as u32 {
                bits.refill();
                let more = self.length.entry(bits.ahead(), &LENGTH_ENTRIES)?;
                bits.skip(more);
                length += symbol(more);
                let offset_bits = token::offset_bits(entry);
                offset = 1 << offset_bits | bits.take(offset_bits);
            }
            if slot < RECENT {
                // Not a queue: the one that is used and the latest change places.
                match slot {
                    0 => {}
                    1 => std::mem::swap(&mut r0, &mut r1),
                    _ => std::mem::swap(&mut r0, &mut r2),
                }
            } else {
                if WITH_ALIGNED && slot >= FIRST_ALIGNED {
                    bits.have(7);
                    let low = self.aligned.entry(bits.ahead(), &LOW_ENTRIES)?;
                    bits.skip(low);
                    offset = offset << ALIGNED_BITS | symbol(low);
                }
                offset = offset.wrapping_add(BASES.get(slot).copied().unwrap_or(0));
                (r2, r1, r0) = (r1, r0, offset);
            }
            copy_match(block, at, r0 as usize, length as usize)?;
            at += length as usize;
        }
        *from = bits;
        *latest = [r0, r1, r2];
        Ok(())
    }
}

/// Reads the lengths of a code's codewords, which are coded themselves, as differences from those before.
fn read_lengths(pre: &mut Decoder<PRE, 128>, bits: &mut Bits, lengths: &mut [u8]) -> Result<(), BadChunk> {
    let mut own = [0; PRE];
    for few in own.chunks_mut(10) {
        bits.refill();
        for length in few {
            *length = bits.take(4) as u8;
        }
    }
    pre.set(&own, &PRE_ENTRIES)?;
    let next = |bits: &mut Bits| {
        bits.refill();
        let entry = pre.entry(bits.ahead(), &PRE_ENTRIES)?;
        bits.skip(entry);
        Ok(symbol(entry))
    };
    let mut left = lengths;
    while let Some(first) = left.first_mut() {
        let (run, length) = match next(bits)? {
            difference @ 0..=16 => {
                *first = less(*first, difference);
                left = left.get_mut(1..).unwrap_or_default();
                continue;
            }
            17 => (4 + bits.take(4), 0),
            18 => (20 + bits.take(5), 0),
            _ => {
                let run = 4 + bits.take(1);
                let difference = next(bits)?;
                if difference > 16 {
                    return Err(BadChunk);
                }
                (run, less(*first, difference))
            }
        };
        let (same, others) = left.split_at_mut_checked(run as usize).ok_or(BadChunk)?;
        same.fill(length);
        left = others;
    }
    Ok(())
}

/// `length` less `difference`, counted in 0 to 16; both are.
fn less(length: u8, difference: u32) -> u8 {
    let length = u32::from(length);
    (if length < difference { length + 17 - difference } else { length - difference }) as u8
}

/// A block that is stored: bytes after the unit that is being read, or after the next one. Gives where bits go on.
fn stored<'a>(
    mut bits: Bits<'a>,
    input: &'a [u8],
    out: &mut [u8],
    recent: &mut [u32; RECENT],
) -> Result<Bits<'a>, BadChunk> {
    bits.refill();
    let padding = match bits.of_this_unit() {
        0 => 16,
        some => some,
    };
    bits.skip(padding);
    let mut bits = bits.bytes_after(0, input)?;
    for offset in recent {
        *offset = u32::from_le_bytes(bits.bytes()?);
        if *offset == 0 {
            return Err(BadChunk);
        }
    }
    out.copy_from_slice(bits.slice(out.len())?);
    if out.len() % 2 == 1 {
        // Units go on at an even place; at the end of the chunk there may be none.
        let _ = bits.bytes::<1>();
    }
    Ok(bits)
}
