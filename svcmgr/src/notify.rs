//! The notify socket: what services say of themselves, and who said it.
//! Protocol: [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/sd_notify.html).

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::unit::time::Span;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};

/// No message is longer: sd_notify(3) gives no bound, systemd's own is a page.
const MAX_MESSAGE: usize = 4096;
/// Longest `STATUS=` and `BUSERROR=` that are kept, in characters.
const MAX_STATUS: usize = 200;
/// Descriptors in one message: the kernel's own bound, `SCM_MAX_FD` in `include/net/scm.h`.
const MAX_FDS: usize = 253;
/// Longest `FDNAME=`; sd_pid_notify_with_fds(3).
const MAX_FDNAME: usize = 255;

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
    /// `EXTEND_TIMEOUT_USEC=`.
    pub extend: Option<Span>,
    /// `ERRNO=`.
    pub errno: Option<i32>,
    /// `BUSERROR=`.
    pub bus_error: Option<String>,
    /// `FDSTORE=1`: what is sent along is to be kept.
    pub fd_store: bool,
    /// `FDSTOREREMOVE=1`: what is kept under `fd_name` is to be closed.
    pub fd_store_remove: bool,
    /// `FDNAME=`, if it may be one.
    pub fd_name: Option<String>,
    /// `FDPOLL=0`: what is kept stays even if its other end has hung up.
    pub fd_unpolled: bool,
    /// `BARRIER=1`: what is sent along is closed once all that was said before is worked off.
    pub barrier: bool,
}

/// A message, who sent it, and what was sent along.
#[derive(Debug)]
pub struct Received {
    /// The process, by the kernel's word.
    pub pid: i32,
    /// What it says.
    pub notification: Notification,
    /// Descriptors. Whoever waits for a barrier is told by their end.
    pub fds: Vec<OwnedFd>,
    /// Some were lost, since we may have no more.
    pub fds_lost: bool,
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
                Some(("STATUS", text)) => notification.status = Some(kept(text)),
                Some(("MAINPID", pid)) => notification.main_pid = pid.parse().ok().filter(|pid| *pid > 1),
                Some(("EXTEND_TIMEOUT_USEC", micros)) => notification.extend = micros.parse().ok().map(Span),
                Some(("ERRNO", number)) => notification.errno = number.parse().ok().filter(|number| *number > 0),
                Some(("BUSERROR", text)) => notification.bus_error = Some(kept(text)),
                Some(("FDSTORE", "1")) => notification.fd_store = true,
                Some(("FDSTOREREMOVE", "1")) => notification.fd_store_remove = true,
                Some(("FDNAME", name)) => notification.fd_name = Some(name.to_owned()).filter(|name| is_fd_name(name)),
                Some(("FDPOLL", "0")) => notification.fd_unpolled = true,
                Some(("BARRIER", "1")) => notification.barrier = true,
                // EXIT_STATUS= is for whoever runs a whole system as a service, and for information alone.
                _ => {}
            }
        }
        notification
    }
}

fn kept(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_STATUS).collect()
}

/// Whether a descriptor may have this name: sd_pid_notify_with_fds(3), `FDNAME=`. Names stand in a list that colons part.
pub fn is_fd_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_FDNAME
        && name.bytes().all(|byte| (b' '..0x7f).contains(&byte) && byte != b':')
}

/// The socket.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
}

impl NotifySocket {
    /// Wraps a socket that was made, now or for a supervisor before this one.
    pub fn from_fd(fd: OwnedFd) -> NotifySocket {
        NotifySocket { fd }
    }

    /// The next message; `None` if there is none now.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        loop {
            let mut buffer = [0; MAX_MESSAGE];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = match rustix::net::recvmsg(&self.fd, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
                Ok(got) => got,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut sender = None;
            let mut fds = Vec::new();
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmCredentials(credentials) => {
                        sender = Some(credentials.pid.as_raw_nonzero().get());
                    }
                    RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
                    _ => {}
                }
            }
            match sender {
                Some(pid) if !got.flags.contains(ReturnFlags::TRUNC) => {
                    let notification = Notification::parse(buffer.get(..got.bytes).unwrap_or_default());
                    let fds_lost = got.flags.contains(ReturnFlags::CTRUNC);
                    return Ok(Some(Received { pid, notification, fds, fds_lost }));
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
    use std::os::unix::net::UnixDatagram;

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
    fn what_concerns_descriptors_bounds_and_errors_is_read() {
        let all = Notification::parse(
            b"FDSTORE=1\nFDNAME=conn 1\nFDPOLL=0\nEXTEND_TIMEOUT_USEC=1500000\nERRNO=2\nBUSERROR=org.x.Y\nEXIT_STATUS=3",
        );
        assert_eq!(
            all,
            Notification {
                fd_store: true,
                fd_name: Some("conn 1".into()),
                fd_unpolled: true,
                extend: Some(Span::millis(1500)),
                errno: Some(2),
                bus_error: Some("org.x.Y".into()),
                ..Notification::default()
            }
        );
        assert!(Notification::parse(b"BARRIER=1").barrier);
        assert!(Notification::parse(b"FDSTOREREMOVE=1\nFDNAME=x").fd_store_remove);
        let long = "n".repeat(256);
        for name in ["a:b", "", "\x07", "\u{e4}", long.as_str()] {
            assert_eq!(Notification::parse(format!("FDNAME={name}").as_bytes()).fd_name, None, "{name:?}");
        }
    }

    #[test]
    fn the_kernel_names_the_sender_and_brings_what_is_sent_along() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
        use std::io::{IoSlice, Read};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::from_fd(crate::bind::datagrams(&path).unwrap());
        assert!(socket.receive().unwrap().is_none());
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        sender.send_to(&[b'x'; 10_000], &path).unwrap();
        let received = socket.receive().unwrap().unwrap();
        assert_eq!(u32::try_from(received.pid).unwrap(), std::process::id());
        assert!(received.notification.ready && received.fds.is_empty());
        assert!(socket.receive().unwrap().is_none(), "a message that is too long is none");
        // A barrier: its sender sees the end of what it sent along once nobody here has it any more.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [writer.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let to = SocketAddrUnix::new(&path).unwrap();
        rustix::net::sendmsg_addr(&sender, &to, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::empty())
            .unwrap();
        drop(writer);
        let received = socket.receive().unwrap().unwrap();
        assert!(received.notification.barrier && !received.fds_lost);
        assert_eq!(received.fds.len(), 1);
        drop(received);
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    }
}
