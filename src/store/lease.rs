//! The lease in `DynamoDB`: the calls on its items, and the task that carries out what the protocol
//! ([`crate::lease`]) asks for.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::lease::{Claim, LeaseTiming, Replica, Shard, ShardCount, Step, Written};
use crate::ports::{Clock, EmergencyPermit, Permit, Permits, StoreError};
use crate::telemetry::chain;

pub use table::{DynamoLease, LeaseTable};

/// How often a permit that is being given up is looked at: whether a run still has it.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Who keeps which lease.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Unique to this process, also across restarts.
    pub holder: String,
    /// Spreads the replicas over time and shards.
    pub seed: u64,
    /// The same on every replica.
    pub shards: ShardCount,
    /// The same on every replica.
    pub timing: LeaseTiming,
    /// Whether traffic may be taken back when the permits ran out because no beat was answered.
    pub emergency: bool,
}

/// Competes for shards, keeps them while it can, and publishes their permits. Ends when `shutdown` is cancelled,
/// having given all of them up so that the others need not wait.
///
/// Giving up: a permit stops allowing anything at once; then, when every clone of it is dropped, at the
/// latest after `operation` (by when whatever began under it has ended), the item is written.
pub async fn keep(
    table: Arc<dyn LeaseTable>,
    clock: Arc<dyn Clock>,
    keeping: Keeping,
    permits: channel::Sender<Permits>,
    shutdown: CancellationToken,
) {
    let Keeping { holder, seed, shards, timing, emergency } = keeping;
    let mut keeper = Keeper {
        replica: Replica::new(holder, seed, shards, timing),
        table,
        clock,
        shards,
        timing,
        permits,
        published: BTreeMap::new(),
        draining: BTreeMap::new(),
        troubled: AtomicBool::new(false),
        unbeaten: false,
        buried: false,
        emergency,
        lapsed: Lapsed::default(),
        misfit: None,
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = keeper.step() => {}
        }
    }
    keeper.leave().await;
}

/// The permit of a shard: its epoch, and the end that it shares with the permits that were handed out.
struct Published {
    epoch: u64,
    valid_until_ms: Arc<AtomicU64>,
}

struct Keeper {
    replica: Replica,
    table: Arc<dyn LeaseTable>,
    clock: Arc<dyn Clock>,
    shards: ShardCount,
    timing: LeaseTiming,
    permits: channel::Sender<Permits>,
    published: BTreeMap<Shard, Published>,
    /// Withdrawn; a run may still have a clone.
    draining: BTreeMap<Shard, Arc<AtomicU64>>,
    /// The last call failed, and that was said.
    troubled: AtomicBool,
    /// The last beat failed: without an answer, or with one that is neither done nor refused by its condition.
    unbeaten: bool,
    /// A look has shown that our member item is gone.
    buried: bool,
    emergency: bool,
    lapsed: Lapsed,
    misfit: Option<u16>,
}

/// The emergency permits that are published.
#[derive(Default)]
struct Lapsed {
    /// By epoch.
    shards: BTreeMap<Shard, u64>,
    /// What they hang on; those of an earlier publication have another, which is off for good.
    stand: Arc<AtomicBool>,
}

impl Keeper {
    async fn step(&mut self) {
        let step = self.replica.next(self.clock.monotonic_ms());
        match &step {
            Step::Wait { ms } => {
                let mut pause = Duration::from_millis((*ms).max(1));
                if !self.draining.is_empty() {
                    pause = pause.min(DRAIN_LOOK);
                }
                tokio::time::sleep(pause).await;
            }
            Step::Look => {
                let look = self.limited(self.table.look()).await;
                if let Some(look) = &look {
                    self.buried = !look.members.contains_key(&self.replica.member());
                }
                self.replica.looked(self.clock.monotonic_ms(), look.as_ref());
            }
            Step::Take { member, claims } => {
                let takes = claims.iter().map(|claim| self.take(member, *claim));
                let answers = futures_util::future::join_all(takes).await;
                self.replica.took(self.clock.monotonic_ms(), &answers);
            }
            _ => {
                let sent_ms = self.clock.monotonic_ms();
                let answer = self.write(&step).await;
                if matches!(step, Step::Beat { .. }) {
                    self.unbeaten = answer.is_none();
                }
                self.replica.answered(&step, sent_ms, self.clock.monotonic_ms(), answer);
            }
        }
        self.publish();
    }

    async fn take(&self, member: &str, claim: Claim) -> (Claim, Option<Written>) {
        (claim, self.limited(self.table.take(member, claim)).await)
    }

    async fn write(&self, step: &Step) -> Option<Written> {
        match step {
            Step::Wait { .. } | Step::Look | Step::Take { .. } => None,
            Step::Found { seen } => self.limited(self.table.found(self.shards, *seen)).await,
            Step::Join { member } => self.limited(self.table.join(member, self.shards)).await,
            Step::Beat { member, floor } => self.limited(self.table.beat(member, *floor)).await,
            Step::Bury { member, beat } => {
                let written = self.limited(self.table.remove(member, Some(*beat))).await;
                if written == Some(Written::Done) {
                    warn!(member, beat, "a replica has stopped beating; its shards are free");
                }
                written
            }
            Step::Retire { member } => self.limited(self.table.remove(member, None)).await,
            Step::Free { member, shard, epoch } => {
                self.limited(self.table.free(member, *shard, *epoch)).await
            }
        }
    }

