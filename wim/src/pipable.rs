//! Pipable WIMs, wimlib's own variant: all that is needed to unpack one lies in front of where it is needed. In order:
//!
//! ```text
//!   header │ XML data │ metadata of each image │ contents │ blob table │ XML data │ (integrity table) │ header
//! ```
//!
//! All but headers and integrity table have 40 bytes before them that say hash, size and whether they are compressed;
//! each chunk has its length before it, and a chunk table that repeats these comes behind the last chunk (wimlib's
//! write.c, `write_pipable_wim`). The header at the start knows no places; that at the end does, and from there a file
//! is read as any other WIM.

use std::io::{self, Read};

use crate::blob::Hash;
use crate::bytes::{array, u32_at, u64_at};
use crate::codec::{Codec, Compression};
use crate::error::WimError;
use crate::header::{HEADER_LEN, Header, PIPABLE_MAGIC, ResourceHeader};
use crate::resource::{Chunked, Layout, read, resize};
use crate::source::ReadAt;

/// What 40 bytes before a resource begin with (wimlib's resource.h, `PWM_BLOB_MAGIC`).
const BLOB_MAGIC: [u8; 8] = 0x2b9b_9ba2_443d_b9d8_u64.to_le_bytes();
/// Enough of what comes next to tell what it is.
const SIGNATURE: usize = 12;

/// Bytes that are taken one after another.
pub(crate) trait Forward {
    /// Bytes taken so far.
    fn at(&self) -> u64;

    /// Fills `buffer`, which is (a part of) `what`.
    fn exact(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), WimError>;

    /// Leaves `len` bytes out.
    fn skip(&mut self, len: u64, what: &'static str) -> Result<(), WimError>;
}

/// What stands before a resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlobHeader {
    pub(crate) size: u64,
    pub(crate) hash: Hash,
    flags: u8,
}

impl BlobHeader {
    /// An image's metadata, XML data, or the blob table.
    pub(crate) fn is_metadata(&self) -> bool {
        self.flags & ResourceHeader::METADATA != 0
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.flags & ResourceHeader::COMPRESSED != 0
    }
}

/// What comes next.
pub(crate) enum Next {
    /// A resource; its bytes follow.
    Blob(BlobHeader),
    /// A header, whole.
    Header([u8; HEADER_LEN]),
}

/// Reads what comes next, over an integrity table, which this does not check.
pub(crate) fn next(input: &mut impl Forward, layout: Layout) -> Result<Next, WimError> {
    const WHAT: &str = "the next part of it";
    let begin = input.at();
    let damaged = |why: &str| WimError::Damaged { what: "the pipable WIM", offset: begin, why: why.into() };
    let mut signature = [0; SIGNATURE];
    input.exact(&mut signature, WHAT)?;
    if signature.starts_with(&BLOB_MAGIC) {
        let mut bytes = [0; 40];
        let (start, rest) = bytes.split_at_mut(SIGNATURE);
        start.copy_from_slice(&signature);
        input.exact(rest, WHAT)?;
        let (size, hash, flags) = (u64_at(&bytes, 8), array(&bytes, 16), array(&bytes, 36));
        let (Some(size), Some(hash), Some([flags])) = (size, hash, flags) else {
            return Err(damaged("a resource's header is short"));
        };
        let blob = BlobHeader { size, hash, flags };
        if size == 0 || flags & ResourceHeader::SOLID != 0 {
            return Err(damaged("a resource is empty or solid, which cannot be"));
        }
        if blob.is_compressed() && layout.compression == Compression::None {
            return Err(damaged("a resource is compressed in an image without compression"));
        }
        return Ok(Next::Blob(blob));
    }
    if signature.starts_with(PIPABLE_MAGIC) {
        let mut bytes = [0; HEADER_LEN];
        let (start, rest) = bytes.split_at_mut(SIGNATURE);
        start.copy_from_slice(&signature);
        input.exact(rest, "a header")?;
        return Ok(Next::Header(bytes));
    }
    // An integrity table: its length, the number of its hashes, the bytes that each is over (wimlib's integrity.c).
    let (len, hashes) = (u32_at(&signature, 0).unwrap_or(0), u32_at(&signature, 4).unwrap_or(0));
    let hashes_len = u64::from(hashes).checked_mul(20).filter(|rest| rest.checked_add(12) == Some(len.into()));
    match hashes_len {
        Some(rest) => {
            input.skip(rest, "the integrity table")?;
            let mut magic = [0; HEADER_LEN];
            input.exact(&mut magic, "the header at the end")?;
            if magic.starts_with(PIPABLE_MAGIC) { Ok(Next::Header(magic)) } else { Err(damaged(NEITHER)) }
        }
        None => Err(damaged(NEITHER)),
    }
}

