//! `mmosctl blame` and `mmosctl critical-chain`, as lines and as JSON.

use std::io;

use mmos::control::BootUnit;
use serde::Serialize;

use super::model::{Model, over, took};
use crate::screen::{Screen, Tone};
use crate::table::Look;

/// A unit, as `--json` shows it. Times in microseconds.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    state: &'static str,
    queued_at: i64,
    runnable_at: Option<i64>,
    ready_at: Option<i64>,
    ended_at: Option<i64>,
    took: Option<i64>,
}

impl Row<'_> {
    fn of(unit: &BootUnit) -> Row<'_> {
        Row {
            name: &unit.name,
            state: Look::of(&unit.state).word,
            queued_at: unit.queuedAt,
            runnable_at: unit.runnableAt,
            ready_at: unit.readyAt,
            ended_at: unit.endedAt,
            took: took(unit),
        }
    }
}

/// A length of time that may be short: with a digit after the point.
pub fn short(us: i64) -> String {
    match us {
        ..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{:03} s", us / 1_000_000, us % 1_000_000 / 1000),
    }
}

/// All units by how long they took, the longest first.
pub fn blame(model: &Model<'_>, json: bool, screen: &mut Screen<'_>) -> io::Result<()> {
    let mut units = model.units.clone();
    // Those that are not over yet are the worst.
    units.sort_by_key(|unit| (took(unit).map(std::cmp::Reverse), unit.name.clone()));
    if json {
        let rows: Vec<Row<'_>> = units.into_iter().map(Row::of).collect();
        return screen.json(&rows, false);
    }
    for unit in units {
        let time = took(unit).map_or_else(|| waits(unit).to_owned(), short);
        let (tone, note) = note(unit);
        screen.line(&[(Tone::Plain, &format!("{time:>10}  ")), (tone, &unit.name), (Tone::Faint, &note)])?;
    }
    Ok(())
}

/// Of one that took no time: why.
fn waits(unit: &BootUnit) -> &'static str {
    match (unit.runnableAt, over(unit)) {
        (Some(_), None) => "not ready",
        (None, None) => "waits",
        _ => "not run",
    }
}

fn note(unit: &BootUnit) -> (Tone, String) {
    if unit.endedAt.is_none() {
        return (Tone::Plain, String::new());
    }
    let look = Look::of(&unit.state);
    let reason = if unit.reason.is_empty() { String::new() } else { format!(": {}", unit.reason) };
    (look.tone, format!(" was not ready the first time, and is {} now{reason}", look.word))
}

/// The phases, and the chain of units that led to `name`, or to the one that was over last.
pub fn chain(model: &Model<'_>, name: Option<&str>, json: bool, screen: &mut Screen<'_>) -> io::Result<()> {
    let unit = name.map_or_else(|| model.last(), |name| model.find(name));
    let chain = unit.map(|unit| model.chain(unit)).unwrap_or_default();
    if json {
        let rows: Vec<Row<'_>> = chain.into_iter().map(Row::of).collect();
        return screen.json(&rows, false);
    }
    let phases: Vec<String> =
        model.phases().iter().map(|phase| format!("{} {}", phase.name, short(phase.took()))).collect();
    screen.say(&format!("{}: {} in all", phases.join(", "), short(model.end())))?;
    if chain.is_empty() {
        return screen.say("No unit was started.");
    }
    screen.line(&[(Tone::Faint, "@ when it was ready, since the kernel started; + how long it took to get so")])?;
    for (depth, unit) in chain.into_iter().enumerate() {
        let branch = if depth == 0 { String::new() } else { format!("{}└─", "  ".repeat(depth.saturating_sub(1))) };
        let at = over(unit).map(|at| format!(" @{}", short(at))).unwrap_or_default();
        let took = took(unit).map(|took| format!(" +{}", short(took))).unwrap_or_default();
        let (tone, note) = note(unit);
        screen.line(&[
            (Tone::Faint, &branch),
            (tone, &unit.name),
            (Tone::Plain, &at),
            (Tone::Strong, &took),
            (Tone::Faint, &note),
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::boot;
    use super::*;
    use crate::screen::tests::shown;

    #[test]
    fn blame_names_the_slowest_first_and_what_failed() {
        let boot = boot();
        let text = shown(false, None, |screen| blame(&Model::new(&boot), false, screen).unwrap());
        assert_eq!(
            text,
            "  200.0 ms  b.service\n  200.0 ms  c.service\n   99.0 ms  a.service\n   50.0 ms  d.service\n   49.0 ms  \
             f.service was not ready the first time, and is failed now: exit code 1\n"
        );
    }

    #[test]
    fn what_is_not_over_is_blamed_first() {
        let mut boot = boot();
        boot.complete = false;
        boot.units[3].readyAt = None;
        (boot.units[0].runnableAt, boot.units[0].readyAt) = (None, None);
        let text = shown(false, None, |screen| blame(&Model::new(&boot), false, screen).unwrap());
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[..2], ["waits  c.service", "not ready  d.service"]);
    }

    #[test]
    fn the_chain_leads_from_the_last_unit_back() {
        let boot = boot();
        let text = shown(false, None, |screen| chain(&Model::new(&boot), None, false, screen).unwrap());
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some(
                "kernel 1.000 s, stage 1 910.0 ms, stage 2 10.0 ms, supervisor 81.0 ms, services 499.0 ms: 2.500 s in all"
            )
        );
        let rest: Vec<&str> = lines.skip(1).collect();
        let expect =
            ["c.service @2.500 s +200.0 ms", "└─b.service @2.300 s +200.0 ms", "  └─a.service @2.100 s +99.0 ms"];
        assert_eq!(rest, expect);
    }

    #[test]
    fn json_has_all_times() {
        let boot = boot();
        let text = shown(false, None, |screen| chain(&Model::new(&boot), Some("d.service"), true, screen).unwrap());
        let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
        let d = &rows[0];
        assert_eq!((&d["name"], &d["took"], &d["ready_at"]), (&"d.service".into(), &50_000.into(), &2_150_000.into()));
        assert_eq!(rows.as_array().unwrap().len(), 2);
    }
}
