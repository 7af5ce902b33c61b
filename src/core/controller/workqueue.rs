//! Which service is looked at next: a queue without clocks, tasks or I/O.
//!
//! It keeps the rules of `kube-runtime`'s scheduler and runner: one place per key, and the earliest time wins;
//! never two runs of one key, a key that comes due while it runs is held until the run ends; a held key blocks
//! nobody; a limit on runs at once; deadlines far ahead are clamped. On top of that come lanes, so that bringing
//! traffic back never waits behind housekeeping.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

/// How urgent a service's next pass is; the first goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Traffic is being brought back to stable.
    Rollback,
    /// A release or a clean-up is under way.
    InFlight,
    /// New or changed: nothing has started yet.
    New,
    /// As it should be; looked at for drift.
    Idle,
}

impl Lane {
    const ALL: [Self; 4] = [Self::Rollback, Self::InFlight, Self::New, Self::Idle];
}

/// Why a pass happens. For spans and metrics alone: a pass never learns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trigger {
    /// It was found in the table.
    Listed,
    /// The table's stream says that somebody wrote.
    Hint,
    /// The last pass asked for it.
    Deadline,
    /// The last pass failed.
    Retry,
    /// The last pass stopped to let others have a turn.
    Turn,
}

impl Trigger {
    /// The name used in spans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Hint => "hint",
            Self::Deadline => "deadline",
            Self::Retry => "retry",
            Self::Turn => "turn",
        }
    }
}

/// When, how urgently and why a key is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Monotonic milliseconds.
    pub at_ms: u64,
    /// Its lane.
    pub lane: Lane,
    /// Its cause.
    pub why: Trigger,
}

impl Due {
    /// Asked for twice: the earlier time with its cause, and the more urgent lane.
    fn merge(self, other: Self) -> Self {
        let first = if other.at_ms < self.at_ms { other } else { self };
        Self { lane: self.lane.min(other.lane), ..first }
    }
}

/// Nothing is planned further ahead than this (one day): a wrong clock reading must not lose a service.
pub const FARTHEST_MS: u64 = 24 * 3_600_000;

/// A key that is overdue by this much goes before every lane but the rollbacks, so that no lane starves.
pub const PATIENCE_MS: u64 = 30_000;

/// One part in this many of the runs at once is kept free for rollbacks.
const RESERVED_FOR_ROLLBACK: usize = 8;

/// The queue. Times are monotonic milliseconds that the caller brings.
#[derive(Clone, Debug)]
pub struct Workqueue<K> {
    limit: usize,
    waiting: BTreeMap<K, Due>,
    lanes: BTreeMap<Lane, BTreeSet<(u64, K)>>,
    running: BTreeMap<K, Running>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    rollback: bool,
    held: Option<Due>,
}

impl<K: Ord + Clone> Workqueue<K> {
    /// At most `limit` runs at once.
    pub fn new(limit: NonZeroUsize) -> Self {
        Self {
            limit: limit.get(),
            waiting: BTreeMap::new(),
            lanes: Lane::ALL.into_iter().map(|lane| (lane, BTreeSet::new())).collect(),
            running: BTreeMap::new(),
        }
    }

    /// Asks for a run of `key`. A key that runs now is held until its run ends.
    pub fn schedule(&mut self, key: K, due: Due, now_ms: u64) {
        let due = Due { at_ms: due.at_ms.min(now_ms.saturating_add(FARTHEST_MS)), ..due };
        if let Some(running) = self.running.get_mut(&key) {
            running.held = Some(running.held.map_or(due, |held| held.merge(due)));
            return;
        }
        let due = match self.remove_waiting(&key) {
            Some(earlier) => earlier.merge(due),
            None => due,
        };
        self.lanes.entry(due.lane).or_default().insert((due.at_ms, key.clone()));
        self.waiting.insert(key, due);
    }

    /// The most urgent key that is due, now marked as running. `None` when nothing is due or the limit is
    /// reached.
    pub fn take_due(&mut self, now_ms: u64) -> Option<(K, Due)> {
        let key = self.most_urgent(now_ms)?;
        let due = self.remove_waiting(&key)?;
        self.running.insert(key.clone(), Running { rollback: due.lane == Lane::Rollback, held: None });
        Some((key, due))
    }

    /// Ends the run of `key` and plans the next one, if any; what was held meanwhile counts too.
    pub fn finish(&mut self, key: &K, next: Option<Due>, now_ms: u64) {
        let held = self.running.remove(key).and_then(|running| running.held);
        for due in [next, held].into_iter().flatten() {
            self.schedule(key.clone(), due, now_ms);
        }
    }

