use std::collections::BTreeSet;

use aws_sdk_cloudwatch::operation::describe_alarm_history::DescribeAlarmHistoryOutput;
use aws_sdk_cloudwatch::operation::describe_alarms::{DescribeAlarmsError, DescribeAlarmsOutput};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types as cloudwatch;
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_ecs::operation::describe_task_definition::{
    DescribeTaskDefinitionError, DescribeTaskDefinitionOutput,
};
use aws_sdk_ecs::operation::describe_tasks::DescribeTasksOutput;
use aws_sdk_ecs::operation::list_tasks::ListTasksOutput;
use aws_sdk_ecs::types as ecs;
use aws_sdk_elasticloadbalancingv2::operation::describe_listeners::DescribeListenersOutput;
use aws_sdk_elasticloadbalancingv2::operation::describe_rules::{DescribeRulesError, DescribeRulesOutput};
use aws_sdk_elasticloadbalancingv2::operation::describe_target_groups::DescribeTargetGroupsOutput;
use aws_sdk_elasticloadbalancingv2::operation::describe_target_health::DescribeTargetHealthOutput;
use aws_sdk_elasticloadbalancingv2::types as elb;
use aws_smithy_mocks::{MockResponse, Rule, mock};
use aws_smithy_types::error::ErrorMetadata;
use futures_util::future::join_all;

use super::support::{
    ECS, LOAD_BALANCER, Mocks, forward, group, listener, listener_arn, number, pair, plan, rule, rule_arn,
    service, task_set_arn,
};
use crate::aws::AwsCloud;
use crate::model::observed::{AlarmState, ServiceStatus, TaskSetStatus, Weights};
use crate::model::{Need, Observed, Seen, Shares};
use crate::ports::Cloud;
use crate::records::{Group, Percent, Span};

fn services() -> Rule {
    mock!(aws_sdk_ecs::Client::describe_services).then_compute_output(|input| {
        let services = input.services().iter().map(|arn| service(number(arn))).collect();
        DescribeServicesOutput::builder().set_services(Some(services)).build()
    })
}

fn rules() -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules).then_compute_output(|input| {
        let rules = input.rule_arns().iter().map(|arn| rule(arn, pair(number(arn), 90, 10)));
        DescribeRulesOutput::builder().set_rules(Some(rules.collect())).build()
    })
}

fn listeners() -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners).then_compute_output(|input| {
        let listeners = input.listener_arns().iter().map(|arn| listener(arn, pair(number(arn), 1, 0)));
        DescribeListenersOutput::builder().set_listeners(Some(listeners.collect())).build()
    })
}

fn alarms() -> Rule {
    mock!(aws_sdk_cloudwatch::Client::describe_alarms).then_compute_output(|input| {
        let ok = |name: &String| {
            cloudwatch::MetricAlarm::builder()
                .alarm_name(name)
                .state_value(cloudwatch::StateValue::Ok)
                .build()
        };
        let alarms = input.alarm_names().iter().map(ok).collect();
        DescribeAlarmsOutput::builder().set_metric_alarms(Some(alarms)).build()
    })
}

fn world() -> Mocks {
    Mocks { ecs: vec![services()], elb: vec![rules(), listeners()], cloudwatch: vec![alarms()] }
}

async fn look(cloud: &AwsCloud, n: usize) -> Observed {
    cloud.observe(&plan(n), &BTreeSet::new()).await
}

async fn look_for(cloud: &AwsCloud, need: Need) -> Observed {
    cloud.observe(&plan(1), &BTreeSet::from([need])).await
}

#[tokio::test]
async fn twenty_five_services_of_one_cluster_cost_three_calls() {
    let world = world();
    let cloud = world.cloud();
    let seen = join_all((1..=25).map(|n| look(&cloud, n))).await;
    for (n, seen) in (1..).zip(&seen) {
        let service = seen.service.known().unwrap();
        assert_eq!(service.task_sets[0].arn, task_set_arn(n, 1));
        assert_eq!(seen.routes["public"], Seen::Known(Weights::Pair(Shares { a: 90, b: 10 })));
        assert_eq!(seen.routes["internal"], Seen::Known(Weights::Pair(Shares { a: 1, b: 0 })));
        assert_eq!(seen.alarms.len(), 3);
    }
    assert_eq!(world.ecs[0].num_calls(), 3, "ten services a call");
    assert_eq!(world.elb[0].num_calls(), 2, "twenty rules a call");
    assert_eq!(world.elb[1].num_calls(), 2, "twenty listeners a call");
    assert_eq!(world.cloudwatch[0].num_calls(), 1, "51 alarms, the shared one once");
    let counted = cloud.calls();
    assert_eq!((counted["DescribeServices"], counted["DescribeAlarms"]), (3, 1));
}

