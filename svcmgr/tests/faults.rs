//! System calls of the real supervisor fail, one in each life, by every error that matters: nothing may end it, nothing
//! be forgotten or leaked, and afterwards all is well again. strace(1) makes them fail in the supervisor alone, not in
//! its services: `--inject=SYSCALL:error=ERROR:when=N`.
//!
//! Which calls there are, and how many of each, is taken from a recording of the same life without a failure.
//! `MMOS_FAULTS=N` has each call fail with each error at N places, spread over the whole life; `MMOS_FAULTS=all` at every
//! one; `MMOS_FAULTS=CALL:ERROR:N` is one life, shown whole. Where it is not set, it is a sample of `MMOS_FAULTS=1` that
//! takes minutes: each call fails by one error or two.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use common::init::{Init, call};
use common::{Device, until};
use faults::injected;
use link::ToInit;
use serde_json::{Value, json};

/// Calls that are left out, and why.
const LEFT_OUT: [(&str, &str); 9] = [
    ("execve", "it is how the supervisor begins: PID 1 tries again"),
    ("exit_group", "it does not return"),
    ("rt_sigreturn", "it does not return"),
    ("close", "the kernel closes the descriptor whatever it answers; one that is made to fail does not"),
    ("munmap", "likewise: memory that is given back cannot be refused, and only the injection would keep it"),
    ("sysinfo", "it fills a structure of the caller's, and nothing else can go wrong; rustix takes no other answer"),
    ("uname", "likewise"),
    ("getrandom", "with GRND_INSECURE it neither waits nor allocates; Rust's hash tables take no other answer"),
    ("brk", "the allocator takes no error of it: the break is where it is, whatever is answered"),
];

/// From here on it is our own code: what fails before, in the C library's and Rust's beginning, ends a program that has
/// not begun yet, and PID 1 starts the next.
const BEGINNING: &str = "F_SETFD, FD_CLOEXEC";

/// A life takes seconds; one that takes so many hangs, and is shown.
const LONGEST: &str = "180";

/// What one life says of how it went, to be compared with the one in which nothing fails.
const REPORT: &str = "MMOS_FAULT_REPORT";
/// What strace is told, in the life of one fault.
const STRACE: &str = "MMOS_FAULT_STRACE";
/// What a life says in which the supervisor dies.
const DEAD: &str = "the supervisor is dead";
/// Which life.
const LIFE: &str = "MMOS_FAULT_LIFE";
const LIVES: [&str; 2] = ["whole", "takeover"];

fn units() -> Vec<(&'static str, String)> {
    let ready = format!("{} --ignored --exact says_ready", std::env::current_exe().unwrap().display());
    let always = "Restart=always\nRestartSec=10ms\nStartLimitBurst=0\n";
    vec![
        (
            "a.service",
            format!(
                "[Service]\nExecStartPre=/bin/true\nExecStart=/bin/sh -c 'echo up; exec sleep 1000'\nExecStop=/bin/true\n\
                 Environment=A=%n\nEnvironmentFile=DIR/environment\n{always}[X-MMOS]\nStart=auto\n"
            ),
        ),
        ("n.service", format!("[Service]\nType=notify\nExecStart={ready}\n{always}[X-MMOS]\nStart=auto\n")),
        (
            "f.service",
            format!(
                "[Service]\nType=forking\nPIDFile=DIR/pid\nTimeoutStartSec=5\nTimeoutStopSec=5\n\
                 ExecStart=/bin/sh -c 'sleep 1000 & echo $! > DIR/next; mv DIR/next DIR/pid'\n{always}[X-MMOS]\nStart=auto\n"
            ),
        ),
        ("g.service", format!("[Service]\nType=forking\nExecStart=/bin/sh -c 'sleep 1000 &'\n{always}[X-MMOS]\nStart=auto\n")),
        (
            "o.service",
            "[Unit]\nAfter=a.service\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo done >&2'\n[X-MMOS]\nStart=auto\n"
                .to_owned(),
        ),
        (
            "c.service",
            "[Unit]\nStartLimitBurst=3\n[Service]\nExecStart=/bin/sh -c 'exit 3'\nRestart=always\nRestartSec=1ms\n[X-MMOS]\nStart=auto\n"
                .to_owned(),
        ),
        (
            "s.service",
            "[Service]\nTimeoutStopSec=100ms\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1000; done'\n".to_owned(),
        ),
        ("t@.service", "[Service]\nPrivateTmp=yes\nMemoryMax=50%\nExecStart=/bin/sleep 1000\n".to_owned()),
    ]
}

