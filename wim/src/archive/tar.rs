//! tar: ustar, GNU long names, PAX records with extended attributes, and sparse files. The `tar` crate decodes the fields of a header;
//! the walk is ours, so that what an archive can make us keep in memory is bounded.

use std::collections::BTreeMap;

use ::tar::{EntryType, Header};

use super::held;
use super::input::Input;
use super::sparse::{self, Records};
use super::{Entry, Failure, Visitor, What, inside, owner_id, visit};
use crate::error::ArchiveError;
use crate::meta::{Meta, Special, Time, Xattr};
use crate::name::{MAX_PATH, shown};

const BLOCK: u64 = 512;
/// Extended attributes of one file may take 64 KiB each; long names and times are short.
const MAX_EXTENSION: u64 = 1 << 20;
/// What the extension headers of one entry say, all together: as much as the largest of them, and names.
const MAX_FOR_ENTRY: u64 = MAX_EXTENSION * 2;
/// What global headers say, which is copied for every entry: a commit's number, an owner, a time.
const MAX_GLOBAL: u64 = 64 << 10;

/// What extension headers say about the next entry.
#[derive(Debug, Default, Clone)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Time>,
    accessed: Option<Time>,
    xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    sparse: Option<Records>,
    left_out: Option<&'static str>,
}

/// What GNU tar says beyond POSIX (`--acls`, `--selinux`), and bsdtar (flags of files), and no root gets here.
const LEFT_OUT: [(&[u8], &str); 3] = [
    (b"SCHILY.acl.", "access control lists"),
    (b"RHT.security.selinux", "security labels"),
    (b"SCHILY.fflags", "flags of files"),
];

pub(super) fn walk(input: &mut Input, visitor: &mut dyn Visitor) -> Result<(), Failure> {
    let mut global = Extensions::default();
    let mut next = global.clone();
    loop {
        let at = input.at();
        let damaged = |why: &str| ArchiveError::Damaged { at, why: why.into() };
        let block = input.exact(BLOCK, "the archive: its end mark is missing")?;
        if block.iter().all(|b| *b == 0) {
            // The checksum of the last frame comes last, and says whether all that was unpacked is sound.
            if !input.ends_in_zeros()? {
                // Two archives one behind the other, say: half of a root would look like a whole one.
                let why = "something follows the end mark; what is to be one root has to be one archive";
                return Err(ArchiveError::Damaged { at: input.at(), why: why.into() }.into());
            }
            return Ok(());
        }
        let header = Header::from_byte_slice(&block);
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(damaged("the checksum of a header is wrong").into());
        }
        let own_size = header.entry_size().map_err(|_| damaged("a size is no number"))?;
        let kind = header.entry_type();
        let is_extension = matches!(
            kind,
            EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink
        );
        if is_extension {
            if own_size > MAX_EXTENSION {
                return Err(damaged("an extension header is larger than 1 MiB").into());
            }
            let data = input.exact(own_size, "an extension header")?;
            input.skip(padding(own_size), "an extension header")?;
            match kind {
                EntryType::GNULongName => next.path = Some(to_nul(data)),
                EntryType::GNULongLink => next.link = Some(to_nul(data)),
                EntryType::XHeader => next.take(&data).map_err(|why| damaged(&why))?,
                _ => {
                    global.take(&data).map_err(|why| damaged(&why))?;
                    if global.memory() > MAX_GLOBAL {
                        return Err(damaged("the global extension headers say more than 64 KiB").into());
                    }
                    next = global.clone();
                }
            }
            if next.memory() > MAX_FOR_ENTRY {
                return Err(damaged("the extension headers of one entry say more than 2 MiB").into());
            }
            continue;
        }
        let extensions = std::mem::replace(&mut next, global.clone());
        let stored = extensions.size.unwrap_or(own_size);
        let mut extensions = extensions;
        let (map, size) = match (kind, extensions.sparse.take()) {
            (EntryType::GNUSparse, None) => (Some(sparse::of_header(header, input, stored)?), stored),
            (EntryType::Regular | EntryType::Continuous, Some(records)) => {
                extensions.path = records.name.clone().or(extensions.path);
                let (map, left) = records.map(input, stored)?;
                (Some(map), left)
            }
            (_, None) => (None, stored),
            (_, Some(_)) => return Err(damaged("what is no regular file is said to be sparse").into()),
        };
        let entry = entry(header, kind, extensions, size, at)?;
        if map.is_some() && !matches!(entry.what, What::File) {
            return Err(damaged("what is no regular file is said to be sparse").into());
        }
        // What has no contents may still be followed by some.
        let entry = Entry { size, map, ..entry };
        visit(input, &entry, visitor)?;
        // A map in front of the contents fills its blocks.
        input.skip(padding(size), "the contents of a file")?;
    }
}

