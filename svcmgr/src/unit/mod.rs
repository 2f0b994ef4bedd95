//! What a unit file says, as data: from its text ([`syntax`], [`words`], [`time`]), by the table of directives
//! ([`directive`]), to a [`Unit`] ([`parse`]). Reading it runs nothing and looks at nothing but the text.

pub mod capability;
pub mod command;
pub mod directive;
pub mod directories;
pub mod family;
pub mod limit;
pub mod parse;
pub mod resources;
pub mod sandbox;
pub mod scheduling;
mod service;
pub mod signal;
pub mod specifier;
pub mod syntax;
pub mod syscalls;
pub mod time;
pub mod words;

use std::fmt;
use std::path::PathBuf;

pub use command::Command;
pub use limit::Limit;
pub use service::{
    Input, KeyringMode, KillMode, NotifyAccess, Output, Restart, Service, ServiceType, SuccessStatus, Write,
};

use time::Span;

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has processes.
    Service,
    /// Orders others, and has no processes.
    Target,
}

/// Whether a unit is started at boot, on request, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartType {
    /// During boot.
    Auto,
    /// When asked for, by a person or by a unit that needs it.
    Demand,
    /// Never.
    Disabled,
}

/// Another unit that this one names, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The other unit's name, with its type.
    pub name: String,
    /// The line that names it.
    pub line: u32,
}

/// How often a unit may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartLimit {
    /// Within this time; zero is no limit.
    pub interval: Span,
    /// So many times; zero is no limit.
    pub burst: u32,
}

/// One unit, as its file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Name with its type, as in `memory-test.service`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// By its name's end.
    pub kind: Kind,
    /// For people.
    pub description: String,
    /// Units that are started with this one, and without which it fails.
    pub requires: Vec<Reference>,
    /// Units that are started with this one.
    pub wants: Vec<Reference>,
    /// Units that it is started after, and stopped before.
    pub after: Vec<Reference>,
    /// Units that it is started before, and stopped after.
    pub before: Vec<Reference>,
    /// How often it may be started.
    pub limit: StartLimit,
    /// `[X-MMOS] Start=`.
    pub start: Option<StartType>,
    /// The `[Service]` section.
    pub service: Service,
    /// Why it cannot be started at all, with file and line.
    pub refused: Option<String>,
    /// What is to be said about it.
    pub notes: Vec<Note>,
}

/// Something to be said about a line of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// What there is to say.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.text),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.text),
        }
    }
}

impl StartLimit {
    /// systemd's: `DefaultStartLimitIntervalSec=`, `DefaultStartLimitBurst=` in systemd-system.conf(5).
    pub const DEFAULT: StartLimit = StartLimit { interval: Span::seconds(10), burst: 5 };
}

impl StartType {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            StartType::Auto => "auto",
            StartType::Demand => "demand",
            StartType::Disabled => "disabled",
        }
    }

    /// The type that `word` names, in any case.
    pub fn from_word(word: &str) -> Option<StartType> {
        [StartType::Auto, StartType::Demand, StartType::Disabled]
            .into_iter()
            .find(|start| start.word().eq_ignore_ascii_case(word))
    }
}

/// `name`, with `.service` if it has no type.
pub fn full_name(name: &str) -> String {
    match split_type(name) {
        Some(_) => name.to_owned(),
        None => format!("{name}.service"),
    }
}

/// The types of unit that systemd knows; systemd.unit(5).
pub const TYPES: [&str; 11] =
    ["service", "target", "socket", "timer", "mount", "automount", "swap", "path", "slice", "scope", "device"];

/// Name and type of a unit, if the name ends in a type that there is.
pub fn split_type(name: &str) -> Option<(&str, &str)> {
    let (stem, kind) = name.rsplit_once('.')?;
    (TYPES.contains(&kind) && !stem.is_empty()).then_some((stem, kind))
}

/// Whether `name` may be a unit's: at most 255 letters, digits and `:-_.\@`, with a type. It becomes a file's name.
pub fn is_valid_name(name: &str) -> bool {
    name.len() <= 255
        && split_type(name).is_some()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
}
