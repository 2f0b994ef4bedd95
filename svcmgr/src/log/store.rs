//! All rings, and the bounds over them. Gives every line its numbers, and counts what is not kept.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::clock;
use super::record::{Entry, Line, Source};
use super::ring::{PAGE, Ring};

/// The ring of the kernel's lines.
pub const KERNEL: &str = "kernel";
/// The ring of lines from processes of no unit.
pub const OTHER: &str = "other";

/// The longest text of a line, in bytes. Longer ones are cut into several.
pub const LINE_LIMIT: usize = 4096;
/// The longest name that a sender may call itself, in bytes.
const IDENTIFIER_LIMIT: usize = 256;
/// How long the fields of a line may be together, in bytes.
pub const FIELDS_LIMIT: usize = 4096;
/// Cursors are taken in lots of so many, so that not every line has to be written down twice.
const LOT: u64 = 1 << 16;
/// The priority of the line that tells of a loss: a warning.
pub const LOSS_PRIORITY: u8 = 4;
/// A loss is told so soon after it began, in microseconds: one line for many.
const LOSS_DELAY: u64 = 1_000_000;

/// How much is kept, in bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of one unit, in compressed blocks.
    pub unit: u64,
    /// Of all units together; but no less than a page of each that ever said something.
    pub all: u64,
}

impl Bounds {
    /// For a machine with so much memory: a thirty-second part of it for all, within limits.
    pub fn of_memory(bytes: u64) -> Bounds {
        Bounds { unit: 256 << 10, all: (bytes / 32).clamp(1 << 20, 32 << 20) }
    }
}

/// Number of a ring: never given anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingId(pub usize);

/// Why lines were not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// More than one unit may say in a while.
    Rate,
    /// More lines than the unit's own limit.
    Limit,
    /// No room in the file system, or no descriptor.
    Room,
    /// Longer than any message may be: in bytes, not lines.
    Cut,
}

/// What was lost of a unit's lines, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Lines that gave way to newer ones.
    pub overwritten: u64,
    /// Lines that were never kept.
    pub dropped: u64,
}

/// All rings.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    bounds: Bounds,
    rings: Vec<(String, Ring)>,
    names: HashMap<String, RingId>,
    cursor: u64,
    reserved: u64,
    cursors: Option<File>,
    untold: BTreeMap<(RingId, Loss), Untold>,
    changed: bool,
    /// The time of the last line. Those of different sources are a little out of order.
    latest: u64,
    /// What is wrong with a file is told once: each telling is a line of the kernel's log, and so one more to keep.
    told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Untold {
    count: u64,
    due: u64,
}

