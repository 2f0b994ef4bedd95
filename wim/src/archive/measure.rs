//! The visitor that only counts: what an archive takes once it is unpacked into a tmpfs. A name that comes twice counts
//! twice, so this is a bound where an archive replaces its own entries.

use super::{Contents, Entry, Failure, Visitor, What};
use crate::meta::{pages, symlink_pages};

#[derive(Default)]
pub(super) struct Measure {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Memory to remember the directories by, about.
    pub(super) directories: u64,
}

impl Visitor for Measure {
    fn entry(&mut self, entry: &Entry, _contents: &mut Contents<'_>) -> Result<(), Failure> {
        let (bytes, inodes) = match &entry.what {
            What::File => (pages(entry.size), 1),
            // tmpfs counts every name (shmem_link, mm/shmem.c).
            What::HardLink(_) => (pages(entry.size), 1),
            What::Symlink(target) => (symlink_pages(target.len() as u64), 1),
            What::Directory => {
                let memory = entry.path.len().saturating_add(256) as u64;
                self.directories = self.directories.saturating_add(memory);
                (0, 1)
            }
            What::Special(_) => (0, 1),
        };
        self.bytes = self.bytes.saturating_add(bytes);
        self.inodes = self.inodes.saturating_add(inodes);
        Ok(())
    }
}
