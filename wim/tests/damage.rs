//! Small images of every kind, cut at every length and with every byte changed: each time a clear error or the very tree
//! that was captured, in bounded time and memory. Never wrong contents.
//!
//! A WIM protects its metadata and its contents by SHA-1, an archive all by zstd's checksum, so the tree comes out whole
//! or not at all. What may be changed without being noticed is listed in [`free_fields`], and a byte outside that list
//! that is changed without an error fails the test, even where the tree is right.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Once;

use common::watchdog::Watchdog;
use common::{Facts, archive, snapshot, unpack};
use rustix::process::{Resource, Rlimit, setrlimit};
use wim::capture::{CaptureOptions, Compression, capture};

/// Address space of the whole process, which runs several tests at a time. An image of some KiB never needs more, but
/// a size in it that is believed would.
const MEMORY: u64 = 6 << 30;

static LIMIT: Once = Once::new();

/// How the image of a case is made.
#[derive(Clone, Copy)]
enum Kind {
    Wim { compression: Compression, solid: bool, chunk_size: Option<u32>, large: usize },
    Tar { frames: usize },
    Cpio { frames: usize },
}

/// Lines that compress well, and of which no stretch comes again, so that no part can take the place of another.
fn lines(seed: u64, len: usize) -> Vec<u8> {
    let line = |n: usize| format!("{seed} {}\n", n / 16);
    let mut out: Vec<u8> = (0..).map(line).take(len / 3 + 1).collect::<String>().into();
    out.truncate(len);
    out
}

/// Few entries, and one of each kind that an image stores in another way: a file of several chunks (`large` bytes), small
/// ones, two of the same contents, an empty one, a hard link, a symlink, a directory; owner, mode, attribute.
fn grow(tree: &Path, large: usize) {
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/large"), lines(1, large)).unwrap();
    fs::write(tree.join("small"), lines(2, 100)).unwrap();
    fs::write(tree.join("d/equal"), lines(2, 100)).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    fs::hard_link(tree.join("small"), tree.join("hard")).unwrap();
    symlink("d/large", tree.join("link")).unwrap();
    fs::set_permissions(tree.join("small"), fs::Permissions::from_mode(0o640)).unwrap();
    if common::is_root() {
        std::os::unix::fs::lchown(tree.join("small"), Some(1000), Some(1001)).unwrap();
        common::set_xattr(&tree.join("d"), "trusted.mark", b"value");
    }
    for name in ["d/large", "d/equal", "small", "empty", "link", "d", ""] {
        common::set_time(&tree.join(name), 1_600_000_000, 0);
    }
}

/// An image, the tree that it holds, and a place to unpack damaged copies of it.
struct Case {
    work: tempfile::TempDir,
    bytes: Vec<u8>,
    expected: BTreeMap<PathBuf, Facts>,
    watchdog: Watchdog,
}

impl Case {
    fn new(kind: Kind) -> Case {
        LIMIT.call_once(|| setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: None }).unwrap());
        let work = common::fast_dir();
        let (tree, image) = (work.path().join("tree"), work.path().join("image"));
        match kind {
            Kind::Wim { compression, solid, chunk_size, large } => {
                grow(&tree, large);
                let options = CaptureOptions { compression, solid, chunk_size, ..CaptureOptions::default() };
                capture(&tree, &image, &options).unwrap();
            }
            Kind::Tar { frames } => {
                grow(&tree, 3000);
                fs::write(&image, archive::in_frames(&archive::tar(&tree), frames)).unwrap();
            }
            Kind::Cpio { frames } => {
                grow(&tree, 3000);
                fs::write(&image, archive::in_frames(&archive::cpio(&tree), frames)).unwrap();
            }
        }
        let bytes = fs::read(&image).unwrap();
        let mut case = Case { work, bytes, expected: BTreeMap::new(), watchdog: Watchdog::new() };
        case.expected = case.unpacked().unwrap();
        // What came out is held against the tree once; from then on against what came out.
        let contents = |all: &BTreeMap<PathBuf, Facts>| {
            all.iter().map(|(p, f)| (p.clone(), f.contents.clone())).collect::<Vec<_>>()
        };
        assert_eq!(contents(&case.expected), contents(&snapshot(&tree)));
        case
    }

    fn image(&self) -> PathBuf {
        self.work.path().join("image")
    }

    fn unpacked(&self) -> Result<BTreeMap<PathBuf, Facts>, wim::Error> {
        let out = self.work.path().join("out");
        fs::create_dir(&out).unwrap();
        let result = unpack(&self.image(), &out.join("target"), 2).map(|_| snapshot(&out.join("target")));
        let beside = fs::read_dir(&out).unwrap().count();
        fs::remove_dir_all(&out).unwrap();
        assert_eq!(beside, 1, "something is beside the target");
        result
    }

    /// Whether the image is refused. Where it is not, the tree must be the one that it held.
    fn is_refused(&self, what: &str) -> bool {
        self.watchdog.watch(what, || match self.unpacked() {
            Ok(tree) => {
                assert!(tree == self.expected, "{what}: another tree: {:?}", differing(&self.expected, &tree));
                false
            }
            Err(error) => {
                assert!(!error.to_string().is_empty(), "{what}: an error without words");
                true
            }
        })
    }

    /// Cuts the image at every length, and gives the lengths that were accepted.
    fn cut_everywhere(&self) -> Vec<usize> {
        let file = File::options().write(true).open(self.image()).unwrap();
        // From the end down, so that what is left is always right.
        (0..self.bytes.len())
            .rev()
            .filter(|len| {
                file.set_len(*len as u64).unwrap();
                !self.is_refused(&format!("cut to {len} of {} bytes", self.bytes.len()))
            })
            .collect()
    }

    /// Changes every byte in two ways, and gives the places where neither, or only one, was noticed.
    fn flip_everywhere(&self, places: impl Iterator<Item = usize>) -> Vec<usize> {
        let file = File::options().write(true).open(self.image()).unwrap();
        places
            .filter(|at| {
                let byte = self.bytes[*at];
                let refused = [0xff, 1].map(|mask| {
                    file.write_all_at(&[byte ^ mask], *at as u64).unwrap();
                    self.is_refused(&format!("byte {at} of {}, {byte:#04x} with {mask:#04x}", self.bytes.len()))
                });
                file.write_all_at(&[byte], *at as u64).unwrap();
                refused != [true, true]
            })
            .collect()
    }
}

