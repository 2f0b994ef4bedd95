//! Descriptors that services have stored with us (sd_notify(3), `FDSTORE=1`): kept for their next start, in PID 1's
//! store too, so that they outlive the supervisor as well.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;

use super::RealHost;
use crate::graph::UnitId;
use crate::host::sys;
use crate::host::token::Token;
use crate::machine::Machine;
use crate::unit::{Preserve, Unit};

/// What one is called to which its service gave no name; sd_notify(3), `FDNAME=`.
const UNNAMED: &str = "stored";
/// What the names of all of them begin with in PID 1's store.
const PREFIX: &str = "fd:";

/// One of them.
#[derive(Debug)]
pub(super) struct Kept {
    serial: u32,
    name: String,
    polled: bool,
    fd: OwnedFd,
}

impl Kept {
    /// What it is called in PID 1's store. The service's name for it holds no colon; a unit's may.
    fn key(&self, unit: &str) -> String {
        format!("{PREFIX}{}:{}:{}:{unit}", self.serial, u8::from(self.polled), self.name)
    }

    fn parse(key: &str, fd: OwnedFd) -> Option<(Kept, &str)> {
        let mut parts = key.strip_prefix(PREFIX)?.splitn(4, ':');
        let serial = parts.next()?.parse().ok()?;
        let polled = parts.next()? == "1";
        let name = parts.next()?.to_owned();
        Some((Kept { serial, name, polled, fd }, parts.next()?))
    }
}

impl RealHost {
    /// Keeps descriptors that a service sent, as many as it may have.
    pub fn keep_descriptors(&mut self, id: UnitId, unit: &Unit, name: Option<&str>, polled: bool, fds: Vec<OwnedFd>) {
        let most = unit.service.store_max;
        for fd in fds {
            let kept = self.kept.entry(id).or_default();
            // It may say the same again and again.
            if kept.iter().any(|known| sys::is_same_file(known.fd.as_fd(), fd.as_fd())) {
                continue;
            }
            if kept.len() >= most {
                log::warn!("{}: more descriptors than FileDescriptorStoreMax={most}: not kept", unit.name);
                return;
            }
            let serial = self.next_kept;
            self.next_kept = self.next_kept.wrapping_add(1);
            let one = Kept { serial, name: name.unwrap_or(UNNAMED).to_owned(), polled, fd };
            self.store(&one.key(&unit.name), one.fd.as_fd());
            self.watch_kept(&unit.name, &one);
            self.kept.entry(id).or_default().push(one);
        }
    }

    fn watch_kept(&self, unit: &str, kept: &Kept) {
        if !kept.polled {
            return;
        }
        // What cannot be polled, such as a file, has no other end that could hang up: epoll_ctl(2), EPERM.
        match self.watch(kept.fd.as_fd(), Token::Kept(kept.serial), EventFlags::empty()) {
            Err(error) if error.raw_os_error() != Some(libc::EPERM) => {
                log::warn!("{unit}: the descriptor {} that it stored cannot be watched: {error}", kept.name);
            }
            _ => {}
        }
    }

    /// The other end of one has hung up: it is of no use any more.
    pub fn hung_up(&mut self, serial: u32, machine: &Machine) {
        let found = self.kept.iter().find(|(_, kept)| kept.iter().any(|one| one.serial == serial)).map(|(id, _)| *id);
        if let Some((id, unit)) = found.and_then(|id| Some((id, machine.unit(id)?))) {
            self.drop_kept(id, &unit.name, |one| one.serial == serial);
        }
    }

    /// A service wants those of a name no longer.
    pub fn forget_descriptors(&mut self, id: UnitId, unit: &Unit, name: &str) {
        self.drop_kept(id, &unit.name, |one| one.name == name);
    }

    /// A service has stopped: what of its descriptors is kept is what `FileDescriptorStorePreserve=` says.
    pub(super) fn release_descriptors(&mut self, id: UnitId, unit: &Unit, restarting: bool) {
        let stays = match unit.service.store_preserve {
            Preserve::No => false,
            Preserve::Restart => restarting,
            Preserve::Yes => true,
        };
        if !stays {
            self.drop_kept(id, &unit.name, |_| true);
        }
    }

    fn drop_kept(&mut self, id: UnitId, unit: &str, goes: impl Fn(&Kept) -> bool) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        let (gone, stay) = std::mem::take(kept).into_iter().partition(goes);
        *kept = stay;
        if kept.is_empty() {
            self.kept.remove(&id);
        }
        let gone: Vec<Kept> = gone;
        for one in &gone {
            // Others may have it, too: then it would be watched on when we have closed it.
            let _ = rustix::event::epoll::delete(&self.epoll, &one.fd);
            self.unstore(&one.key(unit));
        }
    }

    /// Takes back what PID 1 kept for services.
    pub fn restore_descriptors(&mut self, machine: &Machine, stored: &mut BTreeMap<String, OwnedFd>) {
        let keys: Vec<String> = stored.keys().filter(|key| key.starts_with(PREFIX)).cloned().collect();
        for key in keys {
            let Some((kept, unit)) = stored.remove(&key).and_then(|fd| Kept::parse(&key, fd)) else { continue };
            let Some(id) = machine.find(unit) else {
                self.unstore(&key);
                continue;
            };
            self.next_kept = self.next_kept.max(kept.serial.wrapping_add(1));
            self.watch_kept(unit, &kept);
            self.kept.entry(id).or_default().push(kept);
        }
        for kept in self.kept.values_mut() {
            kept.sort_by_key(|one| one.serial);
        }
        self.restore_readiness(machine, stored);
        self.restore_sockets(machine, stored);
    }
}

/// What a service gets back, in the order in which it stored it.
pub(super) fn passed(kept: Option<&Vec<Kept>>) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
    kept.into_iter().flatten().map(|one| (one.name.clone(), one.fd.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_known_again_by_its_name_in_pid_1s_store() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let kept = Kept { serial: 7, name: "conn 1".into(), polled: true, fd: null() };
        let key = kept.key("a:b@c.service");
        assert_eq!(key, "fd:7:1:conn 1:a:b@c.service");
        let (again, unit) = Kept::parse(&key, null()).unwrap();
        assert_eq!((again.serial, again.name.as_str(), again.polled, unit), (7, "conn 1", true, "a:b@c.service"));
        assert!(Kept::parse("fd:x", null()).is_none());
        let longest = Kept { name: "n".repeat(255), ..kept }.key(&"u".repeat(255));
        assert!(longest.len() <= link::message::MAX_NAME);
    }
}
