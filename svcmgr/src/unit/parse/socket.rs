//! `[Socket]`.

use super::{Reader, values};
use crate::notify::is_fd_name;
use crate::unit::directive::SocketKey as K;
use crate::unit::socket::{Address, Listen, ListenKind, OptionValue, Rate, Socket, SocketOption};
use crate::unit::syntax::Entry;
use crate::unit::{Kind, Reference, Relation, is_valid_name, limit, split_type};

impl Reader<'_> {
    pub(super) fn socket(&mut self) -> &mut Socket {
        self.unit.socket.get_or_insert_default()
    }

    pub(super) fn obey_socket(&mut self, key: K, entry: &Entry) {
        match key {
            K::Listen(kind) => self.listen(kind, entry),
            K::Option(option) => self.socket_option(option, entry),
            K::Accept => self.switch(entry, |socket| &mut socket.accept),
            K::FlushPending => self.switch(entry, |socket| &mut socket.flush_pending),
            K::RemoveOnStop => self.switch(entry, |socket| &mut socket.remove_on_stop),
            K::Writable => self.switch(entry, |socket| &mut socket.writable),
            K::Backlog => {
                // It may be the largest number of 32 bits, which is systemd's own word for "as many as may be".
                match entry.value.parse::<u32>() {
                    Ok(most) => self.socket().backlog = i32::try_from(most).unwrap_or(i32::MAX),
                    Err(_) => self.note(entry.line, format!("Backlog={} is not a number, ignored", entry.value)),
                }
            }
            K::BindIpv6Only => {
                self.socket().ipv6_only = match (entry.value.as_str(), values::parse_boolean(&entry.value)) {
                    ("" | "default", _) => None,
                    ("both", _) => Some(false),
                    ("ipv6-only", _) => Some(true),
                    // systemd reads a boolean, too, as the manual does not say.
                    (_, Some(only)) => Some(only),
                    _ => return self.unknown_value(entry, &["default", "both", "ipv6-only"]),
                };
            }
            K::SocketMode => self.socket_mode(entry, |socket| &mut socket.mode),
            K::DirectoryMode => self.socket_mode(entry, |socket| &mut socket.directory_mode),
            K::FileDescriptorName => {
                let Some(name) = self.resolved(entry) else { return };
                if name.is_empty() || is_fd_name(&name) {
                    self.socket().descriptor_name = Some(name).filter(|name| !name.is_empty());
                } else {
                    self.note(entry.line, format!("FileDescriptorName={name} is ignored: it may hold no colon"));
                }
            }
            K::MaxConnections => {
                if let Some(most) = self.number(entry, 1..=MAX_CONNECTIONS) {
                    self.socket().max_connections = u32::try_from(most).unwrap_or(1);
                }
            }
            K::MaxConnectionsPerSource => {
                if let Some(most) = self.number(entry, 0..=MAX_CONNECTIONS) {
                    self.socket().max_connections_per_source = u32::try_from(most).ok().filter(|most| *most > 0);
                }
            }
            K::PipeSize => self.socket().pipe_size = self.bytes(entry).and_then(|size| usize::try_from(size).ok()),
            K::PollLimitBurst => self.rate_burst(entry, |socket| &mut socket.poll_limit),
            K::PollLimitIntervalSec => self.rate_interval(entry, |socket| &mut socket.poll_limit),
            K::TriggerLimitBurst => self.rate_burst(entry, |socket| &mut socket.trigger_limit),
            K::TriggerLimitIntervalSec => self.rate_interval(entry, |socket| &mut socket.trigger_limit),
            K::Service => self.socket_service(entry),
            K::SocketUser => self.socket().user = self.resolved(entry).filter(|user| !user.is_empty()),
            K::SocketGroup => self.socket().group = self.resolved(entry).filter(|group| !group.is_empty()),
            K::SocketProtocol => {
                // Numbers: netinet/in.h.
                self.socket().protocol = match entry.value.as_str() {
                    "" => None,
                    "udplite" => Some(136),
                    "sctp" => Some(132),
                    "mptcp" => Some(262),
                    _ => return self.unknown_value(entry, &["udplite", "sctp", "mptcp"]),
                };
            }
            K::Symlinks => {
                let Some(paths) = self.resolved(entry) else { return };
                if paths.is_empty() {
                    self.socket().symlinks.clear();
                }
                let Some(paths) = self.words(entry, &paths) else { return };
                self.socket().symlinks.extend(paths);
            }
        }
    }

    fn listen(&mut self, kind: ListenKind, entry: &Entry) {
        // systemd.socket(5): an empty one takes back all that stood before.
        if entry.value.is_empty() {
            return self.socket().listen.clear();
        }
        let Some(value) = self.resolved(entry) else { return };
        match Listen::parse(kind, &value) {
            Ok(listen) => self.socket().listen.push(listen),
            // Its service would not get all that it waits for.
            Err(error) => self.refuse(entry.line, format!("{}={value} {error}", entry.key)),
        }
    }

    fn switch(&mut self, entry: &Entry, field: fn(&mut Socket) -> &mut bool) {
        if let Some(yes) = self.boolean(entry) {
            *field(self.socket()) = yes;
        }
    }

    fn socket_mode(&mut self, entry: &Entry, field: fn(&mut Socket) -> &mut u32) {
        match u32::from_str_radix(&entry.value, 8).ok().filter(|mode| *mode <= 0o7777) {
            Some(mode) => *field(self.socket()) = mode,
            // More might be let in than should be.
            None => self.refuse(entry.line, format!("{}={} is not an octal mode", entry.key, entry.value)),
        }
    }

    fn rate_burst(&mut self, entry: &Entry, field: fn(&mut Socket) -> &mut Rate) {
        if let Some(burst) = self.number(entry, 0..=i32::MAX) {
            field(self.socket()).burst = u32::try_from(burst).ok();
        }
    }

    fn rate_interval(&mut self, entry: &Entry, field: fn(&mut Socket) -> &mut Rate) {
        if let Some(span) = self.span(entry) {
            field(self.socket()).interval = span;
        }
    }

    fn socket_service(&mut self, entry: &Entry) {
        let Some(name) = self.resolved(entry) else { return };
        if name.is_empty() {
            self.socket().service = None;
        } else if is_valid_name(&name) && Kind::of(&name) == Some(Kind::Service) {
            self.socket().service = Some(name);
            self.trigger_line = entry.line;
        } else {
            self.refuse(entry.line, format!("Service={name} is not the name of a service"));
        }
    }

    /// A size in bytes, with K, M or G, powers of 1024.
    fn bytes(&mut self, entry: &Entry) -> Option<u64> {
        let size = limit::bytes(&entry.value);
        if size.is_none() {
            let text = format!("{}={} is ignored: a size in bytes is due, such as 64K", entry.key, entry.value);
            self.note(entry.line, text);
        }
        size
    }

    fn socket_option(&mut self, option: SocketOption, entry: &Entry) {
        use SocketOption as O;
        let number = |value: Option<u64>| value.and_then(|value| i32::try_from(value).ok());
        let value = match option {
            O::Broadcast
            | O::FreeBind
            | O::KeepAlive
            | O::NoDelay
            | O::PassCredentials
            | O::PassPacketInfo
            | O::PassSecurity
            | O::ReusePort
            | O::Transparent => self.boolean(entry).map(i32::from),
            O::DeferAcceptSec | O::KeepAliveIntervalSec | O::KeepAliveTimeSec => {
                // The kernel counts in seconds.
                self.span(entry).and_then(|span| i32::try_from(span.0.div_ceil(1_000_000)).ok())
            }
            O::KeepAliveProbes | O::Mark | O::Priority => self.number(entry, 0..=i32::MAX),
            O::IpTtl => self.number(entry, 1..=255),
            O::IpTos => match entry.value.as_str() {
                // netinet/ip.h.
                "low-delay" => Some(0x10),
                "throughput" => Some(0x08),
                "reliability" => Some(0x04),
                "low-cost" => Some(0x02),
                _ => self.number(entry, 0..=255),
            },
            O::ReceiveBuffer | O::SendBuffer => number(self.bytes(entry)),
            O::Timestamping => match entry.value.as_str() {
                "off" | "" => Some(0),
                // Which of two options it is; see host/sockets.
                "us" | "usec" | "µs" | "μs" => Some(1),
                "ns" | "nsec" => Some(2),
                _ => return self.unknown_value(entry, &["off", "us", "ns"]),
            },
            O::BindToDevice | O::TcpCongestion => {
                let Some(text) = self.resolved(entry) else { return };
                return self.socket().set(option, OptionValue::Text(text));
            }
        };
        if let Some(value) = value {
            self.socket().set(option, OptionValue::Number(value));
        }
    }

    pub(super) fn finish_socket(&mut self) {
        let name = self.unit.name.clone();
        let socket = self.socket();
        let is_stream = |listen: &Listen| matches!(listen.kind, ListenKind::Stream | ListenKind::SequentialPacket);
        let refused = match (socket.listen.as_slice(), socket.accept) {
            ([], _) => Some("there is no ListenStream= or its like in section [Socket]".to_owned()),
            (_, true) if socket.service.is_some() => {
                Some("Accept=yes starts instances of a template, and goes without Service=".to_owned())
            }
            (listen, true) => listen
                .iter()
                .find(|listen| !is_stream(listen))
                .map(|listen| format!("Accept=yes goes with streams alone, not with {listen}")),
            _ => None,
        };
        let paths = socket.listen.iter().filter(|listen| matches!(listen.address, Address::Path(_))).count();
        let has_links = !socket.symlinks.is_empty();
        let stem = split_type(&name).map_or("", |(stem, _)| stem);
        let service = socket.service.clone().unwrap_or_else(|| format!("{stem}.service"));
        let accept = socket.accept;
        if let Some(text) = refused {
            self.refuse(0, text);
        }
        if has_links && paths != 1 {
            self.note(0, "Symlinks= is ignored: it goes with one path alone".to_owned());
            self.socket().symlinks.clear();
        }
        // Of Accept=yes, each connection has a service of its own, which is made when it comes.
        if !accept {
            self.triggers(service);
        }
    }

    /// What a socket or a timer starts comes after it.
    pub(super) fn triggers(&mut self, name: String) {
        let line = self.trigger_line;
        for relation in [Relation::Triggers, Relation::Before] {
            self.unit.references.push(Reference { relation, name: name.clone(), line, file: None });
        }
    }
}

/// So many services of one socket at most.
const MAX_CONNECTIONS: i32 = 4096;
