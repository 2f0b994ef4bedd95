//! The control socket: Varlink's framing (JSON, ended by NUL), many clients, none of whom can hurt another or us:
//! nothing blocks, messages and buffers are bounded, and a client's next call waits for the answer to the one before.
//! What the calls mean is in [`methods`].

mod boot;
mod crashes;
pub mod logs;
pub mod methods;
pub mod protocol;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketFlags;
use serde::Serialize;

use crate::graph::UnitId;
use crate::machine::WaiterId;

/// Longest call. The longest sensible one names a unit.
const MAX_CALL: usize = 64 * 1024;
/// Beyond this a client has to read before it is given more lines of a log.
const ENOUGH: usize = 32 * 1024;
/// So many bytes of answers wait at most for clients to read them; then the client with most of them goes.
const MAX_WAITING: usize = 2 * 1024 * 1024;
/// So many clients at once, half of them for root alone, so that others cannot lock root out.
const MAX_CLIENTS: usize = 64;

/// A call that is longer than any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a call is longer than {MAX_CALL} bytes")]
pub struct TooLong;

/// Number of a client.
pub type ClientId = u32;

/// So many may wait to be accepted.
pub const BACKLOG: u16 = 64;
/// Root and the members of the group [`link::paths::CONTROL_GROUP`] may connect; what may be changed is decided by who asks.
/// It is the file's mode that lets nobody else in, and not a look at the caller's groups once it is here: so the kernel says
/// no, with an error that says what it is, and strangers take no connection away from others.
pub const MODE: u32 = 0o660;

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Wraps a socket that was made, now or for a supervisor before this one.
    pub fn from_fd(fd: OwnedFd) -> Listener {
        Listener { fd }
    }

    /// The next client, and its user.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, u32)>> {
        loop {
            match rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => match rustix::net::sockopt::socket_peercred(&socket) {
                    Ok(credentials) => return Ok(Some((socket, credentials.uid.as_raw()))),
                    Err(error) => log::warn!("a client is cut off: who it is cannot be known: {error}"),
                },
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                // A descriptor is looked for first, and only then somebody who needs it.
                Err(_) if !self.is_waited_for() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_waited_for(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        // That it cannot be known speaks for neither; then the error stands.
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a client waits for.
#[derive(Debug)]
pub enum Pending {
    /// Nothing: it may call.
    Nothing,
    /// The end of a job on a unit.
    Job(WaiterId, UnitId),
    /// The end of the boot.
    Boot,
    /// Lines of a log.
    Lines(Box<logs::Lines>),
}

/// A client.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// Its user.
    pub uid: u32,
    /// What it waits for.
    pub pending: Pending,
    /// It asked not to be answered.
    pub oneway: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It has ended its half of the connection: no further call comes.
    closing: bool,
    /// When it came, and when it was last heard or answered, by the clock of [`Clients`].
    since: u64,
    used: u64,
}

/// Result of a write or read: the client is still there.
type Alive = bool;

impl Client {
    fn new(socket: OwnedFd, uid: u32, used: u64) -> Client {
        Client {
            socket,
            uid,
            pending: Pending::Nothing,
            oneway: false,
            input: Vec::new(),
            output: Vec::new(),
            closing: false,
            since: used,
            used,
        }
    }

    /// The socket.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what has come.
    pub fn read(&mut self) -> Alive {
        let mut buffer = [0; 4096];
        // It has to wait for an answer, or to read one: what it sends meanwhile stays with the kernel.
        while self.listens() && self.input.len() <= MAX_CALL {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => {
                    self.closing = true;
                    return self.has_output() || self.input.contains(&0);
                }
                Ok(n) => self.input.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
            if self.input.contains(&0) {
                return true;
            }
        }
        true
    }

    /// Whether there may be something to read from it that is wanted now.
    pub fn listens(&self) -> bool {
        self.takes_calls() && !self.closing
    }

    /// Whether the next call may be looked at.
    pub fn takes_calls(&self) -> bool {
        matches!(self.pending, Pending::Nothing) && self.output.len() < ENOUGH
    }

    /// Takes the next whole call out of what was read.
    ///
    /// # Errors
    /// When it is longer than any call may be: the client is not one of ours.
    pub fn next_call(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        match self.input.iter().position(|byte| *byte == 0) {
            Some(at) if at <= MAX_CALL => {
                let rest = self.input.split_off(at.saturating_add(1));
                let mut call = std::mem::replace(&mut self.input, rest);
                call.pop();
                if self.input.is_empty() {
                    self.input = Vec::new();
                }
                Ok(Some(call))
            }
            None if self.input.len() <= MAX_CALL => Ok(None),
            _ => Err(TooLong),
        }
    }

    /// Whether it can take more lines of a log.
    pub fn takes_lines(&self) -> bool {
        self.output.len() < ENOUGH
    }

    /// Adds a reply, unless the client asked for none.
    pub fn reply(&mut self, reply: &varlink::Reply) {
        if self.oneway {
            return;
        }
        match serde_json::to_vec(reply) {
            Ok(bytes) => {
                self.output.extend_from_slice(&bytes);
                self.output.push(0);
            }
            Err(error) => log::error!("a reply cannot be written as JSON: {error}"),
        }
    }

    /// Adds a reply with parameters.
    pub fn answer(&mut self, parameters: &impl Serialize) {
        let reply = protocol::reply(parameters, false);
        self.reply(&reply);
    }

    /// Sends what there is to send, as far as the client takes it.
    pub fn write(&mut self) -> Alive {
        let mut sent: usize = 0;
        while let Some(rest) = self.output.get(sent..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(&self.socket, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => sent = sent.saturating_add(n),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.output.drain(..sent.min(self.output.len()));
        if self.output.is_empty() {
            // Given back: a page of log should not stay with every client that ever read one.
            self.output = Vec::new();
            return !(self.closing && !self.input.contains(&0) && matches!(self.pending, Pending::Nothing));
        }
        // It may wait there for long.
        self.output.shrink_to_fit();
        true
    }

    /// Whether there is something left to send.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    all: BTreeMap<ClientId, Client>,
    next: ClientId,
    clock: u64,
}

impl Clients {
    /// Admits a client. If there are too many of its sort, the one that has been idle for longest goes; if none is idle,
    /// one that follows a log, which it can go on with from the last line that it got. `None` if all wait for an end.
    pub fn admit(&mut self, socket: OwnedFd, uid: u32) -> Option<ClientId> {
        let is_root = uid == 0;
        let share = MAX_CLIENTS / 2;
        let is_full = self.all.values().filter(|client| (client.uid == 0) == is_root).count() >= share;
        let is_same = |client: &Client| (client.uid == 0) == is_root;
        if is_full && !self.remove_idlest(is_same) && !self.remove_follower(is_same) {
            return None;
        }
        self.clock = self.clock.saturating_add(1);
        let mut id = self.next;
        while self.all.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        self.next = id.wrapping_add(1);
        self.all.insert(id, Client::new(socket, uid, self.clock));
        Some(id)
    }

    /// Of the clients of which `which` says so, and that wait for nothing, the one goes that has been idle for
    /// longest. Whether there was one.
    pub fn remove_idlest(&mut self, which: impl Fn(&Client) -> bool) -> bool {
        let idle = |client: &Client| which(client) && matches!(client.pending, Pending::Nothing);
        let idlest = self.all.iter().filter(|(_, client)| idle(client)).min_by_key(|(_, client)| client.used);
        idlest.map(|(id, _)| *id).and_then(|id| self.all.remove(&id)).is_some()
    }

    /// Of the clients of which `which` says so, the one goes that has followed a log for longest. Whether there was one.
    fn remove_follower(&mut self, which: impl Fn(&Client) -> bool) -> bool {
        let follows = |client: &Client| which(client) && matches!(client.pending, Pending::Lines(_));
        let first = self.all.iter().filter(|(_, client)| follows(client)).min_by_key(|(_, client)| client.since);
        first.map(|(id, _)| *id).and_then(|id| self.all.remove(&id)).is_some()
    }

    /// If too much waits to be read, by all clients together, the one of which most waits goes.
    pub fn hold_bound(&mut self) {
        let sum = |all: &BTreeMap<ClientId, Client>| all.values().map(|client| client.output.len()).sum::<usize>();
        while sum(&self.all) > MAX_WAITING {
            let most = self.all.iter().max_by_key(|(_, client)| client.output.len()).map(|(id, _)| *id);
            let Some(client) = most.and_then(|id| self.all.remove(&id)) else { return };
            log::warn!("a client (user {}) does not read its answers, and is cut off", client.uid);
        }
    }

    /// A client.
    pub fn get(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clock = self.clock.saturating_add(1);
        let client = self.all.get_mut(&id)?;
        client.used = self.clock;
        Some(client)
    }

    /// The client is gone.
    pub fn remove(&mut self, id: ClientId) {
        self.all.remove(&id);
    }

    /// Clients that wait for something of which `which` says so.
    pub fn waiting(&self, which: impl Fn(&Pending) -> bool) -> Vec<ClientId> {
        self.all.iter().filter(|(_, client)| which(&client.pending)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn client(uid: u32) -> (UnixStream, Client) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (theirs, Client::new(ours.into(), uid, 0))
    }

    #[test]
    fn calls_are_taken_one_by_one_however_they_arrive() {
        let (mut theirs, mut ours) = client(0);
        theirs.write_all(b"{\"a\":1").unwrap();
        assert!(ours.read());
        assert_eq!(ours.next_call(), Ok(None));
        theirs.write_all(b"}\0{}\0").unwrap();
        assert!(ours.read());
        assert_eq!(ours.next_call(), Ok(Some(b"{\"a\":1}".to_vec())));
        assert_eq!(ours.next_call(), Ok(Some(b"{}".to_vec())));
        assert_eq!(ours.next_call(), Ok(None));
    }

    #[test]
    fn an_endless_call_is_cut_off() {
        let (theirs, mut ours) = client(0);
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = theirs;
        for _ in 0..100 {
            let _ = theirs.write(&[b'x'; 4096]);
            assert!(ours.read());
        }
        assert_eq!(ours.next_call(), Err(TooLong));
        assert!(ours.input.len() <= MAX_CALL.saturating_add(4096));
    }

    #[test]
    fn others_cannot_lock_root_out_and_the_idlest_goes_first() {
        let mut clients = Clients::default();
        let mut keep = Vec::new();
        let mut admit = |clients: &mut Clients, uid| {
            let (theirs, ours) = UnixStream::pair().unwrap();
            keep.push(theirs);
            clients.admit(ours.into(), uid)
        };
        let first = admit(&mut clients, 1000).unwrap();
        let second = admit(&mut clients, 1000).unwrap();
        clients.get(first).unwrap();
        for _ in 0..40 {
            assert!(admit(&mut clients, 1000).is_some());
        }
        assert!(clients.all.len() <= MAX_CLIENTS / 2);
        assert!(clients.get(second).is_none());
        for client in clients.all.values_mut() {
            client.pending = Pending::Boot;
        }
        assert_eq!(admit(&mut clients, 1000), None);
        assert!(admit(&mut clients, 0).is_some());
    }
}
