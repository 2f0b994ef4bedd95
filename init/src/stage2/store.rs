//! Descriptors that PID 1 keeps for the supervisor, by name: what the dead one held, the next one gets back.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many at most: one for a service's output, and what services and their sockets need beside it, of a thousand
/// services and more.
pub const MAX_STORED: usize = 8192;
/// And so many are our own.
const OURS: u64 = 64;

/// How many descriptors the kernel grants us, and our children: it begins with 1024 (`INR_OPEN_CUR`), and programs that
/// use select(2) break with more.
#[derive(Debug, Clone)]
pub struct Room {
    ours: Rlimit,
    childrens: Rlimit,
}

impl Room {
    /// Has the kernel grant us as many as are kept.
    pub fn make() -> Room {
        let before = getrlimit(Resource::Nofile);
        let needed = u64::try_from(MAX_STORED).unwrap_or(u64::MAX).saturating_add(OURS);
        let enough = |limit: Option<u64>| limit.map(|limit| limit.max(needed));
        let ours = Rlimit { current: enough(before.current), maximum: enough(before.maximum) };
        if let Err(error) = setrlimit(Resource::Nofile, ours) {
            log::warn!("only {:?} descriptors can be kept for the supervisor: {error}", before.current);
            return Room { ours: before, childrens: before };
        }
        let childrens = Rlimit { current: before.current, maximum: ours.maximum };
        Room { ours, childrens }
    }

    /// Makes a child, by `spawn`, with no more than children get.
    pub fn spawn<T>(&self, spawn: impl FnOnce() -> T) -> T {
        let _ = setrlimit(Resource::Nofile, self.childrens);
        let made = spawn();
        if let Err(error) = setrlimit(Resource::Nofile, self.ours) {
            log::warn!("only {:?} descriptors can be kept for the supervisor: {error}", self.childrens.current);
        }
        made
    }
}

/// The store.
#[derive(Debug, Default)]
pub struct Store {
    by_name: BTreeMap<String, OwnedFd>,
}

/// The store is full.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "descriptor \"{0}\" is not kept: there are {MAX_STORED} already. It would be lost with the supervisor; stop some \
     services"
)]
pub struct Full(pub String);

impl Store {
    /// Keeps `fd` under `name`, instead of what was kept under it.
    pub fn put(&mut self, name: String, fd: OwnedFd) -> Result<(), Full> {
        if self.by_name.len() >= MAX_STORED && !self.by_name.contains_key(&name) {
            return Err(Full(name));
        }
        self.by_name.insert(name, fd);
        Ok(())
    }

    /// Closes what is kept under `name`; whether there was anything.
    pub fn forget(&mut self, name: &str) -> bool {
        self.by_name.remove(name).is_some()
    }

    /// What is kept under `name`.
    pub fn get(&self, name: &str) -> Option<&OwnedFd> {
        self.by_name.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe() -> (std::io::PipeReader, OwnedFd) {
        let (reader, writer) = std::io::pipe().unwrap();
        (reader, writer.into())
    }

    #[test]
    fn storing_again_under_a_name_closes_what_was_there() {
        let mut store = Store::default();
        let (mut old, writer) = pipe();
        store.put("out:a".into(), writer).unwrap();
        store.put("out:a".into(), pipe().1).unwrap();
        assert_eq!(old.read(&mut [0; 1]).unwrap(), 0, "its last writer is gone");
        assert_eq!(store.names().collect::<Vec<_>>(), ["out:a"]);
        assert!(store.forget("out:a") && !store.forget("out:a"));
    }

    #[test]
    fn room_is_made_for_all_that_may_be_stored() {
        let before = getrlimit(Resource::Nofile).current;
        let room = Room::make();
        let is_enough = || getrlimit(Resource::Nofile).current.is_none_or(|limit| limit >= 8192);
        assert!(is_enough());
        assert_eq!(room.spawn(|| getrlimit(Resource::Nofile).current), before);
        assert!(is_enough());
    }

    #[test]
    fn a_full_store_refuses_a_new_name_and_takes_a_known_one() {
        let mut store = Store::default();
        let (_reader, writer) = pipe();
        for i in 0..MAX_STORED {
            store.put(format!("n{i}"), writer.try_clone().unwrap()).unwrap();
        }
        assert_eq!(store.put("more".into(), writer.try_clone().unwrap()), Err(Full("more".into())));
        store.put("n7".into(), writer).unwrap();
        assert_eq!(store.names().count(), MAX_STORED);
    }
}
