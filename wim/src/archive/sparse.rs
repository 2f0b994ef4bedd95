//! Sparse files in a tar archive, as GNU tar writes them: what is stored are stretches of the file, one behind the other,
//! and a map says where each belongs; all between them is holes. The map lies in the header and in blocks behind it (type
//! `S`, tar's oldest way), in PAX records (versions 0.0 and 0.1), or in front of the contents (1.0); GNU tar's manual,
//! "Sparse Formats".

use ::tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::input::Input;
use super::{Contents, Entry, Failure};
use crate::error::ArchiveError;

/// Stretches of one file: as much memory as extension headers may take.
const MOST: usize = 128 << 10;
const BLOCK: u64 = 512;
const PAGE: u64 = 4096;

/// Where the stored bytes of a file belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// Offset in the file and length: in order, none over another.
    stretches: Vec<(u64, u64)>,
    /// Length of the file.
    length: u64,
}

impl Map {
    /// Of offsets and lengths in turn; a file of `length`, of which `stored` bytes are in the archive.
    fn new(numbers: &[u64], length: u64, stored: u64) -> Result<Map, &'static str> {
        let (pairs, []) = numbers.as_chunks::<2>() else { return Err("the map of a sparse file is cut short") };
        let (mut end, mut sum) = (0_u64, 0_u64);
        for [at, len] in pairs {
            let next = at.checked_add(*len).filter(|next| *at >= end && *next <= length);
            end = next.ok_or("the map of a sparse file has stretches that overlap, or lie behind its end")?;
            sum = sum.saturating_add(*len);
        }
        if sum != stored || i64::try_from(length).is_err() {
            return Err("the map of a sparse file is of more or fewer bytes than the file has in the archive");
        }
        // GNU tar ends a map with an empty stretch, which says how long the file is.
        let stretches = pairs.iter().filter(|[_, len]| *len > 0).map(|[at, len]| (*at, *len)).collect();
        Ok(Map { stretches, length })
    }

    /// Bytes of tmpfs that the stretches fill, at most.
    pub(super) fn pages(&self) -> u64 {
        self.stretches.iter().fold(0, |sum: u64, (at, len)| {
            let begin = at.saturating_sub(at % PAGE);
            let end = at.saturating_add(*len).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
            sum.saturating_add(end.saturating_sub(begin))
        })
    }
}

/// What PAX records say of a sparse file.
#[derive(Debug, Default, Clone)]
pub(super) struct Records {
    version: [Option<u64>; 2],
    pub(super) name: Option<Vec<u8>>,
    length: Option<u64>,
    numbers: Vec<u64>,
}

impl Records {
    pub(super) fn memory(&self) -> u64 {
        let name = self.name.as_ref().map_or(0, Vec::len) as u64;
        (self.numbers.len() as u64).saturating_mul(8).saturating_add(name)
    }

    /// Takes the record `GNU.sparse.` with this `key`; `None` where it is damaged.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let number = || super::tar::decimal(value);
        match key {
            b"major" => self.version[0] = Some(number()?),
            b"minor" => self.version[1] = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.length = Some(number()?),
            // Pairs, one after another: in 0.0 the records of one header come in their order, whatever POSIX says.
            b"offset" if self.numbers.len().is_multiple_of(2) => self.numbers.push(number()?),
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => self.numbers.push(number()?),
            b"map" => {
                self.numbers = value.split(|byte| *byte == b',').map(super::tar::decimal).collect::<Option<_>>()?
            }
            b"numblocks" => {}
            _ => return None,
        }
        Some(())
    }

    /// The map, and how many of the `stored` bytes of the entry are left for contents when it was read.
    pub(super) fn map(self, input: &mut Input, stored: u64) -> Result<(Map, u64), ArchiveError> {
        let at = input.at();
        let damaged = |why: &str| ArchiveError::Damaged { at, why: why.into() };
        let length = self.length.ok_or_else(|| damaged("a sparse file does not say its length"))?;
        let (numbers, left) = match self.version {
            [None | Some(0), _] => (self.numbers, stored),
            [Some(1), Some(0)] => in_front(input, stored)?,
            _ => return Err(damaged("a sparse file is of a version that is not known")),
        };
        Ok((Map::new(&numbers, length, left).map_err(damaged)?, left))
    }
}

/// The map of version 1.0, in front of the contents: decimal numbers, each on a line of its own, the first of them the
/// number of stretches; zeros fill the last block.
fn in_front(input: &mut Input, stored: u64) -> Result<(Vec<u64>, u64), ArchiveError> {
    let at = input.at();
    let damaged = || ArchiveError::Damaged { at, why: "the map of a sparse file is damaged".into() };
    let (mut numbers, mut number, mut left) = (Vec::new(), None::<u64>, stored);
    let mut wanted = None::<usize>;
    loop {
        left = left.checked_sub(BLOCK).ok_or_else(damaged)?;
        for byte in input.exact(BLOCK, "the map of a sparse file")? {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte.saturating_sub(b'0'));
                    let more = number.unwrap_or(0).checked_mul(10).and_then(|number| number.checked_add(digit));
                    number = Some(more.ok_or_else(damaged)?);
                }
                b'\n' => {
                    let number = number.take().ok_or_else(damaged)?;
                    if wanted.is_some() {
                        numbers.push(number);
                    } else {
                        let count = usize::try_from(number).ok().filter(|count| *count <= MOST);
                        wanted = Some(count.ok_or_else(damaged)?.saturating_mul(2));
                    }
                    if wanted == Some(numbers.len()) {
                        return Ok((numbers, left));
                    }
                }
                _ => return Err(damaged()),
            }
        }
    }
}

