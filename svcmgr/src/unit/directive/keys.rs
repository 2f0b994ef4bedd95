//! The directives that are obeyed, by the section or man page whose part of the parser obeys them.

use crate::unit::limit::Resource;

/// A directive that is obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// `[Unit]`.
    Unit(UnitKey),
    /// `[Service]`: what a service is.
    Service(ServiceKey),
    /// `[Service]`: what its processes run in.
    Exec(ExecKey),
    /// `[X-MMOS]`.
    Mmos(MmosKey),
}

/// Of `[Unit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum UnitKey {
    Description,
    Requires,
    Wants,
    After,
    Before,
    StartLimitInterval,
    StartLimitBurst,
}

/// Of `[Service]`: what a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum ServiceKey {
    StartLimitInterval,
    StartLimitBurst,
    Type,
    ExecStartPre,
    ExecStart,
    ExecStartPost,
    ExecStop,
    ExecStopPost,
    Restart,
    RestartSec,
    RestartSteps,
    RestartMaxDelaySec,
    TimeoutStartSec,
    TimeoutStopSec,
    TimeoutSec,
    RemainAfterExit,
    SuccessExitStatus,
    NotifyAccess,
    KillSignal,
    KillMode,
}

/// Of `[Service]`: what its processes run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum ExecKey {
    IgnoreSigpipe,
    UMask,
    SupplementaryGroups,
    Nice,
    OomScoreAdjust,
    Limit(Resource),
    Environment,
    EnvironmentFile,
    User,
    Group,
    WorkingDirectory,
    StandardInput,
    StandardOutput,
    StandardError,
    TtyPath,
}

/// Of `[X-MMOS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum MmosKey {
    Start,
}
