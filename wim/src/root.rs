//! A root image of any known format behind one door: what `init` and `mmos-image apply` open, measure and unpack.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::archive::{self, Archive, Inside};
use crate::error::Error;
use crate::filesystem;
use crate::incoming::{self, GiveUp};
use crate::reader::Wim;
use crate::sniff::{self, Outer};
use crate::source::{FileSource, ReadAt};
use crate::split;
use crate::target::Target;
use crate::unpack::consume::{self, Holes};
use crate::unpack::{self, Piped, Prepared};

/// The formats that a root may have; told apart by content, never by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Windows Imaging file.
    Wim,
    /// A tar archive in zstd frames.
    TarZst,
    /// One or more newc cpio archives in zstd frames.
    CpioZst,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Wim => "wim",
            Format::TarZst => "tar.zst",
            Format::CpioZst => "cpio.zst",
        })
    }
}

/// What a root takes once it is unpacked into a tmpfs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of tmpfs: the pages of all files, and of what else tmpfs keeps in pages.
    pub bytes: u64,
    /// Inodes of tmpfs, as its `nr_inodes` counts them: every name is one, a hard link too.
    pub inodes: u64,
    /// Bytes that the kernel keeps extended attributes in. Each 1024 of them take one inode of `nr_inodes`.
    pub xattrs: u64,
    /// Bytes of memory beside the tmpfs while unpacking, at most.
    pub working: u64,
    /// Bytes of the image's own memory that have been given back by the time when most is needed; 0 unless
    /// [`UnpackOptions::consume`].
    pub freed: u64,
}

/// How far an unpacking is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of file contents written and checked so far.
    pub done: u64,
    /// Bytes of file contents in all; 0 where the format does not say.
    pub total: u64,
}

/// How to unpack.
#[derive(Clone, Copy, Default)]
pub struct UnpackOptions<'a> {
    /// Threads; `None`: as many as there are processors for this process.
    pub workers: Option<NonZeroUsize>,
    /// Bytes of memory that buffers and decompressors may take in all; `None`: [`DEFAULT_MEMORY_BUDGET`], or
    /// [`PLAIN_MEMORY_BUDGET`] of a WIM that is not solid, with its metadata. It bounds
    /// the number of workers; one worker always runs.
    pub memory_budget: Option<u64>,
    /// Free the image while it is unpacked: what was read of its file is punched out of it, so that image and tree need
    /// not both fit into memory. For a file that [`is_consumable`]; it holds nothing of use afterwards, whatever comes
    /// of the unpacking.
    pub consume: bool,
    /// Called from the workers now and then.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// Enough for four workers on solid LZMS chunks of 8 MiB.
pub const DEFAULT_MEMORY_BUDGET: u64 = 96 << 20;
/// What an image without solid resources may take beside the tree where nobody says: its chunks are small, and more workers
/// than that allows (some twenty, of LZX) wait for the memory's speed. One worker always runs.
pub const PLAIN_MEMORY_BUDGET: u64 = 32 << 20;

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files, directories and other names.
    pub entries: u64,
    /// Sum of the sizes of all files.
    pub bytes: u64,
    /// Threads that unpacked.
    pub workers: u32,
    /// What could not be reproduced here, and what was assumed, in words.
    pub notes: Vec<String>,
}

/// An opened root image.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    source_bytes: u64,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Wim { wim: Box<Wim>, prepared: Box<Prepared> },
    Archive(Archive),
    Piped(Box<Piped>),
}

/// Opens a pipable WIM that arrives from a pipe or a socket: it is read as far as the metadata of the image that `index`
/// chooses, and the rest while it is unpacked. `name` is what messages call it. However long its sender stalls, an error
/// of the unpacking is told at once.
///
/// # Errors
/// When it cannot be read, is no pipable WIM, is cut short or damaged, or has no such image.
pub fn open_pipe(pipe: OwnedFd, name: &str, index: Option<&str>) -> Result<Root, Error> {
    let path = || PathBuf::from(name);
    let (incoming, give_up) =
        incoming::incoming(pipe).map_err(|source| Error::Io { path: path(), action: "wait for".into(), source })?;
    stream(Box::new(incoming), Some(give_up), path(), index)
}

