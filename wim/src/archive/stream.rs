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
    let limit = 1_u64 << WINDOW_LOG;
    let mut head = [0; 14];
    let len = usize::try_from(source.size()).unwrap_or(14).min(14);
    let read = head.get_mut(..len).is_some_and(|head| source.read_exact_at(head, 0).is_ok());
    let [descriptor, window] = match array::<2>(&head, 4) {
        Some(bytes) if read => bytes,
        _ => return limit,
    };
    if descriptor & 0x20 != 0 {
        // One segment: the window is as large as the contents, which follow after an optional dictionary id.
        return limit;
    }
    let base = 1_u64.checked_shl(10_u32.saturating_add(u32::from(window >> 3))).unwrap_or(limit);
    base.saturating_add((base >> 3).saturating_mul(u64::from(window & 7))).min(limit)
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
