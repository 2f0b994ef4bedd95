//! The unpacked stream as the parsers read it: exact lengths, a count of where it stands, and errors that say so. The
//! decompression runs in threads of its own, each with a frame, bounded buffers ahead.
//!
//! ```text
//!   source ── scanner ──► frame ──► decoder │ decoder │ …  each its own, in turn
//!                                      └────────┴──► queue: pieces in the order of the frames ──► parser ──► visitor
//! ```

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::consumed::Consumed;
use super::decoder::Decoder;
use super::effort::{Effort, Seen};
use super::frame::Scanner;
use super::queue::{Piece, Queue};
use crate::error::ArchiveError;
use crate::source::ReadAt;

/// A stream of known position.
pub(crate) struct Input {
    queue: Arc<Queue>,
    now: Option<Piece>,
    used: usize,
    at: u64,
    ended: bool,
}

/// Runs `parse` on the unpacked stream of `source`, decompressing in other threads; `consumed` frees the source.
pub(super) fn with_input<T>(
    source: &dyn ReadAt,
    effort: Effort,
    consumed: Option<&Consumed>,
    parse: impl FnOnce(&mut Input) -> T,
) -> (T, Seen) {
    let queue = Arc::new(Queue::new(effort.limits));
    let workers = Workers {
        queue: &queue,
        source,
        consumed,
        scanner: Mutex::new(Scanner::new(source)),
        share: effort.limits.memory.checked_div(effort.decoders.get() as u64).unwrap_or(0),
        frames: AtomicU64::new(0),
        largest: AtomicU64::new(0),
        unchecked: AtomicU64::new(0),
    };
    let result = std::thread::scope(|scope| {
        for n in 0..effort.decoders.get() {
            let spawned = std::thread::Builder::new().name(format!("zstd {n}")).spawn_scoped(scope, || workers.work());
            // One decoder is enough.
            if let Err(error) = spawned {
                if n == 0 {
                    workers.fail(error);
                }
                break;
            }
        }
        // However `parse` ends, nobody waits for it then.
        let _stop = Stop(&queue);
        let mut input = Input { queue: Arc::clone(&queue), now: None, used: 0, at: 0, ended: false };
        parse(&mut input)
    });
    let seen = Seen {
        frames: workers.frames.into_inner(),
        largest: workers.largest.into_inner(),
        unchecked: workers.unchecked.into_inner(),
    };
    (result, seen)
}

/// Runs `parse` on a stream whose pieces are there already, without a thread: for fuzzers, to whom threads and frames
/// cost more than all that they look at.
#[cfg(feature = "fuzz")]
pub(super) fn with_pieces<'a, T>(pieces: impl Iterator<Item = &'a [u8]>, parse: impl FnOnce(&mut Input) -> T) -> T {
    let queue = Arc::new(Queue::new(Effort::least().limits));
    if let Some(frame) = queue.open() {
        for piece in pieces {
            queue.send(frame, Piece { buffer: piece.into(), len: piece.len(), source: 0 });
        }
        queue.close(frame, Ok(()));
    }
    queue.end();
    parse(&mut Input { queue, now: None, used: 0, at: 0, ended: false })
}

struct Stop<'a>(&'a Queue);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Workers<'a> {
    queue: &'a Queue,
    source: &'a dyn ReadAt,
    consumed: Option<&'a Consumed>,
    /// Held by who looks for the next frame, and by who decompresses one whose end nobody knows.
    scanner: Mutex<Scanner<'a>>,
    /// Memory that a decoder may keep from frame to frame.
    share: u64,
    frames: AtomicU64,
    largest: AtomicU64,
    unchecked: AtomicU64,
}

/// Lets the parser and the other decoders go when this one panics.
struct StopOnPanic<'a>(&'a Queue);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl<'a> Workers<'a> {
    /// An error in the place of the next frame, the last.
    fn fail(&self, error: io::Error) {
        if let Some(frame) = self.queue.open() {
            self.queue.close(frame, Err(error));
        }
        self.queue.end();
    }

