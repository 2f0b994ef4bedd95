//! Varlink on the wire, the caller's side: JSON objects, each ended by a NUL byte, over a Unix socket
//! (<https://varlink.org/Method-Call>). Every wait has a deadline, and every message a largest size.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::error::Error;

/// More than the output that is kept of one unit, in one reply.
const MAX_MESSAGE: usize = 32 << 20;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// When to give up; `None` is never.
pub(super) type Deadline = Option<Instant>;

/// The deadline `patience` from now on.
pub(super) fn after(patience: Option<Duration>) -> Deadline {
    patience.and_then(|patience| Instant::now().checked_add(patience))
}

/// A connection to the supervisor.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    /// What was received and not yet taken.
    buffer: Vec<u8>,
    /// How much of `buffer` is known to hold no NUL.
    searched: usize,
}

impl Wire {
    /// Connects, and tries again until `patience` is over if the supervisor is only away for a moment.
    pub(super) fn connect(path: &Path, patience: Duration) -> Result<Wire, Error> {
        let deadline = after(Some(patience));
        loop {
            let source = match connect(path) {
                Ok(stream) => return Ok(Wire { stream, buffer: Vec::new(), searched: 0 }),
                Err(source) => source,
            };
            // A full queue of callers (EAGAIN), a supervisor that is being started (ENOENT, ECONNREFUSED).
            let momentary =
                matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound | ErrorKind::ConnectionRefused);
            // Where not even the folder exists, no supervisor is on its way.
            let hopeless = source.kind() == ErrorKind::NotFound && path.parent().is_none_or(|folder| !folder.exists());
            if !momentary || hopeless || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let remedy = remedy(&source, hopeless);
                return Err(Error::Unreachable { path: PathBuf::from(path), source, remedy });
            }
            sleep(PAUSE);
        }
    }

    /// Sends one call.
    pub(super) fn send(
        &mut self,
        method: &'static str,
        request: &varlink::Request<'_>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let mut message = serde_json::to_vec(request)
            .map_err(|error| Error::Unintelligible { method, reason: format!("not to be written as JSON: {error}") })?;
        message.push(0);
        let begun = Instant::now();
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            let left = left(method, begun, deadline)?;
            self.stream.set_write_timeout(left).map_err(|source| Error::Connection { method, source })?;
            match self.stream.write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(source) => self.judge(method, source)?,
            }
        }
        Ok(())
    }

    /// Waits for one message and takes it, without its NUL.
    pub(super) fn receive(&mut self, method: &'static str, deadline: Deadline) -> Result<Vec<u8>, Error> {
        let begun = Instant::now();
        let mut chunk = [0; 8192];
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(length) = fresh.iter().position(|&byte| byte == 0) {
                let length = self.searched.saturating_add(length);
                let rest = self.buffer.split_off(length.saturating_add(1).min(self.buffer.len()));
                let mut message = std::mem::replace(&mut self.buffer, rest);
                message.truncate(length);
                self.searched = 0;
                return Ok(message);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_MESSAGE {
                return Err(Error::Unintelligible { method, reason: format!("more than {MAX_MESSAGE} bytes") });
            }
            let left = left(method, begun, deadline)?;
            self.stream.set_read_timeout(left).map_err(|source| Error::Connection { method, source })?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Error::Gone { method }),
                Ok(count) => self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(source) => self.judge(method, source)?,
            }
        }
    }

    /// Whether to go on after an error of read or write: a deadline is looked at by the caller's loop.
    fn judge(&self, method: &'static str, source: io::Error) -> Result<(), Error> {
        match source.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(()),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Err(Error::Gone { method }),
            _ => Err(Error::Connection { method, source }),
        }
    }
}

/// The time left, as a socket's timeout, which must not be zero.
fn left(method: &'static str, begun: Instant, deadline: Deadline) -> Result<Option<Duration>, Error> {
    let Some(deadline) = deadline else { return Ok(None) };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::TimedOut { method, waited: begun.elapsed() });
    }
    Ok(Some(left.max(Duration::from_millis(1))))
}

/// connect(2) that never blocks: a Unix socket whose queue is full would otherwise hold us up without a limit.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn remedy(source: &io::Error, hopeless: bool) -> &'static str {
    match source.kind() {
        ErrorKind::NotFound if hopeless => "this does not look like mmos (`mmosctl is-mmos` tells)",
        ErrorKind::PermissionDenied => "be root, or a member of the group mmos (/etc/group), whose members may look",
        ErrorKind::WouldBlock => "its queue of callers is full: see what it is busy with in the kernel's log (`dmesg`)",
        _ => "it is not running: init starts it again, see why it ended in the kernel's log (`dmesg`)",
    }
}
