//! The first 208 bytes of a WIM, and the resource headers in them: what the rest is found by.

use crate::bytes::{array, u16_at, u32_at, u64_at};
use crate::codec::Compression;
use crate::error::WimError;
use crate::pipable;
use crate::resource::{Layout, read};
use crate::source::ReadAt;

/// The first bytes of a WIM.
pub(crate) const MAGIC: &[u8; 8] = b"MSWIM\0\0\0";
/// The first bytes of wimlib's pipable variant.
pub(crate) const PIPABLE_MAGIC: &[u8; 8] = b"WLPWM\0\0\0";
/// Length of the header.
pub(crate) const HEADER_LEN: usize = 208;
/// More images than any tool writes; each costs memory.
const MAX_IMAGES: u32 = 10_000;
const DEFAULT_CHUNK: u32 = 32 << 10;

const VERSION_USUAL: u32 = 0x10d00;
const VERSION_SOLID: u32 = 0xe00;

const FLAG_COMPRESSED: u32 = 0x2;
const FLAG_WRITE_IN_PROGRESS: u32 = 0x40;
const FLAG_XPRESS: u32 = 0x2_0000;
const FLAG_LZX: u32 = 0x4_0000;
const FLAG_LZMS: u32 = 0x8_0000;
/// XPRESS as later versions of Microsoft's software mark it (wimlib's header.h: `XPRESS_2`).
const FLAG_XPRESS_2: u32 = 0x20_0000;

/// Where a resource lies and how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceHeader {
    /// Bytes in the WIM.
    pub stored: u64,
    /// [`ResourceHeader::METADATA`] and the others.
    pub flags: u8,
    /// Offset in the WIM; in a solid resource, offset in its unpacked contents.
    pub offset: u64,
    /// Bytes once unpacked.
    pub size: u64,
}

impl ResourceHeader {
    /// Bytes of a resource header.
    pub(crate) const LEN: usize = 24;
    /// Describes a directory tree.
    pub const METADATA: u8 = 0x2;
    /// Is compressed in chunks.
    pub const COMPRESSED: u8 = 0x4;
    /// Is a solid resource, or lies in one.
    pub const SOLID: u8 = 0x10;

    pub(crate) fn parse(bytes: &[u8], at: usize) -> Option<ResourceHeader> {
        let word = u64_at(bytes, at)?;
        let [.., flags] = word.to_le_bytes();
        Some(ResourceHeader {
            stored: word & 0x00ff_ffff_ffff_ffff,
            flags,
            offset: u64_at(bytes, at.checked_add(8)?)?,
            size: u64_at(bytes, at.checked_add(16)?)?,
        })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where it ends in the WIM.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.stored)
    }

    /// That all of it lies in the `available` bytes of the source.
    pub(crate) fn check_inside(&self, what: &'static str, available: u64) -> Result<(), WimError> {
        match self.offset.checked_add(self.stored) {
            Some(end) if end <= available => Ok(()),
            end => Err(WimError::Truncated { what, end: end.unwrap_or(u64::MAX), available }),
        }
    }
}

/// The header of a WIM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 0x10d00, or 0xe00 where there may be solid resources.
    pub version: u32,
    /// Format of compressed resources outside solid ones.
    pub compression: Compression,
    /// Unpacked size of a chunk of those.
    pub chunk_size: u32,
    /// Chunks carry their lengths, so that it can be unpacked while it arrives: wimlib's own variant.
    pub pipable: bool,
    /// Tells this file, or this set of files, from all others.
    pub guid: [u8; 16],
    /// Number of this file in a split WIM, from 1.
    pub part: u16,
    /// Number of files that the WIM is split in; 1 is not split.
    pub parts: u16,
    /// Number of images.
    pub images: u32,
    /// Index of the image marked for booting; 0 is none.
    pub boot_index: u32,
    pub(crate) blob_table: ResourceHeader,
    pub(crate) xml: ResourceHeader,
    pub(crate) integrity: ResourceHeader,
    /// Where this header ends: at the start of a file, or at the end of a pipable one.
    pub(crate) end: u64,
}

