//! The visitor that unpacks: puts each entry into the target as it comes. As with tar and the kernel's initramfs, a
//! later entry of the same name replaces an earlier one; a directory and something else never replace each other.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::held::Held;
use super::{Contents, Entry, Failure, Visitor, What, parents};
use crate::error::{ArchiveError, TargetError};
use crate::meta::Meta;
use crate::name::shown;
use crate::notes::Notes;
use crate::recent::OpenDirectories;
use crate::root::Progress;
use crate::target::{Directory, Target};

pub(super) struct Place<'a> {
    target: &'a Target,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    notes: Notes,
    /// Every directory made so far, with what it gets when it is full. The root is the empty path.
    directories: BTreeMap<Vec<u8>, Meta>,
    held: Held,
    open: OpenDirectories<Vec<u8>>,
    entries: u64,
    bytes: u64,
}

/// What a directory gets that no entry describes.
pub(super) fn unnamed_directory() -> Meta {
    Meta { mode: 0o755, ..Meta::default() }
}

/// Directory and name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash.saturating_add(1)..).unwrap_or_default()),
        None => (b"", path),
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(target: &'a Target, progress: Option<&'a (dyn Fn(Progress) + Sync)>) -> Place<'a> {
        let directories = BTreeMap::from([(Vec::new(), unnamed_directory())]);
        let (held, open) = (Held::default(), OpenDirectories::default());
        Place { target, progress, notes: Notes::default(), directories, held, open, entries: 0, bytes: 0 }
    }

    /// Gives the directories what they get when they are full; then entries, bytes and notes.
    pub(super) fn finish(self) -> Result<(u64, u64, Vec<String>), TargetError> {
        // Backwards: what is in a directory comes after it.
        for (path, meta) in self.directories.iter().rev() {
            self.target.finish(self.target.directory(path)?, path, meta, &self.notes)?;
        }
        Ok((self.entries, self.bytes, self.notes.into_words()))
    }

    /// Makes the directories above `path` that no entry has made.
    fn make_parents(&mut self, path: &[u8]) -> Result<(), Failure> {
        let (parent, _) = split(path);
        if self.directories.contains_key(parent) {
            return Ok(());
        }
        for above in parents(path) {
            if !self.directories.contains_key(above) {
                self.make_directory(above, unnamed_directory())?;
            }
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8], meta: Meta) -> Result<(), Failure> {
        self.held.path(path)?;
        self.held.meta(&meta)?;
        let (parent, name) = split(path);
        let directory = self.open.get(parent, || self.target.directory(parent))?;
        match self.target.make_directory(&directory.entry(name, path)) {
            // All directories are known, so what stands there is none.
            Err(error) if exists(&error) => return Err(both_ways(path)),
            made => made?,
        }
        self.directories.insert(path.to_vec(), meta);
        Ok(())
    }

    fn advance(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(progress) = self.progress {
            progress(Progress { done: self.bytes, total: 0 });
        }
    }

    fn fill(&mut self, file: &File, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        contents.spread(entry, |at, piece| {
            file.write_all_at(piece, at).map_err(|e| self.target.failed("write", &entry.path, e))?;
            self.advance(piece.len() as u64);
            Ok(())
        })?;
        if entry.map.is_some() {
            file.set_len(entry.length()).map_err(|e| self.target.failed("write", &entry.path, e))?;
            self.advance(entry.length().saturating_sub(entry.size));
        }
        Ok(self.target.finish(file, &entry.path, &entry.meta, &self.notes)?)
    }

    /// Creates what is no directory, in place of what has its name. That is looked for only when it is in the way.
    fn create(&mut self, within: &Directory, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        match self.create_new(within, entry, contents) {
            // Nothing of the contents is taken yet: only creating a name says this.
            Err(Failure::Target(error)) if exists(&error) => {}
            created => return created,
        }
        let (_, name) = split(&entry.path);
        let at = within.entry(name, &entry.path);
        match self.target.look(&at)? {
            Some(true) => return Err(both_ways(&entry.path)),
            Some(false) => self.target.remove(&at)?,
            None => {}
        }
        self.create_new(within, entry, contents)
    }

    fn create_new(&mut self, within: &Directory, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        let (_, name) = split(&entry.path);
        let at = within.entry(name, &entry.path);
        match &entry.what {
            // Handled by the caller.
            What::Directory => {}
            What::File => {
                let file = self.target.create(&at)?;
                self.fill(&file, entry, contents)?;
            }
            What::Symlink(to) => self.target.symlink(&at, to, &entry.meta, &self.notes)?,
            What::Special(what) => {
                self.target.special(&at, *what, &entry.meta, &self.notes)?;
            }
            What::HardLink(old) => {
                let (parent, old_name) = split(old);
                let directory = self.target.directory(parent)?;
                self.target.hard_link(&directory.entry(old_name, old), &at)?;
                if entry.size > 0 {
                    let file = self.target.reopen(&at)?;
                    self.fill(&file, entry, contents)?;
                }
            }
        }
        Ok(())
    }
}

impl Visitor for Place<'_> {
    fn entry(&mut self, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        self.entries = self.entries.saturating_add(1);
        if let Some(what) = entry.left_out {
            self.notes.not_set(what, "of tar, modes and extended attributes (--xattrs) alone are taken", &entry.path);
        }
        if let What::Directory = entry.what {
            if let Some(meta) = self.directories.get_mut(&entry.path) {
                self.held.meta(&entry.meta)?;
                *meta = entry.meta.clone();
                return Ok(());
            }
            self.make_parents(&entry.path)?;
            return self.make_directory(&entry.path, entry.meta.clone());
        }
        if entry.path.is_empty() {
            return Err(both_ways(b"."));
        }
        self.make_parents(&entry.path)?;
        let (parent, _) = split(&entry.path);
        let directory = self.open.get(parent, || self.target.directory(parent))?;
        self.create(&directory, entry, contents)
    }
}

fn exists(error: &TargetError) -> bool {
    matches!(error, TargetError::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
}

pub(super) fn both_ways(path: &[u8]) -> Failure {
    let why = "it is a directory and something else; make the archive again".to_owned();
    ArchiveError::Entry { path: shown(path), why }.into()
}
