//! How many requests of each API family we allow ourselves, so that polling never costs a rollback its turn.
//!
//! AWS counts requests per account and region, and other people's tools draw on the same buckets
//! (`aws-facts.md` §4). The arithmetic is here, free of I/O; [`Limiter`] only adds the clock and the sleep.
//!
//! Several daemons share the account. What brings releases forward is shared as the services are, by shards: an owner of
//! 20 of 64 takes 20/64 of the forward changes, so that all owners together leave the reserve to rollbacks. A rollback
//! draws on the whole: it must not wait for a part that others own and leave unused. Reads are not shared: those of one
//! daemon do not grow fewer with its shards, and what is seen late is rolled back late.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::error::CallError;
use crate::ports::{Clock, Permits};
use crate::records::Span;

/// API families that AWS, or we, count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `DescribeServices`.
    Services,
    /// Task-set mutations; in no published bucket (`aws-facts.md` §4.1), so they get a modest one.
    TaskSets,
    /// `DescribeTasks`, `ListTasks`, `DescribeTaskDefinition`.
    Tasks,
    /// Every ELB `Describe…`.
    ElbRead,
    /// `ModifyRule`, `ModifyListener`: they draw on the ELB account bucket as well.
    ElbWrite,
    /// `DescribeAlarms`: shared with ECS-native and `CodeDeploy` releases, whose rollbacks we must not starve.
    Alarms,
    /// `DescribeAlarmHistory`.
    AlarmHistory,
}

/// Who asks. Each bucket keeps reserves that the less urgent may not touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Observation.
    Look,
    /// Work that brings a release forward or cleans up.
    Forward,
    /// Traffic back to stable.
    Rollback,
}

/// One bucket's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens when full; at least 1.
    pub burst: u32,
    /// Refill, tokens a second; at least 1.
    pub per_second: u32,
    /// What [`Urgency::Look`] must leave, below `burst`.
    pub kept_from_looks: u32,
    /// What [`Urgency::Forward`] must leave, below `burst`.
    pub kept_from_forward: u32,
}

/// All figures. The default takes at most half of AWS's published quotas for what others need too, and all of
/// the ELB mutations, most of them reserved for rollbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// AWS: 100 burst, 20/s.
    pub services: Rate,
    /// AWS: unpublished.
    pub task_sets: Rate,
    /// AWS: 100 burst, 20/s.
    pub tasks: Rate,
    /// AWS: 40 burst, 10/s, all ELB calls of the account.
    pub elb: Rate,
    /// AWS: 20 burst, 3/s.
    pub elb_write: Rate,
    /// AWS: 9/s.
    pub alarms: Rate,
    /// AWS: 20/s.
    pub alarm_history: Rate,
    /// The longest that a read, or a rollback, waits for its turn (a [batched](super::batch) read: once it is at
    /// the head of its line); forward work is refused at once, the next
    /// pass comes soon enough.
    pub longest_wait: Span,
}

impl Default for Rates {
    fn default() -> Self {
        let plain = |burst, per_second| Rate { burst, per_second, kept_from_looks: 0, kept_from_forward: 0 };
        Self {
            services: plain(50, 10),
            task_sets: plain(20, 5),
            tasks: plain(50, 10),
            // A rollback is one read and one write; ten pairs are always there.
            elb: Rate { burst: 40, per_second: 10, kept_from_looks: 20, kept_from_forward: 10 },
            elb_write: Rate { burst: 20, per_second: 3, kept_from_looks: 0, kept_from_forward: 15 },
            alarms: plain(6, 3),
            alarm_history: plain(10, 5),
            longest_wait: Span::from_secs(2),
        }
    }
}

/// A token bucket in thousandths of a token.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: Rate,
    milli: u64,
    at_ms: u64,
}

impl Bucket {
    const fn full(rate: Rate) -> Self {
        Self { rate, milli: rate.burst as u64 * 1000, at_ms: 0 }
    }

    fn refill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        let earned = passed.saturating_mul(u64::from(self.rate.per_second));
        self.milli = self.milli.saturating_add(earned).min(u64::from(self.rate.burst) * 1000);
    }

    /// Milliseconds until `urgency` may take a token; 0: now.
    fn missing_ms(&self, urgency: Urgency) -> u64 {
        let kept = match urgency {
            Urgency::Look => self.rate.kept_from_looks,
            Urgency::Forward => self.rate.kept_from_forward,
            Urgency::Rollback => 0,
        };
        let wanted = (u64::from(kept) + 1) * 1000;
        wanted.saturating_sub(self.milli).div_ceil(u64::from(self.rate.per_second.max(1)))
    }

    fn take(&mut self) {
        self.milli = self.milli.saturating_sub(1000);
    }
}

