//! What is seen when AWS answers half, oddly, without end, or not at all.

use std::collections::BTreeSet;

use aws_sdk_cloudwatch::operation::describe_alarm_history::DescribeAlarmHistoryOutput;
use aws_sdk_cloudwatch::operation::describe_alarms::{DescribeAlarmsError, DescribeAlarmsOutput};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types as cloudwatch;
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_ecs::operation::describe_task_definition::DescribeTaskDefinitionOutput;
use aws_sdk_ecs::operation::list_tasks::ListTasksOutput;
use aws_sdk_ecs::types as ecs;
use aws_sdk_elasticloadbalancingv2::operation::describe_listeners::{
    DescribeListenersError, DescribeListenersOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::describe_rules::{DescribeRulesError, DescribeRulesOutput};
use aws_sdk_elasticloadbalancingv2::operation::describe_target_groups::{
    DescribeTargetGroupsError, DescribeTargetGroupsOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::describe_target_health::{
    DescribeTargetHealthError, DescribeTargetHealthOutput,
};
use aws_sdk_elasticloadbalancingv2::types as elb;
use aws_smithy_mocks::{MockResponse, Rule, mock};
use aws_smithy_types::error::ErrorMetadata;

use super::support::{
    LOAD_BALANCER, Mocks, group, listener, listener_arn, pair, plan, rule, service, task_set_arn,
};
use crate::aws::Settings;
use crate::aws::budget::{Rate, Rates};
use crate::model::observed::{AlarmState, Preflight, ServiceStatus, Weights};
use crate::model::{Need, Observed, Seen};
use crate::ports::Cloud;
use crate::records::{Group, Span};

/// One look at service 1, with a budget that ends no answer early.
async fn look(mocks: &Mocks, needs: &[Need]) -> Observed {
    let plenty = Rate { burst: 1_000, per_second: 1_000, kept_from_looks: 0, kept_from_forward: 0 };
    let rates = Rates { elb: plenty, alarms: plenty, alarm_history: plenty, ..Rates::default() };
    let cloud = mocks.cloud_with(&Settings { rates, ..Settings::default() });
    let needs: BTreeSet<Need> = needs.iter().cloned().collect();
    cloud.observe(&plan(1), &needs).await
}

fn code(code: &str) -> ErrorMetadata {
    ErrorMetadata::builder().code(code).build()
}

fn services() -> Rule {
    mock!(aws_sdk_ecs::Client::describe_services)
        .then_output(|| DescribeServicesOutput::builder().services(service(1)).build())
}

fn rules() -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
        .match_requests(|input| input.listener_arn().is_none())
        .then_compute_output(|input| {
            let rules = input.rule_arns().iter().map(|arn| rule(arn, pair(1, 90, 10)));
            DescribeRulesOutput::builder().set_rules(Some(rules.collect())).build()
        })
}

fn listeners() -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners)
        .match_requests(|input| input.load_balancer_arn().is_none())
        .then_compute_output(|input| {
            let listeners = input.listener_arns().iter().map(|arn| listener(arn, pair(1, 1, 0)));
            DescribeListenersOutput::builder().set_listeners(Some(listeners.collect())).build()
        })
}

fn alarms() -> Rule {
    mock!(aws_sdk_cloudwatch::Client::describe_alarms).then_output(|| DescribeAlarmsOutput::builder().build())
}

/// What every look reads, and `elb` before it.
fn world(elb: Vec<Rule>) -> Mocks {
    let elb = elb.into_iter().chain([rules(), listeners()]).collect();
    Mocks { ecs: vec![services()], elb, cloudwatch: vec![alarms()] }
}

fn why<T: std::fmt::Debug>(seen: &Seen<T>) -> &str {
    match seen {
        Seen::Unknown(why) => why,
        Seen::Known(known) => panic!("nothing is known of it: {known:?}"),
    }
}

// --- the service

