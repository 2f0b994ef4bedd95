//! Services that do their worst. Whatever they do, PID 1 and the control socket answer, all others run on, and once the
//! offender is stopped all is well again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Instant;

use common::{eventually, pid, state, supervisor, unit, units};
use vm::{Case, Ended, Vm};

/// `mmosctl` has to answer within so many seconds of the guest's, however much there is to do beside it.
const DEADLINE: u32 = 30;

fn boot(memory: u32) -> Vm {
    let mut vm = Case::new("torture").machine().unwrap().memory(memory).boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    vm
}

/// The answer that the control socket gives in time about a unit.
fn answer(vm: &mut Vm, name: &str) -> serde_json::Value {
    let begun = Instant::now();
    let text = vm.must(&format!("timeout {DEADLINE} mmosctl status {name} --json")).unwrap();
    println!("mmosctl answered after {} ms", begun.elapsed().as_millis());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// In the midst of it: the socket answers, nobody else has noticed, and PID 1 starts a new supervisor that knows all.
fn all_else_goes_on(vm: &mut Vm, worker: i64) {
    assert_eq!(answer(vm, "worker")["pid"], worker);
    let old = supervisor(vm);
    vm.must(&format!("kill -KILL {old}")).unwrap();
    eventually("PID 1 has started a new supervisor", || {
        vm.run("pidof svcmgr").unwrap().text.trim().parse().is_ok_and(|now: i64| now != old)
    });
    eventually("which answers", || vm.run(&format!("timeout {DEADLINE} mmosctl status worker")).unwrap().status == 0);
    assert_eq!(answer(vm, "worker")["pid"], worker);
}

/// How many there are. A process that ends while it is looked at cannot be read; that is no zombie.
fn zombies(vm: &mut Vm) -> u32 {
    let text = vm.run("cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '").unwrap().text;
    text.trim().parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// After it: nothing is left of the offender, and the machine does all it did before.
fn all_is_well_again(mut vm: Vm, offender: &str, worker: i64) {
    assert_eq!(state(&mut vm, offender), "inactive");
    assert_eq!(pid(&mut vm, "worker"), worker);
    vm.must("mmosctl restart worker").unwrap();
    assert_ne!(pid(&mut vm, "worker"), worker);
    eventually("no zombie is left", || zombies(&mut vm) == 0);
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

#[test]
fn a_fork_bomb_has_its_share_of_the_processes_and_no_more() {
    let mut vm = boot(512);
    let worker = pid(&mut vm, "worker");
    vm.must("mmosctl start bomb").unwrap();
    eventually("it has all that it may have", || {
        let refused = vm.must("cat /sys/fs/cgroup/mmos/bomb.service/pids.events").unwrap();
        refused.trim().strip_prefix("max ").and_then(|count| count.parse().ok()) > Some(0_u64)
    });
    all_else_goes_on(&mut vm, worker);
    vm.must(&format!("timeout {} mmosctl stop bomb", 4 * DEADLINE)).unwrap();
    all_is_well_again(vm, "bomb", worker);
}

#[test]
fn a_service_that_eats_all_memory_is_the_one_that_goes_for_it() {
    let mut vm = boot(512);
    let (worker, svcmgr) = (pid(&mut vm, "worker"), supervisor(&mut vm));
    let mut score = |pid| vm.must(&format!("cat /proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!((score(svcmgr).trim(), score(worker).trim()), ("-1000", "0"));
    vm.must("mmosctl start eater").unwrap();
    eventually("the kernel has ended it several times", || answer(&mut vm, "eater")["restarts"].as_i64() >= Some(2));
    assert_eq!(supervisor(&mut vm), svcmgr, "the supervisor went for it");
    all_else_goes_on(&mut vm, worker);
    assert_eq!(unit(&mut vm, "vm-shell")["restarts"], 0);
    vm.must("mmosctl stop eater").unwrap();
    all_is_well_again(vm, "eater", worker);
}

#[test]
fn full_file_systems_do_not_keep_services_from_being_supervised() {
    let mut vm = boot(512);
    let worker = pid(&mut vm, "worker");
    for folder in ["/run", ""] {
        let filled = vm.run(&format!("dd if=/dev/zero of={folder}/full bs=1M")).unwrap();
        assert!(filled.status != 0 && filled.text.contains("No space left"), "{filled:?}");
    }
    all_else_goes_on(&mut vm, worker);
    // What becomes of a service now is known to the next supervisor all the same.
    vm.must("mmosctl start demand").unwrap();
    let demand = pid(&mut vm, "demand");
    all_else_goes_on(&mut vm, worker);
    assert_eq!(pid(&mut vm, "demand"), demand);
    vm.must("mmosctl stop demand").unwrap();
    let log = vm.must("mmosctl logs worker -n 1").unwrap();
    eventually("lines are kept", || vm.must("mmosctl logs worker -n 1").unwrap() != log);
    vm.must("rm /run/full /full").unwrap();
    all_is_well_again(vm, "demand", worker);
}

#[test]
fn ten_thousand_zombies_are_buried_once_nobody_else_would() {
    // As many tasks as that take a machine of more than 1,280 MiB: the kernel's threads-max is one for each 128 KiB.
    let mut vm = boot(2048);
    let worker = pid(&mut vm, "worker");
    vm.must("mmosctl start zombies").unwrap();
    // Each of these may take as long as a shared machine needs for it.
    for count in (1..=20).map(|parents| 500 * parents) {
        let line = format!("left {count} zombies");
        eventually(&line, || vm.must("mmosctl logs zombies").unwrap().contains(&line));
    }
    all_else_goes_on(&mut vm, worker);
    let left = zombies(&mut vm);
    assert!(left >= 10_000, "{left}");
    // All of them fall to PID 1 at once.
    vm.must("mmosctl stop zombies").unwrap();
    all_is_well_again(vm, "zombies", worker);
}

#[test]
fn a_thousand_services_that_crash_for_ever_keep_nobody_from_anything() {
    let mut vm = boot(1024);
    let worker = pid(&mut vm, "worker");
    vm.must("mmosctl start crashing.target").unwrap();
    for name in ["crash@1", "crash@500", "crash@1000"] {
        eventually("it has crashed again", || answer(&mut vm, name)["restarts"].as_i64() >= Some(2));
    }
    all_else_goes_on(&mut vm, worker);
    vm.must("mmosctl stop crashing.target").unwrap();
    eventually("all of them are stopped", || {
        let crashing = |unit: &serde_json::Value| unit["name"].as_str().unwrap().starts_with("crash@");
        units(&mut vm).iter().filter(|unit| crashing(unit)).all(|unit| unit["state"] == "inactive")
    });
    let left = vm.run("ls -d /sys/fs/cgroup/mmos/crash@* | grep -c crash").unwrap().text;
    assert!(left.trim().ends_with('0'), "{left}");
    all_is_well_again(vm, "crash@500", worker);
}
