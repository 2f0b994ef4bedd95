//! The supervisor: what runs on the device, in which order, and what happens when it ends.
//!
//! ```text
//!   unit files, profiles ─► unit ─► load ─► graph ─► machine (pure: events in, actions out)
//!                                                      ▲ │
//!                                               events │ ▼ actions
//!                       supervisor ◄── host (processes, cgroups, files, sockets, clock)
//!                            ▲
//!                  control (Varlink), notify, channel to PID 1
//! ```

pub mod bind;
pub mod control;
pub mod crash;
pub mod daemon;
pub mod graph;
pub mod host;
pub mod insist;
pub mod load;
pub mod log;
pub mod machine;
pub mod notify;
pub mod profile;
pub mod startup;
pub mod stuck;
pub mod supervisor;
pub mod unit;
pub mod verify;
