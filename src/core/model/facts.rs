//! The durable memory of one service: only what cannot be observed again.
//!
//! Facts hold elapsed amounts, not instants: a pass adds the time it has watched, so a crash or a clock
//! jump lengthens a bake and never shortens it. The instants in here are for people and are not decided by.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::effect::{Effect, RefusalClass, Resource, Shares};
use super::plan::{Plan, Revision};
use crate::records::check::RefusalCode;
use crate::records::command::Verb;
use crate::records::status::Outcome;
use crate::records::{Group, Percent, Span};

mod clocks;
mod release;

pub use self::release::{Candidate, Latch, LatchCause, Progress, Release, ReleaseKind, Stage};

/// How many ended things are kept: tombstones, quarantined revisions, answers to commands.
pub const KEPT: usize = 10;

/// How many processed command ids are kept; no more are read at once.
pub const COMMANDS_KEPT: usize = 64;

/// Everything that must survive a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// Given at first sight; outlives deletion.
    pub uid: String,
    /// Counts changed requests; never falls.
    pub generation: u64,
    /// Attempt within the generation, from 1.
    pub attempt: u32,
    /// What generation `generation` asks for.
    pub asked: Option<Identity>,
    /// A request that has not started yet.
    pub pending: Option<Pending>,
    /// The newest request needs no release of its own, for it asks for what the one in flight brings or goes back to:
    /// it ends together with that one.
    pub follows: bool,
    /// The release in flight.
    pub release: Option<Release>,
    /// The plan pinned by the newest release; housekeeping goes by it too.
    pub plan: Option<Plan>,
    /// The version that serves.
    pub stable: Option<Version>,
    /// The previous version, kept warm.
    pub retained: Option<Retained>,
    /// Task sets being removed.
    pub cleanups: Vec<Cleanup>,
    /// ARNs claimed for this service.
    pub claims: BTreeSet<String>,
    /// Announced effects without a settled outcome.
    #[serde(with = "super::pairs")]
    pub outstanding: BTreeMap<Resource, Outstanding>,
    /// The last attempt that was not acknowledged; gone with the next acknowledgement.
    pub trouble: Option<Trouble>,
    /// The last acknowledged write of each route, by name.
    pub acknowledged: BTreeMap<String, Acknowledged>,
    /// Routes whose rule or listener AWS did not know in the last observations.
    pub absent: BTreeMap<String, Absent>,
    /// Weight writes that may still land after a later one; the last [`KEPT`].
    pub late: Vec<LateWrite>,
    /// Time watched since a call of any kind whose outcome nobody knew was last followed by another on its resource, or
    /// its resource went. It may land yet, until the quiet time after an unknown outcome is over. None: there was none.
    pub overtaken: Option<Span>,
    /// Task sets that never get weight again; the last [`KEPT`].
    pub tombstones: Vec<String>,
    /// Revisions that failed; the last [`KEPT`].
    pub quarantined: Vec<Quarantined>,
    /// Ids of processed commands, the [`COMMANDS_KEPT`] greatest.
    pub commands_done: Vec<String>,
    /// The greatest processed id that is not kept: ids up to here are never taken again. They are ULIDs, so that a
    /// smaller one is older.
    pub commands_through: String,
    /// Answers to commands, the last [`KEPT`].
    pub answers: Vec<CommandAnswer>,
    /// The `StateTransitionedTimestamp` up to which each alarm's history is known to hold no ALARM.
    pub alarm_marks: BTreeMap<String, Timestamp>,
    /// Repairs of weights that somebody else moved.
    pub drift: Drift,
    /// How surely the version that serves is lost, while nothing is released and another one is kept warm.
    pub lost: Lost,
    /// A state that only a person may end.
    pub halted: Option<Halt>,
    /// How the last release ended.
    pub last: Option<Ended>,
    /// The epoch that wrote last.
    pub epoch: u64,
}

/// How surely a route is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Absent {
    /// Consecutive observations without it.
    pub reads: u8,
    /// Time watched since the first of them.
    pub watched: Span,
}

/// How surely the version that serves is lost to the one that is kept warm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lost {
    /// Consecutive observations in which it has no running task and the other one has.
    pub reads: u8,
    /// Time watched since neither had one, or desiredCount was 0: the other one being up first says nothing then. None:
    /// it has run since.
    pub restarting: Option<Span>,
}

/// What makes a request a request (`semantics` 1.5): metadata never counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// As written, when it could not be read as a revision.
    pub task_definition: String,
    /// Strategy as written.
    pub strategy: Option<String>,
    /// As written.
    pub request_id: Option<String>,
    /// `sha256:` of the spec as written.
    pub spec_hash: String,
    /// No record asked for it: an operator takes this release back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<ReleaseId>,
}

/// A request between being seen and starting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pending {
    /// Time watched since it was seen, while nothing of ours stood in its way.
    pub waited: Span,
    /// A return to the retained version.
    pub return_to_retained: bool,
    /// Of a return that an operator asked for: no record has a say in it. None: it is what `asked` says.
    pub identity: Option<Identity>,
    /// Alarms that an operator set aside until they have been OK once.
    pub break_glass: BTreeSet<String>,
    /// Why the last look would have it refused.
    pub doubt: Option<Doubt>,
}

