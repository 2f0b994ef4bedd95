//! `mmosctl wait-boot`: until every unit that starts by itself is up, is done, or failed.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mmos::control::{Boot, Client, Error, StartType, Unit};

use crate::failure::{Failure, NO, NO_ANSWER, complain};
use crate::screen::{Screen, Tone};
use crate::span::stamp;
use crate::table::Look;

/// At boot, the supervisor may not be there yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for `timeout` seconds at most, and shows what came of it.
pub fn wait(socket: &Path, timeout: Option<u32>, json: bool, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let begun = Instant::now();
    let mut client = Client::connect_to(socket, timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE)))?;
    let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
    match client.wait_boot(left) {
        Ok(boot) => {
            if json {
                screen.json(&boot, false)?;
            } else {
                report(&boot, screen)?;
            }
            Ok(if boot.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
        }
        Err(Error::TimedOut { .. }) => {
            let late = client.units().map(|units| on_their_way(&units)).unwrap_or_default();
            complain(&format!("not all auto units were up after {} s{late}", begun.elapsed().as_secs()));
            Ok(ExitCode::from(NO_ANSWER))
        }
        Err(error) => Err(error.into()),
    }
}

fn report(boot: &Boot, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let count = format!("{} of {} auto units up", boot.up, boot.auto);
    let tone = if boot.failed.is_empty() { Tone::Good } else { Tone::Bad };
    let when = if boot.up > 0 {
        format!(", {} s after the kernel started", stamp(boot.upAt).trim_start())
    } else {
        String::new()
    };
    screen.line(&[(tone, &count), (Tone::Plain, &when)])?;
    for unit in &boot.failed {
        let look = Look::of(&unit.state);
        let head = format!("{} {} {}", look.sign, unit.name, look.word);
        screen.line(&[(look.tone, &head), (Tone::Plain, &format!(": {}", unit.reason))])?;
    }
    Ok(())
}

fn on_their_way(units: &[Unit]) -> String {
    let late: Vec<String> = units
        .iter()
        .filter(|unit| unit.start == StartType::auto)
        .map(|unit| (unit, Look::of(&unit.state)))
        .filter(|(_, look)| look.sign == '~')
        .map(|(unit, look)| format!("{} ({})", unit.name, look.word))
        .collect();
    if late.is_empty() { String::new() } else { format!("; still on their way: {}", late.join(", ")) }
}
