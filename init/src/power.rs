//! The last step of all: the kernel is asked to end the machine. Nothing here touches storage; see [`crate::flush`].

use std::io;
use std::time::Duration;

use rustix::process::WaitStatus;
use rustix::system::RebootCommand;

use crate::child::wait;
use crate::{console, sys};

/// The kernel shuts every device down before it ends the machine. Longer than that, it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the machine. Should the kernel not manage to switch the power off, starts it again; should it manage neither,
/// waits for ever, since PID 1 must not end. Storage is flushed before, by the caller.
///
/// A child asks, as with busybox's init: where the firmware does not do as it is told, `reboot(2)` ends the process
/// that called it (`kernel/reboot.c`: `kernel_power_off(); do_exit(0);`), and the end of PID 1 is a kernel panic.
pub fn end(command: RebootCommand) -> ! {
    only_pid_1();
    ask(command);
    // A halt is to stay where it is; so is, after a restart that failed, all the rest.
    if matches!(command, RebootCommand::PowerOff) {
        say("the power cannot be switched off; starting again instead");
        ask(RebootCommand::Restart);
    }
    say("the kernel does not end the machine. Switch the power off by hand.");
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

fn say(line: &str) {
    log::error!("{line}");
    console::say(&format!("mmos: {line}"));
}

/// Asks the kernel by a child. Returns only if that did not help.
fn ask(command: RebootCommand) {
    let said = match sys::reboot_in_child(command) {
        Ok(child) => outcome(wait(child, PATIENCE)),
        // No memory for a child: then PID 1 has to take the risk.
        Err(_) => rustix::system::reboot(command).err().map_or("nothing happened".into(), |errno| errno.to_string()),
    };
    log::error!("the kernel was asked to end the machine ({command:?}): {said}");
}

fn outcome(status: Option<WaitStatus>) -> String {
    match status.map(|status| status.exit_status()) {
        None => format!("no answer within {} s", PATIENCE.as_secs()),
        Some(None | Some(0)) => "nothing happened".into(),
        Some(Some(errno)) => io::Error::from_raw_os_error(errno).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_kernel_that_refuses_is_heard_from_the_child_that_asked() {
        let child = sys::in_child(|| Errno::INVAL.raw_os_error()).unwrap();
        let said = outcome(wait(child, Duration::from_secs(30)));
        assert!(said.contains("Invalid argument"), "{said}");
        let child = sys::in_child(|| 0).unwrap();
        assert_eq!(outcome(wait(child, Duration::from_secs(30))), "nothing happened");
    }

    #[test]
    fn a_kernel_that_hangs_in_the_child_does_not_hold_us() {
        let child = sys::in_child(|| {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        })
        .unwrap();
        let said = outcome(wait(child, Duration::from_millis(50)));
        assert!(said.contains("no answer within"), "{said}");
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        assert!(wait(child, Duration::from_secs(30)).unwrap().signaled());
    }
}
