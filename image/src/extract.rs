//! `mmos-image extract`: single files and folders out of an image.

use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::BinaryBytes;
use serde::Serialize;
use wim::UnpackOptions;
use wim::listing::{Listing, ListingOptions, Missing};
use wim::tree::Kind;

use crate::progress::{Bar, Clock};

/// Names that are near to a misspelt one and are told.
const MOST_NAMES: usize = 3;

#[derive(clap::Args)]
#[command(after_help = "\
Each PATH goes into the folder under its own name, a folder with all below it; owners, modes, times, links between
what is extracted, and extended attributes are kept as by `apply`. Nothing that is there is replaced. Only what is needed is read
and unpacked; an archive has to be walked through.

With `--to -` the contents of one regular file go to standard output. Damage in them is known only at their end: then
the exit status is 1, as always.

Examples:
  mmos-image extract root.wim /etc/os-release --to -
  mmos-image extract root.wim /etc/mmos /usr/bin/busybox --to /tmp/look
  mmos-image extract rootfs.tar.zst etc/passwd")]
pub struct Args {
    /// The root image
    image: PathBuf,
    /// Paths inside it, with or without a leading slash
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The folder that they go into, made if absent; or `-` for standard output
    #[arg(long, default_value = ".", value_name = "DIR")]
    to: PathBuf,
    /// Number or name of the image in a WIM; the one marked for booting, or the first, unless given
    #[arg(long, value_name = "N")]
    index: Option<String>,
    /// Threads that unpack; as many as there are processors unless given
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Print JSON; not with `--to -`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    image: String,
    directory: String,
    /// Names that were made.
    entries: u64,
    /// Bytes of file contents.
    bytes: u64,
    seconds: f64,
    bytes_per_second: u64,
    workers: u32,
    /// What could not be reproduced, and what was assumed.
    notes: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let clock = Clock::start();
    let to_stdout = args.to.as_os_str() == "-";
    if to_stdout && args.json {
        bail!("--json and --to - both want standard output; leave one of them out");
    }
    let bar = Bar::new("reading");
    let progress = |p| bar.set(p);
    let options = ListingOptions { index: args.index.as_deref(), progress: Some(&progress), ..Default::default() };
    let listing = Listing::open(&args.image, &options)?;
    drop(bar);
    let names = find_all(&listing, &args.paths).with_context(|| args.image.display().to_string())?;
    if to_stdout {
        return write(&listing, args, &names);
    }
    check_apart(&listing, &names).with_context(|| args.image.display().to_string())?;
    if !args.to.exists() {
        std::fs::create_dir(&args.to).with_context(|| format!("cannot make {}", args.to.display()))?;
    }
    let bar = Bar::new("extracting");
    let progress = |p| bar.set(p);
    let options = UnpackOptions { workers: args.workers, progress: Some(&progress), ..UnpackOptions::default() };
    let report = listing.extract(&names, &args.to, &options)?;
    drop(bar);
    if args.json {
        return crate::json::print(&Outcome {
            image: args.image.display().to_string(),
            directory: args.to.display().to_string(),
            entries: report.entries,
            bytes: report.bytes,
            seconds: clock.seconds(),
            bytes_per_second: clock.rate(report.bytes),
            workers: report.workers,
            notes: report.notes,
        });
    }
    for note in &report.notes {
        eprintln!("mmos-image: note: {note}");
    }
    println!(
        "{}: {} entries, {} in {}, {} workers",
        args.to.display(),
        report.entries,
        BinaryBytes(report.bytes),
        clock.words(report.bytes),
        report.workers
    );
    Ok(())
}

/// The contents of one regular file to standard output.
fn write(listing: &Listing, args: &Args, names: &[u32]) -> anyhow::Result<()> {
    let ([name], [path]) = (names, args.paths.as_slice()) else {
        bail!("standard output takes one file, and {} paths are given; give one, or a folder with --to", names.len());
    };
    let Some((inode, found)) = listing.inode(*name) else { bail!("{} is not there", path.display()) };
    let what = match found.kind {
        Kind::File => {
            let mut out = std::io::stdout().lock();
            listing.write_file(inode, &mut out)?;
            return Ok(out.flush()?);
        }
        Kind::Directory => "a folder".to_owned(),
        Kind::Symlink(_) => {
            let targets = listing.targets(&[inode])?;
            let target = targets.get(&inode).map(|target| String::from_utf8_lossy(target).escape_debug().to_string());
            format!("a link to {}", target.unwrap_or_default())
        }
        Kind::Special(_) => "a special file".to_owned(),
    };
    bail!("{}: {} is {what}, and has no contents; give a regular file", args.image.display(), path.display())
}

