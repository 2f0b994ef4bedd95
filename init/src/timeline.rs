//! The boot record as it grows: each step with its times, each warning once in the kernel's log and once in the record.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use link::BootRecord;
use link::boot::{Stage, now_us};

/// The steps that every boot has, by the name they have in the record.
pub mod step {
    /// Step 1.
    pub const EARLY: &str = "early";
    /// Step 2.
    pub const SETTINGS: &str = "settings";
    /// Step 3.
    pub const MODULES: &str = "modules";
    /// Step 4.
    pub const FIND_ROOT: &str = "find-root";
    /// Step 5.
    pub const VERIFY: &str = "verify";
    /// Step 6.
    pub const MEMORY: &str = "memory";
    /// Step 7.
    pub const UNPACK: &str = "unpack";
    /// Step 8.
    pub const SWITCH_ROOT: &str = "switch-root";
    /// Step 9, up to the first start of svcmgr.
    pub const STAGE2: &str = "stage2";
}

/// The record of this boot, with the step that is under way.
#[derive(Debug, Default)]
pub struct Timeline {
    /// What is recorded so far.
    pub record: BootRecord,
}

impl Timeline {
    /// An empty record of this boot, which began its first step when the kernel had started us.
    pub fn new() -> Timeline {
        let mut timeline = Timeline::default();
        timeline.record.version = env!("CARGO_PKG_VERSION").to_owned();
        timeline
    }

    /// The record that stage 1 left at `path`, or an empty one where another program was stage 1.
    pub fn resume(path: &Path) -> Timeline {
        match BootRecord::read(path) {
            Ok(record) if record.boot_id == boot_id() => Timeline { record },
            _ => Timeline::new(),
        }
    }

    /// A step begins, and the one before it ends.
    pub fn begin(&mut self, name: &str) {
        let now = now_us();
        self.end_at(now);
        log::debug!("step {name}");
        self.record.stages.push(Stage { name: name.to_owned(), begin_us: now, end_us: 0 });
    }

    /// The step that is under way ends.
    pub fn end(&mut self) {
        self.end_at(now_us());
    }

    fn end_at(&mut self, now: u64) {
        if let Some(stage) = self.record.stages.last_mut().filter(|stage| stage.end_us == 0) {
            stage.end_us = now;
        }
    }

    /// Something went wrong and does not stop the boot.
    pub fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        log::warn!("{warning}");
        self.record.warnings.push(warning);
    }

    /// Writes the record to `path`, whose folder is made for all to read.
    pub fn write(&mut self, path: &Path) {
        self.record.boot_id = boot_id();
        if let Some(folder) = path.parent() {
            let _ = std::fs::DirBuilder::new().mode(0o755).create(folder);
        }
        if let Err(error) = self.record.write(path) {
            log::error!("the boot record {} cannot be written: {error}", path.display());
        }
    }
}

/// The kernel's number for this boot; empty where `/proc` is not there.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other_without_a_gap() {
        let mut timeline = Timeline::new();
        timeline.begin(step::EARLY);
        timeline.begin(step::SETTINGS);
        timeline.end();
        let [a, b] = &timeline.record.stages[..] else { panic!("{:?}", timeline.record.stages) };
        assert_eq!(a.end_us, b.begin_us);
        assert!(a.begin_us > 0 && a.begin_us <= a.end_us && b.begin_us <= b.end_us);
    }

    #[test]
    fn stage_2_goes_on_with_the_record_of_stage_1() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mmos/boot.json");
        let mut first = Timeline::new();
        first.record.profile = Some("Line".into());
        first.begin(step::SWITCH_ROOT);
        first.warn("a warning");
        first.write(&path);
        let mut second = Timeline::resume(&path);
        second.begin(step::STAGE2);
        second.end();
        assert_eq!(second.record.profile.as_deref(), Some("Line"));
        assert_eq!(second.record.warnings, ["a warning"]);
        assert!(second.record.stages.iter().all(|stage| stage.end_us >= stage.begin_us && stage.end_us > 0));
    }

    #[test]
    fn the_record_of_another_boot_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot.json");
        let old = BootRecord { boot_id: "another".into(), profile: Some("Old".into()), ..BootRecord::default() };
        old.write(&path).unwrap();
        assert_eq!(Timeline::resume(&path).record.profile, None);
    }
}
