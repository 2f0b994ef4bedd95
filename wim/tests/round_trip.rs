//! What is captured comes back: by our reader, by wimlib's, and what wimlib wrote by ours, in every compression.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use common::{assert_same, contents, rich_tree, run, unpack};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use rustix::fs::XattrFlags;
use wim::capture::{CaptureOptions, Compression, capture};

const FORMATS: [(Compression, bool); 7] = [
    (Compression::None, false),
    (Compression::Xpress, false),
    (Compression::Lzx, false),
    (Compression::Lzms, false),
    (Compression::Xpress, true),
    (Compression::Lzx, true),
    (Compression::Lzms, true),
];

fn options(compression: Compression, solid: bool) -> CaptureOptions<'static> {
    CaptureOptions { compression, solid, name: Some("root"), ..CaptureOptions::default() }
}

#[test]
fn every_compression_gives_the_tree_back_with_any_number_of_workers() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    for (compression, solid) in FORMATS {
        capture(&tree, &image, &options(compression, solid)).unwrap();
        for workers in [1, 2, 5] {
            let out = tempfile::tempdir_in(work.path()).unwrap();
            let report = unpack(&image, out.path(), workers).unwrap();
            assert_same(&tree, out.path(), &format!("{compression}, solid {solid}, {workers} workers"));
            assert_eq!(report.entries, common::snapshot(&tree).len() as u64);
            if common::is_root() {
                assert_eq!(report.notes, Vec::<String>::new());
            }
        }
    }
}

#[test]
fn small_solid_chunks_cut_files_and_links_anywhere() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    for n in 0..40 {
        // Targets that take a kilobyte each, so that some cross a chunk's end; one is a file's contents, too.
        symlink(format!("{n}{}", "y".repeat(500)), tree.join(format!("link-{n}"))).unwrap();
    }
    let options = CaptureOptions { chunk_size: Some(4096), ..options(Compression::Xpress, true) };
    capture(&tree, &image, &options).unwrap();
    for workers in [1, 3] {
        let out = tempfile::tempdir_in(work.path()).unwrap();
        unpack(&image, out.path(), workers).unwrap();
        assert_same(&tree, out.path(), "solid chunks of 4 KiB");
    }
}

#[test]
fn wimlib_reads_what_we_capture_and_we_read_what_wimlib_captures() {
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().join("tree");
    rich_tree(&tree);
    let (ours, theirs) = (work.path().join("ours.wim"), work.path().join("theirs.wim"));
    for (compression, solid) in FORMATS {
        let what = format!("{compression}, solid {solid}");
        capture(&tree, &ours, &options(compression, solid)).unwrap();
        let out = tempfile::tempdir_in(work.path()).unwrap();
        let by_wimlib = ["apply".as_ref(), ours.as_os_str(), out.path().as_os_str(), "--unix-data".as_ref()];
        if run("wimlib-imagex", &by_wimlib).is_none() {
            return;
        }
        assert_same(&tree, out.path(), &format!("applied by wimlib: {what}"));

        let compress =
            if solid { format!("--solid-compress={compression}") } else { format!("--compress={compression}") };
        let mut by_wimlib = vec!["capture".as_ref(), tree.as_os_str(), theirs.as_os_str()];
        by_wimlib.extend(["--unix-data".as_ref(), "--norpfix".as_ref(), std::ffi::OsStr::new(&compress)]);
        if solid {
            by_wimlib.push("--solid".as_ref());
        }
        run("wimlib-imagex", &by_wimlib);
        let out = tempfile::tempdir_in(work.path()).unwrap();
        unpack(&theirs, out.path(), 2).unwrap();
        assert_same(&tree, out.path(), &format!("captured by wimlib: {what}"));
        fs::remove_file(&theirs).unwrap();
    }
}

#[test]
fn the_need_is_known_before_the_first_byte() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/a"), contents(1, 4097)).unwrap();
    fs::hard_link(tree.join("d/a"), tree.join("b")).unwrap();
    fs::write(tree.join("copy"), contents(1, 4097)).unwrap();
    symlink("short", tree.join("short")).unwrap();
    symlink("l".repeat(600), tree.join("long")).unwrap();
    capture(&tree, &image, &options(Compression::Lzx, false)).unwrap();
    let need = wim::root::open(&image, None).unwrap().need().unwrap();
    // Two files of two pages, and a link whose target takes one; root, d, a, b, copy, two links: a hard
    // link, too, takes one of what tmpfs calls inodes.
    assert_eq!((need.bytes, need.inodes), (2 * 8192 + 4096, 7));
    assert!(need.working < 16 << 20, "{need:?}");
}

