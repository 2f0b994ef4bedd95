//! Reads lines of many rings in one order, that of their cursors, a little at a time: what a client asks for must not
//! keep the loop. First it looks for where to begin, from the newest line backwards, then it goes forward, window by
//! window; in a window there are as many cursors as lines, so that little is held at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;

use super::record::{Entry, Line, Source};
use super::ring::{Block, Ring};
use super::store::{LOSS_PRIORITY, RingId, Store};

/// Cursors that are looked at together.
const WINDOW: u64 = 256;
/// Blocks that are looked at before others get their turn.
const STEPS: usize = 16;

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Of these units; of all if there are none.
    pub units: Vec<String>,
    /// As urgent as this, or more.
    pub priority: u8,
    /// Not before, in microseconds of `CLOCK_BOOTTIME`.
    pub since: u64,
    /// Not after.
    pub until: u64,
    /// The last lines alone; 0: all.
    pub lines: usize,
    /// What comes after this cursor; then `lines` says nothing.
    pub after: Option<u64>,
    /// Goes on when the end is reached.
    pub follow: bool,
}

impl Default for Query {
    fn default() -> Query {
        Query { units: Vec::new(), priority: 7, since: 0, until: u64::MAX, lines: 0, after: None, follow: false }
    }
}

impl Query {
    fn wants(&self, line: &Line) -> bool {
        let time = line.entry.time;
        line.entry.priority <= self.priority && self.since <= time && time <= self.until
    }
}

/// What a reader has.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, and whose.
    Line(RingId, Line),
    /// Nothing yet: it has looked for long enough for now.
    Pause,
    /// All there is now.
    End,
    /// All there ever will be.
    Over,
}

/// A reader.
#[derive(Debug)]
pub struct Reader {
    query: Query,
    search: Option<Search>,
    /// All lines up to this cursor are done with.
    position: u64,
    places: Vec<Place>,
    ready: VecDeque<(RingId, Line)>,
    over: bool,
    /// What is damaged is told once: who follows the kernel's lines reads what is told here.
    told: bool,
}

/// Where a reader is in a ring.
#[derive(Debug, Clone)]
struct Place {
    wanted: bool,
    /// The block to look at next.
    at: u64,
    /// No line that is not done with has a smaller cursor.
    next: u64,
    /// The number that the next line has if none was lost.
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Any: nothing is known of what was before.
    Any,
    /// This one.
    Number(u64),
    /// The one after a cursor; whether there was one between is known from what was overwritten.
    After(u64),
}

/// Looks for the last lines.
#[derive(Debug)]
struct Search {
    /// The newest cursors of lines that are wanted, the oldest of them on top.
    newest: BinaryHeap<Reverse<u64>>,
    ring: usize,
    block: Option<Block>,
    tail_done: bool,
}

impl Reader {
    /// For `query`.
    pub fn new(query: Query) -> Reader {
        let search = (query.lines > 0 && query.after.is_none()).then(|| Search {
            newest: BinaryHeap::new(),
            ring: 0,
            block: None,
            tail_done: false,
        });
        let position = query.after.unwrap_or(0);
        Reader { query, search, position, places: Vec::new(), ready: VecDeque::new(), over: false, told: false }
    }

    /// What is next.
    pub fn next(&mut self, store: &Store) -> Next {
        let mut steps = STEPS;
        loop {
            if let Some((ring, line)) = self.ready.pop_front() {
                return Next::Line(ring, line);
            }
            if self.over {
                return Next::Over;
            }
            steps = match steps.checked_sub(1) {
                Some(steps) => steps,
                None => return Next::Pause,
            };
            if self.search.is_some() {
                self.look_back(store);
            } else if !self.go_forward(store) {
                return Next::End;
            }
        }
    }

    fn is_wanted(query: &Query, name: &str) -> bool {
        query.units.is_empty() || query.units.iter().any(|unit| unit == name)
    }

    fn look_back(&mut self, store: &Store) {
        let Some(search) = &mut self.search else { return };
        let query = &self.query;
        let ring = store.rings().nth(search.ring).map(|(_, name, ring)| (name, ring));
        let Some((name, ring)) = ring else {
            // All rings are done.
            if search.newest.len() >= query.lines
                && let Some(Reverse(oldest)) = search.newest.peek()
            {
                self.position = oldest.saturating_sub(1);
            }
            self.search = None;
            return;
        };
        if !Reader::is_wanted(query, name) || !search.look(query, ring) {
            search.ring = search.ring.saturating_add(1);
            (search.block, search.tail_done) = (None, false);
        }
    }

    /// Makes the lines of the next window ready. Whether there may be more.
    fn go_forward(&mut self, store: &Store) -> bool {
        let begin = Place {
            wanted: false,
            at: 0,
            next: 0,
            expected: match (self.query.after, self.query.lines, self.query.since) {
                (Some(after), _, _) => Expected::After(after),
                (None, 0, 0) => Expected::Number(1),
                (None, _, _) => Expected::Any,
            },
        };
        for (id, name, _) in store.rings().skip(self.places.len()) {
            debug_assert_eq!(id.0, self.places.len());
            self.places.push(Place { wanted: Reader::is_wanted(&self.query, name), ..begin.clone() });
        }
        let end = store.cursor();
        if self.position >= end {
            return false;
        }
        let window = Window { after: self.position, to: self.position.saturating_add(WINDOW).min(end) };
        let mut found: Vec<(u64, RingId, Line)> = Vec::new();
        let mut next = u64::MAX;
        for ((id, _, ring), place) in store.rings().zip(&mut self.places).filter(|(_, place)| place.wanted) {
            if ring.cursor() > window.after && place.next <= window.to {
                let mut take = |line: Line, loss: Option<Line>| {
                    self.over |= line.entry.time > self.query.until;
                    // Whoever asks for urgent lines alone sees in the numbers nothing but that others were there.
                    if let Some(loss) = loss.filter(|loss| self.query.wants(loss)) {
                        found.push((loss.cursor, id, loss));
                    }
                    if self.query.wants(&line) {
                        found.push((line.cursor, id, line));
                    }
                };
                if let Err(error) = place.read(ring, window, &self.query, &mut take)
                    && !std::mem::replace(&mut self.told, true)
                {
                    log::warn!("{}: {error}; its lines are missing", ring.path().display());
                }
            }
            next = next.min(if ring.cursor() > window.to { place.next } else { u64::MAX });
        }
        // Stable: a loss stays before the line that showed it.
        found.sort_by_key(|(cursor, _, _)| *cursor);
        self.ready.extend(found.into_iter().map(|(_, id, line)| (id, line)));
        self.over &= !self.query.follow;
        // Where there is nothing for a while, that is passed over.
        self.position = window.to.max(next.saturating_sub(1).min(end));
        true
    }
}

