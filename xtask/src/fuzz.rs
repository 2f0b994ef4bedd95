//! `cargo xtask fuzz TARGET MINUTES`: a fuzzer of `fuzz/`, built with libFuzzer and, unless told otherwise, with
//! AddressSanitizer in Rust and C. What it has learned lies under `target/fuzz`, and the next run goes on from there.
//! The minutes are those of a processor: on a busy machine it takes longer, not less of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use vm::images::{target, workspace};
use vm::root;

use crate::progress::step;
use crate::{build, setup};

/// Target, and what it takes in: `fuzz/fuzz_targets`, `wim/tests/fuzzed`.
const TARGETS: [(&str, &str); 6] = [
    ("header", "header, blob table, XML data and choice of an image of a WIM"),
    ("metadata", "the metadata of an image"),
    ("chunks", "chunk tables and compressed resources; solid XPRESS and LZMS beside wimlib's decompressors"),
    ("tar", "tar archives outside zstd frames, measured and unpacked"),
    ("cpio", "cpio archives, likewise"),
    ("apply", "whole images, split and pipable ones too, unpacked while all beside the target is watched"),
];
/// Those that start threads. One that has done its work still holds some bytes of its own for a moment, which LeakSanitizer
/// takes for lost; what is really lost ends at the limit of memory.
const THREADED: [&str; 3] = ["tar", "cpio", "apply"];
/// Those in which libFuzzer does not keep how near each comparison came: to go through that took it twice as long as the
/// run itself, and in the same time it found less.
const WITHOUT_VALUES: [&str; 2] = ["tar", "cpio"];
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const SECONDS_PER_MINUTE: u64 = 60;
/// libFuzzer ends by the clock. On a busy machine a run is followed by another, of at least so many seconds, since each reads
/// all inputs first.
const ROUND: Duration = Duration::from_secs(60);
/// Bounds of one input: seconds by the clock, which on a busy machine are not seconds of work, MiB, bytes. The MiB are far
/// above what a small image may take, under a sanitizer too.
const LIMITS: [&str; 4] = ["-timeout=60", "-report_slow_units=60", "-rss_limit_mb=2560", "-max_len=100000"];

#[derive(clap::Args)]
pub struct Args {
    /// What to fuzz; without it, all targets are listed
    target: Option<String>,
    /// Minutes of a processor's time; on a busy machine they take longer
    #[arg(default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Without AddressSanitizer: some times faster, and blind to errors of memory in C
    #[arg(long)]
    no_sanitizer: bool,
}

/// What a fuzzer has done, by its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Done {
    executions: u64,
    /// Edges of the program that were taken.
    coverage: u64,
    /// Inputs that were kept.
    corpus: u64,
}

impl Done {
    /// Takes a line in: `#1234 NEW cov: 12 ft: 34 corp: 5/67b …`. Whether it was one.
    fn take(&mut self, line: &str) -> bool {
        // The number of a frame in a stack trace is behind spaces.
        if !line.starts_with('#') {
            return false;
        }
        let mut words = line.split_whitespace();
        let Some(executions) = words.next().and_then(|word| word.strip_prefix('#')?.trim_end_matches(':').parse().ok())
        else {
            return false;
        };
        self.executions = executions;
        while let Some(word) = words.next() {
            let number = |word: Option<&str>| word.and_then(|word| word.split('/').next()?.parse().ok());
            match word {
                "cov:" => self.coverage = number(words.next()).unwrap_or(self.coverage),
                "corp:" => self.corpus = number(words.next()).unwrap_or(self.corpus),
                _ => {}
            }
        }
        true
    }
}

pub fn fuzz(args: &Args) -> anyhow::Result<()> {
    let Some(name) = &args.target else {
        TARGETS.iter().for_each(|(name, what)| println!("{name:10}{what}"));
        return Ok(());
    };
    if !TARGETS.iter().any(|(target, _)| target == name) {
        bail!("there is no fuzz target {name}; `cargo xtask fuzz` lists them");
    }
    setup::install(setup::Purpose::Fuzz)?;
    root::authorize(&format!("cargo xtask fuzz {name}"))?;
    let tools = install()?;
    let seeds = seeds()?;
    let fuzzer = fuzzer(name, args.no_sanitizer, &tools)?;
    run(name, &fuzzer, &seeds.join(name), args.minutes)
}

/// cargo-fuzz, in a folder of its own: it is no part of the user's cargo.
fn install() -> anyhow::Result<PathBuf> {
    let tools = target().join("tools");
    if !tools.join("bin/cargo-fuzz").is_file() {
        let mut command = build::cargo();
        command.args(["install", "--quiet", "--locked", "cargo-fuzz", "--root"]).arg(&tools);
        step("installing cargo-fuzz", || build::run(&mut command))?;
    }
    Ok(tools.join("bin"))
}

/// Seeds of all targets, written by the test that knows them.
fn seeds() -> anyhow::Result<PathBuf> {
    let folder = target().join("fuzz/seeds");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut command = build::cargo();
    command.args(["test", "--quiet", "--package", "wim", "--test", "corpus", "seeds_are_written", "--", "--ignored"]);
    command.env("MMOS_SEEDS", &folder).stdout(Stdio::null());
    step("making seeds", || build::run(&mut command))?;
    Ok(folder)
}