fn entry(header: &Header, kind: EntryType, e: Extensions, size: u64, at: u64) -> Result<Entry, ArchiveError> {
    let damaged = |why: &str| ArchiveError::Damaged { at, why: why.into() };
    let number = |field: std::io::Result<u64>| field.map_err(|_| damaged("a field of a header is no number"));
    let raw = e.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let refuse = |why: String| ArchiveError::Entry { path: shown(&raw), why };
    let link = || {
        let link = e.link.clone().or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let sound = link.filter(|l| !l.is_empty() && l.len() <= MAX_PATH && !l.contains(&0));
        sound.ok_or_else(|| refuse("it is a link without a sound target; make the archive again".into()))
    };
    let device = || {
        let field = |f: std::io::Result<Option<u32>>| f.ok().flatten().ok_or_else(|| damaged("a device has no number"));
        Ok::<_, ArchiveError>(rustix::fs::makedev(field(header.device_major())?, field(header.device_minor())?))
    };
    let what = match kind {
        // Before there was a type for it, a directory was a file whose name ends in a slash.
        EntryType::Regular if raw.ends_with(b"/") => What::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => What::File,
        EntryType::Directory => What::Directory,
        EntryType::Symlink => What::Symlink(link()?),
        EntryType::Link => What::HardLink(inside(&link()?)?),
        EntryType::Fifo => What::Special(Special::Fifo),
        EntryType::Char => What::Special(Special::Char(device()?)),
        EntryType::Block => What::Special(Special::Block(device()?)),
        other => {
            let letter = char::from(other.as_byte());
            return Err(refuse(format!("its type {letter:?} is not known; make the archive with --format=posix")));
        }
    };
    if size > 0 && matches!(what, What::HardLink(_)) {
        return Err(refuse("it is a hard link with contents; make the archive with GNU tar".into()));
    }
    let modified = match e.modified {
        Some(time) => time,
        None => Time { seconds: i64::try_from(number(header.mtime())?).unwrap_or(i64::MAX), nanos: 0 },
    };
    let meta = Meta {
        uid: owner_id(e.uid.map_or_else(|| number(header.uid()), Ok)?, &raw)?,
        gid: owner_id(e.gid.map_or_else(|| number(header.gid()), Ok)?, &raw)?,
        mode: header.mode().map_err(|_| damaged("a mode is no number"))? & 0o7777,
        accessed: e.accessed,
        modified,
        xattrs: e.xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect(),
    };
    Ok(Entry { path: inside(&raw)?, what, meta, size, map: None, left_out: e.left_out })
}

impl Extensions {
    /// Memory that it takes, about.
    fn memory(&self) -> u64 {
        let names = [&self.path, &self.link].into_iter().flatten().map(|name| name.len() as u64);
        let xattrs = self.xattrs.iter().map(|(name, value)| held::xattr(name, value));
        names.chain(xattrs).chain(self.sparse.as_ref().map(Records::memory)).fold(0, u64::saturating_add)
    }

