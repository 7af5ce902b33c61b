//! Elastic Load Balancing v2: rules, listeners, targets, and the two weight writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc as Shared;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::config::Config;
use aws_sdk_elasticloadbalancingv2::types;

use super::batch::{Source, Suspects};
use super::budget::{Family, Limiter, Urgency};
use super::clients;
use super::error::{CallError, Cause};
use super::lease_gate::LeaseGate;
use crate::model::observed::{ForwardAction, LoadBalancer, Targets};
use crate::model::{Mutation, Plan, Seen};
use crate::records::Group;
use crate::records::managed_service::Route;
use crate::records::names::{Arn, PerGroup};

pub mod forward;
pub mod kept;

/// The operation of [`Rules`].
const DESCRIBE_RULES: &str = "DescribeRules";
/// The operation of [`Listeners`].
const DESCRIBE_LISTENERS: &str = "DescribeListeners";
/// ARNs in one call; AWS publishes no cap for the list (`aws-facts.md` §4.2).
const ARNS_PER_CALL: usize = 20;
/// Pages of one answer. A load balancer has a hundred rules unless its quota was raised, a page up to 400.
const MOST_PAGES: usize = 20;
/// Items in a page, ELB's maximum.
const PAGE: i32 = 400;

/// An action list as AWS answered it; none when AWS does not know the rule or listener.
pub type ActionList = Option<Shared<Vec<types::Action>>>;

/// `DescribeRules` by ARN.
#[derive(Debug)]
pub struct Rules(pub Elb);

/// `DescribeListeners` by ARN.
#[derive(Debug)]
pub struct Listeners(pub Elb);

#[async_trait]
impl Source for Rules {
    type Key = String;
    type Item = ActionList;

    fn divide(&self, keys: BTreeSet<String>, suspects: &Suspects<String>) -> Vec<Vec<String>> {
        suspects.divide(keys, ARNS_PER_CALL)
    }

    async fn turn(&self) -> Result<(), CallError> {
        self.0.turn(DESCRIBE_RULES, Urgency::Look).await
    }

    async fn describe(&self, arns: &[String]) -> Result<BTreeMap<String, Seen<ActionList>>, CallError> {
        let rules = self.0.rules_in_turn(Which::Arns(arns.to_vec()), Urgency::Look).await?;
        Ok(rules.into_iter().filter_map(|rule| known(rule.rule_arn, rule.actions)).collect())
    }

    fn absence(&self, error: &CallError) -> Option<ActionList> {
        (error.code() == Some("RuleNotFound")).then_some(None)
    }
}

#[async_trait]
impl Source for Listeners {
    type Key = String;
    type Item = ActionList;

    fn divide(&self, keys: BTreeSet<String>, suspects: &Suspects<String>) -> Vec<Vec<String>> {
        suspects.divide(keys, ARNS_PER_CALL)
    }

    async fn turn(&self) -> Result<(), CallError> {
        self.0.turn(DESCRIBE_LISTENERS, Urgency::Look).await
    }

    async fn describe(&self, arns: &[String]) -> Result<BTreeMap<String, Seen<ActionList>>, CallError> {
        let listeners = self.0.listeners_in_turn(Which::Arns(arns.to_vec()), Urgency::Look).await?;
        Ok(listeners.into_iter().filter_map(|it| known(it.listener_arn, it.default_actions)).collect())
    }

    fn absence(&self, error: &CallError) -> Option<ActionList> {
        (error.code() == Some("ListenerNotFound")).then_some(None)
    }
}

fn known(arn: Option<String>, actions: Option<Vec<types::Action>>) -> Option<(String, Seen<ActionList>)> {
    Some((arn?, Seen::Known(Some(Shared::new(actions.unwrap_or_default())))))
}

/// What to list.
#[derive(Debug)]
enum Which {
    /// These.
    Arns(Vec<String>),
    /// All of this listener, or load balancer.
    Of(String),
}

impl Which {
    fn split(self) -> (Option<Vec<String>>, Option<String>) {
        match self {
            Self::Arns(arns) => (Some(arns), None),
            Self::Of(owner) => (None, Some(owner)),
        }
    }
}

