//! Rules: priorities, conditions, and the replacement of whole action lists.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::load_balancer::StoredLoadBalancer;
use super::{
    Action, CreateRule, Elb, ModifyRule, Rule, RuleCondition, RulePriorityPair, Surroundings, condition,
    listener_not_found, rule_not_found, validation,
};
use crate::world::ApiError;

/// Rules of one load balancer, not counting default rules (`aws-facts.md` §2).
const RULES_PER_LOAD_BALANCER: usize = 100;
/// Largest priority.
const PRIORITY_MAX: u32 = 50_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredRule {
    pub(super) arn: String,
    pub(super) listener: String,
    /// `None` for the default rule.
    pub(super) priority: Option<u32>,
    pub(super) conditions: Vec<RuleCondition>,
    pub(super) actions: Vec<Action>,
    transforms: Vec<Value>,
}

impl StoredRule {
    pub(super) fn default_of(arn: &str, listener: &str, actions: Vec<Action>) -> Self {
        Self {
            arn: arn.to_owned(),
            listener: listener.to_owned(),
            priority: None,
            conditions: Vec::new(),
            actions,
            transforms: Vec::new(),
        }
    }

    /// Numbered rules by priority, then the default rule.
    pub(super) fn order(&self) -> (bool, Option<u32>) {
        (self.priority.is_none(), self.priority)
    }

    fn shape(&self) -> Rule {
        Rule {
            rule_arn: self.arn.clone(),
            priority: self.priority.map_or_else(|| "default".to_owned(), |priority| priority.to_string()),
            conditions: self.conditions.clone(),
            actions: self.actions.clone(),
            is_default: self.priority.is_none(),
            transforms: self.transforms.clone(),
        }
    }
}

fn checked_priority(priority: Option<u32>) -> Result<u32, ApiError> {
    match priority {
        Some(priority) if (1..=PRIORITY_MAX).contains(&priority) => Ok(priority),
        Some(other) => Err(validation(format!("Priority '{other}' must be between 1 and {PRIORITY_MAX}"))),
        None => Err(validation("A priority must be specified")),
    }
}

fn in_use(priority: u32) -> ApiError {
    ApiError::client("PriorityInUse", format!("Priority '{priority}' is currently in use"))
}

impl Elb {
    /// `CreateRule`.
    pub(in crate::world) fn create_rule(
        &mut self,
        input: CreateRule,
        around: &mut Surroundings<'_>,
    ) -> Result<Rule, ApiError> {
        let Some(listener) = self.listeners.get(&input.listener_arn) else {
            return Err(listener_not_found(&input.listener_arn));
        };
        let (load_balancer, protocol) = (listener.load_balancer.clone(), listener.protocol.clone());
        if self.load_balancers.get(&load_balancer).is_some_and(StoredLoadBalancer::is_network) {
            // "The listener must be associated with an Application Load Balancer or a dual-stack Network Load
            // Balancer" (API page CreateRule, which names no code for it); dual-stack ones are not modelled.
            return Err(ApiError::client(
                "InvalidConfigurationRequest",
                format!(
                    "Listener '{}' must be associated with an Application Load Balancer",
                    listener.shape_arn
                ),
            ));
        }
        let priority = checked_priority(input.priority)?;
        if self.rules.values().any(|r| r.listener == input.listener_arn && r.priority == Some(priority)) {
            return Err(in_use(priority));
        }
        let conditions = condition::checked(input.conditions)?;
        let actions = self.checked_actions(&load_balancer, &protocol, input.actions)?;
        let numbered = self.rules.values().filter(|rule| rule.priority.is_some());
        let on_this = |listener: &String| {
            self.listeners.get(listener).is_some_and(|l| l.load_balancer == load_balancer)
        };
        if numbered.filter(|rule| on_this(&rule.listener)).count() >= RULES_PER_LOAD_BALANCER {
            return Err(ApiError::client(
                "TooManyRules",
                format!(
                    "The maximum number of rules ({RULES_PER_LOAD_BALANCER}) on load balancer '{load_balancer}' has been reached"
                ),
            ));
        }
        let base = input.listener_arn.replacen(":listener/", ":listener-rule/", 1);
        let arn = format!("{base}/{}", around.ids.hex16());
        let rule = StoredRule {
            arn: arn.clone(),
            listener: input.listener_arn,
            priority: Some(priority),
            conditions,
            actions,
            transforms: input.transforms,
        };
        let shape = rule.shape();
        self.rules.insert(arn.clone(), rule);
        self.set_tags(&arn, &input.tags);
        self.rewire(around.now, around.tuning);
        Ok(shape)
    }

