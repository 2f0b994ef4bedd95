//! The loop's part of the logs: reading what services and others say, in turn and within their rates.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::epoll::EventFlags;

use super::Daemon;
use crate::graph::UnitId;
use crate::host::Host;
use crate::host::token::Token;
use crate::log::inlets::Format;
use crate::log::kmsg::Kmsg;
use crate::log::pipes::Drained;
use crate::log::streams::Read;

/// Streams that are accepted before others get their turn.
const ACCEPT_BATCH: usize = 16;

impl Daemon {
    /// Takes the time for all lines of this turn, and reads what others than services say before these are read: so
    /// lines have the order of time.
    pub(super) fn hear_logs(&mut self) {
        self.time = self.supervisor.host.now().boot;
        if let Some(kmsg) = &mut self.kmsg {
            kmsg.drain(&mut self.supervisor.host.store, self.time);
        }
        for format in [Format::Syslog, Format::Native] {
            let (store, finder) = self.supervisor.host.store_and_finder();
            self.inlets.drain(format, store, self.time, |pid| finder.unit_of(&self.supervisor.machine, pid));
        }
    }

    pub(super) fn accept_streams(&mut self) {
        for _ in 0..ACCEPT_BATCH {
            let Some(caller) = self.streams.accept() else { return };
            let (store, finder) = self.supervisor.host.store_and_finder();
            let unit = finder.unit_of(&self.supervisor.machine, caller.pid);
            let Some(id) = self.streams.admit(caller, unit.as_deref(), store) else { continue };
            let Some(socket) = self.streams.socket(id) else { continue };
            if let Err(error) = self.supervisor.host.watch(socket, Token::Stream(id), EventFlags::IN) {
                log::warn!("a stream to the journal cannot be watched: {error}");
                self.streams.remove(id);
            }
        }
    }

    pub(super) fn read_stream(&mut self, id: u32) {
        if self.streams.drain(id, &mut self.supervisor.host.store, self.time) == Read::Full {
            self.watch(self.streams.socket(id), Token::Stream(id), EventFlags::empty());
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
            self.watch(self.supervisor.host.pipes.reader(id), Token::Output(id), EventFlags::empty());
        }
    }

    /// Looks again at pipes that were too full, and tells of losses.
    pub(super) fn pass_time_in_logs(&mut self) {
        let now = self.supervisor.host.now().boot;
        for id in self.supervisor.host.pipes.opened(now) {
            self.watch(self.supervisor.host.pipes.reader(id), Token::Output(id), EventFlags::IN);
        }
        for id in self.streams.opened(now) {
            self.watch(self.streams.socket(id), Token::Stream(id), EventFlags::IN);
        }
        self.supervisor.host.store.tick(now);
    }

    fn watch(&self, fd: Option<BorrowedFd<'_>>, token: Token, flags: EventFlags) {
        if let Some(fd) = fd
            && let Err(error) = self.supervisor.host.watch_for(fd, token, flags)
        {
            log::error!("what is said cannot be watched ({token:?}): {error}");
        }
    }
}
