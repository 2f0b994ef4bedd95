//! Services that are started by what arrives on their sockets: real sockets, real services, real clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use common::{DEADLINE, Device, says, until};
use serde_json::{Value, json};

#[test]
#[ignore = "not a test: a service of some"]
fn serves() {
    let given = says::given();
    let names: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    match std::env::var("MODE").expect("run by the supervisor").as_str() {
        // Answers one client, then ends.
        "one" => {
            let told = names.join(" ");
            let listener = UnixListener::from(given.into_iter().next().unwrap().1);
            let (mut client, _) = listener.accept().unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            client.write_all(format!("{told}: {text}").as_bytes()).unwrap();
        }
        // Tells what it was given, and stays.
        "names" => {
            let told: Vec<String> = given
                .iter()
                .map(|(name, fd)| {
                    let waits = !rustix::fs::fcntl_getfl(fd).unwrap().contains(rustix::fs::OFlags::NONBLOCK);
                    format!("{name} {}", if waits { "waits" } else { "does not wait" })
                })
                .collect();
            says::write("names", &told.join("\n"));
            says::rest();
        }
        other => panic!("no mode {other}"),
    }
}

fn service(mode: &str, more: &str) -> String {
    format!("[Service]\n{}{more}\n", says::lines("serves", mode))
}

/// Connects as soon as there is anything to connect to.
fn connect(device: &Device, name: &str) -> UnixStream {
    let path = device.dir.path().join(name);
    let stream = until(&format!("{name} takes a client; log:\n{}", device.log()), || UnixStream::connect(&path).ok());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn ask(device: &Device, name: &str, text: &str) -> String {
    let mut stream = connect(device, name);
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{error}; log:\n{}", device.log()));
    answer
}

fn wait_status(device: &Device, name: &str, status: &str) -> Value {
    until(&format!("{name} is {status}; log:\n{}", device.log()), || {
        let unit = device.unit_state(name);
        (unit["status"] == status).then_some(unit)
    })
}

#[test]
fn a_client_starts_the_service_and_one_that_comes_while_it_ends_is_served_by_its_next_run() {
    let socket = "[Socket]\nListenStream=DIR/s/x\nSocketMode=0600\nDirectoryMode=0700\nFileDescriptorName=door\nSymlinks=DIR/link\nRemoveOnStop=yes\n[X-MMOS]\nStart=auto\n";
    let limit = "[Unit]\nStartLimitBurst=100\n";
    let device = Device::new(&[("x.socket", socket), ("x.service", &format!("{limit}{}", service("one", "")))]);
    let mut svcmgr = device.start();
    let unit = wait_status(&device, "x.socket", "listening");
    assert_eq!(unit["state"], "active");
    assert_eq!(device.unit_state("x")["state"], "inactive");
    let path = device.dir.path().join("s/x");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(device.dir.path().join("s")).unwrap().mode() & 0o777, 0o700);
    for name in ["s/x", "link", "s/x"] {
        // The one before may be ending just now: this one waits in the queue, not in vain.
        assert_eq!(ask(&device, name, "hello"), "door: hello", "{}", device.log());
    }
    wait_status(&device, "x.socket", "listening");
    device.client().call("Stop", json!({"name": "x.socket"})).unwrap();
    assert!(!path.exists() && !device.dir.path().join("link").exists());
    svcmgr.stop();
}

#[test]
fn a_service_gets_all_its_sockets_however_it_is_started() {
    let device = Device::new(&[
        ("x.socket", "[Socket]\nListenStream=DIR/a\nListenDatagram=DIR/b\n"),
        ("more.socket", "[Socket]\nListenFIFO=DIR/c\nFileDescriptorName=fifo\nService=x.service\n"),
        ("x.service", &service("names", "Sockets=x.socket more.socket\nNonBlocking=no")),
    ]);
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "x"})).unwrap();
    until("it has told", || device.dir.path().join("names").exists().then_some(()));
    let mut names: Vec<String> = device.read("names").lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["fifo waits", "x.socket waits", "x.socket waits"]);
    for name in ["x.socket", "more.socket"] {
        wait_status(&device, name, "running");
    }
    device.client().call("Stop", json!({"name": "x"})).unwrap();
    wait_status(&device, "x.socket", "listening");
    // Beside a service that runs without it, a socket would be nobody's.
    device.client().call("Stop", json!({"name": "more.socket"})).unwrap();
    device.client().call("Stop", json!({"name": "x.socket"})).unwrap();
}

