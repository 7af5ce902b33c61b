//! The sandbox's clock speed, in one place.
//!
//! Timestamps are always real ones. What `--speed S` shortens is every *length* that the API gives in
//! seconds: at speed 20 a 60-second period covers 3 real seconds. All arithmetic is done in **API
//! time** = real time since the epoch × S: there periods, buckets and evaluation intervals are the
//! plain seconds of the API, so the store, `GetMetricData` and the alarms agree by construction, and
//! speeds that do not divide 60 stay exact.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Nanoseconds per second.
const NANOS: i128 = 1_000_000_000;
/// Fastest clock: a minute in 0.6 ms. Keeps API seconds far inside an `i64`.
const SPEED_MAX: u32 = 100_000;

/// How many API seconds pass in one real second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tempo {
    /// 1 is real time; never 0.
    speed: u32,
}

impl Tempo {
    /// A tempo of `speed` API seconds per real second, taken into 1..=100,000.
    pub fn new(speed: u32) -> Self {
        Self { speed: speed.clamp(1, SPEED_MAX) }
    }

    /// API seconds since the epoch, rounded down.
    pub fn api_secs(self, at: Timestamp) -> i64 {
        let secs = (at.as_nanosecond() * i128::from(self.speed)).div_euclid(NANOS);
        i64::try_from(secs).expect("a timestamp is below 2^38 s and the speed below 2^17")
    }

    /// The first real instant at or after this API second.
    pub fn real(self, api_secs: i64) -> Timestamp {
        let nanos = i128::from(api_secs) * NANOS;
        let speed = i128::from(self.speed);
        let rounded_up = nanos.div_euclid(speed) + i128::from(nanos.rem_euclid(speed) != 0);
        Timestamp::from_nanosecond(rounded_up).unwrap_or(Timestamp::MAX)
    }
}

impl Default for Tempo {
    fn default() -> Self {
        Self::new(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_speed_20_a_minute_of_the_api_is_three_real_seconds() {
        let tempo = Tempo::new(20);
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let later = Timestamp::from_second(1_800_000_003).unwrap();
        assert_eq!(tempo.api_secs(later) - tempo.api_secs(start), 60);
        assert_eq!(tempo.real(tempo.api_secs(start) + 60), later);
    }

    #[test]
    fn a_bucket_start_lies_in_its_bucket_at_every_speed() {
        for speed in [1, 7, 20, 60, 999] {
            let tempo = Tempo::new(speed);
            for api_secs in 1_800_000_000_i64 * i64::from(speed)..1_800_000_000 * i64::from(speed) + 100 {
                assert_eq!(tempo.api_secs(tempo.real(api_secs)), api_secs, "speed {speed}");
            }
        }
    }
}
