//! `mmosctl start`, `stop`, `restart`: one job a unit, each waited for.

use std::path::Path;
use std::process::ExitCode;

use mmos::control::{self, Client, Error, Unit};

use crate::failure::{Failure, NO, complain};
use crate::screen::{Screen, Tone};
use crate::span::{between, span};
use crate::table::Look;
use crate::{names, status};

/// What is to be done with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Start,
    Stop,
    Restart,
}

/// Does `job` with each unit in turn. One that fails is reported, with its last output, and the next ones follow; a
/// supervisor that does not answer ends it.
pub fn run(socket: &Path, job: Job, units: &[String], screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let mut client = Client::connect_to(socket, control::PATIENCE)?;
    let mut code = ExitCode::SUCCESS;
    for name in units {
        let name = names::full(name);
        let result = match job {
            Job::Start => client.start(&name),
            Job::Stop => client.stop(&name),
            Job::Restart => client.restart(&name),
        };
        match result {
            Ok(unit) => report(&unit, screen)?,
            Err(error) if error.is_no_answer() => return Err(error.into()),
            Err(error) => {
                let failed = matches!(error, Error::JobFailed { .. });
                complain(&names::explain(error, &mut client).to_string());
                if failed {
                    // The reason is often in what it wrote. If that cannot be had, the failure is reported all the same.
                    let output = Client::connect_to(socket, control::PATIENCE).map_err(Failure::from);
                    if let Err(error @ Failure::Output(_)) = output.and_then(|c| status::last_lines(c, &name, screen)) {
                        return Err(error);
                    }
                }
                code = ExitCode::from(NO);
            }
        }
    }
    Ok(code)
}

fn report(unit: &Unit, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let look = Look::of(&unit.state);
    let mut more = String::new();
    if let Some(pid) = unit.pid {
        more.push_str(&format!(", pid {pid}"));
    }
    if look.sign == '+'
        && let Some(took) = between(unit.startedAt, unit.activeAt)
    {
        more.push_str(&format!(", after {}", span(took)));
    }
    if !unit.reason.is_empty() {
        more.push_str(&format!(": {}", unit.reason));
    }
    screen.line(&[
        (Tone::Plain, &format!("{} {}: ", look.sign, unit.name)),
        (look.tone, look.word),
        (Tone::Plain, &more),
    ])?;
    Ok(())
}
