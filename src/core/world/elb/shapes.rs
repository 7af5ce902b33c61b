//! Requests and responses of Elastic Load Balancing v2, with the member names of its API model.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::world::wire::{epoch, lenient};

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// Key.
    pub key: String,
    /// Value; may be empty.
    #[serde(default)]
    pub value: String,
}

/// A key and value of an attribute list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attribute {
    /// Dotted key, for example `deregistration_delay.timeout_seconds`.
    pub key: String,
    /// Value as text.
    #[serde(default)]
    pub value: String,
}

/// `CreateLoadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateLoadBalancer {
    /// Unique in the region, up to 32 characters.
    pub name: String,
    /// Subnet identifiers.
    pub subnets: Vec<String>,
    /// Subnets with addresses; an alternative to `subnets`.
    pub subnet_mappings: Vec<Value>,
    /// Security groups, echoed.
    pub security_groups: Vec<String>,
    /// `internet-facing` (default) or `internal`.
    pub scheme: Option<String>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// `application` (default) or `network`.
    #[serde(rename = "Type")]
    pub kind: Option<String>,
    /// `ipv4` by default.
    pub ip_address_type: Option<String>,
}

/// A load balancer as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoadBalancer {
    /// ARN.
    pub load_balancer_arn: String,
    /// Public name.
    #[serde(rename = "DNSName")]
    pub dns_name: String,
    /// Route 53 zone.
    pub canonical_hosted_zone_id: String,
    /// When it was created.
    #[serde(with = "epoch")]
    pub created_time: Timestamp,
    /// Name.
    pub load_balancer_name: String,
    /// Scheme.
    pub scheme: String,
    /// VPC.
    pub vpc_id: String,
    /// `active`: provisioning takes no time here.
    pub state: LoadBalancerState,
    /// Type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Zones of the subnets.
    pub availability_zones: Vec<AvailabilityZone>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Address type.
    pub ip_address_type: String,
}

/// State of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoadBalancerState {
    /// `active`.
    pub code: String,
}

/// A zone that a load balancer is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AvailabilityZone {
    /// Zone, for example `eu-west-1a`.
    pub zone_name: String,
    /// Subnet.
    pub subnet_id: String,
}

/// `CreateListener`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateListener {
    /// Its load balancer.
    pub load_balancer_arn: String,
    /// `HTTP` or `HTTPS` (application), `TCP` or `TLS` (network).
    pub protocol: Option<String>,
    /// 1–65535, unique on the load balancer.
    #[serde(deserialize_with = "lenient")]
    pub port: Option<u16>,
    /// Actions of the default rule.
    pub default_actions: Vec<Action>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Certificates, policies and so on: echoed.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// `ModifyListener`: what is omitted stays, but the actions are replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ModifyListener {
    /// The listener.
    pub listener_arn: String,
    /// New protocol.
    pub protocol: Option<String>,
    /// New port.
    #[serde(deserialize_with = "lenient")]
    pub port: Option<u16>,
    /// The entire new list of actions.
    pub default_actions: Option<Vec<Action>>,
    /// Certificates, policies and so on: echoed.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A listener as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listener {
    /// ARN.
    pub listener_arn: String,
    /// Its load balancer.
    pub load_balancer_arn: String,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: String,
    /// Actions of the default rule.
    pub default_actions: Vec<Action>,
    /// Certificates, policies and so on, as given.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// One action of a rule. What the model does not interpret (authentication and so on) is kept as given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Action {
    /// `forward`, `fixed-response`, `redirect`, `authenticate-oidc`, `authenticate-cognito`, `jwt-validation`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The only target group of a plain forward; AWS echoes it whenever there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_group_arn: Option<String>,
    /// Position, from 1; needed when there are several actions.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// Weighted target groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_config: Option<ForwardConfig>,
    /// Every other member, as given.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Action {
    /// A forward to these target groups with these weights (0–999).
    pub fn forward(groups: &[(&str, u32)]) -> Self {
        let target_groups = groups
            .iter()
            .map(|(arn, weight)| TargetGroupTuple {
                target_group_arn: (*arn).to_owned(),
                weight: Some(*weight),
            })
            .collect();
        Self {
            kind: "forward".to_owned(),
            forward_config: Some(ForwardConfig { target_groups, ..ForwardConfig::default() }),
            ..Self::default()
        }
    }
}

/// The weighted target groups of a forward.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ForwardConfig {
    /// One to five.
    pub target_groups: Vec<TargetGroupTuple>,
    /// Group stickiness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_group_stickiness_config: Option<StickinessConfig>,
}

/// One target group of a forward.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TargetGroupTuple {
    /// ARN.
    pub target_group_arn: String,
    /// 0–999; may be omitted when there is only one group.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Group stickiness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StickinessConfig {
    /// On or off (default).
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// 1–604,800 seconds.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
}

/// One condition of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RuleCondition {
    /// `path-pattern`, `host-header`, `http-header`, `http-request-method`, `query-string`, `source-ip`.
    pub field: String,
    /// Values of the two oldest kinds, also echoed for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// The kind's own configuration, as given (`PathPatternConfig` and so on).
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl RuleCondition {
    /// A path pattern with `*` and `?`.
    pub fn path(pattern: &str) -> Self {
        Self { field: "path-pattern".to_owned(), values: Some(vec![pattern.to_owned()]), ..Self::default() }
    }
}

