//! What unpacking could not reproduce and went on without, counted from all workers and told once, in words.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::name::shown;

/// What is missing, and why.
type Kind = (&'static str, &'static str);

/// Counts by kind, each with the first path.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    counted: Mutex<BTreeMap<Kind, (u64, String)>>,
}

impl Notes {
    /// One more file whose `what` was not set, for the reason `why`.
    pub(crate) fn not_set(&self, what: &'static str, why: &'static str, path: &[u8]) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = counted.entry((what, why)).or_insert_with(|| (0, shown(path)));
        *count = count.saturating_add(1);
    }

    pub(crate) fn into_words(self) -> Vec<String> {
        let counted = self.counted.into_inner().unwrap_or_else(PoisonError::into_inner);
        counted
            .into_iter()
            .map(|((what, why), (count, first))| format!("{what} left out on {count} files, first {first}: {why}"))
            .collect()
    }
}
