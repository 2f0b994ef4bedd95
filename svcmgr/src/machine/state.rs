//! What is known about a unit at run time, and the events that time brings.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::first::FirstRun;
use super::{Event, Goal, Outcome, Phase, Process, TriggerState};
use crate::unit::failure::Act;
use crate::unit::time::Span;

/// What a service says of itself; sd_notify(3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// The last `STATUS=`.
    pub status: String,
    /// The last `ERRNO=`.
    pub errno: Option<i32>,
    /// The last `BUSERROR=`.
    pub bus_error: Option<Box<str>>,
    /// `RELOADING=1`, and no `READY=1` since.
    pub reloading: bool,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.errno.map(|number| {
            let text = std::io::Error::from_raw_os_error(number).to_string();
            let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
            format!("ERRNO={number}: {text}")
        });
        let parts = [
            self.reloading.then(|| "reloading".to_owned()),
            Some(self.status.clone()).filter(|status| !status.is_empty()),
            error,
            self.bus_error.as_ref().map(|name| format!("BUSERROR={name}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        write!(f, "{}", parts.join("; "))
    }
}

/// All that is known about a unit at run time; written down for the supervisor's successor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitState {
    /// What is happening to it.
    pub phase: Phase,
    /// What it is to be.
    pub goal: Goal,
    /// The service itself.
    pub main: Option<Process>,
    /// The command beside it.
    pub control: Option<Process>,
    /// How this run went so far.
    pub outcome: Outcome,
    /// Why it is in this phase, in words.
    pub reason: String,
    /// What it says of itself.
    pub said: Said,
    /// It has said `STOPPING=1`, and nobody has told it to.
    pub said_stopping: bool,
    /// Restarts that nobody asked for, since somebody asked for a start.
    pub restarts: u32,
    /// Starts since it was last steady.
    pub attempts: u32,
    /// When the interval of the start limit began (`CLOCK_MONOTONIC`).
    pub limit_begun: u64,
    /// Starts in it.
    pub limit_count: u32,
    /// When [`Event::Timeout`] is due (`CLOCK_MONOTONIC`).
    pub deadline: Option<u64>,
    /// When [`Event::WatchdogLate`] is due. Not written down: it begins anew with each supervisor.
    #[serde(skip)]
    pub watchdog_at: Option<u64>,
    /// `WATCHDOG_USEC=`, instead of `WatchdogSec=`.
    pub watchdog: Option<Span>,
    /// When [`Event::RuntimeOver`] is due.
    pub runtime_at: Option<u64>,
    /// When [`Event::JobLate`] is due.
    pub job_at: Option<u64>,
    /// Failures in a row, as `FailureActions=` counts them.
    pub failures: u32,
    /// When the last of them was (`CLOCK_MONOTONIC`).
    pub failed_at: u64,
    /// What is done once the delay is over, if it is not [`Act::Restart`].
    pub act: Option<Act>,
    /// The failure that ended this run has been acted on.
    pub handled: bool,
    /// When its processes were last started (`CLOCK_BOOTTIME`).
    pub started_at: Option<u64>,
    /// When it was last up (`CLOCK_BOOTTIME`).
    pub active_at: Option<u64>,
    /// How its last main process ended.
    pub exit_code: Option<i32>,
    /// Or by which signal.
    pub exit_signal: Option<i32>,
    /// Of a socket or a timer.
    pub trigger: Option<Box<TriggerState>>,
    /// Of the service of one connection: who is at its other end.
    pub connection: Option<Box<str>>,
    /// Its first run.
    pub first: FirstRun,
}

impl UnitState {
    /// When the next of its events that time brings is due (`CLOCK_MONOTONIC`).
    pub fn due(&self) -> Option<u64> {
        let alarm_at = self.trigger.as_ref().and_then(|trigger| trigger.alarm_at);
        [self.deadline, self.watchdog_at, self.runtime_at, self.job_at, alarm_at].into_iter().flatten().min()
    }

    /// The event that time has brought by `now`, which is taken from it.
    pub fn take_due(&mut self, now: u64) -> Option<Event> {
        let mut none = None;
        let alarm_at = self.trigger.as_mut().map_or(&mut none, |trigger| &mut trigger.alarm_at);
        let alarms = [
            (alarm_at, Event::Alarm),
            (&mut self.deadline, Event::Timeout),
            (&mut self.watchdog_at, Event::WatchdogLate),
            (&mut self.runtime_at, Event::RuntimeOver),
            (&mut self.job_at, Event::JobLate),
        ];
        alarms.into_iter().find_map(|(at, event)| {
            let is_due = at.is_some_and(|at| at <= now);
            is_due.then(|| {
                *at = None;
                event
            })
        })
    }

    /// Up, and not just brought back by `Restart=`: only then is a deadline running while it is up.
    pub fn is_steady(&self) -> bool {
        self.phase == Phase::Active && self.deadline.is_none()
    }
}

impl Default for UnitState {
    fn default() -> UnitState {
        UnitState {
            phase: Phase::Inactive,
            goal: Goal::Down,
            main: None,
            control: None,
            outcome: Outcome::Success,
            reason: String::new(),
            said: Said::default(),
            said_stopping: false,
            restarts: 0,
            attempts: 0,
            limit_begun: 0,
            limit_count: 0,
            deadline: None,
            watchdog_at: None,
            watchdog: None,
            runtime_at: None,
            job_at: None,
            failures: 0,
            failed_at: 0,
            act: None,
            handled: false,
            started_at: None,
            active_at: None,
            exit_code: None,
            exit_signal: None,
            trigger: None,
            connection: None,
            first: FirstRun::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_of_itself_is_one_line() {
        let mut said = Said { status: "loading".into(), errno: Some(2), ..Said::default() };
        assert_eq!(said.to_string(), "loading; ERRNO=2: No such file or directory");
        said.bus_error = Some("org.x.Failed".into());
        said.status.clear();
        said.reloading = true;
        assert_eq!(said.to_string(), "reloading; ERRNO=2: No such file or directory; BUSERROR=org.x.Failed");
        assert_eq!(Said::default().to_string(), "");
    }
}
