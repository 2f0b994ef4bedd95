//! Any tree comes back as it was: captured by us and unpacked by us, captured by us and unpacked by wimlib-imagex, and
//! captured by wimlib-imagex and unpacked by us; in every compression, split, pipable, and as it arrives. `PROPTEST_CASES`
//! asks for more trees.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{assert_same, contents, run, set_time, set_xattr, unpack};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use wim::capture::{CaptureOptions, Compression, capture};

/// Compression, solid, chunk size: chunks as small as the format has them, so that small files have several.
const FORMATS: [(Compression, bool, Option<u32>); 7] = [
    (Compression::None, false, None),
    (Compression::Xpress, false, Some(4096)),
    (Compression::Lzx, false, Some(32768)),
    (Compression::Lzms, false, Some(32768)),
    (Compression::Xpress, true, Some(4096)),
    (Compression::Lzx, true, Some(32768)),
    (Compression::Lzms, true, Some(32768)),
];

/// A job of the reader: contents above this are cut into several.
const JOB: usize = 512 << 10;

#[derive(Debug, Clone)]
enum Kind {
    File {
        size: usize,
        seed: u64,
    },
    /// A hole, some contents, a hole.
    Sparse {
        before: u64,
        size: usize,
        after: u64,
    },
    Directory(Vec<Node>),
    Symlink(String),
    /// A further name for a file or a special one that came before, chosen by this number.
    Hard(usize),
    Fifo,
    Socket,
    Char(u32, u32),
    Block(u32, u32),
}

#[derive(Debug, Clone)]
struct Node {
    name: String,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    xattrs: Vec<(String, Vec<u8>)>,
}

/// What Linux takes as a name, and UTF-16 can hold: at most 255 bytes, any characters but `/` and NUL.
fn names() -> impl Strategy<Value = String> {
    let some = prop_oneof![
        6 => any::<String>(),
        2 => "[a-zA-Z.\\\\: \n]{1,8}",
        1 => Just("x".repeat(255)),
        1 => Just("\u{1f980}".repeat(63)),
    ];
    some.prop_map(|name| {
        let mut name = name.replace(['/', '\0'], "_");
        while name.len() > 255 {
            name.pop();
        }
        if matches!(name.as_str(), "" | "." | "..") { "x".into() } else { name }
    })
}

fn sizes() -> impl Strategy<Value = usize> {
    let around = |size: usize, most: usize| {
        (1..=most, -1_isize..2).prop_map(move |(n, d)| (n * size).checked_add_signed(d).unwrap())
    };
    prop_oneof![
        2 => Just(0_usize),
        2 => 1_usize..300,
        4 => around(4096, 3),
        4 => around(32768, 3),
        1 => around(JOB, 3),
    ]
}

/// A link's target: what symlink(2) takes and a reparse point can hold. wimlib makes an absolute target relative to the
/// root of a drive, so that several slashes at its start are one.
fn targets() -> impl Strategy<Value = String> {
    let part = names().prop_map(|name| name.chars().take(60).collect::<String>());
    let long = (1_usize..3).prop_map(|n| "long/".repeat(n * 300) + "end");
    let parts = proptest::collection::vec(prop_oneof![part, Just("..".into()), Just(".".into())], 1..4);
    let short = (any::<bool>(), parts).prop_map(|(absolute, parts)| {
        let path = parts.join("/");
        if absolute { format!("/{path}") } else { path }
    });
    prop_oneof![6 => short, 1 => long]
}

/// From 1601, where a WIM's times begin, to the year 2400, in the 100 ns that it holds; and finer, which is cut off.
fn times() -> impl Strategy<Value = (i64, i64)> {
    let seconds =
        prop_oneof![4 => 1_500_000_000_i64..1_800_000_000, 2 => -11_644_473_599_i64..0, 1 => 0..13_569_465_600_i64];
    (seconds, prop_oneof![Just(0), (0_i64..10_000_000).prop_map(|n| n * 100), 0_i64..1_000_000_000])
}

fn xattrs() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    // user.* only where Linux has it: on files and directories. `grow` leaves it out elsewhere.
    let prefix = prop_oneof![Just("user."), Just("security."), Just("trusted.")];
    // ext4 has room for 4 KiB of them all.
    let value = prop_oneof![8 => proptest::collection::vec(any::<u8>(), 0..40), 1 => Just(contents(3, 800))];
    let one = (prefix, "[a-z\u{e9}]{1,12}", value).prop_map(|(prefix, name, value)| (format!("{prefix}{name}"), value));
    prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(one, 1..4)]
}

