//! Listeners. The default actions live in the listener's default rule, as in AWS.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::load_balancer::StoredLoadBalancer;
use super::rule::StoredRule;
use super::{
    CreateListener, Elb, Listener, ModifyListener, Surroundings, listener_not_found, load_balancer_not_found,
    validation,
};
use crate::world::ApiError;

/// Members of a listener that the model keeps without reading them.
const KEPT: [&str; 4] = ["Certificates", "SslPolicy", "AlpnPolicy", "MutualAuthentication"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredListener {
    pub(super) shape_arn: String,
    pub(super) load_balancer: String,
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) default_rule: String,
    other: BTreeMap<String, Value>,
}

fn kept(other: BTreeMap<String, Value>) -> impl Iterator<Item = (String, Value)> {
    other.into_iter().filter(|(key, _)| KEPT.contains(&key.as_str()))
}

impl Elb {
    fn listener_shape(&self, stored: &StoredListener) -> Listener {
        let default = self.rules.get(&stored.default_rule);
        Listener {
            listener_arn: stored.shape_arn.clone(),
            load_balancer_arn: stored.load_balancer.clone(),
            port: stored.port,
            protocol: stored.protocol.clone(),
            default_actions: default.map(|rule| rule.actions.clone()).unwrap_or_default(),
            other: stored.other.clone(),
        }
    }

    fn check_port(&self, load_balancer: &str, port: u16, except: Option<&str>) -> Result<(), ApiError> {
        if port == 0 {
            return Err(validation("Port '0' must be between 1 and 65535"));
        }
        let taken = self.listeners.values().any(|other| {
            other.load_balancer == load_balancer
                && other.port == port
                && Some(other.shape_arn.as_str()) != except
        });
        if taken {
            return Err(ApiError::client(
                "DuplicateListener",
                "A listener already exists on this port for this load balancer",
            ));
        }
        Ok(())
    }

    /// UDP and QUIC listeners are not part of this model.
    fn check_protocol(&self, load_balancer: &str, protocol: &str) -> Result<(), ApiError> {
        let network = self.load_balancers.get(load_balancer).is_some_and(StoredLoadBalancer::is_network);
        let allowed = if network { ["TCP", "TLS"] } else { ["HTTP", "HTTPS"] };
        if allowed.contains(&protocol) {
            return Ok(());
        }
        Err(ApiError::client(
            "UnsupportedProtocol",
            format!("Protocol '{protocol}' must be one of '{}'", allowed.join(", ")),
        ))
    }

    /// `CreateListener`.
    pub(in crate::world) fn create_listener(
        &mut self,
        input: CreateListener,
        around: &mut Surroundings<'_>,
    ) -> Result<Listener, ApiError> {
        let Some(load_balancer) = self.load_balancers.get(&input.load_balancer_arn) else {
            return Err(load_balancer_not_found(&input.load_balancer_arn));
        };
        let dimension = load_balancer.dimension().to_owned();
        let port = input.port.ok_or_else(|| validation("A port must be specified"))?;
        let protocol = input.protocol.ok_or_else(|| validation("A protocol must be specified"))?;
        self.check_protocol(&input.load_balancer_arn, &protocol)?;
        self.check_port(&input.load_balancer_arn, port, None)?;
        let actions = self.checked_actions(&input.load_balancer_arn, &protocol, input.default_actions)?;
        let id = around.ids.hex16();
        let arn = self.arn(&format!("listener/{dimension}/{id}"));
        let default_rule = self.arn(&format!("listener-rule/{dimension}/{id}/{}", around.ids.hex16()));
        self.rules.insert(default_rule.clone(), StoredRule::default_of(&default_rule, &arn, actions));
        let stored = StoredListener {
            shape_arn: arn.clone(),
            load_balancer: input.load_balancer_arn,
            port,
            protocol,
            default_rule,
            other: kept(input.other).collect(),
        };
        let shape = self.listener_shape(&stored);
        self.listeners.insert(arn.clone(), stored);
        self.set_tags(&arn, &input.tags);
        self.rewire(around.now, around.tuning);
        Ok(shape)
    }

    /// `DescribeListeners` of a load balancer or by ARN.
    pub(in crate::world) fn describe_listeners(
        &self,
        load_balancer: Option<&str>,
        arns: &[String],
    ) -> Result<Vec<Listener>, ApiError> {
        if load_balancer.is_none() && arns.is_empty() {
            return Err(validation("You must specify either listener ARNs or a load balancer ARN"));
        }
        if let Some(arn) = load_balancer.filter(|arn| !self.load_balancers.contains_key(*arn)) {
            return Err(load_balancer_not_found(arn));
        }
        if let Some(arn) = arns.iter().find(|arn| !self.listeners.contains_key(*arn)) {
            return Err(listener_not_found(arn));
        }
        let mut found: Vec<Listener> = self
            .listeners
            .values()
            .filter(|listener| load_balancer.is_none_or(|arn| listener.load_balancer == arn))
            .filter(|listener| arns.is_empty() || arns.contains(&listener.shape_arn))
            .map(|listener| self.listener_shape(listener))
            .collect();
        found.sort_by(|a, b| (&a.load_balancer_arn, a.port).cmp(&(&b.load_balancer_arn, b.port)));
        Ok(found)
    }

    /// `ModifyListener`.
    pub(in crate::world) fn modify_listener(
        &mut self,
        input: ModifyListener,
        around: &mut Surroundings<'_>,
    ) -> Result<Listener, ApiError> {
        let Some(stored) = self.listeners.get(&input.listener_arn) else {
            return Err(listener_not_found(&input.listener_arn));
        };
        let mut stored = stored.clone();
        if let Some(protocol) = input.protocol {
            self.check_protocol(&stored.load_balancer, &protocol)?;
            stored.protocol = protocol;
        }
        if let Some(port) = input.port {
            self.check_port(&stored.load_balancer, port, Some(&stored.shape_arn))?;
            stored.port = port;
        }
        // A new protocol must fit the actions that stay.
        let held = || self.rules.get(&stored.default_rule).map(|rule| rule.actions.clone());
        if let Some(actions) = input.default_actions.or_else(held) {
            let actions = self.checked_actions(&stored.load_balancer, &stored.protocol, actions)?;
            if let Some(rule) = self.rules.get_mut(&stored.default_rule) {
                rule.actions = actions;
            }
        }
        stored.other.extend(kept(input.other));
        let shape = self.listener_shape(&stored);
        self.listeners.insert(input.listener_arn, stored);
        self.rewire(around.now, around.tuning);
        Ok(shape)
    }

    /// `DeleteListener`: its rules go with it.
    pub(in crate::world) fn delete_listener(
        &mut self,
        arn: &str,
        around: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        if !self.listeners.contains_key(arn) {
            return Err(listener_not_found(arn));
        }
        self.remove_listener(arn);
        self.rewire(around.now, around.tuning);
        Ok(())
    }

    pub(super) fn remove_listener(&mut self, arn: &str) {
        self.listeners.remove(arn);
        self.tags.remove(arn);
        let (rules, tags) = (&mut self.rules, &mut self.tags);
        rules.retain(|rule_arn, rule| {
            let stays = rule.listener != arn;
            if !stays {
                tags.remove(rule_arn);
            }
            stays
        });
    }
}
