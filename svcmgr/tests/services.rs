//! The real supervisor with real small processes: starting, readiness, restarting, stopping, and what goes wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use common::{Device, alive, until};
use serde_json::{Value, json};

const SLEEP: &str = "[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=auto\n";

/// A service that says `READY=1`: this very program, told to run [`says_ready`].
fn notify() -> String {
    let this = std::env::current_exe().unwrap();
    format!("{} --ignored --exact says_ready", this.display())
}

#[test]
#[ignore = "not a test: a service of one"]
fn says_ready() {
    let socket = std::env::var("NOTIFY_SOCKET").expect("run by the supervisor");
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(b"READY=1\nSTATUS=ready to test", socket).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn auto_units_start_in_order_and_in_parallel_and_others_do_not() {
    // a and b wait for each other: sequential starting would never end. c comes after both.
    let wait = |mine: &str, other: &str| {
        format!(
            "[Service]\nType=oneshot\nTimeoutStartSec=15\nExecStart=/bin/sh -c 'touch DIR/{mine}; while ! test -e DIR/{other}; do sleep 0.01; done'\n[X-MMOS]\nStart=auto\n"
        )
    };
    let device = Device::new(&[
        ("a.service", &wait("a", "b")),
        ("b.service", &wait("b", "a")),
        (
            "c.service",
            "[Unit]\nAfter=a.service b.service\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'ls DIR > DIR/c'\n[X-MMOS]\nStart=auto\n",
        ),
        ("d.service", "[Service]\nExecStart=/bin/sleep 1000\n"),
        ("e.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=disabled\n"),
    ]);
    let _svcmgr = device.start();
    let boot = device.client().call("WaitBoot", json!({})).unwrap();
    assert_eq!((&boot["auto"], &boot["up"], &boot["failed"]), (&json!(3), &json!(3), &json!([])));
    let listing = device.read("c");
    assert!(listing.contains("a\nb\n"), "{listing}");
    assert_eq!(device.unit_state("d")["state"], "inactive");
    let log = device.log();
    assert!(log.contains("boot complete: 3 of 3 auto services up, "), "{log}");
    let (name, args) = device.client().call("Start", json!({"name": "e"})).unwrap_err();
    assert_eq!(name, "org.mmos.Manager.UnitRefused");
    assert_eq!(args["reason"], "disabled by unit");
}

#[test]
fn a_profile_turns_units_on_and_off_and_a_broken_one_falls_back() {
    let device = Device::new(&[("a.service", SLEEP), ("b.service", "[Service]\nExecStart=/bin/sleep 1000\n")]);
    device.file("root/etc/mmos/profiles/Line7.toml", "[services]\na = \"disabled\"\nb = \"auto\"\n");
    device.file("root/etc/mmos/image.toml", "name = \"factory\"\nversion = \"7\"\nprofile = \"Line7\"\n");
    let svcmgr = device.start();
    device.wait_state("b", "active");
    assert_eq!(device.unit_state("a")["state"], "inactive");
    assert_eq!(device.unit_state("a")["startFrom"], "profile Line7");
    let mode = device.client().call("GetMode", json!({})).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        mode,
        json!({"manufacturing": false, "image": "factory", "version": "7", "profile": "Line7",
               "supervisorVersion": version, "supervisorPid": svcmgr.child.id()})
    );
    drop(svcmgr);

    let other = Device::new(&[("a.service", SLEEP)]);
    let _svcmgr = other.start_with(&["--profile", "Nowhere"]);
    other.wait_state("a", "active");
    assert!(other.log().contains("there is no profile \"Nowhere\""), "{}", other.log());
}

