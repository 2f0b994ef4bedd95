//! Runs the real `svcmgr` on a root made of a few files, and speaks Varlink to it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests may panic")]

pub mod init;
pub mod says;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Long: it is only ever reached where something is wrong, however much else the machine does.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A root, a run folder, a folder for cgroups.
pub struct Device {
    pub dir: tempfile::TempDir,
    cgroup: Option<PathBuf>,
}

impl Device {
    pub fn new(units: &[(&str, &str)]) -> Device {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("svcmgr-test-{}", dir.path().file_name().unwrap().to_str().unwrap().replace('.', ""));
        let cgroup = cgroup2().map(|mount| mount.join(name)).filter(|folder| std::fs::create_dir(folder).is_ok());
        let device = Device { dir, cgroup };
        std::fs::create_dir_all(device.units()).unwrap();
        std::fs::create_dir_all(device.run()).unwrap();
        for (name, text) in units {
            device.unit(name, text);
        }
        device
    }

    pub fn without_cgroups(units: &[(&str, &str)]) -> Device {
        let mut device = Device::new(units);
        if let Some(folder) = device.cgroup.take() {
            std::fs::remove_dir(folder).unwrap();
        }
        device
    }

    pub fn units(&self) -> PathBuf {
        self.dir.path().join("root/etc/mmos/units")
    }

    pub fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn unit(&self, name: &str, text: &str) {
        std::fs::write(self.units().join(name), text.replace("DIR", self.dir.path().to_str().unwrap())).unwrap();
    }

    /// What the log holds so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    pub fn arguments(&self) -> Vec<String> {
        let cgroup = self.cgroup.as_ref().map_or("none".to_owned(), |folder| folder.display().to_string());
        let root = self.dir.path().join("root").display().to_string();
        ["--root", &root, "--run", &self.run().display().to_string(), "--cgroup", &cgroup].map(str::to_owned).to_vec()
    }

    pub fn log_file(&self) -> std::fs::File {
        std::fs::OpenOptions::new().append(true).create(true).open(self.dir.path().join("log")).unwrap()
    }

    pub fn start(&self) -> Svcmgr<'_> {
        self.start_with(&[])
    }

    pub fn start_with(&self, more: &[&str]) -> Svcmgr<'_> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_svcmgr"));
        command.args(self.arguments()).args(more);
        self.spawn(command)
    }

    /// With a variable in its environment.
    pub fn start_with_variable(&self, name: &str, value: &str) -> Svcmgr<'_> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_svcmgr"));
        command.args(self.arguments()).env(name, value);
        self.spawn(command)
    }

    /// With so many descriptors at most.
    pub fn start_limited(&self, descriptors: u32) -> Svcmgr<'_> {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_svcmgr")]).args(self.arguments());
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Svcmgr<'_> {
        let child = command.stderr(Stdio::from(self.log_file())).spawn().unwrap();
        let svcmgr = Svcmgr { device: self, child };
        until("the control socket answers", || UnixStream::connect(self.run().join("control")).ok());
        svcmgr
    }

    pub fn client(&self) -> Client {
        until("the control socket takes a client", || Client::connect(&self.run().join("control")).ok())
    }

    pub fn unit_state(&self, name: &str) -> Value {
        self.client().call("GetUnit", json!({"name": name})).unwrap()["unit"].clone()
    }

    pub fn wait_state(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} is {state}; log:\n{}", self.log()), || {
            let unit = self.unit_state(name);
            (unit["state"] == state).then_some(unit)
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let Some(folder) = &self.cgroup else { return };
        for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|e| e.path().is_dir()) {
            let _ = std::fs::write(entry.path().join("cgroup.kill"), "1");
            let end = Instant::now().checked_add(DEADLINE).unwrap();
            while std::fs::remove_dir(entry.path()).is_err() && Instant::now() < end {
                std::thread::yield_now();
            }
        }
        let _ = std::fs::remove_dir(folder);
    }
}

/// A running `svcmgr`; told to stop everything when dropped.
pub struct Svcmgr<'a> {
    pub device: &'a Device,
    pub child: Child,
}

impl Svcmgr<'_> {
    /// Tells it to stop everything and waits for its end.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        until(&format!("svcmgr ends; log:\n{}", self.device.log()), || self.child.try_wait().unwrap())
    }
}

impl Drop for Svcmgr<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.device.log());
        }
        if self.child.try_wait().unwrap().is_none() {
            self.stop();
        }
    }
}

pub struct Client {
    pub socket: UnixStream,
    rest: Vec<u8>,
}

impl Client {
    /// At once, or not: with no supervisor there, its socket takes so many and then has the next one wait for ever.
    pub fn connect(path: &Path) -> std::io::Result<Client> {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Client { socket, rest: Vec::new() })
    }

    pub fn send(&mut self, method: &str, parameters: Value, more: bool) {
        let method = if method.contains('.') { method.to_owned() } else { format!("org.mmos.Manager.{method}") };
        let mut bytes = serde_json::to_vec(&json!({"method": method, "parameters": parameters, "more": more})).unwrap();
        bytes.push(0);
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next reply; `None` if there is no more to come.
    pub fn receive(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == 0) {
                let rest = self.rest.split_off(at.checked_add(1).unwrap());
                let mut message = std::mem::replace(&mut self.rest, rest);
                message.pop();
                return Some(serde_json::from_slice(&message).unwrap());
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.rest.extend_from_slice(buffer.get(..n).unwrap()),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// Calls; the parameters of the reply, or the error's name and parameters.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, (String, Value)> {
        self.send(method, parameters, false);
        let reply = self.receive().expect("svcmgr hung up");
        match reply.get("error") {
            Some(error) => Err((error.as_str().unwrap().to_owned(), reply["parameters"].clone())),
            None => Ok(reply["parameters"].clone()),
        }
    }
}

/// Waits for something to become so.
pub fn until<T>(what: &str, mut so: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now().checked_add(DEADLINE).unwrap();
    loop {
        if let Some(value) = so() {
            return value;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn alive(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(PathBuf::from(line.split(' ').nth(1)?))
}
