//! What the commands print with `--json`: one object, and a line end. What goes wrong is told as always: a line on
//! stderr, and an exit status; nothing is on stdout then.

use std::io::Write;

use serde::Serialize;

pub fn print(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}
