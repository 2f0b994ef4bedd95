//! From a command of a unit to a process that waits to be released: who, where, with which environment and streams.
//! All of it is looked up before the process is made.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Launch;
use super::cgroup::Cgroups;
use super::sys::{self, ChildPlan, Stream};
use super::users::{self, Identity};
use crate::machine::{Outcome, Role};
use crate::unit::{Input, Limit, Output};

/// Where programs are looked for that are named without a path, and what services get as `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
    /// How many descriptors a service may have that does not say: not as many as the supervisor.
    pub descriptors: Option<Limit>,
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
}

/// Makes the process of `launch`.
///
/// # Errors
/// In words, for the unit's reason.
pub fn spawn(launch: &Launch<'_>, around: &Surroundings<'_>) -> Result<Spawned, String> {
    let service = &launch.unit.service;
    let identity = match launch.command.privileged {
        true => None,
        false => {
            let more = service.supplementary_groups.as_slice();
            users::identity(around.root, service.user.as_deref(), service.group.as_deref(), more)?
        }
    };
    let environment = environment(launch, identity.as_ref(), around)?;
    let program = program(&launch.command.program)?;
    let arguments = launch.command.expanded(&environment);
    let texts = |texts: &mut dyn Iterator<Item = String>| -> Result<Vec<CString>, String> {
        texts.map(|text| CString::new(text).map_err(|_| "a NUL byte cannot stand in a command".to_owned())).collect()
    };
    let arguments = texts(&mut arguments.into_iter())?;
    let environment = texts(&mut environment.into_iter().map(|(name, value)| format!("{name}={value}")))?;
    let program = c_string(&program)?;
    let (directory, directory_optional) = match &service.working_directory {
        Some((path, optional)) if path == "~" => {
            (Some(identity.as_ref().map_or("/root", |identity| identity.home.as_str())), *optional)
        }
        Some((path, optional)) => (Some(path.as_str()), *optional),
        None => (Some("/"), false),
    };
    let directory = directory.map(c_string).transpose()?;
    let stream = |output: Output| match output {
        Output::Null => Stream::Fd(around.null),
        Output::Tty => Stream::Tty,
        Output::Log | Output::LogAndConsole => Stream::Fd(around.output),
        Output::Kmsg => Stream::Fd(around.kmsg.unwrap_or(around.output)),
    };
    let input = match service.input {
        Input::Null => Stream::Fd(around.null),
        Input::Tty => Stream::Tty,
    };
    let streams = [input, stream(service.output), stream(service.error)];
    let wants_tty = streams.iter().any(|stream| matches!(stream, Stream::Tty));
    let tty = if wants_tty { Some(c_string(&service.tty)?) } else { None };
    let cgroup = match around.cgroups.map(|cgroups| cgroups.open(&launch.unit.name)) {
        Some(Ok(fd)) => Some(fd),
        Some(Err(error)) => {
            log::warn!("{}: no cgroup: {error}; it runs without", launch.unit.name);
            None
        }
        None => None,
    };
    let oom_score_adjust = service.oom_score_adjust.map(|score| c_string(&score.to_string())).transpose()?;
    // What the unit says comes after, and holds.
    let limits: Vec<Limit> = around.descriptors.into_iter().chain(service.limits.iter().copied()).collect();
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| format!("no socket for its start: {error}"))?;
    let arguments: Vec<&CStr> = arguments.iter().map(CString::as_c_str).collect();
    let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
    let plan = ChildPlan {
        program: &program,
        arguments: &arguments,
        environment: &environment,
        directory: directory.as_deref(),
        directory_optional,
        user: identity.as_ref().map(|identity| (identity.uid, identity.gid, identity.groups.as_slice())),
        streams,
        tty: tty.as_deref(),
        cgroup: cgroup
            .as_ref()
            .filter(|_| around.cgroups.is_some_and(|cgroups| cgroups.takes_births(&launch.unit.name)))
            .map(AsFd::as_fd),
        umask: service.umask,
        ignore_sigpipe: service.ignore_sigpipe,
        nice: service.nice,
        oom_score_adjust: oom_score_adjust.as_deref(),
        limits: &limits,
    };
    let child = sys::spawn(&plan, theirs.as_fd()).map_err(|error| format!("no process could be made: {error}"))?;
    if !child.in_cgroup
        && let (Some(cgroups), Some(_)) = (around.cgroups, &cgroup)
        && let Err(error) = cgroups.add(&launch.unit.name, child.pid)
    {
        log::warn!("{}: process {} could not be put into its cgroup: {error}", launch.unit.name, child.pid);
    }
    let pidfd = match child.pidfd {
        Some(pidfd) => pidfd,
        None => match pidfd_open(child.pid) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // Unreleased, it ends as soon as our end of the socket closes.
                return Err(format!("process {} could not be watched: {error}", child.pid));
            }
        },
    };
    Ok(Spawned { pid: child.pid, pidfd, socket: ours })
}

