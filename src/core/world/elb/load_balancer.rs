//! Load balancers and their attributes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attributes::Attributes;
use super::{
    Attribute, AvailabilityZone, CreateLoadBalancer, Elb, LoadBalancer, LoadBalancerState, Surroundings,
    check_name, load_balancer_not_found, validation,
};
use crate::world::ApiError;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredLoadBalancer {
    pub(super) shape: LoadBalancer,
    pub(super) attributes: Attributes,
}

impl StoredLoadBalancer {
    /// Whether this is a Network Load Balancer.
    pub(super) fn is_network(&self) -> bool {
        self.shape.kind == "network"
    }

    /// `app/name/id`, the part of the ARN that names it in metrics and in its listeners' ARNs.
    pub(super) fn dimension(&self) -> &str {
        self.shape.load_balancer_arn.split_once(":loadbalancer/").map_or("", |(_, rest)| rest)
    }
}

impl Elb {
    /// `CreateLoadBalancer`.
    pub(in crate::world) fn create_load_balancer(
        &mut self,
        input: CreateLoadBalancer,
        around: &mut Surroundings<'_>,
    ) -> Result<LoadBalancer, ApiError> {
        check_name("The load balancer", &input.name)?;
        if let Some(existing) =
            self.load_balancers.values().find(|lb| lb.shape.load_balancer_name == input.name)
        {
            let same = input.scheme.as_ref().is_none_or(|scheme| *scheme == existing.shape.scheme)
                && input.kind.as_ref().is_none_or(|kind| *kind == existing.shape.kind);
            return if same {
                Ok(existing.shape.clone())
            } else {
                Err(ApiError::client(
                    "DuplicateLoadBalancerName",
                    format!(
                        "A load balancer with the same name '{}' exists, but with different settings",
                        input.name
                    ),
                ))
            };
        }
        let kind = input.kind.unwrap_or_else(|| "application".to_owned());
        let prefix = match kind.as_str() {
            "application" => "app",
            "network" => "net",
            other => {
                return Err(validation(format!(
                    "Load balancer type '{other}' must be application or network"
                )));
            }
        };
        let mapped = input.subnet_mappings.iter().filter_map(|mapping| mapping["SubnetId"].as_str());
        let subnets: Vec<String> = input.subnets.iter().cloned().chain(mapped.map(str::to_owned)).collect();
        if subnets.is_empty() {
            return Err(validation(
                "At least two subnets in two different Availability Zones must be specified",
            ));
        }
        let id = around.ids.hex16();
        let arn = self.arn(&format!("loadbalancer/{prefix}/{}/{id}", input.name));
        let zones = subnets.into_iter().zip('a'..='z').map(|(subnet_id, letter)| AvailabilityZone {
            zone_name: format!("{}{letter}", self.region),
            subnet_id,
        });
        let number = u64::from_str_radix(&id, 16).unwrap_or_default() % 10_000_000_000;
        let shape = LoadBalancer {
            load_balancer_arn: arn.clone(),
            dns_name: format!("{}-{number:010}.{}.elb.amazonaws.com", input.name, self.region),
            canonical_hosted_zone_id: "Z2P70J7EXAMPLE".to_owned(),
            created_time: around.now,
            load_balancer_name: input.name,
            scheme: input.scheme.unwrap_or_else(|| "internet-facing".to_owned()),
            vpc_id: "vpc-00000000000000001".to_owned(),
            state: LoadBalancerState { code: "active".to_owned() },
            kind,
            availability_zones: zones.collect(),
            security_groups: input.security_groups,
            ip_address_type: input.ip_address_type.unwrap_or_else(|| "ipv4".to_owned()),
        };
        let attributes = Attributes::of_load_balancer(shape.kind == "network");
        self.load_balancers.insert(arn.clone(), StoredLoadBalancer { shape: shape.clone(), attributes });
        self.set_tags(&arn, &input.tags);
        self.rewire(around.now, around.tuning);
        Ok(shape)
    }

    /// `DescribeLoadBalancers` by ARN, by name, or all.
    pub(in crate::world) fn describe_load_balancers(
        &self,
        arns: &[String],
        names: &[String],
    ) -> Result<Vec<LoadBalancer>, ApiError> {
        let all = || self.load_balancers.values().map(|lb| &lb.shape);
        for arn in arns {
            if !self.load_balancers.contains_key(arn) {
                return Err(load_balancer_not_found(arn));
            }
        }
        for name in names {
            if !all().any(|lb| lb.load_balancer_name == *name) {
                return Err(load_balancer_not_found(name));
            }
        }
        let everything = arns.is_empty() && names.is_empty();
        let wanted = |lb: &&LoadBalancer| {
            everything || arns.contains(&lb.load_balancer_arn) || names.contains(&lb.load_balancer_name)
        };
        Ok(all().filter(wanted).cloned().collect())
    }

    /// `DeleteLoadBalancer`: its listeners and their rules go with it. Absent is success.
    pub(in crate::world) fn delete_load_balancer(
        &mut self,
        arn: &str,
        around: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        let Some(existing) = self.load_balancers.get(arn) else { return Ok(()) };
        if existing.attributes.is("deletion_protection.enabled", "true") {
            return Err(ApiError::client(
                "OperationNotPermitted",
                format!("Load balancer '{arn}' cannot be deleted because deletion protection is enabled"),
            ));
        }
        self.load_balancers.remove(arn);
        let listeners: Vec<String> =
            self.listeners.values().filter(|l| l.load_balancer == arn).map(|l| l.shape_arn.clone()).collect();
        for listener in listeners {
            self.remove_listener(&listener);
        }
        self.tags.remove(arn);
        self.rewire(around.now, around.tuning);
        Ok(())
    }

    /// `DescribeLoadBalancerAttributes`.
    pub(in crate::world) fn load_balancer_attributes(&self, arn: &str) -> Result<Vec<Attribute>, ApiError> {
        let existing = self.load_balancers.get(arn).ok_or_else(|| load_balancer_not_found(arn))?;
        Ok(existing.attributes.listed())
    }

    /// `ModifyLoadBalancerAttributes`.
    pub(in crate::world) fn modify_load_balancer_attributes(
        &mut self,
        arn: &str,
        changes: &[Attribute],
    ) -> Result<Vec<Attribute>, ApiError> {
        let existing = self.load_balancers.get_mut(arn).ok_or_else(|| load_balancer_not_found(arn))?;
        existing.attributes.change(changes)?;
        let listed = existing.attributes.listed();
        self.version += 1;
        Ok(listed)
    }
}

/// A member of an action's or condition's configuration, as text whatever its JSON type.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
