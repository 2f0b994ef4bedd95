//! The workers: each takes the next job, reads its bytes, unpacks and hashes them, and puts them into their files.
//! Small contents are checked before a file is created for them; large ones are written as they come, and a wrong hash
//! at their end stops everything.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sha1::{Digest, Sha1};

use super::assembly::{Assembly, Turn};
use super::consume::Consumed;
use super::plan::{Item, Job, Plan, extent, part_size};
use super::{Failure, OpenDirectories, Placer};
use crate::blob::{Hash, Location};
use crate::codec::{Codec, Compression};
use crate::error::WimError;
use crate::holes;
use crate::meta::Meta;
use crate::name::shown;
use crate::reader::Wim;
use crate::reparse;
use crate::resource::{Chunked, Solid, read, read_into, resize};
use crate::root::Progress;
use crate::target::Entry;
use crate::tree::{Inode, Kind};

/// Runs all jobs of the plan on `workers` threads, this one among them.
pub(super) fn run(
    wim: &Wim,
    plan: &Plan,
    placer: &Placer<'_>,
    workers: NonZeroUsize,
    consumed: Option<&Consumed>,
    progress: Option<&(dyn Fn(Progress) + Sync)>,
) -> Result<(), Failure> {
    let shared = Shared {
        wim,
        plan,
        consumed,
        sink: Sink::new(plan, placer, progress),
        assemblies: std::iter::repeat_with(Assembly::default).take(plan.assemblies).collect(),
        next: AtomicUsize::new(0),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for n in 1..workers.get() {
            // A thread that cannot be had is one worker less.
            let _ = std::thread::Builder::new().name(format!("unpack {n}")).spawn_scoped(scope, || shared.work());
        }
        shared.work();
    });
    shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

struct Shared<'a> {
    wim: &'a Wim,
    plan: &'a Plan,
    consumed: Option<&'a Consumed>,
    sink: Sink<'a>,
    assemblies: Vec<Assembly>,
    next: AtomicUsize,
    stopped: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// Buffers and handles of one worker.
#[derive(Default)]
struct Worker {
    codec: Codec,
    input: Vec<u8>,
    out: Vec<u8>,
    starts: Vec<u64>,
    open: OpenDirectories,
}

