//! `mmosctl logs`: a unit's output, as kept or as it comes.

use std::path::Path;
use std::process::ExitCode;

use mmos::control::{self, Client, Error, LogLine};

use crate::failure::{Failure, complain};
use crate::names;
use crate::screen::{Screen, Tone};
use crate::span::stamp;

/// Shows the last `lines` lines of a unit (0: all), and with `follow` what comes after them.
pub fn run(
    socket: &Path,
    name: &str,
    follow: bool,
    lines: u32,
    json: bool,
    screen: &mut Screen<'_>,
) -> Result<ExitCode, Failure> {
    let name = names::full(name);
    let explain = |error| match Client::connect_to(socket, control::PATIENCE) {
        Ok(mut client) => names::explain(error, &mut client),
        Err(_) => Failure::Control(error),
    };
    let (mut lines, mut last) = (lines, None);
    loop {
        let client = Client::connect_to(socket, control::PATIENCE)?;
        let mut broken = None;
        for line in client.logs(&name, lines, follow).map_err(explain)? {
            match line {
                // Shown already, before the supervisor was started anew.
                Ok(line) if last.is_some_and(|last| line.seq <= last) => {}
                Ok(line) => {
                    last = Some(line.seq);
                    if json { screen.json(&line, true)? } else { show(&line, "", screen)? }
                }
                Err(error @ Error::Gone { .. }) => broken = Some(error),
                Err(error) => return Err(explain(error)),
            }
        }
        match broken {
            None => return Ok(ExitCode::SUCCESS),
            Some(_) if follow => {
                complain("the supervisor was started anew; going on");
                // All that is kept, less what was shown.
                lines = 0;
            }
            Some(error) => return Err(error.into()),
        }
    }
}

/// Shows one line, after `indent`.
pub fn show(line: &LogLine, indent: &str, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let tone = match line.priority {
        ..=3 => Tone::Bad,
        4 => Tone::Busy,
        7.. => Tone::Faint,
        _ => Tone::Plain,
    };
    screen.line(&[(Tone::Faint, &format!("{indent}{} ", stamp(line.time))), (tone, &line.text)])
}