#[tokio::test]
async fn a_services_status_is_told_and_one_that_is_new_is_not_guessed() {
    let seen_as = async |status: &'static str| {
        let answer = mock!(aws_sdk_ecs::Client::describe_services).then_output(move || {
            let mut odd = service(1);
            odd.status = Some(status.to_owned());
            DescribeServicesOutput::builder().services(odd).build()
        });
        look(&Mocks { ecs: vec![answer], ..world(vec![]) }, &[]).await.service
    };
    let status = |seen: Seen<crate::model::observed::Service>| seen.known().map(|service| service.status);
    assert_eq!(status(seen_as("DRAINING").await), Some(ServiceStatus::Draining));
    assert_eq!(status(seen_as("INACTIVE").await), Some(ServiceStatus::Inactive));
    assert!(why(&seen_as("RESTING").await).contains("RESTING"));
}

// --- routes

#[tokio::test]
async fn a_rule_that_cannot_be_read_is_unknown_and_a_listener_that_is_gone_is_told_so() {
    let throttled = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
        .then_error(|| DescribeRulesError::generic(code("Throttling")));
    let gone = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners)
        .then_error(|| DescribeListenersError::generic(code("ListenerNotFound")));
    let seen = look(&world(vec![throttled, gone]), &[]).await;
    assert!(why(&seen.routes["public"]).contains("Throttling"));
    assert_eq!(seen.routes["internal"], Seen::Known(Weights::Gone));
}

#[tokio::test]
async fn a_route_that_names_both_a_rule_and_a_listener_is_not_our_pair() {
    let mut both = plan(1);
    both.spec.routes.production[0].listener_default = Some(listener_arn(2).parse().unwrap());
    let seen = world(vec![]).cloud().observe(&both, &BTreeSet::new()).await;
    assert!(matches!(seen.routes["public"], Seen::Known(Weights::NotOurPair(_))));
}

// --- alarms

#[tokio::test]
async fn a_log_alarm_is_judged_and_a_state_that_is_new_is_not_guessed() {
    let answer = mock!(aws_sdk_cloudwatch::Client::describe_alarms).then_output(|| {
        let log = cloudwatch::LogAlarm::builder()
            .alarm_name("shop-1-a")
            .state_value(cloudwatch::StateValue::Alarm)
            .state_transitioned_timestamp(DateTime::from_secs(1_700_000_000));
        let dreaming = cloudwatch::MetricAlarm::builder()
            .alarm_name("shop-1-b")
            .state_value(cloudwatch::StateValue::from("DREAMING"));
        DescribeAlarmsOutput::builder().log_alarms(log.build()).metric_alarms(dreaming.build()).build()
    });
    let seen = look(&Mocks { cloudwatch: vec![answer], ..world(vec![]) }, &[]).await;
    let log = seen.alarms["shop-1-a"].known().unwrap();
    assert_eq!((log.state, log.range), (AlarmState::Alarm, Span::from_mins(5)));
    assert_eq!(log.transitioned_at.map(jiff::Timestamp::as_second), Some(1_700_000_000));
    assert!(why(&seen.alarms["shop-1-b"]).contains("DREAMING"));
}

#[tokio::test]
async fn a_long_message_of_aws_is_cut_between_two_letters() {
    let answer = mock!(aws_sdk_cloudwatch::Client::describe_alarms).then_error(|| {
        let message = format!("x{}", "é".repeat(400));
        DescribeAlarmsError::generic(ErrorMetadata::builder().code("AccessDenied").message(message).build())
    });
    let seen = look(&Mocks { cloudwatch: vec![answer], ..world(vec![]) }, &[]).await;
    let why = why(&seen.alarms["everything"]);
    assert!(why.ends_with("é…"), "{why}");
    assert_eq!(why.matches('é').count(), 199, "1 + 2 × 199 bytes are the longest that fit into 400");
}

