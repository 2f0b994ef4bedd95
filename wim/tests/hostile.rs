//! Damaged and hostile WIMs: whatever the bytes are, the outcome is a clear error or the very tree that was captured,
//! in bounded time and memory, and inside the target.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod common;

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{contents, put, snapshot, unpack};
use proptest::prelude::*;
use wim::WimError;
use wim::capture::{CaptureOptions, Compression, capture};

/// A small tree that has a file in several chunks, a link, a hard link and equal files.
fn small_image(work: &Path, compression: Compression, solid: bool) -> (PathBuf, Vec<u8>) {
    let (tree, image) = (work.join("tree"), work.join("root.wim"));
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::write(tree.join("d/large"), contents(1, 14_000)).unwrap();
    fs::write(tree.join("d/small"), contents(2, 700)).unwrap();
    fs::write(tree.join("d/equal"), contents(2, 700)).unwrap();
    fs::hard_link(tree.join("d/small"), tree.join("hard")).unwrap();
    symlink("d/small", tree.join("link")).unwrap();
    let chunk_size = (compression == Compression::Xpress).then_some(4096);
    let options = CaptureOptions { compression, solid, chunk_size, ..CaptureOptions::default() };
    capture(&tree, &image, &options).unwrap();
    let bytes = fs::read(image).unwrap();
    (tree, bytes)
}

/// Unpacks the bytes; an error must say something, and a success must be the tree.
fn judge(work: &Path, tree: &Path, bytes: &[u8], what: &str) -> Result<(), wim::Error> {
    let image = put(&work.join("image"), bytes);
    let out = tempfile::tempdir_in(work).unwrap();
    let target = out.path().join("target");
    let result = unpack(&image, &target, 2);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "{what}: something is beside the target");
    match result {
        Ok(_) => {
            assert_eq!(snapshot(tree), snapshot(&target), "{what}: another tree");
            Ok(())
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Err(error)
        }
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_changes_nothing() {
    for (compression, solid) in [(Compression::None, false), (Compression::Xpress, false), (Compression::Lzx, true)] {
        let work = common::fast_dir();
        let (tree, bytes) = small_image(work.path(), compression, solid);
        judge(work.path(), &tree, &bytes, "as captured").unwrap();
        let mut refused = 0;
        for at in (0..bytes.len()).filter(|at| *at < 208 || at % 5 == 0 || *at > bytes.len() - 600) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            refused += usize::from(judge(work.path(), &tree, &bytes, &format!("byte {at}")).is_err());
        }
        assert!(refused > 300, "only {refused} flips were noticed");
    }
}

