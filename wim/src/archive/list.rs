//! The visitor that only remembers: the tree that unpacking would make, and where in the stream each file's contents
//! are. What unpacking would refuse of it is refused here, too.

use std::collections::HashMap;

use sha1::{Digest, Sha1};

use super::effort::Effort;
use super::place::{both_ways, unnamed_directory};
use super::{Archive, Contents, Entry, Failure, Visitor, What, held};
use crate::blob::Hash;
use crate::error::ArchiveError;
use crate::meta::Meta;
use crate::name::shown;
use crate::reparse;
use crate::root::{Progress, UnpackOptions};
use crate::tree::{Inode, Kind, Name, Tree};

/// Memory for the tree of an archive, on the host: a million and a half files. Unpacking remembers directories alone.
const MOST: u64 = 512 << 20;
/// What a name and its inode take beside the bytes of the name, about.
const ENTRY: u64 = 256;

/// What an archive describes, all entries taken together.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) tree: Tree,
    /// Sizes of the inodes' contents; 0 of what is no file.
    pub(crate) sizes: Vec<u64>,
    /// Number of the entry that brings an inode's contents.
    pub(crate) brought: Vec<u64>,
    /// Targets of links, by inode.
    pub(crate) targets: HashMap<u32, Vec<u8>>,
    /// Bytes of file contents that were walked through.
    pub(crate) bytes: u64,
    /// Threads that worked on it.
    pub(crate) workers: u32,
    /// zstd frames without a checksum.
    pub(crate) unchecked: u64,
}

struct Lister<'a> {
    listed: Listed,
    found: HashMap<(u32, Box<[u8]>), u32>,
    /// Whether contents are hashed.
    hash: bool,
    /// Number of this entry.
    number: u64,
    held: u64,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

impl Archive {
    /// Walks through all of it; with `hash`, files get the SHA-1s of their contents, as those of a WIM have them.
    pub(crate) fn list(
        &self,
        hash: bool,
        progress: Option<&(dyn Fn(Progress) + Sync)>,
    ) -> Result<Listed, ArchiveError> {
        let mut lister =
            Lister { listed: Listed::default(), found: HashMap::new(), hash, number: 0, held: 0, progress };
        lister.inode(Kind::Directory, &unnamed_directory(), 0)?;
        lister.listed.tree.names.push(Name { parent: 0, name: Box::default(), inode: 0 });
        lister.name_it(0, 0);
        let effort = Effort::new(&UnpackOptions::default());
        match self.walk(effort, &mut lister) {
            Ok(seen) => Ok(Listed { workers: effort.threads(&seen), unchecked: seen.unchecked, ..lister.listed }),
            Err(Failure::Archive(error)) => Err(error),
            Err(Failure::Target(error)) => Err(ArchiveError::Damaged { at: 0, why: error.to_string() }),
        }
    }
}

