use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput;
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_elasticloadbalancingv2::operation::describe_listeners::{
    DescribeListenersError, DescribeListenersOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::describe_rules::{DescribeRulesError, DescribeRulesOutput};
use aws_sdk_elasticloadbalancingv2::operation::describe_target_health::DescribeTargetHealthOutput;
use aws_sdk_elasticloadbalancingv2::operation::modify_listener::ModifyListenerOutput;
use aws_sdk_elasticloadbalancingv2::operation::modify_rule::ModifyRuleOutput;
use aws_sdk_elasticloadbalancingv2::types::{Action as Live, TargetGroupStickinessConfig};
use aws_smithy_mocks::{Rule, mock};
use aws_smithy_types::error::ErrorMetadata;

use super::support::{Mocks, listener, listener_arn, pair, permit, plan, rule, rule_arn, service};
use crate::aws::AwsCloud;
use crate::model::effect::{RefusalClass, WayBack};
use crate::model::{Acknowledgement, Action, Answer, Effect, Need, Shares};
use crate::ports::{Cloud, EmergencyPermit};
use crate::records::Group;

const BACK: Shares = Shares { a: 100, b: 0 };

/// A rule and a listener whose reads fail with this code as long as there is one, and which keep what they are told.
struct Routes {
    failing: Arc<Mutex<Option<&'static str>>>,
    live: Arc<Mutex<Live>>,
    rules: Rule,
    listeners: Rule,
    mocks: Vec<Rule>,
}

fn sticky(a: i32, b: i32) -> Live {
    let mut action = pair(1, a, b);
    let sticky = TargetGroupStickinessConfig::builder().enabled(true).duration_seconds(60).build();
    action.forward_config.as_mut().unwrap().target_group_stickiness_config = Some(sticky);
    action
}

impl Routes {
    fn new() -> Self {
        let failing = Arc::new(Mutex::new(None));
        let live = Arc::new(Mutex::new(sticky(900, 100)));
        let error = |code: &Mutex<Option<&'static str>>| {
            ErrorMetadata::builder().code(code.lock().unwrap().unwrap_or_default()).build()
        };
        let (asked, fails, shown) = (Arc::clone(&failing), Arc::clone(&failing), Arc::clone(&live));
        let no_rules = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules)
            .match_requests(move |_| asked.lock().unwrap().is_some())
            .then_error(move || DescribeRulesError::generic(error(&fails)));
        let rules = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_rules).then_output(move || {
            let shown = rule(&rule_arn(1), shown.lock().unwrap().clone());
            DescribeRulesOutput::builder().rules(shown).build()
        });
        let (asked, fails, shown) = (Arc::clone(&failing), Arc::clone(&failing), Arc::clone(&live));
        let no_listeners = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners)
            .match_requests(move |_| asked.lock().unwrap().is_some())
            .then_error(move || DescribeListenersError::generic(error(&fails)));
        let listeners =
            mock!(aws_sdk_elasticloadbalancingv2::Client::describe_listeners).then_output(move || {
                let shown = listener(&listener_arn(1), shown.lock().unwrap().clone());
                DescribeListenersOutput::builder().listeners(shown).build()
            });
        let told = Arc::clone(&live);
        let modify_rule =
            mock!(aws_sdk_elasticloadbalancingv2::Client::modify_rule).then_compute_output(move |input| {
                *told.lock().unwrap() = input.actions()[0].clone();
                let echo = rule(&rule_arn(1), input.actions()[0].clone());
                ModifyRuleOutput::builder().rules(echo).build()
            });
        let told = Arc::clone(&live);
        let modify_listener = mock!(aws_sdk_elasticloadbalancingv2::Client::modify_listener)
            .then_compute_output(move |input| {
                *told.lock().unwrap() = input.default_actions()[0].clone();
                let echo = listener(&listener_arn(1), input.default_actions()[0].clone());
                ModifyListenerOutput::builder().listeners(echo).build()
            });
        let health = mock!(aws_sdk_elasticloadbalancingv2::Client::describe_target_health)
            .then_output(|| DescribeTargetHealthOutput::builder().build());
        let mocks = vec![
            no_rules,
            rules.clone(),
            no_listeners,
            listeners.clone(),
            modify_rule,
            modify_listener,
            health,
        ];
        Self { failing, live, rules, listeners, mocks }
    }

    fn cloud(&self) -> AwsCloud {
        let ecs = mock!(aws_sdk_ecs::Client::describe_services)
            .then_output(|| DescribeServicesOutput::builder().services(service(1)).build());
        let alarms = mock!(aws_sdk_cloudwatch::Client::describe_alarms)
            .then_output(|| DescribeAlarmsOutput::builder().build());
        Mocks { ecs: vec![ecs], elb: self.mocks.clone(), cloudwatch: vec![alarms] }.cloud()
    }

    fn fail(&self, code: &'static str) {
        *self.failing.lock().unwrap() = Some(code);
    }

    fn reads(&self) -> usize {
        self.rules.num_calls() + self.listeners.num_calls()
    }
}

