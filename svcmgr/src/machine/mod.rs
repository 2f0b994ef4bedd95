//! The state machine: pure. Events go in, actions come out, and nothing here asks the kernel for anything, so that
//! every transition can be tested without a process.
//!
//! # What a unit is doing, and what it is to be
//!
//! A unit has a [`Phase`], which says what is happening to it, and a [`Goal`], which says what it is to be once that
//! is over. Requests change the goal at once and the phase only as far as it can be changed at once; what a phase
//! leads to is decided when it ends, by the goal then. The pairs:
//!
//! | phase | goal `Up` | goal `Down` | goal `Again` |
//! |---|---|---|---|
//! | `Inactive`, `Done`, `Failed`, `Refused` | `Done`, `Failed`: ended by itself | at rest | — |
//! | `Queued` | waits for the units that it comes after | — | — |
//! | `Condition`, `StartPre`, `StartMain`, `StartForked`, `StartPost` | coming up | — | — |
//! | `Active` | up | — | — |
//! | `StartHeld`, `StopHeld` | — | waits for the units that come after it to stop | the same, then starts again |
//! | `StopCommand` … `StopFinal` | ended by itself, and is being cleared away; then `Restart=` decides | told to stop | to stop, then to start again |
//! | `Backoff` | waits to be started again, or for another of its `FailureActions=` | — | — |
//! | `FailureCommand` | has failed, `FailureCommand=` runs | the same | starts again after it |
//!
//! A dash is a pair that does not occur: a request that would lead there changes the phase as well. `Stop` in
//! `Queued` or `Backoff` is at rest at once; `Stop` while starting leads through `StartHeld`, in which the start goes no
//! further, since units that come after it may be up from before a restart; then it stops without `ExecStop=`, since
//! nothing is up yet. So every stop waits for those that were started after, and the order of stopping is that of
//! starting reversed, whatever each unit was doing; `Start` in `StopHeld` with goal `Down` is up again at once, since nothing has been told yet. Once told, a service stops
//! to its end, whatever is asked of it meanwhile: then the goal decides. So a stopped unit (goal `Down`) can come
//! back by a request alone, never by `Restart=`.
//!
//! Sockets and timers go through the same phases; what is peculiar to them is in `ARCHITECTURE.md`, "What starts another
//! unit".
//!
//! # How a run goes
//!
//! ```text
//!              ┌──────────── Backoff ◄──────────────────────────────┐
//!              ▼                                                    │ Restart=
//!  Start ─► Queued ─Go─► StartPre ─► StartMain ─► StartPost ─► Active
//!              │             └─────────┴──┬─────────┘            │ Stop: StopHeld ─Go┐
//!              │                 failed │ │ Stop: StartHeld ─Go┐ ▼ main ended        ▼
//!              ▼ Blocked                ▼                      ▼ │                   │
//!           Failed                     StopTerm ◄────────── StopCommand ◄────────────┘
//!                                         │  └─ late ─► StopKill
//!                                         ▼ empty          │ empty
//!                                      StopPost ◄──────────┘
//!                                         ▼
//!                                     StopFinal ─ empty ─► Inactive | Done | Failed | Backoff | Queued
//! ```
//! Before `StartPre` the unit's conditions are asked for (`Ask`, still `Queued`), then the commands of `Condition` run: what
//! does not hold leads to `Done`, skipped. Between `StartMain` and `StartPost` a service of `Type=forking` is
//! `StartForked` until its main process is found. `empty` means: the last process of the service's cgroup is gone. Nothing is started again before.
//!
//! # When the boot is complete
//!
//! Once each auto unit is *settled*: at rest, or up and steady, or given up by those who wait for it. A service that
//! `Restart=` brought back is steady only after it has stayed up for a while, so that a crash loop is not settled as
//! long as its start limit has not ended it; one that crashes too slowly for its limit, or has none, is given up after
//! as many attempts as the limit has (or the default one), and goes on trying. A service of which no more is known than
//! that its program was executed has to live for a tenth of a second first. *Up* are those that are done, or steady.
//! What was counted at that moment is what the log says, and what `WaitBoot` answers ever after.
//!
//! # Propagate, then execute
//!
//! [`Machine`] holds all units. An event changes one of them; each change of phase may set others in motion, which is
//! put into a queue and worked off until nothing moves. Only then are the actions handed out. So an action is
//! always carried out with all states final and, by the supervisor, written down.

