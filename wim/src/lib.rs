//! Root images: read, check and unpack them in parallel; capture them.
//!
//! ```text
//!   file, block device, memory ── source ──► root::open   told apart by content
//!   pipe, socket ── incoming ──────────────► root::open_pipe   a pipable WIM, unpacked while it arrives
//!                                               │
//!                        WIM: header, blob table, metadata ──► tree ──► plan ──► workers ─┐
//!                        tar.zst, cpio.zst: stream ──────────────────────────────────────┤
//!                                                                                        ▼
//!                                                           target: never outside one directory
//! ```
//! squashfs and EROFS are only recognised and measured ([`filesystem`]): the kernel reads them.
//!
//! Images are hostile until shown otherwise. What one may cost: memory for its metadata (limits are constants beside
//! the code that reads it, and none is spent before the bytes for it are known to exist), two buffers of a job for
//! every worker within [`UnpackOptions::memory_budget`], and time linear in the size of the image and of what it
//! unpacks to. A WIM's tree is measured before anything is written, and refused where the target has no room for it; an
//! archive can only be measured by unpacking it once ([`Root::need`]), and what comes as a stream is held to what it
//! claims, with three buffers of a job for every worker. Every blob of a WIM is checked against its
//! SHA-1, which finds damage, not forgery: whoever makes the image makes the hashes. An archive has zstd's checksums,
//! where it was made with them.
//!
//! Linux 5.6 or later (openat2(2)).

mod archive;
mod blob;
mod bytes;
#[cfg(feature = "capture")]
pub mod capture;
mod codec;
mod contents;
pub mod error;
pub mod filesystem;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod header;
mod holes;
mod incoming;
pub mod listing;
mod meta;
mod metadata;
mod name;
mod notes;
mod pipable;
mod reader;
mod recent;
mod reparse;
mod resource;
pub mod root;
mod sniff;
pub mod source;
mod split;
mod target;
pub mod tree;
mod unpack;
pub mod verify;
mod xattr;
mod xml;

pub use codec::Compression;
pub use error::{ArchiveError, Error, PartError, TargetError, WimError};
pub use filesystem::{FileSystem, FileSystemError};
pub use meta::{Meta, Special, Time, Xattr};
pub use reader::Wim;
pub use root::{DEFAULT_MEMORY_BUDGET, Format, Need, PLAIN_MEMORY_BUDGET, Progress, Report, Root, UnpackOptions};
pub use xml::ImageInfo;
