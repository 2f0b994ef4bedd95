//! [Service], what a service is: systemd.service(5), systemd.kill(5).

use super::Support::{Ignored, Implied, Refused};
use super::{Directive, Key, ResourceKey, ServiceKey as K, Support, row};

const fn yes(key: K) -> Support {
    Support::Yes(Key::Service(key))
}

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static SERVICE: &[Directive] = &[
    row("BusName", yes(K::BusName)),
    row("ExecCondition", yes(K::ExecCondition)),
    row("ExecReload", Implied("there is no reloading: nobody can ask for it")),
    row("ExecStart", yes(K::ExecStart)),
    row("ExecStartPost", yes(K::ExecStartPost)),
    row("ExecStartPre", yes(K::ExecStartPre)),
    row("ExecStop", yes(K::ExecStop)),
    row("ExecStopPost", yes(K::ExecStopPost)),
    row("ExitType", yes(K::ExitType)),
    row("FailureAction", yes(K::FailureAction)),
    row("FileDescriptorStoreMax", yes(K::FileDescriptorStoreMax)),
    row("FileDescriptorStorePreserve", yes(K::FileDescriptorStorePreserve)),
    row("GuessMainPID", yes(K::GuessMainPid)),
    row("NonBlocking", yes(K::NonBlocking)),
    row("NotifyAccess", yes(K::NotifyAccess)),
    row("OOMPolicy", Support::Yes(Key::Resource(ResourceKey::OomPolicy))),
    row("OpenFile", Refused("the service would lack the descriptor that it needs")),
    row("PIDFile", yes(K::PidFile)),
    row("PermissionsStartOnly", yes(K::PermissionsStartOnly)),
    row("ReloadSignal", Implied("there is no reloading")),
    row("RemainAfterExit", yes(K::RemainAfterExit)),
    row("Restart", yes(K::Restart)),
    row("RestartForceExitStatus", yes(K::RestartForceExitStatus)),
    row("RestartMaxDelaySec", yes(K::RestartMaxDelaySec)),
    row("RestartMode", Implied("dependants wait for a unit that is started again")),
    row("RestartPreventExitStatus", yes(K::RestartPreventExitStatus)),
    row("RestartSec", yes(K::RestartSec)),
    row("RestartSteps", yes(K::RestartSteps)),
    row("RootDirectoryStartOnly", Ignored("all commands of the service have RootDirectory= for their root")),
    row("RuntimeMaxSec", yes(K::RuntimeMaxSec)),
    row("RuntimeRandomizedExtraSec", Ignored("the service ends exactly after RuntimeMaxSec=")),
    row("Sockets", yes(K::Sockets)),
    row("StartLimitAction", yes(K::StartLimitAction)),
    row("StartLimitBurst", yes(K::StartLimitBurst)),
    row("StartLimitInterval", yes(K::StartLimitInterval)),
    row("SuccessExitStatus", yes(K::SuccessExitStatus)),
    row("TimeoutAbortSec", yes(K::TimeoutAbortSec)),
    row("TimeoutSec", yes(K::TimeoutSec)),
    row("TimeoutStartFailureMode", yes(K::TimeoutStartFailureMode)),
    row("TimeoutStartSec", yes(K::TimeoutStartSec)),
    row("TimeoutStopFailureMode", Ignored("a late stop is ended with SIGKILL")),
    row("TimeoutStopSec", yes(K::TimeoutStopSec)),
    row("Type", yes(K::Type)),
    row("USBFunctionDescriptors", Refused("the service would lack its USB function")),
    row("USBFunctionStrings", Refused("the service would lack its USB function")),
    row("WatchdogSec", yes(K::WatchdogSec)),
];

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static KILL: &[Directive] = &[
    row("FinalKillSignal", yes(K::FinalKillSignal)),
    row("KillMode", yes(K::KillMode)),
    row("KillSignal", yes(K::KillSignal)),
    row("RestartKillSignal", yes(K::RestartKillSignal)),
    row("SendSIGHUP", yes(K::SendSighup)),
    row("SendSIGKILL", yes(K::SendSigkill)),
    row("WatchdogSignal", yes(K::WatchdogSignal)),
];
