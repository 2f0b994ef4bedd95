//! `cargo xtask run`: the image, booted. On a terminal it is a device on the bench; without one, a check.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;

use anyhow::{Context, bail};
use vm::{Ended, Image, Machine};

use crate::{build, setup};

/// The prompt of the console shell (`rootfs/skeleton/etc/profile`).
const PROMPT: &str = "mmos:~# ";

#[derive(clap::Args)]
pub struct Args {
    /// Image: a name under rootfs/images, or the path of a definition
    #[arg(long, default_value = "factory")]
    image: String,
    /// RAM of the device, in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Manufacturing profile; the image's own if absent
    #[arg(long)]
    profile: Option<String>,
    /// Further kernel parameters
    #[arg(long, value_name = "PARAMETERS", default_value = "", allow_hyphen_values = true)]
    append: String,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    setup::install(setup::Purpose::Run)?;
    build::binaries()?;
    let folder = build::image(&args.image, false)?;
    let mut machine = Image { folder }.machine()?.memory(args.memory);
    if let Some(profile) = &args.profile {
        machine = machine.parameter(&format!("mmos.profile={profile}"));
    }
    if !args.append.is_empty() {
        machine = machine.parameter(&args.append);
    }
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        interactive(&machine)
    } else {
        unattended(machine)
    }
}

/// Hands the terminal to QEMU.
fn interactive(machine: &Machine) -> anyhow::Result<()> {
    eprintln!("  booting; end the device with `mmosctl poweroff`, or QEMU with ctrl-A X");
    let mut command = machine.command();
    command.args(["-serial", "mon:stdio"]);
    Err(command.exec()).with_context(|| format!("cannot run {}", vm::machine::QEMU))
}

/// Watches the boot, asks for the services, and powers the device off.
fn unattended(mut machine: Machine) -> anyhow::Result<()> {
    machine.echo = true;
    let mut device = machine.boot()?;
    device.wait_for(PROMPT)?;
    // The marker is put together by the shell, so that it is not in the command that the console echoes.
    device.console.send("mmosctl wait-boot; printf '@@%s%d@@\\n' up $?\n")?;
    device.wait_for("@@up")?;
    let status = device.wait_for("@@")?;
    device.console.send("mmosctl poweroff\n")?;
    let ended = device.wait_for_end()?;
    println!();
    if status != "0" {
        bail!("not every auto service came up; their states are above");
    }
    if ended != Ended::Poweroff {
        bail!("the device was to power off, and ended otherwise: {ended:?}");
    }
    Ok(())
}
