//! A directory tree as an image describes it: names, and the inodes that they stand for. Made by the metadata parser,
//! measured by `need`, carried out by the workers.

use std::collections::{BTreeMap, HashMap};

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

impl Inode {
    /// SHA-1 of a file's contents; `None` where it has none, or they were not hashed. Of a link in a WIM, that of its
    /// reparse data.
    pub fn sha1(&self) -> Option<[u8; 20]> {
        (self.hash != [0; 20]).then_some(self.hash)
    }
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
    /// It is a part of another tree: its root is the directory that it is put into, which keeps what it has.
    pub(crate) is_part: bool,
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

    /// These names with all below them, each in the root of a tree of their own; none may lie below another. Also the
    /// number that each inode has here; the root has none, and stands for the root here.
    pub(crate) fn part(&self, names: &[u32]) -> (Tree, Vec<u32>) {
        let mut part = Tree { is_part: true, ..Tree::default() };
        let mut origin = Vec::new();
        let mut inodes: HashMap<u32, u32> = HashMap::new();
        let mut renamed: HashMap<u32, u32> = HashMap::new();
        let root = Inode {
            kind: Kind::Directory,
            meta: Meta::default(),
            mode_by_rule: false,
            sparse: false,
            hash: [0; 20],
            names: vec![0],
        };
        part.inodes.push(root);
        part.names.push(Name { parent: 0, name: Box::default(), inode: 0 });
        origin.push(0);
        // A directory stands before what is in it, here and there.
        for (name, n) in self.names.iter().zip(0_u32..) {
            let parent = if names.contains(&n) { Some(0) } else { renamed.get(&name.parent).copied() };
            let (Some(parent), Some(inode)) = (parent.filter(|_| n > 0), self.inode(name.inode)) else { continue };
            let number = *inodes.entry(name.inode).or_insert_with(|| {
                part.inodes.push(Inode { meta: inode.meta.clone(), names: Vec::new(), ..*inode });
                origin.push(name.inode);
                u32::try_from(part.inodes.len().saturating_sub(1)).unwrap_or(u32::MAX)
            });
            let new = u32::try_from(part.names.len()).unwrap_or(u32::MAX);
            part.names.push(Name { parent, name: name.name.clone(), inode: number });
            renamed.insert(n, new);
            if let Some(inode) = usize::try_from(number).ok().and_then(|i| part.inodes.get_mut(i)) {
                inode.names.push(new);
            }
        }
        (part, origin)
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
        (names.saturating_add(inodes) as u64).saturating_add(self.xattr_room())
    }

    /// Bytes that tmpfs keeps all extended attributes in.
    pub(crate) fn xattr_room(&self) -> u64 {
        self.inodes.iter().map(|inode| inode.meta.xattr_room()).fold(0, u64::saturating_add)
    }
}
