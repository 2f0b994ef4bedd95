//! The integrity table of a WIM: a SHA-1 for each chunk of the file, from behind the header to the end of the blob
//! table. It finds damage anywhere in there, also where nothing refers to; header, XML data and itself it does not
//! cover, and whoever makes the image makes the table. Layout, of wimlib's integrity.c: its own length u32, number of
//! chunks u32, bytes of a chunk u32, then the SHA-1s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sha1::{Digest, Sha1};

use crate::bytes::u32_at;
use crate::error::WimError;
use crate::header::{HEADER_LEN, Header};
use crate::resource::{read_into, read_whole};
use crate::source::ReadAt;

/// Hashes of 16 TiB in chunks of 10 MiB, which all tools write; it is read into memory whole.
const MAX_TABLE: u64 = 32 << 20;
const FIXED: usize = 12;
const HASH: usize = 20;
/// Chunks are read and hashed in pieces.
const PIECE: u64 = 256 << 10;

/// A table that agrees with its header.
#[derive(Debug)]
pub(super) struct Table {
    chunk: u64,
    hashes: Vec<[u8; HASH]>,
    /// Where the last chunk ends.
    end: u64,
}

/// A chunk that is not as it was when the table was made.
#[derive(Debug)]
pub(super) struct BadChunk {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) why: Option<WimError>,
}

impl Table {
    /// The table of the file with this header; `None` where it has none.
    pub(super) fn read(source: &dyn ReadAt, header: &Header) -> Result<Option<Table>, WimError> {
        let at = &header.integrity;
        if at.offset == 0 {
            return Ok(None);
        }
        let what = "the integrity table";
        let bytes = read_whole(source, at, header.layout(), what, MAX_TABLE)?;
        let damaged = |why: String| WimError::Damaged { what, offset: at.offset, why };
        let fields = (u32_at(&bytes, 0), u32_at(&bytes, 4), u32_at(&bytes, 8));
        let (Some(len), Some(count), Some(chunk)) = fields else { return Err(damaged("it is too short".into())) };
        let (hashes, _) = bytes.get(FIXED..).unwrap_or_default().as_chunks::<HASH>();
        if u64::from(len) != bytes.len() as u64 || u64::from(count) != hashes.len() as u64 {
            return Err(damaged("its lengths contradict each other".into()));
        }
        let end = header.blob_table.end();
        let covered = end.saturating_sub(HEADER_LEN as u64);
        if chunk == 0 || u64::from(count) != covered.div_ceil(chunk.into()) {
            return Err(damaged(format!("{count} chunks of {chunk} bytes are not the {covered} that it covers")));
        }
        Ok(Some(Table { chunk: chunk.into(), hashes: hashes.to_vec(), end }))
    }

    pub(super) fn chunks(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Bytes that it covers.
    pub(super) fn covered(&self) -> u64 {
        self.end.saturating_sub(HEADER_LEN as u64)
    }

    /// Hashes all chunks, by as many threads; gives those that differ, in order.
    pub(super) fn check(&self, source: &dyn ReadAt, workers: usize, advance: &(dyn Fn(u64) + Sync)) -> Vec<BadChunk> {
        let (next, bad) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let work = || {
            let mut buffer = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(expected) = usize::try_from(n).ok().and_then(|n| self.hashes.get(n)) else { return };
                let from = n.saturating_mul(self.chunk).saturating_add(HEADER_LEN as u64);
                let to = from.saturating_add(self.chunk).min(self.end);
                let why = match hash(source, from, to, &mut buffer, advance) {
                    Ok(hash) if hash == *expected => continue,
                    Ok(_) => None,
                    Err(error) => Some(error),
                };
                bad.lock().unwrap_or_else(PoisonError::into_inner).push(BadChunk { from, to, why });
            }
        };
        std::thread::scope(|scope| {
            for n in 1..workers {
                // A thread that cannot be had is one worker less.
                let _ = std::thread::Builder::new().name(format!("integrity {n}")).spawn_scoped(scope, work);
            }
            work();
        });
        let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
        bad.sort_by_key(|chunk| chunk.from);
        bad
    }
}

fn hash(
    source: &dyn ReadAt,
    from: u64,
    to: u64,
    buffer: &mut Vec<u8>,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<[u8; HASH], WimError> {
    let (mut hasher, mut at) = (Sha1::new(), from);
    while at < to {
        let len = to.saturating_sub(at).min(PIECE);
        read_into(source, at, len, buffer)?;
        hasher.update(&*buffer);
        advance(len);
        at = at.saturating_add(len);
    }
    Ok(hasher.finalize().into())
}