#[tokio::test]
async fn services_of_different_clusters_are_never_in_one_call() {
    let world = world();
    let cloud = world.cloud();
    let mut other = plan(2);
    other.spec.ecs.cluster = format!("{ECS}:cluster/test").parse().unwrap();
    let needs = BTreeSet::new();
    let (a, b) = tokio::join!(look(&cloud, 1), cloud.observe(&other, &needs));
    assert!(a.service.known().is_some() && b.service.known().is_some());
    assert_eq!(world.ecs[0].num_calls(), 2);
}

#[tokio::test]
async fn a_service_is_told_with_all_its_task_sets() {
    let seen = look(&world().cloud(), 1).await;
    let service = seen.service.known().unwrap();
    assert_eq!((service.status, service.external, service.desired_count), (ServiceStatus::Active, true, 12));
    let set = &service.task_sets[0];
    assert_eq!((set.group, set.status), (Some(Group::B), TaskSetStatus::Active));
    assert_eq!((set.computed, set.running, set.pending, set.steady), (4, 3, 1, false));
    assert_eq!(set.revision.to_string(), "shop:41");
    assert_eq!(set.scale, Percent::from_tenths(333).unwrap());
}

#[tokio::test]
async fn a_service_that_aws_does_not_know_is_missing_and_one_it_does_not_mention_is_unknown() {
    let answer = mock!(aws_sdk_ecs::Client::describe_services).then_output(|| {
        let failure = ecs::Failure::builder().arn(super::support::service_arn(1)).reason("MISSING").build();
        DescribeServicesOutput::builder().failures(failure).build()
    });
    let cloud = Mocks { ecs: vec![answer], ..world() }.cloud();
    let (missing, unmentioned) = tokio::join!(look(&cloud, 1), look(&cloud, 2));
    assert_eq!(missing.service.known().unwrap().status, ServiceStatus::Missing);
    assert!(matches!(unmentioned.service, Seen::Unknown(_)));
}

#[tokio::test]
async fn a_task_set_that_cannot_be_understood_makes_the_service_unknown() {
    let answer = mock!(aws_sdk_ecs::Client::describe_services).then_output(|| {
        let mut odd = service(1);
        odd.task_sets.as_mut().unwrap()[0].status = Some("RESTING".to_owned());
        DescribeServicesOutput::builder().services(odd).build()
    });
    let seen = look(&Mocks { ecs: vec![answer], ..world() }.cloud(), 1).await;
    let Seen::Unknown(why) = seen.service else { panic!("half a list reads as absence") };
    assert!(why.contains("RESTING"), "{why}");
}

