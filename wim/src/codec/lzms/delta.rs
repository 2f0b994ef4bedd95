//! Delta matches: what repeats is the difference between a byte and the one a span before it.

use super::super::BadChunk;

/// Makes `length` bytes at `at`. The span is 2 to the power `power`; `offset` is counted in spans.
#[inline(never)]
pub(super) fn copy(out: &mut [u8], at: usize, power: u32, offset: u32, length: usize) -> Result<(), BadChunk> {
    let span = 1_usize << power;
    let offset = (offset as usize) << power;
    // Back to the first byte of the earliest span.
    let start = at.checked_sub(offset + span).ok_or(BadChunk)?;
    let end = at.checked_add(length).filter(|end| *end <= out.len()).ok_or(BadChunk)?;
    let window = out.get_mut(start..end).ok_or(BadChunk)?;
    match power {
        0 => repeat::<1>(window, offset),
        1 => repeat::<2>(window, offset),
        2 => repeat::<4>(window, offset),
        3 => repeat::<8>(window, offset),
        4 => repeat::<16>(window, offset),
        5 => repeat::<32>(window, offset),
        6 => repeat::<64>(window, offset),
        _ => repeat::<128>(window, offset),
    }
    Ok(())
}

/// `window` begins with the span whose successor is `offset` bytes before the first new one.
fn repeat<const SPAN: usize>(window: &mut [u8], offset: usize) {
    let (Some(first), Some(last)) = (window.first_chunk::<SPAN>(), window.get(offset..).and_then(|w| w.first_chunk()))
    else {
        return;
    };
    let (mut source, mut made): ([u8; SPAN], [u8; SPAN]) = (*first, *last);
    let mut from = SPAN;
    while let Some(next) = window.get(from..).and_then(|w| w.first_chunk::<SPAN>()).copied() {
        let Some(to) = window.get_mut(from + offset..).filter(|to| !to.is_empty()) else { return };
        for ((made, source), next) in made.iter_mut().zip(&source).zip(&next) {
            *made = made.wrapping_add(*next).wrapping_sub(*source);
        }
        source = next;
        match to.first_chunk_mut::<SPAN>() {
            Some(to) => *to = made,
            None => {
                for (to, made) in to.iter_mut().zip(&made) {
                    *to = *made;
                }
                return;
            }
        }
        from += SPAN;
    }
}
