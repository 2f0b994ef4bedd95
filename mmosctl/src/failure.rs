//! A command that did not succeed: what to say, and the exit status.

use std::io;
use std::process::ExitCode;

use mmos::control;

/// It was answered, and the answer is no.
pub const NO: u8 = 1;
/// Nobody answered.
pub const NO_ANSWER: u8 = 2;

/// What ended a command early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// From the supervisor, or because there is none.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// stdout did not take what we wrote.
    #[error("cannot write to the standard output: {0}")]
    Output(#[from] io::Error),
    /// There is no such crash.
    #[error("there is no crash {id}; `mmosctl crashes` lists those that are kept")]
    NoCrash { id: String },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File { path: std::path::PathBuf, source: io::Error },
    /// A unit that does not exist, with a better name.
    #[error("there is no unit {asked}; did you mean {nearest}?")]
    Misspelt { asked: String, nearest: String },
}

impl Failure {
    /// Says it on stderr, and gives the exit status that goes with it.
    pub fn report(&self) -> ExitCode {
        match self {
            // The reader has what it wanted (`mmosctl logs x | head -1`): nothing to complain of.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            _ => complain(&self.to_string()),
        }
        self.code()
    }

    /// The exit status.
    pub fn code(&self) -> ExitCode {
        match self {
            Failure::Control(error) if error.is_no_answer() => ExitCode::from(NO_ANSWER),
            _ => ExitCode::from(NO),
        }
    }
}

/// One message on stderr. A stderr that is closed has nowhere to be complained about.
pub fn complain(message: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "mmosctl: {message}");
}
