//! Who may move on: a unit that waits for others to be up, or to be gone.

use super::Machine;
use crate::graph::UnitId;
use crate::machine::{Event, Goal, Now, Phase};

impl Machine {
    /// Lets a unit that waits for others move on, if it may.
    pub(super) fn check(&mut self, id: UnitId, now: Now) {
        let event = match self.phase(id) {
            Phase::Queued => match self.blocked(id) {
                Some(reason) => Event::Blocked(reason),
                None if self.node(id).after.iter().any(|other| self.is_awaited(*other)) => return,
                // What it conflicts with is on its way down.
                None if self.node(id).rare().conflicts.iter().any(|other| !self.phase(*other).is_down()) => return,
                None if self.is_idle(id) && !self.idle_is_over(id, now) => return,
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

    /// The units for which `id` waits now: to be up, or to be gone.
    pub fn waits_for(&self, id: UnitId) -> Vec<UnitId> {
        let node = self.node(id);
        match self.phase(id) {
            Phase::Queued => {
                let after = node.after.iter().filter(|other| self.is_awaited(**other));
                let conflicts = node.rare().conflicts.iter().filter(|other| !self.phase(**other).is_down());
                after.chain(conflicts).copied().collect()
            }
            Phase::StartHeld | Phase::StopHeld => {
                node.before.iter().filter(|other| self.phase(**other).is_stopping()).copied().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Why a queued unit cannot start, whatever comes.
    pub(super) fn blocked(&self, id: UnitId) -> Option<String> {
        let node = self.node(id);
        if let Some(reason) = &node.rare().impossible {
            return Some(reason.clone());
        }
        if let Some(reason) = self.is_run_without(id) {
            return Some(reason);
        }
        if let Some(other) = node.rare().requisite.iter().find(|other| !self.is_up_or_awaited(id, **other)) {
            let name = self.unit(*other).map_or("?", |unit| unit.name.as_str());
            return Some(format!(
                "needs {name} to be up already (Requisite=), and it is {}",
                self.phase(*other).word()
            ));
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
    pub(super) fn is_awaited(&self, id: UnitId) -> bool {
        let phase = self.phase(id);
        let on_its_way =
            phase == Phase::Queued || phase == Phase::Backoff || phase.is_starting() || phase.is_stopping();
        on_its_way && !self.is_hopeless(id)
    }

    /// Tried as often as the start limit has it and never steady: tried on, but nobody waits for it any longer. Without
    /// this, one service that never gets ready, started slowly enough for the limit, would hold up the boot for ever.
    pub(super) fn is_hopeless(&self, id: UnitId) -> bool {
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
