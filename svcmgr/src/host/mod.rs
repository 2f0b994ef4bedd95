//! What the supervisor asks of the system, behind one trait: the real one makes processes, and the tests' double can
//! make any call fail. Beside it, what only the real one needs:
//!
//! ```text
//!   spawn        from a command to a process that waits to be released
//!     users        who it is                      directories  what is made for it beforehand
//!     environment  what it is told                files        what it reads and writes
//!     confinement  what it is kept from: sandbox (what it sees of the file system, with private),
//!                  restrictions and seccomp (capabilities, system calls)
//!   passed       which other descriptors it gets
//!   sockets      the sockets of .socket units
//!   sys          the system calls without a safe wrapper; its modules run between fork and exec
//!   cgroup       who belongs to a service          token        what an epoll event speaks of
//!   shield       what keeps the supervisor alive when memory ends
//!   sight        what a process is doing, for people
//! ```

pub mod bus;
pub mod cgroup;
pub mod conditions;
pub mod confinement;
pub mod directories;
pub mod environment;
pub mod files;
pub mod passed;
pub mod places;
pub mod private;
pub mod real;
pub mod restrictions;
pub mod sandbox;
pub mod seccomp;
pub mod shield;
pub mod sight;
pub mod sockets;
pub mod spawn;
pub mod sys;
pub mod token;
pub mod users;

use std::io;
use std::os::fd::OwnedFd;

use link::ToInit;

use crate::graph::UnitId;
use crate::machine::{BootSummary, Now, Outcome, Process, Role, SocketWork, UnitState, Verdict};
use crate::unit::{Command, Unit};

/// A command to be executed for a unit.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The unit's number.
    pub id: UnitId,
    /// The unit.
    pub unit: &'a Unit,
    /// The command.
    pub command: &'a Command,
    /// As which of the unit's processes.
    pub role: Role,
    /// The main process, for commands beside it.
    pub main_pid: Option<i32>,
    /// The sockets that it gets: their units, and what each is called.
    pub sockets: Vec<(UnitId, String)>,
    /// How the run went so far, for `ExecStop=` and `ExecStopPost=`.
    pub ended: Option<(Outcome, Option<i32>, Option<i32>)>,
}

/// What is found of a service that went into the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is this process.
    Main(Process),
    /// Nobody can know.
    Unknown,
    /// Its PID file names none yet; it is watched.
    Later,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Connection {
    /// Its socket.
    pub fd: OwnedFd,
    /// Who is at its other end, as far as connections are counted: an address without a port, a user.
    pub source: String,
}

/// What the supervisor asks of the system.
pub trait Host {
    /// The time.
    fn now(&self) -> Now;

    /// Makes the process of `launch`, which waits to be released before it executes its program, so that it never
    /// runs unrecorded.
    ///
    /// # Errors
    /// In words, for the unit's reason; there is no process then.
    fn spawn(&mut self, launch: &Launch<'_>) -> Result<Process, String>;

    /// Lets a process that [`Host::spawn`] made go on.
    fn release(&mut self, id: UnitId, role: Role);

    /// Sends `signal` to all processes of a unit.
    ///
    /// # Errors
    /// When it cannot be sent; the unit's timeout goes on all the same.
    fn signal(&mut self, id: UnitId, unit: &Unit, state: &UnitState, signal: i32) -> io::Result<()>;

    /// Whether none of a unit's processes is left. If some are, [`crate::machine::Event::Empty`] follows once they
    /// are gone. One that is being stopped does not wait for those that `KillMode=` lets stay.
    ///
    /// # Errors
    /// When it cannot be known; no event follows then.
    fn await_empty(&mut self, id: UnitId, unit: &Unit, stopping: bool) -> io::Result<bool>;

    /// Whether a unit's conditions hold.
    fn ask(&mut self, unit: &Unit) -> Verdict;

    /// Waits for the bus name of a unit; [`crate::machine::Event::Named`] follows once it has an owner.
    fn watch_name(&mut self, id: UnitId, unit: &Unit);

    /// The process that a service of `Type=forking` left, by its PID file, or by there being one alone.
    fn find_main(&mut self, id: UnitId, unit: &Unit) -> Found;

    /// Does something about the sockets of a unit.
    ///
    /// # Errors
    /// In words, for the unit's reason, when they cannot be opened.
    fn sockets(&mut self, id: UnitId, unit: &Unit, work: SocketWork) -> Result<(), String>;

    /// Takes a connection from one of a unit's sockets; `None` if there is none.
    fn accept(&mut self, id: UnitId, unit: &Unit) -> Option<Connection>;

    /// Keeps a connection for the service that it is for, until that has it.
    fn hand_over(&mut self, id: UnitId, unit: &Unit, connection: Connection);

    /// Reads an instance of a template that is not loaded yet.
    fn load_instance(&self, name: &str) -> Option<Unit>;

    /// Removes what was made for a unit's processes, which are gone; what cannot be removed stays, and is told.
    fn clean(&mut self, id: UnitId, unit: &Unit, restarting: bool);

    /// Writes a unit's state down for the next supervisor.
    ///
    /// # Errors
    /// When it cannot be written. The unit goes on; it is not taken over rightly should the supervisor die.
    fn persist(&mut self, unit: &Unit, state: &UnitState) -> io::Result<()>;

    /// Writes down that the boot is complete.
    ///
    /// # Errors
    /// When it cannot be written.
    fn persist_boot(&mut self, summary: &BootSummary) -> io::Result<()>;

    /// Tells PID 1.
    ///
    /// # Errors
    /// When it cannot be sent, or there is no PID 1 of ours.
    fn tell_init(&mut self, message: &ToInit) -> io::Result<()>;
}