#[tokio::test]
async fn one_missing_rule_blinds_nobody_and_is_asked_alone_from_then_on() {
    let answer =
        mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules).then_compute_response(|input| {
            if input.rule_arns().contains(&rule_arn(7)) {
                let meta =
                    ErrorMetadata::builder().code("RuleNotFound").message("One or more rules not found");
                return MockResponse::Error(DescribeRulesError::generic(meta.build()));
            }
            let rules = input.rule_arns().iter().map(|arn| rule(arn, pair(number(arn), 90, 10)));
            MockResponse::Output(DescribeRulesOutput::builder().set_rules(Some(rules.collect())).build())
        });
    let cloud = Mocks { elb: vec![answer.clone(), listeners()], ..world() }.cloud();
    let mut calls = 0;
    for expected in [7, 2, 2] {
        for (n, seen) in (1..).zip(join_all((1..=10).map(|n| look(&cloud, n))).await) {
            let public = seen.routes["public"].known().unwrap();
            assert_eq!(matches!(public, Weights::Gone), n == 7, "{n}");
        }
        assert_eq!(answer.num_calls() - calls, expected);
        calls = answer.num_calls();
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_unknown_and_nothing_else_suffers() {
    let throttled = mock!(aws_sdk_cloudwatch::Client::describe_alarms)
        .then_error(|| DescribeAlarmsError::generic(ErrorMetadata::builder().code("Throttling").build()));
    let seen = look(&Mocks { cloudwatch: vec![throttled], ..world() }.cloud(), 1).await;
    assert!(seen.service.known().is_some());
    assert!(seen.routes.values().all(|route| route.known().is_some()));
    assert_eq!(seen.alarms.len(), 3);
    for alarm in seen.alarms.values() {
        assert!(matches!(alarm, Seen::Unknown(why) if why.contains("Throttling")), "{alarm:?}");
    }
}

fn metric_alarm(name: &str) -> aws_sdk_cloudwatch::types::builders::MetricAlarmBuilder {
    cloudwatch::MetricAlarm::builder()
        .alarm_name(name)
        .metric_name("HTTPCode_Target_5XX_Count")
        .period(60)
        .evaluation_periods(3)
        .state_value(cloudwatch::StateValue::Ok)
}

#[tokio::test]
async fn alarms_of_every_kind_are_asked_for_by_name_on_all_pages() {
    let answer = mock!(aws_sdk_cloudwatch::Client::describe_alarms)
        .match_requests(|input| {
            input.alarm_types().len() == 3 && input.alarm_names().len() == 3 && input.state_value().is_none()
        })
        .then_compute_output(|input| {
            if input.next_token().is_none() {
                let at = DateTime::from_secs(1_700_000_000);
                let alarm = metric_alarm("shop-1-a")
                    .state_value(cloudwatch::StateValue::Alarm)
                    .state_transitioned_timestamp(at);
                return DescribeAlarmsOutput::builder().metric_alarms(alarm.build()).next_token("2").build();
            }
            let composite = cloudwatch::CompositeAlarm::builder()
                .alarm_name("everything")
                .state_value(cloudwatch::StateValue::InsufficientData);
            DescribeAlarmsOutput::builder().composite_alarms(composite.build()).build()
        });
    let seen = look(&Mocks { cloudwatch: vec![answer.clone()], ..world() }.cloud(), 1).await;
    assert_eq!(answer.num_calls(), 2);
    let alarm = seen.alarms["shop-1-a"].known().unwrap();
    assert_eq!((alarm.state, alarm.range), (AlarmState::Alarm, Span::from_mins(5)));
    assert_eq!(alarm.transitioned_at.unwrap().as_second(), 1_700_000_000);
    assert!(alarm.needs_missing_data);
    assert_eq!(seen.alarms["shop-1-b"].known().unwrap().state, AlarmState::Missing);
    assert_eq!(seen.alarms["everything"].known().unwrap().state, AlarmState::InsufficientData);
}

#[tokio::test]
async fn an_alarm_that_could_not_be_evaluated_is_no_evidence_but_alarm_counts_always() {
    let answer = mock!(aws_sdk_cloudwatch::Client::describe_alarms).then_output(|| {
        let failed = cloudwatch::EvaluationState::EvaluationFailure;
        let ok = metric_alarm("shop-1-a").evaluation_state(failed.clone());
        let burning = metric_alarm("shop-1-b")
            .evaluation_state(failed)
            .state_value(cloudwatch::StateValue::Alarm)
            .treat_missing_data("notBreaching");
        DescribeAlarmsOutput::builder().metric_alarms(ok.build()).metric_alarms(burning.build()).build()
    });
    let seen = look(&Mocks { cloudwatch: vec![answer], ..world() }.cloud(), 1).await;
    assert!(matches!(seen.alarms["shop-1-a"], Seen::Unknown(_)));
    let burning = seen.alarms["shop-1-b"].known().unwrap();
    assert_eq!(burning.state, AlarmState::Alarm);
    assert!(!burning.needs_missing_data);
}

#[tokio::test]
async fn an_alarm_of_metric_math_is_as_slow_as_its_slowest_part() {
    let answer = mock!(aws_sdk_cloudwatch::Client::describe_alarms).then_output(|| {
        let part = |id: &str, period: i32| {
            let metric = cloudwatch::Metric::builder().metric_name("HTTPCode_ELB_5XX_Count").build();
            let stat = cloudwatch::MetricStat::builder().metric(metric).period(period).stat("Sum").build();
            cloudwatch::MetricDataQuery::builder().id(id).metric_stat(stat).build()
        };
        let sum =
            |expression: &str| cloudwatch::MetricDataQuery::builder().id("s").expression(expression).build();
        let alarm = |name: &str, expression: &str| {
            cloudwatch::MetricAlarm::builder()
                .alarm_name(name)
                .metrics(part("m1", 60))
                .metrics(part("m2", 300))
                .metrics(sum(expression))
                .evaluation_periods(2)
                .state_value(cloudwatch::StateValue::Ok)
                .build()
        };
        DescribeAlarmsOutput::builder()
            .metric_alarms(alarm("shop-1-a", "m1+m2"))
            .metric_alarms(alarm("shop-1-b", "FILL(m1,0)+FILL(m2,0)"))
            .build()
    });
    let seen = look(&Mocks { cloudwatch: vec![answer], ..world() }.cloud(), 1).await;
    let (plain, filled) =
        (seen.alarms["shop-1-a"].known().unwrap(), seen.alarms["shop-1-b"].known().unwrap());
    assert_eq!(plain.range, Span::from_mins(12));
    assert_eq!((plain.needs_missing_data, filled.needs_missing_data), (true, false));
}

#[tokio::test]
async fn an_alarms_history_is_read_to_its_end_and_only_after_the_instant() {
    let item = |secs: i64, state: &str| {
        cloudwatch::AlarmHistoryItem::builder()
            .timestamp(DateTime::from_secs_and_nanos(secs, 500_000_000))
            .history_item_type(cloudwatch::HistoryItemType::StateUpdate)
            .history_data(format!(r#"{{"version":"1.0","newState":{{"stateValue":"{state}"}}}}"#))
            .build()
    };
    let answer = mock!(aws_sdk_cloudwatch::Client::describe_alarm_history)
        .match_requests(|input| {
            input.alarm_name() == Some("shop-1-b")
                && input.history_item_type() == Some(&cloudwatch::HistoryItemType::StateUpdate)
                && input.start_date().is_some_and(|at| at.secs() == 100)
        })
        .then_compute_output(move |input| match input.next_token() {
            None => DescribeAlarmHistoryOutput::builder()
                .alarm_history_items(item(100, "INSUFFICIENT_DATA"))
                .alarm_history_items(item(101, "ALARM"))
                .next_token("2")
                .build(),
            Some(_) => DescribeAlarmHistoryOutput::builder().alarm_history_items(item(102, "OK")).build(),
        });
    let mut world = world();
    world.cloudwatch.push(answer);
    let since = jiff::Timestamp::from_millisecond(100_500).unwrap();
    let seen = look_for(&world.cloud(), Need::AlarmHistory("shop-1-b".to_owned(), since)).await;
    let states = seen.extra.alarm_history["shop-1-b"].known().unwrap();
    let at = |secs: i64| jiff::Timestamp::from_millisecond(secs * 1000 + 500).unwrap();
    assert_eq!(states, &[(at(101), AlarmState::Alarm), (at(102), AlarmState::Ok)]);
}

#[tokio::test]
async fn a_history_item_that_cannot_be_read_is_not_passed_over() {
    let answer = mock!(aws_sdk_cloudwatch::Client::describe_alarm_history).then_output(|| {
        let item =
            cloudwatch::AlarmHistoryItem::builder().timestamp(DateTime::from_secs(500)).history_data("{}");
        DescribeAlarmHistoryOutput::builder().alarm_history_items(item.build()).build()
    });
    let mut world = world();
    world.cloudwatch.push(answer);
    let need = Need::AlarmHistory("shop-1-b".to_owned(), jiff::Timestamp::UNIX_EPOCH);
    let seen = look_for(&world.cloud(), need).await;
    assert!(matches!(seen.extra.alarm_history["shop-1-b"], Seen::Unknown(_)));
}

fn health(states: &'static [(&'static str, Option<&'static str>)]) -> Rule {
    mock!(aws_sdk_elasticloadbalancingv2::Client::describe_target_health).then_output(move || {
        let targets = states.iter().map(|(state, reason)| {
            let health = elb::TargetHealth::builder()
                .state(elb::TargetHealthStateEnum::from(*state))
                .set_reason(reason.map(elb::TargetHealthReasonEnum::from))
                .build();
            elb::TargetHealthDescription::builder().target_health(health).build()
        });
        DescribeTargetHealthOutput::builder().set_target_health_descriptions(Some(targets.collect())).build()
    })
}

#[tokio::test]
async fn targets_are_counted_by_state_and_a_state_that_is_new_is_not_healthy() {
    let mut world = world();
    world.elb.push(health(&[
        ("healthy", None),
        ("initial", Some("Elb.InitialHealthChecking")),
        ("unhealthy", Some("Target.FailedHealthChecks")),
        ("draining", None),
        ("unhealthy.draining", None),
        ("unused", None),
        ("dreaming", None),
    ]));
    let seen = look_for(&world.cloud(), Need::Targets(Group::A)).await;
    let targets = seen.extra.targets[&Group::A].known().unwrap();
    assert_eq!((targets.healthy, targets.initial, targets.unhealthy), (1, 1, 2));
    assert_eq!((targets.draining, targets.unused), (2, 1));
    assert_eq!(targets.reason.as_deref(), Some("Elb.InitialHealthChecking"));
}

#[tokio::test]
async fn the_last_stopped_task_of_the_set_tells_why() {
    let listed = mock!(aws_sdk_ecs::Client::list_tasks)
        .match_requests(|input| {
            // `startedBy` cannot be combined with another filter.
            input.service_name() == Some("shop-1")
                && input.desired_status() == Some(&ecs::DesiredStatus::Stopped)
                && input.started_by().is_none()
        })
        .then_compute_output(|input| match input.next_token() {
            None => ListTasksOutput::builder().task_arns("t1").task_arns("t2").next_token("2").build(),
            Some(_) => ListTasksOutput::builder().task_arns("t3").build(),
        });
    let described = mock!(aws_sdk_ecs::Client::describe_tasks)
        .match_requests(|input| input.tasks() == ["t1", "t2", "t3"])
        .then_output(|| {
            let task = |started_by: &str, at: i64, why: &str| {
                let container =
                    ecs::Container::builder().name("web").exit_code(137).reason("OutOfMemory").build();
                ecs::Task::builder()
                    .started_by(started_by)
                    .stopped_at(DateTime::from_secs(at))
                    .stopped_reason(why)
                    .containers(container)
                    .build()
            };
            DescribeTasksOutput::builder()
                .tasks(task("ecs-svc/2", 10, "older"))
                .tasks(task("ecs-svc/2", 20, "Essential container in task exited"))
                .tasks(task("ecs-svc/1", 30, "another set's"))
                .build()
        });
    let mut world = world();
    world.ecs.extend([listed, described]);
    world.elb.push(health(&[("unhealthy", Some("Target.ResponseCodeMismatch"))]));
    let seen = look_for(&world.cloud(), Need::LastStop(task_set_arn(1, 2), Group::B)).await;
    let why = seen.extra.last_stop[&task_set_arn(1, 2)].known().unwrap();
    assert_eq!(
        why,
        "Essential container in task exited; web: exit code 137, OutOfMemory; target: Target.ResponseCodeMismatch"
    );
}

fn task_definition() -> Rule {
    mock!(aws_sdk_ecs::Client::describe_task_definition).then_compute_response(|input| {
        if input.task_definition() != Some("shop:42") {
            let meta = ErrorMetadata::builder()
                .code("ClientException")
                .message("Unable to describe task definition.")
                .build();
            return MockResponse::Error(DescribeTaskDefinitionError::generic(meta));
        }
        let container = ecs::ContainerDefinition::builder()
            .name("web")
            .port_mappings(ecs::PortMapping::builder().container_port(8080).build())
            .build();
        let definition = ecs::TaskDefinition::builder()
            .status(ecs::TaskDefinitionStatus::Active)
            .network_mode(ecs::NetworkMode::Awsvpc)
            .container_definitions(container)
            .build();
        MockResponse::Output(DescribeTaskDefinitionOutput::builder().task_definition(definition).build())
    })
}

/// A load balancer with two pages of listeners and, on the first listener, two pages of rules.
fn edge() -> Vec<Rule> {
    let groups =
        mock!(aws_sdk_elasticloadbalancingv2::Client::describe_target_groups).then_compute_output(|input| {
            let groups = input.target_group_arns().iter().map(|arn| {
                elb::TargetGroup::builder().target_group_arn(arn).load_balancer_arns(LOAD_BALANCER).build()
            });
            DescribeTargetGroupsOutput::builder().set_target_groups(Some(groups.collect())).build()
        });
    let listeners = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners)
        .match_requests(|input| input.load_balancer_arn() == Some(LOAD_BALANCER))
        .then_compute_output(|input| match input.marker() {
            None => DescribeListenersOutput::builder()
                .listeners(listener(&listener_arn(1), pair(1, 1, 0)))
                .next_marker("2")
                .build(),
            Some(_) => DescribeListenersOutput::builder()
                .listeners(listener(&listener_arn(2), pair(2, 1, 0)))
                .build(),
        });
    let rules = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
        .match_requests(|input| input.listener_arn().is_some())
        .then_compute_output(|input| match (input.listener_arn().map(number), input.marker()) {
            (Some(1), None) => {
                let mut default = rule("default", pair(1, 1, 0));
                default.is_default = Some(true);
                let foreign = rule("foreign", forward(&[(group(1, 'b'), 5), (group(9, 'a'), 5)]));
                DescribeRulesOutput::builder().rules(default).rules(foreign).next_marker("2").build()
            }
            (Some(1), Some(_)) => {
                let redirect = elb::Action::builder().r#type(elb::ActionTypeEnum::Redirect).build();
                DescribeRulesOutput::builder().rules(rule(&rule_arn(1), redirect)).build()
            }
            _ => DescribeRulesOutput::builder().rules(rule("elsewhere", pair(3, 1, 0))).build(),
        });
    vec![groups, listeners, rules]
}

#[tokio::test]
async fn preflight_reads_every_page_and_tells_what_names_our_groups_or_is_our_route() {
    let mut world = world();
    world.ecs.push(task_definition());
    world.elb.splice(0..0, edge());
    world.elb.push(health(&[("healthy", None)]));
    let seen = look_for(&world.cloud(), Need::Preflight("shop:42".parse().unwrap())).await;
    let preflight = seen.extra.preflight.as_ref().unwrap().known().unwrap();
    let definition = preflight.task_definition.as_ref().unwrap();
    assert!(definition.active && definition.awsvpc);
    assert_eq!(definition.containers["web"], BTreeSet::from([8080]));
    let edge = BTreeSet::from([LOAD_BALANCER.to_owned()]);
    assert!([Group::A, Group::B].iter().all(|group| preflight.load_balancer.of_groups[group] == edge));
    let owners: Vec<_> = preflight.load_balancer.actions.iter().map(|it| it.owner.clone()).collect();
    assert_eq!(owners, [listener_arn(1), "foreign".to_owned(), rule_arn(1)]);
    assert!(preflight.load_balancer.actions[2].groups.is_empty());
    assert_eq!(preflight.targets[&Group::B].healthy, 1);
}

#[tokio::test]
async fn an_unknown_task_definition_is_an_answer_and_an_unreadable_one_is_not() {
    let mut world = world();
    world.ecs.push(task_definition());
    world.elb.splice(0..0, edge());
    world.elb.push(health(&[]));
    let seen = look_for(&world.cloud(), Need::Preflight("shop:43".parse().unwrap())).await;
    assert_eq!(seen.extra.preflight.unwrap().known().unwrap().task_definition, None);
    let last = world.ecs.len() - 1;
    world.ecs[last] = mock!(aws_sdk_ecs::Client::describe_task_definition).then_error(|| {
        let meta = ErrorMetadata::builder().code("ClientException").message("Something else.").build();
        DescribeTaskDefinitionError::generic(meta)
    });
    let seen = look_for(&world.cloud(), Need::Preflight("shop:43".parse().unwrap())).await;
    assert!(matches!(seen.extra.preflight, Some(Seen::Unknown(_))));
}
