//! The C interface, `include/mmos.h`. The header is made of this file: `UPDATE=1 cargo test -p mmos --test header`.

use std::ffi::c_int;
use std::panic::catch_unwind;

use rustix::io::Errno;

/// Whether this program runs on mmos, the manufacturing OS.
///
/// Writes the answer to `*answer`; where it cannot be told, false. May be called from any thread, at any time.
///
/// Returns 0, or a negative errno value where it cannot be told: -EINVAL if `answer` is NULL, -EBADMSG if the boot
/// record is rubbish, -EPERM if others than root can write it, -ENOSYS if /proc is not the kernel's or the kernel is
/// older than 5.6, -EIO for anything unforeseen, and what the kernel said (-EACCES, ...) if it did not let us look.
/// A program that must run on mmos only goes on if 0 was returned and the answer is true.
///
/// What the answer is worth, and against whom: docs/libmmos.md.
///
/// # Safety
/// `answer` is NULL, or points to a `bool` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmos_is_mmos(answer: *mut bool) -> c_int {
    // SAFETY: the caller promises that a pointer that is not NULL points to a bool that may be written.
    let Some(answer) = (unsafe { answer.as_mut() }) else {
        return Errno::INVAL.raw_os_error().saturating_neg();
    };
    *answer = false;
    match catch_unwind(crate::is_mmos) {
        Ok(Ok(yes)) => {
            *answer = yes;
            0
        }
        Ok(Err(error)) => error.errno().saturating_neg(),
        Err(_panic) => Errno::IO.raw_os_error().saturating_neg(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_an_error_and_not_a_crash() {
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { mmos_is_mmos(std::ptr::null_mut()) }, -22);
    }
}
