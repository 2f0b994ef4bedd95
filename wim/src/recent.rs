//! Directories that stay open for the next entries: neighbours in an image mostly are neighbours in its tree, and
//! opening one is a walk from the target down.

use std::borrow::Borrow;
use std::rc::Rc;

use crate::error::TargetError;
use crate::target::Directory;

/// Few enough for any limit of open files, with a set for each worker.
const MOST_OPEN: usize = 16;

/// The directories that one thread used last, each by what it goes by there: a path, or a name's number.
pub(crate) struct OpenDirectories<K> {
    recent: Vec<(K, Rc<Directory>)>,
}

impl<K> Default for OpenDirectories<K> {
    fn default() -> Self {
        OpenDirectories { recent: Vec::new() }
    }
}

impl<K> OpenDirectories<K> {
    /// The directory of this key, opened by `open` unless it is open.
    pub(crate) fn get<Q>(
        &mut self,
        key: &Q,
        open: impl FnOnce() -> Result<Directory, TargetError>,
    ) -> Result<Rc<Directory>, TargetError>
    where
        K: Borrow<Q>,
        Q: PartialEq + ToOwned<Owned = K> + ?Sized,
    {
        let held = match self.recent.iter().position(|(known, _)| known.borrow() == key) {
            Some(at) => self.recent.remove(at),
            None => (key.to_owned(), Rc::new(open()?)),
        };
        let directory = Rc::clone(&held.1);
        self.recent.truncate(MOST_OPEN.saturating_sub(1));
        self.recent.insert(0, held);
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[test]
    fn what_was_used_last_stays_open_and_what_was_not_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let mut open = OpenDirectories::<u32>::default();
        let mut opened = Vec::new();
        for key in (0..16).chain([0, 16, 0, 1]) {
            open.get(&key, || {
                opened.push(key);
                target.directory(b"")
            })
            .unwrap();
        }
        // 0 was used again before 16 came, so 1 had to go.
        assert_eq!(opened, (0..17).chain([1]).collect::<Vec<_>>());
    }
}
