//! What PID 1 is told. Its socket may be full for a moment, while it buries thousands of orphans say: what it does not take
//! then waits here, in the order in which it was said, or a descriptor would be kept that was let go long since.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use link::channel::may_pass;
use link::{Channel, ToInit};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::RealHost;
use crate::host::Host;
use crate::host::token::Token;

/// So many messages wait at most: each may hold descriptors, and a PID 1 that has taken none of them hangs.
const MOST_WAITING: usize = 1024;
/// A supervisor that leaves waits so long for a PID 1 that is busy.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// PID 1, as the supervisor sees it.
#[derive(Debug)]
pub(super) struct Pid1 {
    channel: Channel,
    waiting: VecDeque<(ToInit, Vec<OwnedFd>)>,
    /// Whether its socket is watched for room.
    watched: bool,
    /// What could not be said for another reason than that: when it is tried again, and how often it was.
    again: Option<u64>,
    tries: u32,
}

/// What could not be said for want of memory or descriptors is tried again after so many microseconds, and so often. Then
/// it is dropped: kept, it would stand before all else for ever, and PID 1 waits for answers.
const AGAIN: u64 = 50_000;
const TRIES: u32 = 60;

/// Why not all was said.
#[derive(Debug, PartialEq, Eq)]
enum Stuck {
    /// There is no room in the socket.
    Full,
    /// Of memory, or of descriptors on their way, there are too few.
    Short,
}

impl Pid1 {
    pub(super) fn new(channel: Channel) -> Pid1 {
        Pid1 { channel, waiting: VecDeque::new(), watched: false, again: None, tries: 0 }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Tells it, now or as soon as it takes it.
    fn say(&mut self, message: ToInit, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.waiting.is_empty() {
            match self.channel.send(&message, fds) {
                Err(error) if may_pass(&error) => {}
                said => return said,
            }
        }
        if self.waiting.len() >= MOST_WAITING {
            return Err(io::Error::other("it has not listened for long"));
        }
        let fds = fds.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        self.waiting.push_back((message, fds));
        Ok(())
    }

    /// Has a descriptor kept by the message that is to be said last, if there is room in it; else that one is said first.
    /// PID 1 is woken by each.
    pub(super) fn store_soon(&mut self, name: &str, fd: BorrowedFd<'_>) {
        let fd = match fd.try_clone_to_owned() {
            Ok(fd) => fd,
            Err(error) => return log::warn!("PID 1 cannot keep the descriptor {name}: {error}"),
        };
        if let Some((ToInit::Store(names), fds)) = self.waiting.back_mut()
            && has_room(names, name)
        {
            names.push(name.to_owned());
            fds.push(fd);
            return;
        }
        self.go_on();
        if self.waiting.len() >= MOST_WAITING {
            return log::warn!("PID 1 cannot keep the descriptor {name}: it has not listened for long");
        }
        self.waiting.push_back((ToInit::Store(vec![name.to_owned()]), vec![fd]));
    }

    /// Says what waits, as far as it is taken; what else there is.
    fn go_on(&mut self) -> Option<Stuck> {
        while let Some((message, fds)) = self.waiting.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match self.channel.send(message, &fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(Stuck::Full),
                Err(error) if may_pass(&error) && self.tries < TRIES => {
                    self.tries = self.tries.saturating_add(1);
                    return Some(Stuck::Short);
                }
                Err(error) => log::error!("PID 1 cannot be told \"{message}\": {error}"),
                Ok(()) => {}
            }
            self.waiting.pop_front();
            self.tries = 0;
        }
        None
    }
}

fn has_room(names: &[String], name: &str) -> bool {
    let with = names.iter().map(String::as_str).chain([name]);
    link::message::in_one(with) > names.len()
}

impl RealHost {
    /// The channel to PID 1.
    pub fn channel(&self) -> Option<&Channel> {
        self.pid1.as_ref().map(Pid1::channel)
    }

    /// PID 1's end is gone: there is nobody to speak to.
    pub fn drop_channel(&mut self) {
        self.pid1 = None;
    }

    /// Says to PID 1 what it was not told yet, or has not taken. To be called in each turn.
    pub fn speak(&mut self) {
        let now = self.now().mono;
        let has_to =
            |pid1: &&mut Pid1| pid1.watched || !pid1.waiting.is_empty() && pid1.again.is_none_or(|at| at <= now);
        let Some(pid1) = self.pid1.as_mut().filter(has_to) else { return };
        let stuck = pid1.go_on();
        pid1.again = (stuck == Some(Stuck::Short)).then(|| now.saturating_add(AGAIN));
        let (wanted, is_watched) = (stuck == Some(Stuck::Full), pid1.watched);
        if wanted == is_watched {
            return;
        }
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let Some(channel) = self.channel() else { return };
        match self.watch_for(channel.as_fd(), Token::Init, flags) {
            Ok(()) => {
                if let Some(pid1) = &mut self.pid1 {
                    pid1.watched = wanted;
                }
            }
            Err(error) => log::warn!("PID 1 cannot be watched: {error}"),
        }
    }