#[test]
fn a_datagram_and_a_line_in_a_fifo_start_their_services() {
    let device = Device::new(&[
        ("d.socket", "[Socket]\nListenDatagram=DIR/d\n[X-MMOS]\nStart=auto\n"),
        (
            "d.service",
            "[Service]\nStandardInput=socket\nStandardOutput=file:DIR/got-d\nExecStart=/bin/dd bs=64 count=1 status=none\n",
        ),
        ("f.socket", "[Socket]\nListenFIFO=DIR/f\n[X-MMOS]\nStart=auto\n"),
        (
            "f.service",
            "[Service]\nExecStart=/bin/sh -c 'read -r line <&3; echo \"$line, $LISTEN_FDNAMES\" > DIR/got-f'\n",
        ),
    ]);
    let _svcmgr = device.start();
    for name in ["d.socket", "f.socket"] {
        wait_status(&device, name, "listening");
    }
    UnixDatagram::unbound().unwrap().send_to(b"a datagram", device.dir.path().join("d")).unwrap();
    let mut fifo = std::fs::OpenOptions::new().write(true).open(device.dir.path().join("f")).unwrap();
    fifo.write_all(b"a line\n").unwrap();
    until(&format!("both have come; log:\n{}", device.log()), || {
        (device.read("got-d") == "a datagram" && device.read("got-f") == "a line, f.socket\n").then_some(())
    });
}

/// A port of this machine that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn client(port: u16) -> TcpStream {
    let stream = until("the port takes a client", || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn each_connection_has_a_service_of_its_own_and_there_are_not_more_than_may_be() {
    let port = free_port();
    let socket = format!(
        "[Socket]\nListenStream=127.0.0.1:{port}\nAccept=yes\nMaxConnections=2\nKeepAlive=yes\n[X-MMOS]\nStart=auto\n"
    );
    let echo = "[Service]\nStandardInput=socket\nExecStart=/bin/sh -c 'echo \"%i $REMOTE_ADDR $REMOTE_PORT $LISTEN_FDS $LISTEN_FDNAMES\"; read -r line; echo \"$line\"'\n";
    let device = Device::new(&[("e.socket", &socket), ("e@.service", echo)]);
    let _svcmgr = device.start();
    wait_status(&device, "e.socket", "listening");
    let greeted = |stream: &mut TcpStream| {
        let mut text = Vec::new();
        while !text.ends_with(b"\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => text.push(byte[0]),
                other => panic!("{other:?} after {text:?}; log:\n{}", device.log()),
            }
        }
        String::from_utf8(text).unwrap()
    };
    let mut streams: Vec<TcpStream> = (0..2).map(|_| client(port)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        let own = stream.local_addr().unwrap().port();
        assert_eq!(greeted(stream), format!("{n} 127.0.0.1 {own} 1 connection\n"));
    }
    assert_eq!(device.unit_state("e@1")["state"], "active");
    // One too many is closed at once.
    assert_eq!(client(port).read(&mut [0; 1]).unwrap_or(0), 0);
    until("it is told", || device.log().contains("there are 2 already (MaxConnections=)").then_some(()));
    // The place of one that has ended is given again; and its client sees the end, since nobody else holds it.
    streams[0].write_all(b"bye\n").unwrap();
    let mut rest = String::new();
    streams[0].read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
    device.wait_state("e@0", "done");
    let mut third = client(port);
    assert!(greeted(&mut third).starts_with("0 127.0.0.1 "));
    streams.clear();
    device.wait_state("e@1", "done");
    // Nor are there too many of them in a row for a start limit.
    for _ in 0..8 {
        let mut quick = client(port);
        assert!(greeted(&mut quick).starts_with("1 127.0.0.1 "));
        drop(quick);
        device.wait_state("e@1", "done");
    }
    // Those that are connected stay when the socket is closed.
    device.client().call("Stop", json!({"name": "e.socket"})).unwrap();
    third.write_all(b"still here\n").unwrap();
    assert_eq!(greeted(&mut third), "still here\n");
}

