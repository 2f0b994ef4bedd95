//! The files that a service reads and writes instead of its log: opened before its process is made, as root, as
//! systemd.exec(5) has it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use rustix::fs::{MemfdFlags, OFlags};

use crate::unit::{Input, Output, Service, Write};

/// Those that the unit names.
#[derive(Debug, Default)]
pub struct Files {
    /// What it reads.
    pub input: Option<OwnedFd>,
    /// Where it writes.
    pub output: Option<OwnedFd>,
    /// Where it writes errors.
    pub error: Option<OwnedFd>,
}

impl Files {
    /// Opens them.
    ///
    /// # Errors
    /// In words, for the unit's reason.
    pub fn open(service: &Service) -> Result<Files, String> {
        let input = match &service.input {
            Input::Null | Input::Tty | Input::Socket => None,
            Input::Data => Some(data(service.input_data.as_deref().unwrap_or_default())?),
            Input::File(path) => {
                let file = open_at_once(OpenOptions::new().read(true), path);
                Some(file.map_err(|error| format!("StandardInput=file:{path}: {error}"))?.into())
            }
        };
        let output = written("StandardOutput", &service.output)?;
        // Into one file by one descriptor, so that neither writes over the other.
        let error = match (&output, service.output == service.error) {
            (Some(output), true) => {
                Some(output.try_clone().map_err(|error| format!("no descriptor for its errors: {error}"))?)
            }
            _ => written("StandardError", &service.error)?,
        };
        Ok(Files { input, output, error })
    }
}

fn written(directive: &str, output: &Output) -> Result<Option<OwnedFd>, String> {
    let Output::File(how, path) = output else { return Ok(None) };
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o644);
    match how {
        Write::InPlace => {}
        Write::Append => {
            options.append(true);
        }
        Write::Truncate => {
            options.truncate(true);
        }
    }
    let file = open_at_once(&mut options, path).map_err(|error| format!("{directive}={path}: {error}"))?;
    Ok(Some(file.into()))
}

/// Opens a file without waiting for anybody, above all not for the other end of a FIFO: the supervisor has one thread, and
/// no service may hold it up. Of a FIFO both ends are opened, which never waits (fifo(7)).
fn open_at_once(options: &mut OpenOptions, path: &str) -> io::Result<File> {
    options.custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    let mut both = OpenOptions::new();
    both.read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    let is_fifo = |file: &File| file.metadata().is_ok_and(|found| found.file_type().is_fifo());
    let file = match options.open(path) {
        // The one that was opened, whatever stands at its path by now: its folder may be the service's user's.
        Ok(file) if is_fifo(&file) => both.open(format!("/proc/self/fd/{}", file.as_raw_fd()))?,
        // Nobody reads it yet.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            let file = both.open(path)?;
            if !is_fifo(&file) {
                return Err(error);
            }
            file
        }
        result => result?,
    };
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

/// Reads a file that others may have put there, and may be anything: a regular one, by its own name if `itself`, of at most
/// `limit` bytes, and never waiting.
///
/// # Errors
/// When it is none, or larger, or cannot be read.
pub fn read_small(path: &std::path::Path, limit: u64, itself: bool) -> io::Result<(String, Metadata)> {
    let links = if itself { libc::O_NOFOLLOW } else { 0 };
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK | links;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    // What stands for an empty file.
    let is_null = found.file_type().is_char_device() && found.rdev() == rustix::fs::makedev(1, 3);
    if !found.is_file() && !is_null {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = String::new();
    file.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok((text, found))
}

/// A file in memory that holds the bytes.
fn data(bytes: &[u8]) -> Result<OwnedFd, String> {
    let failed = |error: std::io::Error| format!("no memory for its input (StandardInputText=): {error}");
    let fd = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(failed)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifo(dir: &tempfile::TempDir) -> std::path::PathBuf {
        let path = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_fifo_is_opened_without_its_other_end_and_waits_for_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(&dir);
        let mut input = open_at_once(OpenOptions::new().read(true), path.to_str().unwrap()).unwrap();
        let mut output = open_at_once(OpenOptions::new().write(true).create(true), path.to_str().unwrap()).unwrap();
        for file in [&input, &output] {
            assert!(!rustix::fs::fcntl_getfl(file).unwrap().contains(OFlags::NONBLOCK));
        }
        output.write_all(b"line\n").unwrap();
        let mut line = [0; 5];
        input.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"line\n");
    }

    #[test]
    fn what_is_read_for_a_service_is_a_small_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("pid"), dir.path().join("link"));
        std::fs::write(&path, "123\n").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_small(&path, 4, true).unwrap().0, "123\n");
        assert_eq!(read_small(&link, 4, false).unwrap().0, "123\n");
        assert!(read_small(&link, 4, true).is_err());
        assert!(read_small(&path, 3, true).is_err());
        assert!(read_small(&fifo(&dir), 4, true).is_err());
        assert!(read_small(std::path::Path::new("/dev/zero"), 4, false).is_err());
        assert_eq!(read_small(std::path::Path::new("/dev/null"), 4, false).unwrap().0, "");
    }
}
