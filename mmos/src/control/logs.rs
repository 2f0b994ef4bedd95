//! The output of a unit, line by line, as the supervisor sends it.

use std::collections::VecDeque;

use super::client::parse;
use super::error::Error;
use super::interface::{LogLine, Logs_Reply};
use super::wire::{Deadline, Wire};

/// The lines of a unit's output, oldest first: made by [`super::Client::logs`].
#[derive(Debug)]
pub struct Logs {
    wire: Wire,
    deadline: Deadline,
    lines: VecDeque<LogLine>,
    more: bool,
}

impl Logs {
    pub(super) fn new(wire: Wire, deadline: Deadline) -> Logs {
        Logs { wire, deadline, lines: VecDeque::new(), more: true }
    }

    fn receive(&mut self) -> Result<(), Error> {
        let (reply, more) = parse::<Logs_Reply>("Logs", &self.wire.receive("Logs", self.deadline)?)?;
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
