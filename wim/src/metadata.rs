//! An image's metadata resource to a [`Tree`]: security data, directory entries, their streams and tagged items.
//!
//! Hostile input. Every directory is read once, all entries together take no more bytes than there are, paths are
//! bounded, so time and memory are linear in the size of the resource whatever it claims.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::blob::Hash;
use crate::bytes::{align, array, u16_at, u32_at, u64_at};
use crate::error::WimError;
use crate::meta::{Meta, Special, Time, Xattr};
use crate::name::{self, MAX_PATH, from_utf16le};
use crate::reparse;
use crate::tree::{Inode, Kind, Name, Tree};
use crate::xattr;

/// A metadata resource of a million entries; it is read into memory whole.
pub(crate) const MAX_METADATA: u64 = 256 << 20;

const DENTRY_LEN: usize = 102;
const STREAM_LEN: usize = 38;

const ATTRIBUTE_READONLY: u32 = 0x1;
const ATTRIBUTE_DIRECTORY: u32 = 0x10;
const ATTRIBUTE_SPARSE: u32 = 0x200;
const ATTRIBUTE_REPARSE: u32 = 0x400;
const ATTRIBUTE_ENCRYPTED: u32 = 0x4000;

const TAG_XATTRS: u32 = 2;
const TAG_UNIX_DATA: u32 = 0x337d_d873;
const TAG_XATTRS_OLD: u32 = 0x337d_d874;

/// Owner, mode and device number, as Linux has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct UnixData {
    uid: u32,
    gid: u32,
    mode: u32,
    device: u32,
}

struct Dentry {
    attributes: u32,
    children: u64,
    accessed: Time,
    modified: Time,
    reparse_tag: u32,
    link_group: u64,
    name: Vec<u8>,
    unix: Option<UnixData>,
    xattrs: Vec<Xattr>,
    /// Contents of a file, or reparse data.
    hash: Hash,
    named_streams: u64,
    has_short_name: bool,
    /// Where the next entry of the directory begins.
    next: u64,
}

/// What makes two names of a link group the same file; a group id alone is not enough.
type LinkKey = (u64, Hash, u32, Option<UnixData>);

struct Parser<'a> {
    bytes: &'a [u8],
    tree: Tree,
    links: HashMap<LinkKey, u32>,
    /// Bytes that no entry has taken yet. Each entry has bytes of its own, so a sound resource never runs out; entries
    /// that overlap, each with the same attributes in it, do.
    untaken: u64,
}

/// Parses the whole resource.
pub(crate) fn parse(bytes: &[u8]) -> Result<Tree, WimError> {
    let root = after_security(bytes).ok_or_else(|| damaged(0, "its security data contradicts itself"))?;
    let mut parser = Parser { bytes, tree: Tree::default(), links: HashMap::new(), untaken: bytes.len() as u64 };
    let dentry = parser.dentry(root)?.ok_or_else(|| damaged(root, "there is no root directory"))?;
    if dentry.attributes & ATTRIBUTE_DIRECTORY == 0 || dentry.attributes & ATTRIBUTE_REPARSE != 0 {
        return Err(damaged(root, "the root is not a directory"));
    }
    if !dentry.name.is_empty() {
        return Err(damaged(root, "the root has a name"));
    }
    let mut waiting = VecDeque::from([(0, dentry.children, 0)]);
    parser.add(0, dentry)?;

    let mut lists = HashSet::new();
    while let Some((directory, children, path_len)) = waiting.pop_front() {
        if children == 0 {
            continue;
        }
        if !lists.insert(children) {
            return Err(parser.refuse(directory, b"", "its directory is listed twice: the tree has a cycle"));
        }
        let mut names = HashSet::new();
        let mut at = children;
        while let Some(dentry) = parser.dentry(at)? {
            at = dentry.next;
            if let Some(why) = name::refused(&dentry.name) {
                return Err(parser.refuse(directory, &dentry.name, why));
            }
            let len = dentry.name.len().saturating_add(path_len).saturating_add(1);
            if len > MAX_PATH {
                return Err(parser.refuse(directory, &dentry.name, "its path is longer than Linux can open"));
            }
            if !names.insert(dentry.name.clone()) {
                return Err(parser.refuse(directory, &dentry.name, "the directory has this name twice"));
            }
            let below = dentry.children;
            let (name, is_directory) = parser.add(directory, dentry)?;
            if is_directory {
                waiting.push_back((name, below, len));
            }
        }
    }
    Ok(parser.tree)
}

