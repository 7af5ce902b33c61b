//! Slow start: a new target's share of its group's requests grows linearly (guide,
//! edit-target-group-attributes#slow-start-mode).

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// The growth of one target's share, in real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub began: Instant,
    pub length: Duration,
}

impl Growth {
    /// The share at this instant in thousandths of a full one: at least 1, so that a target without a
    /// neighbour is chosen too.
    pub fn per_mille(&self, now: Instant) -> u32 {
        let (elapsed, length) = (now.saturating_duration_since(self.began), self.length.as_micros().max(1));
        u32::try_from(elapsed.as_micros() * 1000 / length).unwrap_or(u32::MAX).clamp(1, FULL)
    }
}

/// A full share.
const FULL: u32 = 1000;

/// Draws the place of a target, each in proportion to its share. `None` when all have full shares, and the caller
/// goes in turn.
pub(super) fn draw(growing: &[Option<Growth>], now: Instant, rng: &mut impl Rng) -> Option<usize> {
    let share = |growth: &Option<Growth>| growth.map_or(FULL, |growth| growth.per_mille(now));
    if growing.iter().all(|growth| share(growth) == FULL) {
        return None;
    }
    // At most 1,000 targets of 1,000 thousandths.
    let total: u32 = growing.iter().map(share).sum();
    let mut left = rng.random_range(0..total);
    growing.iter().position(|growth| {
        let share = share(growth);
        let here = left < share;
        left = left.saturating_sub(share);
        here
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_share_of_a_target_grows_linearly_to_the_full_one_and_stays_there() {
        let began = Instant::now();
        let growth = Growth { began, length: Duration::from_mins(1) };
        let at = |secs| growth.per_mille(began + Duration::from_secs(secs));
        assert_eq!([0, 15, 30, 45, 60, 600].map(at), [1, 250, 500, 750, 1000, 1000]);
    }

    #[test]
    fn half_way_through_slow_start_a_target_gets_half_of_what_its_neighbours_get() {
        let began = Instant::now();
        let growth = Growth { began, length: Duration::from_mins(1) };
        let targets = [None, Some(growth), None];
        let (mut counts, mut rng) = ([0_u32; 3], StdRng::seed_from_u64(1));
        for _ in 0..20_000 {
            let place = draw(&targets, began + Duration::from_secs(30), &mut rng).expect("one is slow");
            counts[place] += 1;
        }
        // 500 of 2,500 thousandths; four standard deviations are 4 × √(20,000 × 0.2 × 0.8) = 226.
        assert!(counts[1].abs_diff(4000) <= 226, "{counts:?}");
        assert!(counts[0].abs_diff(8000) <= 278, "{counts:?}");
        assert_eq!(draw(&targets, began + Duration::from_mins(1), &mut rng), None, "all in turn again");
    }
}
