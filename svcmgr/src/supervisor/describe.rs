//! What the log says of units and of the boot.

use crate::machine::{BootSummary, Machine, Now, Outcome, Phase, UnitState};
use crate::unit::failure::Act;
use crate::unit::time::Span;
use crate::unit::{Kind, Unit};

/// Of a unit that fails in a quick circle so many restarts are told, then those whose number is a power of two.
const ALL_RESTARTS: u32 = 4;
/// A circle is quick that takes less, in microseconds: more than that a log takes for ever.
const QUICK_CIRCLE: u64 = 10_000_000;

/// The line that says how the boot went.
pub fn describe_boot(machine: &Machine, summary: &BootSummary, now: Now) -> String {
    let at = if summary.up_at == 0 { now.boot } else { summary.up_at };
    let mut line = format!("boot complete: {} of {} auto services up", summary.up, summary.auto);
    if summary.failed.is_empty() {
        let (seconds, millis) = (at / 1_000_000, (at % 1_000_000) / 1000);
        line.push_str(&format!(", {seconds}.{millis:03} s after the kernel started"));
    } else {
        let failed: Vec<String> = summary
            .failed
            .iter()
            .filter_map(|name| {
                let state = machine.state(machine.find(name)?)?;
                let reason = match (state.phase, state.reason.as_str()) {
                    (Phase::Active, _) => format!("started again {} times, up for the moment", state.restarts),
                    (phase, "") => phase.word().to_owned(),
                    (_, reason) => reason.to_owned(),
                };
                Some(format!("{name} ({reason})"))
            })
            .collect();
        line.push_str(&format!(", failed: {}", failed.join(", ")));
    }
    line
}

/// The delay before a unit that has failed is started again.
fn delay(unit: &Unit, state: &UnitState) -> Span {
    match state.act.and(unit.service.failure_actions.as_ref()) {
        Some(actions) => actions.of(state.failures.saturating_sub(1)).map_or(Span::ZERO, |(_, delay)| delay),
        None => unit.service.restart_delay(state.restarts),
    }
}

/// Whether the restart that a unit waits for is not news any more: it fails in a quick circle, and has been told of often.
/// A thousand of them would keep console and log from telling anything else.
pub(super) fn is_no_news(unit: &Unit, state: &UnitState, now: Now) -> bool {
    let number = state.restarts.saturating_add(1);
    let lived = now.boot.saturating_sub(state.started_at.unwrap_or(0));
    let is_quick = lived.saturating_add(delay(unit, state).0) < QUICK_CIRCLE;
    is_quick && number > ALL_RESTARTS && !number.is_power_of_two()
}

pub(super) fn describe(unit: &Unit, state: &UnitState, from: Phase, to: Phase) -> Option<String> {
    let name = &unit.name;
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let took = || {
        let micros = state.active_at.unwrap_or(0).saturating_sub(state.started_at.unwrap_or(0));
        match micros {
            0..=999 => "after less than 1 ms".to_owned(),
            _ => format!("after {} ms", micros / 1000),
        }
    };
    Some(match to {
        Phase::Active if from == Phase::StopHeld => format!("{name}: stays active"),
        Phase::Active if unit.kind == Kind::Socket => format!("{name}: listening"),
        Phase::Active if unit.kind == Kind::Timer => format!("{name}: waiting"),
        Phase::Active => match state.main {
            Some(process) => format!("{name}: active {} (pid {})", took(), process.pid),
            None => format!("{name}: active {}", took()),
        },
        Phase::Done => format!("{name}: done{}", because(&state.reason)),
        Phase::Failed => format!("{name}: failed{}", because(&state.reason)),
        Phase::Inactive => format!("{name}: stopped{}", because(&state.reason)),
        Phase::Backoff if state.act.is_some_and(|act| act != Act::Restart) => {
            let what =
                if state.act == Some(Act::Reboot) { "the machine is started again" } else { "FailureCommand= is run" };
            format!("{name}: {}; after a delay {what} (FailureActions=)", state.reason)
        }
        Phase::Backoff => {
            let delay = delay(unit, state);
            let number = state.restarts.saturating_add(1);
            format!("{name}: {}; starts again in {delay} (restart {number})", state.reason)
        }
        Phase::StopKill if state.outcome == Outcome::Timeout => format!("{name}: {}", state.reason),
        Phase::Queued
        | Phase::Condition(_)
        | Phase::StartForked
        | Phase::FailureCommand(_)
        | Phase::StartPre(_)
        | Phase::StartMain(_)
        | Phase::StartPost(_)
        | Phase::StartHeld
        | Phase::StopHeld
        | Phase::StopCommand(_)
        | Phase::StopTerm
        | Phase::StopKill
        | Phase::StopPost(_)
        | Phase::StopFinal
        | Phase::Refused => return None,
    })
}

/// What a socket or a timer that is up is doing.
pub fn describe_trigger(unit: &Unit, state: &UnitState) -> Option<&'static str> {
    let trigger = state.trigger.as_deref();
    let taken = trigger.is_some_and(|trigger| trigger.taken);
    let has_alarm = trigger.is_some_and(|trigger| trigger.alarm_at.is_some());
    Some(match (unit.kind, state.phase) {
        (Kind::Socket | Kind::Timer, Phase::Active) if taken => "running",
        (Kind::Socket, Phase::Active) if has_alarm => "pausing (PollLimitBurst=)",
        (Kind::Socket, Phase::Active) => "listening",
        (Kind::Timer, Phase::Active) if has_alarm => "waiting",
        (Kind::Timer, Phase::Active) => "elapsed",
        _ => return None,
    })
}

/// When a timer elapses next (`CLOCK_BOOTTIME`).
pub fn next_elapse(unit: &Unit, state: &UnitState, now: Now) -> Option<u64> {
    let trigger = state.trigger.as_ref().filter(|_| unit.kind == Kind::Timer)?;
    Some(now.boot.saturating_add(trigger.alarm_at?.saturating_sub(now.mono)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::unit::parse::parse;
    use crate::unit::specifier::Machine as ThisMachine;

    fn told(text: &str, lived: u64) -> Vec<u32> {
        let unit = parse("a.service", Path::new("/u/a.service"), text, &ThisMachine::default());
        let now = Now { mono: lived, boot: lived };
        let restart = |number| UnitState { restarts: number, started_at: Some(0), ..UnitState::default() };
        (0..33)
            .filter(|number| !is_no_news(&unit, &restart(*number), now))
            .map(|number: u32| number.saturating_add(1))
            .collect()
    }

    #[test]
    fn of_a_quick_circle_ever_fewer_restarts_are_told_and_of_a_slow_one_all() {
        let quick = "[Service]\nExecStart=/a\nRestart=always\nRestartSec=1\n";
        assert_eq!(told(quick, 0), [1, 2, 3, 4, 8, 16, 32]);
        let all: Vec<u32> = (1..=33).collect();
        assert_eq!(told(quick, 9_000_000), all);
        assert_eq!(told("[Service]\nExecStart=/a\nRestart=always\nRestartSec=10\n", 0), all);
    }
}
