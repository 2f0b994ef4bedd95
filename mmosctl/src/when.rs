//! Points in time as people type them, as microseconds since the kernel started, which is the interface's clock.

use std::time::{Duration, SystemTime};

/// Reads a point in time: so long ago, so long after the kernel started, or by the wall clock.
pub fn parse(text: &str) -> Result<i64, String> {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    at(text, mmos::control::now_us(), wall)
}

fn at(text: &str, now: u64, wall: Duration) -> Result<i64, String> {
    let text = text.trim();
    let boot = Duration::from_micros(now);
    let micros = |time: Duration| i64::try_from(time.as_micros()).map_err(|_| "out of range".to_owned());
    if let Some(seconds) = text.strip_prefix('+') {
        let seconds: f64 = seconds.parse().map_err(|_| format!("{seconds:?} is not a number of seconds"))?;
        return micros(Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?);
    }
    let ago = text.strip_suffix("ago").unwrap_or(text).trim().trim_start_matches('-');
    if let Ok(ago) = humantime::parse_duration(ago) {
        return micros(boot.saturating_sub(ago));
    }
    let today =
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH.checked_add(wall).unwrap_or(SystemTime::now()));
    let today = today.to_string();
    let (day, time) = match text.split_once([' ', 'T']) {
        Some((day, time)) => (day, time),
        None if text.contains(':') => (today.get(..10).unwrap_or_default(), text),
        None => (text, "00:00:00"),
    };
    let seconds = if time.matches(':').count() == 1 { ":00" } else { "" };
    let stamp = format!("{day} {time}{seconds}");
    let time = humantime::parse_rfc3339_weak(&stamp)
        .map_err(|_| "not a time: see the end of `mmosctl logs --help`".to_owned())?
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| "before 1970".to_owned())?;
    // What was before the kernel started is as early as that.
    micros(boot.saturating_add(time).saturating_sub(wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_span_a_stamp_or_the_wall_clocks() {
        // 2026-01-31 14:05:00 UTC, an hour after the kernel started.
        let (now, wall) = (3_600_000_000, Duration::from_secs(1_769_868_300));
        for (text, seconds) in [
            ("5min", 3300.0),
            ("-5min", 3300.0),
            ("1h 30s ago", 0.0),
            ("10s ago", 3590.0),
            ("+12.5", 12.5),
            ("2026-01-31 14:00", 3300.0),
            ("2026-01-31T14:00:01.5Z", 3301.5),
            ("14:04", 3540.0),
            ("14:04:59", 3599.0),
            ("2026-01-31", 0.0),
            ("2026-02-01", 3600.0 + 35_700.0),
        ] {
            let expected = Duration::from_secs_f64(seconds);
            assert_eq!(at(text, now, wall), Ok(i64::try_from(expected.as_micros()).unwrap()), "{text}");
        }
        for wrong in ["", "soon", "+x", "+-1", "25:00", "2026-13-01", "12", "1969-12-31"] {
            assert!(at(wrong, now, wall).is_err(), "{wrong}");
        }
    }
}
