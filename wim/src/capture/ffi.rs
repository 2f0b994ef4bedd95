//! wimlib's writer, in one call: a directory into a new WIM. The handle lives only inside that call.

use std::ffi::{CStr, CString, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use wimlib_sys as sys;

/// What to write, in wimlib's terms.
pub(super) struct Order<'a> {
    pub(super) directory: &'a CStr,
    pub(super) out: &'a CStr,
    pub(super) name: Option<&'a CStr>,
    pub(super) compression: u32,
    pub(super) solid: bool,
    pub(super) pipable: bool,
    pub(super) chunk_size: u32,
    pub(super) threads: u32,
}

/// wimlib's error code in words, and the file that it is about where wimlib says so.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) file: Option<CString>,
}

/// Bytes done and bytes in all, of compression.
pub(super) type OnProgress<'a> = &'a dyn Fn(u64, u64);

pub(super) const NONE: u32 = sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_NONE;
pub(super) const XPRESS: u32 = sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_XPRESS;
pub(super) const LZX: u32 = sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_LZX;
pub(super) const LZMS: u32 = sys::wimlib_compression_type_WIMLIB_COMPRESSION_TYPE_LZMS;

/// What wimlib says of a capture when it is done.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) bytes: u64,
    pub(super) threads: u32,
}

struct Context<'a> {
    progress: Option<OnProgress<'a>>,
    counts: Counts,
    file: Option<CString>,
}

struct Handle(*mut sys::WIMStruct);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from wimlib_create_new_wim and is freed once.
        unsafe { sys::wimlib_free(self.0) }
    }
}

pub(super) fn write(order: &Order<'_>, progress: Option<OnProgress<'_>>) -> Result<Counts, Refused> {
    let mut context = Context { progress, counts: Counts::default(), file: None };
    let result = run(order, &mut context);
    match result {
        Ok(()) => Ok(context.counts),
        Err(code) => Err(Refused { why: words(code), file: context.file.take() }),
    }
}

fn run(order: &Order<'_>, context: &mut Context<'_>) -> Result<(), c_int> {
    let check = |code: c_int| if code == 0 { Ok(()) } else { Err(code) };
    let name = order.name.map_or(ptr::null(), CStr::as_ptr);
    let mut raw = ptr::null_mut();
    // SAFETY: `raw` is a valid place for the handle.
    check(unsafe { sys::wimlib_create_new_wim(order.compression, &raw mut raw) })?;
    let wim = Handle(raw);
    // SAFETY: the handle is valid. `context` outlives it: it is freed when this function returns, and wimlib calls the
    // function only from within the calls below, on this thread.
    unsafe { sys::wimlib_register_progress_function(wim.0, Some(on_message), ptr::from_mut(context).cast()) };
    if order.solid {
        // SAFETY: the handle is valid.
        check(unsafe { sys::wimlib_set_output_pack_compression_type(wim.0, order.compression) })?;
        // SAFETY: as above.
        check(unsafe { sys::wimlib_set_output_pack_chunk_size(wim.0, order.chunk_size) })?;
    } else if order.chunk_size != 0 {
        // SAFETY: as above.
        check(unsafe { sys::wimlib_set_output_chunk_size(wim.0, order.chunk_size) })?;
    }
    let add = sys::WIMLIB_ADD_FLAG_UNIX_DATA | sys::WIMLIB_ADD_FLAG_NORPFIX | sys::WIMLIB_ADD_FLAG_BOOT;
    // SAFETY: the handle is valid, the strings end in NUL and live until the call returns, null stands for "no name"
    // and "no configuration".
    check(unsafe { sys::wimlib_add_image(wim.0, order.directory.as_ptr(), name, ptr::null(), flags(add)) })?;
    let solid = if order.solid { sys::WIMLIB_WRITE_FLAG_SOLID } else { 0 };
    let pipable = if order.pipable { sys::WIMLIB_WRITE_FLAG_PIPABLE } else { 0 };
    let write = solid | pipable | sys::WIMLIB_WRITE_FLAG_CHECK_INTEGRITY;
    // SAFETY: as above.
    let written =
        unsafe { sys::wimlib_write(wim.0, order.out.as_ptr(), sys::WIMLIB_ALL_IMAGES, flags(write), order.threads) };
    check(written)
}

fn flags(bits: u32) -> c_int {
    c_int::from_ne_bytes(bits.to_ne_bytes())
}

fn words(code: c_int) -> String {
    let code = u32::try_from(code).unwrap_or(0);
    // SAFETY: wimlib.h: the result is a static string, for any number.
    unsafe { CStr::from_ptr(sys::wimlib_get_error_string(code)) }.to_string_lossy().into_owned()
}

unsafe extern "C" fn on_message(
    message: sys::wimlib_progress_msg,
    info: *mut sys::wimlib_progress_info,
    context: *mut c_void,
) -> sys::wimlib_progress_status {
    // SAFETY: `context` is the Context that `run` registered; wimlib calls from one thread at a time, while `run` does
    // not use it.
    let context = unsafe { &mut *context.cast::<Context<'_>>() };
    let took = catch_unwind(AssertUnwindSafe(|| match message {
        sys::wimlib_progress_msg_WIMLIB_PROGRESS_MSG_WRITE_STREAMS => {
            // SAFETY: wimlib.h: with this message, `info` points to the member `write_streams`.
            let streams = unsafe { &(*info).write_streams };
            context.counts.bytes = streams.completed_bytes;
            context.counts.threads = streams.num_threads;
            if let Some(progress) = context.progress {
                progress(streams.completed_bytes, streams.total_bytes);
            }
        }
        sys::wimlib_progress_msg_WIMLIB_PROGRESS_MSG_HANDLE_ERROR => {
            // SAFETY: as above, with `handle_error`.
            let path = unsafe { (*info).handle_error.path };
            if !path.is_null() {
                // SAFETY: wimlib.h: the path is a NUL-terminated string, valid during the call.
                context.file = Some(unsafe { CStr::from_ptr(path) }.to_owned());
            }
        }
        _ => {}
    }));
    // A panic must not go through C.
    match took {
        Ok(()) => sys::wimlib_progress_status_WIMLIB_PROGRESS_STATUS_CONTINUE,
        Err(_) => sys::wimlib_progress_status_WIMLIB_PROGRESS_STATUS_ABORT,
    }
}
