//! What the log says of units and of the boot.

use crate::machine::{BootSummary, Machine, Now, Outcome, Phase, UnitState};
use crate::unit::failure::Act;
use crate::unit::time::Span;
use crate::unit::{Kind, Unit};

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
            let delay = match state.act.and(unit.service.failure_actions.as_ref()) {
                Some(actions) => actions.of(state.failures.saturating_sub(1)).map_or(Span::ZERO, |(_, delay)| delay),
                None => unit.service.restart_delay(state.restarts),
            };
            format!("{name}: {}; starts again in {delay} (restart {})", state.reason, state.restarts.saturating_add(1))
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
