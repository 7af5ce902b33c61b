//! Attributes of target groups and load balancers, and slow start.

use serde_json::{Value, json};

use super::Scene;
use super::elb::{refused, target};
use crate::world::Address;

fn set(group: &str, changes: &[(&str, &str)]) -> Value {
    let changes: Vec<Value> = changes.iter().map(|(k, v)| json!({ "Key": k, "Value": v })).collect();
    json!({ "TargetGroupArn": group, "Attributes": changes })
}

fn value_of(described: &Value, key: &str) -> Option<String> {
    let found = described["Attributes"].as_array()?.iter().find(|one| one["Key"] == key)?;
    found["Value"].as_str().map(str::to_owned)
}

fn address(ip: &str) -> Address {
    Address { ip: ip.to_owned(), port: 80 }
}

/// Addresses that are in slow start mode, or were and have not left it by turning unhealthy.
fn slow(scene: &Scene, group: &str) -> Vec<String> {
    let route = scene.region.routing().groups[group].clone();
    route.slow.into_iter().map(|slow| slow.target.ip).collect()
}

#[test]
fn attributes_are_kept_within_the_ranges_that_the_reference_gives() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    for (key, good, bad) in [
        ("deregistration_delay.timeout_seconds", vec!["0", "3600"], vec!["-1", "3601", "soon", ""]),
        ("slow_start.duration_seconds", vec!["30", "900", "0"], vec!["29", "901"]),
        ("stickiness.lb_cookie.duration_seconds", vec!["1", "604800"], vec!["0", "604801"]),
        ("stickiness.app_cookie.cookie_name", vec!["SESSION"], vec!["AWSALB", "AWSALBTG2"]),
        ("stickiness.enabled", vec!["true", "false"], vec!["yes"]),
        ("stickiness.type", vec!["app_cookie", "lb_cookie"], vec!["source_ip"]),
        ("load_balancing.algorithm.type", vec!["weighted_random", "round_robin"], vec!["random"]),
        ("load_balancing.cross_zone.enabled", vec!["true", "use_load_balancer_configuration"], vec!["on"]),
        (
            "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
            vec!["100", "off"],
            vec!["0", "101"],
        ),
    ] {
        for value in good {
            scene.elb("ModifyTargetGroupAttributes", set(&group, &[(key, value)]));
        }
        for value in bad {
            let input = set(&group, &[(key, value)]);
            assert_eq!(refused(&mut scene, "ModifyTargetGroupAttributes", input), "ValidationError", "{key}");
        }
    }
}

#[test]
fn attributes_that_exclude_each_other_are_refused_together_and_nothing_is_changed() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    for changes in [
        vec![
            ("slow_start.duration_seconds", "60"),
            ("load_balancing.algorithm.type", "least_outstanding_requests"),
        ],
        vec![("load_balancing.algorithm.anomaly_mitigation", "on")],
        vec![("stickiness.enabled", "true"), ("stickiness.type", "app_cookie")],
    ] {
        let input = set(&group, &changes);
        let code = refused(&mut scene, "ModifyTargetGroupAttributes", input);
        assert_eq!(code, "InvalidConfigurationRequest", "{changes:?}");
    }
}

#[test]
fn a_load_balancer_has_the_attributes_of_its_type_and_no_others() {
    let mut scene = Scene::new();
    let made = scene.elb("CreateLoadBalancer", json!({ "Name": "n", "Type": "network", "Subnets": ["s"] }));
    let network = made["LoadBalancers"][0]["LoadBalancerArn"].clone();
    let application = json!(scene.load_balancer);
    let set = |arn: &Value, key: &str, value: &str| json!({ "LoadBalancerArn": arn, "Attributes": [{ "Key": key, "Value": value }] });
    let described =
        scene.elb("DescribeLoadBalancerAttributes", json!({ "LoadBalancerArn": network.clone() }));
    assert_eq!(value_of(&described, "load_balancing.cross_zone.enabled").unwrap(), "false");
    assert_eq!(value_of(&described, "idle_timeout.timeout_seconds"), None);
    for input in [
        set(&network, "idle_timeout.timeout_seconds", "60"),
        set(&application, "dns_record.client_routing_policy", "any_availability_zone"),
        set(&application, "load_balancing.cross_zone.enabled", "false"),
        set(&application, "idle_timeout.timeout_seconds", "4001"),
        set(&application, "client_keep_alive.seconds", "59"),
    ] {
        assert_eq!(refused(&mut scene, "ModifyLoadBalancerAttributes", input), "ValidationError");
    }
    let logs = set(&application, "access_logs.s3.enabled", "true");
    assert_eq!(refused(&mut scene, "ModifyLoadBalancerAttributes", logs), "InvalidConfigurationRequest");
    scene.elb("ModifyLoadBalancerAttributes", set(&network, "load_balancing.cross_zone.enabled", "true"));
}

