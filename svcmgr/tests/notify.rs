//! What real services say of themselves: sd_notify(3) whole, and readiness on a descriptor as s6 has it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use common::{Device, says, until};
use serde_json::json;

#[test]
#[ignore = "not a test: a service of some"]
fn says_what_it_is_told_to() {
    match std::env::var("MODE").expect("run by the supervisor").as_str() {
        "store" => says::store(),
        "extends" => {
            says::say("EXTEND_TIMEOUT_USEC=60000000", &[]);
            says::wait_for("go");
            says::say("READY=1", &[]);
            says::rest();
        }
        "stops" => {
            says::say("READY=1", &[]);
            says::say("STOPPING=1\nSTATUS=saving", &[]);
            says::wait_for("go");
            std::process::exit(3);
        }
        "fails" => {
            // Its last words: nobody may have heard them when it has ended.
            for n in 0..200 {
                says::say(&format!("STATUS=try {n}"), &[]);
            }
            says::say("STATUS=opening the device\nERRNO=2\nBUSERROR=org.example.NoDevice", &[]);
            std::process::exit(2);
        }
        "reloads" => {
            says::say("READY=1", &[]);
            says::wait_for("reload");
            says::say("RELOADING=1\nMONOTONIC_USEC=1", &[]);
            says::wait_for("go");
            says::say("READY=1", &[]);
            says::rest();
        }
        "triggers" => {
            says::say("READY=1", &[]);
            says::say("WATCHDOG=trigger", &[]);
            says::rest();
        }
        other => panic!("no mode {other}"),
    }
}

fn unit(mode: &str, more: &str) -> String {
    format!("[Service]\nType=notify\n{}{more}\n", says::lines("says_what_it_is_told_to", mode))
}

#[test]
fn what_a_service_stores_is_given_to_its_next_start_but_what_has_hung_up() {
    let device = Device::new(&[("s.service", &unit("store", "FileDescriptorStoreMax=4"))]);
    let _svcmgr = device.start();
    let mut client = device.client();
    client.call("Start", json!({"name": "s"})).unwrap();
    until("it has stored", || device.dir.path().join("stored").exists().then_some(()));
    client.call("Restart", json!({"name": "s"})).unwrap();
    assert_eq!(device.read("given"), "memo=remember\n");
    // Stopped for good, nothing is kept.
    client.call("Stop", json!({"name": "s"})).unwrap();
    std::fs::remove_file(device.dir.path().join("stored")).unwrap();
    client.call("Start", json!({"name": "s"})).unwrap();
    until("it begins anew", || device.dir.path().join("stored").exists().then_some(()));
}

#[test]
fn a_store_has_as_much_room_as_its_unit_says_and_may_outlive_a_stop() {
    let device = Device::new(&[
        ("none.service", &unit("store", "")),
        ("kept.service", &unit("store", "FileDescriptorStoreMax=1\nFileDescriptorStorePreserve=yes")),
    ]);
    let _svcmgr = device.start();
    let mut client = device.client();
    client.call("Start", json!({"name": "none"})).unwrap();
    until("it has stored in vain", || device.dir.path().join("stored").exists().then_some(()));
    assert!(device.log().contains("none.service: more descriptors than FileDescriptorStoreMax=0"), "{}", device.log());
    client.call("Stop", json!({"name": "none"})).unwrap();
    std::fs::remove_file(device.dir.path().join("stored")).unwrap();
    client.call("Start", json!({"name": "kept"})).unwrap();
    until("it has stored", || device.dir.path().join("stored").exists().then_some(()));
    client.call("Stop", json!({"name": "kept"})).unwrap();
    client.call("Start", json!({"name": "kept"})).unwrap();
    assert_eq!(device.read("given"), "memo=remember\n");
}

#[test]
fn a_start_that_takes_long_may_say_so() {
    let device = Device::new(&[("e.service", &unit("extends", "TimeoutStartSec=300ms"))]);
    let _svcmgr = device.start();
    let mut client = device.client();
    client.send("Start", json!({"name": "e"}), false);
    let unit = device.wait_state("e", "starting");
    let begun = unit["startedAt"].as_u64().unwrap();
    until("its own time is over", || (link::boot::now_us() > begun + 400_000).then_some(()));
    assert_eq!(device.unit_state("e")["state"], "starting", "{}", device.log());
    device.file("go", "");
    assert_eq!(client.receive().unwrap()["parameters"]["unit"]["state"], "active", "{}", device.log());
}

#[test]
fn a_service_that_says_that_it_stops_is_stopping_and_how_it_ends_counts() {
    let device = Device::new(&[("s.service", &unit("stops", ""))]);
    let _svcmgr = device.start();
    device.client().send("Start", json!({"name": "s"}), false);
    let unit = device.wait_state("s", "stopping");
    assert_eq!(unit["status"], "saving");
    device.file("go", "");
    assert_eq!(device.wait_state("s", "failed")["reason"], "exited with code 3");
}

#[test]
fn the_last_words_of_a_service_count_and_its_error_is_shown_in_words() {
    let device = Device::new(&[("f.service", &unit("fails", ""))]);
    let _svcmgr = device.start();
    let (_, failed) = device.client().call("Start", json!({"name": "f"})).unwrap_err();
    assert_eq!(failed["reason"], "exited with code 2");
    let status = "opening the device; ERRNO=2: No such file or directory; BUSERROR=org.example.NoDevice";
    assert_eq!(device.unit_state("f")["status"], status);
}

#[test]
fn a_service_that_reloads_says_when_and_stays_up() {
    let device = Device::new(&[("r.service", &unit("reloads", ""))]);
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "r"})).unwrap();
    let said = |text: &str| {
        until(text, || {
            let unit = device.unit_state("r");
            assert_eq!(unit["state"], "active");
            (unit["status"] == text).then_some(())
        });
    };
    device.file("reload", "");
    said("reloading");
    device.file("go", "");
    said("");
}

#[test]
fn a_service_may_ask_to_be_ended_as_its_watchdog_would() {
    let device = Device::new(&[("t.service", &unit("triggers", ""))]);
    let _svcmgr = device.start();
    device.client().send("Start", json!({"name": "t"}), false);
    let unit = device.wait_state("t", "failed");
    assert_eq!(unit["reason"], "it did not say WATCHDOG=1 (WatchdogSec=)");
}

#[test]
fn a_service_is_ready_with_a_newline_on_its_descriptor() {
    let writes = "[Service]\nExecStart=/bin/sh -c 'while ! test -e DIR/go; do sleep 0.01; done; echo up >&5; exec 5>&-; exec sleep 1000'\n[X-MMOS]\nReadyFD=5\n";
    let silent =
        "[Service]\nExecStart=/bin/sh -c 'exec 3>&-; exec sleep 1000'\nTimeoutStartSec=200ms\n[X-MMOS]\nReadyFD=3\n";
    let device = Device::new(&[("w.service", writes), ("n.service", silent)]);
    let _svcmgr = device.start();
    let mut client = device.client();
    client.send("Start", json!({"name": "w"}), false);
    device.wait_state("w", "starting");
    device.file("go", "");
    assert_eq!(client.receive().unwrap()["parameters"]["unit"]["state"], "active", "{}", device.log());
    let (_, failed) = device.client().call("Start", json!({"name": "n"})).unwrap_err();
    let reason = "it did not write a newline to descriptor 3 (ReadyFD=) within 200 ms (TimeoutStartSec=)";
    assert_eq!(failed["reason"], reason);
}
