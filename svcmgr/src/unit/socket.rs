//! The `[Socket]` section as data: what is listened on, and how; systemd.socket(5).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::time::Span;

/// What kind of socket, or what is like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenKind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_SEQPACKET`.
    SequentialPacket,
    /// A named pipe.
    Fifo,
    /// A device, or a file of /proc or /sys.
    Special,
    /// Netlink.
    Netlink,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In the file system.
    Path(String),
    /// A name without a file.
    Abstract(String),
    /// An address of a network.
    Inet(SocketAddr),
    /// All addresses of this machine: IPv6 with IPv4, or IPv4 where there is no other.
    AnyPort(u16),
    /// A family of netlink, and its multicast groups.
    Netlink(i32, u32),
}

/// One `Listen…=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// What kind.
    pub kind: ListenKind,
    /// Where.
    pub address: Address,
}

/// The value of a socket option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// A number, or a truth.
    Number(i32),
    /// A text.
    Text(String),
}

/// Socket options that need no thought of ours but their numbers; the directives of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum SocketOption {
    BindToDevice,
    Broadcast,
    DeferAcceptSec,
    FreeBind,
    IpTos,
    IpTtl,
    KeepAlive,
    KeepAliveIntervalSec,
    KeepAliveProbes,
    KeepAliveTimeSec,
    Mark,
    NoDelay,
    PassCredentials,
    PassPacketInfo,
    PassSecurity,
    Priority,
    ReceiveBuffer,
    ReusePort,
    SendBuffer,
    TcpCongestion,
    Timestamping,
    Transparent,
}

/// At most so many within a time; none of either is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time.
    pub interval: Span,
    /// How many. `None` goes by `Accept=`.
    pub burst: Option<u32>,
}

/// The `[Socket]` section.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the directive of its own name")]
pub struct Socket {
    pub listen: Vec<Listen>,
    pub accept: bool,
    pub service: Option<String>,
    pub symlinks: Vec<String>,
    pub mode: u32,
    pub directory_mode: u32,
    pub user: Option<String>,
    pub group: Option<String>,
    pub backlog: i32,
    /// `BindIPv6Only=`, if it does not leave it to the kernel.
    pub ipv6_only: Option<bool>,
    /// `SocketProtocol=`, by its number.
    pub protocol: Option<u32>,
    pub max_connections: u32,
    pub max_connections_per_source: Option<u32>,
    pub descriptor_name: Option<String>,
    pub remove_on_stop: bool,
    pub flush_pending: bool,
    pub writable: bool,
    pub pipe_size: Option<usize>,
    pub trigger_limit: Rate,
    pub poll_limit: Rate,
    pub options: Vec<(SocketOption, OptionValue)>,
}

impl Default for Socket {
    fn default() -> Socket {
        let rate = Rate { interval: Span::seconds(2), burst: None };
        Socket {
            listen: Vec::new(),
            accept: false,
            service: None,
            symlinks: Vec::new(),
            mode: 0o666,
            directory_mode: 0o755,
            user: None,
            group: None,
            // The kernel bounds it by net.core.somaxconn.
            backlog: i32::MAX,
            ipv6_only: None,
            protocol: None,
            max_connections: 64,
            max_connections_per_source: None,
            descriptor_name: None,
            remove_on_stop: false,
            flush_pending: false,
            writable: false,
            pipe_size: None,
            trigger_limit: rate,
            poll_limit: rate,
            options: Vec::new(),
        }
    }
}

impl Socket {
    /// `TriggerLimitBurst=`, or what is usual.
    pub fn trigger_burst(&self) -> u32 {
        self.trigger_limit.burst.unwrap_or(if self.accept { 200 } else { 20 })
    }

    /// `PollLimitBurst=`, or what is usual.
    pub fn poll_burst(&self) -> u32 {
        self.poll_limit.burst.unwrap_or(if self.accept { 150 } else { 15 })
    }

    /// Sets an option; what was said before of it does not count.
    pub fn set(&mut self, option: SocketOption, value: OptionValue) {
        self.options.retain(|(known, _)| *known != option);
        self.options.push((option, value));
    }
}

impl ListenKind {
    /// The directive.
    pub fn word(self) -> &'static str {
        match self {
            ListenKind::Stream => "ListenStream",
            ListenKind::Datagram => "ListenDatagram",
            ListenKind::SequentialPacket => "ListenSequentialPacket",
            ListenKind::Fifo => "ListenFIFO",
            ListenKind::Special => "ListenSpecial",
            ListenKind::Netlink => "ListenNetlink",
        }
    }
}

