//! Runs of real processes by the settings that decide when a service is up, why it is left out, and what its end leads
//! to: forking services, conditions, watchdogs, bounds, what is done about failures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use common::{Device, alive, until};
use serde_json::json;

/// A service that says `READY=1`, then, for a while, that it lives: this very program, told to run [`lives_for_a_while`].
fn living() -> String {
    format!("{} --ignored --exact lives_for_a_while", std::env::current_exe().unwrap().display())
}

#[test]
#[ignore = "not a test: a service of one"]
fn lives_for_a_while() {
    let socket = std::env::var("NOTIFY_SOCKET").expect("run by the supervisor");
    let interval: u64 = std::env::var("WATCHDOG_USEC").expect("it is asked whether it lives").parse().unwrap();
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(b"READY=1", &socket).unwrap();
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_micros(interval / 4));
        sender.send_to(b"WATCHDOG=1", &socket).unwrap();
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn a_forking_service_is_the_process_of_its_pid_file() {
    let forks = "[Service]\nType=forking\nPIDFile=DIR/pid\nTimeoutStartSec=15\n\
                 ExecStart=/bin/sh -c '(sleep 0.2; echo $$$$ > /dev/null; exec sleep 1000) & echo $! > DIR/next; mv DIR/next DIR/pid'\n";
    let device = Device::new(&[("f.service", forks)]);
    let _svcmgr = device.start();
    let unit = device.client().call("Start", json!({"name": "f"})).unwrap()["unit"].clone();
    let pid: i64 = device.read("pid").trim().parse().unwrap();
    assert_eq!((&unit["state"], &unit["pid"]), (&json!("active"), &json!(pid)));
    // Its end is the service's, and how it ended is known.
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    let unit = device.wait_state("f", "failed");
    assert_eq!(unit["reason"], "killed by SIGKILL");
}

#[test]
fn a_pid_file_that_comes_later_is_waited_for_and_a_stop_ends_the_service() {
    let forks = "[Service]\nType=forking\nPIDFile=DIR/late/pid\nTimeoutStartSec=15\nExecStart=/bin/sh DIR/daemon DIR\n";
    let device = Device::new(&[("f.service", forks)]);
    device.file("daemon", "sh $1/child $1 &\n");
    device.file(
        "child",
        "while ! test -e $1/go; do sleep 0.02; done\nmkdir $1/late\necho $$ > $1/late/pid\nexec sleep 1000\n",
    );
    let _svcmgr = device.start();
    let mut client = device.client();
    client.send("Start", json!({"name": "f"}), false);
    device.wait_state("f", "starting");
    device.file("go", "");
    let unit = client.receive().unwrap()["parameters"]["unit"].clone();
    let pid: i64 = device.read("late/pid").trim().parse().unwrap();
    assert_eq!((&unit["state"], &unit["pid"]), (&json!("active"), &json!(pid)));
    let unit = device.client().call("Stop", json!({"name": "f"})).unwrap()["unit"].clone();
    assert_eq!(unit["state"], "inactive");
    assert!(!alive(&json!(pid)));
}

#[test]
fn a_forking_service_without_a_pid_file_is_its_only_process_or_all_of_them() {
    let device = Device::new(&[
        ("one.service", "[Service]\nType=forking\nExecStart=/bin/sh -c 'sleep 1000 & echo $! > DIR/one'\n"),
        ("two.service", "[Service]\nType=forking\nExecStart=/bin/sh -c 'sleep 1000 & sleep 1000 &'\n"),
        ("none.service", "[Service]\nType=forking\nExecStart=/bin/true\n"),
    ]);
    let _svcmgr = device.start();
    let one = device.client().call("Start", json!({"name": "one"})).unwrap()["unit"].clone();
    assert_eq!(one["pid"], json!(device.read("one").trim().parse::<i64>().unwrap()));
    let two = device.client().call("Start", json!({"name": "two"})).unwrap()["unit"].clone();
    assert_eq!((&two["state"], &two["pid"]), (&json!("active"), &json!(null)));
    assert_eq!(device.client().call("Stop", json!({"name": "two"})).unwrap()["unit"]["state"], "inactive");
    // It left nothing: it is over.
    let _ = device.client().call("Start", json!({"name": "none"}));
    until("it is over", || {
        let state = device.unit_state("none")["state"].clone();
        (state == "done" || state == "failed").then_some(())
    });
}