mod first;
mod manager;
mod state;
mod trigger;
mod unit;

pub use first::FirstRun;
pub use manager::{Action, BootSummary, Machine, Refusal, SupervisorTimes, WaiterId};
pub use state::{Said, UnitState};
pub use trigger::{SocketWork, TriggerState};
pub use unit::{UnitAction, step};

use serde::{Deserialize, Serialize};

use crate::unit::signal;
use crate::unit::time::Span;

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// `CLOCK_MONOTONIC` in microseconds: timeouts and delays, which stand still while the machine sleeps.
    pub mono: u64,
    /// `CLOCK_BOOTTIME` in microseconds: what people are told.
    pub boot: u64,
}

/// What is happening to a unit. The number is that of the command at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Never started, or stopped on request.
    Inactive,
    /// To be started, waits for the units that it comes after.
    Queued,
    /// A command of `ExecCondition=` runs.
    Condition(usize),
    /// A command of `ExecStartPre=` runs.
    StartPre(usize),
    /// The main process is on its way: not executed yet, not ready yet, or (oneshot) not done yet.
    StartMain(usize),
    /// What was started has ended with success, and the process that it left is looked for (`Type=forking`).
    StartForked,
    /// A command of `ExecStartPost=` runs.
    StartPost(usize),
    /// Up.
    Active,
    /// To be stopped before it was up, waits for the units that come after it.
    StartHeld,
    /// To be stopped, waits for the units that come after it.
    StopHeld,
    /// A command of `ExecStop=` runs.
    StopCommand(usize),
    /// Told to end by `KillSignal=`.
    StopTerm,
    /// Told to end by SIGKILL.
    StopKill,
    /// A command of `ExecStopPost=` runs.
    StopPost(usize),
    /// What `ExecStopPost=` left is being killed.
    StopFinal,
    /// Waits for `RestartSec=`, or for the delay of one of its `FailureActions=`, to pass.
    Backoff,
    /// A command of `FailureCommand=` runs.
    FailureCommand(usize),
    /// Ended with success.
    Done,
    /// Ended with failure, or could not be started.
    Failed,
    /// Cannot be started.
    Refused,
}

impl Phase {
    /// At rest: no process, nothing to come.
    pub fn is_down(self) -> bool {
        matches!(self, Phase::Inactive | Phase::Done | Phase::Failed | Phase::Refused)
    }

    /// Between the first command of a start and readiness.
    pub fn is_starting(self) -> bool {
        matches!(
            self,
            Phase::Condition(_) | Phase::StartPre(_) | Phase::StartMain(_) | Phase::StartForked | Phase::StartPost(_)
        )
    }

    /// Told to stop, or ended and not cleared away yet.
    pub fn is_stopping(self) -> bool {
        matches!(
            self,
            Phase::StartHeld
                | Phase::StopHeld
                | Phase::StopCommand(_)
                | Phase::StopTerm
                | Phase::StopKill
                | Phase::StopPost(_)
                | Phase::StopFinal
                | Phase::FailureCommand(_)
        )
    }

    /// The word for it in the control protocol.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Inactive => "inactive",
            Phase::Queued => "queued",
            Phase::Condition(_)
            | Phase::StartPre(_)
            | Phase::StartMain(_)
            | Phase::StartForked
            | Phase::StartPost(_) => "starting",
            Phase::Active => "active",
            Phase::StartHeld
            | Phase::StopHeld
            | Phase::StopCommand(_)
            | Phase::StopTerm
            | Phase::StopKill
            | Phase::StopPost(_)
            | Phase::StopFinal
            | Phase::FailureCommand(_) => "stopping",
            Phase::Backoff => "backoff",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Refused => "refused",
        }
    }
}

