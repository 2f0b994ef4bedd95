//! From a command of a unit to a process that waits to be released: who, where, with which environment and streams.
//! All of it is looked up before the process is made.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Launch;
use super::cgroup::Cgroups;
use super::confinement::{Confinement, names_of};
use super::directories::{self, Made};
use super::environment::{PATH, environment};
use super::files::Files;
use super::passed::Passed;
use super::private::Private;
use super::sandbox::Folders;
use super::sys::{self, ChildPlan, Region, SchedulingPlan, Stream};
use super::users::{self, Identity};
use crate::unit::scheduling::Scheduling;
use crate::unit::{Input, Limit, Output};

/// `TTYPath=` where it is not said.
const TTY: &str = "/dev/console";

/// What a service's process is given besides what its unit says.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The root whose `/etc/passwd` counts.
    pub root: &'a Path,
    /// `/dev/null`.
    pub null: BorrowedFd<'a>,
    /// The writing end of the unit's output.
    pub output: BorrowedFd<'a>,
    /// `/dev/kmsg`, if it is asked for and could be opened.
    pub kmsg: Option<BorrowedFd<'a>>,
    /// The notify socket's path.
    pub notify: &'a str,
    /// Cgroups, where there are any.
    pub cgroups: Option<&'a Cgroups>,
    /// Where the supervisor keeps what it writes down.
    pub run: &'a Path,
    /// Folders that services have for themselves.
    pub private: &'a Private,
    /// How many descriptors a service may have that does not say: not as many as the supervisor.
    pub descriptors: Option<Limit>,
    /// The descriptors that it gets.
    pub passed: Passed<'a>,
}

/// A process that waits to be released.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// The socket through which it is released and tells whether it could be executed.
    pub socket: OwnedFd,
    /// What its mounts are put on, to be named where one fails.
    pub places: Vec<String>,
    /// What it works on until it has executed its program, if it shares our memory.
    pub region: Option<Region>,
}

