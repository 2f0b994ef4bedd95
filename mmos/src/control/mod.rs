//! The supervisor's control socket, for programs: what mmosctl is made of. The interface itself, for any language, is
//! `interfaces/org.mmos.Manager.varlink`, explained in `docs/control.md`.
//!
//! ```no_run
//! # fn main() -> Result<(), mmos::control::Error> {
//! let mut client = mmos::control::Client::connect()?;
//! for unit in client.units()? {
//!     println!("{} {:?}", unit.name, unit.state);
//! }
//! client.start("memory-test.service")?;
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod logs;
mod wire;

/// The types of the interface file, as `varlink_generator` makes them, and the traits with which a server of it can
/// be written (ours are the stand-ins in tests).
pub mod interface {
    #![allow(missing_docs, clippy::all, clippy::restriction, reason = "generated, see build.rs")]
    #![allow(non_camel_case_types, non_snake_case, reason = "names are those of the interface file")]
    include!(concat!(env!("OUT_DIR"), "/org.mmos.Manager.rs"));
}

pub use client::{Boot, BootTimes, Client, Mode, PATIENCE};
pub use error::Error;
pub use interface::{
    BootStage, BootSupervisor, BootUnit, Crash, CrashKind, Ending, LogLine, LogSource, StartType, State, Unit,
};
pub use link::boot::now_us;
pub use logs::{LogQuery, Logs};

/// Where the supervisor of this device listens.
pub fn socket() -> &'static std::path::Path {
    std::path::Path::new(link::paths::CONTROL)
}
