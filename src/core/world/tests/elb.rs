//! Listeners, rules, target groups and targets (`aws-facts.md` §2).

use serde_json::{Value, json};

use super::{Scene, forward, text};
use crate::world::elb::TargetDescription;
use crate::world::{Address, Condition, RouteTarget};

pub(super) fn target(ip: &str) -> TargetDescription {
    TargetDescription { id: ip.to_owned(), port: Some(80), availability_zone: None }
}

pub(super) fn refused(scene: &mut Scene, operation: &str, input: Value) -> String {
    let before = scene.region.clone();
    let problem = scene.try_elb(operation, input).unwrap_err();
    assert_eq!(scene.region, before, "a refused call changes nothing: {problem}");
    problem.code
}

#[test]
fn modify_rule_replaces_the_whole_action_list_and_keeps_what_is_omitted() {
    let mut scene = Scene::new();
    let oidc = json!({ "Type": "authenticate-oidc", "Order": "1",
        "AuthenticateOidcConfig": { "Issuer": "https://id", "UseExistingClientSecret": true, "Scope": "openid" } });
    let mut last = forward(&[(&scene.a, 90), (&scene.b, 10)]);
    last["Order"] = json!("2");
    let changed = scene.elb("ModifyRule", json!({ "RuleArn": scene.rule, "Actions": [oidc, last] }));
    let rule = &changed["Rules"][0];
    assert_eq!(rule["Actions"][0]["AuthenticateOidcConfig"]["Scope"], "openid", "kept verbatim");
    assert_eq!(rule["Actions"][1]["ForwardConfig"]["TargetGroups"][1]["Weight"], 10);
    assert_eq!(rule["Actions"][1]["ForwardConfig"]["TargetGroupStickinessConfig"]["Enabled"], false);
    assert_eq!(rule["Conditions"][0]["Values"], json!(["/*"]), "conditions stay");
    assert_eq!(rule["Priority"], "10");
    let read = scene.elb("DescribeRules", json!({ "RuleArns": [scene.rule] }));
    assert_eq!(&read["Rules"][0], rule, "the answer is the resulting rule");
}

#[test]
fn a_forward_to_one_group_has_both_members() {
    let mut scene = Scene::new();
    let plain = json!({ "Type": "forward", "TargetGroupArn": scene.a });
    let changed = scene.elb("ModifyRule", json!({ "RuleArn": scene.rule, "Actions": [plain] }));
    let action = &changed["Rules"][0]["Actions"][0];
    assert_eq!(action["TargetGroupArn"], scene.a.as_str());
    assert_eq!(action["ForwardConfig"]["TargetGroups"], json!([{ "TargetGroupArn": scene.a, "Weight": 1 }]));
    let several = forward(&[(&scene.a, 1), (&scene.b, 1)]);
    let changed = scene.elb("ModifyRule", json!({ "RuleArn": scene.rule, "Actions": [several] }));
    assert!(changed["Rules"][0]["Actions"][0].get("TargetGroupArn").is_none());
}

#[test]
fn weights_end_at_999_and_groups_at_five() {
    let mut scene = Scene::new();
    let heavy = json!([forward(&[(&scene.a, 1000), (&scene.b, 0)])]);
    let input = json!({ "RuleArn": scene.rule, "Actions": heavy });
    assert_eq!(refused(&mut scene, "ModifyRule", input), "ValidationError");
    let groups: Vec<String> = (0..6).map(|n| scene.group(&format!("g{n}"))).collect();
    let named: Vec<(&str, u32)> = groups.iter().map(|group| (group.as_str(), 1)).collect();
    let input = json!({ "RuleArn": scene.rule, "Actions": [forward(&named)] });
    assert_eq!(refused(&mut scene, "ModifyRule", input), "ValidationError");
    let input = json!({ "RuleArn": scene.rule, "Actions": [forward(&named[..5])] });
    scene.elb("ModifyRule", input);
}

