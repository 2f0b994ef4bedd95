//! What may be asked, and the help that teaches it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::logs;
use crate::screen::Screen;
use crate::when;

const EXAMPLES: &str = "\
Examples:
  mmosctl status                     all units, and whether any failed
  mmosctl status memory-test         one unit, with its last output
  mmosctl logs -f memory-test        its output as it comes
  mmosctl logs -p err --since 5min   what went wrong lately, the kernel's lines among them
  mmosctl restart memory-test        and wait until it is ready again
  mmosctl wait-boot --timeout 60 && run-the-line
  mmosctl status --json | jq -r '.units[] | select(.state == \"failed\").name'

Exit status:
  0  it is so, or it was done
  1  it is not so, or it failed: the message says which unit, and why
  2  wrong usage, or no answer from the supervisor

A unit's name without a type means a service: \"hello\" is hello.service.";

const STATUS_HELP: &str = "\
States:
  + active    up                          + done      did its work, not to be started again
  ~ queued    waits for its turn          ~ starting  runs, is not ready yet
  ~ stopping  told to stop                ~ backoff   waits to be started again
  - inactive  not started, or stopped     ! failed    ended badly, or could not be started
  ! refused   cannot be started at all, the reason is beside it

Units from outside /etc/mmos that nobody started and that nothing starts are left out; --all shows them.";

const LOGS_HELP: &str = "\
Without a unit, lines of all units come in one order, the kernel's among them. The unit \"kernel\" is the kernel,
\"other\" whatever else writes to /dev/log or the journal's sockets.

Each line begins with its time: seconds since the kernel started, as in the kernel's log; with --wall, UTC.

A TIME for --since and --until is one of
  5min, 2h 30s             so long ago
  +12.5                    so many seconds after the kernel started, as lines show it
  2026-01-31 14:05[:00]    UTC; without the day, today's; without the time, midnight

Priorities: 0 emerg, 1 alert, 2 crit, 3 err, 4 warning, 5 notice, 6 info, 7 debug.";

const CRASHES_HELP: &str = "\
Examples:
  mmosctl crashes
  mmosctl crashes get 12345-77 /tmp/core && gdb /usr/bin/worker /tmp/core
  mmosctl crashes get kernel-dmesg-ramoops-0 -

Of one unit the first core and the last three are kept, and in all no more than a sixteenth part of memory holds.";

const WAIT_HELP: &str = "\
Exit status:
  0  every auto unit is up, or did its work
  1  at least one failed: its name and reason are shown
  2  no answer, or not in time";

const BOOT_HELP: &str = "\
What counts is the first run of a unit: from when it waited for no other unit any longer, until it was ready. What
readiness is, its Type= says: that it told so (notify), that its program was executed (exec), that it ended (oneshot).

Before the boot is complete, this shows what is known so far.";

const CHART_HELP: &str = "\
Example:
  mmosctl boot-chart > boot.svg

docs/boot.md says how to read it.";

const VERIFY_HELP: &str = "\
Needs no supervisor: for CI, or before a unit is put into an image.

Exit status:
  0  all of them can do their work
  1  at least one cannot: each reason is shown; with --strict also where anything was found at all
  2  a file cannot be read

