//! What hangs comes back: the supervisor by PID 1, PID 1 and all else by the machine's watchdog.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{eventually, pid, supervisor};
use vm::{Case, Ended, Machine};

/// Of the image; long enough for a guest on a machine that is busy with others.
const SECONDS: u16 = 16;

/// A machine with a watchdog: QEMU's model of the one in Intel's 6300ESB.
fn machine() -> Machine {
    let case = Case::new("watchdog").include("i6300esb").boot(&format!("watchdog = {SECONDS}"));
    let mut machine = case.machine().unwrap();
    machine.arguments.extend(["-device", "i6300esb", "-action", "watchdog=reset"].map(str::to_owned));
    machine
}

#[test]
fn a_supervisor_that_hangs_is_started_anew_and_no_service_with_it() {
    let mut vm = machine().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert!(vm.console.text().contains("resets a machine that hangs for 16 s"), "{}", vm.console.text());
    let (old, shell) = (supervisor(&mut vm), pid(&mut vm, "vm-shell"));
    vm.must(&format!("kill -STOP {old}")).unwrap();
    vm.wait_for("does not answer: it is killed").unwrap();
    eventually("a new supervisor answers", || {
        let now = vm.run("pidof svcmgr").unwrap().text.trim().parse().unwrap_or(old);
        now != old && vm.run("mmosctl status").unwrap().status == 0
    });
    assert_eq!(pid(&mut vm, "vm-shell"), shell);
    // Switched off, the watchdog does not strike on the way.
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

#[test]
fn a_pid_1_that_hangs_is_reset_and_the_next_boot_says_so() {
    let mut machine = machine();
    machine.arguments.extend(["-action", "reboot=reset"].map(str::to_owned));
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    // It ignores SIGSTOP, as PID 1 does; the freezer holds it.
    vm.must("mkdir /sys/fs/cgroup/ice && echo 1 > /sys/fs/cgroup/ice/cgroup.procs").unwrap();
    vm.must("echo 1 > /sys/fs/cgroup/ice/cgroup.freeze").unwrap();
    vm.wait_for("this boot follows a reset by the watchdog").unwrap();
}

#[test]
fn a_machine_whose_supervisors_all_hang_is_reset() {
    let mut vm = machine().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    // Those that PID 1 starts from now on never say anything.
    let program = "/usr/lib/mmos/svcmgr";
    vm.must(&format!("rm {program} && printf '#!/bin/sh\\nexec sleep 1000\\n' > {program} && chmod +x {program}"))
        .unwrap();
    vm.must("kill -KILL $(pidof svcmgr)").unwrap();
    vm.wait_for("is reset by its watchdog within 16 s").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Watchdog);
}

#[test]
fn switched_off_the_watchdog_is_left_to_others() {
    let mut vm = machine().parameter("mmos.watchdog=off").boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    // A test of the integrator may have it: only one can.
    vm.must("exec 9>/dev/watchdog && printf V >&9 && exec 9>&-").unwrap();
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}