/// Makes the process of `launch`.
///
/// # Errors
/// In words, for the unit's reason.
pub fn spawn(launch: &Launch<'_>, around: &Surroundings<'_>) -> Result<Spawned, String> {
    let service = &launch.unit.service;
    let is_sandboxed = !launch.command.privileged;
    // The service's user, also where this command does not run as it: its directories belong to it.
    let user = match service.dynamic_user {
        true => Some(users::dynamic(around.root, &around.run.join("dynamic-users"), launch.unit)?),
        false => {
            let more = service.supplementary_groups.as_slice();
            users::identity(around.root, service.user.as_deref(), service.group.as_deref(), more)?
        }
    };
    let made = directories::make(service, user.as_ref())?;
    let identity = user.as_ref().filter(|_| is_sandboxed && !launch.command.as_root);
    let confined = is_sandboxed.then(|| confinement(launch, identity, &made, around)).transpose()?.flatten();
    let environment = environment(launch, identity, around, &made)?;
    let root = confined.as_ref().and_then(|confined| confined.mounts.as_ref()?.root.as_deref());
    let program = program(&launch.command.program, &service.exec_search_path, root)?;
    let arguments = launch.command.expanded(&environment);
    let texts = |texts: &mut dyn Iterator<Item = String>| -> Result<Vec<CString>, String> {
        texts.map(|text| CString::new(text).map_err(|_| "a NUL byte cannot stand in a command".to_owned())).collect()
    };
    let arguments = texts(&mut arguments.into_iter())?;
    let environment = texts(&mut environment.into_iter().map(|(name, value)| format!("{name}={value}")))?;
    let program = c_string(&program)?;
    let (directory, directory_optional) = match &service.working_directory {
        Some((path, optional)) if path == "~" => {
            (Some(user.as_ref().map_or("/root", |user| user.home.as_str())), *optional)
        }
        Some((path, optional)) => (Some(path.as_str()), *optional),
        None => (Some("/"), false),
    };
    let directory = directory.map(c_string).transpose()?;
    let files = Files::open(service)?;
    let input = match &service.input {
        Input::Tty => Stream::Tty,
        Input::Socket => Stream::Fd(around.passed.stream.unwrap_or(around.null)),
        Input::Null | Input::Data | Input::File(_) => Stream::Fd(files.input.as_ref().map_or(around.null, AsFd::as_fd)),
    };
    let output = stream(&service.output, files.output.as_ref(), around);
    let streams = [input, output, stream(&service.error, files.error.as_ref(), around)];
    let wants_tty = streams.iter().any(|stream| matches!(stream, Stream::Tty));
    let tty = if wants_tty { Some(c_string(service.tty.as_deref().unwrap_or(TTY))?) } else { None };
    // One that is in no cgroup could not be ended whole, nor be kept within what it may use.
    let owner = user.as_ref().map(|user| (user.uid, user.gid));
    let open = |cgroups: &Cgroups| cgroups.open(&launch.unit.name, service.resources.as_deref(), owner);
    let cgroup = around.cgroups.map(open).transpose().map_err(|error| format!("no cgroup for it: {error}"))?;
    let oom_score_adjust = service.oom_score_adjust.map(|score| c_string(&score.to_string())).transpose()?;
    let dumped = service.scheduling.as_ref().and_then(|scheduling| scheduling.coredump_filter);
    let coredump_filter = dumped.map(|bits| c_string(&format!("{bits:#x}"))).transpose()?;
    // What the unit says comes after, and holds.
    let limits: Vec<Limit> = around.descriptors.into_iter().chain(service.limits.iter().copied()).collect();
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| format!("no socket for its start: {error}"))?;
    let placed = around.passed.place()?;
    // Where no descriptor is put that it gets.
    let theirs = rustix::io::fcntl_dupfd_cloexec(theirs, placed.end)
        .map_err(|error| format!("no descriptor for its start: {error}"))?;
    let passed: Vec<(BorrowedFd<'_>, i32)> = placed.descriptors.iter().map(|(fd, to)| (fd.as_fd(), *to)).collect();
    let arguments: Vec<&CStr> = arguments.iter().map(CString::as_c_str).collect();
    let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
    let plan = ChildPlan {
        program: &program,
        arguments: &arguments,
        environment: &environment,
        directory: directory.as_deref(),
        directory_optional,
        user: identity.map(|identity| (identity.uid, identity.gid, identity.groups.as_slice())),
        streams,
        passed: &passed,
        listen_pid: placed.listen_pid.as_deref(),
        tty: tty.as_deref(),
        cgroup: cgroup
            .as_ref()
            .filter(|_| around.cgroups.is_some_and(|cgroups| cgroups.takes_births(&launch.unit.name)))
            .map(AsFd::as_fd),
        limits_memory: service.resources.is_some(),
        umask: service.umask,
        ignore_sigpipe: service.ignore_sigpipe,
        nice: service.nice,
        oom_score_adjust: oom_score_adjust.as_deref(),
        limits: &limits,
        scheduling: scheduling(service.scheduling.as_deref(), coredump_filter.as_deref()),
        keyring: service.keyring,
        sandbox: confined.as_ref().map(Confinement::plan),
    };
    let child = sys::spawn(&plan, theirs.as_fd()).map_err(|error| format!("no process could be made: {error}"))?;
    let joined = match (around.cgroups, &cgroup) {
        (Some(cgroups), Some(_)) if !child.in_cgroup => cgroups.add(&launch.unit.name, child.pid),
        _ => Ok(()),
    };
    let pidfd = child.pidfd.map_or_else(|| pidfd_open(child.pid), Ok);
    let pidfd = match (joined, pidfd) {
        (Ok(()), Ok(pidfd)) => pidfd,
        (Err(error), _) => {
            discard(child.pid);
            return Err(format!("its process could not be put into its cgroup: {error}"));
        }
        (Ok(()), Err(error)) => {
            discard(child.pid);
            return Err(format!("its process could not be watched: {error}"));
        }
    };
    let places = confined.and_then(|confined| confined.mounts).map(|mounts| names_of(&mounts)).unwrap_or_default();
    Ok(Spawned { pid: child.pid, pidfd, socket: ours, places, region: child.region })
}

