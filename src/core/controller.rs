//! The loop: triggers → queue → one run of a service at a time → what people see.
//!
//! Triggers are the list of all services (at the start and every few minutes), hints from the table's stream,
//! and what the last run of a service asked for. Hints only wake; everything is found by looking again.
//!
//! **Architecture Invariant:** of a service whose shard this process does not own nothing is observed, written or
//! done, and of one whose shard it owns under another epoch than before nothing is remembered. One exception: a
//! way back while the lease cannot be renewed (`emergency`).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, warn};

mod emergency;
pub mod inputs;
mod known;
mod listing;
mod memory;
mod ownership;
pub mod persist;
pub mod reconcile;
pub mod response;
mod shown;
mod tell;
pub mod trouble;
pub mod workqueue;

use crate::ports::{Permits, StoreError};
use crate::records::{ServiceKey, Span};
use crate::telemetry::chain;
use listing::Listing;
use ownership::{Ownership, Right};
use reconcile::{Reconciler, Verdict};
use workqueue::{Due, Lane, Trigger, Workqueue};

pub use memory::Slot;
pub use shown::{HISTORY_SHOWN, Heartbeat, Snapshot, View};

/// How often, how many at once, how long.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time between two lists of all services.
    pub resync: Span,
    /// Runs at once.
    pub concurrency: NonZeroUsize,
    /// A run that takes longer is dropped, as a crash would drop it.
    pub longest_run: Span,
    /// How long runs under way may take to end when the process is told to stop.
    pub drain: Span,
}

/// Everything the loop is made of.
pub struct Controller {
    /// Carries out the runs.
    pub reconciler: Arc<Reconciler>,
    /// From the lease keeper: the right to write, shard by shard.
    pub permits: watch::Receiver<Permits>,
    /// From the stream reader.
    pub hints: mpsc::Receiver<ServiceKey>,
    /// For the API.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// For `/healthz`.
    pub heartbeat: Arc<Heartbeat>,
    /// See [`Timing`].
    pub timing: Timing,
}

/// The lease keeper ended; nobody can say any more whether this process may write.
#[derive(Debug, thiserror::Error)]
#[error("the lease keeper is gone")]
pub struct LeaseKeeperGone;

/// The loop wakes at least this often.
const TICK: Span = Span::from_secs(1);
/// What people see of one service is at most this old,
const PUBLISH_EVERY: Span = Span::from_millis(200);
/// and so much older for so many: a snapshot copies an entry of each, so that no more than 10,000 of them are copied in
/// a second, however many there are. 10,000 services are seen as they were 1.2 s ago.
const PUBLISHED_IN_A_MS: usize = 10;

/// Runs until `shutdown`, then lets the runs under way end.
pub async fn run(controller: Controller, shutdown: CancellationToken) -> Result<(), LeaseKeeperGone> {
    let mut work = Loop::new(controller, shutdown);
    work.lease_changed();
    let ended = loop {
        work.start_what_is_due();
        work.publish();
        match work.next_event().await {
            Event::Shutdown => break Ok(()),
            Event::LeaseKeeperGone => break Err(LeaseKeeperGone),
            Event::Lease => work.lease_changed(),
            Event::Hint(key) => work.hint(key),
            Event::Ended(ended) => work.ended(ended),
            Event::Tick => {}
        }
    };
    work.drain().await;
    ended
}

enum Event {
    Shutdown,
    LeaseKeeperGone,
    Lease,
    Hint(Option<ServiceKey>),
    Ended(Result<(Id, Finished), JoinError>),
    Tick,
}

/// What a task brings back.
enum Finished {
    Run { key: ServiceKey, slot: Box<Slot>, epoch: u64, verdict: Verdict },
    List { keys: Result<BTreeSet<ServiceKey>, StoreError> },
}

/// What is known of a run whose task is lost.
struct Started {
    key: ServiceKey,
    panics: u32,
}

struct Loop {
    reconciler: Arc<Reconciler>,
    permits: watch::Receiver<Permits>,
    ownership: Ownership,
    hints: Option<mpsc::Receiver<ServiceKey>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    heartbeat: Arc<Heartbeat>,
    timing: Timing,
    shutdown: CancellationToken,
    queue: Workqueue<ServiceKey>,
    slots: BTreeMap<ServiceKey, Box<Slot>>,
    tasks: JoinSet<Finished>,
    started: BTreeMap<Id, Started>,
    views: BTreeMap<ServiceKey, Arc<View>>,
    changed: bool,
    published_ms: u64,
    listing: Listing,
}

