//! Both stages of PID 1.
//!
//! ```text
//!  kernel ── /init ──► stage1   1 early        proc, sys, dev, run, tmp
//!                               2 settings     ◄── params (command line), config (boot.toml)
//!                               3 modules      listed ones, then one for each device ◄── uevent
//!                               4 source       the root's device is found, awaited, mounted
//!                   unpacker ┌ 5 verify       hash, platform, serial
//!                   (a child) │ 6 memory       does it fit?
//!                             └ 7 unpack       into a tmpfs, by the crate wim; or mounted: squashfs, EROFS
//!                               8 switch       becomes the root
//!                               any failure ──► recovery: one line, then reboot, power off or shell
//!             exec /sbin/init ──► stage2       9 cgroups; svcmgr is kept alive; all that ends is reaped
//! ```
//!
//! The library holds all of it, so that what decides can be tested without being PID 1; the binary only chooses.

pub mod available;
pub mod child;
pub mod config;
pub mod console;
pub mod early;
pub mod flush;
pub mod inside;
pub mod memory;
pub mod modules;
pub mod mounted;
pub mod params;
pub mod power;
pub mod recovery;
pub mod settings;
pub mod source;
pub mod stage1;
pub mod stage2;
pub mod stall;
pub mod switch;
pub mod sys;
pub mod timeline;
pub mod uevent;
pub mod unpack;
pub mod unpacker;
pub mod verify;

use std::any::Any;
use std::error::Error;

/// An error and what caused it, in one line. A cause that the error already names is not named twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// What a caught panic said.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".into())
}

/// Sends what a panic says to the kernel's log, instead of to a console that might block.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| log::error!("internal error: {info}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn each_cause_is_named_once() {
        let error =
            Link("a.wim", Some(Box::new(Link("the table is cut: 3 bytes", Some(Box::new(Link("3 bytes", None)))))));
        assert_eq!(chain(&error), "a.wim: the table is cut: 3 bytes");
    }
}
