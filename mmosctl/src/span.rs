//! Lengths of time, for people.

const MILLI: u64 = 1000;
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A length of time given in microseconds, in its two largest units at most.
pub fn span(us: u64) -> String {
    let two = |a: u64, a_name, b: u64, b_name| {
        if b == 0 { format!("{a} {a_name}") } else { format!("{a} {a_name} {b} {b_name}") }
    };
    match us {
        0..MILLI => format!("{us} us"),
        MILLI..SECOND => format!("{} ms", us / MILLI),
        SECOND..MINUTE => format!("{}.{:03} s", us / SECOND, us % SECOND / MILLI),
        MINUTE..HOUR => two(us / MINUTE, "min", us % MINUTE / SECOND, "s"),
        HOUR..DAY => two(us / HOUR, "h", us % HOUR / MINUTE, "min"),
        _ => two(us / DAY, "d", us % DAY / HOUR, "h"),
    }
}

/// From one point in time of the interface to another; `None` where either is missing, or they are the wrong way
/// round.
pub fn between(from: Option<i64>, to: Option<i64>) -> Option<u64> {
    u64::try_from(to?.checked_sub(from?)?).ok()
}

/// A point in time as the kernel's log shows it: seconds since its start, with microseconds.
pub fn stamp(us: i64) -> String {
    let us = u64::try_from(us).unwrap_or(0);
    format!("{:5}.{:06}", us / SECOND, us % SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_two_largest_units() {
        for (us, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (12_345, "12 ms"),
            (3_214_000, "3.214 s"),
            (59_999_999, "59.999 s"),
            (60_000_000, "1 min"),
            (125_000_000, "2 min 5 s"),
            (3_600_000_000, "1 h"),
            (11_100_000_000, "3 h 5 min"),
            (200_000_000_000, "2 d 7 h"),
            (u64::MAX, "213503982 d 8 h"),
        ] {
            assert_eq!(span(us), text);
        }
    }

    #[test]
    fn a_clock_that_went_wrong_gives_no_span() {
        assert_eq!(between(Some(5), Some(3)), None);
        assert_eq!(between(Some(i64::MIN), Some(i64::MAX)), None);
        assert_eq!(between(None, Some(1)), None);
        assert_eq!(between(Some(1), Some(3)), Some(2));
    }

    #[test]
    fn stamps_align_as_in_the_kernels_log() {
        assert_eq!(stamp(1_234_567), "    1.234567");
        assert_eq!(stamp(-1), "    0.000000");
    }
}