#[test]
fn targets_registered_together_in_an_empty_group_do_not_start_slowly_and_later_ones_do() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    scene.elb("ModifyTargetGroupAttributes", set(&group, &[("slow_start.duration_seconds", "60")]));
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1"), target("10.9.0.2")]).unwrap();
    scene.settle(40);
    assert_eq!(slow(&scene, &group), [""; 0]);
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.3")]).unwrap();
    scene.settle(40);
    assert_eq!(slow(&scene, &group), ["10.9.0.3"]);
    let start = scene.region.routing().groups[&group].slow[0].clone();
    assert!(start.since <= scene.now && start.secs == 60, "{start:?}");
}

#[test]
fn a_target_that_turns_healthy_again_starts_slowly_again_unless_it_has_no_neighbour_with_a_full_share() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    scene.elb("ModifyTargetGroupAttributes", set(&group, &[("slow_start.duration_seconds", "30")]));
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1"), target("10.9.0.2")]).unwrap();
    scene.settle(40);
    for (ip, expected) in [("10.9.0.1", vec!["10.9.0.1"]), ("10.9.0.2", vec!["10.9.0.1", "10.9.0.2"])] {
        assert!(scene.region.set_target_unhealthy(scene.now, &group, &address(ip), true));
        scene.settle(61);
        assert!(scene.region.set_target_unhealthy(scene.now, &group, &address(ip), false));
        scene.settle(151);
        assert_eq!(slow(&scene, &group), expected);
    }
    for ip in ["10.9.0.1", "10.9.0.2"] {
        scene.region.set_target_unhealthy(scene.now, &group, &address(ip), true);
    }
    scene.settle(61);
    for ip in ["10.9.0.1", "10.9.0.2"] {
        scene.region.set_target_unhealthy(scene.now, &group, &address(ip), false);
    }
    scene.settle(151);
    assert_eq!(slow(&scene, &group), [""; 0], "nobody had a full share when they became healthy");
}

#[test]
fn switching_slow_start_on_leaves_healthy_targets_alone_and_switching_it_off_ends_it() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1")]).unwrap();
    scene.settle(40);
    scene.elb("ModifyTargetGroupAttributes", set(&group, &[("slow_start.duration_seconds", "900")]));
    assert_eq!(slow(&scene, &group), [""; 0]);
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.2")]).unwrap();
    scene.settle(40);
    assert_eq!(slow(&scene, &group), ["10.9.0.2"]);
    for secs in ["0", "900"] {
        scene.elb("ModifyTargetGroupAttributes", set(&group, &[("slow_start.duration_seconds", secs)]));
        assert_eq!(slow(&scene, &group), [""; 0]);
    }
}

#[test]
fn a_group_fails_open_below_its_minimum_of_healthy_targets() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    let key = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count";
    let three = ["10.9.0.1", "10.9.0.2", "10.9.0.3"];
    scene.region.register_targets(scene.now, &group, &three.map(target)).unwrap();
    scene.settle(40);
    scene.region.set_target_unhealthy(scene.now, &group, &address(three[0]), true);
    scene.settle(61);
    let routable = |scene: &Scene| scene.region.routing().groups[&group].targets.len();
    assert_eq!(routable(&scene), 2);
    scene.elb("ModifyTargetGroupAttributes", set(&group, &[(key, "3")]));
    assert_eq!(routable(&scene), 3, "fewer than 3 are healthy");
    scene.elb("ModifyTargetGroupAttributes", set(&group, &[(key, "2")]));
    assert_eq!(routable(&scene), 2);
}
