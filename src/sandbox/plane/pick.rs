//! Choosing a target group by weight.
//!
//! AWS distributes at random in proportion to the weights, so shares are exact on average and a group
//! of weight 0 is never chosen: the draw is an integer, and a weight of 0 owns none of its values.

use rand::Rng;

/// Weights of one forward action, prepared for drawing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedPicker {
    /// Running sums: group `i` owns the draws from `cumulative[i - 1]` up to, not including, `cumulative[i]`.
    cumulative: Vec<u32>,
    /// Places of the groups with weight 0.
    zeros: Vec<usize>,
}

impl WeightedPicker {
    /// Prepares these weights.
    pub fn new(weights: &[u32]) -> Self {
        let running = weights.iter().scan(0_u32, |sum, weight| {
            *sum = sum.saturating_add(*weight);
            Some(*sum)
        });
        let zeros = weights.iter().enumerate().filter(|(_, weight)| **weight == 0);
        Self { cumulative: running.collect(), zeros: zeros.map(|(place, _)| place).collect() }
    }

    /// Draws the place of a group; `None` when every weight is 0.
    pub fn pick(&self, rng: &mut impl Rng) -> Option<usize> {
        let total = self.cumulative.last().copied().filter(|total| *total > 0)?;
        let draw = rng.random_range(0..total);
        Some(self.cumulative.partition_point(|sum| *sum <= draw))
    }

    /// The deliberate fault `leak_per_mille`: with this probability, the place of a group of weight 0.
    pub fn leak(&self, rng: &mut impl Rng, per_mille: u32) -> Option<usize> {
        if per_mille == 0 || self.zeros.is_empty() || rng.random_range(0..1000) >= per_mille {
            return None;
        }
        Some(self.zeros[rng.random_range(0..self.zeros.len())])
    }

    /// Whether the group at this place has weight 0.
    pub fn is_zero(&self, place: usize) -> bool {
        self.zeros.contains(&place)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn tally(weights: &[u32], draws: u32, seed: u64) -> Vec<u32> {
        let (picker, mut rng) = (WeightedPicker::new(weights), StdRng::seed_from_u64(seed));
        let mut counts = vec![0; weights.len()];
        for _ in 0..draws {
            counts[picker.pick(&mut rng).expect("some weight is above 0")] += 1;
        }
        counts
    }

    #[test]
    fn a_group_of_weight_0_is_never_picked_whatever_its_place() {
        for (seed, weights) in [[0, 100, 0], [0, 0, 1], [1, 0, 0], [999, 0, 1]].into_iter().enumerate() {
            let counts = tally(&weights, 20_000, seed as u64);
            for (weight, count) in weights.iter().zip(counts) {
                assert!(*weight > 0 || count == 0, "{weights:?}: {count} requests at weight 0");
            }
        }
    }

    #[test]
    fn shares_follow_the_weights_within_four_standard_deviations() {
        for (seed, weights) in [[90, 10], [999, 1], [1, 1], [50, 150]].into_iter().enumerate() {
            let draws = 20_000;
            let share = f64::from(weights[0]) / f64::from(weights[0] + weights[1]);
            let expected = share * f64::from(draws);
            let sigma = (expected * (1.0 - share)).sqrt();
            let counted = f64::from(tally(&weights, draws, seed as u64)[0]);
            assert!((counted - expected).abs() <= 4.0 * sigma, "{weights:?}: {counted}, not {expected}");
        }
    }

    #[test]
    fn nothing_is_picked_when_every_weight_is_0_and_nothing_leaks_without_the_fault() {
        let mut rng = StdRng::seed_from_u64(7);
        assert_eq!(WeightedPicker::new(&[0, 0]).pick(&mut rng), None);
        assert_eq!(WeightedPicker::new(&[]).pick(&mut rng), None);
        assert_eq!(WeightedPicker::new(&[0, 1]).leak(&mut rng, 0), None);
        assert_eq!(WeightedPicker::new(&[0, 1]).leak(&mut rng, 1000), Some(0));
        assert_eq!(WeightedPicker::new(&[2, 1]).leak(&mut rng, 1000), None);
    }
}
