//! A release in flight, and how far it has come.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Identity, ReleaseId, Version};
use crate::model::effect::Shares;
use crate::model::plan::Revision;
use crate::records::command::PromoteStep;
use crate::records::{Group, Percent, Span};

/// The kinds of release (`semantics` 4.1, 4.3, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReleaseKind {
    /// A new task set beside a stable one.
    Ordinary,
    /// No version serves yet: there is nothing to go back to.
    First,
    /// The candidate is the retained set, which still runs.
    Return,
}

/// A release in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Which one.
    pub id: ReleaseId,
    /// What kind.
    pub kind: ReleaseKind,
    /// What was asked for.
    pub identity: Identity,
    /// For people.
    pub started_at: Timestamp,
    /// The way back: recorded before the first mutation. None only in a first release.
    pub stable: Option<Version>,
    /// Where the traffic lay when it started, by route.
    pub before: BTreeMap<String, Shares>,
    /// The version being released.
    pub candidate: Candidate,
    /// The service's desiredCount when it started.
    pub desired_at_start: u32,
    /// How far it has come.
    pub progress: Progress,
    /// The decision to go back; never removed.
    pub latch: Option<Latch>,
    /// Pauses that an operator ended.
    pub promoted: BTreeSet<PromoteStep>,
    /// Alarms that an operator set aside until they have been OK once.
    pub break_glass: BTreeSet<String>,
    /// Some write's outcome was unknown, or the daemon changed hands: clean-up waits longer.
    pub uncertain: bool,
}

/// The candidate of a release.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// What it runs.
    pub revision: Revision,
    /// The group that was empty, or at weight 0.
    pub group: Group,
    /// How it is found.
    pub external_id: String,
    /// `clientToken` of its creation.
    pub token: String,
    /// Its ARN, once acknowledged or found.
    pub task_set: Option<String>,
    /// The scale last asked for.
    pub scale: Percent,
}

impl Candidate {
    /// As a version, once it has a task set.
    pub fn version(&self) -> Option<Version> {
        Some(Version {
            revision: self.revision.clone(),
            task_set: self.task_set.clone()?,
            external_id: self.external_id.clone(),
            group: self.group,
            scale: self.scale,
        })
    }
}

/// How far a release has come: each field only grows, but for the clocks of the step under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a milestone that is passed once and never unpassed"
)]
pub struct Progress {
    /// Consecutive observations in which the candidate was up as the present step wants it.
    pub steady_reads: u8,
    /// The targets were healthy.
    pub targets_healthy: bool,
    /// The test route is on the candidate, verified.
    pub test_shifted: bool,
    /// Time on the test route with alarms answered.
    pub held: Span,
    /// The gate is passed; only now production weight is allowed.
    pub gate_passed: bool,
    /// Index of the step under way.
    pub step: u16,
    /// The weights of that step are written and verified.
    pub shifted: bool,
    /// Time since then in which the weights were given to take effect.
    pub settled: Span,
    /// Time baked, with evidence.
    pub baked: Span,
    /// The candidate ever had, or may have had, production weight.
    pub exposed: bool,
    /// Time watched since then.
    pub exposed_for: Span,
    /// The stage whose deadline is running, and for how long.
    pub stage: Stage,
    /// See `stage`.
    pub in_stage: Span,
    /// Time without the alarms' evidence.
    pub without_evidence: Span,
    /// Time watched since the production weights were last known to be as they should, with no write of them open.
    pub astray: Span,
    /// Consecutive observations of weights that we did not write.
    pub foreign_reads: u8,
    /// Time watched since the first of them.
    pub foreign_for: Span,
    /// Consecutive observations without the candidate's task set.
    pub missing_reads: u8,
    /// Consecutive observations in which the way back had no running task.
    pub stable_gone_reads: u8,
    /// Consecutive observations in which it was up again while the candidate still had what it had lost.
    pub stable_up_reads: u8,
}

/// Where a release stands, as its deadlines see it. Derived in every pass; kept beside its clock so that a
/// change restarts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// From the start to the passed gate.
    #[default]
    Preparing,
    /// Scaling the candidate for a step.
    Scaling,
    /// Writing and verifying the weights of a step.
    Shifting,
    /// Baking a step.
    Baking,
    /// Waiting for a promotion.
    Pausing,
    /// Making the candidate PRIMARY.
    Completing,
    /// Bringing traffic back.
    GoingBack,
}

/// The decision to go back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latch {
    /// Why.
    pub cause: LatchCause,
    /// Evidence, for people.
    pub detail: String,
    /// For people.
    pub at: Timestamp,
    /// How often each route's write back was tried, so that one that refuses holds up no other.
    pub tried: BTreeMap<String, u32>,
    /// Time watched since.
    pub elapsed: Span,
}

/// Why a release goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LatchCause {
    /// An armed alarm was in ALARM.
    Alarm,
    /// A person moved weight toward stable.
    MovedByHand,
    /// An operator said so.
    Aborted,
    /// The record was deleted.
    RecordDeleted,
    /// A newer request was seen.
    Superseded,
    /// A phase took too long.
    Deadline,
    /// The alarms could not be judged for too long.
    NoEvidence,
    /// The candidate can't be made or is gone.
    CandidateLost,
}
