//! Target groups: settings, attributes, and the targets in them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::load_balancer::listed;
use super::target::{Health, Pace, Prober, Target};
use super::{
    Attribute, CreateTargetGroup, Elb, HealthCheckInput, Matcher, ModifyTargetGroup, Surroundings,
    TargetDescription, TargetGroup, TargetHealth, TargetHealthDescription, check_name, group_not_found,
    load_balancer_not_found, validation,
};
use crate::world::tuning::{Runtime, Tuning};
use crate::world::wire::pairs;
use crate::world::{Address, ApiError, ProbeOrder};

/// Attributes that every target group has, with AWS's defaults.
const ATTRIBUTES: [(&str, &str); 14] = [
    ("deregistration_delay.timeout_seconds", "300"),
    ("load_balancing.algorithm.anomaly_mitigation", "off"),
    ("load_balancing.algorithm.type", "round_robin"),
    ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration"),
    ("slow_start.duration_seconds", "0"),
    ("stickiness.app_cookie.cookie_name", ""),
    ("stickiness.app_cookie.duration_seconds", "86400"),
    ("stickiness.enabled", "false"),
    ("stickiness.lb_cookie.duration_seconds", "86400"),
    ("stickiness.type", "lb_cookie"),
    ("target_group_health.dns_failover.minimum_healthy_targets.count", "1"),
    ("target_group_health.dns_failover.minimum_healthy_targets.percentage", "off"),
    ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1"),
    ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "off"),
];
/// Targets of one group (`ELBv2` quota).
const TARGETS_PER_GROUP: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredGroup {
    pub(super) shape: TargetGroup,
    attributes: BTreeMap<String, String>,
    #[serde(with = "pairs")]
    pub(super) targets: BTreeMap<Address, Target>,
    in_use: bool,
}

impl StoredGroup {
    fn pace(&self, tuning: &Tuning) -> Pace {
        let interval = SignedDuration::from_secs(self.shape.health_check_interval_seconds.into());
        Pace {
            interval: interval / tuning.modelled_check_speed.max(1),
            healthy_after: self.shape.healthy_threshold_count,
            unhealthy_after: self.shape.unhealthy_threshold_count,
        }
    }

    fn deregistration_delay(&self) -> SignedDuration {
        let secs =
            self.attributes.get("deregistration_delay.timeout_seconds").and_then(|value| value.parse().ok());
        SignedDuration::from_secs(secs.unwrap_or(300))
    }

    pub(super) fn set_in_use(&mut self, in_use: bool, now: Timestamp, tuning: &Tuning) {
        let pace = self.pace(tuning);
        self.in_use = in_use;
        for target in self.targets.values_mut() {
            target.set_in_use(in_use, now, pace);
        }
    }

    /// Targets that a real runtime should probe.
    fn probed(&self) -> impl Iterator<Item = (&Address, &Target)> {
        let enabled = self.shape.health_check_enabled;
        self.targets.iter().filter(move |(_, target)| enabled && target.is_for_probers())
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.targets.values().filter_map(Target::due).min()
    }

    /// What is due up to `now`; whether it could alter where a request goes.
    fn advance(&mut self, now: Timestamp, tuning: &Tuning) -> bool {
        let pace = self.pace(tuning);
        let before = self.targets.len();
        self.targets.retain(|_, target| !matches!(target.health, Health::Draining(until) if until <= now));
        let mut changed = self.targets.len() != before;
        for target in self.targets.values_mut() {
            changed |= target.advance(now, pace);
        }
        changed
    }

    /// `targetgroup/name/id`.
    pub(super) fn dimension(&self) -> &str {
        self.shape.target_group_arn.rsplit(':').next().unwrap_or_default()
    }

