//! The commands of a developer: `cargo xtask run`, `test`, … Each installs and builds what it needs first.

mod bench;
mod build;
mod fuzz;
mod progress;
mod run;
mod setup;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything a developer of mmos does, set-up included"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an image and boot it in QEMU; on a terminal, stay on its console
    ///
    /// Without a terminal, the device is powered off when its services are up, and the exit status is 0 only if
    /// every auto service came up.
    Run(run::Args),
    /// Run all tests: unit tests, and those that boot whole systems in QEMU
    Test(test::Args),
    /// Measure what the project promises to be fast or small
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Feed a part of the reader with changed inputs for some minutes; without a target, list them
    Fuzz(fuzz::Args),
    /// Build the device binaries and mmos-image, and nothing else
    Build,
    /// Build images: by name from rootfs/images, or by the path of a definition
    Image {
        /// Names or paths; all of rootfs/images if none is given
        images: Vec<String>,
        /// Ask the package registry again instead of taking what was fetched before
        #[arg(long)]
        refresh: bool,
    },
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::test(&args),
        Command::Bench(command) => bench::bench(&command),
        Command::Fuzz(args) => fuzz::fuzz(&args),
        Command::Build => setup::install(setup::Purpose::Build).and_then(|()| build::binaries()),
        Command::Image { images, refresh } => setup::install(setup::Purpose::Build)
            .and_then(|()| build::binaries())
            .and_then(|()| build::images(&images, refresh)),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
