//! Which services are up after a boot, and what keeps them up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{eventually, pid, state, unit, units};
use vm::{Case, Ended, Image};

#[test]
fn the_minimal_image_brings_its_auto_services_up() {
    let mut vm = Image::get("minimal").unwrap().machine().unwrap().boot().unwrap();
    vm.wait_for("boot complete: 2 of 2 auto services up").unwrap();
    vm.wait_for("mmos:~# ").unwrap();
    vm.console.send("mmosctl is-mmos; printf '%s%d\\n' @@mmos $?\n").unwrap();
    vm.wait_for("@@mmos0").unwrap();
    vm.console.send("mmosctl poweroff\n").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Poweroff);
}

#[test]
fn the_factory_image_brings_its_auto_services_up_and_its_memory_test_passes() {
    let mut vm = Image::get("factory").unwrap().machine().unwrap().memory(1024).boot().unwrap();
    vm.wait_for("boot complete: 3 of 3 auto services up").unwrap();
    vm.wait_for("mmos:~# ").unwrap();
    // Quotes keep the words from being in the echo of the command.
    vm.console.send("mmosctl status memory-test; cat /run/memory-test.json; echo '@@'report\n").unwrap();
    let report = vm.wait_for("@@report").unwrap();
    assert!(report.contains("\"passed\": true"), "{report}");
    // What is on demand is not up.
    vm.console.send("mmosctl status stress --json; echo '@@'stress\n").unwrap();
    let stress = vm.wait_for("@@stress").unwrap();
    assert!(stress.contains("inactive"), "{stress}");
    vm.console.send("mmosctl poweroff\n").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Poweroff);
}

#[test]
fn the_factory_images_own_profile_puts_it_under_load() {
    let machine = Image::get("factory").unwrap().machine().unwrap().memory(1024);
    let mut vm = machine.parameter("mmos.profile=burn-in").boot().unwrap();
    vm.wait_for("stress.service: active").unwrap();
    vm.wait_for("mmos:~# ").unwrap();
    // The tools that the image promises find what they need: a device to read events from.
    vm.console.send("ls /dev/input/ | grep -c event; pidof stress-ng > /dev/null; echo '@@'load $?\n").unwrap();
    let seen = vm.wait_for("@@load 0").unwrap();
    assert!(seen.lines().any(|line| line.trim().parse::<u32>().is_ok_and(|events| events > 0)), "{seen}");
    vm.console.send("mmosctl status memory-test --json; echo '@@'test\n").unwrap();
    let test = vm.wait_for("@@test").unwrap();
    assert!(test.contains("inactive"), "{test}");
    vm.console.send("mmosctl poweroff\n").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Poweroff);
}

#[test]
fn start_types_decide_what_runs_and_order_is_kept() {
    let mut vm = Case::new("services").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    for name in ["worker", "talker", "chain-1", "chain-2", "chain-3", "vm-shell"] {
        assert_eq!(state(&mut vm, name), "active", "{name}");
    }
    // It looks at the other's state when it begins, and fails unless that is done.
    assert_eq!(state(&mut vm, "once"), "done");
    assert!(["active", "done"].contains(&state(&mut vm, "after-once").as_str()));
    for name in ["demand", "disabled", "no-start-type"] {
        assert_eq!(state(&mut vm, name), "inactive", "{name}");
    }
    assert_eq!(unit(&mut vm, "disabled")["start"], "disabled");
    assert_eq!(unit(&mut vm, "no-start-type")["start"], "demand");

    // On demand means that it starts when asked; disabled, that it does not.
    vm.must("mmosctl start demand").unwrap();
    assert_eq!(state(&mut vm, "demand"), "active");
    let refused = vm.run("mmosctl start disabled").unwrap();
    assert!(refused.status != 0 && refused.text.contains("disabled"), "{refused:?}");

    // Who is asking from an ordinary account, of the group that may look, gets an answer, but may not change anything.
    let looks = vm.run("busybox su test -c 'mmosctl status worker'").unwrap();
    assert_eq!(looks.status, 0, "{looks:?}");
    let changes = vm.run("busybox su test -c 'mmosctl stop worker'").unwrap();
    assert!(changes.status != 0 && changes.text.to_lowercase().contains("root"), "{changes:?}");
    assert_eq!(vm.run("busybox su test -c 'mmosctl is-mmos'").unwrap().status, 0);
    // Who is not even in the group does not get that far, and is told why.
    let stranger = vm.run("busybox su -s /bin/sh nobody -c 'mmosctl status worker'").unwrap();
    assert!(stranger.status != 0 && stranger.text.contains("group mmos"), "{stranger:?}");

    // The output of a service is kept, in order.
    let log = vm.must("mmosctl logs talker -n 3").unwrap();
    assert!(log.lines().count() == 3 && log.lines().all(|line| line.contains("line ")), "{log}");

    // A killed service comes back with another process.
    let before = pid(&mut vm, "worker");
    vm.must(&format!("kill -9 {before}")).unwrap();
    eventually("worker is active again", || {
        let worker = unit(&mut vm, "worker");
        worker["state"] == "active" && worker["pid"].as_i64().is_some_and(|now| now != before)
    });
    assert!(unit(&mut vm, "worker")["restarts"].as_i64().unwrap() >= 1);

    // Stopping one stops what requires it, and starting brings back what it requires.
    vm.must("mmosctl stop chain-1").unwrap();
    assert_eq!(state(&mut vm, "chain-3"), "inactive");
    vm.must("mmosctl start chain-3").unwrap();
    assert_eq!(state(&mut vm, "chain-1"), "active");

    // Powering off stops services in reverse order. What was stopped before does not count.
    let before = vm.console.text().len();
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
    let end = vm.console.text().split_off(before);
    let (_, end) = end.split_once("stopping chain-3").expect("chain-3 was stopped");
    let (_, end) = end.split_once("stopping chain-2").expect("chain-2 was stopped after chain-3");
    assert!(end.contains("stopping chain-1"), "chain-1 was stopped last: {end}");
}

