//! A supervisor that does nothing but answer, on a socket of its own: the varlink crate's server around the interface
//! file, so that what mmosctl says is read by another implementation than ours.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mmos::control::interface::{
    BootStage, BootSupervisor, BootUnit, Call_GetBoot, Call_GetMode, Call_GetUnit, Call_ListCrashes, Call_ListUnits,
    Call_Logs, Call_Reexec, Call_Restart, Call_Shutdown, Call_Start, Call_Stop, Call_WaitBoot, Crash, CrashKind,
    Ending, LogLine, LogSource, StartType, State, Unit, VarlinkInterface,
};

/// What the stand-in was asked to do.
pub type Asked = Arc<Mutex<Vec<String>>>;

struct StandIn {
    units: Vec<Unit>,
    asked: Asked,
    follow: Arc<AtomicBool>,
    core: PathBuf,
}

/// The stand-in, listening; its folder and its thread end with it.
pub struct Supervisor {
    pub socket: PathBuf,
    pub asked: Asked,
    /// A reader of `logs -f` gets its second half once this is set.
    pub follow: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

pub fn unit(name: &str, state: State) -> Unit {
    Unit {
        name: name.into(),
        description: format!("Description of {name}"),
        path: format!("/etc/mmos/units/{name}"),
        start: StartType::auto,
        startFrom: "unit".into(),
        state,
        reason: String::new(),
        status: String::new(),
        pid: None,
        restarts: 0,
        exitCode: None,
        exitSignal: None,
        startedAt: None,
        activeAt: None,
        nextElapse: None,
        logOverwritten: 0,
        logDropped: 0,
    }
}

impl Supervisor {
    pub fn with(units: Vec<Unit>) -> Supervisor {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control");
        let asked = Asked::default();
        let (stop, follow) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let core = folder.path().join("core.lz4");
        let stand_in = StandIn { units, asked: asked.clone(), follow: follow.clone(), core };
        let interface = mmos::control::interface::new(Box::new(stand_in));
        let service = varlink::VarlinkService::new("org.mmos", "stand-in", "0", "", vec![Box::new(interface)]);
        let config = varlink::ListenConfig {
            stop_listening: Some(stop.clone()),
            idle_timeout: 0,
            ..varlink::ListenConfig::default()
        };
        let address = format!("unix:{}", socket.display());
        let thread = std::thread::spawn(move || varlink::listen(service, &address, &config).unwrap());
        until("the stand-in listens", || socket.exists());
        Supervisor { socket, asked, follow, stop, thread: Some(thread), _folder: folder }
    }

