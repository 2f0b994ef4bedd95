//! The C entry point. Rust's own one ends the process when descriptors 0 to 2 are closed and there is no `/dev/null`,
//! which is how the kernel starts PID 1 on a device without a console: the end of PID 1 is a kernel panic.

use std::ffi::{c_char, c_int};
use std::panic::catch_unwind;
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};

/// What the C library calls. The arguments are taken from where the standard library keeps them.
// SAFETY: the one function of this name in the program; its signature is the one that the C library calls.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    hold_standard_descriptors();
    let code = catch_unwind(super::run).unwrap_or(ExitCode::from(2));
    if std::process::id() == 1 {
        // Cannot be reached: both stages never return. But if it were, PID 1 must not end.
        loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
    }
    c_int::from(code != ExitCode::SUCCESS).saturating_mul(2)
}

/// Opens what is closed of the descriptors 0 to 2, so that no file that is opened later is taken for one of them. Any
/// descriptor will do: nothing is read from it, and what is written to it may be lost.
fn hold_standard_descriptors() {
    loop {
        let opened = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())
            .or_else(|_| rustix::fs::open("/", OFlags::RDONLY, Mode::empty()));
        match opened {
            Ok(fd) if std::os::fd::AsRawFd::as_raw_fd(&fd) <= 2 => std::mem::forget(fd),
            Ok(_) | Err(_) => return,
        }
    }
}