#[test]
fn a_profile_turns_services_on_and_off() {
    let machine = Case::new("services").machine().unwrap();
    let mut vm = machine.clone().parameter("mmos.profile=special").boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert_eq!(state(&mut vm, "disabled"), "active");
    assert_eq!(state(&mut vm, "talker"), "inactive");
    assert_eq!(state(&mut vm, "worker"), "active", "without \"*\", others keep their own start type");

    let mut vm = machine.clone().parameter("mmos.profile=quiet").boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let up: Vec<_> = units(&mut vm).into_iter().filter(|unit| unit["state"] != "inactive").collect();
    assert!(up.len() == 1 && up[0]["name"] == "vm-shell.service", "{up:?}");

    // A profile that is not there: said, and the boot goes on with the default.
    let mut vm = machine.parameter("mmos.profile=no-such").boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert_eq!(state(&mut vm, "worker"), "active");
    assert!(vm.console.text().contains("no-such"), "{}", vm.console.text());
}

#[test]
fn bad_units_are_reported_and_the_others_run() {
    let mut vm = Case::new("bad-units").machine().unwrap().boot().unwrap();
    let waited = vm.run("mmosctl wait-boot").unwrap();
    assert_eq!(waited.status, 1, "{waited:?}");

    for name in ["good", "typo-beside", "vm-shell"] {
        assert_eq!(state(&mut vm, name), "active", "{name}");
    }
    let console = vm.console.text();
    let mut check = |name: &str, expected: &str, words: &[&str]| {
        let unit = unit(&mut vm, name);
        assert_eq!(unit["state"], expected, "{unit}");
        let reason = unit["reason"].as_str().unwrap();
        for word in words {
            assert!(reason.contains(word), "{name}: {word:?} is not in {reason:?}");
        }
    };
    check("typo", "refused", &["ExecStart"]);
    check("dies-at-once", "failed", &["3"]);
    check("never-ready", "failed", &["2 s"]);
    check("no-such-program", "failed", &["no-such-program"]);
    for name in ["ring-a", "ring-b", "ring-c"] {
        // Every edge of the cycle, with the file that makes it.
        check(name, "refused", &["ring-a.service", "ring-b.service", "ring-c.service", "After=", "/etc/mmos/units/"]);
    }
    // Whatever requires what cannot start is not started, and says why.
    for (name, missing) in [("needs-ring", "ring-a.service"), ("needs-nothing-there", "not-there.service")] {
        let unit = unit(&mut vm, name);
        assert!(["failed", "refused"].contains(&unit["state"].as_str().unwrap()), "{unit}");
        assert!(unit["reason"].as_str().unwrap().contains(missing), "{unit}");
    }
    assert!(console.contains("typo.service:3") && console.contains("ExecStart"), "file, line and remedy: {console}");
    assert!(console.contains("typo-beside.service:3") && console.contains("Description"), "{console}");

    // A crash loop stops at its limit: the first start and the restarts the limit allows.
    let said = vm.must("mmosctl logs dies-at-once").unwrap();
    assert_eq!(said.matches("cannot find the fixture").count(), 3, "{said}");
}
