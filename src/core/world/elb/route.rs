//! The snapshot of listeners and targets from which the data plane routes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::attributes::Attributes;
use super::group::StoredGroup;
use super::load_balancer::{StoredLoadBalancer, text};
use super::rule::StoredRule;
use super::target::Health;
use super::{Action, Elb, ForwardConfig, condition};
use crate::world::{
    Address, GroupRoute, ListenerRoute, RouteTarget, Routing, RuleRoute, SlowStart, Transport,
};

impl Elb {
    /// Every listener with its rules in priority order, and every group with its routable targets.
    pub(in crate::world) fn routing(&self) -> Routing {
        let mut rules_of: BTreeMap<&str, Vec<&StoredRule>> = BTreeMap::new();
        for rule in self.rules.values() {
            rules_of.entry(&rule.listener).or_default().push(rule);
        }
        let listeners = self.listeners.values().map(|listener| {
            let mut rules = rules_of.remove(listener.shape_arn.as_str()).unwrap_or_default();
            rules.sort_by_key(|rule| rule.order());
            let load_balancer = self.load_balancers.get(&listener.load_balancer);
            let seconds = |of: fn(&Attributes) -> u32| load_balancer.map_or(0, |lb| of(&lb.attributes));
            ListenerRoute {
                arn: listener.shape_arn.clone(),
                load_balancer: load_balancer.map(|lb| lb.dimension().to_owned()).unwrap_or_default(),
                port: listener.port,
                transport: if load_balancer.is_some_and(StoredLoadBalancer::is_network) {
                    Transport::Tcp
                } else {
                    Transport::Http
                },
                idle_millis: u64::from(seconds(Attributes::idle_timeout)) * 1000,
                keep_alive_millis: u64::from(seconds(Attributes::client_keep_alive)) * 1000,
                rules: rules.into_iter().map(|rule| rule_route(rule, listener.port)).collect(),
            }
        });
        Routing {
            version: self.version,
            listeners: listeners.collect(),
            groups: self.groups.iter().map(|(arn, group)| (arn.clone(), group_route(group))).collect(),
        }
    }
}

fn rule_route(rule: &StoredRule, port: u16) -> RuleRoute {
    RuleRoute {
        arn: rule.arn.clone(),
        // Conditions were checked when they came in, so each of them has a route.
        conditions: rule.conditions.iter().filter_map(|given| condition::route(given).ok()).collect(),
        target: rule.actions.last().map_or_else(unroutable, |action| target_of(action, port)),
    }
}

fn unroutable() -> RouteTarget {
    RouteTarget::Fixed { status: 503, content_type: "text/plain".to_owned(), body: String::new() }
}

fn target_of(action: &Action, port: u16) -> RouteTarget {
    let member = |config: &str, key: &str| action.other.get(config).and_then(|config| text(config.get(key)?));
    match action.kind.as_str() {
        "forward" => action.forward_config.as_ref().map_or_else(unroutable, forward),
        "fixed-response" => RouteTarget::Fixed {
            status: member("FixedResponseConfig", "StatusCode")
                .and_then(|code| code.parse().ok())
                .unwrap_or(503),
            content_type: member("FixedResponseConfig", "ContentType")
                .unwrap_or_else(|| "text/plain".to_owned()),
            body: member("FixedResponseConfig", "MessageBody").unwrap_or_default(),
        },
        "redirect" => redirect(action.other.get("RedirectConfig").unwrap_or(&Value::Null), port),
        _ => unroutable(),
    }
}

fn forward(config: &ForwardConfig) -> RouteTarget {
    let stickiness = config.target_group_stickiness_config.as_ref();
    RouteTarget::Forward {
        groups: config
            .target_groups
            .iter()
            .map(|group| (group.target_group_arn.clone(), group.weight.unwrap_or(1)))
            .collect(),
        sticky_secs: stickiness.filter(|s| s.enabled == Some(true)).and_then(|s| s.duration_seconds),
    }
}

/// A redirect's members default to the request's own parts, written as place-holders.
fn redirect(config: &Value, port: u16) -> RouteTarget {
    let member =
        |key: &str, default: &str| config.get(key).and_then(text).unwrap_or_else(|| default.to_owned());
    let protocol = member("Protocol", "#{protocol}").replace("#{protocol}", "http").to_ascii_lowercase();
    let host = member("Host", "#{host}");
    let port = member("Port", "#{port}").replace("#{port}", &port.to_string());
    let path = member("Path", "/#{path}");
    let query = member("Query", "#{query}");
    let query = if query.is_empty() { query } else { format!("?{query}") };
    RouteTarget::Redirect {
        status: if member("StatusCode", "HTTP_302") == "HTTP_301" { 301 } else { 302 },
        location: format!("{protocol}://{host}:{port}{path}{query}"),
    }
}

/// Healthy targets; or, when fewer are healthy than the group's attributes demand, every registered one: the
/// load balancer fails open.
fn group_route(group: &StoredGroup) -> GroupRoute {
    let with = |wanted: fn(&Health) -> bool| -> Vec<Address> {
        let targets = group.targets.iter().filter(|(_, target)| wanted(&target.health));
        targets.map(|(address, _)| address.clone()).collect()
    };
    let healthy = with(|health| matches!(health, Health::Healthy));
    let unhealthy = with(|health| matches!(health, Health::Unhealthy { .. }));
    let registered = with(|health| !matches!(health, Health::Draining(_)));
    let count = |targets: &Vec<Address>| u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let secs = group.attributes.slow_start();
    let slow = group.targets.iter().filter_map(|(address, target)| {
        Some(SlowStart { target: address.clone(), since: target.slow_since()?, secs: secs? })
    });
    GroupRoute {
        dimension: group.dimension().to_owned(),
        healthy: count(&healthy),
        unhealthy: count(&unhealthy),
        slow: slow.collect(),
        targets: if group.attributes.fails_open(healthy.len(), registered.len()) {
            registered
        } else {
            healthy
        },
    }
}
