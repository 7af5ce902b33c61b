//! Plans, clocks and answers that the tests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_ecs::types as ecs;
use aws_sdk_elasticloadbalancingv2::types as elb;
use aws_smithy_mocks::{Rule, RuleMode, mock_client};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::aws::{AwsCloud, Clients, Settings};
use crate::model::Plan;
use crate::ports::{Clock, Permit};

pub(super) const ELB: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
pub(super) const ECS: &str = "arn:aws:ecs:eu-central-1:111122223333";
pub(super) const LOAD_BALANCER: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/edge/50dc6c495c0c9188";

/// Stands still until told otherwise; `jump_after` questions it leaps to the end of time.
#[derive(Debug)]
pub(super) struct HandClock {
    questions_left: AtomicU64,
}

impl HandClock {
    pub(super) fn still() -> Arc<Self> {
        Self::jumping_after(u64::MAX)
    }

    pub(super) fn jumping_after(questions: u64) -> Arc<Self> {
        Arc::new(Self { questions_left: AtomicU64::new(questions) })
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic_ms(&self) -> u64 {
        let left = self.questions_left.load(Ordering::SeqCst);
        if left == 0 {
            return u64::MAX;
        }
        self.questions_left.store(left - 1, Ordering::SeqCst);
        0
    }
}

/// A permit that lets the first `questions` questions pass.
pub(super) fn permit_for(questions: u64) -> Permit {
    Permit::new(7, Arc::new(AtomicU64::new(60_000)), HandClock::jumping_after(questions))
}

pub(super) fn permit() -> Permit {
    permit_for(u64::MAX)
}

pub(super) fn group(n: usize, group: char) -> String {
    format!("{ELB}:targetgroup/shop-{n}-{group}/{group}{n:015}")
}

pub(super) fn rule_arn(n: usize) -> String {
    format!("{ELB}:listener-rule/app/edge/50dc6c495c0c9188/f2f7dc8efc522ab2/{n:016}")
}

pub(super) fn listener_arn(n: usize) -> String {
    format!("{ELB}:listener/app/edge/50dc6c495c0c9188/{n:016}")
}

pub(super) fn service_arn(n: usize) -> String {
    format!("{ECS}:service/prod/shop-{n}")
}

pub(super) fn task_set_arn(n: usize, id: u32) -> String {
    format!("{ECS}:task-set/prod/shop-{n}/ecs-svc/{id}")
}

/// Service `n`: one rule, one listener, three alarms.
pub(super) fn plan(n: usize) -> Plan {
    let spec = serde_json::json!({
        "ecs": {"cluster": format!("{ECS}:cluster/prod"), "service": service_arn(n)},
        "taskDefinitionFamily": "shop",
        "container": {"name": "web", "port": 8080},
        "targetGroups": {"a": group(n, 'a'), "b": group(n, 'b')},
        "routes": {"production": [
            {"name": "public", "rule": rule_arn(n)},
            {"name": "internal", "listenerDefault": listener_arn(n)},
        ]},
        "taskSet": {
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "network": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]},
            "serviceRegistry": "arn:aws:servicediscovery:eu-central-1:111122223333:service/srv-1",
            "tags": {"cost-center": "4711", "managed-by": "somebody"},
        },
        "alarms": [
            {"name": format!("shop-{n}-a"), "watches": "a"},
            {"name": format!("shop-{n}-b"), "watches": "b"},
            {"name": "everything", "watches": "service"},
        ],
        "defaultStrategy": "canary",
    });
    Plan { spec: serde_json::from_value(spec).unwrap(), strategy: "canary".to_owned(), steps: vec![] }
}

/// Mocked answers by service; a call that no rule answers fails the test.
#[derive(Default)]
pub(super) struct Mocks {
    pub(super) ecs: Vec<Rule>,
    pub(super) elb: Vec<Rule>,
    pub(super) cloudwatch: Vec<Rule>,
}

impl Mocks {
    pub(super) fn cloud(&self) -> AwsCloud {
        self.cloud_with(&Settings::default())
    }

    pub(super) fn cloud_with(&self, settings: &Settings) -> AwsCloud {
        let clients = Clients {
            ecs: mock_client!(aws_sdk_ecs, RuleMode::MatchAny, &self.ecs),
            elb: mock_client!(aws_sdk_elasticloadbalancingv2, RuleMode::MatchAny, &self.elb),
            cloudwatch: mock_client!(aws_sdk_cloudwatch, RuleMode::MatchAny, &self.cloudwatch),
        };
        AwsCloud::new(clients, settings, HandClock::still())
    }
}

pub(super) fn forward(groups: &[(String, i32)]) -> elb::Action {
    let tuples = groups
        .iter()
        .map(|(arn, weight)| elb::TargetGroupTuple::builder().target_group_arn(arn).weight(*weight).build());
    let config = elb::ForwardActionConfig::builder().set_target_groups(Some(tuples.collect())).build();
    elb::Action::builder().r#type(elb::ActionTypeEnum::Forward).order(1).forward_config(config).build()
}

pub(super) fn pair(n: usize, a: i32, b: i32) -> elb::Action {
    forward(&[(group(n, 'a'), a), (group(n, 'b'), b)])
}

pub(super) fn rule(arn: &str, action: elb::Action) -> elb::Rule {
    elb::Rule::builder().rule_arn(arn).priority("10").actions(action).is_default(false).build()
}

pub(super) fn listener(arn: &str, action: elb::Action) -> elb::Listener {
    elb::Listener::builder()
        .listener_arn(arn)
        .load_balancer_arn(LOAD_BALANCER)
        .default_actions(action)
        .build()
}

/// The number of the service in one of the ARNs above.
pub(super) fn number(arn: &str) -> usize {
    let digits: String = arn.rsplit(['/', '-']).next().unwrap().to_owned();
    digits.trim_start_matches(|it: char| !it.is_ascii_digit()).parse().unwrap()
}

pub(super) fn task_set(n: usize, id: u32, external_id: &str) -> ecs::TaskSet {
    ecs::TaskSet::builder()
        .task_set_arn(task_set_arn(n, id))
        .external_id(external_id)
        .status("ACTIVE")
        .task_definition(format!("{ECS}:task-definition/shop:41"))
        .computed_desired_count(4)
        .running_count(3)
        .pending_count(1)
        .load_balancers(ecs::LoadBalancer::builder().target_group_arn(group(n, 'b')).build())
        .scale(ecs::Scale::builder().unit(ecs::ScaleUnit::Percent).value(33.3).build())
        .stability_status(ecs::StabilityStatus::Stabilizing)
        .build()
}

pub(super) fn service(n: usize) -> ecs::Service {
    ecs::Service::builder()
        .service_arn(service_arn(n))
        .status("ACTIVE")
        .desired_count(12)
        .deployment_controller(
            ecs::DeploymentController::builder()
                .r#type(ecs::DeploymentControllerType::External)
                .build()
                .unwrap(),
        )
        .task_sets(task_set(n, 1, "pm1/prod/u1/1.1"))
        .build()
}

/// Tokio's clock, which a test may pause.
pub struct TokioClock(pub Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}
