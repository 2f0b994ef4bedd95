//! The compression formats of WIM, by wimlib's decompressors: one per worker, one chunk at a time.

mod ffi;

use std::fmt;

use crate::error::WimError;

/// A WIM compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Resources are stored.
    None,
    /// XPRESS with Huffman codes.
    Xpress,
    /// LZX.
    Lzx,
    /// LZMS.
    Lzms,
}

/// The largest chunk that is accepted. LZMS is defined up to 1 GiB, but Microsoft's software stops at 64 MiB
/// (wimlib.h, `WIMLIB_COMPRESSION_TYPE_LZMS`), and a worker holds a chunk twice.
pub(crate) const MAX_CHUNK: u32 = 64 << 20;

impl Compression {
    /// The chunk sizes that the format is defined for; all are powers of two. Source: wimlib.h.
    fn chunk_sizes(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Compression::None => 1..=u32::MAX,
            Compression::Xpress => 1 << 12..=1 << 16,
            Compression::Lzx => 1 << 15..=1 << 21,
            Compression::Lzms => 1 << 15..=MAX_CHUNK,
        }
    }

    pub(crate) fn accepts_chunk(self, size: u32) -> bool {
        size.is_power_of_two() && self.chunk_sizes().contains(&size)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Xpress => "xpress",
            Compression::Lzx => "lzx",
            Compression::Lzms => "lzms",
        })
    }
}

/// One worker's decompressor, made when the first chunk needs it, and made anew where an image mixes formats.
#[derive(Default)]
pub(crate) struct Codec {
    ready: Option<(Compression, u32, ffi::Decompressor)>,
}

/// The chunk's bytes are not what its format allows.
#[derive(Debug)]
pub(crate) struct BadChunk;

impl Codec {
    /// Memory that a decompressor takes beside its buffers, at most: LZMS keeps 65536 positions of 4 bytes for its x86
    /// filter (`struct lzms_decompressor` of wimlib 1.14.4), the others less.
    pub(crate) const MEMORY: u64 = 320 << 10;

    /// Unpacks one chunk into the whole of `out`. A chunk as long as its contents is stored.
    ///
    /// # Errors
    /// `Err` when there is no memory for a decompressor; `Ok(Err)` when the chunk is damaged.
    pub(crate) fn chunk(
        &mut self,
        format: Compression,
        chunk_size: u32,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<Result<(), BadChunk>, WimError> {
        if input.len() == out.len() {
            out.copy_from_slice(input);
            return Ok(Ok(()));
        }
        let kind = match format {
            Compression::None => return Ok(Err(BadChunk)),
            Compression::Xpress => ffi::Kind::Xpress,
            Compression::Lzx => ffi::Kind::Lzx,
            Compression::Lzms => ffi::Kind::Lzms,
        };
        let decompressor = match &mut self.ready {
            Some((f, size, decompressor)) if *f == format && *size == chunk_size => decompressor,
            slot => {
                let made = ffi::Decompressor::new(kind, chunk_size)
                    .ok_or(WimError::NoMemory { bytes: u64::from(chunk_size) })?;
                &mut slot.insert((format, chunk_size, made)).2
            }
        };
        Ok(if decompressor.run(input, out) { Ok(()) } else { Err(BadChunk) })
    }
}