#[test]
fn connections_from_one_source_may_be_bounded() {
    let device = Device::new(&[
        ("u.socket", "[Socket]\nListenStream=DIR/u\nAccept=yes\nMaxConnectionsPerSource=1\n[X-MMOS]\nStart=auto\n"),
        ("u@.service", "[Service]\nStandardInput=socket\nExecStart=/bin/cat\n"),
    ]);
    let _svcmgr = device.start();
    let mut first = connect(&device, "u");
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(connect(&device, "u").read(&mut [0; 1]).unwrap_or(0), 0);
    until("it is told", || device.log().contains("a connection from user 0 is closed").then_some(()));
}

#[test]
fn a_service_that_takes_nothing_is_not_started_for_ever() {
    let device = Device::new(&[
        ("n.socket", "[Socket]\nListenFIFO=DIR/n\nTriggerLimitBurst=3\n[X-MMOS]\nStart=auto\n"),
        (
            "n.service",
            "[Unit]\nStartLimitBurst=0\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo run >> DIR/runs'\n",
        ),
    ]);
    let _svcmgr = device.start();
    wait_status(&device, "n.socket", "listening");
    std::fs::OpenOptions::new().write(true).open(device.dir.path().join("n")).unwrap().write_all(b"x").unwrap();
    let unit = device.wait_state("n.socket", "failed");
    assert!(unit["reason"].as_str().unwrap().contains("more than 3 times within 2 s (TriggerLimitBurst="), "{unit}");
    assert_eq!(device.read("runs"), "run\nrun\nrun\n");
}

#[test]
fn what_waits_when_the_service_ends_may_be_thrown_away() {
    let device = Device::new(&[
        ("p.socket", "[Socket]\nListenDatagram=DIR/p\nFlushPending=yes\n[X-MMOS]\nStart=auto\n"),
        ("p.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo run >> DIR/runs'\n"),
    ]);
    let _svcmgr = device.start();
    wait_status(&device, "p.socket", "listening");
    let sender = UnixDatagram::unbound().unwrap();
    for runs in ["run\n", "run\nrun\n"] {
        sender.send_to(b"x", device.dir.path().join("p")).unwrap();
        until("it has run", || (device.read("runs") == runs).then_some(()));
        device.wait_state("p", "done");
        wait_status(&device, "p.socket", "listening");
    }
    assert_eq!(device.read("runs"), "run\nrun\n");
}

#[test]
fn a_socket_that_cannot_be_had_fails_with_its_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = format!("[Socket]\nListenStream={}\n", taken.local_addr().unwrap());
    let device = Device::new(&[("t.socket", &socket), ("t.service", "[Service]\nExecStart=/bin/true\n")]);
    let _svcmgr = device.start();
    let (_, failed) = device.client().call("Start", json!({"name": "t.socket"})).unwrap_err();
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.starts_with("ListenStream=127.0.0.1:") && reason.contains("in use"), "{reason}");
}

#[test]
fn a_real_bus_takes_the_socket_that_it_is_given() {
    let Some(program) =
        ["/usr/bin/dbus-daemon", "/bin/dbus-daemon"].into_iter().find(|path| std::path::Path::new(path).exists())
    else {
        return skip::because("there is no dbus-daemon: apt-get install dbus-daemon");
    };
    let device = Device::new(&[
        ("bus.socket", "[Socket]\nListenStream=DIR/bus\n[X-MMOS]\nStart=auto\n"),
        (
            "bus.service",
            // As Debian's own dbus.service has it, but for the bus of a session, which needs no user of its own.
            &format!(
                "[Unit]\nRequires=bus.socket\n[Service]\nType=notify\nNotifyAccess=main\nExecStart={program} --config-file=DIR/bus.conf --address=systemd: --nofork --nopidfile\n"
            ),
        ),
    ]);
    device.file(
        "bus.conf",
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow send_destination=\"*\"/><allow own=\"*\"/></policy></busconfig>\n",
    );
    let _svcmgr = device.start();
    wait_status(&device, "bus.socket", "listening");
    let mut stream = connect(&device, "bus");
    // The D-Bus Specification, "Authentication Protocol": EXTERNAL, as user 0.
    stream.write_all(b"\0AUTH EXTERNAL 30\r\n").unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{error}; log:\n{}", device.log()));
    assert_eq!(&answer, b"OK ");
    device.wait_state("bus", "active");
    wait_status(&device, "bus.socket", "running");
}
