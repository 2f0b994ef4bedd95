//! A directory tree as an image describes it: names, and the inodes that they stand for. Made by the metadata parser,
//! measured by `need`, carried out by the workers.

use std::collections::BTreeMap;

use crate::blob::Hash;
use crate::meta::{Meta, Special};

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; of this reparse tag.
    Symlink(u32),
    /// A device, fifo or socket.
    Special(Special),
}

/// A file, directory or link, whatever its names are.
#[derive(Debug)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Owner, mode, times, extended attributes.
    pub meta: Meta,
    /// The image gives no UNIX mode: `meta.mode` is by rule, and a file that turns out to be a program gets the
    /// execute bits that its read bits allow.
    pub mode_by_rule: bool,
    /// A regular file that had holes when it was captured (Windows' attribute for it; wimlib sets it where a file takes
    /// less room than its size, unix_capture.c): zeros in it need no room.
    pub sparse: bool,
    /// Its contents, or its reparse data; all zero where it has none.
    pub(crate) hash: Hash,
    /// Indices into [`Tree::names`]; the first is created, the others are hard links to it.
    pub names: Vec<u32>,
}

/// One entry of a directory.
#[derive(Debug)]
pub struct Name {
    /// Index of the directory's own name; the root's is its own.
    pub parent: u32,
    /// The name; empty for the root.
    pub name: Box<[u8]>,
    /// Index into [`Tree::inodes`].
    pub inode: u32,
}

/// A directory tree. The root is the first name, and a directory stands before what is in it.
#[derive(Debug, Default)]
pub struct Tree {
    /// Every entry of every directory.
    pub names: Vec<Name>,
    /// What they stand for.
    pub inodes: Vec<Inode>,
    /// What of the image has no counterpart on Linux: kind, and how often.
    pub left_out: BTreeMap<&'static str, u64>,
}

impl Tree {
    /// The path of a name inside the root, without a leading slash; empty for the root itself.
    pub fn path(&self, name: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = name;
        while let Some(entry) = self.name(at) {
            if entry.parent == at {
                break;
            }
            parts.push(&*entry.name);
            at = entry.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The path of an inode by its first name.
    pub(crate) fn path_of(&self, inode: u32) -> Vec<u8> {
        self.inode(inode).and_then(|i| i.names.first()).map(|n| self.path(*n)).unwrap_or_default()
    }

    pub(crate) fn name(&self, index: u32) -> Option<&Name> {
        self.names.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn inode(&self, index: u32) -> Option<&Inode> {
        self.inodes.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn leave_out(&mut self, what: &'static str, times: u64) {
        if times == 0 {
            return;
        }
        let count = self.left_out.entry(what).or_default();
        *count = count.saturating_add(times);
    }

    /// Memory that the tree takes, about.
    pub(crate) fn memory(&self) -> u64 {
        let names = self.names.len().saturating_mul(size_of::<Name>().saturating_add(24));
        let inodes = self.inodes.len().saturating_mul(size_of::<Inode>().saturating_add(8));
        names.saturating_add(inodes) as u64
    }
}
