//! The workers of a stream, and what they share with the thread that reads it: jobs in a bounded queue, buffers that are
//! used again, and the first failure.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bytes::u32_at;
use crate::codec::Codec;
use crate::error::WimError;
use crate::incoming::GiveUp;
use crate::resource::{Layout, resize};
use crate::unpack::assembly::Assembly;
use crate::unpack::plan::Item;
use crate::unpack::queue::Queue;
use crate::unpack::sink::Sink;
use crate::unpack::{Failure, OpenDirectories};

/// Bytes as they came, for one worker.
pub(super) enum Job {
    /// Whole contents, each in a range of the bytes.
    Batch { items: Vec<(Item, Range<usize>, bool)>, bytes: Vec<u8> },
    /// Some chunks of large contents, which unpack to `len` bytes at `offset`.
    Part { item: Item, assembly: Arc<Assembly>, offset: u64, len: u64, is_compressed: bool, bytes: Vec<u8> },
}

/// What reader and workers share.
pub(super) struct Pool<'a> {
    sink: Sink<'a>,
    pub(super) layout: Layout,
    pub(super) queue: Queue<Job>,
    /// Bytes of a job's input.
    job: usize,
    /// Buffers of jobs that are done.
    spare: Mutex<Vec<Vec<u8>>>,
    pub(super) failure: Mutex<Option<Failure>>,
    /// Lets the thread that reads go, however long the sender stalls.
    give_up: Option<GiveUp>,
}

/// Buffers and handles of one worker.
#[derive(Default)]
struct Worker {
    codec: Codec,
    out: Vec<u8>,
    open: OpenDirectories,
}

/// Stops all others when a worker, or the reader, panics: they may wait for it.
pub(super) struct StopOnPanic<'a>(pub(super) &'a Pool<'a>, pub(super) Option<Arc<Assembly>>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(self.1.as_deref());
        }
    }
}

impl<'a> Pool<'a> {
    /// Of `workers`, whose jobs have `job` bytes of input at most.
    pub(super) fn new(
        sink: Sink<'a>,
        layout: Layout,
        workers: NonZeroUsize,
        job: usize,
        give_up: Option<GiveUp>,
    ) -> Pool<'a> {
        let (queue, spare, failure) = (Queue::new(workers.get()), Mutex::new(Vec::new()), Mutex::new(None));
        Pool { sink, layout, queue, job, spare, failure, give_up }
    }

    /// Jobs leave the queue in order, so whoever waits for an earlier part of its contents waits for a worker that has
    /// it, and that either does it or comes here.
    fn stop(&self, assembly: Option<&Assembly>) {
        self.queue.stop();
        if let Some(give_up) = &self.give_up {
            give_up.now();
        }
        if let Some(assembly) = assembly {
            assembly.stop();
        }
    }

    pub(super) fn fail(&self, failure: Failure, assembly: Option<&Assembly>) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stop(assembly);
    }

    pub(super) fn buffer(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // In one piece from the start: a buffer that grows is copied, and for a moment there twice.
        spare.unwrap_or_else(|| Vec::with_capacity(self.job))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    pub(super) fn work(&self) {
        let mut worker = Worker::default();
        while let Some(job) = self.queue.pop() {
            let assembly = if let Job::Part { assembly, .. } = &job { Some(Arc::clone(assembly)) } else { None };
            let guard = StopOnPanic(self, assembly);
            let (bytes, result) = match job {
                Job::Batch { items, bytes } => {
                    let result = items.iter().try_for_each(|(item, range, is_compressed)| {
                        let stored = bytes.get(range.clone()).unwrap_or_default();
                        self.whole(&mut worker, item, stored, *is_compressed)
                    });
                    (bytes, result)
                }
                Job::Part { item, assembly, offset, len, is_compressed, bytes } => {
                    let result = self.part(&mut worker, &item, &assembly, (offset, len), &bytes, is_compressed);
                    (bytes, result)
                }
            };
            if let Err(failure) = result {
                self.fail(failure, guard.1.as_deref());
            }
            self.give_back(bytes);
        }
    }

    fn whole(&self, worker: &mut Worker, item: &Item, stored: &[u8], is_compressed: bool) -> Result<(), Failure> {
        let Worker { codec, out, open } = worker;
        if !is_compressed {
            return self.sink.whole(open, item, stored);
        }
        self.unpack(codec, item, stored, item.blob.size, out)?;
        self.sink.whole(open, item, out)
    }

    fn part(
        &self,
        worker: &mut Worker,
        item: &Item,
        assembly: &Assembly,
        (offset, len): (u64, u64),
        stored: &[u8],
        is_compressed: bool,
    ) -> Result<(), Failure> {
        let Worker { codec, out, open } = worker;
        if !is_compressed {
            return self.sink.piece(open, item, assembly, offset, stored);
        }
        self.unpack(codec, item, stored, len, out)?;
        self.sink.piece(open, item, assembly, offset, out)
    }

    /// Chunks with their lengths before them, into the whole of `out`.
    fn unpack(
        &self,
        codec: &mut Codec,
        item: &Item,
        mut stored: &[u8],
        len: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), WimError> {
        let Layout { compression, chunk_size, .. } = self.layout;
        let bad = || self.sink.item_error(item);
        resize(out, len)?;
        for out in out.chunks_mut(usize::try_from(chunk_size).unwrap_or(usize::MAX).max(1)) {
            let chunk = usize::try_from(u32_at(stored, 0).ok_or_else(bad)?).map_err(|_| bad())?;
            let (chunk, rest) = stored.get(4..).and_then(|rest| rest.split_at_checked(chunk)).ok_or_else(bad)?;
            codec.chunk(compression, chunk_size, chunk, out).map_err(|_| bad())?;
            stored = rest;
        }
        Ok(())
    }
}
