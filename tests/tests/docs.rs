//! What the documents say is what the programs do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use vm::images::{device_binaries, workspace};

const BEGIN: &str = "<!-- parameters: made by `init --params`; a test compares -->\n";
const END: &str = "<!-- /parameters -->";

/// Run with `UPDATE=1` to write the table anew.
#[test]
fn the_readme_has_the_kernel_parameters_that_init_knows() {
    let made = Command::new(device_binaries().join("init")).arg("--params").output().unwrap();
    let table = String::from_utf8(made.stdout).unwrap();
    let path = workspace().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has a place for the table");
    let (there, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert!(there == table, "the README's table is not what `init --params` prints; run this test with UPDATE=1");
    }
}
