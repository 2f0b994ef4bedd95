//! The one table of directives: what this supervisor does with each that systemd knows. The parser, the warnings and
//! the documentation follow from it.
//!
//! Names: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5).

use Section::{Install, Mmos, Service, Unit};
use Support::{Ignored, Implied, Partly, Refused, Yes};

use super::limit::Resource;

/// A section of a unit file that this supervisor reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[Unit]`.
    Unit,
    /// `[Service]`.
    Service,
    /// `[Install]`.
    Install,
    /// `[X-MMOS]`: our own; systemd ignores sections that begin with `X-`.
    Mmos,
}

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Obeyed.
    Yes(Key),
    /// Obeyed in part. Warned about; the text says what is missing.
    Partly(Key, &'static str),
    /// Not obeyed, and nothing is lost by that on this system; the text says why. Not warned about.
    Implied(&'static str),
    /// Not obeyed: the service runs without it. Warned about; the text says what that means.
    Ignored(&'static str),
    /// Not obeyed, and without it the service would be another one: a unit that sets it is refused.
    Refused(&'static str),
}

/// The directives that are obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum Key {
    Description,
    Requires,
    Wants,
    After,
    Before,
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
    Start,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Directive {
    /// Where it stands.
    pub section: Section,
    /// How it is written.
    pub name: &'static str,
    /// What becomes of it.
    pub support: Support,
}

impl Section {
    /// The section of this name.
    pub fn from_name(name: &str) -> Option<Section> {
        [Unit, Service, Install, Mmos].into_iter().find(|section| section.name() == name)
    }

    /// Its name, without brackets.
    pub fn name(self) -> &'static str {
        match self {
            Unit => "Unit",
            Service => "Service",
            Install => "Install",
            Mmos => "X-MMOS",
        }
    }
}

/// The row of a directive.
pub fn find(section: Section, name: &str) -> Option<&'static Directive> {
    let at = TABLE.binary_search_by(|row| (row.section, row.name).cmp(&(section, name))).ok()?;
    TABLE.get(at)
}

/// All names of a section, to look for the one that was meant.
pub fn names(section: Section) -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(move |row| row.section == section).map(|row| row.name)
}

/// The whole table, by section and name.
pub fn table() -> &'static [Directive] {
    TABLE
}

const fn row(section: Section, name: &'static str, support: Support) -> Directive {
    Directive { section, name, support }
}

const SANDBOX: Support = Ignored("the service runs without this protection");
const RESOURCE: Support = Ignored("the service runs without this limit");
const SCHEDULING: Support = Ignored("the service runs with the default");
const CREDENTIALS: Support = Refused("credentials are not supported");
const NO_MANAGER: Support = Implied("there is no enabling: profiles and [X-MMOS] Start= decide what runs");
const CONDITION: Support = Ignored("the unit is started as if the condition held");
const ROOT: Support = Refused("the service would run in another root than its own");
const JOB: Support = Ignored("jobs are bounded by the unit's own timeouts");
const LOGGING: Support = Ignored("output is kept per unit, in a bounded log");
const DOCS: Support = Implied("for people");

