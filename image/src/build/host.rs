//! The host's own tools and folders: running a program with its errors kept, and the cache that outlives a checkout.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs a program to its end and gives back what it printed on stdout.
///
/// # Errors
/// A program that is not there is named with the Debian package that has it; one that fails, with what it said.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}: {}", where_from(&name)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().rev().take(5).collect();
        let said = said.into_iter().rev().collect::<Vec<_>>().join("\n  ");
        bail!("{name} ended with {}:\n  {said}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn where_from(program: &str) -> String {
    let package = match program {
        "apt-get" | "apt-cache" => "apt",
        "dpkg-deb" => "dpkg",
        "depmod" => "kmod",
        other => other,
    };
    format!("is the Debian package {package} installed?")
}

/// The cache for what is costly to get again: packages, kernels, Debian roots. `$XDG_CACHE_HOME/mmos`, made if absent.
pub fn cache(folder: &str) -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
        Some(path) => PathBuf::from(path),
        None => match std::env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".cache"),
            None => bail!("neither XDG_CACHE_HOME nor HOME is set: where should downloads be kept?"),
        },
    };
    let path = base.join("mmos").join(folder);
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make the cache folder {}", path.display()))?;
    Ok(path)
}

/// A name beside `path` that no other process uses, for what is not whole yet.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