/// The paths at which two trees differ.
fn differing(a: &BTreeMap<PathBuf, Facts>, b: &BTreeMap<PathBuf, Facts>) -> Vec<PathBuf> {
    let all: std::collections::BTreeSet<&PathBuf> = a.keys().chain(b.keys()).collect();
    all.into_iter().filter(|path| a.get(*path) != b.get(*path)).cloned().collect()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Where a resource lies that the resource header at `at` describes.
fn extent(bytes: &[u8], at: usize) -> Range<usize> {
    let (offset, stored) = (u64_at(bytes, at + 8), u64_at(bytes, at) & 0x00ff_ffff_ffff_ffff);
    offset as usize..(offset + stored) as usize
}

/// The bytes of a WIM that may change without an error, each with the reason why that is no harm: the tree is the same.
fn free_fields(wim: &[u8]) -> Vec<(Range<usize>, &'static str)> {
    let (table, xml, integrity) = (extent(wim, 0x30), extent(wim, 0x48), extent(wim, 0x7c));
    let mut free = vec![
        (0x10..0x14, "flags that say nothing about how the image is read (read-only, RP_FIX)"),
        (0x14..0x18, "the chunk size, where nothing is compressed by it"),
        (0x18..0x28, "GUID: tells files apart, and is compared by nobody here"),
        (0x28..0x2a, "part number: with one part there is no other to be taken for"),
        (0x37..0x38, "flags of the blob table that are not COMPRESSED"),
        (0x48..0x60, "where the XML is: without it an image has no name, and is chosen by number"),
        (0x60..0x78, "boot metadata: the same is in the blob table, which is what is read"),
        (0x78..0x7c, "boot index: none stands for the first image, and there is one"),
        (0x7c..0x94, "where the integrity table is: unpacking checks each blob itself"),
        (0x94..0xd0, "unused"),
        (xml, "XML: names and statistics for people"),
        (integrity, "integrity table: unpacking checks each blob itself"),
    ];
    for entry in (table.start..table.end).step_by(50) {
        free.push((entry + 7..entry + 8, "flags of a resource beside METADATA, COMPRESSED and SOLID"));
        free.push((entry + 26..entry + 30, "reference count: only 0 has a meaning, of metadata, and that is noticed"));
        let is_solid = wim[entry + 7] & 0x10 != 0;
        let is_resource = is_solid && u64_at(wim, entry + 16) == 0x1_0000_0000;
        if is_resource {
            free.push((entry + 24..entry + 50, "part, count and SHA-1 of a solid resource: each blob has its own"));
        } else if is_solid {
            free.push((
                entry + 16..entry + 26,
                "of a blob in it: the size is in the field of stored bytes, it has no part",
            ));
        }
        if !is_solid && wim[entry + 7] & 2 != 0 {
            free.push((entry + 24..entry + 26, "part of an image's metadata: there is one part"));
        }
        if is_resource || !is_solid && wim[entry + 7] & 4 != 0 {
            free.push((extent(wim, entry), "bits that a chunk's format does not use; what comes out is checked"));
            free.push((entry..entry + 7, "stored bytes: what lies behind the last chunk's own end is not looked at"));
        }
    }
    free
}

fn all_in(places: &[usize], free: &[(Range<usize>, &str)]) {
    let strange: Vec<usize> =
        places.iter().copied().filter(|at| !free.iter().any(|(range, _)| range.contains(at))).collect();
    assert!(strange.is_empty(), "bytes changed without an error: {strange:?}");
}

fn wim_is_refused_or_whole(compression: Compression, solid: bool, chunk_size: Option<u32>, large: usize) {
    let case = Case::new(Kind::Wim { compression, solid, chunk_size, large });
    let free = free_fields(&case.bytes);
    let flipped = case.flip_everywhere(0..case.bytes.len());
    println!("{} bytes, {} of them may change", case.bytes.len(), flipped.len());
    all_in(&flipped, &free);
    // The integrity table comes last, and the header says where it ends.
    assert_eq!(case.cut_everywhere(), Vec::<usize>::new(), "lengths that were accepted");
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
        let case = Case::new(Kind::Wim { compression, solid, chunk_size, large: 1_200_000 });
        let free = free_fields(&case.bytes);
        let contents = 208..case.bytes.len() - 2000;
        all_in(&case.flip_everywhere(contents.clone().step_by(contents.len() / 40)), &free);
    }
}

fn archive_is_refused_or_whole(kind: Kind) {
    let case = Case::new(kind);
    let flipped = case.flip_everywhere(0..case.bytes.len());
    println!("{} bytes, {} of them may change", case.bytes.len(), flipped.len());
    // Of a frame's header that which says how it is read; and where two encodings stand for the same bytes. The checksum
    // is over what comes out.
    assert!(flipped.len() < 20, "bytes changed without an error: {flipped:?}");
    assert_eq!(case.cut_everywhere(), Vec::<usize>::new(), "lengths that were accepted");
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
