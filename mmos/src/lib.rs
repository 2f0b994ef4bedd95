//! For integrators: is this the manufacturing OS, and what runs on it.
//!
//! A program that must never run on a device that has been sold asks first:
//! ```
//! match mmos::is_mmos() {
//!     Ok(true) => println!("testing"),
//!     Ok(false) => eprintln!("not the manufacturing OS: nothing is tested here"),
//!     Err(error) => eprintln!("{error}"),
//! }
//! ```
//! What the answer is worth, and against whom, is said at [`is_mmos`]. In C: `mmos.h` and `libmmos.a`.
//!
//! With the feature `control`, [`control::Client`] speaks with the supervisor: which units there are, what they do,
//! their output, and start and stop.

mod error;
mod ffi;
mod mode;
mod proc;
mod record;

#[cfg(feature = "control")]
pub mod control;

pub use error::Error;
pub use mode::is_mmos;
