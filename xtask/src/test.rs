//! `cargo xtask test`: everything that is tested, as CI runs it.

use vm::root;

use crate::{build, setup};

#[derive(clap::Args)]
pub struct Args {
    /// Words for `cargo test`, as in `cargo xtask test -- --package vm --test boot`; the whole workspace if none
    #[arg(last = true)]
    words: Vec<String>,
}

pub fn test(args: &Args) -> anyhow::Result<()> {
    setup::install(setup::Purpose::Test)?;
    // Asked for first: what follows takes minutes.
    root::test_runner()?;
    build::binaries()?;
    build::images(&[], false)?;
    let mut command = build::cargo();
    // All that is wrong shall be seen in one run.
    command.args(["test", "--no-fail-fast"]);
    if args.words.is_empty() {
        command.arg("--workspace");
    }
    command.args(&args.words);
    let runner = root::test_runner()?;
    if !runner.is_empty() {
        command.env(root::RUNNER, runner);
    }
    // All that a test compares with is installed: one that skips itself here would pass without having shown anything.
    command.env("MMOS_NO_SKIP", "1");
    build::run(&mut command)
}
