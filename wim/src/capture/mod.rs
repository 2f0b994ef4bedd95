//! Capturing a directory as a WIM, on the host, with the whole of wimlib: contents, owners, modes, times to 100 ns,
//! symlinks, hard links, devices, fifos, sockets, and all extended attributes that the caller may read, those of
//! `security.` and `trusted.` among them.
//!
//! Two captures of the same tree differ in the WIM's GUID, in the times in its XML data, and in the last-access times
//! of what was read meanwhile.

mod ffi;

use std::ffi::{CString, OsStr};
use std::num::NonZeroUsize;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub use crate::codec::Compression;
use crate::root::Progress;

/// How to capture.
#[derive(Clone, Copy)]
pub struct CaptureOptions<'a> {
    /// Compression format; LZX by default, the usual one.
    pub compression: Compression,
    /// Compress all files together: smaller, and slower to unpack.
    pub solid: bool,
    /// Write it so that it can be unpacked while it arrives from a pipe or a socket; only wimlib and we read such a WIM.
    pub pipable: bool,
    /// Unpacked size of a chunk, a power of two; `None` takes wimlib's default, and for solid ones 4 MiB with LZMS:
    /// wimlib's own 64 MiB would let a device unpack with one worker only.
    pub chunk_size: Option<u32>,
    /// Name of the image, and how `--index` may choose it.
    pub name: Option<&'a str>,
    /// Threads; `None`: as many as there are processors.
    pub threads: Option<NonZeroUsize>,
    /// Called now and then, from the calling thread.
    pub progress: Option<&'a dyn Fn(Progress)>,
}

impl Default for CaptureOptions<'_> {
    fn default() -> Self {
        CaptureOptions {
            compression: Compression::Lzx,
            solid: false,
            pipable: false,
            chunk_size: None,
            name: None,
            threads: None,
            progress: None,
        }
    }
}

/// What was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// Files, directories and other names.
    pub entries: u64,
    /// Bytes of contents before compression, with what links lead to; equal contents count once.
    pub bytes: u64,
    /// Threads that compressed.
    pub workers: u32,
}

/// Why a directory could not be captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The source is no directory.
    #[error("{} is not a directory; give the directory that becomes the root", path.display())]
    NotDirectory {
        /// As given.
        path: PathBuf,
    },
    /// The options contradict each other or the format.
    #[error("{what}; {remedy}")]
    Options {
        /// The contradiction.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A name or a link's target is not UTF-8, which a WIM's UTF-16 cannot hold.
    #[error("{} {what} is not UTF-8, and a WIM holds no other; rename it, or leave it out", path.display())]
    NotUtf8 {
        /// The entry.
        path: PathBuf,
        /// "as a name", "as the target of a link".
        what: &'static str,
    },
    /// wimlib gave up.
    #[error("cannot capture {}: {why}", path.display())]
    Refused {
        /// The file that it is about, or the whole directory.
        path: PathBuf,
        /// wimlib's words.
        why: String,
    },
    /// The directory could not be read, or the image not be put in its place.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The directory or the image.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Captures `directory` as the only image of a new WIM at `out`, marked for booting, with an integrity table. `out` is
/// replaced when all is written, not before.
///
/// # Errors
/// When something cannot be read, a name is not UTF-8, or the image cannot be written.
pub fn capture(directory: &Path, out: &Path, options: &CaptureOptions<'_>) -> Result<Captured, CaptureError> {
    if !directory.is_dir() {
        return Err(CaptureError::NotDirectory { path: directory.to_owned() });
    }
    let (compression, chunk_size) = format(options)?;
    let entries = check_names(directory)?;
    let mut part = out.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let name = options.name.map(|name| c_string(OsStr::new(name))).transpose()?;
    let order = ffi::Order {
        directory: &c_string(directory.as_os_str())?,
        out: &c_string(part.as_os_str())?,
        name: name.as_deref(),
        compression,
        solid: options.solid,
        pipable: options.pipable,
        chunk_size,
        threads: options.threads.and_then(|n| u32::try_from(n.get()).ok()).unwrap_or(0),
    };
    let report = options.progress.map(|progress| move |done, total| progress(Progress { done, total }));
    let written = ffi::write(&order, report.as_ref().map(|report| report as ffi::OnProgress<'_>));
    let io = |source| CaptureError::Io { path: out.to_owned(), source };
    match written {
        Ok(counts) => {
            std::fs::rename(&part, out).map_err(io)?;
            Ok(Captured { entries, bytes: counts.bytes, workers: counts.threads.max(1) })
        }
        Err(refused) => {
            // Half an image is of no use to anybody; that it may not exist is no matter.
            let _ = std::fs::remove_file(&part);
            let path = refused.file.map_or(directory.to_owned(), |file| OsStr::from_bytes(file.as_bytes()).into());
            Err(CaptureError::Refused { path, why: refused.why })
        }
    }
}

/// wimlib refuses such names too, but does not say which. Gives the number of names, the root's among them.
fn check_names(root: &Path) -> Result<u64, CaptureError> {
    let mut entries = 1_u64;
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let io = |source| CaptureError::Io { path: directory.clone(), source };
        for entry in std::fs::read_dir(&directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            entries = entries.saturating_add(1);
            let (path, kind) = (entry.path(), entry.file_type().map_err(io)?);
            if entry.file_name().to_str().is_none() {
                return Err(CaptureError::NotUtf8 { path, what: "as a name" });
            }
            if kind.is_symlink() && std::fs::read_link(&path).map_err(io)?.to_str().is_none() {
                return Err(CaptureError::NotUtf8 { path, what: "as the target of a link" });
            }
            if kind.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(entries)
}

/// wimlib's number of the compression, and the chunk size; 0 stands for its default.
fn format(options: &CaptureOptions<'_>) -> Result<(u32, u32), CaptureError> {
    let number = match options.compression {
        Compression::None => ffi::NONE,
        Compression::Xpress => ffi::XPRESS,
        Compression::Lzx => ffi::LZX,
        Compression::Lzms => ffi::LZMS,
    };
    if options.solid && options.compression == Compression::None {
        return Err(CaptureError::Options {
            what: "a solid image needs compression".into(),
            remedy: "choose xpress, lzx or lzms, or leave solid out",
        });
    }
    if options.solid && options.pipable {
        return Err(CaptureError::Options {
            what: "a solid image cannot be pipable".into(),
            remedy: "leave one of them out",
        });
    }
    let default = match options.compression {
        _ if !options.solid => 0,
        Compression::None => 0,
        Compression::Xpress => 64 << 10,
        Compression::Lzx => 2 << 20,
        Compression::Lzms => 4 << 20,
    };
    match options.chunk_size {
        Some(size) if options.compression == Compression::None || !options.compression.accepts_chunk(size) => {
            Err(CaptureError::Options {
                what: format!("chunks of {size} bytes do not go with {}", options.compression),
                remedy: "take a power of two: 4 to 64 KiB for xpress, 32 KiB to 2 MiB for lzx, 32 KiB to 64 MiB for lzms",
            })
        }
        size => Ok((number, size.unwrap_or(default))),
    }
}

fn c_string(text: &OsStr) -> Result<CString, CaptureError> {
    CString::new(text.to_owned().into_vec())
        .map_err(|_| CaptureError::Options { what: format!("{text:?} contains a NUL"), remedy: "leave it out" })
}
