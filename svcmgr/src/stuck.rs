//! Jobs that are under way for too long: which units are starting, stopping, or waiting for others, since when, and what
//! there is to say of them. A job is told of after a delay, and then each time it has taken twice as long again.
//!
//! Only who holds up others is told of, with the names of those that wait for it: one line explains a whole queue.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::UnitId;
use crate::machine::{Machine, Now, Phase, UnitState};
use crate::unit::time::Span;
use crate::unit::{ServiceType, Unit, signal};

/// So many are told of in one turn of the loop.
const AT_ONCE: usize = 8;

/// A job that takes longer is told of, in microseconds.
pub const DELAY: u64 = 10_000_000;
/// Units that are named in one line.
const NAMES: usize = 8;

/// What is being done with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// It is to start, or to stop, after others.
    Waiting,
    /// It is starting.
    Starting,
    /// It is stopping.
    Stopping,
}

impl Job {
    /// What a phase is part of; `None` for rest, for being up, and for a delay that is meant.
    fn of(phase: Phase) -> Option<Job> {
        match phase {
            Phase::Queued | Phase::StartHeld | Phase::StopHeld => Some(Job::Waiting),
            phase if phase.is_starting() => Some(Job::Starting),
            phase if phase.is_stopping() => Some(Job::Stopping),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Entry {
    job: Job,
    since: u64,
    next: u64,
}

/// All jobs under way; times are those of `CLOCK_MONOTONIC`, in microseconds.
#[derive(Debug)]
pub struct Jobs {
    delay: u64,
    under_way: BTreeMap<UnitId, Entry>,
    timers: BTreeSet<(u64, UnitId)>,
}

/// A job that has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Whose.
    pub id: UnitId,
    /// Which.
    pub job: Job,
    /// For how long it has been under way.
    pub for_us: u64,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs { delay: DELAY, under_way: BTreeMap::new(), timers: BTreeSet::new() }
    }
}

impl Jobs {
    /// Tells of jobs after another time than [`DELAY`]. Before the first job.
    pub fn set_delay(&mut self, delay: u64) {
        self.delay = delay;
    }

    /// A unit has come to `phase`.
    pub fn changed(&mut self, id: UnitId, phase: Phase, now: u64) {
        let job = Job::of(phase);
        let before = self.under_way.get(&id);
        if before.map(|entry| entry.job) == job {
            return;
        }
        if let Some(entry) = self.under_way.remove(&id) {
            self.timers.remove(&(entry.next, id));
        }
        if let Some(job) = job {
            let next = now.saturating_add(self.delay);
            self.under_way.insert(id, Entry { job, since: now, next });
            self.timers.insert((next, id));
        }
    }

    /// When there is something to tell.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The jobs to tell of now, some of them: to look at one takes time, and [`Jobs::next_deadline`] tells of more.
    pub fn late(&mut self, now: u64) -> Vec<Late> {
        let mut late = Vec::new();
        while late.len() < AT_ONCE
            && let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now)
        {
            self.timers.remove(&(at, id));
            let Some(entry) = self.under_way.get_mut(&id) else { continue };
            let for_us = now.saturating_sub(entry.since);
            entry.next = now.saturating_add(for_us.max(self.delay));
            self.timers.insert((entry.next, id));
            late.push(Late { id, job: entry.job, for_us });
        }
        late
    }
}