async fn look(cloud: &AwsCloud, needs: &[Need]) {
    let seen = cloud.observe(&plan(1), &needs.iter().cloned().collect::<BTreeSet<_>>()).await;
    assert_eq!(seen.routes.len(), 2);
}

fn weigh(route: &str, rollback: bool) -> Action {
    Action { effect: Effect::SetWeights { route: route.to_owned(), shares: BACK, expect: None }, rollback }
}

fn refused(answer: &Answer) -> Option<RefusalClass> {
    if let Answer::Refused { class, .. } = answer { Some(*class) } else { None }
}

#[tokio::test]
async fn the_way_back_goes_by_the_list_read_last_when_no_read_works() {
    for code in ["Throttling", "AccessDenied", "InternalFailure"] {
        for route in ["public", "internal"] {
            let routes = Routes::new();
            let cloud = routes.cloud();
            look(&cloud, &[]).await;
            routes.fail(code);
            // A pass in which nothing could be read takes nothing away.
            look(&cloud, &[]).await;
            let answer = cloud.carry_out(&plan(1), &weigh(route, true), &permit()).await;
            assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Echo(BACK)), "{code}, {route}");
            assert_eq!(*routes.live.lock().unwrap(), sticky(100, 0), "all but the weights as it was read");
        }
    }
}

#[tokio::test]
async fn a_read_that_works_is_worth_more_than_the_list_read_last() {
    let routes = Routes::new();
    let cloud = routes.cloud();
    look(&cloud, &[]).await;
    *routes.live.lock().unwrap() = pair(1, 900, 100);
    let answer = cloud.carry_out(&plan(1), &weigh("public", true), &permit()).await;
    assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Echo(BACK)));
    assert_eq!(*routes.live.lock().unwrap(), pair(1, 100, 0));
}

#[tokio::test]
async fn a_step_forward_needs_a_read_that_works() {
    let routes = Routes::new();
    let cloud = routes.cloud();
    look(&cloud, &[]).await;
    routes.fail("Throttling");
    let answer = cloud.carry_out(&plan(1), &weigh("public", false), &permit()).await;
    assert_eq!(refused(&answer), Some(RefusalClass::Throttled), "{answer:?}");
}

#[tokio::test]
async fn an_emergency_needs_a_read_that_works_because_somebody_else_may_have_gone_on() {
    let routes = Routes::new();
    let cloud = routes.cloud();
    look(&cloud, &[]).await;
    routes.fail("Throttling");
    let permit = EmergencyPermit::new(7, Arc::new(AtomicBool::new(true)));
    let back = WayBack::new("public".to_owned(), Group::A, Shares { a: 900, b: 100 });
    let answer = cloud.take_back(&plan(1), &back, &permit).await;
    assert_eq!(refused(&answer), Some(RefusalClass::Throttled), "{answer:?}");
}

#[tokio::test]
async fn a_rule_that_is_gone_is_not_written_by_an_old_list() {
    let routes = Routes::new();
    let cloud = routes.cloud();
    look(&cloud, &[]).await;
    routes.fail("RuleNotFound");
    let answer = cloud.carry_out(&plan(1), &weigh("public", true), &permit()).await;
    assert_eq!(refused(&answer), Some(RefusalClass::Permanent), "{answer:?}");
    // Nor is its list kept once observation has seen that it is gone.
    look(&cloud, &[]).await;
    routes.fail("Throttling");
    let answer = cloud.carry_out(&plan(1), &weigh("public", true), &permit()).await;
    assert_eq!(refused(&answer), Some(RefusalClass::Throttled), "{answer:?}");
}

#[tokio::test]
async fn a_list_that_was_not_our_pair_when_it_was_read_last_is_left_alone() {
    let routes = Routes::new();
    let cloud = routes.cloud();
    look(&cloud, &[]).await;
    *routes.live.lock().unwrap() = super::support::forward(&[(super::support::group(1, 'a'), 1)]);
    look(&cloud, &[]).await;
    routes.fail("Throttling");
    let answer = cloud.carry_out(&plan(1), &weigh("public", true), &permit()).await;
    assert_eq!(refused(&answer), Some(RefusalClass::Conflict), "{answer:?}");
}

#[tokio::test]
async fn the_last_request_of_the_budget_is_the_write_of_a_way_back_and_not_its_read() {
    let routes = Routes::new();
    let cloud = routes.cloud();
    // Both routes and the targets of a group: three requests of forty. Each way back with its read takes two.
    look(&cloud, &[Need::Targets(Group::A)]).await;
    for _ in 0..18 {
        let answer = cloud.carry_out(&plan(1), &weigh("public", true), &permit()).await;
        assert!(matches!(answer, Answer::Acknowledged(_)), "{answer:?}");
    }
    let reads = routes.reads();
    let answer = cloud.carry_out(&plan(1), &weigh("public", true), &permit()).await;
    assert_eq!(answer, Answer::Acknowledged(Acknowledgement::Echo(BACK)));
    assert_eq!(routes.reads(), reads);
}
