//! A word to the supervisor about how it goes, sd_notify(3): `mmosctl status` shows it. Nothing fails for want of one.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says what the service is at, in one line.
pub fn status(text: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // A name that begins with @ is not a path, but lies in the kernel's own namespace of sockets.
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let message = format!("STATUS={}", text.replace('\n', " "));
    // The test matters, not that somebody hears of it: a supervisor that is away reads nothing, and must not be
    // waited for once its queue is full.
    let _ = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
}
