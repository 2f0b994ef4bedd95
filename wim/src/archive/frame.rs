//! Where the zstd frames of a source lie (RFC 8878, 3.1), found without decompressing them: by the length that pzstd
//! writes before each, or from block to block. So several can be decompressed at once.

use std::io;

use crate::bytes::{array, u32_at};
use crate::source::ReadAt;

/// `ZSTD_MAGICNUMBER`, RFC 8878, 3.1.1.
const MAGIC: u32 = 0xfd2f_b528;
/// The first of sixteen magic numbers of skippable frames, RFC 8878, 3.1.2.
const SKIPPABLE: u32 = 0x184d_2a50;
/// The largest header: magic number, descriptor, and of window, dictionary and content size the longest.
const HEADER: usize = 18;
/// Magic number, descriptor, size of the contents, and the header of an empty block.
const SHORTEST: u64 = 9;
/// `Block_Maximum_Size`, RFC 8878, 3.1.1.2.3.
const MAX_BLOCK: u64 = 128 << 10;
/// 128 MiB, what `zstd -d` accepts without being told (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`). zstd refuses more by itself.
pub(super) const WINDOW_LOG: u32 = 27;
/// As much of a source is looked through for the end of one frame. What is longer is decompressed alone: so far ahead
/// of the parser nothing is decompressed anyway, and a slow device should not be made to read it twice.
const LONGEST: u64 = 8 << 20;
/// Read at once while looking: block headers lie some 40 KiB apart, or, in a hostile frame, 3 bytes.
const PEEK: u64 = 512;

/// Whether what begins like this is a zstd stream. pzstd's begin with a skippable frame.
pub(crate) fn begins(head: &[u8]) -> bool {
    u32_at(head, 0).is_some_and(is_magic)
}

fn is_magic(number: u32) -> bool {
    number == MAGIC || is_skippable(number)
}

fn is_skippable(number: u32) -> bool {
    number & !0xf == SKIPPABLE
}

/// A frame that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Offset in the source.
    pub(super) start: u64,
    /// Offset behind it; `None` where only decompressing it tells.
    pub(super) end: Option<u64>,
    /// Bytes that have to be kept to decompress it.
    pub(super) window: u64,
    /// Whether a checksum stands behind its data; without, most damage in it is decompressed to other bytes.
    pub(super) has_checksum: bool,
}

