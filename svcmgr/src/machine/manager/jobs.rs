//! What people ask for: a unit to be started, stopped, started again; what goes along with it, and when it is answered.

use std::collections::BTreeSet;

use super::{Action, Machine, Refusal, WaiterId, Wish};
use crate::graph::UnitId;
use crate::machine::{Event, Now, Phase};
use crate::unit::StartType;

impl Machine {
    /// Starts a unit and what it needs. The answer comes as an action.
    pub fn request_start(&mut self, id: UnitId, waiter: WaiterId, now: Now) -> Result<(), Refusal> {
        self.may_be_started(id)?;
        self.wait(id, waiter, Wish::Up);
        if !matches!(self.phase(id), Phase::Inactive | Phase::Failed) {
            self.events.push_back((id, Event::Start { fresh: true }));
        }
        let mut seen = BTreeSet::new();
        self.pull(id, true, &mut seen);
        self.propagate(now);
        self.answer(id);
        Ok(())
    }

    /// Stops a unit and what requires it. The answer comes as an action.
    pub fn request_stop(&mut self, id: UnitId, waiter: WaiterId, now: Now) {
        self.wait(id, waiter, Wish::Down);
        self.stop_with_dependants(id);
        self.propagate(now);
        self.answer(id);
    }

    /// Stops a unit and what requires it, and starts them again. The answer comes as an action.
    pub fn request_restart(&mut self, id: UnitId, waiter: WaiterId, now: Now) -> Result<(), Refusal> {
        self.may_be_started(id)?;
        self.wait(id, waiter, Wish::Up);
        let again = self.dependants(id, false);
        self.events.extend(again.iter().map(|other| (*other, Event::Restart)));
        // All that start again need what their first start needed; and those that are at rest are started.
        let mut seen: BTreeSet<UnitId> = again.iter().copied().collect();
        for other in &again {
            if self.phase(*other).is_down()
                && let Some(reason) = self.make_way(*other, &seen)
            {
                self.events.push_back((*other, Event::Blocked(reason)));
            }
        }
        let needs =
            again.iter().map(|other| self.node(*other)).flat_map(|node| node.requires.iter().chain(&node.wants));
        for other in needs.copied().collect::<Vec<_>>() {
            self.pull(other, true, &mut seen);
        }
        self.propagate(now);
        self.answer(id);
        Ok(())
    }

    /// Whether a unit may be started at all.
    pub fn may_be_started(&self, id: UnitId) -> Result<(), Refusal> {
        if self.ending {
            return Err(Refusal::Ending);
        }
        match self.state(id) {
            Some(state) if state.phase == Phase::Refused => Err(Refusal::Refused(state.reason.clone())),
            _ => match self.disabled(id) {
                Some(reason) => Err(Refusal::Refused(reason)),
                None => Ok(()),
            },
        }
    }

    pub(super) fn disabled(&self, id: UnitId) -> Option<String> {
        match self.start_type(id) {
            (StartType::Disabled, from) => Some(format!("disabled by {from}")),
            _ => None,
        }
    }

    pub(super) fn wait(&mut self, id: UnitId, waiter: WaiterId, wish: Wish) {
        self.waiters.entry(id).or_default().push((waiter, wish));
    }

    /// Stops a unit, and all that cannot be without it.
    pub(super) fn stop_with_dependants(&mut self, id: UnitId) {
        for other in self.dependants(id, true) {
            self.events.push_back((other, Event::Stop));
        }
    }

    /// Stops what a unit that is to be started conflicts with. Why it cannot be started: one of them is started along.
    fn make_way(&mut self, id: UnitId, seen: &BTreeSet<UnitId>) -> Option<String> {
        for other in self.node(id).rare().conflicts.clone() {
            let queued = self.events.iter().any(|(one, event)| *one == other && matches!(event, Event::Start { .. }));
            if seen.contains(&other) && (queued || self.phase(other) == Phase::Queued) {
                let name = self.unit(other).map_or("?", |unit| unit.name.as_str());
                return Some(format!("conflicts with {name}, which is started together with it (Conflicts=)"));
            }
            if !self.phase(other).is_down() {
                self.stop_with_dependants(other);
            }
        }
        None
    }

    /// Queues `id` and what it needs, as far as they are at rest.
    pub(super) fn pull(&mut self, id: UnitId, fresh: bool, seen: &mut BTreeSet<UnitId>) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if !seen.insert(id) || self.disabled(id).is_some() {
                continue;
            }
            if let Some(reason) = self.make_way(id, seen) {
                self.events.extend([(id, Event::Start { fresh }), (id, Event::Blocked(reason))]);
                continue;
            }
            match self.phase(id) {
                Phase::Inactive | Phase::Failed | Phase::StopHeld => {
                    self.events.push_back((id, Event::Start { fresh }));
                }
                phase if phase.is_stopping() => self.events.push_back((id, Event::Start { fresh })),
                // It did its work.
                Phase::Done => {}
                _ => {}
            }
            let node = self.node(id);
            stack.extend(node.requires.iter().chain(&node.wants).copied());
        }
    }

    /// `id` and all units that cannot be without it or are a part of it, directly or not, and are not at rest; with
    /// those that are stopped with it, but not started again.
    pub(super) fn dependants(&self, id: UnitId, for_good: bool) -> Vec<UnitId> {
        let mut seen = BTreeSet::new();
        let mut stack = vec![id];
        let mut found = Vec::new();
        while let Some(other) = stack.pop() {
            if !seen.insert(other) || (other != id && self.phase(other).is_down()) {
                continue;
            }
            found.push(other);
            let node = self.node(other);
            stack.extend(node.required_by.iter().chain(&node.rare().parts).copied());
            if for_good {
                stack.extend(node.rare().stops.iter().copied());
            }
        }
        found
    }

    /// Answers those who wait for `id` and whose wish is fulfilled, or cannot be.
    pub(super) fn answer(&mut self, id: UnitId) {
        let Some(waiters) = self.waiters.remove(&id) else { return };
        let phase = self.phase(id);
        let hopeless = self.is_hopeless(id);
        let reason = self.state(id).map(|state| state.reason.clone()).unwrap_or_default();
        let failed = || if reason.is_empty() { "it failed".to_owned() } else { reason.clone() };
        let mut left = Vec::new();
        for (waiter, wish) in waiters {
            let answer = match (wish, phase) {
                (Wish::Up, Phase::Active | Phase::Done) => Ok(()),
                (Wish::Up, Phase::Failed | Phase::Refused) => Err(failed()),
                (Wish::Up, Phase::Inactive) => Err("it was stopped meanwhile".to_owned()),
                (Wish::Up, _) if hopeless => Err(format!("it keeps failing: {}", failed())),
                (Wish::Down, phase) if phase.is_down() => Ok(()),
                // Gone, and on its way up again, since somebody asked for that meanwhile.
                (Wish::Down, Phase::Queued) => Ok(()),
                (Wish::Down, Phase::Active) => Err("it was started again meanwhile".to_owned()),
                _ => {
                    left.push((waiter, wish));
                    continue;
                }
            };
            self.actions.push(Action::Answer(waiter, answer));
        }
        if !left.is_empty() {
            self.waiters.insert(id, left);
        }
    }
}