impl Loop {
    fn new(controller: Controller, shutdown: CancellationToken) -> Self {
        let Controller { reconciler, permits, hints, snapshots, heartbeat, timing } = controller;
        Self {
            queue: Workqueue::new(timing.concurrency),
            reconciler,
            permits,
            ownership: Ownership::default(),
            hints: Some(hints),
            snapshots,
            heartbeat,
            timing,
            shutdown,
            slots: BTreeMap::new(),
            tasks: JoinSet::new(),
            started: BTreeMap::new(),
            views: BTreeMap::new(),
            changed: true,
            published_ms: 0,
            listing: Listing::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.reconciler.clock.monotonic_ms()
    }

    fn may_start(&self) -> bool {
        ownership::may_start(&self.permits.borrow(), self.reconciler.operation)
    }

    /// Other shards than before, or others' epochs: whatever was remembered of their services may have been
    /// overtaken by another owner. The others' services go on as they were.
    fn lease_changed(&mut self) {
        let now = Ownership::of(&self.permits.borrow_and_update());
        self.reconciler.metrics.shards(now.owned.len(), usize::from(now.shards.get()));
        if now == self.ownership {
            return;
        }
        let before = std::mem::replace(&mut self.ownership, now);
        let now = &self.ownership;
        let stays = |key: &ServiceKey| now.continues(&before, key);
        for slot in self.slots.iter().filter(|(key, _)| !stays(key)).map(|(_, slot)| slot) {
            self.reconciler.overtaken(slot);
        }
        self.slots.retain(|key, slot| {
            if now.has_lapsed(key) || before.has_lapsed(key) {
                // What was read before the gap may be old.
                slot.forget();
            }
            stays(key)
        });
        self.views.retain(|key, _| stays(key));
        self.queue.retain(stays);
        let known = self.slots.keys().chain(self.started.values().map(|run| &run.key));
        let is_back = |key: &&ServiceKey| before.has_lapsed(key) && !now.has_lapsed(key) && stays(key);
        let back: Vec<ServiceKey> = known.filter(is_back).cloned().collect();
        let gained = now.gained(&before);
        if !now.lapsed.is_empty() {
            warn!("the lease has run out and cannot be renewed; only ways back are open");
        } else if now.owned.is_empty() {
            warn!("owns no shard; does nothing");
        } else if gained {
            let (shards, of) = (now.owned.len(), now.shards.get());
            info!(shards, of, "owns other shards; reads their services anew");
        }
        if gained || now.owned.is_empty() {
            self.listing.begins_anew(self.reconciler.clock.monotonic_ms());
        }
        self.changed = true;
        // Without the lease most of them waited for nothing.
        for key in back {
            let lane = self.lane_of(&key);
            self.plan(key, Span::ZERO, lane, Trigger::Deadline);
        }
    }

    fn lane_of(&self, key: &ServiceKey) -> Lane {
        self.slots.get(key).and_then(|slot| slot.lane).unwrap_or(Lane::New)
    }

    fn hint(&mut self, key: Option<ServiceKey>) {
        let Some(key) = key else {
            warn!("no more hints from the stream; polling goes on");
            self.hints = None;
            return;
        };
        if self.ownership.owner(&key).is_some() {
            let lane = self.lane_of(&key).min(Lane::New);
            self.plan(key, Span::ZERO, lane, Trigger::Hint);
        }
    }

    fn plan(&mut self, key: ServiceKey, after: Span, lane: Lane, why: Trigger) {
        let now_ms = self.now_ms();
        let at_ms = now_ms.saturating_add(after.millis());
        self.queue.schedule(key, Due { at_ms, lane, why }, now_ms);
    }

    fn start_what_is_due(&mut self) {
        let now_ms = self.now_ms();
        if !self.may_start() {
            // Waiting for a shard is no reason to be restarted.
            self.heartbeat.beat(now_ms);
            return;
        }
        if self.list_due_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.start_list();
        }
        let mut any = false;
        while let Some((key, due)) = self.queue.take_due(now_ms) {
            let right = self.ownership.right(&key, &self.permits.borrow(), self.reconciler.operation);
            if let Some(right) = right {
                self.start_run(key, due, right);
            } else {
                // Its permit ended between these lines. A beat may renew it, which no event says; that the shard goes is
                // said by the next one, which forgets the key.
                let at_ms = now_ms.saturating_add(TICK.millis());
                self.queue.finish(&key, Some(Due { at_ms, ..due }), now_ms);
            }
            any = true;
        }
        let nothing_due = self.queue.next_due().is_some_and(|at_ms| at_ms > now_ms);
        if any || nothing_due || self.queue.waiting() == 0 {
            self.heartbeat.beat(now_ms);
        }
        self.reconciler.metrics.queue(self.queue.waiting(), self.queue.running());
    }

