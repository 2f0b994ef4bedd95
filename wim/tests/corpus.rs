//! What the fuzzers of `fuzz/` begin with, what they have found (`fuzz/corpus`), and changed copies of both, through the
//! same functions: a short look, in each run of the tests, at what the fuzzers look at for hours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;
mod fuzzed;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::watchdog::Watchdog;
use fuzzed::{TARGETS, seeds, watched};

/// Most time for changed copies of the inputs of one target; sound inputs and committed ones all run.
const TIME: Duration = Duration::from_secs(2);
/// Most copies for a target, so that a fast machine does not do more than shows anything.
const COPIES: u64 = 20_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

/// Committed inputs of a target.
fn committed(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(corpus().join(target)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }
}

/// One to four changes: of a bit, a byte, a number to one that is an edge; a part cut off, doubled or left out.
fn changed(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    const EDGES: [u64; 9] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, u64::MAX];
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.roll(4) {
        if bytes.is_empty() {
            break;
        }
        let at = dice.roll(bytes.len());
        let end = at + dice.roll((bytes.len() - at).min(200));
        match dice.roll(8) {
            0 | 1 => bytes[at] ^= 1 << dice.roll(8),
            2 => bytes[at] = dice.roll(256) as u8,
            3 | 4 => {
                let width = [1, 2, 4, 8][dice.roll(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&EDGES[dice.roll(EDGES.len())].to_le_bytes()[..width]);
            }
            5 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            6 => drop(bytes.drain(at..end)),
            _ if dice.roll(4) == 0 => bytes.truncate(at),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    bytes
}

#[test]
fn seeds_what_was_found_and_changed_copies_of_both_keep_every_promise() {
    if let Some(why) = watched::missing() {
        skip::because(why);
        return;
    }
    let seeds = [seeds::all(), seeds::hostile()].concat();
    let watchdog = Watchdog::new();
    for (name, target) in TARGETS {
        let mut inputs: Vec<Vec<u8>> = seeds.iter().filter(|(n, _)| *n == name).map(|(_, seed)| seed.clone()).collect();
        assert!(!inputs.is_empty(), "there is no seed for {name}");
        inputs.iter().for_each(|seed| target(seed));
        for (path, input) in committed(name) {
            watchdog.watch(&path.display().to_string(), || target(&input));
            inputs.push(input);
        }
        let (begun, mut dice, mut copies) = (Instant::now(), Dice(0x5eed), 0);
        while begun.elapsed() < TIME && copies < COPIES {
            let input = changed(&inputs[dice.roll(inputs.len())], &mut dice);
            let ended = std::panic::catch_unwind(|| watchdog.watch(name, || target(&input)));
            if let Err(panic) = ended {
                let path = std::env::temp_dir().join(format!("mmos-{name}-{copies}"));
                fs::write(&path, &input).unwrap();
                eprintln!("{name}: the input is in {}", path.display());
                std::panic::resume_unwind(panic);
            }
            copies += 1;
        }
        println!("{name}: {} inputs, {copies} changed copies in {:.1} s", inputs.len(), begun.elapsed().as_secs_f32());
    }
}

/// A fuzzer that begins with what is refused for another reason would learn little.
#[test]
fn seeds_are_sound_or_refused_as_they_are_meant_to_be() {
    let work = common::fast_dir();
    for (name, seed) in seeds::all() {
        let image = match name {
            "apply" => seed,
            "tar" | "cpio" => seeds::stored_frame(&seed),
            _ => continue,
        };
        let image = common::put(&work.path().join("image"), &image);
        let out = tempfile::tempdir_in(work.path()).unwrap();
        common::unpack(&image, &out.path().join("target"), 2).unwrap();
    }
    for (name, seed) in seeds::hostile() {
        let image = common::put(&work.path().join("image"), &seeds::stored_frame(&seed));
        let out = tempfile::tempdir_in(work.path()).unwrap();
        common::unpack(&image, &out.path().join("target"), 2).expect_err(name);
    }
}

/// `MMOS_SEEDS=FOLDER cargo test -p wim --test corpus -- --ignored` is how `cargo xtask fuzz` gets them.
#[test]
#[ignore = "writes the seeds for the fuzzers"]
fn seeds_are_written() {
    let folder = PathBuf::from(std::env::var_os("MMOS_SEEDS").expect("MMOS_SEEDS names a folder"));
    for (n, (target, seed)) in [seeds::all(), seeds::hostile()].concat().into_iter().enumerate() {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("seed-{n}")), seed).unwrap();
    }
}
