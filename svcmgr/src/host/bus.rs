//! Waiting for a name on the system bus (`Type=dbus`): a connection for each service that waits, which says all that it
//! has to say at once and then listens. Protocol: the D-Bus Specification, "Message Protocol" and "Authentication
//! Protocol"; that all may be sent before anything is answered is what its servers have long had clients do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

/// The longest answer that is waited for: names and signals are short.
const MOST: usize = 256 * 1024;
const METHOD_RETURN: u8 = 2;
const SIGNAL: u8 = 4;
/// The number of the call whose answer says that the name has an owner.
const ASKED: u32 = 3;

/// One service that waits for its name.
#[derive(Debug)]
pub struct NameWatch {
    name: String,
    socket: OwnedFd,
    received: Vec<u8>,
    is_authenticated: bool,
}

/// What has been heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The name has an owner.
    Owned,
    /// Not yet.
    Nothing,
    /// The bus has hung up.
    Gone,
}

/// Where the system bus is: `DBUS_SYSTEM_BUS_ADDRESS`, or where it always is.
pub fn address() -> String {
    let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
    let path = address.as_deref().and_then(|address| address.strip_prefix("unix:path="));
    path.map_or_else(
        || "/run/dbus/system_bus_socket".to_owned(),
        |path| path.split([',', ';']).next().unwrap_or(path).to_owned(),
    )
}

impl NameWatch {
    /// Connects, and asks for the name.
    ///
    /// # Errors
    /// When there is no bus, or it takes nothing.
    pub fn connect(path: &str, name: &str) -> io::Result<NameWatch> {
        // Never waiting: a bus whose queue is full is none yet.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        let stream = UnixStream::from(socket);
        let mut text = b"\0AUTH EXTERNAL ".to_vec();
        for byte in rustix::process::geteuid().as_raw().to_string().bytes() {
            text.extend(format!("{byte:02x}").bytes());
        }
        text.extend(b"\r\nBEGIN\r\n");
        let rule = format!(
            "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{name}'"
        );
        text.extend(call(1, "Hello", None));
        text.extend(call(2, "AddMatch", Some(&rule)));
        text.extend(call(ASKED, "GetNameOwner", Some(name)));
        // Less than any socket's buffer.
        if rustix::io::write(&stream, &text)? != text.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(NameWatch { name: name.to_owned(), socket: stream.into(), received: Vec::new(), is_authenticated: false })
    }

    /// The connection, to be watched.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what is there.
    pub fn hear(&mut self) -> Heard {
        let mut buffer = [0; 4096];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Heard::Gone,
                Ok((_, n)) => self.received.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Heard::Gone,
            }
            if self.received.len() > MOST {
                return Heard::Gone;
            }
        }
        self.take_in()
    }

    fn take_in(&mut self) -> Heard {
        if !self.is_authenticated {
            let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") else { return Heard::Nothing };
            let line: Vec<u8> = self.received.drain(..end.saturating_add(2)).collect();
            if !line.starts_with(b"OK") {
                return Heard::Gone;
            }
            self.is_authenticated = true;
        }
        loop {
            match Message::parse(&self.received) {
                Ok(Some((message, length))) => {
                    let owned = message.owns(&self.name);
                    self.received.drain(..length);
                    if owned {
                        return Heard::Owned;
                    }
                }
                Ok(None) => return Heard::Nothing,
                Err(()) => return Heard::Gone,
            }
        }
    }
}

/// What matters of a message.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    kind: u8,
    answers: u32,
    member: String,
    /// The strings of its body, if it holds nothing else.
    strings: Vec<String>,
}

impl Message {
    /// Whether it says that `name` has an owner.
    fn owns(&self, name: &str) -> bool {
        match (self.kind, self.strings.as_slice()) {
            (METHOD_RETURN, _) => self.answers == ASKED,
            (SIGNAL, [changed, _, owner]) => self.member == "NameOwnerChanged" && changed == name && !owner.is_empty(),
            _ => false,
        }
    }

