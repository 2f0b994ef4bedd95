//! Images that are cut and changed: each time they are refused, or are the very tree that was captured.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Cursor;
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::watchdog::Watchdog;
use super::{Facts, snapshot, unpack};

/// Address space of the whole process, which runs several tests at a time. An image of some KiB never needs more, but
/// a size in it that is believed would.
const MEMORY: u64 = 6 << 30;

static LIMIT: Once = Once::new();

/// Lines that compress well, and of which no stretch comes again, so that no part can take the place of another.
fn lines(seed: u64, len: usize) -> Vec<u8> {
    let line = |n: usize| format!("{seed} {}\n", n / 16);
    let mut out: Vec<u8> = (0..).map(line).take(len / 3 + 1).collect::<String>().into();
    out.truncate(len);
    out
}

/// Few entries, and one of each kind that an image stores in another way: a file of several chunks (`large` bytes), small
/// ones, two of the same contents, an empty one, a hard link, a symlink, a directory; owner, mode, attribute.
pub fn grow(tree: &Path, large: usize) {
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/large"), lines(1, large)).unwrap();
    fs::write(tree.join("small"), lines(2, 100)).unwrap();
    fs::write(tree.join("d/equal"), lines(2, 100)).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    fs::hard_link(tree.join("small"), tree.join("hard")).unwrap();
    symlink("d/large", tree.join("link")).unwrap();
    fs::set_permissions(tree.join("small"), fs::Permissions::from_mode(0o640)).unwrap();
    if super::is_root() {
        std::os::unix::fs::lchown(tree.join("small"), Some(1000), Some(1001)).unwrap();
        super::set_xattr(&tree.join("d"), "trusted.mark", b"value");
    }
    for name in ["d/large", "d/equal", "small", "empty", "link", "d", ""] {
        super::set_time(&tree.join(name), 1_600_000_000, 0);
    }
}

/// How an image is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    File,
    Stream,
}

/// An image of one or several files, the tree that it holds, and a place to unpack damaged copies of it.
pub struct Case {
    work: tempfile::TempDir,
    files: Vec<PathBuf>,
    /// What is in each of the files when nothing is damaged.
    pub bytes: Vec<Vec<u8>>,
    expected: BTreeMap<PathBuf, Facts>,
    watchdog: Watchdog,
    way: Way,
}

