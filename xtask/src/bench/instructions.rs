//! `cargo xtask bench instructions`: what the reader takes, counted by valgrind and held against the counts of
//! `bench/instructions.json`. A guard against slow drift: clocks of a shared machine do not see 5 %, this does.
//!
//! Counts depend on the compiler, on the versions of crates, and on what valgrind shows of the processor (AVX2, not the
//! SHA instructions), so they are compared by hand and where they were made, not in CI.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use vm::images::{target, workspace};

use crate::progress::step;
use crate::{build, setup};

/// The version of the crate `gungraun` in `Cargo.lock`; its runner has to be the same.
const RUNNER: &str = "0.20.0";
/// Between two runs of the same program it is 0.1 at most.
const TOLERANCE_PERCENT: f64 = 5.0;

#[derive(clap::Args)]
pub struct Args {
    /// Also write the counts to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Make these counts the ones that later ones are held against
    #[arg(long)]
    accept: bool,
}

/// Counts by what was measured, with what they depend on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    rustc: String,
    valgrind: String,
    instructions: BTreeMap<String, u64>,
}

/// Of what gungraun says of one measurement, what is taken.
#[derive(Deserialize)]
struct Summary {
    function_name: String,
    id: String,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(rename = "Ir")]
    instructions: Values,
}

#[derive(Deserialize)]
struct Values {
    values: New,
}

#[derive(Deserialize)]
struct New {
    new: u64,
}

pub fn instructions(args: &Args) -> anyhow::Result<()> {
    setup::install(setup::Purpose::Instructions)?;
    let counts = count(&install()?)?;
    if let Some(file) = &args.json {
        write(&counts, file)?;
    }
    let baseline = workspace().join("bench/instructions.json");
    if args.accept {
        return write(&counts, &baseline);
    }
    let text = fs::read(&baseline).with_context(|| format!("cannot read {}", baseline.display()))?;
    let baseline: Counts = serde_json::from_slice(&text).context("the counts to compare with are damaged")?;
    compare(&baseline, &counts)
}

/// gungraun's runner, in a folder of its own.
fn install() -> anyhow::Result<PathBuf> {
    let tools = target().join("tools");
    let runner = tools.join("bin/gungraun-runner");
    if !runner.is_file() {
        let mut command = build::cargo();
        command.args(["install", "--quiet", "--locked", "gungraun-runner", "--version", RUNNER, "--root"]).arg(&tools);
        step("installing gungraun-runner", || build::run(&mut command))?;
    }
    Ok(runner)
}

fn count(runner: &Path) -> anyhow::Result<Counts> {
    let mut command = build::cargo();
    command.args(["bench", "--quiet", "--package", "bench", "--features", "instructions", "--bench", "instructions"]);
    command.args(["--", "--output-format=json"]).env("GUNGRAUN_RUNNER", runner);
    let output = step("counting instructions", || command.output().context("cannot run cargo"))?;
    if !output.status.success() {
        bail!("the measurement ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    let instructions = read(&String::from_utf8_lossy(&output.stdout))?;
    Ok(Counts { rustc: version("rustc")?, valgrind: version("valgrind")?, instructions })
}

/// A line of JSON for each measurement.
fn read(said: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    said.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let summary: Summary = serde_json::from_str(line).context("gungraun says what is not understood")?;
            let profile = summary.profiles.first().context("gungraun measured nothing")?;
            let count = profile.data.total.metrics.instructions.values.new;
            Ok((format!("{} {}", summary.function_name, summary.id), count))
        })
        .collect()
}

fn version(program: &str) -> anyhow::Result<String> {
    let output = std::process::Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn write(counts: &Counts, file: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(counts)?;
    fs::write(file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))
}

/// Percent more than before.
fn growth(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}

fn compare(baseline: &Counts, counts: &Counts) -> anyhow::Result<()> {
    let mut worse = Vec::new();
    for (name, now) in &counts.instructions {
        let Some(before) = baseline.instructions.get(name) else {
            println!("{name:28}{now:>12}  new");
            continue;
        };
        let growth = growth(*before, *now);
        println!("{name:28}{now:>12}  {growth:+.2} %");
        if growth > TOLERANCE_PERCENT {
            worse.push(name.as_str());
        }
    }
    for (what, before, now) in
        [("rustc", &baseline.rustc, &counts.rustc), ("valgrind", &baseline.valgrind, &counts.valgrind)]
    {
        if before != now {
            println!("note: {what} was {before:?} and is {now:?}; a difference may be its own");
        }
    }
    if !worse.is_empty() {
        bail!(
            "more than {TOLERANCE_PERCENT} % more instructions than in bench/instructions.json: {}; find out why, or accept \
             them with `cargo xtask bench instructions --accept`",
            worse.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_in_what_gungraun_says() {
        let said =
            r#"{"function_name":"open","id":"x","profiles":[{"data":{"total":{"metrics":{"Dr":{"values":{"new":1.5}},
            "Ir":{"values":{"new":2287989,"old":3}}}}}}]}"#
                .replace('\n', "");
        assert_eq!(read(&format!("{said}\n\n")).unwrap(), BTreeMap::from([("open x".to_owned(), 2_287_989)]));
        assert!(read("{}").is_err());
    }

    #[test]
    fn more_than_the_tolerance_is_an_error() {
        let counts = |count| Counts { instructions: BTreeMap::from([("a".into(), count)]), ..Counts::default() };
        compare(&counts(1000), &counts(1049)).unwrap();
        compare(&counts(1000), &counts(500)).unwrap();
        assert!(compare(&counts(1000), &counts(1051)).unwrap_err().to_string().contains(": a;"));
    }
}