#[test]
fn what_is_unknown_or_taken_is_refused_with_aws_codes() {
    let mut scene = Scene::new();
    let (rule, listener, lb, a) =
        (scene.rule.clone(), scene.listener.clone(), scene.load_balancer.clone(), scene.a.clone());
    let nowhere = forward(&[("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/no/0", 1)]);
    let path = json!([{ "Field": "path-pattern", "Values": ["/x"] }]);
    let to_a = json!([forward(&[(&a, 1)])]);
    for (operation, input, code) in [
        ("ModifyRule", json!({ "RuleArn": rule, "Actions": [nowhere] }), "TargetGroupNotFound"),
        ("ModifyRule", json!({ "RuleArn": "nope", "Actions": to_a }), "RuleNotFound"),
        ("ModifyListener", json!({ "ListenerArn": "nope", "DefaultActions": to_a }), "ListenerNotFound"),
        ("DescribeRules", json!({ "ListenerArn": "nope" }), "ListenerNotFound"),
        (
            "CreateRule",
            json!({ "ListenerArn": listener, "Priority": 10, "Conditions": path, "Actions": to_a }),
            "PriorityInUse",
        ),
        (
            "CreateListener",
            json!({ "LoadBalancerArn": lb, "Protocol": "HTTP", "Port": 8081, "DefaultActions": to_a }),
            "DuplicateListener",
        ),
        ("DeleteTargetGroup", json!({ "TargetGroupArn": a }), "ResourceInUse"),
        ("DescribeTargetHealth", json!({ "TargetGroupArn": "nope" }), "TargetGroupNotFound"),
        (
            "RegisterTargets",
            json!({ "TargetGroupArn": a, "Targets": [{ "Id": "not-an-ip" }] }),
            "ValidationError",
        ),
        (
            "ModifyTargetGroupAttributes",
            json!({ "TargetGroupArn": a,
            "Attributes": [{ "Key": "deregistration_delay.timeout_seconds", "Value": "3601" }] }),
            "ValidationError",
        ),
        ("Nonsense", json!({}), "InvalidAction"),
    ] {
        assert_eq!(refused(&mut scene, operation, input), code, "{operation}");
    }
}

#[test]
fn the_default_rule_changes_through_its_listener_only() {
    let mut scene = Scene::new();
    let rules = scene.elb("DescribeRules", json!({ "ListenerArn": scene.listener }));
    let default = text(&rules["Rules"][1]["RuleArn"]);
    assert_eq!(
        (&rules["Rules"][1]["IsDefault"], &rules["Rules"][1]["Priority"]),
        (&json!(true), &json!("default"))
    );
    let to_a = json!([forward(&[(&scene.a, 1)])]);
    let input = json!({ "RuleArn": default, "Actions": to_a });
    assert_eq!(refused(&mut scene, "ModifyRule", input), "OperationNotPermitted");
    assert_eq!(refused(&mut scene, "DeleteRule", json!({ "RuleArn": default })), "OperationNotPermitted");
    scene.elb("ModifyListener", json!({ "ListenerArn": scene.listener, "DefaultActions": to_a }));
    let rules = scene.elb("DescribeRules", json!({ "RuleArns": [default] }));
    assert_eq!(rules["Rules"][0]["Actions"][0]["TargetGroupArn"], scene.a.as_str());
}

#[test]
fn a_target_group_belongs_to_one_load_balancer() {
    let mut scene = Scene::new();
    let made = scene.elb("CreateLoadBalancer", json!({ "Name": "other", "Subnets": ["subnet-1"] }));
    let input = json!({ "LoadBalancerArn": made["LoadBalancers"][0]["LoadBalancerArn"], "Protocol": "HTTP",
        "Port": 80, "DefaultActions": [forward(&[(&scene.a, 1)])] });
    assert_eq!(refused(&mut scene, "CreateListener", input), "TargetGroupAssociationLimit");
    let described = scene.elb("DescribeTargetGroups", json!({ "TargetGroupArns": [scene.a] }));
    assert_eq!(described["TargetGroups"][0]["LoadBalancerArns"], json!([scene.load_balancer]));
}

