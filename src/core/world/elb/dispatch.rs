//! From operation names and JSON to the functions of this module.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attribute, Elb, RulePriorityPair, Surroundings, Tag, TargetDescription, validation};
use crate::world::ApiError;
use crate::world::wire::{lenient, page, request, response};

/// Page size when none is given, and the largest one.
const PAGE_SIZE: usize = 400;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Arguments {
    load_balancer_arn: Option<String>,
    load_balancer_arns: Vec<String>,
    listener_arn: Option<String>,
    listener_arns: Vec<String>,
    rule_arn: Option<String>,
    rule_arns: Vec<String>,
    target_group_arn: Option<String>,
    target_group_arns: Vec<String>,
    resource_arns: Vec<String>,
    names: Vec<String>,
    targets: Vec<TargetDescription>,
    attributes: Vec<Attribute>,
    rule_priorities: Vec<RulePriorityPair>,
    tags: Vec<Tag>,
    tag_keys: Vec<String>,
    marker: Option<String>,
    #[serde(deserialize_with = "lenient")]
    page_size: Option<usize>,
}

fn needed(value: Option<&String>, name: &str) -> Result<String, ApiError> {
    value.cloned().ok_or_else(|| validation(format!("1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null")))
}

impl Arguments {
    fn load_balancer(&self) -> Result<String, ApiError> {
        needed(self.load_balancer_arn.as_ref(), "loadBalancerArn")
    }

    fn group(&self) -> Result<String, ApiError> {
        needed(self.target_group_arn.as_ref(), "targetGroupArn")
    }

    /// One page of a described list under its member name.
    fn paged<T: serde::Serialize>(&self, member: &str, items: Vec<T>) -> Result<Value, ApiError> {
        let size = self.page_size.unwrap_or(PAGE_SIZE);
        if !(1..=PAGE_SIZE).contains(&size) {
            return Err(validation(format!("Page size '{size}' must be between 1 and {PAGE_SIZE}")));
        }
        let (items, next) = page(items, self.marker.as_deref(), size).map_err(validation)?;
        let mut output = json!({ member: response(&items)? });
        if let Some(next) = next {
            output["NextMarker"] = Value::String(next);
        }
        Ok(output)
    }
}

fn read<T: for<'de> Deserialize<'de>>(input: Value) -> Result<T, ApiError> {
    request(input, "ValidationError")
}

fn one<T: serde::Serialize>(member: &str, item: &T) -> Result<Value, ApiError> {
    Ok(json!({ member: [response(item)?] }))
}

impl Elb {
    /// One call that may change something.
    pub(in crate::world) fn call(
        &mut self,
        operation: &str,
        input: Value,
        around: &mut Surroundings<'_>,
    ) -> Result<Value, ApiError> {
        match operation {
            "CreateLoadBalancer" => one("LoadBalancers", &self.create_load_balancer(read(input)?, around)?),
            "CreateListener" => one("Listeners", &self.create_listener(read(input)?, around)?),
            "ModifyListener" => one("Listeners", &self.modify_listener(read(input)?, around)?),
            "CreateRule" => one("Rules", &self.create_rule(read(input)?, around)?),
            "ModifyRule" => one("Rules", &self.modify_rule(read(input)?, around)?),
            "CreateTargetGroup" => one("TargetGroups", &self.create_target_group(read(input)?, around)?),
            "ModifyTargetGroup" => one("TargetGroups", &self.modify_target_group(read(input)?)?),
            _ => self.change(operation, &read(input)?, around),
        }
    }

    fn change(
        &mut self,
        operation: &str,
        given: &Arguments,
        around: &mut Surroundings<'_>,
    ) -> Result<Value, ApiError> {
        match operation {
            "DeleteLoadBalancer" => self.delete_load_balancer(&given.load_balancer()?, around)?,
            "ModifyLoadBalancerAttributes" => {
                let changed =
                    self.modify_load_balancer_attributes(&given.load_balancer()?, &given.attributes)?;
                return Ok(json!({ "Attributes": response(&changed)? }));
            }
            "DeleteListener" => {
                self.delete_listener(&needed(given.listener_arn.as_ref(), "listenerArn")?, around)?;
            }
            "DeleteRule" => self.delete_rule(&needed(given.rule_arn.as_ref(), "ruleArn")?, around)?,
            "SetRulePriorities" => {
                let rules = self.set_rule_priorities(&given.rule_priorities, around)?;
                return Ok(json!({ "Rules": response(&rules)? }));
            }
            "DeleteTargetGroup" => self.delete_target_group(&given.group()?)?,
            "ModifyTargetGroupAttributes" => {
                let changed = self.modify_target_group_attributes(&given.group()?, &given.attributes)?;
                return Ok(json!({ "Attributes": response(&changed)? }));
            }
            "RegisterTargets" => self.register_targets(&given.group()?, &given.targets, around)?,
            "DeregisterTargets" => {
                self.deregister_targets(&given.group()?, &given.targets, around.now, around.tuning)?;
            }
            "AddTags" => self.add_tags(&given.resource_arns, &given.tags)?,
            "RemoveTags" => self.remove_tags(&given.resource_arns, &given.tag_keys)?,
            other => {
                return Err(ApiError::client(
                    "InvalidAction",
                    format!("The action {other} is not valid for this endpoint."),
                ));
            }
        }
        Ok(json!({}))
    }

    /// One call that changes nothing.
    pub(in crate::world) fn look(&self, operation: &str, input: Value) -> Result<Value, ApiError> {
        let given: &Arguments = &read(input)?;
        match operation {
            "DescribeLoadBalancers" => given.paged(
                "LoadBalancers",
                self.describe_load_balancers(&given.load_balancer_arns, &given.names)?,
            ),
            "DescribeListeners" => {
                let found =
                    self.describe_listeners(given.load_balancer_arn.as_deref(), &given.listener_arns)?;
                given.paged("Listeners", found)
            }
            "DescribeRules" => {
                given.paged("Rules", self.describe_rules(given.listener_arn.as_deref(), &given.rule_arns)?)
            }
            "DescribeTargetGroups" => {
                let lb = given.load_balancer_arn.as_deref();
                let found = self.describe_target_groups(lb, &given.target_group_arns, &given.names)?;
                given.paged("TargetGroups", found)
            }
            "DescribeTargetHealth" => {
                let found = self.describe_target_health(&given.group()?, &given.targets)?;
                Ok(json!({ "TargetHealthDescriptions": response(&found)? }))
            }
            "DescribeTargetGroupAttributes" => {
                Ok(json!({ "Attributes": response(&self.target_group_attributes(&given.group()?)?)? }))
            }
            "DescribeLoadBalancerAttributes" => Ok(
                json!({ "Attributes": response(&self.load_balancer_attributes(&given.load_balancer()?)?)? }),
            ),
            "DescribeTags" => {
                let described = self.describe_tags(&given.resource_arns)?;
                let described =
                    described.into_iter().map(|(arn, tags)| json!({ "ResourceArn": arn, "Tags": tags }));
                Ok(json!({ "TagDescriptions": described.collect::<Vec<_>>() }))
            }
            other => Err(ApiError::client(
                "InvalidAction",
                format!("The action {other} is not valid for this endpoint."),
            )),
        }
    }
}
