//! The supervisor on a host of which any call can be made to fail: whatever fails, nobody is forgotten, and what is
//! believed comes to be so.

use std::path::Path;

use super::double::{Call, Double, Fault, assert_true_to_the_world, play, take_over};
use super::*;
use crate::graph::Graph;
use crate::load::Loaded;
use crate::machine::{Goal, UnitState};
use crate::unit::StartType;
use crate::unit::parse::parse;
use crate::unit::specifier::Machine as ThisMachine;

const ERRORS: [i32; 6] = [libc::EMFILE, libc::ENOMEM, libc::ENOSPC, libc::EINTR, libc::EAGAIN, libc::EIO];

/// Of each sort of life one unit; `u0.service` and so on, and `u8.socket`.
const UNITS: [&str; 9] = [
    "[Service]\nExecStartPre=/end\nExecStart=/run\nRestart=always\n",
    "[Unit]\nAfter=u0.service\n[Service]\nType=oneshot\nExecStart=/end\nExecStart=/end\n",
    "[Unit]\nRequires=u0.service\nAfter=u0.service\n\
     [Service]\nType=notify\nExecStart=/ready\nExecStartPost=/end\nExecStop=/end\nRestart=on-failure\n",
    "[Service]\nType=forking\nExecStart=/fork\nRestart=on-failure\n",
    "[Unit]\nStartLimitBurst=4\nStartLimitIntervalSec=1h\n\
     [Service]\nExecStart=/fail\nExecStopPost=/end\nRestart=always\n",
    "[Service]\nType=oneshot\nRemainAfterExit=no\nExecStart=/end\nExecStopPost=/fail\n",
    // A child that does not heed SIGTERM.
    "[Unit]\nAfter=u2.service\n[Service]\nExecStart=/deaf-and-child\nTimeoutStopSec=3s\n",
    "[Unit]\nBindsTo=u6.service\nAfter=u6.service\n[Service]\nType=exec\nExecCondition=/end\nExecStart=/deaf\n",
    "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/s\nService=u5.service\n",
];

fn machine(texts: &[&str]) -> Machine {
    let mut loaded = Loaded::default();
    for (n, text) in texts.iter().enumerate() {
        let kind = if text.contains("[Socket]") { "socket" } else { "service" };
        let name = format!("u{n}.{kind}");
        loaded.units.insert(name.clone(), parse(&name, Path::new("/u"), text, &ThisMachine::default()));
    }
    Machine::new(Graph::new(loaded), vec![(StartType::Auto, "unit".to_owned()); texts.len()])
}

fn supervisor(texts: &[&str], fault: Option<Fault>) -> Supervisor<Double> {
    Supervisor::new(machine(texts), Double::new(fault))
}

fn id(n: u32) -> UnitId {
    UnitId(n)
}

fn rest(supervisor: &mut Supervisor<Double>) {
    play(supervisor);
    assert_true_to_the_world(supervisor);
}

/// One whole life: boot, a restart and a stop on request, a takeover while all are up and one in the midst of a restart,
/// and the end. The calls that it took.
fn life(fault: Option<Fault>) -> BTreeMap<Call, usize> {
    let mut supervisor = supervisor(&UNITS, fault);
    supervisor.boot(&BTreeSet::new());
    rest(&mut supervisor);
    assert!(supervisor.take_boot_complete(), "the boot does not end; {fault:?}");
    assert!(supervisor.host.boot_written.is_some(), "that the boot is complete is not written down; {fault:?}");

    for (waiter, n) in (1..).zip([0, 3, 6, 2]) {
        supervisor.restart(id(n), waiter).unwrap();
        rest(&mut supervisor);
        assert_eq!(supervisor.next_answer().map(|(who, _)| who), Some(waiter), "nobody answers; {fault:?}");
    }
    for (waiter, n) in (10..).zip([6, 3]) {
        supervisor.stop(id(n), waiter);
        rest(&mut supervisor);
        assert_eq!(supervisor.next_answer(), Some((waiter, Ok(()))), "{fault:?}");
        // It may have failed before.
        assert!(supervisor.machine.state(id(n)).unwrap().phase.is_down(), "{fault:?}");
        supervisor.start(id(n), waiter).unwrap();
        rest(&mut supervisor);
        assert_eq!(supervisor.next_answer().map(|(who, _)| who), Some(waiter), "nobody answers; {fault:?}");
    }

    let mut supervisor = take_over(machine(&UNITS), supervisor.host);
    rest(&mut supervisor);
    supervisor.restart(id(0), 20).unwrap();
    let mut supervisor = take_over(machine(&UNITS), supervisor.host);
    rest(&mut supervisor);
    if fault.is_none() {
        for n in [0, 2, 3, 6, 8] {
            assert_eq!(supervisor.machine.state(id(n)).unwrap().phase, Phase::Active, "u{n}");
        }
    }

    supervisor.shutdown(Ending::Poweroff);
    rest(&mut supervisor);
    assert!(supervisor.is_stopped(), "it does not stop; {fault:?}");
    assert!(supervisor.host.processes.is_empty(), "a process is forgotten; {fault:?}");
    assert_eq!(supervisor.host.told, [ToInit::Stopping(Ending::Poweroff), ToInit::End(Ending::Poweroff)], "{fault:?}");
    supervisor.host.calls
}

#[test]
fn whichever_call_fails_all_comes_to_rest_and_what_is_believed_is_so() {
    let calls = life(None);
    let mut lives = 0;
    for call in Call::ALL {
        let count = calls.get(&call).copied().unwrap_or(0);
        assert!(count > 0, "{call:?} is never called");
        for first in 1..=count {
            for errno in ERRORS {
                life(Some(Fault { call, first, length: 1, errno }));
            }
            // With those that follow: what is tried again may fail again.
            life(Some(Fault { call, first, length: 7, errno: ERRORS[first % ERRORS.len()] }));
            lives += ERRORS.len() + 1;
        }
    }
    println!("{lives} lives, with {calls:?}");
}

#[test]
fn what_waited_when_the_supervisor_died_is_started_once() {
    let mut supervisor = supervisor(&UNITS[..3], None);
    let waits = UnitState { phase: Phase::Queued, goal: Goal::Up, ..UnitState::default() };
    supervisor.machine.restore(id(0), waits.clone());
    supervisor.machine.restore(id(2), waits);
    // Something is heard of another unit before the boot goes on: nothing may be started by that yet.
    supervisor.event(id(1), Event::Executed);
    assert!(supervisor.host.processes.is_empty());
    // The double makes no second process for one unit.
    supervisor.boot(&BTreeSet::from([id(0), id(2)]));
    rest(&mut supervisor);
    let phases = [0, 2].map(|n| supervisor.machine.state(id(n)).unwrap().phase);
    assert_eq!(phases, [Phase::Active; 2]);
}

#[test]
fn pid_1_hears_of_the_end_before_and_after() {
    let mut supervisor = supervisor(&UNITS[..3], None);
    supervisor.boot(&BTreeSet::new());
    rest(&mut supervisor);
    supervisor.shutdown(Ending::Reboot);
    assert_eq!(supervisor.host.told, [ToInit::Stopping(Ending::Reboot)]);
    rest(&mut supervisor);
    assert_eq!(supervisor.host.told, [ToInit::Stopping(Ending::Reboot), ToInit::End(Ending::Reboot)]);
}
