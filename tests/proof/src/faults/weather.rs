//! Bad weather: storms in which many calls fail at once, and calms between them, by a seeded generator.
//!
//! Nothing bounds how long a release takes in a storm without an end: a pass needs five calls or more, each of which fails
//! here as it is, without the repetitions of an SDK. So storms pass, as those of `tests/chaos/schedule.py` do, and what
//! is promised is what comes after the last one: [`AFTERWARDS`].

use pointsman_core::records::Span;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::fault::{Fault, Op};

/// A storm, and the calm after it. One of each is longer than the bake of a step, so that no phase is spared.
const STORM: Span = Span::from_secs(60);
const CALM: Span = Span::from_secs(30);
/// Several times what most scenarios take without faults.
const STORMS: u64 = 7;
/// From the beginning of the first storm to the end of the last one.
pub const LASTS: Span = Span::from_secs((60 + 30) * STORMS - 30);

/// Once it is over a run takes at most as long as one without faults takes from its beginning, and so much longer: the
/// quiet time after an unknown outcome instead of the short one, of two releases (60 s each), a pause of a failed run
/// (5 s), and a look of an idle service that nobody hinted at (60 s).
pub const AFTERWARDS: Span = Span::from_secs(60 + 60 + 5 + 60);

/// Of a hundred calls in a storm so many fail with an error of the server, and so many are throttled.
const FAIL: u32 = 10;
const THROTTLED: u32 = 30;

/// The weather of one run.
pub struct Weather {
    dice: StdRng,
    began_ms: u64,
}

impl Weather {
    /// From now on.
    pub fn new(seed: u64, now_ms: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), began_ms: now_ms }
    }

    /// What befalls a call now.
    pub fn befalls(&mut self, op: Op, now_ms: u64) -> Option<Fault> {
        // Drawn in a calm as well, so that a storm is not the one before it again.
        let drawn = self.dice.random_range(0..100);
        if op == Op::Hint || !storms(now_ms.saturating_sub(self.began_ms)) {
            return None;
        }
        match drawn {
            // Half of the changes that fail are made all the same.
            0..FAIL if op.is_mutation() && drawn % 2 == 0 => Some(Fault::LoseAnswer),
            0..FAIL => Some(Fault::NotApplied),
            _ if drawn < FAIL + THROTTLED => Some(Fault::Throttled),
            _ => None,
        }
    }
}

/// Whether it storms so long after the beginning.
fn storms(after_ms: u64) -> bool {
    let spell_ms = STORM.plus(CALM).millis();
    after_ms < LASTS.millis() && after_ms % spell_ms < STORM.millis()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn storms_come_and_go_and_the_last_one_ends() {
        let storms_at = |secs: u64| storms(secs * 1_000);
        assert!(storms_at(0) && storms_at(59) && !storms_at(60) && !storms_at(89) && storms_at(90));
        assert!(storms_at(LASTS.millis() / 1_000 - 1));
        assert!((LASTS.millis() / 1_000..10_000).all(|secs| !storms_at(secs)));
        let begin = (0..LASTS.millis() / 1_000)
            .filter(|secs| storms_at(*secs) && (*secs == 0 || !storms_at(secs - 1)));
        assert_eq!(u64::try_from(begin.count()), Ok(STORMS));
    }

    #[test]
    fn two_calls_in_five_fail_in_a_storm_and_none_in_a_calm() {
        let mut weather = Weather::new(7, 1_000);
        let mut met = BTreeSet::new();
        let failed = (0..1_000)
            .filter_map(|_| weather.befalls(Op::Effect, 2_000))
            .map(|fault| met.insert(fault))
            .count();
        assert!((350..450).contains(&failed), "{failed}");
        assert_eq!(met, BTreeSet::from([Fault::LoseAnswer, Fault::NotApplied, Fault::Throttled]));
        assert!((0..100).all(|_| weather.befalls(Op::Effect, 62_000).is_none()));
        assert!((0..100).all(|_| weather.befalls(Op::Hint, 2_000).is_none()));
    }
}
