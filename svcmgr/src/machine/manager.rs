//! All units: a change of one sets others in motion, through queues that are worked off before any action is handed
//! out. Requests and their answers are in [`jobs`], the boot in [`boot`].

mod boot;
mod jobs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::graph::{Graph, Node, UnitId};
use crate::unit::{StartType, Unit};

use super::unit::{UnitAction, step};
use super::{Event, Goal, Now, Phase, UnitState};

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
            ending: false,
            end_told: false,
        }
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

    /// Lets all deadlines pass that have.
    pub fn tick(&mut self, now: Now) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono) {
            // The step sets the next deadline, or none: this one must be gone, so that no timer fires twice.
            self.timers.remove(&(at, id));
            if let Some(state) = self.states.get_mut(id.index()) {
                state.deadline = None;
            }
            self.event(id, Event::Timeout, now);
        }
        if self.boot_due.is_some_and(|at| at <= now.mono) {
            self.check_boot(now);
        }
    }

    /// What a unit says of itself.
    pub fn set_status(&mut self, id: UnitId, status: String) {
        if let Some(state) = self.states.get_mut(id.index())
            && state.status != status
        {
            state.status = status;
            self.dirty.insert(id);
        }
    }

    fn phase(&self, id: UnitId) -> Phase {
        self.state(id).map_or(Phase::Inactive, |state| state.phase)
    }

    fn node(&self, id: UnitId) -> &Node {
        static NONE: Node = Node {
            after: Vec::new(),
            before: Vec::new(),
            requires: Vec::new(),
            required_by: Vec::new(),
            wants: Vec::new(),
            impossible: None,
        };
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
        let (Some(unit), Some(state)) = (self.graph.units.get(id.index()), self.states.get_mut(id.index())) else {
            return;
        };
        let old = state.clone();
        let (before, deadline) = (old.phase, old.deadline);
        let actions = step(unit, state, event, now);
        let after = state.phase;
        if state.deadline != deadline {
            if let Some(at) = deadline {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = state.deadline {
                self.timers.insert((at, id));
            }
        }
        // What changes nothing is not written down again.
        if *state != old {
            self.dirty.insert(id);
        }
        self.actions.extend(actions.into_iter().map(|action| Action::Unit(id, action)));
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
        if (before, after) == (Phase::Backoff, Phase::Queued) && !self.ending {
            // A restart needs what the first start needed.
            let mut seen = BTreeSet::from([id]);
            for other in self.node(id).requires.clone() {
                self.pull(other, false, &mut seen);
            }
        }
        let node = self.graph.nodes.get(id.index());
        let around = node.into_iter().flat_map(|n| n.before.iter().chain(&n.required_by).chain(&n.after));
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

    /// Lets a unit that waits for others move on, if it may.
    fn check(&mut self, id: UnitId, now: Now) {
        let event = match self.phase(id) {
            Phase::Queued => match self.blocked(id) {
                Some(reason) => Event::Blocked(reason),
                None if self.node(id).after.iter().any(|other| self.is_awaited(*other)) => return,
                None => Event::Go,
            },
            Phase::StartHeld | Phase::StopHeld => {
                if self.node(id).before.iter().any(|other| self.phase(*other).is_stopping()) {
                    return;
                }
                Event::Go
            }
            _ => return,
        };
        self.step(id, event, now);
    }

    /// Why a queued unit cannot start, whatever comes.
    fn blocked(&self, id: UnitId) -> Option<String> {
        let node = self.node(id);
        if let Some(reason) = &node.impossible {
            return Some(reason.clone());
        }
        node.requires.iter().find_map(|other| {
            let state = self.state(*other)?;
            let name = self.unit(*other).map_or("?", |unit| unit.name.as_str());
            let why = match state.phase {
                Phase::Active => return None,
                Phase::Failed => format!("which failed: {}", state.reason),
                Phase::Refused => format!("which is refused: {}", state.reason),
                Phase::Inactive => match self.disabled(*other) {
                    Some(reason) => format!("which is {reason}"),
                    None => "which is not started".to_owned(),
                },
                _ if self.is_hopeless(*other) => format!("which keeps failing: {}", state.reason),
                _ => return None,
            };
            Some(format!("requires {name}, {why}"))
        })
    }

    /// Whether a unit that comes after `id` has to wait for it.
    fn is_awaited(&self, id: UnitId) -> bool {
        let phase = self.phase(id);
        let on_its_way =
            phase == Phase::Queued || phase == Phase::Backoff || phase.is_starting() || phase.is_stopping();
        on_its_way && !self.is_hopeless(id)
    }

    /// Tried as often as the start limit has it and never steady: tried on, but nobody waits for it any longer. Without
    /// this, one service that never gets ready, started slowly enough for the limit, would hold up the boot for ever.
    fn is_hopeless(&self, id: UnitId) -> bool {
        let (Some(state), Some(unit)) = (self.state(id), self.unit(id)) else { return false };
        let burst = if unit.limit.burst == 0 { crate::unit::StartLimit::DEFAULT.burst } else { unit.limit.burst };
        // From the end of the attempt that reaches the limit on: `attempts` counts at the beginning of each.
        let tried = match state.phase {
            Phase::Backoff | Phase::Queued => state.attempts,
            phase if phase.is_down() => 0,
            _ => state.attempts.saturating_sub(1),
        };
        state.goal == Goal::Up && tried >= burst
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
