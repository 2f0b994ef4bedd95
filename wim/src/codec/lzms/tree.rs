//! Huffman codes from counts: which length each symbol's codeword has.
#![expect(clippy::indexing_slicing, reason = "indices are masked, or below a constant that bounds the array")]

/// The longest codeword. Counts never get so uneven that a longer one would come up, of these alphabets.
pub(super) const LONGEST: usize = 15;
/// The largest alphabet, and more: as many as ten bits choose.
const MOST: usize = 1024;
/// Counts from here on are rare enough to be sorted by comparing.
const HIGH: usize = 128;
/// Weighs more than any node.
const NONE: u16 = u16::MAX;

/// The symbols by how often they were used, those of equal use by value.
pub(super) struct Order {
    /// Where the symbols of each count begin and end.
    starts: [u16; HIGH],
    ends: [u16; HIGH],
    /// Counts and symbols of the others, in order.
    high: Vec<u32>,
    /// The counts in order.
    pub(super) weights: [u16; MOST],
}

impl Order {
    /// `counts` has the counts of all symbols, none of which is zero.
    pub(super) fn new(counts: &[u16]) -> Order {
        // Four, as one addition to a place would wait for the other, and most counts are the same.
        let mut many = [[0_u16; HIGH]; 4];
        let mut high = 0;
        for few in counts.chunks(4) {
            for (count, many) in few.iter().zip(&mut many) {
                high |= usize::from(*count);
                many[usize::from(*count).min(HIGH - 1)] += 1;
            }
        }
        let mut order = Order { starts: [0; HIGH], ends: [0; HIGH], high: Vec::new(), weights: [NONE; MOST] };
        let mut at = 0;
        for count in 0..HIGH - 1 {
            let many = many.iter().map(|many| usize::from(many[count])).sum::<usize>();
            order.starts[count] = at as u16;
            // Few are more than that. What is written too much is written over.
            if let Some(four) = order.weights.get_mut(at..).and_then(|weights| weights.first_chunk_mut::<4>()) {
                *four = [count as u16; 4];
            }
            if many > 4
                && let Some(weights) = order.weights.get_mut(at..at + many)
            {
                weights.fill(count as u16);
            }
            at += many;
            order.ends[count] = at as u16;
        }
        order.starts[HIGH - 1] = at as u16;
        if high >= HIGH - 1 {
            let high = (0..).zip(counts).filter(|(_, count)| usize::from(**count) >= HIGH - 1);
            order.high.extend(high.map(|(symbol, count)| key(symbol, *count)));
            order.high.sort_unstable();
            for (weight, key) in order.weights.iter_mut().skip(at).zip(&order.high) {
                *weight = (key >> 16) as u16;
                at += 1;
            }
        }
        for weight in order.weights.iter_mut().skip(at).take(4) {
            *weight = NONE;
        }
        order
    }

    /// Sorts all symbols by the lengths of their codewords and then by value, and halves their counts.
    pub(super) fn place(mut self, counts: &mut [u16], of_length: &[u16; LONGEST + 1], sorted: &mut [u16]) {
        let mut starts = [0_u16; LONGEST + 1];
        let mut end = 0;
        let mut ends = of_length.map(|many| {
            end += many;
            end
        });
        starts[1..].copy_from_slice(&ends[..LONGEST]);
        // The rarest have the longest.
        let mut length_of = [0_u8; MOST];
        let mut at = 0;
        for (length, many) in (0_u8..16).zip(of_length).rev() {
            if let Some(lengths) = length_of.get_mut(at..at + usize::from(*many)) {
                lengths.fill(length);
            }
            at += usize::from(*many);
        }
        let length = |rank: u16| usize::from(length_of[usize::from(rank) & (MOST - 1)]) & LONGEST;
        let mut put = |place: u16, symbol: usize| {
            if let Some(sorted) = sorted.get_mut(usize::from(place)) {
                *sorted = symbol as u16;
            }
        };
        // From both ends, as one addition to a place would wait for the other.
        let last = counts.len().saturating_sub(1);
        for symbol in 0..=last / 2 {
            let Some(count) = counts.get_mut(symbol) else { return };
            let rank = match self.starts.get_mut(usize::from(*count)) {
                Some(start) if usize::from(*count) < HIGH - 1 => {
                    *start += 1;
                    *start - 1
                }
                _ => self.rank(symbol, *count),
            };
            *count = (*count >> 1) + 1;
            let start = &mut starts[length(rank)];
            put(*start, symbol);
            *start += 1;

            let symbol = last - symbol;
            if symbol <= last / 2 {
                break;
            }
            let Some(count) = counts.get_mut(symbol) else { return };
            let rank = match self.ends.get_mut(usize::from(*count)) {
                Some(end) if usize::from(*count) < HIGH - 1 => {
                    *end -= 1;
                    *end
                }
                _ => self.rank(symbol, *count),
            };
            *count = (*count >> 1) + 1;
            let end = &mut ends[length(rank)];
            *end -= 1;
            put(*end, symbol);
        }
    }

    /// Where a symbol of a high count is.
    #[cold]
    #[inline(never)]
    fn rank(&self, symbol: usize, count: u16) -> u16 {
        let among_high = self.high.binary_search(&key(symbol as u32, count)).unwrap_or_default();
        self.starts[HIGH - 1] + among_high as u16
    }
}

/// What the symbols of high counts are sorted by.
fn key(symbol: u32, count: u16) -> u32 {
    u32::from(count) << 16 | symbol
}

/// How many codewords there are of each length, for `symbols` symbols with these weights, ascending.
pub(super) fn lengths(weights: &[u16; MOST], symbols: usize) -> [u16; LONGEST + 1] {
    let mut of_length = [0; LONGEST + 1];
    if symbols < 2 {
        // Another symbol, which is never used, has the other codeword of one bit.
        of_length[1] = symbols as u16;
        return of_length;
    }
    // Two trees at a time become one, the lightest ones. They are leaves, or nodes in the order in which they were made,
    // which is that of their weights, too.
    let mut nodes = [NONE; MOST];
    // How many nodes had become part of others before each was made.
    let mut taken = [0_u16; MOST];
    let (mut leaf, mut node) = (0, 0);
    for made in 0..symbols - 1 {
        let of = |weights: &[u16; MOST], at: usize| u32::from(weights[at & (MOST - 1)]);
        let leaves = [of(weights, leaf), of(weights, leaf + 1)];
        let those = [of(&nodes, node), of(&nodes, node + 1)];
        taken[made & (MOST - 1)] = node as u16;
        // A leaf is taken before a node of the same weight.
        let as_leaves = usize::from(leaves[0] <= those[1]) + usize::from(leaves[1] <= those[0]);
        let weight = (leaves[0] + leaves[1]).min(leaves[0] + those[0]).min(those[0] + those[1]);
        nodes[made & (MOST - 1)] = weight as u16;
        leaf += as_leaves;
        node += 2 - as_leaves;
    }
    // From the root on: trees are as deep as they were taken late. So each depth has a range of nodes. Those before it
    // took twice as many trees, some of which are nodes of the next depth, and all before.
    let (mut first, mut end) = (symbols - 2, symbols - 1);
    for many in of_length.iter_mut().skip(1) {
        if first == end {
            break;
        }
        let next = usize::from(taken[first & (MOST - 1)]);
        *many = (2 * (end - first) - (first - next)) as u16;
        (first, end) = (next, first);
    }
    of_length
}
