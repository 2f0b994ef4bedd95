//! `measured PROGRAM [ARGUMENT…]`: runs a program, its output to nowhere, and prints a line of JSON: seconds, processor
//! seconds, most memory. A process of its own, because the kernel counts what a parent held before `exec` to the child,
//! too (`exec_mmap`, fs/exec.c): this one holds next to nothing.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: measured PROGRAM [ARGUMENT…]");
        return ExitCode::FAILURE;
    };
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let ended = command.spawn().and_then(|child| sys::wait(&child));
    let seconds = begun.elapsed().as_secs_f64();
    match ended {
        Ok(used) if used.success => {
            let (user, system, peak) = (used.user, used.system, used.peak_rss_kib);
            println!("{{\"seconds\":{seconds},\"user\":{user},\"system\":{system},\"peak_rss_kib\":{peak}}}");
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("measured: cannot run {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

mod sys {
    use std::io;
    use std::mem::MaybeUninit;
    use std::process::Child;

    pub(super) struct Used {
        pub(super) success: bool,
        pub(super) user: f64,
        pub(super) system: f64,
        pub(super) peak_rss_kib: i64,
    }

    /// Waits for `child`; what it and its own children used. See getrusage(2).
    pub(super) fn wait(child: &Child) -> io::Result<Used> {
        let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
        let (mut status, mut usage) = (0, MaybeUninit::uninit());
        loop {
            // SAFETY: both results have valid places.
            if unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) } == pid {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        // SAFETY: wait4 succeeded, so it filled the structure in.
        let usage: libc::rusage = unsafe { usage.assume_init() };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Ok(Used {
            success: libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            user: seconds(usage.ru_utime),
            system: seconds(usage.ru_stime),
            peak_rss_kib: usage.ru_maxrss,
        })
    }
}
