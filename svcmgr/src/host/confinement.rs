//! All that a process is kept from, ready for the child: made of a [`Sandbox`] before the process is.

use super::restrictions;
use super::sandbox::{self, Folders};
use super::sys::SandboxPlan;
use super::sys::mounts::MountPlan;
use crate::unit::capability::Capabilities;
use crate::unit::sandbox::Sandbox;

/// What a process is kept from.
#[derive(Debug)]
pub struct Confinement {
    /// What it sees of the file system.
    pub mounts: Option<MountPlan>,
    namespaces: libc::c_int,
    private_users: bool,
    bounding: Capabilities,
    ambient: Capabilities,
    secure_bits: u32,
    no_new_privileges: bool,
    filters: Vec<Vec<libc::sock_filter>>,
}

impl Confinement {
    /// What the sandbox means; `None` if that is nothing.
    ///
    /// # Errors
    /// In words, for the unit's reason.
    pub fn new(sandbox: &Sandbox, folders: &Folders, is_ordinary: bool) -> Result<Option<Confinement>, String> {
        let mounts = sandbox::plan(sandbox, folders)?;
        let mut filters = Vec::new();
        for filter in restrictions::filters(sandbox) {
            let program = filter.program().ok_or("its filter of system calls is longer than the kernel takes")?;
            filters.push(program);
        }
        let namespaces = [
            (mounts.is_some(), libc::CLONE_NEWNS),
            (sandbox.private_network, libc::CLONE_NEWNET),
            (sandbox.private_ipc, libc::CLONE_NEWIPC),
            (sandbox.protect_hostname, libc::CLONE_NEWUTS),
        ];
        let namespaces = namespaces.into_iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag);
        let bounding = restrictions::bounding(sandbox);
        // systemd.exec(5): without CAP_SYS_ADMIN the kernel takes filters only from who can gain nothing any more.
        let admin = Capabilities::named("CAP_SYS_ADMIN").unwrap_or(Capabilities::ALL);
        let has_admin = !is_ordinary && bounding.holds(admin) || sandbox.ambient.holds(admin);
        let no_new_privileges = sandbox.no_new_privileges || (!filters.is_empty() && !has_admin);
        let confinement = Confinement {
            mounts,
            namespaces,
            private_users: sandbox.private_users,
            bounding,
            ambient: sandbox.ambient,
            secure_bits: sandbox.secure_bits,
            no_new_privileges,
            filters,
        };
        let is_nothing = confinement.namespaces == 0
            && !confinement.private_users
            && bounding == Capabilities::ALL
            && sandbox.ambient == Capabilities::NONE
            && sandbox.secure_bits == 0
            && !no_new_privileges
            && confinement.filters.is_empty();
        Ok((!is_nothing).then_some(confinement))
    }

    /// As the child takes it.
    pub fn plan(&self) -> SandboxPlan<'_> {
        SandboxPlan {
            namespaces: self.namespaces,
            mounts: self.mounts.as_ref(),
            private_users: self.private_users,
            bounding: self.bounding,
            ambient: self.ambient,
            secure_bits: self.secure_bits,
            no_new_privileges: self.no_new_privileges,
            filters: &self.filters,
        }
    }
}

/// The places of a plan, by number, to be named where one fails.
pub fn names_of(plan: &MountPlan) -> Vec<String> {
    plan.places.iter().map(|place| place.target.to_string_lossy().into_owned()).collect()
}