    /// When it is tried again to say what could not be said (`CLOCK_MONOTONIC`).
    pub fn next_word(&self) -> Option<u64> {
        self.pid1.as_ref().filter(|pid1| !pid1.waiting.is_empty()).and_then(|pid1| pid1.again)
    }

    /// Says all of it, since nobody will later; for a bounded time.
    pub fn speak_to_the_end(&mut self) {
        let end = Instant::now().checked_add(LAST_WORDS);
        while let Some(pid1) = self.pid1.as_mut().filter(|pid1| !pid1.waiting.is_empty()) {
            let left = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return log::error!("PID 1 has not heard all: {} messages are lost", pid1.waiting.len());
            }
            match pid1.go_on() {
                Some(Stuck::Full) => {
                    let timeout = Timespec::try_from(left).ok();
                    let _ = poll(&mut [PollFd::new(&pid1.channel, PollFlags::OUT)], timeout.as_ref());
                }
                Some(Stuck::Short) => std::thread::sleep(Duration::from_micros(AGAIN)),
                None => {}
            }
        }
    }

    /// Tells PID 1 something, and gives it descriptors.
    ///
    /// # Errors
    /// When it cannot be told, now or later.
    pub(super) fn tell(&mut self, message: ToInit, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.pid1.as_mut().map_or(Ok(()), |pid1| pid1.say(message, fds))
    }

    /// Gives a descriptor to PID 1 to keep, together with others, by [`RealHost::speak`].
    pub fn store_soon(&mut self, name: &str, fd: BorrowedFd<'_>) {
        if let Some(pid1) = &mut self.pid1 {
            pid1.store_soon(name, fd);
        }
    }

    /// Gives a descriptor to PID 1 to keep.
    pub fn store(&mut self, name: &str, fd: BorrowedFd<'_>) {
        if let Err(error) = self.tell(ToInit::Store(vec![name.to_owned()]), &[fd]) {
            log::warn!("PID 1 cannot keep the descriptor {name}: {error}");
        }
    }

    /// Has PID 1 close what it keeps under a name.
    pub fn unstore(&mut self, name: &str) {
        if let Err(error) = self.tell(ToInit::Drop(name.to_owned()), &[]) {
            log::warn!("PID 1 cannot drop the descriptor {name}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_waits_and_goes_in_order() {
        let (init, ours) = Channel::pair().unwrap();
        let mut pid1 = Pid1::new(ours);
        let file = tempfile::tempfile().unwrap();
        let mut said: u32 = 0;
        while pid1.waiting.len() < 3 {
            pid1.say(ToInit::Store(vec![said.to_string()]), &[file.as_fd()]).unwrap();
            said += 1;
        }
        pid1.say(ToInit::Drop("0".into()), &[]).unwrap();
        let mut heard = 0;
        while heard < said {
            let received = init.receive().unwrap().unwrap();
            assert_eq!((received.text, received.fds.len()), (format!("store {heard}"), 1));
            heard += 1;
            pid1.go_on();
        }
        assert_eq!(init.receive().unwrap().unwrap().text, "drop 0");
        assert!(pid1.waiting.is_empty() && init.receive().unwrap().is_none());
    }

    #[test]
    fn descriptors_that_are_stored_together_go_in_as_few_messages_as_they_fit_in() {
        let (init, ours) = Channel::pair().unwrap();
        let mut pid1 = Pid1::new(ours);
        let file = tempfile::tempfile().unwrap();
        for n in 0..20 {
            pid1.store_soon(&format!("out:{n}"), file.as_fd());
        }
        pid1.go_on();
        let counts = std::iter::from_fn(|| init.receive().unwrap()).map(|received| received.fds.len());
        assert_eq!(counts.collect::<Vec<_>>(), [link::message::MAX_FDS, 4]);
    }

    #[test]
    fn one_that_never_listens_is_not_waited_for_with_ever_more() {
        let (_init, ours) = Channel::pair().unwrap();
        let mut pid1 = Pid1::new(ours);
        let refused = (0..100_000).find_map(|_| pid1.say(ToInit::Pong, &[]).err()).unwrap();
        assert!(refused.to_string().contains("not listened"), "{refused}");
        assert_eq!(pid1.waiting.len(), MOST_WAITING);
    }
}
