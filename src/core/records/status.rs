//! `ReleaseStatus`: what the daemon says for people, CI and dashboards. Written, never read back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::desired_release::ApiVersion;
use super::managed_service::Watches;
use super::names::Group;
use super::units::{Percent, Span};

/// The status document of one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// Always `pointsman/v1`.
    pub api_version: ApiVersion,
    /// Always `ReleaseStatus`.
    pub kind: ReleaseStatusKind,
    /// Which service.
    pub metadata: StatusMetadata,
    /// What is going on.
    pub status: Status,
}

/// The one value of `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReleaseStatusKind {
    /// `ReleaseStatus`.
    ReleaseStatus,
}

/// Name and identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct StatusMetadata {
    /// As in the records.
    pub namespace: String,
    /// As in the records.
    pub name: String,
    /// Given at first sight; outlives deletion.
    pub uid: String,
}

/// What is going on. Lists hold at most 10 items.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The newest generation that was seen.
    pub observed_generation: u64,
    /// What exactly was seen.
    pub observed: Observed,
    /// One word for people.
    pub phase: Phase,
    /// The release in flight, or the last one.
    pub release: Option<Release>,
    /// Live weights, route by route.
    pub traffic: Vec<Traffic>,
    /// The task sets of the service.
    pub task_sets: Vec<TaskSet>,
    /// Alarms; those in ALARM first.
    pub alarms: Vec<Alarm>,
    /// Why it waits, until when, and what comes next; none when settled.
    pub waiting_on: Option<WaitingOn>,
    /// Kubernetes-style conditions.
    pub conditions: Vec<Condition>,
    /// How the last release ended.
    pub last_outcome: Option<LastOutcome>,
    /// Revisions that failed; the last 10.
    pub quarantined: Vec<Quarantined>,
    /// The previous version, kept warm.
    pub retained: Option<Retained>,
    /// Answers to the last 10 commands; one that waits is the last.
    pub commands: Vec<CommandAnswer>,
}

/// See [`Status::observed`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// `sha256:` of the spec as written.
    pub spec_hash: Option<String>,
    /// The attempt of `observedGeneration` that runs, waits, or ended last; from 1, and 0 before the first.
    #[serde(default)]
    pub attempt: u32,
    /// As in the request.
    pub request_id: Option<String>,
    /// `family:revision`.
    pub task_definition: Option<String>,
    /// `sha256:` of the `ManagedService` spec as written.
    pub managed_service_hash: Option<String>,
}

/// Where a service stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing to do.
    Settled,
    /// A release may not start yet.
    Pending,
    /// The request was refused; nothing was touched.
    Refused,
    /// The candidate is being started.
    Preparing,
    /// The candidate is being judged before it gets production traffic.
    Gating,
    /// Weights or capacity of a step are being changed.
    Shifting,
    /// A step, or the whole, bakes.
    Baking,
    /// Waits for a promotion.
    Paused,
    /// The candidate becomes PRIMARY.
    Completing,
    /// Traffic goes back to stable.
    RollingBack,
    /// An old task set is being removed.
    CleaningUp,
    /// `suspend` is true.
    Suspended,
    /// A person must act.
    Halted,
}

/// A release for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// `<name>-<generation>.<attempt>`.
    pub id: String,
    /// The strategy's name.
    pub strategy: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The version that serves; none in a first release.
    pub from: Option<Version>,
    /// The version being released.
    pub to: Version,
    /// The step under way.
    pub step: Option<StepProgress>,
    /// The service's desiredCount.
    pub desired_count: Option<DesiredCount>,
    /// Set once, never unset.
    pub latched: Option<Latched>,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// `family:revision`.
    pub revision: String,
    /// `ecs-svc/…`, once made.
    pub task_set: Option<String>,
    /// Its target group.
    pub target_group: Group,
    /// Its scale in percent.
    pub scale: Percent,
}

/// See [`Release::step`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepProgress {
    /// From 1.
    pub index: u16,
    /// With the implicit last step.
    pub of: u16,
    /// None for a pause.
    pub weight: Option<Percent>,
    /// Time baked with evidence.
    pub bake_done: Span,
    /// Time to bake.
    pub bake: Span,
}