Examples:
  mmosctl verify *.service
  mmosctl verify --root target/images/factory/root --strict units/*.service";

const IS_MMOS_HELP: &str = "\
Exit status:
  0  yes
  1  no
  2  it cannot be told: the message says why

Neither an environment variable nor a file of an ordinary user changes the answer.";

/// Shows and controls what runs on this manufacturing device.
#[derive(Debug, Parser)]
#[command(name = "mmosctl", version, after_help = EXAMPLES, subcommand_required = true, disable_help_subcommand = true)]
pub struct Cli {
    /// The supervisor's control socket
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/mmos/control", hide_default_value = true)]
    pub socket: PathBuf,
    #[command(subcommand)]
    pub command: Command,
}

/// Which lines, and how.
#[derive(Debug, Args)]
pub struct Logs {
    /// The units whose lines to show
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,
    /// Likewise, as with journalctl
    #[arg(short = 'u', long = "unit", value_name = "UNIT")]
    pub more_units: Vec<String>,
    /// Go on with what comes, until ctrl-c
    #[arg(short, long)]
    pub follow: bool,
    /// The last LINES lines only; 0 is all that is kept
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub lines: u32,
    /// Not before TIME
    #[arg(long, value_name = "TIME", value_parser = when::parse, allow_hyphen_values = true)]
    pub since: Option<i64>,
    /// Not after TIME
    #[arg(long, value_name = "TIME", value_parser = when::parse, allow_hyphen_values = true, conflicts_with = "follow")]
    pub until: Option<i64>,
    /// As urgent as PRIORITY or more: 0 to 7, or a name
    #[arg(short, long, value_name = "PRIORITY", value_parser = logs::priority)]
    pub priority: Option<u8>,
    /// Show times of the wall clock, in UTC
    #[arg(short, long)]
    pub wall: bool,
    /// Print one JSON object a line, with the names of the control interface
    #[arg(long)]
    pub json: bool,
}

/// What to do with a crash.
#[derive(Debug, Subcommand)]
pub enum Crashes {
    /// Write a core, or the kernel's record, to a file; "-" is standard output
    Get { id: String, file: PathBuf },
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all units, or one of them with its last output
    #[command(after_help = STATUS_HELP)]
    Status {
        /// The unit to show
        unit: Option<String>,
        /// Also show what is neither started nor ours
        #[arg(short, long, conflicts_with_all = ["unit", "json"])]
        all: bool,
        /// Print JSON, with the names of the control interface
        #[arg(long)]
        json: bool,
    },
    /// Start units and what they require; wait until they are ready
    Start {
        #[arg(required = true, value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Stop units and what requires them; wait until their last process is gone
    Stop {
        #[arg(required = true, value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Stop units if they run, then start them
    Restart {
        #[arg(required = true, value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Show what services and the kernel say
    #[command(after_help = LOGS_HELP)]
    Logs(Logs),
    /// Show cores of services, and what the kernel of the boot before said last
    #[command(after_help = CRASHES_HELP, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
    Crashes {
        /// Print JSON, with the names of the control interface
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        command: Option<Crashes>,
    },
    /// Wait until every unit that starts by itself is up, is done, or failed
    #[command(after_help = WAIT_HELP)]
    WaitBoot {
        /// Give up after so many seconds
        #[arg(short, long, value_name = "SECONDS")]
        timeout: Option<u32>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how long each unit took at boot to get ready, the slowest first
    #[command(after_help = BOOT_HELP)]
    Blame {
        /// Print JSON; times are microseconds
        #[arg(long)]
        json: bool,
    },
    /// Show the phases of the boot, and what the unit that was ready last, or UNIT, waited for
    #[command(after_help = BOOT_HELP)]
    CriticalChain {
        #[arg(value_name = "UNIT")]
        unit: Option<String>,
        /// Print JSON; times are microseconds
        #[arg(long)]
        json: bool,
    },
    /// Draw the boot as SVG, from the kernel's start to the last service
    #[command(after_help = CHART_HELP)]
    BootChart {
        /// Print what is drawn as JSON, with the names of the control interface
        #[arg(long)]
        json: bool,
    },
    /// Check unit files without running anything: mistakes, cycles, missing programs, what is not supported
    #[command(after_help = VERIFY_HELP)]
    Verify {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The root that they are for: its units, programs and users
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Fail on warnings, too
        #[arg(long)]
        strict: bool,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Tell by the exit status whether this is the manufacturing OS
    #[command(after_help = IS_MMOS_HELP)]
    IsMmos,
    /// Stop all services and switch the power off
    Poweroff,
    /// Stop all services and start the machine again
    Reboot,
    /// Stop all services and the processors, and leave the power on
    Halt,
    /// Have the supervisor executed anew, such as after its program was replaced; services are not touched
    Reexec,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  mmosctl completions bash > /usr/share/bash-completion/completions/mmosctl")]
    Completions { shell: Shell },
}

/// Prints the completion script for `shell`.
pub fn completions(shell: Shell, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mmosctl", &mut script);
    screen.write(&script)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_state_in_the_interface_file_is_given() {
        use mmos::control::State;
        for state in [
            State::inactive,
            State::queued,
            State::starting,
            State::active,
            State::stopping,
            State::backoff,
            State::done,
            State::failed,
            State::refused,
        ] {
            let sign = crate::table::Look::of(&state);
            let entry = format!("{} {}", sign.sign, sign.word);
            assert!(STATUS_HELP.contains(&entry), "{entry}");
        }
    }

    #[test]
    fn the_default_socket_is_the_one_that_all_agree_on() {
        let cli = Cli::parse_from(["mmosctl", "status"]);
        assert_eq!(cli.socket, mmos::control::socket());
    }
}
