//! `mmos-image diff`: what two images have differently. Both trees are walked side by side, a folder at a time; nothing
//! is unpacked, since a WIM names contents by their SHA-1. An archive does not, so its contents are hashed once.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::BinaryBytes;
use serde::Serialize;
use wim::listing::{Listing, ListingOptions};
use wim::tree::{Inode, Kind};
use wim::{Special, Time, Xattr};

use crate::json;
use crate::kind::{self, hex};
use crate::progress::Bar;

#[derive(clap::Args)]
#[command(after_help = "\
A line for each path: `+` it is in B alone, `-` in A alone, `~` in both and different, with what differs: kind,
contents (by SHA-1), mode, owner, target (of a link), device, xattrs, links (what is a hard link to what), and with
--times modified. Access times do not count. Modes that an image from Windows does not have are by rule (docs/images.md);
their execute bits are known only once it is unpacked, and do not count.

Formats may differ: a WIM and a tar.zst of the same tree are the same. With --json, one object a line, the last one
with the totals.

Exit status: 0 the same, 1 different, 2 trouble.

Examples:
  mmos-image diff old.wim new.wim
  mmos-image diff install.wim install.wim --index-a 1 --index-b 2
  mmos-image diff root.wim rootfs.tar.zst --json | jq -r 'select(.change == \"added\") | .path'")]
pub struct Args {
    /// The root image before
    a: PathBuf,
    /// The root image after
    b: PathBuf,
    /// Number or name of the image in A, where that is a WIM
    #[arg(long, value_name = "N")]
    index_a: Option<String>,
    /// Number or name of the image in B, where that is a WIM
    #[arg(long, value_name = "N")]
    index_b: Option<String>,
    /// Compare times of modification, too
    #[arg(long)]
    times: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    /// added, removed or changed.
    change: &'static str,
    path: &'a str,
    /// What it is; of a changed one, what it is in B.
    kind: &'static str,
    /// Bytes of its contents, likewise.
    size: u64,
    /// What differs: before and after.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    differences: BTreeMap<&'static str, [String; 2]>,
}

/// The last line.
#[derive(Serialize, Default)]
struct Totals {
    same: bool,
    added: Sum,
    removed: Sum,
    changed: Sum,
    /// Paths that do not differ.
    unchanged: u64,
}

#[derive(Serialize, Default)]
struct Sum {
    paths: u64,
    /// Bytes of the files among them; of changed ones, in B.
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.paths = self.paths.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A name in A, in B, or in both.
type Pair = (Option<u32>, Option<u32>);

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let bar = Bar::new("reading");
    let progress = |p| bar.set(p);
    let open = |path, index: &Option<String>| {
        let options = ListingOptions { index: index.as_deref(), hash: true, progress: Some(&progress) };
        Listing::open(path, &options)
    };
    let (a, b) = (open(&args.a, &args.index_a)?, open(&args.b, &args.index_b)?);
    drop(bar);
    let sides = Sides::new(&a, &b, args.times)?;
    let mut out = BufWriter::new(json::Patient::stdout());
    let mut totals = Totals::default();
    let mut links = Links::default();
    let mut walk = Walk::new(&a, &b);
    while let Some(pair) = walk.next() {
        sides.tell(&mut out, args.json, pair, &mut totals, &mut links)?;
    }
    totals.same = totals.added.paths == 0 && totals.removed.paths == 0 && totals.changed.paths == 0;
    if args.json {
        json::print_line(&mut out, &totals)?;
    } else {
        let Totals { added, removed, changed, unchanged, .. } = &totals;
        writeln!(
            out,
            "{} added ({}), {} removed ({}), {} changed ({}), {unchanged} the same",
            added.paths,
            BinaryBytes(added.bytes),
            removed.paths,
            BinaryBytes(removed.bytes),
            changed.paths,
            BinaryBytes(changed.bytes)
        )?;
    }
    out.flush()?;
    Ok(if totals.same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Goes through both trees at once, by the bytes of the names: each folder before what is in it.
struct Walk<'a> {
    a: &'a Listing,
    b: &'a Listing,
    waiting: Vec<Pair>,
}

impl<'a> Walk<'a> {
    fn new(a: &'a Listing, b: &'a Listing) -> Walk<'a> {
        Walk { a, b, waiting: vec![(Some(0), Some(0))] }
    }

