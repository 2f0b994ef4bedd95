//! [Service], what a service is: systemd.service(5), systemd.kill(5).

use super::Support::{Ignored, Implied, Refused};
use super::{Directive, Key, ResourceKey, ServiceKey as K, Support, row};

const fn yes(key: K) -> Support {
    Support::Yes(Key::Service(key))
}

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static SERVICE: &[Directive] = &[
    row("BusName", Implied("matters to Type=dbus alone")),
    row("ExecCondition", Refused("the condition would not be asked")),
    row("ExecReload", Implied("there is no reloading: nobody can ask for it")),
    row("ExecStart", yes(K::ExecStart)),
    row("ExecStartPost", yes(K::ExecStartPost)),
    row("ExecStartPre", yes(K::ExecStartPre)),
    row("ExecStop", yes(K::ExecStop)),
    row("ExecStopPost", yes(K::ExecStopPost)),
    row("ExitType", Ignored("a service ends with its main process")),
    row("FailureAction", Ignored("a failure is reported, and nothing else done")),
    row("FileDescriptorStoreMax", Ignored("the service keeps no descriptors across a restart")),
    row("FileDescriptorStorePreserve", Ignored("the service keeps no descriptors across a restart")),
    row("GuessMainPID", Implied("matters to Type=forking alone")),
    row("NonBlocking", Implied("matters with sockets alone")),
    row("NotifyAccess", yes(K::NotifyAccess)),
    row("OOMPolicy", Support::Yes(Key::Resource(ResourceKey::OomPolicy))),
    row("OpenFile", Refused("the service would lack the descriptor that it needs")),
    row("PIDFile", Implied("matters to Type=forking alone")),
    row("PermissionsStartOnly", Ignored("write + before the commands that need root")),
    row("ReloadSignal", Implied("there is no reloading")),
    row("RemainAfterExit", yes(K::RemainAfterExit)),
    row("Restart", yes(K::Restart)),
    row("RestartForceExitStatus", Ignored("Restart= alone decides")),
    row("RestartMaxDelaySec", yes(K::RestartMaxDelaySec)),
    row("RestartMode", Implied("dependants wait for a unit that is started again")),
    row("RestartPreventExitStatus", Ignored("Restart= alone decides")),
    row("RestartSec", yes(K::RestartSec)),
    row("RestartSteps", yes(K::RestartSteps)),
    row("RootDirectoryStartOnly", Implied("matters with RootDirectory= alone")),
    row("RuntimeMaxSec", Ignored("the service may run for ever")),
    row("RuntimeRandomizedExtraSec", Ignored("the service may run for ever")),
    row("Sockets", Refused("the service would lack its sockets")),
    row("StartLimitBurst", yes(K::StartLimitBurst)),
    row("StartLimitInterval", yes(K::StartLimitInterval)),
    row("SuccessExitStatus", yes(K::SuccessExitStatus)),
    row("TimeoutAbortSec", Ignored("TimeoutStopSec= is used")),
    row("TimeoutSec", yes(K::TimeoutSec)),
    row("TimeoutStartFailureMode", Ignored("a late start is ended with KillSignal=")),
    row("TimeoutStartSec", yes(K::TimeoutStartSec)),
    row("TimeoutStopFailureMode", Ignored("a late stop is ended with SIGKILL")),
    row("TimeoutStopSec", yes(K::TimeoutStopSec)),
    row("Type", yes(K::Type)),
    row("USBFunctionDescriptors", Refused("the service would lack its USB function")),
    row("USBFunctionStrings", Refused("the service would lack its USB function")),
    row("WatchdogSec", Ignored("a service that hangs is not noticed")),
];

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static KILL: &[Directive] = &[
    row("FinalKillSignal", Ignored("SIGKILL is used")),
    row("KillMode", yes(K::KillMode)),
    row("KillSignal", yes(K::KillSignal)),
    row("RestartKillSignal", Ignored("KillSignal= is used")),
    row("SendSIGHUP", Ignored("KillSignal= alone is sent")),
    row("SendSIGKILL", Ignored("what does not end within TimeoutStopSec= is killed")),
    row("WatchdogSignal", Ignored("a service that hangs is not noticed")),
];
