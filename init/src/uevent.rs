//! Kernel events about devices, from the netlink socket on which the kernel says them
//! (`NETLINK_KOBJECT_UEVENT`, [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};

/// The multicast group of what the kernel itself says; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// Longer than any event: the kernel's own buffer has 2 KiB (`UEVENT_BUFFER_SIZE`) and a header line.
const BUFFER: usize = 8192;
/// Room for some thousand events, so that a hub full of devices does not overflow it while a module loads.
const RECEIVE_BUFFER: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `change`, `remove`, …
    pub action: String,
    /// `block`, `pci`, …
    pub subsystem: String,
    /// What the device says of itself, where a driver may be loaded for it.
    pub modalias: Option<String>,
}

/// What came from the socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// An event.
    Event(Uevent),
    /// Events were lost: look at everything again.
    Lost,
    /// Nothing is there now.
    Nothing,
}

/// The socket, non-blocking.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Begins to listen. What happened before is not heard: open first, look second.
    pub fn open() -> io::Result<Listener> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )?;
        // Without the privilege to go over the limit the smaller buffer does; a loss is told.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER);
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Listener { fd })
    }

    /// Takes one event.
    pub fn receive(&self) -> io::Result<Said> {
        let mut buffer = [0_u8; BUFFER];
        loop {
            match rustix::net::recvfrom(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length, from)) => {
                    // Port 0 is the kernel; a process could send to the group, too.
                    let kernel = from
                        .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                        .is_some_and(|from| from.pid() == 0);
                    if let Some(event) = kernel.then(|| parse(buffer.get(..length)?)).flatten() {
                        return Ok(Said::Event(event));
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Said::Nothing),
                Err(Errno::NOBUFS) => return Ok(Said::Lost),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads an event: `action@devpath`, then `KEY=value` strings, each ended by a zero byte.
fn parse(datagram: &[u8]) -> Option<Uevent> {
    let mut strings = datagram.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let header = strings.next()?;
    let (action, _) = header.split_once('@')?;
    let mut event = Uevent { action: action.to_owned(), ..Uevent::default() };
    for string in strings {
        match string.split_once('=') {
            Some(("SUBSYSTEM", value)) => event.subsystem = value.to_owned(),
            Some(("MODALIAS", value)) => event.modalias = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_is_read() {
        let event = parse(
            b"add@/devices/pci0/virtio0\0ACTION=add\0DEVPATH=/devices/pci0/virtio0\0SUBSYSTEM=virtio\0\
              MODALIAS=virtio:d00000002v00001AF4\0SEQNUM=12\0",
        )
        .unwrap();
        assert_eq!((event.action.as_str(), event.subsystem.as_str()), ("add", "virtio"));
        assert_eq!(event.modalias.as_deref(), Some("virtio:d00000002v00001AF4"));
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
