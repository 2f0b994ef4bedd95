//! Services of `Type=dbus` with a real `dbus-daemon`: up once their names are owned, also where the bus comes later.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use common::{Device, until};
use serde_json::json;

/// A bus of our own, which ends with the test.
struct Bus(Child);

impl Bus {
    /// Where it listens: `bus` beneath the device's folder.
    fn start(device: &Device) -> Bus {
        let folder = device.dir.path().display();
        device.file(
            "bus.conf",
            &format!(
                "<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>\
                 <policy context='default'><allow own='*'/><allow send_destination='*'/><allow receive_sender='*'/>\
                 </policy></busconfig>"
            ),
        );
        let daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--config-file"])
            .arg(device.dir.path().join("bus.conf"))
            .stderr(Stdio::from(device.log_file()))
            .spawn()
            .unwrap();
        let path = device.dir.path().join("bus");
        until("the bus listens", || UnixStream::connect(&path).ok());
        Bus(daemon)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn has_dbus() -> bool {
    if Command::new("dbus-daemon").arg("--version").stdout(Stdio::null()).status().is_ok() {
        return true;
    }
    skip::because("there is no dbus-daemon (package dbus-daemon)");
    false
}

/// A call of the bus, marshalled by hand: little-endian, the arguments `s`, or `su` with 0 as the number.
fn call(serial: u32, member: &str, name: Option<&str>) -> Vec<u8> {
    let pad = |bytes: &mut Vec<u8>, to: usize| bytes.resize(bytes.len().next_multiple_of(to), 0);
    let put = |bytes: &mut Vec<u8>, text: &str| {
        pad(bytes, 4);
        bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.bytes());
        bytes.push(0);
    };
    let mut body = Vec::new();
    if let Some(name) = name {
        put(&mut body, name);
        pad(&mut body, 4);
        body.extend([0; 4]);
    }
    let mut fields = Vec::new();
    let bus = "org.freedesktop.DBus";
    for (code, kind, text) in [(1, b'o', "/org/freedesktop/DBus"), (2, b's', bus), (3, b's', member), (6, b's', bus)] {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        put(&mut fields, text);
    }
    if name.is_some() {
        pad(&mut fields, 8);
        fields.extend([8, 1, b'g', 0, 2, b's', b'u', 0]);
    }
    let mut message = vec![b'l', 1, 0, 1];
    for number in [body.len(), usize::try_from(serial).unwrap(), fields.len()] {
        message.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

#[test]
#[ignore = "not a test: a service of one"]
fn owns_a_name() {
    let path = std::env::var("BUS").expect("run by the supervisor");
    let mut bus = until("there is a bus", || UnixStream::connect(&path).ok());
    let uid: String = rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
    bus.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 256];
    assert!(bus.read(&mut answer).unwrap() > 0 && answer.starts_with(b"OK"));
    bus.write_all(b"BEGIN\r\n").unwrap();
    bus.write_all(&call(1, "Hello", None)).unwrap();
    // Not before somebody says so, where somebody is to.
    if let Ok(path) = std::env::var("GO") {
        until("it may own its name", || std::path::Path::new(&path).exists().then_some(()));
    }
    bus.write_all(&call(2, "RequestName", Some("org.example.Test"))).unwrap();
    while bus.read(&mut answer).unwrap() > 0 {}
}

fn service(device: &Device, more: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let bus = device.dir.path().join("bus");
    format!(
        "[Service]\nType=dbus\nBusName=org.example.Test\nTimeoutStartSec=15\nEnvironment=BUS={}\n{more}\n\
         ExecStart={} --ignored --exact owns_a_name\n",
        bus.display(),
        this.display()
    )
}

#[test]
fn a_service_is_up_once_its_name_is_owned() {
    if !has_dbus() {
        return;
    }
    let device = Device::new(&[]);
    device.unit("d.service", &service(&device, "Environment=GO=DIR/go"));
    let _bus = Bus::start(&device);
    let address = format!("unix:path={}/bus", device.dir.path().display());
    let _svcmgr = device.start_with_variable("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let mut client = device.client();
    client.send("Start", json!({"name": "d"}), false);
    device.wait_state("d", "starting");
    device.file("go", "");
    assert_eq!(client.receive().unwrap()["parameters"]["unit"]["state"], "active");
    device.client().call("Stop", json!({"name": "d"})).unwrap();
    // The name is gone with it, so that the next start waits for it anew; and it is there already when it is asked for.
    assert_eq!(device.client().call("Start", json!({"name": "d"})).unwrap()["unit"]["state"], "active");
}

#[test]
fn a_bus_that_comes_later_is_found_and_one_who_ends_before_has_failed() {
    if !has_dbus() {
        return;
    }
    let device = Device::new(&[]);
    device.unit("d.service", &service(&device, ""));
    device.unit("never.service", "[Service]\nType=dbus\nBusName=org.example.Never\nExecStart=/bin/true\n");
    let address = format!("unix:path={}/bus", device.dir.path().display());
    let _svcmgr = device.start_with_variable("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let mut client = device.client();
    client.send("Start", json!({"name": "d"}), false);
    let (_, failed) = device.client().call("Start", json!({"name": "never"})).unwrap_err();
    assert_eq!(failed["reason"], "exited with code 0 before its name was on the bus (BusName=)");
    let _bus = Bus::start(&device);
    assert_eq!(client.receive().unwrap()["parameters"]["unit"]["state"], "active");
}
