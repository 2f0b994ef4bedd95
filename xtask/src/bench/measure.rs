//! One run of a program, measured by the `measured` of the package `bench`.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;
use vm::images::target;

/// What one run took.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Used {
    /// By the clock.
    pub seconds: f64,
    /// Of processors, in the program itself.
    pub user: f64,
    /// Of processors, in the kernel.
    pub system: f64,
    /// Most memory at one time, of the largest process where there are several.
    pub peak_rss_kib: u64,
}

impl Used {
    pub fn processors(&self) -> f64 {
        self.user + self.system
    }
}

/// Where cargo puts the programs of the package `bench`, and `mmos-image`.
pub fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Runs programs; ahead of everything else on the machine where that is allowed.
pub struct Stopwatch {
    pub ahead: bool,
}

impl Stopwatch {
    pub fn new() -> Stopwatch {
        let tried = Command::new("chrt").args(["--rr", "1", "true"]).stderr(Stdio::null()).status();
        Stopwatch { ahead: tried.is_ok_and(|status| status.success()) }
    }

    pub fn run(&self, words: &[impl AsRef<OsStr>]) -> anyhow::Result<Used> {
        let measured = program("measured");
        let mut command = if self.ahead {
            let mut command = Command::new("chrt");
            command.args(["--rr", "1"]).arg(&measured);
            command
        } else {
            Command::new(&measured)
        };
        let output = command.args(words).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run {}", measured.display()))?;
        if !output.status.success() {
            let line: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
            bail!("{:?} failed: {}", line.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// The one in the middle; of an even number the mean of both.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2));
    low.zip(high).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
