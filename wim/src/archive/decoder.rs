//! One zstd frame after another, decompressed piece by piece into buffers of the caller.

use std::io;

use zstd::stream::raw::{self, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use super::frame::{Frame, WINDOW_LOG};
use crate::source::ReadAt;

const INPUT: usize = 128 << 10;

/// zstd's context, and what is read but not yet decompressed.
pub(super) struct Decoder<'a> {
    source: &'a dyn ReadAt,
    context: raw::Decoder<'static>,
    input: Vec<u8>,
    used: usize,
    /// Where the next input comes from.
    at: u64,
    frame: Frame,
}

impl<'a> Decoder<'a> {
    /// Memory that one takes beside the window: the context (some 160 KiB), the input, the block that zstd gathers, and
    /// the two that it keeps behind the window (`ZSTD_decodingBufferSize_internal`).
    pub(super) const MEMORY: u64 = 768 << 10;

    pub(super) fn new(source: &'a dyn ReadAt) -> io::Result<Decoder<'a>> {
        let mut context = raw::Decoder::new()?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        let frame = Frame { start: 0, end: None, window: 0, has_checksum: true };
        Ok(Decoder { source, context, input: Vec::with_capacity(INPUT), used: 0, at: 0, frame })
    }

    pub(super) fn begin(&mut self, frame: Frame) -> io::Result<()> {
        self.context.reinit()?;
        self.input.clear();
        self.used = 0;
        self.at = frame.start;
        self.frame = frame;
        Ok(())
    }

    /// Up to where the source is decompressed.
    pub(super) fn position(&self) -> u64 {
        self.at.saturating_sub(self.unread().len() as u64)
    }

    fn unread(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    fn refill(&mut self) -> io::Result<()> {
        let end = self.frame.end.unwrap_or_else(|| self.source.size());
        let more = end.saturating_sub(self.at).min(INPUT as u64);
        self.input.resize(usize::try_from(more).unwrap_or(INPUT), 0);
        self.used = 0;
        self.source.read_exact_at(&mut self.input, self.at)?;
        self.at = self.at.saturating_add(more);
        Ok(())
    }

    /// Decompresses into `out` until it is full or the frame ends. Gives how much is sound, and whether the frame is
    /// over.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> (usize, io::Result<bool>) {
        let mut filled = 0;
        loop {
            if self.unread().is_empty()
                && let Err(error) = self.refill()
            {
                return (filled, Err(error));
            }
            let is_starved = self.unread().is_empty();
            let mut input = InBuffer::around(self.input.get(self.used..).unwrap_or_default());
            let mut output = OutBuffer::around(out.get_mut(filled..).unwrap_or_default());
            let hint = match self.context.run(&mut input, &mut output) {
                Ok(hint) => hint,
                Err(error) => return (filled, Err(error)),
            };
            let (taken, given) = (input.pos(), output.pos());
            self.used = self.used.saturating_add(taken);
            filled = filled.saturating_add(given);
            if hint == 0 {
                return (filled, self.check_end().map(|()| true));
            }
            if filled == out.len() {
                return (filled, Ok(false));
            }
            if is_starved && given == 0 {
                return (filled, Err(self.cut()));
            }
        }
    }

    /// A length that was announced and is not true would lead to other frames than a serial reader finds.
    fn check_end(&self) -> io::Result<()> {
        match self.frame.end {
            Some(end) if end != self.position() => Err(self.contradiction()),
            _ => Ok(()),
        }
    }

    fn cut(&self) -> io::Error {
        match self.frame.end {
            Some(end) if end < self.source.size() => self.contradiction(),
            _ => io::ErrorKind::UnexpectedEof.into(),
        }
    }

    fn contradiction(&self) -> io::Error {
        let why = format!("the frame at byte {} is not as long as it is said to be", self.frame.start);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}
