//! The client against a supervisor that is away, slow, dies, or talks rubbish: scripted on a plain Unix socket.
#![cfg(feature = "control")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mmos::control::{Client, Ending, Error, LogQuery, State};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// What the supervisor does with a request. After the last one of a connection it hangs up.
enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Hangs up without an answer.
    Die,
    /// Waits until the caller hangs up.
    Silence,
}

/// A supervisor that takes one connection for each script, and returns all requests that it read.
struct Scripted {
    path: PathBuf,
    thread: JoinHandle<Vec<Value>>,
    _folder: tempfile::TempDir,
}

fn reply(parameters: &Value) -> Vec<u8> {
    let mut bytes = json!({ "parameters": parameters }).to_string().into_bytes();
    bytes.push(0);
    bytes
}

fn unit(state: &str) -> Value {
    json!({"name": "a.service", "description": "", "path": "/x", "start": "auto", "startFrom": "unit", "state": state,
           "reason": "", "status": "", "restarts": 0, "logOverwritten": 0, "logDropped": 0, "pid": 5})
}

impl Scripted {
    fn with(scripts: Vec<Vec<Step>>) -> Scripted {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for script in scripts {
                let (mut stream, _) = listener.accept().unwrap();
                for step in script {
                    requests.push(request(&mut stream));
                    match step {
                        Step::Send(bytes) => stream.write_all(&bytes).unwrap(),
                        Step::Die => break,
                        Step::Silence => drop(stream.read(&mut [0; 16])),
                    }
                }
            }
            requests
        });
        Scripted { path, thread, _folder: folder }
    }

    fn client(&self) -> Client {
        Client::connect_to(&self.path, SOON).unwrap()
    }

    fn requests(self) -> Vec<Value> {
        self.thread.join().unwrap()
    }
}

