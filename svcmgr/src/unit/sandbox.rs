//! What a service is kept from, as data: systemd.exec(5), "Sandboxing", "Capabilities", "Security", "System Call
//! Filtering". What each setting means for mounts, capabilities and system calls is in [`crate::host::sandbox`].

use std::collections::BTreeMap;

use super::capability::Capabilities;
use super::directive::Switch;

/// A path that a setting names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathSpec {
    /// Absolute.
    pub path: String,
    /// `-`: it may be missing.
    pub optional: bool,
    /// `+`: beneath `RootDirectory=`.
    pub in_root: bool,
}

/// `BindPaths=` and `BindReadOnlyPaths=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindPath {
    /// What is to be seen, on the host.
    pub source: String,
    /// Where, in the service's root.
    pub target: String,
    /// The source may be missing.
    pub optional: bool,
    /// With what is mounted beneath it.
    pub recursive: bool,
    /// It cannot be written.
    pub read_only: bool,
}

/// `ProtectSystem=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[expect(missing_docs, reason = "each is the setting of its own name")]
pub enum ProtectSystem {
    #[default]
    No,
    Yes,
    Full,
    Strict,
}

/// `ProtectHome=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is the setting of its own name")]
pub enum ProtectHome {
    #[default]
    No,
    Yes,
    ReadOnly,
    Tmpfs,
}

/// `ProtectProc=`: what the service sees of others' processes; the word that `hidepid=` has for it, proc(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is the setting of its own name")]
pub enum ProtectProc {
    #[default]
    Default,
    NoAccess,
    Invisible,
    Ptraceable,
}

/// What the filter does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes through.
    Allow,
    /// It ends the process with SIGSYS.
    Kill,
    /// It fails with this error.
    Error(u16),
}

/// `SystemCallFilter=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFilter {
    /// The calls are those that are allowed; otherwise those that are not.
    pub is_allow_list: bool,
    /// The calls, by number; each with an error of its own, if it has one.
    pub calls: BTreeMap<u32, Option<u16>>,
}

/// `RestrictAddressFamilies=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressFamilies {
    /// The families are those that are allowed; otherwise those that are not.
    pub is_allow_list: bool,
    /// The families' numbers.
    pub families: Vec<u32>,
}

/// All that a service is kept from. The default is nothing.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the directive of its own name")]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct Sandbox {
    pub root_directory: Option<PathSpec>,
    pub mount_api_vfs: Option<bool>,
    pub private_tmp: bool,
    pub private_devices: bool,
    pub private_network: bool,
    pub private_ipc: bool,
    pub private_mounts: bool,
    pub private_users: bool,
    pub protect_system: ProtectSystem,
    pub protect_home: ProtectHome,
    pub protect_proc: ProtectProc,
    /// `ProcSubset=pid`.
    pub proc_pid_only: bool,
    pub protect_kernel_tunables: bool,
    pub protect_kernel_modules: bool,
    pub protect_kernel_logs: bool,
    pub protect_control_groups: bool,
    pub protect_clock: bool,
    pub protect_hostname: bool,
    pub read_write_paths: Vec<PathSpec>,
    pub read_only_paths: Vec<PathSpec>,
    pub inaccessible_paths: Vec<PathSpec>,
    pub exec_paths: Vec<PathSpec>,
    pub no_exec_paths: Vec<PathSpec>,
    /// Path, and the options of its tmpfs.
    pub temporary_file_systems: Vec<(String, String)>,
    pub bind_paths: Vec<BindPath>,
    pub no_new_privileges: bool,
    pub bounding: Capabilities,
    pub ambient: Capabilities,
    /// `SecureBits=`, as prctl(2) takes them.
    pub secure_bits: u32,
    /// The `CLONE_NEW…` flags of the namespaces that may not be made or joined.
    pub restrict_namespaces: u32,
    pub restrict_realtime: bool,
    pub restrict_suid_sgid: bool,
    pub restrict_address_families: Option<AddressFamilies>,
    pub lock_personality: bool,
    pub memory_deny_write_execute: bool,
    /// `SystemCallArchitectures=native`.
    pub native_only: bool,
    pub calls: Option<CallFilter>,
    /// `SystemCallErrorNumber=`; without it, a filtered call ends the process.
    pub call_error: Option<u16>,
}

