//! The unpacker: steps 5 to 7 in a process of its own. What reads an image may meet its match: a fault in a
//! decompressor, a computation of memory that does not hold. Here it costs that process, which the kernel also takes
//! first when memory ends, and PID 1 hears of it and goes to recovery.
//!
//! ```text
//!   PID 1 ── fork ──► unpacker   opens, verifies, measures, mounts a tmpfs, unpacks
//!     ▲  └┄┄ looks at it once a second, and ends one that does nothing any more (`stall.rs`)
//!     └── pipe: a line of JSON for each step that begins, each warning, and the outcome
//! ```

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use link::boot::Root;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::WaitStatus;
use serde::{Deserialize, Serialize};

use crate::child;
use crate::params::Watch;
use crate::recovery::Reason;
use crate::stall::{self, Sight};
use crate::sys;
use crate::timeline::Timeline;

/// A process that has said all, or has closed what it had open, is gone at once; unless the medium that it read from does
/// not let it go.
const EXIT: Duration = Duration::from_secs(10);

/// What the unpacker tells PID 1.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// A step of the boot begins.
    Step(String),
    /// Something went wrong and does not stop the boot.
    Warning(String),
    /// The root is in place.
    Done(Root),
    /// There will be none.
    Failed(Reason),
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The unpacker says why.
    #[error("{}", _0.what)]
    Said(Reason),
    /// There was no unpacker.
    #[error("no process can be started to unpack it: {0}")]
    Start(std::io::Error),
    /// Its end, by the kernel.
    #[error("the kernel ended the process that unpacks it, since the memory ran out")]
    Memory,
    /// Its end, otherwise.
    #[error("the process that unpacks it {0}")]
    Died(String),
    /// It was given up. What it read from may hang whoever lets go of it.
    #[error("the process that unpacks it has done nothing for {seconds} s (mmos.watchdog=), in the step {step}")]
    Stalled {
        /// For so long.
        seconds: u16,
        /// What it was at.
        step: String,
    },
}

impl From<Error> for Reason {
    fn from(error: Error) -> Reason {
        let remedy = match error {
            Error::Said(reason) => return reason,
            Error::Start(_) | Error::Memory => "Give the device more RAM, or build a smaller image",
            Error::Died(_) => "Keep the kernel's log and report it; another image may boot",
            Error::Stalled { .. } => {
                "Check the medium that it lies on; where memory was nearly full, give the device more RAM, or build a \
                 smaller image"
            }
        };
        Reason { what: error.to_string(), remedy: remedy.into() }
    }
}

/// The unpacker's end of the pipe.
#[derive(Debug)]
pub struct Teller(PipeWriter);

impl Teller {
    /// A step of the boot begins.
    pub fn step(&mut self, name: &str) {
        self.tell(&Word::Step(name.to_owned()));
    }

    /// Something went wrong and does not stop the boot.
    pub fn warn(&mut self, warning: String) {
        self.tell(&Word::Warning(warning));
    }

    fn tell(&mut self, word: &Word) {
        // PID 1 reads to the end. Should it not, the outcome is missing, and that says it.
        if let Ok(mut line) = serde_json::to_vec(word) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }
}

/// Runs `work` in the unpacker and waits for it, unless it does nothing for longer than `watch`; what it tells goes into
/// `timeline`.
///
/// # Errors
/// What `work` says; or how the unpacker died.
pub fn run(
    timeline: &mut Timeline,
    watch: Watch,
    work: impl FnOnce(&mut Teller) -> Result<Root, Reason>,
) -> Result<Root, Error> {
    let killed_before = kills_for_memory();
    let (reader, writer) = std::io::pipe().map_err(Error::Start)?;
    let child = sys::in_child(|| {
        let mut teller = Teller(writer);
        offer_to_the_oom_killer();
        let outcome =
            catch_unwind(AssertUnwindSafe(|| work(&mut teller))).unwrap_or_else(|panic| Err(Reason::of_panic(&*panic)));
        teller.tell(&match outcome {
            Ok(root) => Word::Done(root),
            Err(reason) => Word::Failed(reason),
        });
        0
    });
    // Here, too, the writing end is closed: it went into the closure.
    let child = child.map_err(Error::Start)?;
    let mut sight = Sight::of(child, watch);
    let heard = listen(reader, timeline, sight.as_mut());
    match (heard, sight) {
        (Heard::Outcome(outcome), _) => {
            if child::wait(child, EXIT).is_none() {
                log::warn!("the process that unpacked the root does not end; going on without");
            }
            outcome.map_err(Error::Said)
        }
        (Heard::Nothing, Some(sight)) => {
            if !sight.end(child) {
                log::error!("the process that unpacks the root cannot be ended; going on without");
            }
            let step = timeline.record.stages.last().map(|stage| stage.name.clone()).unwrap_or_default();
            Err(Error::Stalled { seconds: watch.seconds(), step })
        }
        (Heard::Nothing | Heard::End, _) => {
            let status = child::wait(child, EXIT);
            Err(if kills_for_memory() > killed_before { Error::Memory } else { Error::Died(ending(status)) })
        }
    }
}

/// What came of listening to an unpacker.
#[derive(Debug)]
enum Heard {
    /// What it came to.
    Outcome(Result<Root, Reason>),
    /// It is gone, and has not said.
    End,
    /// It is there, and does nothing.
    Nothing,
}

