//! A test that plays PID 1 of the real `svcmgr`: holds its descriptors, reaps, and starts the next one.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use link::{Channel, FromInit, ToInit};
use rustix::process::{Pid, Signal, WaitOptions};
use serde_json::{Value, json};

use super::{Device, until};

/// Plays PID 1.
pub struct Init<'a> {
    pub device: &'a Device,
    ours: Channel,
    theirs: Channel,
    pub store: BTreeMap<String, OwnedFd>,
    /// `None` once it is dead.
    pub svcmgr: Option<Pid>,
    pub reports: VecDeque<FromInit>,
    pub said: Vec<ToInit>,
    /// What runs the supervisor, such as a tracer; nothing of that if it is empty.
    pub runner: Vec<String>,
}

impl<'a> Init<'a> {
    pub fn new(device: &'a Device) -> Init<'a> {
        Init::with_runner(device, Vec::new())
    }

    /// With words before the supervisor's, by which it is executed in the end.
    pub fn with_runner(device: &'a Device, runner: Vec<String>) -> Init<'a> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let mut init = Init {
            device,
            ours,
            theirs,
            store: BTreeMap::new(),
            svcmgr: None,
            reports: VecDeque::new(),
            said: Vec::new(),
            runner,
        };
        init.spawn();
        init
    }

    /// As PID 1 does: the stored descriptors, then what was reaped, then the beginning.
    #[expect(clippy::zombie_processes, reason = "reaped with all others in `work`")]
    pub fn spawn(&mut self) {
        for (name, fd) in &self.store {
            self.ours.send(&FromInit::Stored(name.clone()), &[std::os::fd::AsFd::as_fd(fd)]).unwrap();
        }
        for report in self.reports.drain(..) {
            self.ours.send(&report, &[]).unwrap();
        }
        self.ours.send(&FromInit::Begin, &[]).unwrap();
        let end = std::os::fd::AsFd::as_fd(&self.theirs).try_clone_to_owned().unwrap();
        // The shell puts the channel where the supervisor looks for it.
        let child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 0</dev/null", "sh"])
            .args(&self.runner)
            .arg(env!("CARGO_BIN_EXE_svcmgr"))
            .args(self.device.arguments())
            .env(link::channel::ENV, "1")
            .stdin(Stdio::from(end))
            .stderr(Stdio::from(self.device.log_file()))
            .spawn()
            .unwrap();
        self.svcmgr = Some(Pid::from_child(&child));
    }

    /// Hears the supervisor, and reaps; once the supervisor itself is reaped, `svcmgr` is `None`.
    pub fn work(&mut self) {
        while let Some(received) = self.ours.receive().unwrap() {
            match received.text.parse::<ToInit>().unwrap() {
                ToInit::Store(names) => {
                    assert_eq!(names.len(), received.fds.len(), "{names:?}");
                    self.store.extend(names.into_iter().zip(received.fds));
                }
                ToInit::Drop(name) => {
                    self.store.remove(&name);
                }
                message => self.said.push(message),
            }
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if Some(pid) == self.svcmgr {
                self.svcmgr = None;
                continue;
            }
            let report = FromInit::Reaped { pid: pid.as_raw_nonzero().get(), status: status.as_raw() };
            match self.svcmgr {
                Some(_) => self.ours.send(&report, &[]).unwrap(),
                None => self.reports.push_back(report),
            }
        }
    }

    pub fn until<T>(&mut self, what: &str, mut so: impl FnMut(&Device) -> Option<T>) -> T {
        until(&format!("{what}; log:\n{}", self.device.log()), || {
            self.work();
            so(self.device)
        })
    }

    pub fn kill_svcmgr(&mut self, signal: Signal) {
        self.work();
        rustix::process::kill_process(self.svcmgr.unwrap(), signal).unwrap();
        until("the supervisor is dead", || {
            self.work();
            self.svcmgr.is_none().then_some(())
        });
    }

    pub fn wait_state(&mut self, name: &str, state: &str) -> Value {
        self.until(&format!("{name} is {state}"), |device| {
            let unit = call(device, "GetUnit", json!({"name": name}))?["unit"].clone();
            (unit["state"] == state).then_some(unit)
        })
    }

    /// Waits until the supervisor, which is new, knows all units.
    pub fn units(&mut self) -> Value {
        self.until("the supervisor answers", |device| call(device, "ListUnits", json!({})))
    }
}

impl Drop for Init<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.device.log());
        }
        if let Some(pid) = self.svcmgr {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Asks once; `None` without a good answer.
pub fn call(device: &Device, method: &str, parameters: Value) -> Option<Value> {
    let mut client = super::Client::connect(&device.run().join("control")).ok()?;
    // Short: while the supervisor is dead its socket still takes clients, and only PID 1's work brings it back.
    client.socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let call = std::panic::AssertUnwindSafe(|| client.call(method, parameters).ok());
    std::panic::catch_unwind(call).ok().flatten()
}
