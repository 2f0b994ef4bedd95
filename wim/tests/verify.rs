//! Whatever unpacking would notice, verifying does, and it never takes a sound image for a damaged one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{contents, put, rich_tree, snapshot, unpack};
use wim::UnpackOptions;
use wim::capture::{CaptureOptions, Compression, capture};
use wim::verify::{Part, verify};

#[test]
fn every_damage_that_changes_the_tree_is_found() {
    for (compression, solid) in [(Compression::None, false), (Compression::Xpress, false), (Compression::Lzx, true)] {
        let work = common::fast_dir();
        let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
        fs::create_dir_all(tree.join("d")).unwrap();
        fs::write(tree.join("d/large"), contents(1, 9000)).unwrap();
        fs::write(tree.join("small"), contents(2, 300)).unwrap();
        symlink("d/large", tree.join("link")).unwrap();
        let chunk_size = (compression == Compression::Xpress).then_some(4096);
        let options = CaptureOptions { compression, solid, chunk_size, ..CaptureOptions::default() };
        capture(&tree, &image, &options).unwrap();
        let mut bytes = fs::read(&image).unwrap();
        // Without its integrity table, which would find everything.
        let integrity = usize::try_from(u64::from_le_bytes(bytes[0x84..0x8c].try_into().unwrap())).unwrap();
        bytes[0x7c..0x94].fill(0);
        bytes.truncate(integrity);
        assert!(verify(&put(&image, &bytes), &UnpackOptions::default()).unwrap().is_sound());
        let expected = snapshot(&tree);
        let (mut found, mut same) = (0, 0);
        for at in (0..bytes.len()).filter(|at| *at < 208 || at % 3 == 0) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            put(&image, &damaged);
            let is_sound = verify(&image, &UnpackOptions::default()).is_ok_and(|verified| verified.is_sound());
            let out = tempfile::tempdir_in(work.path()).unwrap();
            let is_same = unpack(&image, &out.path().join("out"), 2).is_ok();
            assert!(!is_sound || is_same, "{compression}, solid {solid}: byte {at} is damaged, and verify is content");
            if is_same {
                assert_eq!(snapshot(&out.path().join("out")), expected);
            }
            found += usize::from(!is_sound);
            same += usize::from(is_same);
        }
        assert!(found > 200 && same > 10, "{found} {same}");
    }
}

#[test]
fn every_kind_of_file_in_every_compression_is_sound() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    for n in 0..40 {
        // Links whose targets cross the ends of solid chunks.
        symlink(format!("{n}{}", "y".repeat(500)), tree.join(format!("link-{n}"))).unwrap();
    }
    for (compression, solid, chunk_size) in [
        (Compression::None, false, None),
        (Compression::Lzx, false, None),
        (Compression::Lzms, true, None),
        (Compression::Xpress, true, Some(4096)),
    ] {
        capture(&tree, &image, &CaptureOptions { compression, solid, chunk_size, ..CaptureOptions::default() })
            .unwrap();
        for workers in [1, 3] {
            let options = UnpackOptions { workers: workers.try_into().ok(), ..UnpackOptions::default() };
            let verified = verify(&image, &options).unwrap();
            assert!(verified.is_sound(), "{compression}: {:?}", verified.damage);
            assert_eq!(verified.entries, snapshot(&tree).len() as u64);
        }
    }
}

/// Solid contents that are made to lie one over the other: a few chunks would be hashed again and again.
#[test]
fn solid_contents_that_share_bytes_are_not_hashed_twice() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir_all(&tree).unwrap();
    for n in 0..20 {
        fs::write(tree.join(n.to_string()), contents(n, 2000)).unwrap();
    }
    let options = CaptureOptions { compression: Compression::Lzx, solid: true, ..CaptureOptions::default() };
    capture(&tree, &image, &options).unwrap();
    let mut bytes = fs::read(&image).unwrap();
    let field = |at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let table = field(0x38)..field(0x38) + field(0x40);
    for entry in table.step_by(50) {
        // Blobs of the solid resource, whose offsets count in it.
        if bytes[entry + 7] & 0x10 != 0 && bytes[entry + 16..entry + 24] == [0; 8] {
            bytes[entry + 8..entry + 16].fill(0);
        }
    }
    let verified = verify(&put(&image, &bytes), &UnpackOptions::default()).unwrap();
    let shared = verified.damage.iter().filter(|d| matches!(d.part, Part::Contents { .. })).count();
    assert!(shared >= 19 && verified.contents == 1, "{verified:?}");
}