/// As [`open_pipe`], of what is no descriptor. It cannot be left alone while it is waited for: an error of the unpacking
/// is told when the next bytes come, or none.
///
/// # Errors
/// As [`open_pipe`].
pub fn open_stream(stream: Box<dyn Read + Send>, name: &str, index: Option<&str>) -> Result<Root, Error> {
    self::stream(stream, None, PathBuf::from(name), index)
}

fn stream(
    mut stream: Box<dyn Read + Send>,
    give_up: Option<GiveUp>,
    path: PathBuf,
    index: Option<&str>,
) -> Result<Root, Error> {
    let mut head = Vec::new();
    let read = stream.by_ref().take(sniff::HEAD as u64).read_to_end(&mut head);
    read.map_err(|source| Error::Io { path: path.clone(), action: "read".into(), source })?;
    match sniff::outer(&head) {
        Outer::Wim => {}
        Outer::Zstd => return Err(Error::NoStream { path }),
        Outer::Unknown => return Err(Error::UnknownFormat { path, begins: sniff::words(&head) }),
    }
    let piped =
        Piped::open(head, stream, give_up, index).map_err(|source| Error::Wim { path: path.clone(), source })?;
    Ok(Root { path, source_bytes: 0, inner: Inner::Piped(Box::new(piped)) })
}

/// An image that was looked at, and no more.
pub(crate) enum Opened {
    Wim(Box<Wim>),
    Archive(Archive),
}

/// What is at `path`, and its size there.
pub(crate) fn opened(path: &Path) -> Result<(Opened, u64), Error> {
    let io = |action: &str| {
        let action = action.to_owned();
        move |source| Error::Io { path: path.to_owned(), action, source }
    };
    let file = File::open(path).map_err(io("open"))?;
    if file.metadata().map_err(io("look at"))?.is_dir() {
        return Err(io("open")(std::io::ErrorKind::IsADirectory.into()));
    }
    let source = FileSource::new(file).map_err(io("measure"))?;
    let source_bytes = source.size();
    let head = sniff::head(&source).map_err(io("read"))?;
    let unknown = |begins: String| Error::UnknownFormat { path: path.to_owned(), begins };
    let opened = match sniff::outer(&head) {
        Outer::Wim => Opened::Wim(Box::new(split::open(path, Box::new(source))?)),
        Outer::Zstd => {
            let opened = Archive::open(Box::new(source));
            match opened.map_err(|source| Error::Archive { path: path.to_owned(), source })? {
                Inside::Archive(archive) => Opened::Archive(archive),
                Inside::Unknown(head) => return Err(unknown(format!("zstd, and inside with {}", sniff::words(&head)))),
            }
        }
        Outer::Unknown => {
            return Err(match filesystem::kind(&head) {
                Some(kind) => Error::Mounted { path: path.to_owned(), kind },
                None => unknown(sniff::words(&head)),
            });
        }
    };
    Ok((opened, source_bytes))
}

/// That an archive is asked for the only root that it has.
pub(crate) fn check_only(path: &Path, index: Option<&str>) -> Result<(), Error> {
    match index.filter(|index| *index != "1") {
        Some(index) => Err(Error::NoIndex { path: path.to_owned(), index: index.to_owned() }),
        None => Ok(()),
    }
}

/// Opens the image at `path`: a file, or a block device that begins with one; of a split WIM its first part, with the
/// others beside it ([`Wim::open_path`]). `index` chooses an image of a WIM, by number from 1 or by name; `None` takes
/// the one marked for booting, or the first.
///
/// # Errors
/// When it cannot be read, is of no known format, is cut short or damaged, or has no such image.
pub fn open(path: &Path, index: Option<&str>) -> Result<Root, Error> {
    let (opened, source_bytes) = opened(path)?;
    let inner = match opened {
        Opened::Wim(wim) => {
            let in_wim = |source| Error::Wim { path: path.to_owned(), source };
            let index = wim.select(index).map_err(in_wim)?;
            let prepared = Prepared::new(&wim, index).map_err(in_wim)?;
            Inner::Wim { wim, prepared: Box::new(prepared) }
        }
        Opened::Archive(archive) => {
            check_only(path, index)?;
            Inner::Archive(archive)
        }
    };
    Ok(Root { path: path.to_owned(), source_bytes, inner })
}

