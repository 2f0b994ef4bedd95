//! Huffman codes that adapt: after so many symbols, a code is built anew from how often each was used, whose counts are
//! halved then. All sides must build the same: where a leaf and a node weigh the same, the leaf is taken first; the rarer
//! symbol has the longer codeword, the lower one of equals; codewords are canonical.

use std::ops::RangeFrom;

use super::super::BadChunk;
use super::tree::{LONGEST, Order, lengths};

/// What a codeword stands for, and the bits that it takes.
pub(super) trait Entry: Copy {
    /// The codeword is longer than the bits that chose the entry, or there is none.
    const NONE: Self;

    /// `codeword` has `length` bits.
    fn new(symbol: usize, codeword: u32, length: u32) -> Self;

    fn is_none(self) -> bool;

    /// The symbol, for counting.
    fn symbol(self) -> usize;
}

/// The codewords of one length that the root does not hold. Codewords are in the highest of 15 bits.
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

/// A code of at most `SIZE` symbols. Codewords that are no longer than the bits that choose one of `ROOT` entries are
/// found at once. Both are powers of two.
pub(super) struct Code<E, const SIZE: usize, const ROOT: usize> {
    root: [E; ROOT],
    /// How often each symbol was used, halved at times.
    counts: [u16; SIZE],
    /// All symbols, in the order of their codewords: by length, then by value.
    sorted: [u16; SIZE],
    long: [Long; LONGEST],
    symbols: usize,
    /// How many symbols are decoded before the code is built anew, and how many are still to come.
    period: u32,
    left: u32,
}

impl<E: Entry, const SIZE: usize, const ROOT: usize> Code<E, SIZE, ROOT> {
    /// How many bits choose an entry of the root.
    const BITS: u32 = ROOT.trailing_zeros();

    pub(super) const fn new(period: u32) -> Self {
        Code {
            root: [E::NONE; ROOT],
            counts: [1; SIZE],
            sorted: [0; SIZE],
            long: [Long::NONE; LONGEST],
            symbols: 0,
            period,
            left: 0,
        }
    }

    /// Begins anew, with `symbols` symbols that are as likely as each other.
    pub(super) fn reset(&mut self, symbols: usize) {
        self.symbols = symbols.min(SIZE);
        self.counts.fill(1);
        // It is built when it is needed first.
        self.left = 0;
    }

    /// What the root has for the bits that `ahead` begins with.
    #[inline(always)]
    pub(super) fn peek(&self, ahead: u64) -> E {
        self.root.get((ahead >> (64 - Self::BITS)) as usize).copied().unwrap_or(E::NONE)
    }

    /// The entry of the codeword that `ahead` begins with, where [`Code::peek`] found `entry`; the symbol counts as used.
    #[inline(always)]
    pub(super) fn next(&mut self, mut entry: E, ahead: u64) -> Result<E, BadChunk> {
        let (left, none) = self.left.overflowing_sub(1);
        self.left = left;
        if none {
            self.build();
            entry = self.peek(ahead);
        }
        if entry.is_none() {
            entry = self.long(ahead)?;
        }
        if let Some(count) = self.counts.get_mut(entry.symbol()) {
            *count = count.wrapping_add(1);
        }
        Ok(entry)
    }

    #[cold]
    #[inline(never)]
    fn long(&self, ahead: u64) -> Result<E, BadChunk> {
        let code = (ahead >> (64 - LONGEST)) as u32;
        for (length, long) in (1..).zip(&self.long) {
            if code < long.end {
                let shift = LONGEST as u32 - length;
                let at = long.at + ((code - long.first) >> shift);
                let symbol = self.sorted.get(at as usize).ok_or(BadChunk)?;
                return Ok(E::new(usize::from(*symbol), code >> shift, length));
            }
        }
        Err(BadChunk)
    }

    #[cold]
    #[inline(never)]
    fn build(&mut self) {
        self.left = self.period - 1;
        let Some(counts) = self.counts.get_mut(..self.symbols) else { return };
        let order = Order::new(counts);
        let of_length = lengths(&order.weights, counts.len());
        order.place(counts, &of_length, &mut self.sorted);
        self.fill(&of_length);
    }

    /// Fills root and long codewords: the sorted symbols have codewords of these lengths.
    fn fill(&mut self, of_length: &[u16; LONGEST + 1]) {
        let mut root = self.root.as_mut_slice();
        let mut rest = self.sorted.as_slice();
        let (mut code, mut length, mut at) = (0, 0, 0);
        for (many, long) in of_length.iter().skip(1).zip(&mut self.long) {
            length += 1;
            let Some((symbols, others)) = rest.split_at_checked(usize::from(*many)) else { return };
            rest = others;
            let first = code;
            let shift = LONGEST as u32 - length;
            code += (symbols.len() as u32) << shift;
            if length > Self::BITS {
                *long = Long { first, end: code, at };
                at += u32::from(*many);
                continue;
            }
            at += u32::from(*many);
            let codewords = first >> shift..;
            root = match Self::BITS - length {
                0 => fill_each::<E, 1>(root, codewords, symbols, length),
                1 => fill_each::<E, 2>(root, codewords, symbols, length),
                2 => fill_each::<E, 4>(root, codewords, symbols, length),
                3 => fill_each::<E, 8>(root, codewords, symbols, length),
                many => {
                    for (codeword, symbol) in codewords.zip(symbols) {
                        let Some((same, others)) = root.split_at_mut_checked(1 << many) else { return };
                        same.fill(E::new(usize::from(*symbol), codeword, length));
                        root = others;
                    }
                    root
                }
            };
        }
        root.fill(E::NONE);
    }
}

/// Gives each symbol `N` entries, and returns those behind.
fn fill_each<'a, E: Entry, const N: usize>(
    root: &'a mut [E],
    codewords: RangeFrom<u32>,
    symbols: &[u16],
    length: u32,
) -> &'a mut [E] {
    let (these, others) = root.split_at_mut_checked(symbols.len() * N).unwrap_or_default();
    for ((entries, codeword), symbol) in these.as_chunks_mut().0.iter_mut().zip(codewords).zip(symbols) {
        *entries = [E::new(usize::from(*symbol), codeword, length); N];
    }
    others
}
