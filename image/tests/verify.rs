//! `verify` on sound and damaged images: what it says, what it leaves unsaid, and how it ends, beside wimlib's verdict.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use program::{contents, done, ended, json, other, tar_zst};
use serde_json::Value;

/// Small and large files, equal ones, links, an empty file.
fn tree(work: &Path) {
    fs::create_dir_all(work.join("tree/usr/bin")).unwrap();
    for n in 0..40 {
        fs::write(work.join(format!("tree/usr/bin/small-{n:02}")), contents(n, 3000)).unwrap();
    }
    fs::write(work.join("tree/large"), contents(100, 3 << 20)).unwrap();
    fs::write(work.join("tree/equal-a"), contents(101, 50_000)).unwrap();
    fs::write(work.join("tree/equal-b"), contents(101, 50_000)).unwrap();
    fs::write(work.join("tree/empty"), "").unwrap();
    symlink("large", work.join("tree/link")).unwrap();
}

const FORMATS: [&[&str]; 5] = [
    &["--compress", "none"],
    &["--compress", "xpress"],
    &["--compress", "lzx"],
    &["--compress", "lzms"],
    &["--compress", "lzms", "--solid", "--chunk-size", "1048576"],
];

fn field(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn number(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

/// Offsets of the blob table's entries.
fn entries(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let (begin, len) = (number(field(bytes, 0x38)), number(field(bytes, 0x40)));
    (begin..begin + len).step_by(50)
}

/// Flips a bit in the middle of the contents of this size; not solid.
fn damage(bytes: &mut [u8], size: u64) {
    let entry = entries(bytes).find(|at| field(bytes, at + 16) == size).expect("the contents are in the table");
    let stored = number(field(bytes, entry) & 0xff_ffff_ffff_ffff);
    bytes[number(field(bytes, entry + 8)) + stored / 2] ^= 4;
}

fn parts(outcome: &Value) -> Vec<&str> {
    outcome["damage"].as_array().unwrap().iter().map(|d| d["part"].as_str().unwrap()).collect()
}

#[test]
fn a_sound_image_of_every_format_is_found_sound_by_any_number_of_workers() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    for format in FORMATS {
        done(work, &[&["capture", "tree", "root.wim"], format].concat());
        for workers in ["1", "2", "5"] {
            let said = done(work, &["verify", "root.wim", "--workers", workers]);
            assert!(said.starts_with("root.wim: sound, 1 images, 48 entries, 43 contents, an integrity"), "{said}");
            let outcome = json(work, &["verify", "root.wim", "--workers", workers]);
            assert_eq!((&outcome["sound"], &outcome["contents"]), (&true.into(), &43.into()));
            assert!(outcome["bytes"].as_u64().unwrap() > 3 << 20);
        }
        let Some((agreed, _)) = other(work, "wimlib-imagex", &["verify", "root.wim"]) else { return };
        assert!(agreed);
    }
}

#[test]
fn all_damaged_contents_are_told_with_their_files() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    for format in FORMATS.into_iter().filter(|format| !format.contains(&"--solid")) {
        done(work, &[&["capture", "tree", "root.wim"], format].concat());
        let mut bytes = fs::read(work.join("root.wim")).unwrap();
        damage(&mut bytes, 50_000);
        damage(&mut bytes, 3 << 20);
        fs::write(work.join("root.wim"), &bytes).unwrap();
        let (said, complaint) = ended(work, 1, &["verify", "root.wim"]);
        assert!(said.contains("; affects /large\n"), "{format:?}: {said}");
        assert!(said.contains("; affects /equal-a, /equal-b\n"), "{format:?}: {said}");
        assert!(said.contains("bytes 208 to "), "the integrity table: {format:?}: {said}");
        assert!(complaint.contains("3 parts of it are damaged; copy it again"), "{complaint}");
        let (said, _) = ended(work, 1, &["verify", "root.wim", "--json", "--workers", "1"]);
        let outcome: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(outcome["sound"], false);
        let mut found = parts(&outcome);
        found.sort_unstable();
        assert_eq!(found, ["contents", "contents", "range"], "{said}");
        let Some((agreed, _)) = other(work, "wimlib-imagex", &["verify", "root.wim"]) else { return };
        assert!(!agreed);
    }
}

