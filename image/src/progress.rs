//! How far a command is, and how fast it was: a bar with rate and time left, on a terminal only, since a log gets no
//! bars; and the time for the line that comes last.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for a number of bytes that is known later, or never.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub fn new(what: &'static str) -> Bar {
        // Draws on stderr, and indicatif hides it where that is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_message(what);
        bar.set_style(style("{msg} {spinner} {bytes} ({decimal_bytes_per_sec})"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar }
    }

    pub fn set(&self, progress: wim::Progress) {
        let known_before = self.bar.length();
        if progress.total > 0 && known_before != Some(progress.total) {
            self.bar.set_length(progress.total);
            let known = "{msg} {bar:30} {bytes} of {total_bytes} ({decimal_bytes_per_sec}, {eta} left)";
            self.bar.set_style(style(known));
        }
        self.bar.set_position(progress.done);
        if progress.total > 0 && known_before.is_none() {
            // However soon it is over, the eye has a bar and not a spinner.
            self.bar.force_draw();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are above; a wrong one is a plain bar, not an end.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The time that a command takes.
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// So far, to the millisecond.
    pub fn seconds(&self) -> f64 {
        (self.0.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    /// Bytes in a second.
    pub fn rate(&self, bytes: u64) -> u64 {
        let micros = self.0.elapsed().as_micros().max(1);
        let rate = u128::from(bytes).saturating_mul(1_000_000).checked_div(micros).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Seconds and rate, as the last line has them. MB are millions of bytes, as disks and links are sold.
    pub fn words(&self, bytes: u64) -> String {
        let tenths = self.rate(bytes) / 100_000;
        format!("{:.2} s, {}.{} MB/s", self.0.elapsed().as_secs_f64(), tenths / 10, tenths % 10)
    }
}
