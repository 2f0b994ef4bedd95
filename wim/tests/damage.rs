//! Small images of every kind, cut at every length and with every byte changed: each time a clear error or the very tree
//! that was captured, in bounded time and memory. Never wrong contents.
//!
//! A WIM protects its metadata and its contents by SHA-1, an archive all by zstd's checksum, so the tree comes out whole
//! or not at all. What may be changed without being noticed is listed in `common::damaged::free_fields`, and a byte outside that list
//! that is changed without an error fails the test, even where the tree is right.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use std::fs;

use common::archive;
use common::damaged::{Case, Way, all_in, free_fields};
use wim::capture::{CaptureOptions, Compression, capture};

/// How the image of a case is made.
#[derive(Clone, Copy)]
enum Kind {
    Wim { compression: Compression, solid: bool, chunk_size: Option<u32>, large: usize },
    Tar { frames: usize },
    Cpio { frames: usize },
}

fn case(kind: Kind) -> Case {
    let large = if let Kind::Wim { large, .. } = kind { large } else { 3000 };
    let case = Case::new(large, Way::File, |tree, work| {
        let image = work.join("image");
        match kind {
            Kind::Wim { compression, solid, chunk_size, .. } => {
                let options = CaptureOptions { compression, solid, chunk_size, ..CaptureOptions::default() };
                capture(tree, &image, &options).unwrap();
            }
            Kind::Tar { frames } => fs::write(&image, archive::in_frames(&archive::tar(tree), frames)).unwrap(),
            Kind::Cpio { frames } => fs::write(&image, archive::in_frames(&archive::cpio(tree), frames)).unwrap(),
        }
        Some(vec![image])
    });
    case.unwrap()
}

fn wim_is_refused_or_whole(compression: Compression, solid: bool, chunk_size: Option<u32>, large: usize) {
    let case = case(Kind::Wim { compression, solid, chunk_size, large });
    let free = free_fields(&case.bytes[0], 0, 1);
    let flipped = case.flip_everywhere(0, 0..case.bytes[0].len());
    println!("{} bytes, {} of them may change", case.bytes[0].len(), flipped.len());
    all_in(&flipped, &free);
    // The integrity table comes last, and the header says where it ends.
    assert_eq!(case.cut_everywhere(0), Vec::<usize>::new(), "lengths that were accepted");
}

#[test]
fn a_wim_without_compression() {
    wim_is_refused_or_whole(Compression::None, false, None, 600);
}

#[test]
fn a_wim_of_xpress() {
    wim_is_refused_or_whole(Compression::Xpress, false, Some(4096), 10_000);
}

#[test]
fn a_wim_of_lzx() {
    wim_is_refused_or_whole(Compression::Lzx, false, Some(32768), 40_000);
}

#[test]
fn a_wim_of_lzms() {
    wim_is_refused_or_whole(Compression::Lzms, false, Some(32768), 40_000);
}

#[test]
fn a_solid_wim_of_xpress() {
    wim_is_refused_or_whole(Compression::Xpress, true, Some(4096), 10_000);
}

#[test]
fn a_solid_wim_of_lzx() {
    wim_is_refused_or_whole(Compression::Lzx, true, Some(32768), 40_000);
}

#[test]
fn a_solid_wim_of_lzms() {
    wim_is_refused_or_whole(Compression::Lzms, true, Some(32768), 40_000);
}

/// Files that are cut into several jobs, whose hash is passed on from one worker to the next.
#[test]
fn a_wim_of_large_files() {
    for (compression, solid) in [(Compression::None, false), (Compression::Xpress, false), (Compression::Lzx, true)] {
        let chunk_size = (compression != Compression::None).then_some(32768);
        let case = case(Kind::Wim { compression, solid, chunk_size, large: 1_200_000 });
        let free = free_fields(&case.bytes[0], 0, 1);
        let contents = 208..case.bytes[0].len() - 2000;
        all_in(&case.flip_everywhere(0, contents.clone().step_by(contents.len() / 40)), &free);
    }
}

fn archive_is_refused_or_whole(kind: Kind) {
    let case = case(kind);
    let flipped = case.flip_everywhere(0, 0..case.bytes[0].len());
    println!("{} bytes, {} of them may change", case.bytes[0].len(), flipped.len());
    // Of a frame's header that which says how it is read; and where two encodings stand for the same bytes. The checksum
    // is over what comes out.
    assert!(flipped.len() < 20, "bytes changed without an error: {flipped:?}");
    assert_eq!(case.cut_everywhere(0), Vec::<usize>::new(), "lengths that were accepted");
}

#[test]
fn a_tar_in_one_zstd_frame() {
    archive_is_refused_or_whole(Kind::Tar { frames: 1 });
}

#[test]
fn a_tar_in_several_zstd_frames() {
    archive_is_refused_or_whole(Kind::Tar { frames: 3 });
}

#[test]
fn a_cpio_in_one_zstd_frame() {
    archive_is_refused_or_whole(Kind::Cpio { frames: 1 });
}

#[test]
fn a_cpio_in_several_zstd_frames() {
    archive_is_refused_or_whole(Kind::Cpio { frames: 3 });
}
