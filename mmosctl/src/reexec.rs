//! `mmosctl reexec`: another supervisor in place of the one that runs, and nothing else changes.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use mmos::control::{self, Client};

use crate::failure::{Failure, NO, NO_ANSWER, complain};
use crate::screen::Screen;

/// Asks for it, and waits until the new one answers. A program that does not run is not tried: PID 1 would go on
/// executing it, and nobody would supervise anything.
pub fn run(socket: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let mut client = Client::connect_to(socket, control::PATIENCE)?;
    let before = client.mode()?;
    if let Err(reason) = runs(link::paths::SVCMGR) {
        complain(&format!("{} does not run: {reason}. The supervisor that runs was left alone", link::paths::SVCMGR));
        return Ok(ExitCode::from(NO));
    }
    client.reexec()?;
    let end = Instant::now().checked_add(control::PATIENCE);
    loop {
        let now = client.mode()?;
        if now.supervisorPid != before.supervisorPid {
            screen.say(&format!(
                "svcmgr {} (pid {}) has taken over from {} (pid {})",
                now.supervisorVersion, now.supervisorPid, before.supervisorVersion, before.supervisorPid
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
        if end.is_none_or(|end| Instant::now() > end) {
            complain(&format!("svcmgr (pid {}) did not leave", before.supervisorPid));
            return Ok(ExitCode::from(NO_ANSWER));
        }
        // It answers as long as it has not left: a few round trips.
        std::thread::yield_now();
    }
}

/// Whether a supervisor's program can be executed, as far as that can be known beforehand.
fn runs(program: &str) -> Result<(), String> {
    let output = Command::new(program).arg("--version").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.starts_with("svcmgr ") {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("with --version it ended with {} and said {:?}", output.status, format!("{text}{said}")))
}
