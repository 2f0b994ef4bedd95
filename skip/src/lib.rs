//! How a test says that it cannot show anything here: a tool is missing, or it needs root. It then passes, unless
//! `MMOS_NO_SKIP` says that all it needs was installed, as `cargo xtask test` does.

use std::fmt::Display;

/// Says that the calling test is skipped, and why, with what to do about it. The caller returns.
///
/// # Panics
/// Under `MMOS_NO_SKIP`: a test that shows nothing must not count as passed there.
#[track_caller]
pub fn because(why: impl Display) {
    println!("skipped: {why}");
    assert!(std::env::var_os("MMOS_NO_SKIP").is_none(), "MMOS_NO_SKIP is set, so this is a failure: {why}");
}
