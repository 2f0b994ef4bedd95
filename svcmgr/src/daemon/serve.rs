//! The loop's part of the control socket: accepting clients, hearing their calls, sending what there is for them.

use std::os::fd::AsFd;

use rustix::event::epoll::EventFlags;

use super::Daemon;
use crate::control::logs::{self, Sent};
use crate::control::methods::{self, Context};
use crate::control::{ClientId, Listener, Pending};
use crate::host::Host;
use crate::host::sys;
use crate::host::token::Token;

/// Clients that are accepted before others get their turn.
const ACCEPT_BATCH: usize = 16;
/// So many calls of one client are answered before others get their turn.
const CALLS: usize = 16;
/// So long clients may read logs, or be answered many calls, in one turn of the loop, in microseconds.
const READING_TIME: u64 = 5_000;
/// So long nobody is accepted after it failed for want of descriptors or memory.
const DEAF_FOR: u64 = 100_000;
/// That a client hangs up altogether is told without being asked for; epoll_ctl(2), `EPOLLHUP`.
const READING: EventFlags = EventFlags::IN;

impl Daemon {
    /// Answers jobs that are over, and those who wait for the boot, until there is nothing to be answered: a client
    /// that has got its answer may have called again already.
    pub(super) fn answer(&mut self) {
        while self.answer_jobs() | self.answer_boot() {}
    }

    pub(super) fn answer_jobs(&mut self) -> bool {
        let mut any = false;
        while let Some((waiter, result)) = self.supervisor.next_answer() {
            any = true;
            let waiting = |pending: &Pending| matches!(pending, Pending::Job(w, _) if *w == waiter);
            for client in self.clients.waiting(waiting) {
                if let Some(found) = self.clients.get(client)
                    && let Pending::Job(_, unit) = found.pending
                {
                    found.pending = Pending::Nothing;
                    methods::answer_job(found, &self.supervisor, unit, result.clone());
                }
                self.go_on(client);
            }
        }
        any
    }

    pub(super) fn answer_boot(&mut self) -> bool {
        if !self.supervisor.take_boot_complete() {
            return false;
        }
        // All units at once take more than what stays of it.
        sys::give_memory_back();
        for client in self.clients.waiting(|pending| matches!(pending, Pending::Boot)) {
            if let Some(found) = self.clients.get(client) {
                found.pending = Pending::Nothing;
                methods::answer_boot(found, &self.supervisor);
            }
            self.go_on(client);
        }
        true
    }

    /// Goes on with logs that clients read, each a little in turn, for a bounded time; and sends lines that have come to
    /// those who wait for them.
    pub(super) fn send_lines(&mut self) {
        let mut readers = std::mem::take(&mut self.unfinished);
        if self.supervisor.host.store.take_changed() {
            readers.extend(self.clients.waiting(|pending| matches!(pending, Pending::Lines(_))));
        }
        let until = self.supervisor.host.now().mono.saturating_add(READING_TIME);
        while !readers.is_empty() {
            for client in std::mem::take(&mut readers) {
                self.go_on(client);
            }
            if self.supervisor.host.now().mono < until {
                readers = std::mem::take(&mut self.unfinished);
            }
        }
    }

    pub(super) fn accept(&mut self) {
        for _ in 0..ACCEPT_BATCH {
            let (socket, uid) = match self.listener.as_ref().map(Listener::accept) {
                Some(Ok(Some(accepted))) => accepted,
                Some(Ok(None)) | None => return,
                // The client stays with the kernel until there is room.
                Some(Err(error)) if self.clients.remove_idlest(|_| true) => {
                    log::debug!("a client cannot be accepted: {error}; one that asked nothing went for it");
                    continue;
                }
                Some(Err(error)) => return self.stop_listening(&error),
            };
            self.deafness_told = false;
            let Some(id) = self.clients.admit(socket, uid) else { continue };
            let watched = match self.clients.get(id) {
                Some(client) => self.supervisor.host.watch(client.fd(), Token::Client(id), READING),
                None => continue,
            };
            if let Err(error) = watched {
                log::warn!("a client cannot be watched: {error}");
                self.clients.remove(id);
            }
        }
    }

    /// The socket would be ready at once again, and again in vain: it is left alone for a while.
    pub(super) fn stop_listening(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.deafness_told, true) {
            log::warn!("no client can be accepted: {error}; they wait until it goes again");
        }
        self.deaf_until = Some(self.supervisor.host.now().mono.saturating_add(DEAF_FOR));
        self.listen(EventFlags::empty());
    }

    pub(super) fn listen(&self, flags: EventFlags) {
        let Some(listener) = &self.listener else { return };
        if let Err(error) = self.supervisor.host.watch_for(listener.as_fd(), Token::Listener, flags) {
            log::error!("the control socket cannot be watched: {error}");
        }
    }

    pub(super) fn serve(&mut self, id: ClientId, flags: EventFlags) {
        let Some(client) = self.clients.get(id) else { return };
        // What it has sent is carried out, even if it has hung up since and does not wait for an answer. One that has
        // only ended its own half of the connection does wait, and is not gone.
        if client.read() {
            self.go_on(id);
        } else {
            self.clients.remove(id);
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            // On a log that it followed, or on a job: the job goes on.
            self.clients.remove(id);
        }
    }

    /// Handles what a client has sent, sends what there is for it, and watches it for what it waits for.
    pub(super) fn go_on(&mut self, id: ClientId) {
        for calls in 0_usize.. {
            if calls == CALLS {
                self.unfinished.insert(id);
                break;
            }
            let Some(client) = self.clients.get(id) else { return };
            let mut sent = logs::send(client, &self.supervisor.host.store);
            // As much as was to be sent at once: if it is gone at once, there may be more.
            let was_full = !client.takes_lines();
            if !client.write() {
                return self.clients.remove(id);
            }
            if was_full && !client.has_output() && matches!(client.pending, Pending::Lines(_)) {
                sent = Sent::More;
            }
            if sent == Sent::More {
                self.unfinished.insert(id);
            }
            if !client.takes_calls() {
                break;
            }
            let message = match client.next_call() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    log::warn!("a client (user {}) is cut off: {error}", client.uid);
                    return self.clients.remove(id);
                }
            };
            let mut context = Context {
                supervisor: &mut self.supervisor,
                mode: &self.mode,
                next_waiter: &mut self.next_waiter,
                crashes: self.crashes.as_ref(),
                reexec: &mut self.leaving,
            };
            if let Err(error) = methods::call(client, &message, &mut context) {
                log::warn!("a client (user {}) sent what is no call, and is cut off: {error}", client.uid);
                return self.clients.remove(id);
            }
        }
        self.clients.hold_bound();
        let Some(client) = self.clients.get(id) else { return };
        let mut flags = READING;
        if !client.listens() {
            // What it sends meanwhile waits; that it hangs up does not.
            flags.remove(EventFlags::IN);
        }
        if client.has_output() {
            flags |= EventFlags::OUT;
        }
        if let Err(error) = self.supervisor.host.watch_for(client.fd(), Token::Client(id), flags) {
            log::warn!("a client cannot be watched: {error}");
            self.clients.remove(id);
        }
    }
}
