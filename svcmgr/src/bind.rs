//! The supervisor's own sockets, at their paths.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A socket for datagrams, instead of what is at `path`. Everyone may write to it: who did is known by the kernel's word, of
/// the first message, too. So that is asked for before there is anything to send to.
///
/// # Errors
/// The kernel's.
pub fn datagrams(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::DGRAM)?;
    rustix::net::sockopt::set_socket_passcred(&fd, true)?;
    put(&fd, path, 0o666)?;
    Ok(fd)
}

/// A socket that takes connections, instead of what is at `path`, for those whom `mode` lets in, and who belong to `group`.
/// Nobody can connect before all of that is so.
///
/// # Errors
/// The kernel's.
pub fn connections(path: &Path, mode: u32, group: Option<u32>, backlog: u16) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::STREAM)?;
    put(&fd, path, mode)?;
    if group.is_some()
        && let Err(error) = std::os::unix::fs::chown(path, None, group)
    {
        log::warn!("{}: {error}; only root may use it", path.display());
    }
    rustix::net::listen(&fd, backlog.into())?;
    Ok(fd)
}

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?)
}

fn put(fd: &OwnedFd, path: &Path, mode: u32) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    rustix::net::bind(fd, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
