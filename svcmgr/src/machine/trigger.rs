//! What is known about a socket or a timer besides its phase, and what its sockets need: data of the steps in
//! `unit::trigger`.

use serde::{Deserialize, Serialize};

use crate::unit::socket::Rate;
use crate::unit::timer::Moments;

/// What is known about a socket or a timer besides its phase; see "What starts another unit" in `ARCHITECTURE.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerState {
    /// What it starts is not at rest.
    pub taken: bool,
    /// When [`super::Event::Alarm`] is due (`CLOCK_MONOTONIC`): a timer elapses, a socket is watched again.
    pub alarm_at: Option<u64>,
    /// The moments from which a timer counts.
    pub moments: Moments,
    /// How often a socket was to start its service of late.
    pub triggered: Count,
    /// How often it was readable of late.
    pub polled: Count,
}

/// Counts within an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// When the interval began (`CLOCK_MONOTONIC`).
    begun: u64,
    count: u32,
}

impl Count {
    /// Counts one more, if there may be one more: at most `burst` within the interval from the first of them.
    ///
    /// # Errors
    /// When there may not: when the interval is over.
    pub fn one_more(&mut self, rate: Rate, burst: u32, now: u64) -> Result<(), u64> {
        if burst == 0 || rate.interval.0 == 0 {
            return Ok(());
        }
        let end = rate.interval.after(self.begun).unwrap_or(u64::MAX);
        if self.count == 0 || end < now {
            *self = Count { begun: now, count: 0 };
        }
        if self.count >= burst {
            return Err(end);
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

/// What is to be done about the sockets of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketWork {
    /// Open those that are not open. Answer: [`super::Event::Executed`], or the exit [`super::Exit::NotExecuted`].
    Open,
    /// Watch them: [`super::Event::Incoming`] follows when anything arrives.
    Watch,
    /// Watch them no longer.
    Unwatch,
    /// Throw away what waits there.
    Flush,
    /// Close them.
    Close,
}
