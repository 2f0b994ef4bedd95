//! XPRESS with Huffman codes. Source: \[MS-XCA\] 2.1 and 2.2, "LZ77+Huffman".
//!
//! A chunk begins with 256 bytes, the lengths of 512 codewords, four bits each. Symbols below 256 are literal bytes. The
//! others are matches: bits 0 to 3 are the length less 3, or 15 where bytes that follow say more, bits 4 to 7 how many
//! bits of the offset follow, below its highest one.

use super::BadChunk;
use super::bits::Bits;
use super::huffman::{Decoder, Entry, NONE};
use super::token;
use super::window::copy_match;

const SYMBOLS: usize = 512;
const LITERALS: usize = 256;
const TABLE_BYTES: usize = SYMBOLS / 2;
const MIN_MATCH: u32 = 3;
/// The length in a symbol that stands for longer ones.
const LONG: u32 = 15;
/// The length in a byte that stands for longer ones.
const LONGER: u8 = 255;

static ENTRIES: [Entry; SYMBOLS] = entries();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn entries() -> [Entry; SYMBOLS] {
    let mut entries = [NONE; SYMBOLS];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        entries[symbol] = if symbol < LITERALS {
            token::literal(symbol as u8)
        } else {
            let (length, offset_bits) = (symbol as u32 & 15, symbol as u32 >> 4 & 15);
            let usual = length + MIN_MATCH <= token::LONGEST_USUAL && 1 << offset_bits >= token::NEAREST_USUAL;
            token::a_match(if usual { length + MIN_MATCH } else { 0 }, offset_bits, offset_bits, length)
        };
        symbol += 1;
    }
    entries
}

/// Unpacks chunks of XPRESS.
pub(super) struct Xpress {
    code: Decoder<SYMBOLS, 2048>,
}

impl Xpress {
    pub(super) const fn new() -> Xpress {
        Xpress { code: Decoder::new() }
    }

    pub(super) fn chunk(&mut self, input: &[u8], out: &mut [u8]) -> Result<(), BadChunk> {
        let (table, input) = input.split_first_chunk::<TABLE_BYTES>().ok_or(BadChunk)?;
        let mut lengths = [0; SYMBOLS];
        for (pair, both) in lengths.chunks_exact_mut(2).zip(table) {
            pair.copy_from_slice(&[both & 15, both >> 4]);
        }
        self.code.set(&lengths, &ENTRIES)?;
        self.decode(input, out)
    }

    #[inline(never)]
    fn decode(&self, input: &[u8], out: &mut [u8]) -> Result<(), BadChunk> {
        let mut bits = Bits::new(input);
        let mut at = 0;
        loop {
            bits.refill_32();
            let ahead = bits.ahead();
            let mut entry = self.code.short(ahead);
            // A codeword that is found at once and an offset have 26 bits.
            if let Some(next) = token::write(out, at, entry, token::offset(ahead, entry)) {
                bits.skip(entry);
                at = next;
                continue;
            }
            let Some(place) = out.get_mut(at) else { return bits.check() };
            if entry == NONE {
                entry = self.code.long(ahead, &ENTRIES)?;
            }
            bits.skip(entry);
            if !token::is_match(entry) {
                *place = token::byte(entry);
                at += 1;
                continue;
            }
            let mut length = u32::from(token::byte(entry)) & LONG;
            if length == LONG {
                (length, bits) = long_length(bits, token::offset_bits(entry), input)?;
            }
            let length = (length + MIN_MATCH) as usize;
            copy_match(out, at, token::offset(ahead, entry), length)?;
            at += length;
        }
    }
}

/// The length that follows a symbol and the `offset_bits` of its offset, which were taken.
#[inline(always)]
fn long_length<'a>(mut bits: Bits<'a>, offset_bits: u32, input: &'a [u8]) -> Result<(u32, Bits<'a>), BadChunk> {
    bits.refill();
    // A reader is defined to hold 16 to 31 bits before it takes an offset; bytes follow behind those.
    let unit = (bits.of_this_unit() + offset_bits) & 15;
    bits = bits.bytes_after(16 + unit - offset_bits, input)?;
    let [more] = bits.bytes()?;
    let length = if more == LONGER { u16::from_le_bytes(bits.bytes()?).into() } else { LONG + u32::from(more) };
    Ok((length, bits))
}
