//! The visitor that only counts: what an archive takes once it is unpacked into a tmpfs. A file that comes twice counts
//! twice, so this is a bound where an archive replaces its own entries.

use std::collections::HashSet;

use super::held::Held;
use super::{Contents, Entry, Failure, Visitor, What, parents};
use crate::error::ArchiveError;
use crate::meta::{Meta, pages, symlink_pages};

pub(super) struct Measure {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Directories so far, those too that no entry describes.
    directories: HashSet<Vec<u8>>,
    held: Held,
    names: u64,
}

impl Measure {
    pub(super) fn new() -> Measure {
        let directories = HashSet::from([Vec::new()]);
        Measure { bytes: 0, inodes: 1, directories, held: Held::default(), names: 0 }
    }

    /// Memory to remember directories and names by while unpacking.
    pub(super) fn memory(&self) -> u64 {
        self.held.bytes().saturating_add(self.names)
    }

    fn directory(&mut self, path: &[u8], meta: Option<&Meta>) -> Result<(), ArchiveError> {
        if !self.directories.contains(path) {
            self.held.path(path)?;
            self.inodes = self.inodes.saturating_add(1);
            self.directories.insert(path.to_vec());
        }
        meta.map_or(Ok(0), |meta| self.held.meta(meta)).map(|_| ())
    }
}

impl Visitor for Measure {
    fn entry(&mut self, entry: &Entry, _contents: &mut Contents<'_>) -> Result<(), Failure> {
        if parents(&entry.path).next_back().is_some_and(|parent| !self.directories.contains(parent)) {
            for parent in parents(&entry.path) {
                self.directory(parent, None)?;
            }
        }
        // tmpfs counts every name as an inode (shmem_link, mm/shmem.c).
        let (bytes, inodes) = match &entry.what {
            What::File | What::HardLink(_) => (pages(entry.size), 1),
            What::Symlink(target) => (symlink_pages(target.len() as u64), 1),
            What::Directory => {
                self.directory(&entry.path, Some(&entry.meta))?;
                (0, 0)
            }
            What::Special(_) => (0, 1),
        };
        self.bytes = self.bytes.saturating_add(bytes);
        self.inodes = self.inodes.saturating_add(inodes);
        Ok(())
    }

    fn remembers(&mut self, bytes: u64) {
        self.names = self.names.saturating_add(bytes);
    }
}