    fn list_due_ms(&self) -> Option<u64> {
        self.listing.due_ms().filter(|_| !self.ownership.owned.is_empty())
    }

    fn start_list(&mut self) {
        self.listing.begins();
        let store = Arc::clone(&self.reconciler.store);
        self.tasks.spawn(async move { Finished::List { keys: store.list().await } });
    }

    fn start_run(&mut self, key: ServiceKey, due: Due, right: Right) {
        let mut slot = self.slots.remove(&key).unwrap_or_default();
        let started = Started { key: key.clone(), panics: slot.panics };
        let reconciler = Arc::clone(&self.reconciler);
        let (stop, longest) = (self.shutdown.clone(), self.timing.longest_run);
        let span = tracing::info_span!("reconcile", service = %key, trigger = due.why.name());
        let run = async move {
            let run = async {
                match &right {
                    Right::Lease(permit) => Box::pin(reconciler.run(&key, &mut slot, permit, &stop)).await,
                    Right::WayBack(permit) => Box::pin(reconciler.run_without_lease(&mut slot, permit)).await,
                }
            };
            let verdict = tokio::time::timeout(longest.std(), run).await;
            let verdict = verdict.unwrap_or_else(|_| reconciler.took_too_long(&mut slot, longest));
            Finished::Run { key, slot, epoch: right.epoch(), verdict }
        };
        let handle = self.tasks.spawn(run.instrument(span));
        self.started.insert(handle.id(), started);
        self.heartbeat.attempt();
    }

