//! The processes of services from their start to their end: our own, and those that are taken over from a supervisor
//! that died, which PID 1 reaps.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventFlags};
use rustix::process::{WaitId, WaitIdOptions};

use super::RealHost;
use crate::graph::UnitId;
use crate::host::spawn;
use crate::host::sys::{ChildStep, NEVER_RAN, Region};
use crate::host::token::Token;
use crate::insist::insist;
use crate::machine::{Exit, Process, Role};

#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: i32,
    /// None for one that was gone before we could take it over.
    pub(super) pidfd: Option<OwnedFd>,
    /// Through which it is released and tells whether its program could be executed.
    pub(super) socket: Option<OwnedFd>,
    /// Ours to reap; PID 1 reaps the others and tells us.
    pub(super) ours: bool,
    /// Taken over before it executed its program.
    pub(super) unexecuted: bool,
    /// Its program, to be named where it cannot be executed; empty for one that another supervisor started.
    pub(super) program: String,
    /// What its mounts are put on, likewise.
    pub(super) places: Vec<String>,
    /// What it works on, if it shares our memory: until it has executed its program, or is reaped.
    pub(super) region: Option<Region>,
    /// Why its program could not be executed.
    pub(super) failure: Option<String>,
}

/// What became of a process that the supervisor before this one made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It runs its program.
    Running,
    /// It waits to be released, in vain: it will end.
    Waiting,
    /// It is gone.
    Gone,
}

impl RealHost {
    /// What a process told about its start: `Some(true)`: its program is executed; `Some(false)`: it could not be.
    pub fn started(&mut self, id: UnitId, role: Role) -> Option<bool> {
        let child = self.children.get_mut(&(id, role))?;
        let socket = child.socket.as_ref()?;
        let (mut message, mut region) = ([0; 7], None);
        let told = match rustix::net::recv(socket, &mut message, rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                // Its descriptor closed after its memory was exchanged, or with its end.
                region = child.region.take();
                true
            }
            Ok(_) => {
                let [step, a, b, c, d, e, f] = message;
                let errno = i32::from_ne_bytes([a, b, c, d]);
                let place = child.places.get(usize::from(u16::from_ne_bytes([e, f])));
                child.failure = Some(failure(step, errno, &child.program, place.map_or("/", String::as_str)));
                false
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return None,
            Err(error) => {
                log::debug!("process {}: its start cannot be followed: {error}", child.pid);
                true
            }
        };
        // Children that have not run yet hold it open, too, and as long as anybody does it would be told of.
        let _ = epoll::delete(&self.epoll, socket);
        child.socket = None;
        // Both were for saying why it could not be executed.
        (child.places, child.program) = (Vec::new(), String::new());
        self.part(region);
        Some(told)
    }

    /// A child has memory of its own, or is gone: what it worked on in ours is given back.
    pub(super) fn part(&mut self, region: Option<Region>) {
        if region.is_some()
            && let Some(shield) = &mut self.shield
        {
            shield.parted();
        }
    }

