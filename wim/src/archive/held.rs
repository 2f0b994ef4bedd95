//! What an archive makes us remember until its end: its directories, and the names that hard links may refer to. The
//! walk that measures counts the same as the one that unpacks, so that both refuse the same archives.

use crate::error::ArchiveError;
use crate::meta::{Meta, Xattr};

/// Bytes of directories, and as many of names: 150,000 directories of usual paths, ten times a full desktop system.
const MOST: u64 = 64 << 20;
/// What a map takes for an entry beside the bytes of its key, about: the key's and the value's own structures, the
/// slack of the map's nodes and of the allocator.
const ENTRY: u64 = 256;
/// The same for an extended attribute.
const XATTR: u64 = 64;

/// A sum of memory that is bounded.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: u64,
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn path(&mut self, path: &[u8]) -> Result<u64, ArchiveError> {
        self.add(ENTRY.saturating_add(path.len() as u64))
    }

    /// What a directory gets when it is full.
    pub(super) fn meta(&mut self, meta: &Meta) -> Result<u64, ArchiveError> {
        self.add(meta.xattrs.iter().fold(0, |sum: u64, Xattr { name, value }| sum.saturating_add(xattr(name, value))))
    }

    /// Gives what was added.
    fn add(&mut self, bytes: u64) -> Result<u64, ArchiveError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MOST { Err(ArchiveError::TooMuch { limit: MOST }) } else { Ok(bytes) }
    }
}

/// Memory of one extended attribute, about.
pub(super) fn xattr(name: &[u8], value: &[u8]) -> u64 {
    XATTR.saturating_add(name.len() as u64).saturating_add(value.len() as u64)
}
