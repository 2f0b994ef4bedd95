//! The environment of a service's processes: systemd.exec(5), "Environment Variables in Spawned Processes".

use std::path::Path;

use super::Launch;
use super::directories::Made;
use super::files::read_small;
use super::spawn::Surroundings;
use super::users::Identity;
use crate::machine::{Outcome, Role};
use crate::unit::Service;

/// Where programs are looked for that are named without a path, and what services get as `PATH`.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is longer is no `EnvironmentFile=`: the kernel takes 2 MiB of arguments and environment as a rule (execve(2)).
const ENVIRONMENT_FILE: u64 = 2 << 20;

/// All of it. What is said later holds.
pub(super) fn environment(
    launch: &Launch<'_>,
    identity: Option<&Identity>,
    around: &Surroundings<'_>,
    directories: &Made,
) -> Result<Vec<(String, String)>, String> {
    let service = &launch.unit.service;
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        all.retain(|(known, _)| known != name);
        all.push((name.to_owned(), value.to_owned()));
    };
    set("PATH", &path_of(service));
    if let Some(identity) = identity {
        set("USER", &identity.name);
        set("LOGNAME", &identity.name);
        set("HOME", &identity.home);
        set("SHELL", &identity.shell);
    }
    if service.notify_access != crate::unit::NotifyAccess::None {
        set("NOTIFY_SOCKET", around.notify);
    }
    if let (Role::Main, Some(span)) = (launch.role, service.watchdog) {
        // WATCHDOG_PID= is left out: all of its processes may speak that may speak at all.
        set("WATCHDOG_USEC", &span.0.to_string());
    }
    for (name, value) in around.passed.variables() {
        set(&name, &value);
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
                Outcome::Skipped => "exec-condition",
                Outcome::Watchdog => "watchdog",
                Outcome::StartLimit => "start-limit-hit",
                Outcome::OutOfMemory => "oom-kill",
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
    for (name, paths) in &directories.variables {
        set(name, paths);
    }
    for name in &service.pass_environment {
        if let Ok(value) = std::env::var(name) {
            set(name, &value);
        }
    }
    for (name, value) in &service.environment {
        set(name, value);
    }
    for (path, optional) in &service.environment_files {
        match read_small(Path::new(path), ENVIRONMENT_FILE, false) {
            Ok((text, _)) => {
                for (name, value) in environment_file(&text) {
                    set(&name, &value);
                }
            }
            Err(_) if *optional => {}
            Err(error) => return Err(format!("EnvironmentFile={path} cannot be read: {error}")),
        }
    }
    all.retain(|(name, value)| !service.unset_environment.iter().any(|word| is_unset(word, name, value)));
    Ok(all)
}

/// `NAME`, or `NAME=value` for that value alone.
fn is_unset(word: &str, name: &str, value: &str) -> bool {
    match word.split_once('=') {
        Some((unset, only)) => unset == name && only == value,
        None => word == name,
    }
}

/// `ExecSearchPath=`, or what is usual.
pub fn path_of(service: &Service) -> String {
    match service.exec_search_path.as_slice() {
        [] => PATH.to_owned(),
        folders => folders.join(":"),
    }
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
    fn a_variable_is_unset_by_name_or_with_its_value_alone() {
        assert!(is_unset("A", "A", "1") && is_unset("A=1", "A", "1"));
        assert!(!is_unset("A=2", "A", "1") && !is_unset("B", "A", "1"));
    }
}
