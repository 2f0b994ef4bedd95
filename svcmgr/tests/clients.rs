//! Clients of the real supervisor: who may do what, and those that mean ill: they hurt nobody but themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use common::{Device, Svcmgr, until};
use rustix::process::{Gid, Uid};
use serde_json::{Value, json};

const SLEEP: &str = "[Service]\nExecStart=/bin/sleep 1000\n[X-MMOS]\nStart=auto\n";
/// Some number that nobody has.
const GROUP: u32 = 4242;
const NOBODY: u32 = 65534;
/// In `control`: so many of root at once, and so many of all others.
const SHARE: usize = 32;

/// Runs `work` as a user who is not root, in these groups. Identities are those of threads for the kernel; credentials(7).
fn as_nobody<T: Send>(groups: &[u32], work: impl FnOnce() -> T + Send) -> T {
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_groups(&groups).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// With a group `mmos`, in a folder that is open to all as `/run/mmos` is.
fn open_device(units: &[(&str, &str)]) -> Device {
    let device = Device::new(units);
    device.file("root/etc/group", &format!("root:x:0:\nmmos:x:{GROUP}:tester\n"));
    std::fs::set_permissions(device.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    device
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip::because("only root can become another user");
    }
    is_root
}

#[test]
fn members_of_the_group_may_look_and_change_nothing_and_strangers_cannot_connect() {
    if !is_root() {
        return;
    }
    let device = open_device(&[("a.service", SLEEP)]);
    let _svcmgr = device.start();
    device.wait_state("a", "active");
    let control = device.run().join("control");
    let socket = std::fs::metadata(&control).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid(), socket.gid()), (0o660, 0, GROUP));
    let calls = [
        ("Start", json!({"name": "a"})),
        ("Stop", json!({"name": "a"})),
        ("Restart", json!({"name": "a"})),
        ("Shutdown", json!({"ending": "halt"})),
        ("ListUnits", json!({})),
        ("Logs", json!({"units": ["a"], "lines": 0, "follow": false})),
    ];
    let said = as_nobody(&[GROUP], || {
        calls.map(|(method, parameters)| match device.client().call(method, parameters) {
            Ok(_) => "fine".to_owned(),
            Err((error, _)) => error,
        })
    });
    let denied = "org.mmos.Manager.PermissionDenied";
    assert_eq!(said, [denied, denied, denied, denied, "fine", "fine"]);
    let stranger = as_nobody(&[], || UnixStream::connect(&control).unwrap_err().kind());
    assert_eq!(stranger, std::io::ErrorKind::PermissionDenied);
    assert_eq!(device.unit_state("a")["state"], "active");
}

#[test]
fn without_the_group_only_root_can_connect() {
    if !is_root() {
        return;
    }
    let device = open_device(&[]);
    device.file("root/etc/group", "root:x:0:\n");
    let _svcmgr = device.start();
    let control = device.run().join("control");
    let said = as_nobody(&[GROUP], || UnixStream::connect(&control).unwrap_err().kind());
    assert_eq!(said, std::io::ErrorKind::PermissionDenied);
    assert!(device.client().call("GetMode", json!({})).is_ok());
    assert!(device.log().contains("there is no group mmos: only root may use the control socket"), "{}", device.log());
}

/// The supervisor's own memory, in KiB. Not what is private and dirty: of a program that was built just now its pages are,
/// too, as they are used.
fn memory(svcmgr: &Svcmgr<'_>) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", svcmgr.child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(svcmgr: &Svcmgr<'_>) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", svcmgr.child.id())).unwrap().count()
}

/// So many files this process may have open at once.
fn raise_own_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

#[test]
fn thousands_of_connections_take_a_bounded_number_of_places_and_lock_nobody_out() {
    let count = usize::try_from(raise_own_limit().min(3100)).unwrap() - 100;
    let device = open_device(&[("a.service", SLEEP)]);
    let svcmgr = device.start();
    device.wait_state("a", "active");
    let before = (memory(&svcmgr), descriptors(&svcmgr));
    let control = device.run().join("control");
    let connect = || until("it is accepted", || UnixStream::connect(&control).ok());
    let idle: Vec<UnixStream> = (0..count).map(|_| connect()).collect();
    assert!(device.client().call("GetMode", json!({})).is_ok());
    let with_them = (memory(&svcmgr), descriptors(&svcmgr));
    println!("{count} connections: KiB and descriptors {before:?} before, {with_them:?} with them");
    assert!(with_them.1 <= before.1 + SHARE, "{with_them:?}");
    assert!(with_them.0 <= before.0 + 512, "{with_them:?}");
    drop(idle);
    // Followers do not idle; yet they have to make room, too, for one who asks.
    let mut followers = Vec::new();
    for _ in 0..3 * SHARE {
        let mut follower = device.client();
        follower.send("Logs", json!({"units": ["a"], "lines": 0, "follow": true}), true);
        followers.push(follower);
    }
    assert_eq!(device.unit_state("a")["state"], "active");
    assert!(descriptors(&svcmgr) <= before.1 + SHARE);
    if is_root() {
        // What others do is none of root's business, and the other way round.
        let mut root = device.client();
        root.call("GetMode", json!({})).unwrap();
        let answered = as_nobody(&[GROUP], || {
            let held: Vec<UnixStream> = (0..4 * SHARE).map(|_| connect()).collect();
            let answered = device.client().call("GetMode", json!({})).is_ok();
            drop(held);
            answered
        });
        assert!(answered && root.call("GetMode", json!({})).is_ok());
    }
}

