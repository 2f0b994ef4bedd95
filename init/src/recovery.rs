//! When no root can be booted: one line that names image, reason and remedy, on every console and in the kernel's log;
//! then what `mmos.onfail=` says. Never a kernel panic: nothing here returns, and nothing here relies on `/dev`,
//! `/proc` or `/sys`.

use std::any::Any;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::WaitOptions;
use rustix::system::RebootCommand;
use serde::{Deserialize, Serialize};

use crate::params::OnFail;
use crate::{console, flush, panic_text, power, sys};

/// How long the line can be read before the device starts again.
const READABLE: Duration = Duration::from_secs(10);
/// Before the power is switched off: time for slow consoles to take the line.
const DRAIN: Duration = Duration::from_secs(1);

/// Bytes of the line in one record of the kernel's log, which [`link::kmsg`] cuts at 976 with its prefix.
const RECORD: usize = 900;

/// Why there is no root to switch to, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What went wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Reason {
    /// A defect of ours, caught.
    pub fn of_panic(payload: &(dyn Any + Send)) -> Reason {
        Reason {
            what: format!("internal error: {}", panic_text(payload)),
            remedy: "Keep the kernel's log and report it; another image may boot".into(),
        }
    }
}

/// What failed, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The image, as `mmos.root=` names it.
    pub image: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { image, reason: Reason { what, remedy } } = self;
        write!(f, "cannot boot {image}: {}. {}.", what.trim_end_matches('.'), remedy.trim_end_matches('.'))
    }
}

/// Says what failed and ends this boot.
pub fn recover(failure: &Failure, onfail: OnFail) -> ! {
    let next = match onfail {
        OnFail::Reboot => "Rebooting in 10 s (mmos.onfail=reboot).",
        OnFail::Poweroff => "Switching the power off (mmos.onfail=poweroff).",
        OnFail::Shell => "Here is a shell; its end reboots (mmos.onfail=shell).",
    };
    let line = format!("{failure} {next}").replace('\n', " ");
    for record in records(&line) {
        log::error!("{record}");
    }
    console::say(&format!("mmos: {line}"));
    match onfail {
        OnFail::Reboot => {
            std::thread::sleep(READABLE);
            end(RebootCommand::Restart)
        }
        OnFail::Poweroff => {
            std::thread::sleep(DRAIN);
            end(RebootCommand::PowerOff)
        }
        OnFail::Shell => {
            if let Err(error) = shell() {
                let line = format!("no shell can be started: {error}. Rebooting in 10 s.");
                log::error!("{line}");
                console::say(&format!("mmos: {line}"));
                std::thread::sleep(READABLE);
            }
            end(RebootCommand::Restart)
        }
    }
}

/// The line in pieces that the kernel's log takes whole, so that the remedy at its end is never cut off.
fn records(line: &str) -> Vec<&str> {
    let mut records = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = (1..=RECORD).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        let (record, after) = rest.split_at(end);
        records.push(record);
        rest = after;
    }
    records
}

/// What a shell mounted and wrote is kept; then the kernel is asked.
fn end(command: RebootCommand) -> ! {
    power::only_pid_1();
    flush::all();
    power::end(command)
}

/// Runs a shell on the console until it ends.
fn shell() -> io::Result<()> {
    let mut first = None;
    for (program, arguments) in [("/bin/busybox", &["sh"][..]), ("/bin/sh", &[])] {
        if !Path::new(program).exists() {
            continue;
        }
        let console = terminal()?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/").env("TERM", "linux");
        command.stdin(console.try_clone()?).stdout(console.try_clone()?).stderr(Stdio::from(console));
        match sys::spawn_on_terminal(&mut command) {
            Ok(child) => {
                wait_for(child.id());
                return Ok(());
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::Error::other("the initramfs has neither /bin/busybox nor /bin/sh")))
}

/// The console that a person types on: the last one that the kernel lists, which `/dev/console` stands for.
fn terminal() -> io::Result<File> {
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    // By its own name a console can be a controlling terminal, as /dev/console cannot.
    let last = console::active().pop().unwrap_or_default();
    open(&last).or_else(|_| open(Path::new("/dev/console")))
}

/// Reaps until process `id` has ended; its orphans fall to us as well.
fn wait_for(id: u32) {
    while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::empty()) {
        if u32::try_from(pid.as_raw_nonzero().get()) == Ok(id) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_image_reason_and_remedy_once_each() {
        let failure = Failure {
            image: "initrd:/root.wim".into(),
            reason: Reason {
                what: "the initramfs has no file /root.wim".into(),
                remedy: "Build the image again.".into(),
            },
        };
        assert_eq!(
            failure.to_string(),
            "cannot boot initrd:/root.wim: the initramfs has no file /root.wim. Build the image again."
        );
    }

    #[test]
    fn a_line_longer_than_a_record_is_logged_to_its_end() {
        let line = format!("cannot boot {}. Do this.", "é".repeat(1000));
        let records = records(&line);
        assert_eq!(records.concat(), line);
        assert!(records.len() == 3 && records.iter().all(|record| record.len() <= RECORD), "{records:?}");
        assert_eq!(super::records("short"), ["short"]);
    }
}
