//! What a program asks for before it can run: the interpreter (dynamic linker) that an ELF file names. Layout: elf(5).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;

/// A program header of this type holds the interpreter's path.
const PT_INTERP: u64 = 3;
/// Longer than any path that the kernel takes (`PATH_MAX`).
const PATH_MAX: u64 = 4096;
/// Bytes of the longest file header, and of the longest program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Where the fields lie, and how wide addresses and offsets are.
struct Layout {
    word: usize,
    table: usize,
    entry_size: usize,
    entry_count: usize,
    offset: usize,
    size: usize,
}

const ELF32: Layout = Layout { word: 4, table: 0x1c, entry_size: 0x2a, entry_count: 0x2c, offset: 0x04, size: 0x10 };
const ELF64: Layout = Layout { word: 8, table: 0x20, entry_size: 0x36, entry_count: 0x38, offset: 0x08, size: 0x20 };

/// The interpreter that the program at `path` asks for; `None` where it is linked statically, or no ELF file.
pub fn interpreter(path: &Path) -> anyhow::Result<Option<String>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(find(|buffer, at| file.read_exact_at(buffer, at).ok()))
}

/// `read` fills a buffer from an offset, wholly or not at all.
fn find(read: impl Fn(&mut [u8], u64) -> Option<()>) -> Option<String> {
    let mut header = [0; HEADER];
    read(header.get_mut(..52)?, 0)?;
    let [0x7f, b'E', b'L', b'F', class, order, ..] = header else { return None };
    let layout = match class {
        1 => &ELF32,
        2 => &ELF64,
        _ => return None,
    };
    if class == 2 {
        read(&mut header, 0)?;
    }
    let number = |bytes: &[u8], at: usize, width: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(width)?)?;
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if order == 1 { field.iter().rev().fold(0, join) } else { field.iter().fold(0, join) })
    };
    let table = number(&header, layout.table, layout.word)?;
    let entry_size = number(&header, layout.entry_size, 2)?;
    for n in 0..number(&header, layout.entry_count, 2)? {
        let mut entry = [0; PROGRAM_HEADER];
        let used = entry.get_mut(..if class == 2 { PROGRAM_HEADER } else { 32 })?;
        read(used, table.checked_add(n.checked_mul(entry_size)?)?)?;
        if number(&entry, 0, 4)? != PT_INTERP {
            continue;
        }
        let size = number(&entry, layout.size, layout.word)?;
        let mut name = vec![0; usize::try_from(size).ok().filter(|_| size <= PATH_MAX)?];
        read(&mut name, number(&entry, layout.offset, layout.word)?)?;
        return Some(String::from_utf8_lossy(name.split(|byte| *byte == 0).next()?).into_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &[u8]) -> Option<String> {
        find(|buffer, at| {
            let at = usize::try_from(at).ok()?;
            buffer.copy_from_slice(file.get(at..at.checked_add(buffer.len())?)?);
            Some(())
        })
    }

    /// An ELF file with one program header, which names `/lib/ld.so`.
    fn elf(class: u8, big: bool, kind: u8) -> Vec<u8> {
        let layout = if class == 2 { &ELF64 } else { &ELF32 };
        let mut file = vec![0; 256];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, if big { 2 } else { 1 }]);
        let mut put = |begin: usize, field: usize, width: usize, value: u8| {
            let field = &mut file[begin..][field..][..width];
            *if big { field.last_mut() } else { field.first_mut() }.unwrap() = value;
        };
        put(0, layout.table, layout.word, 64);
        put(0, layout.entry_size, 2, 56);
        put(0, layout.entry_count, 2, 1);
        put(64, 0, 4, kind);
        put(64, layout.offset, layout.word, 128);
        put(64, layout.size, layout.word, 11);
        file[128..139].copy_from_slice(b"/lib/ld.so\0");
        file
    }

    #[test]
    fn the_interpreter_is_found_in_every_class_and_byte_order() {
        for (class, big) in [(1, false), (1, true), (2, false), (2, true)] {
            assert_eq!(found(&elf(class, big, 3)).as_deref(), Some("/lib/ld.so"), "{class} {big}");
            assert_eq!(found(&elf(class, big, 1)), None, "PT_LOAD, {class} {big}");
        }
    }

    #[test]
    fn a_cut_or_foreign_file_asks_for_nothing() {
        let whole = elf(2, false, 3);
        for end in 0..139 {
            assert_eq!(found(&whole[..end]), None, "{end}");
        }
        assert_eq!(found(b"#!/bin/sh\necho a script that is long enough to be read as a header"), None);
    }

    #[test]
    fn a_program_of_this_host_is_linked_dynamically() {
        // The test itself: nothing is assumed of what is installed.
        let ourselves = interpreter(Path::new("/proc/self/exe")).unwrap();
        assert_eq!(ourselves.is_none(), cfg!(target_feature = "crt-static"), "{ourselves:?}");
    }
}
