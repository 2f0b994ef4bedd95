//! [Socket]: systemd.socket(5). What its commands run in is as in [Service].

use super::Support::{Ignored, Implied, Refused};
use super::{Directive, Key, ServiceKey, SocketKey as K, Support, row};
use crate::unit::socket::{ListenKind as L, SocketOption as O};

const LABEL: Support = Ignored("the socket has no such label");
const QUEUE: Support = Implied("matters with ListenMessageQueue= alone");

const fn yes(key: K) -> Support {
    Support::Yes(Key::Socket(key))
}

const fn command(key: ServiceKey) -> Support {
    Support::Yes(Key::Service(key))
}

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static SOCKET: &[Directive] = &[
    row("Accept", yes(K::Accept)),
    row("Backlog", yes(K::Backlog)),
    row("BindIPv6Only", yes(K::BindIpv6Only)),
    row("BindToDevice", yes(K::Option(O::BindToDevice))),
    row("Broadcast", yes(K::Option(O::Broadcast))),
    row("DeferAcceptSec", yes(K::Option(O::DeferAcceptSec))),
    row("DirectoryMode", yes(K::DirectoryMode)),
    row("ExecStartPost", command(ServiceKey::ExecStartPost)),
    row("ExecStartPre", command(ServiceKey::ExecStartPre)),
    row("ExecStopPost", command(ServiceKey::ExecStopPost)),
    row("ExecStopPre", command(ServiceKey::ExecStop)),
    row("FileDescriptorName", yes(K::FileDescriptorName)),
    row("FlushPending", yes(K::FlushPending)),
    row("FreeBind", yes(K::Option(O::FreeBind))),
    row("IPTOS", yes(K::Option(O::IpTos))),
    row("IPTTL", yes(K::Option(O::IpTtl))),
    row("KeepAlive", yes(K::Option(O::KeepAlive))),
    row("KeepAliveIntervalSec", yes(K::Option(O::KeepAliveIntervalSec))),
    row("KeepAliveProbes", yes(K::Option(O::KeepAliveProbes))),
    row("KeepAliveTimeSec", yes(K::Option(O::KeepAliveTimeSec))),
    row("ListenDatagram", yes(K::Listen(L::Datagram))),
    row("ListenFIFO", yes(K::Listen(L::Fifo))),
    row("ListenMessageQueue", Refused("POSIX message queues are not mounted")),
    row("ListenNetlink", yes(K::Listen(L::Netlink))),
    row("ListenSequentialPacket", yes(K::Listen(L::SequentialPacket))),
    row("ListenSpecial", yes(K::Listen(L::Special))),
    row("ListenStream", yes(K::Listen(L::Stream))),
    row("ListenUSBFunction", Refused("the service would lack its USB function")),
    row("Mark", yes(K::Option(O::Mark))),
    row("MaxConnections", yes(K::MaxConnections)),
    row("MaxConnectionsPerSource", yes(K::MaxConnectionsPerSource)),
    row("MessageQueueMaxMessages", QUEUE),
    row("MessageQueueMessageSize", QUEUE),
    row("NoDelay", yes(K::Option(O::NoDelay))),
    row("PassCredentials", yes(K::Option(O::PassCredentials))),
    row("PassPacketInfo", yes(K::Option(O::PassPacketInfo))),
    row("PassSecurity", yes(K::Option(O::PassSecurity))),
    row("PipeSize", yes(K::PipeSize)),
    row("PollLimitBurst", yes(K::PollLimitBurst)),
    row("PollLimitIntervalSec", yes(K::PollLimitIntervalSec)),
    row("Priority", yes(K::Option(O::Priority))),
    row("ReceiveBuffer", yes(K::Option(O::ReceiveBuffer))),
    row("RemoveOnStop", yes(K::RemoveOnStop)),
    row("ReusePort", yes(K::Option(O::ReusePort))),
    row("SELinuxContextFromNet", LABEL),
    row("SendBuffer", yes(K::Option(O::SendBuffer))),
    row("Service", yes(K::Service)),
    row("SmackLabel", LABEL),
    row("SmackLabelIPIn", LABEL),
    row("SmackLabelIPOut", LABEL),
    row("SocketGroup", yes(K::SocketGroup)),
    row("SocketMode", yes(K::SocketMode)),
    row("SocketProtocol", yes(K::SocketProtocol)),
    row("SocketUser", yes(K::SocketUser)),
    row("Symlinks", yes(K::Symlinks)),
    row("TCPCongestion", yes(K::Option(O::TcpCongestion))),
    row("TimeoutSec", command(ServiceKey::TimeoutSec)),
    row("Timestamping", yes(K::Option(O::Timestamping))),
    row("Transparent", yes(K::Option(O::Transparent))),
    row("TriggerLimitBurst", yes(K::TriggerLimitBurst)),
    row("TriggerLimitIntervalSec", yes(K::TriggerLimitIntervalSec)),
    row("Writable", yes(K::Writable)),
];
