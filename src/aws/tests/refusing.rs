//! What an effect is answered when something on its way fails.

use aws_sdk_ecs::operation::create_task_set::CreateTaskSetOutput;
use aws_sdk_ecs::operation::describe_services::{DescribeServicesError, DescribeServicesOutput};
use aws_sdk_ecs::types;
use aws_sdk_elasticloadbalancingv2::operation::describe_rules::DescribeRulesOutput;
use aws_sdk_elasticloadbalancingv2::operation::modify_rule::{ModifyRuleError, ModifyRuleOutput};
use aws_sdk_elasticloadbalancingv2::types as elb;
use aws_smithy_mocks::{Rule, mock};
use aws_smithy_types::error::ErrorMetadata;

use super::support::{
    Mocks, listener_arn, pair, permit, permit_for, plan, rule, rule_arn, service, task_set, task_set_arn,
};
use crate::aws::error::CallError;
use crate::model::effect::{RefusalClass, WayBack};
use crate::model::{Action, Answer, Effect, Shares};
use crate::ports::{Cloud, EmergencyPermit};
use crate::records::{Group, Percent};

const EXTERNAL_ID: &str = "pm1/prod/u1/1.1";

fn weigh(route: &str) -> Action {
    let effect =
        Effect::SetWeights { route: route.to_owned(), shares: Shares { a: 100, b: 0 }, expect: None };
    Action { effect, rollback: true }
}

fn delete() -> Action {
    let effect = Effect::DeleteTaskSet { task_set: task_set_arn(1, 1), external_id: EXTERNAL_ID.to_owned() };
    Action { effect, rollback: false }
}

/// The production rule with these actions.
fn showing(actions: Vec<elb::Action>) -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules).then_output(move || {
        let mut shown = rule(&rule_arn(1), pair(1, 0, 100));
        shown.actions = Some(actions.clone());
        DescribeRulesOutput::builder().rules(shown).build()
    })
}

fn refusal(answer: &Answer) -> (RefusalClass, &str) {
    match answer {
        Answer::Refused { class, message } => (*class, message),
        other => panic!("it is refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_route_that_the_plan_does_not_name_once_is_never_written() {
    // No answer is mocked: asking AWS anything would fail the test.
    let cloud = Mocks::default().cloud();
    let answer = cloud.carry_out(&plan(1), &weigh("nowhere"), &permit()).await;
    assert_eq!(
        refusal(&answer),
        (RefusalClass::Permanent, "the plan has no route nowhere with a rule or a listener")
    );
    let mut both = plan(1);
    both.spec.routes.production[0].listener_default = Some(listener_arn(1).parse().unwrap());
    let answer = cloud.carry_out(&both, &weigh("public"), &permit()).await;
    assert_eq!(refusal(&answer).0, RefusalClass::Permanent);
}

#[tokio::test(start_paused = true)]
async fn a_way_back_without_a_lease_has_its_budget_too() {
    let read = showing(vec![pair(1, 0, 100)]);
    let written = mock!(aws_sdk_elasticloadbalancingv2::Client::modify_rule)
        .then_output(|| ModifyRuleOutput::builder().rules(rule(&rule_arn(1), pair(1, 100, 0))).build());
    let cloud = Mocks { elb: vec![read, written.clone()], ..Mocks::default() }.cloud();
    let permit = EmergencyPermit::new(7, std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)));
    let back = WayBack::new("public".to_owned(), Group::A, Shares { a: 0, b: 100 });
    for _ in 0..20 {
        let answer = cloud.take_back(&plan(1), &back, &permit).await;
        assert!(matches!(answer, Answer::Acknowledged(_)), "{answer:?}");
    }
    let answer = cloud.take_back(&plan(1), &back, &permit).await;
    let (class, message) = refusal(&answer);
    assert_eq!(class, RefusalClass::Throttled);
    assert!(message.contains("our own request budget"), "{message}");
    assert_eq!(written.num_calls(), 20);
}

#[tokio::test]
async fn a_task_set_is_not_deleted_when_its_service_cannot_be_read() {
    let unread = mock!(aws_sdk_ecs::Client::describe_services).then_error(|| {
        DescribeServicesError::generic(ErrorMetadata::builder().code("ThrottlingException").build())
    });
    let cloud = Mocks { ecs: vec![unread], ..Mocks::default() }.cloud();
    let answer = cloud.carry_out(&plan(1), &delete(), &permit()).await;
    let (class, message) = refusal(&answer);
    assert_eq!(class, RefusalClass::Conflict);
    assert!(message.contains("ThrottlingException"), "{message}");
}

