//! `mmos-image list`: the files of an image, like `ls -l`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;
use wim::listing::{Listing, ListingOptions};
use wim::tree::Inode;

use crate::json;
use crate::kind;
use crate::progress::Bar;

#[derive(clap::Args)]
#[command(after_help = "\
Columns: mode, links, owner, group, size, path. With --json, one object a line. An archive is read to its end for it.

Examples:
  mmos-image list root.wim
  mmos-image list root.wim --json | jq -r 'select(.kind == \"file\" and .size > 1000000) | .path'")]
pub struct Args {
    /// The root image: a WIM or an archive, a file or a block device that begins with one
    image: PathBuf,
    /// Number or name of the image in a WIM; the one marked for booting, or the first, unless given
    #[arg(long, value_name = "N")]
    index: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    kind: &'static str,
    /// The twelve permission bits, in octal.
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    links: usize,
    /// Seconds since 1970.
    modified: i64,
    xattrs: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let bar = Bar::new("reading");
    let progress = |p| bar.set(p);
    let options = ListingOptions { index: args.index.as_deref(), hash: false, progress: Some(&progress) };
    let listing = Listing::open(&args.image, &options)?;
    drop(bar);
    let mut names: Vec<(Vec<u8>, u64, &Inode)> = Vec::new();
    for n in (0..).take(listing.tree().names.len()) {
        if let Some((number, inode)) = listing.inode(n) {
            names.push((listing.tree().path(n), listing.size(number), inode));
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (path, size, inode) in names {
        let entry = Entry {
            path: format!("/{}", String::from_utf8_lossy(&path)),
            kind: kind::word(inode.kind),
            mode: format!("{:04o}", inode.meta.mode),
            uid: inode.meta.uid,
            gid: inode.meta.gid,
            size,
            links: inode.names.len(),
            modified: inode.meta.modified.seconds,
            xattrs: inode.meta.xattrs.iter().map(|x| String::from_utf8_lossy(&x.name).into_owned()).collect(),
        };
        if args.json {
            json::print_line(&mut out, &entry)?;
        } else {
            let Entry { path, mode, uid, gid, size, links, .. } = &entry;
            let letter = kind::letter(inode.kind);
            writeln!(out, "{letter}{mode} {links:>3} {uid:>5} {gid:>5} {size:>10} {}", path.escape_debug())?;
        }
    }
    Ok(out.flush()?)
}
