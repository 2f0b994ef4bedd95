//! What others than the supervisor's own pipes bring: syslog(3), sd_journal_send(3), streams, each by its real client,
//! and by hostile ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use common::{Device, Svcmgr, until};
use serde_json::{Value, json};

/// Calls libsystemd itself: a short message, one that it passes in a memory file, and a stream.
const LIBSYSTEMD: &str = r#"
import ctypes, os
lib = ctypes.CDLL("libsystemd.so.0")
status = lib.sd_journal_send(b"MESSAGE=from libsystemd", b"PRIORITY=%i", 4, b"MY_FIELD=%s", b"my value", None)
assert status == 0, status
status = lib.sd_journal_send(b"MESSAGE=%s", b"long " + b"x" * 1000000, b"PRIORITY=%i", 5, None)
assert status == 0, status
fd = lib.sd_journal_stream_fd(b"streamer", 5, 1)
assert fd >= 0, fd
os.write(fd, b"by stream\n<3>and urgent\n")
"#;

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip::because(format_args!("there is no {program}"));
    }
    found
}

/// A script in which the journal's sockets are where programs look for them, without touching those of this machine.
fn in_place(command: &str) -> String {
    format!(
        "#!/bin/sh\nset -e\nmkdir -p /run/systemd/journal\nmount --bind DIR/run/journal /run/systemd/journal\n{command}\n"
    )
}

/// Whether a process can have mounts of its own here.
fn can_unshare() -> bool {
    let output = Command::new("unshare").args(["-m", "true"]).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip::because(format_args!("unshare -m: {}", String::from_utf8_lossy(&output.stderr)));
            false
        }
        Err(error) => {
            skip::because(format_args!("unshare: {error}"));
            false
        }
    }
}

fn script(device: &Device, name: &str, text: &str) {
    device.file(name, &text.replace("DIR", device.dir.path().to_str().unwrap()));
}

fn lines(device: &Device, unit: &str) -> Vec<Value> {
    let reply = device.client().call("Logs", json!({"units": [unit], "lines": 0, "follow": false})).unwrap();
    reply["entries"].as_array().unwrap().clone()
}

fn find(device: &Device, unit: &str, text: &str) -> Value {
    until(&format!("{unit} says {text:?}; log:\n{}", device.log()), || {
        lines(device, unit).into_iter().find(|line| line["text"] == text)
    })
}

fn oneshot(command: &str) -> String {
    format!("[Service]\nType=oneshot\nExecStart={command}\n")
}

fn run<'a>(device: &'a Device, unit: &str) -> Svcmgr<'a> {
    let svcmgr = device.start();
    let result = device.client().call("Start", json!({"name": unit}));
    assert!(result.is_ok(), "{result:?}\n{}\n{:?}", device.log(), lines(device, unit));
    svcmgr
}

#[test]
fn what_logger_sends_is_found_in_the_log_of_its_service() {
    if !has("logger") {
        return;
    }
    // The shell itself sends the last message, so that its sender is still there when it is read.
    let command = "/bin/sh -c 'exec logger -u DIR/run/journal/dev-log -t tagged -p daemon.err by syslog'";
    let device = Device::new(&[("a.service", &oneshot(command))]);
    let _svcmgr = run(&device, "a");
    let line = find(&device, "a", "by syslog");
    let got = (&line["priority"], &line["facility"], &line["identifier"], &line["source"]);
    assert_eq!(got, (&json!(3), &json!(3), &json!("tagged"), &json!("syslog")));
    assert!(line["pid"].as_i64() > Some(1));
}

#[test]
fn what_libsystemd_sends_is_found_in_the_log_of_its_service() {
    if !can_unshare() || !has("python3") {
        return;
    }
    let library =
        Command::new("python3").args(["-c", "import ctypes; ctypes.CDLL('libsystemd.so.0')"]).output().unwrap();
    if !library.status.success() {
        return skip::because("there is no libsystemd.so.0");
    }
    let device = Device::new(&[("a.service", &oneshot("/usr/bin/unshare -m /bin/sh DIR/script"))]);
    script(&device, "client.py", LIBSYSTEMD);
    script(&device, "script", &in_place("exec python3 DIR/client.py"));
    let _svcmgr = run(&device, "a");
    let line = find(&device, "a", "from libsystemd");
    assert_eq!((&line["priority"], &line["source"]), (&json!(4), &json!("journal")));
    assert_eq!(line["fields"]["MY_FIELD"], "my value");
    let urgent = find(&device, "a", "and urgent");
    assert_eq!((&urgent["priority"], &urgent["identifier"]), (&json!(3), &json!("streamer")));
    assert_eq!(find(&device, "a", "by stream")["priority"], 5);
    // A million bytes are more than a message may have: what is there, and a line about the rest.
    let long = lines(&device, "a").into_iter().filter(|line| line["text"].as_str().unwrap().ends_with("xxxx"));
    let length: usize = long.map(|line| line["text"].as_str().unwrap().len()).sum();
    assert!((100_000..=128 * 1024).contains(&length), "{length}");
    until("the rest is told of", || {
        lines(&device, "a").iter().find(|line| line["text"].as_str().unwrap().contains("bytes cut off")).cloned()
    });
}

