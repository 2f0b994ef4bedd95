//! What services may use and see on a real system: its cgroup controllers, its `/run`, its kernel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{eventually, pid, state, unit};
use vm::Case;

#[test]
fn services_use_and_see_no_more_than_their_units_say() {
    let mut vm = Case::new("confined").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    vm.must("mmosctl start limited").unwrap();
    let mut file =
        |name: &str| vm.must(&format!("cat /sys/fs/cgroup/mmos/limited.service/{name}")).unwrap().trim().to_owned();
    assert_eq!(file("pids.max"), "7");
    assert_eq!(file("cpu.max"), "50000 100000");
    assert_eq!(file("cpu.weight"), "42");
    let high: u64 = file("memory.high").parse().unwrap();
    let total = vm.must("grep MemTotal /proc/meminfo | tr -s ' ' | cut -d' ' -f2").unwrap();
    let quarter = total.trim().parse::<u64>().unwrap() * 1024 / 4;
    assert!(high.abs_diff(quarter) <= 4096, "{high} is not a quarter, {quarter}");

    // What eats more than it may is ended, alone, and that is the reason that is told.
    vm.must("mmosctl start hungry").unwrap();
    eventually("the hungry service has failed", || state(&mut vm, "hungry") == "failed");
    let reason = unit(&mut vm, "hungry")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("for want of memory (OOMPolicy=)"), "{reason}");
    vm.must("mmosctl start patient").unwrap();
    eventually("the patient one has survived", || vm.run("mmosctl logs patient | grep survived").unwrap().status == 0);
    assert_eq!(state(&mut vm, "patient"), "active");
    assert!(pid(&mut vm, "limited") > 1);

    vm.must("mmosctl start private").unwrap();
    let said = vm.must("mmosctl logs private --json").unwrap();
    let said: Vec<String> = said
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        said,
        [
            "null yes",
            "kmsg no",
            "tmp yes",
            "etc no",
            "run yes",
            "sysctl no",
            "cgroup no",
            "mount no",
            "links 1",
            "CapBnd: 0000000000000001",
            "NoNewPrivs: 1",
            "Seccomp: 2",
        ]
    );
    // It leaves nothing.
    vm.must("! test -e /run/private-test && ! test -e /run/mmos/private/private.service").unwrap();
}