    fn matcher(&self) -> Vec<(u16, u16)> {
        parse_matcher(self.shape.matcher.http_code.as_deref().unwrap_or("200"))
            .unwrap_or_else(|| vec![(200, 200)])
    }
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
    shape.health_check_port = health_check_port.unwrap_or_else(|| shape.health_check_port.clone());
    shape.health_check_enabled = health_check_enabled.unwrap_or(shape.health_check_enabled);
    shape.health_check_path = health_check_path.unwrap_or_else(|| shape.health_check_path.clone());
    shape.health_check_interval_seconds =
        health_check_interval_seconds.unwrap_or(shape.health_check_interval_seconds);
    shape.health_check_timeout_seconds =
        health_check_timeout_seconds.unwrap_or(shape.health_check_timeout_seconds);
    shape.healthy_threshold_count = healthy_threshold_count.unwrap_or(shape.healthy_threshold_count);
    shape.unhealthy_threshold_count = unhealthy_threshold_count.unwrap_or(shape.unhealthy_threshold_count);
    shape.matcher = matcher.unwrap_or_else(|| shape.matcher.clone());
    within("Health check interval", shape.health_check_interval_seconds, 5, 300)?;
    within("Health check timeout", shape.health_check_timeout_seconds, 2, 120)?;
    within("Healthy threshold count", shape.healthy_threshold_count, 2, 10)?;
    within("Unhealthy threshold count", shape.unhealthy_threshold_count, 2, 10)?;
    if shape.health_check_timeout_seconds >= shape.health_check_interval_seconds {
        return Err(validation("Health check timeout must be smaller than the interval"));
    }
    if !shape.health_check_path.starts_with('/') {
        return Err(validation(format!(
            "Health check path '{}' must begin with a '/' character",
            shape.health_check_path
        )));
    }
    match &shape.matcher.http_code {
        Some(codes) if parse_matcher(codes).is_none() => {
            Err(validation(format!("Health check matcher HTTP code '{codes}' must be within '200-599'")))
        }
        _ => Ok(()),
    }
}

impl Elb {
    fn group(&self, arn: &str) -> Result<&StoredGroup, ApiError> {
        self.groups.get(arn).ok_or_else(|| group_not_found(arn))
    }

    fn group_mut(&mut self, arn: &str) -> Result<&mut StoredGroup, ApiError> {
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
        let protocol = input.protocol.ok_or_else(|| validation("A protocol must be specified"))?;
        let port = input.port.ok_or_else(|| validation("A port must be specified"))?;
        let mut shape = TargetGroup {
            target_group_arn: String::new(),
            target_group_name: input.name,
            health_check_protocol: "HTTP".to_owned(),
            protocol,
            port,
            vpc_id: input.vpc_id,
            health_check_port: "traffic-port".to_owned(),
            health_check_enabled: true,
            health_check_interval_seconds: 30,
            health_check_timeout_seconds: 5,
            healthy_threshold_count: 5,
            unhealthy_threshold_count: 2,
            health_check_path: "/".to_owned(),
            matcher: Matcher { http_code: Some("200".to_owned()), grpc_code: None },
            load_balancer_arns: Vec::new(),
            target_type: input.target_type.unwrap_or_else(|| "instance".to_owned()),
            protocol_version: input.protocol_version.unwrap_or_else(|| "HTTP1".to_owned()),
            ip_address_type: input.ip_address_type.unwrap_or_else(|| "ipv4".to_owned()),
        };
        apply(&mut shape, input.health_check)?;
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
            ATTRIBUTES.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let group = StoredGroup { shape: shape.clone(), attributes, targets: BTreeMap::new(), in_use: false };
        self.groups.insert(arn.clone(), group);
        self.set_tags(&arn, &input.tags);
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
        Ok(listed(&self.group(arn)?.attributes))
    }

    /// `ModifyTargetGroupAttributes`: all or none.
    pub(in crate::world) fn modify_target_group_attributes(
        &mut self,
        arn: &str,
        changes: &[Attribute],
    ) -> Result<Vec<Attribute>, ApiError> {
        let group = self.group_mut(arn)?;
        for Attribute { key, value } in changes {
            if !group.attributes.contains_key(key) {
                return Err(validation(format!("Target group attribute key '{key}' is not recognized")));
            }
            if key == "deregistration_delay.timeout_seconds"
                && !value.parse().is_ok_and(|secs: u32| secs <= 3600)
            {
                return Err(validation(format!(
                    "'{key}' must be between 0 and 3600 (inclusive), but is '{value}'"
                )));
            }
        }
        group.attributes.extend(changes.iter().map(|change| (change.key.clone(), change.value.clone())));
        Ok(listed(&group.attributes))
    }

