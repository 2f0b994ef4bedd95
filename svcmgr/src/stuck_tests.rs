//! When jobs are told of, and what is said of whom.

use std::path::Path;

use super::*;
use crate::graph::Graph;
use crate::load::Loaded;
use crate::machine::Verdict;
use crate::machine::{Event, Process, Role};
use crate::unit::StartType;
use crate::unit::parse::parse;

const SECOND: u64 = 1_000_000;

#[test]
fn a_job_is_told_of_after_the_delay_and_then_each_time_it_has_taken_twice_as_long() {
    let mut jobs = Jobs::default();
    let id = UnitId(0);
    jobs.changed(id, Phase::StartMain(0), SECOND);
    // Another step of the same job.
    jobs.changed(id, Phase::StartPost(0), 5 * SECOND);
    let mut told = Vec::new();
    for now in 0..100 {
        told.extend(jobs.late(now * SECOND).into_iter().map(|late| (now, late.for_us / SECOND)));
    }
    assert_eq!(told, [(11, 10), (21, 20), (41, 40), (81, 80)]);
    assert_eq!(jobs.next_deadline(), Some(161 * SECOND));
    // Another job begins anew, and rest is none.
    jobs.changed(id, Phase::StopTerm, 100 * SECOND);
    assert_eq!(jobs.next_deadline(), Some(110 * SECOND));
    for phase in [Phase::Active, Phase::Inactive, Phase::Backoff, Phase::Done, Phase::Failed, Phase::Refused] {
        jobs.changed(id, Phase::StopTerm, 100 * SECOND);
        jobs.changed(id, phase, 101 * SECOND);
        assert_eq!(jobs.next_deadline(), None, "{phase:?}");
    }
}

/// A machine whose first unit has been told to start its main process, and hangs.
fn hanging(units: &[&str]) -> Machine {
    let mut loaded = Loaded::default();
    for (n, text) in units.iter().enumerate() {
        let name = format!("u{n}.service");
        loaded.units.insert(name.clone(), parse(&name, Path::new("/u"), text, &Default::default()));
    }
    let graph = Graph::new(loaded);
    let starts = vec![(StartType::Auto, "unit".to_owned()); units.len()];
    let mut machine = Machine::new(graph, starts);
    let now = Now { mono: 1, boot: 1 };
    machine.boot(now, &BTreeSet::new());
    let first = machine.find("u0.service").unwrap();
    machine.event(first, Event::Asked(Verdict::Go), now);
    machine.event(first, Event::Spawned(Role::Main, Process { pid: 7, born: 1 }), now);
    machine.event(first, Event::Executed, now);
    machine
}

fn said(machine: &Machine, name: &str, job: Job, last: Option<&str>) -> Vec<String> {
    let late = Late { id: machine.find(name).unwrap(), job, for_us: 12 * SECOND };
    let now = Now { mono: 12 * SECOND, boot: 12 * SECOND };
    describe(machine, late, now, &["process 7 (x) sleeps in do_wait".to_owned()], last)
}

#[test]
fn who_hangs_is_told_with_what_it_is_at_and_who_waits_for_it() {
    let machine = hanging(&[
        "[Service]\nType=notify\nExecStart=/x\n",
        "[Unit]\nAfter=u0.service\n[Service]\nExecStart=/x\n",
        "[Unit]\nAfter=u1.service\n[Service]\nExecStart=/x\n",
    ]);
    assert_eq!(
        said(&machine, "u0.service", Job::Starting, Some("opening the valve")),
        [
            "u0.service: starting for 12 s: it has not said READY=1; process 7 (x) sleeps in do_wait; 78 s until its \
             timeout",
            "u0.service: its last line: opening the valve",
            "u0.service: u1.service, u2.service wait for it",
        ]
    );
    // The others are explained by that.
    assert!(said(&machine, "u1.service", Job::Waiting, None).is_empty());
    assert!(said(&machine, "u2.service", Job::Waiting, None).is_empty());
}

#[test]
fn who_waits_for_one_that_is_tried_again_says_so() {
    let mut machine = hanging(&[
        "[Service]\nType=notify\nExecStart=/x\nRestart=always\nRestartSec=1h\n",
        "[Unit]\nAfter=u0.service\n[Service]\nExecStart=/x\n",
    ]);
    let (first, now) = (machine.find("u0.service").unwrap(), Now { mono: 2, boot: 2 });
    machine.event(first, Event::MainExited(crate::machine::Exit::Code(3)), now);
    machine.event(first, Event::Empty, now);
    let lines = said(&machine, "u1.service", Job::Waiting, None);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("u1.service: waits for 12 s for u0.service, which is to be started again: "),
        "{lines:?}"
    );
}

#[test]
fn one_that_does_not_stop_is_told_with_the_signal() {
    let mut machine = hanging(&["[Service]\nExecStart=/x\n"]);
    let (first, now) = (machine.find("u0.service").unwrap(), Now { mono: 2, boot: 2 });
    machine.event(first, Event::Stop, now);
    machine.event(first, Event::Go, now);
    let lines = said(&machine, "u0.service", Job::Stopping, None);
    assert!(lines[0].contains("stopping for 12 s: told to end by SIGTERM, it has not ended"), "{lines:?}");
}
