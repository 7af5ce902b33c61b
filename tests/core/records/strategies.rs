//! From a strategy's name to the steps of a release.

use pointsman_core::model::plan::Plan;
use pointsman_core::records::check::{RefusalCode, read_desired, read_service};
use pointsman_core::records::strategy::{Step, steps_of};
use pointsman_core::records::{DesiredReleaseSpec, ManagedServiceSpec, Percent};
use serde_json::{Value, json};

use super::support::{key, refused_service, release, service, with};

fn spec(item: &Value) -> ManagedServiceSpec {
    read_service(&key(), item).unwrap().0
}

fn desired(item: &Value) -> DesiredReleaseSpec {
    read_desired(&key(), item).unwrap().0
}

/// `weight@scale/bake`, or `pause`.
fn written(steps: &[Step]) -> String {
    let one = |step: &Step| match step {
        Step::Shift { weight, scale, bake } => format!("{weight}@{scale}/{bake}"),
        Step::Pause(pause) => format!("pause {}", pause.timeout),
    };
    steps.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_strategy_ends_at_100_percent_with_the_services_bake() {
    let spec = spec(&service());
    for (name, steps) in [
        ("careful", "1@10/2m 10@10/10m pause 24h 50@100/10m 100@100/15m"),
        ("fast", "10@100/5m 100@100/15m"),
        ("even", "33.3@100/1m 66.6@100/1m 99.9@100/1m 100@100/15m"),
        ("now", "100@100/15m"),
        ("CodeDeployDefault.ECSAllAtOnce", "100@100/15m"),
        ("CodeDeployDefault.ECSCanary10Percent5Minutes", "10@100/5m 100@100/15m"),
        ("CodeDeployDefault.ECSCanary10Percent15Minutes", "10@100/15m 100@100/15m"),
    ] {
        assert_eq!(written(&steps_of(name, &spec).unwrap()), steps, "{name}");
    }
    for (name, bake) in [
        ("CodeDeployDefault.ECSLinear10PercentEvery1Minutes", "1m"),
        ("CodeDeployDefault.ECSLinear10PercentEvery3Minutes", "3m"),
    ] {
        let mut expected: Vec<_> = (1..10).map(|nth| format!("{}@100/{bake}", nth * 10)).collect();
        expected.push("100@100/15m".to_owned());
        assert_eq!(written(&steps_of(name, &spec).unwrap()), expected.join(" "), "{name}");
    }
}

#[test]
fn what_codedeploy_and_ecs_can_express_can_be_expressed() {
    for strategy in [
        json!({"canary": {"weight": 0.1, "bake": "0s"}}),
        json!({"canary": {"weight": 99.9, "bake": "24h"}}),
        json!({"linear": {"weight": 3, "bake": "24h"}}),
        json!({"linear": {"weight": 99, "bake": "48h"}}),
    ] {
        let spec = spec(&with(service(), "/spec/strategies/own", strategy));
        let steps = steps_of("own", &spec).unwrap();
        assert!(steps.len() <= 34, "{} steps", steps.len());
    }
}

#[test]
fn a_scale_that_follows_never_goes_down() {
    let strategy = json!({"steps": [
        {"weight": 1, "scale": 40, "bake": "0s"},
        {"weight": 20, "bake": "0s"},
        {"weight": 50.5, "scale": "follow", "bake": "0s"},
    ]});
    let spec = spec(&with(service(), "/spec/strategies/own", strategy));
    assert_eq!(written(&steps_of("own", &spec).unwrap()), "1@40/0s 20@40/0s 50.5@50.5/0s 100@100/15m");
}

#[test]
fn steps_that_cannot_be_carried_out_are_refused_where_they_stand() {
    let step = |weight: Value| json!({"weight": weight, "bake": "1m"});
    let many: Vec<Value> = (1..=31).map(|weight| step(json!(weight))).collect();
    for (strategy, field, code) in [
        (json!({}), "", RefusalCode::Inconsistent),
        (json!({"allAtOnce": {}, "canary": {"weight": 1, "bake": "1m"}}), "", RefusalCode::Inconsistent),
        (json!({"canary": {"weight": 0, "bake": "1m"}}), ".canary.weight", RefusalCode::OutOfBounds),
        (json!({"canary": {"weight": 100, "bake": "1m"}}), ".canary.weight", RefusalCode::OutOfBounds),
        (json!({"canary": {"weight": 1, "bake": "49h"}}), ".canary.bake", RefusalCode::OutOfBounds),
        (json!({"linear": {"weight": 2.9, "bake": "1m"}}), ".linear.weight", RefusalCode::OutOfBounds),
        (json!({"steps": []}), ".steps", RefusalCode::OutOfBounds),
        (json!({"steps": many}), ".steps", RefusalCode::OutOfBounds),
        (json!({"steps": [step(json!(5)), step(json!(4))]}), ".steps[1].weight", RefusalCode::Inconsistent),
        (json!({"steps": [{"weight": 5}]}), ".steps[0].bake", RefusalCode::Inconsistent),
        (json!({"steps": [{"bake": "1m"}]}), ".steps[0].weight", RefusalCode::Inconsistent),
        (
            json!({"steps": [{"weight": 5, "scale": 4, "bake": "1m"}]}),
            ".steps[0].scale",
            RefusalCode::Inconsistent,
        ),
        (json!({"steps": [{"weight": 5, "pause": {}}]}), ".steps[0]", RefusalCode::Inconsistent),
        (
            json!({"steps": [{"pause": {"timeout": "0s"}}]}),
            ".steps[0].pause.timeout",
            RefusalCode::OutOfBounds,
        ),
        (
            json!({"steps": [{"pause": {"timeout": "15d"}}]}),
            ".steps[0].pause.timeout",
            RefusalCode::OutOfBounds,
        ),
    ] {
        let refusal = refused_service(&with(service(), "/spec/strategies/own", strategy.clone()));
        assert_eq!(refusal.field, format!("spec.strategies.own{field}"), "{strategy}: {refusal}");
        assert_eq!(refusal.code, code, "{strategy}: {refusal}");
    }
}

#[test]
fn a_release_may_choose_the_default_and_what_is_listed_and_nothing_else() {
    let spec = spec(&service());
    for allowed in ["careful", "fast", "CodeDeployDefault.ECSCanary10Percent5Minutes"] {
        let desired = desired(&with(release(), "/spec/strategy", json!(allowed)));
        assert_eq!(Plan::resolve(&spec, &desired).unwrap().0.strategy, allowed);
    }
    let omitted = DesiredReleaseSpec { strategy: None, ..desired(&release()) };
    assert_eq!(Plan::resolve(&spec, &omitted).unwrap().0.strategy, "careful");

    let exists = desired(&with(release(), "/spec/strategy", json!("now")));
    let refusal = Plan::resolve(&spec, &exists).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::StrategyNotAllowed);
    assert_eq!(refusal.allowed, "careful, fast, CodeDeployDefault.ECSCanary10Percent5Minutes");
    assert!(refusal.fix.contains("releaseMayChoose"), "{refusal}");
    let unknown = desired(&with(release(), "/spec/strategy", json!("quick")));
    assert!(Plan::resolve(&spec, &unknown).unwrap_err().fix.contains("no strategy of that name"));
}

#[test]
fn a_release_runs_the_services_family_in_its_account_and_region_only() {
    let spec = spec(&service());
    let arn = |home: &str| format!("arn:aws:ecs:{home}:task-definition/checkout:43");
    let own = desired(&with(release(), "/spec/taskDefinition", json!(arn("eu-central-1:111122223333"))));
    assert_eq!(Plan::resolve(&spec, &own).unwrap().1.to_string(), "checkout:43");
    for foreign in ["payments:43".to_owned(), arn("eu-central-1:999999999999"), arn("us-east-1:111122223333")]
    {
        let desired = desired(&with(release(), "/spec/taskDefinition", json!(foreign)));
        let refusal = Plan::resolve(&spec, &desired).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ForeignTaskDefinition, "{refusal}");
        assert!(refusal.value.contains(&foreign), "{refusal}");
    }
}

#[test]
fn a_plan_for_observing_has_the_last_step_alone() {
    let spec = spec(&service());
    let plan = Plan::observing(&spec);
    assert_eq!(plan.steps, [plan.last_step()]);
    assert_eq!(
        plan.last_step(),
        Step::Shift { weight: Percent::FULL, scale: Percent::FULL, bake: spec.bake }
    );
}
