//! Which system calls of a program a test has fail, by which error, and the how-manieth: strace(1) does it
//! (`--inject=SYSCALL:error=ERROR:when=N`). Which calls there are, and how many of each, a recording says of the same life
//! without a failure.

use std::collections::BTreeMap;
use std::fmt;

/// For want of descriptors, memory or room; interrupted, not now, and broken.
pub const ERRORS: [&str; 6] = ["EMFILE", "ENOMEM", "ENOSPC", "EINTR", "EAGAIN", "EIO"];

/// The environment variable that says which failures are wanted; see [`places`].
pub const WANTED: &str = "MMOS_FAULTS";

/// A call that fails: which, by what, and the how-manieth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The system call.
    pub call: String,
    /// What it answers.
    pub error: &'static str,
    /// From 1.
    pub n: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.call, self.error, self.n)
    }
}

impl Place {
    /// What strace is told.
    pub fn words(&self) -> [String; 4] {
        let Place { call, error, n } = self;
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when={n}"));
        ["-e".to_owned(), trace, "-e".to_owned(), inject]
    }
}

/// What strace has written of the call that it made fail, if it did.
pub fn injected(trace: &str) -> Option<&str> {
    trace.lines().find(|line| line.contains("(INJECTED)"))
}

/// The failures that are wanted, of the calls of a recording from the line on that has `beginning` in it. `wanted` is a
/// number, and each call fails by each error at so many places, spread over the whole life; `all`, at every one;
/// `CALL:ERROR:N`, this one; empty, as `1`. What is in `left_out`, with its reason, is left out, and that is said.
///
/// # Errors
/// In words, where `wanted` is none of these, or the recording has no such line.
pub fn places(trace: &str, beginning: &str, left_out: &[(&str, &str)], wanted: &str) -> Result<Vec<Place>, String> {
    let bad = || format!("{WANTED}={wanted} is no number, \"all\" or CALL:ERROR:N");
    if let [call, error, n] = wanted.split(':').collect::<Vec<_>>()[..] {
        let error = ERRORS.into_iter().find(|known| *known == error).ok_or_else(bad)?;
        return Ok(vec![Place { call: call.to_owned(), error, n: n.parse().map_err(|_| bad())? }]);
    }
    let most = match wanted {
        "" => 1,
        "all" => usize::MAX,
        number => number.parse().map_err(|_| bad())?,
    };
    let mut found = Vec::new();
    for (call, (before, there)) in counts(trace, beginning)? {
        if let Some((_, why)) = left_out.iter().find(|(name, _)| *name == call) {
            println!("{call}: left out: {why}");
            continue;
        }
        let number = most.min(there);
        let steps = number.saturating_mul(ERRORS.len());
        for (k, error) in ERRORS.into_iter().enumerate() {
            for place in 0..number {
                // Spread evenly, each error a little further on.
                let step = place.saturating_mul(ERRORS.len()).saturating_add(k);
                let offset = step.saturating_mul(there).checked_div(steps).unwrap_or(0);
                let n = before.saturating_add(1).saturating_add(offset);
                found.push(Place { call: call.to_owned(), error, n });
            }
        }
    }
    Ok(found)
}

/// Of each call how many there are before the beginning, and how many from there on.
fn counts<'a>(trace: &'a str, beginning: &str) -> Result<BTreeMap<&'a str, (usize, usize)>, String> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut begun = false;
    for line in trace.lines() {
        begun |= line.contains(beginning);
        let Some((name, _)) = line.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let (before, there) = counts.entry(name).or_default();
        let count = if begun { there } else { before };
        *count = count.saturating_add(1);
    }
    if begun { Ok(counts) } else { Err(format!("{beginning:?} is not in the recording")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "read(3, 1) = 1\nbegin() = 0\nread(3, 1) = 1\n--- SIGCHLD {si_signo=SIGCHLD} ---\nclose(3) = 0\nread(3, 1) = 1\n+++ exited with 0 +++\n";

    fn told(wanted: &str) -> Vec<String> {
        let left_out = [("close", "it closes"), ("begin", "it begins")];
        places(TRACE, "begin(", &left_out, wanted).unwrap().iter().map(Place::to_string).collect()
    }

    #[test]
    fn places_are_spread_over_what_comes_from_the_beginning_on() {
        let once = ["read:EMFILE:2", "read:ENOMEM:2", "read:ENOSPC:2", "read:EINTR:3", "read:EAGAIN:3", "read:EIO:3"];
        assert_eq!(told(""), once);
        assert_eq!(told("1"), once);
        assert_eq!(told("all").len(), 12);
        assert!(told("all").contains(&"read:EIO:2".to_owned()) && told("all").contains(&"read:EIO:3".to_owned()));
        assert_eq!(told("write:EIO:7"), ["write:EIO:7"]);
        for wrong in ["some", "read:EWHAT:1", "read:EIO:x"] {
            assert!(places(TRACE, "begin(", &[], wrong).unwrap_err().contains(wrong));
        }
        assert!(places(TRACE, "never(", &[], "").is_err());
    }
}
