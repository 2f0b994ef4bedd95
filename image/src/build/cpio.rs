//! Writes cpio archives in the "newc" format, which the kernel unpacks into its first root
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeSet;
use std::io::{self, Write};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
    Symlink,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
}

/// Writes entries one after the other; [`Writer::finish`] ends the archive.
pub struct Writer<W> {
    out: W,
    inode: u32,
    /// The folders written so far.
    folders: BTreeSet<String>,
}

/// The kernel accepts names up to `PATH_MAX`.
const NAME_MAX: usize = 4096;

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Writer<W> {
        Writer { out, inode: 0, folders: BTreeSet::new() }
    }

    /// Writes an entry whose data is in memory: a file's content, a symlink's target, else empty.
    pub fn entry(&mut self, name: &str, kind: Kind, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.header(name, kind, permissions, data.len() as u64)?;
        self.out.write_all(data)?;
        if kind == Kind::Directory {
            self.folders.insert(name.to_owned());
        }
        self.pad(data.len() as u64)
    }

    /// Writes the folders that `name` lies in, but for those that the archive has: the kernel makes none by itself,
    /// and a file without its folder is lost.
    pub fn folders_to(&mut self, name: &str) -> io::Result<()> {
        for (at, _) in name.match_indices('/') {
            let folder = name.get(..at).unwrap_or_default();
            if !self.folders.contains(folder) {
                self.entry(folder, Kind::Directory, 0o755, b"")?;
            }
        }
        Ok(())
    }

    /// Writes a file of `size` bytes that is read from `data`.
    ///
    /// # Errors
    /// `UnexpectedEof` where `data` ends before; the archive is useless then.
    pub fn file(&mut self, name: &str, permissions: u32, size: u64, data: impl io::Read) -> io::Result<()> {
        self.header(name, Kind::File, permissions, size)?;
        let copied = io::copy(&mut data.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} shrank while it was read")));
        }
        self.pad(size)
    }

    /// Ends the archive and gives the stream back.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.header("TRAILER!!!", Kind::File, 0, 0)?;
        self.pad(0)?;
        Ok(self.out)
    }

    fn header(&mut self, name: &str, kind: Kind, permissions: u32, size: u64) -> io::Result<()> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let size = u32::try_from(size).map_err(|_| invalid(format!("{name}: a cpio file holds less than 4 GiB")))?;
        if name.len() >= NAME_MAX {
            return Err(invalid(format!("{name}: name too long for a cpio archive")));
        }
        let (format, major, minor) = match kind {
            Kind::Directory => (0o040_000, 0, 0),
            Kind::File => (0o100_000, 0, 0),
            Kind::Symlink => (0o120_000, 0, 0),
            Kind::CharDevice(major, minor) => (0o020_000, major, minor),
        };
        self.inode = self.inode.wrapping_add(1);
        let links = if kind == Kind::Directory { 2 } else { 1 };
        let name_size = name.len().saturating_add(1);
        write!(
            self.out,
            "070701{:08x}{:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}{minor:08x}\
             {name_size:08x}{:08x}{name}\0",
            self.inode,
            format | permissions,
            0, // uid
            0, // gid
            0, // mtime: the same input gives the same bytes
            0, // device the file lay on, major
            0, // and minor
            0, // checksum, unused in this format
        )?;
        // Header and name together end on a multiple of four.
        self.pad(110_u64.saturating_add(name_size as u64))
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let missing = usize::try_from(length.wrapping_neg() % 4).unwrap_or(0);
        self.out.write_all([0; 3].get(..missing).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_reads_what_we_write() {
        let mut archive = Writer::new(Vec::new());
        archive.entry("etc", Kind::Directory, 0o755, b"").unwrap();
        archive.entry("etc/odd", Kind::File, 0o640, b"12345").unwrap();
        archive.entry("link", Kind::Symlink, 0o777, b"etc/odd").unwrap();
        archive.file("streamed", 0o755, 3, &b"abc"[..]).unwrap();
        let bytes = archive.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let Ok(mut child) = Command::new("cpio")
            .args(["--extract", "--quiet", "--preserve-modification-time"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .spawn()
        else {
            skip::because("there is no cpio(1) to compare with; Debian: apt-get install cpio");
            return;
        };
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read(folder.path().join("link")).unwrap(), b"12345");
        assert_eq!(std::fs::read(folder.path().join("streamed")).unwrap(), b"abc");
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let error = Writer::new(Vec::new()).file("x", 0o644, 9, &b"short"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
