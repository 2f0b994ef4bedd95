//! Services as Debian ships them, by the unit files of their packages as they are, each asked by its own client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{eventually, pid, state};
use vm::{Case, Ended, Vm};

/// The services, and those who speak with them.
const PACKAGES: [&str; 13] = [
    "redis-server",
    "redis-tools",
    "nginx",
    "wget",
    "dbus",
    "chrony",
    "openssh-server",
    "openssh-client",
    "mosquitto",
    "mosquitto-clients",
    "busybox",
    "dash",
    "coreutils",
];

/// What takes room in the packages and nobody asks for here.
const EXCLUDE: &str = r#"exclude = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/perl", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl"]"#;

fn says(vm: &mut Vm, line: &str, answer: &str) {
    let said = vm.must(line).unwrap();
    assert!(said.contains(answer), "{line}: {said}");
}

#[test]
fn debians_own_services_answer_their_clients() {
    let case = Case::new("real").debian(&PACKAGES).setting(EXCLUDE).profile("Real");
    let mut vm = case.machine().unwrap().memory(768).boot().unwrap();
    let boot = vm.run("mmosctl wait-boot").unwrap();
    assert_eq!(boot.status, 0, "{}\n{}", boot.text, vm.run("mmosctl logs -n 60").unwrap().text);
    for name in ["redis-server", "nginx", "chrony", "ssh", "mosquitto"] {
        assert_eq!(state(&mut vm, name), "active", "{name}");
    }
    says(&mut vm, "redis-cli set line 7 && redis-cli incr line", "8");
    says(&mut vm, "wget -qO- http://127.0.0.1/", "the line is up");
    says(&mut vm, "chronyc -n tracking", "Reference ID");
    says(&mut vm, "mosquitto_pub -r -t line/7 -m ready && mosquitto_sub -t line/7 -C 1 -W 60", "ready");
    says(&mut vm, "ssh -o StrictHostKeyChecking=accept-new root@127.0.0.1 echo by $((40+2)) ssh", "by 42 ssh");

    // The bus is started by who speaks to it first.
    assert_eq!(state(&mut vm, "dbus"), "inactive");
    let names = "dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames";
    says(&mut vm, names, "org.freedesktop.DBus");
    assert_eq!(state(&mut vm, "dbus"), "active");

    // What is under restrictions is so: another user, no new privileges, system calls filtered (proc(5), status).
    let redis = pid(&mut vm, "redis-server");
    says(&mut vm, &format!("cat /proc/{redis}/status"), "NoNewPrivs:\t1\nSeccomp:\t2");
    says(&mut vm, &format!("stat -c %U /proc/{redis}"), "redis");

    // One that dies comes back, and goes on answering.
    vm.must(&format!("kill -9 {redis}")).unwrap();
    eventually("redis answers again", || vm.run("redis-cli ping").unwrap().text.contains("PONG"));
    vm.must("mmosctl stop nginx").unwrap();
    assert_eq!(vm.run("wget -qO- -T 5 -t 1 http://127.0.0.1/").unwrap().status, 4, "nobody listens");
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}
