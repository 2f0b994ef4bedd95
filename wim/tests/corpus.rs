//! What the fuzzers of `fuzz/` begin with, what they have found (`fuzz/corpus`), and changed copies of both, through the
//! same functions: a short look, in each run of the tests, at what the fuzzers look at for hours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;
mod fuzzed;

use std::collections::BTreeMap;
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

/// Opens and unpacks what an input of `apply` stands for.
fn unpacked(input: &[u8]) -> Result<BTreeMap<PathBuf, common::Facts>, wim::Error> {
    let work = common::fast_dir();
    let (image, target) = (work.path().join("image"), work.path().join("target"));
    for (bytes, n) in fuzzed::files(input).iter().zip(1..) {
        let path = if n == 1 { image.clone() } else { work.path().join(format!("image{n}")) };
        common::put(&path, bytes);
    }
    common::unpack(&image, &target, 2).map(|_| common::snapshot(&target))
}

/// A fuzzer that begins with what is refused for another reason would learn little.
#[test]
fn seeds_are_sound_or_refused_as_they_are_meant_to_be() {
    let (mut pipable, mut split) = (0, 0);
    for (name, seed) in seeds::all() {
        match name {
            "apply" => {
                let tree = unpacked(&seed).unwrap();
                split += usize::from(fuzzed::files(&seed).len() > 1);
                if seed.starts_with(fuzzed::PIPABLE_MAGIC) {
                    let (stream, out) = (Box::new(std::io::Cursor::new(seed)), common::fast_dir());
                    let root = wim::root::open_stream(stream, "a stream", None).unwrap();
                    root.unpack(out.path(), &wim::UnpackOptions::default()).unwrap();
                    assert_eq!(common::snapshot(out.path()), tree);
                    pipable += 1;
                }
            }
            "tar" | "cpio" => {
                let out = common::fast_dir();
                wim::fuzz::unpacked(&seed, out.path()).unwrap().expect("it is an archive");
            }
            _ => {}
        }
    }
    assert!(pipable >= 4 && (split >= 4 || common::run("wimlib-imagex", &["--version".as_ref()]).is_none()));
    for (name, seed) in seeds::hostile() {
        let out = common::fast_dir();
        wim::fuzz::unpacked(&seed, out.path()).expect_err(name);
    }
}

/// Contents that are changed are unpacked, whatever kind of WIM they are in: else a fuzzer would never see what comes
/// behind the hashes. Where the metadata of a pipable WIM is compressed, that cannot be.
#[test]
fn a_wim_whose_contents_are_changed_is_sound_again_once_its_hashes_are() {
    let mut kinds = 0;
    for (_, seed) in seeds::all().into_iter().filter(|(name, _)| *name == "apply") {
        let is_pipable = seed.starts_with(fuzzed::PIPABLE_MAGIC);
        if !is_pipable && !seed.starts_with(fuzzed::MAGIC) || is_pipable && seed[0x10] & 2 != 0 {
            continue;
        }
        let tree = unpacked(&seed).unwrap();
        // The first resource, or what of a first part's second file is that: contents, unless there are none.
        let sound = (208..seed.len()).step_by(seed.len() / 150).any(|at| {
            let mut changed = seed.clone();
            changed[at] ^= 0x10;
            let mut files = fuzzed::files(&changed);
            wim::fuzz::sound_hashes(&mut files);
            let contents = |tree: &BTreeMap<PathBuf, common::Facts>| {
                tree.values().map(|facts| facts.contents.clone()).collect::<Vec<_>>()
            };
            unpacked(&files.concat()).is_ok_and(|other| contents(&other) != contents(&tree))
        });
        assert!(sound, "no change of {} bytes is unpacked", seed.len());
        kinds += 1;
    }
    assert!(kinds >= 10, "{kinds}");
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