/// Goes through a source from frame to frame.
pub(super) struct Scanner<'a> {
    source: &'a dyn ReadAt,
    /// Where the next frame begins.
    at: u64,
    peeked: Vec<u8>,
    peeked_at: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(source: &'a dyn ReadAt) -> Scanner<'a> {
        Scanner { source, at: 0, peeked: Vec::new(), peeked_at: 0 }
    }

    /// Where it stands.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Goes on at `at`: where a frame of unknown length has turned out to end.
    pub(super) fn resume(&mut self, at: u64) {
        self.at = at;
    }

    /// The next frame that holds data; `None` where something else follows, or nothing. After a frame without `end`,
    /// [`Scanner::resume`] has to come first.
    ///
    /// # Errors
    /// `UnexpectedEof` where the source ends in a skippable frame; `InvalidData` where a file goes on with neither a frame
    /// nor zeros: a frame with a damaged magic number, that must not be taken for the end; else what the system says.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut announced = None;
        loop {
            let start = self.at;
            let head = self.peek(start, HEADER as u64)?;
            match u32_at(head, 0) {
                Some(MAGIC) => {
                    let mut whole = [0; HEADER];
                    head.iter().zip(&mut whole).for_each(|(from, to)| *to = *from);
                    let header = Header::parse(&whole);
                    let end = match self.announced_end(start, announced)? {
                        None => self.walk(start, &header)?,
                        end => end,
                    };
                    self.at = end.unwrap_or(start);
                    let (window, has_checksum) = (header.window.min(1 << WINDOW_LOG), header.has_checksum);
                    return Ok(Some(Frame { start, end, window, has_checksum }));
                }
                Some(magic) if is_skippable(magic) => {
                    let len = u32_at(head, 4).ok_or(io::ErrorKind::UnexpectedEof)?;
                    // pzstd writes the length of a frame into one before it (contrib/pzstd/SkippableFrame.h of zstd).
                    announced = u32_at(head, 8).filter(|_| (magic, len) == (SKIPPABLE, 4));
                    let end = start.saturating_add(8).saturating_add(len.into());
                    if end > self.source.size() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.at = end;
                }
                _ if head.iter().all(|byte| *byte == 0) || !self.source.ends_with_image() => return Ok(None),
                _ => {
                    let why = format!("what follows at byte {start} is no zstd frame");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
        }
    }

    /// At most `len` bytes at `at`, fewer where the source ends. `len` is at most [`PEEK`].
    fn peek(&mut self, at: u64, len: u64) -> io::Result<&[u8]> {
        let end = at.saturating_add(len).min(self.source.size());
        let peeked_end = self.peeked_at.saturating_add(self.peeked.len() as u64);
        if at < self.peeked_at || end > peeked_end {
            let more = self.source.size().saturating_sub(at).min(PEEK);
            self.peeked.clear();
            self.peeked.resize(usize::try_from(more).unwrap_or(0), 0);
            self.peeked_at = at;
            self.source.read_exact_at(&mut self.peeked, at)?;
        }
        let from = usize::try_from(at.saturating_sub(self.peeked_at)).unwrap_or(usize::MAX);
        let rest = self.peeked.get(from..).unwrap_or_default();
        Ok(rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(rest))
    }

    /// What was announced is believed where a frame, or nothing, follows. Whoever decompresses the frame finds out
    /// whether it is true.
    fn announced_end(&self, start: u64, len: Option<u32>) -> io::Result<Option<u64>> {
        let sound = len.map(u64::from).filter(|len| *len >= SHORTEST);
        let Some(end) = sound.and_then(|len| start.checked_add(len)) else { return Ok(None) };
        let size = self.source.size();
        if end >= size {
            return Ok(Some(end).filter(|end| *end == size));
        }
        let mut head = vec![0; usize::try_from(size.saturating_sub(end)).unwrap_or(4).min(4)];
        self.source.read_exact_at(&mut head, end)?;
        Ok(Some(end).filter(|_| begins(&head)))
    }

    /// The end of the frame at `start`, from the lengths of its blocks; `None` where it is damaged, cut or long.
    fn walk(&mut self, start: u64, header: &Header) -> io::Result<Option<u64>> {
        let mut at = start.saturating_add(header.len);
        loop {
            let Some([a, b, c]) = array::<3>(self.peek(at, 3)?, 0) else { return Ok(None) };
            let block = u32::from_le_bytes([a, b, c, 0]);
            let (is_last, kind, size) = (block & 1 == 1, block >> 1 & 3, u64::from(block >> 3));
            // A run is one byte, however often repeated (RFC 8878, 3.1.1.2.2).
            let stored = match kind {
                0 | 2 if size <= MAX_BLOCK => size,
                1 if size <= MAX_BLOCK => 1,
                _ => return Ok(None),
            };
            at = at.saturating_add(3).saturating_add(stored);
            if at > self.source.size() || at.saturating_sub(start) > LONGEST {
                return Ok(None);
            }
            if is_last {
                let end = at.saturating_add(if header.has_checksum { 4 } else { 0 });
                return Ok(Some(end).filter(|end| *end <= self.source.size()));
            }
        }
    }
}

/// What the header of a frame says, RFC 8878, 3.1.1.1.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    len: u64,
    window: u64,
    has_checksum: bool,
}

