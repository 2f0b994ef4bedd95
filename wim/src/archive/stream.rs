//! The zstd stream around an archive: frame after frame, until something that is no frame. Bounded memory: a frame
//! that wants a larger window than zstd's own default is refused by zstd.

use std::io::{self, Read};

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use crate::bytes::{array, u32_at};
use crate::source::ReadAt;

/// `ZSTD_MAGICNUMBER`, RFC 8878, 3.1.1.
pub(crate) const MAGIC: u32 = 0xfd2f_b528;
/// The first of sixteen magic numbers of skippable frames, RFC 8878, 3.1.2.
const SKIPPABLE: u32 = 0x184d_2a50;
/// 128 MiB, what `zstd -d` accepts without being told (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`).
const WINDOW_LOG: u32 = 27;
const INPUT: usize = 256 << 10;

/// The unpacked bytes of all frames from the start of a source on.
pub(crate) struct Frames<'a> {
    source: &'a dyn ReadAt,
    /// Where the next input comes from.
    at: u64,
    input: Vec<u8>,
    used: usize,
    decoder: Decoder<'static>,
    in_frame: bool,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(source: &'a dyn ReadAt) -> io::Result<Frames<'a>> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Frames { source, at: 0, input: Vec::new(), used: 0, decoder, in_frame: false })
    }

    fn unread(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    /// Makes sure that at least `wanted` bytes are unread, unless the source ends.
    fn refill(&mut self, wanted: usize) -> io::Result<()> {
        if self.unread().len() >= wanted {
            return Ok(());
        }
        self.input.drain(..self.used);
        self.used = 0;
        let left = usize::try_from(self.source.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let held = self.input.len();
        let more = left.min(INPUT.saturating_sub(held));
        self.input.resize(held.saturating_add(more), 0);
        self.source.read_exact_at(self.input.get_mut(held..).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(more as u64);
        Ok(())
    }

    fn frame_follows(&mut self) -> io::Result<bool> {
        self.refill(4)?;
        Ok(u32_at(self.unread(), 0).is_some_and(|magic| magic == MAGIC || magic & !0xf == SKIPPABLE))
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.frame_follows()? {
                    return Ok(0);
                }
                self.decoder.reinit()?;
                self.in_frame = true;
            }
            self.refill(1)?;
            let starved = self.unread().is_empty();
            let mut input = InBuffer::around(self.input.get(self.used..).unwrap_or_default());
            let mut output = OutBuffer::around(&mut *buffer);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (taken, given) = (input.pos(), output.pos());
            self.used = self.used.saturating_add(taken);
            self.in_frame = hint != 0;
            if given > 0 {
                return Ok(given);
            }
            if starved && self.in_frame {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Memory that unpacking takes for the first frame's window, by its header (RFC 8878, 3.1.1.1); zstd's limit where
/// that cannot be told.
pub(crate) fn window(source: &dyn ReadAt) -> u64 {
    // Magic number, descriptor, and of window descriptor, dictionary id and content size the longest that go together.
    let mut head = [0; 18];
    let len = source.size().min(head.len() as u64);
    let begin = usize::try_from(len).ok().and_then(|len| head.get_mut(..len));
    let read = begin.and_then(|head| source.read_exact_at(head, 0).ok());
    let limit = 1 << WINDOW_LOG;
    read.and_then(|()| window_of(&head)).map_or(limit, |window| window.min(limit))
}

/// The window size that a frame header gives; what it lacks is zeros.
fn window_of(head: &[u8]) -> Option<u64> {
    let [descriptor, window] = array::<2>(head, 4)?;
    if descriptor & 0x20 == 0 {
        // RFC 8878, 3.1.1.1.2: exponent and mantissa.
        let base = 1_u64.checked_shl(10_u32.saturating_add(u32::from(window >> 3)))?;
        return Some(base.saturating_add((base >> 3).saturating_mul(u64::from(window & 7))));
    }
    // One segment: the window is as large as the contents, whose size stands behind the dictionary id (3.1.1.1.4).
    let at = 5_usize.saturating_add(match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    });
    match descriptor >> 6 {
        0 => array::<1>(head, at).map(|[size]| size.into()),
        1 => array(head, at).map(|size| u64::from(u16::from_le_bytes(size)).saturating_add(256)),
        2 => array(head, at).map(|size| u32::from_le_bytes(size).into()),
        _ => array(head, at).map(u64::from_le_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(source: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Frames::new(&source)?.read_to_end(&mut all)?;
        Ok(all)
    }

    fn packed(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 3).unwrap()
    }

    #[test]
    fn all_frames_are_read_and_what_follows_is_not() {
        let one = vec![7_u8; 1_000_000];
        let mut source = packed(&one);
        source.extend(SKIPPABLE.to_le_bytes());
        source.extend([3, 0, 0, 0, 1, 2, 3]);
        source.extend(packed(b"two"));
        source.extend([0; 4096]);
        let got = unpacked(source).unwrap();
        assert_eq!(got.len(), 1_000_003);
        assert!(got.ends_with(b"\x07two"));
    }

    /// zstd makes one segment of contents whose size it knows and that fit into its window.
    #[test]
    fn the_window_of_one_segment_is_the_size_of_its_contents() {
        for size in [0, 1, 255, 256, 257, 65_791, 65_792, 293_000, 2_000_000] {
            let mut packed = zstd::bulk::compress(&vec![7; size], 19).unwrap();
            assert_eq!(packed[4] & 0x20, 0x20, "{size} bytes are no single segment");
            assert_eq!(window(&packed), size as u64);
            // A dictionary id, which is skipped.
            packed[4] |= 2;
            packed.splice(5..5, [1, 2]);
            assert_eq!(window(&packed), size as u64);
        }
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0].to_vec();
        assert_eq!(window(&huge), 1 << WINDOW_LOG);
        assert_eq!(window(&packed(&vec![7; 9_000_000])), 2 << 20, "level 3 has a window of 2 MiB");
        assert_eq!(window(&vec![0x28_u8]), 1 << 10, "what is cut off is zeros");
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error() {
        let data: Vec<u8> = (0..20_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let whole = packed(&data);
        for len in (4..whole.len()).step_by(997) {
            let error = unpacked(whole[..len].to_vec()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{len} of {}", whole.len());
        }
    }
}