#[test]
fn a_wim_cut_anywhere_is_refused() {
    let work = common::fast_dir();
    let (tree, bytes) = small_image(work.path(), Compression::Lzx, false);
    // Behind the XML there is only the integrity table, which nothing here needs.
    let field = |at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let xml_end = field(0x48 + 8) + field(0x48 + 16);
    for len in (0..xml_end).filter(|len| *len < 300 || len % 17 == 0 || *len > xml_end - 50) {
        let error = judge(work.path(), &tree, &bytes[..len], &format!("{len} bytes")).unwrap_err();
        if len >= 8 {
            let source = error.source().unwrap().to_string();
            assert!(source.contains("cut short"), "{len}: {source}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn any_rewritten_bytes_are_an_error_or_change_nothing(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        solid in any::<bool>(),
    ) {
        let work = common::fast_dir();
        let (tree, mut bytes) = small_image(work.path(), Compression::Xpress, solid);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = judge(work.path(), &tree, &bytes, "edited");
    }
}

/// Offset of the blob table's entry for the file of these contents' stored size.
fn entry_of(bytes: &[u8], size: u64) -> usize {
    let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (begin, len) = (usize::try_from(field(0x30 + 8)).unwrap(), usize::try_from(field(0x30 + 16)).unwrap());
    (begin..begin + len).step_by(50).find(|at| field(at + 16) == size).expect("the blob is in the table")
}

fn set(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_small_file_that_claims_terabytes_is_refused_at_once() {
    let work = common::fast_dir();
    let (tree, bytes) = small_image(work.path(), Compression::Xpress, false);
    let at = entry_of(&bytes, 14_000);
    // More than its chunk table could describe.
    let mut bomb = bytes.clone();
    set(&mut bomb, at + 16, 1 << 45);
    let error = judge(work.path(), &tree, &bomb, "terabytes").unwrap_err();
    assert!(error.source().unwrap().to_string().contains("do not decompress"), "{error:?}");
    // Stored terabytes that are not there.
    let mut bomb = bytes.clone();
    set(&mut bomb, at, 1 << 45);
    let error = judge(work.path(), &tree, &bomb, "stored terabytes").unwrap_err();
    assert!(matches!(error.source().unwrap().downcast_ref(), Some(WimError::Truncated { .. })), "{error:?}");
    // An offset that overflows.
    let mut bomb = bytes.clone();
    set(&mut bomb, at + 8, u64::MAX - 10);
    judge(work.path(), &tree, &bomb, "an offset").unwrap_err();
    // Metadata of terabytes.
    let mut entries = (0..20).map(|n| first_entry(&bytes) + n * 50);
    let at = entries.find(|at| bytes[at + 7] & 2 != 0).expect("the metadata is in the table");
    let mut bomb = bytes.clone();
    set(&mut bomb, at + 16, 1 << 45);
    let error = judge(work.path(), &tree, &bomb, "metadata of terabytes").unwrap_err();
    assert!(matches!(error.source().unwrap().downcast_ref(), Some(WimError::TooLarge { .. })), "{error:?}");
    // A blob table of terabytes.
    let mut bomb = bytes.clone();
    set(&mut bomb, 0x30 + 16, 50 << 40);
    judge(work.path(), &tree, &bomb, "a table of terabytes").unwrap_err();
}

fn first_entry(bytes: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[0x38..0x40].try_into().unwrap())).unwrap()
}

#[test]
fn contents_that_share_bytes_are_refused() {
    let work = common::fast_dir();
    let (tree, mut bytes) = small_image(work.path(), Compression::None, false);
    let (large, small) = (entry_of(&bytes, 14_000), entry_of(&bytes, 700));
    let offset = u64::from_le_bytes(bytes[large + 8..large + 16].try_into().unwrap());
    set(&mut bytes, small + 8, offset + 100);
    let error = judge(work.path(), &tree, &bytes, "shared bytes").unwrap_err();
    assert!(error.source().unwrap().to_string().contains("share bytes"), "{error:?}");
}

/// The same solid resource again and again in one run: each would have a chunk table of its own in memory.
#[test]
fn a_solid_resource_that_is_listed_twice_is_refused() {
    let work = common::fast_dir();
    let (tree, bytes) = small_image(work.path(), Compression::Lzx, true);
    let solid = (first_entry(&bytes)..bytes.len() - 50)
        .step_by(50)
        .find(|at| bytes[at + 16..at + 24] == 0x1_0000_0000_u64.to_le_bytes())
        .expect("the image has a solid resource");
    let entry = bytes[solid..solid + 50].to_vec();
    let field = |at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let table = bytes[field(0x38)..field(0x38) + field(0x40)].to_vec();
    for (shift, times) in [(0, 1), (0, 3000), (1, 1)] {
        // A table of its own at the end, for the larger one.
        let mut bomb = bytes.clone();
        let begin = bomb.len() as u64;
        let mut again = entry.clone();
        let offset = u64::from_le_bytes(again[8..16].try_into().unwrap()) + shift;
        set(&mut again, 8, offset);
        let at = solid - first_entry(&bytes);
        bomb.extend(&table[..at]);
        bomb.extend(again.repeat(times));
        bomb.extend(&table[at..]);
        let len = bomb.len() as u64 - begin;
        // Not compressed, as the header's size field has its flags in the highest byte.
        set(&mut bomb, 0x30, len);
        set(&mut bomb, 0x38, begin);
        set(&mut bomb, 0x40, len);
        let error = judge(work.path(), &tree, &bomb, "listed again").unwrap_err();
        assert!(error.source().unwrap().to_string().contains("share bytes"), "{error:?}");
    }
}

/// Its length would otherwise be said to go beyond the file that it lies in.
#[test]
fn a_wim_whose_metadata_is_cut_off_is_refused_when_it_is_opened() {
    let work = common::fast_dir();
    let (_, bytes) = small_image(work.path(), Compression::None, false);
    let mut entries = (0..20).map(|n| first_entry(&bytes) + n * 50);
    let at = entries.find(|at| bytes[at + 7] & 2 != 0).expect("the metadata is in the table");
    let open = |offset: u64| {
        let mut bytes = bytes.clone();
        set(&mut bytes, at + 8, offset);
        wim::Wim::open(Box::new(bytes))
    };
    let len = bytes.len() as u64;
    let error = open(len - 8).unwrap_err();
    assert!(matches!(error, WimError::Truncated { what: "the metadata of an image", .. }), "{error:?}");
    assert_eq!(open(208).unwrap().length(), wim::Wim::open(Box::new(bytes.clone())).unwrap().length());
}

#[test]
fn a_wrong_hash_names_the_file() {
    let work = common::fast_dir();
    let (tree, mut bytes) = small_image(work.path(), Compression::None, false);
    let entry = entry_of(&bytes, 14_000);
    let at = usize::try_from(u64::from_le_bytes(bytes[entry + 8..entry + 16].try_into().unwrap())).unwrap();
    bytes[at + 5000] ^= 1;
    let error = judge(work.path(), &tree, &bytes, "one bit").unwrap_err();
    let said = error.source().unwrap().to_string();
    assert!(said.contains("d/large") && said.contains("SHA-1"), "{said}");
}

#[test]
fn a_target_that_is_too_small_or_not_empty_is_refused_before_the_first_byte() {
    let work = common::fast_dir();
    let (_, bytes) = small_image(work.path(), Compression::None, false);
    let image = put(&work.path().join("image"), &bytes);
    let out = work.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("something"), "").unwrap();
    let error = unpack(&image, &out, 1).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    if !common::is_root() {
        skip::because("only root can mount a tmpfs of a size of its own");
        return;
    }
    let small = work.path().join("small");
    fs::create_dir(&small).unwrap();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=8k", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        skip::because("a tmpfs cannot be mounted here");
        return;
    }
    let error = unpack(&image, &small, 1).unwrap_err().to_string();
    let left = fs::read_dir(&small).unwrap().count();
    assert!(std::process::Command::new("umount").arg(&small).status().unwrap().success());
    assert!(error.contains("has room for 8192 bytes, and the image unpacks to 24576"), "{error}");
    assert_eq!(left, 0);
}
