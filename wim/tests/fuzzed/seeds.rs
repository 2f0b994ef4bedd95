//! What a fuzzer begins with: small sound inputs of every kind, made by our own writer when they are needed.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use wim::capture::{CaptureOptions, Compression, capture};

use crate::common::{self, archive, contents};

const FORMATS: [(Compression, bool, Option<u32>); 7] = [
    (Compression::None, false, None),
    (Compression::Xpress, false, Some(4096)),
    (Compression::Lzx, false, Some(32768)),
    (Compression::Lzms, false, Some(32768)),
    (Compression::Xpress, true, Some(4096)),
    (Compression::Lzx, true, Some(32768)),
    (Compression::Lzms, true, Some(32768)),
];

/// A tree with one of each kind of entry; the links lead out of the target where they are followed.
fn grow(tree: &Path, large: usize) {
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::write(tree.join("d/large"), contents(1, large)).unwrap();
    fs::write(tree.join("d/e/small"), "#!/bin/sh\n").unwrap();
    fs::write(tree.join("equal"), "#!/bin/sh\n").unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    fs::hard_link(tree.join("d/e/small"), tree.join("hard")).unwrap();
    symlink("../../outside", tree.join("up")).unwrap();
    symlink("/outside/file", tree.join("link")).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("fifo"), kind, rustix::fs::Mode::RUSR, 0).unwrap();
    if common::is_root() {
        common::set_xattr(&tree.join("d"), "trusted.mark", b"value");
        common::set_xattr(&tree.join("equal"), "security.mark", b"");
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The resource headers of a WIM's blob table: stored bytes, flags, size.
fn resources(wim: &[u8]) -> Vec<(&[u8], u8, u64)> {
    let (begin, len) = (u64_at(wim, 0x38) as usize, u64_at(wim, 0x40) as usize);
    let entries = (begin..begin + len).step_by(50);
    let resource = |at: usize| {
        let word = u64_at(wim, at);
        let (stored, offset) = ((word & 0x00ff_ffff_ffff_ffff) as usize, u64_at(wim, at + 8) as usize);
        Some((wim.get(offset..offset + stored)?, wim[at + 7], u64_at(wim, at + 16)))
    };
    entries.filter_map(resource).collect()
}

/// WIMs of a tree that are pipable, split, or both, the parts of one behind another. Without wimlib's command none is split.
fn sets(tree: &Path, compression: Compression) -> Vec<Vec<u8>> {
    let work = common::fast_dir();
    let mut found = Vec::new();
    for pipable in [false, true] {
        let chunk_size = (compression == Compression::Xpress).then_some(4096);
        let options = CaptureOptions { compression, pipable, chunk_size, ..CaptureOptions::default() };
        let (image, first) = (work.path().join("image.wim"), work.path().join(format!("{pipable}.swm")));
        capture(tree, &image, &options).unwrap();
        if pipable {
            found.push(fs::read(&image).unwrap());
        }
        if let Some(parts) = common::split(&image, &first, "0.001") {
            assert!(parts.len() > 1, "it is split");
            found.push(parts.iter().flat_map(|part| fs::read(part).unwrap()).collect());
        }
    }
    found
}

/// All seeds: the name of the target, and an input for it.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let work = common::fast_dir();
    let mut seeds = Vec::new();
    for (large, formats) in [(0, &FORMATS[..1]), (9000, &FORMATS[..2]), (40_000, &FORMATS[2..]), (9000, &FORMATS[4..5])]
    {
        let tree = tempfile::tempdir_in(work.path()).unwrap();
        grow(tree.path(), large);
        for (compression, solid, chunk_size) in formats {
            let options = CaptureOptions {
                compression: *compression,
                solid: *solid,
                chunk_size: *chunk_size,
                ..CaptureOptions::default()
            };
            let image = work.path().join("image");
            capture(tree.path(), &image, &options).unwrap();
            let bytes = fs::read(&image).unwrap();
            for (resource, flags, size) in resources(&bytes) {
                let is_metadata = flags & 2 != 0;
                if is_metadata && *compression == Compression::None {
                    seeds.push(("metadata", resource.to_vec()));
                }
                let kind = match compression {
                    _ if flags & 0x10 != 0 && size == 1 << 32 => 3,
                    Compression::Xpress if flags & 0x14 == 4 => 0,
                    Compression::Lzx if flags & 0x14 == 4 => 1,
                    Compression::Lzms if flags & 0x14 == 4 => 2,
                    _ => continue,
                };
                let size = size.to_le_bytes();
                let exponent = chunk_size.unwrap_or(1).trailing_zeros() as u8;
                seeds.push(("chunks", [&[kind, exponent, size[0], size[1], size[2]], resource].concat()));
            }
            seeds.extend([("header", bytes.clone()), ("apply", bytes)]);
        }
        if large == 9000 {
            let wims = [Compression::None, Compression::Xpress].map(|compression| sets(tree.path(), compression));
            seeds.extend(wims.concat().into_iter().flat_map(|wim| [("header", wim.clone()), ("apply", wim)]));
        }
        if large == 0 {
            let file = fs::File::create(tree.path().join("sparse")).unwrap();
            for n in 0..30 {
                file.write_all_at(&contents(n, 100), n * 8192).unwrap();
            }
            seeds.extend(
                archive::SPARSE.into_iter().filter_map(|way| Some(("tar", archive::sparse(tree.path(), way)?))),
            );
            fs::remove_file(tree.path().join("sparse")).unwrap();
        }
        if large < 10_000 {
            let (tar, cpio) = (archive::tar(tree.path()), archive::cpio(tree.path()));
            seeds.extend([("apply", archive::in_frames(&tar, 2)), ("apply", archive::in_frames(&cpio, 1))]);
            seeds.extend([("tar", tar), ("cpio", cpio)]);
        }
    }
    seeds
}

/// Seeds that are to be refused: they try to leave the target.
pub fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let archives = ["/outside", "../outside"].map(archive::through_a_link);
    archives.into_iter().flat_map(|(tar, cpio)| [("tar", tar), ("cpio", cpio)]).collect()
}
