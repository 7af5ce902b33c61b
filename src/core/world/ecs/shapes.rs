//! Requests and responses of Amazon ECS, with the member names of its API model.
//!
//! Members that the model only stores and echoes (network configuration, placement …) are plain JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::world::wire::{epoch, epoch_option};

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// Key.
    pub key: String,
    /// Value; may be empty.
    #[serde(default)]
    pub value: String,
}

/// A percentage in tenths, so that no floating point number is ever kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenths(pub i64);

impl Serialize for Tenths {
    #[expect(clippy::cast_precision_loss, reason = "percentages are tiny")]
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.0 as f64 / 10.0)
    }
}

impl<'de> Deserialize<'de> for Tenths {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and the range is checked later")]
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self((f64::deserialize(from)? * 10.0).round() as i64))
    }
}

/// A task set's scale.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scale {
    /// 0–100 %; finer than a tenth is rounded.
    #[serde(default)]
    pub value: Tenths,
    /// `PERCENT`, the only unit there is.
    #[serde(default = "percent")]
    pub unit: String,
}

fn percent() -> String {
    "PERCENT".to_owned()
}

impl Scale {
    /// A whole percentage.
    pub fn percent(value: u32) -> Self {
        Self::tenths(value * 10)
    }

    /// Tenths of a percent: 0–1000.
    pub fn tenths(value: u32) -> Self {
        Self { value: Tenths(value.into()), unit: percent() }
    }
}

impl Default for Scale {
    /// `CreateTaskSet` without a scale makes a set of 0 % (`aws-facts.md` §1.6).
    fn default() -> Self {
        Self::percent(0)
    }
}

/// A load balancer of a task set or service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// Target group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_group_arn: Option<String>,
    /// Classic load balancers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_name: Option<String>,
    /// Container that takes the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
}

/// What a task set or an ECS-controlled service says about how its tasks run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Launch {
    /// Subnets, security groups, public address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<Value>,
    /// At most one for an EXTERNAL service.
    pub load_balancers: Vec<LoadBalancer>,
    /// Cloud Map registries.
    pub service_registries: Vec<Value>,
    /// `FARGATE`, `EC2` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_type: Option<String>,
    /// Instead of a launch type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider_strategy: Option<Vec<Value>>,
    /// Fargate platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_version: Option<String>,
}

/// `CreateTaskSet`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateTaskSet {
    /// Cluster name or ARN.
    pub cluster: Option<String>,
    /// Service name or ARN.
    pub service: String,
    /// A non-unique tag of the caller's.
    pub external_id: Option<String>,
    /// `family`, `family:revision` or ARN.
    pub task_definition: String,
    /// How the tasks run.
    #[serde(flatten)]
    pub launch: Launch,
    /// 0 % when omitted.
    pub scale: Option<Scale>,
    /// Makes a repeated call harmless for a while.
    pub client_token: Option<String>,
    /// Tags.
    pub tags: Vec<Tag>,
}

/// A task set as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSet {
    /// `ecs-svc/…`.
    pub id: String,
    /// ARN.
    pub task_set_arn: String,
    /// Its service.
    pub service_arn: String,
    /// Its cluster.
    pub cluster_arn: String,
    /// The caller's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// PRIMARY, ACTIVE or DRAINING.
    pub status: TaskSetStatus,
    /// ARN with revision.
    pub task_definition: String,
    /// `ceil(desiredCount × scale)`.
    pub computed_desired_count: u32,
    /// Tasks that do not run yet.
    pub pending_count: u32,
    /// Tasks that run, those being deregistered included.
    pub running_count: u32,
    /// When it was created.
    #[serde(with = "epoch")]
    pub created_at: Timestamp,
    /// When it was last changed by a call.
    #[serde(with = "epoch")]
    pub updated_at: Timestamp,
    /// How the tasks run.
    #[serde(flatten)]
    pub launch: Launch,
    /// Scale.
    pub scale: Scale,
    /// `STEADY_STATE` or STABILIZING.
    pub stability_status: StabilityStatus,
    /// When the status was retrieved, which is now, not when it changed (`aws-facts.md` §1.7).
    #[serde(with = "epoch")]
    pub stability_status_at: Timestamp,
    /// Only when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// Status of a task set; a label, nothing routes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskSetStatus {
    /// Serves production.
    Primary,
    /// Does not.
    Active,
    /// Being deleted; there is no way back.
    Draining,
}

/// Whether a task set has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StabilityStatus {
    /// All four conditions of `aws-facts.md` §1.7 hold.
    SteadyState,
    /// Some condition does not hold, or has not held for long enough.
    Stabilizing,
}

/// What is missing, in the answers that report it in place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Failure {
    /// What was asked for.
    pub arn: String,
    /// `MISSING`.
    pub reason: String,
}

