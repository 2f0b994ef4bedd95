//! What XPRESS and LZX have in common: symbols that are a literal byte or the beginning of a match, with all that is
//! to know of one in its entry.
//!
//! What costs most in such a decoder are branches that nobody can foresee, and whether the next symbol is a literal is the
//! worst of them. So [`write`] handles usual symbols of either kind by the same instructions: 16 bytes are copied from
//! where the match says, or from anywhere for a literal; one byte is written, to its place for a literal, or behind all
//! that for a match, where it does not matter; and both go on by their lengths. Unusual symbols, long or near matches
//! for the most part, take another way, as do all symbols near either end of a chunk. XPRESS gains a fifth by that. In LZX,
//! with its repeated offsets and its code for the lowest bits of others, what has to be done for every symbol then
//! costs as much as the branch.

use super::huffman::{CODEWORD, Entry};

/// How many bytes a usual symbol writes at most: more than it is long, but not unpacked yet.
const REACH: usize = STEP + 1;
const STEP: usize = 16;

// An entry, above the bits that `huffman` knows, from the lowest on:
/// 63 less the bits of an offset below its highest one; for a literal those of any offset that is not too near,
const OFFSET: u32 = 12;
/// whether it is a match,
const MATCH: Entry = 1 << 18;
/// the byte of a literal; what a format wants to know of a match,
const BYTE: u32 = 19;
/// and the length, or 0 of an unusual match.
const LENGTH: u32 = 27;

/// Above this are the entries of usual symbols.
pub(super) const USUAL: Entry = 1 << LENGTH;

/// The longest match and the nearest offset of usual symbols.
pub(super) const LONGEST_USUAL: u32 = STEP as u32;
pub(super) const NEAREST_USUAL: u32 = STEP as u32;

/// A literal. What is copied for nothing is 256 to 511 bytes before: long enough written to be read without waiting.
pub(super) const fn literal(byte: u8) -> Entry {
    1 << LENGTH | (byte as Entry) << BYTE | (63 - 8) << OFFSET
}

/// A match with `offset_bits` of its offset behind its codeword, of which those of `taken` count as its own. `length` is
/// at most [`LONGEST_USUAL`], or 0. `what` has eight bits.
pub(super) const fn a_match(length: u32, offset_bits: u32, taken: u32, what: u32) -> Entry {
    length << LENGTH | what << BYTE | MATCH | (63 - offset_bits) << OFFSET | taken
}

#[inline(always)]
pub(super) fn is_match(entry: Entry) -> bool {
    entry & MATCH != 0
}

/// The byte of a literal, or what was said of a match.
#[inline(always)]
pub(super) fn byte(entry: Entry) -> u8 {
    (entry >> BYTE) as u8
}

#[inline(always)]
pub(super) fn length(entry: Entry) -> u32 {
    entry >> LENGTH
}

#[inline(always)]
pub(super) fn offset_bits(entry: Entry) -> u32 {
    63 - (entry >> OFFSET & 63)
}

/// [`STEP`] for a match, 0 for a literal.
#[inline(always)]
pub(super) fn step(entry: Entry) -> usize {
    (entry >> 14) as usize & STEP
}

const _: () = assert!(MATCH >> 14 == STEP as Entry && MATCH == 1 << (BYTE - 1), "shifts above");

/// A number that consists of a highest bit and the bits of an offset, which follow the codeword in `ahead`.
#[inline(always)]
pub(super) fn offset(ahead: u64, entry: Entry) -> usize {
    // The last bit of the codeword becomes the highest of the number.
    let behind = ahead.wrapping_shl(entry >> CODEWORD) | 1 << 63;
    behind.wrapping_shr(entry >> OFFSET) as usize
}

/// Writes what a usual symbol says, and gives the place behind. `None` near either end, or where `entry` is unusual.
#[inline(always)]
pub(super) fn write(out: &mut [u8], at: usize, entry: Entry, offset: usize) -> Option<usize> {
    let (done, next) = out.split_at_mut_checked(at)?;
    let next = next.first_chunk_mut::<REACH>()?;
    let source = done.get(at.checked_sub(offset)?..)?.first_chunk::<STEP>()?;
    if entry < USUAL {
        return None;
    }
    let [to @ .., _] = next;
    *to = *source;
    *next.get_mut(step(entry))? = byte(entry);
    Some(at + (entry >> LENGTH) as usize)
}