    fn work(&self) {
        let _guard = StopOnPanic(self.queue);
        // With the memory that it takes.
        let mut decoder: Option<(Decoder<'a>, u64)> = None;
        loop {
            // Poisoned: another worker has panicked, and nobody knows where the next frame is.
            let Ok(mut scanner) = self.scanner.lock() else { return };
            let frame = match scanner.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return self.queue.end(),
                Err(error) => return self.fail_at(&mut scanner, error),
            };
            let Some(number) = self.queue.open() else { return };
            if let Some(consumed) = self.consumed {
                consumed.reached(number, frame.start);
            }
            let held = frame.end.is_none().then_some(scanner);
            self.frames.fetch_add(1, Ordering::Relaxed);
            self.unchecked.fetch_add(u64::from(!frame.has_checksum), Ordering::Relaxed);
            let memory = frame.window.saturating_add(Decoder::MEMORY);
            self.largest.fetch_max(memory, Ordering::Relaxed);
            let outcome = self.prepare(&mut decoder, number, memory).and_then(|decoder| {
                decoder.begin(frame)?;
                self.decompress(decoder, number)
            });
            let is_sound = outcome.is_ok();
            if let (Some(consumed), Some((decoder, _)), true) = (self.consumed, &decoder, is_sound) {
                consumed.ended(number, decoder.position());
            }
            self.queue.close(number, outcome);
            match (held, &decoder) {
                (Some(mut scanner), Some((decoder, _))) if is_sound => scanner.resume(decoder.position()),
                // Nobody can go on from here.
                (Some(mut scanner), _) => {
                    scanner.resume(u64::MAX);
                    return self.queue.end();
                }
                (None, _) => {}
            }
            if decoder.as_ref().is_some_and(|(_, memory)| *memory > self.share) {
                let memory = decoder.take().map_or(0, |(_, memory)| memory);
                self.queue.give_back(memory);
            }
        }
    }

    fn fail_at(&self, scanner: &mut Scanner<'_>, error: io::Error) {
        scanner.resume(u64::MAX);
        self.fail(error);
    }

