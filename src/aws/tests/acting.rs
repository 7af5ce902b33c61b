use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_ecs::operation::create_task_set::{CreateTaskSetInput, CreateTaskSetOutput};
use aws_sdk_ecs::operation::delete_task_set::{DeleteTaskSetError, DeleteTaskSetOutput};
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_ecs::operation::update_service_primary_task_set::UpdateServicePrimaryTaskSetOutput;
use aws_sdk_ecs::operation::update_task_set::UpdateTaskSetOutput;
use aws_sdk_ecs::types;
use aws_sdk_ecs::types::error::TaskSetNotFoundException;
use aws_sdk_elasticloadbalancingv2::operation::describe_listeners::DescribeListenersOutput;
use aws_sdk_elasticloadbalancingv2::operation::describe_rules::{DescribeRulesError, DescribeRulesOutput};
use aws_sdk_elasticloadbalancingv2::operation::modify_listener::ModifyListenerOutput;
use aws_sdk_elasticloadbalancingv2::operation::modify_rule::ModifyRuleOutput;
use aws_smithy_mocks::{Rule, mock};
use aws_smithy_types::error::ErrorMetadata;

use super::support::{
    Mocks, listener, listener_arn, pair, permit, plan, rule, rule_arn, service, task_set, task_set_arn,
};
use crate::model::effect::{RefusalClass, WayBack};
use crate::model::{Acknowledgement, Action, Answer, Effect, Plan, Shares};
use crate::ports::{Cloud, EmergencyPermit};
use crate::records::{Group, Percent};

const EXTERNAL_ID: &str = "pm1/prod/u1/2.1";

fn forward(effect: Effect) -> Action {
    Action { effect, rollback: false }
}

fn create() -> Action {
    forward(Effect::CreateTaskSet {
        group: Group::B,
        revision: "shop:42".parse().unwrap(),
        scale: Percent::from_tenths(105).unwrap(),
        external_id: EXTERNAL_ID.to_owned(),
        token: "tokentokentoken".to_owned(),
    })
}

/// What `CreateTaskSet` is sent for this plan.
async fn created(plan: &Plan) -> (CreateTaskSetInput, Answer) {
    let sent = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&sent);
    let answer = mock!(aws_sdk_ecs::Client::create_task_set).then_compute_output(move |input| {
        *seen.lock().unwrap() = Some(input.clone());
        CreateTaskSetOutput::builder().task_set(task_set(1, 2, EXTERNAL_ID)).build()
    });
    let cloud = Mocks { ecs: vec![answer], ..Mocks::default() }.cloud();
    let answer = cloud.carry_out(plan, &create(), &permit()).await;
    let input = sent.lock().unwrap().take().unwrap();
    (input, answer)
}

#[tokio::test]
async fn a_new_task_set_is_made_of_the_template_and_can_be_found_again() {
    let (input, answer) = created(&plan(1)).await;
    let made = Acknowledgement::Created { task_set: task_set_arn(1, 2) };
    assert_eq!(answer, Answer::Acknowledged(made));
    let scale = input.scale().unwrap();
    assert_eq!((scale.unit(), scale.value()), (Some(&types::ScaleUnit::Percent), 10.5));
    assert_eq!(input.task_definition(), Some("shop:42"));
    assert_eq!((input.external_id(), input.client_token()), (Some(EXTERNAL_ID), Some("tokentokentoken")));
    assert_eq!(input.launch_type(), Some(&types::LaunchType::Fargate));
    assert!(input.capacity_provider_strategy().is_empty());
    assert_eq!(input.platform_version(), Some("1.4.0"));
    let [group] = input.load_balancers() else { panic!("one target group per task set") };
    assert_eq!(group.target_group_arn(), Some(plan(1).spec.target_groups.b.as_str()));
    assert_eq!((group.container_name(), group.container_port()), (Some("web"), Some(8080)));
    assert_eq!(group.load_balancer_name(), None);
    let network = input.network_configuration().unwrap().awsvpc_configuration().unwrap();
    assert_eq!(
        (network.subnets(), network.security_groups()),
        (&["subnet-1".into()][..], &["sg-1".into()][..])
    );
    assert_eq!(network.assign_public_ip(), Some(&types::AssignPublicIp::Disabled));
    assert_eq!(input.service_registries().len(), 1);
    let tags: Vec<_> = input.tags().iter().map(|tag| (tag.key().unwrap(), tag.value().unwrap())).collect();
    let expected = [("cost-center", "4711"), ("managed-by", "pointsman"), ("pointsman:release", EXTERNAL_ID)];
    assert_eq!(tags, expected);
}

