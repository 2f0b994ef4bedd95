//! The sockets of `.socket` units, and connections on their way to a service: held here and in PID 1's store.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::fs::OFlags;
use rustix::net::{SocketAddrAny, SocketAddrUnix, SocketFlags};

use super::RealHost;
use super::kept::{self, Kept};
use crate::graph::UnitId;
use crate::host::passed::Passed;
use crate::host::token::Token;
use crate::host::{Connection, Launch, sockets, users};
use crate::machine::{Machine, SocketWork};
use crate::unit::socket::{Address, Listen, Socket};
use crate::unit::{Input, Output, Unit};

/// What the names of sockets begin with in PID 1's store, and those of connections.
const SOCKET: &str = "sock:";
const CONNECTION: &str = "conn:";

/// By the place of its `Listen…=` in the unit.
pub(super) type Sockets = BTreeMap<usize, OwnedFd>;

/// What a socket is called in PID 1's store. The address is a part of it: after an upgrade the unit may say another one,
/// and then the next supervisor opens that.
fn key(place: usize, listen: &Listen, unit: &str) -> String {
    let address = listen.to_string();
    format!("{SOCKET}{place}:{:08x}:{unit}", crc32fast::hash(address.as_bytes()))
}

/// Whose socket it is that is called so, if its unit still listens there.
fn owner(key: &str, machine: &Machine) -> Option<(usize, UnitId)> {
    let mut parts = key.strip_prefix(SOCKET)?.splitn(3, ':');
    let (place, _, name) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let id = machine.find(name)?;
    let unit = machine.unit(id)?;
    let listen = unit.socket.as_ref()?.listen.get(place)?;
    (self::key(place, listen, &unit.name) == key).then_some((place, id))
}