fn find_all(listing: &Listing, paths: &[PathBuf]) -> anyhow::Result<Vec<u32>> {
    let mut names = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = path.as_os_str().as_bytes();
        if bytes.split(|b| *b == b'/').any(|part| part == b"..") {
            bail!("{} goes up with `..`; give the path itself, as `list` shows it", path.display());
        }
        match listing.find(bytes) {
            Ok(0) => bail!("{} is the whole image; `mmos-image apply` unpacks that", path.display()),
            Ok(name) => names.push(name),
            Err(missing) => bail!("{}", not_found(listing, path, &missing)),
        }
    }
    Ok(names)
}

/// That a path is not there, and which are near: names beside the one that is missing, or the same name elsewhere.
fn not_found(listing: &Listing, path: &Path, missing: &Missing) -> String {
    let within = listing.tree().path(missing.within);
    let within = format!("/{}", String::from_utf8_lossy(&within).escape_debug());
    let wanted = String::from_utf8_lossy(&missing.name).into_owned();
    let path = path.display();
    if listing.inode(missing.within).is_some_and(|(_, inode)| inode.kind != Kind::Directory) {
        return format!("there is no {path}: {within} is no folder, and links are not followed");
    }
    let name_of = |n: &u32| {
        let name = listing.tree().names.get(usize::try_from(*n).unwrap_or(usize::MAX));
        name.map(|name| String::from_utf8_lossy(&name.name).into_owned()).unwrap_or_default()
    };
    let beside: Vec<String> = listing.children(missing.within).iter().map(name_of).collect();
    let mut near: Vec<String> = Vec::new();
    let mut left: Vec<&str> = beside.iter().map(String::as_str).collect();
    while let Some(name) = link::nearest::nearest(&wanted, left.iter().copied()).filter(|_| near.len() < MOST_NAMES) {
        let parent = within.trim_end_matches('/');
        near.push(format!("{parent}/{}", name.escape_debug()));
        left.retain(|other| *other != name);
    }
    // The last part of the path, wherever it is.
    let last = Path::new(&path.to_string()).file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
    let elsewhere = listing.tree().names.iter().zip(0_u32..).filter(|(name, _)| *name.name == *last);
    for (_, n) in elsewhere.take(MOST_NAMES.saturating_sub(near.len())) {
        let found = format!("/{}", String::from_utf8_lossy(&listing.tree().path(n)).escape_debug());
        if !near.contains(&found) {
            near.push(found);
        }
    }
    match near.as_slice() {
        [] => format!(
            "there is no {path}, and nothing of a similar name in {within}; `mmos-image list` shows what there is"
        ),
        near => format!("there is no {path}; did you mean {}?", near.join(" or ")),
    }
}

/// That no two go to the same place.
fn check_apart(listing: &Listing, names: &[u32]) -> anyhow::Result<()> {
    let shown = |n: u32| format!("/{}", String::from_utf8_lossy(&listing.tree().path(n)).escape_debug());
    let name_of = |n: u32| usize::try_from(n).ok().and_then(|n| listing.tree().names.get(n));
    for (at, name) in names.iter().enumerate() {
        for other in names.iter().take(at) {
            if name_of(*name).map(|n| &n.name) == name_of(*other).map(|n| &n.name) {
                bail!("{} and {} would get the same name; extract them one by one", shown(*other), shown(*name));
            }
        }
        let mut above = *name;
        while let Some(parent) = name_of(above).map(|n| n.parent).filter(|parent| *parent != above) {
            above = parent;
            if names.contains(&above) {
                bail!(
                    "{} lies in {}, which is extracted with all that is in it; leave it out",
                    shown(*name),
                    shown(above)
                );
            }
        }
    }
    Ok(())
}
