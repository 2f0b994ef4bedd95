//! What a service's cgroup may use, as data, and as the files of the cgroup that say so: systemd.resource-control(5),
//! and the kernel's `Documentation/admin-guide/cgroup-v2.rst`.

use super::limit::bytes;
use super::time::Span;

/// How much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So much.
    Number(u64),
    /// So many hundredths of a percent of all there is.
    Share(u64),
    /// As much as there is.
    Infinity,
}

/// What is shared out by an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum Amounts {
    MemoryMin,
    MemoryLow,
    MemoryHigh,
    MemoryMax,
    MemorySwapMax,
    MemoryZSwapMax,
    TasksMax,
}

/// What is shared out by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum Weights {
    Cpu,
    Io,
}

/// What of a device is limited: the word in `io.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum IoLimit {
    ReadBandwidth,
    WriteBandwidth,
    ReadOperations,
    WriteOperations,
}

/// What becomes of a service of which the kernel ended a process for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OomPolicy {
    /// It goes on.
    Continue,
    /// It is stopped.
    #[default]
    Stop,
    /// All of its processes are killed.
    Kill,
}

/// All of it. The default limits nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resources {
    /// What is shared out by an amount, each once.
    pub amounts: Vec<(Amounts, Amount)>,
    /// What is shared out by weight, each once; 0 is "when nobody else wants it".
    pub weights: Vec<(Weights, u32)>,
    /// `CPUQuota=`, in hundredths of a percent of one processor.
    pub cpu_quota: Option<u64>,
    /// `CPUQuotaPeriodSec=`.
    pub cpu_period: Option<Span>,
    /// `AllowedCPUs=`.
    pub cpus: Vec<u32>,
    /// `AllowedMemoryNodes=`.
    pub nodes: Vec<u32>,
    /// Weights of devices, by path.
    pub device_weights: Vec<(String, u32)>,
    /// Limits of devices, by path.
    pub device_limits: Vec<(String, IoLimit, u64)>,
    /// `Delegate=`: the cgroup belongs to the service's user.
    pub delegate: bool,
    /// `OOMPolicy=`.
    pub oom_policy: Option<OomPolicy>,
}

/// All there is of what is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes of memory.
    pub memory: u64,
    /// Tasks.
    pub tasks: u64,
}

/// A file of a cgroup, and what is to be written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller that has the file; none for the cgroup's own.
    pub controller: &'static str,
    /// Its name.
    pub file: &'static str,
    /// What it is to hold.
    pub text: String,
}

impl Amount {
    /// Reads `512M`, `10%`, `infinity`.
    pub fn parse(text: &str) -> Option<Amount> {
        if text == "infinity" {
            return Some(Amount::Infinity);
        }
        match text.strip_suffix('%') {
            Some(percent) => hundredths(percent).filter(|share| *share <= 10_000).map(Amount::Share),
            None => bytes(text).map(Amount::Number),
        }
    }

    fn text(self, total: u64) -> String {
        match self {
            Amount::Number(number) => number.to_string(),
            Amount::Share(share) => {
                let part = u128::from(total).saturating_mul(share.into()) / 10_000;
                u64::try_from(part).unwrap_or(u64::MAX).to_string()
            }
            Amount::Infinity => "max".to_owned(),
        }
    }
}

/// A percentage with up to two digits after the point, in hundredths of a percent.
pub fn hundredths(percent: &str) -> Option<u64> {
    let (whole, fraction) = percent.trim().split_once('.').unwrap_or((percent.trim(), ""));
    if fraction.len() > 2 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<2}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(fraction)
}

impl Resources {
    /// Sets an amount; the last one of a kind holds.
    pub fn set_amount(&mut self, kind: Amounts, amount: Amount) {
        self.amounts.retain(|(known, _)| *known != kind);
        self.amounts.push((kind, amount));
    }

    /// Sets a weight; the last one of a kind holds.
    pub fn set_weight(&mut self, kind: Weights, weight: u32) {
        self.weights.retain(|(known, _)| *known != kind);
        self.weights.push((kind, weight));
    }

    /// Whether it says how many tasks it may have.
    pub fn bounds_tasks(&self) -> bool {
        self.amounts.iter().any(|(kind, _)| *kind == Amounts::TasksMax)
    }

    /// Whether the memory of the service is limited, or somebody wants to know how it ends.
    pub fn watches_memory(&self) -> bool {
        self.oom_policy.is_some()
            || self.amounts.iter().any(|(kind, _)| matches!(kind, Amounts::MemoryMax | Amounts::MemoryHigh))
    }

