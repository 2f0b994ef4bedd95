//! What is fuzzed: one function for each way by which outside bytes come in. A fuzzer of `fuzz/` calls one of them for
//! ever; the test `corpus` calls all of them with seeds, what was found before, and mutations of both.
//!
//! A function returns whatever the bytes are. It panics where a promise is broken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, dead_code)]

pub mod seeds;
pub mod watched;

use watched::Image;
use wim::{Compression, Wim};

/// A function that is fuzzed, by the name of its fuzzer and of its folder of inputs.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 6] =
    [("header", header), ("metadata", metadata), ("chunks", chunks), ("tar", tar), ("cpio", cpio), ("apply", apply)];

/// Header, blob table, XML data and integrity table of a whole WIM, of all files that it is split in, and the choice of an
/// image; of one that is pipable the same as it arrives.
pub fn header(data: &[u8]) {
    let files = files(data);
    if data.starts_with(PIPABLE_MAGIC) {
        for wanted in [None, Some("1")] {
            let stream = Box::new(std::io::Cursor::new(data.to_vec()));
            if let Ok(root) = wim::root::open_stream(stream, "a stream", wanted) {
                root.need().expect("what a stream takes is known when it is open");
            }
        }
    }
    let wim = if files.len() > 1 { wim::fuzz::split(&files).ok() } else { Wim::open(Box::new(data.to_vec())).ok() };
    let Some(wim) = wim else { return };
    assert!(wim.images().len() <= data.len(), "an image takes no byte");
    assert!(wim.length() <= data.len() as u64, "it ends behind its end");
    let _ = wim.solid();
    let _ = wim.integrity_chunks();
    for wanted in [None, Some("1"), Some("x")] {
        if let Ok(index) = wim.select(wanted) {
            let _ = wim.tree(index);
        }
    }
}

pub const MAGIC: &[u8] = b"MSWIM\0\0\0";
pub const PIPABLE_MAGIC: &[u8] = b"WLPWM\0\0\0";
const HEADER_LEN: usize = 208;
/// Files that an input is taken for at most.
const MOST_FILES: usize = 8;

/// The files that an input stands for: one, or those of a split WIM, one behind the other. A part begins with a header;
/// where they are pipable, each ends with one, too, so that a part begins where a header follows a header.
pub fn files(data: &[u8]) -> Vec<Vec<u8>> {
    let mut files = vec![Vec::new()];
    let is_pipable = data.starts_with(PIPABLE_MAGIC);
    let begins = |at: usize| {
        let header = |at: usize, magic: &[u8]| data.get(at..).is_some_and(|rest| rest.starts_with(magic));
        if is_pipable {
            let before = at.checked_sub(HEADER_LEN).filter(|before| *before > 0);
            header(at, PIPABLE_MAGIC) && before.is_some_and(|before| header(before, PIPABLE_MAGIC))
        } else {
            header(at, MAGIC) && at > 0
        }
    };
    for (at, byte) in data.iter().enumerate() {
        // A fuzzer watches each comparison of several bytes, and that of every place would be most of its work.
        if matches!(*byte, b'M' | b'W') && files.len() < MOST_FILES && begins(at) {
            files.push(Vec::new());
        }
        files.last_mut().unwrap().push(*byte);
    }
    files
}

/// An image's metadata, as it is once it is unpacked and checked.
pub fn metadata(data: &[u8]) {
    if let Ok(tree) = wim::fuzz::metadata(data) {
        assert_eq!(wim::fuzz::contradiction(&tree, data.len()), None);
    }
}

/// Bytes before the chunks of an input for [`chunks`].
pub const CHUNKS_HEAD: usize = 5;

/// Compressed resources: kind (a solid one, or the compression of one of its own, and whether it is pipable), exponent of
/// the chunk size, three bytes of size; then the resource.
pub fn chunks(data: &[u8]) {
    let Some((head, resource)) = data.split_first_chunk::<CHUNKS_HEAD>() else { return };
    let [kind, exponent, size @ ..] = *head;
    let compression = match kind & 3 {
        0 => Compression::Xpress,
        1 => Compression::Lzx,
        2 => Compression::Lzms,
        _ => {
            let _ = wim::fuzz::solid(&resource.to_vec());
            return;
        }
    };
    // What the header accepts: it is checked before a resource is read.
    let exponents = match compression {
        Compression::Xpress => 12..=16,
        Compression::Lzx => 15..=21,
        _ => 15..=22,
    };
    let chunk_size = 1 << u32::from(exponent).clamp(*exponents.start(), *exponents.end());
    let size = u64::from(u32::from_le_bytes([size[0], size[1], size[2], 0])).min(2 << 20);
    let unpacked = wim::fuzz::resource(resource.to_vec(), compression, chunk_size, size, kind & 4 != 0);
    assert!(unpacked.map_or(true, |bytes| bytes.len() as u64 == size), "another size than the one that was asked for");
}

/// A tar archive, outside the zstd frames that it comes in: those are what `apply` is for.
pub fn tar(data: &[u8]) {
    let mut archive = data.to_vec();
    for header in archive.chunks_exact_mut(512).filter(|block| block.iter().any(|byte| *byte != 0)) {
        // No fuzzer finds the sum of all bytes. Blocks of contents get one, too, which does no harm.
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    if archive.len() >= 512 {
        archive[257..262].copy_from_slice(b"ustar");
        unpacked(&archive);
    }
}

/// A cpio archive, likewise.
pub fn cpio(data: &[u8]) {
    unpacked(data);
}

/// An archive is measured, which writes nothing, and unpacked where that went well.
fn unpacked(archive: &[u8]) {
    if let Ok(Some(_)) = wim::fuzz::measured(archive) {
        watched::apply(Image::Archive(archive.to_vec()));
    }
}

/// Any image, opened, measured and unpacked into a directory, while all that is beside the directory is watched. One that
/// is pipable arrives as a stream, too.
pub fn apply(data: &[u8]) {
    let mut files = files(data);
    wim::fuzz::sound_hashes(&mut files);
    if data.starts_with(PIPABLE_MAGIC) {
        watched::apply(Image::Stream(files.concat()));
    }
    watched::apply(Image::Files(files));
}
