//! How much memory may be tested without starving the rest of the device.

use anyhow::{Context, bail};

use crate::args::Size;

/// At least so much of what is available stays so, for the device to go on: a tenth.
const SPARED: u64 = 10;

/// The number of bytes to test.
pub fn bytes(size: Size) -> anyhow::Result<u64> {
    let path = "/proc/meminfo";
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    decide(size, available(&text).with_context(|| format!("{path} has no MemAvailable"))?)
}

/// `MemAvailable` of proc_meminfo(5), in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn decide(size: Size, available: u64) -> anyhow::Result<u64> {
    let most = available.saturating_sub(available / SPARED);
    let wanted = match size {
        Size::Bytes(bytes) => bytes,
        Size::Percent(percent) => (available / 100).saturating_mul(percent.into()),
    };
    if wanted > most {
        bail!("--size: {wanted} bytes are wanted, {available} are available, and a tenth is to stay so; ask for less");
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_in_bytes() {
        let text = "MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:    1000 kB\n";
        assert_eq!(available(text), Some(1_024_000));
        for text in ["", "MemTotal: 3 kB\n", "MemAvailable: lots\n", "MemAvailable: 18446744073709551615 kB\n"] {
            assert_eq!(available(text), None, "{text}");
        }
        assert!(bytes(Size::Percent(1)).unwrap() > 0);
    }

    #[test]
    fn a_tenth_of_the_memory_is_left_alone() {
        assert_eq!(decide(Size::Bytes(900), 1000).unwrap(), 900);
        assert_eq!(decide(Size::Percent(90), 1000).unwrap(), 900);
        let message = decide(Size::Bytes(901), 1000).unwrap_err().to_string();
        assert!(message.contains("901") && message.contains("1000"), "{message}");
    }
}