/// Those that are to run once all is well again.
const RUNNING: [&str; 6] = ["a", "n", "f", "g", "s", "t@x"];

#[test]
#[ignore = "not a test: a service of one"]
fn says_ready() {
    let socket = std::env::var("NOTIFY_SOCKET").expect("run by the supervisor");
    std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(b"READY=1", socket).unwrap();
    loop {
        std::thread::park();
    }
}

/// Asks until there is an answer: a client may be cut off by what fails, and may ask again.
fn ask(init: &mut Init<'_>, method: &str, parameters: &Value) -> Result<Value, String> {
    ask_and_stay(init, method, parameters).1
}

/// The same, by a client that is still there.
fn ask_and_stay(init: &mut Init<'_>, method: &str, parameters: &Value) -> (common::Client, Result<Value, String>) {
    let what = format!("{method} {parameters} is answered");
    until(&what, || {
        init.work();
        assert!(init.svcmgr.is_some(), "{DEAD}");
        let mut client = common::Client::connect(&init.device.run().join("control")).ok()?;
        client.socket.set_read_timeout(Some(common::DEADLINE)).unwrap();
        client.send(method, parameters.clone(), false);
        let reply = client.receive()?;
        let answer = match reply.get("error") {
            Some(error) => Err(format!("{error}: {}", reply["parameters"])),
            None => Ok(reply["parameters"].clone()),
        };
        Some((client, answer))
    })
}

fn is_settled(state: &Value) -> bool {
    ["active", "inactive", "done", "failed", "refused"].iter().any(|settled| state == settled)
}

/// Waits until each unit is where it stays.
fn settle(init: &mut Init<'_>) -> Vec<Value> {
    init.until("all units have settled", |device| {
        let units = call(device, "ListUnits", json!({}))?["units"].as_array()?.clone();
        units.iter().all(|unit| is_settled(&unit["state"])).then_some(units)
    })
}

/// What the supervisor has open, by sort.
fn descriptors(init: &mut Init<'_>) -> BTreeMap<String, usize> {
    // Once this one is answered, those before are gone; and it is there each time.
    let (_client, answer) = ask_and_stay(init, "GetMode", &json!({}));
    answer.unwrap();
    let folder = format!("/proc/{}/fd", init.svcmgr.unwrap().as_raw_nonzero());
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        // "socket:[123]", "pipe:[456]", "anon_inode:[pidfd]", "/dev/null"
        let name = target.display().to_string();
        // Each life has a folder of its own.
        let own = init.device.dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let name = name.replace(own, "");
        let sort =
            name.split_once(":[").filter(|(sort, _)| *sort != "anon_inode").map_or(name.as_str(), |(sort, _)| sort);
        *found.entry(sort.to_owned()).or_default() += 1;
    }
    found
}