    fn next(&mut self) -> Option<Pair> {
        let pair = self.waiting.pop()?;
        let below = |listing: &'a Listing, name: Option<u32>| name.map_or(&[][..], |name| listing.children(name));
        let (mut a, mut b) = (below(self.a, pair.0), below(self.b, pair.1));
        let begin = self.waiting.len();
        loop {
            let next = match (a.split_first(), b.split_first()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((a, _)), Some((b, _))) => bytes(self.a, *a).cmp(bytes(self.b, *b)),
            };
            let take = |from: &mut &'a [u32], wanted: bool| {
                let (first, rest) = from.split_first().filter(|_| wanted)?;
                *from = rest;
                Some(*first)
            };
            let from_a = take(&mut a, next.is_le());
            let from_b = take(&mut b, next.is_ge());
            self.waiting.push((from_a, from_b));
        }
        if let Some(new) = self.waiting.get_mut(begin..) {
            new.reverse();
        }
        Some(pair)
    }
}

fn bytes(listing: &Listing, name: u32) -> &[u8] {
    let name = usize::try_from(name).ok().and_then(|n| listing.tree().names.get(n));
    name.map_or(&[], |name| &name.name)
}

/// Which inode of A is which of B: two names of one file in A that are two files in B differ.
#[derive(Default)]
struct Links {
    a_to_b: HashMap<u32, u32>,
    b_to_a: HashMap<u32, u32>,
}

impl Links {
    /// Whether both names are of the same file as before, on both sides.
    fn agree(&mut self, a: (u32, &Inode), b: (u32, &Inode)) -> bool {
        if a.1.names.len() < 2 && b.1.names.len() < 2 {
            return true;
        }
        *self.a_to_b.entry(a.0).or_insert(b.0) == b.0 && *self.b_to_a.entry(b.0).or_insert(a.0) == a.0
    }
}

struct Sides<'a> {
    a: &'a Listing,
    b: &'a Listing,
    times: bool,
    /// Targets of those links whose data differ, or are not there to compare.
    targets_a: HashMap<u32, Vec<u8>>,
    targets_b: HashMap<u32, Vec<u8>>,
}

