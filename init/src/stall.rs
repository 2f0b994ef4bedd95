//! Whether the unpacker goes on, seen from outside: by what it has read and written, and by what lies in the new root. A
//! medium may never answer, and a kernel that has no memory left may look for some for ever: Linux 6.12 does where
//! all that is left to reclaim are its own tables. The unpacker hangs in the kernel then, and says nothing.
//!
//! PID 1 must not come to hang there, too. So all files are open, and have been read once, before the unpacker needs much,
//! and a look at them takes no memory of the kernel.

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
    /// Bytes read, asked of a medium, and written.
    moved: [u64; 3],
    /// Ticks of a hundredth of a second that it has computed, outside of the kernel.
    computed: u64,
    /// Free blocks and inodes of the new root: folders and names are made without a byte being written.
    left: (u64, u64),
}

/// So many of these ticks in a [`LOOK`] are work: a large chunk is decompressed without a word to the kernel. Of a process
/// that is in the kernel all the time some are counted, too, since the kernel takes samples.
const COMPUTES: u64 = 10;

impl Work {
    /// Whether anything was done since `before`.
    fn is_more_than(&self, before: &Work) -> bool {
        let computed = self.computed.saturating_sub(before.computed);
        computed >= COMPUTES || (self.moved, self.left) != (before.moved, before.left)
    }
}

/// An unpacker that is looked at.
#[derive(Debug)]
pub struct Sight {
    /// Its `/proc/PID/io`.
    io: File,
    /// Its `/proc/PID/stat`.
    stat: Option<File>,
    /// `/proc/sysrq-trigger`.
    trigger: Option<File>,
    /// The new root, once it is mounted.
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
        let path = |name: &str| format!("/proc/{}/{name}", unpacker.as_raw_nonzero());
        let io = File::open(path("io")).inspect_err(|error| {
            log::debug!("should the unpacker hang, so do we: {}: {error}", path("io"));
        });
        // What it asks for is done to the machine, which is PID 1's.
        let trigger = || File::options().write(true).open("/proc/sysrq-trigger").ok();
        let trigger = if std::process::id() == 1 { trigger() } else { None };
        let (io, stat) = (io.ok()?, File::open(path("stat")).ok());
        let mut sight = Sight { io, stat, trigger, root: None, seen: Work::default(), idle: 0, most };
        sight.heard();
        Some(sight)
    }

    /// It has said something: that a step begins, say, before which its root was mounted.
    pub fn heard(&mut self) {
        if self.root.is_none() {
            let device = |path: &str| rustix::fs::stat(path).ok().map(|stat| stat.st_dev);
            // Until it is mounted, that is a folder of the initramfs.
            if device(switch::NEW_ROOT) != device("/") {
                self.root = rustix::fs::open(switch::NEW_ROOT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
            }
        }
        self.seen = self.work();
        self.idle = 0;
    }

    /// [`LOOK`] has passed: whether it has done nothing for as long as it may.
    ///
    /// Looks are counted, and no time is taken: a machine that stood still as a whole, as a virtual one may, has not let
    /// the unpacker work either.
    pub fn has_stalled(&mut self) -> bool {
        let work = self.work();
        self.idle = if work.is_more_than(&self.seen) { 0 } else { self.idle.saturating_add(1) };
        self.seen = work;
        self.idle >= self.most
    }

    fn work(&self) -> Work {
        let mut text = [0; 1024];
        let moved = moved(read(&self.io, &mut text));
        let computed = self.stat.as_ref().map_or(0, |stat| computed(read(stat, &mut text)));
        let root = self.root.as_ref().and_then(|root| rustix::fs::fstatfs(root).ok());
        Work { moved, computed, left: root.map_or((0, 0), |root| (root.f_bfree, root.f_ffree)) }
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

fn read<'a>(file: &File, text: &'a mut [u8]) -> &'a str {
    let length = file.read_at(text, 0).unwrap_or(0);
    text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

/// Of `/proc/PID/io` (proc_pid_io(5)): bytes of all reads that came back, those that a medium was asked for, and bytes
/// written.
fn moved(io: &str) -> [u64; 3] {
    let value = |name| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    [value("rchar:"), value("read_bytes:"), value("wchar:")]
}

/// Field 14 of `/proc/PID/stat` (proc_pid_stat(5)), of all threads. The name in field 2 may hold anything, even `) `.
fn computed(stat: &str) -> u64 {
    let fields = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(11)?.parse().ok());
    fields.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_done_is_found() {
        let text = "rchar: 323934931\nwchar: 17\nsyscr: 632687\nsyscw: 632675\nread_bytes: 8\nwrite_bytes: 4\n";
        assert_eq!((moved(text), moved("")), ([323_934_931, 8, 17], [0; 3]));
        let text = "139 (unpack) 1) R 1 139 139 0 -1 4194560 74 0 0 0 352 21 0 0 20 0 3 0 300 106907 35635";
        assert_eq!((computed(text), computed("")), (352, 0));
    }

    #[test]
    fn to_move_make_or_compute_something_is_work() {
        let before = Work { moved: [1, 2, 3], computed: 4, left: (5, 6) };
        assert!(!before.is_more_than(&before));
        assert!(!Work { computed: 5, ..before }.is_more_than(&before), "a sample");
        for after in [
            Work { moved: [1, 2, 4], ..before },
            Work { computed: 4 + COMPUTES, ..before },
            Work { left: (5, 5), ..before },
        ] {
            assert!(after.is_more_than(&before), "{after:?}");
        }
    }
}
