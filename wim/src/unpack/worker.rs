//! The workers: each takes the next job, reads its bytes and unpacks them; what comes out goes into the sink.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::assembly::Assembly;
use super::consume::Consumed;
use super::plan::{Item, Job, Plan, extent, part_size};
use super::sink::Sink;
use super::{Failure, OpenDirectories, Placer};
use crate::blob::Location;
use crate::codec::{Codec, Compression};
use crate::error::WimError;
use crate::reader::Wim;
use crate::resource::{Chunked, Solid, read, read_into, resize};
use crate::root::Progress;

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

fn slice<T>(of: &[T], from: u64, to: u64) -> Option<&[T]> {
    of.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}
