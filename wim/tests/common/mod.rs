//! What the tests of whole images share: trees with everything in them, and a way to compare two of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, clippy::cast_sign_loss, dead_code)]

pub mod archive;
pub mod damaged;
pub mod watchdog;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// All that must survive of one entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    pub mode: u32,
    pub owner: (u32, u32),
    pub device: u64,
    /// In 100 ns, which is what a WIM holds. Of links and archives in seconds.
    pub modified: (i64, i64),
    pub contents: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same file.
    pub same_as: PathBuf,
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything in a tree, by path.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let relative = path.strip_prefix(root).unwrap().to_owned();
        if kind.is_dir() {
            let mut below: Vec<PathBuf> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
            below.sort();
            waiting.extend(below.into_iter().rev());
        }
        let contents = if kind.is_file() {
            fs::read(&path).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        // A WIM cannot hold a link with several names.
        let same_as = if kind.is_symlink() {
            relative.clone()
        } else {
            inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.clone()).clone()
        };
        let facts = Facts {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            device: meta.rdev(),
            modified: (meta.mtime(), meta.mtime_nsec() / 100),
            contents,
            xattrs: xattrs(&path),
            same_as,
        };
        found.insert(relative, facts);
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    // Most files have none, and thousands of them are compared: the size is asked for first.
    let len = rustix::fs::llistxattr(path, &mut [0_u8; 0][..]).unwrap_or(0);
    let mut names = vec![0; len];
    let len = if len == 0 { 0 } else { rustix::fs::llistxattr(path, &mut names[..]).unwrap() };
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 65536];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        found.insert(name.to_vec(), value[..len].to_vec());
    }
    found
}

/// Says what differs, and not all of both trees.
pub fn assert_same(expected: &Path, got: &Path, what: &str) {
    let (expected, got) = (snapshot(expected), snapshot(got));
    for (path, facts) in &expected {
        let other = got.get(path).unwrap_or_else(|| panic!("{what}: {} is missing", path.display()));
        let brief =
            |f: &Facts| format!("{:?}", Facts { contents: f.contents[..f.contents.len().min(40)].into(), ..copy(f) });
        assert!(facts == other, "{what}: {} differs:\n{}\n{}", path.display(), brief(facts), brief(other));
    }
    assert_eq!(expected.len(), got.len(), "{what}: there is more than there should be");
}

fn copy(f: &Facts) -> Facts {
    Facts { contents: Vec::new(), xattrs: f.xattrs.clone(), same_as: f.same_as.clone(), ..*f }
}

/// Contents that compress somewhat, different for every seed.
pub fn contents(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let byte = state.to_le_bytes()[0];
        if state & 0x300 == 0 {
            out.extend(state.to_le_bytes());
        } else {
            out.extend(std::iter::repeat_n(byte & 0x1f, usize::from(byte % 29) + 1));
        }
    }
    out.truncate(len);
    out
}

