//! Sockets and timers among the others: what they start, and what they are told of it.

use std::collections::BTreeSet;

use super::{Action, Machine};
use crate::graph::UnitId;
use crate::machine::unit::{UnitAction, is_watching};
use crate::machine::{Event, Now, Outcome, Phase, SocketWork};
use crate::unit::{Kind, Relation};

impl Machine {
    /// When the first supervisor of this boot began. Before [`Machine::boot`].
    pub fn set_startup(&mut self, mono: u64) {
        self.startup = mono;
    }

    /// The sockets that a service gets: those that start it, and those that it names (`Sockets=`), which may start another.
    pub fn sockets_of(&self, id: UnitId) -> impl Iterator<Item = UnitId> + '_ {
        let starting = &self.node(id).rare().triggered_by;
        let named = self.named_sockets(id).filter(|other| !starting.contains(other));
        starting.iter().copied().chain(named).filter(|other| self.is_socket(*other))
    }

    fn named_sockets(&self, id: UnitId) -> impl Iterator<Item = UnitId> + '_ {
        let named = self.unit(id).into_iter().flat_map(|unit| unit.named(Relation::TriggeredBy));
        named.filter_map(|reference| self.find(&reference.name))
    }

    /// The service of one connection is to be up; who is at the other end.
    pub fn connect(&mut self, id: UnitId, source: &str, now: Now) {
        if let Some(state) = self.states.get_mut(id.index()) {
            state.connection = Some(source.into());
            self.dirty.insert(id);
        }
        // Each is a start of its own: how many there may be is the socket's to say.
        self.events.push_back((id, Event::Start { fresh: true }));
        self.pull(id, true, &mut BTreeSet::new());
        self.propagate(now);
    }

    /// What a timer counts from, that is not its own to know.
    pub(super) fn prepare_trigger(&mut self, id: UnitId, now: Now) {
        if self.unit(id).is_none_or(|unit| unit.kind != Kind::Timer) {
            return;
        }
        let Some(other) = self.node(id).rare().triggers.first().copied() else { return };
        let is_up = !self.phase(other).is_down();
        // As far back as it is by the other clock.
        let begun = self.state(other).and_then(|state| state.started_at);
        let begun = begun.map(|at| now.mono.saturating_sub(now.boot.saturating_sub(at)));
        let startup = self.startup;
        if let Some(state) = self.states.get_mut(id.index()) {
            let trigger = state.trigger.get_or_insert_default();
            trigger.moments.startup = startup;
            trigger.taken = is_up;
            trigger.moments.unit_active = trigger.moments.unit_active.or(begun);
        }
    }

    /// Starts what a socket or a timer is there to start.
    pub(super) fn trigger(&mut self, id: UnitId) {
        if self.ending {
            return;
        }
        let Some(other) = self.node(id).rare().triggers.first().copied() else { return };
        if let Err(refusal) = self.may_be_started(other) {
            let name = self.unit(other).map_or("?", |unit| unit.name.as_str());
            self.events.push_back((id, Event::TriggerFailed(format!("{name} cannot be started: {refusal}"))));
            return;
        }
        if !self.phase(other).is_down() {
            self.events.push_back((id, Event::Taken));
        }
        self.start_triggered(other);
    }

    fn start_triggered(&mut self, id: UnitId) {
        self.events.push_back((id, Event::Triggered));
        // And what it needs.
        self.pull(id, false, &mut BTreeSet::new());
    }

    /// A unit has left rest, or come to rest: its sockets and timers hear of it.
    pub(super) fn tell_triggers(&mut self, id: UnitId, before: Phase, after: Phase) {
        if before.is_down() == after.is_down() || self.node(id).rare().triggered_by.is_empty() {
            return;
        }
        let event = if after.is_down() { Event::Released(self.hopeless_release(id)) } else { Event::Taken };
        for other in self.node(id).rare().triggered_by.clone() {
            self.events.push_back((other, event.clone()));
        }
    }

    /// Why starting a unit again would not help, if that is so.
    fn hopeless_release(&self, id: UnitId) -> Option<String> {
        let (unit, state) = self.unit(id).zip(self.state(id))?;
        let is_over = state.phase == Phase::Failed && state.outcome == Outcome::StartLimit;
        is_over.then(|| format!("{} has failed: {}", unit.name, state.reason))
    }

    /// What was lost with the supervisor before this one: sockets that were to be opened, watched, closed; what it had
    /// not told them.
    pub(super) fn resume_trigger(&mut self, id: UnitId) {
        let Some((unit, state)) = self.unit(id).zip(self.state(id)) else { return };
        let work: &[SocketWork] = match (unit.kind, state.phase) {
            (Kind::Socket, Phase::Active) if is_watching(unit.kind, state) => &[SocketWork::Open, SocketWork::Watch],
            (Kind::Socket, Phase::Active | Phase::StopHeld | Phase::StopCommand(_)) => &[SocketWork::Open],
            (Kind::Socket, Phase::StopPost(_) | Phase::StopFinal) => &[SocketWork::Close],
            (Kind::Socket, phase) if phase.is_down() => &[SocketWork::Close],
            _ => &[],
        };
        let taken = state.trigger.as_ref().is_some_and(|trigger| trigger.taken);
        let is_up = state.phase == Phase::Active;
        self.actions.extend(work.iter().map(|work| Action::Unit(id, UnitAction::Sockets(*work))));
        let Some(other) = self.node(id).rare().triggers.first().copied() else { return };
        match (is_up, taken, self.phase(other).is_down()) {
            (true, true, true) => self.events.push_back((id, Event::Released(None))),
            (true, false, false) => self.events.push_back((id, Event::Taken)),
            _ => {}
        }
    }

    /// Why a socket cannot be opened now: its service runs without it.
    pub(super) fn is_run_without(&self, id: UnitId) -> Option<String> {
        if !self.is_socket(id) {
            return None;
        }
        let gets_it = |other: &UnitId| self.named_sockets(*other).any(|socket| socket == id);
        let getting = self.graph.iter().map(|(other, _)| other).filter(gets_it);
        let running = self.node(id).rare().triggers.iter().copied().chain(getting).find(|other| {
            let phase = self.phase(*other);
            !phase.is_down() && !matches!(phase, Phase::Queued | Phase::Backoff)
        })?;
        let name = self.unit(running).map_or("?", |unit| unit.name.as_str());
        Some(format!("{name} runs already, without this socket: stop it first"))
    }

    fn is_socket(&self, id: UnitId) -> bool {
        self.unit(id).is_some_and(|unit| unit.kind == Kind::Socket)
    }
}
