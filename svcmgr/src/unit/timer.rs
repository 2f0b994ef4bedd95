//! The `[Timer]` section as data: systemd.timer(5).

use super::time::Span;

/// From when a time is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum TimerBase {
    OnActiveSec,
    OnBootSec,
    OnStartupSec,
    OnUnitActiveSec,
    OnUnitInactiveSec,
}

/// The `[Timer]` section.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the directive of its own name")]
pub struct Timer {
    pub elapses: Vec<(TimerBase, Span)>,
    pub unit: Option<String>,
    pub randomized_delay: Span,
    pub fixed_random_delay: bool,
    pub remain_after_elapse: bool,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer {
            elapses: Vec::new(),
            unit: None,
            randomized_delay: Span::ZERO,
            fixed_random_delay: false,
            remain_after_elapse: true,
        }
    }
}

/// When the moments were from which a timer counts (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "in the order of `TimerBase`, and what it did last")]
pub struct Moments {
    pub active: u64,
    pub startup: u64,
    pub unit_active: Option<u64>,
    pub unit_inactive: Option<u64>,
    pub last_trigger: Option<u64>,
}

impl Timer {
    /// When it elapses next, without its random delay; may have passed. `None` if nothing is left to wait for.
    pub fn next(&self, moments: &Moments, now: u64) -> Option<u64> {
        self.elapses.iter().filter_map(|(base, span)| next(*base, *span, moments, now)).min()
    }

    /// Whether it may elapse again, whatever it has done.
    pub fn repeats(&self) -> bool {
        self.elapses.iter().any(|(base, _)| matches!(base, TimerBase::OnUnitActiveSec | TimerBase::OnUnitInactiveSec))
    }

    /// A delay from none to `RandomizedDelaySec=`, which looks random and follows from its arguments.
    pub fn random_delay(&self, name: &str, now: u64) -> u64 {
        let seed = if self.fixed_random_delay { 0 } else { now };
        let hash = name
            .bytes()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        // The finalizer of splitmix64: neighbouring seeds become distant numbers.
        let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(self.randomized_delay.0.saturating_add(1)).unwrap_or(0)
    }
}

fn next(base: TimerBase, span: Span, moments: &Moments, now: u64) -> Option<u64> {
    let (from, once) = match base {
        TimerBase::OnActiveSec => (moments.active, true),
        // CLOCK_MONOTONIC begins with the kernel.
        TimerBase::OnBootSec => (0, true),
        TimerBase::OnStartupSec => (moments.startup, true),
        // What has never happened is not counted from.
        TimerBase::OnUnitActiveSec => (moments.unit_active.max(moments.last_trigger)?, false),
        TimerBase::OnUnitInactiveSec => (moments.unit_inactive.max(moments.last_trigger)?, false),
    };
    let at = span.after(from)?;
    // What was to come once, and has passed when it elapsed last or before.
    if once && moments.last_trigger.is_some() && at <= now {
        return None;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENTS: Moments =
        Moments { active: 100, startup: 50, unit_active: None, unit_inactive: None, last_trigger: None };

    fn timer(elapses: &[(TimerBase, u64)]) -> Timer {
        Timer { elapses: elapses.iter().map(|(base, span)| (*base, Span(*span))).collect(), ..Timer::default() }
    }

    #[test]
    fn each_base_is_counted_from_its_own_moment_and_the_earliest_counts() {
        use TimerBase::{OnActiveSec, OnBootSec, OnStartupSec, OnUnitActiveSec, OnUnitInactiveSec};
        let all = Moments { unit_active: Some(1000), unit_inactive: Some(2000), ..MOMENTS };
        for (base, at) in
            [(OnActiveSec, 107), (OnBootSec, 7), (OnStartupSec, 57), (OnUnitActiveSec, 1007), (OnUnitInactiveSec, 2007)]
        {
            assert_eq!(timer(&[(base, 7)]).next(&all, 100), Some(at), "{base:?}");
        }
        assert_eq!(timer(&[(OnActiveSec, 7), (OnStartupSec, 90)]).next(&all, 100), Some(107));
        assert_eq!(timer(&[(OnUnitActiveSec, 7)]).next(&MOMENTS, 100), None, "it has never been up");
    }

    #[test]
    fn what_comes_once_comes_also_late_but_not_again() {
        let late = timer(&[(TimerBase::OnBootSec, 7)]);
        assert_eq!(late.next(&MOMENTS, 100), Some(7));
        let after = Moments { last_trigger: Some(101), ..MOMENTS };
        assert_eq!(late.next(&after, 101), None);
        // Another that is yet to come does.
        let two = timer(&[(TimerBase::OnBootSec, 7), (TimerBase::OnBootSec, 500), (TimerBase::OnUnitActiveSec, 1000)]);
        assert_eq!(two.next(&after, 101), Some(500));
        assert_eq!(two.next(&Moments { last_trigger: Some(500), ..MOMENTS }, 501), Some(1500));
    }

    #[test]
    fn a_random_delay_stays_within_its_bound_and_spreads() {
        let mut timer = Timer { randomized_delay: Span(1000), ..Timer::default() };
        let delays: std::collections::BTreeSet<u64> = (0..100).map(|now| timer.random_delay("a.timer", now)).collect();
        assert!(delays.iter().all(|delay| *delay <= 1000) && delays.len() > 80, "{delays:?}");
        timer.fixed_random_delay = true;
        assert_eq!(timer.random_delay("a.timer", 1), timer.random_delay("a.timer", 2));
        assert_ne!(timer.random_delay("a.timer", 1), timer.random_delay("b.timer", 1));
        assert_eq!(Timer::default().random_delay("a.timer", 9), 0);
    }
}