/// Security descriptors are Windows' own; they stand before the root: total length, count, sizes, descriptors.
fn after_security(bytes: &[u8]) -> Option<u64> {
    let total = u64::from(u32_at(bytes, 0)?).max(8);
    let sizes = u64::from(u32_at(bytes, 4)?).checked_mul(8)?;
    if sizes.checked_add(8)? <= total { align(total, 8) } else { None }
}

impl Parser<'_> {
    /// Puts an entry into the tree; gives its index, and whether it is a directory.
    fn add(&mut self, parent: u32, d: Dentry) -> Result<(u32, bool), WimError> {
        let index = |n: usize| u32::try_from(n).map_err(|_| damaged(0, "there are too many entries"));
        let name = index(self.tree.names.len())?;
        if d.attributes & ATTRIBUTE_ENCRYPTED != 0 && d.attributes & ATTRIBUTE_DIRECTORY == 0 {
            return Err(self.refuse(parent, &d.name, "it is encrypted by Windows (EFS)"));
        }
        if d.unix.is_some_and(|u| u.uid == u32::MAX || u.gid == u32::MAX) {
            return Err(self.refuse(parent, &d.name, "its owner is the number that stands for none"));
        }
        let kind = self.kind(&d);
        self.tree.leave_out("short (8.3) names, which Linux does not need", u64::from(d.has_short_name));
        let key = (d.link_group, d.hash, d.attributes, d.unix);
        let linked = d.link_group != 0 && matches!(kind, Kind::File | Kind::Special(_));
        let known = self.links.get(&key).copied().filter(|_| linked);
        let inode = match known {
            Some(inode) => inode,
            None => index(self.tree.inodes.len())?,
        };
        if known.is_none() {
            if linked {
                self.links.insert(key, inode);
            }
            self.tree.leave_out("named data streams, which Linux does not have", d.named_streams);
            self.tree.inodes.push(new_inode(kind, &d));
        }
        if let Some(inode) = usize::try_from(inode).ok().and_then(|i| self.tree.inodes.get_mut(i)) {
            inode.names.push(name);
        }
        self.tree.names.push(Name { parent, name: d.name.into(), inode });
        Ok((name, kind == Kind::Directory))
    }

    fn kind(&mut self, d: &Dentry) -> Kind {
        if d.attributes & ATTRIBUTE_REPARSE != 0 {
            if matches!(d.reparse_tag, reparse::SYMLINK | reparse::JUNCTION) {
                return Kind::Symlink(d.reparse_tag);
            }
            self.tree.leave_out("reparse points that are no links; their plain contents were taken", 1);
        }
        if d.attributes & ATTRIBUTE_DIRECTORY != 0 {
            return Kind::Directory;
        }
        match d.unix.and_then(|u| Special::from_mode(u.mode, u.device.into())) {
            Some(special) => Kind::Special(special),
            None => Kind::File,
        }
    }

    fn refuse(&self, directory: u32, name: &[u8], why: &'static str) -> WimError {
        let mut path = self.tree.path(directory);
        if !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        WimError::Entry { path: name::shown(&path), why }
    }

    /// The entry at `at`; `None` where a directory ends.
    fn dentry(&mut self, at: u64) -> Result<Option<Dentry>, WimError> {
        let outside = || damaged(at, "an entry lies outside");
        let begin = usize::try_from(at).map_err(|_| outside())?;
        let length = u64_at(self.bytes, begin).ok_or_else(outside)?;
        if length <= 8 {
            return Ok(None);
        }
        let end = align(length, 8).and_then(|len| len.checked_add(at)).ok_or_else(outside)?;
        let entry = usize::try_from(end).ok().and_then(|end| self.bytes.get(begin..end)).ok_or_else(outside)?;
        if entry.len() < DENTRY_LEN {
            return Err(damaged(at, "an entry is too short"));
        }
        let overlap = || damaged(at, "entries overlap");
        self.untaken = self.untaken.checked_sub(entry.len() as u64).ok_or_else(overlap)?;
        let dentry = parse_dentry(entry, self.bytes, at, end);
        let dentry = dentry.ok_or_else(|| damaged(at, "an entry contradicts itself"))??;
        // Its streams stand behind it.
        self.untaken = self.untaken.checked_sub(dentry.next.saturating_sub(end)).ok_or_else(overlap)?;
        Ok(Some(dentry))
    }
}

