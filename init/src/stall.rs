//! Whether the unpacker goes on, seen from outside: by what it has read and written, and by what lies in the new root. A
//! medium may never answer, and a kernel that has no memory left may look for some for ever: Linux 6.12 does where
//! all that is left to reclaim are its own tables. The unpacker hangs in the kernel then, and says nothing.
//!
//! PID 1 must not come to hang there, too. So all files are open before the unpacker begins, and a look at them takes no
//! memory of the kernel.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

use crate::child;
use crate::params::Watch;
use crate::switch;

/// How often it is looked.
pub const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// A process that is killed ends at once, unless it waits for what no signal ends.
const END: Duration = Duration::from_secs(5);

/// What an unpacker has done so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Work {
    read: u64,
    written: u64,
    /// Free blocks and inodes of the new root.
    left: (u64, u64),
}

/// An unpacker that is looked at.
#[derive(Debug)]
pub struct Sight {
    /// Its `/proc/PID/io`.
    io: File,
    /// `/proc/sysrq-trigger`.
    trigger: Option<File>,
    /// The new root, and whether it is mounted yet.
    root: Option<OwnedFd>,
    seen: Work,
    /// How many looks in a row have found nothing new.
    idle: u16,
    most: u16,
}

impl Sight {
    /// Looks at `unpacker` from now on; `None` where that is not wanted, or the kernel does not count what a process
    /// reads and writes (`CONFIG_TASK_IO_ACCOUNTING`).
    pub fn of(unpacker: Pid, watch: Watch) -> Option<Sight> {
        let Watch::Seconds(most) = watch else { return None };
        let path = format!("/proc/{}/io", unpacker.as_raw_nonzero());
        let io =
            File::open(&path).inspect_err(|error| log::debug!("should the unpacker hang, so do we: {path}: {error}"));
        let trigger = File::options().write(true).open("/proc/sysrq-trigger").ok();
        Some(Sight { io: io.ok()?, trigger, root: None, seen: Work::default(), idle: 0, most })
    }

    /// It has said something.
    pub fn heard(&mut self) {
        self.idle = 0;
    }

    /// [`LOOK`] has passed: whether it has done nothing for as long as it may.
    ///
    /// Looks are counted, and no time is taken: a machine that stood still as a whole, as a virtual one may, has not let
    /// the unpacker work either.
    pub fn has_stalled(&mut self) -> bool {
        let work = self.work();
        self.idle = if work == self.seen { self.idle.saturating_add(1) } else { 0 };
        self.seen = work;
        self.idle >= self.most
    }

    fn work(&mut self) -> Work {
        let mut text = [0; 512];
        let length = self.io.read_at(&mut text, 0).unwrap_or(0);
        let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        let (read, written) = parse(text);
        Work { read, written, left: self.left() }
    }

    /// Folders and names are made without a byte being written.
    fn left(&mut self) -> (u64, u64) {
        if self.root.is_none() {
            let open = || rustix::fs::open(switch::NEW_ROOT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            // Until it is mounted, that is a folder of the initramfs.
            let device = |path: &str| rustix::fs::stat(path).ok().map(|stat| stat.st_dev);
            if device(switch::NEW_ROOT) != device("/") {
                self.root = open().ok();
            }
        }
        let stat = self.root.as_ref().and_then(|root| rustix::fs::fstatfs(root).ok());
        stat.map_or((0, 0), |stat| (stat.f_bfree, stat.f_ffree))
    }

    /// Ends `unpacker`; whether that could be done.
    pub fn end(mut self, unpacker: Pid) -> bool {
        let _ = rustix::process::kill_process(unpacker, Signal::KILL);
        if child::wait(unpacker, END).is_some() {
            return true;
        }
        // It may look for memory, in which a kill does not disturb it; what the kernel itself ends for memory's sake may
        // use what is kept in reserve, and gets to its end. It is the first that would be taken
        // (`Documentation/admin-guide/sysrq.rst`, "f").
        let asked = self.trigger.as_mut().map(|trigger| trigger.write_all(b"f"));
        matches!(asked, Some(Ok(()))) && child::wait(unpacker, END).is_some()
    }
}

/// Bytes read and written, of `/proc/PID/io` (proc_pid_io(5)): a read that found its bytes in memory counts, too.
fn parse(io: &str) -> (u64, u64) {
    let value = |name| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    (value("rchar:"), value("wchar:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_read_and_written_is_found() {
        let text = "rchar: 323934931\nwchar: 17\nsyscr: 632687\nsyscw: 632675\nread_bytes: 0\nwrite_bytes: 4\n";
        assert_eq!(parse(text), (323_934_931, 17));
        assert_eq!(parse(""), (0, 0));
    }
}
