//! The calls, one function each.
//!
//! The supervisor may be killed at any moment, and init starts it again. A call that is broken off that way is made
//! again if making it twice is the same as making it once, which is true of all but a restart: that looks first how far
//! it has come.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Error;
use super::interface::{
    Crash, Ending, GetBoot_Args, GetMode_Args, GetUnit_Args, GetUnit_Reply, ListCrashes_Args, ListCrashes_Reply,
    ListUnits_Args, ListUnits_Reply, Reexec_Args, Reexec_Reply, Restart_Args, Restart_Reply, Shutdown_Args,
    Shutdown_Reply, Start_Args, Start_Reply, State, Stop_Args, Stop_Reply, Unit, WaitBoot_Args,
};
use super::logs::{LogQuery, Logs};
use super::wire::{self, Deadline, Wire};

pub use super::interface::{GetBoot_Reply as BootTimes, GetMode_Reply as Mode, WaitBoot_Reply as Boot};

/// How long a supervisor that is away is waited for, unless told otherwise: init starts it again at once, and later
/// with growing pauses.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a question that it can answer at once may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to the supervisor. Calls are made one after the other.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    patience: Duration,
    /// `None` after a call that failed: what still comes on that connection belongs to nothing.
    wire: Option<Wire>,
}

/// A supervisor that dies of a call, again and again, must not keep the caller for ever.
const ATTEMPTS: u32 = 5;

/// What to do if the supervisor dies with the call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Yes,
    No,
}

