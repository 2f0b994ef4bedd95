//! `[Service]`: what its cgroup may use.

use super::Reader;
use super::values::parse_boolean;
use crate::unit::directive::ResourceKey;
use crate::unit::limit::bytes;
use crate::unit::resources::{Amount, IoLimit, OomPolicy, Resources, Weights, hundredths};
use crate::unit::scheduling::cpus;
use crate::unit::syntax::Entry;
use crate::unit::time::Span;

impl Reader<'_> {
    pub(super) fn obey_resource(&mut self, key: ResourceKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            ResourceKey::Amount(kind) => match Amount::parse(value) {
                Some(amount) => self.resources().set_amount(kind, amount),
                None if value.is_empty() => self.resources().amounts.retain(|(known, _)| *known != kind),
                None => self.not_an_amount(entry, "\"512M\", \"10%\" or \"infinity\""),
            },
            ResourceKey::Weight(kind) => match (value, value.parse::<u32>()) {
                ("idle", _) if kind == Weights::Cpu => self.resources().set_weight(kind, 0),
                (_, Ok(weight @ 1..=10_000)) => self.resources().set_weight(kind, weight),
                ("", _) => self.resources().weights.retain(|(known, _)| *known != kind),
                _ => self.not_an_amount(entry, "a weight from 1 to 10000"),
            },
            // From before cgroup v2, with 1024 as what is usual: cgroup-v2.rst, "cpu.weight".
            ResourceKey::CpuShares => match value.parse::<u64>() {
                Ok(shares @ 2..=262_144) => {
                    let weight = u32::try_from(shares.saturating_mul(100) / 1024).unwrap_or(10_000).clamp(1, 10_000);
                    self.resources().set_weight(Weights::Cpu, weight);
                }
                _ => self.not_an_amount(entry, "shares from 2 to 262144"),
            },
            // Likewise, with 500 as what is usual.
            ResourceKey::BlockIoWeight => match value.parse::<u32>() {
                Ok(weight @ 10..=1000) => self.resources().set_weight(Weights::Io, (weight / 5).max(1)),
                _ => self.not_an_amount(entry, "a weight from 10 to 1000"),
            },
            ResourceKey::CpuQuota => match value.strip_suffix('%').and_then(hundredths) {
                Some(quota) if quota > 0 => self.resources().cpu_quota = Some(quota),
                _ if value.is_empty() => self.resources().cpu_quota = None,
                _ => self.not_an_amount(entry, "a percentage of one processor, such as \"150%\""),
            },
            ResourceKey::CpuQuotaPeriodSec => match Span::parse(value) {
                Ok(period) => self.resources().cpu_period = Some(period),
                Err(_) if value.is_empty() => self.resources().cpu_period = None,
                Err(error) => self.note(entry.line, format!("{}= is ignored: {error}", entry.key)),
            },
            ResourceKey::AllowedCpus | ResourceKey::AllowedMemoryNodes => match cpus(value) {
                Some(numbers) if key == ResourceKey::AllowedCpus => self.resources().cpus = numbers,
                Some(numbers) => self.resources().nodes = numbers,
                None => self.not_an_amount(entry, "numbers, such as \"0-3 5\""),
            },
            ResourceKey::IoDeviceWeight => match device_value(value).and_then(|(path, text)| {
                let weight = text.parse::<u32>().ok().filter(|weight| (1..=10_000).contains(weight))?;
                Some((path, weight))
            }) {
                Some((path, weight)) => self.resources().device_weights.push((path, weight)),
                None if value.is_empty() => self.resources().device_weights.clear(),
                None => self.not_an_amount(entry, "a path and a weight from 1 to 10000"),
            },
            ResourceKey::Io(kind) => self.io_limit(kind, entry),
            ResourceKey::Delegate => {
                // A list names the controllers that are wanted; all that there are are there.
                self.resources().delegate = parse_boolean(value).unwrap_or(true);
            }
            ResourceKey::OomPolicy => {
                self.resources().oom_policy = match value {
                    "" => None,
                    "continue" => Some(OomPolicy::Continue),
                    "stop" => Some(OomPolicy::Stop),
                    "kill" => Some(OomPolicy::Kill),
                    _ => return self.unknown_value(entry, &["continue", "stop", "kill"]),
                };
            }
        }
    }

    fn io_limit(&mut self, kind: IoLimit, entry: &Entry) {
        let limits = &mut self.resources().device_limits;
        if entry.value.is_empty() {
            return limits.retain(|(_, known, _)| *known != kind);
        }
        let limit = device_value(&entry.value).and_then(|(path, text)| {
            // With suffixes to the base of 1000: systemd.resource-control(5), `IOReadBandwidthMax=`.
            Some((path, decimal(text).or_else(|| bytes(text))?))
        });
        match limit {
            Some((path, limit)) => self.resources().device_limits.push((path, kind, limit)),
            None => self.not_an_amount(entry, "a path and a limit, such as \"/dev/sda 5M\""),
        }
    }

    fn not_an_amount(&mut self, entry: &Entry, due: &str) {
        self.note(entry.line, format!("{}={} is ignored: {due} is due", entry.key, entry.value));
    }

    fn resources(&mut self) -> &mut Resources {
        self.unit.service.resources.get_or_insert_default()
    }
}

fn device_value(value: &str) -> Option<(String, &str)> {
    let (path, rest) = value.split_once(char::is_whitespace)?;
    path.starts_with('/').then(|| (path.to_owned(), rest.trim()))
}

fn decimal(text: &str) -> Option<u64> {
    let scale = match text.chars().last()? {
        'K' => 1_000,
        'M' => 1_000_000,
        'G' => 1_000_000_000,
        'T' => 1_000_000_000_000,
        _ => return text.parse().ok(),
    };
    text.get(..text.len().checked_sub(1)?)?.trim().parse::<u64>().ok()?.checked_mul(scale)
}