#[tokio::test]
async fn a_capacity_provider_strategy_excludes_the_launch_type() {
    let mut plan = plan(1);
    plan.spec.task_set.capacity_provider_strategy = serde_json::from_value(
        serde_json::json!([{"capacityProvider": "FARGATE_SPOT", "base": 1, "weight": 3}]),
    )
    .unwrap();
    let (input, _) = created(&plan).await;
    assert_eq!(input.launch_type(), None);
    let [item] = input.capacity_provider_strategy() else { panic!("one item") };
    assert_eq!((item.capacity_provider(), item.base(), item.weight()), ("FARGATE_SPOT", 1, 3));
}

#[tokio::test]
async fn an_answer_with_somebody_elses_task_set_acknowledges_nothing() {
    let answer = mock!(aws_sdk_ecs::Client::create_task_set)
        .then_output(|| CreateTaskSetOutput::builder().task_set(task_set(1, 2, "pm1/prod/u1/1.1")).build());
    let cloud = Mocks { ecs: vec![answer], ..Mocks::default() }.cloud();
    let answer = cloud.carry_out(&plan(1), &create(), &permit()).await;
    assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
}

#[tokio::test]
async fn scaling_and_promoting_name_the_task_set_by_its_arn() {
    let arn = task_set_arn(1, 2);
    let (scaled, promoted) = (arn.clone(), arn.clone());
    let cloud = Mocks {
        ecs: vec![
            mock!(aws_sdk_ecs::Client::update_task_set)
                .match_requests(move |input| {
                    input.task_set() == Some(&scaled)
                        && input.scale().is_some_and(|it| it.value().to_string() == "100")
                })
                .then_output(|| UpdateTaskSetOutput::builder().build()),
            mock!(aws_sdk_ecs::Client::update_service_primary_task_set)
                .match_requests(move |input| input.primary_task_set() == Some(&promoted))
                .then_output(|| UpdateServicePrimaryTaskSetOutput::builder().build()),
        ],
        ..Mocks::default()
    }
    .cloud();
    let done = Answer::Acknowledged(Acknowledgement::Done);
    let scale = forward(Effect::ScaleTaskSet { task_set: arn.clone(), scale: Percent::FULL });
    assert_eq!(cloud.carry_out(&plan(1), &scale, &permit()).await, done);
    let promote = forward(Effect::SetPrimary { task_set: arn });
    assert_eq!(cloud.carry_out(&plan(1), &promote, &permit()).await, done);
}

fn delete() -> Action {
    forward(Effect::DeleteTaskSet { task_set: task_set_arn(1, 1), external_id: EXTERNAL_ID.to_owned() })
}

fn showing(external_id: &'static str) -> Rule {
    mock!(aws_sdk_ecs::Client::describe_services).then_output(move || {
        let mut shown = service(1);
        shown.task_sets = Some(vec![task_set(1, 1, external_id)]);
        DescribeServicesOutput::builder().services(shown).build()
    })
}

#[tokio::test]
async fn a_task_set_is_deleted_with_force_when_it_carries_our_external_id() {
    let deleted = mock!(aws_sdk_ecs::Client::delete_task_set)
        .match_requests(|input| input.task_set() == Some(&task_set_arn(1, 1)) && input.force() == Some(true))
        .then_output(|| DeleteTaskSetOutput::builder().build());
    let cloud = Mocks { ecs: vec![showing(EXTERNAL_ID), deleted.clone()], ..Mocks::default() }.cloud();
    let answer = cloud.carry_out(&plan(1), &delete(), &permit()).await;
    assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Done));
    assert_eq!(deleted.num_calls(), 1);
}

