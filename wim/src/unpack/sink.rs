//! Where contents go, wherever they come from: they are hashed, checked, and put into the files that have them. Small
//! contents are checked before a file is created for them; large ones are written as they come, and a wrong hash at
//! their end stops everything.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use sha1::{Digest, Sha1};

use super::assembly::{Assembly, Turn};
use super::plan::{Item, Plan};
use super::{Failure, OpenDirectories, Placer};
use crate::blob::Hash;
use crate::error::WimError;
use crate::holes;
use crate::meta::Meta;
use crate::name::shown;
use crate::reparse;
use crate::resource::resize;
use crate::root::Progress;
use crate::target::Entry;
use crate::tree::{Inode, Kind};

/// See above; shared by all workers.
pub(super) struct Sink<'a> {
    plan: &'a Plan,
    placer: &'a Placer<'a>,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    done: AtomicU64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        placer: &'a Placer<'a>,
        progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    ) -> Sink<'a> {
        Sink { plan, placer, progress, done: AtomicU64::new(0) }
    }

    pub(super) fn item_error(&self, item: &Item) -> WimError {
        WimError::Decompress { file: self.plan.shown_user(item, self.placer.tree) }
    }

    fn check(&self, item: &Item, hash: Hash) -> Result<(), WimError> {
        if hash == item.hash {
            Ok(())
        } else {
            Err(WimError::Hash { file: self.plan.shown_user(item, self.placer.tree) })
        }
    }

    /// All contents of one item, at once.
    pub(super) fn whole(&self, open: &mut OpenDirectories, item: &Item, bytes: &[u8]) -> Result<(), Failure> {
        self.check(item, Sha1::digest(bytes).into())?;
        for user in self.plan.users(item) {
            self.placer.place(open, *user, |at| self.create(*user, at, bytes))?;
        }
        Ok(())
    }

    fn create(&self, user: u32, at: &Entry<'_>, bytes: &[u8]) -> Result<bool, Failure> {
        let Placer { tree, target, notes } = self.placer;
        let Some(inode) = tree.inode(user) else { return Ok(false) };
        if let Kind::Symlink(tag) = inode.kind {
            let to = reparse::target(tag, bytes)
                .ok_or_else(|| WimError::Entry { path: shown(at.path), why: "it is a link without a sound target" })?;
            target.symlink(at, &to, &inode.meta, notes)?;
            return Ok(true);
        }
        target.file(at, bytes, inode.sparse, &meta(inode, bytes), notes)?;
        self.advance(bytes.len() as u64);
        Ok(true)
    }

    /// A part of an item's contents. It goes into the first file that has them; when all is there and checked, the
    /// others get copies.
    pub(super) fn piece(
        &self,
        open: &mut OpenDirectories,
        item: &Item,
        assembly: &Assembly,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let Placer { tree, target, notes } = self.placer;
        // A link's target lies in one piece unless it crosses chunks of a solid resource: then it is a file for a while.
        let Some((first, others)) = self.plan.users(item).split_first() else { return Ok(()) };
        let Some(first_name) = tree.inode(*first).and_then(|i| i.names.first()).and_then(|n| tree.name(*n)) else {
            return Ok(());
        };
        let path = tree.path_of(*first);
        let file = assembly.file(|| {
            let directory = self.placer.directory(open, first_name.parent)?;
            target.create(&directory.entry(&first_name.name, &path))
        })?;
        let has_holes = |n: u32| tree.inode(n).is_some_and(|inode| inode.sparse);
        holes::write(&file, bytes, offset, has_holes(*first)).map_err(|e| target.failed("write", &path, e))?;
        self.advance(bytes.len() as u64);
        let (hash, file) = match assembly.hash(offset, bytes, item.blob.size) {
            Turn::Last(hash, Some(file)) => (hash, file),
            Turn::Last(_, None) | Turn::NotLast | Turn::Stopped => return Ok(()),
        };
        self.check(item, hash)?;
        if has_holes(*first) {
            file.set_len(item.blob.size).map_err(|e| target.failed("write", &path, e))?;
        }
        let any_link = self.plan.users(item).iter().any(|n| matches!(tree.inode(*n), Some(i) if i.kind != Kind::File));
        if any_link {
            return self.reread(open, item, &file, &path);
        }
        let mut head = [0; 4];
        let head_len = usize::try_from(item.blob.size).unwrap_or(4).min(4);
        let head = head.get_mut(..head_len).unwrap_or_default();
        file.read_exact_at(head, 0).map_err(|e| target.failed("read", &path, e))?;
        for user in others {
            self.placer.place(open, *user, |at| {
                let Some(inode) = tree.inode(*user) else { return Ok(false) };
                let copy = target.create(at)?;
                copy_all(&file, &copy, item.blob.size, inode.sparse).map_err(|e| target.failed("write", at.path, e))?;
                target.finish(&copy, at.path, &meta(inode, head), notes)?;
                self.advance(item.blob.size);
                Ok(true)
            })?;
        }
        self.placer.place(open, *first, |at| {
            let Some(inode) = tree.inode(*first) else { return Ok(false) };
            target.finish(&*file, at.path, &meta(inode, head), notes)?;
            Ok(true)
        })
    }

    /// Contents that came in pieces and that a link has, too: small, so they are taken back and placed as a whole.
    fn reread(&self, open: &mut OpenDirectories, item: &Item, file: &File, path: &[u8]) -> Result<(), Failure> {
        let target = self.placer.target;
        let mut bytes = Vec::new();
        resize(&mut bytes, item.blob.size)?;
        file.read_exact_at(&mut bytes, 0).map_err(|e| target.failed("read", path, e))?;
        if let Some(first) = self.plan.users(item).first() {
            self.placer.place(open, *first, |at| target.remove(at).map(|()| false).map_err(Failure::from))?;
        }
        self.whole(open, item, &bytes)
    }

    /// A file without contents, or a special file.
    pub(super) fn bare(&self, open: &mut OpenDirectories, user: u32) -> Result<(), Failure> {
        let Placer { tree, target, notes } = self.placer;
        self.placer.place(open, user, |at| {
            let Some(inode) = tree.inode(user) else { return Ok(false) };
            match inode.kind {
                Kind::Special(what) => Ok(target.special(at, what, &inode.meta, notes)?),
                _ => {
                    target.file(at, b"", false, &inode.meta, notes)?;
                    Ok(true)
                }
            }
        })
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if let Some(progress) = self.progress {
            progress(Progress { done: done.min(self.plan.total), total: self.plan.total });
        }
    }
}

/// Owner, mode and times of a file; a program whose mode is by rule may be executed by all who may read it.
fn meta(inode: &Inode, contents: &[u8]) -> Meta {
    let mut meta = inode.meta.clone();
    if inode.mode_by_rule && (contents.starts_with(b"#!") || contents.starts_with(b"\x7fELF")) {
        meta.mode |= (meta.mode & 0o444) >> 2;
    }
    meta
}

fn copy_all(from: &File, to: &File, size: u64, holes: bool) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..len).unwrap_or_default();
        from.read_exact_at(piece, at)?;
        holes::write(to, piece, at, holes)?;
        at = at.saturating_add(len as u64);
    }
    if holes { to.set_len(size) } else { Ok(()) }
}
