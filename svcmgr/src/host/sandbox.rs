//! What a sandbox means for what a service sees of the file system: a list of places, each with what becomes of it, made
//! before the process is. systemd.exec(5), "Paths" and "Sandboxing", says what each setting does to which paths.

use std::fs;
use std::path::Path;

use super::places::{Places, c_string, real};
use super::sys::mounts::attribute::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use super::sys::mounts::{MountPlan, What};
use crate::unit::sandbox::{PathSpec, ProtectHome, ProtectProc, ProtectSystem, Sandbox};

/// Folders that a service finds of its own: made and kept by [`super::private`].
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// Beneath which its private folders are: `tmp`, `var-tmp`.
    pub private: String,
    /// Where what nobody may see is replaced by: `dir`, `file`; and `dev`, the private devices.
    pub shared: String,
    /// What is to be written even where all else is read-only: the directories of the unit.
    pub writable: Vec<String>,
    /// Directories of the unit that are elsewhere than where the service looks: where they are, and where it looks.
    pub shown: Vec<(String, String)>,
    /// Directories of a dynamic user: beside them nothing is to be seen.
    pub hidden: Vec<String>,
}

/// The plan for a sandbox, or `None` if the service sees what all see.
///
/// # Errors
/// In words, when a path holds what no path can.
pub fn plan(sandbox: &Sandbox, folders: &Folders) -> Result<Option<MountPlan>, String> {
    if !sandbox.needs_mounts() && folders.shown.is_empty() && folders.hidden.is_empty() {
        return Ok(None);
    }
    let root = match &sandbox.root_directory {
        None => String::new(),
        Some(root) if Path::new(&root.path).is_dir() => real(&root.path),
        Some(root) if root.optional => String::new(),
        Some(root) => return Err(format!("RootDirectory={} is not a directory", root.path)),
    };
    let root = root.as_str();
    let mut places = Places::new(root);
    if !root.is_empty() {
        places.add("", What::Copy { source: c_string(root)?, recursive: true }, 0, 0, false)?;
        if sandbox.mount_api_vfs.unwrap_or(true) {
            for path in ["/proc", "/sys", "/dev", "/run"] {
                places.add(path, What::Copy { source: c_string(path)?, recursive: true }, 0, 0, true)?;
            }
        }
    }
    system(sandbox, &mut places)?;
    home(sandbox, folders, &mut places)?;
    kernel(sandbox, folders, &mut places)?;
    if sandbox.private_devices {
        devices(folders, &mut places)?;
    }
    if sandbox.private_tmp {
        for (path, own) in [("/tmp", "tmp"), ("/var/tmp", "var-tmp")] {
            let source = c_string(&format!("{}/{own}", folders.private))?;
            places.add(path, What::Copy { source, recursive: false }, NO_SUID | NO_DEV, 0, true)?;
        }
    }
    for (path, options) in &sandbox.temporary_file_systems {
        places.tmpfs(path, options)?;
    }
    named(sandbox, folders, &mut places)?;
    for path in &folders.hidden {
        let above = path.rsplit_once("/private/").map_or(path.as_str(), |(base, _)| base);
        let private = format!("{above}/private");
        if !places.has(&private) {
            places.tmpfs(&private, "")?;
        }
        places.bind(path, path, true, false, false)?;
    }
    for path in folders.writable.iter().filter(|path| !folders.hidden.contains(path)) {
        places.writable(path)?;
    }
    for (source, target) in &folders.shown {
        places.bind(source, target, true, false, false)?;
    }
    for bind in &sandbox.bind_paths {
        places.bind(&bind.source, &bind.target, bind.recursive, bind.read_only, bind.optional)?;
    }
    let root = if root.is_empty() { None } else { Some(c_string(root)?) };
    Ok(Some(MountPlan { places: places.in_order(), root }))
}

/// `ProtectSystem=`.
fn system(sandbox: &Sandbox, places: &mut Places<'_>) -> Result<(), String> {
    if sandbox.protect_system == ProtectSystem::Strict {
        places.add("/", What::Same, READ_ONLY, 0, false)?;
        // These have settings of their own.
        for path in ["/dev", "/proc", "/sys"] {
            places.writable(path)?;
        }
        return Ok(());
    }
    if sandbox.protect_system >= ProtectSystem::Yes {
        for path in ["/usr", "/boot", "/efi"] {
            places.read_only(path)?;
        }
        // In most systems these are links into /usr.
        for path in ["/bin", "/sbin", "/lib", "/lib64"] {
            if fs::symlink_metadata(format!("{}{path}", places.root())).is_ok_and(|found| found.is_dir()) {
                places.read_only(path)?;
            }
        }
    }
    if sandbox.protect_system == ProtectSystem::Full {
        places.read_only("/etc")?;
    }
    Ok(())
}

