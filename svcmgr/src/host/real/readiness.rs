//! Readiness as s6 has it (`[X-MMOS] ReadyFD=`): a service writes a newline to a descriptor once it is up. Ours is the
//! reading end of that pipe, which PID 1 keeps, too, so that a start outlives the supervisor.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use super::RealHost;
use crate::graph::UnitId;
use crate::host::token::Token;
use crate::machine::Machine;
use crate::unit::Unit;

/// What the names of all of them begin with in PID 1's store.
const PREFIX: &str = "ready:";
/// So much is read of what may come before the newline, before others get their turn.
const READ_LIMIT: usize = 4096;

/// What came of a look at such a pipe.
enum Looked {
    Ready,
    Nothing,
    /// Nobody can write to it any more.
    Closed,
}

impl RealHost {
    /// Makes the pipe, and watches it: its writing end.
    pub(super) fn make_ready_pipe(&mut self, id: UnitId, unit: &Unit) -> Result<OwnedFd, String> {
        self.close_ready_pipe(id, &unit.name);
        let made = || {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
            self.watch(reader.as_fd(), Token::Ready(id), EventFlags::IN)?;
            Ok((reader, writer))
        };
        let (reader, writer) = made()
            .map_err(|error: std::io::Error| format!("no pipe on which it could get ready (ReadyFD=): {error}"))?;
        self.store(&format!("{PREFIX}{}", unit.name), reader.as_fd());
        self.ready.insert(id, reader);
        Ok(writer)
    }

    /// Whether a service has said since this was last asked that it is ready.
    pub fn is_ready_now(&mut self, id: UnitId, unit: &str) -> bool {
        let Some(reader) = self.ready.get(&id) else { return false };
        let looked = look(reader);
        if !matches!(looked, Looked::Nothing) {
            self.close_ready_pipe(id, unit);
        }
        matches!(looked, Looked::Ready)
    }

    pub(super) fn close_ready_pipe(&mut self, id: UnitId, unit: &str) {
        if let Some(reader) = self.ready.remove(&id) {
            // PID 1 has it for a moment more: it would be watched on under a number that is another one's then.
            let _ = rustix::event::epoll::delete(&self.epoll, &reader);
            self.unstore(&format!("{PREFIX}{unit}"));
        }
    }

    pub(super) fn restore_readiness(&mut self, machine: &Machine, stored: &mut BTreeMap<String, OwnedFd>) {
        let keys: Vec<String> = stored.keys().filter(|key| key.starts_with(PREFIX)).cloned().collect();
        for key in keys {
            let Some(reader) = stored.remove(&key) else { continue };
            let Some(id) = key.strip_prefix(PREFIX).and_then(|unit| machine.find(unit)) else {
                self.unstore(&key);
                continue;
            };
            if let Err(error) = self.watch(reader.as_fd(), Token::Ready(id), EventFlags::IN) {
                log::error!("{key} cannot be watched: {error}");
            }
            self.ready.insert(id, reader);
        }
    }
}

fn look(reader: &OwnedFd) -> Looked {
    let mut buffer = [0; READ_LIMIT];
    loop {
        return match rustix::io::read(reader, &mut buffer) {
            Ok(0) => Looked::Closed,
            Ok(n) if buffer.get(..n).is_some_and(|bytes| bytes.contains(&b'\n')) => Looked::Ready,
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Looked::Nothing,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                log::warn!("that a service is ready cannot be read: {error}");
                Looked::Closed
            }
        };
    }
}
