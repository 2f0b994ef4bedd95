//! The extended attributes in a directory entry, in both forms that WIMs have: Microsoft's since Windows 10 1607, and
//! the one that wimlib 1.11 and 1.12 wrote.

use crate::bytes::{array, u16_at, u32_at};
use crate::meta::Xattr;

/// `{value length u16, name length u8, flags u8, name, NUL, value}`, without padding between them.
pub(crate) fn parse(data: &[u8]) -> Option<Vec<Xattr>> {
    let mut found = Vec::new();
    let mut rest = data;
    // The item may be padded; the shortest attribute has a name of one byte.
    while rest.len() >= 6 {
        let value_len = usize::from(u16_at(rest, 0)?);
        let [name_len] = array::<1>(rest, 2)?;
        if name_len == 0 && value_len == 0 {
            break;
        }
        let name_end = 4_usize.checked_add(name_len.into())?;
        let value_at = name_end.checked_add(1)?;
        let end = value_at.checked_add(value_len)?;
        if rest.get(name_end) != Some(&0) {
            return None;
        }
        found.push(xattr(rest.get(4..name_end)?, rest.get(value_at..end)?)?);
        rest = rest.get(end..)?;
    }
    Some(found)
}

/// `{name length u16, 0 u16, value length u32, name, value}`, padded to 4.
pub(crate) fn parse_old(data: &[u8]) -> Option<Vec<Xattr>> {
    let mut found = Vec::new();
    let mut rest = data;
    while rest.len() >= 12 {
        let name_len = usize::from(u16_at(rest, 0)?);
        let value_len = usize::try_from(u32_at(rest, 4)?).ok()?;
        let value_at = 8_usize.checked_add(name_len)?;
        let end = value_at.checked_add(value_len)?;
        found.push(xattr(rest.get(8..value_at)?, rest.get(value_at..end)?)?);
        rest = rest.get(end.checked_next_multiple_of(4)?..)?;
    }
    Some(found)
}

/// xattr(7): a name has at most 255 bytes, a value at most 64 KiB.
fn xattr(name: &[u8], value: &[u8]) -> Option<Xattr> {
    let sound = !name.is_empty() && name.len() <= 255 && !name.contains(&0) && value.len() <= 65536;
    sound.then(|| Xattr { name: name.into(), value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_read() {
        let new = b"\x02\x00\x06\x00user.a\0hi\x00\x00\x06\x00user.b\0";
        let got = parse(new).unwrap();
        assert_eq!((&*got[0].name, &*got[0].value), (&b"user.a"[..], &b"hi"[..]));
        assert_eq!((&*got[1].name, &*got[1].value), (&b"user.b"[..], &b""[..]));
        let old = b"\x06\x00\x00\x00\x03\x00\x00\x00user.aabc\0\0\0\x06\x00\x00\x00\x02\x00\x00\x00user.bxy";
        let got = parse_old(old).unwrap();
        assert_eq!((&*got[0].name, &*got[0].value), (&b"user.a"[..], &b"abc"[..]));
        assert_eq!((&*got[1].name, &*got[1].value), (&b"user.b"[..], &b"xy"[..]));
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_or_read(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse(&data);
            parse_old(&data);
        }
    }
}
