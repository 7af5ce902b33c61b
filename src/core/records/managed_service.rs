//! `ManagedService`: what a platform team owns of a service. Which ECS service, which rules, which two
//! target groups, which alarms, and how a release may go.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::template::{
    MAX_BASE, MAX_PROVIDERS, MAX_SECURITY_GROUPS, MAX_SUBNETS, MAX_TAGS, MAX_WEIGHT,
};
use super::check::{LONGEST_TEXT, MAX_ALARMS, MAX_ANNOTATIONS, MAX_ROUTES, MAX_STRATEGIES};
use super::names::{Arn, Label, PerGroup};
use super::schema::{
    self, CLUSTER, ECS_NAME, LISTENER, PLAIN_NAME, PRINTABLE, REGISTRY, RESERVED_TAG, RULE, SERVICE,
    TARGET_GROUP,
};
use super::strategy::Strategy;
use super::units::Span;

/// The record `service#<namespace>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedService {
    /// Always `pointsman/v1`.
    pub api_version: super::desired_release::ApiVersion,
    /// Always `ManagedService`.
    pub kind: ManagedServiceKind,
    /// Which service.
    pub metadata: ServiceMetadata,
    /// What the platform team decides.
    pub spec: ManagedServiceSpec,
}

/// The one value of `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ManagedServiceKind {
    /// `ManagedService`.
    ManagedService,
}

/// Name and labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceMetadata {
    /// Usually the team.
    pub namespace: Label,
    /// Unique within the namespace.
    pub name: Label,
    /// Free labels for lists and dashboards; never part of identity. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = MAX_ANNOTATIONS, "propertyNames" = {"minLength": 1, "maxLength": LONGEST_TEXT}))]
    pub labels: BTreeMap<String, String>,
}

/// See the fields; `docs/records.md` has them all with bounds and examples.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedServiceSpec {
    /// The ECS service, created with deployment controller EXTERNAL.
    pub ecs: EcsService,
    /// The only task-definition family that a release may name. A task definition names a task *role*:
    /// without this, whoever may write a release could run any role that the daemon may pass.
    #[schemars(extend("pattern" = ECS_NAME))]
    pub task_definition_family: String,
    /// The container and port that take the traffic.
    pub container: Container,
    /// The two target groups. The names are fixed, the roles alternate.
    #[schemars(extend("properties" = {"a": {"pattern": TARGET_GROUP}, "b": {"pattern": TARGET_GROUP}}))]
    pub target_groups: PerGroup<Arn>,
    /// Where the traffic comes from.
    pub routes: Routes,
    /// Template of every task set that is made.
    pub task_set: TaskSetTemplate,
    /// Alarms that are watched in every state of a release. At most 100.
    #[serde(default)]
    #[schemars(extend("maxItems" = MAX_ALARMS))]
    pub alarms: Vec<AlarmRef>,
    /// What to do when alarms cannot be judged.
    #[serde(default)]
    pub alarm_policy: AlarmPolicy,
    /// Strategies by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = MAX_STRATEGIES, "propertyNames" = {"pattern": PLAIN_NAME, "not": {"pattern": r"^CodeDeployDefault\."}}))]
    pub strategies: BTreeMap<String, Strategy>,
    /// The strategy of a release that names none: a key of `strategies` or a predefined name.
    #[schemars(extend("pattern" = PLAIN_NAME))]
    pub default_strategy: String,
    /// What a release may name in `strategy`. Empty: only the default.
    #[serde(default)]
    #[schemars(extend("maxItems" = MAX_STRATEGIES, "uniqueItems" = true, "items" = {"type": "string", "pattern": PLAIN_NAME}))]
    pub release_may_choose: Vec<String>,
    /// How long the candidate stays on the test route, alarms armed, before production weight.
    #[serde(default)]
    pub test_hold: Span,
    /// How long automatic rollback stays armed at 100 %. Default 15m.
    #[serde(default = "defaults::bake")]
    pub bake: Span,
    /// How long the previous task set is kept at full scale after success. Default 15m, at most 48h.
    #[serde(default = "defaults::retention")]
    pub retention: Span,
    /// The longest each phase may take.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// How long writes are given to take effect.
    #[serde(default)]
    pub waits: Waits,
    /// What to do when somebody else moves weights while nothing is being released.
    #[serde(default)]
    pub drift: Drift,
    /// Take over a task set that somebody else made.
    #[serde(default)]
    #[schemars(extend("type" = "null"))]
    pub adopt: Option<Adopt>,
    /// No forward step and no delete while true; rollback stays armed.
    #[serde(default)]
    pub suspend: bool,
}

/// The ECS service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EcsService {
    /// Cluster ARN.
    #[schemars(extend("pattern" = CLUSTER))]
    pub cluster: Arn,
    /// Service ARN in that cluster.
    #[schemars(extend("pattern" = SERVICE))]
    pub service: Arn,
}