impl RealHost {
    pub(super) fn work_on_sockets(&mut self, id: UnitId, unit: &Unit, work: SocketWork) -> Result<(), String> {
        let Some(socket) = &unit.socket else { return Ok(()) };
        match work {
            SocketWork::Open => self.open_sockets(id, unit, socket),
            SocketWork::Watch => {
                for fd in self.sockets.get(&id).into_iter().flat_map(BTreeMap::values) {
                    match self.watch(fd.as_fd(), Token::Incoming(id), EventFlags::IN) {
                        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                            return Err(format!("its sockets cannot be watched: {error}"));
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            SocketWork::Unwatch => {
                for fd in self.sockets.get(&id).into_iter().flat_map(BTreeMap::values) {
                    let _ = epoll::delete(&self.epoll, fd);
                }
                Ok(())
            }
            SocketWork::Flush => {
                for (listen, fd) in self.listening(id, socket) {
                    sockets::flush(listen, fd);
                }
                Ok(())
            }
            SocketWork::Close => {
                self.close_sockets(id, unit, socket);
                Ok(())
            }
        }
    }

    fn listening<'a>(&'a self, id: UnitId, socket: &'a Socket) -> impl Iterator<Item = (&'a Listen, &'a OwnedFd)> {
        self.sockets.get(&id).into_iter().flatten().filter_map(|(place, fd)| Some((socket.listen.get(*place)?, fd)))
    }

    /// Opens those that are not open.
    fn open_sockets(&mut self, id: UnitId, unit: &Unit, socket: &Socket) -> Result<(), String> {
        let owner = users::identity(&self.root, socket.user.as_deref(), socket.group.as_deref(), &[])
            .map_err(|error| error.replace("User=", "SocketUser=").replace("Group=", "SocketGroup="))?;
        for (place, listen) in socket.listen.iter().enumerate() {
            if self.sockets.get(&id).is_some_and(|open| open.contains_key(&place)) {
                continue;
            }
            let fd = sockets::open(socket, listen, owner.as_ref())?;
            self.store(&key(place, listen, &unit.name), fd.as_fd());
            self.sockets.entry(id).or_default().insert(place, fd);
            if let Address::Path(path) = &listen.address {
                sockets::link(socket, path);
            }
        }
        Ok(())
    }

    fn close_sockets(&mut self, id: UnitId, unit: &Unit, socket: &Socket) {
        let Some(open) = self.sockets.remove(&id) else { return };
        for (place, fd) in &open {
            // PID 1, and the service, may have it for longer.
            let _ = epoll::delete(&self.epoll, fd);
            if let Some(listen) = socket.listen.get(*place) {
                self.unstore(&key(*place, listen, &unit.name));
            }
        }
        if !socket.remove_on_stop {
            return;
        }
        let paths = socket.listen.iter().filter_map(|listen| match &listen.address {
            Address::Path(path) if listen.kind != crate::unit::socket::ListenKind::Special => Some(path),
            _ => None,
        });
        for path in paths.chain(&socket.symlinks) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warn!("{}: {path} cannot be removed: {error}", unit.name);
                }
                _ => {}
            }
        }
    }

    pub(super) fn accept_one(&self, id: UnitId, unit: &Unit) -> Option<Connection> {
        for fd in self.sockets.get(&id)?.values() {
            match rustix::net::acceptfrom_with(fd, SocketFlags::CLOEXEC) {
                Ok((fd, address)) => {
                    let source = source(&fd, address.as_ref());
                    return Some(Connection { fd, source });
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                Err(error) => log::warn!("{}: a connection cannot be accepted: {error}", unit.name),
            }
        }
        None
    }

    pub(super) fn keep_connection(&mut self, id: UnitId, unit: &Unit, fd: OwnedFd) {
        self.store(&format!("{CONNECTION}{}", unit.name), fd.as_fd());
        self.connections.insert(id, (unit.name.clone(), fd));
    }

    /// A service has its connection, or will never have it: here nobody needs it any more. As long as anybody has it, its
    /// other end does not see that the service has closed it.
    pub(super) fn drop_connection(&mut self, id: UnitId) {
        if let Some((name, _)) = self.connections.remove(&id) {
            self.unstore(&format!("{CONNECTION}{name}"));
        }
    }

    /// Takes back what PID 1 kept.
    pub(super) fn restore_sockets(&mut self, machine: &Machine, stored: &mut BTreeMap<String, OwnedFd>) {
        let is_ours = |key: &&String| key.starts_with(SOCKET) || key.starts_with(CONNECTION);
        let keys: Vec<String> = stored.keys().filter(is_ours).cloned().collect();
        for key in keys {
            let Some(fd) = stored.remove(&key) else { continue };
            if let Some(name) = key.strip_prefix(CONNECTION)
                && let Some(id) = machine.find(name)
            {
                self.connections.insert(id, (name.to_owned(), fd));
                continue;
            }
            match owner(&key, machine) {
                Some((place, id)) => {
                    self.sockets.entry(id).or_default().insert(place, fd);
                }
                None => self.unstore(&key),
            }
        }
    }
}

/// What a service may get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holds<'a> {
    pub(super) sockets: &'a HashMap<UnitId, Sockets>,
    pub(super) connections: &'a HashMap<UnitId, (String, OwnedFd)>,
    pub(super) kept: Option<&'a Vec<Kept>>,
}

/// What the main process of a service gets besides its standard streams.
pub(super) fn passed<'a>(
    holds: Holds<'a>,
    launch: &Launch<'_>,
    ready: Option<(i32, BorrowedFd<'a>)>,
) -> Result<Passed<'a>, String> {
    let service = &launch.unit.service;
    let connection = holds.connections.get(&launch.id).map(|(_, fd)| fd.as_fd());
    let mut listen: Vec<(String, BorrowedFd<'_>)> = match connection {
        Some(fd) => vec![("connection".to_owned(), fd)],
        None => {
            let of = |(id, name): &(UnitId, String)| {
                let name = name.clone();
                let open = holds.sockets.get(id).into_iter().flat_map(BTreeMap::values);
                open.map(move |fd| (name.clone(), fd.as_fd()))
            };
            launch.sockets.iter().flat_map(of).collect()
        }
    };
    set_blocking(&listen, service.non_blocking)
        .map_err(|error| format!("its sockets cannot be made to wait, or not to (NonBlocking=): {error}"))?;
    let wants_stream = service.input == Input::Socket || [&service.output, &service.error].contains(&&Output::Socket);
    let stream = match listen.as_slice() {
        _ if !wants_stream => None,
        [(_, only)] => Some(*only),
        others => {
            return Err(format!(
                "StandardInput=socket goes with one socket, or a connection of Accept=yes; it has {}",
                others.len()
            ));
        }
    };
    listen.extend(kept::passed(holds.kept));
    Ok(Passed { listen, ready, stream, environment: connection.map(remote).unwrap_or_default() })
}

