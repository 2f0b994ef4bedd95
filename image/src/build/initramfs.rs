//! The initramfs: `init`, what it is told (`boot.toml`), and the modules it may need. And the joining of an initramfs
//! with a root image, for a boot loader that loads a single file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
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
    let mut made = std::collections::BTreeSet::new();
    for (name, file) in contents.modules {
        // Folders before what is in them: the kernel makes none by itself.
        for (at, _) in name.match_indices('/') {
            let folder = name.get(..at).unwrap_or_default();
            if made.insert(folder) {
                archive.entry(folder, Kind::Directory, 0o755, b"")?;
            }
        }
        archive.entry(name, Kind::File, 0o644, &read(file)?)?;
    }
    archive.finish()?.finish()?.flush()?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes `initramfs`, and after it an archive with each `(name, file)`, to `out`. The kernel unpacks one after the
/// other; a later archive may replace files of an earlier one.
pub fn join(initramfs: &Path, files: &[(String, PathBuf)], out: &Path) -> anyhow::Result<()> {
    let part = host::unfinished(out);
    let result = joined(initramfs, files, &part).with_context(|| format!("cannot write {}", out.display()));
    finish(result, &part, out)
}

fn joined(initramfs: &Path, files: &[(String, PathBuf)], out: &Path) -> anyhow::Result<()> {
    let mut writer = BufWriter::new(File::create(out)?);
    let mut first = File::open(initramfs).with_context(|| format!("cannot read {}", initramfs.display()))?;
    let length = io::copy(&mut first, &mut writer)?;
    // An archive begins on a multiple of four bytes.
    let padding = usize::try_from(length.wrapping_neg() % 4).unwrap_or(0);
    writer.write_all([0; 3].get(..padding).unwrap_or_default())?;
    let mut archive = Writer::new(writer);
    for (name, path) in files {
        let name = name.trim_start_matches('/');
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(name, 0o644, file.metadata()?.len(), file)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

fn finish(result: anyhow::Result<()>, part: &Path, path: &Path) -> anyhow::Result<()> {
    match result {
        Ok(()) => std::fs::rename(part, path).with_context(|| format!("cannot write {}", path.display())),
        Err(error) => {
            let _ = std::fs::remove_file(part);
            Err(error)
        }
    }
}