    /// How a process of ours ended, if it has.
    pub fn reap(&mut self, id: UnitId, role: Role) -> Option<Exit> {
        let child = self.children.get(&(id, role))?;
        if !child.ours {
            return None;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let pidfd = child.pidfd.as_ref()?;
        let exit = match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal { signal, core: status.dumped() },
                (None, None) => Exit::Unknown,
            },
            Ok(None) => return None,
            Err(error @ rustix::io::Errno::CHILD) => {
                log::warn!("process {} cannot be reaped: {error}", child.pid);
                Exit::Unknown
            }
            // It is told again in the next turn: forgotten now, it would stay a zombie.
            Err(error) => {
                log::debug!("process {} cannot be reaped: {error}; trying again", child.pid);
                return None;
            }
        };
        self.forget(id, role, exit)
    }

    /// PID 1 says how a process that we took over ended.
    pub fn reaped(&mut self, pid: i32, exit: Exit) -> Option<(UnitId, Role, Exit)> {
        let (id, role) = self.role_of(pid)?;
        if self.children.get(&(id, role))?.ours {
            return None;
        }
        let exit = self.forget(id, role, exit)?;
        Some((id, role, exit))
    }

    /// Ends all bookkeeping of a process; how it ended, in the words that matter.
    pub fn forget(&mut self, id: UnitId, role: Role, exit: Exit) -> Option<Exit> {
        let mut child = self.children.remove(&(id, role))?;
        self.pids.remove(&child.pid);
        self.part(child.region.take());
        Some(match (exit, child.failure) {
            (_, Some(failure)) => Exit::NotExecuted(failure),
            (Exit::Code(NEVER_RAN), None) if child.unexecuted => Exit::NeverRan,
            (exit, None) => exit,
        })
    }

    /// A process that we took over has ended, and PID 1 has not said how yet: no longer watched, since its
    /// descriptor would be ready for ever.
    pub fn unwatch(&self, id: UnitId, role: Role) {
        if let Some(pidfd) = self.children.get(&(id, role)).and_then(|child| child.pidfd.as_ref()) {
            let _ = epoll::delete(&self.epoll, pidfd);
        }
    }

    /// Whether a process is still in the books.
    pub fn knows(&self, id: UnitId, role: Role) -> bool {
        self.children.contains_key(&(id, role))
    }

    /// Whether a process is ours to reap, not PID 1's.
    pub fn is_ours(&self, id: UnitId, role: Role) -> bool {
        self.children.get(&(id, role)).is_some_and(|child| child.ours)
    }

    /// Takes over a process that the supervisor before this one made, if it is still the one that it made.
    pub fn adopt(&mut self, id: UnitId, role: Role, process: Process) -> Adopted {
        let Ok(pidfd) = insist(|| spawn::pidfd_open(process.pid)) else { return Adopted::Gone };
        // The pidfd pins the process: what is read of it after opening speaks of the same one.
        if process.born != 0 && !born_at(process.pid, process.born) {
            return Adopted::Gone;
        }
        if let Err(error) = self.watch(pidfd.as_fd(), Token::Process(id, role), EventFlags::IN) {
            log::error!("process {} cannot be watched: {error}", process.pid);
        }
        let unexecuted = process.born != 0 && is_still_us(process.pid);
        let child = Child {
            pid: process.pid,
            pidfd: Some(pidfd),
            socket: None,
            ours: false,
            unexecuted,
            program: String::new(),
            places: Vec::new(),
            region: None,
            failure: None,
        };
        self.children.insert((id, role), child);
        self.pids.insert(process.pid, (id, role));
        self.groups.entry(id).or_default().push(process.pid);
        if unexecuted { Adopted::Waiting } else { Adopted::Running }
    }

    /// A process that the supervisor before this one made is gone: kept in the books until PID 1 says how it ended.
    pub fn mourn(&mut self, id: UnitId, role: Role, process: Process, starting: bool) {
        let pid = process.pid;
        // It may have been gone before it ever ran: then its code says so.
        let child = Child {
            pid,
            pidfd: None,
            socket: None,
            ours: false,
            unexecuted: starting,
            program: String::new(),
            places: Vec::new(),
            region: None,
            failure: None,
        };
        self.children.insert((id, role), child);
        self.pids.insert(pid, (id, role));
    }

    /// One that was the main process: a child of ours is buried when it ends.
    fn bury_later(&mut self, old: Child) {
        if let Some(socket) = &old.socket {
            let _ = epoll::delete(&self.epoll, socket);
        }
        let (Some(pidfd), Ok(number), true) = (old.pidfd, u32::try_from(old.pid), old.ours) else { return };
        if let Err(error) = self.watch_for(pidfd.as_fd(), Token::Former(number), EventFlags::IN) {
            log::warn!("process {number}: its end will not be heard: {error}");
            // By its old name it would be taken for the main process of now.
            let _ = epoll::delete(&self.epoll, &pidfd);
        }
        self.former.insert(number, pidfd);
    }

    /// Buries it, if it has ended.
    pub fn bury(&mut self, number: u32) {
        let Some(pidfd) = self.former.get(&number) else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if !matches!(rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options), Ok(None)) {
            self.former.remove(&number);
        }
    }

    /// A service names another process as its main one.
    pub fn rename_main(&mut self, id: UnitId, pid: i32) -> io::Result<Process> {
        let pidfd = spawn::pidfd_open(pid)?;
        self.watch(pidfd.as_fd(), Token::Process(id, Role::Main), EventFlags::IN)?;
        if let Some(mut old) = self.children.remove(&(id, Role::Main)) {
            self.pids.remove(&old.pid);
            self.part(old.region.take());
            self.bury_later(old);
        }
        // A grandchild of ours, or a child: waitid tells when the time comes; PID 1 if it is not ours.
        let child = Child {
            pid,
            pidfd: Some(pidfd),
            socket: None,
            ours: is_child_of_us(pid),
            unexecuted: false,
            program: String::new(),
            places: Vec::new(),
            region: None,
            failure: None,
        };
        self.children.insert((id, Role::Main), child);
        self.pids.insert(pid, (id, Role::Main));
        Ok(Process { pid, born: 0 })
    }
}

