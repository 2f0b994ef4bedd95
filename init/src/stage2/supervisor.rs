//! The supervisor's process: how it is started, and when it is due to be started again.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use link::{Channel, channel};
use rustix::process::{Pid, Signal, WaitStatus};

use super::backoff::Backoff;
use super::store::Room;
use crate::sys;

/// The supervisor, running or due.
#[derive(Debug)]
pub struct Supervisor {
    program: &'static str,
    state: State,
    backoff: Backoff,
    /// How many descriptors it may have.
    room: Room,
    /// It said that it was asked to leave.
    leaves: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running { pid: i32, since: Instant },
    Due { at: Instant },
}

impl Supervisor {
    /// The one whose program is at `program`; due at once.
    pub fn new(program: &'static str, room: Room, now: Instant) -> Supervisor {
        Supervisor { program, state: State::Due { at: now }, backoff: Backoff::default(), room, leaves: false }
    }

    /// When it is to be started; `None` while it runs.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Running { .. } => None,
            State::Due { at } => Some(at),
        }
    }

    /// Whether `pid` is its process.
    pub fn is(&self, pid: i32) -> bool {
        matches!(self.state, State::Running { pid: own, .. } if own == pid)
    }

    /// Starts it, with `far` as its end of the channel.
    ///
    /// # Errors
    /// When it cannot be executed; it is due again later then.
    pub fn start(&mut self, far: &Channel, now: Instant) -> io::Result<()> {
        match self.spawn(far) {
            Ok(pid) => {
                log::info!("svcmgr started (pid {pid})");
                self.state = State::Running { pid, since: now };
                Ok(())
            }
            Err(error) => {
                let wait = self.again(Duration::ZERO, now);
                log::error!(
                    "{} cannot be started: {error}. Put svcmgr into the root. Trying again {}",
                    self.program,
                    within(wait)
                );
                Err(error)
            }
        }
    }

    /// It was asked to leave, so that its program is executed anew: its end is no death to be counted.
    pub fn leaves(&mut self) {
        self.leaves = true;
    }

    /// It hangs: it is killed, and due again once it has ended.
    pub fn kill(&self) {
        let State::Running { pid, .. } = self.state else { return };
        log::error!("svcmgr (pid {pid}) does not answer: it is killed, and the next one takes its services over");
        // Our child, not reaped yet: no other process can have that number.
        let killed = Pid::from_raw(pid).map(|pid| rustix::process::kill_process(pid, Signal::KILL));
        if let Some(Err(error)) = killed {
            log::error!("svcmgr (pid {pid}) cannot be killed: {error}");
        }
    }

    fn spawn(&self, far: &Channel) -> io::Result<i32> {
        let program = CString::new(self.program)?;
        let environment = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "HOME=/".to_owned(),
            format!("{}={}", channel::ENV, channel::SVCMGR_FD),
        ];
        let environment = environment.map(CString::new).into_iter().collect::<Result<Vec<_>, _>>()?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        // What it prints (the message of a panic, say) goes to the kernel's log; there is no other place before its own.
        let log = OpenOptions::new().write(true).open("/dev/kmsg").ok();
        let log = log.as_ref().unwrap_or(&null).as_fd();
        let streams = [null.as_fd(), log, log];
        self.room.spawn(|| sys::spawn_with_fd(&program, &environment, streams, far, channel::SVCMGR_FD))
    }

    /// Its process ended: it is due again.
    pub fn ended(&mut self, status: WaitStatus, now: Instant) {
        let State::Running { pid, since } = self.state else { return };
        let lived = now.saturating_duration_since(since);
        if std::mem::take(&mut self.leaves) && status.exit_status() == Some(0) {
            log::info!("svcmgr (pid {pid}) has left; the next one takes over");
            self.state = State::Due { at: now };
            return;
        }
        let wait = self.again(lived, now);
        let how = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exited with {code}"),
            (_, Some(signal)) => format!("was ended by signal {signal}"),
            _ => format!("ended with status {:#x}", status.as_raw()),
        };
        log::error!("svcmgr (pid {pid}) {how} after {} ms; starting it again {}", lived.as_millis(), within(wait));
    }

    fn again(&mut self, lived: Duration, now: Instant) -> Duration {
        let wait = self.backoff.after(lived);
        self.state = State::Due { at: now.checked_add(wait).unwrap_or(now) };
        wait
    }
}

fn within(wait: Duration) -> String {
    if wait.is_zero() { "at once".into() } else { format!("in {}.{} s", wait.as_secs(), wait.subsec_millis() / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::WaitOptions;
    use std::process::Command;

    #[test]
    fn one_that_was_asked_to_leave_is_followed_at_once_and_one_that_just_ends_is_not() {
        let begin = Instant::now();
        let mut supervisor = Supervisor::new("/nonexistent/svcmgr", Room::make(), begin);
        #[expect(clippy::zombie_processes, reason = "waited for by its number")]
        let mut due_after = |leaves: bool, code: i32| {
            supervisor.state = State::Running { pid: 7, since: begin };
            supervisor.leaves = leaves;
            let now = begin.checked_add(Duration::from_millis(10)).unwrap();
            let child = Command::new("/bin/sh").args(["-c", &format!("exit {code}")]).spawn().unwrap();
            let waited = rustix::process::waitpid(Some(Pid::from_child(&child)), WaitOptions::empty());
            supervisor.ended(waited.unwrap().unwrap().1, now);
            supervisor.due().unwrap().duration_since(now).as_millis()
        };
        assert_eq!([due_after(true, 0), due_after(true, 0), due_after(true, 0)], [0, 0, 0]);
        assert_eq!([due_after(false, 0), due_after(false, 0), due_after(true, 1)], [0, 100, 200]);
    }

    #[test]
    fn a_missing_program_is_tried_again_ever_later() {
        let begin = Instant::now();
        let mut supervisor = Supervisor::new("/nonexistent/svcmgr", Room::make(), begin);
        let (_ours, far) = Channel::pair().unwrap();
        let mut waits = Vec::new();
        for _ in 0..4 {
            assert_eq!(supervisor.start(&far, begin).unwrap_err().kind(), io::ErrorKind::NotFound);
            waits.push(supervisor.due().unwrap().duration_since(begin).as_millis());
        }
        assert_eq!(waits, [0, 100, 200, 400]);
    }
}