/// A tree with one of everything: sizes around chunks and jobs, links, special files, attributes, odd names and modes.
pub fn rich_tree(root: &Path) {
    fs::create_dir_all(root.join("usr/lib/deep/deeper")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    for (n, size) in
        [0, 1, 4095, 4096, 32767, 32768, 32769, 65536, 300_000, 524_288, 524_289, 1_200_001].into_iter().enumerate()
    {
        fs::write(root.join(format!("usr/lib/size-{size}")), contents(n as u64, size)).unwrap();
    }
    // The same contents in several files that are not links, small and large.
    for name in ["usr/lib/same-1", "usr/lib/deep/same-2"] {
        fs::write(root.join(name), contents(77, 5000)).unwrap();
        fs::write(root.join(format!("{name}-large")), contents(78, 600_000)).unwrap();
    }
    fs::hard_link(root.join("usr/lib/size-300000"), root.join("usr/lib/deep/hard")).unwrap();
    fs::hard_link(root.join("usr/lib/size-1200001"), root.join("hard large")).unwrap();
    fs::hard_link(root.join("usr/lib/size-0"), root.join("hard empty")).unwrap();
    symlink("../lib/size-1", root.join("usr/relative")).unwrap();
    symlink("/usr/lib", root.join("absolute")).unwrap();
    symlink("/", root.join("to the root")).unwrap();
    symlink("usr/lib", root.join("to a directory")).unwrap();
    symlink("back\\slash/and \u{e9}\u{1f980}", root.join("odd target")).unwrap();
    symlink("x".repeat(1000), root.join("long target")).unwrap();
    for name in ["na\u{ef}ve \u{1f600}", "back\\slash", "col:on", "new\nline", " ", "..."] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::write(root.join("x".repeat(255)), "longest name").unwrap();
    fs::write(root.join("CASE"), "upper").unwrap();
    fs::write(root.join("case"), "lower").unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    rustix::fs::mknodat(CWD, root.join("socket"), FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::set_permissions(root.join("case"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o3775)).unwrap();
    fs::set_permissions(root.join("CASE"), fs::Permissions::from_mode(0o000)).unwrap();
    set_xattr(&root.join("case"), "user.first", b"value \0\n=");
    set_xattr(&root.join("case"), "user.second", b"");
    set_xattr(&root.join("empty"), "user.of-a-directory", &contents(5, 200));
    if is_root() {
        let device = rustix::fs::makedev(8, 300);
        rustix::fs::mknodat(CWD, root.join("block"), FileType::BlockDevice, Mode::from_raw_mode(0o660), device)
            .unwrap();
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)
            .unwrap();
        std::os::unix::fs::lchown(root.join("case"), Some(1000), Some(1001)).unwrap();
        std::os::unix::fs::lchown(root.join("absolute"), Some(7), Some(8)).unwrap();
        std::os::unix::fs::lchown(root.join("empty"), Some(0), Some(4_000_000_000)).unwrap();
        // A change of owner took the set-id bit away.
        fs::set_permissions(root.join("case"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o3775)).unwrap();
        // cap_net_raw+ep, version 2 (linux/capability.h).
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set_xattr(&root.join("case"), "security.capability", &capability);
        set_xattr(&root.join("usr"), "trusted.overlay.opaque", b"y");
    }
    let mut waiting = vec![root.to_owned()];
    let mut n = 0;
    while let Some(path) = waiting.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        n += 1;
        set_time(&path, 1_500_000_000 + n * 1000, (n * 1_234_567 % 10_000_000) * 100);
    }
    set_time(&root.join("fifo"), -5, 300);
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|e| panic!("{}: {name}: {e}; the tests need a file system with attributes", path.display()));
}

pub fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A directory in memory where there is one, for thousands of small unpackings that need no attributes.
pub fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Runs a program that the tests compare with; `None`, said aloud, where it is not installed.
pub fn run(program: &str, arguments: &[&OsStr]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}", output.status);
            Some(output)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip::because(format!("{program} is not installed, so nothing is compared with it"));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Splits a WIM with wimlib into parts of about `mib` MiB, a fraction; gives them in their order.
pub fn split(image: &Path, first: &Path, mib: &str) -> Option<Vec<PathBuf>> {
    run("wimlib-imagex", &["split".as_ref(), image.as_os_str(), first.as_os_str(), mib.as_ref()])?;
    let bytes = fs::read(first).unwrap();
    let (stem, suffix) = (first.with_extension(""), first.extension().unwrap().to_str().unwrap());
    let part = |n: u16| if n == 1 { first.to_owned() } else { format!("{}{n}.{suffix}", stem.display()).into() };
    Some((1..=u16::from_le_bytes([bytes[0x2a], bytes[0x2b]])).map(part).collect())
}

/// Unpacks with a number of workers into a new directory.
pub fn unpack(image: &Path, target: &Path, workers: usize) -> Result<wim::Report, wim::Error> {
    fs::create_dir_all(target).unwrap();
    let options = wim::UnpackOptions { workers: workers.try_into().ok(), ..Default::default() };
    wim::root::open(image, None)?.unpack(target, &options)
}

/// Writes `bytes` to a file of this name.
pub fn put(path: &Path, bytes: &[u8]) -> PathBuf {
    fs::write(path, bytes).unwrap();
    File::open(path).unwrap();
    path.to_owned()
}
