//! All units: a change of one sets others in motion, through queues that are worked off before any action is handed
//! out. Requests and their answers are in [`jobs`], the boot in [`boot`], who
//! may move on in [`order`], and what the end of one unit does to others in [`effects`].

mod boot;
mod effects;
mod jobs;
mod order;
mod trigger;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::graph::{Graph, Node, UnitId};
use crate::unit::failure::EndAction;
use crate::unit::{StartType, Unit};

use super::unit::{UnitAction, step};
use super::{Event, Now, Phase, Said, UnitState};

/// So many deadlines pass at once: each may mean a process to be made, and others wait meanwhile.
const DEADLINES: usize = 8;

/// Somebody who waits for an answer.
pub type WaiterId = u64;

/// What the supervisor is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// For a unit.
    Unit(UnitId, UnitAction),
    /// Tell: a unit's phase has changed.
    Changed(UnitId, Phase, Phase),
    /// Answer: what was asked for is so, or why it is not.
    Answer(WaiterId, Result<(), String>),
    /// End the machine, because of a unit.
    End(UnitId, EndAction),
    /// Tell: no auto unit is on its way any more.
    BootComplete,
    /// The end may come: all units are at rest.
    AllStopped,
}

/// Why a request is not even tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be started.
    #[error("{0}")]
    Refused(String),
    /// The machine is ending.
    #[error("the machine is being shut down")]
    Ending,
}

/// How the boot went, as it was when it was complete.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct BootSummary {
    /// How many units are started at boot.
    pub auto: usize,
    /// How many of them were done, or up and steady.
    pub up: usize,
    /// The names of those that were not.
    pub failed: Vec<String>,
    /// When the last of them was up (`CLOCK_BOOTTIME`).
    pub up_at: u64,
    /// What the supervisor itself took until then.
    #[serde(default)]
    pub supervisor: SupervisorTimes,
}

/// When the supervisor was how far (`CLOCK_BOOTTIME`); of the one that was there when the boot was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SupervisorTimes {
    /// Its process began.
    pub began_at: u64,
    /// All units were read.
    pub loaded_at: u64,
    /// All was prepared, and the first units were started.
    pub booted_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Up,
    Down,
}

/// All units, and what is between them.
#[derive(Debug)]
pub struct Machine {
    graph: Graph,
    starts: Vec<(StartType, String)>,
    states: Vec<UnitState>,
    events: VecDeque<(UnitId, Event)>,
    checks: VecDeque<UnitId>,
    actions: Vec<Action>,
    dirty: BTreeSet<UnitId>,
    timers: BTreeSet<(u64, UnitId)>,
    waiters: BTreeMap<UnitId, Vec<(WaiterId, Wish)>>,
    /// Units that are not at rest.
    busy: usize,
    /// Auto units that are on their way.
    unsettled: BTreeSet<UnitId>,
    /// Until then nothing is started, and what was taken over is only told what happened meanwhile.
    boot_begun: bool,
    boot_complete: Option<BootSummary>,
    /// When the boot will be complete if nothing happens until then (`CLOCK_MONOTONIC`).
    boot_due: Option<u64>,
    last_up_at: u64,
    supervisor_times: SupervisorTimes,
    /// Since when a unit of `Type=idle` waits for all others (`CLOCK_MONOTONIC`).
    idle: BTreeMap<UnitId, u64>,
    /// When the first supervisor of this boot began (`CLOCK_MONOTONIC`).
    startup: u64,
    ending: bool,
    end_told: bool,
}

impl Machine {
    /// All units at rest, or refused.
    pub fn new(graph: Graph, starts: Vec<(StartType, String)>) -> Machine {
        let states = graph
            .units
            .iter()
            .map(|unit| match &unit.refused {
                Some(reason) => UnitState { phase: Phase::Refused, reason: reason.clone(), ..UnitState::default() },
                None => UnitState::default(),
            })
            .collect();
        Machine {
            graph,
            starts,
            states,
            events: VecDeque::new(),
            checks: VecDeque::new(),
            actions: Vec::new(),
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            waiters: BTreeMap::new(),
            busy: 0,
            unsettled: BTreeSet::new(),
            boot_begun: false,
            boot_complete: None,
            boot_due: None,
            last_up_at: 0,
            supervisor_times: SupervisorTimes::default(),
            idle: BTreeMap::new(),
            startup: 0,
            ending: false,
            end_told: false,
        }
    }

    /// Adds a unit, such as an instance that was asked for.
    pub fn add(&mut self, unit: Unit, start: (StartType, String)) -> UnitId {
        let id = self.graph.add(unit);
        self.starts.push(start);
        let refused = self.unit(id).and_then(|unit| unit.refused.clone());
        self.states.push(match refused {
            Some(reason) => UnitState { phase: Phase::Refused, reason, ..UnitState::default() },
            None => UnitState::default(),
        });
        id
    }

    /// The units and their edges.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A unit as its file says.
    pub fn unit(&self, id: UnitId) -> Option<&Unit> {
        self.graph.units.get(id.index())
    }

    /// A unit as it is.
    pub fn state(&self, id: UnitId) -> Option<&UnitState> {
        self.states.get(id.index())
    }

    /// A unit's start type, and what decided it.
    pub fn start_type(&self, id: UnitId) -> (StartType, &str) {
        self.starts.get(id.index()).map_or((StartType::Demand, "default"), |(start, from)| (*start, from.as_str()))
    }

    /// The unit of this name, or of which this is another name.
    pub fn find(&self, name: &str) -> Option<UnitId> {
        self.graph.names.get(name).copied()
    }

