//! Root images: read, check and unpack them in parallel; capture them.
//!
//! ```text
//!   file, block device, memory ── source ──► root::open   told apart by content
//!                                               │
//!                        WIM: header, blob table, metadata ──► tree ──► plan ──► workers ─┐
//!                        tar.zst, cpio.zst: stream ──────────────────────────────────────┤
//!                                                                                        ▼
//!                                                           target: never outside one directory
//! ```

pub mod error;
pub mod root;

pub use error::Error;
pub use root::{Format, Need, Progress, Report, Root, UnpackOptions};
