//! Names: from the UTF-16LE of a WIM to the bytes of Linux, and what a name may not be.

/// Longest name of a directory entry, in bytes (`NAME_MAX`).
pub(crate) const MAX_NAME: usize = 255;
/// Longest path inside the root, in bytes, without the final NUL (`PATH_MAX` less one): directories are opened by
/// their whole path.
pub(crate) const MAX_PATH: usize = 4095;

/// UTF-16LE to UTF-8. A surrogate without its half becomes the three bytes that WTF-8 gives it, so that no two names
/// fall together and nothing is lost.
pub(crate) fn from_utf16le(bytes: &[u8]) -> Vec<u8> {
    let units = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_le_bytes);
    let mut out = Vec::with_capacity(bytes.len());
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(lone) => {
                let [high, low] = lone.unpaired_surrogate().to_be_bytes();
                // 1110xxxx 10xxxxxx 10xxxxxx of a 16-bit number.
                out.extend_from_slice(&[0xe0 | high >> 4, 0x80 | (high & 0xf) << 2 | low >> 6, 0x80 | low & 0x3f]);
            }
        }
    }
    out
}

/// Why `name` cannot be one entry of a directory; `None` where it can.
pub(crate) fn refused(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("an entry has no name"),
        b"." | b".." => Some("an entry is called `.` or `..`"),
        _ if name.contains(&b'/') => Some("a name contains a slash"),
        _ if name.contains(&0) => Some("a name contains a NUL"),
        _ if name.len() > MAX_NAME => Some("a name is longer than the 255 bytes that Linux allows"),
        _ => None,
    }
}

/// `path` for a message: bytes that are not UTF-8 replaced, control characters escaped.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .flat_map(|c| {
            let escape = c.is_control();
            escape.then(|| c.escape_default()).into_iter().flatten().chain((!escape).then_some(c))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utf16le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    proptest! {
        #[test]
        fn every_text_survives(text in any::<String>()) {
            prop_assert_eq!(from_utf16le(&utf16le(&text)), text.into_bytes());
        }

        #[test]
        fn no_two_names_fall_together(a in proptest::collection::vec(any::<u16>(), 0..6),
                                      b in proptest::collection::vec(any::<u16>(), 0..6)) {
            let bytes = |units: &[u16]| from_utf16le(&units.iter().flat_map(|u| u.to_le_bytes()).collect::<Vec<_>>());
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
        }
    }

    #[test]
    fn a_lone_surrogate_keeps_its_bits() {
        assert_eq!(from_utf16le(&[0x00, 0xd8]), [0xed, 0xa0, 0x80]);
    }

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b", &[b'x'; 256]] {
            assert!(refused(name).is_some(), "{name:?}");
        }
        for name in [&b"..."[..], b" ", b"a\\b", b"\xff", &[b'x'; 255]] {
            assert!(refused(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_message_cannot_be_forged_by_a_name() {
        assert_eq!(shown(b"a\nb\x1b[2J"), "a\\nb\\u{1b}[2J");
    }
}
