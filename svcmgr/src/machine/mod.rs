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
//! | `StartPre`, `StartMain`, `StartPost` | coming up | — | — |
//! | `Active` | up | — | — |
//! | `StartHeld`, `StopHeld` | — | waits for the units that come after it to stop | the same, then starts again |
//! | `StopCommand` … `StopFinal` | ended by itself, and is being cleared away; then `Restart=` decides | told to stop | to stop, then to start again |
//! | `Backoff` | waits to be started again | — | — |
//!
//! A dash is a pair that does not occur: a request that would lead there changes the phase as well. `Stop` in
//! `Queued` or `Backoff` is at rest at once; `Stop` while starting leads through `StartHeld`, in which the start goes no
//! further, since units that come after it may be up from before a restart; then it stops without `ExecStop=`, since
//! nothing is up yet. So every stop waits for those that were started after, and the order of stopping is that of
//! starting reversed, whatever each unit was doing; `Start` in `StopHeld` with goal `Down` is up again at once, since nothing has been told yet. Once told, a service stops
//! to its end, whatever is asked of it meanwhile: then the goal decides. So a stopped unit (goal `Down`) can come
//! back by a request alone, never by `Restart=`.
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
//! `empty` means: the last process of the service's cgroup is gone. Nothing is started again before.
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

mod manager;
mod unit;

pub use manager::{Action, BootSummary, Machine, Refusal, WaiterId};
pub use unit::{UnitAction, step};

use serde::{Deserialize, Serialize};

use crate::unit::signal;

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
    /// A command of `ExecStartPre=` runs.
    StartPre(usize),
    /// The main process is on its way: not executed yet, not ready yet, or (oneshot) not done yet.
    StartMain(usize),
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
    /// Waits for `RestartSec=` to pass.
    Backoff,
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
        matches!(self, Phase::StartPre(_) | Phase::StartMain(_) | Phase::StartPost(_))
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
        )
    }

    /// The word for it in the control protocol.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Inactive => "inactive",
            Phase::Queued => "queued",
            Phase::StartPre(_) | Phase::StartMain(_) | Phase::StartPost(_) => "starting",
            Phase::Active => "active",
            Phase::StartHeld
            | Phase::StopHeld
            | Phase::StopCommand(_)
            | Phase::StopTerm
            | Phase::StopKill
            | Phase::StopPost(_)
            | Phase::StopFinal => "stopping",
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
    StartPre(usize),
    Start(usize),
    StartPost(usize),
    Stop(usize),
    StopPost(usize),
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
    /// A unit that it requires is not up and will not be; why.
    Blocked(String),
    /// A process was made for it.
    Spawned(Role, Process),
    /// The program of its main process has been executed.
    Executed,
    /// `READY=1`.
    Ready,
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
}

/// All that is known about a unit at run time; written down for the supervisor's successor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitState {
    /// What is happening to it.
    pub phase: Phase,
    /// What it is to be.
    pub goal: Goal,
    /// The service itself.
    pub main: Option<Process>,
    /// The command beside it.
    pub control: Option<Process>,
    /// How this run went so far.
    pub outcome: Outcome,
    /// Why it is in this phase, in words.
    pub reason: String,
    /// The last `STATUS=`.
    pub status: String,
    /// Restarts that nobody asked for, since somebody asked for a start.
    pub restarts: u32,
    /// Starts since it was last steady.
    pub attempts: u32,
    /// When the interval of the start limit began (`CLOCK_MONOTONIC`).
    pub limit_begun: u64,
    /// Starts in it.
    pub limit_count: u32,
    /// When [`Event::Timeout`] is due (`CLOCK_MONOTONIC`).
    pub deadline: Option<u64>,
    /// When its processes were last started (`CLOCK_BOOTTIME`).
    pub started_at: Option<u64>,
    /// When it was last up (`CLOCK_BOOTTIME`).
    pub active_at: Option<u64>,
    /// How its last main process ended.
    pub exit_code: Option<i32>,
    /// Or by which signal.
    pub exit_signal: Option<i32>,
}

impl UnitState {
    /// Up, and not just brought back by `Restart=`: only then is a deadline running while it is up.
    pub fn is_steady(&self) -> bool {
        self.phase == Phase::Active && self.deadline.is_none()
    }
}

impl Default for UnitState {
    fn default() -> UnitState {
        UnitState {
            phase: Phase::Inactive,
            goal: Goal::Down,
            main: None,
            control: None,
            outcome: Outcome::Success,
            reason: String::new(),
            status: String::new(),
            restarts: 0,
            attempts: 0,
            limit_begun: 0,
            limit_count: 0,
            deadline: None,
            started_at: None,
            active_at: None,
            exit_code: None,
            exit_signal: None,
        }
    }
}
