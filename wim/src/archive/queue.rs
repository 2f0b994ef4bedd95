//! Decompressed pieces on their way from the decoders to the parser. Each frame has a place in line, and its pieces wait
//! there until the parser has come to it: the parser sees one stream, and each error where it belongs, whichever
//! decoder was the fastest. All waiting is bounded: for memory, by a budget; for ever, by the rule that the decoder of
//! the front frame gets what it needs whatever the others hold.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of a piece: large enough that handing it over costs nothing, small enough to stay in a processor's own cache.
pub(super) const PIECE: usize = 256 << 10;
/// Frames in line at most. Those without contents cost little, so that a source may hold very many.
const MOST_FRAMES: usize = 64;
/// Pieces of the front frame that may wait whatever is used: one to write into while the parser has the other.
const ALWAYS: usize = 2;

pub(super) type Buffer = Box<[u8]>;

/// The first `len` bytes of a buffer.
pub(super) struct Piece {
    pub(super) buffer: Buffer,
    pub(super) len: usize,
    /// Up to where the source was decompressed for it, and for all before it.
    pub(super) source: u64,
}

/// Bytes of memory that may be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// By decoders and pieces together.
    pub(super) memory: u64,
    /// By pieces.
    pub(super) ahead: u64,
    /// By pieces of one frame.
    pub(super) frame: u64,
}

pub(super) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    /// Something came for the parser.
    filled: Condvar,
    /// The parser has taken something, or memory has become free.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    line: VecDeque<Slot>,
    /// Number of the frame at the front.
    front: u64,
    /// No frame comes any more.
    ended: bool,
    stopped: bool,
    spare: Vec<Buffer>,
    /// Buffers in use.
    used: u64,
    /// Memory of decoders.
    decoders: u64,
}

/// One frame.
#[derive(Default)]
struct Slot {
    pieces: VecDeque<Piece>,
    outcome: Option<io::Result<()>>,
}

impl State {
    fn pieces(&self) -> u64 {
        self.used.saturating_add(self.spare.len() as u64).saturating_mul(PIECE as u64)
    }

    fn slot(&mut self, frame: u64) -> Option<&mut Slot> {
        let at = frame.checked_sub(self.front)?;
        self.line.get_mut(usize::try_from(at).ok()?)
    }
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Queue {
        Queue { limits, state: Mutex::default(), filled: Condvar::new(), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_freed<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.freed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in line; its number, or `None` where nobody wants it any more.
    pub(super) fn open(&self) -> Option<u64> {
        let mut state = self.lock();
        while state.line.len() >= MOST_FRAMES && !state.stopped {
            state = self.wait_freed(state);
        }
        if state.stopped {
            return None;
        }
        state.line.push_back(Slot::default());
        Some(state.front.saturating_add(state.line.len() as u64).saturating_sub(1))
    }

    /// Waits until a decoder of `bytes` more may be had for this frame; `false` where nobody wants it any more.
    pub(super) fn grant(&self, frame: u64, bytes: u64) -> bool {
        let mut state = self.lock();
        while !state.stopped && frame != state.front {
            let used = state.decoders.saturating_add(bytes);
            while used.saturating_add(state.pieces()) > self.limits.memory && state.spare.pop().is_some() {}
            if used.saturating_add(state.pieces()) <= self.limits.memory {
                break;
            }
            state = self.wait_freed(state);
        }
        state.decoders = state.decoders.saturating_add(bytes);
        !state.stopped
    }

    /// Gives memory of a decoder back.
    pub(super) fn give_back(&self, bytes: u64) {
        let mut state = self.lock();
        state.decoders = state.decoders.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// A buffer for a piece of this frame; `None` where nobody wants it any more.
    pub(super) fn buffer(&self, frame: u64) -> Option<Buffer> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let needed = state.used.saturating_add(1).saturating_mul(PIECE as u64);
            let of_frame = state.slot(frame).map_or(0, |slot| slot.pieces.len()).saturating_add(1) as u64;
            let is_in_budget = of_frame.saturating_mul(PIECE as u64) <= self.limits.frame
                && needed <= self.limits.ahead
                && needed.saturating_add(state.decoders) <= self.limits.memory;
            let is_needed_now =
                frame == state.front && state.line.front().is_some_and(|slot| slot.pieces.len() < ALWAYS);
            if is_in_budget || is_needed_now {
                break;
            }
            state = self.wait_freed(state);
        }
        state.used = state.used.saturating_add(1);
        let spare = state.spare.pop();
        drop(state);
        Some(spare.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice()))
    }

    pub(super) fn send(&self, frame: u64, piece: Piece) {
        let mut state = self.lock();
        match state.slot(frame).filter(|_| piece.len > 0) {
            Some(slot) => slot.pieces.push_back(piece),
            None => {
                state.used = state.used.saturating_sub(1);
                state.spare.push(piece.buffer);
                self.freed.notify_all();
            }
        }
        if frame == state.front {
            self.filled.notify_one();
        }
    }

    /// No piece of this frame comes any more.
    pub(super) fn close(&self, frame: u64, outcome: io::Result<()>) {
        let mut state = self.lock();
        if let Some(slot) = state.slot(frame) {
            slot.outcome = Some(outcome);
        }
        self.filled.notify_one();
    }

