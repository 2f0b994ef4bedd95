//! `cargo xtask bench boot`: the same services under our init and under others, from the kernel's start of `/init` to
//! the first line of the last service, in virtual time.
//!
//! QEMU counts instructions (`-icount shift=0,sleep=off`): one is one nanosecond, so that a figure repeats, whatever
//! else the machine does. Every init gets the same kernel, the same services and a root that is the initramfs itself.

mod guest;
mod ours;
mod peers;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::progress::step;
use crate::{build, setup};
use guest::{Guest, Seen};

#[derive(clap::Args)]
pub struct Args {
    /// How many services: one number, or several, each of which is measured
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', default_value = "10")]
    services: Vec<usize>,
    /// Only these inits: mmos, mmos-wim, busybox, runit, s6, finit, systemd
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Init>,
    /// How many boots of each, of which the one in the middle counts: where programs lie in memory is chance, which
    /// begins with another number each time
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    boots: u32,
    /// Also write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the guests' roots, archives and output in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Fail where ours takes longer than busybox's init, or more private memory than promised
    #[arg(long)]
    check: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Init {
    /// Ours, with the initramfs as the root: `rdinit=/sbin/init`.
    Mmos,
    /// Ours, from the moment at which stage 1 has unpacked a WIM and executes stage 2.
    MmosWim,
    Busybox,
    Runit,
    S6,
    Finit,
    Systemd,
}

const ALL: [Init; 7] = [Init::Mmos, Init::MmosWim, Init::Busybox, Init::Runit, Init::S6, Init::Finit, Init::Systemd];

impl Init {
    fn name(self) -> &'static str {
        match self {
            Init::Mmos => "mmos",
            Init::MmosWim => "mmos-wim",
            Init::Busybox => "busybox",
            Init::Runit => "runit",
            Init::S6 => "s6",
            Init::Finit => "finit",
            Init::Systemd => "systemd",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Init::Mmos | Init::MmosWim)
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    init: Init,
    services: usize,
    /// From the start of the init to the first line of the last service; `None` where not all came up.
    virtual_ms: Option<f64>,
    /// The same of the fastest boot and of the slowest.
    least_ms: Option<f64>,
    most_ms: Option<f64>,
    /// How many came up.
    up: usize,
    /// Of stage 1, from the kernel's start of `/init`; only where there is one.
    stage1_ms: Option<f64>,
    pid1_rss_kib: u64,
    /// Of PID 1 and all other processes that are none of the services.
    processes: usize,
    /// Memory of these that is not of a file.
    anonymous_kib: u64,
    /// Pages that only one process has mapped: anonymous ones, and those of files, which in a root in RAM are all dirty.
    private_clean_kib: u64,
    private_dirty_kib: u64,
}

/// What is promised: PID 1 and the supervisor together, by the number of services, in KiB of memory that is not of a
/// file.
const PROMISED_KIB: [(usize, u64); 2] = [(20, 2048), (1000, 4096)];

pub fn boot(args: &Args) -> anyhow::Result<()> {
    setup::install(setup::Purpose::Boot)?;
    let wanted = ALL.into_iter().filter(|init| args.only.is_empty() || args.only.contains(init));
    let wanted: Vec<Init> = wanted.collect();
    // The others need nothing of it but its kernel.
    let image = match vm::Image::get("minimal") {
        Ok(image) if !wanted.iter().any(|init| init.is_ours()) => image.folder,
        _ => {
            build::binaries()?;
            build::image("minimal", false)?
        }
    };
    let temporary = tempfile::tempdir()?;
    let work = args.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let mut rows = Vec::new();
    for services in &args.services {
        for init in &wanted {
            let folder = work.join(format!("{}-{services}", init.name()));
            let title = format!("booting {services} services under {}", init.name());
            rows.push(step(&title, || measure(*init, *services, args.boots, &image, &folder))?);
        }
    }
    print(&rows);
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        fs::write(file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.check { check(&rows) } else { Ok(()) }
}

/// Builds the guest of `init` in `folder`, and boots it several times.
fn measure(init: Init, services: usize, boots: u32, image: &Path, folder: &Path) -> anyhow::Result<Row> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder)?;
    let image = vm::Image { folder: image.to_owned() };
    let mut guest = Guest::new(image.kernel(), folder, services);
    match init {
        Init::Mmos => ours::root_is_initramfs(&mut guest)?,
        Init::MmosWim => ours::root_is_unpacked(&mut guest, &image)?,
        Init::Busybox => peers::busybox(&mut guest)?,
        Init::Runit => peers::runit(&mut guest)?,
        Init::S6 => peers::s6(&mut guest)?,
        Init::Finit => peers::finit(&mut guest)?,
        Init::Systemd => peers::systemd(&mut guest)?,
    }
    let mut rows = Vec::new();
    for seed in 1..=boots {
        rows.push(row(init, services, &guest.boot(seed)?)?);
    }
    // One that did not come up is the slowest.
    rows.sort_by(|a, b| a.virtual_ms.unwrap_or(f64::MAX).total_cmp(&b.virtual_ms.unwrap_or(f64::MAX)));
    let times: Vec<f64> = rows.iter().filter_map(|row| row.virtual_ms).collect();
    let (least, most) = (times.first().copied(), times.last().copied());
    let middle = rows.len() / 2;
    let mut row = rows.into_iter().nth(middle).context("no boot was asked for")?;
    (row.least_ms, row.most_ms) = (least, most);
    Ok(row)
}

