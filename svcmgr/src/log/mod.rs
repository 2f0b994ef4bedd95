//! Logs: what services, the kernel and whoever calls syslog(3) say, kept in RAM within bounds, and read again.
//!
//! ```text
//!   lines   bytes to lines          record  a line, written down     store   all rings, their bounds, what was lost
//!   pipes   output of services      ring    a file for each unit     reader  many rings in one order
//!   kmsg    the kernel              layout  of that file
//!   inlets  /dev/log and the journal's sockets: socket, syslog, native, streams
//!   bucket  how much at a time
//! ```
//! The way of a line, and what is bounded, is in `ARCHITECTURE.md`; what a client sees of it in `docs/logs.md`.

pub mod bucket;
mod bytes;
pub mod clock;
pub mod inlets;
pub mod kmsg;
mod layout;
pub mod lines;
pub mod native;
pub mod pipes;
pub mod reader;
pub mod record;
pub mod ring;
pub mod socket;
pub mod store;
pub mod streams;
pub mod syslog;
mod varint;
