//! System calls of PID 1 fail, one in each life, by every error that matters: it must not end, and afterwards do all that
//! it does: keep a supervisor alive, keep descriptors for it and bury orphans. strace(1) makes them fail in PID 1's loop
//! alone, which runs in an ordinary process (a "subreaper"), not in the supervisors that it starts, which are this same
//! program.
//!
//! The supervisors live in cycles of three: the first stores a descriptor, hears of an orphan, and is killed with the exit
//! of another unread; the second gets both, and drops the descriptor; the third finds nothing left. A cycle that goes
//! wrong is begun anew. Of two cycles one failure can spoil one at most; so a life is whole with the second that is.
//!
//! `MMOS_FAULTS=N` has each call fail with each error at N places, `MMOS_FAULTS=all` at every one; `CALL:ERROR:N` is one
//! life. Where it is not set, each call fails by one error or two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::arithmetic_side_effects, missing_docs)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::time::{Duration, Instant};

use faults::{Place, injected};
use init::params::Watch;
use link::channel::{Channel, ENV, SVCMGR_FD};
use link::{FromInit, ToInit};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

/// Calls that are left out, and why.
const LEFT_OUT: [(&str, &str); 6] = [
    ("close", "the kernel closes the descriptor whatever it answers; one that is made to fail does not"),
    ("munmap", "likewise: memory that is given back cannot be refused"),
    ("brk", "the allocator takes no error of it: the break is where it is, whatever is answered"),
    ("rt_sigprocmask", "what it is told is the same in each life; nothing else can go wrong"),
    ("exit_group", "it does not return"),
    ("rt_sigreturn", "it does not return"),
];

/// From here on it is PID 1's loop: it takes over the signals.
const BEGINNING: &str = "SIG_BLOCK, [INT";
/// A supervisor hears what it is to hear at once; this is for a machine that is busy with others.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// A life takes less than a second, some more where a cycle goes wrong.
const LONGEST: Duration = Duration::from_secs(120);

fn main() {
    if std::env::var_os(ENV).is_some() {
        supervisor();
    }
    match std::env::args().nth(1).as_deref() {
        Some("pid-1") => pid_1(),
        _ => all_lives(),
    }
}

/// What the supervisors of one PID 1 write; named by it, whom all of them know.
fn log_of(pid_1: Pid) -> PathBuf {
    std::env::temp_dir().join(format!("mmos-faults-{pid_1}"))
}

fn pid_1() -> ! {
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    rustix::process::set_child_subreaper(Some(getpid())).unwrap();
    init::stage2::keep(Box::leak(program.into_boxed_str()), Watch::Off)
}

struct Life {
    channel: Channel,
    log: File,
}

