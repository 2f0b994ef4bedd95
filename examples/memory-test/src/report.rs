//! The outcome: a line for people, and JSON for the line's computer.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::run::Outcome;

/// What was tested, and what came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub passed: bool,
    pub bytes: u64,
    pub loops: u32,
    pub tests_passed: u32,
    pub tests_failed: Vec<String>,
    pub complaints: Vec<String>,
    pub complaint_lines: u64,
    pub seconds: f64,
}

impl Report {
    /// The report on a run over `bytes` of memory.
    pub fn new(bytes: u64, loops: u32, outcome: &Outcome) -> Report {
        Report {
            passed: outcome.failed.is_empty(),
            bytes,
            loops,
            tests_passed: outcome.passed,
            tests_failed: outcome.failed.clone(),
            complaints: outcome.complaints.clone(),
            complaint_lines: outcome.complaint_lines,
            seconds: outcome.took.as_secs_f64(),
        }
    }

    /// `PASS` or `FAIL`, and why, in one line.
    pub fn verdict(&self) -> String {
        let what = format!("{} KiB, {} loops, {:.1} s", self.bytes / 1024, self.loops, self.seconds);
        if self.passed {
            format!("PASS: {} tests over {what}", self.tests_passed)
        } else {
            let said = self.complaints.first().map(|line| format!("; {line}")).unwrap_or_default();
            format!("FAIL: {} over {what}{said}", self.tests_failed.join(", "))
        }
    }

    /// Writes the report as JSON: whoever reads it sees all of it, or an older one.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let next = path.with_extension("new");
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&next, text).with_context(|| format!("cannot write {}", next.display()))?;
        std::fs::rename(&next, path).with_context(|| format!("cannot rename to {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_says_what_failed_and_why() {
        let mut outcome = Outcome { passed: 17, ..Outcome::default() };
        let report = Report::new(4 << 20, 1, &outcome);
        assert_eq!(report.verdict(), "PASS: 17 tests over 4096 KiB, 1 loops, 0.0 s");
        outcome.failed = vec!["Random Value (loop 1)".into()];
        outcome.complaints = vec!["FAILURE: 0x1 != 0x2 at offset 0x3.".into()];
        let report = Report::new(4 << 20, 1, &outcome);
        let verdict = "FAIL: Random Value (loop 1) over 4096 KiB, 1 loops, 0.0 s; FAILURE: 0x1 != 0x2 at offset 0x3.";
        assert_eq!(report.verdict(), verdict);
    }

    #[test]
    fn the_report_is_json_and_replaces_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        for passed in [16, 17] {
            let outcome = Outcome { passed, ..Outcome::default() };
            Report::new(1024, 1, &outcome).write(&path).unwrap();
            let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!((&value["passed"], &value["tests_passed"]), (&true.into(), &passed.into()));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
