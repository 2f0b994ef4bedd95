//! What an output is made of: every file and setting with its SHA-256, noted before anything is made. Two builds with
//! the same inputs give the same image, so what changes an image must be noted here.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{major, minor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::host::entries;

/// Inputs by kind and name, as in `file examples/hello/usr/bin/hello`, with the SHA-256 of each.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inputs(BTreeMap<String, String>);

/// What of a file goes into the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What it holds, and whether it can be executed.
    Content,
    /// Its mode, owner and extended attributes, too.
    All,
}

/// The kernel hands out no list of attributes, and no attribute, that is longer: `XATTR_LIST_MAX` and
/// `XATTR_SIZE_MAX` of `linux/limits.h`.
const XATTR_MAX: usize = 65536;

impl Inputs {
    /// Notes a file, or each file of a folder, under the name `as_name`. A link is followed where it is `path` itself,
    /// and kept as a link inside a folder.
    pub fn add(&mut self, kind: &str, as_name: &str, path: &Path, detail: Detail) -> anyhow::Result<()> {
        let meta = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.add_entry(kind, as_name, path, &meta, detail)
    }

    fn add_entry(
        &mut self,
        kind: &str,
        as_name: &str,
        path: &Path,
        meta: &Metadata,
        detail: Detail,
    ) -> anyhow::Result<()> {
        // Never opened, but for plain files: a device or a fifo could block the build, or act on it.
        let (slash, what, hash) = if meta.is_dir() {
            ("/", None, text_sha256("folder"))
        } else if meta.is_file() {
            ("", None, sha256(path)?)
        } else if meta.is_symlink() {
            let target = std::fs::read_link(path).with_context(|| format!("cannot read {}", path.display()))?;
            ("", Some("link".to_owned()), text_sha256(&target.to_string_lossy()))
        } else {
            let node = special(meta);
            let hash = text_sha256(&node);
            ("", Some(node), hash)
        };
        let name = format!("{as_name}{slash}");
        let mode = meta.mode() & 0o7777;
        let mut remarks: Vec<String> = what.into_iter().collect();
        match detail {
            Detail::All => remarks.push(format!("{mode:04o} {}:{}", meta.uid(), meta.gid())),
            Detail::Content if meta.is_file() && mode & 0o111 != 0 => remarks.push("executable".into()),
            Detail::Content => {}
        }
        let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) };
        self.note(kind, &format!("{name}{remarks}"), &hash);
        if detail == Detail::All {
            let found = xattrs(path).with_context(|| format!("cannot read the attributes of {}", path.display()))?;
            for (attribute, value) in found {
                self.note(kind, &format!("{name} {attribute}"), &hex(&Sha256::digest(&value)));
            }
        }
        if meta.is_dir() {
            for (entry, path) in entries(path)? {
                let meta =
                    std::fs::symlink_metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
                self.add_entry(kind, &format!("{name}{entry}"), &path, &meta, detail)?;
            }
        }
        Ok(())
    }

    /// Notes something whose hash is known.
    pub fn note(&mut self, kind: &str, name: &str, sha256: &str) {
        self.0.insert(format!("{kind} {name}"), sha256.to_owned());
    }

    /// Notes a setting by its text.
    pub fn setting(&mut self, name: &str, value: &str) {
        self.note("setting", &format!("{name} = {value}"), &text_sha256(value));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A node without content, in words.
fn special(meta: &Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        let kind = if kind.is_char_device() { "char" } else { "block" };
        format!("{kind} {}:{}", major(meta.rdev()), minor(meta.rdev()))
    } else if kind.is_fifo() {
        "fifo".into()
    } else {
        "socket".into()
    }
}

/// The extended attributes of a file, a link not followed; none where the file system has none.
fn xattrs(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; XATTR_MAX];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut found = Vec::new();
    for name in list.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; XATTR_MAX];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    Ok(found)
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hasher.finalize())),
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    };
    hash().with_context(|| format!("cannot read {}", path.display()))
}

/// SHA-256 of a text, in hexadecimal.
pub fn text_sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn noted(path: &Path, detail: Detail) -> Vec<String> {
        let mut inputs = Inputs::default();
        inputs.add("file", "x", path, detail).unwrap();
        inputs.0.into_keys().collect()
    }

    #[test]
    fn a_fifo_and_a_socket_are_noted_and_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert_eq!(noted(folder.path(), Detail::Content), ["file x/", "file x/fifo (fifo)", "file x/socket (socket)"]);
    }

    #[test]
    fn a_link_is_followed_at_the_top_and_kept_inside() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        symlink("absent", inner.join("link")).unwrap();
        symlink("inner", folder.path().join("top")).unwrap();
        assert_eq!(noted(&folder.path().join("top"), Detail::Content), ["file x/", "file x/link (link)"]);
    }
}
