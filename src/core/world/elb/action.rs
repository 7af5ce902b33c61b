//! Actions of rules: what AWS checks in them, and the form in which it gives them back.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Action, Elb, ForwardConfig, StickinessConfig, TargetGroupTuple, answer, group_not_found, validation,
};
use crate::world::ApiError;

/// Target groups in one forward action (`aws-facts.md` §2).
const GROUPS_PER_ACTION: usize = 5;
/// Largest weight of a target group.
const WEIGHT_MAX: u32 = 999;
/// Target groups that one load balancer may name.
const GROUPS_PER_LOAD_BALANCER: usize = 100;
/// Longest group stickiness: seven days, in seconds.
const STICKINESS_MAX: u32 = 604_800;

/// Every target group that these actions name.
pub(super) fn groups_of(actions: &[Action]) -> BTreeSet<String> {
    let forwards = actions.iter().filter_map(|action| action.forward_config.as_ref());
    forwards.flat_map(|forward| &forward.target_groups).map(|group| group.target_group_arn.clone()).collect()
}

impl Elb {
    /// Checks an action list for a listener of `load_balancer` with this protocol and returns it as AWS echoes it: a
    /// forward always has a `ForwardConfig`, and also the plain member when there is one group.
    pub(super) fn checked_actions(
        &self,
        load_balancer: &str,
        protocol: &str,
        actions: Vec<Action>,
    ) -> Result<Vec<Action>, ApiError> {
        if actions.is_empty() {
            return Err(validation("A listener or rule must have at least one action"));
        }
        let mut actions: Vec<Action> = actions.into_iter().map(normalised).collect::<Result<_, _>>()?;
        if actions.iter().any(|action| action.order.is_some()) {
            actions.sort_by_key(|action| action.order);
        }
        let last = actions.len() - 1;
        for (index, action) in actions.iter().enumerate() {
            let terminal = matches!(action.kind.as_str(), "forward" | "fixed-response" | "redirect");
            if terminal != (index == last) {
                return Err(ApiError::client(
                    "InvalidLoadBalancerAction",
                    "An action list must end with exactly one forward, fixed-response or redirect action",
                ));
            }
        }
        let groups = groups_of(&actions);
        self.check_groups(load_balancer, &groups)?;
        self.check_protocols(protocol, &groups)?;
        if matches!(protocol, "TCP" | "TLS") {
            check_network(&actions)?;
        }
        answer::check_secure(protocol, &actions)?;
        Ok(actions)
    }

    /// Listeners and the target groups that may stand behind them (guides, load-balancer-target-groups).
    fn check_protocols(&self, protocol: &str, groups: &BTreeSet<String>) -> Result<(), ApiError> {
        let allowed: &[&str] = match protocol {
            "TCP" => &["TCP", "TCP_UDP"],
            "TLS" => &["TCP", "TLS"],
            _ => &["HTTP", "HTTPS"],
        };
        let protocol_of = |group: &String| self.groups.get(group).map(|group| group.shape.protocol.as_str());
        if let Some(wrong) = groups.iter().find(|g| protocol_of(g).is_none_or(|p| !allowed.contains(&p))) {
            return Err(ApiError::client(
                "IncompatibleProtocols",
                format!(
                    "The target group '{wrong}' has the protocol '{}', which is not compatible with the listener \
                     protocol '{protocol}'",
                    protocol_of(wrong).unwrap_or_default()
                ),
            ));
        }
        // "All target groups must have the same protocol" (aws-facts §2, network/load-balancer-listeners).
        let kinds: BTreeSet<_> = groups.iter().filter_map(protocol_of).collect();
        if matches!(protocol, "TCP" | "TLS") && kinds.len() > 1 {
            return Err(ApiError::client(
                "InvalidConfigurationRequest",
                "All target groups of a Network Load Balancer's listener must have the same protocol",
            ));
        }
        Ok(())
    }

    fn check_groups(&self, load_balancer: &str, groups: &BTreeSet<String>) -> Result<(), ApiError> {
        for group in groups {
            if !self.groups.contains_key(group) {
                return Err(group_not_found(group));
            }
            if self.users.get(group).is_some_and(|user| user != load_balancer) {
                return Err(ApiError::client(
                    "TargetGroupAssociationLimit",
                    format!(
                        "The following target groups cannot be associated with more than one load balancer: {group}"
                    ),
                ));
            }
        }
        let used = self.users.iter().filter(|(_, user)| *user == load_balancer).map(|(group, _)| group);
        if used.chain(groups).collect::<BTreeSet<_>>().len() > GROUPS_PER_LOAD_BALANCER {
            return Err(ApiError::client(
                "TooManyUniqueTargetGroupsPerLoadBalancer",
                format!("You can't use more than {GROUPS_PER_LOAD_BALANCER} target groups per load balancer"),
            ));
        }
        Ok(())
    }
}