impl<'a> Sides<'a> {
    fn new(a: &'a Listing, b: &'a Listing, times: bool) -> anyhow::Result<Sides<'a>> {
        let (mut in_a, mut in_b) = (Vec::new(), Vec::new());
        let mut walk = Walk::new(a, b);
        while let Some(pair) = walk.next() {
            let (Some((na, ia)), Some((nb, ib))) = (pair.0.and_then(|n| a.inode(n)), pair.1.and_then(|n| b.inode(n)))
            else {
                continue;
            };
            if let (Kind::Symlink(_), Kind::Symlink(_)) = (ia.kind, ib.kind)
                && !has_same_data(ia, ib)
            {
                in_a.push(na);
                in_b.push(nb);
            }
        }
        Ok(Sides { a, b, times, targets_a: a.targets(&in_a)?, targets_b: b.targets(&in_b)? })
    }

    fn tell(
        &self,
        out: &mut impl Write,
        json: bool,
        pair: Pair,
        totals: &mut Totals,
        links: &mut Links,
    ) -> anyhow::Result<()> {
        let found_a = pair.0.and_then(|n| Some((n, self.a.inode(n)?)));
        let found_b = pair.1.and_then(|n| Some((n, self.b.inode(n)?)));
        let (listing, (name, (number, inode)), change, mark, sum) = match (found_a, found_b) {
            (Some(a), None) => (self.a, a, "removed", '-', &mut totals.removed),
            (None, Some(b)) => (self.b, b, "added", '+', &mut totals.added),
            (Some(_), Some(b)) => (self.b, b, "changed", '~', &mut totals.changed),
            (None, None) => return Ok(()),
        };
        let mut differences = BTreeMap::new();
        if let (Some((_, a)), Some((_, b))) = (found_a, found_b) {
            differences = self.compare(a, b, links);
            if differences.is_empty() {
                totals.unchanged = totals.unchanged.saturating_add(1);
                return Ok(());
            }
        }
        let size = listing.size(number);
        sum.add(size);
        let path = format!("/{}", String::from_utf8_lossy(&listing.tree().path(name)));
        let kind = kind::word(inode.kind);
        if json {
            json::print_line(out, &Line { change, path: &path, kind, size, differences })?;
        } else if differences.is_empty() {
            let size = if inode.kind == Kind::File { format!(", {size} bytes") } else { String::new() };
            writeln!(out, "{mark} {} ({kind}{size})", path.escape_debug())?;
        } else {
            let words: Vec<String> =
                differences.iter().map(|(what, [from, to])| format!("{what} {from} -> {to}")).collect();
            writeln!(out, "{mark} {}: {}", path.escape_debug(), words.join(", "))?;
        }
        Ok(())
    }

    fn compare(
        &self,
        (number_a, a): (u32, &Inode),
        (number_b, b): (u32, &Inode),
        links: &mut Links,
    ) -> BTreeMap<&'static str, [String; 2]> {
        let mut found = BTreeMap::new();
        let mut differ = |what, from: String, to: String| {
            if from != to {
                found.insert(what, [from, to]);
            }
        };
        let (kind_a, kind_b) = (kind::word(a.kind), kind::word(b.kind));
        differ("kind", kind_a.into(), kind_b.into());
        if kind_a == kind_b {
            match (a.kind, b.kind) {
                (Kind::File, Kind::File) => {
                    let contents = |listing: &Listing, number, inode: &Inode| {
                        let hash = inode.sha1().map_or("empty".into(), |hash| hex(&hash));
                        format!("{} bytes {hash}", listing.size(number))
                    };
                    differ("contents", contents(self.a, number_a, a), contents(self.b, number_b, b));
                }
                (Kind::Symlink(_), Kind::Symlink(_)) => {
                    let target = |of: &HashMap<u32, Vec<u8>>, number| {
                        of.get(&number).map(|t| String::from_utf8_lossy(t).escape_debug().to_string())
                    };
                    let target_of = |of, number| target(of, number).unwrap_or_default();
                    differ("target", target_of(&self.targets_a, number_a), target_of(&self.targets_b, number_b));
                }
                (Kind::Special(a), Kind::Special(b)) => differ("device", device(a), device(b)),
                _ => {}
            }
        }
        // Linux has no modes of links.
        if !matches!((a.kind, b.kind), (Kind::Symlink(_), Kind::Symlink(_))) {
            let by_rule = (a.mode_by_rule || b.mode_by_rule) && a.kind == Kind::File;
            let mask = if by_rule { 0o7666 } else { 0o7777 };
            if a.meta.mode & mask != b.meta.mode & mask {
                differ("mode", format!("{:04o}", a.meta.mode), format!("{:04o}", b.meta.mode));
            }
        }
        differ("owner", format!("{}:{}", a.meta.uid, a.meta.gid), format!("{}:{}", b.meta.uid, b.meta.gid));
        differ("xattrs", xattrs(&a.meta.xattrs), xattrs(&b.meta.xattrs));
        if self.times {
            let (from, to) = times(a.meta.modified, b.meta.modified);
            differ("modified", from, to);
        }
        if a.kind != Kind::Directory && b.kind != Kind::Directory && !links.agree((number_a, a), (number_b, b)) {
            found.insert("links", [a.names.len().to_string(), b.names.len().to_string()]);
        }
        found
    }
}

/// Links with the same reparse data have the same target.
fn has_same_data(a: &Inode, b: &Inode) -> bool {
    a.kind == b.kind && a.sha1().is_some() && a.sha1() == b.sha1()
}

fn device(special: Special) -> String {
    match special {
        Special::Fifo | Special::Socket => String::new(),
        Special::Char(number) | Special::Block(number) => {
            format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
        }
    }
}

/// Names and values, in the order of the names.
fn xattrs(all: &[Xattr]) -> String {
    let mut words: Vec<String> = all
        .iter()
        .map(|x| {
            let name = String::from_utf8_lossy(&x.name).escape_debug().to_string();
            format!("{name}={}", hex(&x.value))
        })
        .collect();
    words.sort_unstable();
    if words.is_empty() { "none".into() } else { words.join(" ") }
}

/// Two times, by what both formats hold: a WIM counts 100 ns, cpio and old tar whole seconds.
fn times(a: Time, b: Time) -> (String, String) {
    let whole_seconds = a.nanos == 0 || b.nanos == 0;
    let shown = |t: Time| match whole_seconds {
        true => t.seconds.to_string(),
        false => format!("{}.{:07}", t.seconds, t.nanos / 100),
    };
    (shown(a), shown(b))
}
