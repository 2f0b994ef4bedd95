//! `mmosctl logs`: what units and the kernel say, as kept or as it comes.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use mmos::control::{self, Client, Error, LogLine, LogQuery};

use crate::cli::Logs;
use crate::failure::{Failure, complain};
use crate::names;
use crate::screen::{Screen, Tone};
use crate::span::stamp;

/// The names of priorities, from 0; syslog(3).
const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// What a line shows besides its text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Whose it is.
    pub unit: bool,
    /// The wall clock's time.
    pub wall: bool,
}

/// Shows the lines that were asked for, and with `follow` what comes after them.
pub fn run(socket: &Path, options: &Logs, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let units: Vec<String> = options.units.iter().chain(&options.more_units).map(|name| names::of_log(name)).collect();
    let style = Style { unit: units.len() != 1, wall: options.wall };
    let mut query = LogQuery {
        units,
        lines: options.lines,
        follow: options.follow,
        since: options.since,
        until: options.until,
        priority: options.priority,
        after: None,
    };
    let explain = |error| match Client::connect_to(socket, control::PATIENCE) {
        Ok(mut client) => names::explain(error, &mut client),
        Err(_) => Failure::Control(error),
    };
    loop {
        let client = Client::connect_to(socket, control::PATIENCE)?;
        let mut broken = None;
        for line in client.logs(&query).map_err(explain)? {
            match line {
                Ok(line) => {
                    query.after = Some(line.cursor);
                    if options.json { screen.json(&line, true)? } else { show(&line, "", style, screen)? }
                }
                Err(error @ Error::Gone { .. }) => broken = Some(error),
                Err(error) => return Err(explain(error)),
            }
        }
        match broken {
            None => return Ok(ExitCode::SUCCESS),
            Some(_) if query.follow => complain("the supervisor was started anew; going on"),
            Some(error) => return Err(error.into()),
        }
    }
}

/// Shows one line, after `indent`. A text of several lines is indented as far as its first.
pub fn show(line: &LogLine, indent: &str, style: Style, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let tone = match line.priority {
        ..=3 => Tone::Bad,
        4 => Tone::Busy,
        7.. => Tone::Faint,
        _ => Tone::Plain,
    };
    let time = if style.wall { wall(line.wall) } else { stamp(line.time) };
    let head = if style.unit { format!("{indent}{time} {}: ", who(line)) } else { format!("{indent}{time} ") };
    let mut texts = line.text.split('\n');
    screen.line(&[(Tone::Faint, &head), (tone, texts.next().unwrap_or_default())])?;
    for text in texts {
        screen.line(&[(Tone::Plain, &" ".repeat(head.chars().count())), (tone, text)])?;
    }
    Ok(())
}

/// Whose line it is: the unit, and the sender where that calls itself something else.
fn who(line: &LogLine) -> String {
    let unit = line.unit.strip_suffix(".service").unwrap_or(&line.unit);
    let pid = line.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
    match line.identifier.as_str() {
        "" => format!("{unit}{pid}"),
        identifier if identifier == unit => format!("{unit}{pid}"),
        identifier => format!("{unit} {identifier}{pid}"),
    }
}

fn wall(us: i64) -> String {
    let since = Duration::from_micros(u64::try_from(us).unwrap_or(0));
    let time = SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_micros(time).to_string()
}

/// A priority by its number or name.
pub fn priority(text: &str) -> Result<u8, String> {
    // Names that syslog(3) has as well, deprecated.
    let name = match text {
        "panic" => "emerg",
        "error" => "err",
        "warn" => "warning",
        other => other,
    };
    let number = PRIORITIES.iter().position(|known| *known == name).and_then(|number| u8::try_from(number).ok());
    number
        .or_else(|| text.parse().ok().filter(|number| *number <= 7))
        .ok_or_else(|| format!("not a number from 0 to 7, nor one of {}", PRIORITIES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_number_or_a_name() {
        assert_eq!((priority("err"), priority("warn"), priority("0"), priority("7")), (Ok(3), Ok(4), Ok(0), Ok(7)));
        for wrong in ["8", "-1", "loud", ""] {
            assert!(priority(wrong).unwrap_err().contains("emerg"), "{wrong}");
        }
    }
}
