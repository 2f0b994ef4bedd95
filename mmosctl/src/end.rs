//! `mmosctl poweroff`, `reboot`, `halt`.

use std::path::Path;
use std::process::ExitCode;

use mmos::control::{self, Client, Ending};

use crate::failure::Failure;
use crate::screen::Screen;

/// Asks the supervisor to stop all services in reverse order and to end the machine.
pub fn run(socket: &Path, ending: Ending, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let words = match ending {
        Ending::poweroff => "then the power is switched off",
        Ending::reboot => "then the machine starts again",
        Ending::halt => "then the machine is halted",
    };
    Client::connect_to(socket, control::PATIENCE)?.shutdown(ending)?;
    screen.say(&format!("services are being stopped, {words}"))?;
    Ok(ExitCode::SUCCESS)
}