    async fn next_event(&mut self) -> Event {
        let now_ms = self.now_ms();
        let mut until_ms = now_ms.saturating_add(TICK.millis());
        if self.may_start() {
            let due = self.queue.next_due().into_iter();
            let list = self.list_due_ms();
            let publish = self.changed.then_some(self.publish_due_ms());
            until_ms = due.chain(list).chain(publish).chain([until_ms]).min().unwrap_or(until_ms);
        }
        let pause = Span::from_millis(until_ms.saturating_sub(now_ms)).std();
        let hint = async {
            match &mut self.hints {
                Some(hints) => hints.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Event::Shutdown,
            changed = self.permits.changed() => match changed {
                Ok(()) => Event::Lease,
                Err(_) => Event::LeaseKeeperGone,
            },
            Some(ended) = self.tasks.join_next_with_id() => Event::Ended(ended),
            key = hint => Event::Hint(key),
            () = tokio::time::sleep(pause) => Event::Tick,
        }
    }

    fn ended(&mut self, ended: Result<(Id, Finished), JoinError>) {
        self.heartbeat.beat(self.now_ms());
        match ended {
            Ok((id, Finished::Run { key, slot, epoch, verdict })) => {
                self.started.remove(&id);
                self.run_ended(key, slot, epoch, verdict);
            }
            Ok((_, Finished::List { keys })) => self.list_ended(keys),
            Err(error) => self.task_lost(error),
        }
    }

    fn run_ended(&mut self, key: ServiceKey, slot: Box<Slot>, epoch: u64, verdict: Verdict) {
        self.reconciler.metrics.reconciled(verdict.outcome);
        let now_ms = self.now_ms();
        if self.ownership.owner(&key).map(|(_, epoch)| epoch) != Some(epoch) {
            self.reconciler.overtaken(&slot);
            // Its shard changed hands meanwhile. If it came back, the list passed the key over because of this run.
            let owned = self.ownership.owner(&key).is_some();
            let afresh = Due { at_ms: now_ms, lane: Lane::New, why: Trigger::Listed };
            self.queue.finish(&key, owned.then_some(afresh), now_ms);
            return;
        }
        self.changed = true;
        let Some(after) = verdict.again else {
            self.views.remove(&key);
            self.queue.finish(&key, None, now_ms);
            return;
        };
        let lane = slot.lane.unwrap_or(Lane::New);
        let after = if verdict.why == Trigger::Turn || lane < Lane::New {
            after
        } else {
            spread(after, (&key, now_ms))
        };
        let due = Due { at_ms: now_ms.saturating_add(after.millis()), lane, why: verdict.why };
        self.queue.finish(&key, Some(due), now_ms);
        let at = self.reconciler.clock.now();
        let view = View {
            status: slot.shown.clone(),
            trouble: verdict.trouble,
            at,
            labels: slot.labels.clone(),
            history: slot.history.clone(),
        };
        self.views.insert(key.clone(), Arc::new(view));
        self.slots.insert(key, slot);
    }

    fn list_ended(&mut self, keys: Result<BTreeSet<ServiceKey>, StoreError>) {
        let now_ms = self.now_ms();
        match keys {
            Ok(keys) => {
                self.listing.succeeded(now_ms, self.timing.resync, !self.ownership.owned.is_empty());
                self.changed = true;
                debug!(services = keys.len(), "listed");
                for key in
                    keys.into_iter().filter(|key| self.ownership.owner(key).is_some()).collect::<Vec<_>>()
                {
                    if !self.queue.knows(&key) {
                        self.plan(key, Span::ZERO, Lane::New, Trigger::Listed);
                    }
                }
            }
            Err(error) => {
                let again = self.listing.failed(now_ms);
                warn!(error = %chain(&error), %again, "failed to list the services; lists again");
            }
        }
    }

    /// A task panicked outside the pure part, in an adapter. Its service starts afresh; the others go on.
    fn task_lost(&mut self, error: JoinError) {
        let Some(Started { key, panics }) = self.started.remove(&error.id()) else {
            error!(error = %chain(&error), "the list of services was lost; lists again");
            self.listing.lost(self.now_ms());
            return;
        };
        self.reconciler.metrics.panicked();
        let detail = match error.try_into_panic() {
            Ok(payload) => trouble::panic_text(payload.as_ref()),
            Err(cancelled) => cancelled.to_string(),
        };
        error!(service = %key, detail, "a run was lost; the other services go on");
        let slot = Box::new(Slot::after_panic(panics.saturating_add(1), detail.clone()));
        let verdict = Verdict {
            again: Some(self.reconciler.limits.poll),
            why: Trigger::Retry,
            outcome: "panicked",
            trouble: Some(detail),
        };
        match self.ownership.owner(&key) {
            Some((_, epoch)) => self.run_ended(key, slot, epoch, verdict),
            None => self.queue.finish(&key, None, self.now_ms()),
        }
    }

    fn publish_due_ms(&self) -> u64 {
        let for_all = u64::try_from(self.views.len() / PUBLISHED_IN_A_MS).unwrap_or(u64::MAX);
        self.published_ms.saturating_add(PUBLISH_EVERY.millis()).saturating_add(for_all)
    }

    /// Shows what changed, at most a few times a second: a snapshot names every service.
    fn publish(&mut self) {
        let now_ms = self.now_ms();
        if !self.changed || now_ms < self.publish_due_ms() {
            return;
        }
        (self.changed, self.published_ms) = (false, now_ms);
        let (mut waiting, mut blocked) = (BTreeMap::new(), BTreeMap::new());
        let mut oldest_ms = now_ms;
        for slot in self.slots.values() {
            if let Some(on) = slot.waiting {
                *waiting.entry(on).or_insert(0) += 1;
            }
            if let Some(call) = slot.blocked.call() {
                *blocked.entry(call.name()).or_insert(0) += 1;
            }
            oldest_ms = oldest_ms.min(slot.observed_ms.unwrap_or(now_ms));
        }
        self.reconciler.metrics.services(self.views.len(), &waiting, now_ms.saturating_sub(oldest_ms));
        self.reconciler.metrics.blocked(&blocked);
        let snapshot = Snapshot {
            shards_held: u16::try_from(self.ownership.owned.len()).unwrap_or(u16::MAX),
            shards: self.ownership.shards.get(),
            listed: self.listing.known,
            services: self.views.clone(),
        };
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    /// Runs under way see the shutdown between two turns; what takes longer is dropped, as a crash would.
    async fn drain(&mut self) {
        self.shutdown.cancel();
        info!(runs = self.queue.running(), "stops; lets the runs under way end");
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.timing.drain.std(), all).await.is_err() {
            warn!(runs = self.tasks.len(), "dropped runs that took too long to end");
            self.tasks.shutdown().await;
        }
    }
}

/// Within a tenth around `span`, so that services do not fall into step. By a hash and not by chance: the same run
/// can be had again.
fn spread(span: Span, salt: impl Hash) -> Span {
    let tenth = span.millis() / 10;
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    let jitter = hasher.finish() % tenth.saturating_mul(2).saturating_add(1);
    Span::from_millis((span.millis() - tenth).saturating_add(jitter))
}

#[cfg(test)]
mod tests;