impl Life {
    /// What PID 1 says next; nothing, if that does not come.
    fn hear(&self) -> Result<(FromInit, Option<OwnedFd>), String> {
        let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&PATIENCE)).map_err(|error| error.to_string())?;
        let received = self.channel.receive().map_err(|error| error.to_string())?.ok_or("nothing was said")?;
        Ok((received.text.parse().map_err(|error| format!("{error}"))?, received.fds.into_iter().next()))
    }

    fn expect(&self, expected: &FromInit) -> Result<Option<OwnedFd>, String> {
        let (heard, fd) = self.hear()?;
        if heard == *expected { Ok(fd) } else { Err(format!("\"{heard}\" instead of \"{expected}\"")) }
    }

    fn expect_orphan(&self, status: i32) -> Result<(), String> {
        match self.hear()?.0 {
            FromInit::Reaped { status: heard, .. } if heard == status => Ok(()),
            other => Err(format!("\"{other}\" instead of an orphan's end with {status}")),
        }
    }

    /// All until `Begin`; the names of what is stored.
    fn begin(&self) -> Result<Vec<(String, Option<OwnedFd>)>, String> {
        let mut stored = Vec::new();
        loop {
            match self.hear()? {
                (FromInit::Begin, _) => return Ok(stored),
                (FromInit::Stored(name), fd) => stored.push((name, fd)),
                (other, _) => return Err(format!("\"{other}\" before the beginning")),
            }
        }
    }

    fn say(&self, message: &ToInit, fd: Option<&File>) -> Result<(), String> {
        self.channel.send(message, fd.map(AsFd::as_fd).as_slice()).map_err(|error| format!("{message}: {error}"))
    }

    fn first(&self) -> Result<&'static str, String> {
        for (name, _) in self.begin()? {
            // Of a cycle that was broken off.
            self.say(&ToInit::Drop(name), None)?;
        }
        self.say(&ToInit::Store(vec!["log".into()]), Some(&self.log))?;
        orphan(7);
        // What the cycle before left unread comes first.
        while self.expect_orphan(7 << 8).is_err() {
            let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
            if rustix::event::poll(&mut fds, Some(&PATIENCE)).map_err(|error| error.to_string())? == 0 {
                return Err("an orphan is not buried".into());
            }
        }
        orphan(9);
        let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&PATIENCE)).map_err(|error| error.to_string())?;
        Ok("second")
    }

    fn second(&self) -> Result<&'static str, String> {
        match &self.begin()?[..] {
            [(name, Some(fd))] if name == "log" => {
                let mut file = File::from(fd.try_clone().map_err(|error| error.to_string())?);
                file.write_all(b"through the stored descriptor\n").map_err(|error| error.to_string())?;
            }
            other => return Err(format!("{other:?} instead of what was stored")),
        }
        self.expect_orphan(9 << 8)?;
        self.say(&ToInit::Drop("log".into()), None)?;
        Ok("third")
    }

    fn third(&self) -> Result<&'static str, String> {
        self.expect(&FromInit::Begin)?;
        Ok("first")
    }
}

/// Leaves a process without a parent, which then exits with `code`.
fn orphan(code: u32) {
    // The inner shell outlives the outer one: it waits for the end of the outer one's output, which we close.
    let script = format!("(exec >&-; read line; exit {code}) <&0 & ");
    let (reader, writer) = std::io::pipe().unwrap();
    let status = Command::new("/bin/sh").args(["-c", &script]).stdin(reader).status().unwrap();
    assert!(status.success());
    drop(writer);
}

/// What PID 1 has open, and children of it that nobody has buried.
fn left(pid_1: Pid) -> String {
    // It may be in the midst of starting us still, with some more open.
    let open = (0..50).map(|_| {
        let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        fs::read_dir(format!("/proc/{pid_1}/fd")).unwrap().count()
    });
    let open = open.min().unwrap_or_default();
    let stats =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let zombie = format!(") Z {pid_1} ");
    format!("{open} descriptors, {} zombies", stats.filter(|stat| stat.contains(&zombie)).count())
}

fn supervisor() -> ! {
    let pid_1 = getppid().unwrap();
    let path = log_of(pid_1);
    let so_far = fs::read_to_string(&path).unwrap_or_default();
    if so_far.ends_with("end\n") {
        exit(0);
    }
    let log = OpenOptions::new().append(true).create(true).open(path).unwrap();
    // SAFETY: PID 1's side gave us this descriptor, and nothing else here uses it.
    let mut life = Life { channel: Channel::from_fd(unsafe { OwnedFd::from_raw_fd(SVCMGR_FD) }), log };
    let step = so_far.lines().rev().find_map(|line| line.strip_prefix("next: ")).unwrap_or("first");
    let lived = match step {
        "second" => life.second(),
        "third" => life.third(),
        _ => life.first(),
    };
    let mut lines = String::new();
    match (step, &lived) {
        ("third", Ok(_)) => {
            lines = format!("whole: {}\n", left(pid_1));
            if so_far.contains("whole: ") {
                lines.push_str("end\n");
            }
        }
        (_, Ok(_)) => {}
        (_, Err(why)) => lines = format!("wrong: {step}: {why}\n"),
    }
    lines.push_str(&format!("next: {}\n", lived.as_ref().copied().unwrap_or("first")));
    // In one piece, and the end last.
    let lines = if lines.contains("end\n") { lines.replace("next: first\n", "") } else { lines };
    life.log.write_all(lines.as_bytes()).unwrap();
    if step == "first" && lived.is_ok() {
        let _ = kill_process(getpid(), Signal::KILL);
    }
    // Else the pauses between supervisors that die would grow.
    let _ = life.say(&ToInit::Leaving, None);
    exit(0);
}

