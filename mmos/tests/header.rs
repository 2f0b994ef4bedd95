//! `include/mmos.h` is generated and checked in, so that a C program can be built from a checkout alone. This test
//! fails when it is not what `src/ffi.rs` says; `UPDATE=1 cargo test -p mmos --test header` writes it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn the_c_header_is_what_the_source_says() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = here.join("include/mmos.h");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_src(here.join("src/ffi.rs"))
        .with_config(cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap())
        .generate()
        .unwrap()
        .write(&mut made);
    let made = String::from_utf8(made).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&header, &made).unwrap();
    }
    let there = std::fs::read_to_string(&header).unwrap_or_default();
    assert!(there == made, "mmos/include/mmos.h is stale: UPDATE=1 cargo test -p mmos --test header");
}
