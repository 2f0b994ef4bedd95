//! The loop's part of the logs: reading what services and others say, in turn and within their rates.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::epoll::{self, EventFlags};

use super::Daemon;
use crate::graph::UnitId;
use crate::host::Host;
use crate::host::token::Token;
use crate::log::kmsg::Kmsg;
use crate::log::pipes::Drained;

impl Daemon {
    /// Takes the time for all lines of this turn, and reads what others than services say before these are read: so
    /// lines have the order of time.
    pub(super) fn hear_logs(&mut self) {
        self.time = self.supervisor.host.now().boot;
        if let Some(kmsg) = &mut self.kmsg {
            kmsg.drain(&mut self.supervisor.host.store, self.time);
        }
    }

    /// Begins to read the kernel's log. Without it all else goes on.
    pub fn open_kmsg(&mut self, path: &Path) {
        match Kmsg::open(path, &mut self.supervisor.host.store) {
            Ok(kmsg) => {
                if let Err(error) = self.supervisor.host.watch(kmsg.as_fd(), Token::Kmsg, EventFlags::IN) {
                    log::error!("{} cannot be watched: {error}", path.display());
                }
                self.kmsg = Some(kmsg);
                self.hear_logs();
            }
            Err(error) => log::warn!("{}: {error}; the kernel's lines are not kept", path.display()),
        }
    }

    /// Reads what a service has written; all of it, if its process has ended (`last`).
    pub(super) fn read_output(&mut self, id: UnitId, last: bool) {
        let host = &mut self.supervisor.host;
        if host.pipes.drain(&mut host.store, id, self.time, last) == Drained::Full {
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
