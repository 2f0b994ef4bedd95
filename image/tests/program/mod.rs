//! The program as its users meet it: run, with what it said.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;
use std::process::{Command, Output};

pub fn run(work: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmos-image")).args(arguments).current_dir(work).output().unwrap()
}

/// Runs what must succeed, and gives what it printed.
pub fn done(work: &Path, arguments: &[&str]) -> String {
    let output = run(work, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}\n{said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must succeed with `--json`.
pub fn json(work: &Path, arguments: &[&str]) -> serde_json::Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&done(work, &arguments)).unwrap()
}

/// Runs what must fail with this status; gives what it printed and its one line of complaint.
pub fn ended(work: &Path, status: i32, arguments: &[&str]) -> (String, String) {
    let output = run(work, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(said.starts_with("mmos-image: "), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// Runs what must fail, and gives its one line.
pub fn failed(work: &Path, arguments: &[&str]) -> String {
    ended(work, 1, arguments).1
}

/// Runs another program on the files here; `None`, said aloud, where it is not installed. Whether it succeeded, and
/// its output.
pub fn other(work: &Path, program: &str, arguments: &[&str]) -> Option<(bool, Vec<u8>)> {
    match Command::new(program).args(arguments).current_dir(work).output() {
        Ok(output) => Some((output.status.success(), output.stdout)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip::because(format!("{program} is not installed, so nothing is compared with it"));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Contents that compress somewhat, different for every seed.
pub fn contents(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut out = Vec::new();
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let [a, b, c, _] = state.to_le_bytes();
        out.extend(std::iter::repeat_n(a & 0x3f, usize::from(b % 23) + 1));
        out.push(c);
    }
    out.truncate(len);
    out
}

/// The tree `tree`, packed by tar and zstd.
pub fn tar_zst(work: &Path, tree: &str, out: &str) -> Option<()> {
    let arguments = ["--format=posix", "--xattrs", "--numeric-owner", "-C", tree, "-c", "."];
    let (packed, archive) = other(work, "tar", &arguments)?;
    assert!(packed);
    let mut encoder = zstd::Encoder::new(std::fs::File::create(work.join(out)).unwrap(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, &archive).unwrap();
    encoder.finish().unwrap();
    Some(())
}