#[test]
fn one_who_never_reads_his_answers_costs_no_more_than_some_of_them() {
    let names: Vec<String> = (0..500).map(|n| format!("u{n}.service")).collect();
    let text = SLEEP.replace("auto", "demand");
    let device = Device::new(&names.iter().map(|name| (name.as_str(), text.as_str())).collect::<Vec<_>>());
    let svcmgr = device.start();
    let call = b"{\"method\":\"org.mmos.Manager.ListUnits\"}\0";
    let mut client = device.client();
    // What making an answer takes is there once.
    client.call("ListUnits", json!({})).unwrap();
    let before = memory(&svcmgr);
    let mut deaf: Vec<UnixStream> =
        (0..SHARE - 2).map(|_| UnixStream::connect(device.run().join("control")).unwrap()).collect();
    for stream in &mut deaf {
        stream.set_nonblocking(true).unwrap();
        // Until nobody takes them any more.
        let mut sent = 0;
        while stream.write(call).is_ok_and(|n| n == call.len()) {
            sent += 1;
            assert!(sent < 1_000_000, "all calls are taken, and their answers kept");
        }
    }
    for _ in 0..10 {
        assert_eq!(client.call("ListUnits", json!({})).unwrap()["units"].as_array().map(Vec::len), Some(500));
    }
    let with_them = memory(&svcmgr);
    println!("{before} KiB before, {with_them} KiB with {} who do not read", deaf.len());
    // 2 MiB wait for them at most.
    assert!(with_them <= before + 3072, "{with_them}");
}

#[test]
fn rubbish_of_every_sort_ends_the_connection_and_nothing_else() {
    let device = Device::new(&[("a.service", SLEEP)]);
    let svcmgr = device.start();
    let pid = device.wait_state("a", "active")["pid"].clone();
    let before = (memory(&svcmgr), descriptors(&svcmgr));
    let control = device.run().join("control");
    let deep = [b"{\"method\":".to_vec(), vec![b'['; 60_000], vec![0]].concat();
    let numbers = [
        b"{\"method\":\"org.mmos.Manager.Logs\",\"parameters\":{\"lines\":".to_vec(),
        vec![b'9'; 60_000],
        b"}}\0".to_vec(),
    ]
    .concat();
    let seed = 0x2545_F491_4F6C_DD1D_u64;
    let noise: Vec<u8> = (0..60_000_u64).map(|n| ((n + 1).wrapping_mul(seed) >> 33).to_le_bytes()[0]).collect();
    for round in 0..20 {
        for rubbish in [&deep, &numbers, &noise, &vec![0; 60_000], &vec![b'x'; 1 << 20], &b"{}\0".to_vec()] {
            let mut stream = UnixStream::connect(&control).unwrap();
            // It may be cut off in the midst of it.
            let _ = stream.write_all(rubbish);
            if round % 2 == 0 {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
        }
        assert_eq!(device.client().call("GetUnit", json!({"name": "a"})).unwrap()["unit"]["pid"], pid);
    }
    // Calls with everything wrong in them are answered with what is wrong.
    let mut client = device.client();
    for parameters in
        [json!(null), json!([]), json!("x"), json!({"name": null}), json!({"name": 7}), json!({"name": "\u{0}"})]
    {
        let error: Result<Value, _> = client.call("GetUnit", parameters);
        assert!(error.is_err());
    }
    drop(client);
    let mut client = device.client();
    client.call("GetMode", json!({})).unwrap();
    let after = (memory(&svcmgr), descriptors(&svcmgr));
    assert!(after.1 <= before.1 + 1, "{before:?} {after:?}");
    assert!(after.0 <= before.0 + 1024, "{before:?} {after:?}");
}
