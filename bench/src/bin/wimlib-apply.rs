//! `wimlib-apply IMAGE DIRECTORY`: image 1 of a WIM into a directory by wimlib's own extraction: what ours is measured
//! against. The library is bundled by `wimlib-sys`, of version 1.14.4.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Option<Vec<CString>> =
        std::env::args_os().skip(1).map(|argument| CString::new(argument.into_vec()).ok()).collect();
    let done = match arguments.as_deref() {
        Some([image, directory]) => ffi::apply(image, directory),
        _ => Err("usage: wimlib-apply IMAGE DIRECTORY".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("wimlib-apply: {why}");
            ExitCode::FAILURE
        }
    }
}

mod ffi {
    use std::ffi::{CStr, c_int};
    use std::ptr;

    use wimlib_sys as sys;

    struct Handle(*mut sys::WIMStruct);

    impl Drop for Handle {
        fn drop(&mut self) {
            // SAFETY: the handle came from wimlib_open_wim and is freed once.
            unsafe { sys::wimlib_free(self.0) }
        }
    }

    pub(super) fn apply(image: &CStr, directory: &CStr) -> Result<(), String> {
        let mut raw = ptr::null_mut();
        // SAFETY: the path ends in NUL, and `raw` is a valid place for the handle.
        check(unsafe { sys::wimlib_open_wim(image.as_ptr(), 0, &raw mut raw) })?;
        let wim = Handle(raw);
        let flags = c_int::try_from(sys::WIMLIB_EXTRACT_FLAG_UNIX_DATA).map_err(|e| e.to_string())?;
        // SAFETY: the handle is valid, and the path ends in NUL.
        check(unsafe { sys::wimlib_extract_image(wim.0, 1, directory.as_ptr(), flags) })
    }

    fn check(code: c_int) -> Result<(), String> {
        match u32::try_from(code) {
            Ok(0) => Ok(()),
            code => {
                // SAFETY: wimlib.h: the result is a static string, for any number.
                let words = unsafe { CStr::from_ptr(sys::wimlib_get_error_string(code.unwrap_or(u32::MAX))) };
                Err(words.to_string_lossy().into_owned())
            }
        }
    }
}
