//! Which shards this process owns, and what that allows.

use std::collections::BTreeMap;

use crate::lease::{Shard, ShardCount};
use crate::ports::{EmergencyPermit, Permit, Permits};
use crate::records::{ServiceKey, Span};

/// What a run may do.
pub(super) enum Right {
    Lease(Permit),
    WayBack(EmergencyPermit),
}

impl Right {
    pub(super) fn epoch(&self) -> u64 {
        match self {
            Self::Lease(permit) => permit.epoch(),
            Self::WayBack(permit) => permit.epoch(),
        }
    }
}

/// What was owned when the permits were looked at last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    pub(super) shards: ShardCount,
    /// By epoch.
    pub(super) owned: BTreeMap<Shard, u64>,
    /// Those whose permit ran out because no beat was answered, by epoch.
    pub(super) lapsed: BTreeMap<Shard, u64>,
}

impl Ownership {
    /// As the permits say.
    pub(super) fn of(permits: &Permits) -> Self {
        let owned = permits.held.iter().map(|(shard, permit)| (*shard, permit.epoch()));
        let lapsed = permits.lapsed.iter().map(|(shard, permit)| (*shard, permit.epoch()));
        Self { shards: permits.shards, owned: owned.collect(), lapsed: lapsed.collect() }
    }

    /// The service's shard and the epoch under which this process owns it, or did last.
    pub(super) fn owner(&self, key: &ServiceKey) -> Option<(Shard, u64)> {
        let shard = self.shards.shard_of(key);
        self.epoch_of(shard).map(|epoch| (shard, epoch))
    }

    fn epoch_of(&self, shard: Shard) -> Option<u64> {
        self.owned.get(&shard).or_else(|| self.lapsed.get(&shard)).copied()
    }

    /// What may be done for a service: anything while its shard is owned and the permit outlasts one more
    /// operation; the way back alone while the permit has run out for want of the table.
    pub(super) fn right(&self, key: &ServiceKey, permits: &Permits, operation: Span) -> Option<Right> {
        let (shard, epoch) = self.owner(key)?;
        if let Some(permit) = permits.lapsed.get(&shard) {
            return (permit.epoch() == epoch).then(|| Right::WayBack(permit.clone()));
        }
        let permit = permits.held.get(&shard)?;
        let usable = permit.epoch() == epoch && permit.allows(operation.millis());
        usable.then(|| Right::Lease(permit.clone()))
    }

    /// Whether what was remembered of a service under `before` is still the last word.
    pub(super) fn continues(&self, before: &Self, key: &ServiceKey) -> bool {
        let shard = self.shards.shard_of(key);
        let was = before.epoch_of(shard);
        self.shards == before.shards && was.is_some() && was == self.epoch_of(shard)
    }

    /// Whether its shard's permit has run out.
    pub(super) fn has_lapsed(&self, key: &ServiceKey) -> bool {
        self.lapsed.contains_key(&self.shards.shard_of(key))
    }

    /// Whether a shard is owned that was not owned under the same epoch `before`.
    pub(super) fn gained(&self, before: &Self) -> bool {
        self.owned.iter().any(|(shard, epoch)| before.owned.get(shard) != Some(epoch))
    }
}

/// Whether a run may start: all permits end together, so that any one tells.
pub(super) fn may_start(permits: &Permits, operation: Span) -> bool {
    let usable = |permit: &Permit| permit.allows(operation.millis());
    !permits.lapsed.is_empty() || permits.held.values().any(usable)
}
