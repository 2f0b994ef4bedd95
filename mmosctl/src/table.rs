//! How a unit looks in one row, and rows in aligned columns.

use mmos::control::{StartType, State, Unit};

use crate::screen::{Screen, Tone};
use crate::span::{between, span};

/// How a state is shown: a sign that tells it without colours, a word, a colour.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub sign: char,
    pub word: &'static str,
    pub tone: Tone,
}

impl Look {
    /// The look of `state`.
    pub fn of(state: &State) -> Look {
        let (sign, word, tone) = match state {
            State::inactive => ('-', "inactive", Tone::Faint),
            State::queued => ('~', "queued", Tone::Busy),
            State::starting => ('~', "starting", Tone::Busy),
            State::active => ('+', "active", Tone::Good),
            State::stopping => ('~', "stopping", Tone::Busy),
            State::backoff => ('~', "backoff", Tone::Busy),
            State::done => ('+', "done", Tone::Good),
            State::failed => ('!', "failed", Tone::Bad),
            State::refused => ('!', "refused", Tone::Bad),
        };
        Look { sign, word, tone }
    }
}

/// The word for a start type.
pub fn start_word(start: &StartType) -> &'static str {
    match start {
        StartType::auto => "auto",
        StartType::demand => "demand",
        StartType::disabled => "disabled",
    }
}

/// How long it is up, or how long its work took.
pub fn time(unit: &Unit, now: i64) -> Option<String> {
    match unit.state {
        State::active | State::stopping => between(unit.activeAt, Some(now)).map(span),
        State::starting => between(unit.startedAt, Some(now)).map(span),
        State::done => between(unit.startedAt, unit.activeAt).map(|took| format!("took {}", span(took))),
        _ => None,
    }
}

/// What to say about it: of one that is well, what it says itself, else what it is for; of any other, why it is so.
fn words(unit: &Unit) -> &str {
    let (reason, status, description) = (unit.reason.as_str(), unit.status.as_str(), unit.description.as_str());
    let by_interest = match Look::of(&unit.state).sign {
        '+' => [status, description, reason],
        _ => [reason, status, description],
    };
    by_interest.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

const HEAD: [&str; 6] = ["UNIT", "STATE", "START", "PID", "RESTARTS", "TIME"];

/// Shows the units, one a row. On a terminal a row that is too long ends in `>`; elsewhere nothing is cut.
pub fn show(units: &[&Unit], now: i64, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let rows: Vec<[String; 6]> = units
        .iter()
        .map(|unit| {
            [
                unit.name.clone(),
                Look::of(&unit.state).word.to_owned(),
                start_word(&unit.start).to_owned(),
                unit.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                if unit.restarts > 0 { unit.restarts.to_string() } else { String::new() },
                time(unit, now).unwrap_or_default(),
            ]
        })
        .collect();
    let mut widths = HEAD.map(str::len);
    // A column that is empty in every row says nothing.
    let mut used = [true, true, true, false, false, false];
    for row in &rows {
        for ((width, used), cell) in widths.iter_mut().zip(&mut used).zip(row) {
            *width = (*width).max(cell.chars().count());
            *used |= !cell.is_empty();
        }
    }
    let cells = |row: &[&str], from: usize, to: usize| {
        let mut text = String::new();
        for (column, cell) in row.iter().enumerate().filter(|(column, _)| (from..to).contains(column)) {
            if used.get(column) == Some(&true) {
                let width = widths.get(column).copied().unwrap_or(0);
                text.push_str(&format!("{cell:width$}  "));
            }
        }
        text
    };
    screen.line(&[(Tone::Faint, &cut(&format!("  {}WHAT", cells(&HEAD, 0, HEAD.len())), screen.width()))])?;
    for (unit, row) in units.iter().zip(&rows) {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        let look = Look::of(&unit.state);
        let name = format!("{} {}", look.sign, cells(&row, 0, 1));
        let state = cells(&row, 1, 2);
        let rest = format!("{}{}", cells(&row, 2, HEAD.len()), words(unit));
        let left = name.chars().count().saturating_add(state.chars().count());
        let rest = cut(rest.trim_end(), screen.width().map(|width| width.saturating_sub(left)));
        let tone = if look.tone == Tone::Faint { Tone::Faint } else { Tone::Plain };
        let last = if look.tone == Tone::Bad { Tone::Bad } else { tone };
        screen.line(&[(tone, &name), (look.tone, &state), (last, &rest)])?;
    }
    Ok(())
}

fn cut(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if text.chars().count() > width => {
            text.chars().take(width.saturating_sub(1)).chain(std::iter::once('>')).take(width).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::screen::tests::shown;

    /// A unit of which nothing special is known.
    pub fn unit(name: &str, state: State) -> Unit {
        Unit {
            name: name.into(),
            description: format!("The {name}"),
            path: format!("/etc/mmos/units/{name}"),
            start: StartType::auto,
            startFrom: "unit".into(),
            state,
            reason: String::new(),
            status: String::new(),
            pid: None,
            restarts: 0,
            exitCode: None,
            exitSignal: None,
            startedAt: None,
            activeAt: None,
            nextElapse: None,
            logOverwritten: 0,
            logDropped: 0,
        }
    }

    fn sample() -> Vec<Unit> {
        let mut up = unit("hello.service", State::active);
        (up.pid, up.activeAt, up.restarts) = (Some(71), Some(2_000_000), 3);
        let mut done = unit("memory-test.service", State::done);
        (done.startedAt, done.activeAt) = (Some(1_000_000), Some(4_214_000));
        (done.status, done.reason) = ("PASS".into(), "exited with code 0".into());
        let mut failed = unit("x.service", State::failed);
        failed.reason = "ended 5 times within 10 s, last with exit code 1".into();
        vec![up, done, failed, unit("z.service", State::inactive)]
    }

    #[test]
    fn a_table_aligns_and_says_the_reason() {
        let units = sample();
        let units: Vec<&Unit> = units.iter().collect();
        let text = shown(false, None, |screen| show(&units, 5_000_000, screen).unwrap());
        let expected = "\
\x20 UNIT                 STATE     START  PID  RESTARTS  TIME          WHAT
+ hello.service        active    auto   71   3         3.000 s       The hello.service
+ memory-test.service  done      auto                  took 3.214 s  PASS
! x.service            failed    auto                                ended 5 times within 10 s, last with exit code 1
- z.service            inactive  auto                                The z.service
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_narrow_terminal_gets_no_row_that_wraps() {
        let units = sample();
        let units: Vec<&Unit> = units.iter().collect();
        for width in [1, 20, 33, 40, 80] {
            let text = shown(true, Some(width), |screen| show(&units, 5_000_000, screen).unwrap());
            let plain =
                text.replace("\x1b[0m", "").replace("\x1b[2m", "").replace("\x1b[32m", "").replace("\x1b[1;31m", "");
            // The name and the state are never cut: they are what one must see.
            for line in plain.lines().skip(1) {
                assert!(line.chars().count() <= width.max(33), "{width}: {line}");
            }
        }
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let z = unit("z.service", State::inactive);
        let text = shown(false, None, |screen| show(&[&z], 0, screen).unwrap());
        assert_eq!(text, "  UNIT       STATE     START  WHAT\n- z.service  inactive  auto   The z.service\n");
    }
}
