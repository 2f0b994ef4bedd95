//! The control socket and its clients, good and bad.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use common::{Device, until};
use serde_json::json;

#[test]
fn logs_are_followed_line_by_line() {
    let device = Device::new(&[(
        "talk.service",
        "[Service]\nExecStart=/bin/sh -c 'echo one; echo \"<3>two\" >&2; while ! test -e DIR/go; do sleep 0.01; done; echo three; sleep 1000'\n[X-MMOS]\nStart=auto\n",
    )]);
    let _svcmgr = device.start();
    let mut client = device.client();
    client.send("Logs", json!({"units": ["talk"], "lines": 0, "follow": true}), true);
    let mut next = || {
        let reply = client.receive().unwrap();
        assert_eq!(reply["continues"], true);
        let line = &reply["parameters"]["entries"][0];
        (line["text"].as_str().unwrap().to_owned(), line["priority"].as_i64().unwrap())
    };
    assert_eq!(next(), ("one".to_owned(), 6));
    assert_eq!(next(), ("two".to_owned(), 3));
    device.file("go", "");
    assert_eq!(next(), ("three".to_owned(), 6));

    let mut all = device.client();
    all.send("Logs", json!({"units": ["talk"], "lines": 2, "follow": false}), true);
    let first = all.receive().unwrap();
    let last = all.receive().unwrap();
    assert_eq!((&first["parameters"]["entries"][0]["text"], &first["continues"]), (&json!("two"), &json!(true)));
    assert_eq!((&last["parameters"]["entries"][0]["text"], last.get("continues")), (&json!("three"), None));
}

#[test]
fn a_flood_of_output_does_not_keep_others_from_answers() {
    let device = Device::new(&[(
        "flood.service",
        "[Service]\nExecStart=/bin/sh -c 'yes this line says nothing at all'\n[X-MMOS]\nStart=auto\n",
    )]);
    let _svcmgr = device.start();
    device.wait_state("flood", "active");
    // A follower that never reads must not hold anything up either.
    let mut deaf = device.client();
    deaf.send("Logs", json!({"units": ["flood"], "lines": 0, "follow": true}), true);
    let mut client = device.client();
    for _ in 0..200 {
        assert!(client.call("ListUnits", json!({})).is_ok());
    }
    let size: u64 = std::fs::read_dir(device.run().join("log"))
        .unwrap()
        .map(|entry| std::os::unix::fs::MetadataExt::blocks(&entry.unwrap().metadata().unwrap()) * 512)
        .sum();
    assert!(size <= 512 * 1024, "{size}");
    assert!(device.client().call("Stop", json!({"name": "flood"})).is_ok());
}

#[test]
fn clients_that_send_rubbish_or_nothing_hurt_nobody() {
    let device = Device::new(&[]);
    let _svcmgr = device.start();
    let path = device.run().join("control");
    let silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for rubbish in [&b"\0"[..], b"not json\0", b"[]\0", b"{\"method\":7}\0", b"\xff\xfe\0"] {
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(rubbish).unwrap();
        let mut rest = Vec::new();
        // Cut off; what remains unread there makes the kernel say so.
        let _ = client.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    let mut endless = UnixStream::connect(&path).unwrap();
    let cut = (0..1000).any(|_| endless.write_all(&[b'x'; 4096]).is_err());
    assert!(cut, "a message without an end was read on and on");
    let mut client = device.client();
    for (method, parameters, error) in [
        ("Nonsense", json!({}), "org.varlink.service.MethodNotFound"),
        ("org.other.Method", json!({}), "org.varlink.service.InterfaceNotFound"),
        ("GetUnit", json!({}), "org.varlink.service.InvalidParameter"),
        ("GetUnit", json!({"name": "gone"}), "org.mmos.Manager.NoSuchUnit"),
        ("Logs", json!({"units": ["../../etc/passwd"], "lines": 0, "follow": false}), "org.mmos.Manager.NoSuchUnit"),
        ("Shutdown", json!({"ending": "explode"}), "org.varlink.service.InvalidParameter"),
    ] {
        assert_eq!(client.call(method, parameters).unwrap_err().0, error, "{method}");
    }
    let info = client.call("org.varlink.service.GetInfo", json!({})).unwrap();
    assert_eq!(info["interfaces"], json!(["org.varlink.service", "org.mmos.Manager"]));
    let text = client.call("org.varlink.service.GetInterfaceDescription", json!({"interface": "org.mmos.Manager"}));
    assert!(text.unwrap()["description"].as_str().unwrap().contains("method WaitBoot()"));
    drop(silent);
}

#[test]
fn without_descriptors_clients_wait_and_the_supervisor_does_not_spin() {
    let device = Device::new(&[("a.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=auto\n")]);
    let mut svcmgr = device.start_limited(40);
    device.wait_state("a", "active");
    // Those that ask nothing make room.
    let idle: Vec<_> = (0..50).map(|_| device.client()).collect();
    assert!(device.client().call("GetMode", json!({})).is_ok());
    drop(idle);
    // Those that wait for something do not: it takes few of them to use up what is left.
    let mut waiting = Vec::new();
    until("the descriptors are used up", || {
        let mut client = device.client();
        client.send("Logs", json!({"units": ["a"], "lines": 0, "follow": true}), true);
        waiting.push(client);
        device.log().contains("no client can be accepted: ").then_some(())
    });
    let mut patient = device.client();
    patient.send("GetMode", json!({}), false);
    // It is still supervised, and looks for a descriptor now and then.
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", svcmgr.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (begun, before) = (std::time::Instant::now(), ticks());
    until("it has looked several times", || (begun.elapsed().as_millis() > 500).then_some(()));
    assert!(ticks() - before < 20, "it used {} of 50 ticks", ticks() - before);
    assert_eq!(device.log().matches("no client can be accepted").count(), 1, "{}", device.log());
    drop(waiting);
    assert_eq!(patient.receive().unwrap()["parameters"]["profile"], "Default");
    assert!(svcmgr.stop().success());
}

#[test]
fn calls_on_one_connection_are_answered_in_order() {
    let device = Device::new(&[("slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 0.1\n")]);
    let _svcmgr = device.start();
    let mut client = device.client();
    client.send("Start", json!({"name": "slow"}), false);
    client.send("GetMode", json!({}), false);
    assert_eq!(client.receive().unwrap()["parameters"]["unit"]["state"], "done");
    assert_eq!(client.receive().unwrap()["parameters"]["profile"], "Default");
    drop(client);
    until("svcmgr still answers", || device.client().call("GetMode", json!({})).ok());
}

#[test]
fn on_another_linux_it_does_not_begin_where_a_device_would_have_it() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_svcmgr")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--run DIR"), "{said}");
}