/// The container behind the target groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Container name in the task definition.
    #[schemars(extend("pattern" = ECS_NAME))]
    pub name: String,
    /// Container port, 1 to 65535.
    pub port: std::num::NonZeroU16,
}

/// The rules and listeners that forward to the pair of target groups, all of one Application Load Balancer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Routes {
    /// Production routes, written in this order. 1 to 8.
    #[schemars(extend("minItems" = 1, "maxItems" = MAX_ROUTES))]
    pub production: Vec<Route>,
    /// A route for tests alone; never one of the production routes.
    #[serde(default)]
    pub test: Option<Route>,
    /// What to do about group stickiness.
    #[serde(default)]
    pub stickiness: Stickiness,
}

/// One weighted forward action: of a rule, or of a listener's default action.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = schema::exactly_one(&["rule", "listenerDefault"])))]
pub struct Route {
    /// Name for people, unique among the routes.
    #[schemars(extend("pattern" = PLAIN_NAME))]
    pub name: String,
    /// Listener-rule ARN. Exactly one of `rule` and `listenerDefault` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = RULE))]
    pub rule: Option<Arn>,
    /// Listener ARN, when the weights are in its default action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = LISTENER))]
    pub listener_default: Option<Arn>,
}

/// Group stickiness keeps a client on its old target group whatever the weights (`semantics` 5.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend(
    "if" = {"required": ["policy"], "properties": {"policy": {"const": "accept"}}},
    "then" = schema::given("maxDuration"),
    "else" = {"properties": {"maxDuration": {"type": "null"}}}
))]
pub struct Stickiness {
    /// `refuse` (default) or `accept`.
    #[serde(default)]
    pub policy: StickinessPolicy,
    /// The longest cookie that is accepted; required with `accept`. Clean-up waits for as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Span>,
}

/// See [`Stickiness`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StickinessPolicy {
    /// A route with group stickiness is refused.
    #[default]
    Refuse,
    /// Accepted: shares and "traffic is back" then hold for clients without the cookie only.
    Accept,
}

/// What every task set is made from. `CreateTaskSet` parameters, `aws-facts.md` §1.8.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("allOf" = [
    {"not": {
        "required": ["launchType", "capacityProviderStrategy"],
        "properties": {"launchType": {"type": "string"}, "capacityProviderStrategy": {"minItems": 1}}
    }},
    {"not": {
        "required": ["launchType", "platformVersion"],
        "properties": {"launchType": {"const": "EC2"}, "platformVersion": {"type": "string"}}
    }}
]))]
pub struct TaskSetTemplate {
    /// Capacity providers; not together with `launchType`. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "maxItems" = MAX_PROVIDERS,
        "contains" = {"required": ["base"], "properties": {"base": {"minimum": 1}}},
        "minContains" = 0,
        "maxContains" = 1,
        "if" = {"minItems": 2},
        "then" = {"contains": {"required": ["weight"], "properties": {"weight": {"minimum": 1}}}}
    ))]
    pub capacity_provider_strategy: Vec<CapacityProvider>,
    /// `FARGATE` or `EC2`; not together with `capacityProviderStrategy`. Neither: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<LaunchType>,
    /// Fargate platform version; omitted means LATEST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = r"^(LATEST|[0-9]+(\.[0-9]+){0,2})$", "maxLength" = 32))]
    pub platform_version: Option<String>,
    /// Required for task definitions with network mode `awsvpc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Cloud Map service registry ARN; at most one (`aws-facts.md` §1.8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = REGISTRY))]
    pub service_registry: Option<Arn>,
    /// Tags of the task set, besides the daemon's own. At most 40.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = MAX_TAGS,
        "propertyNames" = {"minLength": 1, "maxLength": 128, "pattern": PRINTABLE, "not": {"pattern": RESERVED_TAG}},
        "additionalProperties" = {"type": "string", "maxLength": 256}
    ))]
    pub tags: BTreeMap<String, String>,
}

/// One item of a capacity provider strategy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CapacityProvider {
    /// Name, for example `FARGATE_SPOT`.
    #[schemars(extend("pattern" = "^[A-Za-z0-9][-_.A-Za-z0-9]{0,254}$"))]
    pub capacity_provider: String,
    /// Tasks that run there before weights count, 0 to 100 000; on one item only.
    #[serde(default)]
    #[schemars(extend("maximum" = MAX_BASE))]
    pub base: u32,
    /// Relative share, 0 to 1000.
    #[serde(default)]
    #[schemars(extend("maximum" = MAX_WEIGHT))]
    pub weight: u32,
}

/// Where tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LaunchType {
    /// AWS Fargate.
    #[serde(rename = "FARGATE")]
    Fargate,
    /// Container instances.
    #[serde(rename = "EC2")]
    Ec2,
}

impl LaunchType {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fargate => "FARGATE",
            Self::Ec2 => "EC2",
        }
    }
}

