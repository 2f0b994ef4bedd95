//! As `damage.rs`, of WIMs that are split and of those that are pipable: each file cut at every length and with every byte
//! changed, and what is pipable read as a file and as it arrives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use common::damaged::{Case, Free, Way, all_in, extent, free_fields, u64_at};
use wim::capture::{CaptureOptions, Compression, capture};

const FORMATS: [Compression; 2] = [Compression::None, Compression::Xpress];
const HEADER: usize = 208;
/// What stands before a resource of a pipable WIM: magic, size, SHA-1, flags.
const BLOB_HEADER: usize = 40;

/// `None` where the command that splits is not there.
fn case(compression: Compression, pipable: bool, split: bool, way: Way) -> Option<Case> {
    let (chunk_size, large) = if compression == Compression::Xpress { (Some(4096), 6000) } else { (None, 600) };
    Case::new(large, way, |tree, work| {
        let (image, first) = (work.join("image.wim"), work.join("image.swm"));
        let options = CaptureOptions { compression, pipable, chunk_size, ..CaptureOptions::default() };
        capture(tree, &image, &options).unwrap();
        if split { common::split(&image, &first, "0.0005") } else { Some(vec![image]) }
    })
}

/// Every byte and every length of each file. Shorter than `shortest` no file is accepted.
fn is_refused_or_whole(case: &Case, free: impl Fn(&[u8]) -> Free, shortest: impl Fn(&[u8]) -> usize) {
    for (n, bytes) in case.bytes.iter().enumerate() {
        let flipped = case.flip_everywhere(n, 0..bytes.len());
        println!("file {n}: {} bytes, {} of them may change", bytes.len(), flipped.len());
        all_in(&flipped, &free(bytes));
        let cut = case.cut_everywhere(n);
        assert!(cut.iter().all(|len| *len >= shortest(bytes)), "lengths that were accepted of file {n}: {cut:?}");
    }
}

fn parts_are_refused_or_whole(compression: Compression) {
    let Some(case) = case(compression, false, true, Way::File) else { return };
    let parts = u16::try_from(case.bytes.len()).unwrap();
    assert!(parts > 2, "{parts} parts");
    is_refused_or_whole(&case, |bytes| free_fields(bytes, 0, parts), |bytes| bytes.len());
}

#[test]
fn a_split_wim_without_compression() {
    parts_are_refused_or_whole(Compression::None);
}

#[test]
fn a_split_wim_of_xpress() {
    parts_are_refused_or_whole(Compression::Xpress);
}

/// Of a file the header at its end counts, and the blob table that this leads to.
#[test]
fn a_pipable_wim_in_a_file() {
    let free = |bytes: &[u8]| {
        let last = bytes.len() - HEADER;
        let (table, xml) = (extent(bytes, last + 0x30), extent(bytes, last + 0x48));
        let mut free = free_fields(bytes, last, 1);
        free.extend([
            (0x10..0x18, "flags and chunk size of the first header: those of the last one are taken"),
            (0x2a..HEADER, "the same of parts, images and places, which are not known yet where it is written"),
        ]);
        let before = "what stands before a resource is for who reads forward";
        let entries = (table.start..table.end).step_by(50).map(|entry| extent(bytes, entry));
        let resources: Vec<_> = entries.chain([table.clone(), xml]).collect();
        free.extend(resources.iter().map(|resource| (resource.start - BLOB_HEADER..resource.start, before)));
        // The first resource in the table is the metadata, which comes behind the XML data.
        let metadata = resources.iter().map(|resource| resource.start).min().unwrap() - BLOB_HEADER;
        free.push((HEADER..metadata, "XML data is there twice; that at the end is read"));
        free
    };
    for compression in FORMATS {
        let case = case(compression, true, false, Way::File).unwrap();
        is_refused_or_whole(&case, free, |bytes| bytes.len());
    }
}

/// Where the last contents of a stream end.
fn contents_end(bytes: &[u8]) -> usize {
    extent(bytes, bytes.len() - HEADER + 0x30).start - BLOB_HEADER
}

/// Whoever reads forward has no use for places, and has all when the last contents have come.
#[test]
fn a_pipable_wim_as_it_arrives() {
    let free = |bytes: &[u8]| {
        let mut free: Free = vec![
            (0x10..0x14, "flags that say nothing about how the image is read (read-only, RP_FIX)"),
            (0x30..HEADER, "places, which are not known yet where the first header is written"),
            (contents_end(bytes)..bytes.len(), "behind the last contents a stream may end: nothing there is needed"),
        ];
        let mut at = HEADER;
        while at < contents_end(bytes) {
            free.push((at + 36..at + BLOB_HEADER, "flags of a resource beside METADATA, COMPRESSED and SOLID"));
            let (size, begin) = (u64_at(bytes, at + 8) as usize, at + BLOB_HEADER);
            let is_compressed = bytes[at + 36] & 4 != 0;
            at = begin + size;
            if is_compressed {
                // Lengths before the chunks, then an entry for each but the first one.
                let chunks = size.div_ceil(4096);
                let len = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
                let end = (0..chunks).fold(begin, |at, _| at + 4 + len(at));
                free.push((begin..end, "bits that a chunk's format does not use; what comes out is checked"));
                at = end + 4 * (chunks - 1);
                free.push((end..at, "a chunk table, which says again what stands before the chunks"));
            }
        }
        free
    };
    for compression in FORMATS {
        let case = case(compression, true, false, Way::Stream).unwrap();
        // The chunk table of the last contents is not needed either.
        let table = if compression == Compression::None { 0 } else { 4 };
        is_refused_or_whole(&case, free, |bytes| contents_end(bytes) - table);
    }
}
