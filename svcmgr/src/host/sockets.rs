//! Opens what a `.socket` unit listens on: systemd.socket(5). Nothing is kept here.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketAddrUnix, SocketFlags, SocketType};

use super::sys;
use super::users::Identity;
use crate::unit::socket::{Address, Listen, ListenKind, OptionValue, Socket, SocketOption};

/// Opens one of them.
///
/// # Errors
/// In words, with what it was to be.
pub fn open(socket: &Socket, listen: &Listen, owner: Option<&Identity>) -> Result<OwnedFd, String> {
    let opened = match (&listen.address, listen.kind) {
        (Address::Path(path), ListenKind::Fifo) => fifo(socket, Path::new(path), owner),
        (Address::Path(path), ListenKind::Special) => special(socket, path),
        (Address::Path(path), _) => at_path(socket, listen, Path::new(path), owner),
        (Address::Abstract(name), _) => {
            SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(io::Error::from).and_then(|address| {
                let fd = make(socket, listen, AddressFamily::UNIX)?;
                rustix::net::bind(&fd, &address)?;
                Ok(fd)
            })
        }
        (Address::Inet(address), _) => at_inet(socket, listen, *address),
        (Address::AnyPort(port), _) => match at_inet(socket, listen, (Ipv6Addr::UNSPECIFIED, *port).into()) {
            // A kernel without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                at_inet(socket, listen, (Ipv4Addr::UNSPECIFIED, *port).into())
            }
            other => other,
        },
        (Address::Netlink(family, groups), _) => netlink(socket, listen, *family, *groups),
    };
    let opened = opened.and_then(|fd| {
        if matches!(listen.kind, ListenKind::Stream | ListenKind::SequentialPacket) {
            rustix::net::listen(&fd, socket.backlog)?;
        }
        Ok(fd)
    });
    opened.map_err(|error| format!("{listen} cannot be opened: {error}"))
}

/// Makes the links of `Symlinks=`, which lead to `path`.
pub fn link(socket: &Socket, path: &str) {
    for link in &socket.symlinks {
        let made = folder(socket, Path::new(link)).and_then(|()| match std::os::unix::fs::symlink(path, link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::read_link(link).is_ok() => {
                fs::remove_file(link)?;
                std::os::unix::fs::symlink(path, link)
            }
            other => other,
        });
        if let Err(error) = made {
            log::warn!("Symlinks={link} cannot be made: {error}");
        }
    }
}

/// Throws away what waits there.
pub fn flush(listen: &Listen, fd: &OwnedFd) {
    let mut buffer = [0; 4096];
    // Bounded, since more may come all the time.
    for _ in 0..10_000 {
        // They may have been made to wait, for the service.
        let nothing = Timespec::default();
        if !poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&nothing)).is_ok_and(|ready| ready > 0) {
            return;
        }
        let result = match listen.kind {
            ListenKind::Stream | ListenKind::SequentialPacket => rustix::net::accept(fd).map(|_| ()),
            ListenKind::Fifo => rustix::io::read(fd, &mut buffer).map(|_| ()),
            ListenKind::Datagram | ListenKind::Netlink => {
                rustix::net::recv(fd, &mut buffer, rustix::net::RecvFlags::DONTWAIT).map(|_| ())
            }
            ListenKind::Special => return,
        };
        match result {
            Ok(()) | Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn make(socket: &Socket, listen: &Listen, family: AddressFamily) -> io::Result<OwnedFd> {
    let kind = match listen.kind {
        ListenKind::Datagram => SocketType::DGRAM,
        ListenKind::SequentialPacket => SocketType::SEQPACKET,
        ListenKind::Stream | ListenKind::Fifo | ListenKind::Special | ListenKind::Netlink => SocketType::STREAM,
    };
    let is_inet = matches!(family, AddressFamily::INET | AddressFamily::INET6);
    let protocol = socket.protocol.filter(|_| is_inet).and_then(std::num::NonZeroU32::new).map(Protocol::from_raw);
    let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)?;
    apply(socket, listen, family, &fd)?;
    Ok(fd)
}

/// The folders that lead to a path.
fn folder(socket: &Socket, path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(socket.directory_mode).create(parent)
}

fn at_path(socket: &Socket, listen: &Listen, path: &Path, owner: Option<&Identity>) -> io::Result<OwnedFd> {
    folder(socket, path)?;
    let fd = make(socket, listen, AddressFamily::UNIX)?;
    let address = SocketAddrUnix::new(path)?;
    match rustix::net::bind(&fd, &address) {
        // What another one left, who is gone or is to give way.
        Err(Errno::ADDRINUSE) if fs::symlink_metadata(path)?.file_type().is_socket() => {
            fs::remove_file(path)?;
            rustix::net::bind(&fd, &address)?;
        }
        other => other?,
    }
    // Nobody can connect before it listens.
    own(path, socket.mode, owner)?;
    Ok(fd)
}

