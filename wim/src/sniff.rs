//! What a source begins with: the format of a root, or words for the message that says it is none.

use std::io;

use crate::archive;
use crate::filesystem;
use crate::header::{MAGIC, PIPABLE_MAGIC};
use crate::source::ReadAt;

/// Enough to see a tar's magic at 257, and what [`filesystem`] looks at.
pub(crate) const HEAD: usize = filesystem::HEAD;

/// What the first bytes stand for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outer {
    Wim,
    Zstd,
    Unknown,
}

pub(crate) fn head(source: &dyn ReadAt) -> io::Result<Vec<u8>> {
    let len = usize::try_from(source.size()).unwrap_or(HEAD).min(HEAD);
    let mut head = vec![0; len];
    source.read_exact_at(&mut head, 0)?;
    Ok(head)
}

pub(crate) fn outer(head: &[u8]) -> Outer {
    if head.starts_with(MAGIC) || head.starts_with(PIPABLE_MAGIC) {
        Outer::Wim
    } else if archive::is_zstd(head) {
        Outer::Zstd
    } else {
        Outer::Unknown
    }
}

/// What the bytes are, for a message: a known format that is no root, or the bytes themselves.
pub(crate) fn words(head: &[u8]) -> String {
    let known: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "gzip (recompress it with zstd)"),
        (b"\xfd7zXZ\0", "xz (recompress it with zstd)"),
        (b"BZh", "bzip2 (recompress it with zstd)"),
        (b"\x02!L\x18", "lz4 (recompress it with zstd)"),
        (b"\x04\"M\x18", "lz4 (recompress it with zstd)"),
        (b"hsqs", "a squashfs (leave the zstd around it out: its own compression is inside)"),
        (b"07070", "a cpio archive without compression (compress it with zstd)"),
        (b"SignedImage ", "a full-flash image"),
        (b"\x7fELF", "an ELF program"),
    ];
    if head.is_empty() {
        return "nothing: it is empty".to_owned();
    }
    if head.iter().all(|b| *b == 0) {
        return "zeros only".to_owned();
    }
    if head.get(257..262) == Some(b"ustar") {
        return "a tar archive without compression (compress it with zstd)".to_owned();
    }
    if let Some((_, name)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*name).to_owned();
    }
    let bytes: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    let text: String = head.iter().take(8).map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
    format!("{} ({text:?})", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_what_is_there_and_what_to_do() {
        assert_eq!(words(b""), "nothing: it is empty");
        assert!(words(b"\x1f\x8b\x08\0").contains("recompress it with zstd"));
        assert_eq!(words(b"hello \x01\x02\x03"), "68 65 6c 6c 6f 20 01 02 (\"hello...\")");
    }
}