/// The part of forward changes that goes with the shards of this process, in billionths of a token: a part of what is
/// earned in a millisecond is still a whole number of those.
#[derive(Clone, Copy, Debug)]
struct Part {
    rate: Rate,
    owned: u16,
    of: u16,
    nano: u64,
    at_ms: u64,
}

/// One token.
const TOKEN: u64 = 1_000_000_000;

impl Part {
    /// Everything is ours, until somebody says otherwise.
    const fn whole(rate: Rate) -> Self {
        let forward = rate.burst.saturating_sub(rate.kept_from_forward);
        Self { rate, owned: 1, of: 1, nano: forward as u64 * TOKEN, at_ms: 0 }
    }

    /// Of `amount`, what goes with our shards.
    fn ours(&self, amount: u64) -> u64 {
        amount.saturating_mul(u64::from(self.owned)) / u64::from(self.of)
    }

    /// A whole token fits at least, or a small owner would never have its turn.
    fn most(&self) -> u64 {
        let forward = u64::from(self.rate.burst.saturating_sub(self.rate.kept_from_forward));
        if self.owned == 0 { 0 } else { self.ours(forward * TOKEN).max(TOKEN) }
    }

    /// Earned in a millisecond, before the part is taken of it.
    fn earned_a_ms(&self) -> u64 {
        u64::from(self.rate.per_second) * (TOKEN / 1000)
    }

    fn refill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        let earned = self.ours(passed.saturating_mul(self.earned_a_ms()));
        self.nano = self.nano.saturating_add(earned).min(self.most());
    }

    /// What was saved up for shards that are gone goes with them; what is gained begins empty, because its owner before
    /// may have just spent it.
    fn own(&mut self, owned: u16, of: u16, now_ms: u64) {
        self.refill(now_ms);
        (self.owned, self.of) = (owned.min(of), of.max(1));
        self.nano = self.nano.min(self.most());
    }

    fn missing_ms(&self) -> u64 {
        let missing = TOKEN.saturating_sub(self.nano);
        let earned = self.ours(self.earned_a_ms());
        if missing == 0 { 0 } else { missing.checked_div(earned).map_or(NEVER_MS, |ms| ms + 1) }
    }
}

/// Without a shard there is no turn to wait for.
const NEVER_MS: u64 = 3_600_000;

/// The buckets.
#[derive(Clone, Debug)]
pub struct Budget {
    forward_weights: Part,
    forward_task_sets: Part,
    services: Bucket,
    task_sets: Bucket,
    tasks: Bucket,
    elb: Bucket,
    elb_write: Bucket,
    alarms: Bucket,
    alarm_history: Bucket,
}

impl Budget {
    /// All buckets full.
    pub const fn new(rates: &Rates) -> Self {
        Self {
            forward_weights: Part::whole(rates.elb_write),
            forward_task_sets: Part::whole(rates.task_sets),
            services: Bucket::full(rates.services),
            task_sets: Bucket::full(rates.task_sets),
            tasks: Bucket::full(rates.tasks),
            elb: Bucket::full(rates.elb),
            elb_write: Bucket::full(rates.elb_write),
            alarms: Bucket::full(rates.alarms),
            alarm_history: Bucket::full(rates.alarm_history),
        }
    }

    /// This process owns so many of all shards from now on.
    pub fn own(&mut self, owned: u16, of: u16, now_ms: u64) {
        self.forward_weights.own(owned, of, now_ms);
        self.forward_task_sets.own(owned, of, now_ms);
    }

    /// Takes one request's tokens, from all buckets it counts in or from none.
    ///
    /// # Errors
    /// The milliseconds after which it is worth asking again.
    pub fn take(&mut self, family: Family, urgency: Urgency, now_ms: u64) -> Result<(), u64> {
        let (first, second) = match family {
            Family::Services => (&mut self.services, None),
            Family::TaskSets => (&mut self.task_sets, None),
            Family::Tasks => (&mut self.tasks, None),
            Family::ElbRead => (&mut self.elb, None),
            Family::ElbWrite => (&mut self.elb, Some(&mut self.elb_write)),
            Family::Alarms => (&mut self.alarms, None),
            Family::AlarmHistory => (&mut self.alarm_history, None),
        };
        let mut buckets = std::iter::once(first).chain(second).collect::<Vec<_>>();
        let mut part = match (family, urgency) {
            (Family::ElbWrite, Urgency::Forward) => Some(&mut self.forward_weights),
            (Family::TaskSets, Urgency::Forward) => Some(&mut self.forward_task_sets),
            _ => None,
        };
        let mut missing = 0;
        if let Some(part) = &mut part {
            part.refill(now_ms);
            missing = part.missing_ms();
        }
        for bucket in &mut buckets {
            bucket.refill(now_ms);
            missing = missing.max(bucket.missing_ms(urgency));
        }
        if missing > 0 {
            return Err(missing);
        }
        for bucket in buckets {
            bucket.take();
        }
        if let Some(part) = part {
            part.nano = part.nano.saturating_sub(TOKEN);
        }
        Ok(())
    }
}