#[test]
fn a_notify_service_is_up_when_it_says_so_and_a_silent_one_times_out() {
    let device = Device::new(&[
        ("good.service", &format!("[Service]\nType=notify\nExecStart={}\n", notify())),
        ("silent.service", "[Service]\nType=notify\nTimeoutStartSec=150ms\nExecStart=/bin/sleep 1000\n"),
        ("needs.service", "[Unit]\nRequires=silent.service\nAfter=silent.service\n[Service]\nExecStart=/bin/sleep 1\n"),
    ]);
    let _svcmgr = device.start();
    let unit = device.client().call("Start", json!({"name": "good"})).unwrap()["unit"].clone();
    assert_eq!((&unit["state"], &unit["status"]), (&json!("active"), &json!("ready to test")));
    let (name, args) = device.client().call("Start", json!({"name": "needs"})).unwrap_err();
    assert_eq!(name, "org.mmos.Manager.JobFailed");
    let reason = args["reason"].as_str().unwrap();
    assert!(reason.contains("requires silent.service, which failed: it did not say READY=1 within 150 ms"), "{reason}");
    assert_eq!(device.unit_state("silent")["state"], "failed");
}

#[test]
fn a_killed_service_comes_back_and_a_crash_loop_stops_at_its_limit() {
    let device = Device::new(&[
        (
            "a.service",
            "[Unit]\nStartLimitIntervalSec=500ms\n[Service]\nExecStart=/bin/sleep 1000\nRestart=always\nRestartSec=10ms\n[X-MMOS]\nStart=auto\n",
        ),
        (
            "crash.service",
            "[Unit]\nStartLimitBurst=3\n[Service]\nExecStart=/bin/sh -c 'echo x >> DIR/runs; exit 3'\nRestart=on-failure\nRestartSec=1ms\n[X-MMOS]\nStart=auto\n",
        ),
    ]);
    let _svcmgr = device.start();
    let first = device.wait_state("a", "active")["pid"].clone();
    let pid = rustix::process::Pid::from_raw(first.as_i64().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let again = until("a runs again", || {
        let unit = device.unit_state("a");
        (unit["state"] == "active" && unit["pid"] != first).then_some(unit)
    });
    assert_eq!(again["restarts"], 1);
    let crashed = device.wait_state("crash", "failed");
    assert_eq!((&crashed["restarts"], &crashed["exitCode"]), (&json!(3), &json!(3)));
    assert_eq!(device.read("runs"), "x\nx\nx\n");
    let reason = crashed["reason"].as_str().unwrap();
    assert!(reason.contains("started 3 times within 10 s") && reason.contains("exited with code 3"), "{reason}");
    let boot = device.client().call("WaitBoot", json!({})).unwrap();
    assert_eq!(boot["failed"][0]["name"], "crash.service");
    let log = device.log();
    assert!(log.contains("boot complete: 1 of 2 auto services up, failed: crash.service (started 3 times"), "{log}");
    // How the boot went does not change with what comes later.
    device.client().call("Stop", json!({"name": "a"})).unwrap();
    assert_eq!(device.client().call("WaitBoot", json!({})).unwrap()["up"], 1);
}

#[test]
fn a_stop_ends_every_process_of_the_service_even_one_that_ignores_it() {
    let stubborn = "[Service]\nTimeoutStopSec=100ms\nExecStart=/bin/sh -c 'trap \"\" TERM; (trap \"\" TERM; echo $$ > DIR/x; exec sleep 1000) & while :; do sleep 1000; done'\n";
    for device in [Device::new(&[("s.service", stubborn)]), Device::without_cgroups(&[("s.service", stubborn)])] {
        let _svcmgr = device.start();
        let pid = device.client().call("Start", json!({"name": "s"})).unwrap()["unit"]["pid"].clone();
        until("the service has set itself up", || (!device.read("x").is_empty()).then_some(()));
        let unit = device.client().call("Stop", json!({"name": "s"})).unwrap()["unit"].clone();
        assert_eq!((&unit["state"], &unit["pid"]), (&json!("inactive"), &Value::Null));
        assert!(unit["reason"].as_str().unwrap().contains("was killed"), "{unit}");
        assert!(!alive(&pid));
    }
}

#[test]
fn a_command_runs_after_the_service_was_killed_whole() {
    // Killed at once, and not after a timeout: that would bound the command, too, which takes long where much runs.
    let mixed = "[Service]\nKillMode=mixed\nExecStart=/bin/sh -c '(trap \"\" TERM; echo $$ > DIR/x; exec sleep 1000) & exec sleep 1000'\n\
        ExecStopPost=/bin/sh -c 'echo $SERVICE_RESULT > DIR/post'\n";
    for device in [Device::new(&[("s.service", mixed)]), Device::without_cgroups(&[("s.service", mixed)])] {
        let _svcmgr = device.start();
        device.client().call("Start", json!({"name": "s"})).unwrap();
        until("the service has set itself up", || (!device.read("x").is_empty()).then_some(()));
        device.client().call("Stop", json!({"name": "s"})).unwrap();
        assert_eq!(device.read("post"), "success\n");
    }
}

#[test]
fn bad_units_are_refused_with_their_reason_and_the_others_run() {
    let device = Device::new(&[
        ("good.service", SLEEP),
        ("typo.service", "[Service]\nExecStrat=/bin/true\n[X-MMOS]\nStart=auto\n"),
        ("x.service", "[Unit]\nAfter=y.service\n[Service]\nExecStart=/bin/true\n[X-MMOS]\nStart=auto\n"),
        ("y.service", "[Unit]\nAfter=x.service\n[Service]\nExecStart=/bin/true\n"),
        ("needs.service", "[Unit]\nRequires=typo.service\n[Service]\nExecStart=/bin/true\n[X-MMOS]\nStart=auto\n"),
        ("absent.service", "[Service]\nExecStart=/no/such/program\n[X-MMOS]\nStart=auto\n"),
        ("user.service", "[Service]\nUser=nobody-here\nExecStart=/bin/true\n[X-MMOS]\nStart=auto\n"),
    ]);
    device.file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    let _svcmgr = device.start();
    let boot = device.client().call("WaitBoot", json!({})).unwrap();
    assert_eq!((&boot["auto"], &boot["up"]), (&json!(6), &json!(1)));
    let reason = |name: &str| device.unit_state(name)["reason"].as_str().unwrap().to_owned();
    assert!(reason("typo").contains("typo.service:2: ") && reason("typo").contains("did you mean ExecStart=?"));
    let cycle = reason("x");
    assert!(cycle.contains("x.service After=y.service (") && cycle.contains("y.service After=x.service ("), "{cycle}");
    assert_eq!(device.unit_state("y")["state"], "refused");
    assert!(reason("needs").contains("requires typo.service, which is refused"));
    assert!(reason("absent").contains("/no/such/program") || reason("absent").contains("No such file"));
    assert!(reason("user").contains("nobody-here"), "{}", reason("user"));
    assert_eq!(device.unit_state("good")["state"], "active");
}

#[test]
fn services_stop_in_reverse_order_and_the_supervisor_ends() {
    let unit = |name: &str, more: &str| {
        format!(
            "[Unit]\n{more}\n[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sh -c 'echo {name} >> DIR/order'\n[X-MMOS]\nStart=auto\n"
        )
    };
    let device = Device::new(&[
        ("a.service", &unit("a", "")),
        ("b.service", &unit("b", "After=a.service")),
        ("c.service", &unit("c", "After=b.service")),
    ]);
    let mut svcmgr = device.start();
    device.client().call("WaitBoot", json!({})).unwrap();
    assert!(svcmgr.stop().success());
    assert_eq!(device.read("order"), "c\nb\na\n");
}

#[test]
fn environment_user_and_directory_are_those_of_the_unit() {
    let device = Device::new(&[(
        "e.service",
        "[Service]\nType=oneshot\nUser=tester\nWorkingDirectory=/tmp\nEnvironment=A=1 \"B=two words\"\nEnvironmentFile=-/no/file\n\
         ExecStart=/bin/sh -c 'id -u; id -G; pwd; echo \"$A|$B|$HOME\"; test -t 0 || echo no terminal; ls /proc/self/fd | wc -l'\n",
    )]);
    device.file("root/etc/passwd", "tester:x:4242:4343::/home/tester:/bin/sh\n");
    device.file("root/etc/group", "audio:x:29:tester\n");
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "e"})).unwrap();
    let logs = device.client().call("Logs", json!({"units": ["e"], "lines": 0, "follow": false})).unwrap();
    let lines: Vec<&str> = logs["entries"].as_array().unwrap().iter().map(|l| l["text"].as_str().unwrap()).collect();
    // ls itself has opened the folder that it lists.
    assert_eq!(lines, ["4242", "4343 29", "/tmp", "1|two words|/home/tester", "no terminal", "4"]);
}

