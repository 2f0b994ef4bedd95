//! What PID 1 has to tell the supervisor and the socket did not take yet. What a new supervisor must hear first goes
//! before the exits; those are bounded, since a machine whose supervisor hangs must not fill PID 1's memory.

use std::collections::VecDeque;

use link::{Ending, FromInit};

/// Exits that are kept at most: 32 KiB. Far more than a machine has services; a fork bomb's children are not worth
/// more.
pub const MAX_EXITS: usize = 4096;

/// An exit: process and status, as `wait(2)` gives them.
pub type Exit = (i32, i32);

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    first: VecDeque<FromInit>,
    exits: VecDeque<Exit>,
    dropped: u64,
}

impl Outbox {
    /// A process was reaped. Of too many the oldest is dropped; the number of all that were dropped so far is returned
    /// then.
    pub fn reaped(&mut self, exit: Exit) -> Option<u64> {
        let full = self.exits.len() >= MAX_EXITS;
        if full {
            self.exits.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.exits.push_back(exit);
        full.then_some(self.dropped)
    }

    /// The supervisor is asked whether it lives.
    pub fn ping(&mut self) {
        self.first.push_back(FromInit::Ping);
    }

    /// The machine shall end.
    pub fn shutdown(&mut self, ending: Ending) {
        self.first.push_back(FromInit::Shutdown(ending));
    }

    /// A new supervisor starts: it hears of the descriptors kept under `names`, that these were all, of an ending that
    /// is under way, and then of the exits, those that its predecessor did not read before the others.
    pub fn begin_anew<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        ending: Option<Ending>,
        unread: impl IntoIterator<Item = FromInit>,
    ) {
        self.first = names.into_iter().map(|name| FromInit::Stored(name.to_owned())).collect();
        self.first.push_back(FromInit::Begin);
        self.first.extend(ending.map(FromInit::Shutdown));
        let mut exits: VecDeque<Exit> = unread
            .into_iter()
            .filter_map(|message| match message {
                FromInit::Reaped { pid, status } => Some((pid, status)),
                // Said anew above.
                FromInit::Stored(_) | FromInit::Begin | FromInit::Ping | FromInit::Shutdown(_) => None,
            })
            .collect();
        exits.append(&mut self.exits);
        self.exits = exits;
    }

    /// What is to be said next.
    pub fn next(&self) -> Option<FromInit> {
        let exit = || self.exits.front().map(|(pid, status)| FromInit::Reaped { pid: *pid, status: *status });
        self.first.front().cloned().or_else(exit)
    }

    /// It was said.
    pub fn said(&mut self) {
        if self.first.pop_front().is_none() {
            self.exits.pop_front();
        }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.exits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outbox: &mut Outbox) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(message) = outbox.next() {
            said.push(message.to_string());
            outbox.said();
        }
        assert!(outbox.is_empty());
        said
    }

    #[test]
    fn a_new_supervisor_hears_names_then_begin_then_what_its_predecessor_missed() {
        let mut outbox = Outbox::default();
        outbox.reaped((3, 9));
        let unread = [FromInit::Begin, FromInit::Reaped { pid: 2, status: 0 }, FromInit::Stored("old".into())];
        outbox.begin_anew(["control", "out:a"], Some(Ending::Reboot), unread);
        assert_eq!(
            all(&mut outbox),
            ["stored control", "stored out:a", "begin", "shutdown reboot", "reaped 2 0", "reaped 3 9"]
        );
    }

    #[test]
    fn a_supervisor_that_dies_before_it_heard_all_hears_all_again() {
        let mut outbox = Outbox::default();
        outbox.begin_anew(["a"], None, []);
        outbox.said();
        outbox.begin_anew(["a"], None, [FromInit::Stored("a".into())]);
        assert_eq!(all(&mut outbox), ["stored a", "begin"]);
    }

    #[test]
    fn too_many_exits_drop_the_oldest_and_are_counted() {
        let mut outbox = Outbox::default();
        let counts: Vec<Option<u64>> = (0..).take(MAX_EXITS + 2).map(|pid| outbox.reaped((pid, 0))).collect();
        assert_eq!(counts[MAX_EXITS - 1..], [None, Some(1), Some(2)]);
        let said = all(&mut outbox);
        assert_eq!((said.len(), said[0].as_str()), (MAX_EXITS, "reaped 2 0"));
    }
}
