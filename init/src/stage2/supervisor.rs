//! The supervisor's process: how it is started, and when it is due to be started again.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use link::{Channel, channel};
use rustix::process::WaitStatus;

use super::backoff::Backoff;
use crate::sys;

/// The supervisor, running or due.
#[derive(Debug)]
pub struct Supervisor {
    program: &'static str,
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running { pid: i32, since: Instant },
    Due { at: Instant },
}

impl Supervisor {
    /// The one whose program is at `program`; due at once.
    pub fn new(program: &'static str, now: Instant) -> Supervisor {
        Supervisor { program, state: State::Due { at: now }, backoff: Backoff::default() }
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
        sys::spawn_with_fd(&program, &environment, [null.as_fd(), log, log], far, channel::SVCMGR_FD)
    }

    /// Its process ended: it is due again.
    pub fn ended(&mut self, status: WaitStatus, now: Instant) {
        let State::Running { pid, since } = self.state else { return };
        let lived = now.saturating_duration_since(since);
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

    #[test]
    fn a_missing_program_is_tried_again_ever_later() {
        let begin = Instant::now();
        let mut supervisor = Supervisor::new("/nonexistent/svcmgr", begin);
        let (_ours, far) = Channel::pair().unwrap();
        let mut waits = Vec::new();
        for _ in 0..4 {
            assert_eq!(supervisor.start(&far, begin).unwrap_err().kind(), io::ErrorKind::NotFound);
            waits.push(supervisor.due().unwrap().duration_since(begin).as_millis());
        }
        assert_eq!(waits, [0, 100, 200, 400]);
    }
}
