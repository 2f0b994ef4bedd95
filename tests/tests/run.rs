//! `cargo xtask run` without a terminal: the check that a newcomer and CI make.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Output, Stdio};

use vm::images::{target, workspace};
use vm::root::cargo_of_caller;

fn xtask(arguments: &[&str]) -> Output {
    cargo_of_caller()
        .args(["run", "--quiet", "--package", "xtask", "--", "run", "--image", "minimal"])
        .args(arguments)
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", target())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_good_boot_ends_with_0_and_shows_what_came_up() {
    let output = xtask(&[]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in
        ["init: root initrd:/root.wim", "hello.service: done", "boot complete: 2 of 2", "after the kernel started"]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[test]
fn a_bad_boot_ends_with_1_and_the_reason() {
    let output = xtask(&["--append", "mmos.root=initrd:/nothing mmos.onfail=poweroff"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("no file /nothing"), "{shown}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the machine ended"));
}
