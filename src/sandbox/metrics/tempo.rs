//! The sandbox's clock speed, in one place.
//!
//! Timestamps are always real ones. What `--speed S` shortens is every *length* that the API gives in
//! seconds: at speed 20 a 60-second period covers 3 real seconds. All arithmetic is done in **API
//! time**: there periods, buckets and evaluation intervals are the plain seconds of the API, so the
//! store, `GetMetricData` and the alarms agree by construction, and speeds that do not divide 60 stay
//! exact.
//!
//! At the speed a region starts with, API time is the real time since the epoch × S. When the speed is
//! changed, API time goes on from where it is: it never jumps and never goes back, and what happened
//! before keeps its place.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Nanoseconds per second.
const NANOS: i128 = 1_000_000_000;
/// Fastest clock: a minute in 0.6 ms. Keeps API seconds far inside an `i64`.
pub const SPEED_MAX: u32 = 100_000;
/// Changes of speed that are remembered. What lies before the oldest one is told with its speed.
const TURNS_MAX: usize = 64;

/// How many API seconds pass in one real second, now and before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Turn>", into = "Vec<Turn>")]
pub struct Tempo {
    /// The oldest first, each later than the one before it.
    earlier: Vec<Turn>,
    newest: Turn,
}

/// From when on the clock has a speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    /// The real instant.
    since: Timestamp,
    /// API time since the epoch at that instant.
    api: SignedDuration,
    /// 1 is real time; never 0.
    speed: u32,
}

impl Turn {
    fn api_nanos(&self, at: Timestamp) -> i128 {
        let passed = at.as_nanosecond() - self.since.as_nanosecond();
        self.api.as_nanos() + passed * i128::from(self.speed)
    }
}

impl Tempo {
    /// A tempo of `speed` API seconds per real second, taken into 1..=100,000.
    pub fn new(speed: u32) -> Self {
        let speed = speed.clamp(1, SPEED_MAX);
        Self {
            earlier: Vec::new(),
            newest: Turn { since: Timestamp::UNIX_EPOCH, api: SignedDuration::ZERO, speed },
        }
    }

    /// API seconds per real second now.
    pub fn speed(&self) -> u32 {
        self.newest.speed
    }

    /// Goes on at another speed from `now` on.
    pub fn turn(&mut self, now: Timestamp, speed: u32) {
        let speed = speed.clamp(1, SPEED_MAX);
        // A machine whose clock was set back does not turn API time back.
        let since = now.max(self.newest.since);
        if speed == self.newest.speed {
            return;
        }
        let api = SignedDuration::from_nanos_i128(self.newest.api_nanos(since));
        if since > self.newest.since {
            self.earlier.push(self.newest);
        }
        self.newest = Turn { since, api, speed };
        if self.earlier.len() >= TURNS_MAX {
            self.earlier.remove(0);
        }
    }

    /// API seconds since the epoch, rounded down.
    pub fn api_secs(&self, at: Timestamp) -> i64 {
        let turn = self.turn_at(|turn| turn.since <= at);
        let secs = turn.api_nanos(at).div_euclid(NANOS);
        i64::try_from(secs).expect("a timestamp is below 2^38 s and the speed below 2^17")
    }

    /// The first real instant at or after this API second.
    pub fn real(&self, api_secs: i64) -> Timestamp {
        let nanos = i128::from(api_secs) * NANOS;
        let turn = self.turn_at(|turn| turn.api.as_nanos() <= nanos);
        let (passed, speed) = (nanos - turn.api.as_nanos(), i128::from(turn.speed));
        let rounded_up = passed.div_euclid(speed) + i128::from(passed.rem_euclid(speed) != 0);
        Timestamp::from_nanosecond(turn.since.as_nanosecond() + rounded_up).unwrap_or(Timestamp::MAX)
    }

    /// The last turn that has begun; the first one, for what lies before all.
    fn turn_at(&self, has_begun: impl Fn(&Turn) -> bool) -> &Turn {
        if has_begun(&self.newest) {
            return &self.newest;
        }
        let earlier = self.earlier.iter().rev().find(|turn| has_begun(turn));
        earlier.or(self.earlier.first()).unwrap_or(&self.newest)
    }
}

impl Default for Tempo {
    fn default() -> Self {
        Self::new(1)
    }
}

impl From<Tempo> for Vec<Turn> {
    fn from(tempo: Tempo) -> Self {
        tempo.earlier.into_iter().chain([tempo.newest]).collect()
    }
}

impl TryFrom<Vec<Turn>> for Tempo {
    type Error = &'static str;

    fn try_from(mut turns: Vec<Turn>) -> Result<Self, Self::Error> {
        let newest = turns.pop().ok_or("a clock has a speed")?;
        Ok(Self { earlier: turns, newest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    #[test]
    fn at_speed_20_a_minute_of_the_api_is_three_real_seconds() {
        let tempo = Tempo::new(20);
        assert_eq!(tempo.api_secs(at(3_000)) - tempo.api_secs(at(0)), 60);
        assert_eq!(tempo.real(tempo.api_secs(at(0)) + 60), at(3_000));
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

    #[test]
    fn a_change_of_speed_neither_moves_what_was_nor_jumps() {
        let mut tempo = Tempo::new(1);
        let (before, start) = (tempo.api_secs(at(-60_000)), tempo.api_secs(at(0)));
        tempo.turn(at(0), 60);
        tempo.turn(at(1_500), 7);
        tempo.turn(at(1_500), 9);
        tempo.turn(at(3_000), 1);
        assert_eq!(tempo.api_secs(at(-60_000)), before);
        assert_eq!(tempo.real(before), at(-60_000));
        let passed = |millis| tempo.api_secs(at(millis)) - start;
        assert_eq!([0, 1_000, 1_500, 2_500, 3_000, 4_500].map(passed), [0, 60, 90, 99, 103, 105]);
        let every_ten: Vec<i64> = (-500..800).map(|tick| tempo.api_secs(at(tick * 10))).collect();
        assert!(every_ten.is_sorted(), "time never goes back");
        for api_secs in start - 100..start + 200 {
            assert_eq!(tempo.api_secs(tempo.real(api_secs)), api_secs);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_turn_time_back() {
        let mut tempo = Tempo::new(1);
        tempo.turn(at(0), 60);
        let then = tempo.api_secs(at(0));
        tempo.turn(at(-5_000), 2);
        assert_eq!(tempo.api_secs(at(0)), then);
    }

    #[test]
    fn its_memory_is_bounded_and_survives_being_written_down() {
        let mut tempo = Tempo::new(1);
        for change in 0..1_000 {
            tempo.turn(at(i64::from(change)), 1 + u32::try_from(change % 2).unwrap() * 59);
        }
        assert!(tempo.earlier.len() < TURNS_MAX);
        let written = serde_json::to_string(&tempo).unwrap();
        assert_eq!(serde_json::from_str::<Tempo>(&written).unwrap(), tempo);
        assert!(serde_json::from_str::<Tempo>("[]").is_err());
    }
}
