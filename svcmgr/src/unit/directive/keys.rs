//! The directives that are obeyed, by the section or man page whose part of the parser obeys them.

use crate::unit::Relation;
use crate::unit::condition::ConditionKind;
use crate::unit::directories::DirectoryKind;
use crate::unit::limit::Resource;
use crate::unit::resources::{Amounts, IoLimit, Weights};
use crate::unit::socket::{ListenKind, SocketOption};
use crate::unit::timer::TimerBase;

/// A directive that is obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// `[Unit]`.
    Unit(UnitKey),
    /// `[Service]`: what a service is.
    Service(ServiceKey),
    /// `[Service]`: what its processes run in.
    Exec(ExecKey),
    /// `[Service]`: what its cgroup may use.
    Resource(ResourceKey),
    /// `[Socket]`.
    Socket(SocketKey),
    /// `[Timer]`.
    Timer(TimerKey),
    /// `[X-MMOS]`.
    Mmos(MmosKey),
}

/// Of `[Unit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum UnitKey {
    Description,
    Relation(Relation),
    Alias,
    /// With the directive, as it is written.
    Condition(ConditionKind, &'static str),
    StartLimitAction,
    FailureAction,
    SuccessAction,
    JobTimeoutSec,
    JobRunningTimeoutSec,
    JobTimeoutAction,
    StartLimitInterval,
    StartLimitBurst,
}

/// Of `[Service]`: what a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum ServiceKey {
    StartLimitInterval,
    StartLimitBurst,
    StartLimitAction,
    FailureAction,
    Type,
    ExecCondition,
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
    RestartPreventExitStatus,
    RestartForceExitStatus,
    RuntimeMaxSec,
    WatchdogSec,
    WatchdogSignal,
    PidFile,
    BusName,
    PermissionsStartOnly,
    GuessMainPid,
    ExitType,
    TimeoutAbortSec,
    TimeoutStartFailureMode,
    RestartKillSignal,
    FinalKillSignal,
    SendSighup,
    SendSigkill,
    FileDescriptorStoreMax,
    FileDescriptorStorePreserve,
    NonBlocking,
    Sockets,
}

/// Of `[Service]`: what its processes run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum ExecKey {
    IgnoreSigpipe,
    UMask,
    User,
    Group,
    SupplementaryGroups,
    DynamicUser,
    Nice,
    OomScoreAdjust,
    Limit(Resource),
    Environment,
    EnvironmentFile,
    PassEnvironment,
    UnsetEnvironment,
    ExecSearchPath,
    WorkingDirectory,
    StandardInput,
    StandardInputText,
    StandardInputData,
    StandardOutput,
    StandardError,
    TtyPath,
    SyslogIdentifier,
    SyslogLevel,
    SyslogLevelPrefix,
    SyslogFacility,
    LogRateLimitIntervalSec,
    LogRateLimitBurst,
    KeyringMode,
    Directory(DirectoryKind),
    DirectoryMode(DirectoryKind),
    RuntimeDirectoryPreserve,
    Scheduling(SchedulingKey),
    Sandbox(SandboxKey),
    Switch(Switch),
}

/// How the kernel schedules it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum SchedulingKey {
    CpuAffinity,
    CpuSchedulingPolicy,
    CpuSchedulingPriority,
    CpuSchedulingResetOnFork,
    IoSchedulingClass,
    IoSchedulingPriority,
    TimerSlackNSec,
    CoredumpFilter,
    Personality,
}

/// What it is kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum SandboxKey {
    RootDirectory,
    MountApiVfs,
    ProtectSystem,
    ProtectHome,
    ProtectProc,
    ProcSubset,
    ReadWritePaths,
    ReadOnlyPaths,
    InaccessiblePaths,
    ExecPaths,
    NoExecPaths,
    TemporaryFileSystem,
    BindPaths,
    BindReadOnlyPaths,
    CapabilityBoundingSet,
    AmbientCapabilities,
    SecureBits,
    RestrictNamespaces,
    RestrictAddressFamilies,
    SystemCallArchitectures,
    SystemCallFilter,
    SystemCallErrorNumber,
}

/// What it is kept from, where yes or no is all there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum Switch {
    NoNewPrivileges,
    PrivateTmp,
    PrivateDevices,
    PrivateNetwork,
    PrivateIpc,
    PrivateMounts,
    PrivateUsers,
    ProtectKernelTunables,
    ProtectKernelModules,
    ProtectKernelLogs,
    ProtectControlGroups,
    ProtectClock,
    ProtectHostname,
    RestrictRealtime,
    RestrictSuidSgid,
    LockPersonality,
    MemoryDenyWriteExecute,
}

/// Of `[Service]`: what its cgroup may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum ResourceKey {
    Amount(Amounts),
    Weight(Weights),
    CpuShares,
    BlockIoWeight,
    CpuQuota,
    CpuQuotaPeriodSec,
    AllowedCpus,
    AllowedMemoryNodes,
    IoDeviceWeight,
    Io(IoLimit),
    Delegate,
    OomPolicy,
}

/// Of `[Socket]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum SocketKey {
    Listen(ListenKind),
    Option(SocketOption),
    Accept,
    Backlog,
    BindIpv6Only,
    DirectoryMode,
    FileDescriptorName,
    FlushPending,
    MaxConnections,
    MaxConnectionsPerSource,
    PipeSize,
    PollLimitBurst,
    PollLimitIntervalSec,
    RemoveOnStop,
    Service,
    SocketGroup,
    SocketMode,
    SocketProtocol,
    SocketUser,
    Symlinks,
    TriggerLimitBurst,
    TriggerLimitIntervalSec,
    Writable,
}

/// Of `[Timer]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum TimerKey {
    On(TimerBase),
    OnCalendar,
    FixedRandomDelay,
    RandomizedDelaySec,
    RemainAfterElapse,
    Unit,
}

/// Of `[X-MMOS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum MmosKey {
    Start,
    FailureActions,
    FailureCommand,
    FailureResetPeriod,
    ErrorControl,
    ReadyFd,
}
