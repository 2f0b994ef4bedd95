//! The compression formats of WIM: safe decoders, one of each per worker, one chunk at a time. They know no more than
//! the chunk that they are given, and hold nothing of it when they are done.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "numbers are bounded by the bits that they are read from and by the size of a chunk"
)]

mod bits;
mod calls;
mod huffman;
mod lzms;
mod lzx;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod reference;
#[cfg(test)]
mod tests;
mod token;
mod window;
mod xpress;

use std::fmt;

use lzms::Lzms;
use lzx::Lzx;
use xpress::Xpress;

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
    xpress: Option<Box<Xpress>>,
    lzx: Option<Box<Lzx>>,
    lzms: Option<Box<Lzms>>,
}

/// The chunk's bytes are not what its format allows.
#[derive(Debug)]
pub(crate) struct BadChunk;

impl Codec {
    /// Memory that the decoders of a worker take beside its buffers, at most: LZMS keeps where each of 65536 addresses was
    /// used last, 128 KiB, and its codes; the others less.
    pub(crate) const MEMORY: u64 = 320 << 10;

    /// Unpacks one chunk into the whole of `out`. A chunk as long as its contents is stored.
    ///
    /// # Errors
    /// When the chunk is damaged; then what `out` holds means nothing.
    pub(crate) fn chunk(
        &mut self,
        format: Compression,
        chunk_size: u32,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<(), BadChunk> {
        if input.len() == out.len() {
            out.copy_from_slice(input);
            return Ok(());
        }
        match format {
            Compression::None => Err(BadChunk),
            Compression::Xpress => self.xpress.get_or_insert_with(|| Box::new(Xpress::new())).chunk(input, out),
            Compression::Lzx => self.lzx.get_or_insert_with(|| Box::new(Lzx::new())).chunk(input, chunk_size, out),
            Compression::Lzms => self.lzms.get_or_insert_with(|| Box::new(Lzms::new())).chunk(input, out),
        }
    }
}