#[test]
fn a_damaged_solid_chunk_affects_all_files_in_it_and_no_other() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    fs::create_dir(work.join("tree")).unwrap();
    for n in 0..8 {
        fs::write(work.join(format!("tree/{n}")), contents(n, 300_000)).unwrap();
    }
    let solid = ["--compress", "xpress", "--solid", "--chunk-size", "65536"];
    done(work, &[&["capture", "tree", "root.wim"], &solid[..]].concat());
    let sound = fs::read(work.join("root.wim")).unwrap();
    let solid = entries(&sound).find(|at| field(&sound, at + 16) == 0x1_0000_0000).expect("a solid resource");
    let (offset, stored) = (number(field(&sound, solid + 8)), number(field(&sound, solid) & 0xff_ffff_ffff_ffff));
    let mut affected_at_all = std::collections::BTreeSet::new();
    for part in 1..10 {
        let mut bytes = sound.clone();
        bytes[offset + stored * part / 10] ^= 1;
        fs::write(work.join("root.wim"), &bytes).unwrap();
        for workers in ["1", "4"] {
            let (said, _) = ended(work, 1, &["verify", "root.wim", "--json", "--workers", workers]);
            let outcome: Value = serde_json::from_str(&said).unwrap();
            let files: Vec<&Value> =
                outcome["damage"].as_array().unwrap().iter().filter_map(|d| d["files"][0].get("path")).collect();
            assert!((1..=2).contains(&files.len()), "a chunk is smaller than a file: {said}");
            affected_at_all.extend(files.iter().map(|f| f.to_string()));
        }
    }
    assert!(affected_at_all.len() > 5, "{affected_at_all:?}");
}

#[test]
fn structure_metadata_and_integrity_table_are_checked() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    done(work, &["capture", "tree", "root.wim", "--compress", "none"]);
    let sound = fs::read(work.join("root.wim")).unwrap();
    let found = |bytes: &[u8]| {
        fs::write(work.join("bad.wim"), bytes).unwrap();
        let (said, _) = ended(work, 1, &["verify", "bad.wim", "--json"]);
        let outcome: Value = serde_json::from_str(&said).unwrap();
        parts(&outcome).join(" ")
    };
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        bytes
    };
    // The header's flags; a name in the metadata; a hash, and the number of chunks, in the integrity table.
    let metadata = entries(&sound).find(|at| sound[at + 7] & 2 != 0).unwrap();
    let metadata = number(field(&sound, metadata + 8));
    let integrity = number(field(&sound, 0x7c + 8));
    assert_eq!(found(&flipped(8)), "structure");
    assert_eq!(found(&flipped(metadata + 200)), "metadata range");
    assert_eq!(found(&flipped(integrity + 15)), "range");
    assert_eq!(found(&flipped(integrity + 4)), "integrity");
    assert_eq!(found(&sound[..sound.len() / 2]), "structure");
    for len in [0, 100, 207] {
        fs::write(work.join("bad.wim"), &sound[..len]).unwrap();
        ended(work, 1, &["verify", "bad.wim"]);
    }
}

#[test]
fn contents_that_no_image_uses_are_checked_too() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    fs::create_dir(work.join("second")).unwrap();
    fs::write(work.join("second/only-here"), contents(7, 70_000)).unwrap();
    fs::write(work.join("second/large"), contents(100, 3 << 20)).unwrap();
    let Some((captured, _)) = other(work, "wimlib-imagex", &["capture", "tree", "root.wim", "--compress=LZX"]) else {
        return;
    };
    assert!(captured);
    assert!(other(work, "wimlib-imagex", &["append", "second", "root.wim"]).unwrap().0);
    let mut bytes = fs::read(work.join("root.wim")).unwrap();
    damage(&mut bytes, 3 << 20);
    fs::write(work.join("root.wim"), &bytes).unwrap();
    let (said, _) = ended(work, 1, &["verify", "root.wim"]);
    assert!(said.contains("; affects /large (image 1), /large (image 2)\n"), "{said}");
    assert!(said.contains("2 images") && said.contains("no integrity table"), "{said}");

    // The second image deleted, in the way of a tool that only lowers its count.
    damage(&mut bytes, 70_000);
    let second = entries(&bytes).filter(|at| bytes[at + 7] & 2 != 0).nth(1).unwrap();
    bytes[second + 26..second + 30].fill(0);
    bytes[0x2c] = 1;
    fs::write(work.join("root.wim"), &bytes).unwrap();
    let (said, _) = ended(work, 1, &["verify", "root.wim"]);
    assert!(said.contains("; no file has them\n") && said.contains("; affects /large\n"), "{said}");
}

#[test]
fn every_file_of_a_split_image_is_checked() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    done(work, &["capture", "tree", "root.wim", "--compress", "none"]);
    let Some((split, _)) = other(work, "wimlib-imagex", &["split", "root.wim", "root.swm", "1", "--check"]) else {
        return;
    };
    assert!(split);
    let outcome = json(work, &["verify", "root.swm"]);
    assert!(outcome["integrity_chunks"].as_u64().unwrap() >= 2, "{outcome}");
    let mut bytes = fs::read(work.join("root2.swm")).unwrap();
    bytes[1000] ^= 1;
    fs::write(work.join("root2.swm"), &bytes).unwrap();
    let (said, _) = ended(work, 1, &["verify", "root.swm"]);
    assert!(said.contains("; affects /") && said.contains(" of file 2: they differ"), "{said}");
}

