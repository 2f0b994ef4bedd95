//! PID 1. The kernel runs it as `/init` of the initramfs (stage 1), stage 1 as `/sbin/init` of the root (stage 2).
//! Anywhere else it says what it is, and does nothing.
#![no_main]

mod ffi;

use std::process::ExitCode;

/// By this name the kernel runs what it finds in an initramfs (`rdinit=` says otherwise).
const STAGE_1: &str = "/init";

/// What to do, by how we were called.
fn run() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if std::process::id() == 1 {
        if name == STAGE_1 { init::stage1::run() } else { init::stage2::run() }
    }
    if arguments.next().is_some_and(|argument| argument == "--params") {
        print!("{}", init::params::markdown());
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "init {}: PID 1 of mmos, both stages. It runs only as process 1: as /init of an initramfs, then as /sbin/init \
         of the root that it unpacked.\nHere it prints the kernel parameters that it takes: init --params",
        env!("CARGO_PKG_VERSION")
    );
    ExitCode::from(2)
}