    /// The files to be written. `device` gives the numbers of a device or of the one that a path lies on, as
    /// `MAJOR:MINOR`; what has none is left out.
    pub fn settings(&self, totals: Totals, device: &dyn Fn(&str) -> Option<String>) -> Vec<Setting> {
        let mut all = Vec::new();
        let mut set = |controller, file, text: String| all.push(Setting { controller, file, text });
        for (kind, amount) in &self.amounts {
            let (file, total) = match kind {
                Amounts::MemoryMin => ("memory.min", totals.memory),
                Amounts::MemoryLow => ("memory.low", totals.memory),
                Amounts::MemoryHigh => ("memory.high", totals.memory),
                Amounts::MemoryMax => ("memory.max", totals.memory),
                Amounts::MemorySwapMax => ("memory.swap.max", totals.memory),
                Amounts::MemoryZSwapMax => ("memory.zswap.max", totals.memory),
                Amounts::TasksMax => ("pids.max", totals.tasks),
            };
            let controller = if *kind == Amounts::TasksMax { "pids" } else { "memory" };
            set(controller, file, amount.text(total));
        }
        for (kind, weight) in &self.weights {
            match (kind, weight) {
                (Weights::Cpu, 0) => set("cpu", "cpu.idle", "1".to_owned()),
                (Weights::Cpu, weight) => set("cpu", "cpu.weight", weight.to_string()),
                (Weights::Io, weight) => set("io", "io.weight", format!("default {}", (*weight).max(1))),
            }
        }
        if let Some(quota) = self.cpu_quota {
            // The kernel takes periods from 1 ms to 1 s, and quotas from 1 ms on.
            let period = self.cpu_period.unwrap_or(Span::millis(100)).0.clamp(1_000, 1_000_000);
            let allowed = period.saturating_mul(quota) / 10_000;
            set("cpu", "cpu.max", format!("{} {period}", allowed.max(1_000)));
        }
        for (file, numbers) in [("cpuset.cpus", &self.cpus), ("cpuset.mems", &self.nodes)] {
            if !numbers.is_empty() {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                set("cpuset", file, numbers.join(","));
            }
        }
        for (path, weight) in &self.device_weights {
            if let Some(device) = device(path) {
                set("io", "io.weight", format!("{device} {weight}"));
            }
        }
        for (path, kind, limit) in &self.device_limits {
            let word = match kind {
                IoLimit::ReadBandwidth => "rbps",
                IoLimit::WriteBandwidth => "wbps",
                IoLimit::ReadOperations => "riops",
                IoLimit::WriteOperations => "wiops",
            };
            if let Some(device) = device(path) {
                set("io", "io.max", format!("{device} {word}={limit}"));
            }
        }
        if self.oom_policy == Some(OomPolicy::Kill) {
            set("memory", "memory.oom.group", "1".to_owned());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_numbers_shares_or_all() {
        assert_eq!(Amount::parse("512M"), Some(Amount::Number(512 << 20)));
        assert_eq!(Amount::parse("12.5%"), Some(Amount::Share(1250)));
        assert_eq!(Amount::parse("infinity"), Some(Amount::Infinity));
        for bad in ["", "x", "101%", "1.234%", "-1"] {
            assert_eq!(Amount::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_files_are_those_of_the_kernel() {
        let mut resources = Resources { cpu_quota: Some(15_000), cpus: vec![0, 2], ..Resources::default() };
        resources.set_amount(Amounts::MemoryMax, Amount::Number(1));
        resources.set_amount(Amounts::MemoryMax, Amount::Share(5000));
        resources.set_amount(Amounts::TasksMax, Amount::Infinity);
        resources.set_weight(Weights::Cpu, 0);
        resources.set_weight(Weights::Io, 500);
        resources.device_limits.push(("/dev/sda".into(), IoLimit::ReadBandwidth, 1000));
        resources.device_weights.push(("/dev/none".into(), 10));
        resources.oom_policy = Some(OomPolicy::Kill);
        let device = |path: &str| (path == "/dev/sda").then(|| "8:0".to_owned());
        let settings = resources.settings(Totals { memory: 1000, tasks: 10 }, &device);
        let texts: Vec<String> =
            settings.iter().map(|one| format!("{} {}={}", one.controller, one.file, one.text)).collect();
        assert_eq!(
            texts,
            [
                "memory memory.max=500",
                "pids pids.max=max",
                "cpu cpu.idle=1",
                "io io.weight=default 500",
                "cpu cpu.max=150000 100000",
                "cpuset cpuset.cpus=0,2",
                "io io.max=8:0 rbps=1000",
                "memory memory.oom.group=1"
            ]
        );
    }
}
