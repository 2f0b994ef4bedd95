//! The loop's part of the logs: reading what services and others say, in turn and within their rates.

use rustix::event::epoll::{self, EventFlags};

use super::Daemon;
use crate::graph::UnitId;
use crate::host::Host;
use crate::host::token::Token;
use crate::log::pipes::Drained;

impl Daemon {
    /// Reads what a service has written; all of it, if its process has ended (`last`).
    pub(super) fn read_output(&mut self, id: UnitId, last: bool) {
        let time = self.supervisor.host.now().boot;
        let host = &mut self.supervisor.host;
        if host.pipes.drain(&mut host.store, id, time, last) == Drained::Full {
            self.watch_output(id, EventFlags::empty());
        }
    }

    /// Looks again at pipes that were too full, and tells of losses.
    pub(super) fn pass_time_in_logs(&mut self) {
        let now = self.supervisor.host.now().boot;
        for id in self.supervisor.host.pipes.opened(now) {
            self.watch_output(id, EventFlags::IN);
        }
        self.supervisor.host.store.tick(now);
    }

    fn watch_output(&self, id: UnitId, flags: EventFlags) {
        let host = &self.supervisor.host;
        let Some(reader) = host.pipes.reader(id) else { return };
        if let Err(error) = epoll::modify(&host.epoll, reader, Token::Output(id).data(), flags) {
            log::error!("the output of a service cannot be watched: {error}");
        }
    }
}
