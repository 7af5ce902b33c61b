//! Target groups: their settings, health checks and attributes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::attributes::Attributes;
use super::target::{Pace, Target};
use super::{
    Attribute, CreateTargetGroup, Elb, HealthCheckInput, Matcher, ModifyTargetGroup, Surroundings,
    TargetGroup, check_name, group_not_found, load_balancer_not_found, validation,
};
use crate::world::tuning::Tuning;
use crate::world::wire::pairs;
use crate::world::{Address, ApiError, ProbeCheck};

/// Protocols that a target group may have. `QUIC`, `TCP_QUIC` and `GENEVE` are not part of this model.
const PROTOCOLS: [&str; 6] = ["HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredGroup {
    pub(super) shape: TargetGroup,
    pub(super) attributes: Attributes,
    #[serde(with = "pairs")]
    pub(super) targets: BTreeMap<Address, Target>,
    pub(super) in_use: bool,
}

impl StoredGroup {
    pub(super) fn pace(&self, tuning: &Tuning) -> Pace {
        let interval = SignedDuration::from_secs(self.shape.health_check_interval_seconds.into());
        Pace {
            interval: interval / tuning.modelled_check_speed.max(1),
            healthy_after: self.shape.healthy_threshold_count,
            unhealthy_after: self.shape.unhealthy_threshold_count,
        }
    }

    pub(super) fn set_in_use(&mut self, in_use: bool, now: Timestamp, tuning: &Tuning) {
        let pace = self.pace(tuning);
        self.in_use = in_use;
        for target in self.targets.values_mut() {
            target.set_in_use(in_use, now, pace);
        }
    }

    /// `targetgroup/name/id`.
    pub(super) fn dimension(&self) -> &str {
        self.shape.target_group_arn.rsplit(':').next().unwrap_or_default()
    }

    /// What a health check does.
    pub(super) fn check(&self) -> ProbeCheck {
        let shape = &self.shape;
        if shape.health_check_protocol == "TCP" {
            return ProbeCheck::Connect;
        }
        let codes = shape.matcher.as_ref().and_then(|matcher| matcher.http_code.as_deref());
        ProbeCheck::Http {
            path: shape.health_check_path.clone().unwrap_or_else(|| "/".to_owned()),
            matcher: parse_matcher(codes.unwrap_or("200")).unwrap_or_else(|| vec![(200, 200)]),
        }
    }
}

/// Whether a target group of this protocol serves Network Load Balancers.
fn is_network(protocol: &str) -> bool {
    !matches!(protocol, "HTTP" | "HTTPS")
}

/// `200`, `200,302`, `200-299` and mixtures, as inclusive ranges.
fn parse_matcher(codes: &str) -> Option<Vec<(u16, u16)>> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        (200 <= low && low <= high && high <= 599).then_some((low, high))
    };
    codes.split(',').map(range).collect()
}

fn within(what: &str, value: u32, least: u32, most: u32) -> Result<(), ApiError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(validation(format!("{what} '{value}' must be between {least} and {most}")))
}