    /// Registers one target. A target that drains comes back as a new one.
    pub(in crate::world) fn register(
        &mut self,
        group: &str,
        address: Address,
        prober: Prober,
        now: Timestamp,
        tuning: &Tuning,
    ) -> Result<(), ApiError> {
        let stored = self.group_mut(group)?;
        if stored.targets.len() >= TARGETS_PER_GROUP {
            return Err(too_many(group));
        }
        let present = stored.targets.get(&address).is_some_and(|target| !target.is_draining());
        if !present {
            let target = Target::registered(now, stored.in_use, prober, tuning);
            stored.targets.insert(address, target);
            self.version += 1;
        }
        Ok(())
    }

    /// Deregisters one target: it drains, then it is gone. Whether it was there.
    pub(in crate::world) fn deregister(
        &mut self,
        group: &str,
        address: &Address,
        now: Timestamp,
        tuning: &Tuning,
    ) -> bool {
        let Some(stored) = self.groups.get_mut(group) else { return false };
        let until = now + stored.deregistration_delay() / tuning.draining_speed.max(1);
        let Some(target) = stored.targets.get_mut(address) else { return false };
        target.drain(until);
        self.version += 1;
        true
    }

    fn addressed(&self, group: &str, target: &TargetDescription) -> Result<Address, ApiError> {
        let stored = self.group(group)?;
        if target.id.is_empty() {
            return Err(ApiError::client("InvalidTarget", "A target must have an identifier"));
        }
        let valid = stored.shape.target_type != "ip" || target.id.parse::<std::net::IpAddr>().is_ok();
        if !valid {
            return Err(validation(format!("The IP address '{}' is not a valid IPv4 address", target.id)));
        }
        Ok(Address { ip: target.id.clone(), port: target.port.unwrap_or(stored.shape.port) })
    }

    fn all_addressed(&self, group: &str, targets: &[TargetDescription]) -> Result<Vec<Address>, ApiError> {
        targets.iter().map(|target| self.addressed(group, target)).collect()
    }

    /// `RegisterTargets`.
    pub(in crate::world) fn register_targets(
        &mut self,
        group: &str,
        targets: &[TargetDescription],
        around: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        let addresses = self.all_addressed(group, targets)?;
        if self.group(group)?.targets.len() + addresses.len() > TARGETS_PER_GROUP {
            return Err(too_many(group));
        }
        let prober = match around.tuning.runtime {
            Runtime::Simulated => Prober::Model { sick: false },
            Runtime::External => Prober::Runtime,
        };
        for address in addresses {
            self.register(group, address, prober, around.now, around.tuning)?;
        }
        Ok(())
    }

    /// `DeregisterTargets`. Targets that are not there are passed over.
    pub(in crate::world) fn deregister_targets(
        &mut self,
        group: &str,
        targets: &[TargetDescription],
        now: Timestamp,
        tuning: &Tuning,
    ) -> Result<(), ApiError> {
        self.group(group)?;
        for address in self.all_addressed(group, targets)? {
            self.deregister(group, &address, now, tuning);
        }
        Ok(())
    }

    /// `DescribeTargetHealth` of all targets, or of the named ones.
    pub(in crate::world) fn describe_target_health(
        &self,
        group: &str,
        targets: &[TargetDescription],
    ) -> Result<Vec<TargetHealthDescription>, ApiError> {
        let stored = self.group(group)?;
        let addresses = if targets.is_empty() {
            stored.targets.keys().cloned().collect()
        } else {
            self.all_addressed(group, targets)?
        };
        let described = addresses.into_iter().map(|address| {
            let target_health =
                stored.targets.get(&address).map_or_else(not_registered, |t| t.health.shape());
            let checked = &stored.shape.health_check_port;
            let health_check_port =
                if checked == "traffic-port" { address.port.to_string() } else { checked.clone() };
            let target =
                TargetDescription { id: address.ip, port: Some(address.port), availability_zone: None };
            TargetHealthDescription { target, health_check_port, target_health }
        });
        Ok(described.collect())
    }

    /// What the load balancer thinks of a target; `None` when it is not registered.
    pub(in crate::world) fn health(&self, group: &str, address: &Address) -> Option<&Health> {
        Some(&self.groups.get(group)?.targets.get(address)?.health)
    }

    /// Whether a target is on its way out.
    pub(in crate::world) fn is_draining(&self, group: &str, address: &Address) -> bool {
        matches!(self.health(group, address), Some(Health::Draining(_)))
    }

