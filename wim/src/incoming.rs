//! A pipe or a socket that is read only as long as somebody wants it: whoever waits for a sender that has stalled can be
//! let go, so that an error is told at once and not when the next bytes come.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// What is read.
pub(crate) struct Incoming {
    input: OwnedFd,
    /// Hangs up when nobody wants more.
    given_up: PipeReader,
}

/// Lets go who reads.
pub(crate) struct GiveUp(Mutex<Option<PipeWriter>>);

/// A descriptor, and how to give up reading it.
pub(crate) fn incoming(input: OwnedFd) -> io::Result<(Incoming, GiveUp)> {
    let (given_up, held) = io::pipe()?;
    Ok((Incoming { input, given_up }, GiveUp(Mutex::new(Some(held)))))
}

impl GiveUp {
    /// From now on nothing is read any more; who waits gets an error.
    pub(crate) fn now(&self) {
        // The other end hangs up when this one is closed.
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // A file, which has all of its bytes, is always ready; and so is what has come to its end.
            let mut waiting = [PollFd::new(&self.input, PollFlags::IN), PollFd::new(&self.given_up, PollFlags::IN)];
            match poll(&mut waiting, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [input, given_up] = waiting.map(|fd| !fd.revents().is_empty());
            if given_up {
                return Err(io::Error::other("nobody wants more of it"));
            }
            if !input {
                continue;
            }
            match rustix::io::read(&self.input, &mut *buffer) {
                // Somebody else has read it, or it was a false alarm: poll(2), BUGS.
                Err(Errno::AGAIN | Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn all_that_is_sent_is_read_and_then_the_end_is() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        // A descriptor that does not block is waited for all the same.
        theirs.set_nonblocking(true).unwrap();
        let (mut incoming, _held) = incoming(theirs.into()).unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ours.write_all(&sent).unwrap();
                drop(ours);
            });
            let mut read = Vec::new();
            incoming.read_to_end(&mut read).unwrap();
            assert!(read == sent);
        });
    }

    #[test]
    fn who_waits_for_a_sender_that_has_stalled_is_let_go() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let (mut incoming, give_up) = incoming(theirs.into()).unwrap();
        let read = |incoming: &mut Incoming| incoming.read(&mut [0; 10]).map_err(|error| error.to_string());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| read(&mut incoming));
            give_up.now();
            assert_eq!(waiting.join().unwrap().unwrap_err(), "nobody wants more of it");
        });
        assert!(read(&mut incoming).is_err(), "nor does anybody later");
    }
}