/// Whether the descriptors that a service gets wait, as `NonBlocking=` says. That is a property of the open file, which we
/// have, too, and of which we take nothing without having looked whether there is anything.
fn set_blocking(fds: &[(String, BorrowedFd<'_>)], non_blocking: bool) -> io::Result<()> {
    for (_, fd) in fds {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        let wanted = if non_blocking { flags | OFlags::NONBLOCK } else { flags.difference(OFlags::NONBLOCK) };
        if wanted != flags {
            rustix::fs::fcntl_setfl(fd, wanted)?;
        }
    }
    Ok(())
}

/// Who is at the other end, as far as connections are counted.
fn source(fd: &OwnedFd, address: Option<&SocketAddrAny>) -> String {
    match address.and_then(|address| std::net::SocketAddr::try_from(address.clone()).ok()) {
        Some(address) => canonical(address.ip()).to_string(),
        None => match rustix::net::sockopt::socket_peercred(fd) {
            Ok(credentials) => format!("user {}", credentials.uid.as_raw()),
            Err(_) => "unknown".to_owned(),
        },
    }
}

/// An IPv4 address that came by an IPv6 socket is one.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// `REMOTE_ADDR=` and `REMOTE_PORT=`: systemd.exec(5).
fn remote(fd: BorrowedFd<'_>) -> Vec<(String, String)> {
    let Ok(Some(address)) = rustix::net::getpeername(fd) else { return Vec::new() };
    if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
        return vec![
            ("REMOTE_ADDR".to_owned(), canonical(address.ip()).to_string()),
            ("REMOTE_PORT".to_owned(), address.port().to_string()),
        ];
    }
    let Ok(unix) = SocketAddrUnix::try_from(address) else { return Vec::new() };
    let name = match (unix.path(), unix.abstract_name()) {
        (Some(path), _) => path.to_string_lossy().into_owned(),
        (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
        (None, None) => return Vec::new(),
    };
    vec![("REMOTE_ADDR".to_owned(), name)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::load::Loaded;
    use crate::unit::StartType;
    use crate::unit::parse::parse;

    #[test]
    fn a_socket_is_its_units_as_long_as_that_listens_there() {
        let machine = |listens: &str| {
            let mut loaded = Loaded::default();
            let text = format!("[Socket]\n{listens}\n");
            let path = std::path::Path::new("/u");
            let unit = parse("a:b.socket", path, &text, &crate::unit::specifier::Machine::default());
            loaded.units.insert("a:b.socket".to_owned(), unit);
            Machine::new(Graph::new(loaded), vec![(StartType::Auto, String::new())])
        };
        let before = machine("ListenStream=/run/x\nListenStream=80");
        let listen = Listen::parse(crate::unit::socket::ListenKind::Stream, "80").unwrap();
        let name = key(1, &listen, "a:b.socket");
        assert_eq!(owner(&name, &before), Some((1, UnitId(0))));
        for other in
            ["ListenStream=80", "ListenStream=/run/x\nListenStream=81", "ListenStream=/run/x\nListenDatagram=80"]
        {
            assert_eq!(owner(&name, &machine(other)), None, "{other}");
        }
        assert_eq!(owner("sock:x", &before), None);
        assert!(key(9999, &listen, &"u".repeat(255)).len() <= link::message::MAX_NAME);
    }
}
