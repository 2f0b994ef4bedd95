//! What a process is doing, in words for people: its name, its state, and the function of the kernel in which it sleeps
//! ([proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html), `stat` and `wchan`).

use std::fs;
use std::path::Path;

/// "process 123 (cat) sleeps in pipe_read"; `None` if there is no such process.
pub fn of(proc: &Path, pid: i32) -> Option<String> {
    let folder = proc.join(pid.to_string());
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name may hold anything, also parentheses and blanks: it ends at the last one.
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    // Without CONFIG_KALLSYMS, or while it runs, "0".
    let place = fs::read_to_string(folder.join("wchan")).ok().filter(|place| !matches!(place.trim(), "" | "0"));
    let place = place.map(|place| format!(" in {}", place.trim())).unwrap_or_default();
    let doing = match rest.trim_start().chars().next()? {
        'R' => "runs".to_owned(),
        'S' | 'I' => format!("sleeps{place}"),
        'D' => format!("sleeps uninterruptibly{place}"),
        'T' => "was stopped by a signal".to_owned(),
        't' => "is held by a debugger".to_owned(),
        'Z' | 'X' => "has ended, and is not reaped".to_owned(),
        other => format!("is in state {other}"),
    };
    Some(format!("process {pid} ({name}) {doing}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stat: &str, wchan: &str) -> Option<String> {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("7")).unwrap();
        fs::write(proc.path().join("7/stat"), stat).unwrap();
        fs::write(proc.path().join("7/wchan"), wchan).unwrap();
        of(proc.path(), 7)
    }

    #[test]
    fn a_sleeping_process_is_told_with_the_place_and_a_running_one_without() {
        assert_eq!(seen("7 (a) b) S 1 7", "pipe_read").unwrap(), "process 7 (a) b) sleeps in pipe_read");
        assert_eq!(
            seen("7 (cat) D 1 7", "io_schedule").unwrap(),
            "process 7 (cat) sleeps uninterruptibly in io_schedule"
        );
        assert_eq!(seen("7 (cat) S 1 7", "0").unwrap(), "process 7 (cat) sleeps");
        assert_eq!(seen("7 (cat) R 1 7", "0").unwrap(), "process 7 (cat) runs");
        assert_eq!(seen("rubbish", ""), None);
    }

    #[test]
    fn this_process_is_seen_and_one_that_is_not_there_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(of(Path::new("/proc"), own).unwrap().starts_with(&format!("process {own} (")));
        assert_eq!(of(Path::new("/proc"), 0), None);
    }
}
