//! The socket between PID 1 and the supervisor: `SOCK_SEQPACKET`, so that a message is whole or absent, never
//! blocking on PID 1's side, able to carry descriptors with a message.
//!
//! PID 1 makes the pair once and keeps both ends: what one supervisor has not read, the next one reads.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use crate::message::{MAX_FDS, MAX_LEN};

/// The descriptor number on which `svcmgr` finds its end of the channel.
pub const SVCMGR_FD: i32 = 3;
/// The environment variable by which `init` tells `svcmgr` that descriptor [`SVCMGR_FD`] is the channel.
pub const ENV: &str = "MMOS_INIT_CHANNEL";

/// One end of the channel.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

/// A received datagram: the text, and the descriptors that came with it.
#[derive(Debug)]
pub struct Received {
    /// The text of the message; bytes that are not UTF-8 are replaced, and will not parse.
    pub text: String,
    /// The descriptors that travelled with it, close-on-exec. Of more than we may have open the last ones are missing.
    pub fds: Vec<OwnedFd>,
}

impl Channel {
    /// Makes both ends, non-blocking and close-on-exec: first PID 1's, then the supervisor's.
    /// See [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html).
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Channel { fd: a }, Channel { fd: b }))
    }

    /// Wraps an inherited end.
    pub fn from_fd(fd: OwnedFd) -> Channel {
        Channel { fd }
    }

    /// Sends one message, with [`MAX_FDS`] descriptors at most.
    ///
    /// # Errors
    /// `WouldBlock` when the other side does not read and the socket's buffer is full; nothing was sent then.
    pub fn send(&self, message: &impl ToString, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = message.to_string();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if fds.len() > MAX_FDS || !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        retry(|| {
            rustix::net::sendmsg(
                &self.fd,
                &[IoSlice::new(text.as_bytes())],
                &mut control,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )
        })?;
        Ok(())
    }

    /// Takes one message; `None` when nothing is there now, or the other end is gone.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        let mut buffer = [0; MAX_LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = match retry(|| {
            rustix::net::recvmsg(
                &self.fd,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            )
        }) {
            Ok(got) => got,
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                fds.extend(some);
            }
        }
        if got.bytes == 0 && fds.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(buffer.get(..got.bytes).unwrap_or_default()).into_owned();
        Ok(Some(Received { text, fds }))
    }
}

/// Whether a message may go through later that was refused now: it takes memory in the socket, and descriptors on their
/// way are counted.
pub fn may_pass(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS, Errno::MFILE, Errno::NFILE, Errno::TOOMANYREFS];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FromInit, ToInit};
    use std::io::{Read, Write};

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (init, svcmgr) = Channel::pair().unwrap();
        init.send(&FromInit::Reaped { pid: 7, status: 9 }, &[]).unwrap();
        init.send(&FromInit::Begin, &[]).unwrap();
        assert_eq!(svcmgr.receive().unwrap().unwrap().text, "reaped 7 9");
        assert_eq!(svcmgr.receive().unwrap().unwrap().text, "begin");
        assert!(svcmgr.receive().unwrap().is_none());
    }

    #[test]
    fn descriptors_travel_with_their_names() {
        let (init, svcmgr) = Channel::pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let names = vec!["log".to_owned(), "out:x".to_owned()];
        svcmgr.send(&ToInit::Store(names), &[reader.as_fd(), writer.as_fd()]).unwrap();
        let mut got = init.receive().unwrap().unwrap();
        assert_eq!((got.text.as_str(), got.fds.len()), ("store log\nout:x", 2));
        let mut copy = std::fs::File::from(got.fds.pop().unwrap());
        copy.write_all(b"through the copy").unwrap();
        writer.write_all(b", and the original").unwrap();
        drop((copy, writer));
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "through the copy, and the original");
        let many = [reader.as_fd(); MAX_FDS + 1];
        svcmgr.send(&ToInit::Pong, &many[..MAX_FDS]).unwrap();
        assert_eq!(init.receive().unwrap().unwrap().fds.len(), MAX_FDS);
        assert!(svcmgr.send(&ToInit::Pong, &many).is_err());
    }

    #[test]
    fn a_full_socket_refuses_instead_of_blocking() {
        let (init, _svcmgr) = Channel::pair().unwrap();
        let error = (0..1_000_000).find_map(|_| init.send(&FromInit::Begin, &[]).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