// Sorted by section (in the order of the enum) and name: a test sees to it.
#[rustfmt::skip]
static TABLE: &[Directive] = &[
    row(Unit, "After", Yes(Key::After)),
    row(Unit, "AllowIsolate", Implied("there is no isolating")),
    row(Unit, "AssertACPower", CONDITION),
    row(Unit, "AssertArchitecture", CONDITION),
    row(Unit, "AssertCapability", CONDITION),
    row(Unit, "AssertDirectoryNotEmpty", CONDITION),
    row(Unit, "AssertEnvironment", CONDITION),
    row(Unit, "AssertFileIsExecutable", CONDITION),
    row(Unit, "AssertFileNotEmpty", CONDITION),
    row(Unit, "AssertKernelCommandLine", CONDITION),
    row(Unit, "AssertPathExists", CONDITION),
    row(Unit, "AssertPathIsDirectory", CONDITION),
    row(Unit, "AssertPathIsMountPoint", CONDITION),
    row(Unit, "AssertPathIsReadWrite", CONDITION),
    row(Unit, "AssertVirtualization", CONDITION),
    row(Unit, "Before", Yes(Key::Before)),
    row(Unit, "BindsTo", Partly(Key::Requires, "it is taken as Requires=: the unit goes on when the other one ends by itself")),
    row(Unit, "CollectMode", Implied("units are never unloaded")),
    row(Unit, "ConditionACPower", CONDITION),
    row(Unit, "ConditionArchitecture", CONDITION),
    row(Unit, "ConditionCPUFeature", CONDITION),
    row(Unit, "ConditionCPUs", CONDITION),
    row(Unit, "ConditionCapability", CONDITION),
    row(Unit, "ConditionControlGroupController", CONDITION),
    row(Unit, "ConditionCredential", CONDITION),
    row(Unit, "ConditionDirectoryNotEmpty", CONDITION),
    row(Unit, "ConditionEnvironment", CONDITION),
    row(Unit, "ConditionFileIsExecutable", CONDITION),
    row(Unit, "ConditionFileNotEmpty", CONDITION),
    row(Unit, "ConditionFirmware", CONDITION),
    row(Unit, "ConditionFirstBoot", CONDITION),
    row(Unit, "ConditionGroup", CONDITION),
    row(Unit, "ConditionHost", CONDITION),
    row(Unit, "ConditionKernelCommandLine", CONDITION),
    row(Unit, "ConditionKernelModuleLoaded", CONDITION),
    row(Unit, "ConditionKernelVersion", CONDITION),
    row(Unit, "ConditionMemory", CONDITION),
    row(Unit, "ConditionNeedsUpdate", CONDITION),
    row(Unit, "ConditionOSRelease", CONDITION),
    row(Unit, "ConditionPathExists", CONDITION),
    row(Unit, "ConditionPathExistsGlob", CONDITION),
    row(Unit, "ConditionPathIsDirectory", CONDITION),
    row(Unit, "ConditionPathIsEncrypted", CONDITION),
    row(Unit, "ConditionPathIsMountPoint", CONDITION),
    row(Unit, "ConditionPathIsReadWrite", CONDITION),
    row(Unit, "ConditionPathIsSymbolicLink", CONDITION),
    row(Unit, "ConditionSecurity", CONDITION),
    row(Unit, "ConditionUser", CONDITION),
    row(Unit, "ConditionVersion", CONDITION),
    row(Unit, "ConditionVirtualization", CONDITION),
    row(Unit, "Conflicts", Ignored("the units may run at the same time")),
    row(Unit, "DefaultDependencies", Implied("there are no default dependencies")),
    row(Unit, "Description", Yes(Key::Description)),
    row(Unit, "Documentation", DOCS),
    row(Unit, "FailureAction", Ignored("a failure is reported, and nothing else done")),
    row(Unit, "FailureActionExitStatus", Ignored("a failure is reported, and nothing else done")),
    row(Unit, "IgnoreOnIsolate", Implied("there is no isolating")),
    row(Unit, "JobRunningTimeoutSec", JOB),
    row(Unit, "JobTimeoutAction", JOB),
    row(Unit, "JobTimeoutSec", JOB),
    row(Unit, "JoinsNamespaceOf", Implied("namespaces are not supported")),
    row(Unit, "OnFailure", Ignored("the other unit is not started")),
    row(Unit, "OnFailureJobMode", Ignored("the other unit is not started")),
    row(Unit, "OnSuccess", Ignored("the other unit is not started")),
    row(Unit, "OnSuccessJobMode", Ignored("the other unit is not started")),
    row(Unit, "PartOf", Ignored("stopping the other unit does not stop this one")),
    row(Unit, "PropagatesReloadTo", Implied("there is no reloading")),
    row(Unit, "PropagatesStopTo", Ignored("stopping this unit does not stop the other one")),
    row(Unit, "RefuseManualStart", Implied("root may start and stop all units")),
    row(Unit, "RefuseManualStop", Implied("root may start and stop all units")),
    row(Unit, "ReloadPropagatedFrom", Implied("there is no reloading")),
    row(Unit, "RequiredBy", Ignored("write Requires= into the other unit")),
    row(Unit, "Requires", Yes(Key::Requires)),
    row(Unit, "RequiresMountsFor", Implied("everything is mounted before the supervisor starts")),
    row(Unit, "Requisite", Ignored("the unit is started whether the other one is up or not")),
    row(Unit, "SourcePath", DOCS),
    row(Unit, "StartLimitAction", Ignored("the limit is reported, and nothing else done")),
    row(Unit, "StartLimitBurst", Yes(Key::StartLimitBurst)),
    row(Unit, "StartLimitInterval", Yes(Key::StartLimitInterval)),
    row(Unit, "StartLimitIntervalSec", Yes(Key::StartLimitInterval)),
    row(Unit, "StopPropagatedFrom", Ignored("stopping the other unit does not stop this one")),
    row(Unit, "StopWhenUnneeded", Ignored("the unit runs until it is stopped")),
    row(Unit, "SuccessAction", Ignored("success is reported, and nothing else done")),
    row(Unit, "SuccessActionExitStatus", Ignored("success is reported, and nothing else done")),
    row(Unit, "SurviveFinalKillSignal", Ignored("all processes are ended at shutdown")),
    row(Unit, "Upholds", Ignored("the other unit is not kept running")),
    row(Unit, "Wants", Yes(Key::Wants)),
    row(Unit, "WantsMountsFor", Implied("everything is mounted before the supervisor starts")),
    row(Service, "AllowedCPUs", RESOURCE),
    row(Service, "AllowedMemoryNodes", RESOURCE),
    row(Service, "AmbientCapabilities", Refused("the service would lack the capabilities that it needs")),
    row(Service, "AppArmorProfile", SANDBOX),
    row(Service, "BPFProgram", SANDBOX),
    row(Service, "BindPaths", Refused("the service would not see the paths that it needs")),
    row(Service, "BindReadOnlyPaths", Refused("the service would not see the paths that it needs")),
    row(Service, "BlockIOAccounting", Implied("superseded by IOAccounting=")),
    row(Service, "BlockIOWeight", RESOURCE),
    row(Service, "BusName", Implied("matters to Type=dbus alone")),
    row(Service, "CPUAccounting", Implied("the kernel counts always")),
    row(Service, "CPUAffinity", SCHEDULING),
    row(Service, "CPUQuota", RESOURCE),
    row(Service, "CPUQuotaPeriodSec", RESOURCE),
    row(Service, "CPUSchedulingPolicy", SCHEDULING),
    row(Service, "CPUSchedulingPriority", SCHEDULING),
    row(Service, "CPUSchedulingResetOnFork", SCHEDULING),
    row(Service, "CPUShares", RESOURCE),
    row(Service, "CPUWeight", RESOURCE),
    row(Service, "CacheDirectory", Refused("the service would not find its directory")),
    row(Service, "CacheDirectoryMode", Implied("matters with CacheDirectory= alone")),
    row(Service, "CapabilityBoundingSet", SANDBOX),
    row(Service, "ConfigurationDirectory", Refused("the service would not find its directory")),
    row(Service, "ConfigurationDirectoryMode", Implied("matters with ConfigurationDirectory= alone")),
    row(Service, "CoredumpFilter", Ignored("the kernel's default holds")),
    row(Service, "CoredumpReceive", Implied("there are no containers")),
    row(Service, "DefaultMemoryLow", RESOURCE),
    row(Service, "DefaultMemoryMin", RESOURCE),
    row(Service, "Delegate", Ignored("the service's cgroup stays ours")),
    row(Service, "DelegateSubgroup", Ignored("the service's cgroup stays ours")),
    row(Service, "DeviceAllow", SANDBOX),
    row(Service, "DevicePolicy", SANDBOX),
    row(Service, "DisableControllers", Ignored("the controllers stay on")),
    row(Service, "DynamicUser", Refused("the service would run as root; name a User=")),
    row(Service, "Environment", Yes(Key::Environment)),
    row(Service, "EnvironmentFile", Yes(Key::EnvironmentFile)),
    row(Service, "ExecCondition", Refused("the condition would not be asked")),
    row(Service, "ExecPaths", SANDBOX),
    row(Service, "ExecReload", Implied("there is no reloading: nobody can ask for it")),
    row(Service, "ExecSearchPath", Ignored("commands are looked for in the usual directories")),
    row(Service, "ExecStart", Yes(Key::ExecStart)),
    row(Service, "ExecStartPost", Yes(Key::ExecStartPost)),
    row(Service, "ExecStartPre", Yes(Key::ExecStartPre)),
    row(Service, "ExecStop", Yes(Key::ExecStop)),
    row(Service, "ExecStopPost", Yes(Key::ExecStopPost)),
    row(Service, "ExitType", Ignored("a service ends with its main process")),
    row(Service, "ExtensionDirectories", ROOT),
    row(Service, "ExtensionImages", ROOT),
    row(Service, "FailureAction", Ignored("a failure is reported, and nothing else done")),
    row(Service, "FileDescriptorStoreMax", Ignored("the service keeps no descriptors across a restart")),
    row(Service, "FileDescriptorStorePreserve", Ignored("the service keeps no descriptors across a restart")),
    row(Service, "FinalKillSignal", Ignored("SIGKILL is used")),
    row(Service, "Group", Yes(Key::Group)),
    row(Service, "GuessMainPID", Implied("matters to Type=forking alone")),
    row(Service, "IOAccounting", Implied("the kernel counts always")),
    row(Service, "IODeviceLatencyTargetSec", RESOURCE),
    row(Service, "IODeviceWeight", RESOURCE),
    row(Service, "IOReadBandwidthMax", RESOURCE),
    row(Service, "IOReadIOPSMax", RESOURCE),
    row(Service, "IOSchedulingClass", SCHEDULING),
    row(Service, "IOSchedulingPriority", SCHEDULING),
    row(Service, "IOWeight", RESOURCE),
    row(Service, "IOWriteBandwidthMax", RESOURCE),
    row(Service, "IOWriteIOPSMax", RESOURCE),
    row(Service, "IPAccounting", Implied("nobody asks")),
    row(Service, "IPAddressAllow", SANDBOX),
    row(Service, "IPAddressDeny", SANDBOX),
    row(Service, "IPCNamespacePath", SANDBOX),
    row(Service, "IgnoreSIGPIPE", Yes(Key::IgnoreSigpipe)),
    row(Service, "ImportCredential", CREDENTIALS),
    row(Service, "InaccessiblePaths", SANDBOX),
    row(Service, "KeyringMode", SANDBOX),
    row(Service, "KillMode", Yes(Key::KillMode)),
    row(Service, "KillSignal", Yes(Key::KillSignal)),
    row(Service, "LimitAS", Yes(Key::Limit(Resource::As))),
    row(Service, "LimitCORE", Yes(Key::Limit(Resource::Core))),
    row(Service, "LimitCPU", Yes(Key::Limit(Resource::Cpu))),
    row(Service, "LimitDATA", Yes(Key::Limit(Resource::Data))),
    row(Service, "LimitFSIZE", Yes(Key::Limit(Resource::Fsize))),
    row(Service, "LimitLOCKS", Yes(Key::Limit(Resource::Locks))),
    row(Service, "LimitMEMLOCK", Yes(Key::Limit(Resource::Memlock))),
    row(Service, "LimitMSGQUEUE", Yes(Key::Limit(Resource::Msgqueue))),
    row(Service, "LimitNICE", Yes(Key::Limit(Resource::Nice))),
    row(Service, "LimitNOFILE", Yes(Key::Limit(Resource::Nofile))),
    row(Service, "LimitNPROC", Yes(Key::Limit(Resource::Nproc))),
    row(Service, "LimitRSS", Yes(Key::Limit(Resource::Rss))),
    row(Service, "LimitRTPRIO", Yes(Key::Limit(Resource::Rtprio))),
    row(Service, "LimitRTTIME", Yes(Key::Limit(Resource::Rttime))),
    row(Service, "LimitSIGPENDING", Yes(Key::Limit(Resource::Sigpending))),
    row(Service, "LimitSTACK", Yes(Key::Limit(Resource::Stack))),
    row(Service, "LoadCredential", CREDENTIALS),
    row(Service, "LoadCredentialEncrypted", CREDENTIALS),
    row(Service, "LockPersonality", SANDBOX),
    row(Service, "LogExtraFields", LOGGING),
    row(Service, "LogFilterPatterns", LOGGING),
    row(Service, "LogLevelMax", LOGGING),
    row(Service, "LogNamespace", LOGGING),
    row(Service, "LogRateLimitBurst", LOGGING),
    row(Service, "LogRateLimitIntervalSec", LOGGING),
    row(Service, "LogsDirectory", Refused("the service would not find its directory")),
    row(Service, "LogsDirectoryMode", Implied("matters with LogsDirectory= alone")),
    row(Service, "ManagedOOMMemoryPressure", Ignored("the kernel decides which process to end")),
    row(Service, "ManagedOOMMemoryPressureLimit", Ignored("the kernel decides which process to end")),
    row(Service, "ManagedOOMPreference", Ignored("the kernel decides which process to end")),
    row(Service, "ManagedOOMSwap", Ignored("the kernel decides which process to end")),
    row(Service, "MemoryAccounting", Implied("the kernel counts always")),
    row(Service, "MemoryDenyWriteExecute", SANDBOX),
    row(Service, "MemoryHigh", RESOURCE),
    row(Service, "MemoryKSM", SCHEDULING),
    row(Service, "MemoryLimit", RESOURCE),
    row(Service, "MemoryLow", RESOURCE),
    row(Service, "MemoryMax", RESOURCE),
    row(Service, "MemoryMin", RESOURCE),
    row(Service, "MemoryPressureThresholdSec", Ignored("memory pressure is not watched")),
    row(Service, "MemoryPressureWatch", Ignored("memory pressure is not watched")),
    row(Service, "MemorySwapMax", RESOURCE),
    row(Service, "MemoryZSwapMax", RESOURCE),
    row(Service, "MemoryZSwapWriteback", RESOURCE),
    row(Service, "MountAPIVFS", SANDBOX),
    row(Service, "MountFlags", SANDBOX),
    row(Service, "MountImages", ROOT),
    row(Service, "NFTSet", SANDBOX),
    row(Service, "NUMAMask", SCHEDULING),
    row(Service, "NUMAPolicy", SCHEDULING),
    row(Service, "NetworkNamespacePath", SANDBOX),
    row(Service, "Nice", Yes(Key::Nice)),
    row(Service, "NoExecPaths", SANDBOX),
    row(Service, "NoNewPrivileges", SANDBOX),
    row(Service, "NonBlocking", Implied("matters with sockets alone")),
    row(Service, "NotifyAccess", Yes(Key::NotifyAccess)),
    row(Service, "OOMPolicy", Ignored("the kernel ends one process, and the unit follows its main process")),
    row(Service, "OOMScoreAdjust", Yes(Key::OomScoreAdjust)),
    row(Service, "OpenFile", Refused("the service would lack the descriptor that it needs")),
    row(Service, "PAMName", Ignored("no session is opened")),
    row(Service, "PIDFile", Implied("matters to Type=forking alone")),
    row(Service, "PassEnvironment", Ignored("nothing is passed on: the supervisor has no environment of its own")),
    row(Service, "PermissionsStartOnly", Ignored("write + before the commands that need root")),
    row(Service, "Personality", SCHEDULING),
    row(Service, "PrivateBPF", SANDBOX),
    row(Service, "PrivateDevices", SANDBOX),
    row(Service, "PrivateIPC", SANDBOX),
    row(Service, "PrivateMounts", SANDBOX),
    row(Service, "PrivateNetwork", SANDBOX),
    row(Service, "PrivatePIDs", SANDBOX),
    row(Service, "PrivateTmp", SANDBOX),
    row(Service, "PrivateUsers", SANDBOX),
    row(Service, "ProcSubset", SANDBOX),
    row(Service, "ProtectClock", SANDBOX),
    row(Service, "ProtectControlGroups", SANDBOX),
    row(Service, "ProtectHome", SANDBOX),
    row(Service, "ProtectHostname", SANDBOX),
    row(Service, "ProtectKernelLogs", SANDBOX),
    row(Service, "ProtectKernelModules", SANDBOX),
    row(Service, "ProtectKernelTunables", SANDBOX),
    row(Service, "ProtectProc", SANDBOX),
    row(Service, "ProtectSystem", SANDBOX),
    row(Service, "ReadOnlyPaths", SANDBOX),
    row(Service, "ReadWritePaths", Implied("matters with protections that are not applied alone")),
    row(Service, "ReloadSignal", Implied("there is no reloading")),
    row(Service, "RemainAfterExit", Yes(Key::RemainAfterExit)),
    row(Service, "RemoveIPC", Ignored("System V objects stay")),
    row(Service, "Restart", Yes(Key::Restart)),
    row(Service, "RestartForceExitStatus", Ignored("Restart= alone decides")),
    row(Service, "RestartKillSignal", Ignored("KillSignal= is used")),
    row(Service, "RestartMaxDelaySec", Yes(Key::RestartMaxDelaySec)),
    row(Service, "RestartMode", Implied("dependants wait for a unit that is started again")),
    row(Service, "RestartPreventExitStatus", Ignored("Restart= alone decides")),
    row(Service, "RestartSec", Yes(Key::RestartSec)),
    row(Service, "RestartSteps", Yes(Key::RestartSteps)),
    row(Service, "RestrictAddressFamilies", SANDBOX),
    row(Service, "RestrictFileSystems", SANDBOX),
    row(Service, "RestrictNamespaces", SANDBOX),
    row(Service, "RestrictNetworkInterfaces", SANDBOX),
    row(Service, "RestrictRealtime", SANDBOX),
    row(Service, "RestrictSUIDSGID", SANDBOX),
    row(Service, "RootDirectory", ROOT),
    row(Service, "RootDirectoryStartOnly", Implied("matters with RootDirectory= alone")),
    row(Service, "RootEphemeral", ROOT),
    row(Service, "RootHash", ROOT),
    row(Service, "RootImage", ROOT),
    row(Service, "RootImageOptions", Implied("matters with RootImage= alone")),
    row(Service, "RuntimeDirectory", Refused("the service would not find its directory")),
    row(Service, "RuntimeDirectoryMode", Implied("matters with RuntimeDirectory= alone")),
    row(Service, "RuntimeDirectoryPreserve", Implied("matters with RuntimeDirectory= alone")),
    row(Service, "RuntimeMaxSec", Ignored("the service may run for ever")),
    row(Service, "RuntimeRandomizedExtraSec", Ignored("the service may run for ever")),
    row(Service, "SELinuxContext", SANDBOX),
    row(Service, "SecureBits", SANDBOX),
    row(Service, "SendSIGHUP", Ignored("KillSignal= alone is sent")),
    row(Service, "SendSIGKILL", Ignored("what does not end within TimeoutStopSec= is killed")),
    row(Service, "SetCredential", CREDENTIALS),
    row(Service, "SetCredentialEncrypted", CREDENTIALS),
    row(Service, "SetLoginEnvironment", Implied("it is set with User=")),
    row(Service, "Slice", Implied("each service has its own cgroup under one parent")),
    row(Service, "SmackProcessLabel", SANDBOX),
    row(Service, "SocketBindAllow", SANDBOX),
    row(Service, "SocketBindDeny", SANDBOX),
    row(Service, "Sockets", Refused("the service would lack its sockets")),
    row(Service, "StandardError", Yes(Key::StandardError)),
    row(Service, "StandardInput", Yes(Key::StandardInput)),
    row(Service, "StandardInputData", Refused("the service would lack its input")),
    row(Service, "StandardInputText", Refused("the service would lack its input")),
    row(Service, "StandardOutput", Yes(Key::StandardOutput)),
    row(Service, "StartLimitBurst", Yes(Key::StartLimitBurst)),
    row(Service, "StartLimitInterval", Yes(Key::StartLimitInterval)),
    row(Service, "StartupAllowedCPUs", RESOURCE),
    row(Service, "StartupCPUWeight", RESOURCE),
    row(Service, "StartupIOWeight", RESOURCE),
    row(Service, "StateDirectory", Refused("the service would not find its directory")),
    row(Service, "StateDirectoryMode", Implied("matters with StateDirectory= alone")),
    row(Service, "SuccessExitStatus", Yes(Key::SuccessExitStatus)),
    row(Service, "SupplementaryGroups", Yes(Key::SupplementaryGroups)),
    row(Service, "SyslogFacility", LOGGING),
    row(Service, "SyslogIdentifier", LOGGING),
    row(Service, "SyslogLevel", LOGGING),
    row(Service, "SyslogLevelPrefix", LOGGING),
    row(Service, "SystemCallArchitectures", SANDBOX),
    row(Service, "SystemCallErrorNumber", SANDBOX),
    row(Service, "SystemCallFilter", SANDBOX),
    row(Service, "SystemCallLog", SANDBOX),
    row(Service, "TTYColumns", SCHEDULING),
    row(Service, "TTYPath", Yes(Key::TtyPath)),
    row(Service, "TTYReset", Ignored("the terminal is used as it is")),
    row(Service, "TTYRows", SCHEDULING),
    row(Service, "TTYVHangup", Ignored("the terminal is used as it is")),
    row(Service, "TTYVTDisallocate", Ignored("the terminal is used as it is")),
    row(Service, "TasksAccounting", Implied("the kernel counts always")),
    row(Service, "TasksMax", RESOURCE),
    row(Service, "TemporaryFileSystem", SANDBOX),
    row(Service, "TimeoutAbortSec", Ignored("TimeoutStopSec= is used")),
    row(Service, "TimeoutCleanSec", Implied("there is no cleaning")),
    row(Service, "TimeoutSec", Yes(Key::TimeoutSec)),
    row(Service, "TimeoutStartFailureMode", Ignored("a late start is ended with KillSignal=")),
    row(Service, "TimeoutStartSec", Yes(Key::TimeoutStartSec)),
    row(Service, "TimeoutStopFailureMode", Ignored("a late stop is ended with SIGKILL")),
    row(Service, "TimeoutStopSec", Yes(Key::TimeoutStopSec)),
    row(Service, "TimerSlackNSec", SCHEDULING),
    row(Service, "Type", Yes(Key::Type)),
    row(Service, "UMask", Yes(Key::UMask)),
    row(Service, "USBFunctionDescriptors", Refused("the service would lack its USB function")),
    row(Service, "USBFunctionStrings", Refused("the service would lack its USB function")),
    row(Service, "UnsetEnvironment", Ignored("the variables stay set")),
    row(Service, "User", Yes(Key::User)),
    row(Service, "UtmpIdentifier", Implied("there is no utmp")),
    row(Service, "UtmpMode", Implied("there is no utmp")),
    row(Service, "WatchdogSec", Ignored("a service that hangs is not noticed")),
    row(Service, "WatchdogSignal", Ignored("a service that hangs is not noticed")),
    row(Service, "WorkingDirectory", Yes(Key::WorkingDirectory)),
    row(Install, "Alias", NO_MANAGER),
    row(Install, "Also", NO_MANAGER),
    row(Install, "DefaultInstance", NO_MANAGER),
    row(Install, "RequiredBy", NO_MANAGER),
    row(Install, "UpheldBy", NO_MANAGER),
    row(Install, "WantedBy", NO_MANAGER),
    row(Mmos, "Start", Yes(Key::Start)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_each_directive_once() {
        for pair in TABLE.windows(2) {
            let [a, b] = pair else { panic!() };
            assert!((a.section, a.name) < (b.section, b.name), "{} does not belong before {}", a.name, b.name);
        }
    }

    #[test]
    fn a_directive_is_found_in_its_own_section_alone() {
        assert!(matches!(find(Section::Service, "ExecStart").unwrap().support, Support::Yes(Key::ExecStart)));
        assert!(find(Section::Unit, "ExecStart").is_none());
        assert!(find(Section::Service, "ExecStrat").is_none());
    }
}
