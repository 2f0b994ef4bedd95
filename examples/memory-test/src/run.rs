//! Runs memtester, follows its transcript, and gathers what came of it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::transcript::{Event, Transcript};

/// Complaints kept word for word; the others are counted.
const KEPT: usize = 20;

/// What came of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Tests that passed, over all loops.
    pub passed: u32,
    /// Names of those that did not, with the loop: `Random Value (loop 2)`.
    pub failed: Vec<String>,
    /// What memtester said of it, the first lines.
    pub complaints: Vec<String>,
    /// Lines that it said in all.
    pub complaint_lines: u64,
    /// How long it took.
    pub took: Duration,
}

/// Tests `bytes` of memory `loops` times with the program `memtester`, telling `progress` of each test that begins.
///
/// # Errors
/// If it could not be run, or did not test: nothing is known of the memory then.
pub fn memtester(memtester: &Path, bytes: u64, loops: u32, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut child = Command::new(memtester)
        .arg(format!("{bytes}B"))
        .arg(loops.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: cannot be run; is the package memtester in the image?", memtester.display()))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("memtester's output was not caught");
    };
    let mut outcome = Outcome::default();
    std::thread::scope(|scope| {
        // Both pipes at once: a full one that nobody reads would stop memtester.
        let complaints = scope.spawn(|| gather(stderr));
        let followed = follow(stdout, loops, &mut outcome, progress);
        (outcome.complaints, outcome.complaint_lines) = complaints.join().unwrap_or_default();
        followed
    })?;
    let status = child.wait()?;
    outcome.took = begun.elapsed();
    judge(status, &outcome)?;
    Ok(outcome)
}

fn follow(
    mut stdout: impl Read,
    loops: u32,
    outcome: &mut Outcome,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let mut transcript = Transcript::default();
    let mut round = 1;
    let mut take = |events: Vec<Event>| {
        for event in events {
            match event {
                Event::Loop(number) => round = number,
                Event::Begun(name) => progress(&format!("loop {round} of {loops}: {name}")),
                Event::Ended { passed: true, .. } => outcome.passed = outcome.passed.saturating_add(1),
                Event::Ended { name, passed: false } => outcome.failed.push(format!("{name} (loop {round})")),
            }
        }
    };
    let mut chunk = [0; 4096];
    loop {
        match stdout.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => take(transcript.push(chunk.get(..count).unwrap_or_default())),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading memtester's output"),
        }
    }
    take(transcript.finish());
    Ok(())
}

fn gather(stderr: impl Read) -> (Vec<String>, u64) {
    let (mut kept, mut count) = (Vec::new(), 0u64);
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() {
            count = count.saturating_add(1);
            if kept.len() < KEPT {
                kept.push(line);
            }
        }
    }
    (kept, count)
}

/// memtester(8), EXIT CODE: bits; 1 is that it could not begin, 2 and 4 are tests that failed.
fn judge(status: ExitStatus, outcome: &Outcome) -> anyhow::Result<()> {
    let said = || outcome.complaints.join("; ");
    match status.code() {
        None => bail!("memtester was killed ({status}): {}", said()),
        Some(code) if code & 1 != 0 => bail!("memtester could not test ({status}): {}", said()),
        Some(_) if outcome.passed == 0 && outcome.failed.is_empty() => bail!("memtester tested nothing: {}", said()),
        // Its word and its transcript must agree.
        Some(0) if !outcome.failed.is_empty() => {
            bail!("memtester reports success without {}", outcome.failed.join(", "))
        }
        Some(code) if code != 0 && outcome.failed.is_empty() => {
            bail!("memtester reports a failure ({status}), but no test failed: {}", said())
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Runs a shell script in memtester's place.
    fn run(script: &str) -> (anyhow::Result<Outcome>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memtester");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut said = Vec::new();
        let outcome = loop {
            match memtester(&path, 1 << 20, 2, &mut |progress| said.push(progress.to_owned())) {
                // Another test's fork still holds the script open for writing (ETXTBSY): it is gone at the exec.
                Err(error) if format!("{error:#}").contains("Text file busy") => {}
                outcome => break outcome,
            }
        };
        (outcome, said)
    }

    const TEST: &str = "printf '  %-20s: '";

    #[test]
    fn progress_and_passes_are_counted_over_loops() {
        let (outcome, said) = run(&format!(
            "[ \"$1 $2\" = '1048576B 2' ] || exit 9
            for i in 1 2; do echo \"Loop $i/2:\"; {TEST} 'Random Value'; echo ok; {TEST} 'Compare XOR'; echo ok; done"
        ));
        let outcome = outcome.unwrap();
        assert_eq!((outcome.passed, outcome.failed.len()), (4, 0));
        assert_eq!(said[0], "loop 1 of 2: Random Value");
        assert_eq!(said[3], "loop 2 of 2: Compare XOR");
    }

    #[test]
    fn a_failure_names_test_and_loop_and_keeps_what_was_said() {
        let (outcome, _) = run(&format!(
            "echo 'Loop 1/2:'; {TEST} 'Random Value'
            i=0; while [ $i -lt 50 ]; do echo 'FAILURE: 0x1 != 0x2 at offset 0x3.' >&2; i=$((i+1)); done
            {TEST} 'Compare XOR'; echo ok; exit 4"
        ));
        let outcome = outcome.unwrap();
        assert_eq!((outcome.passed, outcome.failed), (1, vec!["Random Value (loop 1)".to_owned()]));
        assert_eq!((outcome.complaints.len(), outcome.complaint_lines), (KEPT, 50));
    }

    #[test]
    fn what_was_not_tested_is_no_verdict() {
        for (script, reason) in [
            ("echo 'failed to mmap' >&2; exit 1", "could not test"),
            ("exit 0", "tested nothing"),
            ("kill -9 $$", "killed"),
            (&format!("{TEST} 'Random Value'; exit 0"), "success without Random Value (loop 1)"),
            (&format!("{TEST} 'Random Value'; echo ok; exit 4"), "but no test failed"),
        ] {
            let message = run(script).0.unwrap_err().to_string();
            assert!(message.contains(reason), "{script}: {message}");
        }
        let error = memtester(Path::new("/nowhere/memtester"), 1, 1, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("is the package memtester in the image?"), "{error}");
    }

    #[test]
    fn the_real_memtester_is_understood() {
        if Command::new("memtester").output().is_err() {
            skip::because("there is no memtester; Debian: apt-get install memtester");
            return;
        }
        let mut said = Vec::new();
        let outcome = memtester(Path::new("memtester"), 64 << 10, 2, &mut |text| said.push(text.to_owned())).unwrap();
        assert_eq!(outcome.failed, [""; 0]);
        assert!(outcome.passed >= 2 * 15, "{outcome:?}");
        assert_eq!(usize::try_from(outcome.passed).unwrap(), said.len());
        assert!(said.contains(&"loop 2 of 2: Walking Ones".to_owned()), "{said:?}");
    }
}
