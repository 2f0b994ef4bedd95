//! The last step: addresses in x86 code, which were made absolute where the data looked like code, which packs better,
//! become relative again.

/// How many addresses are told apart: by their lower halves.
const ADDRESSES: usize = 1 << 16;
/// Two uses of an address look like code if they are nearer to each other than this.
const NEAR: usize = 1 << 16;
/// How far code goes on behind such a use, at most.
const REACH: i32 = 1023;
/// No instruction begins in the last bytes.
const TAIL: usize = 16;

/// How many positions are looked at at once.
const BLOCK: usize = 32;
/// The bytes of an instruction that tell whether it has an address.
const LOOK: usize = 3;

/// A set of addresses.
type Set = [u64; ADDRESSES / 64];

/// Where each address was used last. The sets stay in the nearest cache, and say most of it.
pub(super) struct Filter {
    /// The number of the latest [`NEAR`] bytes that are looked at,
    section: usize,
    /// the addresses that were used in them,
    now: Set,
    /// and those in the [`NEAR`] bytes before.
    before: Set,
    /// How far from the beginning of its section each of them was used last.
    places: Box<[u16]>,
}

impl Filter {
    pub(super) fn new() -> Filter {
        Filter {
            section: 0,
            now: [0; ADDRESSES / 64],
            before: [0; ADDRESSES / 64],
            places: vec![0; ADDRESSES].into_boxed_slice(),
        }
    }

    /// Undoes the translation of one chunk.
    pub(super) fn make_relative(&mut self, chunk: &mut [u8]) {
        let Some(end) = chunk.len().checked_sub(TAIL).filter(|end| *end > 1) else { return };
        self.section = 0;
        self.now.fill(0);
        self.before.fill(0);
        let mut code_at = -REACH - 1;
        let (mut at, mut next) = (0, 1);
        while at < end {
            let mut found = match chunk.get(at..).and_then(|from| from.first_chunk()) {
                Some(block) => instructions(block),
                None => {
                    let mut block = [0; BLOCK + LOOK - 1];
                    for (to, from) in block.iter_mut().zip(chunk.iter().skip(at)) {
                        *to = *from;
                    }
                    instructions(&block)
                }
            };
            while found != 0 {
                let here = at + found.trailing_zeros() as usize;
                found &= found - 1;
                if here >= next && here < end {
                    next = self.one(chunk, here, &mut code_at);
                }
            }
            at += BLOCK;
        }
    }

    /// Looks at one instruction with an address, and says where the next one may be.
    #[inline(always)]
    fn one(&mut self, chunk: &mut [u8], at: usize, code_at: &mut i32) -> usize {
        let Some([opcode, rest @ ..]) = chunk.get_mut(at..).and_then(|from| from.first_chunk_mut::<7>()) else {
            return at + 1;
        };
        let (before, reach) = match (*opcode, &*rest) {
            (0xe8, _) => (1, REACH / 2),
            // A jump, which is not translated.
            (0xe9, _) => return at + 5,
            (0xff, _) => (2, REACH),
            (0x48, [0x8b, mode, ..]) if mode & 0xf0 != 0 => return at + 1,
            (0x4c, [0x8b, ..]) => return at + 1,
            (0xf0, [_, mode, ..]) if *mode != 5 => return at + 1,
            _ => (3, REACH),
        };
        let Some(address) = rest.get_mut(before - 1..).and_then(|from| from.first_chunk_mut::<4>()) else {
            return at + 1;
        };
        let here = at as i32;
        if here - *code_at <= reach {
            *address = u32::from_le_bytes(*address).wrapping_sub(at as u32).to_le_bytes();
        }
        let target = (at as u16).wrapping_add(u32::from_le_bytes(*address) as u16);
        let last_byte = at + before + 3;
        if self.use_address(target, last_byte) {
            *code_at = last_byte as i32;
        }
        at + before + 4
    }

    /// Whether the address was used near `at` before.
    #[inline(always)]
    fn use_address(&mut self, address: u16, at: usize) -> bool {
        if at / NEAR != self.section {
            self.turn_to(at / NEAR);
        }
        let (index, bit) = (usize::from(address >> 6), 1 << (address & 63));
        let (Some(now), Some(before)) = (self.now.get_mut(index), self.before.get(index)) else { return false };
        let Some(place) = self.places.get_mut(usize::from(address)) else { return false };
        let near = *now & bit != 0 || *before & bit != 0 && *place > at as u16;
        *now |= bit;
        *place = at as u16;
        near
    }

    #[cold]
    #[inline(never)]
    fn turn_to(&mut self, section: usize) {
        if section == self.section + 1 {
            self.before = self.now;
        } else {
            self.before.fill(0);
        }
        self.now.fill(0);
        self.section = section;
    }
}

/// Where instructions with addresses begin, and jumps, and some more that look like them: a bit for each of the first 32
/// positions, the first one lowest.
#[inline(always)]
fn instructions(block: &[u8; BLOCK + LOOK - 1]) -> u32 {
    let mut flags = [0_u8; BLOCK];
    for (flag, window) in flags.iter_mut().zip(block.windows(LOOK)) {
        let &[a, b, c] = window else { continue };
        let load = (a & 0xfb == 0x48) & ((b == 0x8d) | (b == 0x8b)) & (c & 7 == 5);
        let call = (a & 0xfe == 0xe8) | (a == 0xff) & (b == 0x15);
        let locked = (a == 0xf0) & (b == 0x83);
        *flag = u8::from(load | call | locked);
    }
    let [a, b, c, d] = flags.as_chunks::<8>().0 else { return 0 };
    let [a, b, c, d] = [a, b, c, d].map(|flags| u64::from_le_bytes(*flags));
    if a | b | c | d == 0 {
        return 0;
    }
    // Each flag is moved to a place of its own in the highest byte.
    let [a, b, c, d] = [a, b, c, d].map(|flags| (flags.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32);
    a | b << 8 | c << 16 | d << 24
}