impl Case {
    /// `make` makes an image of a tree in a folder, and gives its files, the first one first.
    pub fn new(large: usize, way: Way, make: impl FnOnce(&Path, &Path) -> Option<Vec<PathBuf>>) -> Option<Case> {
        LIMIT.call_once(|| setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: None }).unwrap());
        let work = super::fast_dir();
        let tree = work.path().join("tree");
        grow(&tree, large);
        let files = make(&tree, work.path())?;
        let bytes = files.iter().map(|file| fs::read(file).unwrap()).collect();
        let mut case = Case { work, files, bytes, expected: BTreeMap::new(), watchdog: Watchdog::new(), way };
        case.expected = case.unpacked().unwrap();
        // What came out is held against the tree once; from then on against what came out.
        let contents = |all: &BTreeMap<PathBuf, Facts>| {
            all.iter().map(|(p, f)| (p.clone(), f.contents.clone())).collect::<Vec<_>>()
        };
        assert_eq!(contents(&case.expected), contents(&snapshot(&tree)));
        Some(case)
    }

    fn unpacked(&self) -> Result<BTreeMap<PathBuf, Facts>, wim::Error> {
        let out = self.work.path().join("out");
        let target = out.join("target");
        fs::create_dir(&out).unwrap();
        let result = match self.way {
            Way::File => unpack(&self.files[0], &target, 2),
            Way::Stream => {
                fs::create_dir(&target).unwrap();
                let sent = self.files.iter().flat_map(|file| fs::read(file).unwrap()).collect::<Vec<_>>();
                let options = wim::UnpackOptions { workers: 2.try_into().ok(), ..Default::default() };
                wim::root::open_stream(Box::new(Cursor::new(sent)), "a stream", None)
                    .and_then(|root| root.unpack(&target, &options))
            }
        };
        let result = result.map(|_| snapshot(&target));
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

    fn open(&self, file: usize) -> File {
        File::options().write(true).open(&self.files[file]).unwrap()
    }

    /// Cuts one of the files at every length, and gives the lengths that were accepted.
    pub fn cut_everywhere(&self, file: usize) -> Vec<usize> {
        let (opened, bytes) = (self.open(file), &self.bytes[file]);
        // From the end down, so that what is left is always right.
        let accepted = (0..bytes.len())
            .rev()
            .filter(|len| {
                opened.set_len(*len as u64).unwrap();
                !self.is_refused(&format!("file {file}, cut to {len} of {} bytes", bytes.len()))
            })
            .collect();
        opened.write_all_at(bytes, 0).unwrap();
        accepted
    }

    /// Changes every byte in two ways, and gives the places where neither, or only one, was noticed.
    pub fn flip_everywhere(&self, file: usize, places: impl Iterator<Item = usize>) -> Vec<usize> {
        let (opened, bytes) = (self.open(file), &self.bytes[file]);
        places
            .filter(|at| {
                let byte = bytes[*at];
                let refused = [0xff, 1].map(|mask| {
                    opened.write_all_at(&[byte ^ mask], *at as u64).unwrap();
                    let what = format!("byte {at} of {}, {byte:#04x} with {mask:#04x}", bytes.len());
                    self.is_refused(&format!("file {file}, {what}"))
                });
                opened.write_all_at(&[byte], *at as u64).unwrap();
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

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Where a resource lies that the resource header at `at` describes.
pub fn extent(bytes: &[u8], at: usize) -> Range<usize> {
    let (offset, stored) = (u64_at(bytes, at + 8), u64_at(bytes, at) & 0x00ff_ffff_ffff_ffff);
    offset as usize..(offset + stored) as usize
}

/// Bytes that may change without an error, and why that is no harm: the tree is the same.
pub type Free = Vec<(Range<usize>, &'static str)>;

/// Such bytes of a WIM that is a file, whose header is at `header`, and which is one of so many parts.
pub fn free_fields(wim: &[u8], header: usize, parts: u16) -> Free {
    let at = |field: Range<usize>| header + field.start..header + field.end;
    let (table, xml, integrity) = (extent(wim, header + 0x30), extent(wim, header + 0x48), extent(wim, header + 0x7c));
    let mut free = vec![
        (at(0x10..0x14), "flags that say nothing about how the image is read (read-only, RP_FIX)"),
        (at(0x37..0x38), "flags of the blob table that are not COMPRESSED"),
        (at(0x48..0x60), "where the XML is: without it an image has no name, and is chosen by number"),
        (at(0x60..0x78), "boot metadata: the same is in the blob table, which is what is read"),
        (at(0x78..0x7c), "boot index: none stands for the first image, and there is one"),
        (at(0x7c..0x94), "where the integrity table is: unpacking checks each blob itself"),
        (at(0x94..0xd0), "unused"),
        (xml, "XML: names and statistics for people"),
        (integrity, "integrity table: unpacking checks each blob itself"),
    ];
    if parts == 1 {
        free.push((at(0x14..0x18), "the chunk size, where nothing is compressed by it"));
    }
    if parts == 1 && header == 0 {
        free.extend([
            (0x18..0x28, "GUID: tells files apart, and is compared by nobody here"),
            (0x28..0x2a, "part number: with one part there is no other to be taken for"),
        ]);
    }
    if wim[header + 0x28] > 1 {
        free.push((at(0x2c..0x30), "number of images: those of the first part count"));
    }
    for entry in (table.start..table.end).step_by(50) {
        free.push((entry + 7..entry + 8, "flags of a resource beside METADATA, COMPRESSED and SOLID"));
        free.push((entry + 26..entry + 30, "reference count: only 0 has a meaning, of metadata, and that is noticed"));
        let is_solid = wim[entry + 7] & 0x10 != 0;
        let is_resource = is_solid && u64_at(wim, entry + 16) == 0x1_0000_0000;
        if is_resource {
            free.push((entry + 24..entry + 50, "part, count and SHA-1 of a solid resource: each blob has its own"));
        } else if is_solid {
            let why = "of a blob in it: the size is in the field of stored bytes, it has no part";
            free.push((entry + 16..entry + 26, why));
        }
        if parts == 1 && !is_solid && wim[entry + 7] & 2 != 0 {
            free.push((entry + 24..entry + 26, "part of an image's metadata: there is one part"));
        }
        if is_resource || !is_solid && wim[entry + 7] & 4 != 0 {
            free.push((extent(wim, entry), "bits that a chunk's format does not use; what comes out is checked"));
            free.push((entry..entry + 7, "stored bytes: what lies behind the last chunk's own end is not looked at"));
        }
    }
    free
}

/// No other byte than these may change without an error.
pub fn all_in(places: &[usize], free: &Free) {
    let strange: Vec<usize> =
        places.iter().copied().filter(|at| !free.iter().any(|(range, _)| range.contains(at))).collect();
    assert!(strange.is_empty(), "bytes changed without an error: {strange:?}");
}
