//! One snapshot of the outside world, as the adapters read it for one pass. What could not be read is
//! [`Seen::Unknown`]; it is never taken for absence.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::effect::Shares;
use super::plan::Revision;
use crate::records::{Group, Percent, Span};

/// The answer to one read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seen<T> {
    /// AWS answered.
    Known(T),
    /// It could not be read: throttled, failed, denied. The text says what was seen instead.
    Unknown(String),
}

impl<T> Seen<T> {
    /// The value, when it was read.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// Everything a pass knows of the world. All of it was read after the pass began, and so after every
/// acknowledgement that its facts hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The ECS service with its task sets.
    pub service: Seen<Service>,
    /// Live weights by route name.
    pub routes: BTreeMap<String, Seen<Weights>>,
    /// Alarms by name, each from a by-name answer younger than ten seconds.
    pub alarms: BTreeMap<String, Seen<Alarm>>,
    /// Answers to what the last decision asked for besides.
    pub extra: Extra,
}

impl Observed {
    /// The live weights of a route, when they were read and are our pair.
    pub fn live(&self, route: &str) -> Option<Shares> {
        match self.routes.get(route)?.known()? {
            Weights::Pair(shares) => Some(*shares),
            Weights::NotOurPair(_) | Weights::Gone => None,
        }
    }
}

/// The ECS service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// ACTIVE, DRAINING, INACTIVE or missing altogether.
    pub status: ServiceStatus,
    /// Deployment controller EXTERNAL.
    pub external: bool,
    /// desiredCount; never written by the daemon.
    pub desired_count: u32,
    /// All task sets, DRAINING ones included.
    pub task_sets: Vec<TaskSet>,
}

/// See [`Service::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceStatus {
    /// Fit for work.
    Active,
    /// Being deleted.
    Draining,
    /// Deleted.
    Inactive,
    /// AWS does not know it.
    Missing,
}

/// One task set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskSet {
    /// ARN.
    pub arn: String,
    /// `externalId`, when it has one.
    pub external_id: Option<String>,
    /// What it runs.
    pub revision: Revision,
    /// PRIMARY, ACTIVE or DRAINING.
    pub status: TaskSetStatus,
    /// Which of the plan's two groups it registers in; none for another one or none at all.
    pub group: Option<Group>,
    /// Its scale.
    pub scale: Percent,
    /// computedDesiredCount; compared, never recomputed.
    pub computed: u32,
    /// runningCount.
    pub running: u32,
    /// pendingCount.
    pub pending: u32,
    /// stabilityStatus is `STEADY_STATE`.
    pub steady: bool,
}

impl TaskSet {
    /// Runs what it should and every task is healthy (`aws-facts.md` §1.7).
    pub const fn is_up(&self) -> bool {
        self.steady && self.computed > 0 && self.running >= self.computed && self.pending == 0
    }
}

/// Labels only: nothing in ECS routes traffic (`aws-facts.md` §1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskSetStatus {
    /// The one the service's fields come from.
    Primary,
    /// Any other.
    Active,
    /// Being deleted; irreversible.
    Draining,
}

/// The live action of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// It forwards to exactly our two groups.
    Pair(Shares),
    /// It does not. The text says what is there.
    NotOurPair(String),
    /// AWS does not know the rule or the listener.
    Gone,
}

/// An alarm's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alarm {
    /// What it says.
    pub state: AlarmState,
    /// `StateTransitionedTimestamp`: the last real change (`aws-facts.md` §3).
    pub transitioned_at: Option<Timestamp>,
    /// Evaluation range: period × periods + 2 min. After this much traffic, missing data is missing evidence.
    pub range: Span,
    /// An `HTTPCode_*` alarm whose missing data is not `notBreaching`: silence would keep it from OK.
    pub needs_missing_data: bool,
}

/// See [`Alarm::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlarmState {
    /// OK.
    Ok,
    /// ALARM.
    Alarm,
    /// `INSUFFICIENT_DATA`.
    InsufficientData,
    /// AWS does not know an alarm of this name.
    Missing,
}

/// Something a decision wants to read in addition, once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// Everything [`Preflight`] holds, for this revision.
    Preflight(Revision),
    /// Targets of a group (one call of the scarce ELB bucket each, `aws-facts.md` §4.2).
    Targets(Group),
    /// All rules and listeners of the load balancer.
    LoadBalancer,
    /// State changes of this alarm after this instant.
    AlarmHistory(String, Timestamp),
    /// Why the last task of this task set stopped, and the unhealthy targets' reason.
    LastStop(String, Group),
}

/// Answers to [`Need`]s; empty unless asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extra {
    /// For [`Need::Preflight`].
    pub preflight: Option<Seen<Preflight>>,
    /// For [`Need::Targets`].
    pub targets: BTreeMap<Group, Seen<Targets>>,
    /// For [`Need::LoadBalancer`].
    pub load_balancer: Option<Seen<LoadBalancer>>,
    /// For [`Need::AlarmHistory`]: the states entered and when, oldest first.
    pub alarm_history: BTreeMap<String, Seen<Vec<(Timestamp, AlarmState)>>>,
    /// For [`Need::LastStop`].
    pub last_stop: BTreeMap<String, Seen<String>>,
}

/// The targets of one group, counted by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Targets {
    /// `healthy`.
    pub healthy: u32,
    /// `initial`.
    pub initial: u32,
    /// `unhealthy` and `unavailable`.
    pub unhealthy: u32,
    /// `draining`.
    pub draining: u32,
    /// `unused`.
    pub unused: u32,
    /// The first reason given for a target that is not healthy.
    pub reason: Option<String>,
}

impl Targets {
    /// Targets of any state.
    pub const fn total(&self) -> u32 {
        self.healthy + self.initial + self.unhealthy + self.draining + self.unused
    }
}

/// Every forward action of one load balancer that names one of our groups, or belongs to one of our routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoadBalancer {
    /// ARNs of the load balancers of group a and of group b, as AWS says (one each, or none).
    pub of_groups: BTreeMap<Group, BTreeSet<String>>,
    /// Its actions.
    pub actions: Vec<ForwardAction>,
}

/// One action list, judged as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardAction {
    /// Rule ARN, or listener ARN for a default action.
    pub owner: String,
    /// Load balancer ARN.
    pub load_balancer: String,
    /// Target group ARN and weight, as they stand.
    pub groups: Vec<(String, u32)>,
    /// Group stickiness duration, when enabled.
    pub sticky: Option<Span>,
    /// The name of an action type that this build's SDK does not know; such a list is never rewritten.
    pub unknown_action: Option<String>,
    /// An OIDC action without `UseExistingClientSecret`: rewriting it would need the client secret.
    pub oidc: bool,
}

/// Everything a release is judged by before it may start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Preflight {
    /// The task definition; none when AWS does not know it.
    pub task_definition: Option<TaskDefinition>,
    /// All rules and listeners.
    pub load_balancer: LoadBalancer,
    /// Targets of both groups.
    pub targets: BTreeMap<Group, Targets>,
}

/// A task definition, as far as a release needs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskDefinition {
    /// ACTIVE.
    pub active: bool,
    /// Network mode `awsvpc`.
    pub awsvpc: bool,
    /// Container names and their ports.
    pub containers: BTreeMap<String, BTreeSet<u16>>,
}