/// A refusal that must still stand in further reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doubt {
    /// Of this kind.
    pub code: RefusalCode,
    /// For how long every look has said so.
    pub stood: Span,
}

/// `<name>-<generation>.<attempt>` without the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseId {
    /// Generation.
    pub generation: u64,
    /// Attempt.
    pub attempt: u32,
}

impl std::fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.generation, self.attempt)
    }
}

/// A version with its task set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// What it runs.
    pub revision: Revision,
    /// Its task set's ARN.
    pub task_set: String,
    /// Its external id.
    pub external_id: String,
    /// Its target group.
    pub group: Group,
    /// Its scale when it became what it is.
    pub scale: Percent,
}

/// A production weight write of unknown outcome that another one has followed. AWS may carry it out yet, and then its
/// shares are not a person's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateWrite {
    /// Of this route.
    pub route: String,
    /// What it asked for.
    pub shares: Shares,
    /// Time watched since the other one; past the quiet time after an unknown outcome it cannot land any more. A
    /// look that sees it leaves it no older than that it is known until the next one.
    pub age: Span,
    /// It was seen in force and is being put back.
    pub landed: bool,
}

/// A previous version, kept warm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Which.
    pub version: Version,
    /// Time watched since success.
    pub kept: Span,
    /// As in its release.
    pub uncertain: bool,
    /// The release that took its place, and that a `rollback` takes back; none in facts of before this was kept.
    #[serde(default)]
    pub release: Option<ReleaseId>,
}

/// The removal of one task set (`semantics` 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// Its ARN; none while a creation of unknown outcome may still bring it about.
    pub task_set: Option<String>,
    /// Its external id.
    pub external_id: String,
    /// Its group.
    pub group: Group,
    /// The long quiet wait is needed.
    pub uncertain: bool,
    /// Time watched with the barrier standing and the group at weight 0.
    pub quiet: Span,
    /// Consecutive fresh reads of the whole load balancer that show the group at weight 0 everywhere.
    pub zero_reads: u8,
    /// The delete was acknowledged.
    pub deleted: bool,
    /// Time watched in all.
    pub elapsed: Span,
}

/// An announced effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outstanding {
    /// What was announced.
    pub effect: Effect,
    /// An answer was lost: it stays until a later write on the resource is acknowledged.
    pub unknown: bool,
    /// Fresh reads in which a task set of unknown creation was looked for and not found.
    pub looked: u8,
}

/// What the last attempt of an effect met, when it was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// What the effect was about.
    pub resource: Resource,
    /// How it was refused; none when the answer was lost.
    pub class: Option<RefusalClass>,
    /// AWS's words, cut to 300 characters.
    pub message: String,
    /// No decision has paused for it yet.
    pub fresh: bool,
}

/// The last acknowledged write of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// What was written.
    pub shares: Shares,
    /// The lease epoch it was written under.
    pub epoch: u64,
}

/// A revision that failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// Which.
    pub revision: Revision,
    /// In which release.
    pub release: ReleaseId,
    /// Under which request id.
    pub request_id: Option<String>,
    /// Why.
    pub cause: LatchCause,
    /// For people.
    pub at: Timestamp,
}

/// An answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandAnswer {
    /// The command's ULID.
    pub id: String,
    /// What was asked.
    pub verb: Verb,
    /// Who said they asked.
    pub by: Option<String>,
    /// Whether it had an effect.
    pub done: bool,
    /// Why.
    pub reason: String,
    /// For people.
    pub at: Timestamp,
}

/// Repairs within the present hour. One incident may take several writes, one for each route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drift {
    /// How many incidents were put right, or begun to be: by an acknowledged write.
    pub repairs: u32,
    /// The routes that were put right in the last of them. One that has to be once more is another incident.
    pub routes: BTreeSet<String>,
    /// The route whose repair was asked for and is not acknowledged yet.
    pub repairing: Option<String>,
    /// Time watched since the first of them.
    pub window: Span,
    /// Consecutive observations of weight on a group without a healthy set.
    pub outage_reads: u8,
    /// Consecutive observations of other drift that is to be reverted.
    pub idle_reads: u8,
}

/// A state that only a person may end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Halt {
    /// Why.
    pub reason: HaltReason,
    /// Evidence, for people.
    pub detail: String,
}

/// Why a service is halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HaltReason {
    /// The recorded stable set is gone or empty: weights stay where they are.
    NoRollbackTarget,
    /// Somebody keeps moving weights onto an empty group.
    DriftFight,
    /// What is recorded cannot be what is there.
    StateContradicts,
    /// Three passes in a row panicked.
    Panicked,
}

/// How a release ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Which.
    pub release: ReleaseId,
    /// What was asked for.
    pub identity: Identity,
    /// How.
    pub outcome: Outcome,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Strategy.
    pub strategy: String,
    /// For people.
    pub started_at: Timestamp,
    /// For people.
    pub at: Timestamp,
}

impl Facts {
    /// Whether anything of ours is under way besides keeping a retained set.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
            || self.release.is_some()
            || !self.cleanups.is_empty()
            || !self.outstanding.is_empty()
    }
}