impl Default for Sandbox {
    fn default() -> Sandbox {
        Sandbox {
            root_directory: None,
            mount_api_vfs: None,
            private_tmp: false,
            private_devices: false,
            private_network: false,
            private_ipc: false,
            private_mounts: false,
            private_users: false,
            protect_system: ProtectSystem::No,
            protect_home: ProtectHome::No,
            protect_proc: ProtectProc::Default,
            proc_pid_only: false,
            protect_kernel_tunables: false,
            protect_kernel_modules: false,
            protect_kernel_logs: false,
            protect_control_groups: false,
            protect_clock: false,
            protect_hostname: false,
            read_write_paths: Vec::new(),
            read_only_paths: Vec::new(),
            inaccessible_paths: Vec::new(),
            exec_paths: Vec::new(),
            no_exec_paths: Vec::new(),
            temporary_file_systems: Vec::new(),
            bind_paths: Vec::new(),
            no_new_privileges: false,
            bounding: Capabilities::ALL,
            ambient: Capabilities::NONE,
            secure_bits: 0,
            restrict_namespaces: 0,
            restrict_realtime: false,
            restrict_suid_sgid: false,
            restrict_address_families: None,
            lock_personality: false,
            memory_deny_write_execute: false,
            native_only: false,
            calls: None,
            call_error: None,
        }
    }
}

impl Sandbox {
    /// What a yes or no of the parser's table sets.
    pub fn switch(&mut self, switch: Switch) -> &mut bool {
        match switch {
            Switch::NoNewPrivileges => &mut self.no_new_privileges,
            Switch::PrivateTmp => &mut self.private_tmp,
            Switch::PrivateDevices => &mut self.private_devices,
            Switch::PrivateNetwork => &mut self.private_network,
            Switch::PrivateIpc => &mut self.private_ipc,
            Switch::PrivateMounts => &mut self.private_mounts,
            Switch::PrivateUsers => &mut self.private_users,
            Switch::ProtectKernelTunables => &mut self.protect_kernel_tunables,
            Switch::ProtectKernelModules => &mut self.protect_kernel_modules,
            Switch::ProtectKernelLogs => &mut self.protect_kernel_logs,
            Switch::ProtectControlGroups => &mut self.protect_control_groups,
            Switch::ProtectClock => &mut self.protect_clock,
            Switch::ProtectHostname => &mut self.protect_hostname,
            Switch::RestrictRealtime => &mut self.restrict_realtime,
            Switch::RestrictSuidSgid => &mut self.restrict_suid_sgid,
            Switch::LockPersonality => &mut self.lock_personality,
            Switch::MemoryDenyWriteExecute => &mut self.memory_deny_write_execute,
        }
    }

    /// Whether the service needs a view of the file system of its own.
    pub fn needs_mounts(&self) -> bool {
        self.root_directory.is_some()
            || self.private_tmp
            || self.private_devices
            || self.private_mounts
            || self.private_ipc
            || self.protect_system != ProtectSystem::No
            || self.protect_home != ProtectHome::No
            || self.protect_proc != ProtectProc::Default
            || self.proc_pid_only
            || self.protect_kernel_tunables
            || self.protect_kernel_modules
            || self.protect_kernel_logs
            || self.protect_control_groups
            || !self.temporary_file_systems.is_empty()
            || !self.bind_paths.is_empty()
            || [
                &self.read_write_paths,
                &self.read_only_paths,
                &self.inaccessible_paths,
                &self.exec_paths,
                &self.no_exec_paths,
            ]
            .iter()
            .any(|list| !list.is_empty())
    }
}
