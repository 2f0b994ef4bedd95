//! Split WIMs: the files beside the first one, by the names that wimlib and DISM give them: `x.swm`, `x2.swm`,
//! `x3.swm`, …. The number stands before the last dot of the name (wimlib's split.c). Each file is a WIM of its own,
//! with a blob table of what lies in it; the first has the images.

use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, PartError};
use crate::header::Header;
use crate::reader::Wim;
use crate::source::{FileSource, ReadAt};

/// Every part is an open file, of which a process usually may have 1024 (`RLIMIT_NOFILE`).
const MAX_PARTS: u16 = 512;

/// Opens the WIM whose only or first file is `source`, found at `path`, with all parts that it is split in.
pub(crate) fn open(path: &Path, source: Box<dyn ReadAt>) -> Result<Wim, Error> {
    let in_wim = |source| Error::Wim { path: path.to_owned(), source };
    let header = Header::find(&*source).map_err(in_wim)?;
    let (part, parts) = (header.part, header.parts);
    if part > 1 {
        return Err(Error::NotFirst { path: path.to_owned(), part, parts, first: first_of(path, part) });
    }
    if parts > MAX_PARTS {
        return Err(Error::ManyParts { path: path.to_owned(), parts, limit: MAX_PARTS });
    }
    let mut wim = Wim::first(source, header).map_err(in_wim)?;
    for part in 2..=parts {
        let file = name(path, part);
        add(&mut wim, &file, part).map_err(|why| Error::Part { path: path.to_owned(), part, parts, file, why })?;
    }
    Ok(wim)
}

fn add(wim: &mut Wim, file: &Path, part: u16) -> Result<(), PartError> {
    // A link could lead anywhere, and opening a fifo would wait for a writer: neither is a part.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(file, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => PartError::Missing,
        Errno::LOOP => PartError::NoFile,
        errno => PartError::Open(errno.into()),
    })?;
    let opened = File::from(opened);
    if !opened.metadata().map_err(PartError::Open)?.is_file() {
        return Err(PartError::NoFile);
    }
    join(wim, Box::new(FileSource::new(opened).map_err(PartError::Open)?), part)
}

/// Adds a file that should be part `part` of this WIM.
pub(crate) fn join(wim: &mut Wim, source: Box<dyn ReadAt>, part: u16) -> Result<(), PartError> {
    let header = Header::find(&*source)?;
    let first = wim.header();
    if header.guid != first.guid {
        return Err(PartError::Foreign);
    }
    if (header.part, header.parts) != (part, first.parts) {
        return Err(PartError::Number { part: header.part, parts: header.parts });
    }
    if header.layout() != first.layout() {
        return Err(PartError::Layout);
    }
    Ok(wim.add(source, &header)?)
}

/// Where part `part` of the set is whose first part is at `first`.
pub(crate) fn name(first: &Path, part: u16) -> PathBuf {
    if part < 2 {
        return first.to_owned();
    }
    let (stem, suffix) = cut(first);
    first.with_file_name(joined(&[stem, part.to_string().as_bytes(), suffix]))
}

/// Where the first part is of the set whose part `part` is at `path`; `None` where its name does not say.
fn first_of(path: &Path, part: u16) -> Option<PathBuf> {
    let (stem, suffix) = cut(path);
    let stem = stem.strip_suffix(part.to_string().as_bytes())?;
    let first = joined(&[stem, suffix]);
    (!first.is_empty()).then(|| path.with_file_name(first))
}

/// A file's name before its last dot, and from there on.
fn cut(path: &Path) -> (&[u8], &[u8]) {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let dot = name.iter().rposition(|byte| *byte == b'.').unwrap_or(name.len());
    name.split_at_checked(dot).unwrap_or((name, b""))
}

fn joined(pieces: &[&[u8]]) -> std::ffi::OsString {
    std::ffi::OsString::from_vec(pieces.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_wimlib_names_them() {
        let part = |first: &str| name(Path::new(first), 12).to_str().unwrap().to_owned();
        assert_eq!(part("/a.b/x.swm"), "/a.b/x12.swm");
        assert_eq!(part("ROOT.V1.SWM"), "ROOT.V112.SWM");
        assert_eq!(part("dir.d/plain"), "dir.d/plain12");
        assert_eq!(name(Path::new("x.swm"), 1), Path::new("x.swm"));
    }

    #[test]
    fn the_first_part_is_known_by_the_name_of_another() {
        let first = |path: &str, part| first_of(Path::new(path), part);
        assert_eq!(first("/a/x3.swm", 3), Some("/a/x.swm".into()));
        assert_eq!(first("/a/x13.swm", 3), Some("/a/x1.swm".into()));
        assert_eq!(first("/a/renamed.swm", 3), None);
        assert_eq!(first("2", 2), None);
    }
}
