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
use crate::store::error::unreachable;
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
    /// Whether traffic may be taken back when the permits ran out because the table cannot be reached.
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
        cut_off: Arc::new(AtomicBool::new(false)),
        emergency,
        lapsed: false,
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
    /// Since the table said anything, no call has reached it. Shared with the emergency permits.
    cut_off: Arc<AtomicBool>,
    emergency: bool,
    /// Emergency permits are published.
    lapsed: bool,
    misfit: Option<u16>,
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
                self.cut_off.store(false, Ordering::SeqCst);
                if self.troubled.swap(false, Ordering::Relaxed) {
                    info!("the lease table answers again");
                }
                return Some(answer);
            }
            Ok(Err(error)) => {
                self.cut_off.store(unreachable(&error), Ordering::SeqCst);
                chain(&error)
            }
            Err(_) => {
                self.cut_off.store(true, Ordering::SeqCst);
                "no answer in time".to_owned()
            }
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
        // Ours still, as far as anybody could know: only the time ran out, and only for want of the table. It stays so,
        // without the right to act, from when the table answers until a beat says whose the shards are.
        let cut_off = self.cut_off.load(Ordering::SeqCst);
        let lapsed = self.emergency && !valid && until_ms > 0 && (self.lapsed || cut_off);
        if !lost.is_empty() || !gained.is_empty() || lapsed != self.lapsed {
            self.lapsed = lapsed;
            self.change(&lost, &gained, until_ms);
        }
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
        let lapsed: BTreeMap<Shard, EmergencyPermit> = if self.lapsed {
            let permit = |epoch: &u64| EmergencyPermit::new(*epoch, Arc::clone(&self.cut_off));
            self.replica.held().iter().map(|(shard, epoch)| (*shard, permit(epoch))).collect()
        } else {
            BTreeMap::new()
        };
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
        self.lapsed = false;
        self.cut_off.store(false, Ordering::SeqCst);
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
