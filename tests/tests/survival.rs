//! The supervisor dies, and its services do not notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;

use common::{eventually, pid, supervisor, unit, units};
use vm::{Case, Ended, Vm};

/// Main processes by unit.
fn processes(vm: &mut Vm) -> BTreeMap<String, i64> {
    let all = units(vm);
    all.iter().filter_map(|unit| Some((unit["name"].as_str()?.to_owned(), unit["pid"].as_i64()?))).collect()
}

#[test]
fn services_survive_the_death_of_the_supervisor() {
    let mut vm = Case::new("services").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    vm.must("mmosctl start demand").unwrap();
    let before = processes(&mut vm);
    assert!(before.len() >= 7, "{before:?}");

    for signal in ["KILL", "SEGV"] {
        let old = supervisor(&mut vm);
        vm.must(&format!("kill -{signal} {old}")).unwrap();
        eventually("a new supervisor answers", || {
            let now = vm.run("pidof svcmgr").unwrap().text.trim().parse().unwrap_or(old);
            now != old && vm.run("mmosctl status worker").unwrap().status == 0
        });
        assert_eq!(processes(&mut vm), before, "after SIG{signal}");
        for unit in units(&mut vm) {
            let name = unit["name"].as_str().unwrap();
            match name {
                "demand.service" => assert_eq!(unit["state"], "active"),
                "once.service" => assert_eq!(unit["state"], "done"),
                "disabled.service" | "no-start-type.service" | "orphans.service" => {
                    assert_eq!(unit["state"], "inactive", "{name}");
                }
                _ => assert!(unit["state"] == "active" || unit["state"] == "done", "{unit}"),
            }
        }
        // Nothing failed on the way.
        vm.must("mmosctl wait-boot").unwrap();
    }

    // The services that the new supervisor took over are supervised: one that dies comes back.
    let worker = pid(&mut vm, "worker");
    vm.must(&format!("kill -9 {worker}")).unwrap();
    eventually("worker is active again", || {
        let unit = unit(&mut vm, "worker");
        unit["state"] == "active" && unit["pid"].as_i64().is_some_and(|now| now != worker)
    });

    // No line that a service said while there was no supervisor is lost.
    let log = vm.must("mmosctl logs talker").unwrap();
    let numbers: Vec<u64> = log
        .lines()
        .filter_map(|line| line.rsplit_once("line ").and_then(|(_, number)| number.trim().parse().ok()))
        .collect();
    assert!(numbers.len() > 20, "{log}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");

    // And they can be stopped.
    vm.must("mmosctl stop talker").unwrap();
    assert_eq!(unit(&mut vm, "talker")["state"], "inactive");
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
    assert!(vm.console.text().contains("stopping chain-1"), "a supervisor that took over stops what it took over");
}

#[test]
fn a_service_that_dies_without_a_supervisor_is_noticed_by_the_next() {
    let mut vm = Case::new("services").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let (worker, old) = (pid(&mut vm, "worker"), supervisor(&mut vm));
    // A stopped supervisor cannot see it; then it dies, and PID 1 has the only news.
    vm.must(&format!("kill -STOP {old}; kill -9 {worker}; kill -KILL {old}")).unwrap();
    eventually("worker is active again", || {
        let asked = vm.run("mmosctl status worker --json").unwrap();
        asked.status == 0 && unit(&mut vm, "worker")["pid"].as_i64().is_some_and(|now| now != worker)
    });
    assert_eq!(unit(&mut vm, "worker")["restarts"], 1);
}

#[test]
fn orphans_are_buried_by_pid_1() {
    let mut vm = Case::new("services").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    vm.must("mmosctl start orphans").unwrap();
    eventually("all orphans are there", || vm.must("mmosctl logs orphans").unwrap().contains("left 200 orphans"));
    eventually("no zombie is left", || {
        let zombies = vm.must("grep -l '^State:.Z' /proc/[0-9]*/status | wc -l").unwrap();
        zombies.trim().ends_with('0') && zombies.trim().parse() == Ok(0)
    });
    // The machine ends by PID 1's own signal, too.
    vm.must("(kill -USR2 1) &").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Poweroff);
    assert!(vm.console.text().contains("stopping chain-3"), "services are stopped first");
}

#[test]
fn a_supervisor_is_executed_anew_on_request_unless_its_program_does_not_run() {
    let mut vm = Case::new("services").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let (before, old) = (processes(&mut vm), supervisor(&mut vm));
    // An upgrade: another file in the place of the one that runs.
    let program = "/usr/lib/mmos/svcmgr";
    vm.must(&format!("cp {program} {program}.new && mv {program}.new {program}")).unwrap();
    let said = vm.must("mmosctl reexec").unwrap();
    assert!(said.contains(&format!("has taken over from 0.1.0 (pid {old})")), "{said}");
    assert_ne!(supervisor(&mut vm), old);
    assert_eq!(processes(&mut vm), before);
    let new = supervisor(&mut vm);
    vm.must(&format!("mv {program} {program}.good && echo rubbish > {program} && chmod +x {program}")).unwrap();
    let refused = vm.run("mmosctl reexec").unwrap();
    assert_eq!(refused.status, 1);
    assert!(refused.text.contains("does not run") && refused.text.contains("was left alone"), "{}", refused.text);
    assert_eq!(supervisor(&mut vm), new);
    // Again and again is no crash loop: PID 1 does not begin to wait.
    vm.must(&format!("mv {program}.good {program}")).unwrap();
    for _ in 0..3 {
        vm.must("mmosctl reexec").unwrap();
    }
    assert!(!vm.console.text().contains("starting it again in"), "{}", vm.console.text());
    assert_eq!(processes(&mut vm), before);
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}
