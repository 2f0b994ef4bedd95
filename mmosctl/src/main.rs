//! `mmosctl`: the command line on the device. Each command asks the supervisor over its control socket, shows the
//! answer, and says by its exit status what came of it.
//!
//! ```text
//!   cli      what may be asked, and the help
//!   commands one module each: status, jobs (start, stop, restart), logs, boot (wait-boot), end, mode (is-mmos), verify,
//!            analysis (blame, critical-chain, boot-chart)
//!   names    "hello" is hello.service; the nearest name for one that does not exist
//!   screen   stdout: colour, width, and a reader that goes away
//! ```

mod analysis;
mod boot;
mod cli;
mod crashes;
mod end;
mod failure;
mod jobs;
mod logs;
mod mode;
mod names;
mod reexec;
mod screen;
mod span;
mod status;
mod table;
mod verify;
mod when;

use std::process::ExitCode;

use clap::Parser;

use analysis::View;
use cli::{Cli, Command, Crashes};
use failure::Failure;
use screen::Screen;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut screen = Screen::stdout();
    match run(&cli, &mut screen) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(cli: &Cli, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let socket = cli.socket.as_path();
    match &cli.command {
        Command::Status { unit: None, all, json } => status::overview(socket, *all, *json, screen),
        Command::Status { unit: Some(name), json, .. } => status::detail(socket, name, *json, screen),
        Command::Start { units } => jobs::run(socket, jobs::Job::Start, units, screen),
        Command::Stop { units } => jobs::run(socket, jobs::Job::Stop, units, screen),
        Command::Restart { units } => jobs::run(socket, jobs::Job::Restart, units, screen),
        Command::Logs(options) => logs::run(socket, options, screen),
        Command::Crashes { json, command: None } => crashes::list(socket, *json, screen),
        Command::Crashes { command: Some(Crashes::Get { id, file }), .. } => crashes::get(socket, id, file, screen),
        Command::WaitBoot { timeout, json } => boot::wait(socket, *timeout, *json, screen),
        Command::Blame { json } => analysis::run(socket, View::Blame, *json, screen),
        Command::CriticalChain { unit, json } => analysis::run(socket, View::Chain(unit.as_deref()), *json, screen),
        Command::BootChart { json } => analysis::run(socket, View::Chart, *json, screen),
        Command::Verify { files, root, strict, json } => verify::run(root, files, *strict, *json, screen),
        Command::IsMmos => mode::run(screen),
        Command::Poweroff => end::run(socket, mmos::control::Ending::poweroff, screen),
        Command::Reboot => end::run(socket, mmos::control::Ending::reboot, screen),
        Command::Halt => end::run(socket, mmos::control::Ending::halt, screen),
        Command::Reexec => reexec::run(socket, screen),
        Command::Completions { shell } => cli::completions(*shell, screen),
    }
}
