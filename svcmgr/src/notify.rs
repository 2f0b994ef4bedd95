//! The notify socket: what services say of themselves, and who said it.
//! Protocol: [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/sd_notify.html).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::unit::time::Span;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};

/// No message is longer: sd_notify(3) gives no bound, systemd's own is a page.
const MAX_MESSAGE: usize = 4096;
/// Longest `STATUS=` that is kept, in characters.
const MAX_STATUS: usize = 200;

/// What one message says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// `READY=1`.
    pub ready: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `RELOADING=1`.
    pub reloading: bool,
    /// `WATCHDOG=1`.
    pub alive: bool,
    /// `WATCHDOG=trigger`.
    pub trigger: bool,
    /// `WATCHDOG_USEC=`.
    pub watchdog_span: Option<Span>,
    /// `STATUS=`.
    pub status: Option<String>,
    /// `MAINPID=`.
    pub main_pid: Option<i32>,
}

impl Notification {
    /// Reads a message; what it does not know it skips, as the protocol demands.
    pub fn parse(message: &[u8]) -> Notification {
        let mut notification = Notification::default();
        for line in String::from_utf8_lossy(message).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => notification.ready = true,
                Some(("STOPPING", "1")) => notification.stopping = true,
                Some(("RELOADING", "1")) => notification.reloading = true,
                Some(("WATCHDOG", "1")) => notification.alive = true,
                Some(("WATCHDOG", "trigger")) => notification.trigger = true,
                Some(("WATCHDOG_USEC", micros)) => notification.watchdog_span = micros.parse().ok().map(Span),
                Some(("STATUS", text)) => {
                    notification.status = Some(text.chars().filter(|c| !c.is_control()).take(MAX_STATUS).collect());
                }
                Some(("MAINPID", pid)) => notification.main_pid = pid.parse().ok().filter(|pid| *pid > 1),
                _ => {}
            }
        }
        notification
    }
}

/// The socket.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
}

impl NotifySocket {
    /// Makes the socket at `path`. Everyone may write to it: who did is known by the kernel's word.
    pub fn bind(path: &Path) -> io::Result<OwnedFd> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        Ok(socket.into())
    }

    /// Wraps a socket that was made, now or for a supervisor before this one.
    pub fn from_fd(fd: OwnedFd) -> NotifySocket {
        NotifySocket { fd }
    }

    /// The next message and the process that sent it; `None` if there is none now.
    pub fn receive(&self) -> io::Result<Option<(i32, Notification)>> {
        loop {
            let mut buffer = [0; MAX_MESSAGE];
            // No room for descriptors: the kernel closes what is sent along.
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = match rustix::net::recvmsg(&self.fd, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
                Ok(got) => got,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let sender = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid.as_raw_nonzero().get()),
                _ => None,
            });
            match sender {
                Some(pid) if !got.flags.contains(ReturnFlags::TRUNC) => {
                    return Ok(Some((pid, Notification::parse(buffer.get(..got.bytes).unwrap_or_default()))));
                }
                // Too long, or from nobody: not for us.
                _ => {}
            }
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_and_the_unknown_skipped() {
        let all = Notification::parse(b"READY=1\nSTATUS=up & \x1brunning\nMAINPID=42\nX_OURS=1\nrubbish\nWATCHDOG=1");
        assert_eq!(
            all,
            Notification {
                ready: true,
                status: Some("up & running".into()),
                main_pid: Some(42),
                alive: true,
                ..Notification::default()
            }
        );
        assert_eq!(Notification::parse(b"READY=0\nMAINPID=1\n\xff"), Notification::default());
        assert!(Notification::parse(b"STOPPING=1").stopping);
        assert!(Notification::parse(b"RELOADING=1").reloading);
    }

    #[test]
    fn the_kernel_names_the_sender() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::from_fd(NotifySocket::bind(&path).unwrap());
        assert!(socket.receive().unwrap().is_none());
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        sender.send_to(&[b'x'; 10_000], &path).unwrap();
        let (pid, notification) = socket.receive().unwrap().unwrap();
        assert_eq!(u32::try_from(pid).unwrap(), std::process::id());
        assert!(notification.ready);
        assert!(socket.receive().unwrap().is_none(), "a message that is too long is none");
    }
}