    /// Reads the first message, if all of it is there: it and its length.
    fn parse(bytes: &[u8]) -> Result<Option<(Message, usize)>, ()> {
        let Some(fixed) = bytes.first_chunk::<16>() else { return Ok(None) };
        let [order, kind, _, version, ..] = *fixed;
        if !matches!(order, b'l' | b'B') || version != 1 {
            return Err(());
        }
        let mut reader = Reader { bytes, at: 4, is_little: order == b'l' };
        let body = reader.number().ok_or(())?;
        reader.number().ok_or(())?;
        let fields = reader.number().ok_or(())?;
        let end = reader.at.checked_add(size(fields)).ok_or(())?;
        let start = end.checked_next_multiple_of(8).ok_or(())?;
        let length = start.checked_add(size(body)).ok_or(())?;
        if length > MOST {
            return Err(());
        }
        if bytes.len() < length {
            return Ok(None);
        }
        let mut message = Message { kind, ..Message::default() };
        let mut signature = String::new();
        while reader.at < end {
            reader.align(8);
            let code = reader.byte().ok_or(())?;
            let variant = reader.signature().ok_or(())?;
            match (code, variant.as_str()) {
                (3, "s") => message.member = reader.string().ok_or(())?,
                (5, "u") => message.answers = reader.number().ok_or(())?,
                (8, "g") => signature = reader.signature().ok_or(())?,
                (_, "s" | "o") => drop(reader.string().ok_or(())?),
                (_, "u") => drop(reader.number().ok_or(())?),
                (_, "g") => drop(reader.signature().ok_or(())?),
                _ => return Err(()),
            }
        }
        reader.at = start;
        if !signature.is_empty() && signature.bytes().all(|one| one == b's') {
            for _ in 0..signature.len() {
                message.strings.push(reader.string().ok_or(())?);
            }
        }
        Ok(Some((message, length)))
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_little: bool,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.checked_next_multiple_of(to).unwrap_or(usize::MAX);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        let is_little = self.is_little;
        let four = *self.take(4)?.first_chunk::<4>()?;
        Some(if is_little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    fn string(&mut self) -> Option<String> {
        let length = self.number()?;
        self.text(size(length))
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?;
        self.text(length.into())
    }
}

/// A call of the bus itself.
fn call(serial: u32, member: &str, argument: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(argument) = argument {
        string(&mut body, argument);
    }
    let mut fields = Vec::new();
    for (code, kind, text) in [
        (1, "o", "/org/freedesktop/DBus"),
        (2, "s", "org.freedesktop.DBus"),
        (3, "s", member),
        (6, "s", "org.freedesktop.DBus"),
    ] {
        align(&mut fields, 8);
        fields.push(code);
        signature(&mut fields, kind);
        string(&mut fields, text);
    }
    if argument.is_some() {
        align(&mut fields, 8);
        fields.push(8);
        signature(&mut fields, "g");
        signature(&mut fields, "s");
    }
    // Little-endian, a method call, version 1.
    let mut message = vec![b'l', 1, 0, 1];
    for number in [length(&body), serial, length(&fields)] {
        message.extend(number.to_le_bytes());
    }
    message.extend(fields);
    align(&mut message, 8);
    message.extend(body);
    message
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    align(bytes, 4);
    bytes.extend(length(text.as_bytes()).to_le_bytes());
    bytes.extend(text.bytes());
    bytes.push(0);
}

fn signature(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(text.bytes());
    bytes.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_read_back() {
        let bytes = call(7, "GetNameOwner", Some("org.example.Test"));
        let (message, length) = Message::parse(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!((message.kind, message.member.as_str()), (1, "GetNameOwner"));
        assert_eq!(message.strings, ["org.example.Test"]);
        for cut in 0..bytes.len() {
            assert_eq!(Message::parse(&bytes[..cut]), Ok(None), "{cut} bytes are not all");
        }
    }

    #[test]
    fn a_name_is_owned_by_the_answer_or_by_the_signal_of_it() {
        let changed = |owner: &str| Message {
            kind: SIGNAL,
            member: "NameOwnerChanged".into(),
            strings: vec!["org.x".into(), String::new(), owner.into()],
            ..Message::default()
        };
        assert!(changed(":1.5").owns("org.x") && !changed("").owns("org.x") && !changed(":1.5").owns("org.y"));
        let answer = |answers| Message { kind: METHOD_RETURN, answers, ..Message::default() };
        assert!(answer(ASKED).owns("org.x") && !answer(1).owns("org.x"));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), valid in any::<bool>()) {
            if valid && bytes.len() > 16 {
                bytes[0] = b'l';
                bytes[3] = 1;
                bytes[4..8].fill(0);
                bytes[13..16].fill(0);
            }
            if let Ok(Some((_, length))) = Message::parse(&bytes) {
                prop_assert!(length <= bytes.len() && length >= 16);
            }
        }
    }
}