impl Store {
    /// The rings beneath `folder`, with what is there already.
    pub fn open(folder: &Path, bounds: Bounds) -> Store {
        if let Err(error) = fs::create_dir_all(folder) {
            log::error!("{} cannot be made: {error}; output of services is lost", folder.display());
        }
        let mut store = Store {
            folder: folder.to_owned(),
            bounds,
            rings: Vec::new(),
            names: HashMap::new(),
            cursor: 0,
            reserved: 0,
            cursors: None,
            untold: BTreeMap::new(),
            changed: false,
            latest: 0,
            told: false,
        };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(name) = entry.file_name().into_string()
                && !name.starts_with('.')
            {
                store.ring(&name);
            }
        }
        let known = store.rings.iter().map(|(_, ring)| ring.cursor()).max().unwrap_or(0);
        store.cursor = known.max(store.read_reserved());
        store.reserved = store.cursor;
        store
    }

    /// The end of the last lot of cursors: none below it is given out again.
    fn read_reserved(&mut self) -> u64 {
        let path = self.folder.join(".cursor");
        match OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path) {
            Ok(file) => {
                let mut bytes = [0; 8];
                let found = file.read_exact_at(&mut bytes, 0).is_ok();
                self.cursors = Some(file);
                if found { u64::from_le_bytes(bytes) } else { 0 }
            }
            Err(error) => {
                log::error!("{}: {error}; who follows a log may miss lines if the supervisor dies", path.display());
                0
            }
        }
    }

    fn next_cursor(&mut self) -> u64 {
        self.cursor = self.cursor.saturating_add(1);
        if self.cursor > self.reserved {
            self.reserved = self.cursor.saturating_add(LOT);
            if let Some(file) = &self.cursors
                && let Err(error) = file.write_all_at(&self.reserved.to_le_bytes(), 0)
            {
                log::error!("{}: cursors cannot be reserved: {error}", self.folder.display());
            }
        }
        self.cursor
    }

    /// The ring of `name`, which begins empty.
    pub fn ring(&mut self, name: &str) -> RingId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let path = self.folder.join(name);
        let ring = Ring::open(path.clone()).unwrap_or_else(|error| {
            log::error!("{}: {error}: it begins anew, and what it held is lost", path.display());
            Ring::empty(path)
        });
        let id = RingId(self.rings.len());
        self.rings.push((name.to_owned(), ring));
        self.names.insert(name.to_owned(), id);
        id
    }

    /// The ring of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Ring> {
        self.get(*self.names.get(name)?)
    }

    /// A ring.
    pub fn get(&self, id: RingId) -> Option<&Ring> {
        self.rings.get(id.0).map(|(_, ring)| ring)
    }

    /// Whose ring it is.
    pub fn name(&self, id: RingId) -> Option<&str> {
        self.rings.get(id.0).map(|(name, _)| name.as_str())
    }

    /// What was written of a line that is not ended.
    pub fn partial(&mut self, id: RingId) -> Option<&mut Vec<u8>> {
        self.rings.get_mut(id.0).map(|(_, ring)| &mut ring.partial)
    }

    /// All rings, with their names.
    pub fn rings(&self) -> impl ExactSizeIterator<Item = (RingId, &str, &Ring)> {
        self.rings.iter().enumerate().map(|(n, (name, ring))| (RingId(n), name.as_str(), ring))
    }

    /// The cursor of the last line of all.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Whether a line has come since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was lost of a unit's lines.
    pub fn lost(&self, name: &str) -> Lost {
        let Some(id) = self.names.get(name) else { return Lost::default() };
        let Some(ring) = self.get(*id) else { return Lost::default() };
        let untold = |loss| self.untold.get(&(*id, loss)).map_or(0, |untold: &Untold| untold.count);
        let dropped =
            [Loss::Rate, Loss::Limit, Loss::Room].map(untold).into_iter().fold(ring.dropped(), u64::saturating_add);
        Lost { overwritten: ring.overwritten(), dropped }
    }

    /// Keeps lines, with the numbers that follow; and what the ring has of a line that is not ended.
    pub fn append(&mut self, id: RingId, entries: Vec<Entry>) {
        let Some(seq) = self.get(id).map(|ring| ring.seq().saturating_add(1)) else { return };
        let pieces = entries.into_iter().flat_map(cut);
        self.append_numbered(id, (seq..).zip(pieces).collect());
    }

    /// Keeps lines that have their numbers already.
    pub fn append_numbered(&mut self, id: RingId, entries: Vec<(u64, Entry)>) {
        let offset = clock::wall_offset();
        let mut lines = Vec::with_capacity(entries.len());
        for (seq, mut entry) in entries {
            let cursor = self.next_cursor();
            self.latest = self.latest.max(entry.time);
            entry.time = self.latest;
            lines.push(Line { seq, cursor, wall: entry.time.saturating_add(offset), entry });
        }
        self.changed |= !lines.is_empty();
        let mut rest = lines.as_slice();
        let mut retried = false;
        loop {
            let Some((_, ring)) = self.rings.get_mut(id.0) else { return };
            let Err((written, error)) = ring.append(rest) else { break };
            rest = rest.get(written..).unwrap_or_default();
            // A full file system: the logs themselves may be what fills it.
            if !std::mem::replace(&mut retried, true) && self.evict_largest() {
                continue;
            }
            if !std::mem::replace(&mut self.told, true) {
                log::warn!("{}: lines cannot be kept: {error}", self.folder.display());
            }
            let now = rest.last().map_or(0, |line| line.entry.time);
            self.lose(id, Loss::Room, u64::try_from(rest.len()).unwrap_or(0), now);
            break;
        }
        self.hold_bounds(id);
    }

    fn hold_bounds(&mut self, id: RingId) {
        while let Some((_, ring)) = self.rings.get_mut(id.0)
            && ring.block_bytes() > self.bounds.unit
        {
            match ring.evict() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        log::error!("{}: nothing can be given back: {error}", ring.path().display());
                    }
                    break;
                }
            }
        }
        while self.bytes() > self.bounds.all && self.evict_largest() {}
    }

    /// How much memory all rings take.
    pub fn bytes(&self) -> u64 {
        self.rings.iter().map(|(_, ring)| ring.bytes()).fold(0, u64::saturating_add)
    }

    /// The largest ring gives its oldest block, or, where there are only tails, the longest of these. So a unit that
    /// says little keeps what it said, however much others say. Whether anything was given back.
    fn evict_largest(&mut self) -> bool {
        let largest = self.rings.iter_mut().map(|(_, ring)| ring).max_by_key(|ring| (ring.block_bytes(), ring.bytes()));
        let Some(ring) = largest else { return false };
        let before = ring.bytes();
        if before <= PAGE {
            return false;
        }
        let evicted = match ring.evict() {
            Ok(true) => Ok(()),
            Ok(false) => ring.drop_tail(),
            Err(error) => Err(error),
        };
        if let Err(error) = evicted {
            if !std::mem::replace(&mut self.told, true) {
                log::error!("{}: nothing can be given back: {error}", ring.path().display());
            }
            return false;
        }
        // A block shorter than a page may give back nothing yet.
        ring.bytes() < before || ring.block_bytes() > 0
    }

    /// Counts what is not kept; a line will tell of it.
    pub fn lose(&mut self, id: RingId, loss: Loss, count: u64, now: u64) {
        if count == 0 {
            return;
        }
        let due = now.saturating_add(LOSS_DELAY);
        let untold = self.untold.entry((id, loss)).or_insert(Untold { count: 0, due });
        untold.count = untold.count.saturating_add(count);
    }

    /// Counts lines whose numbers say that they are missing.
    pub fn skipped(&mut self, id: RingId, count: u64) {
        if let Some((_, ring)) = self.rings.get_mut(id.0).filter(|_| count > 0) {
            ring.count_dropped(count);
            // It stands in memory if it cannot be written.
            let _ = ring.write_counts();
        }
    }

    /// When the next loss is to be told.
    pub fn next_deadline(&self) -> Option<u64> {
        self.untold.values().map(|untold| untold.due).min()
    }

    /// Tells of losses that are due; `now` in microseconds of `CLOCK_BOOTTIME`.
    pub fn tick(&mut self, now: u64) {
        let due: Vec<(RingId, Loss)> =
            self.untold.iter().filter(|(_, untold)| untold.due <= now).map(|(key, _)| *key).collect();
        for (id, loss) in due {
            let Some(untold) = self.untold.remove(&(id, loss)) else { continue };
            let Some((name, ring)) = self.rings.get_mut(id.0) else { continue };
            let count = untold.count;
            if loss != Loss::Cut {
                ring.count_dropped(count);
            }
            // Written with the head; a line that cannot be kept is counted anew.
            let _ = ring.write_counts();
            // The kernel's own numbers have a gap there, which says so.
            if name != KERNEL {
                self.append(id, vec![Entry::new(Source::Supervisor, now, LOSS_PRIORITY, loss.line(count))]);
            }
        }
    }
}