/// The owner of an action list.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// A rule.
    Rule(&'a Arn),
    /// A listener, by its default action.
    Listener(&'a Arn),
}

impl<'a> Owner<'a> {
    /// Of a route; none when the record names neither or both.
    pub fn of(route: &'a Route) -> Option<Self> {
        match (&route.rule, &route.listener_default) {
            (Some(rule), None) => Some(Self::Rule(rule)),
            (None, Some(listener)) => Some(Self::Listener(listener)),
            _ => None,
        }
    }

    /// Its ARN.
    pub fn arn(self) -> &'a str {
        match self {
            Self::Rule(arn) | Self::Listener(arn) => arn.as_str(),
        }
    }

    /// The operation that reads it.
    const fn read(self) -> &'static str {
        match self {
            Self::Rule(_) => DESCRIBE_RULES,
            Self::Listener(_) => DESCRIBE_LISTENERS,
        }
    }

    /// The operation that writes it.
    pub const fn mutation(self) -> Mutation {
        match self {
            Self::Rule(_) => Mutation::ModifyRule,
            Self::Listener(_) => Mutation::ModifyListener,
        }
    }
}

/// Sends one mutation through its gate, once.
macro_rules! send_gated {
    ($request:expr, $gate:expr) => {
        $request
            .customize()
            .config_override(Config::builder().retry_config(clients::mutation_retries()))
            .interceptor($gate.clone())
            .send()
            .await
    };
}

/// The ELB calls.
#[derive(Clone, Debug)]
pub struct Elb {
    /// Client.
    pub client: Client,
    /// Budget.
    pub limiter: Limiter,
}

impl Elb {
    /// The action list of one rule or listener, read now.
    pub async fn actions(&self, owner: Owner<'_>, urgency: Urgency) -> Result<Vec<types::Action>, CallError> {
        self.turn(owner.read(), urgency).await?;
        self.actions_in_turn(owner).await
    }

    /// Like [`actions`](Self::actions), for a way back that can do without: it does not wait for the budget.
    pub async fn actions_at_once(&self, owner: Owner<'_>) -> Result<Vec<types::Action>, CallError> {
        self.limiter.turn_now(owner.read(), Family::ElbRead, Urgency::Rollback)?;
        self.actions_in_turn(owner).await
    }

    /// One call: a list of ARNs is its own page.
    async fn actions_in_turn(&self, owner: Owner<'_>) -> Result<Vec<types::Action>, CallError> {
        let arns = Some(vec![owner.arn().to_owned()]);
        let found = match owner {
            Owner::Rule(_) => {
                let answer = self.client.describe_rules().set_rule_arns(arns).send().await;
                let answer = answer.map_err(|error| CallError::of_read(DESCRIBE_RULES, &error))?;
                let mut rules = answer.rules.unwrap_or_default().into_iter();
                rules.find(|it| it.rule_arn() == Some(owner.arn())).and_then(|rule| rule.actions)
            }
            Owner::Listener(_) => {
                let answer = self.client.describe_listeners().set_listener_arns(arns).send().await;
                let answer = answer.map_err(|error| CallError::of_read(DESCRIBE_LISTENERS, &error))?;
                let mut listeners = answer.listeners.unwrap_or_default().into_iter();
                let found = listeners.find(|it| it.listener_arn() == Some(owner.arn()));
                found.and_then(|listener| listener.default_actions)
            }
        };
        found.ok_or_else(|| CallError::incomplete(owner.read(), "the action list"))
    }

    /// `ModifyRule` or `ModifyListener`: answers the list that AWS says it now has.
    pub async fn modify(
        &self,
        owner: Owner<'_>,
        actions: Vec<types::Action>,
        gate: &LeaseGate,
    ) -> Result<Vec<types::Action>, CallError> {
        let (operation, found) = match owner {
            Owner::Rule(arn) => {
                const OPERATION: &str = "ModifyRule";
                let request = self.client.modify_rule().rule_arn(arn.as_str()).set_actions(Some(actions));
                let answer = send_gated!(request, gate)
                    .map_err(|error| CallError::of_mutation(OPERATION, &error, gate))?;
                let mut rules = answer.rules.unwrap_or_default().into_iter();
                let echo = rules.find(|rule| rule.rule_arn() == Some(owner.arn()));
                (OPERATION, echo.and_then(|rule| rule.actions))
            }
            Owner::Listener(arn) => {
                const OPERATION: &str = "ModifyListener";
                let request = self
                    .client
                    .modify_listener()
                    .listener_arn(arn.as_str())
                    .set_default_actions(Some(actions));
                let answer = send_gated!(request, gate)
                    .map_err(|error| CallError::of_mutation(OPERATION, &error, gate))?;
                let mut listeners = answer.listeners.unwrap_or_default().into_iter();
                let echo = listeners.find(|listener| listener.listener_arn() == Some(owner.arn()));
                (OPERATION, echo.and_then(|listener| listener.default_actions))
            }
        };
        found.ok_or_else(|| CallError::incomplete(operation, "the resulting action list"))
    }

