//! How long to wait before the supervisor is started again: not at all after its first death, then 0.1 s, doubling to
//! 10 s; and from the beginning again once it has lived for a minute. It never gives up.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A life as long as this was a healthy one.
const HEALTHY: Duration = Duration::from_secs(60);

/// The deaths in a row so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// It died after having lived for `lived`: the wait before it is started again.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.deaths = 0;
        }
        let wait = match self.deaths.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST),
        };
        self.deaths = self.deaths.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.after(Duration::from_secs(1)).as_millis()).collect()
    }

    #[test]
    fn the_first_death_waits_for_nothing_and_the_others_ever_longer() {
        let mut backoff = Backoff::default();
        assert_eq!(waits(&mut backoff, 10), [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        for _ in 0..1000 {
            assert_eq!(backoff.after(Duration::ZERO), LONGEST);
        }
        backoff.deaths = u32::MAX;
        assert_eq!(backoff.after(Duration::ZERO), LONGEST);
    }

    #[test]
    fn a_minute_of_life_begins_it_anew() {
        let mut backoff = Backoff::default();
        waits(&mut backoff, 6);
        assert_eq!(backoff.after(HEALTHY), Duration::ZERO);
        assert_eq!(waits(&mut backoff, 2), [100, 200]);
    }
}