/// What a unit is to be once what is happening to it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Goal {
    /// Up, as far as `Restart=` goes.
    Up,
    /// At rest.
    Down,
    /// At rest, then up.
    Again,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal {
        /// Which.
        signal: i32,
        /// Whether it left a core.
        core: bool,
    },
    /// It could not be made, or its program not be executed; why.
    NotExecuted(String),
    /// It waited to be let go by a supervisor that died first, and never executed its program.
    NeverRan,
    /// It is gone, and nobody knows how.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal { signal, core } => {
                let core = if *core { ", core dumped" } else { "" };
                write!(f, "killed by {}{core}", signal::name(*signal))
            }
            Exit::NotExecuted(why) => write!(f, "{why}"),
            Exit::NeverRan => write!(f, "never ran"),
            Exit::Unknown => write!(f, "ended while the supervisor was away, nobody knows how"),
        }
    }
}

/// How a run went so far. The first failure stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing failed.
    Success,
    /// It was left out, since a condition did not hold.
    Skipped,
    /// A code that is not success, or the end came too early.
    ExitCode,
    /// A signal that is not success.
    Signal,
    /// A signal, and a core.
    CoreDump,
    /// Something took too long.
    Timeout,
    /// The kernel ended a process for want of memory.
    OutOfMemory,
    /// It did not say that it lives.
    Watchdog,
    /// It was started too often.
    StartLimit,
    /// A program could not be executed.
    NotExecuted,
    /// Nobody knows.
    Unknown,
}

/// Which of a unit's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The service itself.
    Main,
    /// A command beside it: `ExecStartPre=`, `ExecStartPost=`, `ExecStop=`, `ExecStopPost=`.
    Control,
}

/// Which command to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name, and the number of the command in it")]
pub enum CommandRef {
    Condition(usize),
    StartPre(usize),
    Start(usize),
    StartPost(usize),
    Stop(usize),
    StopPost(usize),
    Failure(usize),
}

/// Whether a unit may be started, by its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Go,
    /// It is left out; why.
    Skip(String),
    /// It fails; why.
    Fail(String),
}

/// A process of a service. The time tells it from another that got the same number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was made, in microseconds of `CLOCK_BOOTTIME`; 0 if others made it.
    pub born: u64,
}

/// What happens to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is to be up. `fresh`: somebody asked for it, so that its counters begin anew.
    Start {
        /// Asked for, not pulled in by a restart.
        fresh: bool,
    },
    /// It is to be at rest.
    Stop,
    /// It is to be at rest, then up.
    Restart,
    /// The units that it waits for are where they must be.
    Go,
    /// Whether its conditions hold.
    Asked(Verdict),
    /// A unit that it requires is not up and will not be; why.
    Blocked(String),
    /// A process was made for it.
    Spawned(Role, Process),
    /// The program of its main process has been executed.
    Executed,
    /// It cannot be known which process it left (`Type=forking`).
    NoMain,
    /// `READY=1`.
    Ready,
    /// Its name on the bus has an owner.
    Named,
    /// `WATCHDOG=1`.
    Alive,
    /// `WATCHDOG_USEC=`: how often it says from now on that it lives; zero for not at all.
    WatchdogSpan(Span),
    /// `EXTEND_TIMEOUT_USEC=`: what it is doing may take so long from now on.
    Extend(Span),
    /// `STOPPING=1`: it ends by itself.
    Stopping,
    /// Its main process ended, or could not be made.
    MainExited(Exit),
    /// The command beside it ended, or could not be made.
    ControlExited(Exit),
    /// None of its processes is left.
    Empty,
    /// The kernel ended one of its processes for want of memory.
    OutOfMemory,
    /// Its deadline has passed.
    Timeout,
    /// It has not said that it lives for too long.
    WatchdogLate,
    /// It was up for as long as it may.
    RuntimeOver,
    /// It was to be up, and was not in time.
    JobLate,
    /// Something has arrived on one of its sockets.
    Incoming,
    /// The time that a timer, or a socket that pauses, waits for has come.
    Alarm,
    /// What it starts has left rest.
    Taken,
    /// What it starts has come to rest; why starting it again would not help, if that is so.
    Released(Option<String>),
    /// What it is to start cannot be started; why.
    TriggerFailed(String),
    /// It is to be up, since a socket or a timer says so.
    Triggered,
}
