//! A part of an archive into a folder. What it is made of is known from a walk before ([`super::list`]); this one waits
//! for the contents of files, and puts each under the names that it has in the part.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use super::effort::Effort;
use super::{Archive, Contents, Entry, Failure, Visitor};
use crate::error::TargetError;
use crate::notes::Notes;
use crate::root::{Progress, Report, UnpackOptions};
use crate::target::Target;
use crate::tree::{Inode, Kind, Tree};

/// What is wanted of an archive.
pub(crate) struct Extract<'a> {
    /// The part; its root is the target, and is left as it is.
    pub(crate) tree: &'a Tree,
    /// The number that each inode of the part has in the whole, by which the following go.
    pub(crate) origin: &'a [u32],
    pub(crate) targets: &'a HashMap<u32, Vec<u8>>,
    pub(crate) sizes: &'a [u64],
    pub(crate) brought: &'a [u64],
}

struct Extractor<'a> {
    order: &'a Extract<'a>,
    target: &'a Target,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    notes: Notes,
    /// Inodes of the part whose contents the entry of this number brings.
    waiting: HashMap<u64, u32>,
    number: u64,
    bytes: u64,
    total: u64,
}

/// Hands on the contents of one entry.
struct Writer<'a> {
    wanted: u64,
    number: u64,
    to: &'a mut dyn FnMut(&[u8]) -> Result<(), TargetError>,
}

impl Archive {
    /// Hands the contents of entry number `wanted` to `to`.
    pub(crate) fn write_entry(
        &self,
        wanted: u64,
        to: &mut dyn FnMut(&[u8]) -> Result<(), TargetError>,
    ) -> Result<(), Failure> {
        self.walk(Effort::new(&UnpackOptions::default()), &mut Writer { wanted, number: 0, to }).map(|_| ())
    }

    pub(crate) fn extract(
        &self,
        order: &Extract<'_>,
        target: &Target,
        options: &UnpackOptions<'_>,
    ) -> Result<Report, Failure> {
        let effort = Effort::new(options);
        let number = |of: &[u64], inode: usize| {
            let origin = order.origin.get(inode).and_then(|n| usize::try_from(*n).ok());
            origin.and_then(|n| of.get(n)).copied().unwrap_or(0)
        };
        let mut extractor = Extractor {
            order,
            target,
            progress: options.progress,
            notes: Notes::default(),
            waiting: HashMap::new(),
            number: 0,
            bytes: 0,
            total: 0,
        };
        for (n, inode) in order.tree.inodes.iter().enumerate().filter(|(_, inode)| inode.kind == Kind::File) {
            if number(order.sizes, n) > 0 && !inode.names.is_empty() {
                extractor.waiting.insert(number(order.brought, n), u32::try_from(n).unwrap_or(u32::MAX));
                extractor.total = extractor.total.saturating_add(number(order.sizes, n));
            }
        }
        target.check_room(extractor.total)?;
        extractor.make_all_but_contents()?;
        let mut workers = 1;
        if !extractor.waiting.is_empty() {
            workers = effort.threads(&self.walk(effort, &mut extractor)?);
        }
        extractor.finish_directories()?;
        Ok(Report {
            entries: (order.tree.names.len() as u64).saturating_sub(1),
            bytes: extractor.bytes,
            workers,
            notes: extractor.notes.into_words(),
        })
    }
}

