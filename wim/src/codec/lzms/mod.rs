//! LZMS, as wimlib 1.14.4 has it (`src/lzms_decompress.c`); Microsoft has not published it. Every chunk begins anew.
//!
//! A chunk is a row of items: literal bytes, matches, and delta matches, which repeat differences instead of bytes. What
//! kind an item is, and whether it repeats an earlier offset, is told by bits from the front of the chunk ([`range`]).
//! Literals, lengths and offsets are codewords from its back ([`bits`], [`code`]). At last, addresses in x86 code are
//! translated ([`x86`]).

mod bits;
mod code;
mod delta;
mod range;
mod recent;
mod slots;
mod tree;
mod x86;

use bits::Bits;
use code::Code;
use range::{Decision, Range};
use recent::Recent;
use slots::{Byte, LENGTHS, Length, Offset, offset_slots};

use super::BadChunk;
use super::window::copy_match;

const LITERALS: usize = 256;
const POWERS: usize = 8;

/// Unpacks chunks of LZMS.
pub(super) struct Lzms {
    literal: Code<Byte, LITERALS, 2048>,
    offset: Code<Offset, 1024, 1024>,
    length: Code<Length, 64, 512>,
    delta_offset: Code<Offset, 1024, 1024>,
    delta_power: Code<Byte, POWERS, 128>,
    deltas: Recent<(u32, u32)>,
    filter: x86::Filter,
}

/// All decisions, in the order in which an item takes them.
struct Decisions {
    matched: Decision<16>,
    delta: Decision<32>,
    repeated: Decision<64>,
    not_latest: Decision<64>,
    not_second: Decision<64>,
    delta_repeated: Decision<64>,
    delta_not_latest: Decision<64>,
    delta_not_second: Decision<64>,
}

impl Lzms {
    pub(super) fn new() -> Lzms {
        Lzms {
            literal: Code::new(1024),
            offset: Code::new(1024),
            length: Code::new(512),
            delta_offset: Code::new(1024),
            delta_power: Code::new(512),
            deltas: Recent::new([(0, 1), (0, 2), (0, 3), (0, 4)]),
            filter: x86::Filter::new(),
        }
    }

    pub(super) fn chunk(&mut self, input: &[u8], out: &mut [u8]) -> Result<(), BadChunk> {
        let slots = offset_slots(out.len());
        self.literal.reset(LITERALS);
        self.offset.reset(slots);
        self.length.reset(LENGTHS);
        self.delta_offset.reset(slots);
        self.delta_power.reset(POWERS);
        if !input.len().is_multiple_of(2) {
            return Err(BadChunk);
        }
        self.decode(input, out)?;
        self.filter.make_relative(out);
        Ok(())
    }

    #[inline(never)]
    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Result<(), BadChunk> {
        let mut decisions = Decisions {
            matched: Decision::START,
            delta: Decision::START,
            repeated: Decision::START,
            not_latest: Decision::START,
            not_second: Decision::START,
            delta_repeated: Decision::START,
            delta_not_latest: Decision::START,
            delta_not_second: Decision::START,
        };
        let mut range = Range::new(input)?;
        let mut bits = Bits::new(input);
        let mut matches = Recent::new([1, 2, 3, 4]);
        self.deltas = Recent::new([(0, 1), (0, 2), (0, 3), (0, 4)]);
        let mut at = 0;
        let mut bound = range.bound(&decisions.matched);
        loop {
            bits.refill();
            let Some(place) = out.get_mut(at) else { break };
            if !range.bit_at(bound, &mut decisions.matched) {
                bound = range.bound(&decisions.matched);
                let entry = self.literal.next(self.literal.peek(bits.ahead()), bits.ahead())?;
                bits.skip(entry.bits());
                *place = entry.value();
                at += 1;
                continue;
            }
            if range.bit(&mut decisions.delta) {
                (range, bits, at) = self.delta(&mut decisions, range, bits, out, at)?;
                bound = range.bound(&decisions.matched);
                continue;
            }
            let early = self.offset.peek(bits.ahead());
            let offset = if range.bit(&mut decisions.repeated) {
                let mut which = 0;
                if range.bit(&mut decisions.not_latest) {
                    which = 1 + usize::from(range.bit(&mut decisions.not_second));
                }
                matches.repeat(which, at)
            } else {
                let entry = self.offset.next(early, bits.ahead())?;
                let offset = entry.value(bits.ahead());
                bits.skip(entry.bits());
                bits.refill();
                matches.add(offset);
                offset
            };
            bound = range.bound(&decisions.matched);
            let entry = self.length.next(self.length.peek(bits.ahead()), bits.ahead())?;
            let length = entry.value(bits.ahead()) as usize;
            bits.skip(entry.bits());
            copy_match(out, at, offset as usize, length)?;
            at += length;
            matches.ended(at);
        }
        Ok(())
    }

    /// A delta match at `at`, and what goes on behind it. By value: what is rare must not keep the rest from living in
    /// registers.
    #[inline(never)]
    fn delta<'a>(
        &mut self,
        decisions: &mut Decisions,
        mut range: Range<'a>,
        mut bits: Bits<'a>,
        out: &mut [u8],
        at: usize,
    ) -> Result<(Range<'a>, Bits<'a>, usize), BadChunk> {
        let (power, offset) = if range.bit(&mut decisions.delta_repeated) {
            let mut which = 0;
            if range.bit(&mut decisions.delta_not_latest) {
                which = 1 + usize::from(range.bit(&mut decisions.delta_not_second));
            }
            self.deltas.repeat(which, at)
        } else {
            let entry = self.delta_power.next(self.delta_power.peek(bits.ahead()), bits.ahead())?;
            bits.skip(entry.bits());
            let power = u32::from(entry.value());
            bits.refill();
            let entry = self.delta_offset.next(self.delta_offset.peek(bits.ahead()), bits.ahead())?;
            let offset = entry.value(bits.ahead());
            bits.skip(entry.bits());
            bits.refill();
            self.deltas.add((power, offset));
            (power, offset)
        };
        let entry = self.length.next(self.length.peek(bits.ahead()), bits.ahead())?;
        let length = entry.value(bits.ahead()) as usize;
        bits.skip(entry.bits());
        delta::copy(out, at, power, offset, length)?;
        let end = at + length;
        self.deltas.ended(end);
        Ok((range, bits, end))
    }
}
