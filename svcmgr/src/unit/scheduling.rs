//! How the kernel schedules a service's processes, as data: systemd.exec(5), "Scheduling".

/// All of it. The default changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// `CPUSchedulingPolicy=`; `SCHED_OTHER` and its like, sched(7).
    pub policy: Option<i32>,
    /// `CPUSchedulingPriority=`.
    pub priority: Option<i32>,
    /// `CPUSchedulingResetOnFork=`.
    pub reset_on_fork: bool,
    /// `CPUAffinity=`: numbers of processors; none is all.
    pub affinity: Vec<u32>,
    /// `IOSchedulingClass=`, ioprio_set(2).
    pub io_class: Option<i32>,
    /// `IOSchedulingPriority=`.
    pub io_priority: Option<i32>,
    /// `TimerSlackNSec=`.
    pub timer_slack: Option<u64>,
    /// `CoredumpFilter=`, core(5).
    pub coredump_filter: Option<u64>,
    /// `Personality=`, personality(2).
    pub personality: Option<u64>,
}

/// The kernel's `CPU_SETSIZE`: more processors are not counted.
pub const MAX_CPUS: u32 = 1024;

/// Reads a list of processors, such as `0-3 5,7`: systemd.exec(5), `CPUAffinity=`.
pub fn cpus(text: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= MAX_CPUS {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// The number of a policy's name.
pub fn policy(name: &str) -> Option<i32> {
    Some(match name {
        "other" => libc::SCHED_OTHER,
        "batch" => libc::SCHED_BATCH,
        "idle" => libc::SCHED_IDLE,
        "fifo" => libc::SCHED_FIFO,
        "rr" => libc::SCHED_RR,
        _ => return None,
    })
}

/// The number of an I/O class, by number or name: ioprio_set(2).
pub fn io_class(name: &str) -> Option<i32> {
    Some(match name {
        "0" | "none" => 0,
        "1" | "realtime" => 1,
        "2" | "best-effort" => 2,
        "3" | "idle" => 3,
        _ => return None,
    })
}

impl Scheduling {
    /// What ioprio_set(2) takes, if anything is asked for: class in the upper bits, priority (4 of 0 to 7) in the lower.
    pub fn io(&self) -> Option<i32> {
        if self.io_class.is_none() && self.io_priority.is_none() {
            return None;
        }
        let class = self.io_class.unwrap_or(2);
        // None and idle have no priorities.
        let priority = if matches!(class, 0 | 3) { 0 } else { self.io_priority.unwrap_or(4) };
        Some(class << 13 | priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_listed_and_ranged() {
        assert_eq!(cpus("0-2 5,1"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpus(""), Some(vec![]));
        for bad in ["3-1", "x", "1024", "-1", "1-"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }

    #[test]
    fn io_priorities_are_what_the_kernel_takes() {
        let of = |class, priority| Scheduling { io_class: class, io_priority: priority, ..Scheduling::default() }.io();
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(2), Some(7)), Some(2 << 13 | 7));
        assert_eq!(of(None, Some(0)), Some(2 << 13));
        assert_eq!(of(Some(3), Some(7)), Some(3 << 13));
    }
}