    /// `DescribeRules` of a listener or by ARN, in priority order.
    pub(in crate::world) fn describe_rules(
        &self,
        listener: Option<&str>,
        arns: &[String],
    ) -> Result<Vec<Rule>, ApiError> {
        let mut found: Vec<&StoredRule> = match (listener, arns) {
            (Some(arn), []) => {
                if !self.listeners.contains_key(arn) {
                    return Err(listener_not_found(arn));
                }
                self.rules.values().filter(|rule| rule.listener == arn).collect()
            }
            (None, arns) if !arns.is_empty() => {
                let found = arns.iter().map(|arn| self.rules.get(arn).ok_or_else(|| rule_not_found(arn)));
                found.collect::<Result<_, _>>()?
            }
            _ => return Err(validation("You must specify either listener ARN or rule ARNs, not both")),
        };
        found.sort_by_key(|rule| rule.order());
        Ok(found.into_iter().map(StoredRule::shape).collect())
    }

    /// `ModifyRule`: the answer is the resulting rule.
    pub(in crate::world) fn modify_rule(
        &mut self,
        input: ModifyRule,
        around: &mut Surroundings<'_>,
    ) -> Result<Rule, ApiError> {
        let Some(rule) = self.rules.get(&input.rule_arn) else { return Err(rule_not_found(&input.rule_arn)) };
        let mut rule = rule.clone();
        if rule.priority.is_none() {
            return Err(not_permitted(&rule.arn, "modified"));
        }
        if let Some(conditions) = input.conditions {
            rule.conditions = condition::checked(conditions)?;
        }
        if let Some(actions) = input.actions {
            let listener = self.listeners.get(&rule.listener);
            let (load_balancer, protocol) = listener.map_or(("", ""), |l| (&*l.load_balancer, &*l.protocol));
            rule.actions = self.checked_actions(load_balancer, protocol, actions)?;
        }
        if let Some(transforms) = input.transforms {
            rule.transforms = transforms;
        }
        if input.reset_transforms == Some(true) {
            rule.transforms = Vec::new();
        }
        let shape = rule.shape();
        self.rules.insert(input.rule_arn, rule);
        self.rewire(around.now, around.tuning);
        Ok(shape)
    }

    /// `DeleteRule`.
    pub(in crate::world) fn delete_rule(
        &mut self,
        arn: &str,
        around: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        let rule = self.rules.get(arn).ok_or_else(|| rule_not_found(arn))?;
        if rule.priority.is_none() {
            return Err(not_permitted(arn, "deleted"));
        }
        self.rules.remove(arn);
        self.tags.remove(arn);
        self.rewire(around.now, around.tuning);
        Ok(())
    }

    /// `SetRulePriorities`: all or none.
    pub(in crate::world) fn set_rule_priorities(
        &mut self,
        pairs: &[RulePriorityPair],
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<Rule>, ApiError> {
        let mut changed = self.rules.clone();
        for pair in pairs {
            let priority = checked_priority(pair.priority)?;
            let rule = changed.get_mut(&pair.rule_arn).ok_or_else(|| rule_not_found(&pair.rule_arn))?;
            if rule.priority.is_none() {
                return Err(not_permitted(&rule.arn, "reprioritized"));
            }
            rule.priority = Some(priority);
        }
        for pair in pairs {
            let Some(rule) = changed.get(&pair.rule_arn) else { continue };
            let clash = changed
                .values()
                .any(|r| r.arn != rule.arn && r.listener == rule.listener && r.priority == rule.priority);
            if let (true, Some(priority)) = (clash, rule.priority) {
                return Err(in_use(priority));
            }
        }
        self.rules = changed;
        self.rewire(around.now, around.tuning);
        Ok(pairs.iter().filter_map(|pair| self.rules.get(&pair.rule_arn)).map(StoredRule::shape).collect())
    }
}

fn not_permitted(arn: &str, verb: &str) -> ApiError {
    ApiError::client("OperationNotPermitted", format!("Default rule '{arn}' cannot be {verb}"))
}
