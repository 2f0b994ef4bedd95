//! Lines on the consoles, for a person who stands before the device. A console that nobody reads (a serial line held
//! by flow control) must never hold PID 1: every write is non-blocking, and the whole of it has a deadline.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;

/// How long one console may take for one line: 200 characters at 1200 baud.
const PATIENCE: Duration = Duration::from_secs(2);

/// The devices behind `/dev/console`, as the kernel lists them; `/dev/console` itself where it does not say.
pub fn active() -> Vec<PathBuf> {
    from_list(&std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default())
}

fn from_list(active: &str) -> Vec<PathBuf> {
    let found: Vec<PathBuf> =
        active.split_whitespace().map(|name| Path::new("/dev").join(name)).filter(|path| path.exists()).collect();
    if found.is_empty() { vec!["/dev/console".into()] } else { found }
}

/// Writes `line` to every console. What cannot be written is given up.
pub fn say(line: &str) {
    for path in active() {
        if let Ok(console) = open(&path) {
            // The line begins at the left, whatever stood there before.
            let _ = write(&console, format!("\r\n{line}\r\n").as_bytes(), PATIENCE);
        }
    }
}

/// Opens a console so that it neither blocks nor becomes our terminal.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().write(true).custom_flags(i32::try_from(flags).unwrap_or(0)).open(path)
}

/// Writes as much as the console takes until the deadline.
fn write(mut console: &File, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    let deadline = Instant::now().checked_add(patience);
    while !bytes.is_empty() {
        match console.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let timeout = rustix::event::Timespec::try_from(left).ok();
                let _ = rustix::event::poll(&mut [PollFd::new(&console, PollFlags::OUT)], timeout.as_ref());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_that_exist_are_taken_and_the_general_one_else() {
        assert_eq!(from_list("null nonesuch\n"), [PathBuf::from("/dev/null")]);
        assert_eq!(from_list(""), [PathBuf::from("/dev/console")]);
    }

    #[test]
    fn a_console_that_nobody_reads_is_given_up_at_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _reader = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, rustix::fs::Mode::empty()).unwrap();
        let console = open(&path).unwrap();
        let begin = Instant::now();
        let error = write(&console, &vec![b'x'; 1 << 20], Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
