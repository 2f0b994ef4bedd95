//! Waiting for a child that may never end.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

/// How often it is looked for its end. Nothing else is left to do then.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for the end of `child`, up to `patience`.
pub fn wait(child: Pid, patience: Duration) -> Option<WaitStatus> {
    let begin = Instant::now();
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Some(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        if begin.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}