fn listen(mut reader: PipeReader, timeline: &mut Timeline, mut sight: Option<&mut Sight>) -> Heard {
    let mut heard = Heard::End;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(sight) = &mut sight {
            let is_quiet = match poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&stall::LOOK)) {
                Ok(ready) => ready == 0,
                Err(Errno::INTR) => continue,
                // Not in a circle at full speed; and it is looked at all the same.
                Err(_) => {
                    std::thread::sleep(Duration::from_secs(1));
                    true
                }
            };
            match (is_quiet, &heard) {
                (false, _) => sight.heard(),
                (true, _) if !sight.has_stalled() => continue,
                (true, Heard::Outcome(_)) => return heard,
                (true, _) => return Heard::Nothing,
            }
        }
        match reader.read(&mut piece) {
            Ok(0) => return heard,
            Ok(length) => text.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                log::error!("the unpacker is not heard: {error}");
                return heard;
            }
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let rest = text.split_off(end.saturating_add(1));
            match serde_json::from_slice(&std::mem::replace(&mut text, rest)) {
                Ok(Word::Step(name)) => timeline.begin(&name),
                Ok(Word::Warning(warning)) => timeline.warn(warning),
                Ok(Word::Done(root)) => heard = Heard::Outcome(Ok(root)),
                Ok(Word::Failed(reason)) => heard = Heard::Outcome(Err(reason)),
                Err(error) => log::error!("the unpacker says what is not understood: {error}"),
            }
        }
    }
}

/// PID 1 is never killed for want of memory; where nothing else is there to be killed, the kernel panics. So this
/// process goes first (`Documentation/filesystems/proc.rst`, oom_score_adj).
fn offer_to_the_oom_killer() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        log::warn!("should memory run out, the kernel may not take the unpacker first: {error}");
    }
}

/// How often the kernel has killed a process for want of memory; 0 where it does not say.
fn kills_for_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn ending(status: Option<WaitStatus>) -> String {
    match status.map(|status| (status.terminating_signal(), status.exit_status())) {
        Some((Some(signal), _)) => {
            let name = nix::sys::signal::Signal::try_from(signal).map_or("unknown", |signal| signal.as_str());
            format!("was ended by signal {signal} ({name})")
        }
        Some((None, Some(code))) => format!("ended with code {code}, and without a result"),
        _ => "is gone, and left no result".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, Signal};

    fn outcome(work: impl FnOnce(&mut Teller) -> Result<Root, Reason>) -> (Timeline, Result<Root, Reason>) {
        let mut timeline = Timeline::default();
        let outcome = run(&mut timeline, Watch::DEFAULT, work).map_err(Reason::from);
        (timeline, outcome)
    }

    #[test]
    fn what_the_unpacker_tells_and_makes_arrives() {
        let (timeline, root) = outcome(|teller| {
            teller.step("verify");
            teller.warn("a device\nis missing".into());
            teller.step("unpack");
            Ok(Root { entries: 7, ..Root::default() })
        });
        assert_eq!(root.unwrap().entries, 7);
        assert_eq!(timeline.record.warnings, ["a device\nis missing"]);
        let steps: Vec<&str> = timeline.record.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(steps, ["verify", "unpack"]);
    }

    #[test]
    fn a_reason_and_its_remedy_arrive() {
        let wanted = Reason { what: "it is \"cut\"".into(), remedy: "copy it again".into() };
        let told = wanted.clone();
        assert_eq!(outcome(move |_| Err(told)).1.unwrap_err(), wanted);
    }

    #[test]
    fn a_fault_in_the_unpacker_is_a_reason_and_not_the_end_of_pid_1() {
        // Not SIGSEGV: a test program, unlike `init`, has Rust's own handler for it, which waits for the next one.
        for signal in [Signal::ABORT, Signal::KILL] {
            let error = outcome(|_| {
                // A dump of the test program is of no use to anyone.
                let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
                let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
                std::thread::sleep(std::time::Duration::from_secs(60));
                Ok(Root::default())
            });
            let text = error.1.unwrap_err().what;
            assert!(text.contains(&format!("signal {}", signal.as_raw())), "{text}");
        }
    }

    #[test]
    fn a_panic_in_the_unpacker_is_a_reason() {
        let text = outcome(|_| panic!("a wrong index")).1.unwrap_err().what;
        assert!(text.contains("internal error") && text.contains("a wrong index"), "{text}");
    }

    #[test]
    fn an_unpacker_that_does_nothing_any_more_is_ended_and_one_that_works_is_not() {
        if let Err(error) = std::fs::metadata("/proc/self/io") {
            return skip::because(format_args!("/proc/self/io: {error}"));
        }
        let mut timeline = Timeline::default();
        let error = run(&mut timeline, Watch::Seconds(1), |teller| {
            teller.step("unpack");
            loop {
                std::thread::park();
            }
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("has done nothing for 1 s (mmos.watchdog=), in the step unpack"), "{text}");

        // It says nothing, and writes, for longer than it may do nothing.
        let root = run(&mut timeline, Watch::Seconds(2), |_| {
            let mut null = std::fs::File::options().write(true).open("/dev/null").unwrap();
            let begin = std::time::Instant::now();
            while begin.elapsed().as_secs() < 4 {
                null.write_all(b"x").unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(Root { entries: 7, ..Root::default() })
        });
        assert_eq!(root.unwrap().entries, 7);
    }

    #[test]
    fn an_outcome_that_breaks_off_is_none() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"{\"Step\":\"unpack\"}\n{\"Done\":{\"sou").unwrap();
        drop(writer);
        let mut timeline = Timeline::default();
        assert!(matches!(listen(reader, &mut timeline, None), Heard::End));
        assert_eq!(timeline.record.stages.len(), 1);
    }
}