fn nodes(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Node> {
    let owner = prop_oneof![2 => Just((0, 0)), 1 => (0..u32::MAX, 0..u32::MAX)];
    (names(), kind, 0_u32..0o10000, owner, times(), xattrs()).prop_map(|(name, kind, mode, owner, time, xattrs)| Node {
        name,
        kind,
        mode,
        owner,
        time,
        xattrs,
    })
}

fn trees() -> impl Strategy<Value = Vec<Node>> {
    let number = || (0_u32..4096, 0_u32..1 << 20);
    let leaf = prop_oneof![
        12 => (sizes(), 0_u64..4).prop_map(|(size, seed)| Kind::File { size, seed }),
        1 => (0_u64..300_000, 1_usize..5000, 0_u64..300_000)
            .prop_map(|(before, size, after)| Kind::Sparse { before, size, after }),
        4 => targets().prop_map(Kind::Symlink),
        4 => any::<usize>().prop_map(Kind::Hard),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
        1 => number().prop_map(|(major, minor)| Kind::Char(major, minor)),
        1 => number().prop_map(|(major, minor)| Kind::Block(major, minor)),
    ];
    let node = nodes(leaf)
        .prop_recursive(3, 30, 8, |inner| nodes(proptest::collection::vec(inner, 0..8).prop_map(Kind::Directory)));
    proptest::collection::vec(node, 0..10)
}

/// Makes the tree. `files` are those that may get further names.
fn grow(tree: &[Node], at: &Path, files: &mut Vec<PathBuf>) {
    for node in tree {
        let path = at.join(&node.name);
        if fs::symlink_metadata(&path).is_ok() {
            // The name is taken.
            continue;
        }
        let special = |kind, device| mknodat(CWD, &path, kind, Mode::RUSR, device).unwrap();
        match &node.kind {
            Kind::File { size, seed } => fs::write(&path, contents(*seed, *size)).unwrap(),
            Kind::Sparse { before, size, after } => {
                let file = File::create(&path).unwrap();
                file.write_all_at(&contents(9, *size), *before).unwrap();
                file.set_len(before + *size as u64 + after).unwrap();
            }
            Kind::Directory(below) => {
                fs::create_dir(&path).unwrap();
                grow(below, &path, files);
            }
            Kind::Symlink(target) => symlink(target, &path).unwrap(),
            Kind::Hard(which) => {
                if !files.is_empty() {
                    fs::hard_link(&files[which % files.len()], &path).unwrap();
                }
                // Owner, mode and time are those of the file.
                continue;
            }
            Kind::Fifo => special(FileType::Fifo, 0),
            Kind::Socket => special(FileType::Socket, 0),
            Kind::Char(major, minor) => special(FileType::CharacterDevice, makedev(*major, *minor)),
            Kind::Block(major, minor) => special(FileType::BlockDevice, makedev(*major, *minor)),
        }
        let is_link = matches!(node.kind, Kind::Symlink(_));
        let has_user = matches!(node.kind, Kind::File { .. } | Kind::Sparse { .. } | Kind::Directory(_));
        std::os::unix::fs::lchown(&path, Some(node.owner.0), Some(node.owner.1)).unwrap();
        for (name, value) in node.xattrs.iter().filter(|(name, _)| has_user || !name.starts_with("user.")) {
            set_xattr(&path, name, value);
        }
        if !is_link {
            fs::set_permissions(&path, fs::Permissions::from_mode(node.mode)).unwrap();
        }
        if !matches!(node.kind, Kind::Symlink(_) | Kind::Directory(_)) {
            files.push(path);
        }
    }
}

/// Times come last: what is put into a directory changes them.
fn set_times(tree: &[Node], at: &Path) {
    for node in tree {
        let path = at.join(&node.name);
        // A name that was taken may be of something else; a further name, of no file.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        match &node.kind {
            Kind::Directory(below) if found.is_dir() => set_times(below, &path),
            _ => {}
        }
        set_time(&path, node.time.0, node.time.1);
    }
}

/// A tree on disk, where the file system has all of it.
struct Grown {
    work: tempfile::TempDir,
}

impl Grown {
    fn new(tree: &[Node]) -> Grown {
        let grown = Grown { work: tempfile::tempdir().unwrap() };
        fs::create_dir(grown.tree()).unwrap();
        grow(tree, &grown.tree(), &mut Vec::new());
        set_times(tree, &grown.tree());
        set_time(&grown.tree(), 1_700_000_000, 123_456_700);
        grown
    }

    fn tree(&self) -> PathBuf {
        self.work.path().join("tree")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }
}

/// Cases of one property, unless `PROPTEST_CASES` says otherwise.
fn cases(usual: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig { cases: usual, ..ProptestConfig::default() },
    }
}

/// Owners, devices and some attributes are for root alone.
fn is_root() -> bool {
    let is_root = common::is_root();
    if !is_root {
        skip::because("only root can make a tree that has everything");
    }
    is_root
}

fn options(format: usize) -> CaptureOptions<'static> {
    let (compression, solid, chunk_size) = FORMATS[format];
    CaptureOptions { compression, solid, chunk_size, ..CaptureOptions::default() }
}

