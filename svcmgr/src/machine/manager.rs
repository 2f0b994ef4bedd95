//! All units: a change of one sets others in motion, through queues that are worked off before any action is handed
//! out. Requests, their answers, the boot and the end are kept here too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::graph::{Graph, Node, UnitId};
use crate::unit::{Kind, ServiceType, StartType, Unit};

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

/// A service of which nobody knows more than that its program was executed has to live this long, in microseconds,
/// before the boot is complete with it: most that cannot work die at once.
const LIVES: u64 = 100_000;

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

    /// Takes over what the supervisor before this one wrote down. Before [`Machine::boot`].
    pub fn restore(&mut self, id: UnitId, state: UnitState) {
        let Some(slot) = self.states.get_mut(id.index()) else { return };
        // A unit that was refused when it was loaded may still run, from when it was not.
        if slot.phase == Phase::Refused && state.phase.is_down() {
            return;
        }
        *slot = state;
        if let Some(at) = slot.deadline {
            self.timers.insert((at, id));
        }
        if !slot.phase.is_down() {
            self.busy = self.busy.saturating_add(1);
            self.checks.push_back(id);
        }
    }

    /// The boot was complete already, before the supervisor died.
    pub fn restore_boot(&mut self, summary: BootSummary) {
        self.boot_complete = Some(summary);
    }

    /// Starts the auto units but those that were taken over.
    pub fn boot(&mut self, now: Now, taken_over: &BTreeSet<UnitId>) {
        let autos: Vec<UnitId> = self.autos().collect();
        let mut seen = taken_over.clone();
        self.boot_begun = true;
        // By what was written down, before anything moves because of others.
        for id in taken_over {
            self.resume(*id);
        }
        if !self.ending {
            // The supervisor may have died between writing down a unit that waits and what it waits for.
            for id in taken_over {
                if self.phase(*id) == Phase::Queued {
                    self.pull(*id, true, &mut BTreeSet::new());
                }
            }
            for id in &autos {
                self.pull(*id, true, &mut seen);
            }
        }
        self.propagate(now);
        self.unsettled = autos.iter().copied().filter(|id| !self.is_settled(*id)).collect();
        let last = autos.iter().filter_map(|id| self.state(*id)?.active_at).max();
        self.last_up_at = self.last_up_at.max(last.unwrap_or(0));
        self.check_boot(now);
    }

    fn autos(&self) -> impl Iterator<Item = UnitId> + '_ {
        self.graph.iter().map(|(id, _)| id).filter(|id| self.start_type(*id).0 == StartType::Auto)
    }

    /// How the boot went, once it is complete.
    pub fn boot_summary(&self) -> Option<&BootSummary> {
        self.boot_complete.as_ref()
    }

    fn summarize_boot(&self) -> BootSummary {
        let mut summary = BootSummary { up_at: self.last_up_at, ..BootSummary::default() };
        for id in self.autos() {
            summary.auto = summary.auto.saturating_add(1);
            let Some((unit, state)) = self.unit(id).zip(self.state(id)) else { continue };
            if state.phase == Phase::Done || state.is_steady() {
                summary.up = summary.up.saturating_add(1);
            } else {
                summary.failed.push(unit.name.clone());
            }
        }
        summary
    }

    /// Starts a unit and what it needs. The answer comes as an action.
    pub fn request_start(&mut self, id: UnitId, waiter: WaiterId, now: Now) -> Result<(), Refusal> {
        self.may_start(id)?;
        self.wait(id, waiter, Wish::Up);
        self.events.push_back((id, Event::Start { fresh: true }));
        let mut seen = BTreeSet::new();
        self.pull(id, true, &mut seen);
        self.propagate(now);
        self.answer(id);
        Ok(())
    }

    /// Stops a unit and what requires it. The answer comes as an action.
    pub fn request_stop(&mut self, id: UnitId, waiter: WaiterId, now: Now) {
        self.wait(id, waiter, Wish::Down);
        for other in self.dependants(id) {
            self.events.push_back((other, Event::Stop));
        }
        self.propagate(now);
        self.answer(id);
    }

    /// Stops a unit and what requires it, and starts them again. The answer comes as an action.
    pub fn request_restart(&mut self, id: UnitId, waiter: WaiterId, now: Now) -> Result<(), Refusal> {
        self.may_start(id)?;
        self.wait(id, waiter, Wish::Up);
        let again = self.dependants(id);
        self.events.extend(again.iter().map(|other| (*other, Event::Restart)));
        // All that start again need what their first start needed.
        let mut seen: BTreeSet<UnitId> = again.iter().copied().collect();
        let needs =
            again.iter().map(|other| self.node(*other)).flat_map(|node| node.requires.iter().chain(&node.wants));
        for other in needs.copied().collect::<Vec<_>>() {
            self.pull(other, true, &mut seen);
        }
        self.propagate(now);
        self.answer(id);
        Ok(())
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

    /// Actions that were lost with the supervisor before this one: whatever a unit's phase waits for is set going
    /// again. All of them may be carried out twice without harm.
    fn resume(&mut self, id: UnitId) {
        let Some(state) = self.states.get(id.index()) else { return };
        let none_is_known = state.main.is_none() && state.control.is_none();
        let signal = match state.phase {
            Phase::StopTerm => self.unit(id).map(|unit| unit.service.kill_signal),
            Phase::StopKill | Phase::StopFinal => Some(libc::SIGKILL),
            _ => None,
        };
        if let Some(signal) = signal {
            self.actions.push(Action::Unit(id, UnitAction::Signal(signal)));
            if none_is_known {
                self.actions.push(Action::Unit(id, UnitAction::AwaitEmpty));
            }
            return;
        }
        // The process that this phase waits for was never made: as if it had not run.
        let lost = match state.phase {
            Phase::StartMain(_) if state.main.is_none() => Some(Event::MainExited(super::Exit::NeverRan)),
            Phase::StartPre(_) | Phase::StartPost(_) | Phase::StopCommand(_) | Phase::StopPost(_)
                if state.control.is_none() =>
            {
                Some(Event::ControlExited(super::Exit::NeverRan))
            }
            _ => None,
        };
        self.events.extend(lost.map(|event| (id, event)));
    }

    fn may_start(&self, id: UnitId) -> Result<(), Refusal> {
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

    fn disabled(&self, id: UnitId) -> Option<String> {
        match self.start_type(id) {
            (StartType::Disabled, from) => Some(format!("disabled by {from}")),
            _ => None,
        }
    }

    fn wait(&mut self, id: UnitId, waiter: WaiterId, wish: Wish) {
        self.waiters.entry(id).or_default().push((waiter, wish));
    }

    /// Queues `id` and what it needs, as far as they are at rest.
    fn pull(&mut self, id: UnitId, fresh: bool, seen: &mut BTreeSet<UnitId>) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if !seen.insert(id) || self.disabled(id).is_some() {
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

    /// `id` and all units that cannot be without it, directly or not, and are not at rest.
    fn dependants(&self, id: UnitId) -> Vec<UnitId> {
        let mut seen = BTreeSet::new();
        let mut stack = vec![id];
        let mut found = Vec::new();
        while let Some(other) = stack.pop() {
            if !seen.insert(other) || (other != id && self.phase(other).is_down()) {
                continue;
            }
            found.push(other);
            stack.extend(self.node(other).required_by.iter().copied());
        }
        found
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

    /// Something happened to an auto unit during the boot.
    fn note_boot(&mut self, id: UnitId, now: Now) {
        if self.is_settled(id) {
            self.unsettled.remove(&id);
        } else {
            self.unsettled.insert(id);
        }
        if matches!(self.phase(id), Phase::Active | Phase::Done)
            && let Some(at) = self.state(id).and_then(|state| state.active_at)
        {
            self.last_up_at = self.last_up_at.max(at.min(now.boot));
        }
        self.check_boot(now);
    }

    fn check_boot(&mut self, now: Now) {
        self.boot_due = None;
        if !self.boot_begun || self.boot_complete.is_some() || !self.unsettled.is_empty() || !self.events.is_empty() {
            return;
        }
        let youngest = self.autos().filter_map(|id| self.executed_at(id)).max();
        let left = youngest.map_or(0, |at| at.saturating_add(LIVES).saturating_sub(now.boot));
        if left > 0 {
            self.boot_due = Some(now.mono.saturating_add(left));
            return;
        }
        self.boot_complete = Some(self.summarize_boot());
        self.actions.push(Action::BootComplete);
    }

    /// When the program of a unit was executed, if it is up and that is all that is known of it.
    fn executed_at(&self, id: UnitId) -> Option<u64> {
        let (unit, state) = self.unit(id).zip(self.state(id))?;
        let known_by_that = unit.kind == Kind::Service && unit.service.kind == ServiceType::Exec;
        (known_by_that && state.phase == Phase::Active && state.restarts == 0).then_some(state.active_at?)
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

    /// Whether the boot does not wait for it any longer; see "When the boot is complete" at the head of [`super`].
    fn is_settled(&self, id: UnitId) -> bool {
        self.state(id).is_none_or(|state| state.phase.is_down() || state.is_steady()) || self.is_hopeless(id)
    }

    /// Answers those who wait for `id` and whose wish is fulfilled, or cannot be.
    fn answer(&mut self, id: UnitId) {
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

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
