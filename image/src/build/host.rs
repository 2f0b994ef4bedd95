//! The host's own tools and folders: running a program with its errors kept, reading a folder always in the same order,
//! and the cache that outlives a checkout.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};

/// Our folder in the user's caches.
pub const CACHE: &str = "mmos";

/// Runs a program to its end and gives back what it printed on stdout.
///
/// # Errors
/// A program that is not there is named with the Debian package that has it; one that fails, with what it said.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}: {}", where_from(&name)))?;
    check(&name, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs two programs, the first one's stdout going into the second one's stdin. Errors as those of [`run`].
pub fn pipe(first: &mut Command, second: &mut Command) -> anyhow::Result<()> {
    let [writer, reader] = [&*first, &*second].map(|command| command.get_program().to_string_lossy().into_owned());
    let mut writing = first
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {writer}: {}", where_from(&writer)))?;
    let between = writing.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let read = second.stdin(between).output();
    // With the reader gone the writer ends, too: waited for in any case. Its own complaint comes first, since it is
    // why the reader complains.
    let wrote = writing.wait_with_output().with_context(|| format!("cannot wait for {writer}"))?;
    let read = read.with_context(|| format!("cannot run {reader}: {}", where_from(&reader)))?;
    if !wrote.stderr.is_empty() || read.status.success() {
        check(&writer, &wrote)?;
    }
    check(&reader, &read)
}

fn check(name: &str, output: &Output) -> anyhow::Result<()> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().rev().take(5).collect();
        let said = said.into_iter().rev().collect::<Vec<_>>().join("\n  ");
        bail!("{name} ended with {}:\n  {said}", output.status);
    }
    Ok(())
}

/// The entries of a folder by name, sorted.
pub fn entries(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let read = || -> io::Result<Vec<(String, PathBuf)>> {
        std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect()
    };
    let mut found = read().with_context(|| format!("cannot read the folder {}", folder.display()))?;
    found.sort();
    Ok(found)
}

/// Deletes a file, if it is there.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The last part of a path.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn where_from(program: &str) -> String {
    let package = match program {
        "apt-get" | "apt-cache" => "apt",
        "dpkg-deb" => "dpkg",
        "depmod" => "kmod",
        "mksquashfs" => "squashfs-tools",
        "mkfs.erofs" => "erofs-utils",
        other => other,
    };
    format!("is the Debian package {package} installed?")
}

/// The folder that the user's caches are in, of all programs.
pub fn caches() -> anyhow::Result<PathBuf> {
    match std::env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => match std::env::var_os("HOME") {
            Some(home) => Ok(PathBuf::from(home).join(".cache")),
            None => bail!("neither XDG_CACHE_HOME nor HOME is set: where should downloads be kept?"),
        },
    }
}

/// Our cache for what is costly to get again: packages, kernels, Debian roots. `$XDG_CACHE_HOME/mmos`, made if absent.
pub fn cache(folder: &str) -> anyhow::Result<PathBuf> {
    let path = caches()?.join(CACHE).join(folder);
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make the cache folder {}", path.display()))?;
    Ok(path)
}

/// A name beside `path` that no other process uses, for what is not whole yet.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