proptest! {
    #![proptest_config(cases(40))]
    #[test]
    fn what_we_capture_we_unpack(
        tree in trees(),
        format in 0..FORMATS.len(),
        workers in 1_usize..4,
        consume in any::<bool>(),
    ) {
        if !is_root() {
            return Ok(());
        }
        let (grown, memory) = (Grown::new(&tree), common::fast_dir());
        let (image, out) = (memory.path().join("image"), grown.path("out"));
        capture(&grown.tree(), &image, &options(format)).unwrap();
        fs::create_dir(&out).unwrap();
        let consume = consume && wim::root::is_consumable(&image);
        let unpacking = wim::UnpackOptions { workers: workers.try_into().ok(), consume, ..Default::default() };
        let root = wim::root::open(&image, None).unwrap();
        let need = root.need_with(&unpacking).unwrap();
        let report = root.unpack(&out, &unpacking).unwrap();
        assert_same(&grown.tree(), &out, &format!("{:?}, {workers} workers, freed {consume}", FORMATS[format]));
        prop_assert_eq!(report.notes, Vec::<String>::new());
        prop_assert_eq!(report.entries, need.inodes);
    }
}

proptest! {
    #![proptest_config(cases(20))]
    #[test]
    fn what_we_capture_wimlib_unpacks(tree in trees(), format in 0..FORMATS.len()) {
        if !is_root() {
            return Ok(());
        }
        let grown = Grown::new(&tree);
        let (image, out) = (grown.path("image"), grown.path("out"));
        capture(&grown.tree(), &image, &options(format)).unwrap();
        fs::create_dir(&out).unwrap();
        let words = ["apply".as_ref(), image.as_os_str(), out.as_os_str(), "--unix-data".as_ref()];
        if run("wimlib-imagex", &words).is_none() {
            return Ok(());
        }
        assert_same(&grown.tree(), &out, &format!("{:?}", FORMATS[format]));
    }

    #[test]
    fn what_wimlib_captures_we_unpack(tree in trees(), format in 0..FORMATS.len(), workers in 1_usize..4) {
        if !is_root() {
            return Ok(());
        }
        let grown = Grown::new(&tree);
        let (image, out) = (grown.path("image"), grown.path("out"));
        let (compression, solid, chunk_size) = FORMATS[format];
        let prefix = if solid { "--solid-" } else { "--" };
        let mut options = vec![format!("{prefix}compress={compression}")];
        options.extend(chunk_size.map(|size| format!("{prefix}chunk-size={size}")));
        if solid {
            options.push("--solid".into());
        }
        let (tree, to) = (grown.tree(), image.clone());
        let mut words: Vec<&OsStr> = vec!["capture".as_ref(), tree.as_os_str(), to.as_os_str()];
        words.extend(["--unix-data".as_ref(), "--norpfix".as_ref()] as [&OsStr; 2]);
        words.extend(options.iter().map(OsStr::new));
        if run("wimlib-imagex", &words).is_none() {
            return Ok(());
        }
        unpack(&image, &out, workers).unwrap();
        assert_same(&grown.tree(), &out, &format!("{:?}, {workers} workers", FORMATS[format]));
    }

    /// Of a pipable WIM as a file, and as it arrives; of a split one; and of one that is both, one part after another.
    #[test]
    fn what_is_split_or_pipable_is_unpacked(
        tree in trees(),
        // Those that are not solid: neither kind may be.
        format in 0..4_usize,
        (pipable, split) in prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))],
        streamed in any::<bool>(),
        workers in 1_usize..4,
    ) {
        if !is_root() {
            return Ok(());
        }
        let (grown, streamed) = (Grown::new(&tree), streamed && pipable);
        let (image, first, out) = (grown.path("image.wim"), grown.path("image.swm"), grown.path("out"));
        capture(&grown.tree(), &image, &CaptureOptions { pipable, ..options(format) }).unwrap();
        let files = if split { common::split(&image, &first, "0.02") } else { Some(vec![image]) };
        let Some(files) = files else { return Ok(()) };
        if streamed {
            fs::create_dir(&out).unwrap();
            let sent: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap()).collect();
            let options = wim::UnpackOptions { workers: workers.try_into().ok(), ..Default::default() };
            let root = wim::root::open_stream(Box::new(std::io::Cursor::new(sent)), "a stream", None).unwrap();
            let need = root.need_with(&options).unwrap();
            let report = root.unpack(&out, &options).unwrap();
            prop_assert_eq!(report.notes, Vec::<String>::new());
            prop_assert!(report.entries <= need.inodes && report.bytes <= need.bytes);
        } else {
            unpack(&files[0], &out, workers).unwrap();
        }
        let what = format!("{:?}, pipable {pipable}, {} files, streamed {streamed}", FORMATS[format], files.len());
        assert_same(&grown.tree(), &out, &what);
    }
}
