//! What the region holds, put together from its own API for people and test scripts.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Core;
use crate::world::Api;

/// Pages read of any list: a view for people ends somewhere.
const PAGES_MAX: usize = 50;

/// Everything there is.
pub(super) fn state(core: &mut Core, now: Timestamp) -> Value {
    let ports: Map<String, Value> = core
        .ports
        .iter()
        .map(|(listener, port)| {
            let port = match port {
                Ok(port) => json!({"localPort": port}),
                Err(reason) => json!({"failed": reason}),
            };
            (listener.clone(), port)
        })
        .collect();
    let mut view = View { core, now };
    let clusters = view.clusters();
    let alarms = view.all(Api::CloudWatch, "DescribeAlarms", json!({}), "MetricAlarms", "NextToken");
    json!({
        "now": now,
        "clusters": clusters,
        "loadBalancers": view.load_balancers(),
        "targetGroups": view.target_groups(),
        "alarms": alarms.iter().map(|alarm| json!({
            "name": alarm["AlarmName"], "state": alarm["StateValue"], "reason": alarm["StateReason"],
        })).collect::<Vec<_>>(),
        "ports": ports,
    })
}

/// All clusters with their services and running tasks.
pub(super) fn clusters(core: &mut Core, now: Timestamp) -> Vec<Value> {
    View { core, now }.clusters()
}

struct View<'a> {
    core: &'a mut Core,
    now: Timestamp,
}

impl View<'_> {
    fn ask(&mut self, api: Api, operation: &str, input: Value) -> Value {
        self.core.call(self.now, api, operation, input).unwrap_or_else(|refusal| {
            tracing::warn!(%refusal, operation, "the region refuses to be looked at");
            Value::Null
        })
    }

    /// All pages of a list.
    fn all(&mut self, api: Api, operation: &str, mut input: Value, list: &str, token: &str) -> Vec<Value> {
        let mut items = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut page = self.ask(api, operation, input.clone());
            if let Some(Value::Array(page)) = page.get_mut(list).map(Value::take) {
                items.extend(page);
            }
            let next = if token == "Marker" { "NextMarker" } else { token };
            match page.get(next) {
                Some(Value::String(next)) if !next.is_empty() => input[token] = next.as_str().into(),
                _ => break,
            }
        }
        items
    }

    fn clusters(&mut self) -> Vec<Value> {
        let clusters = self.all(Api::Ecs, "ListClusters", json!({}), "clusterArns", "nextToken");
        clusters
            .into_iter()
            .map(|cluster| {
                let services = self.all(
                    Api::Ecs,
                    "ListServices",
                    json!({"cluster": cluster}),
                    "serviceArns",
                    "nextToken",
                );
                // DescribeServices takes ten at a time.
                let services: Vec<Value> = services
                    .chunks(10)
                    .flat_map(|ten| {
                        let input = json!({"cluster": cluster, "services": ten});
                        self.all(Api::Ecs, "DescribeServices", input, "services", "nextToken")
                    })
                    .collect();
                let tasks =
                    self.all(Api::Ecs, "ListTasks", json!({"cluster": cluster}), "taskArns", "nextToken");
                // DescribeTasks takes a hundred.
                let tasks: Vec<Value> = tasks
                    .chunks(100)
                    .flat_map(|some| {
                        let input = json!({"cluster": cluster, "tasks": some});
                        self.all(Api::Ecs, "DescribeTasks", input, "tasks", "nextToken")
                    })
                    .collect();
                json!({"clusterArn": cluster, "services": services, "tasks": tasks})
            })
            .collect()
    }

    fn load_balancers(&mut self) -> Vec<Value> {
        let balancers = self.all(Api::Elb, "DescribeLoadBalancers", json!({}), "LoadBalancers", "Marker");
        balancers
            .into_iter()
            .map(|mut balancer| {
                let arn = balancer["LoadBalancerArn"].clone();
                let listeners = self.all(
                    Api::Elb,
                    "DescribeListeners",
                    json!({"LoadBalancerArn": arn}),
                    "Listeners",
                    "Marker",
                );
                let listeners: Vec<Value> = listeners
                    .into_iter()
                    .map(|mut listener| {
                        let of = json!({"ListenerArn": listener["ListenerArn"]});
                        listener["Rules"] = self.all(Api::Elb, "DescribeRules", of, "Rules", "Marker").into();
                        listener
                    })
                    .collect();
                balancer["Listeners"] = listeners.into();
                balancer
            })
            .collect()
    }

    fn target_groups(&mut self) -> Vec<Value> {
        let groups = self.all(Api::Elb, "DescribeTargetGroups", json!({}), "TargetGroups", "Marker");
        groups
            .into_iter()
            .map(|mut group| {
                let of = json!({"TargetGroupArn": group["TargetGroupArn"]});
                let mut health = self.ask(Api::Elb, "DescribeTargetHealth", of);
                group["Targets"] = health["TargetHealthDescriptions"].take();
                group
            })
            .collect()
    }
}
