//! `wimlib_create_decompressor`, `wimlib_decompress`, `wimlib_free_decompressor`: the only calls into C while reading.

use std::ptr::{self, NonNull};

use wimlib_sys as sys;

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Xpress,
    Lzx,
    Lzms,
}

pub(super) struct Decompressor {
    raw: NonNull<sys::wimlib_decompressor>,
}

// SAFETY: a decompressor is a heap object without thread-local or shared state; wimlib.h asks only that one thread
// uses it at a time, which `&mut self` of `run` enforces.
unsafe impl Send for Decompressor {}

impl Decompressor {
    /// `None` where memory is short, or the format does not know the block size.
    pub(super) fn new(kind: Kind, max_block: u32) -> Option<Decompressor> {
        let kind = match kind {
            Kind::Xpress => sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_XPRESS,
            Kind::Lzx => sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_LZX,
            Kind::Lzms => sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_LZMS,
        };
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a valid place for the result; the call initialises wimlib under a lock of its own.
        let code = unsafe { sys::wimlib_create_decompressor(kind, usize::try_from(max_block).ok()?, &raw mut raw) };
        if code == 0 { NonNull::new(raw).map(|raw| Decompressor { raw }) } else { None }
    }

    /// Whether `input` is a chunk that unpacks to exactly `out.len()` bytes.
    pub(super) fn run(&mut self, input: &[u8], out: &mut [u8]) -> bool {
        // SAFETY: both buffers are valid for their lengths and do not overlap (`out` is borrowed mutably); `raw` is
        // alive until `drop`. wimlib checks that `out` is no longer than the block size of the decompressor.
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