/// A [`Budget`] with a clock, shared by everything that calls AWS.
#[derive(Clone)]
pub struct Limiter {
    counted: Arc<Mutex<Counted>>,
    longest_wait_ms: u64,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("counted", &self.counted).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Counted {
    budget: Budget,
    calls: BTreeMap<&'static str, u64>,
}

/// Turns that one request waits for at most; with [`Rates::longest_wait`] this bounds the loop.
const MOST_TURNS: u32 = 50;

impl Limiter {
    /// All buckets full.
    pub fn new(rates: &Rates, clock: Arc<dyn Clock>) -> Self {
        Self {
            counted: Arc::new(Mutex::new(Counted { budget: Budget::new(rates), calls: BTreeMap::new() })),
            longest_wait_ms: rates.longest_wait.millis(),
            clock,
        }
    }

    /// Waits, within bounds, until `operation` may be sent.
    pub async fn turn(
        &self,
        operation: &'static str,
        family: Family,
        urgency: Urgency,
    ) -> Result<(), CallError> {
        let patience = if urgency == Urgency::Forward { 0 } else { self.longest_wait_ms };
        let mut waited = 0;
        for _ in 0..MOST_TURNS {
            let Err(missing) = self.take(operation, family, urgency) else {
                tracing::trace!(operation, ?urgency, "calling AWS");
                return Ok(());
            };
            if waited + missing > patience {
                break;
            }
            waited += missing;
            tokio::time::sleep(std::time::Duration::from_millis(missing)).await;
        }
        Err(CallError::budget(operation))
    }

    /// Like [`turn`](Self::turn), without waiting.
    pub fn turn_now(
        &self,
        operation: &'static str,
        family: Family,
        urgency: Urgency,
    ) -> Result<(), CallError> {
        self.take(operation, family, urgency).map_err(|_| CallError::budget(operation))
    }

    fn take(&self, operation: &'static str, family: Family, urgency: Urgency) -> Result<(), u64> {
        let now_ms = self.clock.monotonic_ms();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.budget.take(family, urgency, now_ms)?;
        *counted.calls.entry(operation).or_default() += 1;
        Ok(())
    }

    /// Takes the part of the account's forward changes that goes with the shards that are owned, whenever they change.
    /// Ends with the lease keeper.
    pub async fn follow(&self, mut permits: watch::Receiver<Permits>) {
        loop {
            let (owned, of) = {
                let permits = permits.borrow_and_update();
                (u16::try_from(permits.held.len()).unwrap_or(u16::MAX), permits.shards.get())
            };
            self.own(owned, of);
            if permits.changed().await.is_err() {
                return;
            }
        }
    }

    /// This process owns so many of all shards from now on; before it is told, it owns everything.
    fn own(&self, owned: u16, of: u16) {
        let now_ms = self.clock.monotonic_ms();
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).budget.own(owned, of, now_ms);
    }

