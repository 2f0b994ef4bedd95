//! [Socket], [Timer], and our own [X-MMOS].

use super::Support::Ignored;
use super::{Directive, Key, MmosKey as K, Support, row};

const LATER: Support = Ignored("units of this type are not read yet");

const fn yes(key: K) -> Support {
    Support::Yes(Key::Mmos(key))
}

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static SOCKET: &[Directive] = &[
    row("Accept", LATER),
    row("Backlog", LATER),
    row("BindIPv6Only", LATER),
    row("BindToDevice", LATER),
    row("Broadcast", LATER),
    row("DeferAcceptSec", LATER),
    row("DirectoryMode", LATER),
    row("ExecStartPost", LATER),
    row("ExecStartPre", LATER),
    row("ExecStopPost", LATER),
    row("ExecStopPre", LATER),
    row("FileDescriptorName", LATER),
    row("FlushPending", LATER),
    row("FreeBind", LATER),
    row("IPTOS", LATER),
    row("IPTTL", LATER),
    row("KeepAlive", LATER),
    row("KeepAliveIntervalSec", LATER),
    row("KeepAliveProbes", LATER),
    row("KeepAliveTimeSec", LATER),
    row("ListenDatagram", LATER),
    row("ListenFIFO", LATER),
    row("ListenMessageQueue", LATER),
    row("ListenNetlink", LATER),
    row("ListenSequentialPacket", LATER),
    row("ListenSpecial", LATER),
    row("ListenStream", LATER),
    row("ListenUSBFunction", LATER),
    row("Mark", LATER),
    row("MaxConnections", LATER),
    row("MaxConnectionsPerSource", LATER),
    row("MessageQueueMaxMessages", LATER),
    row("MessageQueueMessageSize", LATER),
    row("NoDelay", LATER),
    row("PassCredentials", LATER),
    row("PassPacketInfo", LATER),
    row("PassSecurity", LATER),
    row("PipeSize", LATER),
    row("Priority", LATER),
    row("ReceiveBuffer", LATER),
    row("RemoveOnStop", LATER),
    row("ReusePort", LATER),
    row("SELinuxContextFromNet", LATER),
    row("SendBuffer", LATER),
    row("Service", LATER),
    row("SmackLabel", LATER),
    row("SmackLabelIPIn", LATER),
    row("SmackLabelIPOut", LATER),
    row("SocketGroup", LATER),
    row("SocketMode", LATER),
    row("SocketProtocol", LATER),
    row("SocketUser", LATER),
    row("Symlinks", LATER),
    row("TCPCongestion", LATER),
    row("TimeoutSec", LATER),
    row("Timestamping", LATER),
    row("Transparent", LATER),
    row("TriggerLimitBurst", LATER),
    row("TriggerLimitIntervalSec", LATER),
    row("Writable", LATER),
];

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static TIMER: &[Directive] = &[
    row("AccuracySec", LATER),
    row("FixedRandomDelay", LATER),
    row("OnActiveSec", LATER),
    row("OnBootSec", LATER),
    row("OnCalendar", LATER),
    row("OnClockChange", LATER),
    row("OnStartupSec", LATER),
    row("OnTimezoneChange", LATER),
    row("OnUnitActiveSec", LATER),
    row("OnUnitInactiveSec", LATER),
    row("Persistent", LATER),
    row("RandomizedDelaySec", LATER),
    row("RemainAfterElapse", LATER),
    row("Unit", LATER),
    row("WakeSystem", LATER),
];

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static MMOS: &[Directive] = &[
    row("ErrorControl", yes(K::ErrorControl)),
    row("FailureActions", yes(K::FailureActions)),
    row("FailureCommand", yes(K::FailureCommand)),
    row("FailureResetPeriod", yes(K::FailureResetPeriod)),
    row("ReadyFD", yes(K::ReadyFd)),
    row("Start", yes(K::Start)),
];
