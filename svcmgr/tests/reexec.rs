//! The supervisor leaves for another one, as after an upgrade, or dies: streams to the journal go on, and nothing is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use common::init::Init;
use common::{Client, Device};
use serde_json::{Value, json};

/// Orphans come to this process as a whole: one PID 1 at a time.
static ONE_INIT: Mutex<()> = Mutex::new(());

fn ask(init: &mut Init<'_>, method: &str, parameters: &Value) -> Value {
    init.until(method, |device| {
        let mut client = Client::connect(&device.run().join("control")).ok()?;
        client.send(method, parameters.clone(), false);
        Some(client.receive()?["parameters"].clone())
    })
}

fn lines(init: &mut Init<'_>, unit: &str, count: usize) -> Vec<String> {
    init.until(&format!("{count} lines of {unit}"), |device| {
        let mut client = Client::connect(&device.run().join("control")).ok()?;
        client.send("Logs", json!({"units": [unit], "lines": 0, "follow": false}), false);
        let reply = client.receive()?;
        let all = reply["parameters"]["entries"].as_array()?.clone();
        let text = |line: &Value| line["text"].as_str().unwrap().to_owned();
        (all.len() >= count).then(|| all.iter().map(text).collect())
    })
}

fn leave(init: &mut Init<'_>) {
    ask(init, "Reexec", &json!({}));
    init.until("the supervisor has left", |_| Some(()));
    while init.svcmgr.is_some() {
        init.work();
        std::thread::yield_now();
    }
    init.spawn();
}

#[test]
fn a_supervisor_that_is_executed_anew_loses_neither_process_nor_half_a_line() {
    let _one = ONE_INIT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let says = "[Service]\nExecStart=/bin/sh -c 'printf half; cat DIR/go; exec sleep 1000'\n";
    let device = Device::new(&[("says.service", says)]);
    let go = device.dir.path().join("go");
    rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut init = Init::new(&device);
    ask(&mut init, "Start", &json!({"name": "says"}));
    let before = init.wait_state("says", "active");
    // A stream with half a line, and one with half a header.
    let mut stream = UnixStream::connect(device.run().join("journal/stdout")).unwrap();
    stream.write_all(b"app\n\n5\n1\n0\n0\n0\nfirst\n<3>sec").unwrap();
    let mut young = UnixStream::connect(device.run().join("journal/stdout")).unwrap();
    young.write_all(b"young\n\n").unwrap();
    lines(&mut init, "other", 1);
    let first = ask(&mut init, "GetMode", &json!({}))["supervisorPid"].clone();

    leave(&mut init);
    let second = ask(&mut init, "GetMode", &json!({}))["supervisorPid"].clone();
    assert_ne!(first, second);
    stream.write_all(b"ond\n").unwrap();
    young.write_all(b"6\n0\n0\n0\n0\nyoung\n").unwrap();
    std::fs::write(&go, " and half\n").unwrap();
    let mut said = lines(&mut init, "other", 3);
    said.sort();
    assert_eq!(said, ["first", "second", "young"]);
    assert_eq!(lines(&mut init, "says.service", 1), ["half and half"]);
    let after = init.wait_state("says", "active");
    assert_eq!((&before["pid"], &before["restarts"]), (&after["pid"], &after["restarts"]));

    // Killed, it has no time for half a line; what follows is heard all the same.
    init.kill_svcmgr(rustix::process::Signal::KILL);
    init.spawn();
    stream.write_all(b"third\n").unwrap();
    assert!(lines(&mut init, "other", 4).contains(&"third".to_owned()));
    // A stream that ends is not kept any longer.
    drop((stream, young));
    init.until("no stream is kept", |_| Some(()));
    while init.store.keys().any(|key| key.starts_with("stream:")) {
        init.work();
        std::thread::yield_now();
    }
    assert_eq!(std::fs::read_dir(device.run().join("streams")).unwrap().count(), 0);
}
