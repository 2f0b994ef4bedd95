//! The files that a service reads and writes instead of its log: opened before its process is made, as root, as
//! systemd.exec(5) has it.

use std::fs::OpenOptions;
use std::io::{Seek, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::MemfdFlags;

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
                let file = OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY).open(&**path);
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
    options.write(true).create(true).mode(0o644).custom_flags(libc::O_NOCTTY);
    match how {
        Write::InPlace => {}
        Write::Append => {
            options.append(true);
        }
        Write::Truncate => {
            options.truncate(true);
        }
    }
    let file = options.open(&**path).map_err(|error| format!("{directive}={path}: {error}"))?;
    Ok(Some(file.into()))
}

/// A file in memory that holds the bytes.
fn data(bytes: &[u8]) -> Result<OwnedFd, String> {
    let failed = |error: std::io::Error| format!("no memory for its input (StandardInputText=): {error}");
    let fd = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(failed)?;
    Ok(file.into())
}
