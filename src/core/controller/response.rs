//! What follows when the table does not do what it was asked: call × class × lane.
//!
//! The companion of `decide::response`, which says the same of AWS's other calls. What `DynamoDB` answers ends in a
//! [`StoreError`] (`store/error.rs`, and `store/dynamo/write.rs` for the reasons of a cancelled transaction); this
//! table says what the run does about it, and `reconcile` goes by nothing else. It has no wildcard, so a new call,
//! class or lane does not compile before somebody has said what follows.
//!
//! None of it changes how a release ends: all that a lasting trouble costs is time, and little of that. A run that
//! could not read forgets nothing. One that could not write keeps what is so all the same, the time that it watched
//! and the answer that it was given, and forgets what it decided; the next one reads the state first, and what is
//! there replaces the memory unless its revision is still the one that the memory began with. Else a table that
//! throttles would take back whatever was watched since the last write, and an answer that could not be written would
//! be waited for like one that never came. What was announced before stays announced, and an effect whose
//! announcement was not written is not sent. `tests/store_trouble.rs` holds the loop to it, cell by cell.
//!
//! **Why that is safe.** At an unmoved revision, under the same epoch, nobody else has written or sent anything. So the
//! run goes on as if the facts in memory had been written just before, which they might have been; only a crash can
//! tell the difference, and it leaves what a crash before that write always left.
//!
//! **A write of ours that lands late** carries the revision that it began with, as the next write does, so one of them
//! at most is ever done. Landed before the next run reads: the revision has moved, and what is there counts. Landed
//! later: the next write meets [`Class::Conflict`] before anything is sent, for nothing is sent without a write of its
//! own. Between the two only time is watched, and it is forgotten with the rest.

use super::workqueue::Lane;
use crate::ports::StoreError;
use crate::records::Span;

/// What a write of the state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// An effect is announced.
    Intent,
    /// Something else was decided: facts, status, claims, ended releases.
    Change,
    /// Clocks have run.
    Checkpoint,
    /// The answer of an effect.
    Answer,
    /// The service is halted, for its passes panic.
    Halt,
    /// What was done without a lease.
    Emergency,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Intent, Self::Change, Self::Checkpoint, Self::Answer, Self::Halt, Self::Emergency];

    /// For metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Change => "change",
            Self::Checkpoint => "checkpoint",
            Self::Answer => "settle",
            Self::Halt => "panicked",
            Self::Emergency => "emergency",
        }
    }
}

/// What a run asks of the tables. The list of all services is the loop's own: it is asked for again within a
/// minute, whatever was answered (`listing`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// What people wrote, commands included.
    ReadRecords,
    /// What the daemon remembers.
    ReadState,
    /// One conditional write: facts, status, and in one transaction with them claims and history.
    Write(Reason),
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ReadRecords,
        Self::ReadState,
        Self::Write(Reason::Intent),
        Self::Write(Reason::Change),
        Self::Write(Reason::Checkpoint),
        Self::Write(Reason::Answer),
        Self::Write(Reason::Halt),
        Self::Write(Reason::Emergency),
    ];

    /// One word, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadRecords => "ReadRecords",
            Self::ReadState => "ReadState",
            Self::Write(_) => "WriteState",
        }
    }

    /// What it does, behind "failed to".
    pub const fn doing(self) -> &'static str {
        match self {
            Self::ReadRecords => "read the records",
            Self::ReadState => "read the state",
            Self::Write(_) => "write the state",
        }
    }
}

/// What an answer of the table comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Somebody else wrote: the condition on the revision or on the epoch failed.
    Conflict,
    /// A resource belongs to another service: the condition of a claim failed.
    ClaimTaken,
    /// The lease does not allow it; nothing was sent.
    NoLease,
    /// The item asks for a newer reader.
    TooNew,
    /// The item cannot be understood.
    Damaged,
    /// Throttled, in conflict with another transaction, unreachable, or its answer was lost: it may have been done.
    Passing,
    /// Denied, no such table, too large, refused as malformed: not done, and the same will not be done later.
    Lasting,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Conflict,
        Self::ClaimTaken,
        Self::NoLease,
        Self::TooNew,
        Self::Damaged,
        Self::Passing,
        Self::Lasting,
    ];

    /// The class of an error.
    pub const fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::Conflict,
            StoreError::ClaimTaken { .. } => Self::ClaimTaken,
            StoreError::NoLease => Self::NoLease,
            StoreError::TooNew { .. } => Self::TooNew,
            StoreError::Damaged { .. } => Self::Damaged,
            StoreError::Unavailable { retry: true, .. } => Self::Passing,
            StoreError::Unavailable { retry: false, .. } => Self::Lasting,
        }
    }
}

/// What a run does about it. After each of them but [`Response::Reject`] it ends and comes again after a pause (see
/// [`longest_pause`]); and the next one reads the state, but for [`Response::Remember`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Response {
    /// *Retry*, with what this process remembers, the watched time included: nothing was read that says otherwise.
    Remember,
    /// *Retry*, with what this process remembers if the table still stands where that began; else with what is there.
    Doubt,
    /// *Retry*, with what is in the table alone.
    Retry,
    /// *Stop acting*: nothing more is tried under this permit. Should it be prolonged, then as [`Response::Doubt`];
    /// the loop forgets what it knew of the services of a lost one.
    StopActing,
    /// *Read again*, as [`Response::Retry`]: what this process knew is not the last word, so that no way back without a
    /// lease goes by it.
    ReadAgain,
    /// *Hold*: as [`Response::ReadAgain`], and people see it as `Halted`, for only they can help.
    Hold,
    /// *Reject*: nothing was written, and the next decision is told whose the resource is.
    Reject,
}

/// What follows a failed call.
pub const fn to_failed(call: Call, class: Class) -> Response {
    match class {
        Class::Conflict => Response::ReadAgain,
        Class::ClaimTaken => match call {
            Call::Write(Reason::Intent | Reason::Change) => Response::Reject,
            // They claim nothing.
            Call::ReadRecords
            | Call::ReadState
            | Call::Write(Reason::Checkpoint | Reason::Answer | Reason::Halt | Reason::Emergency) => {
                Response::Retry
            }
        },
        Class::NoLease => Response::StopActing,
        Class::TooNew | Class::Damaged => Response::Hold,
        Class::Passing | Class::Lasting => match call {
            Call::ReadRecords | Call::ReadState => Response::Remember,
            Call::Write(Reason::Intent | Reason::Change | Reason::Checkpoint | Reason::Answer) => {
                Response::Doubt
            }
            // Both come before anything is watched, the first one after runs that began afresh.
            Call::Write(Reason::Halt | Reason::Emergency) => Response::Retry,
        },
    }
}

/// The longest pause between two tries of one service, by its lane; none: nothing is known of it yet, so it may be
/// one that goes back.
pub const fn longest_pause(lane: Option<Lane>) -> Span {
    match lane {
        None | Some(Lane::Rollback | Lane::InFlight) => Span::from_secs(5),
        Some(Lane::New | Lane::Idle) => Span::from_secs(60),
    }
}