#[tokio::test]
async fn somebody_elses_task_set_is_never_deleted() {
    // No answer to `DeleteTaskSet` is mocked: sending it would fail the test.
    let cloud = Mocks { ecs: vec![showing("pm1/other/u9/3.1")], ..Mocks::default() }.cloud();
    let answer = cloud.carry_out(&plan(1), &delete(), &permit()).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::Permanent, .. }), "{answer:?}");
}

#[tokio::test]
async fn deleting_what_is_gone_is_done() {
    let gone = mock!(aws_sdk_ecs::Client::describe_services)
        .then_output(|| DescribeServicesOutput::builder().services(service(1)).build());
    let refuses = mock!(aws_sdk_ecs::Client::delete_task_set).then_error(|| {
        let meta = ErrorMetadata::builder().code("TaskSetNotFoundException").message("not found").build();
        let error = TaskSetNotFoundException::builder().message("not found").meta(meta).build();
        DeleteTaskSetError::TaskSetNotFoundException(error)
    });
    let cloud = Mocks { ecs: vec![gone, refuses.clone()], ..Mocks::default() }.cloud();
    let mut action = delete();
    if let Effect::DeleteTaskSet { task_set, .. } = &mut action.effect {
        *task_set = task_set_arn(1, 77);
    }
    let answer = cloud.carry_out(&plan(1), &action, &permit()).await;
    assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Done));
    assert_eq!(refuses.num_calls(), 1);
}

fn weigh(route: &str, shares: Shares, expect: Option<Shares>) -> Action {
    Action {
        effect: Effect::SetWeights { route: route.to_owned(), shares, expect },
        rollback: expect.is_none(),
    }
}

/// A rule whose weights stand as given, and which keeps what it is told.
fn living_rule(a: i32, b: i32) -> (Rule, Rule) {
    let read = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
        .match_requests(|input| input.rule_arns() == [rule_arn(1)])
        .then_output(move || DescribeRulesOutput::builder().rules(rule(&rule_arn(1), pair(1, a, b))).build());
    let written = mock!(aws_sdk_elasticloadbalancingv2::Client::modify_rule)
        .match_requests(|input| {
            input.rule_arn() == Some(&rule_arn(1))
                && input.conditions.is_none()
                && input.transforms.is_none()
                && input.reset_transforms.is_none()
        })
        .then_compute_output(|input| {
            let echo = rule(&rule_arn(1), input.actions()[0].clone());
            ModifyRuleOutput::builder().rules(echo).build()
        });
    (read, written)
}

#[tokio::test]
async fn without_a_lease_all_weight_goes_back_to_stable_while_the_permit_stands_and_nobody_moved_it() {
    let (read, written) = living_rule(900, 100);
    let cloud = Mocks { elb: vec![read, written.clone()], ..Mocks::default() }.cloud();
    let stands = Arc::new(AtomicBool::new(true));
    let permit = EmergencyPermit::new(7, Arc::clone(&stands));
    let back = |route: &str, a, b| WayBack::new(route.to_owned(), Group::A, Shares { a, b });
    let answer = cloud.take_back(&plan(1), &back("public", 900, 100), &permit).await;
    assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Echo(Shares { a: 100, b: 0 })));
    let answer = cloud.take_back(&plan(1), &back("public", 500, 500), &permit).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::Conflict, .. }), "{answer:?}");
    let answer = cloud.take_back(&plan(1), &back("nowhere", 900, 100), &permit).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::Permanent, .. }), "{answer:?}");
    stands.store(false, Ordering::SeqCst);
    let answer = cloud.take_back(&plan(1), &back("public", 900, 100), &permit).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::NoLease, .. }), "{answer:?}");
    assert_eq!(written.num_calls(), 1);
}

