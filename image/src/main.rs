//! `mmos-image`: builds, captures, applies, checks and inspects root images on the host. Each command is a module; this one
//! reads the command line and tells the outcome.

mod apply;
mod build;
mod capture;
mod diff;
mod extract;
mod info;
mod json;
mod kind;
mod list;
mod progress;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, captures, applies and inspects root images of a manufacturing device
#[derive(Parser)]
#[command(name = "mmos-image", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  mmos-image build rootfs/images/minimal.toml --out out/minimal
  mmos-image capture staging root.wim
  mmos-image info root.wim
  mmos-image apply root.wim /mnt/check
  mmos-image verify root.wim
  mmos-image diff old.wim new.wim

Exit status: 0 done, 1 failed (one line on stderr says what and what to do, with --json too), 2 wrong use; of `diff`
0 the same, 1 different, 2 trouble.";

#[derive(Subcommand)]
enum Command {
    /// Build everything a device boots from an image definition
    Build(build::Args),
    /// Add files to an initramfs, for a boot loader that takes one archive
    Join(build::JoinArgs),
    /// Capture a directory as a WIM
    Capture(capture::Args),
    /// Unpack a root image (WIM, tar.zst or cpio.zst) into a directory
    Apply(apply::Args),
    /// Show what a root image is and what it takes on a device
    Info(info::Args),
    /// List the files of a root image
    List(list::Args),
    /// Take single files or folders out of a root image
    Extract(extract::Args),
    /// Show what two root images have differently
    Diff(diff::Args),
    /// Check all of a root image against its hashes, and name what is damaged
    Verify(verify::Args),
}

/// The status of a failure.
const FAILED: u8 = 1;
/// The status of a `diff` that fails: as with diff(1), 1 says that they differ.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let mut failure = FAILED;
    let result = match Cli::parse().command {
        Command::Build(args) => build::run(&args).map(done),
        Command::Join(args) => build::join(&args).map(done),
        Command::Capture(args) => capture::run(&args).map(done),
        Command::Apply(args) => apply::run(&args).map(done),
        Command::Info(args) => info::run(&args).map(done),
        Command::List(args) => list::run(&args).map(done),
        Command::Extract(args) => extract::run(&args).map(done),
        Command::Diff(args) => {
            failure = TROUBLE;
            diff::run(&args)
        }
        Command::Verify(args) => verify::run(&args),
    };
    match result {
        Ok(status) => status,
        // `mmos-image list root.wim | head` is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain on one line: what failed, then why, innermost last.
            eprintln!("mmos-image: {error:#}");
            failure.into()
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_broken))
}
