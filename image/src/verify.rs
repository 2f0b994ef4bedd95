//! `mmos-image verify`: whether an image is as it was made, all of it, without unpacking it anywhere.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::BinaryBytes;
use serde::Serialize;
use wim::UnpackOptions;
use wim::verify::{Damage, Part, Verified};

use crate::kind::hex;
use crate::progress::{Bar, Clock};

#[derive(clap::Args)]
#[command(after_help = "\
Of a WIM: header, tables, the metadata of all images, the SHA-1 of all contents, also of those that no image uses, and
the integrity table where there is one. Of an archive: the whole stream, with the checksums of its frames. This finds
damage, not forgery: whoever makes an image makes its hashes.

All that is damaged is listed, of a WIM with the files that it affects. An archive is one stream, which ends at the first
damage; behind it each zstd frame that can be found is checked by itself.

Exit status: 0 sound, 1 damaged or not to be read.

Examples:
  mmos-image verify root.wim
  mmos-image verify root.wim --json | jq -r '.damage[].files[]?.path'")]
pub struct Args {
    /// The root image: a file, or a block device that begins with one
    image: PathBuf,
    /// Threads that check; as many as there are processors unless given
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    image: String,
    format: String,
    sound: bool,
    /// Images in it.
    images: u32,
    /// Names in all images.
    entries: u64,
    /// Contents that were checked.
    contents: u64,
    /// Bytes that were hashed.
    bytes: u64,
    seconds: f64,
    bytes_per_second: u64,
    workers: u32,
    /// Chunks of the integrity table; null where there is none.
    integrity_chunks: Option<u64>,
    damage: Vec<Wrong>,
    /// Damage beyond what is listed.
    more_damage: u64,
    /// zstd frames without a checksum, in which no damage is found.
    unchecked: u64,
}

#[derive(Serialize)]
struct Wrong {
    /// structure, xml, metadata, contents, integrity, range or stream.
    part: &'static str,
    why: String,
    /// Of metadata: the number of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<u32>,
    /// Of contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha1: Option<String>,
    /// Of an integrity table or a range: number of the file, of a split WIM; else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<u16>,
    /// Of a range: offsets of its first byte and of the first behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[u64; 2]>,
    /// Of contents: files that have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File>,
    #[serde(skip_serializing_if = "is_zero")]
    more_files: u64,
}

#[derive(Serialize)]
struct File {
    image: u32,
    path: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let clock = Clock::start();
    let bar = Bar::new("checking");
    let progress = |p| bar.set(p);
    let options = UnpackOptions { workers: args.workers, progress: Some(&progress), ..UnpackOptions::default() };
    let verified = wim::verify::verify(&args.image, &options)?;
    drop(bar);
    let name = args.image.display();
    if args.json {
        crate::json::print(&outcome(args, &verified, &clock))?;
    } else {
        let mut out = crate::json::Patient::stdout();
        for damage in &verified.damage {
            writeln!(out, "{}", line(damage, verified.images))?;
        }
        if verified.more_damage > 0 {
            writeln!(out, "and {} more", verified.more_damage)?;
        }
        let integrity = match verified.integrity {
            Some(1) => "an integrity table of 1 chunk".to_owned(),
            Some(chunks) => format!("an integrity table of {chunks} chunks"),
            None => "no integrity table".to_owned(),
        };
        writeln!(
            out,
            "{name}: {}, {} images, {} entries, {} contents, {integrity}; {} checked in {}, {} workers",
            if verified.is_sound() { "sound" } else { "damaged" },
            verified.images,
            verified.entries,
            verified.contents,
            BinaryBytes(verified.bytes),
            clock.words(verified.bytes),
            verified.workers
        )?;
        if verified.unchecked > 0 {
            let count = verified.unchecked;
            writeln!(
                out,
                "{name}: {count} zstd frames have no checksum (zstd --no-check): of damage in them nothing is known"
            )?;
        }
    }
    if verified.is_sound() {
        return Ok(ExitCode::SUCCESS);
    }
    let count = (verified.damage.len() as u64).saturating_add(verified.more_damage);
    let parts = if count == 1 { "part of it is" } else { "parts of it are" };
    eprintln!("mmos-image: {name}: {count} {parts} damaged; copy it again, or make it again");
    Ok(ExitCode::FAILURE)
}

fn line(damage: &Damage, images: u32) -> String {
    let what = match damage.part {
        Part::Structure => "structure".to_owned(),
        Part::Xml => "names of the images".to_owned(),
        Part::Metadata { image } => format!("metadata of image {image}"),
        Part::Contents { sha1 } => format!("contents {}", hex(&sha1)),
        Part::Integrity { file: 1 } => "integrity table".to_owned(),
        Part::Integrity { file } => format!("integrity table of file {file}"),
        Part::Range { file: 1, from, to } => format!("bytes {from} to {to}"),
        Part::Range { file, from, to } => format!("bytes {from} to {to} of file {file}"),
        Part::Stream => "stream".to_owned(),
    };
    let mut files: Vec<String> = damage
        .files
        .iter()
        .map(|f| if images > 1 { format!("{} (image {})", f.path, f.image) } else { f.path.clone() })
        .collect();
    if damage.more_files > 0 {
        files.push(format!("{} more", damage.more_files));
    }
    let affects = match damage.part {
        Part::Contents { .. } if files.is_empty() => "; no file has them".to_owned(),
        _ if files.is_empty() => String::new(),
        _ => format!("; affects {}", files.join(", ")),
    };
    format!("{what}: {}{affects}", damage.why)
}

fn outcome(args: &Args, verified: &Verified, clock: &Clock) -> Outcome {
    Outcome {
        image: args.image.display().to_string(),
        format: verified.format.to_string(),
        sound: verified.is_sound(),
        images: verified.images,
        entries: verified.entries,
        contents: verified.contents,
        bytes: verified.bytes,
        seconds: clock.seconds(),
        bytes_per_second: clock.rate(verified.bytes),
        workers: verified.workers,
        integrity_chunks: verified.integrity,
        damage: verified.damage.iter().map(wrong).collect(),
        more_damage: verified.more_damage,
        unchecked: verified.unchecked,
    }
}

fn wrong(damage: &Damage) -> Wrong {
    let mut wrong = Wrong {
        part: "structure",
        why: damage.why.clone(),
        image: None,
        sha1: None,
        file: None,
        range: None,
        files: damage.files.iter().map(|f| File { image: f.image, path: f.path.clone() }).collect(),
        more_files: damage.more_files,
    };
    match damage.part {
        Part::Structure => {}
        Part::Xml => wrong.part = "xml",
        Part::Metadata { image } => (wrong.part, wrong.image) = ("metadata", Some(image)),
        Part::Contents { sha1 } => (wrong.part, wrong.sha1) = ("contents", Some(hex(&sha1))),
        Part::Integrity { file } => (wrong.part, wrong.file) = ("integrity", Some(file)),
        Part::Range { file, from, to } => {
            (wrong.part, wrong.file, wrong.range) = ("range", Some(file), Some([from, to]));
        }
        Part::Stream => wrong.part = "stream",
    }
    wrong
}