/// `entry` is the dentry alone, `bytes` the whole resource, where extra streams follow from `end` on. The outer `None`
/// is an entry that contradicts its own lengths.
fn parse_dentry(entry: &[u8], bytes: &[u8], at: u64, end: u64) -> Option<Result<Dentry, WimError>> {
    let attributes = u32_at(entry, 8)?;
    let (extra, short_len, name_len) = (u16_at(entry, 96)?, u16_at(entry, 98)?, u16_at(entry, 100)?);
    if short_len % 2 != 0 || name_len % 2 != 0 {
        return None;
    }
    let name = entry.get(DENTRY_LEN..DENTRY_LEN.checked_add(name_len.into())?)?;
    // Each name has a final NUL when it is not empty.
    let with_nul = |len: u16| if len == 0 { 0 } else { usize::from(len).saturating_add(2) };
    let items_at = DENTRY_LEN.checked_add(with_nul(name_len))?.checked_add(with_nul(short_len))?;
    let (unix, xattrs) = match tagged_items(entry, items_at) {
        Some(items) => items,
        None => return Some(Err(damaged(at, "a tagged item of an entry is damaged"))),
    };
    let streams = streams(bytes, end, array(entry, 64)?, extra, attributes & ATTRIBUTE_REPARSE != 0);
    let Some(streams) = streams else {
        return Some(Err(damaged(at, "the streams of an entry are damaged")));
    };
    let is_reparse = attributes & ATTRIBUTE_REPARSE != 0;
    let reparse_tag = if is_reparse { u32_at(entry, 88)? } else { 0 };
    let is_link = matches!(reparse_tag, reparse::SYMLINK | reparse::JUNCTION);
    Some(Ok(Dentry {
        attributes,
        children: u64_at(entry, 16)?,
        accessed: Time::from_ticks(u64_at(entry, 48)?),
        modified: Time::from_ticks(u64_at(entry, 56)?),
        reparse_tag,
        link_group: if is_reparse { 0 } else { u64_at(entry, 88)? },
        name: from_utf16le(name),
        unix,
        xattrs,
        hash: if is_link { streams.reparse } else { streams.data },
        named_streams: streams.named,
        has_short_name: short_len > 0,
        next: streams.next,
    }))
}

#[derive(Default)]
struct Streams {
    data: Hash,
    reparse: Hash,
    named: u64,
    next: u64,
}

