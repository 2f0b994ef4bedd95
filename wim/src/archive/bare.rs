//! An archive in memory, outside any zstd frame, read by one thread: what fuzzers call, since the threads and frames
//! around a parser take many times as long as the parser does. For tests alone.

use super::{Failure, format_of, input, measure, parse, place};
use crate::error::ArchiveError;
use crate::root::{Format, Need, Report};
use crate::target::Target;

/// Bytes that the parser gets at once: a prime, so that headers and names are cut at any place.
const PIECE: usize = 1021;

pub(crate) struct Bare<'a> {
    bytes: &'a [u8],
    format: Format,
}

impl<'a> Bare<'a> {
    /// `None` where it is no archive.
    pub(crate) fn open(bytes: &'a [u8]) -> Option<Bare<'a>> {
        format_of(bytes).map(|format| Bare { bytes, format })
    }

    fn walk(&self, visitor: &mut dyn super::Visitor) -> Result<(), Failure> {
        input::with_pieces(self.bytes.chunks(PIECE), |input| parse(self.format, input, visitor))
    }

    /// As [`super::Archive::need`].
    pub(crate) fn need(&self) -> Result<Need, ArchiveError> {
        let mut measure = measure::Measure::new();
        match self.walk(&mut measure) {
            Ok(()) => Ok(measure.need()),
            Err(Failure::Archive(error)) => Err(error),
            Err(Failure::Target(error)) => Err(ArchiveError::Damaged { at: 0, why: error.to_string() }),
        }
    }

    /// As [`super::Archive::unpack`].
    pub(crate) fn unpack(&self, target: &Target) -> Result<Report, Failure> {
        let mut place = place::Place::new(target, None);
        self.walk(&mut place)?;
        let (entries, bytes, notes) = place.finish()?;
        Ok(Report { entries, bytes, workers: 1, notes })
    }
}
