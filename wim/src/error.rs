//! What can go wrong between a root image and the directory that it is unpacked into, in the words that the user
//! reads: what happened, to what, and what to do. One enum per concern; [`Error`] joins them with the path.

use std::io;
use std::path::PathBuf;

use crate::filesystem::{self, FileSystemError};

/// Why a root image could not be opened, measured or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or device itself failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The file, device or directory.
        path: PathBuf,
        /// What was tried: "open", "measure", ….
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is none of the formats that a root may have.
    #[error(
        "{} is no root image: it begins with {begins}; a root is a WIM, or a tar or newc cpio archive compressed with \
         zstd: make one with `mmos-image capture`",
        path.display()
    )]
    UnknownFormat {
        /// The file or device.
        path: PathBuf,
        /// Its first bytes, or the first bytes inside its zstd frame, in words.
        begins: String,
    },
    /// An image was asked for by number or name, of a format that holds only one.
    #[error("{} is an archive, which holds one root and no image {index:?}; leave the index out", path.display())]
    NoIndex {
        /// The file or device.
        path: PathBuf,
        /// As asked for.
        index: String,
    },
    /// The WIM is damaged, cut short, or beyond what is supported.
    #[error("{}", path.display())]
    Wim {
        /// The file or device.
        path: PathBuf,
        /// What is wrong with it.
        source: WimError,
    },
    /// A split WIM, opened by another part than its first.
    #[error(
        "{} is part {part} of the {parts} that a WIM was split in; give the first{}",
        path.display(),
        first.as_ref().map(|first| format!(", {}", first.display())).unwrap_or_default()
    )]
    NotFirst {
        /// The file.
        path: PathBuf,
        /// Its number.
        part: u16,
        /// Number of parts in all.
        parts: u16,
        /// Where the first part should be, if the name says so.
        first: Option<PathBuf>,
    },
    /// A WIM in more parts than can be held open.
    #[error("{} is split in {parts} parts, and {limit} are the most that are read; split it in larger ones", path.display())]
    ManyParts {
        /// The first part.
        path: PathBuf,
        /// Number of parts.
        parts: u16,
        /// The limit.
        limit: u16,
    },
    /// A part of a split WIM is missing, or is another file than it should be.
    #[error("{} is the first of {parts} parts, and part {part} is looked for in {}", path.display(), file.display())]
    Part {
        /// The first part.
        path: PathBuf,
        /// Number of the part.
        part: u16,
        /// Number of parts in all.
        parts: u16,
        /// Where it is looked for.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        why: PartError,
    },
    /// An archive from a pipe, which would have to be read twice.
    #[error(
        "{} begins with a zstd frame, and only a pipable WIM can be unpacked while it arrives; put the archive into a \
         file, or send a WIM that was made with `mmos-image capture --pipable`",
        path.display()
    )]
    NoStream {
        /// What it was called.
        path: PathBuf,
    },
    /// The archive is damaged, cut short, or beyond what is supported.
    #[error("{}", path.display())]
    Archive {
        /// The file or device.
        path: PathBuf,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// It is not unpacked but mounted, which is not this library's to do.
    #[error(
        "{} is a {kind}, which the device mounts as it is; on a host unpack it with `{}`", path.display(),
        kind.unpacked_by()
    )]
    Mounted {
        /// The file or device.
        path: PathBuf,
        /// Which file system.
        kind: filesystem::Kind,
    },
    /// The file system is damaged, cut short, or beyond what is supported.
    #[error("{}", path.display())]
    FileSystem {
        /// The file or device.
        path: PathBuf,
        /// What is wrong with it.
        source: FileSystemError,
    },
    /// The target refused.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// What is wrong with a file that should be a part of a split WIM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// There is none.
    #[error("there is no such file; put all parts into one folder, with the names that they were split under")]
    Missing,
    /// A link, a folder, a device.
    #[error("that is not a file; put the part itself there")]
    NoFile,
    /// The system refused.
    #[error("it cannot be opened")]
    Open(#[source] io::Error),
    /// It is of another WIM.
    #[error("it is a part of another WIM; copy all parts from one and the same set")]
    Foreign,
    /// It is another part.
    #[error("it says of itself that it is part {part} of {parts}; copy the parts again, each under its own name")]
    Number {
        /// The number that it gives.
        part: u16,
        /// Its number of parts.
        parts: u16,
    },
    /// Contents could not be read the same way from all parts.
    #[error("it is compressed in another way than the first part; copy all parts from one and the same set")]
    Layout,
    /// It is damaged.
    #[error(transparent)]
    Wim(#[from] WimError),
}

/// What is wrong with a WIM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WimError {
    /// The source could not be read.
    #[error("cannot read {len} bytes at offset {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Something lies past the end.
    #[error("it is cut short: {what} ends at byte {end}, and there are only {available}; copy it again, whole")]
    Truncated {
        /// The part that does not fit.
        what: &'static str,
        /// Where it would end.
        end: u64,
        /// Bytes in the source.
        available: u64,
    },
    /// A structure contradicts the format or itself.
    #[error("{what} is damaged at offset {offset}: {why}; copy the image again, or make it again")]
    Damaged {
        /// The structure.
        what: &'static str,
        /// Where in it, in bytes.
        offset: u64,
        /// The contradiction.
        why: String,
    },
    /// A sound image, but of a kind that this reader does not read.
    #[error("{what} is not supported; {remedy}")]
    Unsupported {
        /// The kind.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A size beyond reason, refused before memory is spent on it.
    #[error("{what} would take {size}, and {limit} is the most that is accepted; the image is damaged or hostile")]
    TooLarge {
        /// The thing.
        what: &'static str,
        /// Its size or number.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// There is no such image in it.
    #[error("it has no image {wanted:?}; it has: {present}")]
    NoImage {
        /// As asked for.
        wanted: String,
        /// Those that there are: numbers and names.
        present: String,
    },
    /// A directory entry is impossible on Linux, or an attempt to leave the target.
    #[error("entry {path}: {why}; the image is damaged or hostile: make it again")]
    Entry {
        /// Where in the tree.
        path: String,
        /// What is impossible about it.
        why: &'static str,
    },
    /// The contents of a file are not in the image.
    #[error("the contents of {file} are not in this image; it needs another WIM beside it: export it whole")]
    MissingBlob {
        /// A file that has the contents.
        file: String,
    },
    /// A stream ended before the contents of all files had come.
    #[error(
        "it is cut short: the stream ended after {after} bytes, and the contents of {file} and of {others} more had not \
         come; send it again, whole"
    )]
    StreamEnded {
        /// Bytes that came.
        after: u64,
        /// A file that is missing.
        file: String,
        /// How many other contents are.
        others: u64,
    },
    /// The contents of a stream are larger than its XML data said, by which room was made.
    #[error(
        "the image claims {claimed} bytes in all, and with {file} there are more; make the image again, or unpack it from \
         a file, which needs no claim"
    )]
    Claim {
        /// Bytes of all files, by the XML data.
        claimed: u64,
        /// A file whose contents exceed them.
        file: String,
    },
    /// Contents do not have the SHA-1 that the image gives for them.
    #[error("the contents of {file} do not have the SHA-1 that the image gives; it is damaged: copy it again")]
    Hash {
        /// A file that has the contents.
        file: String,
    },
    /// Compressed data does not decompress.
    #[error("the contents of {file} do not decompress; the image is damaged: copy it again")]
    Decompress {
        /// A file that has the contents, or the structure.
        file: String,
    },
    /// Memory is short.
    #[error("no memory for {bytes} bytes; give the device more, or make the image with smaller chunks")]
    NoMemory {
        /// As much was wanted.
        bytes: u64,
    },
}