    /// When the next key may start, if no run ends before. `None`: nothing waits, or only the end of a run can
    /// make room.
    pub fn next_due(&self) -> Option<u64> {
        self.open_lanes().filter_map(|lane| self.first(lane)).map(|(at_ms, _)| *at_ms).min()
    }

    /// Forgets every other key that waits; runs go on, and nothing is held for after those of other keys.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.waiting.retain(|key, _| keep(key));
        self.lanes.values_mut().for_each(|lane| lane.retain(|(_, key)| keep(key)));
        for (_, running) in self.running.iter_mut().filter(|(key, _)| !keep(key)) {
            running.held = None;
        }
    }

    /// How many keys wait, due or not.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many keys run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether `key` waits or runs.
    pub fn knows(&self, key: &K) -> bool {
        self.waiting.contains_key(key) || self.running.contains_key(key)
    }

    fn most_urgent(&self, now_ms: u64) -> Option<K> {
        let due = |lane: Lane| self.first(lane).filter(|(at_ms, _)| *at_ms <= now_ms);
        let open: Vec<Lane> = self.open_lanes().collect();
        let starved = open
            .iter()
            .filter(|lane| **lane != Lane::Rollback)
            .filter_map(|lane| due(*lane))
            .filter(|(at_ms, _)| at_ms.saturating_add(PATIENCE_MS) <= now_ms)
            .min();
        let rollback = open.first().filter(|lane| **lane == Lane::Rollback).and_then(|lane| due(*lane));
        let ordinary = || open.iter().find_map(|lane| due(*lane));
        rollback.or(starved).or_else(ordinary).map(|(_, key)| key.clone())
    }

    /// The lanes from which one more run may start, most urgent first.
    fn open_lanes(&self) -> impl Iterator<Item = Lane> {
        let ordinary = self.running.values().filter(|running| !running.rollback).count();
        let any = self.running.len() < self.limit;
        let any_ordinary = any && ordinary < self.limit - self.limit / RESERVED_FOR_ROLLBACK;
        Lane::ALL.into_iter().filter(move |lane| if *lane == Lane::Rollback { any } else { any_ordinary })
    }

    fn first(&self, lane: Lane) -> Option<&(u64, K)> {
        self.lanes.get(&lane).and_then(BTreeSet::first)
    }

    fn remove_waiting(&mut self, key: &K) -> Option<Due> {
        let due = self.waiting.remove(key)?;
        if let Some(lane) = self.lanes.get_mut(&due.lane) {
            lane.remove(&(due.at_ms, key.clone()));
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(at_ms: u64, lane: Lane) -> Due {
        Due { at_ms, lane, why: Trigger::Deadline }
    }

    fn queue(limit: usize) -> Workqueue<u8> {
        Workqueue::new(NonZeroUsize::new(limit).unwrap())
    }

    #[test]
    fn a_key_that_is_asked_for_twice_runs_once_at_the_earlier_time_in_the_more_urgent_lane() {
        let mut queue = queue(4);
        queue.schedule(1, due(500, Lane::Rollback), 0);
        queue.schedule(1, Due { at_ms: 100, lane: Lane::Idle, why: Trigger::Hint }, 0);
        assert_eq!(queue.next_due(), Some(100));
        assert_eq!(queue.take_due(99), None);
        let (key, taken) = queue.take_due(100).unwrap();
        assert_eq!((key, taken.lane, taken.why), (1, Lane::Rollback, Trigger::Hint));
        queue.finish(&1, None, 100);
        assert_eq!(queue.take_due(10_000), None);
    }

    #[test]
    fn a_running_key_is_held_and_blocks_nobody() {
        let mut queue = queue(4);
        queue.schedule(1, due(0, Lane::Rollback), 0);
        queue.take_due(0).unwrap();
        queue.schedule(1, due(0, Lane::Rollback), 0);
        queue.schedule(2, due(5, Lane::Idle), 0);
        assert_eq!(queue.take_due(5).unwrap().0, 2);
        assert_eq!(queue.take_due(5), None);
        queue.finish(&1, Some(due(9_000, Lane::Idle)), 6);
        assert_eq!(queue.take_due(6).unwrap().0, 1);
    }

    #[test]
    fn rollbacks_go_first_and_have_room_that_nothing_else_takes() {
        let mut queue = queue(8);
        for key in 0..20 {
            queue.schedule(key, due(0, Lane::InFlight), 0);
        }
        let mut ordinary = 0;
        while queue.take_due(0).is_some() {
            ordinary += 1;
        }
        assert_eq!(ordinary, 7);
        queue.schedule(100, due(3, Lane::Rollback), 0);
        assert_eq!(queue.next_due(), Some(3));
        assert_eq!(queue.take_due(3).unwrap().0, 100);
        assert_eq!(queue.next_due(), None, "full: only the end of a run makes room");
    }

    #[test]
    fn a_key_that_waits_too_long_goes_before_every_lane_but_the_rollbacks() {
        let mut queue = queue(1);
        queue.schedule(9, due(0, Lane::Idle), 0);
        queue.schedule(1, due(PATIENCE_MS, Lane::InFlight), 0);
        queue.schedule(2, due(PATIENCE_MS, Lane::Rollback), 0);
        let mut order = Vec::new();
        while let Some((key, _)) = queue.take_due(PATIENCE_MS) {
            order.push(key);
            queue.finish(&key, None, PATIENCE_MS);
        }
        assert_eq!(order, [2, 9, 1]);
    }

    #[test]
    fn a_deadline_far_ahead_is_clamped_to_a_day() {
        let mut queue = queue(1);
        queue.schedule(1, due(u64::MAX, Lane::Idle), 7);
        assert_eq!(queue.next_due(), Some(7 + FARTHEST_MS));
    }

    /// What a caller may do.
    #[derive(Clone, Debug)]
    enum Step {
        Schedule { key: u8, after: u64, lane: Lane },
        Pass { time: u64 },
        Take,
        Finish { which: usize, again: Option<u64> },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let lane = (0..4_usize).prop_map(|index| Lane::ALL[index]);
        prop_oneof![
            4 => (0..12_u8, 0..2_000_u64, lane).prop_map(|(key, after, lane)| Step::Schedule { key, after, lane }),
            2 => (1..1_500_u64).prop_map(|time| Step::Pass { time }),
            4 => Just(Step::Take),
            3 => (0..8_usize, proptest::option::of(0..1_000_u64))
                .prop_map(|(which, again)| Step::Finish { which, again }),
        ]
    }

    proptest! {
        #[test]
        fn no_order_of_calls_breaks_the_rules(
            limit in 1..6_usize,
            steps in proptest::collection::vec(any_step(), 1..250),
        ) {
            let mut queue = queue(limit);
            let mut now = 0_u64;
            let mut running: Vec<u8> = Vec::new();
            // The earliest time asked for since the key last started, by key.
            let mut asked: BTreeMap<u8, u64> = BTreeMap::new();
            let ask = |asked: &mut BTreeMap<u8, u64>, key: u8, at: u64| {
                asked.entry(key).and_modify(|earlier| *earlier = at.min(*earlier)).or_insert(at);
            };
            for step in steps {
                match step {
                    Step::Schedule { key, after, lane } => {
                        queue.schedule(key, due(now + after, lane), now);
                        ask(&mut asked, key, now + after);
                    }
                    Step::Pass { time } => now += time,
                    Step::Take => {
                        if let Some((key, taken)) = queue.take_due(now) {
                            prop_assert!(!running.contains(&key), "two runs of one key");
                            prop_assert_eq!(asked.remove(&key), Some(taken.at_ms), "not the earliest time");
                            prop_assert!(taken.at_ms <= now, "too early");
                            running.push(key);
                            prop_assert!(running.len() <= limit, "above the limit");
                        } else {
                            let overdue = asked.iter().any(|(key, at)| !running.contains(key) && *at <= now);
                            prop_assert!(!overdue || running.len() >= limit, "a due key was passed over");
                        }
                    }
                    Step::Finish { which, again } => {
                        if !running.is_empty() {
                            let key = running.remove(which % running.len());
                            queue.finish(&key, again.map(|after| due(now + after, Lane::Idle)), now);
                            if let Some(after) = again {
                                ask(&mut asked, key, now + after);
                            }
                        }
                    }
                }
                prop_assert_eq!(queue.running(), running.len());
                let waiting: BTreeSet<u8> = asked.keys().copied().filter(|key| !running.contains(key)).collect();
                prop_assert_eq!(queue.waiting(), waiting.len(), "a key was lost or doubled");
            }
            // In the end everything that was asked for gets its run.
            for key in running.drain(..) {
                queue.finish(&key, None, now);
            }
            now += FARTHEST_MS;
            while let Some((key, _)) = queue.take_due(now) {
                prop_assert!(asked.remove(&key).is_some());
                queue.finish(&key, None, now);
            }
            prop_assert!(asked.is_empty(), "never ran: {:?}", asked);
        }
    }
}
