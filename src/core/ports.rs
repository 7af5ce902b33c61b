//! What the reconcile loop needs of the outside world, as small traits. `aws` and `store` implement them for
//! real, the tests over the pure `world`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::lease::{Shard, ShardCount};
use crate::model::effect::WayBack;
use crate::model::{Action, Answer, Facts, Need, Observed, Plan};
use crate::records::status::Outcome;
use crate::records::{Command, ReleaseStatus, ServiceKey, Span};

/// Reads and changes AWS for one service.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// Reads everything a pass needs. Every read starts after the call does. What cannot be read is
    /// `Seen::Unknown`; this never fails as a whole.
    async fn observe(&self, plan: &Plan, needs: &BTreeSet<Need>) -> Observed;

    /// Carries out one effect: at most one mutating AWS call, sent only while `permit` holds.
    async fn carry_out(&self, plan: &Plan, action: &Action, permit: &Permit) -> Answer;

    /// Writes one route back to stable without a lease: at most one mutating AWS call, sent only while `permit`
    /// stands. Whoever has no such call refuses.
    async fn take_back(&self, _plan: &Plan, _back: &WayBack, _permit: &EmergencyPermit) -> Answer {
        let class = crate::model::RefusalClass::Permanent;
        Answer::Refused { class, message: "nothing is written without a lease here".to_owned() }
    }
}

/// Tells time.
pub trait Clock: Send + Sync {
    /// Wall time.
    fn now(&self) -> Timestamp;
    /// Milliseconds on a clock that never goes back and counts suspended time. Its zero means nothing.
    fn monotonic_ms(&self) -> u64;
}

/// The right to write for the services of one shard while it is owned. Made by the lease alone, checked right before each call is sent.
#[derive(Clone)]
pub struct Permit {
    epoch: u64,
    valid_until_ms: Arc<std::sync::atomic::AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Permit {
    /// For the lease keeper (and tests): `valid_until_ms` is on `clock`'s monotonic scale and moves with each
    /// renewal; it already holds the margin.
    pub fn new(epoch: u64, valid_until_ms: Arc<std::sync::atomic::AtomicU64>, clock: Arc<dyn Clock>) -> Self {
        Self { epoch, valid_until_ms, clock }
    }

    /// The shard's epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a call that may take `longest_ms` may start now: it must end while the lease is still held.
    pub fn allows(&self, longest_ms: u64) -> bool {
        let until = self.valid_until_ms.load(std::sync::atomic::Ordering::SeqCst);
        self.clock.monotonic_ms().saturating_add(longest_ms) <= until
    }
}

/// The right to take traffic of a release in flight back to its stable version ([`Cloud::take_back`]), unrecorded,
/// and to do nothing else. What is left of a permit that ran out because no beat was answered: made by the lease alone,
/// and revoked as soon as a beat is answered, or the table shows that others have the shard. Or the part of a permit that
/// is held which needs no record.
#[derive(Clone)]
pub struct EmergencyPermit {
    epoch: u64,
    stands: Stands,
}

#[derive(Clone)]
enum Stands {
    While(Arc<std::sync::atomic::AtomicBool>),
    With(Permit, Span),
}

impl std::fmt::Debug for EmergencyPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmergencyPermit").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl EmergencyPermit {
    /// For the lease keeper (and tests): stands while `stands` does.
    pub const fn new(epoch: u64, stands: Arc<std::sync::atomic::AtomicBool>) -> Self {
        Self { epoch, stands: Stands::While(stands) }
    }

    /// Of a permit that is held: stands while that one allows a call that may take `operation`.
    pub const fn part_of(permit: Permit, operation: Span) -> Self {
        Self { epoch: permit.epoch, stands: Stands::With(permit, operation) }
    }

    /// The epoch of that permit.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a write may be sent now.
    pub fn stands(&self) -> bool {
        match &self.stands {
            Stands::While(stands) => stands.load(std::sync::atomic::Ordering::SeqCst),
            Stands::With(permit, operation) => permit.allows(operation.millis()),
        }
    }
}

/// What this process may write for, shard by shard.
#[derive(Clone, Debug, Default)]
pub struct Permits {
    /// How many shards there are.
    pub shards: ShardCount,
    /// Those that this process owns. All end when its beats do, each when it is given up.
    pub held: BTreeMap<Shard, Permit>,
    /// Those whose permit ran out because no beat was answered.
    pub lapsed: BTreeMap<Shard, EmergencyPermit>,
}

