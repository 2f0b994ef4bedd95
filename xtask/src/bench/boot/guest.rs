//! A guest that boots services, tells what was asked, and powers off.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::tree::Tree;

/// Longer than any init takes, on a machine that does other work, too. In seconds of this machine.
const PATIENCE: &str = "1200";
/// Services beyond which the guest gets more memory.
const FEW: usize = 100;

/// What to boot.
#[derive(Debug)]
pub struct Guest {
    kernel: PathBuf,
    folder: PathBuf,
    /// The root.
    pub tree: PathBuf,
    /// How many services.
    pub services: usize,
    /// Kernel parameters.
    pub parameters: Vec<String>,
    /// The initramfs, if it is not the tree.
    pub initramfs: Option<PathBuf>,
}

/// What the guest told.
#[derive(Debug, Default)]
pub struct Seen {
    /// When the kernel executed the init, in seconds since it started itself.
    pub init_started: Option<f64>,
    /// When stage 1 had made its root.
    pub root_in_place: Option<f64>,
    /// When each service wrote its line.
    pub ups: Vec<f64>,
    /// PID 1, and all processes that are no services.
    pub processes: Vec<Process>,
    console: String,
}

/// A process of the init, in KiB.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub rss: u64,
    pub anonymous: u64,
    pub private_clean: u64,
    pub private_dirty: u64,
}

impl Guest {
    pub fn new(kernel: PathBuf, folder: &Path, services: usize) -> Guest {
        // Every line of many services fits, and what reaches the console would take time there. The kernel's tests of
        // its ciphers go on beside the init, for longer than an init takes, and are no part of it.
        let parameters = "console=ttyS0 quiet loglevel=1 panic=-1 log_buf_len=8M cryptomgr.notests";
        let parameters = parameters.split(' ').map(str::to_owned);
        Guest {
            kernel,
            tree: folder.join("root"),
            folder: folder.to_owned(),
            services,
            parameters: parameters.collect(),
            initramfs: None,
        }
    }

    /// The root with busybox, the services' program, and the one that tells what was asked.
    pub fn base(&self) -> anyhow::Result<Tree> {
        let tree = Tree::new(self.tree.clone())?;
        tree.script("/bin/svc", SERVICE)?;
        tree.script("/bin/done", &done(self.services))?;
        Ok(tree)
    }

    /// Where something for this guest may be put on this machine.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Boots, and waits for the end. `seed` is what the guest's chance begins with.
    pub fn boot(&self, seed: u32) -> anyhow::Result<Seen> {
        let initramfs = match &self.initramfs {
            Some(path) => path.clone(),
            None => {
                let archive = self.folder.join("initramfs.cpio");
                Tree { path: self.tree.clone() }.archive(&archive)?;
                archive
            }
        };
        let memory = if self.services > FEW { "3072" } else { "512" };
        let mut command = Command::new("timeout");
        command.arg(PATIENCE).arg(vm::machine::QEMU);
        // Virtual time is what the kvm accelerator does not have.
        command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max", "-m", memory]);
        // What the guest takes for chance, such as where its programs lie, is the same each time, too.
        command.args(["-seed", &seed.to_string(), "-rtc", "base=2026-01-01,clock=vm"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(initramfs);
        command.args(["-append", &self.parameters.join(" ")]);
        let output = command.stdin(Stdio::null()).output().context("cannot run timeout and qemu-system-x86_64")?;
        let console = String::from_utf8_lossy(&output.stdout).into_owned();
        let console = format!("{console}{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(self.folder.join("console.txt"), &console)?;
        Ok(Seen::read(console))
    }
}

/// A service: says when it runs, and goes on for ever.
const SERVICE: &str = r#"#!/bin/busybox sh
echo "UP $1" > /dev/kmsg
exec /bin/busybox sleep 100000
"#;

/// Waits until all services have spoken, or none has for long; then tells of PID 1 and of all processes that are no
/// services, since these and this script are busybox.
fn done(services: usize) -> String {
    format!(
        r#"#!/bin/busybox sh
exec >/dev/console 2>&1
last=-1
calm=0
while :; do
    /bin/busybox sleep 2
    now=$(/bin/busybox dmesg | /bin/busybox grep -c '] UP [0-9]')
    [ "$now" -ge {services} ] && break
    if [ "$now" = "$last" ]; then calm=$((calm + 1)); else calm=0; fi
    [ $calm -ge 10 ] && break
    last=$now
done
# What came up last may yet be at work.
/bin/busybox sleep 2
for process in /proc/[0-9]*; do
    exe=$(/bin/busybox readlink $process/exe) || continue
    pid=${{process#/proc/}}
    case "$pid $exe" in 1\ *) ;; *busybox) continue ;; esac
    echo "@@process $pid $exe"
    /bin/busybox cat $process/smaps_rollup
done
/bin/busybox dmesg | /bin/busybox grep -E '] (Run /|UP [0-9]|init: root in place)'
echo @@done
/bin/busybox poweroff -f
"#
    )
}

impl Seen {
    /// From what stands on the console.
    fn read(console: String) -> Seen {
        let mut seen = Seen::default();
        for line in console.lines() {
            if let Some(process) = line.strip_prefix("@@process ") {
                let pid = process.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
                seen.processes.push(Process { pid, ..Process::default() });
            } else if let Some((name, kib)) = size(line)
                && let Some(process) = seen.processes.last_mut()
            {
                match name {
                    "Rss" => process.rss = kib,
                    "Anonymous" => process.anonymous = kib,
                    "Private_Clean" => process.private_clean = kib,
                    "Private_Dirty" => process.private_dirty = kib,
                    _ => {}
                }
            } else if let Some((time, text)) = stamped(line) {
                if text.starts_with("UP ") {
                    seen.ups.push(time);
                } else if text.starts_with("Run /") && seen.init_started.is_none() {
                    seen.init_started = Some(time);
                } else if text.starts_with("init: root in place") {
                    seen.root_in_place = Some(time);
                }
            }
        }
        seen.console = console;
        seen
    }

    /// The end of the console's text, for a message.
    pub fn tail(&self) -> String {
        let lines: Vec<&str> = self.console.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

/// A line of `smaps_rollup`: `Rss:   12 kB`.
fn size(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.split_once(':')?;
    Some((name, rest.trim().strip_suffix(" kB")?.parse().ok()?))
}

/// A line of the kernel's log: `[    1.234567] text`.
fn stamped(line: &str) -> Option<(f64, &str)> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    Some((time.trim().parse().ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_tells_is_read_from_its_console() {
        let console = "noise\n@@process 1 /sbin/init\n5-6 ---p 00000000 00:00 0  [rollup]\nRss:   900 kB\n\
                       Anonymous:   80 kB\r\nPrivate_Dirty: 90 kB\n@@process 77 /usr/lib/mmos/svcmgr\nRss: 7 kB\n\
                       [    0.500000] Run /init as init process\n[    0.600000] init: root in place, 3 files\n\
                       [    0.700000] UP 0\n[    0.650000] UP 1\n";
        let seen = Seen::read(console.to_owned());
        assert_eq!((seen.init_started, seen.root_in_place), (Some(0.5), Some(0.6)));
        assert_eq!(seen.ups, [0.7, 0.65]);
        let one = Process { pid: 1, rss: 900, anonymous: 80, private_clean: 0, private_dirty: 90 };
        assert_eq!(seen.processes, [one, Process { pid: 77, rss: 7, ..Process::default() }]);
    }
}
