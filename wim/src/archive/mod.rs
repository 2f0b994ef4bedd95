//! Roots that are archives in zstd frames: tar and newc cpio. Decoders turn frames into one stream (`input`), a parser
//! turns the stream into entries, one after another; a visitor measures them, or puts them into the target.

#[cfg(feature = "fuzz")]
pub(crate) mod bare;
mod check;
mod consumed;
mod cpio;
mod decoder;
mod effort;
mod extract;
mod frame;
mod held;
mod input;
mod list;
mod measure;
mod place;
mod queue;
mod sparse;
mod tar;

use std::fmt::Debug;
use std::sync::OnceLock;

use crate::error::{ArchiveError, TargetError};
use crate::meta::{Meta, Special};
use crate::name::{self, MAX_PATH, shown};
use crate::root::{Format, Need, Report, UnpackOptions};
use crate::source::ReadAt;
use crate::target::Target;
use crate::unpack::consume::Holes;
pub(crate) use check::bad_frames;
use consumed::Consumed;
use effort::{Effort, Seen};
pub(crate) use extract::Extract;
pub(crate) use frame::begins as is_zstd;
use input::Input;

/// Either side of an unpacking can fail.
#[derive(Debug)]
pub(crate) enum Failure {
    Archive(ArchiveError),
    Target(TargetError),
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Failure {
        Failure::Archive(error)
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Failure {
        Failure::Target(error)
    }
}

/// What an entry is.
#[derive(Debug)]
enum What {
    File,
    Directory,
    Symlink(Vec<u8>),
    /// A further name for an entry that came before. With contents, it is what brings them (cpio does so).
    HardLink(Vec<u8>),
    Special(Special),
}

/// One entry; its contents, `size` bytes, come next in the stream.
#[derive(Debug)]
struct Entry {
    /// Inside the root, without leading slash; empty for the root itself.
    path: Vec<u8>,
    what: What,
    meta: Meta,
    size: u64,
    /// Of a sparse file: where its contents belong.
    map: Option<sparse::Map>,
    /// What the archive says of it that is not set.
    left_out: Option<&'static str>,
}

/// Takes the entries of an archive, each with its contents. It need not read those to their end.
trait Visitor {
    fn entry(&mut self, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure>;

    /// The parser takes so many more bytes of memory until the archive ends.
    fn remembers(&mut self, _bytes: u64) {}
}

/// The contents of one entry.
struct Contents<'a> {
    input: &'a mut Input,
    left: u64,
}

impl Contents<'_> {
    /// The next of them; empty where there are none any more.
    fn next(&mut self) -> Result<&[u8], ArchiveError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let piece = self.input.some(self.left)?;
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(piece)
    }

    /// See [`Input::source`].
    fn source(&self) -> u64 {
        self.input.source()
    }

    fn pass(&mut self, to: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let left = std::mem::take(&mut self.left);
        self.input.pass(left, "the contents of a file", to)
    }
}

/// Hands an entry to the visitor and leaves the stream behind its contents.
fn visit(input: &mut Input, entry: &Entry, visitor: &mut dyn Visitor) -> Result<(), Failure> {
    let mut contents = Contents { input, left: entry.size };
    visitor.entry(entry, &mut contents)?;
    contents.pass(|_| Ok(()))
}

/// A name from an archive as a path inside the root: a leading slash and `.` are dropped.
fn inside(raw: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let refuse = |why: &str| ArchiveError::Entry { path: shown(raw), why: format!("{why}; make the archive again") };
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if let Some(why) = name::refused(part) {
            return Err(refuse(why));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() > MAX_PATH { Err(refuse("its path is longer than Linux can open")) } else { Ok(path) }
}

/// The directories above `path`, from the top down, without the root.
fn parents(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| path.get(..at).unwrap_or_default())
}

/// A number that stands for an owner.
fn owner_id(id: u64, raw: &[u8]) -> Result<u32, ArchiveError> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| ArchiveError::Entry {
        path: shown(raw),
        why: format!("its owner {id} is no number that Linux knows; make the archive again"),
    })
}

/// An opened archive.
pub(crate) struct Archive {
    source: Box<dyn ReadAt>,
    format: Format,
    /// What it takes, without its decompression: measured once, however often it is asked for.
    measured: OnceLock<(Need, Seen)>,
}

impl Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What the bytes inside the zstd frame are, or their first ones where they are no archive.
pub(crate) enum Inside {
    Archive(Archive),
    Unknown(Vec<u8>),
}

