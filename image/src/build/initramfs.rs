//! The initramfs: `init`, what it is told (`boot.toml`), and the modules it may need.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::cpio::{Kind, Writer};
use super::host;

/// zstd's level: the archive is made once and loaded many times.
const ZSTD_LEVEL: i32 = 19;

/// What goes in.
pub struct Contents<'a> {
    pub init: &'a Path,
    /// `/bin/busybox`, where the image allows a shell.
    pub busybox: Option<&'a Path>,
    pub boot_config: &'a str,
    /// Path in the archive, and the file.
    pub modules: &'a [(String, PathBuf)],
}

/// Writes the initramfs to `path`.
pub fn write(path: &Path, contents: &Contents<'_>) -> anyhow::Result<()> {
    let part = host::unfinished(path);
    let result = archive(&part, contents).with_context(|| format!("cannot write {}", path.display()));
    finish(result, &part, path)
}

fn archive(path: &Path, contents: &Contents<'_>) -> anyhow::Result<()> {
    let mut encoder = zstd::Encoder::new(BufWriter::new(File::create(path)?), ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    let mut archive = Writer::new(encoder);
    for folder in ["dev", "proc", "sys", "run", "tmp", "etc", "etc/mmos", "bin"] {
        archive.entry(folder, Kind::Directory, 0o755, b"")?;
    }
    // The kernel opens it for PID 1 before anything can be mounted.
    archive.entry("dev/console", Kind::CharDevice(5, 1), 0o600, b"")?;
    archive.entry("init", Kind::File, 0o755, &read(contents.init)?)?;
    archive.entry("etc/mmos/boot.toml", Kind::File, 0o644, contents.boot_config.as_bytes())?;
    if let Some(busybox) = contents.busybox {
        archive.entry("bin/busybox", Kind::File, 0o755, &read(busybox)?)?;
        archive.entry("bin/sh", Kind::Symlink, 0o777, b"busybox")?;
    }
    for (name, file) in contents.modules {
        archive.folders_to(name)?;
        archive.entry(name, Kind::File, 0o644, &read(file)?)?;
    }
    archive.finish()?.finish()?.flush()?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Gives what was written to `part` its name, or deletes it.
pub fn finish(result: anyhow::Result<()>, part: &Path, path: &Path) -> anyhow::Result<()> {
    match result {
        Ok(()) => std::fs::rename(part, path).with_context(|| format!("cannot write {}", path.display())),
        Err(error) => {
            let _ = std::fs::remove_file(part);
            Err(error)
        }
    }
}