/// A file has at most one unnamed stream of contents and one of reparse data, the latter first; the main hash counts
/// as the first unnamed one unless it is zero and others follow (wimlib's dentry.c, from what Microsoft's tools do).
fn streams(bytes: &[u8], mut at: u64, main: Hash, extra: u16, is_reparse: bool) -> Option<Streams> {
    let mut unnamed = Vec::new();
    if main != [0; 20] {
        unnamed.push(main);
    }
    let mut found = Streams::default();
    for _ in 0..extra {
        let begin = usize::try_from(at).ok()?;
        let length = align(u64_at(bytes, begin)?, 8)?;
        let end = at.checked_add(length)?;
        let entry = bytes.get(begin..usize::try_from(end).ok()?)?;
        let name_len = usize::from(u16_at(entry, 36)?);
        if STREAM_LEN.checked_add(name_len)? > entry.len() {
            return None;
        }
        if name_len == 0 {
            unnamed.push(array(entry, 16)?);
        } else {
            found.named = found.named.saturating_add(1);
        }
        at = end;
    }
    found.next = at;
    let mut unnamed = unnamed.into_iter();
    if is_reparse {
        found.reparse = unnamed.next().unwrap_or_default();
    }
    found.data = unnamed.next().unwrap_or_default();
    Some(found)
}

/// Tagged items fill an entry up behind its names, each at a multiple of 8.
fn tagged_items(entry: &[u8], from: usize) -> Option<(Option<UnixData>, Vec<Xattr>)> {
    let (mut unix, mut xattrs) = (None, Vec::new());
    if from > entry.len() {
        return None;
    }
    let mut at = from.checked_next_multiple_of(8)?;
    while let (Some(tag), Some(len)) = (u32_at(entry, at), u32_at(entry, at.checked_add(4)?)) {
        let begin = at.checked_add(8)?;
        let end = begin.checked_add(usize::try_from(len).ok()?)?;
        // What follows the last item is padding: zeros, which make an item of tag and length 0.
        let Some(data) = entry.get(begin..end) else {
            return if tag == 0 { Some((unix, xattrs)) } else { None };
        };
        match tag {
            TAG_UNIX_DATA if unix.is_none() => {
                unix = Some(UnixData {
                    uid: u32_at(data, 0)?,
                    gid: u32_at(data, 4)?,
                    mode: u32_at(data, 8)?,
                    device: u32_at(data, 12)?,
                });
            }
            TAG_XATTRS if xattrs.is_empty() => xattrs = xattr::parse(data)?,
            TAG_XATTRS_OLD if xattrs.is_empty() => xattrs = xattr::parse_old(data)?,
            _ => {}
        }
        at = end.checked_next_multiple_of(8)?;
    }
    Some((unix, xattrs))
}

/// Mode and owner of an entry without UNIX data, from a WIM made on Windows. The whole rule, which `docs/images.md` gives
/// to users:
///
/// - root owns everything;
/// - a directory is 0755, also a read-only one: on Windows that marks a folder with a look of its own;
/// - a link is 0777, a file 0644, and 0444 where Windows says read-only;
/// - whether a file is a program only its contents show, so the execute bits come when it is unpacked;
/// - hidden, system, archive, compressed, not indexed and the other attributes have no counterpart and say nothing;
/// - encrypted files are refused, since nobody here can read them.
fn new_inode(kind: Kind, d: &Dentry) -> Inode {
    let by_rule = match kind {
        Kind::Directory => 0o755,
        Kind::Symlink(_) => 0o777,
        _ if d.attributes & ATTRIBUTE_READONLY != 0 => 0o444,
        _ => 0o644,
    };
    let meta = Meta {
        uid: d.unix.map_or(0, |u| u.uid),
        gid: d.unix.map_or(0, |u| u.gid),
        mode: d.unix.map_or(by_rule, |u| u.mode & 0o7777),
        accessed: Some(d.accessed),
        modified: d.modified,
        xattrs: d.xattrs.clone(),
    };
    let has_contents = matches!(kind, Kind::File | Kind::Symlink(_));
    let hash = if has_contents { d.hash } else { [0; 20] };
    let sparse = kind == Kind::File && d.attributes & ATTRIBUTE_SPARSE != 0;
    Inode { kind, meta, mode_by_rule: d.unix.is_none(), sparse, hash, names: Vec::new() }
}

fn damaged(offset: u64, why: &str) -> WimError {
    WimError::Damaged { what: "the metadata of the image", offset, why: why.to_owned() }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of our own")]
mod tests;
