//! wimlib's compressors and decompressors, chunk by chunk: what tests and fuzzers compare ours with.

use std::ptr::{self, NonNull};

use wimlib_sys as sys;

use super::Compression;

fn kind(format: Compression) -> sys::wimlib_compression_type {
    match format {
        Compression::None => sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_NONE,
        Compression::Xpress => sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_XPRESS,
        Compression::Lzx => sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_LZX,
        Compression::Lzms => sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_LZMS,
    }
}

/// wimlib's compressor of one format.
#[cfg(test)]
pub(crate) struct Compressor {
    raw: NonNull<sys::wimlib_compressor>,
}

#[cfg(test)]
impl Compressor {
    /// For chunks of up to `chunk_size` bytes; `level` is 1 to 100. `None` where memory is short, or the format does not
    /// know the chunk size.
    pub(crate) fn new(format: Compression, chunk_size: usize, level: u32) -> Option<Compressor> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a valid place for the result; the call initialises wimlib under a lock of its own.
        let code = unsafe { sys::wimlib_create_compressor(kind(format), chunk_size, level, &raw mut raw) };
        if code == 0 { NonNull::new(raw).map(|raw| Compressor { raw }) } else { None }
    }

    /// The chunk, or `None` where it does not get smaller.
    pub(crate) fn run(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; data.len()];
        // SAFETY: both buffers are valid for their lengths; `raw` is alive until `drop`.
        let len = unsafe {
            sys::wimlib_compress(
                data.as_ptr().cast(),
                data.len(),
                out.as_mut_ptr().cast(),
                out.len().saturating_sub(1),
                self.raw.as_ptr(),
            )
        };
        out.truncate(len);
        (len > 0).then_some(out)
    }
}

#[cfg(test)]
impl Drop for Compressor {
    fn drop(&mut self) {
        // SAFETY: `raw` came from wimlib_create_compressor and is freed once.
        unsafe { sys::wimlib_free_compressor(self.raw.as_ptr()) }
    }
}

/// wimlib's decompressor of one format.
pub(crate) struct Decompressor {
    raw: NonNull<sys::wimlib_decompressor>,
}

impl Decompressor {
    /// `None` where memory is short, or the format does not know the chunk size.
    pub(crate) fn new(format: Compression, chunk_size: usize) -> Option<Decompressor> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a valid place for the result; the call initialises wimlib under a lock of its own.
        let code = unsafe { sys::wimlib_create_decompressor(kind(format), chunk_size, &raw mut raw) };
        if code == 0 { NonNull::new(raw).map(|raw| Decompressor { raw }) } else { None }
    }

    /// Whether `input` is a chunk that unpacks to exactly `out.len()` bytes.
    pub(crate) fn run(&mut self, input: &[u8], out: &mut [u8]) -> bool {
        // SAFETY: both buffers are valid for their lengths and do not overlap (`out` is borrowed mutably); `raw` is
        // alive until `drop`. wimlib checks that `out` is no longer than the chunk size of the decompressor.
        let code = unsafe {
            sys::wimlib_decompress(
                input.as_ptr().cast(),
                input.len(),
                out.as_mut_ptr().cast(),
                out.len(),
                self.raw.as_ptr(),
            )
        };
        code == 0
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: `raw` came from wimlib_create_decompressor and is freed once.
        unsafe { sys::wimlib_free_decompressor(self.raw.as_ptr()) }
    }
}
