//! What the system did not let the supervisor do just now, for want of descriptors, memory or room: it is kept and tried
//! again after a while, so that nothing of it is forgotten. That it does not go is told once, not each time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use link::ToInit;

use super::Supervisor;
use crate::graph::UnitId;
use crate::host::Host;
use crate::machine::{Event, Phase, SocketWork};

/// After this time it is tried again, in microseconds.
const AGAIN: u64 = 250_000;

/// What is to be done again.
#[derive(Debug, Default)]
pub(super) struct Undone {
    /// Units whose states are not written down.
    states: BTreeSet<UnitId>,
    /// That the boot is complete is not written down.
    boot: bool,
    /// What PID 1 was not told, in order.
    unsaid: VecDeque<ToInit>,
    /// Units of which it cannot be seen whether any of their processes is left, and whether they are being stopped.
    unseen: BTreeMap<UnitId, bool>,
    /// Units whose sockets are to be watched, or are not to be.
    watches: BTreeMap<UnitId, SocketWork>,
    /// Signals that could not be sent to all processes of a unit.
    unsent: BTreeMap<UnitId, i32>,
    /// When (`CLOCK_MONOTONIC`).
    at: Option<u64>,
}

impl Undone {
    fn is_empty(&self) -> bool {
        self.states.is_empty()
            && !self.boot
            && self.unsaid.is_empty()
            && self.unseen.is_empty()
            && self.watches.is_empty()
            && self.unsent.is_empty()
    }
}

impl<H: Host> Supervisor<H> {
    /// When [`Supervisor::tick`] has something to do (`CLOCK_MONOTONIC`).
    pub fn next_deadline(&self) -> Option<u64> {
        [self.machine.next_deadline(), self.undone.at].into_iter().flatten().min()
    }

    /// Tries again what did not go, if its time has come.
    pub(super) fn try_again(&mut self, now: u64) {
        if self.undone.at.is_none_or(|at| at > now) {
            return;
        }
        self.undone.at = None;
        let states = self.undone.states.clone();
        self.write_down(states);
        if self.undone.boot {
            self.write_boot_down();
        }
        let _ = self.speak();
        for (id, work) in self.undone.watches.clone() {
            self.work_on_sockets(id, work);
        }
        for (id, signal) in std::mem::take(&mut self.undone.unsent) {
            if self.is_stopping(id) {
                self.signal(id, signal);
            }
        }
        for (id, stopping) in self.undone.unseen.clone() {
            if stopping && !self.is_stopping(id) {
                self.undone.unseen.remove(&id);
            } else {
                self.await_empty(id, stopping);
            }
        }
    }

    /// A unit's sockets were worked on: what does not go is tried again, unless something else is asked of them
    /// meanwhile. Whether that is to be told.
    pub(super) fn note_watch(&mut self, id: UnitId, work: SocketWork, done: bool) -> bool {
        let before = self.undone.watches.remove(&id);
        let again = !done && matches!(work, SocketWork::Watch | SocketWork::Unwatch);
        if again {
            self.undone.watches.insert(id, work);
        }
        self.put_off();
        !done && before != Some(work)
    }

    /// Whether a unit waits for its processes to end.
    fn is_stopping(&self, id: UnitId) -> bool {
        let phase = self.machine.state(id).map(|state| state.phase);
        matches!(phase, Some(Phase::StopTerm | Phase::StopKill | Phase::StopFinal))
    }

    fn put_off(&mut self) {
        if self.undone.is_empty() {
            self.undone.at = None;
        } else if self.undone.at.is_none() {
            self.undone.at = Some(self.host.now().mono.saturating_add(AGAIN));
        }
    }

    /// Writes states down for the next supervisor.
    pub(super) fn write_down(&mut self, dirty: BTreeSet<UnitId>) {
        for id in dirty {
            let (Some(unit), Some(state)) = (self.machine.unit(id), self.machine.state(id)) else { continue };
            match self.host.persist(unit, state) {
                Ok(()) => {
                    self.undone.states.remove(&id);
                }
                Err(error) => {
                    if self.undone.states.insert(id) {
                        log::warn!("{}: its state cannot be written down: {error}; trying again", unit.name);
                    }
                }
            }
        }
        self.put_off();
    }

    /// Writes down that the boot is complete.
    pub(super) fn write_boot_down(&mut self) {
        let Some(summary) = self.machine.boot_summary() else { return };
        let written = self.host.persist_boot(summary);
        let was_undone = std::mem::replace(&mut self.undone.boot, written.is_err());
        if let Err(error) = written
            && !was_undone
        {
            log::warn!("that the boot is complete cannot be written down: {error}; trying again");
        }
        self.put_off();
    }

    /// Tells PID 1.
    pub(super) fn tell_init(&mut self, message: ToInit) {
        let is_first = self.undone.unsaid.is_empty();
        self.undone.unsaid.push_back(message);
        if is_first && let Err(error) = self.speak() {
            log::error!("PID 1 cannot be told how the machine is to end: {error}; trying again");
        }
    }

    /// Says to PID 1 what it was not told yet.
    fn speak(&mut self) -> std::io::Result<()> {
        let mut said = Ok(());
        while said.is_ok()
            && let Some(message) = self.undone.unsaid.front()
        {
            said = self.host.tell_init(message);
            if said.is_ok() {
                self.undone.unsaid.pop_front();
            }
        }
        self.put_off();
        said
    }

    /// Sends a signal to all processes of a unit.
    pub(super) fn signal(&mut self, id: UnitId, signal: i32) {
        let (Some(unit), Some(state)) = (self.machine.unit(id), self.machine.state(id)) else { return };
        self.undone.unsent.remove(&id);
        if let Err(error) = self.host.signal(id, unit, state, signal) {
            let name = crate::unit::signal::name(signal);
            log::warn!("{}: {name} cannot be sent: {error}; trying again", unit.name);
            self.undone.unsent.insert(id, signal);
        }
        self.put_off();
    }

    /// Hears of a unit's last process: now, if it is gone, or by an event.
    pub(super) fn await_empty(&mut self, id: UnitId, stopping: bool) {
        let Some(unit) = self.machine.unit(id) else { return };
        match self.host.await_empty(id, unit, stopping) {
            Ok(is_empty) => {
                self.undone.unseen.remove(&id);
                if is_empty {
                    let now = self.host.now();
                    self.machine.event(id, Event::Empty, now);
                }
            }
            Err(error) => {
                if self.undone.unseen.insert(id, stopping).is_none() {
                    let name = &unit.name;
                    log::warn!("{name}: it cannot be seen whether its processes are gone: {error}; trying again");
                }
            }
        }
        self.put_off();
    }
}