/// `CreateRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRule {
    /// Its listener.
    pub listener_arn: String,
    /// All must hold.
    pub conditions: Vec<RuleCondition>,
    /// 1–50,000; lower goes first.
    #[serde(deserialize_with = "lenient")]
    pub priority: Option<u32>,
    /// Actions.
    pub actions: Vec<Action>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Rewrites of host or URL, kept as given.
    pub transforms: Vec<Value>,
}

/// `ModifyRule`: what is omitted stays, but each list is replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ModifyRule {
    /// The rule.
    pub rule_arn: String,
    /// The entire new list of conditions.
    pub conditions: Option<Vec<RuleCondition>>,
    /// The entire new list of actions.
    pub actions: Option<Vec<Action>>,
    /// The entire new list of transforms.
    pub transforms: Option<Vec<Value>>,
    /// Removes all transforms.
    #[serde(deserialize_with = "lenient")]
    pub reset_transforms: Option<bool>,
}

/// A rule as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rule {
    /// ARN.
    pub rule_arn: String,
    /// A number as text, or `default`.
    pub priority: String,
    /// Conditions.
    pub conditions: Vec<RuleCondition>,
    /// Actions.
    pub actions: Vec<Action>,
    /// Whether this is the listener's default rule.
    pub is_default: bool,
    /// Transforms, as given.
    pub transforms: Vec<Value>,
}

/// One new priority of `SetRulePriorities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RulePriorityPair {
    /// The rule.
    pub rule_arn: String,
    /// Its new priority.
    #[serde(deserialize_with = "lenient")]
    pub priority: Option<u32>,
}

/// Health check settings, as `CreateTargetGroup` and `ModifyTargetGroup` take them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheckInput {
    /// `HTTP` by default, `TCP` for groups of Network Load Balancers.
    pub health_check_protocol: Option<String>,
    /// `traffic-port` by default.
    pub health_check_port: Option<String>,
    /// On by default.
    #[serde(deserialize_with = "lenient")]
    pub health_check_enabled: Option<bool>,
    /// `/` by default.
    pub health_check_path: Option<String>,
    /// 5–300 seconds, 30 by default.
    #[serde(deserialize_with = "lenient")]
    pub health_check_interval_seconds: Option<u32>,
    /// 2–120 seconds, 5 by default, below the interval.
    #[serde(deserialize_with = "lenient")]
    pub health_check_timeout_seconds: Option<u32>,
    /// 2–10, 5 by default.
    #[serde(deserialize_with = "lenient")]
    pub healthy_threshold_count: Option<u32>,
    /// 2–10, 2 by default.
    #[serde(deserialize_with = "lenient")]
    pub unhealthy_threshold_count: Option<u32>,
    /// Status codes that count as healthy, `200` by default.
    pub matcher: Option<Matcher>,
}

/// Status codes that count as healthy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Matcher {
    /// Codes and ranges, for example `200-299,304`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_code: Option<String>,
    /// gRPC codes, kept as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_code: Option<String>,
}

/// `CreateTargetGroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateTargetGroup {
    /// Unique in the region, up to 32 characters.
    pub name: String,
    /// Protocol to the targets.
    pub protocol: Option<String>,
    /// HTTP1 by default.
    pub protocol_version: Option<String>,
    /// Default port of targets.
    #[serde(deserialize_with = "lenient")]
    pub port: Option<u16>,
    /// VPC.
    pub vpc_id: Option<String>,
    /// `instance` by default; tasks with their own network interface need `ip`.
    pub target_type: Option<String>,
    /// `ipv4` by default.
    pub ip_address_type: Option<String>,
    /// Health checks.
    #[serde(flatten)]
    pub health_check: HealthCheckInput,
    /// Tags.
    pub tags: Vec<Tag>,
}

/// `ModifyTargetGroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ModifyTargetGroup {
    /// The group.
    pub target_group_arn: String,
    /// New health check settings; what is omitted stays.
    #[serde(flatten)]
    pub health_check: HealthCheckInput,
}

/// A target group as described.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TargetGroup {
    /// ARN.
    pub target_group_arn: String,
    /// Name.
    pub target_group_name: String,
    /// Protocol.
    pub protocol: String,
    /// Default port.
    pub port: u16,
    /// VPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// Health check protocol.
    pub health_check_protocol: String,
    /// Health check port, or `traffic-port`.
    pub health_check_port: String,
    /// Whether health checks are made.
    pub health_check_enabled: bool,
    /// Seconds between two checks.
    pub health_check_interval_seconds: u32,
    /// Seconds until a check has failed.
    pub health_check_timeout_seconds: u32,
    /// Passed checks in a row until healthy.
    pub healthy_threshold_count: u32,
    /// Failed checks in a row until unhealthy.
    pub unhealthy_threshold_count: u32,
    /// Path; none for checks by TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_path: Option<String>,
    /// Codes that count as healthy; none for checks by TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matcher: Option<Matcher>,
    /// The load balancer that uses it: at most one.
    pub load_balancer_arns: Vec<String>,
    /// Target type.
    pub target_type: String,
    /// Protocol version of HTTP and HTTPS groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Address type.
    pub ip_address_type: String,
}

/// A target as named in requests and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TargetDescription {
    /// IP address (or instance).
    pub id: String,
    /// Port; the group's when omitted.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
}

/// One answer of `DescribeTargetHealth`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TargetHealthDescription {
    /// The target.
    pub target: TargetDescription,
    /// Port that is checked, as text.
    pub health_check_port: String,
    /// Its health.
    pub target_health: TargetHealth,
}

/// Health of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TargetHealth {
    /// `initial`, `healthy`, `unhealthy`, `unused` or `draining`.
    pub state: String,
    /// Reason code; none when healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// AWS's sentence for the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