fn row(init: Init, services: usize, seen: &Seen) -> anyhow::Result<Row> {
    let (Some(started), Some(pid1)) = (seen.init_started, seen.processes.iter().find(|process| process.pid == 1))
    else {
        bail!("{}: the guest did not tell what was asked; its console:\n{}", init.name(), seen.tail());
    };
    let begun = match init {
        Init::MmosWim => seen.root_in_place.with_context(|| format!("stage 1 did not end:\n{}", seen.tail()))?,
        _ => started,
    };
    let all_up = seen.ups.len() >= services;
    if !all_up && init.is_ours() {
        bail!("{}: {} of {services} services came up; the console:\n{}", init.name(), seen.ups.len(), seen.tail());
    }
    let last = seen.ups.iter().copied().fold(begun, f64::max);
    let sum = |of: fn(&guest::Process) -> u64| seen.processes.iter().map(of).fold(0, u64::saturating_add);
    let ms = |from: f64, to: f64| ((to - from) * 1e6).round() / 1e3;
    Ok(Row {
        init,
        services,
        virtual_ms: all_up.then(|| ms(begun, last)),
        least_ms: None,
        most_ms: None,
        up: seen.ups.len(),
        stage1_ms: (init == Init::MmosWim).then(|| ms(started, begun)),
        pid1_rss_kib: pid1.rss,
        processes: seen.processes.len(),
        anonymous_kib: sum(|process| process.anonymous),
        private_clean_kib: sum(|process| process.private_clean),
        private_dirty_kib: sum(|process| process.private_dirty),
    })
}

fn print(rows: &[Row]) {
    println!(
        "| init | services | virtual ms | of the boots, from to | PID 1's RSS, KiB | its and its helpers' processes | anonymous, KiB \
         | private clean, KiB | private dirty, KiB |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        let range = row.least_ms.zip(row.most_ms).map(|(least, most)| format!("{least:.1} to {most:.1}"));
        let time = row.virtual_ms.map_or_else(|| format!("only {} came up", row.up), |ms| format!("{ms:.1}"));
        println!(
            "| {} | {} | {time} | {} | {} | {} | {} | {} | {} |",
            row.init.name(),
            row.services,
            range.unwrap_or_default(),
            row.pid1_rss_kib,
            row.processes,
            row.anonymous_kib,
            row.private_clean_kib,
            row.private_dirty_kib
        );
    }
    for row in rows.iter().filter_map(|row| Some((row.services, row.stage1_ms?))) {
        println!("With {} services stage 1 took {:.1} ms, to unpack a WIM, before what is measured.", row.0, row.1);
    }
}

/// Whether what the project promises holds.
fn check(rows: &[Row]) -> anyhow::Result<()> {
    let mut checked = false;
    for ours in rows.iter().filter(|row| row.init == Init::Mmos) {
        let busybox = rows.iter().find(|row| row.init == Init::Busybox && row.services == ours.services);
        if let (Some(ms), Some(bound)) = (ours.virtual_ms, busybox.and_then(|row| row.virtual_ms)) {
            checked = true;
            if ms > bound {
                bail!("{} services: ours takes {ms:.1} ms, and busybox's init {bound:.1}", ours.services);
            }
        }
        if let Some((_, bound)) = PROMISED_KIB.iter().find(|(services, _)| *services >= ours.services) {
            checked = true;
            if ours.anonymous_kib > *bound {
                let kib = ours.anonymous_kib;
                bail!("{} services: PID 1 and svcmgr take {kib} KiB, of {bound} at most", ours.services);
            }
        }
    }
    if checked { Ok(()) } else { bail!("--check: ours was not measured") }
}
