//! The handler that the kernel runs for each core: reads what is known of the dying process, keeps its core, says so in
//! the kernel's log, and ends. See [core(5)](https://man7.org/linux/man-pages/man5/core.5.html).

use std::fs;
use std::io;
use std::path::Path;

use super::{Crash, Folder, Kind};
use crate::host::cgroup;
use crate::log::clock;

/// What the kernel is to write into the arguments: the process's number (as the first namespace has it), signal, time.
const ARGUMENTS: &str = "--core %P %s %t";
/// So many cores are handled at once; the kernel says in its log that it skipped more than that. Not 0: then it would not
/// wait for the handler, and what `/proc` knows of the process would be gone.
const AT_ONCE: &str = "4";

/// Has the kernel run `program` for each core, unless the image has already said otherwise.
///
/// # Errors
/// When the kernel's settings cannot be read or written.
pub fn install(program: &Path, proc: &Path) -> io::Result<()> {
    let pattern = proc.join("sys/kernel/core_pattern");
    let ours = format!("|{} {ARGUMENTS}", program.display());
    let now = fs::read_to_string(&pattern)?;
    if now.trim() != "core" && now.trim() != ours {
        log::info!("cores go where kernel.core_pattern says ({}), and are not kept", now.trim());
        return Ok(());
    }
    fs::write(proc.join("sys/kernel/core_pipe_limit"), AT_ONCE)?;
    fs::write(pattern, ours)
}

/// Handles one core, which is on standard input. `arguments` are those of the pattern.
///
/// # Errors
/// In words, when it is not kept.
pub fn handle(folder: &Folder, proc: &Path, arguments: &[String]) -> Result<Crash, String> {
    let [pid, signal, time] = arguments else {
        return Err(format!("{} arguments instead of three: is kernel.core_pattern ours?", arguments.len()));
    };
    let pid: u32 = pid.parse().map_err(|_| format!("{pid:?} is no process number"))?;
    let signal: i32 = signal.parse().map_err(|_| format!("{signal:?} is no signal"))?;
    let wall: u64 = time.parse::<u64>().map_err(|_| format!("{time:?} is no time"))?.saturating_mul(1_000_000);
    let crash = describe(&proc.join(pid.to_string()), pid, signal, wall, link::boot::now_us());
    folder.keep(crash, &mut io::stdin().lock()).map_err(|error| format!("its core cannot be kept: {error}"))
}

/// What is known of a process.
fn describe(process: &Path, pid: u32, signal: i32, wall: u64, time: u64) -> Crash {
    let read = |name: &str| String::from_utf8_lossy(&fs::read(process.join(name)).unwrap_or_default()).into_owned();
    let uid =
        read("status").lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
    let arguments = read("cmdline");
    Crash {
        id: format!("{}-{pid}", time / 1000),
        kind: Kind::Core,
        time: Some(time),
        // The kernel gives seconds; our own clock is finer, where both agree.
        wall: wall.max(time.saturating_add(clock::wall_offset())),
        unit: cgroup::unit_in(&read("cgroup"), OURS),
        pid: Some(pid),
        uid,
        signal: Some(signal),
        command: read("comm").trim_end().to_owned(),
        program: fs::read_link(process.join("exe")).map(|path| path.display().to_string()).unwrap_or_default(),
        arguments: arguments.split_terminator('\0').take(ARGUMENTS_KEPT).map(|text| short(text).to_owned()).collect(),
        reason: String::new(),
        bytes: 0,
        kept: 0,
        cut: false,
    }
}

/// The folder of the services' cgroups.
const OURS: &str = "mmos";
/// A command line may be megabytes long.
const ARGUMENTS_KEPT: usize = 32;
const ARGUMENT_KEPT: usize = 256;

fn short(text: &str) -> &str {
    let end = (0..=text.len().min(ARGUMENT_KEPT)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_set_where_nobody_set_another() {
        let proc = tempfile::tempdir().unwrap();
        let kernel = proc.path().join("sys/kernel");
        fs::create_dir_all(&kernel).unwrap();
        fs::write(kernel.join("core_pattern"), "core\n").unwrap();
        fs::write(kernel.join("core_pipe_limit"), "0\n").unwrap();
        let program = Path::new(link::paths::SVCMGR);
        let pattern = || fs::read_to_string(kernel.join("core_pattern")).unwrap();
        install(program, proc.path()).unwrap();
        assert_eq!(pattern(), "|/usr/lib/mmos/svcmgr --core %P %s %t");
        // The kernel's own bound, with its newline: CORENAME_MAX_SIZE.
        assert!(pattern().len() < 127);
        assert_eq!(fs::read_to_string(kernel.join("core_pipe_limit")).unwrap(), "4");
        install(program, proc.path()).unwrap();
        fs::write(kernel.join("core_pattern"), "/var/cores/%e\n").unwrap();
        install(program, proc.path()).unwrap();
        assert_eq!(pattern(), "/var/cores/%e\n");
    }

    #[test]
    fn a_process_is_described_from_what_proc_knows_and_without_it() {
        let process = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(process.path().join(name), text).unwrap();
        write("comm", "worker) x\n");
        write("cmdline", "/usr/bin/worker\0--long\0");
        write("cgroup", "0::/mmos/a.service/sub\n");
        write("status", "Name:\tworker\nUid:\t1000\t0\t0\t0\n");
        std::os::unix::fs::symlink("/usr/bin/worker", process.path().join("exe")).unwrap();
        let crash = describe(process.path(), 77, 11, 5, 12_345_678);
        let got = (crash.id.as_str(), crash.unit.as_deref(), crash.uid, crash.command.as_str(), crash.program.as_str());
        assert_eq!(got, ("12345-77", Some("a.service"), Some(1000), "worker) x", "/usr/bin/worker"));
        assert_eq!(crash.arguments, ["/usr/bin/worker", "--long"]);
        let gone = describe(Path::new("/nowhere"), 77, 11, 5, 12_345_678);
        assert_eq!((gone.unit, gone.uid, gone.signal, gone.pid), (None, None, Some(11), Some(77)));
        assert!(handle(&Folder::new(process.path(), 0), process.path(), &["x".to_owned()]).is_err());
    }
}
