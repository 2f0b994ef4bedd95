//! What is waited for: all in one epoll descriptor, and what is urgent in another one inside it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::time::Timespec;

use super::RealHost;
use crate::host::token::Token;

/// So much is heard in one turn of the loop: whoever asks something waits for a turn to end.
const EVENTS: usize = 16;

/// What has happened to the descriptors of an epoll; waited for at most so long.
fn ready(epoll: &OwnedFd, timeout: Option<&Timespec>) -> rustix::io::Result<Vec<(Token, EventFlags)>> {
    let mut events = Vec::with_capacity(EVENTS);
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), timeout)?;
    Ok(events.iter().filter_map(|event| Some((Token::from_data(event.data)?, event.flags))).collect())
}

impl RealHost {
    /// Watches a descriptor.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: Token, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(self.epoll_of(token), fd, token.data(), flags)?)
    }

    /// Changes what a descriptor that is watched is watched for. That takes no memory: should it be refused, it goes
    /// the next time.
    pub fn watch_for(&self, fd: BorrowedFd<'_>, token: Token, flags: EventFlags) -> io::Result<()> {
        let ask = || epoll::modify(self.epoll_of(token), fd, token.data(), flags);
        Ok(ask().or_else(|_| ask())?)
    }

    fn epoll_of(&self, token: Token) -> &OwnedFd {
        if token.is_urgent() { &self.urgent } else { &self.epoll }
    }

    /// Waits until something happens, at most so long; what is urgent comes first. Then there may be more.
    pub fn wait(&self, timeout: Option<&Timespec>) -> rustix::io::Result<Vec<(Token, EventFlags)>> {
        let mut found = ready(&self.epoll, timeout)?;
        // The kernel hands out what is ready in turn: among very much, what is urgent may be missing.
        let is_urgent = |(token, _): &(Token, EventFlags)| *token == Token::Urgent;
        if found.len() < EVENTS && !found.iter().any(is_urgent) {
            return Ok(found);
        }
        // Should that fail, the next turn hears of it again.
        let mut all = ready(&self.urgent, Some(&Timespec::default())).unwrap_or_default();
        found.retain(|event| !is_urgent(event));
        all.append(&mut found);
        Ok(all)
    }
}
