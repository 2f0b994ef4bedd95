//! How the clocks differ: that of the wall, that of the kernel's log, and the one that lines have.

use rustix::time::{ClockId, clock_gettime};

fn micros(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0) / 1000)
}

/// The wall clock less `CLOCK_BOOTTIME`, in microseconds.
pub fn wall_offset() -> u64 {
    micros(ClockId::Realtime).saturating_sub(micros(ClockId::Boottime))
}

/// How long the machine has slept in all, in microseconds.
pub fn asleep() -> u64 {
    // In this order, so that what passes between the two is not taken for sleep.
    let boot = micros(ClockId::Boottime);
    boot.saturating_sub(micros(ClockId::Monotonic))
}