const NEITHER: &str = "here should be contents or a header, and there is neither";

/// The unpacked sizes of the chunks of a resource.
pub(crate) fn chunk_sizes(size: u64, chunk_size: u32) -> impl Iterator<Item = u64> {
    let chunk_size = u64::from(chunk_size.max(1));
    (0..size.div_ceil(chunk_size)).map(move |n| size.saturating_sub(n.saturating_mul(chunk_size)).min(chunk_size))
}

/// The length before a chunk that unpacks to `unpacked` bytes.
pub(crate) fn chunk_len(input: &mut impl Forward, unpacked: u64) -> Result<u32, WimError> {
    let mut bytes = [0; 4];
    let offset = input.at();
    input.exact(&mut bytes, "a chunk")?;
    let len = u32::from_le_bytes(bytes);
    if len == 0 || u64::from(len) > unpacked {
        let why = format!("a chunk of {unpacked} bytes is stored as {len}");
        return Err(WimError::Damaged { what: "the pipable WIM", offset, why });
    }
    Ok(len)
}

/// Leaves the chunk table behind the chunks of `blob` out.
pub(crate) fn skip_table(input: &mut impl Forward, blob: &BlobHeader, layout: Layout) -> Result<(), WimError> {
    let entry = if blob.is_compressed() { Chunked { stored: 0, size: blob.size, layout }.table_entries() } else { 0 };
    input.skip(entry, "a chunk table")
}

/// Leaves a resource out.
pub(crate) fn skip(input: &mut impl Forward, blob: &BlobHeader, layout: Layout) -> Result<(), WimError> {
    const WHAT: &str = "the contents of a file";
    if !blob.is_compressed() {
        return input.skip(blob.size, WHAT);
    }
    for unpacked in chunk_sizes(blob.size, layout.chunk_size) {
        let len = chunk_len(input, unpacked)?;
        input.skip(len.into(), WHAT)?;
    }
    skip_table(input, blob, layout)
}

/// Takes a whole resource into memory, which grows with what arrives and not beyond `limit`, and checks its hash.
pub(crate) fn read_whole(
    input: &mut impl Forward,
    blob: &BlobHeader,
    layout: Layout,
    what: &'static str,
    limit: u64,
) -> Result<Vec<u8>, WimError> {
    /// Bytes that are read at once where there are no chunks.
    const PIECE: u32 = 64 << 10;
    use sha1::{Digest, Sha1};
    if blob.size > limit {
        return Err(WimError::TooLarge { what, size: blob.size, limit });
    }
    let (mut codec, mut chunk, mut out, mut whole) = (Codec::default(), Vec::new(), Vec::new(), Vec::new());
    let step = if blob.is_compressed() { layout.chunk_size } else { PIECE };
    for unpacked in chunk_sizes(blob.size, step) {
        resize(&mut out, unpacked)?;
        if blob.is_compressed() {
            let offset = input.at();
            resize(&mut chunk, chunk_len(input, unpacked)?.into())?;
            input.exact(&mut chunk, what)?;
            let bad = |_| WimError::Damaged { what, offset, why: "it does not decompress".into() };
            codec.chunk(layout.compression, layout.chunk_size, &chunk, &mut out).map_err(bad)?;
        } else {
            input.exact(&mut out, what)?;
        }
        whole.try_reserve(out.len()).map_err(|_| WimError::NoMemory { bytes: blob.size })?;
        whole.extend_from_slice(&out);
    }
    skip_table(input, blob, layout)?;
    if Hash::from(Sha1::digest(&whole)) == blob.hash { Ok(whole) } else { Err(WimError::Hash { file: what.into() }) }
}