fn request(stream: &mut UnixStream) -> Value {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != 0 {
        bytes.push(byte[0]);
    }
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn calls_go_out_as_varlink_wants_them_and_follow_each_other_on_one_connection() {
    let supervisor = Scripted::with(vec![vec![
        Step::Send(reply(&json!({"units": [unit("active")]}))),
        Step::Send(reply(&json!({"unit": unit("inactive")}))),
        // Absent parameters are as good as empty ones.
        Step::Send(b"{}\0".to_vec()),
    ]]);
    let mut client = supervisor.client();
    let units = client.units().unwrap();
    assert_eq!((units[0].name.as_str(), &units[0].state, units[0].pid), ("a.service", &State::active, Some(5)));
    assert_eq!(units[0].exitCode, None);
    assert_eq!(client.stop("a.service").unwrap().state, State::inactive);
    client.shutdown(Ending::poweroff).unwrap();
    assert_eq!(
        supervisor.requests(),
        [
            json!({"method": "org.mmos.Manager.ListUnits", "parameters": {}}),
            json!({"method": "org.mmos.Manager.Stop", "parameters": {"name": "a.service"}}),
            json!({"method": "org.mmos.Manager.Shutdown", "parameters": {"ending": "poweroff"}}),
        ]
    );
}

#[test]
fn a_call_that_the_supervisors_death_broke_off_is_made_again() {
    let supervisor = Scripted::with(vec![
        vec![Step::Die],
        vec![Step::Send(b"{\"parameters\": {\"un".to_vec())],
        vec![Step::Send(reply(&json!({"unit": unit("active")})))],
    ]);
    assert_eq!(supervisor.client().start("a.service").unwrap().state, State::active);
    let start = json!({"method": "org.mmos.Manager.Start", "parameters": {"name": "a.service"}});
    assert_eq!(supervisor.requests(), [start.clone(), start.clone(), start]);
}

/// A unit that was started at `at`.
fn started(state: &str, at: u64) -> Vec<u8> {
    let mut unit = unit(state);
    unit["startedAt"] = at.into();
    reply(&json!({"unit": unit}))
}

/// What is asked when the supervisor dies of a restart, and its successor gives `now` for the unit.
fn asked_after_a_death(now: Vec<u8>) -> Vec<String> {
    let supervisor = Scripted::with(vec![
        vec![Step::Send(started("active", 7)), Step::Die],
        vec![Step::Send(now), Step::Send(reply(&json!({"unit": unit("active")})))],
    ]);
    supervisor.client().restart("a.service").unwrap();
    let method = |call: &Value| call["method"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
    supervisor.requests().iter().map(method).collect()
}

#[test]
fn a_restart_that_the_supervisors_death_broke_off_is_made_once() {
    let begun = ["GetUnit", "Restart", "GetUnit", "Start"];
    assert_eq!(asked_after_a_death(started("stopping", 7)), begun);
    assert_eq!(asked_after_a_death(started("queued", 7)), begun);
    assert_eq!(asked_after_a_death(started("active", 9)), begun);
    // It died before it had heard.
    assert_eq!(asked_after_a_death(started("active", 7)), ["GetUnit", "Restart", "GetUnit", "Restart"]);
}

#[test]
fn a_supervisor_that_dies_of_every_call_is_given_up() {
    let scripts = (0..5).map(|_| vec![Step::Die]).collect();
    let supervisor = Scripted::with(scripts);
    let error = supervisor.client().units().unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
    assert_eq!(supervisor.requests().len(), 5);
}

#[test]
fn a_wait_has_an_end_and_the_next_call_a_connection_of_its_own() {
    let supervisor =
        Scripted::with(vec![vec![Step::Silence], vec![Step::Send(reply(&json!({"unit": unit("active")})))]]);
    let mut client = supervisor.client();
    let begun = Instant::now();
    let error = client.wait_boot(Some(Duration::from_millis(50))).unwrap_err();
    assert!(matches!(error, Error::TimedOut { method: "WaitBoot", .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(client.unit("a.service").unwrap().state, State::active);
}

#[test]
fn rubbish_is_named_as_such() {
    for (what, bytes) in [
        ("no JSON", b"hello\0".to_vec()),
        ("no object", b"[1]\0".to_vec()),
        ("no units", reply(&json!({"units": 7}))),
        ("a state of another version", reply(&json!({"units": [unit("levitating")]}))),
        ("nothing", b"\0".to_vec()),
    ] {
        let supervisor = Scripted::with(vec![vec![Step::Send(bytes)]]);
        let error = supervisor.client().units().unwrap_err();
        assert!(matches!(error, Error::Unintelligible { .. }), "{what}: {error}");
        assert!(!error.is_no_answer());
    }
}

#[test]
fn a_unit_with_fields_of_a_later_version_is_understood() {
    let mut later = unit("done");
    later["cpuSeconds"] = json!(3);
    let supervisor = Scripted::with(vec![vec![Step::Send(reply(&json!({"unit": later, "more": []})))]]);
    assert_eq!(supervisor.client().unit("a.service").unwrap().state, State::done);
}

#[test]
fn errors_of_the_interface_become_errors_of_ours() {
    let error = |name: &str, parameters: &Value| {
        let mut bytes = json!({"error": name, "parameters": parameters}).to_string().into_bytes();
        bytes.push(0);
        bytes
    };
    let supervisor = Scripted::with(vec![vec![
        Step::Send(error("org.mmos.Manager.JobFailed", &json!({"name": "a.service", "reason": "exit code 3"}))),
        // The connection is still good after an error that is an answer.
        Step::Send(error("org.varlink.service.MethodNotFound", &json!({"method": "x"}))),
    ]]);
    let mut client = supervisor.client();
    assert_eq!(client.start("a").unwrap_err().to_string(), "a.service: exit code 3");
    let error = client.units().unwrap_err().to_string();
    assert!(error.contains("org.varlink.service.MethodNotFound"), "{error}");
}

#[test]
fn log_lines_come_one_by_one_several_in_one_read_and_end_with_the_last() {
    let line = |seq: i64| {
        json!({"seq": seq, "time": 1, "unit": "a.service", "priority": 6, "text": format!("{seq}"),
        "cursor": seq, "wall": 1, "source": "output", "identifier": "", "fields": {}})
    };
    let mut bytes = Vec::new();
    for seq in 1..=3 {
        let mut one = json!({"parameters": {"entries": [line(seq)]}, "continues": true}).to_string().into_bytes();
        one.push(0);
        bytes.extend(one);
    }
    bytes.extend(reply(&json!({"entries": [line(4), line(5)]})));
    let supervisor = Scripted::with(vec![vec![Step::Send(bytes)]]);
    let seqs: Vec<i64> =
        supervisor.client().logs(&LogQuery::of("a.service")).unwrap().map(|line| line.unwrap().seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert_eq!(
        supervisor.requests(),
        [json!({"method": "org.mmos.Manager.Logs", "more": true,
                "parameters": {"units": ["a.service"], "lines": 0, "follow": false}})]
    );
}

#[test]
fn a_log_that_breaks_off_ends_with_one_error() {
    let bytes = b"{\"continues\":true,\"parameters\":{\"entries\":[]}}\0".to_vec();
    let supervisor = Scripted::with(vec![vec![Step::Send(bytes)]]);
    let mut logs = supervisor.client().logs(&LogQuery { follow: true, ..LogQuery::of("a.service") }).unwrap();
    assert!(matches!(logs.next(), Some(Err(Error::Gone { .. }))));
    assert!(logs.next().is_none());
}

#[test]
fn no_socket_and_no_folder_for_it_is_known_at_once() {
    let begun = Instant::now();
    let error = Client::connect_to(Path::new("/nowhere/mmos/control"), Duration::from_secs(60)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(error.to_string().contains("/nowhere/mmos/control"), "{error}");
    assert!(error.to_string().contains("does not look like mmos"), "{error}");
}

#[test]
fn a_supervisor_that_comes_back_in_time_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let caller = std::thread::spawn({
        let path = path.clone();
        move || Client::connect_to(&path, SOON).map(|_| ())
    });
    // Without patience the same is an error, with the remedy.
    let error = Client::connect_to(&path, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("init starts it again"), "{error}");
    let _listener = UnixListener::bind(&path).unwrap();
    caller.join().unwrap().unwrap();
}

#[test]
fn a_socket_whose_queue_is_full_does_not_hold_the_caller_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    // Nobody accepts, and the queue is shorter than the number of files that a user may open.
    rustix::net::listen(&listener, 8).unwrap();
    let mut callers = Vec::new();
    let error = loop {
        match Client::connect_to(&path, Duration::ZERO) {
            Ok(client) => callers.push(client),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("queue of callers is full"), "{error}");
}
