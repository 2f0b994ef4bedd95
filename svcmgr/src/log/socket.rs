//! The datagram sockets: `/dev/log` and the journal's native one. Who sends is the kernel's word; how much is read at
//! once is bounded, and so is what a sender may hand over in a file.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::SealFlags;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};

/// No more of a message is read, in bytes.
pub const MESSAGE_LIMIT: usize = 128 * 1024;

/// A datagram socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// A message.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it; `None` if that is nobody of our own process numbers.
    pub pid: Option<i32>,
    /// What it says, up to [`MESSAGE_LIMIT`].
    pub bytes: Vec<u8>,
    /// Bytes beyond.
    pub cut: usize,
}

impl Socket {
    /// Wraps a socket that was bound or kept.
    pub fn from_fd(fd: OwnedFd) -> Socket {
        Socket { fd }
    }

    /// The next message; `None` if there is none now.
    ///
    /// # Errors
    /// When the socket cannot be read, or there is no memory for the message.
    pub fn receive(&self) -> io::Result<Option<Datagram>> {
        loop {
            // How long it is, before there is a buffer for it: most are short.
            let peek = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            let length = match rustix::net::recv(&self.fd, &mut [0; 0][..], peek) {
                Ok((_, length)) => length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut bytes = vec![0; length.min(MESSAGE_LIMIT)];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = match rustix::net::recvmsg(&self.fd, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Ok(got) => got,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (mut pid, mut file) = (None, None);
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmCredentials(credentials) => {
                        pid = Some(credentials.pid.as_raw_nonzero().get()).filter(|pid| *pid > 0);
                    }
                    // The protocol knows one; all others are closed.
                    RecvAncillaryMessage::ScmRights(fds) => file = fds.last(),
                    _ => {}
                }
            }
            bytes.truncate(got.bytes);
            let mut cut = length.saturating_sub(MESSAGE_LIMIT);
            if let Some(file) = file.filter(|_| bytes.is_empty() && !got.flags.contains(ReturnFlags::CTRUNC)) {
                match contents(&file) {
                    Ok(read) => (bytes, cut) = read,
                    Err(error) => log::debug!("process {pid:?} passed what is no message: {error}"),
                }
            }
            return Ok(Some(Datagram { pid, bytes, cut }));
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a file holds, and how much more there is of it. Nothing but memory of the kernel is read, where no read ever
/// waits: a file of any other file system might be one whose server never answers.
fn contents(file: &OwnedFd) -> io::Result<(Vec<u8>, usize)> {
    // Only memory files and those of a tmpfs have seals; fcntl(2), F_GET_SEALS.
    let _: SealFlags = rustix::fs::fcntl_get_seals(file)?;
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size.min(MESSAGE_LIMIT)];
    let mut read: usize = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, u64::try_from(read).unwrap_or(0)) {
            Ok(0) => break,
            Ok(n) => read = read.saturating_add(n),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(read);
    Ok((bytes, size.saturating_sub(MESSAGE_LIMIT)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
    use std::io::IoSlice;

    fn socket() -> (tempfile::TempDir, Socket, UnixDatagram) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = Socket::from_fd(crate::bind::datagrams(&path).unwrap());
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(path).unwrap();
        (dir, socket, sender)
    }

    fn pass(dir: &tempfile::TempDir, sender: &UnixDatagram, files: &[BorrowedFd<'_>], text: &[u8]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(files)));
        let to = SocketAddrUnix::new(dir.path().join("s")).unwrap();
        rustix::net::sendmsg_addr(sender, &to, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
    }

    fn memfd(bytes: &[u8]) -> OwnedFd {
        let fd = memfd_create("message", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::io::write(&fd, bytes).unwrap();
        fd
    }

    #[test]
    fn messages_are_whole_or_cut_and_their_sender_is_known() {
        let (_dir, socket, sender) = socket();
        assert!(socket.receive().unwrap().is_none());
        sender.send(b"hello").unwrap();
        sender.send(b"").unwrap();
        sender.send(&vec![b'x'; 150_000]).unwrap();
        let hello = socket.receive().unwrap().unwrap();
        assert_eq!((hello.bytes.as_slice(), hello.cut), (&b"hello"[..], 0));
        assert_eq!(hello.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(socket.receive().unwrap().unwrap().bytes, b"");
        let long = socket.receive().unwrap().unwrap();
        assert_eq!((long.bytes.len(), long.cut), (MESSAGE_LIMIT, 150_000_usize.abs_diff(MESSAGE_LIMIT)));
        assert!(socket.receive().unwrap().is_none());
    }

    #[test]
    fn a_message_in_a_memory_file_is_read_and_no_other_file_is() {
        let (dir, socket, sender) = socket();
        let file = memfd(b"MESSAGE=in memory\n");
        pass(&dir, &sender, &[file.as_fd()], b"");
        assert_eq!(socket.receive().unwrap().unwrap().bytes, b"MESSAGE=in memory\n");
        let large = memfd(&vec![b'x'; 1_000_000]);
        pass(&dir, &sender, &[large.as_fd()], b"");
        let got = socket.receive().unwrap().unwrap();
        assert_eq!((got.bytes.len(), got.cut), (MESSAGE_LIMIT, 1_000_000_usize.abs_diff(MESSAGE_LIMIT)));
        // A pipe would be waited for; a device has no end; a file beside a message is nothing.
        let (pipe, mut writer) = std::io::pipe().unwrap();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        for strange in [pipe.as_fd(), zero.as_fd()] {
            pass(&dir, &sender, &[strange], b"");
            assert_eq!(socket.receive().unwrap().unwrap().bytes, b"");
        }
        pass(&dir, &sender, &[file.as_fd()], b"text");
        assert_eq!(socket.receive().unwrap().unwrap().bytes, b"text");
        pass(&dir, &sender, &[pipe.as_fd(); 8], b"");
        assert_eq!(socket.receive().unwrap().unwrap().bytes, b"");
        // Nothing of what was passed stays open here.
        drop(pipe);
        let error = std::io::Write::write(&mut writer, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
