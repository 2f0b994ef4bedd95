//! The C entry point. Rust's own one first looks for the bounds of the stack, in `/proc/self/maps`, and prepares for its
//! overflow, which takes longer than all that we do before the units are read. A stack that overflows ends us all the
//! same, by the page that the kernel keeps beneath it.

use std::ffi::{c_char, c_int};
use std::panic::catch_unwind;
use std::process::ExitCode;

/// What the C library calls. The arguments are taken from where the standard library keeps them.
// SAFETY: the one function of this name in the program; its signature is the one that the C library calls.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    // As Rust's own entry point has it: a client that hangs up must not be our end.
    // SAFETY: no handler is set, and no other thread is there yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let code = catch_unwind(super::run_program).unwrap_or(ExitCode::from(101));
    [ExitCode::SUCCESS, ExitCode::FAILURE, ExitCode::from(2)]
        .iter()
        .zip(0..)
        .find_map(|(known, number)| (code == *known).then_some(number))
        .unwrap_or(101)
}