impl Loss {
    fn line(self, count: u64) -> String {
        let lines = if count == 1 { "line" } else { "lines" };
        match self {
            Loss::Rate => format!("[{count} {lines} dropped: more than one unit may say on the journal's sockets]"),
            Loss::Limit => format!("[{count} {lines} dropped: more than LogRateLimitBurst= allows]"),
            Loss::Room => format!("[{count} {lines} dropped: no room in the log's file system]"),
            Loss::Cut => format!("[{count} bytes cut off: longer than a message may be]"),
        }
    }
}

/// A line that is too long becomes several.
fn cut(mut entry: Entry) -> impl Iterator<Item = Entry> {
    let mut pieces = Vec::new();
    entry.identifier.truncate(boundary(&entry.identifier, IDENTIFIER_LIMIT));
    let mut room = FIELDS_LIMIT;
    entry.fields.retain(|(name, value)| {
        let length = name.len().saturating_add(value.len()).saturating_add(8);
        let fits = length <= room;
        room = room.saturating_sub(if fits { length } else { 0 });
        fits
    });
    while entry.text.len() > LINE_LIMIT {
        let rest = entry.text.split_off(boundary(&entry.text, LINE_LIMIT));
        let piece = std::mem::replace(&mut entry.text, rest);
        pieces.push(Entry { text: piece, ..entry.clone() });
        // Said once.
        entry.fields = Vec::new();
    }
    pieces.push(entry);
    pieces.into_iter()
}

/// At most `limit`, and not within a character.
fn boundary(text: &str, limit: usize) -> usize {
    let limit = limit.min(text.len());
    (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// How much memory the machine has, in bytes.
pub fn memory() -> u64 {
    let found = rustix::system::sysinfo();
    found.totalram.saturating_mul(u64::from(found.mem_unit).max(1))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
#[path = "store_tests.rs"]
mod tests;
