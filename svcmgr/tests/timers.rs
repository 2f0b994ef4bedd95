//! Timers: real time, real services.

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

#[test]
fn a_timer_starts_its_unit_in_time_and_again_after_it_has_rested() {
    let device = Device::new(&[
        ("t.timer", "[Timer]\nOnActiveSec=200ms\nOnUnitInactiveSec=50ms\n[X-MMOS]\nStart=auto\n"),
        (
            "t.service",
            "[Unit]\nStartLimitBurst=0\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo run >> DIR/runs'\n",
        ),
    ]);
    let begun = link::boot::now_us();
    let _svcmgr = device.start();
    until("it has run three times", || (device.read("runs").lines().count() >= 3).then_some(()));
    assert!(link::boot::now_us() - begun > 300_000, "sooner than it may");
    let unit = device.unit_state("t.timer");
    assert_eq!(unit["state"], "active");
    device.client().call("Stop", json!({"name": "t.timer"})).unwrap();
    let runs = device.read("runs").lines().count();
    device.wait_state("t", "done");
    assert!(device.unit_state("t.timer")["nextElapse"].is_null());
    assert!(device.read("runs").lines().count() <= runs + 1);
}

#[test]
fn when_a_timer_elapses_next_is_shown() {
    let device = Device::new(&[
        ("t.timer", "[Timer]\nOnActiveSec=1h\nUnit=other.service\n[X-MMOS]\nStart=auto\n"),
        ("boot.timer", "[Timer]\nOnBootSec=1us\nUnit=other.service\nRemainAfterElapse=no\n"),
        ("other.service", "[Service]\nExecStart=/bin/sleep 1000\n"),
    ]);
    let _svcmgr = device.start();
    let unit = device.wait_state("t.timer", "active");
    assert_eq!(unit["status"], "waiting");
    let next = unit["nextElapse"].as_i64().unwrap() - unit["activeAt"].as_i64().unwrap();
    assert!((next - 3_600_000_000).abs() < 1_000_000, "{next}");
    // What should have come before the timer was there comes at once.
    device.client().call("Start", json!({"name": "boot.timer"})).unwrap();
    device.wait_state("other", "active");
    until("both wait for it", || (device.unit_state("t.timer")["status"] == "running").then_some(()));
    device.client().call("Stop", json!({"name": "other"})).unwrap();
    device.wait_state("boot.timer", "done");
    let unit = device.unit_state("t.timer");
    assert_eq!(unit["status"], "waiting", "{unit}");
}