/// A Network Load Balancer forwards and does nothing else. Its group stickiness is by source address, which is
/// the same for every client on one machine, so the model refuses it instead of ignoring the weights.
fn check_network(actions: &[Action]) -> Result<(), ApiError> {
    let [Action { kind, forward_config: Some(forward), .. }] = actions else {
        return Err(ApiError::client(
            "InvalidLoadBalancerAction",
            "A listener of a Network Load Balancer must have exactly one action, of type 'forward'",
        ));
    };
    let sticky = forward.target_group_stickiness_config.as_ref().is_some_and(|s| s.enabled == Some(true));
    if kind == "forward" && sticky {
        return Err(ApiError::client(
            "InvalidConfigurationRequest",
            "target group stickiness of Network Load Balancers is not part of this model",
        ));
    }
    Ok(())
}

fn normalised(mut action: Action) -> Result<Action, ApiError> {
    match action.kind.as_str() {
        "forward" => normalise_forward(&mut action)?,
        "fixed-response" => {
            require(&action, "FixedResponseConfig")?;
            answer::check_fixed(&action)?;
        }
        "redirect" => {
            require(&action, "RedirectConfig")?;
            answer::complete_redirect(&mut action)?;
        }
        "authenticate-oidc" => require(&action, "AuthenticateOidcConfig")?,
        "authenticate-cognito" => require(&action, "AuthenticateCognitoConfig")?,
        "jwt-validation" => require(&action, "JwtValidationConfig")?,
        other => {
            return Err(validation(format!(
                "Action type '{other}' must be one of 'forward', 'redirect', 'fixed-response', 'authenticate-oidc', 'authenticate-cognito', 'jwt-validation'"
            )));
        }
    }
    Ok(action)
}

fn require(action: &Action, member: &str) -> Result<(), ApiError> {
    if action.other.get(member).is_none_or(Value::is_null) {
        return Err(ApiError::client(
            "InvalidLoadBalancerAction",
            format!("An action of type '{}' must have {member}", action.kind),
        ));
    }
    Ok(())
}

fn normalise_forward(action: &mut Action) -> Result<(), ApiError> {
    let plain = action.target_group_arn.take();
    let mut forward = match (action.forward_config.take(), &plain) {
        (Some(forward), None) => forward,
        (Some(forward), Some(arn)) => {
            let same = matches!(forward.target_groups.as_slice(), [only] if only.target_group_arn == *arn);
            if !same {
                return Err(validation(
                    "You can specify both TargetGroupArn and ForwardConfig only if they name the same single target group",
                ));
            }
            forward
        }
        (None, Some(arn)) => {
            let only = TargetGroupTuple { target_group_arn: arn.clone(), weight: None };
            ForwardConfig { target_groups: vec![only], ..ForwardConfig::default() }
        }
        (None, None) => return Err(validation("A forward action must have TargetGroupArn or ForwardConfig")),
    };
    let count = forward.target_groups.len();
    if count == 0 || count > GROUPS_PER_ACTION {
        return Err(validation(format!(
            "A forward action must have between 1 and {GROUPS_PER_ACTION} target groups, but has {count}"
        )));
    }
    let mut seen = BTreeSet::new();
    for group in &mut forward.target_groups {
        if !seen.insert(group.target_group_arn.clone()) {
            return Err(validation(format!(
                "Target group '{}' is named twice in one action",
                group.target_group_arn
            )));
        }
        let weight = *group.weight.get_or_insert(1);
        if weight > WEIGHT_MAX {
            return Err(validation(format!("Weight '{weight}' must be between 0 and {WEIGHT_MAX}")));
        }
    }
    normalise_stickiness(&mut forward)?;
    if let [only] = forward.target_groups.as_slice() {
        action.target_group_arn = Some(only.target_group_arn.clone());
    }
    action.forward_config = Some(forward);
    Ok(())
}

fn normalise_stickiness(forward: &mut ForwardConfig) -> Result<(), ApiError> {
    let stickiness = forward.target_group_stickiness_config.get_or_insert_with(StickinessConfig::default);
    let enabled = *stickiness.enabled.get_or_insert(false);
    match stickiness.duration_seconds {
        None if enabled => {
            Err(validation("Target group stickiness needs DurationSeconds when it is enabled"))
        }
        Some(seconds) if !(1..=STICKINESS_MAX).contains(&seconds) => Err(validation(format!(
            "Target group stickiness duration '{seconds}' must be between 1 and {STICKINESS_MAX} seconds"
        ))),
        _ => Ok(()),
    }
}