/// What is wrong with a tar or cpio archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The zstd stream could not be read or is damaged.
    #[error("cannot unpack the zstd stream after {after} unpacked bytes; copy the archive again, or make it again")]
    Stream {
        /// Unpacked bytes that were sound.
        after: u64,
        /// What zstd or the system said.
        source: io::Error,
    },
    /// It ends in the middle of something.
    #[error("it is cut short: it ends after {at} unpacked bytes, in {what}; copy it again, whole")]
    Truncated {
        /// Unpacked bytes that there are.
        at: u64,
        /// What is incomplete.
        what: &'static str,
    },
    /// A header contradicts the format.
    #[error("it is damaged at unpacked byte {at}: {why}; copy the archive again, or make it again")]
    Damaged {
        /// Where.
        at: u64,
        /// The contradiction.
        why: String,
    },
    /// It has more directories, or more files with several names, than can be remembered until its end.
    #[error(
        "its directories, or its hard links, take more than {limit} bytes of memory; make a smaller tree, or a WIM of it"
    )]
    TooMuch {
        /// The most that is accepted.
        limit: u64,
    },
    /// An entry is impossible, or an attempt to leave the target.
    #[error("entry {path}: {why}")]
    Entry {
        /// Its name.
        path: String,
        /// What is impossible about it, and what to do.
        why: String,
    },
}

/// Why the target directory could not be filled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A system call failed.
    #[error("cannot {action} {}{}", path.display(), remedy(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something already.
    #[error("{} is not empty; unpack into an empty directory", path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// Contents were to go into something else than a regular file.
    #[error("{} is no regular file and cannot take contents; the archive is hostile or damaged: make it again", path.display())]
    NotRegular {
        /// What is there.
        path: PathBuf,
    },
    /// It is too small, known before the first byte is unpacked.
    #[error(
        "{} has room for {available} bytes, and the image unpacks to {need}; make room, or make the image smaller",
        path.display()
    )]
    NoSpace {
        /// The target.
        path: PathBuf,
        /// Bytes that the tree takes.
        need: u64,
        /// Bytes that are free.
        available: u64,
    },
}

/// An error and its causes in one line, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; make room, or make the image smaller",
        io::ErrorKind::PermissionDenied => "; run as root",
        io::ErrorKind::Unsupported => "; this needs Linux 5.6 or later",
        _ => "",
    }
}
