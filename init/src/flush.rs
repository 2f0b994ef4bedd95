//! Before a machine ends: what storage has still to take, and the end of its file systems. Both in a thread with a
//! deadline: PID 1 must never wait for a medium that does not answer.

use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};

/// A medium that does not answer shall not hold the machine for longer than this.
const FLUSH: Duration = Duration::from_secs(20);

/// Flushes and unmounts, in a thread, so that a medium that does not answer cannot hold us.
pub fn all() {
    let (done, wait) = std::sync::mpsc::channel();
    let work = move || {
        rustix::fs::sync();
        unmount_all(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        let _ = done.send(());
    };
    let started = std::thread::Builder::new().spawn(work).is_ok();
    if started && wait.recv_timeout(FLUSH).is_err() {
        log::error!("storage did not take all data within {} s; going on without", FLUSH.as_secs());
    }
}

/// File systems in memory or of the kernel: nothing of them is kept, and some are needed to the end.
const VOLATILE: &[&str] = &[
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "mqueue",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

fn unmount_all(mountinfo: &str) {
    // What was mounted last goes first: it may be inside of another.
    for target in persistent(mountinfo).into_iter().rev() {
        if rustix::mount::unmount(target.as_str(), UnmountFlags::empty()).is_ok() {
            continue;
        }
        // Still in use: at least nothing more is to be written.
        if let Err(errno) = rustix::mount::mount_remount(target.as_str(), MountFlags::RDONLY, c"") {
            log::warn!("{target} can be neither unmounted nor made read-only: {errno}");
        }
    }
}

/// The mount points of file systems that keep something, in the order in which they were mounted
/// (`/proc/self/mountinfo`, [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html)).
fn persistent(mountinfo: &str) -> Vec<String> {
    let mount_point = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let kind = source.split(' ').next()?;
        let target = mount.split(' ').nth(4)?;
        (!VOLATILE.contains(&kind)).then(|| unescape(target))
    };
    mountinfo.lines().filter_map(mount_point).collect()
}

/// Blanks and backslashes are written as three octal digits there.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_keeps_data_is_unmounted() {
        let text = "21 1 0:20 / / rw - tmpfs tmpfs rw\n22 21 254:1 / /mnt/a\\040b rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                    23 21 0:4 / /proc rw - proc proc rw\n24 22 254:2 / /mnt/a\\040b/c ro - vfat /dev/vda2 ro\nrubbish\n";
        assert_eq!(persistent(text), ["/mnt/a b", "/mnt/a b/c"]);
    }
}
