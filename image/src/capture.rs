//! `mmos-image capture`: a directory into a WIM.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;
use indicatif::BinaryBytes;
use serde::Serialize;
use wim::capture::{CaptureOptions, Compression};

use crate::progress::{Bar, Clock};

#[derive(clap::Args)]
#[command(after_help = "\
Contents, owners, modes, times, symlinks, hard links, devices, fifos and extended attributes are kept. Run it as root
where the tree belongs to more than one user.

Examples:
  mmos-image capture staging root.wim
  mmos-image capture staging root.wim --compress xpress      faster to unpack, larger
  mmos-image capture staging root.wim --compress lzms --solid    smallest, slowest to unpack
  mmos-image capture staging root.wim --json | jq .image_bytes")]
pub struct Args {
    /// The directory that becomes the root
    directory: PathBuf,
    /// The WIM to write; replaced when all of it is written
    out: PathBuf,
    /// Compression format
    #[arg(long, value_enum, default_value = "lzx", value_name = "FORMAT")]
    compress: Format,
    /// Compress all files together
    #[arg(long)]
    solid: bool,
    /// Write it so that it can be unpacked while it arrives: `mmos-image apply - DIR` reads it from a pipe
    #[arg(long, conflicts_with = "solid")]
    pipable: bool,
    /// Bytes in a chunk, a power of two; larger ones compress better and take more memory to unpack
    #[arg(long, value_name = "BYTES")]
    chunk_size: Option<u32>,
    /// Name of the image
    #[arg(long)]
    name: Option<String>,
    /// Threads that compress; as many as there are processors unless given
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    directory: String,
    image: String,
    /// Size of the image.
    image_bytes: u64,
    /// Names in the tree.
    entries: u64,
    /// Bytes of contents, with what links lead to; equal ones once.
    bytes: u64,
    seconds: f64,
    bytes_per_second: u64,
    workers: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    None,
    Xpress,
    Lzx,
    Lzms,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let clock = Clock::start();
    let bar = Bar::new("compressing");
    let progress = |p| bar.set(p);
    let options = CaptureOptions {
        compression: match args.compress {
            Format::None => Compression::None,
            Format::Xpress => Compression::Xpress,
            Format::Lzx => Compression::Lzx,
            Format::Lzms => Compression::Lzms,
        },
        solid: args.solid,
        pipable: args.pipable,
        chunk_size: args.chunk_size,
        name: args.name.as_deref(),
        threads: args.threads,
        progress: Some(&progress),
    };
    let captured = wim::capture::capture(&args.directory, &args.out, &options)?;
    drop(bar);
    let image_bytes = std::fs::metadata(&args.out)?.len();
    if args.json {
        return crate::json::print(&Outcome {
            directory: args.directory.display().to_string(),
            image: args.out.display().to_string(),
            image_bytes,
            entries: captured.entries,
            bytes: captured.bytes,
            seconds: clock.seconds(),
            bytes_per_second: clock.rate(captured.bytes),
            workers: captured.workers,
        });
    }
    println!(
        "{}: {} entries, {} to {} in {}, {} workers",
        args.out.display(),
        captured.entries,
        BinaryBytes(captured.bytes),
        BinaryBytes(image_bytes),
        clock.words(captured.bytes),
        captured.workers
    );
    Ok(())
}
