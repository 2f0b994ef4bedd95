//! Keeps cargo from building wimlib anew on every run. wimlib-sys 0.3 tells cargo to watch `wimlib.h`, which its own
//! build installs after cargo has noted the time, so that the header always looks changed. This script runs after that
//! build (a dependency with `links` goes first) and sets the header's time back.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // OUT_DIR is target/PROFILE/build/wim-HASH/out; wimlib-sys has its own beside it.
    let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let Some(builds) = out.ancestors().nth(2) else { return };
    for header in headers(builds) {
        // Where this cannot be done, builds are slow and right.
        if let Ok(file) = std::fs::File::options().append(true).open(&header) {
            let _ = file.set_modified(SystemTime::UNIX_EPOCH);
        }
        println!("cargo::rerun-if-changed={}", header.display());
    }
}

fn headers(builds: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(builds) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("wimlib-sys-"))
        .map(|entry| entry.path().join("out/include/wimlib.h"))
        .filter(|header| header.exists())
        .collect()
}