#[tokio::test]
async fn a_weight_write_reads_the_list_writes_two_integers_and_hands_on_the_echo() {
    let (read, written) = living_rule(100, 0);
    let cloud = Mocks { elb: vec![read.clone(), written.clone()], ..Mocks::default() }.cloud();
    let shares = Shares { a: 900, b: 100 };
    let action = weigh("public", shares, Some(Shares { a: 1, b: 0 }));
    let answer = cloud.carry_out(&plan(1), &action, &permit()).await;
    assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Echo(shares)));
    assert_eq!((read.num_calls(), written.num_calls()), (1, 1));
}

#[tokio::test]
async fn a_listeners_default_action_is_written_through_the_listener_alone() {
    let read = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners).then_output(|| {
        DescribeListenersOutput::builder().listeners(listener(&listener_arn(1), pair(1, 0, 1))).build()
    });
    let written = mock!(aws_sdk_elasticloadbalancingv2::Client::modify_listener)
        .match_requests(|input| {
            input.listener_arn() == Some(&listener_arn(1))
                && input.port.is_none()
                && input.certificates.is_none()
                && input.ssl_policy.is_none()
                && input.mutual_authentication.is_none()
        })
        .then_output(|| {
            // What AWS says it has differs from what was sent: that is for the core to judge.
            ModifyListenerOutput::builder().listeners(listener(&listener_arn(1), pair(1, 55, 45))).build()
        });
    let cloud = Mocks { elb: vec![read, written], ..Mocks::default() }.cloud();
    let action = weigh("internal", Shares { a: 100, b: 0 }, None);
    let answer = cloud.carry_out(&plan(1), &action, &permit()).await;
    assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Echo(Shares { a: 55, b: 45 })));
}

#[tokio::test]
async fn weights_that_moved_meanwhile_are_a_conflict_and_nothing_is_written() {
    let (read, written) = living_rule(50, 50);
    let cloud = Mocks { elb: vec![read, written.clone()], ..Mocks::default() }.cloud();
    let action = weigh("public", Shares { a: 800, b: 200 }, Some(Shares { a: 900, b: 100 }));
    let answer = cloud.carry_out(&plan(1), &action, &permit()).await;
    assert!(matches!(answer, Answer::Refused { class: RefusalClass::Conflict, .. }), "{answer:?}");
    assert_eq!(written.num_calls(), 0);
}

#[tokio::test]
async fn a_failed_read_before_the_write_says_that_nothing_was_written() {
    for (code, class) in [
        ("Throttling", RefusalClass::Throttled),
        ("AccessDenied", RefusalClass::Denied),
        ("RuleNotFound", RefusalClass::Permanent),
        ("InternalFailure", RefusalClass::Conflict),
    ] {
        let read = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
            .then_error(move || DescribeRulesError::generic(ErrorMetadata::builder().code(code).build()));
        let cloud = Mocks { elb: vec![read], ..Mocks::default() }.cloud();
        let action = weigh("public", Shares { a: 100, b: 0 }, None);
        let answer = cloud.carry_out(&plan(1), &action, &permit()).await;
        assert!(matches!(&answer, Answer::Refused { class: got, .. } if *got == class), "{code}: {answer:?}");
    }
}

#[tokio::test]
async fn forward_writes_stop_at_the_reserve_and_rollbacks_go_on() {
    let (read, written) = living_rule(100, 0);
    let cloud = Mocks { elb: vec![read, written.clone()], ..Mocks::default() }.cloud();
    let step = weigh("public", Shares { a: 900, b: 100 }, Some(Shares { a: 100, b: 0 }));
    for _ in 0..5 {
        let answer = cloud.carry_out(&plan(1), &step, &permit()).await;
        assert!(matches!(answer, Answer::Acknowledged(_)), "{answer:?}");
    }
    let answer = cloud.carry_out(&plan(1), &step, &permit()).await;
    let Answer::Refused { class: RefusalClass::Throttled, message } = answer else { panic!("{answer:?}") };
    assert!(message.contains("our own request budget"), "{message}");
    assert_eq!(written.num_calls(), 5);
    let back = weigh("public", Shares { a: 100, b: 0 }, None);
    let answer = cloud.carry_out(&plan(1), &back, &permit()).await;
    assert!(matches!(answer, Answer::Acknowledged(_)), "{answer:?}");
}
