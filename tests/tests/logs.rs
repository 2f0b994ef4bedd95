//! Logs and crashes on a device: where lines come from there, what the kernel hands over, what outlives a reset.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{eventually, supervisor};
use serde_json::Value;
use vm::{Case, Ended, Vm};

fn lines(vm: &mut Vm, words: &str) -> Vec<Value> {
    let text = vm.must(&format!("mmosctl logs --json {words}")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn find(vm: &mut Vm, words: &str, text: &str) -> Value {
    let mut found = None;
    eventually(&format!("a line with {text:?} in mmosctl logs {words}"), || {
        found = lines(vm, words).into_iter().find(|line| line["text"].as_str().unwrap().contains(text));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn lines_of_services_syslog_and_the_kernel_are_one_log_that_a_follower_reads_through_the_supervisors_death() {
    let mut vm = Case::new("logs").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    vm.must("mmosctl start syslogger").unwrap();
    let line = find(&mut vm, "syslogger", "by syslog");
    assert_eq!(
        (&line["priority"], &line["identifier"], &line["source"]),
        (&3.into(), &"tagged".into(), &"syslog".into())
    );
    // Whoever is of no service; and the kernel, with those that write to its log.
    vm.must("busybox logger -t shell from the shell").unwrap();
    find(&mut vm, "", "from the shell");
    vm.must("echo '<4>marker: in the kernel log' > /dev/kmsg").unwrap();
    assert_eq!(find(&mut vm, "kernel", "in the kernel log")["identifier"], "marker");
    assert_eq!(find(&mut vm, "kernel", "boot complete")["identifier"], "svcmgr");
    let kernel = lines(&mut vm, "kernel");
    assert_eq!(kernel[0]["seq"], 1);
    assert!(kernel[0]["text"].as_str().unwrap().starts_with("Linux version"), "{}", kernel[0]);
    let all = lines(&mut vm, "");
    assert!(all.windows(2).all(|pair| pair[0]["time"].as_u64() <= pair[1]["time"].as_u64()));

    vm.must("mmosctl logs -f --json talker > /tmp/followed 2>/tmp/said & echo $! > /tmp/follower").unwrap();
    let followed = |vm: &mut Vm| -> Vec<u64> {
        let text = vm.must("cat /tmp/followed").unwrap();
        // The last line may be half there.
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64()).collect()
    };
    eventually("the follower has begun", || followed(&mut vm).len() > 5);
    for _ in 0..2 {
        let before = followed(&mut vm).len();
        let old = supervisor(&mut vm);
        vm.must(&format!("kill -KILL {old}")).unwrap();
        eventually("the follower goes on", || followed(&mut vm).len() > before + 20);
    }
    let seqs = followed(&mut vm);
    assert_eq!(seqs, (1..=u64::try_from(seqs.len()).unwrap()).collect::<Vec<_>>());
    assert!(vm.must("cat /tmp/said").unwrap().contains("the supervisor was started anew; going on"));
    vm.must("kill $(cat /tmp/follower)").unwrap();
    // Not "Private_Dirty": a page of a program that lies on a tmpfs is dirty, too, and is the image's memory.
    let memory = vm.must("grep -h Anonymous /proc/1/smaps_rollup /proc/$(pidof svcmgr)/smaps_rollup").unwrap();
    println!("private memory of PID 1 and svcmgr:\n{memory}");
    let kib: u64 = memory.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum();
    assert!(kib > 0 && kib <= 2048, "{memory}");
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

#[test]
fn the_core_of_a_service_is_kept_and_the_supervisor_leaves_none() {
    let mut vm = Case::new("logs").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert_eq!(vm.must("mmosctl crashes").unwrap(), "");
    assert_ne!(vm.run("mmosctl start crasher").unwrap().status, 0);
    let crashes: Value = serde_json::from_str(&vm.must("mmosctl crashes --json").unwrap()).unwrap();
    let crash = &crashes[0];
    let got = (&crash["kind"], &crash["unit"], &crash["signal"], &crash["program"], &crash["cut"]);
    assert_eq!(got, (&"core".into(), &"crasher.service".into(), &11.into(), &"/usr/bin/busybox".into(), &false.into()));
    let id = crash["id"].as_str().unwrap();
    vm.must(&format!("mmosctl crashes get {id} /tmp/core")).unwrap();
    assert_eq!(vm.must("head -c 4 /tmp/core | tail -c 3").unwrap(), "ELF");
    assert_eq!(vm.must("busybox stat -c %s /tmp/core").unwrap(), crash["bytes"].to_string());
    find(&mut vm, "kernel", &format!("its core is kept as {id}"));
    let reason = vm.must("mmosctl status crasher").unwrap();
    assert!(reason.contains("core dumped"), "{reason}");
    // In a loop: the first stays, and there are never more than four.
    for _ in 0..6 {
        vm.run("mmosctl start crasher").unwrap();
    }
    let crashes: Value = serde_json::from_str(&vm.must("mmosctl crashes --json").unwrap()).unwrap();
    assert_eq!((crashes.as_array().unwrap().len(), crashes[0]["id"].as_str()), (4, Some(id)));
    // A supervisor that crashes is started anew at once.
    let old = supervisor(&mut vm);
    vm.must(&format!("kill -SEGV {old}")).unwrap();
    eventually("the next supervisor knows the crashes", || {
        let now = vm.run("mmosctl crashes --json").unwrap();
        now.status == 0 && serde_json::from_str::<Value>(&now.text).is_ok_and(|now| now == crashes)
    });
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

#[test]
fn what_the_kernel_said_last_is_listed_after_a_panic() {
    // A mebibyte at 448 MiB, which the kernel leaves alone and a reset does not clear.
    let case = Case::new("logs").load("ramoops mem_address=0x1c000000 mem_size=0x100000 record_size=0x10000");
    let mut machine = case.machine().unwrap().parameter("memmap=0x100000$0x1c000000").parameter("panic=1");
    machine.arguments.extend(["-action", "reboot=reset"].map(str::to_owned));
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert_eq!(vm.must("mmosctl crashes").unwrap(), "");
    vm.must("echo '<4>marker: the last words' > /dev/kmsg").unwrap();
    vm.panic_and_come_back().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let crashes: Value = serde_json::from_str(&vm.must("mmosctl crashes --json").unwrap()).unwrap();
    let crash = crashes.as_array().unwrap().iter().find(|crash| crash["kind"] == "kernel").unwrap();
    let reason = crash["reason"].as_str().unwrap();
    assert!(reason.contains("Kernel panic - not syncing: sysrq triggered crash"), "{reason}");
    let text = vm.must(&format!("mmosctl crashes get {} -", crash["id"].as_str().unwrap())).unwrap();
    assert!(text.contains("marker: the last words"), "{text}");
    // It stays where it outlives the next reset.
    assert!(vm.must("ls /sys/fs/pstore").unwrap().contains("dmesg-ramoops"));
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}