/// The map of a file of type `S`, with the blocks that it goes on in.
pub(super) fn of_header(header: &Header, input: &mut Input, stored: u64) -> Result<Map, ArchiveError> {
    let at = input.at();
    let damaged = |why: &str| ArchiveError::Damaged { at, why: why.into() };
    let bad = || damaged("the map of a sparse file is damaged");
    let gnu = header.as_gnu().ok_or_else(|| damaged("a sparse file has no header of GNU tar"))?;
    let length = gnu.real_size().map_err(|_| bad())?;
    let mut numbers = Vec::new();
    let mut add = |stretches: &[GnuSparseHeader]| {
        for stretch in stretches.iter().take_while(|stretch| !stretch.is_empty()) {
            numbers.push(stretch.offset().map_err(|_| bad())?);
            numbers.push(stretch.length().map_err(|_| bad())?);
        }
        if numbers.len() > MOST.saturating_mul(2) {
            return Err(damaged("a sparse file has more than 131072 stretches"));
        }
        Ok(())
    };
    add(&gnu.sparse)?;
    let mut goes_on = gnu.is_extended();
    while goes_on {
        let mut more = GnuExtSparseHeader::new();
        more.as_mut_bytes().copy_from_slice(&input.exact(BLOCK, "the map of a sparse file")?);
        add(more.sparse())?;
        goes_on = more.is_extended();
    }
    Map::new(&numbers, length, stored).map_err(damaged)
}

impl Entry {
    /// Length of the file once it is unpacked.
    pub(super) fn length(&self) -> u64 {
        self.map.as_ref().map_or(self.size, |map| map.length)
    }
}

impl Contents<'_> {
    /// Passes the contents of `entry` on, in pieces, each with its place in the file.
    pub(super) fn spread(
        &mut self,
        entry: &Entry,
        mut to: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let whole = [(0, entry.size)];
        let mut stretches = entry.map.as_ref().map_or(&whole[..], |map| &map.stretches).iter();
        let (mut at, mut left) = (0_u64, 0_u64);
        self.pass(|mut piece| {
            while !piece.is_empty() {
                if left == 0 {
                    // The map is of as many bytes as there are.
                    let Some(next) = stretches.next() else { return Ok(()) };
                    (at, left) = *next;
                }
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                let (here, rest) = piece.split_at_checked(len).unwrap_or((piece, &[]));
                to(at, here)?;
                at = at.saturating_add(here.len() as u64);
                left = left.saturating_sub(here.len() as u64);
                piece = rest;
            }
            Ok(())
        })
    }

    /// As [`Contents::spread`], with zeros for the holes: the file as it is read.
    pub(super) fn whole(
        &mut self,
        entry: &Entry,
        mut to: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let zeros = [0; 4096];
        let mut end = 0_u64;
        let fill = |from: u64, until: u64, to: &mut dyn FnMut(&[u8]) -> Result<(), Failure>| {
            let mut left = until.saturating_sub(from);
            while left > 0 {
                let len = left.min(zeros.len() as u64);
                to(zeros.get(..usize::try_from(len).unwrap_or(0)).unwrap_or_default())?;
                left = left.saturating_sub(len);
            }
            Ok::<_, Failure>(())
        };
        self.spread(entry, |at, piece| {
            fill(end, at, &mut to)?;
            end = at.saturating_add(piece.len() as u64);
            to(piece)
        })?;
        fill(end, entry.length(), &mut to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_in_order_inside_the_file_and_of_what_is_stored() {
        let map = |numbers: &[u64], length, stored| Map::new(numbers, length, stored);
        let sound = map(&[0, 10, 5000, 10, 9000, 0], 9000, 20).unwrap();
        assert_eq!(sound.stretches, [(0, 10), (5000, 10)]);
        assert_eq!(sound.pages(), 2 * PAGE);
        assert_eq!(map(&[4000, 200], 9000, 200).unwrap().pages(), 2 * PAGE, "it crosses a page");
        assert_eq!(map(&[], 1 << 40, 0).unwrap().pages(), 0);
        for (numbers, length, stored) in [
            (&[0, 10, 5][..], 100, 10),
            (&[0, 10, 9, 10], 100, 20),
            (&[0, 10, 95, 10], 100, 20),
            (&[0, 10], 100, 11),
            (&[0, u64::MAX, 1, 1], u64::MAX, 5),
            (&[], u64::MAX, 0),
        ] {
            assert!(map(numbers, length, stored).is_err(), "{numbers:?} {length} {stored}");
        }
    }

    #[test]
    fn records_of_any_version_make_pairs() {
        let mut records = Records::default();
        for (key, value) in [("size", "100"), ("numblocks", "2"), ("offset", "0"), ("numbytes", "5"), ("offset", "50")]
        {
            records.take(key.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!((records.numbers.as_slice(), records.length), (&[0, 5, 50][..], Some(100)));
        assert!(records.take(b"offset", b"60").is_none(), "a length has to come");
        records.take(b"map", b"1,2,3,4").unwrap();
        assert_eq!(records.numbers, [1, 2, 3, 4]);
        assert!(records.take(b"map", b"1,x").is_none() && records.take(b"other", b"").is_none());
    }
}
