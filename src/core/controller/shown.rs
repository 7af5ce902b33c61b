//! What people may see of the loop: the snapshot that the API answers from, and the sign of life for `/healthz`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use crate::ports::{Clock, HistoryItem};
use crate::records::{ReleaseStatus, ServiceKey, Span};

/// What people may see of one service.
#[derive(Clone, Debug)]
pub struct View {
    /// As said last; none before the first run.
    pub status: Option<Arc<ReleaseStatus>>,
    /// Why the last run failed, for example a state item that a newer daemon wrote.
    pub trouble: Option<String>,
    /// When its last run ended.
    pub at: Timestamp,
    /// Labels of its `ManagedService`, for filters.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Releases that ended while this process owned its shard, newest first; at most [`HISTORY_SHOWN`].
    pub history: Arc<Vec<HistoryItem>>,
}

/// Ended releases that are kept in memory for each service.
pub const HISTORY_SHOWN: usize = 10;

/// What people may see.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// How many shards this process owns; the services of the others are elsewhere.
    pub shards_held: u16,
    /// How many shards there are.
    pub shards: u16,
    /// Whether the services were listed since a shard was taken last.
    pub listed: bool,
    /// Every service of the shards that it owns.
    pub services: BTreeMap<ServiceKey, Arc<View>>,
}

/// Shows that the loop attempts passes, also while AWS fails.
#[derive(Debug, Default)]
pub struct Heartbeat {
    last_ms: AtomicU64,
    attempted: AtomicU64,
}

impl Heartbeat {
    /// How long ago the loop last started or ended a run, or had nothing to start.
    pub fn age(&self, clock: &dyn Clock) -> Span {
        Span::from_millis(clock.monotonic_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    /// Runs started in all.
    pub fn attempted(&self) -> u64 {
        self.attempted.load(Ordering::Relaxed)
    }

    pub(super) fn beat(&self, now_ms: u64) {
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(super) fn attempt(&self) {
        self.attempted.fetch_add(1, Ordering::Relaxed);
    }
}
