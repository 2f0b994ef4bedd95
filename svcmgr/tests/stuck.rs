//! What the log says of a start and a stop that take long, of real processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Device, until};
use serde_json::json;

#[test]
fn a_start_that_hangs_is_told_with_the_kernels_function_the_last_line_and_who_waits() {
    let device = Device::new(&[
        (
            "hangs.service",
            "[Service]\nType=notify\nExecStart=/bin/sh -c 'mkfifo DIR/fifo; echo opening the valve; cat DIR/fifo'\n",
        ),
        ("next.service", "[Unit]\nAfter=hangs.service\nRequires=hangs.service\n[Service]\nExecStart=/bin/sleep 1000\n"),
    ]);
    let _svcmgr = device.start_with(&["--patience", "1"]);
    device.client().send("Start", json!({"name": "next"}), false);
    let log = until(&format!("a second report; log:\n{}", device.log()), || {
        Some(device.log()).filter(|log| log.matches("hangs.service: starting for").count() > 1)
    });
    let line = log.lines().find(|line| line.contains("hangs.service: starting for")).unwrap();
    assert!(line.contains("ERROR: hangs.service: starting for 1 s: it has not said READY=1; process "), "{line}");
    // The shell waits for its child, which waits for somebody to open the other end.
    assert!(line.contains("(sh) sleeps in do_wait"), "{line}");
    assert!(line.contains("(cat) sleeps in wait_for_partner") || !has_cgroups(&log), "{line}");
    assert!(line.contains("88 s until its timeout") || line.contains("89 s until its timeout"), "{line}");
    assert!(log.contains("hangs.service: its last line: opening the valve"), "{log}");
    assert!(log.contains("hangs.service: next.service waits for it"), "{log}");
    assert!(!log.contains("next.service: waits for"), "that is explained already: {log}");
}

#[test]
fn a_stop_that_hangs_is_told_too() {
    let device = Device::new(&[(
        "stays.service",
        "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'trap \"\" TERM; : > DIR/up; \
         while :; do sleep 1000; done'\nTimeoutStartSec=infinity\nTimeoutStopSec=10\n",
    )]);
    let _svcmgr = device.start_with(&["--patience", "1"]);
    device.client().send("Start", json!({"name": "stays"}), false);
    until("it ignores SIGTERM", || device.dir.path().join("up").exists().then_some(()));
    device.client().send("Stop", json!({"name": "stays"}), false);
    let log = until(&format!("a report; log:\n{}", device.log()), || {
        Some(device.log()).filter(|log| log.contains("stays.service: stopping for"))
    });
    let line = log.lines().find(|line| line.contains("stays.service: stopping for")).unwrap();
    assert!(line.contains("told to end by SIGTERM, it has not ended; process "), "{line}");
    device.wait_state("stays", "inactive");
}

fn has_cgroups(log: &str) -> bool {
    !log.contains("no cgroups in")
}
