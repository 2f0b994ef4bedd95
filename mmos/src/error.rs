//! Why the question "is this mmos?" could not be answered.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Neither yes nor no: something stands in the way of an answer. A program that must run on mmos only treats this
/// as no, and shows the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused to let us look.
    #[error("cannot tell whether this is mmos: {}: {source}; see that this process may read it", path.display())]
    Unreadable {
        /// What could not be opened, examined or read.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The boot record lies where others than root can write, so it is worth nothing.
    #[error(
        "cannot tell whether this is mmos: {} may be written by others than root (mode {mode:04o}); \
         make it so that only root may (chmod go-w)", path.display()
    )]
    Writable {
        /// The file or folder in question.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something is at the record's place that is not a boot record.
    #[error("cannot tell whether this is mmos: {} is not a boot record: {reason}; was it written by this version's init?", path.display())]
    Malformed {
        /// The file in question.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `/proc` is not the kernel's.
    #[error("cannot tell whether this is mmos: /proc is not the root of a proc file system; mount one there")]
    NoProc,
}

impl Error {
    pub(crate) fn unreadable(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Error {
        Error::Unreadable { path: path.into(), source: source.into() }
    }

    /// The error as a positive `errno` value, as the C interface gives it (negated).
    pub fn errno(&self) -> i32 {
        match self {
            Error::Unreadable { source, .. } => source.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            Error::Writable { .. } => Errno::PERM.raw_os_error(),
            Error::Malformed { .. } => Errno::BADMSG.raw_os_error(),
            Error::NoProc => Errno::NOSYS.raw_os_error(),
        }
    }
}