    /// Takes the records of a PAX header: `length key=value newline`, POSIX.1-2017, pax, "pax Extended Header". A value
    /// may hold any byte, newlines too.
    fn take(&mut self, mut data: &[u8]) -> Result<(), String> {
        let bad = || "a PAX record is damaged".to_owned();
        while !data.is_empty() && data.first() != Some(&0) {
            let space = data.iter().position(|b| *b == b' ').ok_or_else(bad)?;
            let len = decimal(data.get(..space).unwrap_or_default()).ok_or_else(bad)?;
            let len = usize::try_from(len).map_err(|_| bad())?;
            let record = data.get(space.saturating_add(1)..len).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            let key = record.get(..equals).unwrap_or_default();
            let value = record.get(equals.saturating_add(1)..).unwrap_or_default();
            self.record(key, value)?;
            data = data.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let named = || format!("the PAX record {} is damaged", shown(key));
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or_else(named)?),
            b"uid" => self.uid = Some(decimal(value).ok_or_else(named)?),
            b"gid" => self.gid = Some(decimal(value).ok_or_else(named)?),
            b"mtime" => self.modified = Some(time(value).ok_or_else(named)?),
            b"atime" => self.accessed = Some(time(value).ok_or_else(named)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().take(key, value).ok_or_else(named)?;
                } else if let Some((_, what)) = LEFT_OUT.iter().find(|(begin, _)| key.starts_with(begin)) {
                    self.left_out = Some(what);
                } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = unescaped(name);
                    if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > 65536 {
                        return Err(named());
                    }
                    self.xattrs.insert(name.into_boxed_slice(), value.into());
                }
            }
        }
        Ok(())
    }
}

/// The name of an extended attribute: GNU tar writes `%` and `=` in one as `%25` and `%3D`.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [byte, behind @ ..] = rest {
        let (byte, behind) = match rest {
            [b'%', b'2', b'5', behind @ ..] => (b'%', behind),
            [b'%', b'3', b'D', behind @ ..] => (b'=', behind),
            _ => (*byte, behind),
        };
        plain.push(byte);
        rest = behind;
    }
    plain
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    text.parse().ok()
}

/// Seconds with a fraction, negative before 1970.
fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (positive, text) = text.strip_prefix('-').map_or((true, text), |t| (false, t));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    let nine: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos = u32::try_from(decimal(nine.as_bytes())?).ok()?;
    Some(match (positive, nanos) {
        (true, nanos) => Time { seconds, nanos },
        (false, 0) => Time { seconds: seconds.checked_neg()?, nanos },
        (false, _) => {
            Time { seconds: seconds.checked_neg()?.checked_sub(1)?, nanos: 1_000_000_000_u32.checked_sub(nanos)? }
        }
    })
}

/// The sum of all bytes of a header, its own field taken as spaces.
fn checksum(block: &[u8]) -> u32 {
    let field = 148..156;
    block.iter().enumerate().fold(0, |sum, (at, byte)| {
        sum.saturating_add(if field.contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
    })
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() & (BLOCK - 1)
}

fn to_nul(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_values_may_hold_newlines_and_nuls() {
        let mut extensions = Extensions::default();
        extensions.take(b"11 path=a\nb\n30 SCHILY.xattr.user.x=\n\0=\n12 mtime=1.5\n").unwrap_err();
        extensions = Extensions::default();
        extensions.take(b"12 path=a\nb\n27 SCHILY.xattr.user.x=\n\0=\n13 mtime=1.5\n").unwrap();
        assert_eq!(extensions.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(&*extensions.xattrs[&b"user.x"[..]], b"\n\0=");
        assert_eq!(extensions.modified, Some(Time { seconds: 1, nanos: 500_000_000 }));
    }

    #[test]
    fn times_before_1970_round_down() {
        assert_eq!(time(b"-1.25"), Some(Time { seconds: -2, nanos: 750_000_000 }));
        assert_eq!(time(b"-3"), Some(Time { seconds: -3, nanos: 0 }));
        assert_eq!(time(b"1x"), None);
        assert_eq!(time(b""), None);
    }
}
