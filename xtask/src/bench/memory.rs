//! `cargo xtask bench memory`: the smallest RAM that a tree boots in, with its image freed while it is unpacked and
//! without, beside a root of next to nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use vm::images::{builder, command};
use vm::{Case, Image, Machine, root};

use crate::progress::step;
use crate::{build, setup};

#[derive(clap::Args)]
pub struct Args {
    /// Size of what is added to the minimal root, in MB: programs of this machine
    #[arg(long, value_name = "MB", default_value_t = 100)]
    tree: u64,
    /// Compression of the image
    #[arg(long, value_name = "FORMAT", default_value = "lzx")]
    compress: String,
    /// Also write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail where it takes more than promised: 1.15 times the tree and 24 MiB
    #[arg(long)]
    check: bool,
}

/// One line of the table.
#[derive(Serialize)]
struct Row {
    root: &'static str,
    /// Of all files, in whole pages.
    tree_bytes: u64,
    image_bytes: u64,
    /// The smallest `-m` that boots.
    smallest_mib: u32,
    /// `MemTotal` of the guest then: what the kernel leaves of it.
    total_kib: u64,
}

/// The row of which something is promised: in all so much of the tree, and so many MiB beside.
const FREED: &str = "with the tree, freed as it is unpacked";
const SHARE: f64 = 1.15;
const BESIDE_MIB: f64 = 24.0;
/// More than this is not tried: half of a small board.
const MOST_MIB: u32 = 1024;
/// Less boots no kernel of a distribution.
const LEAST_MIB: u32 = 32;
/// A boot takes seconds; one that hangs for want of memory is a failed one.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn memory(args: &Args) -> anyhow::Result<()> {
    setup::install(setup::Purpose::Run)?;
    build::binaries()?;
    let image = step("building the minimal image", || Case::new("memory").boot("onfail = \"poweroff\"").build())?;
    let work = tempfile::tempdir()?;
    let (tree, large) = (work.path().join("tree"), work.path().join("large.wim"));
    step("making the large image", || {
        fs::create_dir(&tree)?;
        command(root::command(&builder())?.arg("apply").arg(image.root()).arg(&tree))?;
        fill(&tree.join("usr/share/ballast"), args.tree.saturating_mul(1_000_000))?;
        let capture = ["--compress", &args.compress];
        command(root::command(&builder())?.arg("capture").arg(&tree).arg(&large).args(capture))
    })?;
    // The kernel makes its first root a ramfs then, in which no hole can be made.
    let kept = |machine: Machine| machine.parameter("rootfstype=ramfs");
    let folder = work.path().join("initrd");
    fs::create_dir(&folder)?;
    let filled = image.machine_with(&large, "/root.wim", &folder)?;
    let rows = [
        row("minimal", &image, &image.root(), &image.machine()?)?,
        row(FREED, &image, &large, &filled)?,
        row("with the tree, kept to the end", &image, &large, &kept(filled.clone()))?,
    ];
    println!("| root | tree, MiB | image, MiB | smallest -m | of it left by the kernel, MiB | promised |");
    println!("|---|--:|--:|--:|--:|--:|");
    let mut missed = None;
    for Row { root, tree_bytes, image_bytes, smallest_mib, total_kib } in &rows {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (tree, left) = (mib(*tree_bytes), mib(total_kib.saturating_mul(1024)));
        // Of a small root, what the kernel and the services take themselves is most of it.
        let promised = (*root == FREED).then_some(SHARE * tree + BESIDE_MIB);
        let word = promised.map_or("–".to_owned(), |most| format!("{most:.1}"));
        println!("| {root} | {tree:.1} | {:.1} | {smallest_mib} | {left:.1} | {word} |", mib(*image_bytes));
        missed = missed.or(promised.filter(|most| left > *most));
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        fs::write(file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    }
    match missed {
        Some(most) if args.check => bail!("it takes more than the {most:.1} MiB that are promised"),
        _ => Ok(()),
    }
}

/// Copies programs and libraries of this machine, whole files, until there are `bytes` of them.
fn fill(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for source in ["/usr/bin", "/usr/lib/x86_64-linux-gnu"] {
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let mut copied = 0_u64;
    for file in files {
        let len = fs::metadata(&file)?.len();
        if copied.saturating_add(len) <= bytes {
            copied = copied.saturating_add(len);
            fs::copy(&file, folder.join(file.file_name().unwrap_or_default()))?;
        }
    }
    if copied < bytes / 2 {
        bail!("this machine has {copied} bytes of programs, and {bytes} were asked for: choose a smaller --tree");
    }
    Ok(())
}

fn row(name: &'static str, image: &Image, wim: &Path, machine: &Machine) -> anyhow::Result<Row> {
    let (mut low, mut high) = (LEAST_MIB, MOST_MIB);
    let mut best = None;
    let title = format!("booting: {name}");
    step(&title, || {
        while low < high {
            let middle = low.saturating_add(high) / 2;
            match boots(machine, middle)? {
                Some(total_kib) => {
                    high = middle;
                    best = Some(total_kib);
                }
                None => low = middle.saturating_add(1),
            }
        }
        Ok(())
    })?;
    let Some(total_kib) = best else { bail!("{name}: does not boot in {MOST_MIB} MiB") };
    let output = Command::new(builder()).args(["info", "--json"]).arg(wim).output()?;
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).context("mmos-image info")?;
    let tree_bytes = info.pointer("/need/bytes").and_then(serde_json::Value::as_u64);
    let tree_bytes = tree_bytes.with_context(|| format!("what {} needs is not told", image.folder.display()))?;
    Ok(Row { root: name, tree_bytes, image_bytes: fs::metadata(wim)?.len(), smallest_mib: high, total_kib })
}

/// Whether it boots in so much RAM with every auto service up; then what the guest's kernel says that there is.
fn boots(machine: &Machine, mib: u32) -> anyhow::Result<Option<u64>> {
    // A kernel that panics restarts at once, and QEMU ends then.
    let mut vm = machine.clone().memory(mib).parameter("panic=-1").boot()?;
    if vm.console.wait_for("boot complete", PATIENCE).is_err() {
        return Ok(None);
    }
    let words = vm.must("mmosctl wait-boot >/dev/null && grep MemTotal /proc/meminfo");
    Ok(words.ok().and_then(|text| text.split_whitespace().nth(1)?.parse().ok()))
}
