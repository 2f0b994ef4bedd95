//! Doors for the fuzzers in `fuzz/` and for the test that runs their corpus, to what lies behind a check that no fuzzer
//! passes, or that is not public. For tests alone: feature `fuzz`, which nothing that is shipped has.

mod sound;

use std::path::Path;

use crate::archive::bare::Bare;
use crate::codec::reference::Decompressor;
use crate::codec::{Codec, Compression};
use crate::error::{ArchiveError, Error, PartError, WimError};
use crate::header::{Header, ResourceHeader};
use crate::reader::Wim;
use crate::resource::{Layout, Solid, read, read_whole, resize};
use crate::root::{Need, Report};
use crate::target::Target;
use crate::tree::{Kind, Tree};
use crate::{archive, metadata, name, split};
pub use sound::sound_hashes;

/// More than this is not unpacked: a fuzzer learns nothing from large contents.
const MOST: u64 = 4 << 20;

/// The parser of an image's metadata, without the SHA-1 that stands before it.
///
/// # Errors
/// When the metadata is damaged.
pub fn metadata(bytes: &[u8]) -> Result<Tree, WimError> {
    metadata::parse(bytes)
}

/// What of a parsed tree could not be put into a directory, or is not bound to the bytes that it came from; `None` where
/// all is sound.
pub fn contradiction(tree: &Tree, bytes: usize) -> Option<&'static str> {
    let name_of = |n: &u32| tree.name(*n);
    for (at, entry) in tree.names.iter().enumerate() {
        if tree.inode(entry.inode).is_none() {
            return Some("a name is of no inode");
        }
        if at == 0 {
            continue;
        }
        if name::refused(&entry.name).is_some() {
            return Some("a name is none that a directory can have");
        }
        // A parent stands before what is in it, so that there is no cycle.
        let parent = usize::try_from(entry.parent).ok().filter(|parent| *parent < at);
        let parent = parent.and_then(|parent| tree.names.get(parent)).and_then(|name| tree.inode(name.inode));
        if parent.is_none_or(|inode| inode.kind != Kind::Directory) {
            return Some("a name is in no directory");
        }
        if u32::try_from(at).is_ok_and(|at| tree.path(at).len() > name::MAX_PATH) {
            return Some("a path is longer than Linux can open");
        }
    }
    if tree.inodes.iter().any(|inode| inode.names.is_empty() || inode.names.iter().any(|n| name_of(n).is_none())) {
        return Some("an inode has no name");
    }
    // An entry takes at least 102 bytes of the metadata.
    if tree.names.len() > bytes / 102 { Some("there are more names than bytes for them") } else { None }
}

/// A compressed resource of its own: chunk table, then chunks. Of at most 4 MiB.
///
/// # Errors
/// When the table or a chunk is damaged.
pub fn resource(
    bytes: Vec<u8>,
    compression: Compression,
    chunk_size: u32,
    size: u64,
    pipable: bool,
) -> Result<Vec<u8>, WimError> {
    let flags = ResourceHeader::COMPRESSED;
    let at = ResourceHeader { stored: bytes.len() as u64, flags, offset: 0, size };
    read_whole(&bytes, &at, Layout { compression, chunk_size, pipable }, "a resource", MOST)
}

/// A solid resource: its header, table and first chunks. `Ok(false)` where a chunk is damaged.
///
/// # Errors
/// When header or table are damaged.
///
/// # Panics
/// When a chunk unpacks to something else than wimlib's decompressor gives.
pub fn solid(bytes: &Vec<u8>) -> Result<bool, WimError> {
    let flags = ResourceHeader::COMPRESSED | ResourceHeader::SOLID;
    let at = ResourceHeader { stored: bytes.len() as u64, flags, offset: 0, size: 0 };
    let solid = Solid::read(bytes, 1, &at, 1 << 16)?;
    let (mut codec, mut out) = (Codec::default(), Vec::new());
    let mut left = solid.size;
    for (begin, end) in solid.starts.iter().zip(solid.starts.iter().skip(1)) {
        let len = left.min(solid.chunk_size.into());
        if len > MOST || solid.size.saturating_sub(left) > MOST {
            break;
        }
        let input = read(bytes, *begin, end.saturating_sub(*begin))?;
        resize(&mut out, len)?;
        if codec.chunk(solid.compression, solid.chunk_size, &input, &mut out).is_err() {
            return Ok(false);
        }
        same_as_reference(solid.compression, solid.chunk_size, &input, &out);
        left = left.saturating_sub(len);
    }
    Ok(true)
}

/// wimlib takes zeros behind the end of a chunk for granted, which ours refuses, so it is asked only what ours accepts.
#[expect(clippy::panic, reason = "how a fuzzer is told")]
fn same_as_reference(format: Compression, chunk_size: u32, input: &[u8], out: &[u8]) {
    // wimlib 1.14.4 passes over up to 31 bits before a stored block of LZX; [MS-PATCH] 2.3.2.1 says 16.
    if format == Compression::Lzx || input.len() == out.len() {
        return;
    }
    let mut other = vec![0; out.len()];
    let reference = usize::try_from(chunk_size).ok().and_then(|size| Decompressor::new(format, size));
    if reference.is_some_and(|mut reference| !reference.run(input, &mut other) || other != out) {
        panic!("a chunk of {format} of {} bytes is not what wimlib makes of it", input.len());
    }
}

/// What an archive takes that lies in memory outside any zstd frame. `None` where it is no archive.
///
/// # Errors
/// When it is damaged.
pub fn measured(archive: &[u8]) -> Result<Option<Need>, ArchiveError> {
    Bare::open(archive).map(|bare| bare.need()).transpose()
}

/// Unpacks such an archive into the existing, empty directory `target`, and says what it takes. `None` where it is none.
///
/// # Errors
/// When it is damaged, or the target fails.
pub fn unpacked(archive: &[u8], target: &Path) -> Result<Option<(Need, Report)>, Error> {
    let Some(bare) = Bare::open(archive) else { return Ok(None) };
    let damaged = |source| Error::Archive { path: "an archive in memory".into(), source };
    let need = bare.need().map_err(damaged)?;
    match bare.unpack(&Target::open(target)?) {
        Ok(report) => Ok(Some((need, report))),
        Err(archive::Failure::Archive(source)) => Err(damaged(source)),
        Err(archive::Failure::Target(error)) => Err(error.into()),
    }
}

/// A WIM of these files, as [`Wim::open_path`] opens them.
///
/// # Errors
/// When one of them is damaged, or not the part that it should be.
pub fn split(files: &[Vec<u8>]) -> Result<Wim, PartError> {
    let (first, others) = files.split_first().ok_or(PartError::Missing)?;
    let header = Header::find(first)?;
    let mut wim = Wim::first(Box::new(first.clone()), header)?;
    for (file, part) in others.iter().zip(2..) {
        split::join(&mut wim, Box::new(file.clone()), part)?;
    }
    Ok(wim)
}
