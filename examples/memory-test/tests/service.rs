//! The program as the supervisor runs it: refuses on another Linux; tests, tells and reports where this looks like mmos.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_memory-test");

#[test]
fn on_another_linux_nothing_is_tested() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("was-run");
    let memtester = folder.path().join("memtester");
    std::fs::write(&memtester, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    let output = Command::new(PROGRAM).arg("--memtester").arg(&memtester).output().unwrap();
    assert_eq!(output.status.code(), Some(77));
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message, "memory-test: this is not the manufacturing OS (mmos): nothing is tested\n");
    assert!(!mark.exists());
}

#[test]
fn wrong_usage_is_told_from_a_failed_test() {
    let output = Command::new(PROGRAM).args(["--size", "lots"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// With a boot record made by root in a mount namespace of its own; elsewhere this cannot be shown.
#[test]
fn on_mmos_it_tests_tells_and_reports() {
    let available =
        |program: &str, arg: &str| Command::new(program).arg(arg).output().is_ok_and(|o| o.status.success());
    if !available("unshare", "-m") || Command::new("memtester").output().is_err() {
        skip::because("it needs root, unshare(1) and memtester(8)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (socket, report) = (folder.path().join("notify"), folder.path().join("report.json"));
    // It reads nothing while the test runs, and its queue is soon full.
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let script = format!(
        "set -e; mount -t tmpfs -o mode=755 none /run; mkdir -m 755 /run/mmos
        echo \"{{\\\"boot_id\\\":\\\"$(cat /proc/sys/kernel/random/boot_id)\\\"}}\" > /run/mmos/boot.json
        exec {PROGRAM} --size 64K --loops 1 --report {}",
        report.display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).env("NOTIFY_SOCKET", &socket).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("loop 1 of 1: Stuck Address\n"), "{said}");
    assert!(said.lines().last().unwrap().starts_with("PASS: "), "{said}");

    let mut message = [0; 4096];
    let length = supervisor.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"STATUS=loop 1 of 1: Stuck Address");
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!((&value["passed"], &value["bytes"]), (&true.into(), &65536.into()));
}

#[test]
fn the_unit_and_the_package_name_what_there_is() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = std::fs::read_to_string(here.join("package.toml")).unwrap();
    let unit = std::fs::read_to_string(here.join("memory-test.service")).unwrap();
    assert!(package.contains("\"/etc/mmos/units/memory-test.service\" = \"memory-test.service\""));
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let (program, args) = start.split_once(' ').unwrap();
    assert!(package.contains(&format!("\"{program}\" = \"@bin@/memory-test\"")), "{package}");
    // Its arguments are understood: what stops it here is that this is not mmos.
    let output = Command::new(PROGRAM).args(args.split(' ')).output().unwrap();
    assert_eq!(output.status.code(), Some(77));
}
