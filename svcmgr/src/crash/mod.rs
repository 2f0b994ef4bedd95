//! Crashes: cores of processes, and the kernel's last words of the boot before. Kept in RAM, within bounds, each as a
//! file of contents, lz4-compressed, and one that describes it, which is written last and so makes the crash known.
//!
//! ```text
//!   a process dumps core ── kernel runs `svcmgr --core` (core) ─┐
//!   pstore of the boot before ── svcmgr, once (pstore) ─────────┴─► folder ─► ListCrashes, mmosctl crashes
//! ```
//! The handler is this program, not the supervisor's process: a core may be larger than memory is, and the kernel lets the
//! dying process wait for whoever reads it. It is not a program of its own either: it would be one more file that an
//! image must not lack.

pub mod core;
pub mod pstore;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lz4_flex::frame::FrameEncoder;
use serde::{Deserialize, Serialize};

/// Cores that are kept of one unit: one that crashes again and again does not push out those of others.
const OF_ONE_UNIT: usize = 4;
/// Cores that are kept in all.
const IN_ALL: usize = 32;
/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// What crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A process; the contents are its core.
    Core,
    /// The kernel, in the boot before; the contents are what it said last.
    Kernel,
}

/// A crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Its name.
    pub id: String,
    /// What crashed.
    pub kind: Kind,
    /// When, in microseconds of `CLOCK_BOOTTIME`; `None` for another boot.
    pub time: Option<u64>,
    /// When, by the wall clock, in microseconds since 1970.
    pub wall: u64,
    /// The unit of the process.
    pub unit: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// Its user.
    pub uid: Option<u32>,
    /// What ended it.
    pub signal: Option<i32>,
    /// Its name; proc_pid_comm(5).
    pub command: String,
    /// Its program.
    pub program: String,
    /// What it was called with.
    pub arguments: Vec<String>,
    /// In words: what the kernel said.
    pub reason: String,
    /// How long the contents are, as far as they were read.
    pub bytes: u64,
    /// How much memory they take.
    pub kept: u64,
    /// Whether there was more than is kept of one.
    pub cut: bool,
}

impl std::fmt::Display for Crash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = self.unit.as_ref().map(|unit| format!("{unit}: ")).unwrap_or_default();
        let signal = self.signal.map(crate::unit::signal::name).unwrap_or_default();
        let (pid, cut) = (self.pid.unwrap_or(0), if self.cut { ", the rest is cut off" } else { "" });
        write!(
            f,
            "{unit}process {pid} ({}) was ended by {signal}; its core is kept as {}, {} KiB of {} KiB{cut}",
            self.command,
            self.id,
            self.kept / 1024,
            self.bytes / 1024
        )
    }
}

/// The crashes that are kept.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    /// Of all cores together, in bytes of memory.
    limit: u64,
}

impl Folder {
    /// In `path`, of which a sixteenth part of so much memory may be taken, within limits.
    pub fn new(path: &Path, memory: u64) -> Folder {
        Folder { path: path.to_owned(), limit: (memory / 16).clamp(1 << 20, 64 << 20) }
    }

