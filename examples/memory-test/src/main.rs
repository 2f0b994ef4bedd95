//! A sample test service: tests part of the memory with memtester(8), on the manufacturing OS only.
//!
//! ```text
//!   is_mmos()? ──► how much memory? ──► memtester ──► transcript ──► STATUS= for mmosctl, a line per test
//!                                                          └──────► verdict: a line, a report, the exit status
//! ```

mod args;
mod memory;
mod notify;
mod report;
mod run;
mod transcript;

use std::process::ExitCode;

use args::{Args, Wanted};
use report::Report;

/// Tested, and something is wrong with the memory.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// Could not be tested: nothing is known of the memory.
const NOT_TESTED: u8 = 3;
/// Not the place for tests. 77 is what test harnesses take for "skipped" (Automake's manual, "Scripts-based
/// Testsuites").
const NOT_HERE: u8 = 77;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
        Ok(Wanted::Test(args)) => args,
        Ok(Wanted::Help) => {
            println!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("memory-test: {error}; see memory-test --help");
            return ExitCode::from(USAGE);
        }
    };
    // A test service must do nothing on a device that has been sold: it asks before anything else.
    match mmos::is_mmos() {
        Ok(true) => {}
        Ok(false) => {
            eprintln!("memory-test: this is not the manufacturing OS (mmos): nothing is tested");
            return ExitCode::from(NOT_HERE);
        }
        Err(error) => {
            eprintln!("memory-test: {error}; nothing is tested");
            return ExitCode::from(NOT_HERE);
        }
    }
    match test(&args) {
        Ok(report) if report.passed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => {
            notify::status(&format!("not tested: {error:#}"));
            eprintln!("memory-test: not tested: {error:#}");
            ExitCode::from(NOT_TESTED)
        }
    }
}

fn test(args: &Args) -> anyhow::Result<Report> {
    let bytes = memory::bytes(args.size)?;
    let outcome = run::memtester(&args.memtester, bytes, args.loops, &mut |progress| {
        notify::status(progress);
        println!("{progress}");
    })?;
    let report = Report::new(bytes, args.loops, &outcome);
    notify::status(&report.verdict());
    println!("{}", report.verdict());
    if let Some(path) = &args.report {
        report.write(path)?;
    }
    Ok(report)
}
