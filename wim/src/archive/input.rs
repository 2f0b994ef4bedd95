//! The unpacked stream as the parsers read it: exact lengths, a count of where it stands, and errors that say so. The
//! decompression runs in a thread of its own, a few buffers ahead.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::stream::Frames;
use crate::error::ArchiveError;
use crate::source::ReadAt;

const BUFFER: usize = 256 << 10;
const AHEAD: usize = 4;

/// Memory of the buffers between the threads, and of zstd's own beside its window.
pub(crate) const MEMORY: u64 = ((AHEAD as u64 + 3) * BUFFER as u64) + (1 << 20);

type Buffer = io::Result<Vec<u8>>;

/// A stream of known position.
pub(crate) struct Input {
    buffers: Receiver<Buffer>,
    now: Vec<u8>,
    used: usize,
    at: u64,
    ended: bool,
}

/// Runs `parse` on the unpacked stream of `source`, decompressing in another thread.
pub(crate) fn with_input<T>(source: &dyn ReadAt, parse: impl FnOnce(&mut Input) -> T) -> T {
    std::thread::scope(|scope| {
        let (sender, buffers) = sync_channel(AHEAD);
        let producer = sender.clone();
        let spawned =
            std::thread::Builder::new().name("zstd".into()).spawn_scoped(scope, move || produce(source, &producer));
        if let Err(error) = spawned {
            // The channel has room for this one.
            let _ = sender.send(Err(error));
        }
        drop(sender);
        // The receiver ends with `parse`, and so does the producer: its next send fails.
        let mut input = Input { buffers, now: Vec::new(), used: 0, at: 0, ended: false };
        let result = parse(&mut input);
        drop(input);
        result
    })
}

fn produce(source: &dyn ReadAt, sender: &SyncSender<Buffer>) {
    let mut frames = match Frames::new(source) {
        Ok(frames) => frames,
        Err(error) => {
            let _ = sender.send(Err(error));
            return;
        }
    };
    loop {
        let mut buffer = Vec::with_capacity(BUFFER);
        let result = (&mut frames).take(BUFFER as u64).read_to_end(&mut buffer);
        let is_end = result.is_err() || buffer.is_empty();
        // What came before an error is sound and goes first.
        if !buffer.is_empty() && sender.send(Ok(buffer)).is_err() {
            return;
        }
        if let Err(error) = result {
            let _ = sender.send(Err(error));
        }
        if is_end {
            return;
        }
    }
}

impl Input {
    /// Unpacked bytes taken so far.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes, at most `most`; empty where the stream ends.
    pub(crate) fn some(&mut self, most: u64) -> Result<&[u8], ArchiveError> {
        while self.used == self.now.len() && !self.ended {
            match self.buffers.recv() {
                Ok(Ok(buffer)) => {
                    self.now = buffer;
                    self.used = 0;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(ArchiveError::Truncated { at: self.at, what: "a zstd frame" });
                }
                Ok(Err(source)) => return Err(ArchiveError::Stream { after: self.at, source }),
                Err(_) => self.ended = true,
            }
        }
        let left = self.now.get(self.used..).unwrap_or_default();
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

    /// Leaves everything out to the end of the stream, so that the checksums of all frames are checked.
    pub(crate) fn drain(&mut self) -> Result<(), ArchiveError> {
        while !self.some(u64::MAX)?.is_empty() {}
        Ok(())
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