/// See [`Release::desired_count`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DesiredCount {
    /// When the release started.
    pub at_start: u32,
    /// At the last observation.
    pub now: u32,
}

/// Why a release goes back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latched {
    /// For example `Alarm`.
    pub cause: String,
    /// For example the alarm's name.
    pub detail: String,
    /// When it was decided.
    pub at: Timestamp,
}

/// Live weights of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// The route's name.
    pub route: String,
    /// The test route, which takes no production traffic.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
    /// Share of group `a`.
    pub a: Percent,
    /// Share of group `b`.
    pub b: Percent,
    /// Equal to what was last acknowledged, with nothing outstanding.
    pub verified: bool,
    /// When it was read.
    pub read_at: Timestamp,
}

/// A task set of the service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskSet {
    /// `stable`, `candidate`, `retained`, `leaving` or `foreign`.
    pub role: Role,
    /// `ecs-svc/…`.
    pub id: String,
    /// `family:revision`.
    pub revision: String,
    /// Its target group, when it is one of ours.
    pub target_group: Option<Group>,
    /// computedDesiredCount.
    pub desired: u32,
    /// runningCount.
    pub running: u32,
    /// pendingCount.
    pub pending: u32,
    /// `STEADY_STATE`.
    pub steady: bool,
    /// Why its last task stopped, when it is not coming up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_stop: Option<String>,
}

/// See [`TaskSet::role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The version that serves.
    Stable,
    /// The version being released.
    Candidate,
    /// The previous version, kept warm.
    Retained,
    /// Being removed.
    Leaving,
    /// Not made by this daemon.
    Foreign,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// Its scope.
    pub watches: Watches,
    /// `OK`, `ALARM`, `INSUFFICIENT_DATA`, `MISSING` or `UNREADABLE`.
    pub state: String,
    /// Whether it counts now.
    pub armed: bool,
    /// Last real change of state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
}

/// Why a service waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingOn {
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// When it is expected to go on, or is looked at again.
    pub until: Timestamp,
    /// When the daemon gives up waiting and does `otherwise`; none for the rollback write.
    pub deadline: Option<Timestamp>,
    /// What comes next.
    pub then: String,
    /// What happens at the deadline instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<String>,
}

/// A Kubernetes-style condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted`, `Progressing`, `RollbackArmed`, `InSync`, `CleanedUp`, `PrimaryCurrent` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// One sentence, when the reason needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation it was true for.
    pub observed_generation: u64,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Nothing was touched.
    Refused,
    /// 100 %, baked, PRIMARY.
    Succeeded,
    /// Weights verified back on stable.
    RolledBack,
    /// It never had production weight.
    Failed,
    /// A newer request took its place.
    Superseded,
    /// A person must act.
    Halted,
}

/// See [`Status::last_outcome`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastOutcome {
    /// Release id.
    pub release: String,
    /// How it ended.
    pub outcome: Outcome,
    /// `family:revision`.
    pub revision: String,
    /// As in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The release that this one took back, when an operator asked for it and no record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<String>,
    /// One word, for example `Alarm` or a refusal's code.
    #[serde(default)]
    pub reason: String,
    /// One sentence: for a refusal the field, the value, what is allowed and what to do.
    #[serde(default)]
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// A revision that failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// `family:revision`.
    pub revision: String,
    /// Release id.
    pub release: String,
    /// Why.
    pub cause: String,
    /// When.
    pub at: Timestamp,
}

/// See [`Status::retained`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// `ecs-svc/…`.
    pub task_set: String,
    /// `family:revision`.
    pub revision: String,
    /// Its target group.
    pub target_group: Group,
    /// How much longer it is kept.
    pub remaining: Span,
    /// The release that took its place: the one to name in a `rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandAnswer {
    /// The command's ULID.
    pub id: String,
    /// What was asked.
    pub verb: super::command::Verb,
    /// Who said they asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `Done`, `Ignored`, or `Waiting` while there is no answer yet.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// When it was answered; while it waits, since when.
    pub at: Timestamp,
}

/// [`CommandAnswer::verdict`] of a command that is not carried out yet.
pub const WAITING: &str = "Waiting";
