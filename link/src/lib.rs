//! What `init`, `svcmgr` and `libmmos` agree on, in one place: where files lie at run time, what PID 1 and the
//! supervisor say to each other, what is recorded about a boot, how both write to the kernel's log, and which name a
//! misspelt one was meant to be.
//!
//! ```text
//!   init (PID 1) ── channel: FromInit / ToInit, descriptors ──► svcmgr
//!        └── BootRecord in /run/mmos/boot.json ──► svcmgr, libmmos, mmosctl
//! ```

pub mod boot;
pub mod channel;
pub mod kmsg;
pub mod message;
pub mod nearest;
pub mod paths;

pub use boot::BootRecord;
pub use channel::Channel;
pub use message::{Ending, FromInit, ToInit};