/// Whether the file at `path` lies in a tmpfs and may be written, as [`UnpackOptions::consume`] needs it.
pub fn is_consumable(path: &Path) -> bool {
    consume::is_consumable(path)
}

impl Root {
    /// Which format it is.
    pub fn format(&self) -> Format {
        match &self.inner {
            Inner::Wim { .. } | Inner::Piped(_) => Format::Wim,
            Inner::Archive(archive) => archive.format(),
        }
    }

    /// Size of the image in bytes, of all parts of a split WIM. A WIM knows its own; an archive has that of its file, or
    /// of the device it lies on; of a stream it is not known, and 0.
    pub fn source_bytes(&self) -> u64 {
        self.files().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// The files that it lies in, in order, and how many bytes of each are the image: one, unless it is a split WIM.
    /// None, of a stream.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        match &self.inner {
            Inner::Wim { wim, .. } => {
                wim.lengths().zip(1..).map(|(len, n)| (split::name(&self.path, n), len)).collect()
            }
            Inner::Archive(_) => vec![(self.path.clone(), self.source_bytes)],
            Inner::Piped(_) => Vec::new(),
        }
    }

    /// What it takes once it is unpacked, before the first byte is: with as many workers as there are processors and
    /// as [`DEFAULT_MEMORY_BUDGET`] has room for. A WIM's metadata says so exactly and at once. An archive says nothing
    /// in advance: its whole stream is decompressed to count, which remembers its directories and writes nothing: by
    /// one thread, or by several where it has several zstd frames. A stream claims how large it is: this is the most that
    /// it can take if that is so, and it may not take more.
    ///
    /// # Errors
    /// When the image is damaged.
    pub fn need(&self) -> Result<Need, Error> {
        self.need_with(&UnpackOptions::default())
    }

    /// As [`Root::need`], when it will be unpacked with these options: where memory is tight, fewer workers or a
    /// smaller budget may still fit.
    ///
    /// # Errors
    /// When the image is damaged.
    pub fn need_with(&self, options: &UnpackOptions<'_>) -> Result<Need, Error> {
        match &self.inner {
            Inner::Wim { wim, prepared } => Ok(prepared.need(wim, options)),
            Inner::Piped(piped) => Ok(piped.need(options)),
            Inner::Archive(archive) => {
                archive.need(options).map_err(|source| Error::Archive { path: self.path.clone(), source })
            }
        }
    }

    /// Unpacks it into the existing, empty directory `target`.
    ///
    /// # Errors
    /// The first thing that went wrong; the directory then holds a part of the tree.
    pub fn unpack(self, target: &Path, options: &UnpackOptions<'_>) -> Result<Report, Error> {
        let holes = options.consume.then(|| Holes::open(&self.files())).transpose();
        let holes =
            holes.map_err(|(path, source)| Error::Io { path, action: "free, as it is read,".into(), source })?;
        let path = self.path;
        let target = Target::open(target)?;
        let in_wim = |path: PathBuf| {
            move |failure| match failure {
                unpack::Failure::Image(source) => Error::Wim { path, source },
                unpack::Failure::Target(error) => error.into(),
            }
        };
        match self.inner {
            Inner::Wim { wim, prepared } => prepared.unpack(&wim, holes, &target, options).map_err(in_wim(path)),
            Inner::Piped(piped) => piped.unpack(&target, options).map_err(in_wim(path)),
            Inner::Archive(archive) => archive.unpack(holes, &target, options).map_err(|failure| match failure {
                archive::Failure::Archive(source) => Error::Archive { path, source },
                archive::Failure::Target(error) => error.into(),
            }),
        }
    }
}