/// One life of PID 1 under strace: what its supervisors wrote, or why it did not come to its end; and the trace.
fn live(strace: &[String], folder: &Path, name: &str) -> (Result<String, String>, String) {
    let trace = folder.join(name);
    let mut child = Command::new("strace")
        .args(["-D", "-o", trace.to_str().unwrap()])
        .args(strace)
        .arg(std::env::current_exe().unwrap())
        .arg("pid-1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let path = log_of(Pid::from_child(&child));
    let said = watch(&mut child, &path);
    let _ = child.kill();
    let _ = child.wait();
    let _ = fs::remove_file(path);
    (said, fs::read_to_string(trace).unwrap_or_default())
}

fn watch(child: &mut Child, path: &Path) -> Result<String, String> {
    let deadline = Instant::now() + LONGEST;
    loop {
        let said = fs::read_to_string(path).unwrap_or_default();
        if said.ends_with("end\n") {
            return Ok(said);
        }
        if let Some(status) = child.try_wait().unwrap() {
            return Err(format!("PID 1 has ended: {status}; so far:\n{said}"));
        }
        if Instant::now() > deadline {
            return Err(format!("not whole after {} s; so far:\n{said}", LONGEST.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What was left at the end.
fn last(said: &str) -> &str {
    said.lines().rev().find_map(|line| line.strip_prefix("whole: ")).unwrap_or_default()
}

fn all_lives() {
    if let Err(error) = Command::new("strace").arg("-V").output() {
        return skip::because(format_args!("strace: {error}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let wanted = std::env::var(faults::WANTED).unwrap_or_default();
    let (said, trace) = live(&["-e".into(), "trace=all".into()], folder.path(), "recording");
    let said = said.unwrap_or_else(|why| panic!("without a failure: {why}"));
    assert!(!said.contains("wrong: "), "without a failure: {said}");
    let usual = last(&said).to_owned();
    let places = faults::places(&trace, BEGINNING, &LEFT_OUT, &wanted).unwrap();
    let (mut wrong, mut missed) = (Vec::new(), 0);
    // No divisor of the number of errors, so that they take turns.
    let share = if wanted.is_empty() { 5 } else { 1 };
    let places: Vec<&Place> = places.iter().step_by(share).collect();
    for place in &places {
        let name = place.to_string();
        let (said, trace) = live(&place.words(), folder.path(), &name);
        let fault = match said {
            Err(why) => why,
            // There were fewer of them this time.
            Ok(_) if injected(&trace).is_none() => {
                missed += 1;
                continue;
            }
            Ok(said) if last(&said) != usual => format!("{} are left instead of {usual}:\n{said}", last(&said)),
            Ok(said) if said.matches("wrong: ").count() > 1 => format!("more than one cycle went wrong:\n{said}"),
            Ok(_) => continue,
        };
        println!("--- {name}: {}\n{fault}", injected(&trace).unwrap_or("not injected"));
        wrong.push(name);
    }
    println!("faults: {} lives, in {missed} of them the call was not made so often", places.len());
    assert!(wrong.is_empty(), "{} of {} lives went wrong: {wrong:?}", wrong.len(), places.len());
    // Else this would have shown nothing.
    assert!(missed * 5 <= places.len(), "{missed} of {} lives had no failure", places.len());
}
