//! `mmosctl status`: all units at a glance, or one in full.

use std::path::Path;
use std::process::ExitCode;

use mmos::control::{self, Client, LogQuery, Mode, State, Unit};
use serde::Serialize;

use crate::failure::Failure;
use crate::logs::Style;
use crate::names;
use crate::screen::{Screen, Tone};
use crate::span::{between, span, stamp};
use crate::table::{self, Look};

/// Lines of output shown with a unit.
const LAST_LINES: u32 = 10;

#[derive(Serialize)]
struct Overview<'a> {
    #[serde(flatten)]
    mode: &'a Mode,
    units: &'a [Unit],
}

/// Shows all units, or those that matter.
pub fn overview(socket: &Path, all: bool, json: bool, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let mut client = control::Client::connect_to(socket, control::PATIENCE)?;
    let mode = client.mode()?;
    let units = client.units()?;
    if json {
        screen.json(&Overview { mode: &mode, units: &units }, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    screen.line(&[(Tone::Strong, &title(&mode)), (Tone::Plain, &format!(": {}", summary(&units)))])?;
    let shown: Vec<&Unit> = units.iter().filter(|unit| all || matters(unit)).collect();
    if !shown.is_empty() {
        table::show(&shown, now(), screen)?;
    }
    let hidden = units.len().saturating_sub(shown.len());
    if hidden > 0 {
        screen.line(&[(Tone::Faint, &format!("{hidden} more that nothing starts: mmosctl status --all"))])?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows one unit and its last output.
pub fn detail(socket: &Path, name: &str, json: bool, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let name = names::full(name);
    let mut client = control::Client::connect_to(socket, control::PATIENCE)?;
    let unit = client.unit(&name).map_err(|error| names::explain(error, &mut client))?;
    if json {
        screen.json(&unit, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    let look = Look::of(&unit.state);
    let title = if unit.description.is_empty() { String::new() } else { format!(" - {}", unit.description) };
    screen.line(&[(look.tone, &format!("{} {}", look.sign, unit.name)), (Tone::Plain, &title)])?;
    for (label, text) in facts(&unit, now()) {
        let tone = if label == "state" || label == "reason" { look.tone } else { Tone::Plain };
        screen.line(&[(Tone::Faint, &format!("  {label:9}")), (tone, &text)])?;
    }
    last_lines(client, &unit.name, screen)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the end of a unit's output, where there is any.
pub fn last_lines(client: Client, name: &str, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let query = LogQuery { lines: LAST_LINES, ..LogQuery::of(name) };
    let lines = client.logs(&query)?.collect::<Result<Vec<_>, _>>()?;
    if !lines.is_empty() {
        screen.line(&[(Tone::Faint, &format!("  last output (all of it: mmosctl logs {name})"))])?;
    }
    for line in &lines {
        crate::logs::show(line, "  ", Style::default(), screen)?;
    }
    Ok(())
}

/// Ours, or started, or to be started: what an operator looks for. A Debian root brings dozens of others.
fn matters(unit: &Unit) -> bool {
    let idle = matches!(unit.state, State::inactive | State::refused);
    !idle || unit.start == control::StartType::auto || unit.path.starts_with("/etc/mmos/")
}

fn title(mode: &Mode) -> String {
    let name = if mode.image.is_empty() { "unnamed image" } else { &mode.image };
    let version = if mode.version.is_empty() { String::new() } else { format!(" {}", mode.version) };
    format!("{name}{version}, profile {}", mode.profile)
}

/// How many units are in which condition: `3 up, 1 failed`.
fn summary(units: &[Unit]) -> String {
    let count = |wanted: char| units.iter().filter(|unit| Look::of(&unit.state).sign == wanted).count();
    let failed = units.iter().filter(|unit| unit.state == State::failed).count();
    let refused = units.iter().filter(|unit| unit.state == State::refused && matters(unit)).count();
    let parts = [(count('+'), "up"), (count('~'), "on their way"), (failed, "failed"), (refused, "refused")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if parts.is_empty() { "nothing is started".to_owned() } else { parts.join(", ") }
}

fn facts(unit: &Unit, now: i64) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut state = Look::of(&unit.state).word.to_owned();
    match unit.state {
        State::active => {
            if let Some(up) = between(unit.activeAt, Some(now)) {
                state.push_str(&format!(" for {}", span(up)));
            }
            if let Some(took) = between(unit.startedAt, unit.activeAt) {
                state.push_str(&format!(", was ready {} after its start", span(took)));
            }
        }
        _ => {
            if let Some(time) = table::time(unit, now) {
                state.push_str(&format!(", {time}"));
            }
        }
    }
    facts.push(("state", state));
    let mut fact = |label, text: &str| {
        if !text.is_empty() {
            facts.push((label, text.to_owned()));
        }
    };
    fact("reason", &unit.reason);
    fact("says", &unit.status);
    if let Some(left) = between(Some(now), unit.nextElapse) {
        fact("elapses", &format!("in {}", span(left)));
    }
    fact("start", &format!("{} (from: {})", table::start_word(&unit.start), unit.startFrom));
    fact("main pid", &unit.pid.map(|pid| pid.to_string()).unwrap_or_default());
    if let Some(at) = unit.startedAt {
        fact("started", &format!("{} s after the kernel", stamp(at).trim_start()));
    }
    if unit.restarts > 0 {
        fact("restarts", &unit.restarts.to_string());
    }
    fact("last end", &last_end(unit));
    fact("log", &lost(unit));
    fact("file", &unit.path);
    facts
}

/// What the log no longer has, or never had.
fn lost(unit: &Unit) -> String {
    let lines = |n: i64, what: &str| format!("{n} {} {what}", if n == 1 { "line" } else { "lines" });
    let parts = [(unit.logDropped, "never kept"), (unit.logOverwritten, "gave way to newer ones")];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| lines(*n, what)).collect();
    parts.join(", ")
}

fn last_end(unit: &Unit) -> String {
    match (unit.exitCode, unit.exitSignal) {
        (_, Some(signal)) => format!("killed by signal {signal}{}", signal_name(signal)),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => String::new(),
    }
}

/// The name of a signal whose number is the same on all architectures that we run on (signal(7)).
pub fn signal_name(number: i64) -> &'static str {
    match number {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        14 => " (ALRM)",
        15 => " (TERM)",
        31 => " (SYS)",
        _ => "",
    }
}

fn now() -> i64 {
    i64::try_from(control::now_us()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::unit;

    #[test]
    fn the_summary_counts_conditions_and_leaves_out_the_empty_ones() {
        assert_eq!(summary(&[]), "nothing is started");
        let units = [
            unit("a.service", State::active),
            unit("b.service", State::done),
            unit("c.service", State::backoff),
            unit("d.service", State::failed),
            unit("e.service", State::inactive),
            unit("f.service", State::refused),
        ];
        assert_eq!(summary(&units), "2 up, 1 on their way, 1 failed, 1 refused");
    }

    #[test]
    fn what_a_base_system_brings_and_nothing_starts_does_not_matter() {
        let mut foreign = unit("apt-daily.service", State::inactive);
        foreign.path = "/usr/lib/systemd/system/apt-daily.service".into();
        foreign.start = control::StartType::demand;
        assert!(!matters(&foreign));
        foreign.state = State::active;
        assert!(matters(&foreign));
        foreign.state = State::refused;
        assert!(!matters(&foreign));
        foreign.start = control::StartType::auto;
        assert!(matters(&foreign));
        let mut ours = unit("x.service", State::inactive);
        ours.start = control::StartType::disabled;
        assert!(matters(&ours));
    }

    #[test]
    fn the_facts_of_a_unit_leave_nothing_known_out() {
        let mut unit = unit("x.service", State::active);
        (unit.startedAt, unit.activeAt, unit.pid) = (Some(1_000_000), Some(1_012_000), Some(9));
        (unit.restarts, unit.exitSignal) = (2, Some(11));
        unit.status = "loop 1".into();
        let facts = facts(&unit, 61_012_000);
        let text = |label| facts.iter().find(|(l, _)| *l == label).map(|(_, text)| text.as_str());
        assert_eq!(text("state"), Some("active for 1 min, was ready 12 ms after its start"));
        assert_eq!(text("says"), Some("loop 1"));
        assert_eq!(text("start"), Some("auto (from: unit)"));
        assert_eq!(text("main pid"), Some("9"));
        assert_eq!(text("started"), Some("1.000000 s after the kernel"));
        assert_eq!(text("restarts"), Some("2"));
        assert_eq!(text("last end"), Some("killed by signal 11 (SEGV)"));
        assert_eq!(text("file"), Some("/etc/mmos/units/x.service"));
        assert_eq!(text("reason"), None);
        assert_eq!(text("log"), None);
        assert_eq!(text("elapses"), None);
        unit.nextElapse = Some(181_012_000);
        assert!(super::facts(&unit, 61_012_000).contains(&("elapses", "in 2 min".to_owned())));
        (unit.logDropped, unit.logOverwritten) = (1, 20);
        assert_eq!(lost(&unit), "1 line never kept, 20 lines gave way to newer ones");
    }
}
