//! The end of the machine. The supervisor stops the services and says when it is done; if it hangs, PID 1 does not wait
//! for it for ever. Then all processes are ended, file systems are let go of, and the kernel is asked.

use std::time::{Duration, Instant};

use link::Ending;
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::WaitOptions;
use rustix::system::RebootCommand;

use super::watchdog::Watchdog;
use crate::{flush, power};

/// The supervisor must answer within this; it may have to be started first, after a wait of up to 10 s.
const ANSWER: Duration = Duration::from_secs(20);
/// And must have stopped all services within this: two of them in a row at systemd's default `TimeoutStopSec=` of 90 s.
const STOP: Duration = Duration::from_secs(200);
/// What is left then gets this long to end by itself.
const TERM: Duration = Duration::from_secs(3);
/// And this long to be ended.
const KILL: Duration = Duration::from_secs(2);

/// An ending that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub ending: Ending,
    /// When PID 1 goes on without the supervisor.
    pub deadline: Instant,
    answered: bool,
}

impl Pending {
    /// Someone asked for it just now. Of two requests the later one says how, the earlier one until when.
    pub fn asked(before: Option<Pending>, ending: Ending, now: Instant) -> Pending {
        match before {
            Some(before) => Pending { ending, ..before },
            None => Pending { ending, deadline: after(now, ANSWER), answered: false },
        }
    }

    /// The supervisor said that it is stopping the services. Said again, by its successor, it does not begin anew.
    pub fn answered(before: Option<Pending>, ending: Ending, now: Instant) -> Pending {
        match before {
            Some(before) if before.answered => Pending { ending, ..before },
            _ => Pending { ending, deadline: after(now, STOP), answered: true },
        }
    }
}

fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

/// What a signal to PID 1 asks for. As with busybox's init, so that its `reboot`, `poweroff` and `halt` work.
pub fn asked_by(signal: Signal) -> Option<Ending> {
    match signal {
        Signal::SIGTERM | Signal::SIGINT => Some(Ending::Reboot),
        Signal::SIGUSR1 => Some(Ending::Halt),
        Signal::SIGUSR2 => Some(Ending::Poweroff),
        _ => None,
    }
}

/// Ends everything. `signals` tells, among others, that a child has ended. The watchdog is fed, so each step has its
/// time anew.
pub fn finish(ending: Ending, signals: &SignalFd, watchdog: &mut Watchdog) -> ! {
    power::only_pid_1();
    log::info!("ending all processes");
    for (signal, patience) in [(Signal::SIGTERM, TERM), (Signal::SIGKILL, KILL)] {
        // To all processes but ourselves and the kernel's (kill(2)).
        watchdog.feed();
        let _ = kill(Pid::from_raw(-1), signal);
        if all_ended(signals, patience) {
            break;
        }
        log::warn!("some processes did not end within {} s of {signal}", patience.as_secs());
    }
    watchdog.feed();
    flush::all();
    match ending {
        // A kernel that hangs on its way down is reset all the same.
        Ending::Reboot => watchdog.feed(),
        Ending::Poweroff | Ending::Halt => watchdog.release(),
    }
    log::info!("{}", ending.word());
    power::end(match ending {
        Ending::Poweroff => RebootCommand::PowerOff,
        Ending::Reboot => RebootCommand::Restart,
        Ending::Halt => RebootCommand::Halt,
    })
}

/// Reaps until there is no process left or the time is over. Whoever has no parent is our child; so none left means
/// none at all.
fn all_ended(signals: &SignalFd, patience: Duration) -> bool {
    let deadline = after(Instant::now(), patience);
    loop {
        // Taken off before it is looked what they stand for: one that comes later wakes the wait below.
        while matches!(signals.read_signal(), Ok(Some(_))) {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return true,
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout = rustix::event::Timespec::try_from(left).ok();
        let _ = rustix::event::poll(&mut [PollFd::new(signals, PollFlags::IN)], timeout.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_answers_gets_time_for_its_services_and_only_once() {
        let begin = Instant::now();
        let asked = Pending::asked(None, Ending::Reboot, begin);
        assert_eq!(asked.deadline, begin + ANSWER);
        let answered = Pending::answered(Some(asked), Ending::Reboot, begin + ANSWER / 2);
        assert_eq!(answered.deadline, begin + ANSWER / 2 + STOP);
        let again = Pending::answered(Some(answered), Ending::Reboot, begin + ANSWER);
        assert_eq!(again, answered);
    }

    #[test]
    fn a_second_request_changes_how_and_not_when() {
        let begin = Instant::now();
        let first = Pending::asked(None, Ending::Reboot, begin);
        let second = Pending::asked(Some(first), Ending::Poweroff, begin + ANSWER / 2);
        assert_eq!((second.ending, second.deadline), (Ending::Poweroff, first.deadline));
    }

    #[test]
    fn each_signal_asks_for_its_ending() {
        assert_eq!(asked_by(Signal::SIGTERM), Some(Ending::Reboot));
        assert_eq!(asked_by(Signal::SIGINT), Some(Ending::Reboot));
        assert_eq!(asked_by(Signal::SIGUSR1), Some(Ending::Halt));
        assert_eq!(asked_by(Signal::SIGUSR2), Some(Ending::Poweroff));
        assert_eq!(asked_by(Signal::SIGCHLD), None);
    }
}