    async fn turn(&self, operation: &'static str, urgency: Urgency) -> Result<(), CallError> {
        self.limiter.turn(operation, Family::ElbRead, urgency).await
    }

    async fn rules(&self, which: Which, urgency: Urgency) -> Result<Vec<types::Rule>, CallError> {
        self.turn(DESCRIBE_RULES, urgency).await?;
        self.rules_in_turn(which, urgency).await
    }

    /// Like [`rules`](Self::rules), when the first page already has its turn.
    async fn rules_in_turn(&self, which: Which, urgency: Urgency) -> Result<Vec<types::Rule>, CallError> {
        let (arns, listener) = which.split();
        let mut rules = Vec::new();
        let mut marker = None;
        for page in 0..MOST_PAGES {
            if page > 0 {
                self.turn(DESCRIBE_RULES, urgency).await?;
            }
            let page = self
                .client
                .describe_rules()
                .set_rule_arns(arns.clone())
                .set_listener_arn(listener.clone())
                // A list of ARNs is its own page.
                .set_page_size(listener.is_some().then_some(PAGE))
                .set_marker(marker)
                .send()
                .await
                .map_err(|error| CallError::of_read(DESCRIBE_RULES, &error))?;
            rules.extend(page.rules.unwrap_or_default());
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(rules);
            }
        }
        Err(CallError::incomplete(DESCRIBE_RULES, "an end: too many pages"))
    }

    async fn listeners(&self, which: Which, urgency: Urgency) -> Result<Vec<types::Listener>, CallError> {
        self.turn(DESCRIBE_LISTENERS, urgency).await?;
        self.listeners_in_turn(which, urgency).await
    }

    /// Like [`listeners`](Self::listeners), when the first page already has its turn.
    async fn listeners_in_turn(
        &self,
        which: Which,
        urgency: Urgency,
    ) -> Result<Vec<types::Listener>, CallError> {
        let (arns, load_balancer) = which.split();
        let mut listeners = Vec::new();
        let mut marker = None;
        for page in 0..MOST_PAGES {
            if page > 0 {
                self.turn(DESCRIBE_LISTENERS, urgency).await?;
            }
            let page = self
                .client
                .describe_listeners()
                .set_listener_arns(arns.clone())
                .set_load_balancer_arn(load_balancer.clone())
                .set_page_size(load_balancer.is_some().then_some(PAGE))
                .set_marker(marker)
                .send()
                .await
                .map_err(|error| CallError::of_read(DESCRIBE_LISTENERS, &error))?;
            listeners.extend(page.listeners.unwrap_or_default());
            marker = page.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(listeners);
            }
        }
        Err(CallError::incomplete(DESCRIBE_LISTENERS, "an end: too many pages"))
    }

    /// Everything of the load balancers of both groups that concerns this service.
    pub async fn load_balancer(&self, plan: &Plan) -> Result<LoadBalancer, CallError> {
        let groups = &plan.spec.target_groups;
        let of_groups = self.load_balancers_of(groups).await?;
        let ours: BTreeSet<&str> = plan.routes().filter_map(Owner::of).map(Owner::arn).collect();
        let concerns_us = |action: &ForwardAction| {
            ours.contains(action.owner.as_str())
                || action.groups.iter().any(|(arn, _)| groups.group_of(arn).is_some())
        };
        let all: BTreeSet<&String> = of_groups.values().flatten().collect();
        let mut actions = Vec::new();
        for load_balancer in all {
            actions.extend(self.action_lists(load_balancer).await?.into_iter().filter(concerns_us));
        }
        Ok(LoadBalancer { of_groups, actions })
    }

    /// Every action list of a load balancer: the default ones of its listeners, then those of all rules.
    async fn action_lists(&self, load_balancer: &str) -> Result<Vec<ForwardAction>, CallError> {
        // `loadbalancer/app/…`; network and gateway load balancers have no rules.
        let has_rules = load_balancer.contains(":loadbalancer/app/");
        let mut actions = Vec::new();
        for listener in self.listeners(Which::Of(load_balancer.to_owned()), Urgency::Look).await? {
            let arn = listener.listener_arn().unwrap_or_default();
            actions.push(forward::told_of(arn, load_balancer, listener.default_actions()));
            if has_rules {
                let rules = self.rules(Which::Of(arn.to_owned()), Urgency::Look).await?;
                // The default rule is the listener's default action once more.
                for rule in rules.iter().filter(|rule| !rule.is_default().unwrap_or(false)) {
                    let owner = rule.rule_arn().unwrap_or_default();
                    actions.push(forward::told_of(owner, load_balancer, rule.actions()));
                }
            }
        }
        Ok(actions)
    }

    /// The load balancers of each group; a group that AWS does not know has no entry.
    async fn load_balancers_of(
        &self,
        groups: &PerGroup<Arn>,
    ) -> Result<BTreeMap<Group, BTreeSet<String>>, CallError> {
        let both = vec![groups.a.to_string(), groups.b.to_string()];
        let found = match self.target_groups(both).await {
            Err(error) if error.code() == Some("TargetGroupNotFound") => {
                // One missing group fails the call for both.
                let mut found = Vec::new();
                for group in [Group::A, Group::B] {
                    match self.target_groups(vec![groups.of(group).to_string()]).await {
                        Err(error) if error.code() == Some("TargetGroupNotFound") => {}
                        other => found.extend(other?),
                    }
                }
                found
            }
            other => other?,
        };
        let entry = |it: types::TargetGroup| {
            let group = groups.group_of(it.target_group_arn()?)?;
            Some((group, it.load_balancer_arns().iter().cloned().collect()))
        };
        Ok(found.into_iter().filter_map(entry).collect())
    }

    /// At most two, so that one page holds them.
    async fn target_groups(&self, arns: Vec<String>) -> Result<Vec<types::TargetGroup>, CallError> {
        const OPERATION: &str = "DescribeTargetGroups";
        self.turn(OPERATION, Urgency::Look).await?;
        let wanted = arns.len();
        let answer = self.client.describe_target_groups().set_target_group_arns(Some(arns)).send().await;
        let found = answer.map_err(|error| CallError::of_read(OPERATION, &error))?.target_groups;
        match found {
            Some(found) if found.len() == wanted => Ok(found),
            _ => Err(CallError::incomplete(OPERATION, "a target group")),
        }
    }

    /// The targets of one group, counted by state. One call of the scarce bucket (`aws-facts.md` §4.2).
    pub async fn targets(&self, group: &Arn) -> Result<Targets, CallError> {
        const OPERATION: &str = "DescribeTargetHealth";
        self.turn(OPERATION, Urgency::Look).await?;
        let answer = self.client.describe_target_health().target_group_arn(group.as_str()).send().await;
        let answer = answer.map_err(|error| CallError::of_read(OPERATION, &error))?;
        let mut targets = Targets::default();
        for target in answer.target_health_descriptions() {
            let health = target.target_health();
            count(&mut targets, health.and_then(types::TargetHealth::state));
            if targets.reason.is_none() {
                targets.reason = health.and_then(reason);
            }
        }
        Ok(targets)
    }
}

