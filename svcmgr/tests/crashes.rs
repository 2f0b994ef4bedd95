//! Cores that the kernel hands over, here by a test in its place, and what the kernel of the boot before left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use common::Device;
use serde_json::{Value, json};

/// As the kernel does: the core on standard input, number, signal and time as arguments.
fn hand_over(device: &Device, pid: u32, core: &[u8]) -> std::process::ExitStatus {
    let mut handler = Command::new(env!("CARGO_BIN_EXE_svcmgr"))
        .args(["--run", device.run().to_str().unwrap(), "--core", &pid.to_string(), "11", "1769868300"])
        .stdin(Stdio::piped())
        .stderr(Stdio::from(device.log_file()))
        .spawn()
        .unwrap();
    // It need not take all of it.
    let _ = handler.stdin.take().unwrap().write_all(core);
    handler.wait().unwrap()
}

fn crashes(device: &Device) -> Vec<Value> {
    device.client().call("ListCrashes", json!({})).unwrap()["crashes"].as_array().unwrap().clone()
}

#[test]
fn a_core_is_kept_with_what_is_known_of_its_process() {
    let device = Device::new(&[]);
    let _svcmgr = device.start();
    assert_eq!(crashes(&device), [Value::Null; 0]);
    let core = b"\x7fELF and so on ".repeat(10_000);
    assert!(hand_over(&device, std::process::id(), &core).success());
    let all = crashes(&device);
    let [crash] = all.as_slice() else { panic!("{all:?}") };
    let got = (&crash["kind"], &crash["pid"], &crash["signal"], &crash["cut"], &crash["bytes"]);
    assert_eq!(got, (&json!("core"), &json!(std::process::id()), &json!(11), &json!(false), &json!(core.len())));
    let program = std::env::current_exe().unwrap();
    assert_eq!(crash["program"], program.display().to_string());
    assert_eq!(crash["arguments"][0].as_str(), std::env::args().next().as_deref());
    let mut back = Vec::new();
    let file = std::fs::File::open(crash["path"].as_str().unwrap()).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap()) & 0o777, 0o600);
    lz4_flex::frame::FrameDecoder::new(file).read_to_end(&mut back).unwrap();
    assert!(back == core);
    assert!(device.log().contains("was ended by SIGSEGV; its core is kept as"), "{}", device.log());
    // A process that is gone, and arguments that are none.
    assert!(hand_over(&device, 4_000_000, b"core").success());
    assert_eq!(crashes(&device)[1]["program"], "");
    let wrong = Command::new(env!("CARGO_BIN_EXE_svcmgr")).args(["--core", "x"]).output().unwrap();
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("kernel.core_pattern"), "{wrong:?}");
}

#[test]
fn what_the_kernel_of_the_boot_before_left_is_listed() {
    let device = Device::new(&[]);
    device.file("pstore/dmesg-ramoops-0", "Panic#1 Part1\n<0>[   12.3] Kernel panic - not syncing: sysrq\n");
    let folder = device.dir.path().join("pstore").display().to_string();
    let mut svcmgr = device.start_with(&["--pstore", &folder]);
    let expected = ("kernel-dmesg-ramoops-0", "kernel", "Kernel panic - not syncing: sysrq", Value::Null);
    for _ in 0..2 {
        let all = crashes(&device);
        let [crash] = all.as_slice() else { panic!("{all:?}") };
        let text = |name: &str| crash[name].as_str().unwrap();
        assert_eq!((text("id"), text("kind"), text("reason"), crash["time"].clone()), expected);
        // The next supervisor finds it there, and does not copy it again.
        svcmgr.stop();
        svcmgr = device.start_with(&["--pstore", &folder]);
    }
    assert_eq!(device.log().matches("the boot before left").count(), 1, "{}", device.log());
}
