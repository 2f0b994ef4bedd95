//! How much a source may say in a while: a bucket that fills at a steady rate, up to a largest burst. What is taken
//! beyond is a debt, which must be paid off before more is taken.

/// Bytes a second.
const RATE: i64 = 1 << 20;
/// Bytes at once, after a while of quiet.
const BURST: i64 = 4 << 20;

/// A bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    level: i64,
    at: u64,
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket { level: BURST, at: 0 }
    }
}

impl Bucket {
    /// Whether more may be taken now; `now` in microseconds.
    pub fn is_open(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.at);
        let gained = i64::try_from(passed).unwrap_or(i64::MAX).saturating_mul(RATE) / 1_000_000;
        // What is less than a byte stays in the time.
        if gained > 0 {
            self.level = self.level.saturating_add(gained).min(BURST);
            self.at = now;
        }
        self.level > 0
    }

    /// Takes `bytes`, whether they are there or not.
    pub fn take(&mut self, bytes: usize) {
        self.level = self.level.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// When enough is there again to be worth a look: a twentieth of a second's worth.
    pub fn opens_at(&self) -> u64 {
        let missing = (RATE / 20).saturating_sub(self.level).max(0);
        self.at.saturating_add(u64::try_from(missing.saturating_mul(1_000_000) / RATE).unwrap_or(0))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_gets_the_rate() {
        let mut bucket = Bucket::default();
        let (mut now, mut taken) = (1_000_000_000_u64, 0_i64);
        let end = now + 10_000_000;
        while now < end {
            if bucket.is_open(now) {
                bucket.take(16 * 1024);
                taken += 16 * 1024;
            } else {
                assert!(bucket.opens_at() > now);
                now = bucket.opens_at();
            }
        }
        let fair = BURST + 10 * RATE;
        assert!((fair - 128 * 1024..=fair + 128 * 1024).contains(&taken), "{taken} instead of {fair}");
    }
}