impl Lister<'_> {
    fn hold(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        self.held = self.held.saturating_add(bytes);
        if self.held > MOST { Err(ArchiveError::TooMuch { limit: MOST }) } else { Ok(()) }
    }

    fn inode(&mut self, kind: Kind, meta: &Meta, size: u64) -> Result<u32, ArchiveError> {
        let number = u32::try_from(self.listed.tree.inodes.len()).map_err(|_| ArchiveError::TooMuch { limit: MOST })?;
        let xattrs = meta.xattrs.iter().fold(ENTRY, |sum, x| sum.saturating_add(held::xattr(&x.name, &x.value)));
        self.hold(xattrs)?;
        self.listed.tree.inodes.push(Inode {
            kind,
            meta: meta.clone(),
            mode_by_rule: false,
            sparse: false,
            hash: [0; 20],
            names: Vec::new(),
        });
        self.listed.sizes.push(size);
        self.listed.brought.push(self.number);
        Ok(number)
    }

    fn inode_mut(&mut self, number: u32) -> Option<&mut Inode> {
        self.listed.tree.inodes.get_mut(usize::try_from(number).ok()?)
    }

    fn name_it(&mut self, name: u32, inode: u32) {
        if let Some(inode) = self.inode_mut(inode) {
            inode.names.push(name);
        }
    }

    fn kind_of(&self, name: u32) -> Option<Kind> {
        self.listed.tree.name(name).and_then(|n| self.listed.tree.inode(n.inode)).map(|inode| inode.kind)
    }

    /// The name of a path, where there is one.
    fn find(&self, path: &[u8]) -> Option<u32> {
        let mut at = 0;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            at = *self.found.get(&(at, part.into()))?;
        }
        Some(at)
    }

    /// Gives `inode` the name; what had it before loses it.
    fn put(&mut self, parent: u32, name: &[u8], inode: u32, path: &[u8]) -> Result<u32, Failure> {
        let key = (parent, Box::from(name));
        if let Some(known) = self.found.get(&key).copied() {
            if self.kind_of(known) == Some(Kind::Directory) {
                return Err(both_ways(path));
            }
            let before = self.listed.tree.name(known).map(|n| n.inode);
            if let Some(before) = before.and_then(|inode| self.inode_mut(inode)) {
                before.names.retain(|n| *n != known);
            }
            if let Some(entry) = usize::try_from(known).ok().and_then(|n| self.listed.tree.names.get_mut(n)) {
                entry.inode = inode;
            }
            self.name_it(known, inode);
            return Ok(known);
        }
        self.hold(ENTRY.saturating_add((name.len() as u64).saturating_mul(2)))?;
        let number = u32::try_from(self.listed.tree.names.len()).map_err(|_| ArchiveError::TooMuch { limit: MOST })?;
        self.listed.tree.names.push(Name { parent, name: name.into(), inode });
        self.found.insert(key, number);
        self.name_it(number, inode);
        Ok(number)
    }

    /// The directory of this path, made where no entry has made it.
    fn directory(&mut self, path: &[u8]) -> Result<u32, Failure> {
        let mut at = 0;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            at = match self.found.get(&(at, part.into())).copied() {
                Some(known) if self.kind_of(known) == Some(Kind::Directory) => known,
                Some(_) => return Err(both_ways(path)),
                None => {
                    let inode = self.inode(Kind::Directory, &unnamed_directory(), 0)?;
                    self.put(at, part, inode, path)?
                }
            };
        }
        Ok(at)
    }

    fn contents(&mut self, inode: u32, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        let mut hasher = self.hash.then(Sha1::new);
        let (progress, done) = (self.progress, self.listed.bytes);
        let mut at = 0_u64;
        let mut take = |piece: &[u8]| {
            if let Some(hasher) = &mut hasher {
                hasher.update(piece);
            }
            at = at.saturating_add(piece.len() as u64);
            if let Some(progress) = progress {
                progress(Progress { done: done.saturating_add(at), total: 0 });
            }
            Ok(())
        };
        // Nobody asks for the holes of a file but who hashes it.
        if self.hash {
            contents.whole(entry, take)?
        } else {
            contents.pass(&mut take)?
        }
        self.listed.bytes = done.saturating_add(at);
        // Nothing has no hash, as in a WIM.
        let hash: Hash = hasher.filter(|_| entry.length() > 0).map_or([0; 20], |hasher| hasher.finalize().into());
        if let Some(inode) = self.inode_mut(inode) {
            inode.hash = hash;
        }
        Ok(())
    }

    fn hard_link(&self, path: &[u8], old: &[u8]) -> Result<u32, Failure> {
        let refuse = |why: String| ArchiveError::Entry { path: shown(path), why: format!("{why}; make it again") };
        let name = self.find(old).filter(|_| old != path);
        let name = name.ok_or_else(|| refuse(format!("it is a hard link to {}, which is not there", shown(old))))?;
        let inode =
            self.listed.tree.name(name).map(|n| n.inode).filter(|_| self.kind_of(name) != Some(Kind::Directory));
        Ok(inode.ok_or_else(|| refuse(format!("it is a hard link to {}, a directory", shown(old))))?)
    }
}

impl Visitor for Lister<'_> {
    fn entry(&mut self, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        self.number = self.number.saturating_add(1);
        let path = &entry.path;
        if let What::Directory = entry.what {
            let name = self.directory(path)?;
            let inode = self.listed.tree.name(name).map_or(0, |n| n.inode);
            if let Some(inode) = self.inode_mut(inode) {
                inode.meta = entry.meta.clone();
            }
            return Ok(self.hold(
                entry.meta.xattrs.iter().fold(0, |sum: u64, x| sum.saturating_add(held::xattr(&x.name, &x.value))),
            )?);
        }
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (path.get(..slash), path.get(slash.saturating_add(1)..)),
            None => (Some(&b""[..]), Some(&path[..])),
        };
        let (Some(parent), Some(name)) = (parent, name.filter(|name| !name.is_empty())) else {
            return Err(both_ways(b"."));
        };
        let parent = self.directory(parent)?;
        let inode = match &entry.what {
            What::HardLink(old) => self.hard_link(path, old)?,
            What::Symlink(_) => self.inode(Kind::Symlink(reparse::SYMLINK), &entry.meta, 0)?,
            What::Special(special) => self.inode(Kind::Special(*special), &entry.meta, 0)?,
            What::File | What::Directory => self.inode(Kind::File, &entry.meta, entry.length())?,
        };
        self.put(parent, name, inode, path)?;
        match &entry.what {
            What::Symlink(target) => {
                self.hold(target.len() as u64)?;
                self.listed.targets.insert(inode, target.clone());
            }
            What::File => self.contents(inode, entry, contents)?,
            // The names of a file come first, and its contents with the last of them (cpio does so).
            What::HardLink(_) if entry.size > 0 => {
                let number = self.number;
                if let Some(inode) = self.inode_mut(inode) {
                    inode.meta = entry.meta.clone();
                }
                let at = usize::try_from(inode).unwrap_or(usize::MAX);
                if let (Some(size), Some(brought)) = (self.listed.sizes.get_mut(at), self.listed.brought.get_mut(at)) {
                    (*size, *brought) = (entry.size, number);
                }
                self.contents(inode, entry, contents)?;
            }
            What::HardLink(_) | What::Special(_) | What::Directory => {}
        }
        Ok(())
    }
}
