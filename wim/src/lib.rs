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

mod archive;
mod blob;
mod bytes;
#[cfg(feature = "capture")]
pub mod capture;
mod codec;
pub mod error;
pub mod header;
mod meta;
mod metadata;
mod name;
mod notes;
mod reader;
mod reparse;
mod resource;
pub mod root;
mod sniff;
pub mod source;
mod target;
pub mod tree;
mod unpack;
mod xattr;
mod xml;

pub use codec::Compression;
pub use error::{ArchiveError, Error, TargetError, WimError};
pub use meta::{Meta, Special, Time, Xattr};
pub use reader::Wim;
pub use root::{DEFAULT_MEMORY_BUDGET, Format, Need, Progress, Report, Root, UnpackOptions};
pub use xml::ImageInfo;
