//! Judges records beyond their shape: bounds, cross-references, and what a release may choose.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a record or a request is refused. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// One word, stable: for scripts and dashboards.
    pub code: RefusalCode,
    /// The field, as a path: `spec.routes.production[0].rule`.
    pub field: String,
    /// What it says.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}; allowed: {}; {}", self.field, self.value, self.allowed, self.fix)
    }
}

/// Why something is refused, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RefusalCode {
    /// The record has a wrong shape: unknown field, wrong type, missing field.
    Malformed,
    /// A value is out of its bounds.
    OutOfBounds,
    /// `pk` is not prefix + namespace + `/` + name.
    KeyMismatch,
    /// Two fields contradict each other.
    Inconsistent,
    /// There is no `ManagedService` for this release.
    NotManaged,
    /// Another family, account or region.
    ForeignTaskDefinition,
    /// The release may not choose this strategy, or it does not exist.
    StrategyNotAllowed,
    /// The task definition is unknown, INACTIVE, or lacks the container or port.
    TaskDefinitionUnfit,
    /// The ECS service is missing, not ACTIVE or not EXTERNAL.
    ServiceUnfit,
    /// Task sets that this daemon did not make.
    ForeignTaskSet,
    /// A route does not forward to exactly this pair, or an action cannot be kept as it is.
    RouteUnfit,
    /// Another rule or listener names one of the groups.
    GroupUsedElsewhere,
    /// Routes or groups belong to more than one load balancer, or not to an Application Load Balancer.
    LoadBalancerUnfit,
    /// Group stickiness is on and not accepted.
    Sticky,
    /// An alarm of the record does not exist.
    AlarmMissing,
    /// A resource is already managed under another name.
    AlreadyClaimed,
    /// The routes do not stand at one side.
    WeightsSplit,
    /// The revision failed before; a new `requestId` or `retry` tries it again.
    Quarantined,
    /// What passes by itself did not pass in time.
    StartDeadline,
}