impl Header {
    /// What a header lacks at the end of a source is zeros.
    fn parse(head: &[u8; HEADER]) -> Header {
        let [descriptor, window] = array::<2>(head, 4).unwrap_or_default();
        let is_one_segment = descriptor & 0x20 != 0;
        let dictionary: usize = match descriptor & 3 {
            0 => 0,
            1 => 1,
            2 => 2,
            _ => 4,
        };
        let size_at = dictionary.saturating_add(if is_one_segment { 5 } else { 6 });
        let (size_len, size) = match descriptor >> 6 {
            0 if is_one_segment => (1, head.get(size_at).map(|size| u64::from(*size))),
            0 => (0, None),
            1 => (2, array(head, size_at).map(|size| u64::from(u16::from_le_bytes(size)).saturating_add(256))),
            2 => (4, array(head, size_at).map(|size| u32::from_le_bytes(size).into())),
            _ => (8, array(head, size_at).map(u64::from_le_bytes)),
        };
        let window = if is_one_segment {
            // The window is as large as the contents.
            size.unwrap_or(u64::MAX)
        } else {
            // Exponent and mantissa. Contents that are smaller need no more than they are.
            let base = 1_u64.checked_shl(10_u32.saturating_add(u32::from(window >> 3))).unwrap_or(u64::MAX);
            base.saturating_add((base >> 3).saturating_mul(u64::from(window & 7))).min(size.unwrap_or(u64::MAX))
        };
        Header { len: size_at.saturating_add(size_len) as u64, window, has_checksum: descriptor & 4 != 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 3).unwrap()
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..u32::try_from(len / 4).unwrap())
            .flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes())
            .collect()
    }

    fn header(packed: &[u8]) -> Header {
        let mut head = [0; HEADER];
        let len = packed.len().min(HEADER);
        head[..len].copy_from_slice(&packed[..len]);
        Header::parse(&head)
    }

    fn frames(source: &Vec<u8>) -> Vec<Frame> {
        let mut scanner = Scanner::new(source);
        let mut all = Vec::new();
        while let Some(frame) = scanner.next().unwrap() {
            all.push(frame);
            if frame.end.is_none() {
                break;
            }
        }
        all
    }

    #[test]
    fn frames_are_found_from_block_to_block_and_what_follows_is_none() {
        let mut source = Vec::new();
        let mut expected = Vec::new();
        for (n, data) in [noise(1_000_000), vec![7; 3_000_000], Vec::new(), vec![1], noise(131_072)].iter().enumerate()
        {
            if n == 2 {
                source.extend((SKIPPABLE + 5).to_le_bytes());
                source.extend([3, 0, 0, 0, 1, 2, 3]);
            }
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(n % 2 == 0).unwrap();
            encoder.write_all(data).unwrap();
            let start = source.len() as u64;
            source.extend(encoder.finish().unwrap());
            expected.push((start, Some(source.len() as u64)));
        }
        source.extend([0; 4096]);
        let got: Vec<_> = frames(&source).iter().map(|frame| (frame.start, frame.end)).collect();
        assert_eq!(got, expected);
    }

    /// A device goes on behind the image with what was there before; in a file that is a frame that was damaged.
    #[test]
    fn bytes_behind_the_last_frame_are_an_error_in_a_file_and_the_end_on_a_device() {
        struct Device(Vec<u8>);
        impl ReadAt for Device {
            fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
                self.0.read_exact_at(buffer, offset)
            }
            fn size(&self) -> u64 {
                self.0.size()
            }
            fn ends_with_image(&self) -> bool {
                false
            }
        }
        let mut source = [packed(b"first"), packed(b"second")].concat();
        let second = packed(b"first").len();
        source[second] ^= 1;
        let error = |source: &dyn ReadAt| {
            let mut scanner = Scanner::new(source);
            assert!(scanner.next().unwrap().is_some());
            scanner.next()
        };
        assert_eq!(error(&source).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(error(&Device(source)).unwrap(), None);
    }

    #[test]
    fn an_announced_length_is_taken_only_where_it_can_be_true() {
        let announced = |len: usize, frame: &[u8]| {
            let len = u32::try_from(len).unwrap();
            [&SKIPPABLE.to_le_bytes()[..], &4_u32.to_le_bytes(), &len.to_le_bytes(), frame].concat()
        };
        // Damaged, so that it could not be walked.
        let mut broken = packed(&noise(5000));
        let at = usize::try_from(header(&broken).len).unwrap();
        broken[at..at + 3].copy_from_slice(&[0xff; 3]);
        let len = broken.len();
        let source = [announced(len, &broken), packed(b"second")].concat();
        assert_eq!(frames(&source)[0].end, Some(12 + len as u64));
        assert_eq!(frames(&announced(len, &broken))[0].end, Some(12 + len as u64), "the last one");
        for wrong in [0, 1, len - 1, len + 1, u32::MAX as usize] {
            let source = [announced(wrong, &broken), packed(b"second")].concat();
            assert_eq!(frames(&source)[0].end, None, "{wrong} of {len}");
        }
    }

    #[test]
    fn a_long_cut_or_damaged_frame_has_no_known_end() {
        let long = packed(&noise(9 << 20));
        assert!(long.len() as u64 > LONGEST);
        assert_eq!(frames(&long)[0].end, None);
        let short = packed(&noise(300_000));
        for cut in 4..40.min(short.len()) {
            assert_eq!(frames(&short[..cut].to_vec())[0].end, None, "{cut}");
        }
        assert_eq!(frames(&short[..short.len() - 1].to_vec())[0].end, None);
        let mut skippable = SKIPPABLE.to_le_bytes().to_vec();
        skippable.extend([9, 0, 0, 0, 1]);
        assert_eq!(Scanner::new(&skippable).next().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    /// zstd makes one segment of contents whose size it knows and that fit into its window.
    #[test]
    fn the_window_of_one_segment_is_the_size_of_its_contents() {
        for size in [0, 1, 255, 256, 257, 65_791, 65_792, 293_000, 2_000_000] {
            let mut packed = zstd::bulk::compress(&vec![7; size], 19).unwrap();
            assert_eq!(packed[4] & 0x20, 0x20, "{size} bytes are no single segment");
            assert_eq!(header(&packed).window, size as u64);
            // A dictionary id, which is skipped.
            packed[4] |= 2;
            packed.splice(5..5, [1, 2]);
            assert_eq!(header(&packed).window, size as u64);
        }
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0].to_vec();
        assert_eq!(frames(&huge)[0].window, 1 << WINDOW_LOG);
        assert_eq!(header(&packed(&vec![7; 9_000_000])).window, 2 << 20, "level 3 has a window of 2 MiB");
        assert_eq!(header(&[0x28]).window, 1 << 10, "what is cut off is zeros");
    }
}