    /// Takes the result of a probe by a real runtime; whether the target's state changed.
    ///
    /// Targets are always probed at their traffic port, whatever `HealthCheckPort` says: a real runtime
    /// maps container ports, so another port of the container has no address here.
    pub(in crate::world) fn probed(
        &mut self,
        group: &str,
        address: &Address,
        healthy: bool,
        detail: &str,
        tuning: &Tuning,
    ) -> bool {
        let Some(stored) = self.groups.get_untouched(group) else { return false };
        let pace = stored.pace(tuning);
        let Some(target) = stored.targets.get_mut(address) else { return false };
        let changed = target.probed(healthy, detail, pace);
        if changed {
            self.groups.touch(&group.to_owned());
            self.version += 1;
        }
        changed
    }

    /// Makes a simulated application fail or pass its probes from now on.
    pub(in crate::world) fn set_sick(
        &mut self,
        group: &str,
        address: &Address,
        sick: bool,
        now: Timestamp,
        tuning: &Tuning,
    ) -> bool {
        let Some(stored) = self.groups.get_mut(group) else { return false };
        let pace = stored.pace(tuning);
        let Some(target) = stored.targets.get_mut(address) else { return false };
        target.set_sick(sick, now, pace);
        true
    }

    /// Targets that a real runtime should probe.
    pub(in crate::world) fn probe_orders(&self) -> Vec<ProbeOrder> {
        let mut orders = Vec::new();
        for (arn, group) in self.probed.iter().filter_map(|arn| self.groups.get_key_value(arn)) {
            let shape = &group.shape;
            orders.extend(group.probed().map(|(address, _)| ProbeOrder {
                group: arn.clone(),
                target: address.clone(),
                path: shape.health_check_path.clone(),
                interval_ms: u64::from(shape.health_check_interval_seconds) * 1000,
                timeout_ms: u64::from(shape.health_check_timeout_seconds) * 1000,
                matcher: group.matcher(),
            }));
        }
        orders
    }

    pub(in crate::world) fn next_due(&self) -> Option<Timestamp> {
        self.groups.next_due()
    }

    /// What is due up to `now`: registrations, modelled probes, ends of draining.
    pub(in crate::world) fn advance(&mut self, now: Timestamp, tuning: &Tuning) {
        for arn in self.groups.due_by(now) {
            let Some(group) = self.groups.get_mut(&arn) else { continue };
            self.version += u64::from(group.advance(now, tuning));
        }
    }

    /// Looks at every group, whatever was touched or is due: what plans and derived sets spare, in full.
    #[cfg(test)]
    pub(in crate::world) fn scan(&mut self, now: Timestamp, tuning: &Tuning) {
        self.users.clear();
        self.probed.clear();
        let groups = std::mem::take(&mut self.groups);
        for (arn, group) in groups.iter() {
            let mut group = group.clone();
            self.version += u64::from(group.advance(now, tuning));
            self.groups.insert(arn.clone(), group);
        }
        let version = self.version;
        self.rewire(now, tuning);
        self.version = version;
        let unused: Vec<String> =
            self.groups.keys().filter(|arn| !self.users.contains_key(*arn)).cloned().collect();
        for arn in unused {
            if let Some(group) = self.groups.get_mut(&arn) {
                group.set_in_use(false, now, tuning);
            }
        }
        self.take_touched();
    }

    /// The groups that were touched since the last look, each planned anew.
    pub(in crate::world) fn take_touched(&mut self) -> Vec<String> {
        let mut touched = Vec::new();
        while let Some(arn) = self.groups.take_touched_after(touched.last()) {
            let group = self.groups.get(&arn);
            let due = group.and_then(StoredGroup::next_due);
            if group.is_some_and(|group| group.probed().next().is_some()) {
                self.probed.insert(arn.clone());
            } else {
                self.probed.remove(&arn);
            }
            self.groups.plan(&arn, due);
            touched.push(arn);
        }
        touched
    }
}

fn too_many(group: &str) -> ApiError {
    let message = format!("Target group '{group}' can't have more than {TARGETS_PER_GROUP} targets");
    ApiError::client("TooManyTargets", message)
}

fn not_registered() -> TargetHealth {
    TargetHealth {
        state: "unused".to_owned(),
        reason: Some("Target.NotRegistered".to_owned()),
        description: Some("Target is not registered to the target group".to_owned()),
    }
}