/// `ProtectHome=`.
fn home(sandbox: &Sandbox, folders: &Folders, places: &mut Places<'_>) -> Result<(), String> {
    for path in ["/home", "/root", "/run/user"] {
        match sandbox.protect_home {
            ProtectHome::No => {}
            ProtectHome::Yes => places.inaccessible(path, folders, true)?,
            ProtectHome::ReadOnly => places.read_only(path)?,
            ProtectHome::Tmpfs if Path::new(path).is_dir() => places.tmpfs(path, "mode=0755,ro")?,
            ProtectHome::Tmpfs => {}
        }
    }
    Ok(())
}

/// The protections of what the kernel shows of itself.
fn kernel(sandbox: &Sandbox, folders: &Folders, places: &mut Places<'_>) -> Result<(), String> {
    if sandbox.protect_proc != ProtectProc::Default || sandbox.proc_pid_only {
        let mut options = Vec::new();
        match sandbox.protect_proc {
            ProtectProc::Default => {}
            ProtectProc::NoAccess => options.push("hidepid=noaccess"),
            ProtectProc::Invisible => options.push("hidepid=invisible"),
            ProtectProc::Ptraceable => options.push("hidepid=ptraceable"),
        }
        if sandbox.proc_pid_only {
            options.push("subset=pid");
        }
        places.add("/proc", What::Kernel(c_string("proc")?, c_string(&options.join(","))?), 0, 0, false)?;
    }
    if sandbox.protect_kernel_tunables {
        for path in [
            "/proc/acpi",
            "/proc/apm",
            "/proc/asound",
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/latency_stats",
            "/proc/mtrr",
            "/proc/scsi",
            "/proc/sys",
            "/proc/sysrq-trigger",
            "/proc/timer_stats",
            "/sys",
        ] {
            places.read_only(path)?;
        }
        for path in ["/proc/kallsyms", "/proc/kcore"] {
            places.inaccessible(path, folders, true)?;
        }
        if !sandbox.protect_control_groups {
            places.writable("/sys/fs/cgroup")?;
        }
    }
    if sandbox.protect_kernel_modules {
        for path in ["/lib/modules", "/usr/lib/modules"] {
            places.inaccessible(path, folders, true)?;
        }
    }
    if sandbox.protect_kernel_logs {
        for path in ["/proc/kmsg", "/dev/kmsg"] {
            places.inaccessible(path, folders, true)?;
        }
    }
    if sandbox.protect_control_groups {
        places.read_only("/sys/fs/cgroup")?;
    }
    if sandbox.private_ipc {
        places.add("/dev/mqueue", What::Kernel(c_string("mqueue")?, c_string("")?), 0, 0, true)?;
    }
    Ok(())
}

/// `PrivateDevices=`: the few devices that every program may need, and what the host has mounted beside them.
fn devices(folders: &Folders, places: &mut Places<'_>) -> Result<(), String> {
    let source = c_string(&format!("{}/dev", folders.shared))?;
    // The nodes lie in a file system in which none can be opened otherwise.
    places.add("/dev", What::Copy { source, recursive: false }, READ_ONLY | NO_SUID | NO_EXEC, NO_DEV, false)?;
    for path in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages", "/dev/log"] {
        let set = if path == "/dev/pts" { NO_SUID | NO_EXEC } else { NO_SUID | NO_EXEC | NO_DEV };
        places.add(path, What::Copy { source: c_string(path)?, recursive: true }, set, 0, true)?;
    }
    Ok(())
}