/// The header at the end of the pipable WIM that `source` begins with, whose first header is `first`. It is looked for
/// at the end of a file; and where that is not the end of the WIM, on a device, behind all that lies before it.
pub(crate) fn last_header(source: &dyn ReadAt, first: &Header) -> Result<Header, WimError> {
    let fits = |header: &Header| (header.guid, header.part) == (first.guid, first.part) && header.pipable;
    let at = source.size().saturating_sub(HEADER_LEN as u64);
    if at >= HEADER_LEN as u64
        && let bytes = read(source, at, HEADER_LEN as u64)?
        && bytes.starts_with(PIPABLE_MAGIC)
        && let Ok(header) = Header::parse(&bytes, at)
        && fits(&header)
    {
        return Ok(Header { end: source.size(), ..header });
    }
    let mut cursor = Cursor { source, at: HEADER_LEN as u64, held: Vec::new(), held_at: 0 };
    loop {
        match next(&mut cursor, first.layout())? {
            Next::Blob(blob) => skip(&mut cursor, &blob, first.layout())?,
            Next::Header(bytes) => {
                let end = cursor.at();
                let header = Header::parse(&bytes, end.saturating_sub(HEADER_LEN as u64))?;
                if !fits(&header) {
                    let why = "it ends with the header of another WIM".to_owned();
                    return Err(WimError::Damaged { what: "the pipable WIM", offset: end, why });
                }
                return Ok(Header { end, ..header });
            }
        }
    }
}

/// Goes through a source that can be read at any place, over what is not looked at.
struct Cursor<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    /// A page of the source: lengths of small chunks lie side by side.
    held: Vec<u8>,
    held_at: u64,
}

const PAGE: u64 = 4096;

impl Forward for Cursor<'_> {
    fn at(&self) -> u64 {
        self.at
    }

    fn exact(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), WimError> {
        let (at, len) = (self.at, buffer.len());
        self.skip(len as u64, what)?;
        let from = |held: &[u8], held_at: u64| -> Option<Vec<u8>> {
            let from = usize::try_from(at.checked_sub(held_at)?).ok()?;
            Some(held.get(from..from.checked_add(len)?)?.to_vec())
        };
        let mut found = from(&self.held, self.held_at);
        if found.is_none() {
            let page = PAGE.max(len as u64).min(self.source.size().saturating_sub(at));
            self.held = read(self.source, at, page)?;
            self.held_at = at;
            found = from(&self.held, at);
        }
        let found = found.unwrap_or_default();
        buffer.iter_mut().zip(found).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn skip(&mut self, len: u64, what: &'static str) -> Result<(), WimError> {
        let end = self.at.saturating_add(len);
        if end > self.source.size() {
            return Err(WimError::Truncated { what, end, available: self.source.size() });
        }
        self.at = end;
        Ok(())
    }
}

/// A pipe, a socket: what is gone is gone.
pub(crate) struct Stream {
    input: io::BufReader<Box<dyn Read + Send>>,
    at: u64,
}

impl Stream {
    /// Lengths and headers are small, and a system call each would cost more than the copy.
    const BUFFER: usize = 64 << 10;

    pub(crate) fn new(input: Box<dyn Read + Send>) -> Stream {
        Stream { input: io::BufReader::with_capacity(Self::BUFFER, input), at: 0 }
    }

    /// Adds `len` bytes to `buffer`.
    pub(crate) fn append(&mut self, buffer: &mut Vec<u8>, len: u64, what: &'static str) -> Result<(), WimError> {
        let (offset, end) = (self.at, self.at.saturating_add(len));
        let wanted = usize::try_from(len).map_err(|_| WimError::NoMemory { bytes: len })?;
        buffer.try_reserve(wanted).map_err(|_| WimError::NoMemory { bytes: len })?;
        let read = self.input.by_ref().take(len).read_to_end(buffer);
        let read = read.map_err(|source| WimError::Read { offset, len, source })?;
        self.at = self.at.saturating_add(read as u64);
        if read == wanted { Ok(()) } else { Err(WimError::Truncated { what, end, available: self.at }) }
    }

    /// As many bytes as there are, into the start of `buffer`; gives their number.
    pub(crate) fn some(&mut self, buffer: &mut [u8]) -> Result<usize, WimError> {
        let (mut filled, offset, len) = (0_usize, self.at, buffer.len() as u64);
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(n) => filled = filled.saturating_add(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(WimError::Read { offset, len, source }),
            }
        }
        self.at = self.at.saturating_add(filled as u64);
        Ok(filled)
    }
}

impl Forward for Stream {
    fn at(&self) -> u64 {
        self.at
    }

    fn exact(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), WimError> {
        let end = self.at.saturating_add(buffer.len() as u64);
        if self.some(buffer)? == buffer.len() {
            Ok(())
        } else {
            Err(WimError::Truncated { what, end, available: self.at })
        }
    }

    fn skip(&mut self, len: u64, what: &'static str) -> Result<(), WimError> {
        let end = self.at.saturating_add(len);
        let mut buffer = [0; 8 << 10];
        while self.at < end {
            let left = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..left).unwrap_or_default();
            if self.some(piece)? < left {
                return Err(WimError::Truncated { what, end, available: self.at });
            }
        }
        Ok(())
    }
}
