//! What a unit file says, as data: from its text ([`syntax`], [`words`], [`time`]), by the table of directives
//! ([`directive`]), to a [`Unit`] ([`parse`]). Reading it runs nothing and looks at nothing but the text.

pub mod capability;
pub mod command;
pub mod condition;
pub mod directive;
pub mod directories;
pub mod failure;
pub mod family;
pub mod limit;
pub mod parse;
pub mod resources;
pub mod sandbox;
pub mod scheduling;
mod service;
pub mod signal;
pub mod socket;
pub mod specifier;
pub mod syntax;
pub mod syscalls;
pub mod time;
pub mod timer;
pub mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use command::Command;
pub use limit::Limit;
pub use service::{
    ExitSet, FailureMode, Input, KeyringMode, KillMode, NotifyAccess, Output, Preserve, Restart, Service, ServiceType,
    Write,
};

use condition::Condition;
use failure::{EndAction, ErrorControl};
use socket::Socket;
use time::Span;
use timer::Timer;

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has processes.
    Service,
    /// Orders others, and has no processes.
    Target,
    /// Has sockets, and starts a service for what arrives there.
    Socket,
    /// Starts another unit when a time has come.
    Timer,
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

/// What another unit is to one that names it: the directives of systemd.unit(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Started with this one, which fails without it.
    Requires,
    /// To be up already, or this one fails.
    Requisite,
    /// Started with this one.
    Wants,
    /// As [`Relation::Requires`]; and this one is stopped once the other one has ended.
    BindsTo,
    /// Stopped and started again: then this one is, too.
    PartOf,
    /// Stopped: then this one is, too.
    StopPropagatedFrom,
    /// This one stopped: then the other one is, too.
    PropagatesStopTo,
    /// Never up together with this one.
    Conflicts,
    /// Started after this one, and stopped before.
    Before,
    /// Started before this one, and stopped after.
    After,
    /// Started once this one has failed.
    OnFailure,
    /// Started once this one has ended with success.
    OnSuccess,
    /// Started by this one, a socket or a timer.
    Triggers,
    /// A socket or a timer that starts this one.
    TriggeredBy,
}

/// Another unit that this one names, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it is to this one.
    pub relation: Relation,
    /// The other unit's name, with its type.
    pub name: String,
    /// The line that names it, from 1; 0 for a link.
    pub line: u32,
    /// The file or link that does, if it is not the unit's own.
    pub file: Option<Arc<Path>>,
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
    /// The units that it names.
    pub references: Vec<Reference>,
    /// Other names of it.
    pub aliases: Vec<String>,
    /// What has to be so for it to be started.
    pub conditions: Vec<Condition>,
    /// How often it may be started.
    pub limit: StartLimit,
    /// What becomes of the machine when the unit has failed.
    pub failure_action: Option<EndAction>,
    /// What becomes of the machine when the unit has ended with success.
    pub success_action: Option<EndAction>,
    /// What becomes of the machine when the unit was started too often.
    pub limit_action: Option<EndAction>,
    /// What becomes of the machine when the unit was not up in time.
    pub job_action: Option<EndAction>,
    /// From the wish that it be up until it is.
    pub job_timeout: Span,
    /// The same, but from when all that it waits for is up.
    pub job_running_timeout: Span,
    /// What it means that it cannot be started during the boot.
    pub error_control: ErrorControl,
    /// `[X-MMOS] Start=`.
    pub start: Option<StartType>,
    /// The `[Service]` section; of a socket its commands, and what they run in.
    pub service: Service,
    /// The `[Socket]` section.
    pub socket: Option<Box<Socket>>,
    /// The `[Timer]` section.
    pub timer: Option<Box<Timer>>,
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

impl Unit {
    /// The units that this one names as `relation`.
    pub fn named(&self, relation: Relation) -> impl Iterator<Item = &Reference> {
        self.references.iter().filter(move |reference| reference.relation == relation)
    }

    /// Gives back what was kept for more of everything: a unit that is read stays as it is.
    pub fn shrink(&mut self) {
        self.references.shrink_to_fit();
        self.aliases.shrink_to_fit();
        self.conditions.shrink_to_fit();
        self.service.shrink();
    }

    /// Where a reference stands, as people are told.
    pub fn place(&self, reference: &Reference) -> String {
        let file = reference.file.as_deref().unwrap_or(&self.path).display();
        match reference.line {
            0 => file.to_string(),
            line => format!("{file}:{line}"),
        }
    }
}

impl Kind {
    /// The kind of unit that is called so; `None` for those that there are not here.
    pub fn of_word(word: &str) -> Option<Kind> {
        Some(match word {
            "service" => Kind::Service,
            "target" => Kind::Target,
            "socket" => Kind::Socket,
            "timer" => Kind::Timer,
            _ => return None,
        })
    }

    /// The kind of a unit, by its name.
    pub fn of(name: &str) -> Option<Kind> {
        Kind::of_word(split_type(name)?.1)
    }
}

impl Relation {
    /// The directive.
    pub fn word(self) -> &'static str {
        match self {
            Relation::Requires => "Requires",
            Relation::Requisite => "Requisite",
            Relation::Wants => "Wants",
            Relation::BindsTo => "BindsTo",
            Relation::PartOf => "PartOf",
            Relation::StopPropagatedFrom => "StopPropagatedFrom",
            Relation::PropagatesStopTo => "PropagatesStopTo",
            Relation::Conflicts => "Conflicts",
            Relation::Before => "Before",
            Relation::After => "After",
            Relation::OnFailure => "OnFailure",
            Relation::OnSuccess => "OnSuccess",
            Relation::Triggers => "Triggers",
            Relation::TriggeredBy => "Sockets",
        }
    }
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

/// The template of an instance: `getty@.service` of `getty@tty1.service`.
pub fn template_of(name: &str) -> Option<String> {
    let (stem, kind) = split_type(name)?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))
}

/// The service of the connection in a place of a socket with `Accept=yes`: `x@3.service` of `x.socket`.
pub fn instance_name(socket: &str, place: u32) -> String {
    format!("{}@{place}.service", split_type(socket).map_or(socket, |(stem, _)| stem))
}

/// Whether a name is a template's, which is no unit itself.
pub fn is_template(name: &str) -> bool {
    split_type(name).is_some_and(|(stem, _)| stem.ends_with('@') && stem.matches('@').count() == 1)
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