/// Ends a process of which the supervisor could not hear: nobody else knows of it.
pub fn discard(pid: i32) {
    let _ = sys::kill(pid, libc::SIGKILL);
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let wait = || rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        let _ = rustix::io::retry_on_intr(wait);
    }
}

/// What a process is kept from, prepared; `None` if that is nothing.
fn confinement(
    launch: &Launch<'_>,
    identity: Option<&Identity>,
    made: &Made,
    around: &Surroundings<'_>,
) -> Result<Option<Confinement>, String> {
    let Some(sandbox) = &launch.unit.service.sandbox else { return Ok(None) };
    let failed = |error: io::Error| format!("its private folders cannot be made: {error}");
    let mut folders = Folders { writable: made.paths.clone(), ..Folders::default() };
    if sandbox.needs_mounts() {
        folders.shared = around.private.shared().map_err(failed)?;
    }
    if sandbox.private_tmp {
        folders.private = around.private.of(&launch.unit.name).map_err(failed)?;
    }
    folders.hidden.clone_from(&made.private);
    if sandbox.root_directory.is_some() {
        folders.shown = made.paths.iter().map(|path| (path.clone(), path.clone())).collect();
        folders.writable.clear();
    }
    Confinement::new(sandbox, &folders, identity.is_some_and(|identity| identity.uid != 0))
}

fn scheduling<'a>(scheduling: Option<&'a Scheduling>, coredump_filter: Option<&'a CStr>) -> SchedulingPlan<'a> {
    let Some(scheduling) = scheduling else { return SchedulingPlan::default() };
    let policy = scheduling.policy.map(|policy| {
        let is_realtime = matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR);
        // SCHED_RESET_ON_FORK: sched(7).
        let flag = if scheduling.reset_on_fork { 0x4000_0000 } else { 0 };
        (policy | flag, if is_realtime { scheduling.priority.unwrap_or(1) } else { 0 })
    });
    SchedulingPlan {
        policy,
        affinity: &scheduling.affinity,
        io: scheduling.io(),
        timer_slack: scheduling.timer_slack,
        personality: scheduling.personality,
        coredump_filter,
    }
}

fn stream<'a>(output: &Output, file: Option<&'a OwnedFd>, around: &Surroundings<'a>) -> Stream<'a> {
    match output {
        Output::Null => Stream::Fd(around.null),
        Output::Tty => Stream::Tty,
        // Commands beside the service have none: theirs is the log.
        Output::Socket => Stream::Fd(around.passed.stream.unwrap_or(around.output)),
        Output::Log | Output::LogAndConsole => Stream::Fd(around.output),
        Output::Kmsg => Stream::Fd(around.kmsg.unwrap_or(around.output)),
        Output::File(..) => Stream::Fd(file.map_or(around.output, AsFd::as_fd)),
    }
}

/// A descriptor of the process `pid`.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text:?} holds a NUL byte"))
}

/// Where a program is: beneath the root that the service gets, if it is another.
fn program(name: &str, folders: &[String], root: Option<&CStr>) -> Result<String, String> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    let root = root.and_then(|root| root.to_str().ok()).unwrap_or_default();
    let searched = if folders.is_empty() { PATH.to_owned() } else { folders.join(":") };
    let found = searched
        .split(':')
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| rustix::fs::access(format!("{root}{path}"), rustix::fs::Access::EXEC_OK).is_ok());
    found.ok_or_else(|| format!("there is no program {name:?} in {searched}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_nowhere_is_named() {
        assert!(program("sh", &[], None).unwrap().ends_with("/sh"));
        assert!(program("no-such-program", &[], None).unwrap_err().contains("no-such-program"));
        assert!(program("sh", &["/no/such".to_owned()], None).unwrap_err().contains("/no/such"));
    }
}
