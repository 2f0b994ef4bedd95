//! The frames of an archive, each on its own: which of them are damaged, beyond the first one, at which the stream ends.

use super::decoder::Decoder;
use super::frame::Scanner;
use super::queue::PIECE;
use crate::root::Progress;
use crate::source::ReadAt;

/// A frame that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadFrame {
    /// Where it begins, and where it ends: of one whose end is not known, where the source does.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// What is wrong, in words.
    pub(crate) why: String,
}

/// Looks for damage in every frame that can be found, and calls `bad` for each that has some. What lies behind a frame
/// whose end is not known is not looked at.
pub(crate) fn bad_frames(
    source: &dyn ReadAt,
    progress: Option<&(dyn Fn(Progress) + Sync)>,
    mut bad: impl FnMut(BadFrame),
) {
    let mut scanner = Scanner::new(source);
    let mut out = vec![0; PIECE];
    loop {
        let frame = match scanner.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => return bad(BadFrame { from: scanner.at(), to: source.size(), why: error.to_string() }),
        };
        // A new one each time: what a damaged frame has left in a decoder is nothing to go on with.
        let checked = Decoder::new(source).and_then(|mut decoder| {
            decoder.begin(frame)?;
            while !decoder.fill(&mut out).1? {}
            Ok(decoder.position())
        });
        let end = match (checked, frame.end) {
            (Ok(end), _) => end,
            (Err(error), end) => {
                let to = end.unwrap_or_else(|| source.size());
                bad(BadFrame { from: frame.start, to, why: format!("a zstd frame: {error}") });
                match end {
                    Some(end) => end,
                    None => return,
                }
            }
        };
        scanner.resume(end);
        if let Some(progress) = progress {
            progress(Progress { done: end, total: source.size() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(n: u8) -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();
        compressor.compress(&vec![n; 10_000]).unwrap()
    }

    fn found(source: &Vec<u8>) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        bad_frames(source, None, |bad| {
            assert!(!bad.why.is_empty());
            found.push((bad.from, bad.to));
        });
        found
    }

    #[test]
    fn every_damaged_frame_is_found_and_no_other() {
        let frames: Vec<Vec<u8>> = (0..5).map(packed).collect();
        let len = frames[0].len() as u64;
        let mut source = frames.concat();
        assert_eq!(found(&source), []);
        // The checksum, which comes last.
        for n in [1, 3] {
            let at = frames[0].len() * (n + 1) - 1;
            source[at] ^= 1;
        }
        assert_eq!(found(&source), [(len, 2 * len), (3 * len, 4 * len)]);
        // Behind a frame whose blocks lead nowhere nothing can be found.
        let blocks = frames[0].len() * 2 - 5;
        source[blocks - 4..blocks].fill(0xff);
        let all = found(&source);
        assert_eq!(all.first().map(|bad| bad.0), Some(len));
    }
}