fn history_of(state: &'static str, more: Option<&'static str>) -> Rule {
    mock!(aws_sdk_cloudwatch::Client::describe_alarm_history).then_output(move || {
        let item = cloudwatch::AlarmHistoryItem::builder()
            .timestamp(DateTime::from_secs(500))
            .history_data(format!(r#"{{"newState":{{"stateValue":"{state}"}}}}"#));
        DescribeAlarmHistoryOutput::builder()
            .alarm_history_items(item.build())
            .set_next_token(more.map(str::to_owned))
            .build()
    })
}

async fn history(answer: Rule) -> Seen<Vec<(jiff::Timestamp, AlarmState)>> {
    let mut mocks = world(vec![]);
    mocks.cloudwatch.push(answer);
    let need = Need::AlarmHistory("shop-1-b".to_owned(), jiff::Timestamp::UNIX_EPOCH);
    look(&mocks, &[need]).await.extra.alarm_history["shop-1-b"].clone()
}

#[tokio::test]
async fn a_history_without_an_end_or_with_a_state_that_is_new_is_not_judged_by_what_was_read() {
    let silent = history(history_of("INSUFFICIENT_DATA", None)).await;
    let at = jiff::Timestamp::from_second(500).unwrap();
    assert_eq!(silent, Seen::Known(vec![(at, AlarmState::InsufficientData)]));
    assert!(why(&history(history_of("DREAMING", None)).await).contains("the new state"));
    let endless = history_of("OK", Some("more"));
    assert!(why(&history(endless.clone()).await).contains("an end"));
    assert_eq!(endless.num_calls(), 20);
}

// --- the load balancer

/// Both groups behind this load balancer.
fn behind(load_balancer: &'static str) -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_target_groups).then_compute_output(move |input| {
        let groups = input.target_group_arns().iter().map(|arn| {
            elb::TargetGroup::builder().target_group_arn(arn).load_balancer_arns(load_balancer).build()
        });
        DescribeTargetGroupsOutput::builder().set_target_groups(Some(groups.collect())).build()
    })
}

fn listeners_of_it(more: Option<&'static str>) -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners)
        .match_requests(|input| input.load_balancer_arn().is_some())
        .then_output(move || {
            DescribeListenersOutput::builder()
                .listeners(listener(&listener_arn(1), pair(1, 1, 0)))
                .set_next_marker(more.map(str::to_owned))
                .build()
        })
}

#[tokio::test]
async fn lists_without_an_end_are_not_taken_for_whole() {
    let endless = listeners_of_it(Some("more"));
    let seen = look(&world(vec![behind(LOAD_BALANCER), endless.clone()]), &[Need::LoadBalancer]).await;
    assert!(why(seen.extra.load_balancer.as_ref().unwrap()).contains("too many pages"));
    assert_eq!(endless.num_calls(), 20);

    let endless = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
        .match_requests(|input| input.listener_arn().is_some())
        .then_output(|| DescribeRulesOutput::builder().next_marker("more").build());
    let mocks = world(vec![behind(LOAD_BALANCER), listeners_of_it(None), endless.clone()]);
    let seen = look(&mocks, &[Need::LoadBalancer]).await;
    assert!(why(seen.extra.load_balancer.as_ref().unwrap()).contains("too many pages"));
    assert_eq!(endless.num_calls(), 20);
}

#[tokio::test]
async fn a_network_load_balancer_is_told_without_asking_for_rules() {
    const NLB: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/net/edge/1";
    let seen = look(&world(vec![behind(NLB), listeners_of_it(None)]), &[Need::LoadBalancer]).await;
    let told = seen.extra.load_balancer.as_ref().unwrap().known().unwrap();
    assert_eq!(told.of_groups[&Group::A], BTreeSet::from([NLB.to_owned()]));
    assert_eq!(told.actions.len(), 1, "the listener's default action");
}