#[tokio::test]
async fn a_lease_that_ends_while_the_service_is_read_stops_the_deletion() {
    let read = mock!(aws_sdk_ecs::Client::describe_services)
        .then_output(|| DescribeServicesOutput::builder().services(service(1)).build());
    let cloud = Mocks { ecs: vec![read.clone()], ..Mocks::default() }.cloud();
    let answer = cloud.carry_out(&plan(1), &delete(), &permit_for(1)).await;
    assert_eq!(refusal(&answer).0, RefusalClass::NoLease);
    assert_eq!(read.num_calls(), 1);
}

#[tokio::test]
async fn an_action_list_that_cannot_be_written_back_whole_is_left_alone() {
    let oidc = elb::Action::builder().r#type(elb::ActionTypeEnum::AuthenticateOidc).order(1).build();
    for (actions, class, words) in [
        (vec![pair(1, 0, 100), pair(1, 0, 100)], RefusalClass::Conflict, "several forward actions"),
        (vec![oidc, pair(1, 0, 100)], RefusalClass::Permanent, "an OIDC action without its settings"),
    ] {
        let cloud = Mocks { elb: vec![showing(actions)], ..Mocks::default() }.cloud();
        let answer = cloud.carry_out(&plan(1), &weigh("public"), &permit()).await;
        let (got, message) = refusal(&answer);
        assert_eq!(got, class, "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn a_weight_write_that_fails_is_answered_by_its_error() {
    for (code, refused) in [("Throttling", true), ("InternalFailure", false)] {
        let fails = mock!(aws_sdk_elasticloadbalancingv2::Client::modify_rule)
            .then_error(move || ModifyRuleError::generic(ErrorMetadata::builder().code(code).build()));
        let cloud =
            Mocks { elb: vec![showing(vec![pair(1, 0, 100)]), fails.clone()], ..Mocks::default() }.cloud();
        let answer = cloud.carry_out(&plan(1), &weigh("public"), &permit()).await;
        let throttled = matches!(answer, Answer::Refused { class: RefusalClass::Throttled, .. });
        let unknown = matches!(answer, Answer::Unknown { .. });
        assert_eq!((throttled, unknown), (refused, !refused), "{code}: {answer:?}");
        assert_eq!(fails.num_calls(), 1, "{code}");
    }
}

#[tokio::test]
async fn an_echo_that_is_not_our_pair_acknowledges_nothing() {
    let written = mock!(aws_sdk_elasticloadbalancingv2::Client::modify_rule).then_output(|| {
        let redirect = elb::Action::builder().r#type(elb::ActionTypeEnum::Redirect).build();
        ModifyRuleOutput::builder().rules(rule(&rule_arn(1), redirect)).build()
    });
    let cloud = Mocks { elb: vec![showing(vec![pair(1, 0, 100)]), written], ..Mocks::default() }.cloud();
    let answer = cloud.carry_out(&plan(1), &weigh("public"), &permit()).await;
    assert!(matches!(&answer, Answer::Unknown { message } if message.contains("redirect")), "{answer:?}");
}

#[tokio::test]
async fn tasks_get_public_addresses_only_where_the_template_says_so() {
    let mut plan = plan(1);
    plan.spec.task_set.network.as_mut().unwrap().assign_public_ip = true;
    let made = mock!(aws_sdk_ecs::Client::create_task_set)
        .match_requests(|input| {
            let network = input.network_configuration().and_then(|it| it.awsvpc_configuration());
            network.and_then(|it| it.assign_public_ip()) == Some(&types::AssignPublicIp::Enabled)
        })
        .then_output(|| CreateTaskSetOutput::builder().task_set(task_set(1, 2, EXTERNAL_ID)).build());
    let cloud = Mocks { ecs: vec![made.clone()], ..Mocks::default() }.cloud();
    let effect = Effect::CreateTaskSet {
        group: Group::B,
        revision: "shop:42".parse().unwrap(),
        scale: Percent::FULL,
        external_id: EXTERNAL_ID.to_owned(),
        token: "token".to_owned(),
    };
    let answer = cloud.carry_out(&plan, &Action { effect, rollback: false }, &permit()).await;
    assert!(matches!(answer, Answer::Acknowledged(_)), "{answer:?}");
    assert_eq!(made.num_calls(), 1);
}

#[test]
fn only_an_answer_of_aws_has_an_error_code() {
    assert_eq!(CallError::budget("ModifyRule").code(), None);
    assert_eq!(CallError::incomplete("ModifyRule", "the resulting action list").code(), None);
}
