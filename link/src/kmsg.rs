//! The `log` crate's records into the kernel's log, where they stand in order with the kernel's own and reach every
//! console without ever blocking on one. Format: `Documentation/ABI/testing/dev-kmsg`.
//!
//! Levels: error 3, warn 4, info 5 (the kernel's "notice"), debug 6, trace 7. So `loglevel=6` on the kernel command
//! line shows our steps on the console, but not the kernel's chatter.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// The kernel cuts a record at 1024 bytes less its own prefix (`PRINTKRB_RECORD_MAX`); longer text is cut by us, at a
/// character.
const MAX_RECORD: usize = 976;
/// Facility "daemon", so that our records can be told from the kernel's.
const FACILITY: u8 = 3 << 3;

struct Kmsg {
    tag: &'static str,
    file: File,
}

/// Sends all further log records to `/dev/kmsg` under the name `tag`, and lifts the kernel's rate limit for it.
///
/// # Errors
/// When `/dev/kmsg` cannot be opened, or a logger is installed already. Logging is lost then; nothing else is.
pub fn install(tag: &'static str, most: LevelFilter) -> io::Result<()> {
    // Without this the kernel drops all but ten lines in five seconds. Not fatal: a read-only /proc keeps the limit.
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    let file = OpenOptions::new().write(true).open("/dev/kmsg")?;
    log::set_boxed_logger(Box::new(Kmsg { tag, file })).map_err(io::Error::other)?;
    log::set_max_level(most);
    Ok(())
}

impl Log for Kmsg {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // One write is one record. A log that cannot be written has nowhere to say so.
            let _ = (&self.file).write_all(line(self.tag, record).as_bytes());
        }
    }

    fn flush(&self) {}
}

fn line(tag: &str, record: &Record<'_>) -> String {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 5,
        Level::Debug => 6,
        Level::Trace => 7,
    };
    let mut line = format!("<{}>{tag}: {}", FACILITY | priority, record.args()).replace('\n', " | ");
    let mut end = line.len().min(MAX_RECORD);
    while !line.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    line.truncate(end);
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(level: Level, text: &str) -> String {
        line("init", &Record::builder().level(level).args(format_args!("{text}")).build())
    }

    #[test]
    fn a_record_carries_priority_tag_and_one_line() {
        assert_eq!(formatted(Level::Info, "root found"), "<29>init: root found\n");
        assert_eq!(formatted(Level::Error, "a\nb"), "<27>init: a | b\n");
    }

    #[test]
    fn a_long_record_is_cut_at_a_character() {
        let text = formatted(Level::Warn, &"é".repeat(2000));
        assert!(text.len() <= MAX_RECORD + 1 && text.ends_with("é\n"), "{}", text.len());
    }
}