impl Listen {
    /// Reads a `Listen…=`.
    ///
    /// # Errors
    /// In words, after the value.
    pub fn parse(kind: ListenKind, text: &str) -> Result<Listen, String> {
        let address = match kind {
            ListenKind::Fifo | ListenKind::Special => path(text)?,
            ListenKind::Netlink => netlink(text)?,
            ListenKind::Stream | ListenKind::Datagram | ListenKind::SequentialPacket => address(text)?,
        };
        let is_inet = matches!(address, Address::Inet(_) | Address::AnyPort(_));
        if kind == ListenKind::SequentialPacket && is_inet {
            return Err("is an address of a network: sequential packets are for paths and @names alone".to_owned());
        }
        Ok(Listen { kind, address })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.kind.word())?;
        match &self.address {
            Address::Path(path) => write!(f, "{path}"),
            Address::Abstract(name) => write!(f, "@{name}"),
            Address::Inet(address) => write!(f, "{address}"),
            Address::AnyPort(port) => write!(f, "{port}"),
            Address::Netlink(family, groups) => write!(f, "{family} {groups}"),
        }
    }
}

fn path(text: &str) -> Result<Address, String> {
    if text.starts_with('/') { Ok(Address::Path(text.to_owned())) } else { Err("is not an absolute path".to_owned()) }
}

fn address(text: &str) -> Result<Address, String> {
    if text.starts_with('/') {
        return path(text);
    }
    if let Some(name) = text.strip_prefix('@') {
        return if name.is_empty() { Err("has no name".to_owned()) } else { Ok(Address::Abstract(name.to_owned())) };
    }
    if text.starts_with("vsock") {
        return Err("is an address of a virtual machine's host: a device on the line has none".to_owned());
    }
    if let Ok(port) = text.parse::<u16>() {
        return if port == 0 { Err("is no port".to_owned()) } else { Ok(Address::AnyPort(port)) };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Address::Inet(address));
    }
    // systemd.socket(5): an address alone has no port.
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err("names no port: write ADDRESS:PORT, or [ADDRESS]:PORT for IPv6".to_owned());
    }
    Err("is neither a path, an @name, a port, ADDRESS:PORT nor [ADDRESS]:PORT".to_owned())
}

/// systemd.socket(5), `ListenNetlink=`: a family by its name, and a group. Numbers: `include/uapi/linux/netlink.h`.
fn netlink(text: &str) -> Result<Address, String> {
    const FAMILIES: [(&str, i32); 14] = [
        ("route", 0),
        ("firewall", 3),
        ("inet-diag", 4),
        ("nflog", 5),
        ("xfrm", 6),
        ("selinux", 7),
        ("iscsi", 8),
        ("audit", 9),
        ("fib-lookup", 10),
        ("connector", 11),
        ("netfilter", 12),
        ("ip6-fw", 13),
        ("kobject-uevent", 15),
        ("scsitransport", 18),
    ];
    let (family, group) = text.split_once(char::is_whitespace).unwrap_or((text, "0"));
    let number = FAMILIES.iter().find(|(name, _)| *name == family).map(|(_, number)| *number);
    let number =
        number.or_else(|| family.parse().ok()).ok_or_else(|| format!("names no family of netlink: {family}"))?;
    let groups = group.trim().parse().map_err(|_| format!("names no group of netlink: {group}"))?;
    Ok(Address::Netlink(number, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_systemd_socket() {
        let stream = |text: &str| Listen::parse(ListenKind::Stream, text).map(|listen| listen.address);
        assert_eq!(stream("/run/x"), Ok(Address::Path("/run/x".into())));
        assert_eq!(stream("@x y"), Ok(Address::Abstract("x y".into())));
        assert_eq!(stream("80"), Ok(Address::AnyPort(80)));
        assert_eq!(stream("127.0.0.1:80"), Ok(Address::Inet("127.0.0.1:80".parse().unwrap())));
        assert_eq!(stream("[::1]:80"), Ok(Address::Inet("[::1]:80".parse().unwrap())));
        for (text, said) in [
            ("vsock::80", "virtual machine"),
            ("127.0.0.1", "names no port"),
            ("[::1]", "names no port"),
            ("0", "is no port"),
            ("65536", "is neither"),
            ("x", "is neither"),
            ("", "is neither"),
            ("@", "has no name"),
        ] {
            assert!(stream(text).unwrap_err().contains(said), "{text}: {:?}", stream(text));
        }
        assert!(Listen::parse(ListenKind::SequentialPacket, "80").is_err());
        assert!(Listen::parse(ListenKind::Fifo, "@x").is_err());
    }

    #[test]
    fn a_family_of_netlink_has_a_name_and_groups() {
        let parsed = |text: &str| Listen::parse(ListenKind::Netlink, text).map(|listen| listen.to_string());
        assert_eq!(parsed("kobject-uevent 1"), Ok("ListenNetlink=15 1".into()));
        assert_eq!(parsed("route"), Ok("ListenNetlink=0 0".into()));
        assert!(parsed("wobble 1").is_err() && parsed("audit x").is_err());
    }
}
