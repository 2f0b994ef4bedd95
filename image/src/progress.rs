//! A bar with rate and time left, on a terminal only: a log gets no bars.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for a number of bytes that is known later, or never.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub fn new(what: &'static str) -> Bar {
        // Draws on stderr, and indicatif hides it where that is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_message(what);
        bar.set_style(style("{msg} {spinner} {bytes} ({binary_bytes_per_sec})"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar { bar }
    }

    pub fn set(&self, progress: wim::Progress) {
        if progress.total > 0 && self.bar.length() != Some(progress.total) {
            self.bar.set_length(progress.total);
            let known = "{msg} {bar:30} {bytes} of {total_bytes} ({binary_bytes_per_sec}, {eta} left)";
            self.bar.set_style(style(known));
        }
        self.bar.set_position(progress.done);
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