fn count(targets: &mut Targets, state: Option<&types::TargetHealthStateEnum>) {
    use types::TargetHealthStateEnum as State;
    let counter = match state {
        Some(State::Healthy) => &mut targets.healthy,
        Some(State::Initial) => &mut targets.initial,
        Some(State::Draining | State::UnhealthyDraining) => &mut targets.draining,
        Some(State::Unused) => &mut targets.unused,
        // Unhealthy, unavailable, and whatever is new: not fit for traffic.
        _ => &mut targets.unhealthy,
    };
    *counter += 1;
}

/// The code and AWS's sentence; none for a healthy target, which has neither.
fn reason(health: &types::TargetHealth) -> Option<String> {
    let code = health.reason().map(types::TargetHealthReasonEnum::as_str);
    match (code, health.description()) {
        (Some(code), Some(sentence)) => Some(format!("{code}: {sentence}")),
        (code, sentence) => code.or(sentence).map(str::to_owned),
    }
}

/// Whether AWS says that the target group does not exist.
pub fn is_unknown_group(error: &CallError) -> bool {
    matches!(&error.cause, Cause::Answered { code: Some(code), .. } if code == "TargetGroupNotFound")
}

/// Whether AWS says that the rule or listener does not exist.
pub fn is_unknown_owner(error: &CallError) -> bool {
    matches!(error.code(), Some("RuleNotFound" | "ListenerNotFound"))
}
