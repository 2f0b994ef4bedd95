//! Logs of real services: one that floods beside one that does not, many in one order, bounds, and what is told of
//! losses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::io::{BufRead, BufReader, Write};

use common::{Client, Device, until};
use serde_json::{Value, json};

const AUTO: &str = "[X-MMOS]\nStart=auto\n";

/// All lines of a stream of replies that has an end.
fn lines(client: &mut Client, parameters: Value) -> Vec<Value> {
    client.send("Logs", parameters, true);
    let mut lines = Vec::new();
    loop {
        let reply = client.receive().unwrap();
        lines.extend(reply["parameters"]["entries"].as_array().unwrap().iter().cloned());
        if reply.get("continues").is_none() {
            return lines;
        }
    }
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

/// The processor time that a process has used so far; the first number of `/proc/PID/schedstat`, in nanoseconds.
/// Unlike the time of day it does not depend on what else the machine does.
fn processor_time(pid: u32) -> std::time::Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    std::time::Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_service_that_floods_does_not_delay_the_lines_of_another() {
    let flood = "yes a line of a service that says as much as it can, again and again";
    let device = Device::new(&[
        ("flood.service", &format!("[Service]\nExecStart=/bin/sh -c 'exec {flood}'\n{AUTO}")),
        ("flood2.service", &format!("[Service]\nExecStart=/bin/sh -c 'exec {flood}'\n{AUTO}")),
        // Says what it is told to say, and then that it has said it.
        (
            "quiet.service",
            "[Service]\nExecStart=/bin/sh -c 'while read word; do echo $word; echo $word >&3; done < DIR/told 3> DIR/said'\n",
        ),
    ]);
    for name in ["told", "said"] {
        let path = device.dir.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    }
    let svcmgr = device.start_with(&["--logs", "64,1024"]);
    until("the first burst is over and rings have turned over", || {
        (device.unit_state("flood")["logOverwritten"].as_i64() > Some(0)).then_some(())
    });
    let (begun, before) = (std::time::Instant::now(), processor_time(svcmgr.child.id()));
    device.client().call("Start", json!({"name": "quiet"})).unwrap();
    let open = |name: &str, options: &mut std::fs::OpenOptions| options.open(device.dir.path().join(name)).unwrap();
    let mut told = open("told", std::fs::OpenOptions::new().write(true));
    let mut said = BufReader::new(open("said", std::fs::OpenOptions::new().read(true)));
    let mut client = device.client();
    for n in 0..200_u64 {
        writeln!(told, "{n}").unwrap();
        let mut word = String::new();
        said.read_line(&mut word).unwrap();
        // It lies in the pipe. The supervisor reads it in the turn of its loop in which it hears the first question,
        // at the latest, and that may be behind the question.
        let mut last =
            || lines(&mut client, json!({"units": ["quiet"], "lines": 1, "follow": false})).pop().unwrap_or_default();
        let line = [last(), last()].into_iter().find(|line| line["text"] == word.trim());
        let line = line.unwrap_or_else(|| panic!("line {n} was not read in two turns"));
        assert_eq!(line["seq"].as_u64(), Some(n + 1));
    }
    let used = processor_time(svcmgr.child.id()) - before;
    println!("the supervisor used {used:?} of {:?} for two floods", begun.elapsed());
    // The floods wait for themselves: they lost nothing but what the ring is too small for.
    for flood in ["flood", "flood2"] {
        let unit = device.client().call("Stop", json!({"name": flood})).unwrap()["unit"].clone();
        assert_eq!(unit["logDropped"], 0);
        assert!(unit["logOverwritten"].as_i64().unwrap() > 0);
        let kept = lines(&mut device.client(), json!({"units": [flood], "lines": 10000, "follow": false}));
        assert!(kept.windows(2).all(|pair| pair[1]["seq"].as_u64() == pair[0]["seq"].as_u64().map(|seq| seq + 1)));
    }
}

#[test]
fn lines_of_all_units_come_in_the_order_of_time_and_can_be_chosen() {
    let talk = |name: &str| {
        format!(
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'for n in 1 2 3 4 5; do echo \"<$$n>{name} $$n\"; sleep 0.01; done'\n"
        )
    };
    let device = Device::new(&[("a.service", &talk("a")), ("b.service", &talk("b"))]);
    let _svcmgr = device.start();
    let mut starts = [device.client(), device.client()];
    for (client, name) in starts.iter_mut().zip(["a", "b"]) {
        client.send("Start", json!({"name": name}), false);
    }
    starts.iter_mut().for_each(|client| assert!(client.receive().unwrap().get("error").is_none()));
    let mut client = device.client();
    let both = ["a", "b"];
    let all = lines(&mut client, json!({"units": both, "lines": 0, "follow": false}));
    assert_eq!(all.len(), 10, "{all:?}");
    for pair in all.windows(2) {
        assert!(pair[0]["cursor"].as_u64() < pair[1]["cursor"].as_u64());
        assert!(pair[0]["time"].as_u64() <= pair[1]["time"].as_u64());
    }
    let one = all.iter().find(|line| line["text"] == "b 3").unwrap();
    let fields = (&one["unit"], &one["priority"], &one["source"], &one["seq"], &one["pid"]);
    assert_eq!(fields, (&json!("b.service"), &json!(3), &json!("output"), &json!(3), &Value::Null));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now - one["wall"].as_u64().unwrap() / 1_000_000 < 60);
    let urgent = lines(&mut client, json!({"units": both, "lines": 0, "follow": false, "priority": 2}));
    assert_eq!(urgent.len(), 4);
    let after = lines(&mut client, json!({"units": [], "lines": 0, "follow": false, "after": all[7]["cursor"]}));
    assert_eq!(texts(&after), texts(&all[8..]));
    let times = (&all[2]["time"], &all[6]["time"]);
    let between =
        lines(&mut client, json!({"units": both, "lines": 0, "follow": false, "since": times.0, "until": times.1}));
    assert!(between.len() >= 5 && between.first() == Some(&all[2]), "{between:?}");
    // All in one reply, too.
    let whole = client.call("Logs", json!({"units": both, "lines": 3, "follow": false})).unwrap();
    assert_eq!(whole["entries"], json!(&all[7..]));
    for (parameters, parameter) in [
        (json!({"units": [], "lines": 10001, "follow": false}), "lines: at most 10000, or 0 for all"),
        (json!({"units": "a", "lines": 0, "follow": false}), "invalid type"),
    ] {
        let (error, why) = client.call("Logs", parameters).unwrap_err();
        assert_eq!(error, "org.varlink.service.InvalidParameter");
        assert!(why["parameter"].as_str().unwrap().contains(parameter), "{why}");
    }
}

