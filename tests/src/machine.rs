//! What to boot, and a machine that runs. A guest that is dropped is killed; nothing outlives a test.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use command_fds::{CommandFdExt, FdMapping};

use crate::qmp::Qmp;
use crate::stream::Stream;

/// QEMU's program for this architecture.
pub const QEMU: &str = "qemu-system-x86_64";

/// How long a guest may take for anything. Far more than it needs: a shared machine can be slow, and only a test that
/// fails waits to the end.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What the guest's shell prints when it takes commands; see `tests/guest`.
const SHELL_READY: &str = "@@shell@@";

/// What to boot.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initramfs, with or without a root image in it.
    pub initrd: PathBuf,
    /// Kernel parameters, besides those that name the console.
    pub parameters: Vec<String>,
    /// RAM in MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// Disks, in order: vda, vdb, …
    pub drives: Vec<Drive>,
    /// Further words for QEMU.
    pub arguments: Vec<String>,
    /// Print the console to stdout as it comes.
    pub echo: bool,
}

/// A disk.
#[derive(Debug, Clone)]
pub struct Drive {
    /// Raw image.
    pub path: PathBuf,
    /// Whether the guest may write to it.
    pub writable: bool,
}

/// A machine that runs.
pub struct Vm {
    qemu: Child,
    monitor: Option<Qmp>,
    /// Where the kernel, init and the console service speak.
    pub console: Stream,
    shell: Stream,
    shell_is_ready: bool,
    commands: u32,
}

/// What a command in the guest came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status.
    pub status: i32,
    /// stdout and stderr.
    pub text: String,
}

/// How the machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The guest switched it off.
    Poweroff,
    /// The guest restarted it.
    Reboot,
    /// Its watchdog reset it.
    Watchdog,
    /// The kernel panicked, and QEMU's pvpanic saw it or the guest reset without order.
    Other,
}

impl Machine {
    /// A machine with 512 MiB and two processors.
    pub fn new(kernel: PathBuf, initrd: PathBuf) -> Machine {
        Machine {
            kernel,
            initrd,
            parameters: Vec::new(),
            memory: 512,
            cpus: 2,
            drives: Vec::new(),
            arguments: Vec::new(),
            echo: false,
        }
    }

    /// Adds a kernel parameter.
    pub fn parameter(mut self, parameter: &str) -> Machine {
        self.parameters.push(parameter.to_owned());
        self
    }

    /// Sets the RAM in MiB.
    pub fn memory(mut self, mib: u32) -> Machine {
        self.memory = mib;
        self
    }

    /// Adds a disk that the guest can only read.
    pub fn drive(mut self, path: impl Into<PathBuf>) -> Machine {
        self.drives.push(Drive { path: path.into(), writable: false });
        self
    }

    /// The words for QEMU that do not depend on where its serial lines lead.
    ///
    /// TCG unless `MMOS_QEMU_ACCEL` says otherwise: a `/dev/kvm` that opens may still hang guests. One thread for all
    /// processors: with one each, QEMU 7.2 now and then kills the guest's kernel (`Oops: int3`) while that patches its
    /// own code.
    pub fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        let accelerator = std::env::var("MMOS_QEMU_ACCEL").unwrap_or_else(|_| "tcg,thread=single".into());
        let cpu = if accelerator.starts_with("kvm") { "host" } else { "max" };
        // `no_timer_check`, as the kernel has it by itself under KVM: it counts the timer's interrupts for a moment, and
        // panics where the host was busy with others meanwhile ("IO-APIC + timer doesn't work").
        let parameters = format!("console=ttyS0 loglevel=6 no_timer_check {}", self.parameters.join(" "));
        command
            .args(["-accel", &accelerator, "-cpu", cpu])
            .args(["-smp", &self.cpus.to_string(), "-m", &self.memory.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", parameters.trim_end()]);
        for (number, drive) in self.drives.iter().enumerate() {
            let read_only = if drive.writable { "off" } else { "on" };
            let path = drive.path.display().to_string().replace(',', ",,");
            let node = format!("driver=file,filename={path},node-name=disk{number},read-only={read_only}");
            let raw = format!("driver=raw,file=disk{number},node-name=raw{number},read-only={read_only}");
            command.args(["-blockdev", &node, "-blockdev", &raw]);
            command.args(["-device", &format!("virtio-blk-pci,drive=raw{number}")]);
        }
        command.args(&self.arguments);
        command
    }

    /// Starts the machine; does not wait for anything in it.
    pub fn boot(&self) -> anyhow::Result<Vm> {
        let mut command = self.command();
        let mut mappings = Vec::new();
        let mut lines = Vec::new();
        for (number, name) in ["console", "shell", "monitor"].iter().enumerate() {
            let (ours, theirs) = UnixStream::pair()?;
            let fd = i32::try_from(number)?.saturating_add(3);
            mappings.push(FdMapping { parent_fd: theirs.into(), child_fd: fd });
            command.args(["-chardev", &format!("socket,id={name},fd={fd}")]);
            lines.push(ours);
        }
        command.args(["-serial", "chardev:console", "-serial", "chardev:shell"]);
        command.args(["-mon", "chardev=monitor,mode=control"]);
        command.fd_mappings(mappings).context("descriptors for QEMU collide")?;
        let qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {QEMU}: is qemu-system-x86 installed?"))?;
        // The command still holds QEMU's ends: as long as it lived, we would not see them close.
        drop(command);
        let [console, shell, monitor] =
            <[UnixStream; 3]>::try_from(lines).map_err(|_| anyhow::anyhow!("three lines were made"))?;
        let mut vm = Vm {
            qemu,
            monitor: None,
            console: Stream::new(console, self.echo)?,
            shell: Stream::new(shell, false)?,
            shell_is_ready: false,
            commands: 0,
        };
        vm.monitor = Some(Qmp::new(monitor).context("QEMU did not start; see its message above")?);
        Ok(vm)
    }
}

impl Vm {
    /// Waits for a text on the console.
    pub fn wait_for(&mut self, pattern: &str) -> anyhow::Result<String> {
        self.console.wait_for(pattern, PATIENCE)
    }