impl Client {
    /// Connects to this device's supervisor, and waits a few seconds for one that is away for a moment.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn connect() -> Result<Client, Error> {
        Client::connect_to(super::socket(), PATIENCE)
    }

    /// Connects to the socket at `path`, trying for `patience` at most. As long a supervisor may later be away between
    /// two calls, or during one.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn connect_to(path: &Path, patience: Duration) -> Result<Client, Error> {
        let wire = Wire::connect(path, patience)?;
        Ok(Client { path: path.to_owned(), patience, wire: Some(wire) })
    }

    /// Which image and profile run here.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn mode(&mut self) -> Result<Mode, Error> {
        self.call("GetMode", &GetMode_Args {}, Some(ANSWER), Repeat::Yes)
    }

    /// All units that were loaded, by name.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn units(&mut self) -> Result<Vec<Unit>, Error> {
        let reply: ListUnits_Reply = self.call("ListUnits", &ListUnits_Args {}, Some(ANSWER), Repeat::Yes)?;
        Ok(reply.units)
    }

    /// How long the boot took, and where; what is known so far, where it is not complete.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn boot_times(&mut self) -> Result<BootTimes, Error> {
        self.call("GetBoot", &GetBoot_Args {}, Some(ANSWER), Repeat::Yes)
    }

    /// One unit, by its full name.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`], or any other.
    pub fn unit(&mut self, name: &str) -> Result<Unit, Error> {
        let args = GetUnit_Args { name: name.to_owned() };
        let reply: GetUnit_Reply = self.call("GetUnit", &args, Some(ANSWER), Repeat::Yes)?;
        Ok(reply.unit)
    }

    /// Starts a unit and what it requires. Returns when it is ready, or, for a oneshot, done; how long that may take
    /// is the unit's `TimeoutStartSec=`.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`], [`Error::UnitRefused`], [`Error::JobFailed`], [`Error::PermissionDenied`], or any other.
    pub fn start(&mut self, name: &str) -> Result<Unit, Error> {
        let reply: Start_Reply = self.call("Start", &Start_Args { name: name.to_owned() }, None, Repeat::Yes)?;
        Ok(reply.unit)
    }

    /// Stops a unit and what requires it. Returns when its last process is gone.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn stop(&mut self, name: &str) -> Result<Unit, Error> {
        let reply: Stop_Reply = self.call("Stop", &Stop_Args { name: name.to_owned() }, None, Repeat::Yes)?;
        Ok(reply.unit)
    }

    /// Stops a unit if it runs, then starts it.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn restart(&mut self, name: &str) -> Result<Unit, Error> {
        // Made again without a look, a call that was carried out before its supervisor died would restart twice.
        let before = self.unit(name).ok().and_then(|unit| unit.startedAt);
        for _ in 1..ATTEMPTS {
            let args = Restart_Args { name: name.to_owned() };
            let reply: Result<Restart_Reply, Error> = self.call("Restart", &args, None, Repeat::No);
            match reply {
                Err(Error::Gone { .. }) => {}
                other => return Ok(other?.unit),
            }
            let now = self.unit(name)?;
            let is_under_way = matches!(now.state, State::queued | State::starting | State::stopping);
            if is_under_way || now.startedAt != before {
                // It was begun, and the next supervisor goes on with it.
                return self.start(name);
            }
        }
        let args = Restart_Args { name: name.to_owned() };
        let reply: Restart_Reply = self.call("Restart", &args, None, Repeat::No)?;
        Ok(reply.unit)
    }

    /// The lines of `query`, in the order in which they came; one that follows has no end. Takes the connection for
    /// itself.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`], or any other; the same later from the iterator, which ends after an error.
    pub fn logs(mut self, query: &LogQuery) -> Result<Logs, Error> {
        let mut request = request("Logs", &query.args())?;
        request.more = Some(true);
        let mut wire = self.wire()?;
        wire.send("Logs", &request, wire::after(Some(ANSWER)))?;
        Ok(Logs::new(wire, (!query.follow).then_some(ANSWER)))
    }

    /// Cores that are kept, and what the kernel of the boot before said last, the oldest first.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn crashes(&mut self) -> Result<Vec<Crash>, Error> {
        let reply: ListCrashes_Reply = self.call("ListCrashes", &ListCrashes_Args {}, Some(ANSWER), Repeat::Yes)?;
        Ok(reply.crashes)
    }

    /// Waits until no auto unit is on its way any more, for `timeout` at most (`None`: without a limit).
    ///
    /// # Errors
    /// [`Error::TimedOut`], or any other.
    pub fn wait_boot(&mut self, timeout: Option<Duration>) -> Result<Boot, Error> {
        self.call("WaitBoot", &WaitBoot_Args {}, timeout, Repeat::Yes)
    }

    /// Stops all services in reverse order, then ends the machine. Returns when that has begun.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`], or any other.
    pub fn shutdown(&mut self, ending: Ending) -> Result<(), Error> {
        let Shutdown_Reply {} = self.call("Shutdown", &Shutdown_Args { ending }, Some(ANSWER), Repeat::Yes)?;
        Ok(())
    }

    /// Has the supervisor leave, and its program executed anew; that one takes over all that is running. Returns when
    /// the one before has begun to leave.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`], or any other.
    pub fn reexec(&mut self) -> Result<(), Error> {
        let Reexec_Reply {} = self.call("Reexec", &Reexec_Args {}, Some(ANSWER), Repeat::Yes)?;
        // It is said on a connection that is about to end.
        self.wire = None;
        Ok(())
    }

    fn call<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        args: &impl Serialize,
        timeout: Option<Duration>,
        repeat: Repeat,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let deadline = wire::after(timeout);
        let request = request(method, args)?;
        let mut attempts = 0u32;
        loop {
            attempts = attempts.saturating_add(1);
            match self.attempt(method, &request, deadline) {
                Err(Error::Gone { .. }) if repeat == Repeat::Yes && attempts < ATTEMPTS => {}
                Err(Error::TimedOut { .. }) => return Err(Error::TimedOut { method, waited: begun.elapsed() }),
                other => return other,
            }
        }
    }

    fn attempt<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        request: &varlink::Request<'_>,
        deadline: Deadline,
    ) -> Result<T, Error> {
        let mut wire = self.wire()?;
        wire.send(method, request, deadline)?;
        let (reply, _more) = parse(method, &wire.receive(method, deadline)?)?;
        // An error above leaves `self.wire` empty: the next call connects anew.
        self.wire = Some(wire);
        reply
    }

    fn wire(&mut self) -> Result<Wire, Error> {
        match self.wire.take() {
            Some(wire) => Ok(wire),
            None => Wire::connect(&self.path, self.patience),
        }
    }
}

fn request(method: &'static str, args: &impl Serialize) -> Result<varlink::Request<'static>, Error> {
    let parameters = serde_json::to_value(args)
        .map_err(|error| Error::Unintelligible { method, reason: format!("not to be written as JSON: {error}") })?;
    Ok(varlink::Request::create(format!("org.mmos.Manager.{method}"), Some(parameters)))
}

/// Reads a reply: what it says, and whether more of them come. The outer error is one of the connection, after which
/// nothing more can be said on it.
pub(super) fn parse<T: DeserializeOwned>(
    method: &'static str,
    message: &[u8],
) -> Result<(Result<T, Error>, bool), Error> {
    let unintelligible = |error: serde_json::Error| Error::Unintelligible { method, reason: error.to_string() };
    let reply: varlink::Reply = serde_json::from_slice(message).map_err(unintelligible)?;
    // Absent parameters are empty ones.
    let parameters = reply.parameters.unwrap_or_else(|| serde_json::json!({}));
    if let Some(name) = reply.error {
        return Ok((Err(Error::from_reply(method, &name, parameters)), false));
    }
    let value = serde_json::from_value(parameters).map_err(unintelligible)?;
    Ok((Ok(value), reply.continues == Some(true)))
}