impl Extractor<'_> {
    /// Directories, which stand before what is in them; then all that has no contents to wait for.
    fn make_all_but_contents(&self) -> Result<(), TargetError> {
        let tree = self.order.tree;
        for (name, n) in tree.names.iter().zip(0_u32..).skip(1) {
            if tree.inode(name.inode).is_some_and(|inode| inode.kind == Kind::Directory) {
                let (parent, path) = (tree.path(name.parent), tree.path(n));
                self.target.make_directory(&self.target.directory(&parent)?.entry(&name.name, &path))?;
            }
        }
        let is_waiting: Vec<u32> = self.waiting.values().copied().collect();
        let is_waiting: std::collections::HashSet<u32> = is_waiting.into_iter().collect();
        for (inode, n) in tree.inodes.iter().zip(0_u32..) {
            if inode.kind != Kind::Directory && !is_waiting.contains(&n) {
                self.make(n, inode, None)?;
            }
        }
        Ok(())
    }

    /// One that is no directory, under its first name, with the others linked to it.
    fn make(&self, number: u32, inode: &Inode, contents: Option<&std::fs::File>) -> Result<(), TargetError> {
        let (tree, target) = (self.order.tree, self.target);
        let Some((first, others)) = inode.names.split_first() else { return Ok(()) };
        let Some(name) = tree.name(*first) else { return Ok(()) };
        let path = tree.path(*first);
        let directory = target.directory(&tree.path(name.parent))?;
        let at = directory.entry(&name.name, &path);
        let is_made = match (inode.kind, contents) {
            (Kind::Directory, _) => return Ok(()),
            (_, Some(file)) => {
                target.finish(file, &path, &inode.meta, &self.notes)?;
                true
            }
            (Kind::File, None) => {
                let file = target.create(&at)?;
                target.finish(&file, &path, &inode.meta, &self.notes)?;
                true
            }
            (Kind::Symlink(_), None) => {
                let origin = usize::try_from(number).ok().and_then(|n| self.order.origin.get(n));
                if let Some(to) = origin.and_then(|n| self.order.targets.get(n)) {
                    target.symlink(&at, to, &inode.meta, &self.notes)?;
                }
                true
            }
            (Kind::Special(what), None) => target.special(&at, what, &inode.meta, &self.notes)?,
        };
        for other in others.iter().filter(|_| is_made) {
            if let Some(link) = tree.name(*other) {
                let path = tree.path(*other);
                let within = target.directory(&tree.path(link.parent))?;
                target.hard_link(&at, &within.entry(&link.name, &path))?;
            }
        }
        Ok(())
    }

    fn finish_directories(&self) -> Result<(), TargetError> {
        let tree = self.order.tree;
        for (name, n) in tree.names.iter().zip(0_u32..).skip(1).collect::<Vec<_>>().into_iter().rev() {
            if let Some(inode) = tree.inode(name.inode).filter(|inode| inode.kind == Kind::Directory) {
                let path = tree.path(n);
                self.target.finish(self.target.directory(&path)?, &path, &inode.meta, &self.notes)?;
            }
        }
        Ok(())
    }
}

impl Visitor for Extractor<'_> {
    fn entry(&mut self, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        self.number = self.number.saturating_add(1);
        let Some(number) = self.waiting.remove(&self.number) else { return Ok(()) };
        let (tree, target) = (self.order.tree, self.target);
        let inode = tree.inode(number);
        let Some((inode, first)) = inode.and_then(|i| Some((i, *i.names.first()?))) else { return Ok(()) };
        let Some(name) = tree.name(first) else { return Ok(()) };
        let path = tree.path(first);
        let file = target.create(&target.directory(&tree.path(name.parent))?.entry(&name.name, &path))?;
        contents.spread(entry, |at, piece| {
            file.write_all_at(piece, at).map_err(|e| target.failed("write", &path, e))?;
            if let Some(progress) = self.progress {
                let done = self.bytes.saturating_add(at).saturating_add(piece.len() as u64);
                progress(Progress { done, total: self.total });
            }
            Ok(())
        })?;
        if entry.map.is_some() {
            file.set_len(entry.length()).map_err(|e| target.failed("write", &path, e))?;
        }
        self.bytes = self.bytes.saturating_add(entry.length());
        Ok(self.make(number, inode, Some(&file))?)
    }
}

impl Visitor for Writer<'_> {
    fn entry(&mut self, entry: &Entry, contents: &mut Contents<'_>) -> Result<(), Failure> {
        self.number = self.number.saturating_add(1);
        if self.number == self.wanted {
            contents.whole(entry, |piece| Ok((self.to)(piece)?))?;
        }
        Ok(())
    }
}
