//! `[Service]`: how the kernel schedules its processes.

use super::Reader;
use crate::unit::directive::SchedulingKey;
use crate::unit::scheduling::{Scheduling, cpus, io_class, policy};
use crate::unit::syntax::Entry;
use crate::unit::time::Span;

/// `PER_LINUX32`: personality(2).
const PER_LINUX32: u64 = 8;

impl Reader<'_> {
    pub(super) fn scheduling(&mut self, key: SchedulingKey, entry: &Entry) {
        let value = entry.value.as_str();
        let words = ["other", "batch", "idle", "fifo", "rr"];
        let classes = ["none", "realtime", "best-effort", "idle"];
        match key {
            SchedulingKey::CpuAffinity => match cpus(value) {
                Some(list) if list.is_empty() => self.schedule().affinity.clear(),
                Some(list) => self.schedule().affinity.extend(list),
                None => {
                    let text = format!("CPUAffinity={value} is ignored: numbers of processors are due, such as 0-3 5");
                    self.note(entry.line, text);
                }
            },
            SchedulingKey::CpuSchedulingPolicy => match policy(value) {
                Some(policy) => self.schedule().policy = Some(policy),
                None => self.unknown_value(entry, &words),
            },
            SchedulingKey::CpuSchedulingPriority => {
                if let Some(priority) = self.number(entry, 1..=99) {
                    self.schedule().priority = Some(priority);
                }
            }
            SchedulingKey::CpuSchedulingResetOnFork => {
                if let Some(yes) = self.boolean(entry) {
                    self.schedule().reset_on_fork = yes;
                }
            }
            SchedulingKey::IoSchedulingClass => match io_class(value) {
                Some(class) => self.schedule().io_class = Some(class),
                None => self.unknown_value(entry, &classes),
            },
            SchedulingKey::IoSchedulingPriority => {
                if let Some(priority) = self.number(entry, 0..=7) {
                    self.schedule().io_priority = Some(priority);
                }
            }
            // A number without a unit is one of nanoseconds.
            SchedulingKey::TimerSlackNSec => match (value.parse(), Span::parse(value)) {
                (Ok(nanos), _) => self.schedule().timer_slack = Some(nanos),
                (Err(_), Ok(span)) => self.schedule().timer_slack = Some(span.0.saturating_mul(1000)),
                (Err(_), Err(error)) => self.note(entry.line, format!("{}= is ignored: {error}", entry.key)),
            },
            SchedulingKey::CoredumpFilter => match u64::from_str_radix(value.trim_start_matches("0x"), 16) {
                Ok(bits) => self.schedule().coredump_filter = Some(bits),
                Err(_) => {
                    let text = format!("CoredumpFilter={value} is ignored: a hexadecimal mask is due, as in core(5)");
                    self.note(entry.line, text);
                }
            },
            SchedulingKey::Personality => match value {
                "x86-64" | "arm64" => self.schedule().personality = Some(0),
                "x86" | "arm" => self.schedule().personality = Some(PER_LINUX32),
                _ => self.unknown_value(entry, &["x86-64", "x86", "arm64", "arm"]),
            },
        }
    }

    fn schedule(&mut self) -> &mut Scheduling {
        self.unit.service.scheduling.get_or_insert_default()
    }
}
