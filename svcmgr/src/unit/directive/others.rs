//! [Timer]: systemd.timer(5); and our own [X-MMOS].

use super::Support::{Ignored, Implied};
use super::{Directive, Key, MmosKey as K, Support, TimerKey as T, row};
use crate::unit::timer::TimerBase as B;

const CLOCK: Support = Ignored("the timer does not elapse when the clock is set");

const fn yes(key: K) -> Support {
    Support::Yes(Key::Mmos(key))
}

const fn timer(key: T) -> Support {
    Support::Yes(Key::Timer(key))
}

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static TIMER: &[Directive] = &[
    row("AccuracySec", Implied("timers are exact")),
    row("FixedRandomDelay", timer(T::FixedRandomDelay)),
    row("OnActiveSec", timer(T::On(B::OnActiveSec))),
    row("OnBootSec", timer(T::On(B::OnBootSec))),
    row("OnCalendar", Support::Partly(Key::Timer(T::OnCalendar), "a device on the line may have no clock that is right, so the timer elapses by its other settings alone; one that has no others is refused")),
    row("OnClockChange", CLOCK),
    row("OnStartupSec", timer(T::On(B::OnStartupSec))),
    row("OnTimezoneChange", CLOCK),
    row("OnUnitActiveSec", timer(T::On(B::OnUnitActiveSec))),
    row("OnUnitInactiveSec", timer(T::On(B::OnUnitInactiveSec))),
    row("Persistent", Implied("matters with OnCalendar= alone")),
    row("RandomizedDelaySec", timer(T::RandomizedDelaySec)),
    row("RemainAfterElapse", timer(T::RemainAfterElapse)),
    row("Unit", timer(T::Unit)),
    row("WakeSystem", Ignored("a machine that sleeps is not woken: the timer elapses once it is awake, and as much later")),
];

// Sorted by name: a test sees to it.
#[rustfmt::skip]
pub(super) static MMOS: &[Directive] = &[
    row("ErrorControl", yes(K::ErrorControl)),
    row("FailureActions", yes(K::FailureActions)),
    row("FailureCommand", yes(K::FailureCommand)),
    row("FailureResetPeriod", yes(K::FailureResetPeriod)),
    row("ReadyFD", yes(K::ReadyFd)),
    row("Start", yes(K::Start)),
];
