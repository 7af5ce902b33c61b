//! Why a run fails, how long it then waits, and how a panic is kept to its service.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::response::{self, Call, Class, Response};
use super::workqueue::Lane;
use crate::ports::StoreError;
use crate::records::Span;

/// Why a run failed. It comes again later.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The table did not do it.
    #[error("failed to {}", .call.doing())]
    Store {
        /// What was tried.
        call: Call,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The pure part panicked.
    #[error("panicked while {doing}: {detail}")]
    Panicked {
        /// In which function.
        doing: &'static str,
        /// Its message.
        detail: String,
    },
    /// The decision would break a property; nothing was done.
    #[error("refused an unsafe decision: {violation}")]
    Unsafe {
        /// Which, with the evidence.
        violation: String,
    },
    /// The run was dropped.
    #[error("the run took longer than {longest}")]
    TooLong {
        /// What it may take.
        longest: Span,
    },
    /// The lease ended: this process must not go on.
    #[error("the lease does not outlast one more operation")]
    LeaseEnding,
}

impl ReconcileError {
    /// What follows.
    pub const fn response(&self) -> Response {
        match self {
            Self::Store { call, source } => response::to_failed(*call, Class::of(source)),
            Self::LeaseEnding => Response::StopActing,
            // The pure part borrows what it is asked about, so a panic leaves it as it was; and of a decision that is stopped
            // nothing was written or sent.
            Self::Panicked { .. } | Self::Unsafe { .. } => Response::Doubt,
            // Dropped in the middle of anything, with what it remembered.
            Self::TooLong { .. } => Response::Retry,
        }
    }

    /// The resource that a claim was refused for, and whose it is, when the next decision must be told; else the
    /// error again.
    pub(super) fn rejected(self) -> Result<(String, String), Self> {
        match (self.response(), self) {
            (Response::Reject, Self::Store { source: StoreError::ClaimTaken { arn, owner }, .. }) => {
                Ok((arn, owner))
            }
            (_, error) => Err(error),
        }
    }

    /// The call that a table does not do, when the next try may find the same: somebody should know if that lasts.
    pub(super) const fn blocked_call(&self) -> Option<Call> {
        match self {
            Self::Store { call, source } => match Class::of(source) {
                Class::TooNew | Class::Damaged | Class::Passing | Class::Lasting => Some(*call),
                Class::Conflict | Class::ClaimTaken | Class::NoLease => None,
            },
            Self::Panicked { .. } | Self::Unsafe { .. } | Self::TooLong { .. } | Self::LeaseEnding => None,
        }
    }

    /// For metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Store { source: StoreError::Conflict { .. }, .. } => "conflict",
            Self::Store { source: StoreError::NoLease, .. } | Self::LeaseEnding => "no_lease",
            Self::Store { source: StoreError::TooNew { .. }, .. } => "too_new",
            Self::Store { source: StoreError::Damaged { .. }, .. } => "damaged",
            Self::Store { .. } => "store",
            Self::Panicked { .. } => "panicked",
            Self::Unsafe { .. } => "unsafe",
            Self::TooLong { .. } => "too_long",
        }
    }
}

/// So long may a table keep a service from being looked after before whoever is on call is told; as long as a rollback
/// may take before it is stuck (`semantics` §2).
const TOLD_AFTER: Span = Span::from_secs(60);

/// A table that does not do what a service needs, run after run.
#[derive(Debug, Default)]
pub struct Blocked {
    /// What failed last, and since when something has, monotonic.
    failing: Option<(Call, u64)>,
    /// Since when the state item alone could not be read or written, monotonic.
    unrecorded_since: Option<u64>,
    told: bool,
}

impl Blocked {
    /// A run failed: for how long it has been so, when that is to be told now.
    pub(super) fn failed(&mut self, error: &ReconcileError, now_ms: u64) -> Option<Span> {
        let call = error.blocked_call()?;
        let (_, since_ms) = *self.failing.get_or_insert((call, now_ms));
        self.failing = Some((call, since_ms));
        if call != Call::ReadRecords {
            self.unrecorded_since.get_or_insert(now_ms);
        }
        let lasted = Span::from_millis(now_ms.saturating_sub(since_ms));
        let told = self.told;
        self.told |= lasted >= TOLD_AFTER;
        (self.told && !told).then_some(lasted)
    }

    /// A run did all that it had to: whether the trouble that is over had been told.
    pub(super) fn ended(&mut self) -> bool {
        std::mem::take(self).told
    }

    /// The state was written.
    pub(super) const fn recorded(&mut self) {
        self.unrecorded_since = None;
    }

    /// Whether nothing could be recorded for so long.
    pub(super) fn unrecorded_for(&self, span: Span, now_ms: u64) -> bool {
        self.unrecorded_since.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= span.millis())
    }

    /// What is not done, once it was told.
    pub(super) fn call(&self) -> Option<Call> {
        self.failing.filter(|_| self.told).map(|(call, _)| call)
    }
}

/// Calls a pure function; a panic stays with this service.
pub(super) fn guarded<T>(doing: &'static str, pure: impl FnOnce() -> T) -> Result<T, ReconcileError> {
    catch_unwind(AssertUnwindSafe(pure)).map_err(|payload| {
        let detail = panic_text(payload.as_ref());
        ReconcileError::Panicked { doing, detail }
    })
}

/// What a panic said.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// Says what was tried.
pub(super) fn store(call: Call) -> impl Fn(StoreError) -> ReconcileError {
    move |source| ReconcileError::Store { call, source }
}

/// `poll`, doubled with each failure in a row in which nothing was written, up to [`response::longest_pause`].
pub(super) fn backoff(poll: Span, failures: u32, lane: Option<Lane>) -> Span {
    poll.times(1 << failures.saturating_sub(1).min(10)).min(response::longest_pause(lane))
}