/// A descriptor of the process `pid`.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text:?} holds a NUL byte"))
}

fn program(name: &str) -> Result<String, String> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    PATH.split(':')
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok())
        .ok_or_else(|| format!("there is no program {name:?} in {PATH}"))
}

/// The process's environment; systemd.exec(5), "Environment Variables in Spawned Processes".
fn environment(
    launch: &Launch<'_>,
    identity: Option<&Identity>,
    around: &Surroundings<'_>,
) -> Result<Vec<(String, String)>, String> {
    let service = &launch.unit.service;
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        all.retain(|(known, _)| known != name);
        all.push((name.to_owned(), value.to_owned()));
    };
    set("PATH", PATH);
    if let Some(identity) = identity {
        set("USER", &identity.name);
        set("LOGNAME", &identity.name);
        set("HOME", &identity.home);
        set("SHELL", &identity.shell);
    }
    if service.notify_access != crate::unit::NotifyAccess::None {
        set("NOTIFY_SOCKET", around.notify);
    }
    if let (Role::Control, Some(pid)) = (launch.role, launch.main_pid) {
        set("MAINPID", &pid.to_string());
    }
    if let Some((outcome, code, signal)) = launch.ended {
        set(
            "SERVICE_RESULT",
            match outcome {
                Outcome::Success => "success",
                Outcome::ExitCode | Outcome::NotExecuted => "exit-code",
                Outcome::Signal => "signal",
                Outcome::CoreDump => "core-dump",
                Outcome::Timeout => "timeout",
                Outcome::Unknown => "resources",
            },
        );
        if let Some(code) = code {
            set("EXIT_CODE", "exited");
            set("EXIT_STATUS", &code.to_string());
        } else if let Some(number) = signal {
            set("EXIT_CODE", if outcome == Outcome::CoreDump { "dumped" } else { "killed" });
            let name = crate::unit::signal::name(number);
            set("EXIT_STATUS", name.strip_prefix("SIG").unwrap_or(&name));
        }
    }
    for (name, value) in &service.environment {
        set(name, value);
    }
    for (path, optional) in &service.environment_files {
        match fs::read_to_string(path) {
            Ok(text) => {
                for (name, value) in environment_file(&text) {
                    set(&name, &value);
                }
            }
            Err(_) if *optional => {}
            Err(error) => return Err(format!("EnvironmentFile={path} cannot be read: {error}")),
        }
    }
    Ok(all)
}

/// The assignments of an environment file; systemd.exec(5), `EnvironmentFile=`: comments `#` and `;`, values quoted
/// or not, a backslash at the end of a line joins it with the next.
fn environment_file(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", "");
    joined
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(name, _)| crate::unit::command::is_variable(name))
        .map(|(name, value)| {
            let quoted = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
            let value = match (quoted, value.starts_with('"')) {
                (Some(inner), true) => inner.replace("\\\"", "\"").replace("\\$", "$").replace("\\\\", "\\"),
                (Some(inner), false) => inner.to_owned(),
                (None, _) => value.to_owned(),
            };
            (name.to_owned(), value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_is_read_as_systemd_does() {
        let text = "# c\nA=1\n B = two words \nC=\"q \\\"x\\\"\"\nD='$raw'\nE=a\\\nb\n2BAD=1\nnothing\n";
        let pairs: Vec<(String, String)> = environment_file(text);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "two words"), ("C", "q \"x\""), ("D", "$raw"), ("E", "ab")]);
    }

    #[test]
    fn a_program_that_is_nowhere_is_named() {
        assert!(program("sh").unwrap().ends_with("/sh"));
        assert!(program("no-such-program").unwrap_err().contains("no-such-program"));
    }
}
