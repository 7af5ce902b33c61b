//! Network Load Balancers.

use serde_json::{Value, json};

use super::elb::{refused, target};
use super::{Scene, forward, text};
use crate::world::{ProbeCheck, RouteTarget, Transport};

/// A Network Load Balancer with two TCP target groups that nothing uses yet.
struct Network {
    scene: Scene,
    arn: String,
    blue: String,
    green: String,
}

impl Network {
    fn new() -> Self {
        let mut scene = Scene::with(super::external());
        let input = json!({ "Name": "flows", "Type": "network", "Subnets": ["subnet-1"] });
        let arn = text(&scene.elb("CreateLoadBalancer", input)["LoadBalancers"][0]["LoadBalancerArn"]);
        let mut group = |name: &str| {
            let input = json!({ "Name": name, "Protocol": "TCP", "Port": 80, "TargetType": "ip" });
            text(&scene.elb("CreateTargetGroup", input)["TargetGroups"][0]["TargetGroupArn"])
        };
        let (blue, green) = (group("blue"), group("green"));
        Self { scene, arn, blue, green }
    }

    fn listener(&self, protocol: &str, action: &Value) -> Value {
        json!({ "LoadBalancerArn": self.arn, "Protocol": protocol, "Port": 9000, "DefaultActions": [action] })
    }

    fn refused(&mut self, operation: &str, input: Value) -> String {
        refused(&mut self.scene, operation, input)
    }
}

#[test]
fn a_tcp_listener_forwards_connections_by_weight_and_keeps_what_is_written_last() {
    let mut nlb = Network::new();
    assert!(nlb.arn.contains(":loadbalancer/net/flows/"), "{}", nlb.arn);
    let input = nlb.listener("TCP", &forward(&[(&nlb.blue, 100), (&nlb.green, 0)]));
    let made = nlb.scene.elb("CreateListener", input);
    let listener = text(&made["Listeners"][0]["ListenerArn"]);
    let changed = json!([forward(&[(&nlb.blue, 1), (&nlb.green, 999)])]);
    nlb.scene.elb("ModifyListener", json!({ "ListenerArn": listener, "DefaultActions": changed }));
    let routing = nlb.scene.region.routing();
    let route = routing.listeners.iter().find(|route| route.arn == listener).unwrap();
    assert_eq!((route.transport, route.rules.len()), (Transport::Tcp, 1));
    let groups = vec![(nlb.blue.clone(), 1), (nlb.green.clone(), 999)];
    assert_eq!(route.rules[0].target, RouteTarget::Forward { groups, sticky_secs: None });
}

#[test]
fn what_a_network_load_balancer_does_not_do_is_refused() {
    let mut nlb = Network::new();
    let (http, blue) = (nlb.scene.a.clone(), nlb.blue.clone());
    let to_blue = forward(&[(&blue, 1)]);
    let fixed = json!({ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "404" } });
    let mut sticky = to_blue.clone();
    sticky["ForwardConfig"]["TargetGroupStickinessConfig"] =
        json!({ "Enabled": true, "DurationSeconds": 60 });
    for (protocol, action, code) in [
        ("HTTP", &to_blue, "UnsupportedProtocol"),
        ("UDP", &to_blue, "UnsupportedProtocol"),
        ("TCP", &fixed, "InvalidLoadBalancerAction"),
        ("TCP", &sticky, "InvalidConfigurationRequest"),
    ] {
        let input = nlb.listener(protocol, action);
        assert_eq!(nlb.refused("CreateListener", input), code, "{protocol} {action}");
    }
    nlb.scene.elb("DeleteListener", json!({ "ListenerArn": nlb.scene.listener.clone() }));
    let input = nlb.listener("TCP", &forward(&[(&http, 1)]));
    assert_eq!(nlb.refused("CreateListener", input), "IncompatibleProtocols", "an HTTP group");
    let input = json!({ "LoadBalancerArn": nlb.scene.load_balancer, "Protocol": "HTTP", "Port": 80,
        "DefaultActions": [to_blue] });
    assert_eq!(nlb.refused("CreateListener", input), "IncompatibleProtocols", "a TCP group behind HTTP");
    let input = nlb.listener("TCP", &to_blue);
    let made = nlb.scene.elb("CreateListener", input);
    let input = json!({ "ListenerArn": made["Listeners"][0]["ListenerArn"], "Priority": 1,
        "Conditions": [{ "Field": "path-pattern", "Values": ["/"] }], "Actions": [to_blue] });
    assert_eq!(nlb.refused("CreateRule", input), "InvalidConfigurationRequest", "rules");
}

#[test]
fn a_tcp_group_is_checked_by_connecting_unless_it_asks_for_http() {
    let mut nlb = Network::new();
    let described = nlb.scene.elb("DescribeTargetGroups", json!({ "TargetGroupArns": [nlb.blue] }));
    let shape = &described["TargetGroups"][0];
    assert_eq!(
        (&shape["HealthCheckProtocol"], &shape["HealthCheckTimeoutSeconds"]),
        (&json!("TCP"), &json!(10))
    );
    assert!(shape.get("Matcher").is_none() && shape.get("HealthCheckPath").is_none(), "{shape}");
    let blue = nlb.blue.clone();
    let input = nlb.listener("TCP", &forward(&[(&blue, 1)]));
    nlb.scene.elb("CreateListener", input);
    nlb.scene.region.register_targets(nlb.scene.now, &blue, &[target("127.0.0.1")]).unwrap();
    nlb.scene.settle(10);
    assert_eq!(nlb.scene.region.probe_orders()[0].check, ProbeCheck::Connect);
    let path = json!({ "TargetGroupArn": blue, "HealthCheckPath": "/health" });
    assert_eq!(nlb.refused("ModifyTargetGroup", path.clone()), "InvalidConfigurationRequest");
    let mut by_http = path;
    by_http["HealthCheckProtocol"] = json!("HTTP");
    nlb.scene.elb("ModifyTargetGroup", by_http);
    let expected = ProbeCheck::Http { path: "/health".to_owned(), matcher: vec![(200, 200)] };
    assert_eq!(nlb.scene.region.probe_orders()[0].check, expected);
    let tcp = json!({ "TargetGroupArn": nlb.scene.a, "HealthCheckProtocol": "TCP" });
    assert_eq!(nlb.refused("ModifyTargetGroup", tcp), "ValidationError", "TCP checks of an HTTP group");
}

#[test]
fn a_task_set_may_stand_behind_a_network_load_balancer() {
    let mut nlb = Network::new();
    let blue = nlb.blue.clone();
    let request = Scene::request("web", &blue, 100);
    let problem = nlb.scene.region.create_task_set(nlb.scene.now, request.clone()).unwrap_err();
    assert!(problem.message.ends_with("does not have an associated load balancer."), "{problem}");
    let input = nlb.listener("TCP", &forward(&[(&blue, 0), (&nlb.green, 1)]));
    nlb.scene.elb("CreateListener", input);
    nlb.scene.region.create_task_set(nlb.scene.now, request).unwrap();
}
