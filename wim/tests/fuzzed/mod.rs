//! What is fuzzed: one function for each way by which outside bytes come in. A fuzzer of `fuzz/` calls one of them for
//! ever; the test `corpus` calls all of them with seeds, what was found before, and mutations of both.
//!
//! A function returns whatever the bytes are. It panics where a promise is broken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, dead_code)]

pub mod seeds;
pub mod watched;

use wim::{Compression, Wim};

/// A function that is fuzzed, by the name of its fuzzer and of its folder of inputs.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 6] =
    [("header", header), ("metadata", metadata), ("chunks", chunks), ("tar", tar), ("cpio", cpio), ("apply", apply)];

/// Header, blob table, XML data and integrity table of a whole WIM, and the choice of an image.
pub fn header(data: &[u8]) {
    let Ok(wim) = Wim::open(Box::new(data.to_vec())) else { return };
    assert!(wim.images().len() <= data.len(), "an image takes no byte");
    assert!(wim.length() <= data.len() as u64, "it ends behind its end");
    let _ = wim.solid();
    for wanted in [None, Some("1"), Some("x")] {
        if let Ok(index) = wim.select(wanted) {
            let _ = wim.tree(index);
        }
    }
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

/// A tar archive, inside its zstd frame.
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

/// A cpio archive, inside its zstd frame.
pub fn cpio(data: &[u8]) {
    unpacked(data);
}

/// An archive is measured, which writes nothing, and unpacked where that went well.
fn unpacked(archive: &[u8]) {
    let image = seeds::stored_frame(archive);
    if let Ok(Some(_)) = wim::fuzz::measured(image.clone()) {
        watched::apply(&image);
    }
}

/// Any image, opened, measured and unpacked into a directory, while all that is beside the directory is watched.
pub fn apply(data: &[u8]) {
    let mut image = data.to_vec();
    wim::fuzz::sound_hashes(&mut image);
    watched::apply(&image);
}
