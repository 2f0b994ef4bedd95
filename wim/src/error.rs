//! What can go wrong between a root image and the directory that it is unpacked into, in the words that the user
//! reads.

use std::io;
use std::path::PathBuf;

/// Why a root image could not be opened, measured or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or device itself failed.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file, device or directory.
        path: PathBuf,
        /// What was tried: "open", "read at offset N", ….
        action: String,
        /// What the system said.
        source: io::Error,
    },
}
