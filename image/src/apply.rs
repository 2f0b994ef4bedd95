//! `mmos-image apply`: a root image into a directory, by the code that unpacks it on the device.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use indicatif::BinaryBytes;
use wim::UnpackOptions;

use crate::progress::Bar;

#[derive(clap::Args)]
#[command(after_help = "\
The format is told by the content, not by the name. Run it as root: only root may set owners and make device nodes;
without, what could not be set is told at the end.

Examples:
  mmos-image apply root.wim /mnt/check
  mmos-image apply install.wim /mnt/check --index 2
  mmos-image apply rootfs.tar.zst /mnt/check")]
pub struct Args {
    /// The root image: a file, or a block device that begins with one
    image: PathBuf,
    /// The directory to unpack into; made if absent, and must be empty
    directory: PathBuf,
    /// Number or name of the image in a WIM; the one marked for booting, or the first, unless given
    #[arg(long, value_name = "N")]
    index: Option<String>,
    /// Threads that unpack; as many as there are processors unless given
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let root = wim::root::open(&args.image, args.index.as_deref())?;
    if !args.directory.exists() {
        std::fs::create_dir(&args.directory)
            .map_err(|e| anyhow::Error::new(e).context(format!("cannot make {}", args.directory.display())))?;
    }
    let bar = Bar::new("unpacking");
    let progress = |p| bar.set(p);
    let options = UnpackOptions { workers: args.workers, progress: Some(&progress), ..UnpackOptions::default() };
    let report = root.unpack(&args.directory, &options)?;
    drop(bar);
    for note in &report.notes {
        eprintln!("mmos-image: note: {note}");
    }
    println!(
        "{}: {} entries, {} in {:.1} s, {} workers",
        args.directory.display(),
        report.entries,
        BinaryBytes(report.bytes),
        begun.elapsed().as_secs_f64(),
        report.workers
    );
    Ok(())
}