#[test]
fn the_kernels_lines_stand_among_those_of_services() {
    let mut kmsg = match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kmsg") {
        Ok(kmsg) => kmsg,
        Err(error) => return skip::because(format_args!("/dev/kmsg: {error}")),
    };
    let device = Device::new(&[("a.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo a $$NUMBER'\n")]);
    let _svcmgr = device.start_with(&["--kmsg", "/dev/kmsg"]);
    let name = device.dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    let mut client = device.client();
    let mut expected = Vec::new();
    for n in 0..5 {
        if let Err(error) = kmsg.write_all(format!("<12>{name}[77]: kernel {n}\n").as_bytes()) {
            return skip::because(format_args!("/dev/kmsg: {error}"));
        }
        client.call("Start", json!({"name": "a"})).unwrap();
        expected.extend([format!("kernel {n}"), "a".to_owned()]);
    }
    let mut ours = Vec::new();
    until("the last line is there", || {
        let all = lines(&mut device.client(), json!({"units": ["kernel", "a"], "lines": 0, "follow": false}));
        ours =
            all.into_iter().filter(|line| line["identifier"] == name.as_str() || line["unit"] == "a.service").collect();
        (ours.len() == 10).then_some(())
    });
    assert_eq!(texts(&ours).iter().map(|text| text.trim()).collect::<Vec<_>>(), expected);
    let fields = (&ours[0]["unit"], &ours[0]["source"], &ours[0]["priority"], &ours[0]["facility"], &ours[0]["pid"]);
    assert_eq!(fields, (&json!("kernel"), &json!("kernel"), &json!(4), &json!(1), &json!(77)));
    // The next supervisor keeps each of them once.
    let count = lines(&mut client, json!({"units": ["kernel"], "lines": 0, "follow": false})).len();
    drop(_svcmgr);
    let _svcmgr = device.start_with(&["--kmsg", "/dev/kmsg"]);
    let again = lines(&mut device.client(), json!({"units": ["kernel"], "lines": 0, "follow": false}));
    assert!(again.len() >= count && again.len() < count + 100, "{} after {count}", again.len());
    let seqs: std::collections::BTreeSet<u64> = again.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs.len(), again.len());
}

#[test]
fn a_reader_of_a_long_log_does_not_keep_the_supervisor() {
    let device = Device::new(&[(
        "long.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'seq -f \"%%.0f some more text so that it is a line\" 40000'\n",
    )]);
    let svcmgr = device.start_with(&["--logs", "4096,8192"]);
    device.client().call("Start", json!({"name": "long"})).unwrap();
    let mut readers: Vec<Client> = (0..8).map(|_| device.client()).collect();
    for reader in &mut readers {
        reader.send("Logs", json!({"units": [], "lines": 0, "follow": false}), true);
    }
    let reading = std::thread::spawn(move || {
        readers.iter_mut().for_each(|reader| {
            let mut count = 0;
            while reader.receive().unwrap().get("continues").is_some() {
                count += 1;
            }
            assert_eq!(count, 39_999);
        });
    });
    // In the supervisor's own time: how long it has to wait for a processor is not its doing.
    let mut longest = std::time::Duration::ZERO;
    let mut client = device.client();
    while !reading.is_finished() {
        let before = processor_time(svcmgr.child.id());
        client.call("GetMode", json!({})).unwrap();
        longest = longest.max(processor_time(svcmgr.child.id()) - before);
    }
    reading.join().unwrap();
    println!("the supervisor did at most {longest:?} of other work before it answered");
    assert!(longest < std::time::Duration::from_millis(500), "{longest:?}");
}
