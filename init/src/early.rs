//! Step 1: the file systems of the kernel, and what programs expect in `/dev`. Both stages do it; what is mounted
//! already stays.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, makedev};
use rustix::io::Errno;
use rustix::mount::MountFlags;

/// One of the mounts.
struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static std::ffi::CStr,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

const MOUNTS: &[Mount] = &[
    Mount { kind: "proc", target: "/proc", flags: SAFE.union(MountFlags::NOEXEC), options: c"" },
    Mount { kind: "sysfs", target: "/sys", flags: SAFE.union(MountFlags::NOEXEC), options: c"" },
    Mount { kind: "devtmpfs", target: "/dev", flags: MountFlags::NOSUID, options: c"mode=0755" },
    // Bounded, so that whoever fills it does not fill the memory; and what the supervisor writes down, logs with it, has
    // room of its own, however full the other is.
    Mount { kind: "tmpfs", target: "/run", flags: SAFE, options: c"mode=0755,size=20%" },
    Mount {
        kind: "tmpfs",
        target: link::paths::RUN,
        flags: SAFE.union(MountFlags::NOEXEC),
        options: c"mode=0755,size=10%",
    },
    Mount { kind: "tmpfs", target: "/tmp", flags: SAFE, options: c"mode=1777" },
];

/// What step 8 takes along into the new root.
pub const MOVED: &[&str] = &["/proc", "/sys", "/dev", "/run"];

/// Device nodes without which nothing works, should this kernel have no devtmpfs
/// (`Documentation/admin-guide/devices.txt`).
const NODES: &[(&str, u32, u32)] =
    &[("/dev/console", 5, 1), ("/dev/null", 1, 3), ("/dev/kmsg", 1, 11), ("/dev/ttyS0", 4, 64)];

/// Links that devtmpfs does not make and that shells rely on (`/dev/fd/N` of `<(…)`).
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts all of it, as far as it goes; what did not go is returned, since no log exists before.
pub fn mount_all() -> Vec<String> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut warnings = Vec::new();
    for mount in MOUNTS {
        if is_mount_point(mount.target) {
            continue;
        }
        if let Err(errno) = make_and_mount(mount) {
            warnings.push(format!("{} cannot be mounted on {}: {errno}", mount.kind, mount.target));
        }
    }
    for (path, major, minor) in NODES {
        if !Path::new(path).exists() {
            // Fails on a read-only /dev, or where devtmpfs simply has no such device; the console is asked for later.
            let _ = rustix::fs::mknodat(
                rustix::fs::CWD,
                *path,
                FileType::CharacterDevice,
                Mode::from_raw_mode(0o600),
                makedev(*major, *minor),
            );
        }
    }
    for (target, link) in LINKS {
        let _ = std::os::unix::fs::symlink(target, link);
    }
    warnings
}

/// Mounts file system `kind` on `target`, which is made where it is missing.
pub fn mount(kind: &str, target: &str, flags: MountFlags, options: &std::ffi::CStr) -> Result<(), Errno> {
    let _ = std::fs::create_dir(target);
    match rustix::mount::mount(kind, target, kind, flags, options) {
        // The same file system is there already.
        Err(Errno::BUSY) => Ok(()),
        other => other,
    }
}

fn make_and_mount(m: &Mount) -> Result<(), Errno> {
    match mount(m.kind, m.target, m.flags, m.options) {
        Err(Errno::NODEV) if m.kind == "devtmpfs" => mount("tmpfs", m.target, m.flags, m.options),
        other => other,
    }
}

/// Whether something is mounted on `path`: its device is not that of the folder above it.
pub fn is_mount_point(path: &str) -> bool {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|found| found.dev());
    let path = Path::new(path);
    match (device(path), path.parent().map(device)) {
        (Ok(own), Some(Ok(above))) => own != above,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_told_from_a_folder() {
        assert!(is_mount_point("/proc"));
        assert!(!is_mount_point("/proc/self"));
        assert!(!is_mount_point("/nonexistent"));
        assert!(!is_mount_point("/etc"));
    }

    #[test]
    fn all_that_is_moved_was_mounted() {
        for moved in MOVED {
            assert!(MOUNTS.iter().any(|mount| mount.target == *moved));
        }
    }

    #[test]
    fn a_mount_comes_after_the_one_that_it_is_in() {
        for (n, mount) in MOUNTS.iter().enumerate() {
            let is_inside = |other: &&Mount| Path::new(other.target).starts_with(mount.target);
            assert_eq!(MOUNTS[..n].iter().filter(is_inside).count(), 0, "{}", mount.target);
        }
    }
}
