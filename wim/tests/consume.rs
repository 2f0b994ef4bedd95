//! Freeing an image while it is unpacked: the tree is whole, the image's memory is gone, and at no moment do both take
//! more than was said before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use common::{assert_same, contents, rich_tree, run, unpack};
use wim::capture::{CaptureOptions, Compression, capture};
use wim::{Progress, UnpackOptions};

const MIB: u64 = 1 << 20;

/// A folder in memory, as an initramfs is.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// A tree of some 20 MiB: many files, one large one, and large contents that several files have.
fn tree(root: &Path) {
    rich_tree(root);
    for n in 0..120 {
        fs::write(root.join(format!("usr/file-{n}")), contents(1000 + n, 60_000 + n as usize)).unwrap();
    }
    fs::write(root.join("usr/large"), contents(7, 5 << 20)).unwrap();
    for name in ["usr/twice", "usr/and again"] {
        fs::write(root.join(name), contents(8, 3 << 20)).unwrap();
    }
}

fn blocks(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| fs::metadata(file).unwrap().blocks() * 512).sum()
}

/// Unpacks `image`, consumed, and holds it to what it said.
fn consume(tree: &Path, image: &Path, workers: usize, what: &str) {
    let out = in_memory();
    let root = wim::root::open(image, None).unwrap();
    let files: Vec<PathBuf> = root.files().into_iter().map(|(path, _)| path).collect();
    assert!(files.iter().all(|file| wim::root::is_consumable(file)));
    // As the kernel writes an initramfs; wimlib leaves out what is zeros anyway.
    for file in &files {
        fs::write(file, fs::read(file).unwrap()).unwrap();
    }
    let before = blocks(&files);
    let most = AtomicU64::new(0);
    let progress = |so_far: Progress| {
        most.fetch_max(so_far.done + blocks(&files), Ordering::Relaxed);
    };
    let workers = NonZeroUsize::new(workers).unwrap();
    let options =
        UnpackOptions { workers: Some(workers), consume: true, progress: Some(&progress), ..UnpackOptions::default() };
    let need = root.need_with(&options).unwrap();
    let one = root.need_with(&UnpackOptions { workers: Some(NonZeroUsize::MIN), ..options }).unwrap();
    assert!(one.freed >= need.freed && one.working <= need.working, "{what}: one worker {one:?}, more {need:?}");
    // What is written adds up to what the tree takes.
    assert!(need.freed <= need.bytes, "{what}: {need:?}");
    root.unpack(out.path(), &options).unwrap();
    assert_same(tree, out.path(), what);

    let (after, most) = (blocks(&files), most.into_inner());
    assert!(after < 2 * MIB, "{what}: {after} of {before} bytes of the image were kept");
    let promised = before + need.bytes - need.freed;
    assert!(most <= promised, "{what}: image and tree took {most} bytes at one time, {promised} were promised");
    // Neither is the promise an empty one, where workers do not hold most of so small a tree.
    assert!(
        workers.get() > 2 || need.freed > before.min(need.bytes) / 3,
        "{what}: of {before} bytes only {} are freed in time",
        need.freed
    );
}

#[test]
fn an_image_is_freed_as_it_is_unpacked_and_the_need_says_so() {
    let work = in_memory();
    let source = work.path().join("tree");
    tree(&source);
    let image = work.path().join("root.wim");
    let formats = [
        (Compression::None, false),
        (Compression::Xpress, false),
        (Compression::Lzx, false),
        (Compression::Lzms, false),
        (Compression::Lzms, true),
    ];
    for (compression, solid) in formats {
        let chunk_size = solid.then_some(MIB as u32);
        let options = CaptureOptions { compression, solid, chunk_size, ..CaptureOptions::default() };
        let made = work.path().join("made.wim");
        capture(&source, &made, &options).unwrap();
        for workers in [1, 2, 5] {
            // Each time a new one: nothing is left of it afterwards.
            fs::copy(&made, &image).unwrap();
            consume(&source, &image, workers, &format!("{compression:?}, solid {solid}, {workers} workers"));
        }
        fs::remove_file(&made).unwrap();
    }
}

#[test]
fn the_parts_of_a_split_image_are_freed_one_after_the_other() {
    let work = in_memory();
    let (source, whole, first) = (work.path().join("tree"), work.path().join("whole.wim"), work.path().join("x.swm"));
    tree(&source);
    capture(&source, &whole, &CaptureOptions { compression: Compression::Xpress, ..CaptureOptions::default() })
        .unwrap();
    let split = ["split".as_ref(), whole.as_os_str(), first.as_os_str(), "4".as_ref()];
    if run("wimlib-imagex", &split).is_none() {
        return;
    }
    consume(&source, &first, 2, "a split image");
}

/// Of one frame, of several with their lengths before them, and of several that have to be found.
#[test]
fn an_archive_is_freed_as_it_is_unpacked_and_the_need_says_so() {
    let work = in_memory();
    let (source, packed, image) = (work.path().join("tree"), work.path().join("packed"), work.path().join("image"));
    tree(&source);
    for pack in [
        "tar -C tree --xattrs --xattrs-include='*' --numeric-owner -cf packed .",
        "cd tree && find . -depth -print0 | cpio --quiet --null -o -H newc > ../packed",
    ] {
        let shell = format!("cd {} && {pack}", work.path().display());
        if run("sh", &["-ec".as_ref(), shell.as_ref()]).is_none() {
            return;
        }
        for compress in ["zstd -q", "pzstd -q -p 2", "split --bytes=3M --filter='zstd -q'"] {
            let shell = format!("{compress} < {} > {}.made", packed.display(), packed.display());
            if run("sh", &["-ec".as_ref(), shell.as_ref()]).is_none() {
                return;
            }
            // An archive holds not all that is in the tree: what it gives otherwise is what it must give.
            let expected = in_memory();
            fs::copy(packed.with_extension("made"), &image).unwrap();
            unpack(&image, &expected.path().join("tree"), 2).unwrap();
            for workers in [1, 2, 5] {
                fs::copy(packed.with_extension("made"), &image).unwrap();
                consume(
                    &expected.path().join("tree"),
                    &image,
                    workers,
                    &format!("{pack}, {compress}, {workers} workers"),
                );
            }
        }
    }
}

#[test]
fn what_is_not_in_memory_is_not_taken_for_consumable() {
    let work = in_memory();
    let file = work.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(wim::root::is_consumable(&file));
    assert!(!wim::root::is_consumable(&work.path().join("none")));
    assert!(!wim::root::is_consumable(work.path()));
    assert!(!wim::root::is_consumable(Path::new(env!("CARGO_MANIFEST_PATH"))), "the sources lie on storage");
}