impl Header {
    /// Reads the header out of the first bytes of a source that has `available` bytes.
    pub(crate) fn parse(bytes: &[u8], available: u64) -> Result<Header, WimError> {
        let short = || WimError::Truncated { what: "the header", end: HEADER_LEN as u64, available };
        let unsupported = |what: String, remedy| Err(WimError::Unsupported { what, remedy });
        let damaged = |offset: u64, why: String| Err(WimError::Damaged { what: "the header", offset, why });

        let magic: [u8; 8] = array(bytes, 0).ok_or_else(short)?;
        let u32_of = |at| u32_at(bytes, at).ok_or_else(short);
        let resource = |at| ResourceHeader::parse(bytes, at).ok_or_else(short);
        if bytes.len() < HEADER_LEN {
            return Err(short());
        }
        let pipable = &magic == PIPABLE_MAGIC;
        if &magic != MAGIC && !pipable {
            return damaged(0, "it does not begin with MSWIM".into());
        }
        let len = u32_of(8)?;
        if len != 208 {
            return damaged(8, format!("it claims to be {len} bytes long, a WIM's has 208"));
        }
        let version = u32_of(0xc)?;
        if version != VERSION_USUAL && version != VERSION_SOLID {
            return unsupported(
                format!("WIM version {version:#x}"),
                "export it again with wimlib-imagex or DISM, which write 0x10d00 or 0xe00",
            );
        }
        let flags = u32_of(0x10)?;
        if flags & FLAG_WRITE_IN_PROGRESS != 0 {
            return damaged(0x10, "it is marked as still being written: whatever wrote it did not finish".into());
        }
        let compression = compression(flags)?;
        let chunk_size = match u32_of(0x14)? {
            0 => DEFAULT_CHUNK,
            size => size,
        };
        if !compression.accepts_chunk(chunk_size) && compression != Compression::None {
            return unsupported(
                format!("chunks of {chunk_size} bytes with {compression}"),
                "export it again with the usual chunk size",
            );
        }
        let (part, parts) = (u16_at(bytes, 0x28).ok_or_else(short)?, u16_at(bytes, 0x2a).ok_or_else(short)?);
        if part == 0 || part > parts {
            return damaged(0x28, format!("it claims to be part {part} of {parts}"));
        }
        let images = u32_of(0x2c)?;
        if images > MAX_IMAGES {
            return Err(WimError::TooLarge {
                what: "the number of images",
                size: images.into(),
                limit: MAX_IMAGES.into(),
            });
        }
        let boot_index = u32_of(0x78)?;
        if boot_index > images {
            return damaged(0x78, format!("image {boot_index} is marked for booting, and there are {images}"));
        }
        let (blob_table, xml, integrity) = (resource(0x30)?, resource(0x48)?, resource(0x7c)?);
        blob_table.check_inside("the blob table", available)?;
        xml.check_inside("the XML data", available)?;
        integrity.check_inside("the integrity table", available)?;
        let guid = array(bytes, 0x18).ok_or_else(short)?;
        Ok(Header {
            version,
            compression,
            chunk_size,
            pipable,
            guid,
            part,
            parts,
            images,
            boot_index,
            blob_table,
            xml,
            integrity,
            end: HEADER_LEN as u64,
        })
    }

    /// The header of the WIM at the start of `source`; of a pipable one, that at its end.
    pub(crate) fn find(source: &dyn ReadAt) -> Result<Header, WimError> {
        let len = source.size().min(HEADER_LEN as u64);
        let header = Header::parse(&read(source, 0, len)?, source.size())?;
        if header.pipable { pipable::last_header(source, &header) } else { Ok(header) }
    }

    /// Bytes of the file that this header is of, whose last resource ends at `last`.
    pub(crate) fn length(&self, last: u64) -> u64 {
        [self.blob_table.end(), self.xml.end(), self.integrity.end(), last].into_iter().fold(self.end, u64::max)
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout { compression: self.compression, chunk_size: self.chunk_size, pipable: self.pipable }
    }
}

fn compression(flags: u32) -> Result<Compression, WimError> {
    if flags & FLAG_COMPRESSED == 0 {
        return Ok(Compression::None);
    }
    let known = [
        (FLAG_XPRESS, Compression::Xpress),
        (FLAG_XPRESS_2, Compression::Xpress),
        (FLAG_LZX, Compression::Lzx),
        (FLAG_LZMS, Compression::Lzms),
    ];
    let mut named = known.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, format)| format);
    match (named.next(), named.next()) {
        (Some(format), None) => Ok(format),
        _ => Err(WimError::Unsupported {
            what: format!("the compression that flags {flags:#x} stand for"),
            remedy: "export it again as LZX, XPRESS or LZMS",
        }),
    }
}