    /// Runs a command line in the guest's shell, on a serial line of its own (`tests/guest`), and waits for its end.
    pub fn run(&mut self, line: &str) -> anyhow::Result<Output> {
        if !self.shell_is_ready {
            let came = self.shell.wait_for(SHELL_READY, PATIENCE);
            came.with_context(|| format!("no shell in the guest; its console:\n{}", self.console.text()))?;
            self.shell_is_ready = true;
        }
        self.commands = self.commands.saturating_add(1);
        // The marker is put together by the shell, so that it is not in the command itself.
        let (begin, end) = (format!("@@b{}@@", self.commands), format!("@@e{}@@", self.commands));
        let number = self.commands;
        self.shell.send(&format!(
            "printf '@@%s@@\\n' b{number}; {{ {line}\n}} 2>&1 </dev/null; printf '@@%s@@%d\\n' e{number} $?\n"
        ))?;
        let wait = || format!("the command {line:?} in the guest");
        self.shell.wait_for(&begin, PATIENCE).with_context(wait)?;
        let text = self.shell.wait_for(&end, PATIENCE).with_context(wait)?;
        let status = self.shell.wait_for("\n", PATIENCE)?;
        let status = status.trim().parse().with_context(|| format!("not an exit status: {status:?}"))?;
        Ok(Output { status, text: text.trim_matches('\n').to_owned() })
    }

    /// Runs a command that must succeed; gives back what it printed.
    ///
    /// # Errors
    /// With what it printed, where it ended with another status than 0.
    pub fn must(&mut self, line: &str) -> anyhow::Result<String> {
        let output = self.run(line)?;
        if output.status != 0 {
            bail!("{line:?} ended with {} in the guest:\n{}", output.status, output.text);
        }
        Ok(output.text)
    }

    /// Asks the guest to power off, and says how the machine ended.
    ///
    /// The shell is a service like any other: it may be stopped before it could tell how the command ended.
    pub fn power_off(&mut self) -> anyhow::Result<Ended> {
        self.must("true")?;
        self.shell.send("mmosctl poweroff\n")?;
        self.wait_for_end()
    }

    /// Has the guest's kernel panic. The machine must be one that starts again (`-action reboot=reset`): commands after
    /// this go to the shell of its next boot.
    pub fn panic_and_come_back(&mut self) -> anyhow::Result<()> {
        self.must("true")?;
        self.shell.send("echo c > /proc/sysrq-trigger\n")?;
        self.shell_is_ready = false;
        Ok(())
    }

    /// QEMU's monitor.
    pub fn monitor(&mut self) -> anyhow::Result<&mut Qmp> {
        self.monitor.as_mut().context("the machine has ended")
    }

    /// Waits until the machine has ended, and says how.
    pub fn wait_for_end(&mut self) -> anyhow::Result<Ended> {
        self.console.wait_for_end(PATIENCE)?;
        let events = self.monitor.take().context("the end was waited for before")?.drain()?;
        let code = self.qemu.wait()?;
        if !code.success() {
            bail!("QEMU ended with {code}");
        }
        let reason = events.iter().rev().find(|event| event.get("event").is_some_and(|name| name == "SHUTDOWN"));
        let reason = reason.and_then(|event| event.pointer("/data/reason")?.as_str().map(str::to_owned));
        let is_watchdog = |event: &serde_json::Value| event.get("event").is_some_and(|name| name == "WATCHDOG");
        Ok(match reason.as_deref() {
            Some("guest-reset") if events.iter().any(is_watchdog) => Ended::Watchdog,
            Some("guest-shutdown") => Ended::Poweroff,
            Some("guest-reset") => Ended::Reboot,
            _ => Ended::Other,
        })
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the last of the guest's console:\n{}", self.console.tail());
        }
        // Gone already, most often: then there is nothing to do, and nothing to say.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
