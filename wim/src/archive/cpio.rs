//! newc cpio, as the kernel takes it for an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst):
//! archives one after another, zeros between them, hard links by equal inode numbers.

use std::collections::HashMap;

use super::held::Held;
use super::input::Input;
use super::{Entry, Failure, Visitor, What, inside, owner_id, visit};
use crate::error::ArchiveError;
use crate::meta::{Meta, Special, Time, file_type};
use crate::name::{MAX_PATH, shown};

/// newc.
pub(super) const MAGIC: &[u8] = b"070701";
/// newc with a checksum, which is not checked: zstd's is.
pub(super) const MAGIC_CRC: &[u8] = b"070702";

const HEADER: u64 = 110;
const TRAILER: &[u8] = b"TRAILER!!!";

#[derive(Debug, Clone, Copy)]
struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    modified: u32,
    size: u32,
    device: (u32, u32),
    special: (u32, u32),
    name_len: u32,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        if !bytes.starts_with(MAGIC) && !bytes.starts_with(MAGIC_CRC) {
            return None;
        }
        let mut fields = bytes.get(6..)?.chunks_exact(8).map(|field| {
            let hex = std::str::from_utf8(field).ok().filter(|hex| !hex.starts_with('+'))?;
            u32::from_str_radix(hex, 16).ok()
        });
        let mut next = || fields.next().flatten();
        Some(Header {
            inode: next()?,
            mode: next()?,
            uid: next()?,
            gid: next()?,
            links: next()?,
            modified: next()?,
            size: next()?,
            device: (next()?, next()?),
            special: (next()?, next()?),
            name_len: next()?,
        })
    }
}

/// Bytes to the next multiple of 4.
fn padding(len: u64) -> u64 {
    len.wrapping_neg() & 3
}

pub(super) fn walk(input: &mut Input, visitor: &mut dyn Visitor) -> Result<(), Failure> {
    let mut first_byte = None;
    loop {
        archive(input, first_byte, visitor)?;
        first_byte = input.after_zeros()?;
        if first_byte.is_none() {
            return Ok(());
        }
    }
}

/// The first names of files that have several, by inode and device number.
#[derive(Default)]
struct Names {
    first: HashMap<(u32, (u32, u32)), Vec<u8>>,
    held: Held,
}

/// One archive, to its trailer. `first_byte` is taken from the stream already.
fn archive(input: &mut Input, mut first_byte: Option<u8>, visitor: &mut dyn Visitor) -> Result<(), Failure> {
    let mut names = Names::default();
    loop {
        let at = input.at();
        let mut bytes: Vec<u8> = first_byte.take().into_iter().collect();
        let left = HEADER.saturating_sub(bytes.len() as u64);
        bytes.extend(input.exact(left, "the archive: its end mark is missing")?);
        let damaged = |why: &str| ArchiveError::Damaged { at, why: why.into() };
        let header = Header::parse(&bytes).ok_or_else(|| damaged("this is no header of a newc archive"))?;
        let name_len = u64::from(header.name_len);
        if name_len == 0 || name_len.saturating_sub(1) > MAX_PATH as u64 {
            return Err(damaged("a name is longer than Linux can open, or missing").into());
        }
        let mut name = input.exact(name_len, "a name")?;
        input.skip(padding(HEADER.saturating_add(name_len)), "a name")?;
        if name.pop() != Some(0) {
            return Err(damaged("a name does not end with a NUL").into());
        }
        if name == TRAILER {
            return Ok(());
        }
        entry(input, &header, &name, &mut names, visitor)?;
        input.skip(padding(header.size.into()), "the contents of a file")?;
    }
}

fn entry(
    input: &mut Input,
    header: &Header,
    name: &[u8],
    names: &mut Names,
    visitor: &mut dyn Visitor,
) -> Result<(), Failure> {
    let path = inside(name)?;
    let meta = Meta {
        uid: owner_id(header.uid.into(), name)?,
        gid: owner_id(header.gid.into(), name)?,
        mode: header.mode & 0o7777,
        accessed: None,
        modified: Time { seconds: header.modified.into(), nanos: 0 },
        xattrs: Vec::new(),
    };
    let mut size = u64::from(header.size);
    let (major, minor) = header.special;
    let plain = match header.mode & file_type::MASK {
        file_type::REGULAR => What::File,
        file_type::DIRECTORY => What::Directory,
        file_type::SYMLINK => {
            let why = "it is a link without a sound target; make the archive again";
            let refuse = || ArchiveError::Entry { path: shown(name), why: why.to_owned() };
            if size == 0 || size > MAX_PATH as u64 {
                return Err(refuse().into());
            }
            let target = input.exact(size, "the target of a link")?;
            if target.contains(&0) {
                return Err(refuse().into());
            }
            size = 0;
            What::Symlink(target)
        }
        _ => match Special::from_mode(header.mode, rustix::fs::makedev(major, minor)) {
            Some(special) => What::Special(special),
            None => {
                let why = format!("its mode {:o} is of no kind of file; make the archive again", header.mode);
                return Err(ArchiveError::Entry { path: shown(name), why }.into());
            }
        },
    };
    // Names of one file have its inode number in common, and only the last need bring the contents. Regular files
    // alone are joined: contents must never come to a device that has the same number.
    let joined = header.links > 1 && matches!(plain, What::File);
    let key = (header.inode, header.device);
    let what = match names.first.get(&key).filter(|_| joined) {
        Some(first) => What::HardLink(first.clone()),
        None => {
            if joined {
                visitor.remembers(names.held.path(&path)?);
                names.first.insert(key, path.clone());
            }
            plain
        }
    };
    visit(input, &Entry { path, what, meta, size, map: None, left_out: None }, visitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hexadecimal_headers_are_read() {
        let mut bytes = b"070701".to_vec();
        bytes.extend(b"0000000a".repeat(13));
        assert_eq!(Header::parse(&bytes).unwrap().size, 10);
        bytes[6] = b'+';
        assert!(Header::parse(&bytes).is_none());
        assert!(Header::parse(b"070707").is_none());
        assert!(Header::parse(b"070701").is_none());
    }
}
