//! The supervisor dies, and its successor takes everything over: a test plays PID 1, holding descriptors and reaping.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::sync::Mutex;

use common::init::{Init, call};
use common::{Device, alive, until};
use link::ToInit;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

/// Orphans come to this process as a whole: one PID 1 at a time.
static ONE_INIT: Mutex<()> = Mutex::new(());

const RUNS: &str = "Restart=always\nRestartSec=10ms\n[X-MMOS]\nStart=auto\n";

fn units() -> Vec<(&'static str, String)> {
    vec![
        ("a.service", format!("[Service]\nExecStart=/bin/sh -c 'while :; do echo tick; sleep 0.02; done'\n{RUNS}")),
        ("b.service", format!("[Service]\nExecStart=/bin/sleep 1000\n{RUNS}")),
        (
            "done.service",
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >> DIR/once'\n[X-MMOS]\nStart=auto\n".to_owned(),
        ),
        ("demand.service", "[Service]\nExecStart=/bin/sleep 1000\n".to_owned()),
    ]
}

fn device() -> Device {
    let units = units();
    Device::new(&units.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>())
}

#[test]
fn killing_the_supervisor_leaves_every_service_and_its_status_as_they_were() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let device = device();
    let mut init = Init::new(&device);
    init.wait_state("a", "active");
    init.wait_state("done", "done");
    init.wait_state("b", "active");
    init.until("the boot is complete", |device| device.log().contains("boot complete: 3 of 3").then_some(()));
    let before = init.units();
    for signal in [Signal::KILL, Signal::SEGV, Signal::KILL] {
        init.kill_svcmgr(signal);
        for unit in before["units"].as_array().unwrap().iter().filter(|unit| !unit["pid"].is_null()) {
            assert!(alive(&unit["pid"]), "{unit}");
        }
        init.spawn();
        assert_eq!(init.units(), before, "after {signal:?}");
    }
    assert_eq!(device.read("once"), "x\n", "what is done is not done again");
    assert_eq!(device.log().matches("boot complete").count(), 1, "{}", device.log());
    // It is supervised, not only shown: what is killed comes back, and its output is still kept.
    let b = init.wait_state("b", "active");
    let pid = Pid::from_raw(b["pid"].as_i64().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let again = init.until("b runs again", |device| {
        let unit = call(device, "GetUnit", json!({"name": "b"}))?["unit"].clone();
        (unit["state"] == "active" && unit["pid"] != b["pid"]).then_some(unit)
    });
    assert_eq!(again["restarts"], 1, "{}", device.log());
    let logs = call(&device, "Logs", json!({"units": ["a"], "lines": 0, "follow": false})).unwrap();
    let seqs: Vec<i64> = logs["entries"].as_array().unwrap().iter().map(|line| line["seq"].as_i64().unwrap()).collect();
    assert!(seqs.len() > 2 && seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
}

#[test]
fn a_restart_delay_goes_on_through_the_supervisors_death() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let unit = "[Service]\nExecStart=/bin/sh -c 'cut -d\" \" -f1 /proc/uptime >> DIR/times; exit 1'\nRestart=always\n\
                RestartSec=4\n[X-MMOS]\nStart=auto\n";
    let device = Device::new(&[("late.service", unit)]);
    let mut init = Init::new(&device);
    let before = init.wait_state("late", "backoff");
    init.kill_svcmgr(Signal::KILL);
    init.spawn();
    let after = init.wait_state("late", "backoff");
    assert_eq!((&after["restarts"], &after["pid"]), (&before["restarts"], &Value::Null));
    let times = init.until("it has started again", |device| {
        let times: Vec<f64> = device.read("times").lines().map(|line| line.parse().unwrap()).collect();
        (times.len() > 1).then_some(times)
    });
    // Both clocks are read to hundredths of a second.
    assert!(times[1] - times[0] > 3.97, "{times:?}: the delay was cut short; {}", device.log());
}

