//! Each command of mmosctl against a stand-in for the supervisor: what it prints, what it asks for, how it exits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::atomic::Ordering;

use common::{Supervisor, mmosctl, stderr, stdout, unit};
use mmos::control::{StartType, State, Unit};

fn hello() -> Unit {
    let mut unit = unit("hello.service", State::active);
    (unit.pid, unit.startedAt, unit.activeAt) = (Some(77), Some(1_000_000), Some(1_012_000));
    unit
}

fn flaky() -> Unit {
    let mut unit = unit("flaky.service", State::failed);
    unit.reason = "ended 5 times within 10 s, last with exit code 1".into();
    (unit.exitCode, unit.restarts) = (Some(1), 5);
    unit
}

fn foreign() -> Unit {
    let mut unit = unit("apt-daily.service", State::inactive);
    unit.path = "/usr/lib/systemd/system/apt-daily.service".into();
    unit.start = StartType::demand;
    unit
}

fn usual() -> Supervisor {
    let mut refused = unit("typo.service", State::refused);
    refused.reason = "/etc/mmos/units/typo.service:4: no ExecStart=".into();
    Supervisor::with(vec![hello(), flaky(), refused, foreign()])
}

#[test]
fn status_shows_each_unit_of_interest_with_state_and_reason() {
    let output = usual().run(&["status"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "factory 1.2, profile Default: 1 up, 1 failed, 1 refused");
    assert!(lines[1].starts_with("  UNIT           STATE    START  PID  RESTARTS"), "{text}");
    assert!(lines[2].starts_with("+ hello.service  active   auto   77 "), "{text}");
    assert!(lines[3].starts_with("! flaky.service  failed   auto        5 "), "{text}");
    assert!(lines[3].ends_with("ended 5 times within 10 s, last with exit code 1"), "{text}");
    assert!(lines[4].ends_with("/etc/mmos/units/typo.service:4: no ExecStart="), "{text}");
    assert_eq!(lines[5], "1 more that nothing starts: mmosctl status --all");
    assert!(!text.contains('\x1b'), "colour in a pipe: {text:?}");
}

#[test]
fn status_all_shows_what_the_base_system_brought_too() {
    let text = stdout(&usual().run(&["status", "--all"]));
    assert!(text.contains("apt-daily.service"), "{text}");
}

#[test]
fn status_as_json_has_every_unit_under_the_interfaces_names() {
    let output = usual().run(&["status", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["image"], "factory");
    assert_eq!(value["manufacturing"], true);
    let units = value["units"].as_array().unwrap();
    assert_eq!(units.len(), 4);
    assert_eq!((&units[0]["name"], &units[0]["state"]), (&"hello.service".into(), &"active".into()));
    assert_eq!(units[0]["activeAt"], 1_012_000);
    assert_eq!(units[1]["exitCode"], 1);
}

#[test]
fn status_of_one_unit_takes_a_name_without_a_type_and_shows_its_last_output() {
    let output = usual().run(&["status", "flaky"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0));
    for part in [
        "! flaky.service - Description of flaky.service\n",
        "  state    failed\n",
        "  reason   ended 5 times within 10 s, last with exit code 1\n",
        "  last end exit code 1\n",
        "  file     /etc/mmos/units/flaky.service\n",
        "      3.000000 line 3\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let json = usual().run(&["status", "flaky.service", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["state"], "failed");
}

#[test]
fn a_misspelt_name_is_answered_with_the_nearest_one() {
    let supervisor = usual();
    for args in [&["status", "helo"][..], &["start", "helo"], &["stop", "helo"], &["logs", "helo"]] {
        let output = supervisor.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(
            stderr(&output),
            "mmosctl: there is no unit helo.service; did you mean hello.service?\n",
            "{args:?}"
        );
    }
    let output = supervisor.run(&["status", "quite-another"]);
    let message = "mmosctl: there is no unit quite-another.service; `mmosctl status` lists those that were loaded\n";
    assert_eq!(stderr(&output), message);
}

#[test]
fn start_waits_and_reports_each_unit_in_turn() {
    let supervisor = usual();
    let output = supervisor.run(&["start", "flaky", "hello", "typo"]);
    assert_eq!(output.status.code(), Some(1));
    let (out, err) = (stdout(&output), stderr(&output));
    assert!(out.contains("+ hello.service: active, pid 77, after 12 ms\n"), "{out}");
    assert!(out.contains("line 3"), "the last output of the unit that failed is missing: {out}");
    assert!(err.contains("flaky.service: ended 5 times within 10 s"), "{err}");
    assert!(err.contains("typo.service cannot be started: /etc/mmos/units/typo.service:4"), "{err}");
    let asked: Vec<String> = supervisor.asked.lock().unwrap().clone();
    let asked: Vec<&String> = asked.iter().filter(|what| what.starts_with("start")).collect();
    assert_eq!(asked, ["start flaky.service", "start hello.service", "start typo.service"]);
}

#[test]
fn stop_reports_the_state_and_a_refusal_says_why() {
    let supervisor = usual();
    let output = supervisor.run(&["stop", "hello"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "- hello.service: inactive, pid 77\n".into()));
    let output = supervisor.run(&["restart", "hello"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "mmosctl: permission denied: only root may restart units; you are uid 1000\n");
}

#[test]
fn logs_shows_all_or_the_last_lines() {
    let supervisor = usual();
    let all = "    1.000000 line 1\n    2.000000 line 2\n    3.000000 line 3\n";
    assert_eq!(stdout(&supervisor.run(&["logs", "hello"])), all);
    assert_eq!(stdout(&supervisor.run(&["logs", "hello", "-n", "1"])), "    3.000000 line 3\n");
    let json = stdout(&supervisor.run(&["logs", "hello", "-n2", "--json"]));
    let seqs: Vec<i64> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_i64().unwrap())
        .collect();
    assert_eq!(seqs, [2, 3]);
}

#[test]
fn logs_of_several_units_say_whose_a_line_is_and_what_was_asked_for() {
    let supervisor = usual();
    let said = stdout(&supervisor.run(&["logs", "-p", "err", "--since", "+1.5", "--wall", "hello", "-u", "kernel"]));
    assert_eq!(
        said,
        "2026-01-31T14:05:01.000000Z hello: line 1\n\
         2026-01-31T14:05:02.000000Z hello: line 2\n\
         2026-01-31T14:05:03.000000Z hello helper[7]: line 3\n"
    );
    assert!(stdout(&supervisor.run(&["logs", "-n1"])).ends_with("    3.000000 hello helper[7]: line 3\n"));
    let asked = supervisor.asked.lock().unwrap().clone();
    let units = r#"["hello.service", "kernel"]"#;
    assert_eq!(
        asked,
        [
            format!("logs {units} since Some(1500000) until None priority Some(3) after None"),
            "logs [] since None until None priority None after None".to_owned(),
        ]
    );
    for wrong in [&["-p", "loud"][..], &["--since", "soon"], &["-f", "--until", "1s"], &["-n", "10001"]] {
        let output = supervisor.run(&[&["logs"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn crashes_are_listed_and_a_core_comes_back_whole() {
    let supervisor = usual();
    let said = stdout(&supervisor.run(&["crashes"]));
    assert_eq!(
        said,
        "kernel-dmesg-ramoops-0  boot before  kernel         Kernel panic - not syncing: x\n\
         12345-77                12.345000    hello.service  hello[77] killed by signal 11 (SEGV), 390 KiB, the rest was cut off\n"
    );
    let json: serde_json::Value = serde_json::from_slice(&supervisor.run(&["crashes", "--json"]).stdout).unwrap();
    assert_eq!((&json[1]["program"], &json[0]["kind"]), (&"/usr/bin/hello".into(), &"kernel".into()));
    let folder = supervisor.socket.parent().unwrap();
    let core = b"core ".repeat(100_000);
    let file = std::fs::File::create(folder.join("core.lz4")).unwrap();
    let mut encoder = lz4_flex::frame::FrameEncoder::new(file);
    std::io::Write::write_all(&mut encoder, &core).unwrap();
    encoder.finish().unwrap();
    let target = folder.join("core");
    let output = supervisor.run(&["crashes", "get", "12345-77", target.to_str().unwrap()]);
    assert_eq!((stderr(&output), output.status.code()), (String::new(), Some(0)));
    assert!(std::fs::read(&target).unwrap() == core);
    assert!(supervisor.run(&["crashes", "get", "12345-77", "-"]).stdout == core);
    for (id, message) in [("1-1", "there is no crash 1-1"), ("kernel-dmesg-ramoops-0", "/nowhere: No such file")] {
        let output = supervisor.run(&["crashes", "get", id, "-"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

#[test]
fn logs_follow_shows_each_line_when_it_comes() {
    let supervisor = usual();
    let mut child = supervisor.command(&["logs", "-f", "hello"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = || {
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        text
    };
    for n in 1..=3 {
        assert_eq!(line(), format!("    {n}.000000 line {n}\n"));
    }
    supervisor.follow.store(true, Ordering::SeqCst);
    assert_eq!(line(), "    4.000000 line 4\n");
    assert_eq!(line(), "    5.000000 line 5\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_word() {
    let supervisor = usual();
    for args in [&["logs", "-f", "hello"][..], &["status"], &["completions", "bash"], &["--help"]] {
        let mut command = supervisor.command(args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((stderr(&output), output.status.code()), (String::new(), Some(0)), "{args:?}");
    }
}

#[test]
fn wait_boot_says_how_many_are_up_and_since_when() {
    let output = Supervisor::with(vec![hello()]).run(&["wait-boot"]);
    assert_eq!(stdout(&output), "1 of 1 auto units up, 3.214000 s after the kernel started\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn wait_boot_fails_with_names_and_reasons() {
    let supervisor = Supervisor::with(vec![hello(), flaky()]);
    let output = supervisor.run(&["wait-boot", "--timeout", "20"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.starts_with("1 of 2 auto units up"), "{text}");
    assert!(text.contains("! flaky.service failed: ended 5 times within 10 s, last with exit code 1\n"), "{text}");
    let output = supervisor.run(&["wait-boot", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["auto"], &value["up"]), (&2.into(), &1.into()));
    assert_eq!(value["failed"][0]["name"], "flaky.service");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn wait_boot_gives_up_in_time_and_names_what_is_late() {
    let supervisor = Supervisor::with(vec![hello(), unit("slow.service", State::starting)]);
    let output = supervisor.run(&["wait-boot", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(2));
    let message = "mmosctl: not all auto units were up after 1 s; still on their way: slow.service (starting)\n";
    assert_eq!(stderr(&output), message);
}

#[test]
fn the_boot_is_analysed_as_lines_as_json_and_as_a_picture() {
    let supervisor = Supervisor::with(vec![hello(), unit("slow.service", State::active)]);
    let output = supervisor.run(&["blame"]);
    assert_eq!(stdout(&output), "    2.0 ms  slow.service\n    1.0 ms  hello.service\n");
    let output = supervisor.run(&["critical-chain"]);
    assert!(
        stdout(&output).ends_with("slow.service @1.003 s +2.0 ms\n└─hello.service @1.001 s +1.0 ms\n"),
        "{output:?}"
    );
    let output = supervisor.run(&["critical-chain", "hello", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["took"]), (1, &1000.into()));
    let output = supervisor.run(&["boot-chart"]);
    let svg = stdout(&output);
    assert!(svg.ends_with("</svg>\n") && svg.contains(">slow.service</text>"), "{svg}");
    let output = supervisor.run(&["critical-chain", "helo"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("hello.service"), "{}", stderr(&output));
}

#[test]
fn the_three_endings_are_asked_for_by_name() {
    let supervisor = usual();
    for ending in ["poweroff", "reboot", "halt"] {
        let output = supervisor.run(&[ending]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).starts_with("services are being stopped"), "{}", stdout(&output));
    }
    let asked = supervisor.asked.lock().unwrap().clone();
    assert_eq!(asked, ["shutdown poweroff", "shutdown reboot", "shutdown halt"]);
}

#[test]
fn without_a_supervisor_every_command_says_where_it_looked_and_exits_2() {
    for args in [
        &["status"][..],
        &["status", "x"],
        &["start", "x"],
        &["stop", "x"],
        &["restart", "x"],
        &["logs", "x"],
        &["wait-boot"],
        &["poweroff"],
        &["reboot"],
        &["halt"],
    ] {
        let output = mmosctl().args(["--socket", "/nowhere/mmos/control"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let message = stderr(&output);
        assert!(message.contains("/nowhere/mmos/control") && message.contains("mmosctl is-mmos"), "{message}");
    }
}

#[test]
fn wrong_usage_exits_2_and_the_help_teaches() {
    let output = mmosctl().args(["start"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("<UNIT>"), "{}", stderr(&output));
    let help = stdout(&mmosctl().arg("--help").output().unwrap());
    for part in ["Examples:", "Exit status:", "mmosctl logs -f memory-test", "wait-boot", "is-mmos", "completions"] {
        assert!(help.contains(part), "{part} is not in:\n{help}");
    }
    assert!(!help.contains('\x1b'));
}

#[test]
fn completions_are_valid_bash() {
    let script = stdout(&mmosctl().args(["completions", "bash"]).output().unwrap());
    assert!(script.contains("wait-boot"));
    let mut bash = std::process::Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

/// Runs mmosctl with a terminal for stdout, by script(1) of util-linux.
fn on_a_terminal(supervisor: &Supervisor, term: &str, args: &str) -> String {
    let command = format!("{} --socket {} {args}", env!("CARGO_BIN_EXE_mmosctl"), supervisor.socket.display());
    let mut child = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", term)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn a_terminal_gets_colours_and_a_dumb_one_does_not() {
    let supervisor = usual();
    let text = on_a_terminal(&supervisor, "xterm", "status");
    assert!(text.contains("\x1b[32mactive") && text.contains("\x1b[1;31mfailed"), "{text:?}");
    let text = on_a_terminal(&supervisor, "dumb", "status");
    assert!(text.contains("+ hello.service") && !text.contains('\x1b'), "{text:?}");
}

#[test]
fn logs_follow_goes_on_after_the_supervisors_death_without_a_line_twice() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let reply = |seq: i64, continues: bool| {
        let line = serde_json::json!({
            "seq": seq, "cursor": 100 + seq, "time": seq, "wall": seq, "unit": "a", "priority": 6, "source": "output",
            "identifier": "", "fields": {}, "text": format!("line {seq}"),
        });
        format!("{}\0", serde_json::json!({"continues": continues, "parameters": {"entries": [line]}}))
    };
    let supervisor = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for replies in [vec![reply(7, true), reply(8, true)], vec![reply(9, false)]] {
            let (stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            BufReader::new(&stream).read_until(0, &mut request).unwrap();
            request.pop();
            let request: serde_json::Value = serde_json::from_slice(&request).unwrap();
            asked.push(request["parameters"]["after"].as_i64());
            std::io::Write::write_all(&mut &stream, replies.concat().as_bytes()).unwrap();
        }
        asked
    });
    let output = mmosctl().arg("--socket").arg(&socket).args(["logs", "-f", "-n", "2", "a"]).output().unwrap();
    assert_eq!(stdout(&output), "    0.000007 line 7\n    0.000008 line 8\n    0.000009 line 9\n");
    assert_eq!(stderr(&output), "mmosctl: the supervisor was started anew; going on\n");
    assert_eq!(supervisor.join().unwrap(), [None, Some(108)]);
}