/// The paths that the unit names.
fn named(sandbox: &Sandbox, folders: &Folders, places: &mut Places<'_>) -> Result<(), String> {
    let at =
        |spec: &PathSpec, root: &str| if spec.in_root { format!("{root}{}", spec.path) } else { spec.path.clone() };
    let root = places.root().to_owned();
    for spec in &sandbox.inaccessible_paths {
        let path = at(spec, &root);
        // Outside of its root it sees nothing anyhow.
        if let Some(path) = path.strip_prefix(&root) {
            places.inaccessible(path, folders, spec.optional)?;
        }
    }
    for spec in &sandbox.read_only_paths {
        places.put(&at(spec, &root), What::Same, READ_ONLY, 0, spec.optional)?;
    }
    for spec in &sandbox.no_exec_paths {
        places.put(&at(spec, &root), What::Same, NO_EXEC, 0, spec.optional)?;
    }
    for spec in &sandbox.exec_paths {
        places.put(&at(spec, &root), What::Same, 0, NO_EXEC, spec.optional)?;
    }
    for spec in &sandbox.read_write_paths {
        let path = at(spec, &root);
        let source = c_string(&real(&path))?;
        places.put(&path, What::Copy { source, recursive: true }, 0, 0, spec.optional)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Folders {
        Folders { private: "/run/p/x".into(), shared: "/run/p/.s".into(), ..Folders::default() }
    }

    fn targets(plan: &MountPlan) -> Vec<&str> {
        plan.places.iter().map(|place| place.target.to_str().unwrap()).collect()
    }

    fn spec(path: &str) -> PathSpec {
        PathSpec { path: path.into(), optional: true, in_root: false }
    }

    #[test]
    fn who_asks_for_nothing_sees_what_all_see() {
        assert_eq!(plan(&Sandbox::default(), &folders()).unwrap(), None);
        let network = Sandbox { private_network: true, ..Sandbox::default() };
        assert_eq!(plan(&network, &folders()).unwrap(), None);
    }

    #[test]
    fn what_is_beneath_comes_after_what_is_above() {
        let sandbox = Sandbox {
            protect_system: ProtectSystem::Strict,
            private_tmp: true,
            read_write_paths: vec![spec("/var/lib")],
            ..Sandbox::default()
        };
        let plan = plan(&sandbox, &Folders { writable: vec!["/var/lib/x".into()], ..folders() }).unwrap().unwrap();
        assert_eq!(targets(&plan), ["/", "/dev", "/proc", "/sys", "/tmp", "/var/lib", "/var/lib/x", "/var/tmp"]);
        let root = plan.places.first().unwrap();
        assert_eq!((&root.what, root.set), (&What::InPlace, READ_ONLY));
        // As it was, with its own attributes.
        assert!(plan.places.iter().skip(1).all(|place| place.set & READ_ONLY == 0), "{plan:?}");
    }

    #[test]
    fn attributes_of_one_place_are_added_up() {
        let sandbox = Sandbox {
            read_only_paths: vec![spec("/usr")],
            no_exec_paths: vec![spec("/usr"), spec("/")],
            ..Sandbox::default()
        };
        let plan = plan(&sandbox, &folders()).unwrap().unwrap();
        assert_eq!(targets(&plan), ["/", "/usr"]);
        let sets: Vec<u64> = plan.places.iter().map(|place| place.set).collect();
        assert_eq!(sets, [NO_EXEC, READ_ONLY | NO_EXEC]);
    }

    #[test]
    fn a_place_in_an_empty_folder_is_made() {
        let sandbox = Sandbox {
            temporary_file_systems: vec![("/var".into(), "ro,size=1m".into())],
            bind_paths: vec![crate::unit::sandbox::BindPath {
                source: "/etc/passwd".into(),
                target: "/var/a/b".into(),
                optional: false,
                recursive: true,
                read_only: true,
            }],
            ..Sandbox::default()
        };
        let plan = plan(&sandbox, &folders()).unwrap().unwrap();
        assert_eq!(targets(&plan), ["/var", "/var/a/b"]);
        assert_eq!(plan.places[0].what, What::Tmpfs(c"mode=0755,size=1m".to_owned()));
        assert_eq!(plan.places[1].make, Some((vec![c"/var/a".to_owned()], true)));
    }

    #[test]
    fn a_root_that_is_not_there_is_named() {
        let sandbox = Sandbox {
            root_directory: Some(PathSpec { path: "/no/such/root".into(), optional: false, in_root: false }),
            ..Sandbox::default()
        };
        assert_eq!(plan(&sandbox, &folders()).unwrap_err(), "RootDirectory=/no/such/root is not a directory");
    }
}
