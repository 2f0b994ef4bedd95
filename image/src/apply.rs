//! `mmos-image apply`: a root image into a directory, by the code that unpacks it on the device.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;
use indicatif::BinaryBytes;
use serde::Serialize;
use wim::UnpackOptions;

use crate::progress::{Bar, Clock};

#[derive(clap::Args)]
#[command(after_help = "\
The format is told by the content, not by the name. Run it as root: only root may set owners and make device nodes;
without, what could not be set is told at the end.

Examples:
  mmos-image apply root.wim /mnt/check
  mmos-image apply install.wim /mnt/check --index 2
  mmos-image apply rootfs.tar.zst /mnt/check
  mmos-image apply root.swm /mnt/check           with root2.swm, root3.swm, ... beside it
  mmos-image apply root.wim /mnt/check --json | jq .bytes_per_second
  ssh host cat root.wim | mmos-image apply - /mnt/check")]
pub struct Args {
    /// The root image: a file, the first part of a split WIM, or a block device that begins with one; - for a pipable
    /// WIM from standard input, unpacked while it arrives
    image: PathBuf,
    /// The directory to unpack into; made if absent, and must be empty
    directory: PathBuf,
    /// Number or name of the image in a WIM; the one marked for booting, or the first, unless given
    #[arg(long, value_name = "N")]
    index: Option<String>,
    /// Threads that unpack; as many as there are processors unless given
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    image: String,
    directory: String,
    format: String,
    /// Size of the image.
    image_bytes: u64,
    /// Names in the tree.
    entries: u64,
    /// Bytes of file contents.
    bytes: u64,
    seconds: f64,
    bytes_per_second: u64,
    workers: u32,
    /// What could not be reproduced, and what was assumed.
    notes: Vec<String>,
}

/// The image at a path, or the one that arrives from standard input.
fn open(args: &Args) -> anyhow::Result<wim::Root> {
    const STDIN: &str = "standard input";
    let index = args.index.as_deref();
    if args.image.as_os_str() != "-" {
        return Ok(wim::root::open(&args.image, index)?);
    }
    // Not through the standard library's own buffer and lock.
    let input = std::io::stdin().as_fd().try_clone_to_owned().context(STDIN)?;
    Ok(wim::root::open_pipe(input, STDIN, index)?)
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let clock = Clock::start();
    let root = open(args)?;
    let (format, image_bytes) = (root.format().to_string(), root.source_bytes());
    if !args.directory.exists() {
        std::fs::create_dir(&args.directory)
            .map_err(|e| anyhow::Error::new(e).context(format!("cannot make {}", args.directory.display())))?;
    }
    let bar = Bar::new("unpacking");
    let progress = |p| bar.set(p);
    let options = UnpackOptions { workers: args.workers, progress: Some(&progress), ..UnpackOptions::default() };
    let report = root.unpack(&args.directory, &options)?;
    drop(bar);
    if args.json {
        let outcome = Outcome {
            image: args.image.display().to_string(),
            directory: args.directory.display().to_string(),
            format,
            image_bytes,
            entries: report.entries,
            bytes: report.bytes,
            seconds: clock.seconds(),
            bytes_per_second: clock.rate(report.bytes),
            workers: report.workers,
            notes: report.notes,
        };
        return crate::json::print(&outcome);
    }
    for note in &report.notes {
        eprintln!("mmos-image: note: {note}");
    }
    println!(
        "{}: {} entries, {} in {}, {} workers",
        args.directory.display(),
        report.entries,
        BinaryBytes(report.bytes),
        clock.words(report.bytes),
        report.workers
    );
    Ok(())
}