/// All that a supervisor does, in short.
fn live(init: &mut Init<'_>) {
    ask(init, "WaitBoot", &json!({})).unwrap();
    let _ = ask(init, "Logs", &json!({"units": ["a", "o"], "lines": 0, "follow": false}));
    let _ = ask(init, "Restart", &json!({"name": "a"}));
    let _ = ask(init, "Start", &json!({"name": "t@x"}));
    let _ = ask(init, "Start", &json!({"name": "s"}));
    let _ = ask(init, "Stop", &json!({"name": "s"}));
    let _ = ask(init, "ListCrashes", &json!({}));
    let pid_of_a = |init: &mut Init<'_>| ask(init, "GetUnit", &json!({"name": "a"})).unwrap()["unit"]["pid"].as_i64();
    if let Some(pid) = pid_of_a(init) {
        let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        until(&format!("a is back; log:\n{}", init.device.log()), || {
            pid_of_a(init).is_some_and(|now| now != pid).then_some(())
        });
    }
    // Rubbish, and one who hangs up at once.
    if let Ok(mut client) = std::os::unix::net::UnixStream::connect(init.device.run().join("control")) {
        let _ = client.write_all(b"rubbish\0");
    }
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    for (socket, text) in [("dev-log", &b"<14>by syslog"[..]), ("socket", b"MESSAGE=natively\n")] {
        let _ = sender.send_to(text, init.device.run().join("journal").join(socket));
    }
    settle(init);
}

