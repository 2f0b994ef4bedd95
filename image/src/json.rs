//! What the commands print with `--json`: one object, and a line end. What goes wrong is told as always: a line on
//! stderr, and an exit status; nothing is on stdout then.

use std::io::{self, StdoutLock, Write};

use serde::Serialize;

/// Prints one object.
pub fn print(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = Patient::stdout();
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Prints one object on one line.
pub fn print_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    // As an error of the output, which it is: that its reader is gone can be told from it.
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// Standard output of a command whose exit status says something, too: a reader that goes away early (`| head -1`) must
/// not change what that says.
pub struct Patient(StdoutLock<'static>);

impl Patient {
    pub fn stdout() -> Patient {
        Patient(io::stdout().lock())
    }
}

fn unless_gone<T>(result: io::Result<T>, otherwise: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(otherwise),
        result => result,
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_gone(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_gone(self.0.flush(), ())
    }
}
