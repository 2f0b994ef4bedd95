//! What is known about a unit at run time, and the events that time brings.

use serde::{Deserialize, Serialize};

use super::first::FirstRun;
use super::{Event, Goal, Outcome, Phase, Process};
use crate::unit::failure::Act;
use crate::unit::time::Span;

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
    /// The last `STATUS=`.
    pub status: String,
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
    /// Its first run.
    pub first: FirstRun,
}

impl UnitState {
    /// When the next of its events that time brings is due (`CLOCK_MONOTONIC`).
    pub fn due(&self) -> Option<u64> {
        [self.deadline, self.watchdog_at, self.runtime_at, self.job_at].into_iter().flatten().min()
    }

    /// The event that time has brought by `now`, which is taken from it.
    pub fn take_due(&mut self, now: u64) -> Option<Event> {
        let alarms = [
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
            status: String::new(),
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
            first: FirstRun::default(),
        }
    }
}