/// What the log says of a late job, line by line; nothing of one that only waits for others that are told of.
/// `processes` says what the unit's processes are doing, `last` is its last line.
pub fn describe(machine: &Machine, late: Late, now: Now, processes: &[String], last: Option<&str>) -> Vec<String> {
    let Some((unit, state)) = machine.unit(late.id).zip(machine.state(late.id)) else { return Vec::new() };
    let name = &unit.name;
    let took = seconds(late.for_us);
    if late.job == Job::Waiting {
        let others = machine.waits_for(late.id);
        if others.iter().any(|other| machine.state(*other).is_some_and(|state| Job::of(state.phase).is_some())) {
            return Vec::new();
        }
        let why: Vec<String> =
            others.iter().filter_map(|id| Some(waits_on(machine.unit(*id)?, machine.state(*id)?))).collect();
        return vec![if why.is_empty() {
            format!("{name}: waits for {took} until no other unit is starting or stopping (Type=idle)")
        } else {
            format!("{name}: waits for {took} for {}", why.join(", "))
        }];
    }
    let doing = if late.job == Job::Starting { "starting" } else { "stopping" };
    let mut line = format!("{name}: {doing} for {took}: {}", awaited(unit, state));
    if !processes.is_empty() {
        line.push_str(&format!("; {}", processes.join(", ")));
    }
    if let Some(left) = state.deadline.map(|at| at.saturating_sub(now.mono)) {
        line.push_str(&format!("; {} until its timeout", seconds(left)));
    }
    let mut lines = vec![line];
    lines.extend(last.map(|last| format!("{name}: its last line: {last}")));
    if !state.said.status.is_empty() {
        lines.push(format!("{name}: its status: {}", state.said.status));
    }
    lines.extend(waiters(machine, late.id));
    lines
}

fn waits_on(unit: &Unit, state: &UnitState) -> String {
    let because = if state.reason.is_empty() { String::new() } else { format!(": {}", state.reason) };
    let word = if state.phase == Phase::Backoff { "to be started again" } else { state.phase.word() };
    format!("{}, which is {word}{because}", unit.name)
}

/// What has not happened yet.
fn awaited(unit: &Unit, state: &UnitState) -> String {
    let service = &unit.service;
    match state.phase {
        Phase::Condition(_) => "ExecCondition= has not ended".into(),
        Phase::StartPre(_) => "ExecStartPre= has not ended".into(),
        Phase::StartPost(_) => "ExecStartPost= has not ended".into(),
        Phase::StartForked => "which process it left is not known".into(),
        Phase::StartMain(_) => match service.kind {
            ServiceType::Notify => "it has not said READY=1".into(),
            ServiceType::Dbus => "its name is not on the bus (BusName=)".into(),
            ServiceType::Oneshot | ServiceType::Forking => "it has not ended".into(),
            ServiceType::Exec | ServiceType::Idle => "its program is not executed".into(),
        },
        Phase::StopCommand(_) => "ExecStop= has not ended".into(),
        Phase::StopTerm => format!("told to end by {}, it has not ended", signal::name(service.kill_signal)),
        Phase::StopKill | Phase::StopFinal => {
            format!("{} has been sent, and it is not gone", signal::name(service.final_kill_signal))
        }
        Phase::StopPost(_) => "ExecStopPost= has not ended".into(),
        Phase::FailureCommand(_) => "FailureCommand= has not ended".into(),
        other => other.word().into(),
    }
}

/// Who waits for a unit, and who for those.
fn waiters(machine: &Machine, id: UnitId) -> Option<String> {
    let waiting: Vec<(UnitId, Vec<UnitId>)> = machine
        .graph()
        .iter()
        .map(|(other, _)| other)
        .filter(|other| machine.state(*other).is_some_and(|state| Job::of(state.phase) == Some(Job::Waiting)))
        .map(|other| (other, machine.waits_for(other)))
        .collect();
    let mut found = vec![id];
    let mut next = 0;
    while let Some(held_up_by) = found.get(next).copied() {
        next = next.saturating_add(1);
        for (other, ons) in &waiting {
            if ons.contains(&held_up_by) && !found.contains(other) {
                found.push(*other);
            }
        }
    }
    let name = |id: &UnitId| machine.unit(*id).map_or("?", |unit| unit.name.as_str());
    let (this, others) = found.split_first()?;
    let named: Vec<&str> = others.iter().take(NAMES).map(name).collect();
    let more = match others.len().saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let verb = if others.len() == 1 { "waits" } else { "wait" };
    (!others.is_empty()).then(|| format!("{}: {}{more} {verb} for it", name(this), named.join(", ")))
}

fn seconds(micros: u64) -> Span {
    Span::seconds(micros / 1_000_000)
}

#[cfg(test)]
#[path = "stuck_tests.rs"]
mod tests;
