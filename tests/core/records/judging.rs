//! One record at a time.

use pointsman_core::model::plan::Plan;
use pointsman_core::records::check::{RefusalCode, read_command, read_desired, read_service, spec_hash};
use serde_json::{Value, json};

use super::support::{command, key, refused_release, refused_service, release, service, with, without};

const ELB: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";

#[test]
fn good_records_are_read_and_make_a_plan() {
    let (spec, hash) = read_service(&key(), &service()).unwrap();
    assert_eq!(hash, spec_hash(&service()["spec"]));
    let (desired, _) = read_desired(&key(), &release()).unwrap();
    read_command(&command()).unwrap();
    let (plan, revision) = Plan::resolve(&spec, &desired).unwrap();
    assert_eq!(revision.to_string(), "checkout:43");
    assert!(plan.spec.strategies.is_empty(), "steps are resolved, strategies are not pinned");
}

#[test]
fn a_small_service_gets_the_defaults() {
    let mut item = service();
    for optional in [
        "/metadata/labels",
        "/spec/alarms",
        "/spec/alarmPolicy",
        "/spec/releaseMayChoose",
        "/spec/testHold",
        "/spec/bake",
        "/spec/retention",
        "/spec/deadlines",
        "/spec/waits",
        "/spec/drift",
        "/spec/adopt",
        "/spec/suspend",
        "/spec/routes/test",
        "/spec/routes/stickiness",
        "/spec/strategies",
    ] {
        item = without(item, optional);
    }
    item = with(item, "/spec/taskSet", json!({}));
    item = with(item, "/spec/defaultStrategy", json!("CodeDeployDefault.ECSAllAtOnce"));
    let (spec, _) = read_service(&key(), &item).unwrap();
    assert_eq!(spec.bake.to_string(), "15m");
    assert_eq!(spec.deadlines.start.to_string(), "15m");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_is_wrong_with_a_service_is_named_with_field_and_code() {
    use RefusalCode::{ForeignTaskSet, Inconsistent, KeyMismatch, LoadBalancerUnfit, Malformed, OutOfBounds};
    let rule = |rest: &str| json!(format!("{ELB}:listener-rule/{rest}"));
    let alarms = |count: usize| -> Value {
        (0..count).map(|n| json!({"name": format!("alarm-{n}"), "watches": "service"})).collect()
    };
    let routes = |count: usize| -> Value {
        (0..count)
            .map(|n| json!({"name": format!("r{n}"), "rule": rule(&format!("app/edge/50dc/f2f7/{n}"))}))
            .collect()
    };
    let public = json!({"name": "public", "rule": rule("app/edge/50dc/f2f7/9683")});
    let providers =
        json!([{"capacityProvider": "A", "base": 1, "weight": 1}, {"capacityProvider": "B", "base": 1}]);
    let rows = [
        ("/pk", json!("service#payments/cart"), "pk", KeyMismatch),
        ("/sk", json!("current"), "sk", KeyMismatch),
        ("/metadata/namespace", json!("search"), "metadata.namespace", KeyMismatch),
        ("/metadata/name", json!("Checkout"), "metadata.name", Malformed),
        ("/owner", json!("me"), "owner", Malformed),
        ("/apiVersion", json!("pointsman/v2"), "apiVersion", Malformed),
        ("/spec/containers", json!({}), "spec.containers", Malformed),
        ("/spec/container/port", json!(0), "spec.container.port", Malformed),
        ("/spec/container/port", json!("8080"), "spec.container.port", Malformed),
        ("/spec/container/name", json!("a b"), "spec.container.name", OutOfBounds),
        ("/spec/taskDefinitionFamily", json!("a:1"), "spec.taskDefinitionFamily", OutOfBounds),
        ("/spec/ecs/cluster", json!("prod"), "spec.ecs.cluster", Malformed),
        (
            "/spec/ecs/cluster",
            json!("arn:aws:ecs:eu-central-1:111122223333:service/prod"),
            "spec.ecs.cluster",
            OutOfBounds,
        ),
        (
            "/spec/ecs/cluster",
            json!("arn:aws:ecs:eu-central-1:111122223333:cluster/dev"),
            "spec.ecs.service",
            Inconsistent,
        ),
        (
            "/spec/ecs/service",
            json!("arn:aws:ecs:eu-central-1:111122223333:service/checkout"),
            "spec.ecs.service",
            OutOfBounds,
        ),
        (
            "/spec/targetGroups/a",
            json!("arn:aws:elasticloadbalancing:us-east-1:111122223333:targetgroup/a/1"),
            "spec.targetGroups.a",
            Inconsistent,
        ),
        (
            "/spec/targetGroups/a",
            json!("arn:aws:elasticloadbalancing:eu-central-1:999999999999:targetgroup/a/1"),
            "spec.targetGroups.a",
            Inconsistent,
        ),
        (
            "/spec/targetGroups/b",
            service()["spec"]["targetGroups"]["a"].clone(),
            "spec.targetGroups.b",
            Inconsistent,
        ),
        ("/spec/targetGroups/a", rule("app/edge/50dc/f2f7/9683"), "spec.targetGroups.a", OutOfBounds),
        ("/spec/routes/production", json!([]), "spec.routes.production", OutOfBounds),
        ("/spec/routes/production", routes(9), "spec.routes.production", OutOfBounds),
        (
            "/spec/routes/production/0/rule",
            rule("net/edge/50dc/f2f7/9683"),
            "spec.routes.production[0].rule",
            LoadBalancerUnfit,
        ),
        (
            "/spec/routes/production/1/listenerDefault",
            json!(format!("{ELB}:listener/app/other/50dc/0467")),
            "spec.routes.production[1].listenerDefault",
            LoadBalancerUnfit,
        ),
        (
            "/spec/routes/production/1/listenerDefault",
            rule("app/edge/50dc/f2f7/1"),
            "spec.routes.production[1].listenerDefault",
            OutOfBounds,
        ),
        (
            "/spec/routes/production/1/rule",
            rule("app/edge/50dc/f2f7/1"),
            "spec.routes.production[1]",
            Inconsistent,
        ),
        ("/spec/routes/production/1", json!({"name": "x"}), "spec.routes.production[1]", Inconsistent),
        ("/spec/routes/production/1/name", json!("public"), "spec.routes.production[1].name", Inconsistent),
        ("/spec/routes/production/1/name", json!(""), "spec.routes.production[1].name", OutOfBounds),
        ("/spec/routes/test/rule", public["rule"].clone(), "spec.routes.test", Inconsistent),
        (
            "/spec/routes/stickiness",
            json!({"policy": "accept"}),
            "spec.routes.stickiness.maxDuration",
            Inconsistent,
        ),
        (
            "/spec/routes/stickiness",
            json!({"maxDuration": "1h"}),
            "spec.routes.stickiness.maxDuration",
            Inconsistent,
        ),
        (
            "/spec/routes/stickiness",
            json!({"policy": "accept", "maxDuration": "8d"}),
            "spec.routes.stickiness.maxDuration",
            OutOfBounds,
        ),
        ("/spec/taskSet/launchType", json!("FARGATE"), "spec.taskSet.launchType", Inconsistent),
        ("/spec/taskSet/launchType", json!("EXTERNAL"), "spec.taskSet.launchType", Malformed),
        (
            "/spec/taskSet/capacityProviderStrategy",
            providers,
            "spec.taskSet.capacityProviderStrategy[1].base",
            Inconsistent,
        ),
        (
            "/spec/taskSet/capacityProviderStrategy/0/weight",
            json!(1001),
            "spec.taskSet.capacityProviderStrategy[0].weight",
            OutOfBounds,
        ),
        ("/spec/taskSet/platformVersion", json!("newest"), "spec.taskSet.platformVersion", OutOfBounds),
        ("/spec/taskSet/network/subnets", json!([]), "spec.taskSet.network.subnets", OutOfBounds),
        (
            "/spec/taskSet/network/subnets/1",
            json!("sg-0123abcd"),
            "spec.taskSet.network.subnets[1]",
            OutOfBounds,
        ),
        (
            "/spec/taskSet/network/securityGroups",
            json!(["sg-1", "sg-2", "sg-3", "sg-4", "sg-5", "sg-6"]),
            "spec.taskSet.network.securityGroups",
            OutOfBounds,
        ),
        ("/spec/taskSet/tags/AWS:x", json!("1"), "spec.taskSet.tags", OutOfBounds),
        ("/spec/alarms", alarms(101), "spec.alarms", OutOfBounds),
        ("/spec/alarms/1/name", json!("checkout-b-5xx"), "spec.alarms[1].name", Inconsistent),
        ("/spec/alarms/1", json!("checkout-p99"), "spec.alarms[1]", Malformed),
        ("/spec/alarmPolicy/unreadable", json!("ok"), "spec.alarmPolicy.unreadable", Malformed),
        ("/spec/alarmPolicy/evidenceDeadline", json!("0s"), "spec.alarmPolicy.evidenceDeadline", OutOfBounds),
        ("/spec/defaultStrategy", json!("slow"), "spec.defaultStrategy", Inconsistent),
        ("/spec/releaseMayChoose/1", json!("slow"), "spec.releaseMayChoose[1]", Inconsistent),
        (
            "/spec/strategies/CodeDeployDefault.Mine",
            json!({"allAtOnce": {}}),
            "spec.strategies.CodeDeployDefault.Mine",
            Inconsistent,
        ),
        ("/spec/testHold", json!("30m"), "spec.testHold", Inconsistent),
        ("/spec/bake", json!(15), "spec.bake", Malformed),
        ("/spec/retention", json!("49h"), "spec.retention", OutOfBounds),
        ("/spec/deadlines/capacity", json!("0s"), "spec.deadlines.capacity", OutOfBounds),
        ("/spec/waits/propagation", json!("0s"), "spec.waits.propagation", OutOfBounds),
        ("/spec/adopt", json!({"taskSet": "ecs-svc/1234567890123456789"}), "spec.adopt", ForeignTaskSet),
        ("/metadata/labels/long", json!("x".repeat(513)), "metadata.labels.long", OutOfBounds),
    ];
    for (pointer, value, field, code) in rows {
        let refusal = refused_service(&with(service(), pointer, value));
        assert_eq!((refusal.field.as_str(), refusal.code), (field, code), "{pointer}: {refusal}");
        assert!(!refusal.allowed.is_empty() && !refusal.fix.is_empty(), "{refusal:?}");
    }
}

#[test]
fn what_is_wrong_with_a_release_is_named_with_field_and_code() {
    use RefusalCode::{KeyMismatch, Malformed, OutOfBounds};
    let many: serde_json::Map<String, Value> = (0..33).map(|n| (format!("k{n}"), json!("v"))).collect();
    let large: serde_json::Map<String, Value> =
        (0..9).map(|n| (format!("k{n}"), json!("v".repeat(500)))).collect();
    let rows = [
        ("/pk", json!("desired#payments/cart"), "pk", KeyMismatch),
        ("/pk", json!("service#payments/checkout"), "pk", KeyMismatch),
        ("/metadata/annotations", json!(many), "metadata.annotations", OutOfBounds),
        ("/metadata/annotations", json!(large), "metadata.annotations", OutOfBounds),
        ("/metadata/annotations/n", json!(1), "metadata.annotations.n", Malformed),
        ("/spec/taskDefinition", json!("checkout"), "spec.taskDefinition", Malformed),
        ("/spec/taskDefinition", json!("checkout:latest"), "spec.taskDefinition", Malformed),
        ("/spec/taskDefinition", json!("checkout:0"), "spec.taskDefinition", Malformed),
        ("/spec/taskDefinition", json!("task-definition/checkout:1"), "spec.taskDefinition", Malformed),
        ("/spec/requestId", json!("x".repeat(65)), "spec.requestId", OutOfBounds),
        ("/spec/requestId", json!(""), "spec.requestId", OutOfBounds),
        ("/spec/requestId", json!(17), "spec.requestId", Malformed),
        ("/spec/cluster", json!("prod"), "spec.cluster", Malformed),
    ];
    for (pointer, value, field, code) in rows {
        let refusal = refused_release(&with(release(), pointer, value));
        assert_eq!((refusal.field.as_str(), refusal.code), (field, code), "{pointer}: {refusal}");
    }
    let missing = refused_release(&without(release(), "/spec/taskDefinition"));
    assert_eq!((missing.field.as_str(), missing.value.as_str()), ("spec.taskDefinition", "missing"));
}

#[test]
fn a_service_whose_pinned_copy_would_fill_the_state_item_is_refused() {
    let alarms = |length: usize| -> Value {
        (0..100).map(|n| json!({"name": format!("{n:0length$}"), "watches": "service"})).collect()
    };
    read_service(&key(), &with(service(), "/spec/alarms", alarms(90))).unwrap();
    let refusal = refused_service(&with(service(), "/spec/alarms", alarms(200)));
    assert_eq!((refusal.field.as_str(), refusal.code), ("spec", RefusalCode::OutOfBounds), "{refusal}");
}

#[test]
fn a_text_where_dynamodb_should_hold_a_number_is_refused_with_the_fix() {
    for (pointer, value, fix) in [
        ("/spec/strategies/fast/canary/weight", json!("10"), "type N, not S"),
        ("/spec/container/port", json!("8080"), "type N, not S"),
        ("/spec/suspend", json!("true"), "type BOOL, not S"),
        ("/spec/taskSet/tags/cost-center", json!(4711), "type S"),
        ("/spec/bake", json!(900), "with its unit"),
    ] {
        let refusal = refused_service(&with(service(), pointer, value));
        assert!(refusal.fix.contains(fix), "{pointer}: {refusal}");
    }
}

#[test]
fn a_slip_of_the_pen_is_answered_with_the_nearest_word() {
    let refusal = refused_service(&with(service(), "/spec/retension", json!("1h")));
    assert_eq!(refusal.fix, "did you mean retention?");
    let refusal = refused_service(&with(service(), "/spec/drift/idle", json!("revrt")));
    assert_eq!(refusal.fix, "did you mean revert?");
    let refusal = refused_service(&with(service(), "/spec/weather", json!("fine")));
    assert_eq!(refusal.fix, "remove it");
    assert!(refusal.allowed.contains("taskDefinitionFamily"), "{refusal}");
}

#[test]
fn commands_name_their_release_and_promotions_their_step() {
    use RefusalCode::{Inconsistent, KeyMismatch, Malformed};
    for good in ["abort", "rollback", "retry", "breakGlass"] {
        let item = with(without(command(), "/spec/step"), "/spec/verb", json!(good));
        read_command(&item).unwrap();
    }
    read_command(&with(command(), "/spec/step", json!("all"))).unwrap();
    read_command(&without(without(command(), "/pk"), "/sk")).unwrap();
    let rows = [
        (with(command(), "/sk", json!("spec")), "sk", KeyMismatch),
        (with(command(), "/pk", json!("command#checkout")), "pk", KeyMismatch),
        (with(command(), "/pk", json!("command#payments/cart")), "spec.release", KeyMismatch),
        (with(command(), "/spec/release", json!("checkout")), "spec.release", Malformed),
        (with(command(), "/spec/release", json!("checkout-0.1")), "spec.release", Malformed),
        (with(command(), "/spec/step", json!(0)), "spec.step", Malformed),
        (with(command(), "/spec/step", json!("2")), "spec.step", Malformed),
        (without(command(), "/spec/step"), "spec.step", Inconsistent),
        (with(command(), "/spec/verb", json!("abort")), "spec.step", Inconsistent),
        (with(command(), "/spec/verb", json!("restart")), "spec.verb", Malformed),
    ];
    for (item, field, code) in rows {
        let refusal = read_command(&item).unwrap_err();
        assert_eq!((refusal.field.as_str(), refusal.code), (field, code), "{refusal}");
    }
}

#[test]
fn the_hash_is_of_the_spec_as_written_whatever_the_order_and_the_spelling_of_numbers() {
    let hash = |text: &str| spec_hash(&serde_json::from_str(text).unwrap());
    assert_eq!(
        hash(r#"{"a": 10, "b": [1, {"d": 0.5, "c": 2}]}"#),
        hash(r#"{"b":[1.0,{"c":2,"d":5e-1}],"a":10.0}"#)
    );
    assert_ne!(hash(r#"{"a": 1}"#), hash(r#"{"a": "1"}"#));
    assert_ne!(hash(r#"{"a": 1}"#), hash(r#"{"a": 1, "suspend": false}"#), "defaults are not filled in");
    assert_eq!(hash("{}"), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
}

#[test]
fn metadata_never_counts_into_the_hash() {
    let (_, plain) = read_desired(&key(), &release()).unwrap();
    let annotated = with(release(), "/metadata/annotations/ticket", json!("PAY-1"));
    assert_eq!(read_desired(&key(), &annotated).unwrap().1, plain);
}

#[test]
fn a_refused_record_has_the_hash_by_which_it_is_waited_for() {
    let bad = with(release(), "/spec/taskDefinition", json!("checkout:latest"));
    let (_, hash) = read_desired(&key(), &bad).unwrap_err();
    assert_eq!(hash, spec_hash(&bad["spec"]));
    let (_, hash) = read_desired(&key(), &without(release(), "/spec")).unwrap_err();
    assert!(hash.starts_with("sha256:"));
}

#[test]
fn whatever_lies_in_the_table_is_answered_and_never_panics() {
    for item in [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"spec": null}),
        json!({"metadata": 1, "spec": [[]]}),
    ] {
        refused_service(&item);
        refused_release(&item);
        read_command(&item).unwrap_err();
    }
}