    /// No frame comes any more.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.filled.notify_one();
    }

    /// Nobody waits any more, on either side.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.filled.notify_all();
        self.freed.notify_all();
    }

    /// The next piece of the stream, for the one before it, which is done with; `None` where the stream ends.
    pub(super) fn next(&self, done: Option<Buffer>) -> Option<io::Result<Piece>> {
        let mut state = self.lock();
        if let Some(buffer) = done {
            state.used = state.used.saturating_sub(1);
            state.spare.push(buffer);
            self.freed.notify_all();
        }
        loop {
            if let Some(slot) = state.line.front_mut() {
                if let Some(piece) = slot.pieces.pop_front() {
                    // Its decoder may have waited for room in its own line.
                    self.freed.notify_all();
                    return Some(Ok(piece));
                }
                if let Some(outcome) = slot.outcome.take() {
                    state.line.pop_front();
                    state.front = state.front.saturating_add(1);
                    self.freed.notify_all();
                    match outcome {
                        Ok(()) => continue,
                        Err(error) => return Some(Err(error)),
                    }
                }
            } else if state.ended {
                return None;
            }
            if state.stopped {
                return Some(Err(io::Error::other("a thread that decompresses it has failed")));
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: u64 = PIECE as u64;

    fn queue(pieces: u64) -> Queue {
        let bytes = pieces.saturating_mul(PIECES);
        Queue::new(Limits { memory: bytes, ahead: bytes, frame: bytes })
    }

    fn put(queue: &Queue, frame: u64, byte: u8) {
        let mut buffer = queue.buffer(frame).unwrap();
        buffer[0] = byte;
        queue.send(frame, Piece { buffer, len: 1, source: 0 });
    }

    #[test]
    fn pieces_come_in_the_order_of_the_frames_and_errors_behind_what_is_sound() {
        let queue = queue(8);
        let (first, second, third) = (queue.open().unwrap(), queue.open().unwrap(), queue.open().unwrap());
        put(&queue, third, 4);
        put(&queue, second, 3);
        queue.close(second, Err(io::ErrorKind::InvalidData.into()));
        put(&queue, first, 1);
        put(&queue, first, 2);
        queue.close(first, Ok(()));
        let mut done = None;
        for byte in 1..=3 {
            let piece = queue.next(done).unwrap().unwrap();
            assert_eq!((piece.buffer[0], piece.len), (byte, 1));
            done = Some(piece.buffer);
        }
        assert_eq!(queue.next(done).unwrap().err().unwrap().kind(), io::ErrorKind::InvalidData);
        queue.close(third, Ok(()));
        queue.end();
        let piece = queue.next(None).unwrap().unwrap();
        assert_eq!(piece.buffer[0], 4);
        assert!(queue.next(Some(piece.buffer)).is_none());
    }

    /// A later frame has taken the whole budget before the front one has its first piece.
    #[test]
    fn the_front_frame_goes_on_whatever_the_others_hold() {
        let queue = queue(3);
        let (first, second) = (queue.open().unwrap(), queue.open().unwrap());
        (0..3).for_each(|n| put(&queue, second, n));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.buffer(second).map(|buffer| buffer.len()));
            put(&queue, first, 7);
            put(&queue, first, 8);
            assert!(queue.grant(first, u64::MAX / 2), "a decoder of any size");
            queue.give_back(u64::MAX / 2);
            queue.close(first, Ok(()));
            let mut done = None;
            // Then the other is at the front, and with two pieces fewer it is within the budget.
            for byte in [7, 8, 0, 1] {
                let piece = queue.next(done).unwrap().unwrap();
                assert_eq!(piece.buffer[0], byte);
                done = Some(piece.buffer);
            }
            assert_eq!(waiting.join().unwrap(), Some(PIECE));
        });
    }

    #[test]
    fn one_frame_does_not_run_ahead_by_all_that_there_is() {
        let queue = Queue::new(Limits { memory: 9 * PIECES, ahead: 9 * PIECES, frame: 3 * PIECES });
        let first = queue.open().unwrap();
        (1..=3).for_each(|n| put(&queue, first, n));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| put(&queue, first, 4));
            let piece = queue.next(None).unwrap().unwrap();
            assert_eq!(piece.buffer[0], 1, "three at a time");
            waiting.join().unwrap();
            assert_eq!(queue.lock().used, 4, "one with the parser, three in line");
            put(&queue, queue.open().unwrap(), 1);
        });
    }

    #[test]
    fn who_waits_is_let_go_when_it_is_over() {
        let queue = queue(1);
        let (first, second) = (queue.open().unwrap(), queue.open().unwrap());
        put(&queue, second, 1);
        std::thread::scope(|scope| {
            let buffer = scope.spawn(|| queue.buffer(second).is_none());
            let grant = scope.spawn(|| queue.grant(second, PIECES));
            let open = scope.spawn(|| while queue.open().is_some() {});
            let parser = scope.spawn(|| queue.next(None).unwrap().is_err());
            queue.stop();
            assert!(buffer.join().unwrap() && !grant.join().unwrap() && parser.join().unwrap());
            open.join().unwrap();
        });
        assert!(first < second);
    }
}
