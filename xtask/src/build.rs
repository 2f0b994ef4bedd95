//! Binaries for the device, tools for the host, images. Cargo and `mmos-image` each know what has changed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use vm::images::{builder, device_binaries, target, workspace};
use vm::root;

use crate::progress::step;

/// The target of the device binaries, and how they are linked: statically, so that they run in any root.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const STATIC: &str = "target.x86_64-unknown-linux-gnu.rustflags=[\"-C\", \"target-feature=+crt-static\"]";
/// What runs on every device.
const DEVICE_PACKAGES: [&str; 3] = ["init", "svcmgr", "mmosctl"];

/// Cargo, of the toolchain that runs this. Its output lies where the tests and images look for it, whatever the
/// user's own configuration says.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).env("CARGO_TARGET_DIR", target());
    command
}

/// The packages under `examples/` that are programs: an image definition may name them with `@bin@`.
fn examples() -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(workspace().join("examples"))? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            found.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Builds the device binaries and `mmos-image`.
pub fn binaries() -> anyhow::Result<()> {
    let mut device = cargo();
    device.args(["build", "--quiet", "--profile", "device", "--target", TARGET, "--config", STATIC]);
    for package in DEVICE_PACKAGES.map(str::to_owned).into_iter().chain(examples()?) {
        device.args(["--package", &package]);
    }
    // They would take the place of ours, and leave the device binaries without their static linking.
    device.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    step("building the device binaries", || run(&mut device))?;
    let mut host = cargo();
    host.args(["build", "--quiet", "--release", "--package", "mmos-image"]);
    step("building mmos-image", || run(&mut host))
}

/// A definition by its name under `rootfs/images`, or by its path; and the folder of the image made from it.
pub fn image_paths(name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let definition = if name.contains('/') || name.ends_with(".toml") {
        PathBuf::from(name)
    } else {
        workspace().join("rootfs/images").join(format!("{name}.toml"))
    };
    if !definition.is_file() {
        bail!("there is no image definition {}", definition.display());
    }
    let stem = definition.file_stem().unwrap_or_default().to_owned();
    Ok((definition, target().join("images").join(stem)))
}

/// Builds the images of these names, or all of the project.
pub fn images(names: &[String], refresh: bool) -> anyhow::Result<()> {
    let all = || -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(workspace().join("rootfs/images"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
        found.sort();
        Ok(found)
    };
    for name in if names.is_empty() { all()? } else { names.to_vec() } {
        image(&name, refresh)?;
    }
    Ok(())
}

/// Builds one image, and gives back its folder.
pub fn image(name: &str, refresh: bool) -> anyhow::Result<PathBuf> {
    let (definition, out) = image_paths(name)?;
    root::authorize(&format!("cargo xtask image {name}"))?;
    let mut command = root::command(&builder())?;
    command.arg("build").arg(&definition).arg("--out").arg(&out);
    command.arg("--bin-dir").arg(device_binaries()).arg("--rootfs").arg(workspace().join("rootfs"));
    if refresh {
        command.arg("--refresh");
    }
    let output = step(&format!("building the image {name}"), || {
        let output = command.output().context("cannot run mmos-image")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(output)
    })?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        eprintln!("    {line}");
    }
    Ok(out)
}

/// Runs a command whose output goes to the terminal; it must succeed.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}; its message is above");
    }
    Ok(())
}
