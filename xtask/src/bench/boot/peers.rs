//! The inits that ours is measured beside, each set up as its own manual says for services that are kept running, and
//! nothing else: no getty, no log daemon, no boot scripts.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::guest::Guest;
use super::tree::Tree;

/// `init` of busybox: mounts from its inittab, and one process for all.
pub fn busybox(guest: &mut Guest) -> anyhow::Result<()> {
    let tree = guest.base()?;
    tree.link("/bin/busybox", "/init")?;
    let mut table = String::new();
    for (kind, target) in MOUNTS {
        writeln!(table, "::sysinit:/bin/busybox mount -t {kind} {kind} {target}")?;
    }
    for n in 0..guest.services {
        writeln!(table, "::respawn:/bin/svc {n}")?;
    }
    table.push_str("::once:/bin/done\n");
    tree.write("/etc/inittab", &table)
}

/// `runsvdir`, and one `runsv` for each service.
pub fn runit(guest: &mut Guest) -> anyhow::Result<()> {
    let tree = guest.base()?;
    tree.program("/usr/bin/runsvdir")?;
    tree.program("/usr/bin/runsv")?;
    directories(&tree, guest.services)?;
    after_mounts(&tree, "/usr/bin/runsvdir -P /svc")
}

/// `s6-svscan`, and one `s6-supervise` for each service.
pub fn s6(guest: &mut Guest) -> anyhow::Result<()> {
    let tree = guest.base()?;
    tree.program("/usr/bin/s6-svscan")?;
    tree.program("/usr/bin/s6-supervise")?;
    directories(&tree, guest.services)?;
    // It takes 500 unless told otherwise.
    let most = guest.services.saturating_add(10).max(500);
    after_mounts(&tree, &format!("/usr/bin/s6-svscan -c {most} /svc"))
}

/// finit, from its packages: installed on this machine they would take the place of its own init.
pub fn finit(guest: &mut Guest) -> anyhow::Result<()> {
    let tree = guest.base()?;
    for package in fetched("finit", &["finit", "libite5", "libuev3"])? {
        run(Command::new("dpkg").arg("--extract").arg(&package).arg(&tree.path))?;
    }
    let places = ["/sbin/finit", "/usr/sbin/finit", "/lib/finit/sbin/init"];
    let program = places.into_iter().find(|place| tree.at(place).is_file());
    let program = program.with_context(|| format!("the package finit has none of {}", places.join(", ")))?;
    let mut objects = vec![tree.at(program)];
    shared_objects(&tree.at("/usr/lib"), &mut objects)?;
    for object in objects {
        tree.libraries_of(&object)?;
    }
    if !tree.at("/init").exists() {
        tree.link(program, "/init")?;
    }
    let mut table = "runlevel 2\n".to_owned();
    for n in 0..guest.services {
        writeln!(table, "service :{n} [12345] /bin/svc {n} -- svc{n}")?;
    }
    table.push_str("task [12345] /bin/done -- done\n");
    tree.write("/etc/finit.conf", &table)?;
    tree.write("/etc/fstab", "")?;
    tree.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
    tree.write("/etc/group", "root:x:0:\n")
}

/// systemd, with a target that wants the services and nothing else.
pub fn systemd(guest: &mut Guest) -> anyhow::Result<()> {
    let tree = guest.base()?;
    tree.program("/lib/systemd/systemd")?;
    // Newer ones execute services through it.
    if Path::new("/lib/systemd/systemd-executor").exists() {
        tree.program("/lib/systemd/systemd-executor")?;
    }
    tree.link("/lib/systemd/systemd", "/init")?;
    let folder = "/etc/systemd/system";
    let head = "[Unit]\nDefaultDependencies=no\n";
    let names: Vec<String> = (0..guest.services).map(|n| format!("s{n}.service")).collect();
    let target = format!("{head}Wants={} done.service\n", names.join(" "));
    tree.write(&format!("{folder}/default.target"), &target)?;
    for (n, name) in names.iter().enumerate() {
        tree.write(&format!("{folder}/{name}"), &format!("{head}[Service]\nType=exec\nExecStart=/bin/svc {n}\n"))?;
    }
    let done = format!("{head}[Service]\nStandardOutput=tty\nTTYPath=/dev/ttyS0\nExecStart=/bin/done\n");
    tree.write(&format!("{folder}/done.service"), &done)?;
    // An initramfs: no getty, no default units; systemd(1), systemd-machine-id(5).
    tree.write("/etc/initrd-release", "ID=bench\n")?;
    tree.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
    guest.parameters.push("systemd.show_status=0".to_owned());
    Ok(())
}

const MOUNTS: [(&str, &str); 3] = [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];

/// An `/init` that mounts what a supervisor expects, and becomes it. What tells of the end is beside the services,
/// since runit takes a thousand of them and no more.
fn after_mounts(tree: &Tree, supervisor: &str) -> anyhow::Result<()> {
    let mut script = "#!/bin/busybox sh\n".to_owned();
    for (kind, target) in MOUNTS {
        writeln!(script, "/bin/busybox mount -t {kind} {kind} {target}")?;
    }
    writeln!(script, "export PATH=/usr/bin:/bin\n/bin/done &\nexec {supervisor}")?;
    tree.script("/init", &script)
}

/// The services as folders with a script `run`, as daemontools began it.
fn directories(tree: &Tree, services: usize) -> anyhow::Result<()> {
    for n in 0..services {
        tree.script(&format!("/svc/s{n}/run"), &format!("#!/bin/busybox sh\nexec /bin/svc {n}\n"))?;
    }
    Ok(())
}

/// All shared objects beneath `folder`.
fn shared_objects(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            shared_objects(&entry.path(), found)?;
        } else if kind.is_file() && entry.file_name().to_string_lossy().contains(".so") {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Packages that are not installed, from the cache or by apt.
fn fetched(name: &str, packages: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let folder = crate::setup::cache()?.join("peers").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let present = |package: &str| -> anyhow::Result<Option<PathBuf>> {
        let prefix = format!("{package}_");
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    };
    let mut found = Vec::new();
    for package in packages {
        let path = match present(package)? {
            Some(path) => Some(path),
            None => {
                run(Command::new("apt-get").args(["-qq", "download", package]).current_dir(&folder))?;
                present(package)?
            }
        };
        found.push(path.with_context(|| format!("apt-get download {package} left nothing in {}", folder.display()))?);
    }
    Ok(found)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
