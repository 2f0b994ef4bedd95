//! `svcmgr`: reads the command line, sets the log up, finds the channel to PID 1, and runs the supervisor.
#![no_main]

mod ffi;

use std::path::PathBuf;
use std::process::ExitCode;

use link::channel::{Channel, ENV, SVCMGR_FD};
use log::LevelFilter;
use svcmgr::insist::insist;
use svcmgr::log::store::Bounds;
use svcmgr::startup::{Options, run};

const HELP: &str = "\
The supervisor of mmos: starts services from unit files and keeps them running.
On a device init runs it. On another Linux, for tests of units:

  svcmgr --root DIR --run DIR [--profile NAME] [--cgroup DIR|none] [--logs UNIT,ALL] [--kmsg FILE]
         [--journal DIR] [--pstore DIR] [--patience SECONDS] [--debug]

  --root DIR      where etc/mmos/units, usr/lib/systemd/system and so on are (default: /)
  --run DIR       where sockets, states and logs go (default: /run/mmos)
  --profile NAME  the active profile (default: what the boot or the image says, else Default)
  --logs UNIT,ALL keep so many KiB of logs of one unit, and of all (default: 256 of one, and of all a
                  thirty-second part of memory)
  --kmsg FILE     the kernel's log (default: /dev/kmsg, but with --run none)
  --journal DIR   where the journal's sockets and that of syslog go (default: /run/systemd/journal with a link
                  /dev/log, but with --run DIR/journal)
  --cgroup DIR    folder of a cgroup v2 hierarchy for the services' cgroups, or \"none\"
                  (default: /sys/fs/cgroup/mmos)
  --pstore DIR    what the kernel of the boot before left (default: /sys/fs/pstore, but with --run none)
  --patience SECONDS
                  say why a start or a stop takes longer than this (default: 10)
  --debug         log more
  --core PID SIGNAL TIME
                  keep the core on standard input; the kernel runs this, see kernel.core_pattern
  --help          this text
  --version       the version

Without PID 1 of mmos, the first SIGTERM or SIGINT stops all services, the second leaves at once.
";

fn run_program() -> ExitCode {
    let (options, level) = match parse(std::env::args_os().skip(1)) {
        Ok(Parsed::Run(options, level)) => (options, level),
        Ok(Parsed::Core(options, arguments)) => return handle_core(&options, &arguments),
        Ok(Parsed::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("svcmgr: {error}; see svcmgr --help");
            return ExitCode::from(2);
        }
    };
    let channel =
        if std::env::var_os(ENV).is_some() { insist(|| svcmgr::host::sys::inherited(SVCMGR_FD)).ok() } else { None };
    let channel = channel.map(Channel::from_fd);
    // As PID 1's child the kernel's log is ours; elsewhere it is not.
    let is_child_of_init = channel.is_some() && std::os::unix::process::parent_id() == 1;
    if !is_child_of_init || link::kmsg::install("svcmgr", level).is_err() {
        let _ = log::set_logger(&Stderr);
        log::set_max_level(level);
    }
    if channel.is_none() && options.is_device() {
        // It would take over this machine's core dumps, its log and its services.
        eprintln!("svcmgr: this is no child of the init of mmos. To try units on another Linux, say where: --run DIR");
        return ExitCode::from(2);
    }
    match run(&options, channel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Parsed {
    Run(Options, LevelFilter),
    Core(Options, Vec<String>),
    Print(String),
}

fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Parsed, String> {
    let mut options = Options::default();
    let mut level = LevelFilter::Info;
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--root" => options.root = PathBuf::from(value()?),
            "--run" => options.run = PathBuf::from(value()?),
            "--profile" => options.profile = Some(value()?.to_string_lossy().into_owned()),
            "--cgroup" => {
                let folder = value()?;
                options.cgroup = (folder != "none").then(|| PathBuf::from(folder));
            }
            "--kmsg" => options.kmsg = Some(PathBuf::from(value()?)),
            "--journal" => options.journal = Some(PathBuf::from(value()?)),
            "--pstore" => options.pstore = Some(PathBuf::from(value()?)),
            "--logs" => options.logs = Some(bounds(&value()?.to_string_lossy())?),
            "--patience" => {
                let text = value()?.to_string_lossy().into_owned();
                let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
                options.patience = seconds.ok_or_else(|| format!("--patience {text:?} is not a number of seconds"))?;
            }
            "--debug" => level = LevelFilter::Debug,
            "--core" => {
                let rest = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
                return Ok(Parsed::Core(options, rest));
            }
            "--help" | "-h" => return Ok(Parsed::Print(HELP.to_owned())),
            "--version" => return Ok(Parsed::Print(format!("svcmgr {}\n", env!("CARGO_PKG_VERSION")))),
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok(Parsed::Run(options, level))
}

/// Keeps the core that the kernel hands us. What becomes of it stands in the kernel's log, with the supervisor's lines.
fn handle_core(options: &Options, arguments: &[String]) -> ExitCode {
    // Those whom the kernel starts are children of the parent of its threads, or of nobody whom we could see.
    let is_kernels = matches!(std::os::unix::process::parent_id(), 0 | 2);
    if !is_kernels || link::kmsg::install("svcmgr", LevelFilter::Info).is_err() {
        let _ = log::set_logger(&Stderr);
        log::set_max_level(LevelFilter::Info);
    }
    match svcmgr::crash::core::handle(&options.crashes(), std::path::Path::new("/proc"), arguments) {
        Ok(crash) => {
            log::error!("{crash}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::error!("a process has dumped core, and {error}");
            ExitCode::FAILURE
        }
    }
}

fn bounds(text: &str) -> Result<Bounds, String> {
    let kib = |text: &str| text.parse().ok().and_then(|kib: u64| kib.checked_mul(1024)).filter(|bytes| *bytes > 0);
    let found = text.split_once(',').and_then(|(unit, all)| Some(Bounds { unit: kib(unit)?, all: kib(all)? }));
    found.ok_or_else(|| format!("--logs {text:?} is not two numbers of KiB, as in 256,4096"))
}

/// The log where there is no PID 1 of ours.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("svcmgr[{}] {}: {}\n", std::process::id(), record.level(), record.args()).as_bytes(),
            );
        }
    }

    fn flush(&self) {}
}
