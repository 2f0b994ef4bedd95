//! Our own init, with all that it has on a device: cgroups, logs, readiness.

use std::fs;
use std::path::Path;

use vm::images::{builder, command, device_binaries, workspace};
use vm::{Image, root};

use super::guest::Guest;
use super::tree::Tree;

/// The root that is measured: our binaries, the skeleton, and a unit for each service.
fn tree(guest: &Guest) -> anyhow::Result<Tree> {
    let tree = guest.base()?;
    tree.copy(&device_binaries().join("init"), link::paths::ROOT_INIT)?;
    tree.copy(&device_binaries().join("svcmgr"), link::paths::SVCMGR)?;
    copy_all(&workspace().join("rootfs/skeleton"), &tree.path)?;
    for n in 0..guest.services {
        let unit = format!(
            "[Unit]\nDescription=Service {n}\n\n[Service]\nType=exec\nExecStart=/bin/svc {n}\n\n[X-MMOS]\nStart=auto\n"
        );
        tree.write(&format!("/etc/mmos/units/s{n}.service"), &unit)?;
    }
    let unit = "[Unit]\nDescription=Tells what was asked\n\n[Service]\nExecStart=/bin/done\n\n[X-MMOS]\nStart=auto\n";
    tree.write("/etc/mmos/units/zdone.service", unit)?;
    Ok(tree)
}

/// The initramfs is the root: the kernel itself executes stage 2, as it does every other init here.
pub fn root_is_initramfs(guest: &mut Guest) -> anyhow::Result<()> {
    tree(guest)?;
    guest.parameters.push(format!("rdinit={}", link::paths::ROOT_INIT));
    Ok(())
}

/// The same root as a WIM, which stage 1 unpacks.
pub fn root_is_unpacked(guest: &mut Guest, image: &Image) -> anyhow::Result<()> {
    let tree = tree(guest)?;
    let wim = guest.folder().join("root.wim");
    command(root::command(&builder())?.arg("capture").arg(&tree.path).arg(&wim).args(["--compress", "lzx"]))?;
    guest.initramfs = Some(image.machine_with(&wim, "/root.wim", guest.folder())?.initrd);
    Ok(())
}

/// Copies a folder of plain files.
fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