impl Search {
    /// Looks at the next older part of `ring`. Whether there is more of it to look at.
    fn look(&mut self, query: &Query, ring: &Ring) -> bool {
        let (newest, wanted) = (&mut self.newest, query.lines);
        let oldest = |newest: &BinaryHeap<Reverse<u64>>| match newest.peek() {
            Some(Reverse(oldest)) if newest.len() >= wanted => *oldest,
            _ => 0,
        };
        let mut each = |line: Line| {
            if query.wants(&line) && line.cursor > oldest(newest) {
                newest.push(Reverse(line.cursor));
                if newest.len() > wanted {
                    newest.pop();
                }
            }
        };
        let block = if std::mem::replace(&mut self.tail_done, true) {
            let Some(block) = self.block.take() else { return false };
            // What has given way meanwhile is not looked for.
            if block.at < ring.start() || ring.read_block(&block, &mut each).is_err() {
                return false;
            }
            ring.block_before(&block)
        } else {
            // That it is damaged is told on the way forward.
            let _ = ring.read_tail(&mut each);
            ring.last_block()
        };
        self.block = block.ok().flatten();
        let oldest = oldest(&self.newest);
        self.block.is_some_and(|block| block.last > oldest && block.last_time >= query.since)
    }
}

#[derive(Debug, Clone, Copy)]
struct Window {
    after: u64,
    to: u64,
}

impl Place {
    /// Hands the lines of `window` to `take`, each with what was lost before it. What is damaged is passed over, and
    /// the last error is returned.
    fn read(
        &mut self,
        ring: &Ring,
        window: Window,
        query: &Query,
        take: &mut impl FnMut(Line, Option<Line>),
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        let mut beyond = None;
        loop {
            let block = match ring.block(self.at) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    // Those that come behind it are read again.
                    self.at = ring.end();
                    break;
                }
            };
            if block.last <= window.after || block.last_time < query.since {
                self.at = block.next();
                self.pass(block.first_seq.saturating_add(block.lines), block.last);
                continue;
            }
            if block.first > window.to {
                self.next = block.first;
                return outcome;
            }
            let read = ring.read_block(&block, |line| self.line(line, ring, window, &mut beyond, take));
            outcome = outcome.and(read);
            if let Some(next) = beyond {
                self.next = next;
                return outcome;
            }
            self.at = block.next();
        }
        let read = ring.read_tail(|line| self.line(line, ring, window, &mut beyond, take));
        self.next = beyond.unwrap_or_else(|| ring.cursor().saturating_add(1));
        outcome.and(read)
    }

    /// Lines before number `next` are passed over.
    fn pass(&mut self, next: u64, last: u64) {
        match self.expected {
            Expected::Any => {}
            Expected::Number(expected) if expected >= next => {}
            // What was lost before them is told with the next line.
            Expected::Number(_) => self.expected = Expected::Number(next),
            Expected::After(after) if last <= after => {}
            Expected::After(_) => self.expected = Expected::Number(next),
        }
    }

    fn line(
        &mut self,
        line: Line,
        ring: &Ring,
        window: Window,
        beyond: &mut Option<u64>,
        take: &mut impl FnMut(Line, Option<Line>),
    ) {
        if line.cursor > window.to {
            beyond.get_or_insert(line.cursor);
            return;
        }
        if line.cursor <= window.after {
            return;
        }
        let loss = match self.expected {
            Expected::Number(expected) => line.seq.checked_sub(expected).filter(|lost| *lost > 0).map(Some),
            Expected::After(after) if ring.overwritten_to() > after && line.seq > 1 => Some(None),
            Expected::After(_) | Expected::Any => None,
        };
        self.expected = Expected::Number(line.seq.saturating_add(1));
        let loss = loss.map(|lost| loss_before(&line, lost));
        take(line, loss);
    }
}

/// A line that stands for those that are missing before `next`: with the number of the last of them.
fn loss_before(next: &Line, lost: Option<u64>) -> Line {
    let count = match lost {
        Some(1) => "1 line".to_owned(),
        Some(lost) => format!("{lost} lines"),
        None => "lines".to_owned(),
    };
    let why = match next.entry.source {
        Source::Kernel => "the kernel's log was not read in time, or the log keeps the newest alone",
        _ => "the log keeps the newest alone",
    };
    let text = format!("[{count} lost: {why}]");
    let entry = Entry::new(Source::Supervisor, next.entry.time, LOSS_PRIORITY, text);
    // A reader that goes on after it goes on with the line.
    let (seq, cursor) = (next.seq.saturating_sub(1), next.cursor.saturating_sub(1));
    Line { seq, cursor, wall: next.wall, entry }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
#[path = "reader_tests.rs"]
mod tests;
