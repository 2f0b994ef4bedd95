//! Lines of logs: which are wanted, and how they arrive, one by one.

use std::collections::VecDeque;
use std::time::Duration;

use super::client::parse;
use super::error::Error;
use super::interface::{LogLine, Logs_Args, Logs_Reply};
use super::wire::{self, Wire};

/// Which lines are wanted: by default all that are kept, of all units and the kernel.
///
/// ```
/// use mmos::control::LogQuery;
/// let last = LogQuery { lines: 10, ..LogQuery::of("memory-test.service") };
/// let urgent = LogQuery { priority: Some(3), follow: true, ..LogQuery::default() };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of these units, by their full names, `kernel` or `other`; of all if there are none.
    pub units: Vec<String>,
    /// The last lines alone, 10000 at most; 0 is all that is kept.
    pub lines: u32,
    /// Goes on with what comes.
    pub follow: bool,
    /// Not before this time, in microseconds since the kernel started.
    pub since: Option<i64>,
    /// Not after this time; says nothing to one that follows.
    pub until: Option<i64>,
    /// As urgent as this or more, from 0 (emergency) to 7 (debug).
    pub priority: Option<u8>,
    /// What comes after the line with this cursor; `lines` says nothing then.
    pub after: Option<i64>,
}

impl LogQuery {
    /// All that is kept of one unit.
    pub fn of(unit: &str) -> LogQuery {
        LogQuery { units: vec![unit.to_owned()], ..LogQuery::default() }
    }

    pub(super) fn args(&self) -> Logs_Args {
        Logs_Args {
            units: self.units.clone(),
            lines: i64::from(self.lines),
            follow: self.follow,
            since: self.since,
            until: self.until,
            priority: self.priority.map(i64::from),
            after: self.after,
        }
    }
}

/// Lines of logs, oldest first: made by [`super::Client::logs`].
#[derive(Debug)]
pub struct Logs {
    wire: Wire,
    /// How long a line may take; `None` where it may never come.
    patience: Option<Duration>,
    lines: VecDeque<LogLine>,
    more: bool,
}

impl Logs {
    pub(super) fn new(wire: Wire, patience: Option<Duration>) -> Logs {
        Logs { wire, patience, lines: VecDeque::new(), more: true }
    }

    fn receive(&mut self) -> Result<(), Error> {
        let message = self.wire.receive("Logs", wire::after(self.patience))?;
        let (reply, more) = parse::<Logs_Reply>("Logs", &message)?;
        self.more = more;
        self.lines.extend(reply?.entries);
        Ok(())
    }
}

impl Iterator for Logs {
    type Item = Result<LogLine, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            if !self.more {
                return None;
            }
            if let Err(error) = self.receive() {
                self.more = false;
                return Some(Err(error));
            }
        }
    }
}
