//! What becomes of what a service writes to its pipe.

use super::*;
use crate::log::reader::{Next, Query, Reader};
use crate::log::record::Line;
use crate::log::store::Bounds;

const A: UnitId = UnitId(0);
const BOUNDS: Bounds = Bounds { unit: 256 << 10, all: 1 << 20 };

struct Service {
    dir: tempfile::TempDir,
    store: Store,
    pipes: Pipes,
}

impl Service {
    fn new() -> Service {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut pipes) = (Store::open(dir.path(), BOUNDS), Pipes::default());
        pipes.pipe(&mut store, A, "a.service", Style::default(), false).unwrap();
        Service { dir, store, pipes }
    }

    fn write(&mut self, text: &[u8]) -> usize {
        let (writer, _) = self.pipes.pipe(&mut self.store, A, "a.service", Style::default(), false).unwrap();
        rustix::fs::fcntl_setfl(writer, OFlags::NONBLOCK).unwrap();
        rustix::io::write(writer, text).unwrap_or(0)
    }

    fn say(&mut self, text: &str) {
        assert_eq!(self.write(text.as_bytes()), text.len());
        self.pipes.drain(&mut self.store, A, 7, false);
    }

    fn lines(&self) -> Vec<Line> {
        let mut reader = Reader::new(Query::default());
        let mut lines = Vec::new();
        loop {
            match reader.next(&self.store) {
                Next::Line(_, line) => lines.push(line),
                Next::Pause => {}
                Next::End | Next::Over => return lines,
            }
        }
    }

    fn texts(&self) -> Vec<String> {
        self.lines().into_iter().map(|line| line.entry.text).collect()
    }
}

#[test]
fn lines_get_number_time_and_priority() {
    let mut service = Service::new();
    service.say("one\n<3>two\nthr");
    service.say("ee\r\n");
    let lines: Vec<_> =
        service.lines().into_iter().map(|l| (l.seq, l.entry.time, l.entry.priority, l.entry.text)).collect();
    let line = |seq, priority, text: &str| (seq, 7, priority, text.to_owned());
    assert_eq!(lines, [line(1, 6, "one"), line(2, 3, "two"), line(3, 6, "three")]);
}

#[test]
fn a_line_without_an_end_is_kept_when_its_writer_is_gone_and_when_the_supervisor_is() {
    let mut service = Service::new();
    service.say("dying wor");
    assert_eq!(service.texts(), [""; 0]);
    // The next supervisor.
    service.store = Store::open(service.dir.path(), BOUNDS);
    service.say("ds");
    service.pipes.drain(&mut service.store, A, 8, true);
    assert_eq!(service.texts(), ["dying words"]);
    service.pipes.drain(&mut service.store, A, 9, true);
    assert_eq!(service.texts(), ["dying words"]);
}

#[test]
fn all_that_is_in_the_pipe_of_a_service_that_ended_is_kept() {
    let mut service = Service::new();
    let text = "0123456789abcde\n".repeat(4096);
    assert_eq!(service.write(text.as_bytes()), text.len());
    service.pipes.drain(&mut service.store, A, 7, true);
    assert_eq!(service.texts(), vec!["0123456789abcde"; 4096]);
}

#[test]
fn a_service_that_floods_is_left_waiting_and_loses_nothing() {
    let mut service = Service::new();
    let piece = "a line of a service that floods\n".repeat(512);
    let (mut written, mut time, mut waits) = (0, 1_000_000_000, 0);
    while waits < 10 {
        written += service.write(piece.as_bytes());
        if service.pipes.drain(&mut service.store, A, time, false) == Drained::Full {
            waits += 1;
            let at = service.pipes.next_opening().unwrap();
            assert!(at > time && at < time + 2_000_000, "{at}");
            assert_eq!(service.pipes.opened(at - 1), []);
            time = at;
            assert_eq!(service.pipes.opened(time), [A]);
            assert_eq!(service.pipes.next_opening(), None);
        }
    }
    // A burst, then a mebibyte a second.
    let seconds = (time - 1_000_000_000) / 1_000_000 + 1;
    let most = usize::try_from(4 + seconds).unwrap() << 20;
    assert!(written <= most + (128 << 10), "{written} in {seconds} s");
    service.pipes.drain(&mut service.store, A, time, true);
    let seen = service.store.find("a.service").unwrap().seq();
    assert_eq!(usize::try_from(seen).unwrap(), written / 32);
    assert_eq!(service.store.lost("a.service").dropped, 0);
}

#[test]
fn a_pipe_that_was_kept_is_taken_over() {
    let mut service = Service::new();
    service.write(b"while nobody read\n");
    let reader = service.pipes.reader(A).unwrap().try_clone_to_owned().unwrap();
    let mut next = Pipes::default();
    next.adopt(&mut service.store, A, "a.service", Style::default(), false, reader).unwrap();
    service.pipes = next;
    service.say("and then\n");
    assert_eq!(service.texts(), ["while nobody read", "and then"]);
}

#[test]
fn a_unit_may_limit_its_lines_and_what_is_more_is_counted_and_told() {
    use crate::log::lines::LineLimit;
    let mut service = Service::new();
    let style = Style { limit: Some(LineLimit { interval: 100, burst: 2 }), facility: Some(16), ..Style::default() };
    let mut say = |text: &[u8], time: u64| {
        let (writer, _) = service.pipes.pipe(&mut service.store, A, "a.service", style.clone(), false).unwrap();
        rustix::io::write(writer, text).unwrap();
        service.pipes.drain(&mut service.store, A, time, false);
    };
    say(b"1\n2\n3\n", 1000);
    say(b"4\n", 1100);
    say(b"5\n", 1101);
    assert_eq!(service.store.lost("a.service").dropped, 2);
    service.store.tick(u64::MAX);
    assert_eq!(service.texts(), ["1", "2", "5", "[2 lines dropped: more than LogRateLimitBurst= allows]"]);
    assert_eq!(service.lines()[0].entry.facility, Some(16));
}