/// In a tmpfs of exactly the room that was said.
#[test]
fn extended_attributes_have_the_room_that_was_said() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image, target) = (work.path().join("tree"), work.path().join("root.wim"), work.path().join("target"));
    for folder in [&tree, &target] {
        fs::create_dir_all(folder).unwrap();
    }
    for n in 0..100 {
        let file = tree.join(n.to_string());
        fs::write(&file, "x").unwrap();
        for (name, length) in [("user.a", n), ("user.some-longer-name", 10 * n)] {
            if let Err(error) = rustix::fs::setxattr(&file, name, &vec![b'v'; length], XattrFlags::empty()) {
                return skip::because(format_args!("no extended attributes in {}: {error}", tree.display()));
            }
        }
    }
    capture(&tree, &image, &options(Compression::Lzx, false)).unwrap();
    let root = wim::root::open(&image, None).unwrap();
    let need = root.need().unwrap();
    let room = format!("size={},nr_inodes={}", need.bytes, need.inodes + need.xattrs.div_ceil(1024));
    let mount_here = || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some(room.as_str()))
    };
    // A thread with its own mounts, which go with it.
    let in_own_world = || {
        if let Err(error) = mount_here() {
            return skip::because(format_args!("no mount of a tmpfs: {error}"));
        }
        if let Err(error) = rustix::fs::setxattr(&target, "user.a", b"v", XattrFlags::empty()) {
            return skip::because(format_args!("no extended attributes in a tmpfs: {error}"));
        }
        rustix::fs::removexattr(&target, "user.a").unwrap();
        root.unpack(&target, &wim::UnpackOptions::default()).unwrap();
        assert_same(&tree, &target, &room);
    };
    std::thread::scope(|scope| scope.spawn(in_own_world).join().unwrap());
}

/// Whatever the number of processors, and however large the chunks are that DISM can make.
#[test]
fn what_is_not_solid_takes_32_mib_beside_the_tree_at_most() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("large"), contents(1, 64 << 20)).unwrap();
    for (compression, chunk_size) in
        [(Compression::Lzx, None), (Compression::Lzx, Some(2 << 20)), (Compression::None, None)]
    {
        let options = CaptureOptions { chunk_size, ..options(compression, false) };
        capture(&tree, &image, &options).unwrap();
        let options = wim::UnpackOptions { workers: 128.try_into().ok(), ..Default::default() };
        let working = wim::root::open(&image, None).unwrap().need_with(&options).unwrap().working;
        assert!(working > 8 << 20 && working <= 32 << 20, "{compression:?}, {chunk_size:?}: {working}");
    }
}

#[test]
fn fewer_workers_need_less_memory() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("large"), contents(1, 8 << 20)).unwrap();
    capture(&tree, &image, &options(Compression::Lzx, false)).unwrap();
    let root = wim::root::open(&image, None).unwrap();
    let with = |workers: usize, memory_budget| {
        let options = wim::UnpackOptions { workers: workers.try_into().ok(), memory_budget, ..Default::default() };
        root.need_with(&options).unwrap().working
    };
    let (one, two, four) = (with(1, None), with(2, None), with(4, None));
    assert!(one < two && four - one == 3 * (two - one), "{one} {two} {four}");
    let per_worker = two - one;
    assert_eq!(with(4, Some(2 * per_worker)), two, "as many as the budget has room for");
    assert_eq!(with(4, Some(1)), one, "one always runs");
}

#[test]
fn an_image_is_chosen_by_number_name_or_boot_mark() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir(&tree).unwrap();
    capture(&tree, &image, &options(Compression::None, false)).unwrap();
    for index in [None, Some("1"), Some("root")] {
        wim::root::open(&image, index).unwrap();
    }
    for index in ["0", "2", "Root", ""] {
        let error = wim::root::open(&image, Some(index)).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, format!("it has no image {index:?}; it has: 1 (\"root\")"));
    }
}

#[test]
fn a_wim_at_the_start_of_something_longer_is_read() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    capture(&tree, &image, &options(Compression::Lzx, false)).unwrap();
    let mut bytes = fs::read(&image).unwrap();
    bytes.extend(contents(9, 1 << 20));
    common::put(&image, &bytes);
    unpack(&image, &work.path().join("out"), 2).unwrap();
    assert_same(&tree, &work.path().join("out"), "with bytes behind it");
}

#[test]
fn without_unix_data_modes_are_by_rule() {
    use std::os::unix::fs::PermissionsExt;
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/script"), "#!/bin/sh\n").unwrap();
    fs::write(tree.join("bin/program"), [b"\x7fELF".as_slice(), &contents(1, 900_000)].concat()).unwrap();
    fs::write(tree.join("text"), "text").unwrap();
    fs::write(tree.join("nothing"), "").unwrap();
    let by_wimlib = ["capture".as_ref(), tree.as_os_str(), image.as_os_str()];
    if run("wimlib-imagex", &by_wimlib).is_none() {
        return;
    }
    let out = work.path().join("out");
    let report = unpack(&image, &out, 2).unwrap();
    let mode = |path: &str| fs::metadata(out.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("bin")), (0o755, 0o755));
    assert_eq!((mode("bin/script"), mode("bin/program")), (0o755, 0o755));
    assert_eq!((mode("text"), mode("nothing")), (0o644, 0o644));
    assert!(report.notes.iter().any(|note| note.contains("no UNIX modes")), "{:?}", report.notes);
}

