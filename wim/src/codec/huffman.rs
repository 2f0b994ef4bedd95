//! Canonical prefix codes, decoded by table: the next bits of the input choose an entry, which holds a symbol and how
//! many bits it takes.

use super::BadChunk;

/// The longest codeword of any of the formats.
const LONGEST: usize = 16;

/// What a symbol means to its format, above [`MEANING`] bits. In a table they hold, from the lowest on, how many bits
/// belong to the symbol, six bits, and how many its codeword has, less one, six bits, too. Before that the first of them
/// is how many bits behind its codeword belong to the symbol, and the other is 0.
pub(super) type Entry = u32;

/// Where the length of the codeword is, less one.
pub(super) const CODEWORD: u32 = 6;
const MEANING: u32 = 12;

/// No symbol's entry: the codeword is longer than the bits that chose it, or there is none.
pub(super) const NONE: Entry = 0;

/// Adds the length of its codeword to an entry.
#[inline(always)]
fn with_codeword(entry: Entry, length: u32) -> Entry {
    entry + (length | (length - 1) << CODEWORD)
}

/// The entries of an alphabet whose symbols mean no more than themselves.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
pub(super) const fn plain<const SYMBOLS: usize>() -> [Entry; SYMBOLS] {
    let mut entries = [NONE; SYMBOLS];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        entries[symbol] = (symbol as Entry) << MEANING;
        symbol += 1;
    }
    entries
}

/// The symbol of a [`plain`] entry.
#[inline(always)]
pub(super) fn symbol(entry: Entry) -> u32 {
    entry >> MEANING
}

/// A code of at most `SYMBOLS` symbols. Codewords that are no longer than the bits that choose one of `ROOT` entries are
/// found at once. Longer ones are rare by their nature; the first codeword of each length finds them.
pub(super) struct Decoder<const SYMBOLS: usize, const ROOT: usize> {
    root: [Entry; ROOT],
    /// All symbols, in the order of their codewords: by length, then by value. Those without a codeword come first.
    sorted: [u16; SYMBOLS],
    /// Of the lengths that the root does not hold.
    long: [Long; LONGEST],
}

/// The codewords of one length. Codewords are in the highest of 16 bits.
#[derive(Clone, Copy)]
struct Long {
    first: u32,
    /// Codewords of this length and all shorter ones are below.
    end: u32,
    /// Where the symbol of the first one is, among the sorted ones.
    at: u32,
}

impl Long {
    const NONE: Long = Long { first: 0, end: 0, at: 0 };
}

impl<const SYMBOLS: usize, const ROOT: usize> Decoder<SYMBOLS, ROOT> {
    /// How many bits choose an entry of the root.
    const BITS: u32 = ROOT.trailing_zeros();

    pub(super) const fn new() -> Self {
        Decoder { root: [NONE; ROOT], sorted: [0; SYMBOLS], long: [Long::NONE; LONGEST] }
    }

    /// Takes the code in which symbol `n` has a codeword of `lengths[n]` bits, or none with 0. A code is complete or
    /// empty; an empty one is an error only when a symbol of it is looked for.
    pub(super) fn set(&mut self, lengths: &[u8], entries: &[Entry; SYMBOLS]) -> Result<(), BadChunk> {
        let mut counts = [0_u32; LONGEST + 1];
        for length in lengths {
            *counts.get_mut(usize::from(*length)).ok_or(BadChunk)? += 1;
        }
        let mut starts = [0_u32; LONGEST + 1];
        let (mut start, mut code) = (0, 0_u32);
        for (length, (count, place)) in counts.iter().zip(&mut starts).enumerate() {
            *place = start;
            start += count;
            if length > 0 {
                code += count << (LONGEST - length);
            }
        }
        self.long = [Long::NONE; LONGEST];
        if code != 1 << LONGEST {
            self.root.fill(NONE);
            return if code == 0 { Ok(()) } else { Err(BadChunk) };
        }
        let mut ends = starts;
        for (symbol, length) in (0_u16..).zip(lengths) {
            if let Some(end) = ends.get_mut(usize::from(*length)) {
                if let Some(sorted) = self.sorted.get_mut(*end as usize) {
                    *sorted = symbol;
                }
                *end += 1;
            }
        }
        self.fill(&starts, &ends, entries);
        Ok(())
    }

    /// Fills root and long codewords: the symbols with codewords of `n` bits are `sorted[starts[n]..ends[n]]`.
    fn fill(&mut self, starts: &[u32; LONGEST + 1], ends: &[u32; LONGEST + 1], entries: &[Entry; SYMBOLS]) {
        let mut root = self.root.as_mut_slice();
        let (mut code, mut length) = (0, 0);
        for ((start, end), long) in starts.iter().zip(ends).skip(1).zip(&mut self.long) {
            length += 1;
            let symbols = self.sorted.get(*start as usize..*end as usize).unwrap_or_default();
            let first = code;
            code += (symbols.len() as u32) << (LONGEST as u32 - length);
            if length > Self::BITS {
                *long = Long { first, end: code, at: *start };
                continue;
            }
            let each = 1 << (Self::BITS - length);
            for symbol in symbols {
                let Some((same, others)) = root.split_at_mut_checked(each) else { return };
                same.fill(entries.get(usize::from(*symbol)).map_or(NONE, |entry| with_codeword(*entry, length)));
                root = others;
            }
        }
        root.fill(NONE);
    }

    /// The entry of the codeword that `ahead` begins with, or [`NONE`].
    #[inline(always)]
    pub(super) fn short(&self, ahead: u64) -> Entry {
        self.root.get((ahead >> (64 - Self::BITS)) as usize).copied().unwrap_or(NONE)
    }

    /// As [`Decoder::short`], for those that it does not find.
    #[cold]
    #[inline(never)]
    pub(super) fn long(&self, ahead: u64, entries: &[Entry; SYMBOLS]) -> Result<Entry, BadChunk> {
        let code = (ahead >> (64 - LONGEST)) as u32;
        for (length, long) in (1..).zip(&self.long) {
            if code < long.end {
                let at = long.at + ((code - long.first) >> (LONGEST as u32 - length));
                let symbol = self.sorted.get(at as usize).ok_or(BadChunk)?;
                return entries.get(usize::from(*symbol)).map(|entry| with_codeword(*entry, length)).ok_or(BadChunk);
            }
        }
        Err(BadChunk)
    }

    /// The entry of the codeword that `ahead` begins with.
    #[inline(always)]
    pub(super) fn entry(&self, ahead: u64, entries: &[Entry; SYMBOLS]) -> Result<Entry, BadChunk> {
        match self.short(ahead) {
            NONE => self.long(ahead, entries),
            entry => Ok(entry),
        }
    }
}
