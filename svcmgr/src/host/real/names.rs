//! Services that wait for their names on the bus, and for a bus where there is none yet.

use rustix::event::epoll::EventFlags;

use super::RealHost;
use crate::graph::UnitId;
use crate::host::Host;
use crate::host::bus::{Heard, NameWatch, address};
use crate::host::token::Token;

/// Without a bus, it is looked for again after this time, in microseconds.
const AGAIN: u64 = 200_000;

/// A service that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    name: String,
    watch: Option<NameWatch>,
    /// When to look for a bus again (`CLOCK_MONOTONIC`).
    again_at: u64,
}

impl RealHost {
    pub(super) fn await_name(&mut self, id: UnitId, name: String) {
        let watched = NameWatch::connect(&address(), &name).and_then(|watch| {
            self.watch(watch.fd(), Token::Bus(id), EventFlags::IN)?;
            Ok(watch)
        });
        let watch = watched.inspect_err(|error| log::debug!("no bus to look for {name}: {error}")).ok();
        let again_at = if watch.is_some() { u64::MAX } else { self.now().mono.saturating_add(AGAIN) };
        self.names.insert(id, Waiting { name, watch, again_at });
    }

    /// Whether the name of a unit has an owner now.
    pub fn is_named_now(&mut self, id: UnitId) -> bool {
        let again_at = self.now().mono.saturating_add(AGAIN);
        let Some(waiting) = self.names.get_mut(&id) else { return false };
        match waiting.watch.as_mut().map(NameWatch::hear) {
            Some(Heard::Owned) => {
                self.names.remove(&id);
                true
            }
            Some(Heard::Nothing) => false,
            Some(Heard::Gone) | None => {
                waiting.watch = None;
                waiting.again_at = again_at;
                false
            }
        }
    }

    /// When a bus has to be looked for again.
    pub fn next_bus_search(&self) -> Option<u64> {
        self.names.values().map(|waiting| waiting.again_at).min().filter(|at| *at != u64::MAX)
    }

    /// Looks for a bus again, for those for whom it is time.
    pub fn search_bus(&mut self) {
        let now = self.now().mono;
        let late: Vec<(UnitId, String)> = self
            .names
            .iter()
            .filter(|(_, waiting)| waiting.again_at <= now)
            .map(|(id, waiting)| (*id, waiting.name.clone()))
            .collect();
        for (id, name) in late {
            self.await_name(id, name);
        }
    }
}
