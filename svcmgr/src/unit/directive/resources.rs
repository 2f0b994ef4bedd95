//! [Service], what its cgroup holds: systemd.resource-control(5).

use super::Support::{Ignored, Implied};
use super::{Directive, Key, ResourceKey as K, Support, row};
use crate::unit::resources::{Amounts as A, IoLimit, Weights};

const RESOURCE: Support = Ignored("the service runs without this limit");
const SANDBOX: Support = Ignored("the service runs without this protection");

const fn yes(key: K) -> Support {
    Support::Yes(Key::Resource(key))
}

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static RESOURCES: &[Directive] = &[
    row("AllowedCPUs", yes(K::AllowedCpus)),
    row("AllowedMemoryNodes", yes(K::AllowedMemoryNodes)),
    row("BPFProgram", SANDBOX),
    row("BlockIOAccounting", Implied("superseded by IOAccounting=")),
    row("BlockIODeviceWeight", RESOURCE),
    row("BlockIOReadBandwidth", yes(K::Io(IoLimit::ReadBandwidth))),
    row("BlockIOWeight", yes(K::BlockIoWeight)),
    row("BlockIOWriteBandwidth", yes(K::Io(IoLimit::WriteBandwidth))),
    row("CPUAccounting", Implied("the kernel counts always")),
    row("CPUQuota", yes(K::CpuQuota)),
    row("CPUQuotaPeriodSec", yes(K::CpuQuotaPeriodSec)),
    row("CPUShares", yes(K::CpuShares)),
    row("CPUWeight", yes(K::Weight(Weights::Cpu))),
    row("DefaultMemoryLow", RESOURCE),
    row("DefaultMemoryMin", RESOURCE),
    row("Delegate", yes(K::Delegate)),
    row("DelegateSubgroup", Ignored("the service's cgroup stays ours")),
    row("DeviceAllow", SANDBOX),
    row("DevicePolicy", SANDBOX),
    row("DisableControllers", Ignored("the controllers stay on")),
    row("IOAccounting", Implied("the kernel counts always")),
    row("IODeviceLatencyTargetSec", RESOURCE),
    row("IODeviceWeight", yes(K::IoDeviceWeight)),
    row("IOReadBandwidthMax", yes(K::Io(IoLimit::ReadBandwidth))),
    row("IOReadIOPSMax", yes(K::Io(IoLimit::ReadOperations))),
    row("IOWeight", yes(K::Weight(Weights::Io))),
    row("IOWriteBandwidthMax", yes(K::Io(IoLimit::WriteBandwidth))),
    row("IOWriteIOPSMax", yes(K::Io(IoLimit::WriteOperations))),
    row("IPAccounting", Implied("nobody asks")),
    row("IPAddressAllow", SANDBOX),
    row("IPAddressDeny", SANDBOX),
    row("IPEgressFilterPath", SANDBOX),
    row("IPIngressFilterPath", SANDBOX),
    row("ManagedOOMMemoryPressure", Ignored("the kernel decides which process to end")),
    row("ManagedOOMMemoryPressureLimit", Ignored("the kernel decides which process to end")),
    row("ManagedOOMPreference", Ignored("the kernel decides which process to end")),
    row("ManagedOOMSwap", Ignored("the kernel decides which process to end")),
    row("MemoryAccounting", Implied("the kernel counts always")),
    row("MemoryHigh", yes(K::Amount(A::MemoryHigh))),
    row("MemoryLimit", yes(K::Amount(A::MemoryMax))),
    row("MemoryLow", yes(K::Amount(A::MemoryLow))),
    row("MemoryMax", yes(K::Amount(A::MemoryMax))),
    row("MemoryMin", yes(K::Amount(A::MemoryMin))),
    row("MemoryPressureThresholdSec", Ignored("memory pressure is not watched")),
    row("MemoryPressureWatch", Ignored("memory pressure is not watched")),
    row("MemorySwapMax", yes(K::Amount(A::MemorySwapMax))),
    row("MemoryZSwapMax", yes(K::Amount(A::MemoryZSwapMax))),
    row("MemoryZSwapWriteback", RESOURCE),
    row("NFTSet", SANDBOX),
    row("RestrictNetworkInterfaces", SANDBOX),
    row("Slice", Implied("each service has its own cgroup under one parent")),
    row("SocketBindAllow", SANDBOX),
    row("SocketBindDeny", SANDBOX),
    row("StartupAllowedCPUs", Implied("there is one setting, for start-up and after it")),
    row("StartupAllowedMemoryNodes", Implied("there is one setting, for start-up and after it")),
    row("StartupBlockIOWeight", Implied("there is one setting, for start-up and after it")),
    row("StartupCPUShares", Implied("there is one setting, for start-up and after it")),
    row("StartupCPUWeight", Implied("there is one setting, for start-up and after it")),
    row("StartupIOWeight", Implied("there is one setting, for start-up and after it")),
    row("TasksAccounting", Implied("the kernel counts always")),
    row("TasksMax", yes(K::Amount(A::TasksMax))),
];