    /// Requests let through so far, by operation.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, family: Family, urgency: Urgency, now_ms: u64) -> usize {
        std::iter::repeat_with(|| budget.take(family, urgency, now_ms)).take_while(Result::is_ok).count()
    }

    #[test]
    fn forward_writes_leave_the_reserve_to_rollbacks() {
        let mut budget = Budget::new(&Rates::default());
        assert_eq!(taken(&mut budget, Family::ElbWrite, Urgency::Forward, 0), 5);
        assert_eq!(taken(&mut budget, Family::ElbWrite, Urgency::Rollback, 0), 15);
    }

    #[test]
    fn a_storm_of_rollbacks_goes_on_at_three_a_second() {
        let mut budget = Budget::new(&Rates::default());
        assert_eq!(taken(&mut budget, Family::ElbWrite, Urgency::Rollback, 0), 20);
        assert_eq!(budget.take(Family::ElbWrite, Urgency::Rollback, 0), Err(334));
        assert_eq!(
            taken(&mut budget, Family::ElbWrite, Urgency::Rollback, 10_000),
            20,
            "never above the burst"
        );
        assert_eq!(taken(&mut budget, Family::ElbWrite, Urgency::Rollback, 11_000), 3);
    }

    #[test]
    fn looking_never_costs_a_rollback_its_turn() {
        let mut budget = Budget::new(&Rates::default());
        assert_eq!(taken(&mut budget, Family::ElbRead, Urgency::Look, 0), 20);
        let pairs = std::iter::repeat_with(|| {
            budget.take(Family::ElbRead, Urgency::Rollback, 0)?;
            budget.take(Family::ElbWrite, Urgency::Rollback, 0)
        });
        assert_eq!(pairs.take_while(Result::is_ok).count(), 10);
    }

    #[test]
    fn a_write_that_one_bucket_refuses_takes_nothing_from_the_other() {
        let mut budget = Budget::new(&Rates::default());
        taken(&mut budget, Family::ElbWrite, Urgency::Rollback, 0);
        assert!(budget.take(Family::ElbWrite, Urgency::Rollback, 0).is_err());
        assert_eq!(taken(&mut budget, Family::ElbRead, Urgency::Rollback, 0), 20, "40 less the 20 writes");
    }

    const SHARDS: u16 = 64;

    /// Just started: it owns nothing until it is told.
    fn owning(shards: u16) -> Budget {
        let mut budget = Budget::new(&Rates::default());
        budget.own(0, SHARDS, 0);
        budget.own(shards, SHARDS, 0);
        budget
    }

    #[test]
    fn all_owners_together_go_forward_no_faster_than_one_that_owns_everything() {
        for (family, per_second) in [(Family::ElbWrite, 3), (Family::TaskSets, 5)] {
            for shares in [vec![64], vec![20, 22, 22], vec![1, 63], vec![4; 16]] {
                let mut owners: Vec<Budget> = shares.iter().map(|shards| owning(*shards)).collect();
                let turn = |now_ms: u64| -> usize {
                    owners.iter_mut().map(|it| taken(it, family, Urgency::Forward, now_ms)).sum()
                };
                let calls: usize = (1..=60_000).step_by(7).map(turn).sum();
                let (most, least) = (60 * per_second, 60 * per_second - shares.len() - 1);
                assert!(
                    (least..=most).contains(&calls),
                    "{family:?} {shares:?}: {calls}, not {least}..={most}"
                );
            }
        }
    }

    #[test]
    fn all_owners_together_save_up_one_turn_each_at_most_beside_the_burst_of_one() {
        let mut owners: Vec<Budget> = [1, 1, 20, 42].map(owning).into();
        let mut burst = |now_ms| -> Vec<usize> {
            owners.iter_mut().map(|it| taken(it, Family::ElbWrite, Urgency::Forward, now_ms)).collect()
        };
        assert_eq!(burst(0), [0, 0, 0, 0], "what is gained begins empty");
        assert_eq!(burst(3_600_000), [1, 1, 1, 3], "5 in all, and a whole turn for each");
    }

    #[test]
    fn a_rollback_draws_on_the_whole_whatever_is_owned() {
        for shards in [0, 1, 64] {
            let mut budget = owning(shards);
            assert_eq!(taken(&mut budget, Family::ElbWrite, Urgency::Rollback, 0), 20);
            assert_eq!(taken(&mut budget, Family::ElbWrite, Urgency::Rollback, 10_000), 20);
        }
    }

    #[test]
    fn an_owner_of_one_shard_gets_its_turn_and_is_told_when() {
        let mut budget = owning(1);
        let wait = budget.take(Family::ElbWrite, Urgency::Forward, 0).unwrap_err();
        assert!((21_333..21_340).contains(&wait), "64/3 s, not {wait} ms");
        assert!(budget.take(Family::ElbWrite, Urgency::Forward, wait - 10).is_err());
        assert_eq!(budget.take(Family::ElbWrite, Urgency::Forward, wait), Ok(()));
        assert!(owning(0).take(Family::ElbWrite, Urgency::Forward, 3_000_000).is_err());
    }

    #[test]
    fn what_was_saved_up_for_shards_goes_with_them() {
        let (mut before, mut after) = (owning(64), owning(0));
        before.own(20, SHARDS, 60_000);
        after.own(44, SHARDS, 60_000);
        assert_eq!(taken(&mut before, Family::ElbWrite, Urgency::Forward, 60_000), 1, "5 × 20/64");
        assert_eq!(taken(&mut after, Family::ElbWrite, Urgency::Forward, 60_000), 0);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_earns_nothing() {
        let mut budget = Budget::new(&Rates::default());
        assert_eq!(taken(&mut budget, Family::Alarms, Urgency::Look, 5_000), 6);
        assert_eq!(taken(&mut budget, Family::Alarms, Urgency::Look, 1_000), 0);
        assert_eq!(taken(&mut budget, Family::Alarms, Urgency::Look, 6_000), 3);
    }
}
