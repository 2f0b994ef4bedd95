//! Stage 2: PID 1 for as long as the machine runs. It makes ready what every service needs ([`prepare`]), keeps the
//! supervisor alive ([`supervisor`], [`backoff`]), holds descriptors for it ([`store`]), passes on what it reaped
//! ([`outbox`]), sees whether it answers ([`pulse`]), feeds the machine's watchdog while it does ([`watchdog`]), and ends
//! the machine ([`shutdown`]). One thread, one wait, nothing that blocks.

pub mod backoff;
pub mod machine;
pub mod outbox;
pub mod prepare;
pub mod pulse;
pub mod shutdown;
pub mod store;
pub mod supervisor;
pub mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use link::paths;

use crate::params::Watch;
use crate::timeline::{Timeline, step};
use crate::{early, log_panics, panic_text, params};

/// After an error that nothing foresaw: long enough not to fill the log, short enough not to be missed.
const PAUSE: Duration = Duration::from_millis(500);

/// What the command line asks for. What is wrong on it was said by stage 1.
fn requests(cmdline: &Path) -> params::Requests {
    let cmdline = std::fs::read(cmdline).unwrap_or_default();
    params::parse(&String::from_utf8_lossy(&cmdline)).0
}

/// Runs for ever.
pub fn run() -> ! {
    log_panics();
    // Each part alone: none of them may take the next one with it.
    let guarded = |name: &str, work: &mut dyn FnMut()| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
            log::error!("{name}: internal error: {}", panic_text(&*payload));
        }
    };
    let mut warnings = Vec::new();
    guarded("early", &mut || warnings = early::mount_all());
    let requests = requests(Path::new("/proc/cmdline"));
    let _ = link::kmsg::install("init", requests.level());
    let mut watch = requests.watchdog.unwrap_or(Watch::DEFAULT);
    guarded("prepare", &mut || {
        let mut timeline = Timeline::resume(Path::new(paths::BOOT_RECORD));
        timeline.begin(step::STAGE2);
        // Stage 1 knew what the image says, too.
        watch = timeline.record.watchdog.map_or(watch, Watch::from_seconds);
        log::info!("mmos {} stage 2", env!("CARGO_PKG_VERSION"));
        for warning in warnings.drain(..).chain(prepare::all()) {
            timeline.warn(warning);
        }
        timeline.end();
        timeline.write(Path::new(paths::BOOT_RECORD));
    });
    keep(paths::SVCMGR, watch)
}

/// Keeps the supervisor alive whose program is at `program`, for ever, whatever goes wrong.
pub fn keep(program: &'static str, watch: Watch) -> ! {
    loop {
        let outcome = catch_unwind(|| match machine::Machine::new(program, watch) {
            Ok(mut machine) => loop {
                // What is known must outlive a mistake in one turn: only the turn is lost.
                let turn = catch_unwind(AssertUnwindSafe(|| machine.turn()));
                if let Err(payload) = turn {
                    log::error!("internal error: {}", panic_text(&*payload));
                    std::thread::sleep(PAUSE);
                }
            },
            Err(error) => log::error!("PID 1 cannot set itself up, and tries again: {error}"),
        });
        if let Err(payload) = outcome {
            log::error!("internal error: {}", panic_text(&*payload));
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_level_of_the_command_line_holds_in_this_stage_too() {
        let folder = tempfile::tempdir().unwrap();
        let cmdline = folder.path().join("cmdline");
        std::fs::write(&cmdline, "quiet mmos.loglevel=warn console=ttyS0\n").unwrap();
        assert_eq!(requests(&cmdline).level(), log::LevelFilter::Warn);
        assert_eq!(requests(Path::new("/nonexistent")).level(), log::LevelFilter::Debug);
    }
}
