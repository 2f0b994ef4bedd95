//! Archives of a tree, made here so that they are the same everywhere: tar with PAX records, newc cpio, zstd frames with
//! checksums.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Facts, snapshot};

const KIND: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// Every entry of a tree, a directory before what is in it.
fn entries(tree: &Path) -> BTreeMap<PathBuf, Facts> {
    snapshot(tree)
}

/// A tar archive.
pub fn tar(tree: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, facts) in entries(tree) {
        let kind = match facts.mode & KIND {
            _ if facts.same_as != path => tar::EntryType::Link,
            FILE => tar::EntryType::Regular,
            DIRECTORY => tar::EntryType::Directory,
            SYMLINK => tar::EntryType::Symlink,
            0o010_000 => tar::EntryType::Fifo,
            0o060_000 => tar::EntryType::Block,
            0o020_000 => tar::EntryType::Char,
            // A socket cannot be in an archive.
            _ => continue,
        };
        let mut records: Vec<(String, Vec<u8>)> = facts
            .xattrs
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.clone()))
            .collect();
        records.push(("mtime".into(), format!("{}.{:07}", facts.modified.0, facts.modified.1).into()));
        builder.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice()))).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(facts.mode & 0o7777);
        header.set_uid(facts.owner.0.into());
        header.set_gid(facts.owner.1.into());
        header.set_mtime(facts.modified.0.max(0).cast_unsigned());
        header.set_device_major(rustix::fs::major(facts.device)).unwrap();
        header.set_device_minor(rustix::fs::minor(facts.device)).unwrap();
        header.set_size(0);
        let name = if path.as_os_str().is_empty() { Path::new("./") } else { &path };
        match kind {
            tar::EntryType::Symlink => {
                builder.append_link(&mut header, name, std::ffi::OsStr::from_bytes(&facts.contents)).unwrap();
            }
            tar::EntryType::Link => builder.append_link(&mut header, name, &facts.same_as).unwrap(),
            tar::EntryType::Regular => {
                header.set_size(facts.contents.len() as u64);
                builder.append_data(&mut header, name, &*facts.contents).unwrap();
            }
            _ => builder.append_data(&mut header, name, &[][..]).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

/// A newc archive. The last name of a file brings its contents, as GNU cpio does it.
pub fn cpio(tree: &Path) -> Vec<u8> {
    let all = entries(tree);
    let mut out = Vec::new();
    for (path, facts) in &all {
        let meta = fs::symlink_metadata(tree.join(path)).unwrap();
        let names: Vec<&PathBuf> = all.iter().filter(|(_, f)| f.same_as == facts.same_as).map(|(p, _)| p).collect();
        let is_last = names.last() == Some(&path);
        let contents = if is_last { &*facts.contents } else { &[] };
        let links = if facts.mode & KIND == FILE { names.len() as u64 } else { 1 };
        let time = u64::from_ne_bytes(facts.modified.0.max(0).to_ne_bytes());
        let device = (rustix::fs::major(facts.device).into(), rustix::fs::minor(facts.device).into());
        let name = if path.as_os_str().is_empty() { b"." } else { path.as_os_str().as_bytes() };
        let owner = (facts.owner.0.into(), facts.owner.1.into());
        newc(&mut out, [meta.ino(), facts.mode.into(), owner.0, owner.1, links, time], device, name, contents);
    }
    newc(&mut out, [0, 0, 0, 0, 1, 0], (0, 0), b"TRAILER!!!", &[]);
    out
}

/// One entry: inode, mode, owner, group, links, time; then the numbers of a device.
fn newc(out: &mut Vec<u8>, fields: [u64; 6], device: (u64, u64), name: &[u8], contents: &[u8]) {
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
    out.extend(b"070701");
    let more = [contents.len() as u64, 0, 0, device.0, device.1, name.len() as u64 + 1, 0];
    for field in fields.into_iter().chain(more) {
        out.extend(format!("{:08x}", field & 0xffff_ffff).bytes());
    }
    out.extend(name);
    out.push(0);
    pad(out);
    out.extend(contents);
    pad(out);
}

/// Archives that put something where a link of theirs leads, in each way that there is: below it, by another name for
/// what is below it, in its place. `to` is the link's target, a directory with a file `file`.
pub fn through_a_link(to: &str) -> (Vec<u8>, Vec<u8>) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: Option<&str>, contents: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(contents.len() as u64);
        match link {
            Some(link) => builder.append_link(&mut header, name, link).unwrap(),
            None => builder.append_data(&mut header, name, contents).unwrap(),
        }
    };
    add("up", tar::EntryType::Symlink, Some(to), b"");
    add("other", tar::EntryType::Link, Some("up/file"), b"");
    add("up/new", tar::EntryType::Regular, None, b"escaped");
    add("up", tar::EntryType::Directory, None, b"");
    add("up/file", tar::EntryType::Fifo, None, b"");
    let tar = builder.into_inner().unwrap();

    let mut cpio = Vec::new();
    newc(&mut cpio, [1, 0o120_777, 0, 0, 1, 1], (0, 0), b"up", to.as_bytes());
    newc(&mut cpio, [2, 0o100_644, 0, 0, 2, 1], (0, 0), b"up/new", b"escaped");
    newc(&mut cpio, [2, 0o100_644, 0, 0, 2, 1], (0, 0), b"other", b"again");
    newc(&mut cpio, [3, 0o040_755, 0, 0, 1, 1], (0, 0), b"up", &[]);
    newc(&mut cpio, [0, 0, 0, 0, 1, 0], (0, 0), b"TRAILER!!!", &[]);
    (tar, cpio)
}

/// The ways in which GNU tar writes sparse files.
pub const SPARSE: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=posix", "--sparse-version=0.0"],
    &["--format=posix", "--sparse-version=0.1"],
    &["--format=posix", "--sparse-version=1.0"],
];

/// An archive of a tree by GNU tar, its files sparse, in one of those ways.
pub fn sparse(tree: &Path, format: &[&str]) -> Option<Vec<u8>> {
    let mut words: Vec<&std::ffi::OsStr> = vec!["--create".as_ref(), "--sparse".as_ref(), "--numeric-owner".as_ref()];
    words.extend(format.iter().map(std::ffi::OsStr::new));
    words.extend(["--blocking-factor=1".as_ref(), "--directory".as_ref(), tree.as_os_str(), ".".as_ref()]);
    super::run("tar", &words).map(|output| output.stdout)
}

/// zstd frames with checksums, of about the same size each.
pub fn in_frames(bytes: &[u8], frames: usize) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    compressor.include_checksum(true).unwrap();
    bytes.chunks(bytes.len().div_ceil(frames)).flat_map(|part| compressor.compress(part).unwrap()).collect()
}