    /// Runs mmosctl against it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = mmosctl();
        command.arg("--socket").arg(&self.socket).args(args);
        command
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.follow.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn mmosctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmosctl"));
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    command
}

/// Waits until something is so; fails the test if it takes too long.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

impl StandIn {
    fn find(&self, name: &str) -> Option<Unit> {
        self.units.iter().find(|unit| unit.name == name).cloned()
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

impl VarlinkInterface for StandIn {
    fn reexec(&self, call: &mut dyn Call_Reexec) -> varlink::Result<()> {
        call.reply()
    }

    fn get_mode(&self, call: &mut dyn Call_GetMode) -> varlink::Result<()> {
        call.reply(true, "factory".into(), "1.2".into(), "Default".into(), "0.1".into(), 77)
    }

    fn get_unit(&self, call: &mut dyn Call_GetUnit, name: String) -> varlink::Result<()> {
        match self.find(&name) {
            Some(unit) => call.reply(unit),
            None => call.reply_no_such_unit(name),
        }
    }

    fn list_units(&self, call: &mut dyn Call_ListUnits) -> varlink::Result<()> {
        call.reply(self.units.clone())
    }

    /// A core, whose contents lie beside the socket, and a kernel's record.
    fn list_crashes(&self, call: &mut dyn Call_ListCrashes) -> varlink::Result<()> {
        let core = Crash {
            id: "12345-77".into(),
            kind: CrashKind::core,
            time: Some(12_345_000),
            wall: 1_769_868_312_345_000,
            unit: Some("hello.service".into()),
            pid: Some(77),
            uid: Some(0),
            signal: Some(11),
            command: "hello".into(),
            program: "/usr/bin/hello".into(),
            arguments: vec!["hello".into(), "--loud".into()],
            reason: String::new(),
            bytes: 400_000,
            kept: 20_000,
            cut: true,
            path: self.core.display().to_string(),
        };
        let kernel = Crash {
            id: "kernel-dmesg-ramoops-0".into(),
            kind: CrashKind::kernel,
            time: None,
            wall: 1_769_868_000_000_000,
            unit: None,
            pid: None,
            uid: None,
            signal: None,
            command: String::new(),
            program: String::new(),
            arguments: vec![],
            reason: "Kernel panic - not syncing: x".into(),
            cut: false,
            path: "/nowhere".into(),
            ..core.clone()
        };
        call.reply(vec![kernel, core])
    }

    /// Each unit took its number in milliseconds, and came after the one before it.
    fn get_boot(&self, call: &mut dyn Call_GetBoot) -> varlink::Result<()> {
        let mut units: Vec<BootUnit> = Vec::new();
        for (unit, n) in self.units.iter().zip(1..) {
            let begin = units.last().and_then(|before| before.readyAt).unwrap_or(1_000_000);
            units.push(BootUnit {
                name: unit.name.clone(),
                description: unit.description.clone(),
                start: unit.start.clone(),
                state: unit.state.clone(),
                reason: unit.reason.clone(),
                queuedAt: 1_000_000,
                runnableAt: Some(begin),
                readyAt: Some(begin + n * 1000),
                endedAt: None,
                after: units.last().map(|before| before.name.clone()).into_iter().collect(),
            });
        }
        let up_at = units.last().and_then(|unit| unit.readyAt).unwrap_or(0);
        let stage = BootStage { name: "stage2".into(), begin: 900_000, end: 950_000 };
        let supervisor = BootSupervisor { beganAt: 960_000, loadedAt: 990_000, bootedAt: 1_001_000 };
        call.reply(true, up_at, vec![stage], supervisor, units)
    }

    /// Lines 1 to 3, of which as many as are asked for; when followed, 4 and 5 later.
    fn logs(
        &self,
        call: &mut dyn Call_Logs,
        units: Vec<String>,
        lines: i64,
        follow: bool,
        since: Option<i64>,
        until: Option<i64>,
        priority: Option<i64>,
        after: Option<i64>,
    ) -> varlink::Result<()> {
        if let Some(name) = units.iter().find(|name| *name != "kernel" && self.find(name).is_none()) {
            return call.reply_no_such_unit(name.clone());
        }
        self.note(format!("logs {units:?} since {since:?} until {until:?} priority {priority:?} after {after:?}"));
        let name = units.first().cloned().unwrap_or_else(|| "hello.service".into());
        let line = |seq: i64| LogLine {
            seq,
            cursor: seq,
            time: seq * 1_000_000,
            wall: 1_769_868_300_000_000 + seq * 1_000_000,
            unit: name.clone(),
            priority: if seq == 2 { 3 } else { 6 },
            facility: None,
            source: LogSource::output,
            pid: (seq == 3).then_some(7),
            identifier: if seq == 3 { "helper".into() } else { String::new() },
            fields: varlink::StringHashMap::default(),
            text: format!("line {seq}"),
        };
        let first = if lines == 0 { 1 } else { 4 - lines.min(3) };
        if !call.wants_more() {
            return call.reply((first..=3).map(line).collect());
        }
        call.set_continues(true);
        for seq in first..=3 {
            call.reply(vec![line(seq)])?;
        }
        if follow {
            self::until("the test lets the log go on", || self.follow.load(Ordering::SeqCst));
            call.reply(vec![line(4)])?;
            call.set_continues(false);
            return call.reply(vec![line(5)]);
        }
        call.set_continues(false);
        call.reply(vec![])
    }

    fn start(&self, call: &mut dyn Call_Start, name: String) -> varlink::Result<()> {
        self.note(format!("start {name}"));
        match self.find(&name) {
            None => call.reply_no_such_unit(name),
            Some(unit) if unit.state == State::refused => call.reply_unit_refused(name, unit.reason),
            Some(unit) if unit.state == State::failed => call.reply_job_failed(name, unit.reason),
            Some(unit) => call.reply(unit),
        }
    }

    fn stop(&self, call: &mut dyn Call_Stop, name: String) -> varlink::Result<()> {
        self.note(format!("stop {name}"));
        match self.find(&name) {
            None => call.reply_no_such_unit(name),
            Some(mut unit) => {
                unit.state = State::inactive;
                call.reply(unit)
            }
        }
    }

    fn restart(&self, call: &mut dyn Call_Restart, name: String) -> varlink::Result<()> {
        self.note(format!("restart {name}"));
        call.reply_permission_denied("only root may restart units; you are uid 1000".into())
    }

    fn shutdown(&self, call: &mut dyn Call_Shutdown, ending: Ending) -> varlink::Result<()> {
        self.note(format!("shutdown {ending:?}"));
        call.reply()
    }

    /// Answers when nothing is starting; until then it keeps the caller waiting.
    fn wait_boot(&self, call: &mut dyn Call_WaitBoot) -> varlink::Result<()> {
        if self.units.iter().any(|unit| unit.state == State::starting) {
            until("the test ends", || self.follow.load(Ordering::SeqCst));
        }
        let failed: Vec<Unit> = self.units.iter().filter(|u| u.state == State::failed).cloned().collect();
        let auto = i64::try_from(self.units.len()).unwrap();
        call.reply(auto, auto - i64::try_from(failed.len()).unwrap(), failed, 3_214_000)
    }
}