    /// All crashes, the oldest first.
    pub fn list(&self) -> Vec<Crash> {
        let mut crashes = Vec::new();
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| serde_json::from_slice::<Crash>(&bytes).map_err(|error| error.to_string()))
            {
                Ok(crash) => crashes.push(crash),
                // It may just have given way to a newer one.
                Err(error) => log::debug!("{}: {error}", path.display()),
            }
        }
        crashes.sort_by(|a, b| (a.wall, &a.id).cmp(&(b.wall, &b.id)));
        crashes
    }

    /// Where the contents of a crash are.
    pub fn contents(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}.lz4"))
    }

    /// Whether a crash is kept.
    pub fn has(&self, id: &str) -> bool {
        self.description(id).exists()
    }

    fn description(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}.json"))
    }

    /// Keeps a crash, whose contents are what `from` gives: `crash` is completed with their lengths. Older ones give
    /// way before, so that there is never more than the limit.
    ///
    /// # Errors
    /// When not even its description can be written.
    pub fn keep(&self, mut crash: Crash, from: &mut impl Read) -> io::Result<Crash> {
        fs::create_dir_all(&self.path)?;
        let room = self.limit / 2;
        let _lock = match crash.kind {
            Kind::Core => {
                // Several handlers may run at once: one after the other here.
                let lock = self.lock()?;
                self.make_room(&crash, self.limit.saturating_sub(room));
                Some(lock)
            }
            // The supervisor itself waits for nobody, and what the kernel said is short.
            Kind::Kernel => None,
        };
        let path = self.contents(&crash.id);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let (bytes, cut) = copy(from, file, room);
        (crash.bytes, crash.cut) = (bytes, cut);
        crash.kept = fs::metadata(&path)?.len();
        let described = self.describe(&crash);
        if described.is_err() {
            let _ = fs::remove_file(&path);
        }
        described.map(|()| crash)
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.path.join(".lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    fn describe(&self, crash: &Crash) -> io::Result<()> {
        let next = self.path.join(format!("{}.new", crash.id));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(crash)?)?;
        fs::rename(next, self.description(&crash.id))
    }

    /// Lets cores give way until those that are left take no more than `room`, and there is room for one more of this
    /// unit and in all: of a unit that has too many the oldest but for its first, which tells how it began.
    fn make_room(&self, crash: &Crash, room: u64) {
        let mut cores: Vec<Crash> = self.list().into_iter().filter(|crash| crash.kind == Kind::Core).collect();
        while let Some(at) = superfluous(&cores, crash.unit.as_deref(), room) {
            let gone = cores.remove(at);
            for path in [self.description(&gone.id), self.contents(&gone.id)] {
                if let Err(error) = fs::remove_file(&path) {
                    log::warn!("{}: {error}", path.display());
                }
            }
        }
        self.remove_leftovers();
    }

    /// What a handler that was killed left: contents that nothing describes.
    fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let is_left = match extension {
                Some("new") => true,
                Some("lz4") => !path.with_extension("json").exists(),
                _ => false,
            };
            if is_left {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Which of `cores`, the oldest first, is to give way for one more of `unit`.
fn superfluous(cores: &[Crash], unit: Option<&str>, room: u64) -> Option<usize> {
    let of_unit: Vec<usize> =
        cores.iter().enumerate().filter(|(_, core)| core.unit.as_deref() == unit).map(|(at, _)| at).collect();
    if of_unit.len() >= OF_ONE_UNIT {
        return of_unit.get(1).copied();
    }
    let kept = cores.iter().map(|core| core.kept).fold(0, u64::saturating_add);
    if kept <= room && cores.len() < IN_ALL {
        return None;
    }
    // Of whom there are most, the second; where there is one of each, the oldest of all.
    let mut counts: HashMap<Option<&str>, usize> = HashMap::new();
    for core in cores {
        let count = counts.entry(core.unit.as_deref()).or_default();
        *count = count.saturating_add(1);
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let candidate = |core: &&Crash| counts.get(&core.unit.as_deref()) == Some(&most);
    let loudest = cores.iter().find(candidate)?.unit.as_deref();
    let mut of_loudest = cores.iter().enumerate().filter(|(_, core)| core.unit.as_deref() == loudest).map(|(at, _)| at);
    of_loudest.nth(usize::from(most > 1))
}

/// Copies and compresses, as long as what comes of it is within `room`: how much was read, and whether there was more.
/// What cannot be read or written any more ends it: half a core is better than none.
fn copy(from: &mut impl Read, file: File, room: u64) -> (u64, bool) {
    let mut encoder = FrameEncoder::new(Counted { file, written: 0 });
    let mut piece = vec![0; PIECE];
    let mut bytes: u64 = 0;
    // What is still in the encoder, and its end.
    let room = room.saturating_sub(u64::try_from(PIECE.saturating_mul(4)).unwrap_or(0));
    let cut = loop {
        match from.read(&mut piece) {
            Ok(0) => break false,
            Ok(_) if encoder.get_ref().written >= room => break true,
            Ok(n) => {
                if encoder.write_all(piece.get(..n).unwrap_or_default()).is_err() {
                    break true;
                }
                bytes = bytes.saturating_add(u64::try_from(n).unwrap_or(0));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break true,
        }
    };
    let ended = encoder.finish().is_ok();
    (bytes, cut || !ended)
}

struct Counted {
    file: File,
    written: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written = self.written.saturating_add(u64::try_from(written).unwrap_or(0));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use lz4_flex::frame::FrameDecoder;

    fn crash(id: &str, unit: &str, wall: u64) -> Crash {
        Crash {
            id: id.to_owned(),
            kind: Kind::Core,
            time: Some(wall),
            wall,
            unit: Some(unit.to_owned()),
            pid: Some(7),
            uid: Some(0),
            signal: Some(11),
            command: "x".into(),
            program: "/bin/x".into(),
            arguments: vec!["x".into(), "-y".into()],
            reason: String::new(),
            bytes: 0,
            kept: 0,
            cut: false,
        }
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        std::iter::repeat_with(next).flatten().take(length).collect()
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(&dir.path().join("crashes"), 0);
        (dir, folder)
    }

    fn ids(folder: &Folder) -> Vec<String> {
        folder.list().into_iter().map(|crash| crash.id).collect()
    }

    #[test]
    fn a_core_is_kept_whole_and_comes_back() {
        let (_dir, folder) = folder();
        let core = [vec![0; 3_000_000], noise(100_000)].concat();
        let kept = folder.keep(crash("1-7", "a.service", 1), &mut core.as_slice()).unwrap();
        assert_eq!((kept.bytes, kept.cut), (3_100_000, false));
        assert!(kept.kept < 200_000, "{}", kept.kept);
        assert_eq!(folder.list(), [kept]);
        let mut back = Vec::new();
        FrameDecoder::new(File::open(folder.contents("1-7")).unwrap()).read_to_end(&mut back).unwrap();
        assert!(back == core);
    }

    #[test]
    fn what_is_too_large_is_cut_and_all_together_stay_within_the_limit() {
        let (_dir, folder) = folder();
        let large = noise(4 << 20);
        for n in 0..6 {
            let kept = folder.keep(crash(&format!("{n}"), &format!("{n}.service"), n), &mut large.as_slice()).unwrap();
            assert!(kept.cut && kept.bytes > 100_000 && kept.bytes < 512 << 10, "{kept:?}");
            let size: u64 =
                fs::read_dir(&folder.path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            assert!(size <= folder.limit + 64 * 1024, "{size}");
        }
        assert!(ids(&folder).ends_with(&["5".to_owned()]));
        // What there is of a core can be read.
        let mut back = Vec::new();
        FrameDecoder::new(File::open(folder.contents("5")).unwrap()).read_to_end(&mut back).unwrap();
        assert!(large.starts_with(&back) && back.len() > 100_000);
    }

    #[test]
    fn one_that_crashes_again_and_again_keeps_its_first_and_its_last_and_pushes_nobody_out() {
        let (_dir, folder) = folder();
        folder.keep(crash("quiet", "quiet.service", 0), &mut &b"core"[..]).unwrap();
        for n in 1..100 {
            folder.keep(crash(&format!("{n}"), "loop.service", n), &mut &b"core"[..]).unwrap();
        }
        assert_eq!(ids(&folder), ["quiet", "1", "97", "98", "99"]);
        for n in 100..200 {
            folder.keep(crash(&format!("{n}"), &format!("{n}.service"), n), &mut &b"core"[..]).unwrap();
        }
        let left = ids(&folder);
        assert_eq!(left.len(), IN_ALL);
        assert!(left.contains(&"199".to_owned()));
    }

    #[test]
    fn what_a_handler_that_was_killed_left_is_no_crash_and_is_removed() {
        let (_dir, folder) = folder();
        fs::create_dir_all(&folder.path).unwrap();
        fs::write(folder.contents("half"), "x").unwrap();
        fs::write(folder.path.join("half.new"), "{").unwrap();
        fs::write(folder.path.join("bad.json"), "{").unwrap();
        assert_eq!(folder.list(), []);
        folder.keep(crash("1", "a.service", 1), &mut &b"core"[..]).unwrap();
        assert!(!folder.contents("half").exists() && !folder.path.join("half.new").exists());
        assert_eq!(ids(&folder), ["1"]);
    }
}