impl Archive {
    /// Looks into the zstd frame that `source` begins with.
    pub(crate) fn open(source: Box<dyn ReadAt>) -> Result<Inside, ArchiveError> {
        let (head, _) = input::with_input(&*source, Effort::least(), None, |input| {
            let mut head = Vec::new();
            while head.len() < 512 {
                let left = 512_u64.saturating_sub(head.len() as u64);
                match input.some(left)? {
                    [] => break,
                    piece => head.extend_from_slice(piece),
                }
            }
            Ok::<_, ArchiveError>(head)
        });
        let head = head?;
        Ok(match format_of(&head) {
            Some(format) => Inside::Archive(Archive { source, format, measured: OnceLock::new() }),
            None => Inside::Unknown(head),
        })
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    fn walk(&self, effort: Effort, visitor: &mut dyn Visitor) -> Result<Seen, Failure> {
        self.walk_consuming(effort, None, visitor)
    }

    /// Walks for the last time: with `consumed`, nothing of the archive is left.
    fn walk_consuming(
        &self,
        effort: Effort,
        consumed: Option<&Consumed>,
        visitor: &mut dyn Visitor,
    ) -> Result<Seen, Failure> {
        let (walked, seen) =
            input::with_input(&*self.source, effort, consumed, |input| parse(self.format, input, visitor));
        walked.map(|()| seen)
    }

    /// Unpacks the whole stream once, remembering directories and writing nothing: neither format says in advance how many
    /// files of which size it holds, and zstd's content size says nothing of the pages that they take. Contents are passed
    /// over where they lie; several frames are decompressed side by side, as in [`Archive::unpack`].
    pub(crate) fn need(&self, options: &UnpackOptions<'_>) -> Result<Need, ArchiveError> {
        let effort = Effort::new(options);
        let (need, seen) = match self.measured.get() {
            Some(measured) => *measured,
            None => {
                let measured = self.measure(effort)?;
                *self.measured.get_or_init(|| measured)
            }
        };
        let freed = if options.consume { need.freed } else { 0 };
        Ok(Need { working: effort.memory(&seen).saturating_add(need.working), freed, ..need })
    }

    fn measure(&self, effort: Effort) -> Result<(Need, Seen), ArchiveError> {
        let mut measure = measure::Measure::new();
        let seen = match self.walk(effort, &mut measure) {
            Ok(seen) => seen,
            Err(Failure::Archive(error)) => return Err(error),
            Err(Failure::Target(error)) => {
                let why = error.to_string();
                return Err(ArchiveError::Damaged { at: 0, why });
            }
        };
        Ok((measure.need(), seen))
    }

    /// With `holes`, those of its file, it is freed as it is unpacked.
    pub(crate) fn unpack(
        &self,
        holes: Option<Holes>,
        target: &Target,
        options: &UnpackOptions<'_>,
    ) -> Result<Report, Failure> {
        let effort = Effort::new(options);
        let mut place = place::Place::new(target, options.progress);
        let consumed = holes.map(Consumed::new);
        let seen = self.walk_consuming(effort, consumed.as_ref(), &mut place)?;
        let (entries, bytes, mut notes) = place.finish()?;
        if seen.unchecked > 0 {
            notes.push(format!(
                "{} of {} zstd frames have no checksum, so that damage in them is unpacked as it stands; make the archive \
                 without --no-check",
                seen.unchecked, seen.frames
            ));
        }
        Ok(Report { entries, bytes, workers: effort.threads(&seen), notes })
    }
}

/// Takes the unpacked stream apart.
fn parse(format: Format, input: &mut Input, visitor: &mut dyn Visitor) -> Result<(), Failure> {
    match format {
        Format::CpioZst => cpio::walk(input, visitor),
        _ => tar::walk(input, visitor),
    }
}

/// tar by `ustar` at offset 257 (POSIX and GNU), cpio by newc's magic numbers.
fn format_of(head: &[u8]) -> Option<Format> {
    if head.get(257..262) == Some(b"ustar") {
        return Some(Format::TarZst);
    }
    (head.starts_with(cpio::MAGIC) || head.starts_with(cpio::MAGIC_CRC)).then_some(Format::CpioZst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_root() {
        assert_eq!(inside(b"./usr//bin/./x/").unwrap(), b"usr/bin/x");
        assert_eq!(inside(b"/etc").unwrap(), b"etc");
        assert_eq!(inside(b"./").unwrap(), b"");
        for bad in [&b"../x"[..], b"a/../b", b"a/..", b"a\0b", &[b'x'; 256], &b"abc/".repeat(2000)] {
            assert!(inside(bad).is_err());
        }
    }
}