#[test]
fn a_process_gets_the_mask_limits_and_priority_of_its_unit() {
    let device = Device::new(&[
        (
            "p.service",
            "[Service]\nType=oneshot\nUser=tester\nSupplementaryGroups=77\nUMask=0027\nNice=5\nOOMScoreAdjust=500\nLimitNOFILE=99:199\n\
             ExecStart=/bin/sh -c 'id -G; umask; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; cut -d\" \" -f19 /proc/self/stat; \
             grep SigIgn /proc/self/status | cut -c 20-'\n",
        ),
        (
            "plain.service",
            "[Service]\nType=oneshot\nIgnoreSIGPIPE=no\nExecStart=/bin/sh -c 'ulimit -Sn; grep SigIgn /proc/self/status | cut -c 20-'\n",
        ),
    ]);
    device.file("root/etc/passwd", "tester:x:4242:4343::/home/tester:/bin/sh\n");
    device.file("root/etc/group", "audio:x:29:tester\n");
    let _svcmgr = device.start();
    let lines = |name: &str| -> Vec<String> {
        device.client().call("Start", json!({"name": name})).unwrap();
        let logs = device.client().call("Logs", json!({"units": [name], "lines": 0, "follow": false})).unwrap();
        let entries = logs["entries"].as_array().unwrap();
        entries.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    };
    // SIGPIPE is 13, the twelfth bit from 0.
    assert_eq!(lines("p"), ["4343 29 77", "0027", "99", "199", "500", "5", "01000"]);
    // The supervisor has raised its own limit, and not that of services.
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    assert_eq!(lines("plain"), [ours.to_string(), "00000".to_owned()]);
}

