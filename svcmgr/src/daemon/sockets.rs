//! The sockets that the supervisor is reached by: made at the beginning, or handed over by PID 1, which keeps each. One
//! that cannot be made is tried again for ever: nobody could tell the supervisor to do so.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::epoll::EventFlags;

use super::Daemon;
use crate::bind;
use crate::control::{self, Listener};
use crate::host::Host;
use crate::host::token::Token;
use crate::log::socket::Socket;
use crate::log::streams;
use crate::notify::NotifySocket;

/// After this time a socket that could not be made is tried again, in microseconds.
const AGAIN: u64 = 500_000;

/// A socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Syslog,
    Native,
    Streams,
    Notify,
    Control,
}

impl Which {
    /// Its token; its name in PID 1's store; the name of its file; what is lost without it.
    fn about(self) -> (Token, &'static str, &'static str, &'static str) {
        let lost = "what is sent there is lost";
        match self {
            Which::Syslog => (Token::Syslog, "log:syslog", "dev-log", lost),
            Which::Native => (Token::Journal, "log:journal", "socket", lost),
            Which::Streams => (Token::Streams, "log:stdout", "stdout", lost),
            Which::Notify => (Token::Notify, "notify", "notify", "services of Type=notify cannot get ready"),
            Which::Control => (Token::Listener, "control", "control", "services run, and cannot be asked about"),
        }
    }
}

/// Where sockets are, and which are missing.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    run: PathBuf,
    journal: PathBuf,
    missing: Vec<Which>,
    again: Option<u64>,
}

impl Sockets {
    /// When those that are missing are tried again (`CLOCK_MONOTONIC`).
    pub(super) fn next_try(&self) -> Option<u64> {
        self.again
    }
}

impl Daemon {
    /// Opens all sockets, or goes on with those that were kept: the journal's and that of syslog in the folder `journal`,
    /// the others in `run`.
    pub fn open_sockets(&mut self, run: PathBuf, journal: PathBuf, stored: &mut BTreeMap<String, OwnedFd>) {
        self.sockets = Sockets { run, journal, ..Sockets::default() };
        for which in [Which::Syslog, Which::Native, Which::Streams, Which::Notify, Which::Control] {
            let (_, name, file, lost) = which.about();
            if let Err(error) = self.open_socket(which, stored.remove(name)) {
                log::error!("no socket {file}: {error}; {lost} until it can be made");
                self.sockets.missing.push(which);
            }
        }
        self.put_sockets_off();
    }

    /// Tries those again that are missing, if it is time to.
    pub(super) fn try_sockets(&mut self, now: u64) {
        if self.sockets.again.is_none_or(|at| at > now) {
            return;
        }
        for which in std::mem::take(&mut self.sockets.missing) {
            match self.open_socket(which, None) {
                Ok(()) => log::info!("the socket {} is there now", which.about().2),
                Err(_) => self.sockets.missing.push(which),
            }
        }
        self.put_sockets_off();
    }

    fn put_sockets_off(&mut self) {
        let is_complete = self.sockets.missing.is_empty();
        self.sockets.again = (!is_complete).then(|| self.supervisor.host.now().mono.saturating_add(AGAIN));
    }

    fn open_socket(&mut self, which: Which, kept: Option<OwnedFd>) -> io::Result<()> {
        let (token, name, file, _) = which.about();
        let folder = match which {
            Which::Syslog | Which::Native | Which::Streams => &self.sockets.journal,
            Which::Notify | Which::Control => &self.sockets.run,
        };
        let is_fresh = kept.is_none();
        let fd = match kept {
            Some(fd) => fd,
            None => {
                std::fs::create_dir_all(folder)?;
                let path = folder.join(file);
                match which {
                    Which::Syslog | Which::Native | Which::Notify => bind::datagrams(&path)?,
                    // Everyone may open a stream.
                    Which::Streams => bind::connections(&path, 0o666, None, streams::BACKLOG)?,
                    Which::Control => {
                        let group = self.supervisor.host.control_group();
                        bind::connections(&path, control::MODE, group, control::BACKLOG)?
                    }
                }
            }
        };
        self.supervisor.host.watch(fd.as_fd(), token, EventFlags::IN)?;
        if is_fresh {
            self.supervisor.host.store_soon(name, fd.as_fd());
        }
        match which {
            Which::Syslog => self.inlets.syslog = Some(Socket::from_fd(fd)),
            Which::Native => self.inlets.native = Some(Socket::from_fd(fd)),
            Which::Streams => self.streams.listener = Some(fd),
            Which::Notify => self.notify = Some(NotifySocket::from_fd(fd)),
            Which::Control => self.listener = Some(Listener::from_fd(fd)),
        }
        Ok(())
    }
}