fn own(path: &Path, mode: u32, owner: Option<&Identity>) -> io::Result<()> {
    if let Some(owner) = owner {
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn at_inet(socket: &Socket, listen: &Listen, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let fd = make(socket, listen, family)?;
    rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
    if let Some(only) = socket.ipv6_only.filter(|_| address.is_ipv6()) {
        rustix::net::sockopt::set_ipv6_v6only(&fd, only)?;
    }
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

fn netlink(socket: &Socket, listen: &Listen, family: i32, groups: u32) -> io::Result<OwnedFd> {
    let protocol = u32::try_from(family).ok().and_then(std::num::NonZeroU32::new).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    apply(socket, listen, AddressFamily::NETLINK, &fd)?;
    sys::bind_netlink(fd.as_fd(), groups)?;
    Ok(fd)
}

fn fifo(socket: &Socket, path: &Path, owner: Option<&Identity>) -> io::Result<OwnedFd> {
    folder(socket, path)?;
    match rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(socket.mode), 0) {
        Err(Errno::EXIST) => {}
        other => other?,
    }
    // For writing, too: it never ends for want of writers.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    if !FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode).is_fifo() {
        return Err(io::Error::other("there is something else, which is no named pipe"));
    }
    own(path, socket.mode, owner)?;
    if let Some(size) = socket.pipe_size {
        rustix::pipe::fcntl_setpipe_size(&fd, size)?;
    }
    Ok(fd)
}

fn special(socket: &Socket, path: &str) -> io::Result<OwnedFd> {
    let access = if socket.writable { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if !kind.is_char_device() && !kind.is_file() {
        return Err(io::Error::other("it is neither a character device nor a file"));
    }
    Ok(fd)
}

/// Sets the options that the unit asks for and that a socket of this family has. Those that decide who reaches it have to
/// be set; others are told of.
fn apply(socket: &Socket, listen: &Listen, family: AddressFamily, fd: &OwnedFd) -> io::Result<()> {
    for (option, value) in &socket.options {
        let bytes = match value {
            OptionValue::Number(number) => number.to_ne_bytes().to_vec(),
            OptionValue::Text(text) => CString::new(text.as_str()).map_err(io::Error::other)?.into_bytes_with_nul(),
        };
        for (level, name) in numbers(*option, listen.kind, family, value) {
            let Err(error) = sys::set_option(fd.as_fd(), level, name, &bytes) else { continue };
            let error = io::Error::new(error.kind(), format!("{option:?}=: {error}"));
            match option {
                SocketOption::BindToDevice
                | SocketOption::FreeBind
                | SocketOption::Transparent
                | SocketOption::Mark => {
                    return Err(error);
                }
                _ => log::warn!("{listen}: {error}"),
            }
        }
    }
    Ok(())
}

/// Level and number of an option, for a socket of this kind and family; none where it has no meaning. socket(7), ip(7),
/// ipv6(7), tcp(7), unix(7).
fn numbers(option: SocketOption, kind: ListenKind, family: AddressFamily, value: &OptionValue) -> Vec<(i32, i32)> {
    use SocketOption as O;
    let is_unix = family == AddressFamily::UNIX;
    let is_inet = matches!(family, AddressFamily::INET | AddressFamily::INET6);
    let (v4, v6) = (family == AddressFamily::INET, family == AddressFamily::INET6);
    let is_tcp = is_inet && kind == ListenKind::Stream;
    let socket = |name| vec![(libc::SOL_SOCKET, name)];
    let if_so = |so: bool, level, name| if so { vec![(level, name)] } else { Vec::new() };
    let ip = |four, six| match (v4, v6) {
        (true, _) => vec![(libc::IPPROTO_IP, four)],
        (_, true) => vec![(libc::IPPROTO_IPV6, six)],
        _ => Vec::new(),
    };
    match option {
        O::BindToDevice => if_so(is_inet, libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
        O::Broadcast => if_so(kind == ListenKind::Datagram, libc::SOL_SOCKET, libc::SO_BROADCAST),
        O::DeferAcceptSec => if_so(is_tcp, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
        O::FreeBind => ip(libc::IP_FREEBIND, libc::IPV6_FREEBIND),
        // Of IPv6 sockets, for what comes by IPv4.
        O::IpTos => if_so(is_inet, libc::IPPROTO_IP, libc::IP_TOS),
        O::IpTtl => {
            let six = if_so(v6, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS);
            if_so(is_inet, libc::IPPROTO_IP, libc::IP_TTL).into_iter().chain(six).collect()
        }
        O::KeepAlive => if_so(is_tcp, libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        O::KeepAliveIntervalSec => if_so(is_tcp, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        O::KeepAliveProbes => if_so(is_tcp, libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        O::KeepAliveTimeSec => if_so(is_tcp, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        O::Mark => if_so(is_inet, libc::SOL_SOCKET, libc::SO_MARK),
        O::NoDelay => if_so(is_tcp, libc::IPPROTO_TCP, libc::TCP_NODELAY),
        O::PassCredentials => if_so(!is_inet, libc::SOL_SOCKET, libc::SO_PASSCRED),
        O::PassPacketInfo if family == AddressFamily::NETLINK => vec![(libc::SOL_NETLINK, libc::NETLINK_PKTINFO)],
        O::PassPacketInfo => ip(libc::IP_PKTINFO, libc::IPV6_RECVPKTINFO),
        O::PassSecurity => if_so(is_unix, libc::SOL_SOCKET, libc::SO_PASSSEC),
        O::Priority => socket(libc::SO_PRIORITY),
        // Beyond net.core.rmem_max and wmem_max, as root may.
        O::ReceiveBuffer => socket(libc::SO_RCVBUFFORCE),
        O::SendBuffer => socket(libc::SO_SNDBUFFORCE),
        O::ReusePort => if_so(is_inet, libc::SOL_SOCKET, libc::SO_REUSEPORT),
        O::TcpCongestion => if_so(is_tcp, libc::IPPROTO_TCP, libc::TCP_CONGESTION),
        O::Timestamping => match value {
            OptionValue::Number(1) => socket(libc::SO_TIMESTAMP),
            OptionValue::Number(2) => socket(libc::SO_TIMESTAMPNS),
            _ => Vec::new(),
        },
        O::Transparent => ip(libc::IP_TRANSPARENT, libc::IPV6_TRANSPARENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    fn listen(kind: ListenKind, text: &str) -> Listen {
        Listen::parse(kind, text).unwrap()
    }

    #[test]
    fn a_path_gets_its_folder_mode_and_links_and_what_was_left_there_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/socket");
        let link_path = dir.path().join("c/link");
        let socket = Socket {
            mode: 0o600,
            directory_mode: 0o700,
            symlinks: vec![link_path.display().to_string()],
            ..Socket::default()
        };
        let listens = listen(ListenKind::Stream, path.to_str().unwrap());
        let first = open(&socket, &listens, None).unwrap();
        let _second = open(&socket, &listens, None).unwrap();
        drop(first);
        link(&socket, path.to_str().unwrap());
        link(&socket, path.to_str().unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o700);
        std::os::unix::net::UnixStream::connect(&link_path).unwrap();
        // What is no socket is nobody's to remove.
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        let error = open(&socket, &listen(ListenKind::Stream, file.to_str().unwrap()), None).unwrap_err();
        assert!(error.starts_with("ListenStream=") && error.contains("in use"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn options_are_set_where_they_have_a_meaning() {
        use rustix::net::sockopt;
        let mut socket = Socket { ipv6_only: Some(true), ..Socket::default() };
        for option in [SocketOption::KeepAlive, SocketOption::NoDelay, SocketOption::ReusePort, SocketOption::FreeBind]
        {
            socket.set(option, OptionValue::Number(1));
        }
        socket.set(SocketOption::KeepAliveProbes, OptionValue::Number(3));
        socket.set(SocketOption::IpTtl, OptionValue::Number(9));
        socket.set(SocketOption::ReceiveBuffer, OptionValue::Number(20_000));
        let fd = open(&socket, &listen(ListenKind::Stream, "127.0.0.1:0"), None).unwrap();
        assert!(sockopt::socket_keepalive(&fd).unwrap() && sockopt::tcp_nodelay(&fd).unwrap());
        assert!(sockopt::socket_reuseport(&fd).unwrap() && sockopt::ip_freebind(&fd).unwrap());
        assert_eq!((sockopt::tcp_keepcnt(&fd).unwrap(), sockopt::ip_ttl(&fd).unwrap()), (3, 9));
        // socket(7): the kernel doubles it.
        assert_eq!(sockopt::socket_recv_buffer_size(&fd).unwrap(), 40_000);
        if let Ok(six) = open(&socket, &listen(ListenKind::Datagram, "[::1]:0"), None) {
            assert!(sockopt::ipv6_v6only(&six).unwrap());
        }
        // None of the network's is asked of a path.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        open(&socket, &listen(ListenKind::Datagram, path.to_str().unwrap()), None).unwrap();
        // What decides who reaches it has to be.
        socket.set(SocketOption::BindToDevice, OptionValue::Text("no-such-device".into()));
        let error = open(&socket, &listen(ListenKind::Stream, "127.0.0.1:0"), None).unwrap_err();
        assert!(error.contains("BindToDevice="), "{error}");
    }

    #[test]
    fn a_fifo_is_read_and_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let socket = Socket { pipe_size: Some(8192), ..Socket::default() };
        let listens = listen(ListenKind::Fifo, path.to_str().unwrap());
        let fd = open(&socket, &listens, None).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"gone").unwrap();
        flush(&listens, &fd);
        fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(b"here").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(fs::File::from(fd).read(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"here");
        let error = open(&socket, &listen(ListenKind::Fifo, "/dev/null"), None).unwrap_err();
        assert!(error.contains("no named pipe"), "{error}");
        open(&socket, &listen(ListenKind::Special, "/dev/null"), None).unwrap();
        assert!(open(&socket, &listen(ListenKind::Special, "/dev"), None).is_err());
    }
}