    /// A decoder that may take `memory`.
    fn prepare<'d>(
        &self,
        slot: &'d mut Option<(Decoder<'a>, u64)>,
        number: u64,
        memory: u64,
    ) -> io::Result<&'d mut Decoder<'a>> {
        if slot.as_ref().is_some_and(|(_, granted)| *granted < memory) {
            let granted = slot.take().map_or(0, |(_, granted)| granted);
            self.queue.give_back(granted);
        }
        let decoder = match slot.take() {
            Some(ready) => ready,
            None => {
                if !self.queue.grant(number, memory) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                (Decoder::new(self.source)?, memory)
            }
        };
        Ok(&mut slot.insert(decoder).0)
    }

    fn decompress(&self, decoder: &mut Decoder<'_>, number: u64) -> io::Result<()> {
        // Nobody reads what becomes of a frame when it is over.
        while let Some(mut buffer) = self.queue.buffer(number) {
            let (len, is_over) = decoder.fill(&mut buffer);
            let source = decoder.position();
            if let Some(consumed) = self.consumed {
                consumed.reached(number, source);
            }
            self.queue.send(number, Piece { buffer, len, source });
            if is_over? {
                return Ok(());
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

impl Input {
    /// Unpacked bytes taken so far.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Up to where the source was decompressed for the piece that was given last, at least.
    pub(crate) fn source(&self) -> u64 {
        self.now.as_ref().map_or(0, |piece| piece.source)
    }

    /// The next bytes, at most `most`; empty where the stream ends.
    pub(crate) fn some(&mut self, most: u64) -> Result<&[u8], ArchiveError> {
        while self.now.as_ref().is_none_or(|piece| self.used == piece.len) && !self.ended {
            let done = self.now.take().map(|piece| piece.buffer);
            self.used = 0;
            match self.queue.next(done) {
                Some(Ok(piece)) => self.now = Some(piece),
                Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(ArchiveError::Truncated { at: self.at, what: "a zstd frame" });
                }
                Some(Err(source)) => return Err(ArchiveError::Stream { after: self.at, source }),
                None => self.ended = true,
            }
        }
        let left = self.now.as_ref().and_then(|piece| piece.buffer.get(self.used..piece.len)).unwrap_or_default();
        let len = left.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.used = self.used.saturating_add(len);
        self.at = self.at.saturating_add(len as u64);
        Ok(left.get(..len).unwrap_or_default())
    }

    /// Passes exactly `len` bytes on, in pieces.
    pub(crate) fn pass<E: From<ArchiveError>>(
        &mut self,
        len: u64,
        what: &'static str,
        mut to: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = len;
        while left > 0 {
            let piece = self.some(left)?;
            if piece.is_empty() {
                return Err(ArchiveError::Truncated { at: self.at, what }.into());
            }
            left = left.saturating_sub(piece.len() as u64);
            to(piece)?;
        }
        Ok(())
    }

    /// Exactly `len` bytes. The caller bounds `len`.
    pub(crate) fn exact(&mut self, len: u64, what: &'static str) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        self.pass(len, what, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<_, ArchiveError>(())
        })?;
        Ok(bytes)
    }

    /// Leaves `len` bytes out.
    pub(crate) fn skip(&mut self, len: u64, what: &'static str) -> Result<(), ArchiveError> {
        self.pass(len, what, |_| Ok(()))
    }

    /// Whether nothing but zeros comes to the end of the stream; then the checksums of all frames are checked.
    pub(crate) fn ends_in_zeros(&mut self) -> Result<bool, ArchiveError> {
        loop {
            match self.some(u64::MAX)? {
                [] => return Ok(true),
                piece if piece.iter().all(|byte| *byte == 0) => {}
                _ => return Ok(false),
            }
        }
    }

    /// Leaves zeros out, and gives the byte behind them; `None` where the stream ends.
    pub(crate) fn after_zeros(&mut self) -> Result<Option<u8>, ArchiveError> {
        loop {
            match self.some(1)? {
                [] => return Ok(None),
                [0] => {}
                [byte, ..] => return Ok(Some(*byte)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::root::UnpackOptions;

    /// Of 700,000 bytes and some more each.
    fn packed(frames: u8) -> Vec<u8> {
        let frame = |n: u8| zstd::encode_all(&vec![n; 700_000_usize.saturating_add(n.into())][..], 1).unwrap();
        (0..frames).flat_map(frame).collect()
    }

    fn effort(decoders: usize, memory: u64) -> Effort {
        let workers = NonZeroUsize::new(decoders);
        Effort::new(&UnpackOptions { workers, memory_budget: Some(memory), ..UnpackOptions::default() })
    }

    #[test]
    fn the_stream_is_the_same_whatever_the_threads_and_the_budget() {
        let source = packed(20);
        let expected: Vec<(usize, usize)> = (0..20).map(|n| (n, 700_000 + n)).collect();
        for (decoders, memory) in [(1, 0), (2, 0), (3, 4 << 20), (8, u64::MAX)] {
            let (got, seen) = with_input(&source, effort(decoders, memory), None, |input| {
                let take = |(byte, len): &(usize, usize)| {
                    let bytes = input.exact(*len as u64, "a frame").unwrap();
                    bytes.iter().all(|b| usize::from(*b) == *byte)
                };
                let all = expected.iter().all(take);
                all && input.some(1).unwrap().is_empty()
            });
            assert!(got, "{decoders} decoders, {memory} bytes");
            assert_eq!(seen.frames, 20);
        }
    }

    #[test]
    fn what_is_given_up_lets_all_threads_go() {
        let source = packed(20);
        for taken in [0, 1, 900_000, 5_000_000] {
            with_input(&source, effort(4, u64::MAX), None, |input| input.exact(taken, "a frame").unwrap().len());
        }
    }

    /// Panics where it is read from a place on.
    struct Broken(Vec<u8>, u64);

    impl ReadAt for Broken {
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            assert!(offset < self.1, "read too far");
            self.0.read_exact_at(buffer, offset)
        }

        fn size(&self) -> u64 {
            self.0.size()
        }
    }

    #[test]
    fn a_panic_in_a_thread_ends_all_and_is_passed_on() {
        let whole = packed(20);
        for from in (0..20).map(|n| whole.len() as u64 * n / 20) {
            let source = Broken(whole.clone(), from);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                with_input(&source, effort(3, u64::MAX), None, |input| {
                    // To the end of what there is: a panic must come from the thread, not from here.
                    input.skip(u64::MAX, "all").unwrap_err();
                });
            }));
            assert!(outcome.is_err(), "from byte {from}");
        }
    }
}
