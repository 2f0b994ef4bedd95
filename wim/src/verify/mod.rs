//! Checking an image without unpacking it anywhere: every structure, every content, every checksum. All damage is
//! told, not the first alone, with the files that it affects.
//!
//! ```text
//!   WIM: header, blob table ──► XML ──► metadata of every image ──► contents, SHA-1 by SHA-1 ──► integrity table
//!   tar.zst, cpio.zst: the whole stream, with the checksums of its frames ──► where it ends early, frame by frame
//! ```

mod blobs;
mod chain;
mod integrity;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::archive::bad_frames;
use crate::blob::Hash;
use crate::error::{ArchiveError, Error, PartError, WimError, chain};
use crate::header::Header;
use crate::name::shown;
use crate::reader::Wim;
use crate::reparse;
use crate::resource::read_whole;
use crate::root::{Format, Opened, Progress, UnpackOptions};
use crate::source::FileSource;
use crate::tree::{Kind, Tree};
use crate::xml::MAX_XML;
use blobs::{Check, Damaged, MOST_TOLD};
use integrity::Table;

const WRONG_HASH: &str = "it does not have its SHA-1";
const MISSING: &str = "it is not in this image";
const NO_TARGET: &str = "it is no sound target of a link";

/// Files that are named for one damaged content.
const MOST_FILES: usize = 20;

/// Where damage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Header, blob table, or what else is needed before anything can be checked.
    Structure,
    /// Names and descriptions of the images. They are still there by number.
    Xml,
    /// The directory tree of an image.
    Metadata {
        /// Its number, from 1.
        image: u32,
    },
    /// Contents of files.
    Contents {
        /// As the image names them.
        sha1: [u8; 20],
    },
    /// The integrity table itself.
    Integrity {
        /// Number of the file that it is in, of a split WIM; else 1.
        file: u16,
    },
    /// Bytes of the file: those that differ from the integrity table; of an archive, a frame that is damaged.
    Range {
        /// Number of the file, of a split WIM; else 1.
        file: u16,
        /// The first one.
        from: u64,
        /// The first one behind.
        to: u64,
    },
    /// The stream of an archive, whose frames are sound.
    Stream,
}

/// A file that damaged contents affect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// Number of the image that it is in.
    pub image: u32,
    /// Its path in there, from `/` on, with control characters escaped.
    pub path: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub part: Part,
    /// What is wrong, in words.
    pub why: String,
    /// Files that have these contents, twenty at most.
    pub files: Vec<Affected>,
    /// Files beyond those.
    pub more_files: u64,
}

/// What was checked, and found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Which format it is.
    pub format: Format,
    /// Images in it.
    pub images: u32,
    /// Names in all images whose metadata is sound.
    pub entries: u64,
    /// Contents that were checked; those too that no file has. Of an archive, its files.
    pub contents: u64,
    /// Bytes that were hashed: of contents, and of the file for the integrity table.
    pub bytes: u64,
    /// Chunks in the integrity tables of all its files; `None` where there is none that is sound.
    pub integrity: Option<u64>,
    /// Threads that checked.
    pub workers: u32,
    /// What is wrong, some thousand at most.
    pub damage: Vec<Damage>,
    /// Damage beyond that.
    pub more_damage: u64,
    /// Parts that nothing can be said of: zstd frames without a checksum.
    pub unchecked: u64,
}

