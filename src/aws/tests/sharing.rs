//! The part of the account's forward changes that a daemon takes follows its shards.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::support::TokioClock;
use crate::aws::budget::{Family, Limiter, Rates, Urgency};
use crate::lease::ShardCount;
use crate::ports::{Clock, Permit, Permits};

const SHARDS: u16 = 64;

fn owning(number: usize, clock: &Arc<dyn Clock>) -> Permits {
    let shards = ShardCount::new(SHARDS).unwrap();
    let permit = || Permit::new(1, Arc::new(AtomicU64::new(u64::MAX)), Arc::clone(clock));
    let held = shards.all().take(number).map(|shard| (shard, permit())).collect();
    Permits { shards, held, ..Permits::default() }
}

/// Turns that are given in a minute to somebody who asks ten times a second.
async fn in_a_minute(limiter: &Limiter, urgency: Urgency) -> usize {
    let mut turns = 0;
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        turns += usize::from(limiter.turn_now("ModifyRule", Family::ElbWrite, urgency).is_ok());
    }
    turns
}

#[tokio::test(start_paused = true)]
async fn every_change_of_shards_reaches_the_budget_of_forward_changes_and_leaves_rollbacks_alone() {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock(Instant::now()));
    let limiter = Limiter::new(&Rates::default(), Arc::clone(&clock));
    let (granted, permits) = watch::channel(owning(0, &clock));
    let shared = limiter.clone();
    let sharing = tokio::spawn(async move { shared.follow(permits).await });
    // 3 a second for the whole; what is gained begins empty, and what is lost takes its savings along.
    for (owned, most) in [(0, 0), (64, 180), (16, 45), (0, 0), (32, 90)] {
        granted.send_replace(owning(owned, &clock));
        let turns = in_a_minute(&limiter, Urgency::Forward).await;
        assert!((most.max(3) - 3..=most).contains(&turns), "{owned} of {SHARDS} shards: {turns}, not {most}");
    }
    granted.send_replace(owning(0, &clock));
    assert!(in_a_minute(&limiter, Urgency::Rollback).await >= 180);
    drop(granted);
    sharing.await.unwrap();
}
