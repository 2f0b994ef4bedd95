//! Reparse data to a symlink's target. The layout is that of `REPARSE_DATA_BUFFER` in Microsoft's \[MS-FSCC\] 2.1.2,
//! without its first 8 bytes; how UNIX targets are put into it is wimlib's convention (its reparse.c).

use crate::bytes::{u16_at, u32_at};
use crate::name::from_utf16le;

/// The tag of a symbolic link.
pub(crate) const SYMLINK: u32 = 0xa000_000c;
/// The tag of a junction.
pub(crate) const JUNCTION: u32 = 0xa000_0003;
/// No reparse point is larger (`MAXIMUM_REPARSE_DATA_BUFFER_SIZE`).
pub(crate) const MAX_DATA: u64 = 16 << 10;

const SYMBOLIC_LINK_RELATIVE: u32 = 1;

/// The target that a symlink of this reparse data has on Linux; `None` where the data is damaged or the target is
/// impossible: empty for a relative link, with a NUL, or too long.
pub(crate) fn target(tag: u32, data: &[u8]) -> Option<Vec<u8>> {
    let (offset, len) = (usize::from(u16_at(data, 0)?), usize::from(u16_at(data, 2)?));
    let (names, relative) = match tag {
        SYMLINK => (12, u32_at(data, 8)? & SYMBOLIC_LINK_RELATIVE != 0),
        JUNCTION => (8, false),
        _ => return None,
    };
    if len % 2 != 0 || offset % 2 != 0 {
        return None;
    }
    let begin = offset.checked_add(names)?;
    let mut target = from_utf16le(data.get(begin..begin.checked_add(len)?)?);
    if !relative {
        target = without_device(target);
        if target.is_empty() {
            target.push(b'\\');
        }
    }
    for byte in &mut target {
        *byte = match *byte {
            b'\\' => b'/',
            // A backslash in a UNIX target is kept as a slash.
            b'/' => b'\\',
            other => other,
        };
    }
    (!target.is_empty() && !target.contains(&0) && target.len() <= crate::name::MAX_PATH).then_some(target)
}

/// `\??\C:\dir` is `\dir`: an absolute target names a device first.
fn without_device(target: Vec<u8>) -> Vec<u8> {
    for prefix in [&b"\\??\\"[..], b"\\DosDevices\\", b"\\Device\\"] {
        if let Some(rest) = target.strip_prefix(prefix) {
            let device = rest.iter().position(|b| *b != b'\\').unwrap_or(rest.len());
            let rest = rest.get(device..).unwrap_or_default();
            let path = rest.iter().position(|b| *b == b'\\').unwrap_or(rest.len());
            return rest.get(path..).unwrap_or_default().to_vec();
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn symlink(substitute: &str, flags: u32) -> Vec<u8> {
        let name: Vec<u8> = substitute.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let len = u16::try_from(name.len()).unwrap();
        let mut data = Vec::new();
        for word in [0, len, len, 0] {
            data.extend(word.to_le_bytes());
        }
        data.extend(flags.to_le_bytes());
        data.extend(name);
        data
    }

    #[test]
    fn targets_come_back_as_they_were_on_linux() {
        for (stored, flags, wanted) in [
            ("..\\lib\\x", 1, "../lib/x"),
            ("a/b", 1, "a\\b"),
            ("\\??\\C:\\usr\\bin", 0, "/usr/bin"),
            ("\\??\\C:", 0, "/"),
            ("\\Device\\HarddiskVolume1\\x", 0, "/x"),
        ] {
            assert_eq!(target(SYMLINK, &symlink(stored, flags)).as_deref(), Some(wanted.as_bytes()), "{stored}");
        }
    }

    #[test]
    fn impossible_targets_are_refused() {
        assert_eq!(target(SYMLINK, &symlink("", 1)), None);
        assert_eq!(target(SYMLINK, &symlink("a\0b", 1)), None);
        assert_eq!(target(SYMLINK, &symlink(&"x".repeat(5000), 1)), None);
        assert_eq!(target(0x8000_0017, &symlink("x", 1)), None);
    }

    proptest! {
        #[test]
        fn any_data_is_a_target_or_refused(tag in prop_oneof![Just(SYMLINK), Just(JUNCTION)],
                                           data in proptest::collection::vec(any::<u8>(), 0..64)) {
            target(tag, &data);
        }
    }
}
