//! When no root can be booted: one line that names image, reason and remedy, on every console and in the kernel's log;
//! then what `mmos.onfail=` says. Never a kernel panic: nothing here returns, and nothing here relies on `/dev`,
//! `/proc` or `/sys`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::WaitOptions;
use rustix::system::RebootCommand;

use crate::params::OnFail;
use crate::{console, sys};

/// How long the line can be read before the device starts again.
const READABLE: Duration = Duration::from_secs(10);
/// Before the power is switched off: time for slow consoles to take the line.
const DRAIN: Duration = Duration::from_secs(1);

/// What failed, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The image, as `mmos.root=` names it.
    pub image: String,
    /// What went wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { image, reason, remedy } = self;
        write!(f, "cannot boot {image}: {}. {}.", reason.trim_end_matches('.'), remedy.trim_end_matches('.'))
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
    log::error!("{line}");
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

/// Ends the machine: flushes what storage was written by others, then asks the kernel. Should that fail, waits for
/// ever, since PID 1 must not end.
pub fn end(command: RebootCommand) -> ! {
    only_pid_1();
    rustix::fs::sync();
    if let Err(errno) = rustix::system::reboot(command) {
        log::error!("the kernel refuses to end the machine ({command:?}): {errno}");
        console::say("mmos: the kernel refuses to end the machine. Switch the power off by hand.");
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// What ends a machine must never end a developer's: anywhere but in PID 1 the process ends here.
pub fn only_pid_1() {
    if std::process::id() != 1 {
        log::error!("this is not PID 1, and shall not end the machine");
        std::process::exit(2);
    }
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
            reason: "the initramfs has no file /root.wim".into(),
            remedy: "Build the image again.".into(),
        };
        assert_eq!(
            failure.to_string(),
            "cannot boot initrd:/root.wim: the initramfs has no file /root.wim. Build the image again."
        );
    }
}
