//! The loop's part of the logs: reading what services and others say, in turn and within their rates.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::epoll::EventFlags;

use super::Daemon;
use crate::graph::UnitId;
use crate::host::Host;
use crate::host::token::Token;
use crate::log::inlets::Format;
use crate::log::kmsg::Kmsg;
use crate::log::pipes::Drained;
use crate::log::streams::{BACKLOG, Read};

/// What the names of streams in PID 1's store begin with.
const STREAM: &str = "stream:";
/// The kernel's lines may wait so long, in microseconds, where nobody else says anything: the kernel keeps them
/// meanwhile, and services that are on their way need the processor more.
const KERNEL_LAG: u64 = 50_000;

fn stream_key(id: u32) -> String {
    format!("{STREAM}{id}")
}

impl Daemon {
    /// Takes the time for all lines of this turn. If it brings any, what others than services say is read before these
    /// are, and the kernel first: so lines have the order of time.
    pub(super) fn hear_logs(&mut self, brings_lines: bool) {
        self.time = self.supervisor.host.now().boot;
        if brings_lines || self.kernel_due.is_some_and(|due| due <= self.time) {
            self.hear_kernel();
        }
        if !brings_lines {
            return;
        }
        // Before its caller's end is seen: nobody would know whose the stream is.
        self.accept_streams();
        for format in [Format::Syslog, Format::Native] {
            let (store, finder) = self.supervisor.host.store_and_finder();
            self.inlets.drain(format, store, self.time, |pid| finder.unit_of(&self.supervisor.machine, pid));
        }
    }

    /// The kernel has said something: to be read with the next line of anybody, or a little later.
    pub(super) fn note_kernel(&mut self) {
        self.kernel_due.get_or_insert(self.time.saturating_add(KERNEL_LAG));
    }

    /// Reads what the kernel has said, and has the next of its lines told.
    pub fn hear_kernel(&mut self) {
        let Some(kmsg) = &mut self.kmsg else { return };
        if kmsg.drain(&mut self.supervisor.host.store, self.time) {
            self.kernel_due = Some(self.time);
        } else if self.kernel_due.take().is_some() {
            // Told once, and not with every line.
            self.watch(self.kmsg.as_ref().map(AsFd::as_fd), Token::Kmsg, EventFlags::IN | EventFlags::ONESHOT);
        }
    }

    fn accept_streams(&mut self) {
        for _ in 0..BACKLOG {
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
        self.keep_stream(id, false);
        for gone in self.streams.take_gone() {
            self.supervisor.host.unstore(&stream_key(gone));
        }
    }

    /// Has PID 1 keep a stream, too, so that the next supervisor goes on with it.
    fn keep_stream(&mut self, id: u32, leaving: bool) {
        if self.streams.write_down(id, &self.supervisor.host.store, leaving)
            && let Some(socket) = self.streams.socket(id)
        {
            self.supervisor.host.store(&stream_key(id), socket);
        }
    }

    /// The supervisor is about to leave: what it has read and what is no whole line yet is for the next one.
    pub(super) fn hand_over_streams(&mut self) {
        for id in self.streams.ids() {
            self.keep_stream(id, true);
        }
    }

    /// Goes on with the streams of the supervisor before this one.
    pub fn restore_streams(&mut self, folder: PathBuf, stored: &mut BTreeMap<String, OwnedFd>) {
        self.streams.write_down_in(folder);
        let keys: Vec<String> = stored.keys().filter(|key| key.starts_with(STREAM)).cloned().collect();
        for key in keys {
            let id = key.strip_prefix(STREAM).and_then(|id| id.parse().ok());
            let Some((fd, id)) = stored.remove(&key).zip(id) else { continue };
            let restored = self
                .supervisor
                .host
                .watch(fd.as_fd(), Token::Stream(id), EventFlags::IN)
                .and_then(|()| self.streams.restore(id, fd, &mut self.supervisor.host.store));
            if let Err(error) = restored {
                log::warn!("a stream to the journal cannot be taken over: {error}");
                self.supervisor.host.unstore(&key);
            }
        }
    }

    /// Begins to read the kernel's log. Without it all else goes on.
    pub fn open_kmsg(&mut self, path: &Path) {
        match Kmsg::open(path, &mut self.supervisor.host.store) {
            Ok(kmsg) => {
                // What it has said so far waits until the services are on their way.
                if let Err(error) = self.supervisor.host.watch(kmsg.as_fd(), Token::Kmsg, EventFlags::empty()) {
                    log::error!("{} cannot be watched: {error}", path.display());
                }
                self.kmsg = Some(kmsg);
                self.note_kernel();
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