/// In words, what a child reported.
fn failure(step: u8, errno: i32, program: &str, place: &str) -> String {
    let error = io::Error::from_raw_os_error(errno);
    let Some(step) = ChildStep::from_number(step) else { return format!("it could not be started: {error}") };
    let what = match step {
        ChildStep::Session => "no session of its own",
        ChildStep::Terminal => "its terminal cannot be opened (TTYPath=)",
        ChildStep::Streams => "its standard streams cannot be set",
        ChildStep::Descriptors => "its sockets and stored descriptors cannot be given to it",
        ChildStep::Groups => "its groups cannot be set (Group=)",
        ChildStep::User => "its user cannot be set (User=)",
        ChildStep::Directory => "its working directory cannot be entered (WorkingDirectory=)",
        ChildStep::Limits => "its limits cannot be set (LimitNOFILE= and so on)",
        ChildStep::Nice => "its nice level cannot be set (Nice=)",
        ChildStep::OomScore => "its OOM score cannot be set (OOMScoreAdjust=)",
        ChildStep::Scheduler => "its scheduling cannot be set (CPUSchedulingPolicy=)",
        ChildStep::Affinity => "its processors cannot be set (CPUAffinity=)",
        ChildStep::IoPriority => "its I/O priority cannot be set (IOSchedulingClass=)",
        ChildStep::Personality => "its personality cannot be set (Personality=)",
        ChildStep::Keyring => "no keyring of its own (KeyringMode=)",
        ChildStep::Namespaces => "no namespaces of its own (PrivateNetwork=, PrivateTmp= and so on)",
        ChildStep::Network => "its loopback device cannot be switched on (PrivateNetwork=)",
        ChildStep::Mounts => return format!("what it is to see at {place} cannot be set up: {error}"),
        ChildStep::UserNamespace => "no user namespace of its own (PrivateUsers=)",
        ChildStep::Capabilities => "its capabilities cannot be bounded (CapabilityBoundingSet=)",
        ChildStep::Ambient => "its capabilities cannot be kept (AmbientCapabilities=)",
        ChildStep::NoNewPrivileges => "its privileges cannot be fixed (NoNewPrivileges=)",
        ChildStep::Filter => "its system calls cannot be filtered (SystemCallFilter= and so on)",
        ChildStep::Execute => return format!("its program {program} cannot be executed: {error}"),
    };
    format!("{what}: {error}")
}

/// Field `n` (from 1) of `/proc/PID/stat`; proc_pid_stat(5). The name in field 2 may hold anything, even `) `.
pub(super) fn stat_field(pid: i32, n: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(n.checked_sub(3)?)?.parse().ok()
}

/// Whether a process was made at `born` (microseconds of `CLOCK_BOOTTIME`), as exactly as the kernel tells: in clock
/// ticks. The supervisor took the time just before it made it.
fn born_at(pid: i32, born: u64) -> bool {
    let Some(ticks) = stat_field(pid, 22) else { return false };
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let started = ticks.saturating_mul(1_000_000).checked_div(per_second).unwrap_or(0);
    started.abs_diff(born) <= 100_000
}

fn is_still_us(pid: i32) -> bool {
    let exe = |who: &str| fs::read_link(format!("/proc/{who}/exe")).ok();
    exe(&pid.to_string()).is_some_and(|theirs| Some(theirs) == exe("self"))
}

fn is_child_of_us(pid: i32) -> bool {
    stat_field(pid, 4) == Some(u64::from(std::process::id()))
}