#[test]
fn lines_go_on_through_the_supervisors_death_also_one_that_is_half_said() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let script = "echo whole; printf half; touch DIR/half; while ! test -e DIR/go; do sleep 0.01; done; echo \" and half\"; echo last; sleep 1000";
    let device = Device::new(&[("a.service", &format!("[Service]\nExecStart=/bin/sh -c '{script}'\n{RUNS}"))]);
    let mut init = Init::new(&device);
    init.wait_state("a", "active");
    let logs = |device: &Device, after: Option<i64>| -> Option<Vec<(i64, i64, String)>> {
        let parameters = json!({"units": ["a"], "lines": 0, "follow": false, "after": after});
        let reply = call(device, "Logs", parameters)?;
        let line =
            |line: &Value| Some((line["seq"].as_i64()?, line["cursor"].as_i64()?, line["text"].as_str()?.to_owned()));
        reply["entries"].as_array()?.iter().map(line).collect()
    };
    let before = init.until("the first line is kept", |device| {
        logs(device, None).filter(|lines| !lines.is_empty() && device.dir.path().join("half").exists())
    });
    assert_eq!((before.len(), before[0].0, before[0].2.as_str()), (1, 1, "whole"));
    init.kill_svcmgr(Signal::KILL);
    device.file("go", "");
    init.spawn();
    // Who was cut off goes on after the line that it saw last.
    let after =
        init.until("the others are kept", |device| logs(device, Some(before[0].1)).filter(|lines| lines.len() > 1));
    let said: Vec<(i64, &str)> = after.iter().map(|(seq, _, text)| (*seq, text.as_str())).collect();
    assert_eq!(said, [(2, "half and half"), (3, "last")]);
}

#[test]
fn what_is_sent_to_the_journal_while_nobody_supervises_is_kept() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let device = device();
    let mut init = Init::new(&device);
    init.wait_state("a", "active");
    init.kill_svcmgr(Signal::KILL);
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(b"<14>by syslog", device.run().join("journal/dev-log")).unwrap();
    sender.send_to(b"MESSAGE=natively\n", device.run().join("journal/socket")).unwrap();
    init.spawn();
    let mut said = init.until("both are kept", |device| {
        let reply = call(device, "Logs", json!({"units": ["other"], "lines": 0, "follow": false}))?;
        let lines = reply["entries"].as_array()?.iter().map(|line| line["text"].as_str().map(str::to_owned));
        lines.collect::<Option<Vec<String>>>().filter(|lines| lines.len() == 2)
    });
    said.sort();
    assert_eq!(said, ["by syslog", "natively"]);
}

#[test]
fn a_service_that_ends_while_nobody_supervises_is_restarted_with_its_exit_known() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let device = device();
    let mut init = Init::new(&device);
    let b = init.wait_state("b", "active");
    init.kill_svcmgr(Signal::KILL);
    let pid = Pid::from_raw(b["pid"].as_i64().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::ABORT).unwrap();
    until("PID 1 has reaped it", || {
        init.work();
        (!init.reports.is_empty()).then_some(())
    });
    init.spawn();
    let again = init.until("b runs again", |device| {
        let unit = call(device, "GetUnit", json!({"name": "b"}))?["unit"].clone();
        (unit["state"] == "active" && unit["pid"] != b["pid"]).then_some(unit)
    });
    assert_eq!(again["restarts"], 1);
    assert!(device.log().contains("b.service: killed by SIGABRT"), "{}", device.log());
}

#[test]
fn a_start_and_a_stop_in_progress_go_on_under_the_next_supervisor() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let device = Device::new(&[
        (
            "slow.service",
            "[Service]\nType=oneshot\nExecStartPre=/bin/sh -c 'echo pre >> DIR/slow; while ! test -e DIR/go; do sleep 0.01; done'\nExecStart=/bin/sh -c 'echo main >> DIR/slow'\n[X-MMOS]\nStart=auto\n",
        ),
        ("after.service", "[Unit]\nAfter=slow.service\n[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=auto\n"),
        (
            "stubborn.service",
            "[Service]\nTimeoutStopSec=300ms\nExecStart=/bin/sh -c 'trap \"\" TERM; echo up > DIR/stubborn; while :; do sleep 1; done'\n[X-MMOS]\nStart=auto\n",
        ),
    ]);
    let mut init = Init::new(&device);
    init.wait_state("slow", "starting");
    init.wait_state("after", "queued");
    init.wait_state("stubborn", "active");
    init.until("both have begun", |device| {
        (!device.read("slow").is_empty() && !device.read("stubborn").is_empty()).then_some(())
    });
    let mut client = device.client();
    client.send("Stop", json!({"name": "stubborn"}), false);
    init.wait_state("stubborn", "stopping");
    init.kill_svcmgr(Signal::KILL);
    init.spawn();
    init.wait_state("slow", "starting");
    device.file("go", "");
    init.wait_state("slow", "done");
    init.wait_state("after", "active");
    let stubborn = init.wait_state("stubborn", "inactive");
    assert!(stubborn["reason"].as_str().unwrap().contains("was killed"), "{stubborn}");
    assert_eq!(device.read("slow"), "pre\nmain\n");
}

