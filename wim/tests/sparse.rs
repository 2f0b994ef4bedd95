//! Sparse files in archives of GNU tar, in each way in which it has ever written them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::archive::{SPARSE, in_frames, sparse};
use common::{assert_same, contents, unpack};
use wim::listing::{Listing, ListingOptions};

/// Files with holes in each place, one of more stretches than a header has room for, one that is all hole, one without.
fn grow(tree: &Path) {
    fs::create_dir(tree).unwrap();
    let file = |name: &str, stretches: &[(u64, usize)], length: u64| {
        let file = File::create(tree.join(name)).unwrap();
        for (at, len) in stretches {
            file.write_all_at(&contents(*at, *len), *at).unwrap();
        }
        file.set_len(length).unwrap();
        // Whole seconds, which is all that tar's older formats have.
        common::set_time(&tree.join(name), 1_600_000_000, 0);
    };
    file("begins and ends with a hole", &[(1 << 20, 5000)], 3 << 20);
    file("ends with contents", &[(0, 4096), (100_000, 77)], 100_077);
    let many: Vec<(u64, usize)> = (0..150).map(|n| (n * 64 * 1024, 4096)).collect();
    file("many", &many, 200 * 64 * 1024);
    file("hole", &[], 10 << 20);
    file("none", &[(0, 9000)], 9000);
    file(&format!("{}-with-a-long-name", "x".repeat(120)), &[(40_960, 100)], 1 << 20);
    common::set_time(tree, 1_600_000_000, 0);
}

fn blocks(tree: &Path) -> u64 {
    fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn files_are_the_same_and_have_their_holes() {
    let work = common::fast_dir();
    let tree = work.path().join("tree");
    grow(&tree);
    for format in SPARSE {
        let tar = sparse(&tree, format).expect("GNU tar");
        assert!(tar.len() < 1_000_000, "{format:?}: it is not sparse");
        for frames in [1, 5] {
            let image = common::put(&work.path().join("image"), &in_frames(&tar, frames));
            let out = tempfile::tempdir_in(work.path()).unwrap();
            let root = wim::root::open(&image, None).unwrap();
            let need = root.need().unwrap();
            unpack(&image, &out.path().join("out"), 2).unwrap();
            assert_same(&tree, &out.path().join("out"), &format!("{format:?}"));
            let taken = blocks(&out.path().join("out"));
            assert!(taken <= need.bytes && need.bytes < taken + (1 << 20), "{taken} of {need:?}");
            assert!(need.bytes < 2 << 20, "a hole takes no memory: {need:?}");
        }
    }
}

#[test]
fn a_list_says_lengths_and_hashes_and_a_part_is_extracted() {
    let work = common::fast_dir();
    let (tree, image) = (work.path().join("tree"), work.path().join("image"));
    grow(&tree);
    let mut hashes = Vec::new();
    for format in SPARSE {
        let tar = sparse(&tree, format).expect("GNU tar");
        common::put(&image, &in_frames(&tar, 2));
        let options = ListingOptions { hash: true, ..ListingOptions::default() };
        let listing = Listing::open(&image, &options).unwrap();
        let mut of_format = Vec::new();
        for name in listing.children(0).to_vec() {
            let path = tree.join(String::from_utf8(listing.tree().path(name)).unwrap());
            let (number, inode) = listing.inode(name).unwrap();
            assert_eq!(listing.size(number), fs::metadata(&path).unwrap().len(), "{}", path.display());
            of_format.push(inode.sha1());
            let mut written = Vec::new();
            listing.write_file(number, &mut written).unwrap();
            assert!(written == fs::read(&path).unwrap(), "{format:?}: {}", path.display());
        }
        hashes.push(of_format);
        let out = tempfile::tempdir_in(work.path()).unwrap();
        let names = listing.children(0).to_vec();
        listing.extract(&names, out.path(), &wim::UnpackOptions::default()).unwrap();
        for entry in fs::read_dir(&tree).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(fs::read(tree.join(&name)).unwrap() == fs::read(out.path().join(&name)).unwrap(), "{name:?}");
        }
        assert!(blocks(out.path()) < 2 << 20, "holes");
    }
    assert!(hashes.iter().all(|of_format| *of_format == hashes[0]));
}
