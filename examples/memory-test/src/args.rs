//! The command line, read by hand: a program on the line is best small.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// Shown by `--help`.
pub const HELP: &str = "\
Tests part of the memory, on the manufacturing OS only.

Usage: memory-test [--size SIZE] [--loops N] [--report FILE]

  --size SIZE        how much: bytes with K, M or G, or a share of what is available, as in 50% [default: 16M]
  --loops N          how often [default: 1]
  --report FILE      also write the outcome as JSON
  --memtester FILE   the program that does it [default: memtester, by PATH]

Exit status: 0 passed, 1 failed, 2 wrong usage, 3 could not be tested, 77 this is not the manufacturing OS.";

/// How much memory to test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Bytes(u64),
    /// Of what the kernel says is available.
    Percent(u8),
}

/// What to test, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    pub size: Size,
    pub loops: u32,
    pub report: Option<PathBuf>,
    pub memtester: PathBuf,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    Test(Args),
    Help,
}

/// Reads the words after the program's name.
pub fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Wanted> {
    let mut args = Args { size: Size::Bytes(16 << 20), loops: 1, report: None, memtester: "memtester".into() };
    while let Some(word) = words.next() {
        let (name, mut value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || value.take().or_else(|| words.next()).with_context(|| format!("{name} needs a value"));
        match name {
            "-h" | "--help" => return Ok(Wanted::Help),
            "--size" => args.size = size(&value()?)?,
            "--loops" => {
                let text = value()?;
                let loops = text.parse().ok().filter(|&loops| loops > 0);
                args.loops = loops.with_context(|| format!("--loops {text}: not a number above 0"))?;
            }
            "--report" => args.report = Some(value()?.into()),
            "--memtester" => args.memtester = value()?.into(),
            _ => bail!("{word}: unknown"),
        }
    }
    Ok(Wanted::Test(args))
}

fn size(text: &str) -> anyhow::Result<Size> {
    let wrong = || format!("--size {text}: neither a size, as in 64M, nor a share, as in 50%");
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| (1..=90).contains(percent));
        return percent.map(Size::Percent).with_context(|| format!("{}; a share is 1% to 90%", wrong()));
    }
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let unit = units.iter().find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).filter(|&bytes| bytes > 0);
    bytes.map(Size::Bytes).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> anyhow::Result<Args> {
        match parse(words.iter().map(|&word| word.to_owned()))? {
            Wanted::Test(args) => Ok(args),
            Wanted::Help => panic!("help"),
        }
    }

    #[test]
    fn sizes_have_units_or_are_shares() {
        for (text, size) in [
            ("4096", Size::Bytes(4096)),
            ("8K", Size::Bytes(8192)),
            ("16M", Size::Bytes(16 << 20)),
            ("2G", Size::Bytes(2 << 30)),
            ("50%", Size::Percent(50)),
        ] {
            assert_eq!(parsed(&["--size", text]).unwrap().size, size);
            assert_eq!(parsed(&[&format!("--size={text}")]).unwrap().size, size);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for words in [
            &["--size"][..],
            &["--size", "0"],
            &["--size", "M"],
            &["--size", "99999999999G"],
            &["--size", "100%"],
            &["--size", "-1M"],
            &["--loops", "0"],
            &["--loops", "many"],
            &["--fast"],
            &["16M"],
        ] {
            let message = parsed(words).unwrap_err().to_string();
            assert!(message.contains(words[0]), "{message}");
        }
    }

    #[test]
    fn the_help_names_every_option_and_exit_status() {
        for part in ["--size", "--loops", "--report", "--memtester", "0 passed", "1 failed", "77"] {
            assert!(HELP.contains(part), "{part}");
        }
        assert_eq!(parse(["--help".to_owned()].into_iter()).unwrap(), Wanted::Help);
    }
}