#[test]
fn what_systemd_cat_pipes_is_found_in_the_log_of_its_service() {
    if !can_unshare() || !has("systemd-cat") {
        return;
    }
    let device = Device::new(&[("a.service", &oneshot("/usr/bin/unshare -m /bin/sh DIR/script"))]);
    let command = "exec systemd-cat -t cat -p warning sh -c 'echo out; echo \"<2>worse\" >&2'";
    script(&device, "script", &in_place(command));
    let _svcmgr = run(&device, "a");
    let line = find(&device, "a", "out");
    assert_eq!((&line["priority"], &line["identifier"], &line["source"]), (&json!(4), &json!("cat"), &json!("output")));
    assert_eq!(find(&device, "a", "worse")["priority"], 2);
}

#[test]
fn whoever_is_of_no_unit_is_found_elsewhere_and_cannot_say_that_it_is() {
    let device = Device::new(&[("a.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=auto\n")]);
    let _svcmgr = device.start();
    let pid = device.wait_state("a", "active")["pid"].clone();
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(format!("<14>a[{pid}]: forged").as_bytes(), device.run().join("journal/dev-log")).unwrap();
    let message =
        format!("MESSAGE=forged too\n_PID={pid}\nSYSLOG_PID={pid}\n_SYSTEMD_UNIT=a.service\nUNIT=a.service\n");
    sender.send_to(message.as_bytes(), device.run().join("journal/socket")).unwrap();
    let mut stream = UnixStream::connect(device.run().join("journal/stdout")).unwrap();
    std::io::Write::write_all(&mut stream, b"a\na.service\n6\n1\n0\n0\n0\nforged as well\n").unwrap();
    for text in ["forged", "forged too", "forged as well"] {
        let line = find(&device, "other", text);
        assert_eq!(line["pid"], std::process::id());
    }
    assert_eq!(lines(&device, "a"), [Value::Null; 0]);
}

#[test]
fn credentials_of_another_process_are_refused_by_the_kernel_to_all_but_root() {
    if !rustix::process::geteuid().is_root() || !has("python3") {
        return skip::because("only root can become another user");
    }
    let device = Device::new(&[("a.service", "[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=auto\n")]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(device.dir.path(), open).unwrap();
    let _svcmgr = device.start();
    let pid = device.wait_state("a", "active")["pid"].clone();
    let script = format!(
        "import os,socket,struct\nos.setgid(65534); os.setuid(65534)\n\
         s=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('{}')\n\
         c=struct.pack('iii', {pid}, 0, 0)\n\
         try:\n s.sendmsg([b'<14>forged'], [(socket.SOL_SOCKET, 2, c)]); print('sent')\n\
         except PermissionError: print('refused')\n",
        device.run().join("journal/dev-log").display()
    );
    let python = ["/usr/bin/python3", "python3"].into_iter().find(|path| Command::new(path).arg("-V").output().is_ok());
    let output = Command::new(python.unwrap()).args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "refused", "{output:?}");
    assert_eq!(lines(&device, "a"), [Value::Null; 0]);
}

#[test]
fn hostile_senders_hurt_nobody() {
    let device = Device::new(&[(
        "a.service",
        "[Service]\nExecStart=/bin/sh -c 'for n in 1 2 3; do echo $$n; sleep 0.1; done; sleep 1000'\n",
    )]);
    let _svcmgr = device.start();
    let folder = device.run().join("journal");
    let before = std::fs::read_dir(format!("/proc/{}/fd", _svcmgr.child.id())).unwrap().count();
    // Streams that say nothing, that hang up at once, and that say rubbish.
    let silent: Vec<UnixStream> = (0..300).filter_map(|_| UnixStream::connect(folder.join("stdout")).ok()).collect();
    for _ in 0..100 {
        drop(UnixStream::connect(folder.join("stdout")));
    }
    let flood = |name: &'static str, message: Vec<u8>| {
        let path = folder.join(name);
        std::thread::spawn(move || {
            let sender = UnixDatagram::unbound().unwrap();
            let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
            let mut sent = 0_u64;
            while std::time::Instant::now() < end {
                sent += u64::from(sender.send_to(&message, &path).is_ok());
            }
            sent
        })
    };
    let floods = [
        flood("dev-log", b"<14>x".to_vec()),
        flood("socket", vec![0xff; 100_000]),
        flood("socket", [&b"MESSAGE\n"[..], &[0xff; 8], b"x"].concat()),
        flood("dev-log", b"\n".repeat(3000)),
    ];
    // Meanwhile the supervisor answers, and a service's lines arrive.
    let begun = std::time::Instant::now();
    device.client().call("Start", json!({"name": "a"})).unwrap();
    let mut longest = std::time::Duration::ZERO;
    until("all lines of the service are there", || {
        let asked = std::time::Instant::now();
        let said = lines(&device, "a").len();
        longest = longest.max(asked.elapsed());
        (said == 3).then_some(())
    });
    println!("three lines within {:?}, the longest answer took {longest:?}", begun.elapsed());
    let sent: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    assert!(longest < std::time::Duration::from_secs(2), "{longest:?}");
    // Whatever was sent is kept, or counted.
    let last = until("what was dropped is told of", || {
        lines(&device, "other").iter().rev().find(|line| line["text"].as_str().unwrap().contains("dropped")).cloned()
    });
    println!("{sent} messages sent; {}", last["text"]);
    drop(silent);
    until("no descriptor is left behind", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", _svcmgr.child.id())).unwrap().count();
        // The service's pipe, its pidfd, and two rings.
        (open <= before + 8).then_some(())
    });
}
