//! Jobs asked for by many clients at once: each is answered, once, and with the right word.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use common::{Device, until};
use serde_json::json;

const ONCE: &str = "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-MMOS]\nStart=auto\n";
const RUNS: &str = "[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=auto\n";

#[test]
fn a_oneshot_that_is_done_runs_again_each_time_it_is_started() {
    let units = [("once.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >> DIR/runs'\n")];
    for device in [Device::new(&units), Device::without_cgroups(&units)] {
        let _svcmgr = device.start();
        for n in 1..=100 {
            let unit = device.client().call("Start", json!({"name": "once"})).unwrap()["unit"].clone();
            assert_eq!(unit["state"], "done");
            assert_eq!(device.read("runs").len(), n * 2);
        }
    }
}

#[test]
fn jobs_of_many_clients_at_once_are_all_answered() {
    let units = [
        ("once.service", ONCE),
        ("a.service", RUNS),
        ("b.service", &format!("[Unit]\nRequires=a.service\nAfter=a.service\n{RUNS}")),
    ];
    for device in [Device::new(&units), Device::without_cgroups(&units)] {
        let _svcmgr = device.start();
        device.client().call("WaitBoot", json!({})).unwrap();
        std::thread::scope(|scope| {
            for n in 0..6_usize {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..40_usize {
                        let name = ["once", "a", "b"][(n + round) % 3];
                        let method = ["Start", "Restart", "Stop"][(n / 2 + round / 3) % 3];
                        // An answer within the client's patience, whichever.
                        let _ = device.client().call(method, json!({"name": name}));
                    }
                });
            }
        });
        // Nobody else is asking any more: now nothing may fail.
        for _ in 0..20 {
            for (name, state) in [("once", "done"), ("a", "active"), ("b", "active")] {
                let unit = device.client().call("Restart", json!({"name": name})).unwrap()["unit"].clone();
                assert_eq!(unit["state"], state, "{name}");
            }
        }
    }
}

#[test]
fn a_restart_never_fails_because_it_stops() {
    let units = [("a.service", RUNS), ("b.service", &format!("[Unit]\nRequires=a.service\nAfter=a.service\n{RUNS}"))];
    for device in [Device::new(&units), Device::without_cgroups(&units)] {
        let _svcmgr = device.start();
        device.client().call("WaitBoot", json!({})).unwrap();
        std::thread::scope(|scope| {
            for n in 0..4_usize {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..25_usize {
                        let name = ["a", "b"][(n + round) % 2];
                        let method = ["Start", "Restart"][usize::from(round % 3 > 0)];
                        device.client().call(method, json!({"name": name})).unwrap();
                    }
                });
            }
        });
    }
}

#[test]
fn a_client_that_only_stops_sending_is_answered_and_one_that_leaves_is_still_heard() {
    let device = Device::new(&[
        ("slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 0.1\n"),
        ("once.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo x >> DIR/runs'\n"),
    ]);
    let _svcmgr = device.start();
    // As socat and nc do at the end of their input.
    let mut client = device.client();
    client.send("Start", json!({"name": "slow"}), false);
    client.send("GetMode", json!({}), false);
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.receive().unwrap()["parameters"]["unit"]["state"], "done");
    assert_eq!(client.receive().unwrap()["parameters"]["profile"], "Default");
    assert_eq!(client.receive(), None);

    device.client().send("Start", json!({"name": "once"}), false);
    until("the unit was started", || (!device.read("runs").is_empty()).then_some(()));
}