#[tokio::test]
async fn an_answer_that_lacks_a_target_group_is_not_taken_for_whole() {
    let half = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_target_groups).then_output(|| {
        let found = elb::TargetGroup::builder().target_group_arn(group(1, 'a')).build();
        DescribeTargetGroupsOutput::builder().target_groups(found).build()
    });
    let seen = look(&world(vec![half]), &[Need::LoadBalancer]).await;
    assert!(why(seen.extra.load_balancer.as_ref().unwrap()).contains("lacks a target group"));
}

/// Group b is gone; of group a, `health` tells.
fn without_group_b(health: Rule) -> Mocks {
    let groups = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_target_groups).then_compute_response(
        |input| {
            if input.target_group_arns().contains(&group(1, 'b')) {
                return MockResponse::Error(DescribeTargetGroupsError::generic(code("TargetGroupNotFound")));
            }
            let found = elb::TargetGroup::builder()
                .target_group_arn(group(1, 'a'))
                .load_balancer_arns(LOAD_BALANCER)
                .build();
            MockResponse::Output(DescribeTargetGroupsOutput::builder().target_groups(found).build())
        },
    );
    let none = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
        .match_requests(|input| input.listener_arn().is_some())
        .then_output(|| DescribeRulesOutput::builder().build());
    let mut mocks = world(vec![groups, listeners_of_it(None), none, health]);
    mocks.ecs.push(mock!(aws_sdk_ecs::Client::describe_task_definition).then_output(|| {
        let definition = ecs::TaskDefinition::builder().build();
        DescribeTaskDefinitionOutput::builder().task_definition(definition).build()
    }));
    mocks
}

async fn preflight(mocks: &Mocks) -> Seen<Preflight> {
    let need = Need::Preflight("shop:42".parse().unwrap());
    look(mocks, &[need]).await.extra.preflight.unwrap()
}

fn health(of_b: &'static str) -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_target_health).then_compute_response(
        move |input| {
            if input.target_group_arn() == Some(&group(1, 'b')) {
                return MockResponse::Error(DescribeTargetHealthError::generic(code(of_b)));
            }
            let health = elb::TargetHealth::builder()
                .state(elb::TargetHealthStateEnum::Unhealthy)
                .reason(elb::TargetHealthReasonEnum::Timeout)
                .description("Request timed out")
                .build();
            let target = elb::TargetHealthDescription::builder().target_health(health).build();
            let answer = DescribeTargetHealthOutput::builder().target_health_descriptions(target).build();
            MockResponse::Output(answer)
        },
    )
}

#[tokio::test]
async fn a_target_group_that_is_gone_is_told_by_its_absence_and_the_other_one_all_the_same() {
    let seen = preflight(&without_group_b(health("TargetGroupNotFound"))).await;
    let told = seen.known().unwrap();
    assert_eq!(told.load_balancer.of_groups.keys().collect::<Vec<_>>(), [&Group::A]);
    assert_eq!(told.targets.keys().collect::<Vec<_>>(), [&Group::A]);
    assert_eq!(told.targets[&Group::A].reason.as_deref(), Some("Target.Timeout: Request timed out"));
}

#[tokio::test]
async fn targets_that_cannot_be_read_make_preflight_unknown() {
    assert!(why(&preflight(&without_group_b(health("AccessDenied"))).await).contains("AccessDenied"));
}

#[tokio::test]
async fn why_a_set_does_not_come_up_is_told_as_far_as_it_can_be_read() {
    let mut mocks = world(vec![health("AccessDenied")]);
    mocks.ecs.push(mock!(aws_sdk_ecs::Client::list_tasks).then_output(|| ListTasksOutput::builder().build()));
    let seen = look(&mocks, &[Need::LastStop(task_set_arn(1, 2), Group::B)]).await;
    let told = seen.extra.last_stop[&task_set_arn(1, 2)].known().unwrap();
    assert!(told.starts_with("targets unreadable") && told.contains("AccessDenied"), "{told}");
}