fn fuzzer(name: &str, no_sanitizer: bool, tools: &Path) -> anyhow::Result<PathBuf> {
    let sanitizer = if no_sanitizer { "none" } else { "address" };
    // Both kinds are kept: wimlib is built for each.
    let folder = target().join("fuzz").join(sanitizer);
    let mut path = OsString::from(tools);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = build::cargo();
    command.args(["fuzz", "build", "--release", "--target", TRIPLE, "--sanitizer", sanitizer, "--target-dir"]);
    command.arg(&folder).arg(name).env("PATH", path);
    // The compiler's sanitizers are there in a stable toolchain, but not its switch for them.
    command.env("RUSTC_BOOTSTRAP", "1");
    // wimlib and zstd tell libFuzzer which of their branches are taken, and are watched by the sanitizer.
    let mut flags = String::from("-O1 -g1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link");
    if !no_sanitizer {
        flags.push_str(" -fsanitize=address");
    }
    let of_target = |variable: &str| format!("{variable}_{}", TRIPLE.replace('-', "_"));
    command.env(of_target("CC"), "clang").env(of_target("CFLAGS"), flags);
    step(&format!("building the fuzzer {name}"), || build::run(&mut command))?;
    Ok(folder.join(TRIPLE).join("release").join(name))
}

fn run(name: &str, fuzzer: &Path, seeds: &Path, minutes: u64) -> anyhow::Result<()> {
    let folder = target().join("fuzz");
    let (corpus, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts").join(name));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let before = files(&artifacts)?;
    let path = folder.join(format!("{name}.log"));
    let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let whole = Duration::from_secs(minutes.saturating_mul(SECONDS_PER_MINUTE));
    let bar = bar(name, whole);

    let (begun, busy) = (Instant::now(), processors()?);
    let mut done = Done::default();
    let (spent, status) = loop {
        let left = whole.saturating_sub(processors()?.saturating_sub(busy));
        let mut command = command(name, fuzzer, &[&corpus, seeds], left.max(ROUND))?;
        command.args(["-print_final_stats=1", &format!("-artifact_prefix={}/", artifacts.display())]);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", fuzzer.display()))?;
        let said = child.stderr.take().context("the fuzzer has no stderr")?;
        let round = follow(BufReader::new(said), &log, &bar)?;
        done = Done { executions: done.executions.saturating_add(round.executions), ..round };
        let status = child.wait()?;
        let spent = processors()?.saturating_sub(busy);
        bar.set_position(spent.as_secs());
        if !status.success() || spent >= whole {
            break (spent, status);
        }
    };
    bar.finish_and_clear();
    let found: Vec<PathBuf> = files(&artifacts)?.into_iter().filter(|path| !before.contains(path)).collect();
    println!("target      {name}");
    println!("processor   {:.1} minutes", spent.as_secs_f64() / 60.0);
    println!("clock       {:.1} minutes", begun.elapsed().as_secs_f64() / 60.0);
    println!("executions  {}", done.executions);
    println!("coverage    {} edges", done.coverage);
    println!("corpus      {} inputs, in {}", done.corpus, corpus.display());
    println!("found       {}", found.len());
    for path in &found {
        println!("  {}; again: {} {}", path.display(), fuzzer.display(), path.display());
    }
    if !found.is_empty() || !status.success() {
        bail!("{name} ended with {status}; all that it said is in {}", path.display());
    }
    Ok(())
}

/// One run of libFuzzer, for so long by the clock. What it learns goes to the first of the folders.
fn command(name: &str, fuzzer: &Path, folders: &[&Path], time: Duration) -> anyhow::Result<Command> {
    let mut command = root::command(Path::new("nice"))?;
    command.args(["-n", "19"]).arg(fuzzer).args(folders);
    let committed = workspace().join("fuzz/corpus").join(name);
    if committed.is_dir() {
        command.arg(&committed);
    }
    command.args(LIMITS);
    command.arg(format!("-use_value_profile={}", u8::from(!WITHOUT_VALUES.contains(&name))));
    command.arg(format!("-max_total_time={}", time.as_secs()));
    if THREADED.contains(&name) {
        command.arg("-detect_leaks=0");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(command)
}

/// What the processes that ended so far took of processors.
fn processors() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = usage.user_time().num_microseconds().saturating_add(usage.system_time().num_microseconds());
    Ok(Duration::from_micros(microseconds.try_into()?))
}

fn bar(name: &str, whole: Duration) -> ProgressBar {
    let bar = ProgressBar::new(whole.as_secs());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {pos} of {len} s of a processor: {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}

/// Keeps what the fuzzer says, and shows how far it is.
fn follow(said: impl BufRead, mut log: &File, bar: &ProgressBar) -> anyhow::Result<Done> {
    let mut done = Done::default();
    for line in said.split(b'\n') {
        let line = line?;
        log.write_all(&line)?;
        log.write_all(b"\n")?;
        if done.take(&String::from_utf8_lossy(&line)) {
            let Done { executions, coverage, corpus } = &done;
            bar.set_message(format!("{executions} executions, {coverage} edges, {corpus} inputs"));
            bar.tick();
        }
    }
    Ok(done)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fuzzer_says_is_read() {
        let mut done = Done::default();
        assert!(done.take("#8192\tNEW    cov: 312 ft: 1003 corp: 57/12Kb lim: 80 exec/s: 4096 rss: 51Mb L: 7/80"));
        assert_eq!(done, Done { executions: 8192, coverage: 312, corpus: 57 });
        assert!(done.take("#9000: cov: 313 ft: 1004 corp: 58 exec/s 5"));
        assert_eq!(done, Done { executions: 9000, coverage: 313, corpus: 58 });
        assert!(!done.take("INFO: seed corpus: files: 9"));
        assert!(!done.take("    #0 0x55 in main"));
        assert_eq!(done.executions, 9000);
    }

    #[test]
    fn every_target_has_a_program() {
        for (name, _) in TARGETS {
            let path = workspace().join(format!("fuzz/fuzz_targets/{name}.rs"));
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }
}
