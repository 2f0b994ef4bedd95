//! How long the boot took, and where: `mmosctl blame`, `critical-chain` and `boot-chart`, three views of what `GetBoot`
//! tells.
//!
//! ```text
//!   model  what belongs to the boot, its phases, what waited for what
//!   report blame and critical-chain, as lines
//!   chart  the picture: which bars there are
//!   svg    the picture: how bars become SVG
//! ```

mod chart;
mod model;
mod report;
mod svg;

use std::path::Path;
use std::process::ExitCode;

use mmos::control::{Client, PATIENCE};

use crate::failure::{Failure, complain};
use crate::names;
use crate::screen::Screen;
use model::Model;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum View<'a> {
    /// The units, by how long they took.
    Blame,
    /// What a unit waited for, or the one that was ready last.
    Chain(Option<&'a str>),
    /// The picture.
    Chart,
}

/// Asks the supervisor, and shows the answer.
pub fn run(socket: &Path, view: View<'_>, json: bool, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let mut client = Client::connect_to(socket, PATIENCE)?;
    let boot = client.boot_times()?;
    if !boot.complete {
        complain("the boot is not complete: this is what is known so far (`mmosctl wait-boot` waits for its end)");
    }
    let model = Model::new(&boot);
    match view {
        View::Blame => report::blame(&model, json, screen)?,
        View::Chain(unit) => {
            let name = unit.map(names::full);
            if let Some(name) = &name
                && model.find(name).is_none()
            {
                // One that exists and was not started is another thing than one that does not exist.
                client.unit(name).map_err(|error| names::explain(error, &mut client))?;
                complain(&format!("{name} was not started in this boot"));
                return Ok(ExitCode::FAILURE);
            }
            report::chain(&model, name.as_deref(), json, screen)?;
        }
        View::Chart if json => screen.json(&boot, false)?,
        View::Chart => screen.write(chart::draw(&model).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}