#[test]
fn rule_priorities_are_set_together_so_that_two_can_swap() {
    let mut scene = Scene::new();
    let input = json!({ "ListenerArn": scene.listener, "Priority": 20,
        "Conditions": [{ "Field": "host-header", "HostHeaderConfig": { "Values": ["x.example"] } }],
        "Actions": [forward(&[(&scene.a, 1)])] });
    let second = text(&scene.elb("CreateRule", input)["Rules"][0]["RuleArn"]);
    let clash = json!({ "RulePriorities": [{ "RuleArn": second, "Priority": "10" }] });
    assert_eq!(refused(&mut scene, "SetRulePriorities", clash), "PriorityInUse");
    scene.elb(
        "SetRulePriorities",
        json!({ "RulePriorities": [
        { "RuleArn": second, "Priority": "10" }, { "RuleArn": scene.rule, "Priority": "20" }] }),
    );
    let rules = scene.elb("DescribeRules", json!({ "ListenerArn": scene.listener }));
    assert_eq!(rules["Rules"][0]["RuleArn"], second.as_str());
}

#[test]
fn descriptions_come_in_pages() {
    let mut scene = Scene::new();
    let first = scene.elb("DescribeRules", json!({ "ListenerArn": scene.listener, "PageSize": "1" }));
    assert_eq!(first["Rules"].as_array().unwrap().len(), 1);
    let next = json!({ "ListenerArn": scene.listener, "PageSize": "1", "Marker": first["NextMarker"] });
    let second = scene.elb("DescribeRules", next);
    assert_eq!(second["Rules"][0]["IsDefault"], true);
    assert!(second.get("NextMarker").is_none());
}

#[test]
fn a_group_of_weight_zero_is_in_use_and_its_targets_are_checked() {
    let mut scene = Scene::new();
    let group = scene.b.clone();
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1")]).unwrap();
    assert_eq!(scene.states(&group), ["initial"]);
    scene.settle(35);
    assert_eq!(scene.states(&group), ["healthy"], "one passed check is enough after registration");
}

#[test]
fn targets_of_a_group_that_no_rule_names_are_unused() {
    let mut scene = Scene::new();
    let group = scene.group("lonely");
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1")]).unwrap();
    scene.settle(600);
    let described = scene.elb("DescribeTargetHealth", json!({ "TargetGroupArn": group }));
    let health = &described["TargetHealthDescriptions"][0]["TargetHealth"];
    assert_eq!((&health["State"], &health["Reason"]), (&json!("unused"), &json!("Target.NotInUse")));
    let only = json!([forward(&[(&group, 1)])]);
    scene.elb("ModifyListener", json!({ "ListenerArn": scene.listener, "DefaultActions": only }));
    assert_eq!(scene.states(&group), ["initial"]);
    scene.settle(31);
    assert_eq!(scene.states(&group), ["healthy"]);
}

#[test]
fn later_changes_of_health_need_the_thresholds() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1")]).unwrap();
    scene.settle(40);
    let address = Address { ip: "10.9.0.1".to_owned(), port: 80 };
    assert!(scene.region.set_target_unhealthy(scene.now, &group, &address, true));
    scene.settle(59);
    assert_eq!(scene.states(&group), ["healthy"], "one failed check is not enough");
    scene.settle(1);
    assert_eq!(scene.states(&group), ["unhealthy"]);
    assert!(scene.region.set_target_unhealthy(scene.now, &group, &address, false));
    scene.settle(149);
    assert_eq!(scene.states(&group), ["unhealthy"]);
    scene.settle(1);
    assert_eq!(scene.states(&group), ["healthy"], "five passed checks");
}

#[test]
fn a_deregistered_target_drains_for_the_whole_delay() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1")]).unwrap();
    scene.settle(40);
    scene.region.deregister_targets(scene.now, &group, &[target("10.9.0.1")]).unwrap();
    scene.settle(299);
    let described = scene.elb("DescribeTargetHealth", json!({ "TargetGroupArn": group }));
    let health = &described["TargetHealthDescriptions"][0]["TargetHealth"];
    assert_eq!(
        (&health["State"], &health["Reason"]),
        (&json!("draining"), &json!("Target.DeregistrationInProgress"))
    );
    assert!(scene.region.routing().groups[&group].targets.is_empty(), "no new request goes to it");
    scene.settle(1);
    assert!(scene.states(&group).is_empty());
}

