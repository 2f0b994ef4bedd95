//! A supervisor dies again and again, and each next one finds all that its predecessor had: here PID 1's loop runs in
//! an ordinary process (a "subreaper", so that orphans fall to it), and this same program is the supervisor too.
//!
//! Life 1 stores a descriptor, sees an orphan reaped, and is killed while another exit lies unread in its socket.
//! Life 2 gets the descriptor back and the unread exit, drops the descriptor, fills the socket's other direction with
//! rubbish, and dies of a fault. Life 3 finds nothing stored, and ends the test through what it writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, exit};
use std::time::Duration;

use init::params::Watch;
use init::stage2::machine::Machine;
use link::channel::{Channel, ENV, SVCMGR_FD};
use link::{FromInit, ToInit};
use rustix::event::{PollFd, PollFlags};

/// The whole test takes well under a second; this is for a machine that is busy with others.
const DEADLINE: Duration = Duration::from_secs(30);

fn main() {
    if std::env::var_os(ENV).is_some() {
        supervisor();
    } else {
        pid_1();
    }
}

/// What the lives write, in order; named by the process that plays PID 1, which all of them know.
fn log_of(pid_1: u32) -> PathBuf {
    std::env::temp_dir().join(format!("mmos-takeover-{pid_1}"))
}

fn pid_1() {
    let log = log_of(std::process::id());
    File::create(&log).unwrap();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    let mut machine = Machine::new(Box::leak(program.into_boxed_str()), Watch::Off).unwrap();
    // After the signals are blocked, so that this thread does not take them.
    let name = log.clone();
    std::thread::spawn(move || {
        std::thread::sleep(DEADLINE);
        eprintln!("takeover: not done in time; so far:\n{}", std::fs::read_to_string(name).unwrap());
        exit(1);
    });
    let said = loop {
        machine.turn();
        let said = std::fs::read_to_string(&log).unwrap();
        if said.ends_with("end\n") {
            break said;
        }
    };
    std::fs::remove_file(&log).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(
        said,
        [
            "begin",
            "an orphan was reaped with 1792",
            "stored log",
            "written through the stored descriptor",
            "begin",
            "an orphan was reaped with 2304",
            "begin",
            "end"
        ]
    );
    println!("takeover: ok");
}

mod sys {
    use super::*;

    pub fn channel() -> Channel {
        // SAFETY: PID 1's side gave us this descriptor, and nothing else here uses it.
        Channel::from_fd(unsafe { OwnedFd::from_raw_fd(SVCMGR_FD) })
    }
}

struct Life {
    channel: Channel,
    log: File,
}

impl Life {
    fn say(&mut self, line: &str) {
        writeln!(self.log, "{line}").unwrap();
    }

    fn wait(&self) {
        let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
        while rustix::event::poll(&mut fds, None).is_err() {}
    }

    fn hear(&mut self) -> (FromInit, Option<OwnedFd>) {
        self.wait();
        let received = self.channel.receive().unwrap().expect("poll said that something is there");
        (received.text.parse().unwrap(), received.fds.into_iter().next())
    }

    /// The next exit of an orphan. The shells that leave them behind are reaped by us.
    fn hear_of_orphan(&mut self) {
        let FromInit::Reaped { status, .. } = self.hear().0 else { panic!("not an exit") };
        self.say(&format!("an orphan was reaped with {status}"));
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

fn supervisor() -> ! {
    let log = log_of(std::os::unix::process::parent_id());
    let log = OpenOptions::new().append(true).open(log).unwrap();
    let mut life = Life { channel: sys::channel(), log };
    match life.hear() {
        (FromInit::Stored(name), Some(fd)) => {
            life.say(&format!("stored {name}"));
            File::from(fd).write_all(b"written through the stored descriptor\n").unwrap();
            assert_eq!(life.hear().0, FromInit::Begin);
            life.say("begin");
            life.hear_of_orphan();
            life.channel.send(&ToInit::Drop("log".into()), &[]).unwrap();
            for rubbish in ["", "rubbish", "store", "end", "end soon"] {
                life.channel.send(&rubbish, &[]).unwrap();
            }
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::SEGV);
        }
        (FromInit::Begin, None)
            if std::fs::metadata(log_of(std::os::unix::process::parent_id())).unwrap().len() == 0 =>
        {
            life.say("begin");
            life.channel.send(&ToInit::Store(vec!["log".into()]), &[life.log.as_fd()]).unwrap();
            orphan(7);
            life.hear_of_orphan();
            orphan(9);
            life.wait();
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        (FromInit::Begin, None) => {
            life.say("begin");
            life.say("end");
        }
        other => life.say(&format!("unexpected: {other:?}")),
    }
    exit(0);
}
