//! The only place that reads clocks; everything else is given a [`Clock`].
//!
//! Wall time is for people's timestamps. Whatever is measured (bakes, deadlines, leases) is measured on the
//! monotonic clock, which goes on while a machine is suspended: a lease that ran out during a suspend has run
//! out.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;

use crate::ports::Clock;
use crate::records::Span;

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Counts suspended time: `CLOCK_MONOTONIC` stands still while a Linux machine sleeps.
#[cfg(target_os = "linux")]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// The best that other systems offer to development machines.
#[cfg(not(target_os = "linux"))]
const STEADY: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place where wall time is read")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic_ms(&self) -> u64 {
        let read = rustix::time::clock_gettime(STEADY);
        // Time since boot is positive, and its milliseconds fit for 500 million years.
        let secs = u64::try_from(read.tv_sec).unwrap_or(0);
        let millis = u64::try_from(read.tv_nsec / 1_000_000).unwrap_or(0);
        secs.saturating_mul(1_000).saturating_add(millis)
    }
}

/// A clock that moves when a test says so.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// Starts at this wall time. The monotonic clock starts at one hour, so that nothing may rely on its zero.
    pub fn at(start: Timestamp) -> Self {
        Self { wall_ms: AtomicI64::new(start.as_millisecond()), monotonic_ms: AtomicU64::new(3_600_000) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Span) {
        self.monotonic_ms.fetch_add(by.millis(), Ordering::SeqCst);
        self.wall_ms.fetch_add(i64::try_from(by.millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets wall time alone, as an operator or a time server does, forwards or backwards.
    pub fn set_wall(&self, to: Timestamp) {
        self.wall_ms.store(to.as_millisecond(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.wall_ms.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

/// Follows tokio's clock, which tests pause: a day of baking then takes milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    epoch: Timestamp,
    started: tokio::time::Instant,
}

impl TokioClock {
    /// Wall time is `epoch` now. Needs a running tokio runtime.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let passed = Span::from_millis(self.monotonic_ms());
        self.epoch.saturating_add(passed.signed()).unwrap_or(self.epoch)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_steady_clock_never_goes_back() {
        let clock = SystemClock;
        let reads: Vec<u64> = (0..1_000).map(|_| clock.monotonic_ms()).collect();
        assert!(reads.is_sorted());
        assert!(reads[0] > 0);
    }

    #[test]
    fn setting_the_wall_clock_back_leaves_the_steady_clock_alone() {
        let clock = ManualClock::at("2026-11-21T10:00:00Z".parse().unwrap());
        clock.advance(Span::from_secs(90));
        let before = clock.monotonic_ms();
        clock.set_wall("2020-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(clock.monotonic_ms(), before);
        assert_eq!(clock.now(), "2020-01-01T00:00:00Z".parse().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_day_passes_at_once() {
        let clock = TokioClock::starting_at("2026-11-21T10:00:00Z".parse().unwrap());
        tokio::time::sleep(Span::from_mins(24 * 60).std()).await;
        assert_eq!(clock.now(), "2026-11-22T10:00:00Z".parse().unwrap());
        assert_eq!(clock.monotonic_ms(), 86_400_000);
    }
}