/// What people wrote about one service. A record that cannot be read is kept as the refusal it deserves.
#[derive(Clone, Debug, PartialEq)]
pub struct Wishes {
    /// The `ManagedService` item as JSON, when there is one.
    pub service: Option<serde_json::Value>,
    /// The `DesiredRelease` item as JSON, when there is one.
    pub desired: Option<serde_json::Value>,
    /// Commands by ULID, oldest first; at most [`COMMANDS_KEPT`](crate::model::facts::COMMANDS_KEPT).
    pub commands: Vec<(String, Result<Command, String>)>,
}

/// The state item of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Counts writes; the condition of the next one.
    pub rev: u64,
    /// Durable memory.
    pub facts: Facts,
    /// As written last.
    pub status: Option<ReleaseStatus>,
}

/// One conditional write of a service's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// The revision that must still be there; 0: no item yet.
    pub rev: u64,
    /// New facts.
    pub facts: Facts,
    /// New status.
    pub status: ReleaseStatus,
    /// ARNs to claim in the same transaction; refused when another service owns one.
    pub claim: BTreeSet<String>,
    /// ARNs to give up in the same transaction.
    pub unclaim: BTreeSet<String>,
    /// Releases that ended with this write; each becomes one history item.
    pub ended: Vec<HistoryItem>,
}

impl StateWrite {
    /// Facts and status alone.
    pub const fn of(rev: u64, facts: Facts, status: ReleaseStatus) -> Self {
        Self { rev, facts, status, claim: BTreeSet::new(), unclaim: BTreeSet::new(), ended: Vec::new() }
    }
}

/// One ended release.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryItem {
    /// Generation.
    pub generation: u64,
    /// Attempt.
    pub attempt: u32,
    /// `<name>-<generation>.<attempt>`.
    pub release: String,
    /// How it ended.
    pub outcome: Outcome,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// `family:revision`.
    pub revision: String,
    /// Strategy name.
    pub strategy: String,
    /// As in the request.
    pub request_id: Option<String>,
    /// `sha256:` of the request's spec as written; empty in items of before it was kept.
    #[serde(default)]
    pub spec_hash: String,
    /// The release that this one took back, when an operator asked for it and no record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<String>,
    /// When it was seen.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote: read again.
    #[error("the state of {key} was changed by another writer")]
    Conflict {
        /// Which service.
        key: ServiceKey,
    },
    /// A resource belongs to another service.
    #[error("{arn} is already managed as {owner}")]
    ClaimTaken {
        /// Which.
        arn: String,
        /// By whom: `namespace/name`.
        owner: String,
    },
    /// The item was written by a newer daemon that says older ones must not touch it.
    #[error("the state of {key} needs reader version {min_reader}; this daemon has {mine}")]
    TooNew {
        /// Which service.
        key: ServiceKey,
        /// What the item asks for.
        min_reader: u64,
        /// What this program is.
        mine: u64,
    },
    /// The item is there but cannot be understood.
    #[error("the item {pk} is damaged: {detail}")]
    Damaged {
        /// Its key.
        pk: String,
        /// What is wrong.
        detail: String,
    },
    /// The lease does not allow a write now.
    #[error("the lease does not allow a write now")]
    NoLease,
    /// The table could not be reached or refused; `retry` says whether later may help.
    #[error("failed to {action}")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// Whether the same may work later.
        retry: bool,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The two tables.
#[async_trait]
pub trait Store: Send + Sync {
    /// Every service that has a record of any kind, by the index; at most a few times a minute.
    async fn list(&self) -> Result<BTreeSet<ServiceKey>, StoreError>;
    /// What people wrote, read consistently.
    async fn wishes(&self, key: &ServiceKey) -> Result<Wishes, StoreError>;
    /// What the daemon remembers, read consistently.
    async fn remembered(&self, key: &ServiceKey) -> Result<Option<Remembered>, StoreError>;
    /// Writes conditionally on `rev` and on the epoch; answers the new revision.
    async fn write(&self, key: &ServiceKey, write: StateWrite, permit: &Permit) -> Result<u64, StoreError>;
}