/// Puts the given settings over those in `shape`, checked.
fn apply(shape: &mut TargetGroup, input: HealthCheckInput) -> Result<(), ApiError> {
    let HealthCheckInput {
        health_check_protocol,
        health_check_port,
        health_check_enabled,
        health_check_path,
        health_check_interval_seconds,
        health_check_timeout_seconds,
        healthy_threshold_count,
        unhealthy_threshold_count,
        matcher,
    } = input;
    shape.health_check_protocol =
        health_check_protocol.unwrap_or_else(|| shape.health_check_protocol.clone());
    let by_http = match shape.health_check_protocol.as_str() {
        "HTTP" | "HTTPS" => true,
        "TCP" if is_network(&shape.protocol) => false,
        other => {
            return Err(validation(format!(
                "Health check protocol '{other}' is not supported for target groups with the protocol '{}'",
                shape.protocol
            )));
        }
    };
    if !by_http && (health_check_path.is_some() || matcher.is_some()) {
        return Err(ApiError::client(
            "InvalidConfigurationRequest",
            "A health check by TCP has neither a path nor a matcher",
        ));
    }
    shape.health_check_port = health_check_port.unwrap_or_else(|| shape.health_check_port.clone());
    shape.health_check_enabled = health_check_enabled.unwrap_or(shape.health_check_enabled);
    let path = health_check_path.or(shape.health_check_path.take()).unwrap_or_else(|| "/".to_owned());
    let matcher = matcher.or(shape.matcher.take()).unwrap_or_else(ok_only);
    shape.health_check_interval_seconds =
        health_check_interval_seconds.unwrap_or(shape.health_check_interval_seconds);
    shape.health_check_timeout_seconds =
        health_check_timeout_seconds.unwrap_or(shape.health_check_timeout_seconds);
    shape.healthy_threshold_count = healthy_threshold_count.unwrap_or(shape.healthy_threshold_count);
    shape.unhealthy_threshold_count = unhealthy_threshold_count.unwrap_or(shape.unhealthy_threshold_count);
    within("Health check interval", shape.health_check_interval_seconds, 5, 300)?;
    within("Health check timeout", shape.health_check_timeout_seconds, 2, 120)?;
    within("Healthy threshold count", shape.healthy_threshold_count, 2, 10)?;
    within("Unhealthy threshold count", shape.unhealthy_threshold_count, 2, 10)?;
    if shape.health_check_timeout_seconds >= shape.health_check_interval_seconds {
        return Err(validation("Health check timeout must be smaller than the interval"));
    }
    if !path.starts_with('/') {
        return Err(validation(format!("Health check path '{path}' must begin with a '/' character")));
    }
    if let Some(codes) = matcher.http_code.as_ref().filter(|codes| parse_matcher(codes).is_none()) {
        return Err(validation(format!("Health check matcher HTTP code '{codes}' must be within '200-599'")));
    }
    if by_http {
        (shape.health_check_path, shape.matcher) = (Some(path), Some(matcher));
    }
    Ok(())
}

fn ok_only() -> Matcher {
    Matcher { http_code: Some("200".to_owned()), grpc_code: None }
}

/// A group as `CreateTargetGroup` makes it, but for its ARN, with AWS's defaults for its protocol.
fn made(input: CreateTargetGroup) -> Result<TargetGroup, ApiError> {
    let protocol = input.protocol.ok_or_else(|| validation("A protocol must be specified"))?;
    if !PROTOCOLS.contains(&protocol.as_str()) {
        return Err(validation(format!("Protocol '{protocol}' must be one of '{}'", PROTOCOLS.join(", "))));
    }
    let network = is_network(&protocol);
    if network && input.protocol_version.is_some() {
        return Err(validation("A protocol version is only valid for the protocols HTTP and HTTPS"));
    }
    let port = input.port.ok_or_else(|| validation("A port must be specified"))?;
    if port == 0 {
        return Err(validation("Port '0' must be between 1 and 65535"));
    }
    let mut shape = TargetGroup {
        target_group_arn: String::new(),
        target_group_name: input.name,
        health_check_protocol: if network { "TCP" } else { "HTTP" }.to_owned(),
        port,
        vpc_id: input.vpc_id,
        health_check_port: "traffic-port".to_owned(),
        health_check_enabled: true,
        health_check_interval_seconds: 30,
        health_check_timeout_seconds: if protocol == "HTTP" { 5 } else { 10 },
        healthy_threshold_count: 5,
        unhealthy_threshold_count: 2,
        health_check_path: None,
        matcher: None,
        load_balancer_arns: Vec::new(),
        target_type: input.target_type.unwrap_or_else(|| "instance".to_owned()),
        protocol_version: (!network).then(|| input.protocol_version.unwrap_or_else(|| "HTTP1".to_owned())),
        ip_address_type: input.ip_address_type.unwrap_or_else(|| "ipv4".to_owned()),
        protocol,
    };
    apply(&mut shape, input.health_check)?;
    Ok(shape)
}

impl Elb {
    pub(super) fn group(&self, arn: &str) -> Result<&StoredGroup, ApiError> {
        self.groups.get(arn).ok_or_else(|| group_not_found(arn))
    }

    pub(super) fn group_mut(&mut self, arn: &str) -> Result<&mut StoredGroup, ApiError> {
        self.groups.get_mut(arn).ok_or_else(|| group_not_found(arn))
    }

    fn group_shape(&self, group: &StoredGroup) -> TargetGroup {
        let user = self.users.get(&group.shape.target_group_arn);
        TargetGroup { load_balancer_arns: user.cloned().into_iter().collect(), ..group.shape.clone() }
    }