#[test]
fn a_group_without_healthy_target_fails_open_and_an_empty_one_has_nowhere_to_go() {
    let mut scene = Scene::new();
    let group = scene.a.clone();
    assert!(scene.region.routing().groups[&group].targets.is_empty());
    scene.region.register_targets(scene.now, &group, &[target("10.9.0.1"), target("10.9.0.2")]).unwrap();
    scene.settle(40);
    let sick = |ip: &str| Address { ip: ip.to_owned(), port: 80 };
    scene.region.set_target_unhealthy(scene.now, &group, &sick("10.9.0.1"), true);
    scene.settle(61);
    let route = scene.region.routing().groups[&group].clone();
    assert_eq!((route.targets, route.healthy, route.unhealthy), (vec![sick("10.9.0.2")], 1, 1));
    scene.region.set_target_unhealthy(scene.now, &group, &sick("10.9.0.2"), true);
    scene.settle(61);
    let route = scene.region.routing().groups[&group].clone();
    assert_eq!((route.targets.len(), route.healthy, route.unhealthy), (2, 0, 2));
}

#[test]
fn routing_shows_weights_conditions_and_fixed_answers_and_its_version_grows_with_changes() {
    let mut scene = Scene::new();
    let before = scene.region.routing();
    let listener = &before.listeners[0];
    assert_eq!(listener.port, 8081);
    assert!(listener.load_balancer.starts_with("app/web/"), "{}", listener.load_balancer);
    assert_eq!(listener.rules[0].conditions, [Condition::Path(vec!["/*".to_owned()])]);
    assert!(matches!(listener.rules[1].target, RouteTarget::Fixed { status: 404, .. }));
    scene.weigh(90, 10);
    let after = scene.region.routing();
    let groups = vec![(scene.a.clone(), 90), (scene.b.clone(), 10)];
    assert_eq!(after.listeners[0].rules[0].target, RouteTarget::Forward { groups, sticky_secs: None });
    assert!(after.version > before.version);
    let same = scene.elb("DescribeRules", json!({ "RuleArns": [scene.rule] }));
    assert!(same["Rules"][0].is_object());
    assert_eq!(scene.region.routing_version(), after.version, "reading changes nothing");
}

#[test]
fn every_kind_of_condition_reaches_the_data_plane() {
    let mut scene = Scene::new();
    let conditions = json!([
        { "Field": "http-header", "HttpHeaderConfig": { "HttpHeaderName": "X-Test", "Values": ["1"] } },
        { "Field": "http-request-method", "HttpRequestMethodConfig": { "Values": ["GET"] } },
        { "Field": "query-string", "QueryStringConfig": { "Values": [{ "Key": "v", "Value": "2" }, { "Value": "x" }] } },
        { "Field": "source-ip", "SourceIpConfig": { "Values": ["10.0.0.0/8"] } },
    ]);
    scene.elb("ModifyRule", json!({ "RuleArn": scene.rule, "Conditions": conditions }));
    let routed = scene.region.routing().listeners[0].rules[0].conditions.clone();
    assert_eq!(
        routed,
        [
            Condition::Header("X-Test".to_owned(), vec!["1".to_owned()]),
            Condition::Method(vec!["GET".to_owned()]),
            Condition::Query(vec![(Some("v".to_owned()), "2".to_owned()), (None, "x".to_owned())]),
            Condition::SourceIp(vec!["10.0.0.0/8".to_owned()]),
        ]
    );
    let read = scene.elb("DescribeRules", json!({ "RuleArns": [scene.rule] }));
    assert_eq!(read["Rules"][0]["Conditions"], conditions, "given back as given");
}

#[test]
fn a_deleted_listener_takes_its_rules_along_and_frees_its_groups() {
    let mut scene = Scene::new();
    scene.elb("DeleteListener", json!({ "ListenerArn": scene.listener }));
    let gone = json!({ "RuleArns": [scene.rule] });
    assert_eq!(refused(&mut scene, "DescribeRules", gone), "RuleNotFound");
    scene.elb("DeleteTargetGroup", json!({ "TargetGroupArn": scene.a }));
}
