//! `cargo xtask bench wim`: a tree in every form, unpacked by ours and by others, side by side in one run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::compare;
use super::measure::{Stopwatch, Used, median};
use super::subjects::{self, Form, Tool};
use crate::progress::step;
use crate::setup;

/// Where images and results lie: a tmpfs, as on a device.
const MEMORY: &str = "/dev/shm";

#[derive(clap::Args)]
pub struct Args {
    /// The tree to measure with; programs and Python of this machine, some 400 MB, unless given
    directory: Option<PathBuf>,
    /// Also write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each program unpacks each form
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these forms
    #[arg(long, value_enum, value_name = "FORM", value_delimiter = ',')]
    form: Vec<Form>,
}

/// One line of the table.
#[derive(Serialize)]
struct Row {
    tool: String,
    format: String,
    /// Median of all rounds.
    seconds: f64,
    min_seconds: f64,
    /// Of processors, median.
    cpu_seconds: f64,
    /// How many times as fast as wimlib 1.14.4 with the same image.
    ratio: Option<f64>,
    peak_rss_kib: u64,
    image_bytes: u64,
}

struct Case {
    form: Form,
    tool: Tool,
    line: Vec<PathBuf>,
    image_bytes: u64,
    runs: Vec<Used>,
}

pub fn wim(args: &Args) -> anyhow::Result<()> {
    setup::install(setup::Purpose::Bench)?;
    subjects::build()?;
    let folder = tempfile::Builder::new().prefix("mmos-bench-").tempdir_in(MEMORY);
    let folder = folder.with_context(|| format!("cannot make a folder in {MEMORY}, which has to be a tmpfs"))?;
    let (folder, out) = (folder.path(), folder.path().join("out"));
    subjects::tree(args.directory.as_deref(), folder)?;
    let forms = if args.form.is_empty() { <Form as clap::ValueEnum>::value_variants() } else { &args.form };
    let mut cases = Vec::new();
    for form in forms {
        let image = form.make(folder)?;
        let image_bytes = if *form == Form::Tree { 0 } else { fs::metadata(image)?.len() };
        for (tool, line) in form.tools(folder, &out) {
            cases.push(Case { form: *form, tool, line, image_bytes, runs: Vec::new() });
        }
    }
    let watch = Stopwatch::new();
    for round in 0..args.rounds {
        let name = format!("round {} of {}", round.saturating_add(1), args.rounds);
        step(&name, || cases.iter_mut().try_for_each(|case| one(case, &watch, folder, &out)))?;
    }
    let rows: Vec<Row> = cases.iter().map(|case| row(case, &cases)).collect();
    print(&rows, &watch, args.rounds);
    judge(&cases);
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        fs::write(file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Unpacks once, and the first time checks what came of it.
fn one(case: &mut Case, watch: &Stopwatch, folder: &Path, out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir(out)?;
    let used = watch.run(&case.line)?;
    if case.runs.is_empty() {
        let tree = folder.join("tree");
        compare::same(&tree, out).with_context(|| format!("{} did not give {} back", case.tool, case.form))?;
    }
    case.runs.push(used);
    Ok(())
}

fn seconds(case: &Case) -> f64 {
    median(case.runs.iter().map(|run| run.seconds))
}

fn of(cases: &[Case], form: Form, tool: Tool) -> Option<f64> {
    cases.iter().find(|case| (case.form, case.tool) == (form, tool)).map(seconds)
}

fn row(case: &Case, cases: &[Case]) -> Row {
    Row {
        tool: case.tool.to_string(),
        format: case.form.to_string(),
        seconds: seconds(case),
        min_seconds: case.runs.iter().map(|run| run.seconds).fold(f64::INFINITY, f64::min),
        cpu_seconds: median(case.runs.iter().map(Used::processors)),
        ratio: of(cases, case.form, Tool::Wimlib).map(|reference| reference / seconds(case)),
        peak_rss_kib: case.runs.iter().map(|run| run.peak_rss_kib).max().unwrap_or(0),
        image_bytes: case.image_bytes,
    }
}

/// As Markdown, so that it can go into `docs/images.md` as it is.
fn print(rows: &[Row], watch: &Stopwatch, rounds: u32) {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    let ahead = if watch.ahead { "ahead of all others (SCHED_RR)" } else { "beside all others" };
    println!("{processors} processors, {rounds} rounds, {ahead}, load at the end {load}\n");
    println!("| format | image, MB | tool | seconds | least | CPU seconds | ratio | peak RSS, KiB |");
    println!("|---|--:|---|--:|--:|--:|--:|--:|");
    for row in rows {
        let ratio = row.ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"));
        let image = if row.image_bytes == 0 { "–".into() } else { format!("{:.1}", row.image_bytes as f64 / 1e6) };
        println!(
            "| {} | {image} | {} | {:.3} | {:.3} | {:.3} | {ratio} | {} |",
            row.format, row.tool, row.seconds, row.min_seconds, row.cpu_seconds, row.peak_rss_kib
        );
    }
}

/// Says which goals are met. It fails nothing: the clock of a machine with other work is no judge.
fn judge(cases: &[Case]) {
    println!();
    for case in cases.iter().filter(|case| case.tool == Tool::Ours) {
        if let (Some(goal), Some(reference)) = (case.form.goal(), of(cases, case.form, Tool::Wimlib)) {
            let ratio = reference / seconds(case);
            let word = if ratio >= goal { "met" } else { "missed" };
            println!("{}: {ratio:.2} x wimlib 1.14.4, goal {goal:.1} x: {word}", case.form);
        }
    }
    let both = (of(cases, Form::Lzx, Tool::Ours), of(cases, Form::Squashfs, Tool::Unsquashfs));
    if let (Some(ours), Some(theirs)) = both {
        let word = if ours <= theirs { "met" } else { "missed" };
        println!("lzx: {ours:.3} s, goal unsquashfs' {theirs:.3} s: {word}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(tool: Tool, seconds: &[f64]) -> Case {
        let run = |seconds: &f64| Used { seconds: *seconds, user: 1.0, system: 0.5, peak_rss_kib: 7 };
        Case { form: Form::Lzx, tool, line: Vec::new(), image_bytes: 1, runs: seconds.iter().map(run).collect() }
    }

    #[test]
    fn ratios_are_of_medians_to_wimlib_with_the_same_image() {
        let cases = [case(Tool::Ours, &[1.0, 0.5, 9.0]), case(Tool::Wimlib, &[2.0, 2.0, 2.5])];
        let row = row(&cases[0], &cases);
        assert_eq!((row.seconds, row.min_seconds, row.cpu_seconds, row.peak_rss_kib), (1.0, 0.5, 1.5, 7));
        assert_eq!(row.ratio, Some(2.0));
    }
}