impl Verified {
    fn new(format: Format) -> Verified {
        Verified {
            format,
            images: 0,
            entries: 0,
            contents: 0,
            bytes: 0,
            integrity: None,
            workers: 1,
            damage: Vec::new(),
            more_damage: 0,
            unchecked: 0,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.more_damage == 0
    }

    fn add(&mut self, part: Part, why: impl Into<String>) {
        if self.damage.len() < MOST_TOLD {
            self.damage.push(Damage { part, why: why.into(), files: Vec::new(), more_files: 0 });
        } else {
            self.more_damage = self.more_damage.saturating_add(1);
        }
    }
}

impl Wim {
    /// Chunks in its integrity table, of all files of a split WIM; `None` where it has none.
    ///
    /// # Errors
    /// When a table is damaged.
    pub fn integrity_chunks(&self) -> Result<Option<u64>, WimError> {
        let mut chunks = None;
        for (_, table) in tables(self) {
            if let Some(table) = table? {
                chunks = Some(table.chunks().saturating_add(chunks.unwrap_or(0)));
            }
        }
        Ok(chunks)
    }
}

/// The integrity tables by file: every file of a split WIM has a header and a table of its own.
fn tables(wim: &Wim) -> impl Iterator<Item = (u16, Result<Option<Table>, WimError>)> {
    (1..=wim.header().parts).map(|file| {
        let source = wim.parts.source(file);
        (file, Header::find(source).and_then(|header| Table::read(source, &header)))
    })
}

/// Checks the image at `path`, all of it, with workers and memory as for unpacking. What is wrong with the image is in
/// the result.
///
/// # Errors
/// When nothing could be checked: it cannot be read, is of no known format or of a kind that is not supported, or
/// memory is short.
pub fn verify(path: &Path, options: &UnpackOptions<'_>) -> Result<Verified, Error> {
    match crate::root::opened(path) {
        Ok((Opened::Wim(wim), _)) => {
            check_wim(&wim, options).map_err(|source| Error::Wim { path: path.to_owned(), source })
        }
        Ok((Opened::Archive(archive), _)) => {
            let mut verified = Verified { images: 1, ..Verified::new(archive.format()) };
            match archive.list(false, options.progress) {
                Ok(listed) => {
                    verified.entries = listed.tree.names.len() as u64;
                    verified.contents = listed.tree.inodes.iter().filter(|i| i.kind == Kind::File).count() as u64;
                    verified.bytes = listed.bytes;
                    verified.workers = listed.workers;
                    verified.unchecked = listed.unchecked;
                }
                Err(source @ ArchiveError::TooMuch { .. }) => {
                    return Err(Error::Archive { path: path.to_owned(), source });
                }
                Err(error) => damaged_frames(path, &error, options, &mut verified)?,
            }
            Ok(verified)
        }
        Err(Error::Wim { source, .. }) if is_damage(&source) => Ok(structure(Format::Wim, &source)),
        Err(Error::Part { file, why: PartError::Wim(source), .. }) if is_damage(&source) => {
            let mut verified = Verified::new(Format::Wim);
            verified.add(Part::Structure, format!("{}: {}", file.display(), chain(&source)));
            Ok(verified)
        }
        Err(Error::Archive {
            source: source @ (ArchiveError::Stream { .. } | ArchiveError::Truncated { .. }), ..
        }) => {
            let mut verified = Verified::new(Format::TarZst);
            damaged_frames(path, &source, options, &mut verified)?;
            Ok(verified)
        }
        Err(error) => Err(error),
    }
}

/// Of an archive whose stream ends with `error`: all frames that are damaged; where none is, what the stream says.
fn damaged_frames(
    path: &Path,
    error: &ArchiveError,
    options: &UnpackOptions<'_>,
    verified: &mut Verified,
) -> Result<(), Error> {
    let opened = File::open(path).and_then(FileSource::new);
    let source = opened.map_err(|source| Error::Io { path: path.to_owned(), action: "open".into(), source })?;
    bad_frames(&source, options.progress, |bad| {
        verified.add(Part::Range { file: 1, from: bad.from, to: bad.to }, bad.why);
    });
    if verified.is_sound() {
        verified.add(Part::Stream, chain(error));
    }
    Ok(())
}

fn structure(format: Format, why: &dyn std::error::Error) -> Verified {
    let mut verified = Verified::new(format);
    verified.add(Part::Structure, chain(why));
    verified
}

/// Whether another copy of the image may be better.
fn is_damage(error: &WimError) -> bool {
    !matches!(error, WimError::Unsupported { .. } | WimError::NoMemory { .. } | WimError::NoImage { .. })
}

fn check_wim(wim: &Wim, options: &UnpackOptions<'_>) -> Result<Verified, WimError> {
    let header = wim.header();
    let mut verified = Verified { images: header.images, ..Verified::new(Format::Wim) };
    if let Err(error) = read_whole(wim.parts.source(1), &header.xml, header.layout(), "the XML data", MAX_XML) {
        verified.add(Part::Xml, chain(&error));
    }
    let mut links = HashSet::new();
    let mut unsound = Damaged::default();
    for image in 1..=header.images {
        match wim.tree(image) {
            Ok(tree) => {
                verified.entries = verified.entries.saturating_add(tree.names.len() as u64);
                look_through(wim, &tree, &mut links, &mut unsound);
            }
            Err(error @ WimError::NoMemory { .. }) => return Err(error),
            Err(error) => verified.add(Part::Metadata { image }, chain(&error)),
        }
    }

    let tables: Vec<(u16, Result<Option<Table>, WimError>)> = tables(wim).collect();
    let sound = tables.iter().filter_map(|(_, table)| table.as_ref().ok().and_then(Option::as_ref));
    let covered = sound.fold(0, |sum: u64, table| sum.saturating_add(table.covered()));
    let check = Check::new(wim, &links);
    let workers = check.workers(options);
    let total = check.bytes.saturating_add(covered);
    let done = AtomicU64::new(0);
    let advance = |bytes: u64| {
        let done = done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if let Some(progress) = options.progress {
            progress(Progress { done: done.min(total), total });
        }
    };
    verified.workers = u32::try_from(workers.get()).unwrap_or(u32::MAX);
    verified.contents = check.count();
    verified.bytes = total;
    let mut damaged = check.run(workers, &advance)?;
    for (hash, why) in unsound.told {
        damaged.add(hash, why);
    }
    verified.more_damage = damaged.untold.saturating_add(unsound.untold);
    name_files(wim, damaged.told, &mut verified)?;

    for (file, table) in tables {
        let table = match table {
            Ok(Some(table)) => table,
            Ok(None) => continue,
            Err(error @ WimError::NoMemory { .. }) => return Err(error),
            Err(error) => {
                verified.add(Part::Integrity { file }, chain(&error));
                continue;
            }
        };
        verified.integrity = Some(verified.integrity.unwrap_or(0).saturating_add(table.chunks()));
        for bad in table.check(wim.parts.source(file), workers.get(), &advance) {
            let why = match bad.why {
                Some(error @ WimError::NoMemory { .. }) => return Err(error),
                Some(error) => chain(&error),
                None => "they differ from the integrity table".into(),
            };
            verified.add(Part::Range { file, from: bad.from, to: bad.to }, why);
        }
    }
    Ok(verified)
}

/// Contents that a tree needs and that are not there, and those that have to be links' targets.
fn look_through(wim: &Wim, tree: &Tree, links: &mut HashSet<(Hash, u32)>, unsound: &mut Damaged) {
    for inode in &tree.inodes {
        match (wim.size_of(&inode.hash), inode.kind) {
            (None, _) => unsound.add(inode.hash, MISSING.into()),
            (Some(size), Kind::Symlink(_)) if size == 0 || size > reparse::MAX_DATA => {
                unsound.add(inode.hash, NO_TARGET.into());
            }
            (Some(_), Kind::Symlink(tag)) => {
                links.insert((inode.hash, tag));
            }
            (Some(_), _) => {}
        }
    }
}

/// Which files have the damaged contents. The trees are read once more, one at a time, since all together may not fit
/// in memory.
fn name_files(wim: &Wim, damaged: BTreeMap<Hash, String>, verified: &mut Verified) -> Result<(), WimError> {
    if damaged.is_empty() {
        return Ok(());
    }
    let mut files: BTreeMap<Hash, (Vec<Affected>, u64)> = BTreeMap::new();
    for image in 1..=wim.header().images {
        let tree = match wim.tree(image) {
            Ok(tree) => tree,
            Err(error @ WimError::NoMemory { .. }) => return Err(error),
            // That was told.
            Err(_) => continue,
        };
        for inode in tree.inodes.iter().filter(|inode| damaged.contains_key(&inode.hash)) {
            // An empty file has no hash, nor has a link without a target, which is damage.
            let is_affected = match inode.kind {
                Kind::File => inode.hash != [0; 20],
                Kind::Symlink(_) => true,
                Kind::Directory | Kind::Special(_) => false,
            };
            if !is_affected {
                continue;
            }
            let (named, more) = files.entry(inode.hash).or_default();
            for name in &inode.names {
                if named.len() < MOST_FILES {
                    named.push(Affected { image, path: format!("/{}", shown(&tree.path(*name))) });
                } else {
                    *more = more.saturating_add(1);
                }
            }
        }
    }
    for (sha1, why) in damaged {
        let (files, more_files) = files.remove(&sha1).unwrap_or_default();
        verified.damage.push(Damage { part: Part::Contents { sha1 }, why, files, more_files });
    }
    Ok(())
}
