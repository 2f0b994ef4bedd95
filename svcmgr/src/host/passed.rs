//! Descriptors that a service's main process gets besides its standard streams: its sockets and what it has stored, as
//! sd_listen_fds(3) has it, and the one on which it says that it is ready.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use crate::host::sys::FIRST_FD;

/// What a process gets.
#[derive(Debug, Default)]
pub struct Passed<'a> {
    /// From descriptor 3 on, each with its name.
    pub listen: Vec<(String, BorrowedFd<'a>)>,
    /// The writing end of the pipe on which it says that it is ready, and the descriptor that this has to be.
    pub ready: Option<(RawFd, BorrowedFd<'a>)>,
    /// What `StandardInput=socket` is.
    pub stream: Option<BorrowedFd<'a>>,
    /// Variables that speak of all this.
    pub environment: Vec<(String, String)>,
}

/// The same, with numbers that are in nobody's way between fork and exec.
#[derive(Debug)]
pub struct Placed {
    /// Copies of all, and what each has to be, from the lowest on.
    pub descriptors: Vec<(OwnedFd, RawFd)>,
    /// No descriptor that the process gets has this number or a higher one.
    pub end: RawFd,
    /// `LISTEN_PID=`, with room for the number that the process finds out itself.
    pub listen_pid: Option<Vec<Cell<u8>>>,
}

impl Passed<'_> {
    /// `LISTEN_FDS=` and its like; `LISTEN_PID=` is [`Placed::listen_pid`].
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut all = self.environment.clone();
        if !self.listen.is_empty() {
            let names: Vec<&str> = self.listen.iter().map(|(name, _)| name.as_str()).collect();
            all.push(("LISTEN_FDS".to_owned(), self.listen.len().to_string()));
            all.push(("LISTEN_FDNAMES".to_owned(), names.join(":")));
        }
        all
    }

    /// Makes copies that lie above all numbers that the process needs.
    ///
    /// # Errors
    /// In words, for the unit's reason.
    pub fn place(&self) -> Result<Placed, String> {
        let targets = (FIRST_FD..).zip(&self.listen).map(|(target, (_, fd))| (fd.as_fd(), target));
        let mut all: Vec<(BorrowedFd<'_>, RawFd)> = targets.collect();
        let taken = all.len();
        if let Some((number, fd)) = &self.ready {
            if all.iter().any(|(_, target)| target == number) {
                return Err(format!(
                    "ReadyFD={number} is one of the {taken} descriptors from {FIRST_FD} on that it gets with its \
                     sockets: choose a higher one"
                ));
            }
            all.push((fd.as_fd(), *number));
        }
        all.sort_by_key(|(_, target)| *target);
        let end = all.last().map_or(FIRST_FD, |(_, target)| target.saturating_add(1));
        let copied: Result<Vec<(OwnedFd, RawFd)>, _> =
            all.into_iter().map(|(fd, target)| Ok((rustix::io::fcntl_dupfd_cloexec(fd, end)?, target))).collect();
        let descriptors = copied.map_err(|error: rustix::io::Errno| format!("no descriptors for its own: {error}"))?;
        let listen_pid = (taken > 0).then(|| {
            // A number of 32 bits, and the byte that ends the text.
            b"LISTEN_PID=".iter().chain(&[0; 11]).map(|byte| Cell::new(*byte)).collect()
        });
        Ok(Placed { descriptors, end, listen_pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn copies_lie_above_what_the_process_gets_and_names_stand_in_their_order() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let listen = vec![("a".to_owned(), null.as_fd()), ("b c".to_owned(), null.as_fd())];
        let mut passed = Passed { listen, ready: Some((9, null.as_fd())), ..Passed::default() };
        let placed = passed.place().unwrap();
        assert_eq!(placed.end, 10);
        assert_eq!(placed.descriptors.iter().map(|(_, target)| *target).collect::<Vec<_>>(), [3, 4, 9]);
        assert!(placed.descriptors.iter().all(|(fd, _)| fd.as_raw_fd() >= placed.end));
        let variables = passed.variables();
        assert_eq!(variables, [("LISTEN_FDS".to_owned(), "2".to_owned()), ("LISTEN_FDNAMES".into(), "a:b c".into())]);
        passed.ready = Some((4, null.as_fd()));
        assert!(passed.place().unwrap_err().starts_with("ReadyFD=4 is one of the 2 descriptors"));
    }
}
