//! Descriptors that PID 1 keeps for the supervisor, by name: what the dead one held, the next one gets back.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// How many at most. The kernel grants PID 1 1024 descriptors (`INR_OPEN_CUR`), and some are our own; a service takes
/// one, for its output.
pub const MAX_STORED: usize = 512;

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
