//! Time spans as unit files write them: [systemd.time(7)](https://www.freedesktop.org/software/systemd/man/systemd.time.html),
//! "Parsing Time Spans".

use std::fmt;

/// A span in microseconds; [`Span::INFINITY`] never passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Span(pub u64);

/// Why a text is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// No number where one is due.
    #[error("{0:?} is not a time span, such as \"1min 30s\", \"500ms\" or \"infinity\"")]
    NotASpan(String),
    /// A unit that there is not.
    #[error("{0:?} is not a unit of time (us, ms, s, min, h, d, w, M, y)")]
    UnknownUnit(String),
    /// More than 2^64 microseconds.
    #[error("{0:?} is too long; write \"infinity\"")]
    TooLong(String),
}

impl Span {
    /// The span that never passes.
    pub const INFINITY: Span = Span(u64::MAX);
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// `n` seconds.
    pub const fn seconds(n: u64) -> Span {
        Span(n.saturating_mul(1_000_000))
    }

    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Span {
        Span(n.saturating_mul(1000))
    }

    /// When it is over, if it begins at `now`; `None` if never.
    pub fn after(self, now: u64) -> Option<u64> {
        (self != Span::INFINITY).then(|| now.saturating_add(self.0))
    }

    /// Reads a span; numbers without a unit are seconds.
    pub fn parse(text: &str) -> Result<Span, SpanError> {
        let whole = text.trim();
        if whole == "infinity" {
            return Ok(Span::INFINITY);
        }
        let bad = || SpanError::NotASpan(whole.to_owned());
        let mut rest = whole;
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            let tail = tail.trim_start();
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.' || c.is_whitespace()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let scale = scale(unit).ok_or_else(|| match number.is_empty() {
                true => bad(),
                false => SpanError::UnknownUnit(unit.to_owned()),
            })?;
            let micros = scaled(number, scale).ok_or_else(bad)?;
            total = micros
                .and_then(|micros| total.checked_add(micros))
                .ok_or_else(|| SpanError::TooLong(whole.to_owned()))?;
            rest = tail.trim_start();
        }
        Ok(Span(total))
    }
}

/// Microseconds of one `unit`.
fn scale(unit: &str) -> Option<u64> {
    Some(match unit {
        "us" | "usec" | "µs" | "μs" => 1,
        "ms" | "msec" => 1_000,
        "" | "s" | "sec" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000,
        "h" | "hr" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        "w" | "week" | "weeks" => 604_800_000_000,
        // systemd.time(7): a month is 30.44 days, a year 365.25.
        "M" | "month" | "months" => 2_630_016_000_000,
        "y" | "year" | "years" => 31_557_600_000_000,
        _ => return None,
    })
}

/// `number` (with a fraction or without) times `scale`: outer `None` if it is no number, inner if it is too large.
fn scaled(number: &str, scale: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut micros = match whole.is_empty() {
        true => Some(0),
        false => whole.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)),
    };
    // Digit by digit, so that nothing is lost to floating point; what is below a microsecond is.
    let mut worth = scale;
    for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
        worth /= 10;
        micros = micros.and_then(|m| m.checked_add(worth.checked_mul(u64::from(digit))?));
    }
    Some(micros)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u64::MAX => write!(f, "infinity"),
            n if n.is_multiple_of(1_000_000) => write!(f, "{} s", n / 1_000_000),
            n if n < 1_000 => write!(f, "{n} us"),
            n if n < 1_000_000 => write!(f, "{} ms", n / 1_000),
            n => write!(f, "{}.{:03} s", n / 1_000_000, (n % 1_000_000) / 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_those_of_systemd_time() {
        for (text, micros) in [
            ("2 h", 7_200_000_000),
            ("2hours", 7_200_000_000),
            ("48hr", 172_800_000_000),
            ("1y 12month", 63_117_792_000_000),
            ("55s500ms", 55_500_000),
            ("300ms20s 5day", 432_020_300_000),
            ("1min 30s", 90_000_000),
            ("1.5s", 1_500_000),
            (".25", 250_000),
            ("5", 5_000_000),
            ("0", 0),
            ("7us", 7),
            ("infinity", u64::MAX),
        ] {
            assert_eq!(Span::parse(text), Ok(Span(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_with_the_remedy() {
        for text in ["", "s", "-1", "1..2", ".", "later"] {
            assert!(matches!(Span::parse(text), Err(SpanError::NotASpan(_))), "{text}");
        }
        assert_eq!(Span::parse("3 parsec"), Err(SpanError::UnknownUnit("parsec".into())));
        assert!(matches!(Span::parse("99999999999999y"), Err(SpanError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn minutes_and_seconds_add_up(m in 0u64..10_000, s in 0u64..10_000) {
            prop_assert_eq!(Span::parse(&format!("{m}min {s}s")), Ok(Span::seconds(m.saturating_mul(60).saturating_add(s))));
        }

        #[test]
        fn any_text_is_a_span_or_refused(text in "[0-9.a-z ]{0,20}") {
            let _ = Span::parse(&text);
        }
    }
}
