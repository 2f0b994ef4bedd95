//! The last step of LZX: targets of x86 calls were made absolute, which packs better, and become relative again.
//! Source: \[MS-PATCH\] 2.1.3 and 2.4; in WIM the size of the file is [`FILE_SIZE`], whatever it really is.

/// The opcode of a call with a relative target of 32 bits.
pub(super) const CALL: u8 = 0xe8;

const FILE_SIZE: i32 = 12_000_000;

/// Opcode and target.
const INSTRUCTION: usize = 5;

/// No call begins in the last bytes of a chunk.
const TAIL: usize = 10;

/// Undoes the translation of one chunk.
pub(super) fn to_relative(chunk: &mut [u8]) {
    let Some(end) = chunk.len().checked_sub(TAIL) else { return };
    let mut at = 0;
    while let Some(found) = chunk.get(at..end).and_then(|rest| memchr::memchr(CALL, rest)) {
        at += found;
        let Some([_, target @ ..]) = chunk.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<INSTRUCTION>()) else {
            return;
        };
        // A chunk is at most 2 MiB.
        let here = at as i32;
        let absolute = i32::from_le_bytes(*target);
        if (0..FILE_SIZE).contains(&absolute) {
            *target = (absolute - here).to_le_bytes();
        } else if (-here..0).contains(&absolute) {
            *target = (absolute + FILE_SIZE).to_le_bytes();
        }
        at += INSTRUCTION;
    }
}