#[test]
fn conditions_and_assertions_decide_whether_a_unit_is_started() {
    let device = Device::new(&[
        ("skip.service", "[Unit]\nConditionPathExists=DIR/no\n[Service]\nExecStart=/bin/sleep 1000\n"),
        (
            "go.service",
            "[Unit]\nConditionPathExists=!DIR/no\nConditionKernelVersion=>2\n[Service]\nExecStart=/bin/sleep 1000\n",
        ),
        ("fail.service", "[Unit]\nAssertPathIsDirectory=DIR/no\n[Service]\nExecStart=/bin/sleep 1000\n"),
        ("asks.service", "[Service]\nExecCondition=/bin/test -e DIR/no\nExecStart=/bin/sleep 1000\n"),
        ("needs.service", "[Unit]\nRequires=skip.service\nAfter=skip.service\n[Service]\nExecStart=/bin/sleep 1000\n"),
    ]);
    let _svcmgr = device.start();
    let path = device.dir.path().join("no").display().to_string();
    let skipped = device.client().call("Start", json!({"name": "skip"})).unwrap()["unit"].clone();
    assert_eq!(skipped["state"], "done");
    assert_eq!(skipped["reason"], format!("skipped, since this is not so: ConditionPathExists={path}"));
    assert_eq!(device.client().call("Start", json!({"name": "go"})).unwrap()["unit"]["state"], "active");
    assert_eq!(device.client().call("Start", json!({"name": "needs"})).unwrap()["unit"]["state"], "active");
    let (_, failed) = device.client().call("Start", json!({"name": "fail"})).unwrap_err();
    assert_eq!(failed["reason"], format!("this is not so: AssertPathIsDirectory={path}"));
    let asked = device.client().call("Start", json!({"name": "asks"})).unwrap()["unit"].clone();
    assert_eq!(
        (&asked["state"], &asked["reason"]),
        (&json!("done"), &json!("skipped: ExecCondition=/bin/test exited with code 1"))
    );
    device.file("no", "");
    assert_eq!(device.client().call("Start", json!({"name": "asks"})).unwrap()["unit"]["state"], "active");
}

#[test]
fn a_service_that_stops_saying_that_it_lives_is_ended() {
    let text = format!(
        "[Service]\nType=notify\nWatchdogSec=400ms\nExecStart={}\nExecStopPost=/bin/sh -c 'echo $SERVICE_RESULT > DIR/result'\n",
        living()
    );
    let device = Device::new(&[("w.service", &text)]);
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "w"})).unwrap();
    let unit = device.wait_state("w", "failed");
    assert_eq!(unit["reason"], "it did not say WATCHDOG=1 within 400 ms (WatchdogSec=)");
    let span = unit["activeAt"].as_i64().unwrap() - unit["startedAt"].as_i64().unwrap();
    assert!(span >= 0, "{unit}");
    assert_eq!(device.read("result"), "watchdog\n");
}

#[test]
fn a_run_that_is_bounded_ends_and_a_command_is_run_about_it() {
    let device = Device::new(&[
        (
            "b.service",
            "[Unit]\nOnFailure=alarm.service\n[Service]\nRuntimeMaxSec=100ms\nExecStart=/bin/sleep 1000\n\
             [X-MMOS]\nFailureActions=restart:10ms run-command\nFailureCommand=/bin/sh -c 'echo $SERVICE_RESULT >> DIR/said'\n",
        ),
        ("alarm.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo alarm >> DIR/said'\n"),
    ]);
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "b"})).unwrap();
    let unit = device.wait_state("b", "failed");
    assert_eq!(unit["reason"], "it ran for longer than 100 ms (RuntimeMaxSec=)");
    assert_eq!(unit["restarts"], 1);
    until("both have spoken", || (device.read("said") == "timeout\nalarm\n").then_some(()));
}

#[test]
fn a_service_may_last_as_long_as_its_last_process() {
    let device = Device::new(&[(
        "e.service",
        "[Service]\nExitType=cgroup\nExecStart=/bin/sh -c 'sleep 1000 & echo $! > DIR/last; exit 0'\n",
    )]);
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "e"})).unwrap();
    let pid = until("it is up", || device.read("last").trim().parse::<i32>().ok());
    let unit = until("its main process has ended", || {
        let unit = device.unit_state("e");
        unit["pid"].is_null().then_some(unit)
    });
    assert_eq!(unit["state"], "active");
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    device.wait_state("e", "done");
}

#[test]
fn an_action_on_failure_ends_the_supervisor_where_there_is_no_machine_to_end() {
    let device = Device::new(&[
        ("f.service", "[Unit]\nFailureAction=poweroff\n[Service]\nType=oneshot\nExecStart=/bin/false\n"),
        ("other.service", "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sh -c 'echo stopped > DIR/stopped'\n"),
    ]);
    let mut svcmgr = device.start();
    device.client().call("Start", json!({"name": "other"})).unwrap();
    device.client().send("Start", json!({"name": "f"}), false);
    until("it ends", || svcmgr.child.try_wait().unwrap());
    assert_eq!(device.read("stopped"), "stopped\n");
    assert!(device.log().contains("this ends the machine: poweroff"), "{}", device.log());
}
