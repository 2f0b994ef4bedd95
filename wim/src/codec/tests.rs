//! Both ways with wimlib: what its compressors make is unpacked byte for byte, and where ours accepts a damaged chunk,
//! wimlib's decompressor gives the same.

use std::io::Read;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::reference::{Compressor, Decompressor};
use super::*;

/// The beginning of this program.
fn code() -> &'static [u8] {
    static CODE: OnceLock<Vec<u8>> = OnceLock::new();
    CODE.get_or_init(|| {
        let mut code = vec![0; 3 << 20];
        std::fs::File::open("/proc/self/exe").unwrap().read_exact(&mut code).unwrap();
        code
    })
}

/// Text, code, runs, noise, tables: what makes the formats show all their kinds of symbols.
fn sample(kind: usize, len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    match kind {
        0 => code().iter().copied().skip((seed % 100_000) as usize).take(len).collect(),
        1 => (0..len).map(|_| *b"etaoin shrdlu\n".get((random() % 14) as usize).unwrap()).collect(),
        2 => vec![(seed & 255) as u8; len],
        3 => (0..len).map(|_| random() as u8).collect(),
        4 => (0..len as u32).flat_map(|n| (n * 3 + 7).to_le_bytes()).take(len).collect(),
        // Calls to few targets, which LZX and LZMS translate.
        5 => (0..len as u32)
            .flat_map(|n| [0xe8, 0, 0, 0, 0].map(|byte: u8| byte.wrapping_add((n / 5 % 7) as u8)))
            .take(len)
            .collect(),
        // Short periods, the nearest of matches.
        6 => (0..len).map(|n| ((n / 100) as u8).wrapping_mul((n % (1 + n / 997 % 19)) as u8)).collect(),
        _ => {
            let mut mixed = Vec::new();
            while mixed.len() < len {
                let (kind, part) = ((random() % 7) as usize, (random() % 3000) as usize);
                mixed.extend(sample(kind, part, random()));
            }
            mixed.truncate(len);
            mixed
        }
    }
}

fn unpack(format: Compression, chunk_size: usize, input: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = vec![0x55; len];
    Codec::default().chunk(format, chunk_size as u32, input, &mut out).ok()?;
    Some(out)
}

fn sizes(format: Compression) -> Vec<usize> {
    let sizes = format.chunk_sizes();
    [*sizes.start(), 1 << 16, 1 << 17, (*sizes.end()).min(1 << 21)]
        .into_iter()
        .filter(|size| sizes.contains(size))
        .map(|size| size as usize)
        .collect()
}

const FORMATS: [Compression; 3] = [Compression::Xpress, Compression::Lzx, Compression::Lzms];

#[test]
fn whatever_wimlib_compresses_comes_back() {
    let mut compressed = 0;
    for format in FORMATS {
        // One decoder for all, since nothing of one chunk may be left for the next.
        let mut codec = Codec::default();
        for chunk_size in sizes(format) {
            // Large chunks differ in their offsets, which every level writes alike.
            let large = chunk_size > 1 << 16;
            let levels: &[u32] = if large { &[20] } else { &[20, 50, 100] };
            for &level in levels {
                let mut compressor = Compressor::new(format, chunk_size, level).unwrap();
                for kind in if large { 5..8 } else { 0..8 } {
                    let short: &[usize] = if large { &[] } else { &[chunk_size - 1, 257, 64, 18, 17, 16, 3] };
                    for &len in [chunk_size, 3000].iter().chain(short) {
                        let data = sample(kind, len, u64::from(level) + len as u64);
                        let Some(input) = compressor.run(&data) else { continue };
                        let mut out = vec![0x55; len];
                        let result = codec.chunk(format, chunk_size as u32, &input, &mut out);
                        assert!(result.is_ok(), "{format}, chunks of {chunk_size}, level {level}, kind {kind}, {len}");
                        assert!(out == data, "{format}, chunks of {chunk_size}, level {level}, kind {kind}, {len}");
                        compressed += 1;
                    }
                }
            }
        }
    }
    assert!(compressed > 250, "only {compressed} samples get smaller");
}

#[test]
fn a_chunk_that_is_cut_gives_an_error_or_the_same() {
    for format in FORMATS {
        let chunk_size = 1 << 15;
        let data = sample(7, 2000, 1);
        let input = Compressor::new(format, chunk_size, 50).unwrap().run(&data).unwrap();
        for len in 0..input.len() {
            if let Some(out) = unpack(format, chunk_size, &input[..len], data.len()) {
                assert!(out == data, "{format}, cut to {len} of {} bytes", input.len());
            }
        }
    }
}

#[test]
fn a_stored_block_of_lzx_is_taken_as_it_is() {
    // [MS-PATCH] 3, without its chunk size and with the block size as WIM has it: type 3, no usual size, 16 bits of size.
    let header = |len: u16| {
        let bits = 3_u32 << 29 | u32::from(len) << 12;
        let mut input = Vec::new();
        input.extend(((bits >> 16) as u16).to_le_bytes());
        input.extend((bits as u16).to_le_bytes());
        for offset in [1_u32, 1, 1] {
            input.extend(offset.to_le_bytes());
        }
        input
    };
    let mut input = header(3);
    input.extend(b"abc\0");
    // A second one, behind the byte that fills the unit.
    input.extend(header(2));
    input.extend(b"de");
    input.extend([0; 40]);
    let stored = unpack(Compression::Lzx, 1 << 15, &input, 5).unwrap();
    assert_eq!(stored, b"abcde");
    let mut reference = [0; 5];
    assert!(Decompressor::new(Compression::Lzx, 1 << 15).unwrap().run(&input, &mut reference));
    assert_eq!(&reference, b"abcde");
    input[4..8].fill(0);
    assert!(unpack(Compression::Lzx, 1 << 15, &input, 5).is_none(), "an offset of 0 is none");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_chunk_is_refused_or_unpacks_as_wimlib_does(
        format in prop_oneof![Just(Compression::Xpress), Just(Compression::Lzx), Just(Compression::Lzms)],
        kind in 0..8_usize,
        len in 1..9000_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let chunk_size = 1 << 15;
        let data = sample(kind, len, 3);
        if let Some(mut input) = Compressor::new(format, chunk_size, 20).unwrap().run(&data) {
            for (at, value) in changes {
                let at = at.index(input.len());
                input[at] = value;
            }
            if let Some(out) = unpack(format, chunk_size, &input, len) {
                let mut reference = vec![0; len];
                prop_assert!(Decompressor::new(format, chunk_size).unwrap().run(&input, &mut reference));
                prop_assert!(out == reference);
            }
        }
    }

    #[test]
    fn noise_is_refused_or_unpacked(
        format in prop_oneof![Just(Compression::Xpress), Just(Compression::Lzx), Just(Compression::Lzms)],
        input in proptest::collection::vec(any::<u8>(), 0..600),
        len in 1..5000_usize,
    ) {
        if let Some(out) = unpack(format, 1 << 15, &input, len) {
            prop_assert_eq!(out.len(), len);
        }
    }
}
