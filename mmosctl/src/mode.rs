//! `mmosctl is-mmos`: the library's answer as an exit status.

use std::process::ExitCode;

use crate::failure::{Failure, NO, NO_ANSWER, complain};
use crate::screen::Screen;

/// 0 yes, 1 no, 2 cannot tell. Needs no supervisor.
pub fn run(screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    match mmos::is_mmos() {
        Ok(true) => {
            screen.say("yes")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(false) => {
            screen.say("no")?;
            Ok(ExitCode::from(NO))
        }
        Err(error) => {
            complain(&error.to_string());
            Ok(ExitCode::from(NO_ANSWER))
        }
    }
}
