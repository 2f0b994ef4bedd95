//! A step that takes a while: a spinner with the time on a terminal, a line before and after elsewhere.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Does `work` under the name `name`.
pub fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    let bar = ProgressBar::new_spinner().with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    if bar.is_hidden() {
        eprintln!("  {name} …");
    } else {
        bar.enable_steady_tick(TICK);
    }
    let result = work();
    bar.finish_and_clear();
    let took = begun.elapsed();
    let took =
        if took.as_secs() < 60 { format!("{:.1} s", took.as_secs_f64()) } else { HumanDuration(took).to_string() };
    match &result {
        Ok(_) => eprintln!("  {name}: {took}"),
        Err(_) => eprintln!("  {name}: failed after {took}"),
    }
    result
}
