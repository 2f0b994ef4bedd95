//! Writing contents, and leaving out what is zeros anyway: files that had holes when they were captured get them back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Holes begin and end where pages do: less than a page of zeros saves nothing.
const PAGE: u64 = 4096;

/// Writes `bytes` at `offset`; with `holes`, only pages that are not all zeros. The file's length is then the caller's
/// concern ([`File::set_len`]), since the last page may be one that is left out.
pub(crate) fn write(file: &File, bytes: &[u8], offset: u64, holes: bool) -> io::Result<()> {
    if !holes {
        return file.write_all_at(bytes, offset);
    }
    for (at, data) in written(bytes, offset) {
        file.write_all_at(data, at)?;
    }
    Ok(())
}

/// What of `bytes` has to be written, and where: neighbouring pages together.
fn written(bytes: &[u8], offset: u64) -> Vec<(u64, &[u8])> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut at = 0_usize;
    while at < bytes.len() {
        let place = offset.saturating_add(at as u64);
        let left = usize::try_from(PAGE.saturating_sub(place % PAGE)).unwrap_or(bytes.len());
        let end = at.saturating_add(left).min(bytes.len());
        if bytes.get(at..end).is_some_and(|page| page.iter().any(|byte| *byte != 0)) {
            match runs.last_mut() {
                Some(run) if run.1 == at => run.1 = end,
                _ => runs.push((at, end)),
            }
        }
        at = end;
    }
    let place = |(from, to): (usize, usize)| Some((offset.saturating_add(from as u64), bytes.get(from..to)?));
    runs.into_iter().filter_map(place).collect()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_of_zeros_are_left_out_and_their_neighbours_written_together() {
        let mut bytes = vec![0_u8; 5 * 4096];
        bytes[4096] = 1;
        bytes[3 * 4096 - 1] = 1;
        assert_eq!(written(&bytes, 0), [(4096, &bytes[4096..3 * 4096])]);
        // The same bytes half a page further on: pages are those of the file.
        let lengths: Vec<_> = written(&bytes, 2048).iter().map(|(at, data)| (*at, data.len())).collect();
        assert_eq!(lengths, [(4096, 4096), (3 * 4096, 4096)]);
        assert!(written(&[0; 100], 5).is_empty() && written(&[], 0).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_and_zeros_are_the_contents(
            pages in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..6), cut in 0_usize..5000,
            offset in 0_u64..10_000,
        ) {
            let mut bytes: Vec<u8> = pages.iter().flat_map(|byte| [*byte; 4096]).collect();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let mut got = vec![0; bytes.len()];
            for (at, data) in written(&bytes, offset) {
                let from = usize::try_from(at - offset).unwrap();
                got[from..from + data.len()].copy_from_slice(data);
            }
            prop_assert_eq!(got, bytes);
        }
    }
}