    /// A call to the table, no longer than a renewal's share of time: a hanging one must leave time for
    /// another. Trouble is said once, and once when it is over.
    async fn limited<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let error = match tokio::time::timeout(self.timing.renew.std(), call).await {
            Ok(Ok(answer)) => {
                if self.troubled.swap(false, Ordering::Relaxed) {
                    info!("the lease table answers again");
                }
                return Some(answer);
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        if !self.troubled.swap(true, Ordering::Relaxed) {
            warn!(error, "the lease table could not be read or written; it is tried again");
        }
        None
    }

    /// Makes the permits what the replica says that it owns.
    fn publish(&mut self) {
        let until_ms = self.replica.valid_until_ms();
        let valid = self.clock.monotonic_ms() < until_ms;
        let owned = if valid { self.replica.held().clone() } else { BTreeMap::new() };
        let kept = |shard: &Shard, published: &Published| owned.get(shard) == Some(&published.epoch);
        let lost: Vec<Shard> =
            self.published.iter().filter(|(shard, it)| !kept(shard, it)).map(|(shard, _)| *shard).collect();
        let gained: Vec<(Shard, u64)> = owned
            .into_iter()
            .filter(|(shard, _)| lost.contains(shard) || !self.published.contains_key(shard))
            .collect();
        let lapsed = if valid { BTreeMap::new() } else { self.left_without_beats(until_ms) };
        if !lost.is_empty() || !gained.is_empty() || lapsed != self.lapsed.shards {
            self.lapsed.stand.store(false, Ordering::SeqCst);
            self.lapsed = Lapsed { shards: lapsed, stand: Arc::default() };
            self.change(&lost, &gained, until_ms);
        }
        self.lapsed.stand.store(self.unbeaten && !self.lapsed.shards.is_empty(), Ordering::SeqCst);
        for published in self.published.values() {
            published.valid_until_ms.store(until_ms, Ordering::SeqCst);
        }
        let replica = &mut self.replica;
        self.draining.retain(|shard, cell| {
            let drained = Arc::strong_count(cell) == 1;
            if drained {
                replica.drained(*shard);
            }
            !drained
        });
        if self.misfit != self.replica.misfit() {
            self.misfit = self.replica.misfit();
            if let Some(theirs) = self.misfit {
                error!(
                    ours = self.shards.get(),
                    theirs,
                    "other replicas go by another number of shards: this one does nothing; give all the same `shards`"
                );
            } else {
                info!(shards = self.shards.get(), "the number of shards is accepted");
            }
        }
    }

    /// What is ours still, as far as anybody could know: only the time ran out, and only because no beat was answered.
    ///
    /// It does not matter how the beats fail. Unreachable, throttled or denied, the table tells this process nothing, and
    /// in none of these cases does that prove anything about others: they may reach it, have another share of the
    /// throughput, or another role. What keeps it safe is in `decide::emergency`, and goes by AWS alone. What the table
    /// does tell counts: a beat that is refused by its condition, or a look that shows our member item gone (it goes
    /// before anybody takes a shard of ours), or a shard in other hands.
    fn left_without_beats(&self, until_ms: u64) -> BTreeMap<Shard, u64> {
        let began = !self.lapsed.shards.is_empty() || self.unbeaten;
        if self.emergency && until_ms > 0 && began && !self.buried {
            self.replica.held().clone()
        } else {
            BTreeMap::new()
        }
    }

    fn change(&mut self, lost: &[Shard], gained: &[(Shard, u64)], until_ms: u64) {
        for shard in lost {
            if let Some(published) = self.published.remove(shard) {
                published.valid_until_ms.store(0, Ordering::SeqCst);
                self.draining.insert(*shard, published.valid_until_ms);
            }
        }
        for (shard, epoch) in gained {
            // A permit of an earlier epoch must never become valid again: each has a cell of its own.
            let valid_until_ms = Arc::new(AtomicU64::new(until_ms));
            self.published.insert(*shard, Published { epoch: *epoch, valid_until_ms });
        }
        let held = self.published.iter().map(|(shard, published)| {
            let cell = Arc::clone(&published.valid_until_ms);
            (*shard, Permit::new(published.epoch, cell, Arc::clone(&self.clock)))
        });
        let left = |epoch: &u64| EmergencyPermit::new(*epoch, Arc::clone(&self.lapsed.stand));
        let lapsed = self.lapsed.shards.iter().map(|(shard, epoch)| (*shard, left(epoch))).collect();
        let permits = Permits { shards: self.shards, held: held.collect(), lapsed };
        debug!(lost = ?lost, gained = ?gained, "shards changed hands");
        info!(
            lost = lost.len(),
            gained = gained.len(),
            held = permits.held.len(),
            of = self.shards.get(),
            "holds shards"
        );
        self.permits.send_replace(permits);
    }

    async fn leave(mut self) {
        self.lapsed.stand.store(false, Ordering::SeqCst);
        self.lapsed = Lapsed::default();
        let lost: Vec<Shard> = self.published.keys().copied().collect();
        if !lost.is_empty() {
            self.change(&lost, &[], 0);
        }
        let drained = async {
            // The last references are ours: no run holds a permit.
            while self.draining.values().any(|cell| Arc::strong_count(cell) > 1) {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(self.timing.operation.std(), drained).await.is_err() {
            info!("a run still holds its permit; what it began has had its time");
        }
        if !self.replica.is_member() {
            return;
        }
        // One write: whoever is no member holds nothing.
        if self.limited(self.table.remove(&self.replica.member(), None)).await.is_some() {
            info!("the shards are given up");
        } else {
            warn!("the shards could not be given up; the others wait for the time to live");
        }
    }
}

#[cfg(test)]
mod tests;