    /// `CreateTargetGroup`. The same name with the same settings answers the existing group.
    pub(in crate::world) fn create_target_group(
        &mut self,
        input: CreateTargetGroup,
        around: &mut Surroundings<'_>,
    ) -> Result<TargetGroup, ApiError> {
        check_name("Target group", &input.name)?;
        let tags = input.tags.clone();
        let mut shape = made(input)?;
        if let Some(existing) =
            self.groups.values().find(|g| g.shape.target_group_name == shape.target_group_name)
        {
            shape.target_group_arn.clone_from(&existing.shape.target_group_arn);
            return if shape == existing.shape {
                Ok(self.group_shape(existing))
            } else {
                Err(ApiError::client(
                    "DuplicateTargetGroupName",
                    format!(
                        "A target group with the same name '{}' exists, but with different settings",
                        shape.target_group_name
                    ),
                ))
            };
        }
        let arn = self.arn(&format!("targetgroup/{}/{}", shape.target_group_name, around.ids.hex16()));
        shape.target_group_arn.clone_from(&arn);
        let attributes =
            Attributes::of_group(is_network(&shape.protocol), &shape.target_type, &shape.protocol);
        let group = StoredGroup { shape: shape.clone(), attributes, targets: BTreeMap::new(), in_use: false };
        self.groups.insert(arn.clone(), group);
        self.set_tags(&arn, &tags);
        self.version += 1;
        Ok(shape)
    }

    /// `ModifyTargetGroup`.
    pub(in crate::world) fn modify_target_group(
        &mut self,
        input: ModifyTargetGroup,
    ) -> Result<TargetGroup, ApiError> {
        let group = self.group_mut(&input.target_group_arn)?;
        let mut shape = group.shape.clone();
        apply(&mut shape, input.health_check)?;
        group.shape = shape;
        self.version += 1;
        self.group(&input.target_group_arn).map(|group| self.group_shape(group))
    }

    /// `DescribeTargetGroups` of a load balancer, by ARN, by name, or all.
    pub(in crate::world) fn describe_target_groups(
        &self,
        load_balancer: Option<&str>,
        arns: &[String],
        names: &[String],
    ) -> Result<Vec<TargetGroup>, ApiError> {
        if let Some(arn) = load_balancer.filter(|arn| !self.load_balancers.contains_key(*arn)) {
            return Err(load_balancer_not_found(arn));
        }
        for arn in arns {
            self.group(arn)?;
        }
        if let Some(name) =
            names.iter().find(|name| !self.groups.values().any(|g| g.shape.target_group_name == **name))
        {
            return Err(group_not_found(name));
        }
        let everything = arns.is_empty() && names.is_empty();
        let found = self.groups.iter().filter(|(arn, group)| {
            let asked = everything || arns.contains(arn) || names.contains(&group.shape.target_group_name);
            asked && load_balancer.is_none_or(|lb| self.user_of(arn) == Some(lb))
        });
        Ok(found.map(|(_, group)| self.group_shape(group)).collect())
    }

    /// `DeleteTargetGroup`. Absent is success, a group in use is refused.
    pub(in crate::world) fn delete_target_group(&mut self, arn: &str) -> Result<(), ApiError> {
        if self.users.contains_key(arn) {
            return Err(ApiError::client(
                "ResourceInUse",
                format!("Target group '{arn}' is currently in use by a listener or a rule"),
            ));
        }
        self.groups.remove(arn);
        self.tags.remove(arn);
        self.version += 1;
        Ok(())
    }

    /// `DescribeTargetGroupAttributes`.
    pub(in crate::world) fn target_group_attributes(&self, arn: &str) -> Result<Vec<Attribute>, ApiError> {
        Ok(self.group(arn)?.attributes.listed())
    }

    /// `ModifyTargetGroupAttributes`: all or none.
    pub(in crate::world) fn modify_target_group_attributes(
        &mut self,
        arn: &str,
        changes: &[Attribute],
    ) -> Result<Vec<Attribute>, ApiError> {
        let group = self.group_mut(arn)?;
        group.attributes.change(changes)?;
        if group.attributes.slow_start().is_none() {
            group.targets.values_mut().for_each(Target::end_slow_start);
        }
        let listed = group.attributes.listed();
        self.version += 1;
        Ok(listed)
    }
}
