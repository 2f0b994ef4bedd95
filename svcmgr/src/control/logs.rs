//! `Logs`: lines on their way to a client, as many as it takes, and a few at a time.

use super::methods::{Failure, micros};
use super::protocol::{self, LogSource};
use super::{Client, Pending};
use crate::host::real::RealHost;
use crate::log::reader::{Next, Query, Reader};
use crate::log::record::{Line, Source};
use crate::log::store::{KERNEL, OTHER, Store};
use crate::supervisor::Supervisor;
use crate::unit::full_name;

/// So many lines are sent at most where all go into one reply.
const MAX_LINES: usize = 2000;
/// More than so many last lines are not looked for: each takes memory while they are.
const MAX_LAST: usize = 10_000;

/// Lines on their way to a client.
#[derive(Debug)]
pub struct Lines {
    reader: Reader,
    follow: bool,
    /// The line that was read and not sent, since only the next one tells whether it is the last.
    held: Option<protocol::LogLine>,
    /// All lines of the one reply, where there is to be one.
    whole: Option<Vec<protocol::LogLine>>,
}

/// Whether lines can be sent to a client at once, or when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// There are more, and others get their turn first.
    More,
    /// It waits for lines to come, or has to read first, or has all it asked for.
    Enough,
}

/// Begins to answer `Logs`.
///
/// # Errors
/// The reply that says what is wrong with the call.
pub fn call(
    client: &mut Client,
    args: protocol::Logs_Args,
    more: bool,
    supervisor: &mut Supervisor<RealHost>,
) -> Result<(), Failure> {
    let invalid = |what: &str| Box::new(protocol::service_error("InvalidParameter", "parameter", what));
    let mut units = Vec::new();
    for name in args.units {
        // Those of no unit have names that no unit has: a unit's ends with its type.
        let name = if name == KERNEL || name == OTHER { name } else { full_name(&name) };
        if let Some(id) = supervisor.machine.find(&name) {
            let time = link::boot::now_us();
            let host = &mut supervisor.host;
            host.pipes.drain(&mut host.store, id, time, false);
            // An alias reads its unit.
            units.extend(supervisor.machine.unit(id).map(|unit| unit.name.clone()));
        } else if [KERNEL, OTHER].contains(&name.as_str()) || supervisor.host.store.find(&name).is_some() {
            units.push(name);
        } else {
            return Err(Box::new(protocol::error("NoSuchUnit", &protocol::NoSuchUnit_Args { name })));
        }
    }
    let lines = usize::try_from(args.lines).unwrap_or(0);
    if lines > MAX_LAST {
        return Err(invalid("lines: at most 10000, or 0 for all"));
    }
    let lines = if !more && (lines == 0 || lines > MAX_LINES) && args.after.is_none() { MAX_LINES } else { lines };
    let number = |value: Option<i64>| value.map(|value| u64::try_from(value).unwrap_or(0));
    let follow = more && args.follow;
    let query = Query {
        units,
        priority: args.priority.map_or(7, |priority| u8::try_from(priority.clamp(0, 7)).unwrap_or(7)),
        since: number(args.since).unwrap_or(0),
        until: number(args.until).filter(|_| !follow).unwrap_or(u64::MAX),
        lines,
        after: number(args.after),
        follow,
    };
    let whole = (!more).then(Vec::new);
    client.pending = Pending::Lines(Box::new(Lines { reader: Reader::new(query), follow, held: None, whole }));
    Ok(())
}

/// Gives a client the next lines that it asked for.
pub fn send(client: &mut Client, store: &Store) -> Sent {
    let mut lines = match std::mem::replace(&mut client.pending, Pending::Nothing) {
        Pending::Lines(lines) => lines,
        other => {
            client.pending = other;
            return Sent::Enough;
        }
    };
    let mut sent = Sent::Enough;
    while client.takes_lines() {
        let next = match lines.reader.next(store) {
            Next::Line(ring, line) => {
                let name = store.rings().nth(ring.0).map(|(_, name, _)| name.to_owned());
                Some(log_line(name.unwrap_or_default(), line))
            }
            Next::Pause => {
                sent = Sent::More;
                break;
            }
            Next::End if lines.follow => break,
            Next::End | Next::Over => None,
        };
        match (next, &mut lines.whole) {
            (Some(line), None) => {
                // Only the next line tells whether this is the last; a follower has no last.
                let ready = if lines.follow { Some(line) } else { lines.held.replace(line) };
                if let Some(line) = ready {
                    client.reply(&protocol::reply(&protocol::Logs_Reply { entries: vec![line] }, true));
                }
            }
            (Some(line), Some(whole)) if whole.len() < MAX_LINES => whole.push(line),
            (_, whole) => {
                let entries = whole.take().unwrap_or_else(|| lines.held.take().into_iter().collect());
                client.answer(&protocol::Logs_Reply { entries });
                return Sent::Enough;
            }
        }
    }
    client.pending = Pending::Lines(lines);
    sent
}

fn log_line(unit: String, line: Line) -> protocol::LogLine {
    let entry = line.entry;
    protocol::LogLine {
        seq: micros(line.seq),
        cursor: micros(line.cursor),
        time: micros(entry.time),
        wall: micros(line.wall),
        unit,
        priority: i64::from(entry.priority),
        facility: entry.facility.map(i64::from),
        source: match entry.source {
            Source::Output => LogSource::output,
            Source::Kernel => LogSource::kernel,
            Source::Syslog => LogSource::syslog,
            Source::Journal => LogSource::journal,
            Source::Supervisor => LogSource::supervisor,
        },
        pid: entry.pid.map(i64::from),
        identifier: entry.identifier,
        fields: entry.fields.into_iter().collect(),
        text: entry.text,
    }
}