/// One life, in a process of its own: orphans come to it as a whole.
#[test]
#[ignore = "not a test: one life, run by the one below"]
fn one_life() {
    let strace: Vec<String> =
        std::env::var(STRACE).expect("run by the test below").split(' ').map(str::to_owned).collect();
    let units = units();
    let device = Device::new(&units.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    device.file("environment", "B=2\n");
    let is_takeover = std::env::var(LIFE).as_deref() == Ok("takeover");
    let mut init = if is_takeover { Init::new(&device) } else { Init::with_runner(&device, strace.clone()) };
    live(&mut init);
    if is_takeover {
        // The one that dies is whole, and what fails, fails in its successor.
        let before = settle(&mut init);
        init.kill_svcmgr(rustix::process::Signal::KILL);
        init.runner = strace;
        init.spawn();
        let after = settle(&mut init);
        let processes = |units: &[Value]| -> Vec<(String, Value)> {
            units
                .iter()
                .map(|unit| (unit["name"].to_string(), unit["pid"].clone()))
                .filter(|(_, pid)| !pid.is_null())
                .collect()
        };
        let kept = processes(&after);
        for process in processes(&before) {
            assert!(kept.contains(&process), "{process:?} is not taken over: {after:?}");
        }
        live(&mut init);
    }

    // The failure is over: what ran, runs again; what was asked for, comes.
    for name in RUNNING {
        until(&format!("{name} runs again; log:\n{}", device.log()), || {
            let started = ask(&mut init, "Start", &json!({"name": name}));
            started.is_ok_and(|reply| reply["unit"]["state"] == "active").then_some(())
        });
    }
    let units = settle(&mut init);
    let names: Vec<&str> = units.iter().map(|unit| unit["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 8, "a unit is forgotten: {names:?}");
    let up = descriptors(&mut init);
    for name in &names {
        let unit = ask(&mut init, "Stop", &json!({"name": name})).unwrap()["unit"].clone();
        assert!(is_settled(&unit["state"]) && unit["state"] != "active" && unit["pid"].is_null(), "{unit}");
    }
    let left = processes(&device);
    assert!(left.is_empty(), "processes that nobody knows of: {left:?}");
    let down = descriptors(&mut init);
    std::fs::write(std::env::var_os(REPORT).unwrap(), json!({"up": up, "down": down}).to_string()).unwrap();
    ask(&mut init, "Shutdown", &json!({"ending": "poweroff"})).unwrap();
    until(&format!("PID 1 is told to end; log:\n{}", device.log()), || {
        init.work();
        init.said.contains(&ToInit::End(link::Ending::Poweroff)).then_some(())
    });
}

/// Command lines of the processes that services left: those that have the test's folder in their environment or words.
fn processes(device: &Device) -> Vec<String> {
    let socket = format!("NOTIFY_SOCKET={}", device.run().join("notify").display());
    let is_ours = |pid: &Path| {
        let environment = std::fs::read(pid.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == socket.as_bytes())
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|pid| is_ours(pid)).map(|pid| std::fs::read_to_string(pid.join("cmdline")).unwrap_or_default()).collect()
}

/// How a life went.
struct Lived {
    /// What it reports, or what it said before it failed.
    report: Result<Value, String>,
    /// What strace wrote.
    trace: String,
}

fn run(life: &str, strace: &[&str], folder: &Path, name: &str) -> Lived {
    let (report, trace): (PathBuf, PathBuf) =
        (folder.join(format!("{life}-{name}.report")), folder.join(format!("{life}-{name}.trace")));
    let mut words = vec!["strace", "-D", "-o", trace.to_str().unwrap()];
    words.extend(strace);
    let output = Command::new("timeout")
        .args(["-k", "5", LONGEST])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "one_life", "--nocapture"])
        .env(STRACE, words.join(" "))
        .env(LIFE, life)
        .env(REPORT, &report)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = match std::fs::read_to_string(&report) {
        Ok(text) if output.status.success() => Ok(serde_json::from_str(&text).unwrap()),
        _ => Err(said),
    };
    Lived { report, trace: std::fs::read_to_string(&trace).unwrap_or_default() }
}

/// What more is open than in the life without a failure.
fn leaked(reference: &Value, report: &Value) -> Vec<String> {
    let mut leaked = Vec::new();
    for moment in ["up", "down"] {
        for (sort, count) in report[moment].as_object().unwrap() {
            let usual = reference[moment][sort].as_u64().unwrap_or(0);
            if count.as_u64().unwrap() > usual {
                leaked.push(format!("{moment}: {sort}: {count} instead of {usual}"));
            }
        }
    }
    leaked
}

#[test]
fn whichever_system_call_fails_the_supervisor_lives_and_all_is_well_again() {
    if let Err(error) = Command::new("strace").arg("-V").output() {
        return skip::because(format_args!("strace: {error}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let wanted = std::env::var(faults::WANTED).unwrap_or_default();
    let mut lives = Vec::new();
    let mut references = BTreeMap::new();
    for life in LIVES {
        let recorded = run(life, &["-e", "trace=all"], folder.path(), "recording");
        let reference = recorded.report.unwrap_or_else(|said| panic!("{life}, without any failure:\n{said}"));
        println!("{life}, without a failure: {reference}");
        references.insert(life, reference);
        let all = faults::places(&recorded.trace, BEGINNING, &LEFT_OUT, &wanted)
            .unwrap()
            .into_iter()
            .map(|place| (life, place));
        // No divisor of the number of errors, so that they take turns.
        let share = match (wanted.is_empty(), life) {
            (false, _) => 1,
            (true, "takeover") => 13,
            (true, _) => 7,
        };
        lives.extend(all.step_by(share));
    }
    let (queue, wrong, missed) = (Mutex::new(lives.iter()), Mutex::new(Vec::new()), Mutex::new(0));
    let work = || {
        loop {
            let Some((life, place)) = queue.lock().unwrap().next() else { return };
            let name = place.to_string();
            let words = place.words();
            let lived = run(life, &words.each_ref().map(String::as_str), folder.path(), &name);
            let fault = match lived.report {
                Err(said) => said,
                // There were fewer of them this time.
                Ok(_) if injected(&lived.trace).is_none() => {
                    *missed.lock().unwrap() += 1;
                    continue;
                }
                Ok(report) => match leaked(&references[life], &report) {
                    leaked if leaked.is_empty() => continue,
                    leaked => format!("leaked: {}", leaked.join("; ")),
                },
            };
            println!("--- {life} {name}: {}\n{fault}", injected(&lived.trace).unwrap_or("not injected"));
            wrong.lock().unwrap().push(name);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (wrong, missed) = (wrong.into_inner().unwrap(), missed.into_inner().unwrap());
    println!("{} lives, in {missed} of them the call was not made so often", lives.len());
    assert!(wrong.is_empty(), "{} of {} lives went wrong: {wrong:?}", wrong.len(), lives.len());
    // Else this would have shown nothing. A place that was asked for may be in one of the lives alone.
    let least = if wanted.contains(':') { 1 } else { lives.len() - lives.len() / 5 };
    assert!(lives.len() - missed >= least, "{missed} of {} lives had no failure", lives.len());
}