/// Stops the other workers when this one panics: they may be waiting for its part.
struct StopOnPanic<'a>(&'a Shared<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl Shared<'_> {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.assemblies.iter().for_each(Assembly::stop);
        if let Some(consumed) = self.consumed {
            consumed.stop();
        }
    }

    fn work(&self) {
        let _guard = StopOnPanic(self);
        let mut worker = Worker::default();
        // Contents first, since they take the time; whoever finds none left does one of the bare entries.
        while !self.stopped.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let result = match (self.plan.jobs.get(n), n.checked_sub(self.plan.jobs.len())) {
                (Some(job), _) => self.turn(&mut worker, n, job),
                (None, Some(n)) => match self.plan.bare.get(n) {
                    Some(inode) => self.sink.bare(&mut worker.open, *inode),
                    None => break,
                },
                (None, None) => break,
            };
            if let Err(failure) = result {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                self.stop();
            }
        }
    }

    /// Job number `n`, when it may begin; what it took of the source is given back.
    fn turn(&self, worker: &mut Worker, n: usize, job: &Job) -> Result<(), Failure> {
        let Some(consumed) = self.consumed else { return self.job(worker, job).map(|_| ()) };
        consumed.begin(n);
        let (part, end) = self.job(worker, job)?;
        consumed.finished(n, part, end);
        Ok(())
    }

    /// Does a job; gives in which part of the source it ended, and where.
    fn job(&self, worker: &mut Worker, job: &Job) -> Result<(u16, u64), Failure> {
        match *job {
            Job::Batch { first, end, part, offset, len } => {
                self.batch(worker, first..end, part, offset, len)?;
                Ok((part, offset.saturating_add(len)))
            }
            Job::Part { item, chunk, count } => match self.plan.items.get(item) {
                Some(item) => Ok((item.blob.part, self.part(worker, item, chunk, count)?)),
                None => Ok((1, 0)),
            },
            Job::Solid { resource, chunk, first, end } => match self.wim.blobs.solids.get(resource) {
                Some(solid) => Ok((solid.part, self.solid(worker, solid, chunk, first..end)?)),
                None => Ok((1, 0)),
            },
        }
    }

    fn item_error(&self, item: &Item) -> WimError {
        self.sink.item_error(item)
    }

    fn batch(
        &self,
        worker: &mut Worker,
        items: std::ops::Range<usize>,
        part: u16,
        offset: u64,
        len: u64,
    ) -> Result<(), Failure> {
        read_into(self.wim.parts.source(part), offset, len, &mut worker.input)?;
        let Worker { codec, input, out, starts, open } = worker;
        for item in self.plan.items.get(items).unwrap_or_default() {
            let (from, to) = extent(&item.blob);
            let bytes = slice(input, from.saturating_sub(offset), to.saturating_sub(offset))
                .ok_or_else(|| self.item_error(item))?;
            let Location::Chunked { stored, .. } = item.blob.location else {
                self.sink.whole(open, item, bytes)?;
                continue;
            };
            let header = &self.wim.header;
            let chunked = Chunked { stored, size: item.blob.size, layout: header.layout() };
            chunked.starts_in(bytes, starts).map_err(|_| self.item_error(item))?;
            resize(out, item.blob.size)?;
            let chunk_size = usize::try_from(header.chunk_size).unwrap_or(usize::MAX).max(1);
            for ((begin, end), out) in starts.iter().zip(starts.iter().skip(1)).zip(out.chunks_mut(chunk_size)) {
                let begin = begin.saturating_add(chunked.layout.lead());
                let chunk = slice(bytes, begin, *end).ok_or_else(|| self.item_error(item))?;
                codec.chunk(header.compression, header.chunk_size, chunk, out).map_err(|_| self.item_error(item))?;
            }
            self.sink.whole(open, item, out)?;
        }
        Ok(())
    }

    fn part(&self, worker: &mut Worker, item: &Item, chunk: u64, count: u64) -> Result<u64, Failure> {
        let Some(assembly) = item.assembly.and_then(|n| self.assemblies.get(n)) else { return Ok(0) };
        let header = &self.wim.header;
        let size = part_size(&item.blob, header);
        let begin = chunk.saturating_mul(size);
        let len = count.saturating_mul(size).min(item.blob.size.saturating_sub(begin));
        let (from, _) = extent(&item.blob);
        let source = self.wim.parts.source(item.blob.part);
        let Location::Chunked { stored, .. } = item.blob.location else {
            let at = from.saturating_add(begin);
            read_into(source, at, len, &mut worker.out)?;
            self.sink.piece(&mut worker.open, item, assembly, begin, &worker.out)?;
            return Ok(at.saturating_add(len));
        };
        let chunked = Chunked { stored, size: item.blob.size, layout: header.layout() };
        let starts = assembly.table(|| {
            let (table_at, table_len) = chunked.table().map_err(|_| self.item_error(item))?;
            let mut starts = Vec::new();
            let table = read(source, from.saturating_add(table_at), table_len)?;
            chunked.starts(&table, &mut starts).map_err(|_| self.item_error(item))?;
            Ok::<_, WimError>(starts)
        })?;
        let Worker { codec, input, out, open, .. } = worker;
        let last = chunk.saturating_add(count);
        let mine = slice(&starts, chunk, last.saturating_add(1)).ok_or_else(|| self.item_error(item))?;
        let (Some(first), Some(end)) = (mine.first().copied(), mine.last().copied()) else { return Ok(0) };
        read_into(source, from.saturating_add(first), end.saturating_sub(first), input)?;
        resize(out, len)?;
        let chunk_size = usize::try_from(header.chunk_size).unwrap_or(usize::MAX).max(1);
        for ((begin, end), out) in mine.iter().zip(mine.iter().skip(1)).zip(out.chunks_mut(chunk_size)) {
            let begin = begin.saturating_add(chunked.layout.lead());
            let chunk = slice(input, begin.saturating_sub(first), end.saturating_sub(first));
            let chunk = chunk.ok_or_else(|| self.item_error(item))?;
            codec.chunk(header.compression, header.chunk_size, chunk, out).map_err(|_| self.item_error(item))?;
        }
        self.sink.piece(open, item, assembly, begin, out)?;
        Ok(from.saturating_add(end))
    }

    fn solid(
        &self,
        worker: &mut Worker,
        solid: &Solid,
        chunk: usize,
        items: std::ops::Range<usize>,
    ) -> Result<u64, Failure> {
        let items = self.plan.items.get(items).unwrap_or_default();
        let ends = (solid.starts.get(chunk).copied(), solid.starts.get(chunk.saturating_add(1)).copied());
        let (Some(from), Some(to)) = ends else { return Ok(0) };
        let begin = (chunk as u64).saturating_mul(solid.chunk_size.into());
        let len = solid.size.saturating_sub(begin).min(solid.chunk_size.into());
        let Worker { codec, input, out, open, .. } = worker;
        read_into(self.wim.parts.source(solid.part), from, to.saturating_sub(from), input)?;
        resize(out, len)?;
        let damaged = || items.first().map_or(WimError::Decompress { file: String::new() }, |i| self.item_error(i));
        let format: Compression = solid.compression;
        codec.chunk(format, solid.chunk_size, input, out).map_err(|_| damaged())?;
        for item in items {
            let (first, end) = extent(&item.blob);
            let (first_here, end_here) = (first.max(begin), end.min(begin.saturating_add(len)));
            let bytes = slice(out, first_here.saturating_sub(begin), end_here.saturating_sub(begin));
            let bytes = bytes.ok_or_else(damaged)?;
            match item.assembly.and_then(|n| self.assemblies.get(n)) {
                None => self.sink.whole(open, item, bytes)?,
                Some(assembly) => self.sink.piece(open, item, assembly, first_here.saturating_sub(first), bytes)?,
            }
        }
        Ok(to)
    }
}

/// Where contents go, wherever they come from: they are checked, and put into the files that have them.
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

fn slice<T>(of: &[T], from: u64, to: u64) -> Option<&[T]> {
    of.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}
