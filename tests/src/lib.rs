//! Boots a virtual machine and speaks with what runs in it: the whole-system tests, and `cargo xtask run`.
//!
//! ```text
//!   Machine (what to boot) ── boot() ──► Vm ── console: Stream   kernel, init, services
//!                                           ├─ shell:   Stream   commands in the guest, on a serial line of its own
//!                                           └─ monitor: Qmp      how the machine ended, keys, pictures
//! ```

pub mod images;
pub mod machine;
pub mod qmp;
pub mod root;
pub mod stream;

pub use images::{Case, Image};
pub use machine::{Drive, Ended, Machine, Output, Vm};
pub use stream::Stream;