/// `awsvpcConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// 1 to 16 subnets.
    #[schemars(extend("minItems" = 1, "maxItems" = MAX_SUBNETS, "uniqueItems" = true, "items" = {"type": "string", "maxLength": 64, "pattern": "^subnet-[-A-Za-z0-9]+$"}))]
    pub subnets: Vec<String>,
    /// At most 5.
    #[serde(default)]
    #[schemars(extend("maxItems" = MAX_SECURITY_GROUPS, "uniqueItems" = true, "items" = {"type": "string", "maxLength": 64, "pattern": "^sg-[-A-Za-z0-9]+$"}))]
    pub security_groups: Vec<String>,
    /// Fargate tasks in public subnets need it to pull images.
    #[serde(default)]
    pub assign_public_ip: bool,
}

/// An alarm and the scope in which it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlarmRef {
    /// Exact alarm name (metric or composite).
    #[schemars(extend("minLength" = 1, "maxLength" = 255, "pattern" = PRINTABLE))]
    pub name: String,
    /// A group alarm is armed only while that group holds the candidate.
    pub watches: Watches,
    /// Overrides `alarmPolicy.noData` for this alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<NoData>,
}

/// What an alarm watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Watches {
    /// Target group `a`.
    A,
    /// Target group `b`.
    B,
    /// The service as a whole: always armed.
    Service,
}

/// What INSUFFICIENT_DATA means once data were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoData {
    /// No evidence is no success: hold, and roll back at the evidence deadline.
    #[default]
    Hold,
    /// Counts as OK.
    Ok,
    /// Counts as ALARM.
    Fail,
}

/// What to do when alarms cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlarmPolicy {
    /// INSUFFICIENT_DATA of an armed alarm after its group has had weight for its evaluation range.
    #[serde(default)]
    pub no_data: NoData,
    /// The alarm is missing or cannot be read. `ok` is not allowed here.
    #[serde(default)]
    pub unreadable: Unreadable,
    /// How long to hold before the release is rolled back. Default 10m.
    #[serde(default = "defaults::evidence")]
    pub evidence_deadline: Span,
}

impl Default for AlarmPolicy {
    fn default() -> Self {
        Self { no_data: NoData::Hold, unreadable: Unreadable::Hold, evidence_deadline: defaults::evidence() }
    }
}

/// See [`AlarmPolicy::unreadable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unreadable {
    /// Hold, and roll back at the evidence deadline.
    #[default]
    Hold,
    /// Roll back at once.
    Fail,
}

/// The longest each phase may take, counted while the daemon watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Deadlines {
    /// Until a release may start; then Refused. Default 15m.
    pub start: Span,
    /// From the start to the passed gate; then Failed. Default 30m.
    pub prepare: Span,
    /// Until the candidate's capacity of a step is steady; then rollback. Default 15m.
    pub capacity: Span,
    /// Until all weights of a step are written and verified; then rollback. Default 10m.
    pub weight_write: Span,
    /// Until the candidate is PRIMARY; then Succeeded with `PrimaryCurrent=False`. Default 10m.
    pub primary: Span,
    /// Until an old task set is gone; then condition `CleanupStuck`, and on it goes. Default 60m.
    pub cleanup: Span,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            start: Span::from_mins(15),
            prepare: Span::from_mins(30),
            capacity: Span::from_mins(15),
            weight_write: Span::from_mins(10),
            primary: Span::from_mins(10),
            cleanup: Span::from_mins(60),
        }
    }
}

/// How long writes are given to take effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Waits {
    /// A weight is taken to be in force on every load-balancer node after this. AWS states no figure
    /// (`aws-facts.md` §10). Default 30s.
    pub propagation: Span,
    /// After weights are back, before a task set is deleted, on top of `propagation`. Default 30s.
    pub quiet: Span,
    /// The same when the outcome of any write was unknown or the daemon changed hands in the release:
    /// a signed request can be accepted for that long. Default 15m.
    pub quiet_after_unknown: Span,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            propagation: Span::from_secs(30),
            quiet: Span::from_secs(30),
            quiet_after_unknown: Span::from_mins(15),
        }
    }
}

/// See [`ManagedServiceSpec::drift`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// While nothing is being released.
    #[serde(default)]
    pub idle: IdleDrift,
}

/// See [`Drift`]. Weight on a group without a healthy task set is always put back, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdleDrift {
    /// Say so in the condition `InSync`.
    #[default]
    Report,
    /// Put it back.
    Revert,
}

/// Take over a foreign task set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adopt {
    /// Task set id, `ecs-svc/…`.
    pub task_set: String,
}

mod defaults {
    use super::Span;

    pub(super) const fn bake() -> Span {
        Span::from_mins(15)
    }
    pub(super) const fn retention() -> Span {
        Span::from_mins(15)
    }
    pub(super) const fn evidence() -> Span {
        Span::from_mins(10)
    }
}