#[test]
fn kill_mode_decides_whom_a_stop_hits() {
    // The second process ignores SIGTERM and outlives the first.
    let unit = |mode: &str| {
        format!(
            "[Service]\nKillMode={mode}\nTimeoutStopSec=15\nExecStart=/bin/sh -c '(trap \"\" TERM; exec sleep 1000) & echo $! > DIR/{mode}; wait'\n"
        )
    };
    let device = Device::new(&[("mixed.service", &unit("mixed")), ("process.service", &unit("process"))]);
    let _svcmgr = device.start();
    for (mode, stays) in [("mixed", false), ("process", true)] {
        device.client().call("Start", json!({"name": mode})).unwrap();
        let second = until("both run", || device.read(mode).trim().parse::<i32>().ok());
        let unit = device.client().call("Stop", json!({"name": mode})).unwrap()["unit"].clone();
        assert_eq!((&unit["state"], &unit["reason"]), (&json!("inactive"), &json!("")), "{mode}");
        assert_eq!(alive(&json!(second)), stays, "{mode}");
        if stays {
            let second = rustix::process::Pid::from_raw(second).unwrap();
            rustix::process::kill_process(second, rustix::process::Signal::KILL).unwrap();
        }
    }
}

#[test]
fn an_instance_of_a_template_is_started_when_it_is_asked_for() {
    let device = Device::new(&[
        ("t@.service", "[Service]\nExecStart=/bin/sh -c 'echo %i > DIR/%i; exec sleep 1000'\n"),
        (
            "user.service",
            "[Unit]\nRequires=t@needed.service\nAfter=t@needed.service\n[Service]\nExecStart=/bin/sleep 1000\n",
        ),
    ]);
    device.file("root/etc/mmos/units/t@.service.d/more.conf", "[Service]\nExecStopPost=/bin/true\n");
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "user"})).unwrap();
    assert_eq!(device.unit_state("t@needed")["state"], "active");
    assert!(device.client().call("GetUnit", json!({"name": "t@asked"})).is_err());
    device.client().call("Start", json!({"name": "t@asked"})).unwrap();
    assert_eq!(device.unit_state("t@asked")["state"], "active");
    until("it has spoken", || (device.read("asked") == "asked\n").then_some(()));
    assert!(device.client().call("Start", json!({"name": "none@asked"})).is_err());
}