#[test]
fn a_file_with_holes_has_them_again() {
    let work = tempfile::tempdir_in("/dev/shm").unwrap();
    let tree = work.path().join("tree");
    fs::create_dir(&tree).unwrap();
    // Small enough to be written at once, and too large for it; data in the middle, and a hole at the end.
    for (name, size) in [("small", 200_000), ("large", 3_000_001)] {
        let file = fs::File::create(tree.join(name)).unwrap();
        file.write_all_at(&contents(1, 50_000), 70_000).unwrap();
        file.set_len(size).unwrap();
        // The same contents in files that have no holes.
        fs::write(tree.join(format!("{name}, full")), fs::read(tree.join(name)).unwrap()).unwrap();
    }
    fs::File::create(tree.join("nothing else")).unwrap().set_len(1 << 20).unwrap();
    let blocks = |root: &Path, name: &str| fs::metadata(root.join(name)).unwrap().blocks() * 512;
    for (compression, solid) in FORMATS {
        let image = work.path().join("root.wim");
        capture(&tree, &image, &options(compression, solid)).unwrap();
        for workers in [1, 3] {
            let out = tempfile::tempdir_in(work.path()).unwrap();
            unpack(&image, out.path(), workers).unwrap();
            assert_same(&tree, out.path(), &format!("{compression:?}, solid {solid}"));
            for (name, most) in [("small", 60_000), ("large", 60_000), ("nothing else", 0)] {
                assert!(blocks(out.path(), name) <= most, "{name} takes {}", blocks(out.path(), name));
            }
            assert!(blocks(out.path(), "large, full") >= 3_000_000, "what had no holes got some");
        }
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn a_capture_that_fails_names_the_file_and_leaves_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join(std::ffi::OsStr::from_bytes(b"not\xffutf8")), "x").unwrap();
    let error = capture(&tree, &image, &CaptureOptions::default()).unwrap_err().to_string();
    assert!(error.contains("not\u{fffd}utf8"), "{error}");
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1, "only the tree is left");
}

/// Name to contents, or to a link's target.
type Plan = BTreeMap<String, Node>;

#[derive(Debug, Clone)]
enum Node {
    File(usize, u64),
    Link(String),
    Directory(Plan),
}

fn name() -> impl Strategy<Value = String> {
    let any_name = any::<String>().prop_map(|s| s.replace(['/', '\0'], "_"));
    any_name.prop_map(|mut s| {
        while s.len() > 80 {
            s.pop();
        }
        if matches!(s.as_str(), "" | "." | "..") { "x".into() } else { s }
    })
}

fn trees() -> impl Strategy<Value = Plan> {
    let size = prop_oneof![
        Just(0_usize),
        1_usize..100,
        (0_usize..3, -2_isize..3).prop_map(|(n, d)| ((n + 1) * 32768).checked_add_signed(d).unwrap()),
        (-2_isize..3).prop_map(|d| (512_usize << 10).checked_add_signed(d).unwrap()),
    ];
    let leaf = prop_oneof![
        3 => (size, 0_u64..4).prop_map(|(size, seed)| Node::File(size, seed)),
        1 => name().prop_map(Node::Link),
    ];
    let node = leaf.prop_recursive(3, 24, 6, |inner| {
        proptest::collection::btree_map(name(), inner, 0..6).prop_map(Node::Directory)
    });
    proptest::collection::btree_map(name(), node, 0..8)
}

fn grow(plan: &Plan, at: &Path) {
    fs::create_dir_all(at).unwrap();
    for (name, node) in plan {
        let path = at.join(name);
        match node {
            Node::File(size, seed) => fs::write(path, contents(*seed, *size)).unwrap(),
            Node::Link(target) => symlink(target, path).unwrap(),
            Node::Directory(below) => grow(below, &path),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_comes_back(plan in trees(), format in 0..FORMATS.len(), workers in 1_usize..4) {
        let work = tempfile::tempdir().unwrap();
        let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
        grow(&plan, &tree);
        let (compression, solid) = FORMATS[format];
        // Several inodes are fresh in this second: whole seconds are enough here.
        capture(&tree, &image, &options(compression, solid)).unwrap();
        unpack(&image, &work.path().join("out"), workers).unwrap();
        assert_same(&tree, &work.path().join("out"), "a random tree");
    }
}