#[test]
fn a_shutdown_stops_everything_and_then_tells_pid_1() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let device = device();
    let mut init = Init::new(&device);
    let a = init.wait_state("a", "active");
    assert_eq!(call(&device, "Shutdown", json!({"ending": "poweroff"})), Some(json!({})));
    until("PID 1 is told to end", || {
        init.work();
        init.said.contains(&ToInit::End(link::Ending::Poweroff)).then_some(())
    });
    assert_eq!(init.said[0], ToInit::Stopping(link::Ending::Poweroff));
    assert!(!alive(&a["pid"]));
}

#[test]
#[ignore = "not a test: a service of one"]
fn stores_descriptors() {
    common::says::store();
}

#[test]
fn what_a_service_has_stored_and_a_start_that_waits_for_its_newline_outlive_the_supervisor() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let stores = common::says::lines("stores_descriptors", "store");
    let device = Device::new(&[
        ("s.service", &format!("[Service]\nType=notify\nFileDescriptorStoreMax=4\n{stores}{RUNS}")),
        (
            "w.service",
            "[Service]\nExecStart=/bin/sh -c 'while ! test -e DIR/go; do sleep 0.01; done; echo >&3; exec sleep 1000'\n[X-MMOS]\nReadyFD=3\nStart=auto\n",
        ),
    ]);
    let mut init = Init::new(&device);
    init.until("it has stored", |device| device.dir.path().join("stored").exists().then_some(()));
    let s = init.wait_state("s", "active");
    init.wait_state("w", "starting");
    init.kill_svcmgr(Signal::KILL);
    // One that ends meanwhile is started by the next supervisor, with what it had stored with the one before.
    let pid = Pid::from_raw(s["pid"].as_i64().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    init.spawn();
    init.until("it runs again", |device| Some(device.read("given")).filter(|given| !given.is_empty()));
    assert_eq!(device.read("given"), "memo=remember\n");
    init.wait_state("w", "starting");
    device.file("go", "");
    init.wait_state("w", "active");
    until("PID 1 has dropped the pipe", || {
        init.work();
        (!init.store.contains_key("ready:w.service")).then_some(())
    });
    assert!(init.store.keys().any(|key| key.starts_with("fd:")), "{:?}", init.store.keys());
}

#[test]
fn sockets_connections_and_timers_outlive_the_supervisor() {
    use std::io::{BufRead, BufReader, Write};
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let device = Device::new(&[
        ("e.socket", "[Socket]\nListenStream=DIR/e\nAccept=yes\n[X-MMOS]\nStart=auto\n"),
        ("e@.service", "[Service]\nStandardInput=socket\nExecStart=/bin/sh -c 'echo %i; exec cat'\n"),
        ("l.socket", "[Socket]\nListenFIFO=DIR/l\n[X-MMOS]\nStart=auto\n"),
        ("l.service", "[Service]\nExecStart=/bin/sh -c 'read -r line <&3; echo \"$line\" > DIR/line'\n"),
        ("t.timer", "[Timer]\nOnActiveSec=1s\n[X-MMOS]\nStart=auto\n"),
        ("t.service", "[Service]\nType=oneshot\nExecStart=/bin/touch DIR/elapsed\n"),
    ]);
    let mut init = Init::new(&device);
    for name in ["e.socket", "l.socket", "t.timer"] {
        init.wait_state(name, "active");
    }
    let path = device.dir.path().join("e");
    let connect = || {
        let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
        BufReader::new(stream)
    };
    let mut line = String::new();
    let mut first = connect();
    init.wait_state("e@0", "active");
    first.read_line(&mut line).unwrap();
    assert_eq!(line, "0\n");
    let next = init.wait_state("t.timer", "active")["nextElapse"].clone();
    init.kill_svcmgr(Signal::KILL);
    // Nobody supervises: whoever comes now waits.
    let mut second = connect();
    std::fs::OpenOptions::new().write(true).open(device.dir.path().join("l")).unwrap().write_all(b"said\n").unwrap();
    init.spawn();
    init.wait_state("e@1", "active");
    line.clear();
    second.read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    // The one before is still served by the process that it had.
    first.get_mut().write_all(b"on\n").unwrap();
    line.clear();
    first.read_line(&mut line).unwrap();
    assert_eq!(line, "on\n");
    init.until("what was said has come", |device| (device.read("line") == "said\n").then_some(()));
    init.until("the timer has elapsed", |device| device.dir.path().join("elapsed").exists().then_some(()));
    assert!(link::boot::now_us() >= next.as_u64().unwrap(), "sooner than it was to");
    assert!(!init.store.keys().any(|key| key.starts_with("conn:")), "{:?}", init.store.keys());
    assert_eq!(init.store.keys().filter(|key| key.starts_with("sock:")).count(), 2);
}