#[test]
fn an_archive_is_checked_to_its_end() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    if tar_zst(work, "tree", "root.tar.zst").is_none() {
        return;
    }
    let said = done(work, &["verify", "root.tar.zst"]);
    assert!(said.starts_with("root.tar.zst: sound, 1 images, 48 entries, 44 contents"), "{said}");
    let sound = fs::read(work.join("root.tar.zst")).unwrap();
    let mut flipped = sound.clone();
    // The last byte is of the checksum.
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [&flipped[..], &sound[..sound.len() - 1], &sound[..sound.len() / 2]] {
        fs::write(work.join("bad"), bytes).unwrap();
        let (said, _) = ended(work, 1, &["verify", "bad"]);
        let frame = format!("bytes 0 to {}: a zstd frame: ", bytes.len());
        assert!(said.starts_with(&frame) && said.lines().count() == 2, "{said}");
    }
    // Frames that are sound, of what is no whole archive.
    let tar = Command::new("tar").args(["-c", "-C", "tree", "."]).current_dir(work).output().unwrap().stdout;
    fs::write(work.join("bad"), zstd::encode_all(&tar[..tar.len() / 2], 1).unwrap()).unwrap();
    let (said, _) = ended(work, 1, &["verify", "bad"]);
    assert!(said.starts_with("stream: "), "{said}");
}

#[test]
fn of_an_archive_in_several_frames_every_damaged_one_is_told() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    let tar = Command::new("tar").args(["-c", "-C", "tree", "."]).current_dir(work).output().unwrap().stdout;
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    compressor.include_checksum(true).unwrap();
    let parts = tar.chunks(tar.len() / 6 + 1);
    let mut frames: Vec<Vec<u8>> = parts.map(|part| compressor.compress(part).unwrap()).collect();
    // The first one, too, by which the format is known.
    for damaged in [vec![], vec![2, 4], vec![0, 1, 5]] {
        for n in &damaged {
            *frames[*n].last_mut().unwrap() ^= 1;
        }
        fs::write(work.join("root"), frames.concat()).unwrap();
        let verify = ["verify", "root", "--json"];
        let said = if damaged.is_empty() { done(work, &verify) } else { ended(work, 1, &verify).0 };
        let outcome: Value = serde_json::from_str(&said).unwrap();
        let found: Vec<Value> = outcome["damage"].as_array().unwrap().iter().map(|d| d["range"].clone()).collect();
        let begin = |n: usize| frames[..n].iter().map(Vec::len).sum::<usize>();
        let expected: Vec<Value> = damaged.iter().map(|n| [begin(*n), begin(*n + 1)].into()).collect();
        assert_eq!(found, expected, "{said}");
        for n in &damaged {
            *frames[*n].last_mut().unwrap() ^= 1;
        }
    }
}

#[test]
fn what_is_no_image_is_trouble_in_one_line_with_json_too() {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("text"), "no image").unwrap();
    for arguments in [&["verify", "text"][..], &["verify", "text", "--json"], &["verify", "absent", "--json"]] {
        let (said, _) = ended(work.path(), 1, arguments);
        assert_eq!(said, "", "{arguments:?}");
    }
}

#[test]
fn a_reader_that_goes_away_does_not_change_the_verdict() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    done(work, &["capture", "tree", "sound.wim"]);
    let mut bytes = fs::read(work.join("sound.wim")).unwrap();
    damage(&mut bytes, 50_000);
    fs::write(work.join("bad.wim"), &bytes).unwrap();
    fs::remove_file(work.join("tree/empty")).unwrap();
    done(work, &["capture", "tree", "less.wim"]);
    let status = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmos-image"));
        command.args(arguments).current_dir(work).stdout(writer).status().unwrap().code()
    };
    for json in [&[][..], &["--json"]] {
        assert_eq!(status(&[&["verify", "bad.wim"], json].concat()), Some(1), "{json:?}");
        assert_eq!(status(&[&["verify", "sound.wim"], json].concat()), Some(0), "{json:?}");
        assert_eq!(status(&[&["diff", "sound.wim", "less.wim"], json].concat()), Some(1), "{json:?}");
        assert_eq!(status(&[&["diff", "sound.wim", "sound.wim"], json].concat()), Some(0), "{json:?}");
        assert_eq!(status(&[&["list", "sound.wim"], json].concat()), Some(0), "{json:?}");
    }
}
