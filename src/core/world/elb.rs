//! Elastic Load Balancing v2: load balancers, listeners, rules with weighted forwards, target groups
//! and the health of their targets (`aws-facts.md` §2).
//!
//! Every function checks before it changes anything: a refused call leaves the region as it was.

mod action;
mod answer;
mod attributes;
mod condition;
mod dispatch;
mod group;
mod listener;
mod load_balancer;
mod route;
mod rule;
mod shapes;
mod target;
mod targets;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use condition::regex_bytes;
pub use shapes::{
    Action, Attribute, AvailabilityZone, CreateListener, CreateLoadBalancer, CreateRule, CreateTargetGroup,
    ForwardConfig, HealthCheckInput, Listener, LoadBalancer, LoadBalancerState, Matcher, ModifyListener,
    ModifyRule, ModifyTargetGroup, Rule, RuleCondition, RulePriorityPair, StickinessConfig, Tag,
    TargetDescription, TargetGroup, TargetGroupTuple, TargetHealth, TargetHealthDescription,
};

pub(super) use target::{Health, Prober};

use group::StoredGroup;
use listener::StoredListener;
use load_balancer::StoredLoadBalancer;
use rule::StoredRule;

use super::ApiError;
use super::ids::Ids;
use super::tuning::Tuning;
use super::watched::Watched;

/// All load balancing of one region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Elb {
    account: String,
    region: String,
    load_balancers: BTreeMap<String, StoredLoadBalancer>,
    listeners: BTreeMap<String, StoredListener>,
    rules: BTreeMap<String, StoredRule>,
    groups: Watched<String, StoredGroup>,
    /// Groups with targets for a real runtime to probe. Derived from `groups`.
    probed: BTreeSet<String>,
    tags: BTreeMap<String, BTreeMap<String, String>>,
    /// Target group to the one load balancer whose rules name it. Derived from `rules`.
    users: BTreeMap<String, String>,
    /// Grows with every change that could alter where a request goes.
    version: u64,
}

impl Elb {
    pub(super) fn new(account: &str, region: &str) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            load_balancers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            rules: BTreeMap::new(),
            groups: Watched::default(),
            probed: BTreeSet::new(),
            tags: BTreeMap::new(),
            users: BTreeMap::new(),
            version: 0,
        }
    }

    /// Grows with every change that could alter where a request goes.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    fn arn(&self, resource: &str) -> String {
        format!("arn:aws:elasticloadbalancing:{}:{}:{resource}", self.region, self.account)
    }

    /// Says that routing changed and works out anew which groups are in use: a group whose health
    /// checks were off because nothing used it starts them, and the other way round.
    fn rewire(&mut self, now: Timestamp, tuning: &Tuning) {
        self.version += 1;
        let mut users = BTreeMap::new();
        for rule in self.rules.values() {
            let Some(listener) = self.listeners.get(&rule.listener) else { continue };
            for group in action::groups_of(&rule.actions) {
                users.insert(group, listener.load_balancer.clone());
            }
        }
        let before = std::mem::replace(&mut self.users, users);
        let turned = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| -> Vec<String> {
            one.keys().filter(|arn| !other.contains_key(*arn)).cloned().collect()
        };
        for (in_use, arns) in [(false, turned(&before, &self.users)), (true, turned(&self.users, &before))] {
            for arn in arns {
                if let Some(group) = self.groups.get_mut(&arn) {
                    group.set_in_use(in_use, now, tuning);
                }
            }
        }
    }

    /// The load balancer that uses a target group.
    pub(super) fn user_of(&self, group: &str) -> Option<&str> {
        self.users.get(group).map(String::as_str)
    }

    pub(super) fn group_exists(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// `ip`, `instance` …
    pub(super) fn target_type(&self, group: &str) -> Option<&str> {
        self.groups.get(group).map(|group| group.shape.target_type.as_str())
    }

    fn set_tags(&mut self, arn: &str, tags: &[Tag]) {
        if tags.is_empty() {
            return;
        }
        let held = self.tags.entry(arn.to_owned()).or_default();
        held.extend(tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())));
    }

    fn exists(&self, arn: &str) -> bool {
        self.load_balancers.contains_key(arn)
            || self.listeners.contains_key(arn)
            || self.rules.contains_key(arn)
            || self.groups.contains_key(arn)
    }

    fn missing(arn: &str) -> ApiError {
        if arn.contains(":targetgroup/") {
            group_not_found(arn)
        } else if arn.contains(":listener-rule/") {
            rule_not_found(arn)
        } else if arn.contains(":listener/") {
            listener_not_found(arn)
        } else {
            load_balancer_not_found(arn)
        }
    }

    /// `AddTags`.
    pub(super) fn add_tags(&mut self, arns: &[String], tags: &[Tag]) -> Result<(), ApiError> {
        if let Some(arn) = arns.iter().find(|arn| !self.exists(arn)) {
            return Err(Self::missing(arn));
        }
        for arn in arns {
            self.set_tags(arn, tags);
        }
        Ok(())
    }

    /// `RemoveTags`.
    pub(super) fn remove_tags(&mut self, arns: &[String], keys: &[String]) -> Result<(), ApiError> {
        if let Some(arn) = arns.iter().find(|arn| !self.exists(arn)) {
            return Err(Self::missing(arn));
        }
        let keys: BTreeSet<&String> = keys.iter().collect();
        for arn in arns {
            if let Some(held) = self.tags.get_mut(arn) {
                held.retain(|key, _| !keys.contains(key));
            }
        }
        Ok(())
    }

    /// `DescribeTags`.
    pub(super) fn describe_tags(&self, arns: &[String]) -> Result<Vec<(String, Vec<Tag>)>, ApiError> {
        arns.iter()
            .map(|arn| {
                if !self.exists(arn) {
                    return Err(Self::missing(arn));
                }
                let tags = self.tags.get(arn).into_iter().flatten();
                let tags = tags.map(|(key, value)| Tag { key: key.clone(), value: value.clone() });
                Ok((arn.clone(), tags.collect()))
            })
            .collect()
    }
}

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationError", message)
}

fn group_not_found(arn: &str) -> ApiError {
    ApiError::client("TargetGroupNotFound", format!("Target groups '{arn}' not found"))
}

fn rule_not_found(arn: &str) -> ApiError {
    ApiError::client("RuleNotFound", format!("Rules '{arn}' not found"))
}

fn listener_not_found(arn: &str) -> ApiError {
    ApiError::client("ListenerNotFound", format!("Listeners '{arn}' not found"))
}

fn load_balancer_not_found(arn: &str) -> ApiError {
    ApiError::client("LoadBalancerNotFound", format!("Load balancers '{arn}' not found"))
}

/// AWS's limits on names of load balancers and target groups.
fn check_name(what: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > 32 {
        return Err(validation(format!("{what} name '{name}' must be between 1 and 32 characters long")));
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err(validation(format!(
            "{what} name '{name}' can only contain characters that are alphanumeric characters or hyphens(-), \
             and can't begin or end with a hyphen"
        )));
    }
    Ok(())
}

/// What the functions of this module need besides their own state.
pub(super) struct Surroundings<'a> {
    pub(super) now: Timestamp,
    pub(super) ids: &'a mut Ids,
    pub(super) tuning: &'a Tuning,
}
