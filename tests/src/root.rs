//! What only root may do: files of a root image belong to root. As root, with sudo(8) where it asks nothing, or as root
//! of a user namespace of one's own (unshare(1) with the ranges of subuid(5)); else an error says what to run.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// What a program run by sudo still has to know of the user's environment.
const KEPT: &str = "--preserve-env=HOME,XDG_CACHE_HOME,SOURCE_DATE_EPOCH";

/// Folders of programs for root, which an ordinary user's `PATH` may lack.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// The variable of cargo that names what runs its test programs, for the target that we build on.
pub const RUNNER: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

/// How to become root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// We are.
    Already,
    /// `sudo`, which asks for no password (any more).
    Sudo,
    /// Root of a namespace in which the user owns a range of IDs; of the host it may no more than the user.
    Namespace,
}

impl Way {
    const ALL: [Way; 3] = [Way::Already, Way::Sudo, Way::Namespace];

    /// Words before the command.
    fn words(self) -> &'static [&'static str] {
        match self {
            Way::Already => &[],
            Way::Sudo => &["sudo", "--non-interactive", KEPT, "--"],
            Way::Namespace => &["unshare", "--map-root-user", "--map-auto", "--"],
        }
    }

    fn command(self, program: &Path) -> Command {
        match self.words().split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }

    /// Whether it leads to root: `id` is asked.
    fn works(self) -> bool {
        let output = self.command(Path::new("id")).arg("-u").stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
    }
}

/// Whether this process belongs to root.
pub fn is_root() -> bool {
    Way::Already.works()
}

/// Sees to it that [`command`] will work, without a question that would come up under a spinner: on a terminal, sudo
/// asks for the password now where there is no other way.
///
/// # Errors
/// Where there is none at all; with `line`, which is to be run as root.
pub fn authorize(line: &str) -> anyhow::Result<()> {
    if way().is_some() || ask_sudo() {
        return Ok(());
    }
    bail!(
        "files of a root image belong to root: this needs sudo, or a user namespace (package uidmap, and a range for \
         this user in /etc/subuid and /etc/subgid); or run as root:\n  {line}"
    )
}

/// Lets sudo ask for a password, where there are both sudo and a terminal.
pub fn ask_sudo() -> bool {
    Way::Sudo.works()
        || std::io::stdin().is_terminal()
            && Command::new("sudo").arg("--validate").status().is_ok_and(|status| status.success())
}

/// A command that runs as root.
///
/// # Errors
/// Where there is no way that asks nothing.
pub fn command(program: &Path) -> anyhow::Result<Command> {
    let way = way().context("files of a root image belong to root: run this as root, or with sudo")?;
    let mut command = way.command(program);
    command.env("PATH", path());
    Ok(command)
}

/// What cargo has to put before each test program, so that it runs as root of this host, with all of the environment
/// of its caller: `Some("")` for nothing.
///
/// # Errors
/// For an ordinary user without sudo, or whom it refuses. A namespace is no help here: tests make control groups and
/// device nodes.
pub fn test_runner() -> anyhow::Result<String> {
    if is_root() {
        return Ok(String::new());
    }
    if !ask_sudo() {
        bail!("tests make control groups, device nodes and files of others, and there is no sudo; run them as root");
    }
    // sudo has a path of its own, whatever it is told to keep.
    Ok(format!("sudo --non-interactive --preserve-env env PATH={}", path()))
}

/// Cargo, as the user who called us by sudo, if so: what it builds must not become root's.
pub fn cargo_of_caller() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let id = |name| std::env::var(name).ok().and_then(|id| id.parse().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        command.uid(user).gid(group).env_remove(RUNNER);
    }
    command
}

fn path() -> String {
    format!("{}:{SBIN}", std::env::var("PATH").unwrap_or_default())
}

fn way() -> Option<Way> {
    Way::ALL.into_iter().find(|way| way.works())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_runs_the_program_with_its_arguments() {
        for way in Way::ALL {
            let command = way.command(Path::new("mmos-image"));
            let mut words = vec![command.get_program()];
            words.extend(command.get_args());
            assert_eq!(words.last().unwrap(), &"mmos-image", "{way:?}");
            assert_eq!(words.len(), way.words().len() + 1);
        }
    }

    #[test]
    fn a_command_belongs_to_root_whoever_runs_the_test() {
        let Ok(mut command) = command(Path::new("id")) else { panic!("{}", authorize("this test").unwrap_err()) };
        assert_eq!(command.arg("-u").output().unwrap().stdout, b"0\n");
    }
}