/// `CreateService`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateService {
    /// Cluster name or ARN.
    pub cluster: Option<String>,
    /// Name, unique in its cluster.
    pub service_name: String,
    /// Only with the ECS controller.
    pub task_definition: Option<String>,
    /// Only with the ECS controller.
    #[serde(flatten)]
    pub launch: Launch,
    /// 0 when omitted and EXTERNAL.
    pub desired_count: Option<u32>,
    /// `ECS` by default.
    pub deployment_controller: Option<DeploymentController>,
    /// Seconds during which a young task's failed health checks do not count.
    pub health_check_grace_period_seconds: Option<u32>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Everything else, echoed when it is a member of a service.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Who replaces a service's tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeploymentController {
    /// `ECS` or `EXTERNAL`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `UpdateService`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateService {
    /// Cluster name or ARN.
    pub cluster: Option<String>,
    /// Service name or ARN.
    pub service: String,
    /// New count.
    pub desired_count: Option<u32>,
    /// New grace period in seconds.
    pub health_check_grace_period_seconds: Option<u32>,
    /// New task definition; refused for EXTERNAL.
    pub task_definition: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A service as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// ARN.
    pub service_arn: String,
    /// Name.
    pub service_name: String,
    /// Its cluster.
    pub cluster_arn: String,
    /// ACTIVE, DRAINING or INACTIVE.
    pub status: ServiceStatus,
    /// Count that task sets' scales refer to.
    pub desired_count: u32,
    /// Running tasks of all task sets.
    pub running_count: u32,
    /// Pending tasks of all task sets.
    pub pending_count: u32,
    /// The primary task set's, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
    /// The primary task set's, if there is one.
    #[serde(flatten)]
    pub launch: Launch,
    /// Who replaces tasks.
    pub deployment_controller: DeploymentController,
    /// Task sets in order of creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_sets: Option<Vec<TaskSet>>,
    /// Deployments of an ECS-controlled service.
    pub deployments: Vec<Deployment>,
    /// Newest first, at most 100.
    pub events: Vec<ServiceEvent>,
    /// When it was created.
    #[serde(with = "epoch")]
    pub created_at: Timestamp,
    /// Grace period in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_grace_period_seconds: Option<u32>,
    /// Only when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Placement, deployment configuration and so on, as given.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Status of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServiceStatus {
    /// In use.
    Active,
    /// Deleted, with tasks that still stop.
    Draining,
    /// Deleted.
    Inactive,
}

/// A deployment of an ECS-controlled service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// `ecs-svc/…`.
    pub id: String,
    /// PRIMARY, ACTIVE or DRAINING.
    pub status: TaskSetStatus,
    /// ARN with revision.
    pub task_definition: String,
    /// Wanted tasks.
    pub desired_count: u32,
    /// Tasks that do not run yet.
    pub pending_count: u32,
    /// Tasks that run.
    pub running_count: u32,
    /// When it was created.
    #[serde(with = "epoch")]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[serde(with = "epoch")]
    pub updated_at: Timestamp,
    /// `COMPLETED` or `IN_PROGRESS`.
    pub rollout_state: String,
}

/// An event of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvent {
    /// UUID.
    pub id: String,
    /// When.
    #[serde(with = "epoch")]
    pub created_at: Timestamp,
    /// AWS's kind of sentence.
    pub message: String,
}

/// A task as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// ARN.
    pub task_arn: String,
    /// Its cluster.
    pub cluster_arn: String,
    /// ARN with revision.
    pub task_definition_arn: String,
    /// `service:name`.
    pub group: String,
    /// The task set's (or deployment's) id.
    pub started_by: String,
    /// PENDING, RUNNING, DEACTIVATING, STOPPING or STOPPED.
    pub last_status: String,
    /// RUNNING or STOPPED.
    pub desired_status: String,
    /// Launch type.
    pub launch_type: String,
    /// When it was ordered.
    #[serde(with = "epoch")]
    pub created_at: Timestamp,
    /// When it ran.
    #[serde(with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its stop was ordered.
    #[serde(with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub stopping_at: Option<Timestamp>,
    /// When it had stopped.
    #[serde(with = "epoch_option", skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<String>,
    /// The kind of why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_code: Option<StopCode>,
    /// Containers, JSON as in the API.
    pub containers: Vec<Value>,
    /// The network interface, JSON as in the API.
    pub attachments: Vec<Value>,
    /// HEALTHY, UNHEALTHY or UNKNOWN by container health checks, of which there are none here.
    pub health_status: String,
}

/// Why a task stopped, as a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopCode {
    /// The scheduler wanted fewer tasks, or a healthier one.
    ServiceSchedulerInitiated,
    /// The container exited by itself.
    EssentialContainerExited,
    /// It never ran.
    TaskFailedToStart,
    /// `StopTask`.
    UserInitiated,
}

/// `RegisterTaskDefinition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterTaskDefinition {
    /// Family; each registration makes its next revision.
    pub family: String,
    /// Containers, kept as given.
    pub container_definitions: Vec<Value>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Everything else, kept as given.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A task definition as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinition {
    /// ARN with revision.
    pub task_definition_arn: String,
    /// Family.
    pub family: String,
    /// Revision, from 1.
    pub revision: u32,
    /// ACTIVE or INACTIVE.
    pub status: String,
    /// Containers, as given.
    pub container_definitions: Vec<Value>,
    /// When it was registered.
    #[serde(with = "epoch")]
    pub registered_at: Timestamp,
    /// When it was deregistered.
    #[serde(with = "epoch_option", default, skip_serializing_if = "Option::is_none")]
    pub deregistered_at: Option<Timestamp>,
    /// Everything else, as given.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A cluster as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// ARN.
    pub cluster_arn: String,
    /// Name.
    pub cluster_name: String,
    /// ACTIVE.
    pub status: String,
    /// Running tasks of all services.
    pub running_tasks_count: u32,
    /// Pending tasks of all services.
    pub pending_tasks_count: u32,
    /// Services that are ACTIVE.
    pub active_services_count: u32,
    /// 0: tasks run on Fargate.
    pub registered_container_instances_count: u32,
    /// Only when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}
