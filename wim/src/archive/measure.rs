//! The visitor that only counts: what an archive takes once it is unpacked into a tmpfs. A file that comes twice counts
//! twice, so this is a bound where an archive replaces its own entries.

use std::collections::HashSet;

use super::held::Held;
use super::{Contents, Entry, Failure, Visitor, What, parents};
use crate::error::ArchiveError;
use crate::meta::{Meta, pages, symlink_pages};
use crate::root::Need;
use crate::unpack::consume;

pub(super) struct Measure {
    bytes: u64,
    inodes: u64,
    xattrs: u64,
    /// Most that is written at any time beyond what can be freed of the archive by then.
    most: u64,
    /// Directories so far, those too that no entry describes.
    directories: HashSet<Vec<u8>>,
    held: Held,
    names: u64,
}

impl Measure {
    pub(super) fn new() -> Measure {
        let directories = HashSet::from([Vec::new()]);
        Measure { bytes: 0, inodes: 1, xattrs: 0, most: 0, directories, held: Held::default(), names: 0 }
    }

    /// What it takes without its decompression, where it is freed while it is unpacked.
    pub(super) fn need(&self) -> Need {
        // To remember directories and names by.
        let working = self.held.bytes().saturating_add(self.names);
        let freed = self.bytes.saturating_sub(self.most);
        Need { bytes: self.bytes, inodes: self.inodes, xattrs: self.xattrs, working, freed }
    }

    /// So many bytes are written when the source is decompressed up to `source`, at least.
    fn written(&mut self, bytes: u64, source: u64) {
        self.most = self.most.max(bytes.saturating_sub(consume::whole_steps(source)));
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
    fn entry(&mut self, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        if parents(&entry.path).next_back().is_some_and(|parent| !self.directories.contains(parent)) {
            for parent in parents(&entry.path) {
                self.directory(parent, None)?;
            }
        }
        // tmpfs counts every name as an inode (shmem_link, mm/shmem.c).
        let (bytes, inodes) = match &entry.what {
            What::File | What::HardLink(_) => {
                (entry.map.as_ref().map_or_else(|| pages(entry.size), super::sparse::Map::pages), 1)
            }
            What::Symlink(target) => (symlink_pages(target.len() as u64), 1),
            What::Directory => {
                self.directory(&entry.path, Some(&entry.meta))?;
                (0, 0)
            }
            What::Special(_) => (0, 1),
        };
        let mut so_far = 0_u64;
        loop {
            let piece = contents.next()?.len() as u64;
            if piece == 0 {
                break;
            }
            so_far = so_far.saturating_add(piece);
            // What of a sparse file fills which page is not followed: all of them count from the start.
            let here = if entry.map.is_some() { bytes } else { pages(so_far) };
            self.written(self.bytes.saturating_add(here), contents.source());
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.written(self.bytes, contents.source());
        self.inodes = self.inodes.saturating_add(inodes);
        self.xattrs = self.xattrs.saturating_add(entry.meta.xattr_room());
        Ok(())
    }

    fn remembers(&mut self, bytes: u64) {
        self.names = self.names.saturating_add(bytes);
    }
}
