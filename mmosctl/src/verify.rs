//! `mmosctl verify`: what is wrong with unit files, found by the supervisor's own reader. Needs no supervisor.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use svcmgr::verify::{Severity, verify};

use crate::failure::{Failure, NO, NO_ANSWER, complain};
use crate::screen::{Screen, Tone};

/// 0 all can do their work, 1 one cannot, 2 one cannot be read.
pub fn run(
    root: &Path,
    files: &[PathBuf],
    strict: bool,
    json: bool,
    screen: &mut Screen<'_>,
) -> Result<ExitCode, Failure> {
    let findings = match verify(root, files) {
        Ok(findings) => findings,
        Err(error) => {
            complain(&error.to_string());
            return Ok(ExitCode::from(NO_ANSWER));
        }
    };
    for finding in &findings {
        if json {
            screen.json(finding, true)?;
            continue;
        }
        let (word, tone) = match finding.severity {
            Severity::Error => ("error", Tone::Bad),
            Severity::Warning => ("warning", Tone::Busy),
        };
        screen.line(&[(tone, word), (Tone::Plain, ": "), (Tone::Plain, &finding.text)])?;
    }
    let is_bad = findings.iter().any(|finding| strict || finding.severity == Severity::Error);
    Ok(if is_bad { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}
