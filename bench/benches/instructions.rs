//! Instructions that the reader takes, counted by valgrind: parser and pipeline, each on an image made here. `cargo xtask
//! bench instructions` runs it and holds the counts against `bench/instructions.json`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a measurement may end with a panic")]

use std::fs;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use gungraun::{library_benchmark, library_benchmark_group, main};
use tempfile::TempDir;
use wim::capture::{CaptureOptions, Compression, capture};
use wim::{Root, UnpackOptions, Wim};

/// Where images and trees lie: what the kernel does is not counted.
const MEMORY: &str = "/dev/shm";

/// Contents that compress about as programs do, the same each time.
fn contents(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len.saturating_add(32));
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [byte, times, ..] = state.to_le_bytes();
        if state & 0x300 == 0 {
            out.extend(state.to_le_bytes());
        } else {
            out.extend(std::iter::repeat_n(byte & 0x1f, usize::from(times % 29).saturating_add(1)));
        }
    }
    out.truncate(len);
    out
}

fn image(grow: impl Fn(&Path), compression: Compression, solid: bool) -> (TempDir, PathBuf) {
    let work = tempfile::tempdir_in(MEMORY).unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir(&tree).unwrap();
    grow(&tree);
    let threads = Some(NonZeroUsize::MIN);
    capture(&tree, &image, &CaptureOptions { compression, solid, threads, ..CaptureOptions::default() }).unwrap();
    fs::create_dir(work.path().join("out")).unwrap();
    (work, image)
}

/// Many small files, so that tables and metadata are what there is to read.
fn many(root: &Path) {
    for n in 0..40_u32 {
        let directory = root.join(format!("directory-{n}"));
        fs::create_dir(&directory).unwrap();
        for m in 0..50_u32 {
            fs::write(directory.join(format!("a file of some name {m}")), format!("{n} {m}")).unwrap();
        }
    }
}

/// Small files, and one that is cut into jobs.
fn mixed(root: &Path) {
    for n in 0..20_u64 {
        fs::write(root.join(format!("small-{n}")), contents(n, 8000)).unwrap();
    }
    fs::write(root.join("large"), contents(99, 600_000)).unwrap();
}

fn bytes() -> Vec<u8> {
    fs::read(image(many, Compression::None, false).1).unwrap()
}

fn opened() -> Wim {
    Wim::open(Box::new(bytes())).unwrap()
}

fn root(compression: Compression, solid: bool) -> (TempDir, Root) {
    let (work, path) = image(mixed, compression, solid);
    (work, wim::root::open(&path, None).unwrap())
}

#[library_benchmark]
#[bench::header_and_blob_table(bytes())]
fn open(bytes: Vec<u8>) -> Wim {
    black_box(Wim::open(Box::new(bytes)).unwrap())
}

#[library_benchmark]
#[bench::metadata(opened())]
fn parse(wim: Wim) -> wim::tree::Tree {
    black_box(wim.tree(1).unwrap())
}

// One worker, which is the calling thread: counts of several threads depend on who takes which job.
#[library_benchmark]
#[bench::none(root(Compression::None, false))]
#[bench::xpress(root(Compression::Xpress, false))]
#[bench::lzx(root(Compression::Lzx, false))]
#[bench::lzms(root(Compression::Lzms, false))]
#[bench::solid(root(Compression::Lzms, true))]
fn unpack((work, root): (TempDir, Root)) -> TempDir {
    let options = UnpackOptions { workers: Some(NonZeroUsize::MIN), ..UnpackOptions::default() };
    black_box(root.unpack(&work.path().join("out"), &options).unwrap());
    work
}

library_benchmark_group!(name = reader, benchmarks = [open, parse, unpack]);
main!(library_benchmark_groups = reader);