    /// When the next timeout is due (`CLOCK_MONOTONIC`).
    pub fn next_deadline(&self) -> Option<u64> {
        [self.timers.first().map(|(at, _)| *at), self.boot_due].into_iter().flatten().min()
    }

    /// What is to be done, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Units whose state has changed since this was last asked.
    pub fn take_dirty(&mut self) -> BTreeSet<UnitId> {
        std::mem::take(&mut self.dirty)
    }

    /// Stops everything, in reverse order; [`Action::AllStopped`] follows.
    pub fn shutdown(&mut self, now: Now) {
        if self.ending {
            return;
        }
        self.ending = true;
        let all: Vec<UnitId> = self.graph.iter().map(|(id, _)| id).filter(|id| !self.phase(*id).is_down()).collect();
        for id in all {
            self.events.push_back((id, Event::Stop));
        }
        self.propagate(now);
        self.check_end();
    }

    /// Whether the machine is ending.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Something happened to a unit.
    pub fn event(&mut self, id: UnitId, event: Event, now: Now) {
        self.events.push_back((id, event));
        self.propagate(now);
    }

    /// Lets deadlines pass that have: [`DEADLINES`] of them, the earliest first. [`Machine::next_deadline`] tells of more.
    pub fn tick(&mut self, now: Now) {
        for _ in 0..DEADLINES {
            let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono) else { break };
            // The step sets the next one, or none: this one must be gone, so that no timer fires twice.
            self.timers.remove(&(at, id));
            let due = self.states.get_mut(id.index()).and_then(|state| {
                let event = state.take_due(now.mono);
                self.timers.extend(state.due().map(|at| (at, id)));
                event
            });
            if let Some(event) = due {
                self.event(id, event, now);
            }
            // An idle one has waited for long enough.
            if self.phase(id) == Phase::Queued {
                self.checks.push_back(id);
                self.propagate(now);
            }
        }
        if self.boot_due.is_some_and(|at| at <= now.mono) {
            self.check_boot(now);
        }
    }

    /// What a unit says of itself, as far as people alone are concerned.
    pub fn set_said(&mut self, id: UnitId, said: Said) {
        if let Some(state) = self.states.get_mut(id.index())
            && state.said != said
        {
            state.said = said;
            self.dirty.insert(id);
        }
    }

    fn phase(&self, id: UnitId) -> Phase {
        self.state(id).map_or(Phase::Inactive, |state| state.phase)
    }

    fn node(&self, id: UnitId) -> &Node {
        static NONE: Node = Node::NONE;
        self.graph.nodes.get(id.index()).unwrap_or(&NONE)
    }

    /// Works the queues off: first what happened, then who may move on because of it.
    fn propagate(&mut self, now: Now) {
        loop {
            if let Some((id, event)) = self.events.pop_front() {
                self.step(id, event, now);
            } else if self.boot_begun
                && let Some(id) = self.checks.pop_front()
            {
                self.check(id, now);
            } else {
                return;
            }
        }
    }

    fn step(&mut self, id: UnitId, event: Event, now: Now) {
        if event == Event::Go {
            self.prepare_trigger(id, now);
        }
        let (Some(unit), Some(state)) = (self.graph.units.get(id.index()), self.states.get_mut(id.index())) else {
            return;
        };
        let old = state.clone();
        let (before, due) = (old.phase, old.due());
        let actions = step(unit, state, event, now);
        state.note_first_run(now.boot);
        let after = state.phase;
        let next = state.due();
        if next != due {
            if let Some(at) = due {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = next {
                self.timers.insert((at, id));
            }
        }
        // What changes nothing is not written down again, and that a service says that it lives changes nothing.
        if *state != (UnitState { watchdog_at: state.watchdog_at, ..old }) {
            self.dirty.insert(id);
        }
        for action in actions {
            match action {
                UnitAction::Trigger => self.trigger(id),
                action => self.actions.push(Action::Unit(id, action)),
            }
        }
        if before != after {
            self.changed(id, before, after);
        }
        if self.boot_begun && self.boot_complete.is_none() && self.start_type(id).0 == StartType::Auto {
            self.note_boot(id, now);
        }
    }

    fn changed(&mut self, id: UnitId, before: Phase, after: Phase) {
        self.actions.push(Action::Changed(id, before, after));
        match (before.is_down(), after.is_down()) {
            (true, false) => self.busy = self.busy.saturating_add(1),
            (false, true) => self.busy = self.busy.saturating_sub(1),
            (true, true) | (false, false) => {}
        }
        self.affect(id, before, after);
        self.tell_triggers(id, before, after);
        if (before, after) == (Phase::Backoff, Phase::Queued) && !self.ending {
            // A restart needs what the first start needed.
            let mut seen = BTreeSet::from([id]);
            for other in self.node(id).requires.clone() {
                self.pull(other, false, &mut seen);
            }
        }
        let node = self.graph.nodes.get(id.index());
        let around = node
            .into_iter()
            .flat_map(|n| n.before.iter().chain(&n.required_by).chain(&n.after).chain(&n.rare().conflicts));
        let phase = |id: &UnitId| self.states.get(id.index()).map(|state| state.phase);
        let moved = around
            .filter(|other| matches!(phase(other), Some(Phase::Queued | Phase::StartHeld | Phase::StopHeld)))
            .copied();
        self.checks.extend(moved);
        if matches!(after, Phase::Queued | Phase::StartHeld | Phase::StopHeld) {
            self.checks.push_back(id);
        }
        self.answer(id);
        self.check_end();
    }

    fn check_end(&mut self) {
        if self.ending && self.busy == 0 && !std::mem::replace(&mut self.end_told, true) {
            self.actions.push(Action::AllStopped);
        }
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
