//! Matches: copies of what was unpacked before.

use super::BadChunk;

/// What is copied at once.
pub(super) const STEP: usize = 16;

/// Copies `length` bytes that begin `offset` bytes before `at` to `at`. Up to [`STEP`] bytes behind may be overwritten,
/// which are not unpacked yet. Source and destination may overlap: then the source repeats.
#[inline(always)]
pub(super) fn copy_match(out: &mut [u8], at: usize, offset: usize, length: usize) -> Result<(), BadChunk> {
    let from = at.checked_sub(offset).ok_or(BadChunk)?;
    let window = out.get_mut(from..).ok_or(BadChunk)?;
    // One step is taken always; each begins where bytes of the match are left.
    if window.len() < offset + length + STEP {
        return copy_bytes(window, offset, length);
    }
    if offset < STEP {
        return repeat(window, offset, length);
    }
    let mut done = 0;
    while let Some(source) = window.get(done..).and_then(|from| from.first_chunk::<STEP>()).copied() {
        let Some(to) = window.get_mut(done + offset..).and_then(|to| to.first_chunk_mut::<STEP>()) else { break };
        *to = source;
        done += STEP;
        if done >= length {
            break;
        }
    }
    Ok(())
}

/// Fills with the first `offset` bytes, less than a step, of a window that has room.
#[inline(always)]
fn repeat(window: &mut [u8], offset: usize, length: usize) -> Result<(), BadChunk> {
    let first = window.first_chunk::<STEP>().ok_or(BadChunk)?;
    let bits = offset as u32 * 8;
    // Offset 0 is none: shifting by nothing less than all would be asked for.
    let mut pattern = u128::from_le_bytes(*first) & u128::MAX.checked_shr(128 - bits).ok_or(BadChunk)?;
    let mut period = bits;
    while period < 128 {
        pattern |= pattern << period;
        period *= 2;
    }
    let pattern = pattern.to_le_bytes();
    // The most of whole periods in a step.
    let step = STEP - STEP % offset;
    let mut done = 0;
    while done < length {
        let Some(to) = window.get_mut(done + offset..).and_then(|to| to.first_chunk_mut::<STEP>()) else { break };
        *to = pattern;
        done += step;
    }
    Ok(())
}

/// Copies near the end of a chunk.
#[cold]
#[inline(never)]
fn copy_bytes(window: &mut [u8], offset: usize, length: usize) -> Result<(), BadChunk> {
    if offset == 0 || window.len() < offset + length {
        return Err(BadChunk);
    }
    // What is copied once is one more period to copy from.
    let (mut to, end) = (offset, offset + length);
    while to < end {
        let ready = to.min(end - to);
        window.copy_within(..ready, to);
        to += ready;
    }
    Ok(())
}
