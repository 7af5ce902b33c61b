//! The wire contract of the adapters: what they send is accepted, what comes back is read right, and errors are
//! classified right — by the sandbox and by emulators that share no code with it. Nothing is asserted that only
//! a region in motion could show: no emulator starts the tasks of a task set.
//!
//! `.ci/contracts` starts the emulators and runs the tests that need them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudwatch::types::{ComparisonOperator, StateValue, Statistic};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_ecs::types as ecs;
use aws_sdk_elasticloadbalancingv2::types as elb;
use jiff::Timestamp;
use pointsman::aws::{AwsCloud, Clients, Settings};
use pointsman::clock::SystemClock;
use pointsman::model::effect::RefusalClass;
use pointsman::model::observed::{AlarmState, ServiceStatus, TaskSet, TaskSetStatus, Weights};
use pointsman::model::{
    Acknowledgement, Action, Answer, Effect, Need, Observed, Plan, Revision, Seen, Shares,
};
use pointsman::ports::{Cloud, Permit};
use pointsman::records::{Group, Percent};
use pointsman::sandbox::{Sandbox, SandboxSettings};
use serde_json::json;

const EXTERNAL_ID: &str = "pm1/contract/01JD6Z6H1W/1.1";
const HALF: Percent = Percent::from_tenths(500).unwrap();

/// A lease that does not end.
fn permit() -> Permit {
    Permit::new(1, Arc::new(AtomicU64::new(u64::MAX)), Arc::new(SystemClock))
}

async fn config(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("AKIDCONTRACT", "secret", None, None, "tests"))
        .timeout_config(pointsman::aws::clients::timeouts(pointsman::aws::clients::OPERATION))
        .retry_config(pointsman::aws::clients::read_retries())
        .load()
        .await
}

/// The variable that `.ci/contracts` sets.
fn given(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; .ci/contracts does"))
}

fn unique(word: &str) -> String {
    format!("{word}-{:08x}", rand::random::<u32>())
}

/// One service with everything that its plan names.
struct Bench {
    cloud: AwsCloud,
    clients: Clients,
    plan: Plan,
    revision: Revision,
    listener: String,
}

impl Bench {
    async fn new(endpoint: &str, subnets: &[String]) -> Self {
        let clients = Clients::new(&config(endpoint).await);
        let name = unique("shop");
        let (load_balancer, groups) = load_balancer(&clients, &name, subnets).await;
        let (listener, rule) = routes(&clients, &load_balancer, &groups).await;
        let revision = register(&clients, &name).await;
        clients.ecs.create_cluster().cluster_name(&name).send().await.unwrap();
        let external = ecs::DeploymentController::builder().r#type(ecs::DeploymentControllerType::External);
        let service = clients.ecs.create_service().cluster(&name).service_name(&name).desired_count(2);
        let service = service.deployment_controller(external.build().unwrap()).send().await.unwrap();
        let service = service.service.unwrap();
        let spec = json!({
            "ecs": {"cluster": service.cluster_arn, "service": service.service_arn},
            "taskDefinitionFamily": name,
            "container": {"name": "web", "port": 8080},
            "targetGroups": {"a": groups[0], "b": groups[1]},
            "routes": {"production": [
                {"name": "public", "rule": rule},
                {"name": "internal", "listenerDefault": listener},
            ]},
            "taskSet": {"launchType": "FARGATE", "network": {"subnets": subnets, "securityGroups": ["sg-12345678"]}},
            "alarms": [],
            "defaultStrategy": "canary",
        });
        let plan = Plan {
            spec: serde_json::from_value(spec).unwrap(),
            strategy: "canary".to_owned(),
            steps: vec![],
        };
        let cloud = AwsCloud::new(clients.clone(), &Settings::default(), Arc::new(SystemClock));
        Self { cloud, clients, plan, revision, listener }
    }

    async fn look(&self, needs: &[Need]) -> Observed {
        self.cloud.observe(&self.plan, &needs.iter().cloned().collect()).await
    }

    async fn sets(&self) -> Vec<TaskSet> {
        let Seen::Known(service) = self.look(&[]).await.service else { panic!("the service is unknown") };
        service.task_sets
    }

    async fn weights(&self, route: &str) -> Weights {
        let Some(Seen::Known(weights)) = self.look(&[]).await.routes.remove(route) else {
            panic!("{route} is unknown")
        };
        weights
    }

    async fn send(&self, effect: Effect) -> Answer {
        self.cloud.carry_out(&self.plan, &Action { effect, rollback: false }, &permit()).await
    }

    async fn create(&self, external_id: &str) -> String {
        let effect = Effect::CreateTaskSet {
            group: Group::B,
            revision: self.revision.clone(),
            scale: Percent::FULL,
            external_id: external_id.to_owned(),
            token: unique("token"),
        };
        match self.send(effect).await {
            Answer::Acknowledged(Acknowledgement::Created { task_set }) => task_set,
            other => panic!("{other:?}"),
        }
    }
}

fn forward(groups: &[String], weights: [i32; 2]) -> elb::Action {
    let tuple = |(arn, weight): (&String, i32)| {
        elb::TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build()
    };
    let tuples = groups.iter().zip(weights).map(tuple).collect();
    let config = elb::ForwardActionConfig::builder().set_target_groups(Some(tuples)).build();
    elb::Action::builder().r#type(elb::ActionTypeEnum::Forward).forward_config(config).build()
}

async fn load_balancer(clients: &Clients, name: &str, subnets: &[String]) -> (String, Vec<String>) {
    let call = clients.elb.create_load_balancer().name(name).set_subnets(Some(subnets.to_vec()));
    let made = call.send().await.unwrap();
    let balancer = &made.load_balancers()[0];
    let vpc = balancer.vpc_id().unwrap_or("vpc-12345678");
    let mut groups = vec![];
    for letter in ["a", "b"] {
        let call = clients.elb.create_target_group().name(format!("{name}-{letter}")).vpc_id(vpc).port(8080);
        let call = call.protocol(elb::ProtocolEnum::Http).target_type(elb::TargetTypeEnum::Ip);
        let made = call.send().await.unwrap();
        groups.push(made.target_groups()[0].target_group_arn().unwrap().to_owned());
    }
    (balancer.load_balancer_arn().unwrap().to_owned(), groups)
}

/// A listener whose default action and one rule forward to both groups.
async fn routes(clients: &Clients, load_balancer: &str, groups: &[String]) -> (String, String) {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let call = clients.elb.create_listener().load_balancer_arn(load_balancer).port(port.into());
    let call = call.protocol(elb::ProtocolEnum::Http).default_actions(forward(groups, [100, 0]));
    let made = call.send().await.unwrap();
    let listener = made.listeners()[0].listener_arn().unwrap().to_owned();
    let path = elb::PathPatternConditionConfig::builder().values("/shop/*").build();
    let condition = elb::RuleCondition::builder().field("path-pattern").path_pattern_config(path).build();
    let call = clients.elb.create_rule().listener_arn(&listener).priority(10).conditions(condition);
    let made = call.actions(forward(groups, [100, 0])).send().await.unwrap();
    (listener, made.rules()[0].rule_arn().unwrap().to_owned())
}

async fn register(clients: &Clients, family: &str) -> Revision {
    let container = ecs::ContainerDefinition::builder()
        .name("web")
        .image("pointsman/demo:1")
        .memory(256)
        .port_mappings(ecs::PortMapping::builder().container_port(8080).build())
        .build();
    let call = clients.ecs.register_task_definition().family(family).container_definitions(container);
    let call = call.network_mode(ecs::NetworkMode::Awsvpc).cpu("256").memory("512");
    let made = call.requires_compatibilities(ecs::Compatibility::Fargate).send().await.unwrap();
    made.task_definition.unwrap().task_definition_arn.unwrap().parse().unwrap()
}

/// A release's calls, one after the other, and what a pass reads after each.
async fn a_release_is_accepted_and_read_right(bench: &Bench) {
    let before = bench.look(&[]).await;
    let Seen::Known(service) = before.service else { panic!("{:?}", before.service) };
    assert_eq!((service.status, service.external, service.desired_count), (ServiceStatus::Active, true, 2));
    assert_eq!(service.task_sets, []);
    for route in ["public", "internal"] {
        assert_eq!(before.routes[route], Seen::Known(Weights::Pair(Shares { a: 100, b: 0 })), "{route}");
    }

    let arn = bench.create(EXTERNAL_ID).await;
    let sets = bench.sets().await;
    assert_eq!(sets.len(), 1);
    assert_eq!((sets[0].arn.as_str(), sets[0].external_id.as_deref()), (arn.as_str(), Some(EXTERNAL_ID)));
    assert_eq!(
        (sets[0].group, &sets[0].revision, sets[0].scale),
        (Some(Group::B), &bench.revision, Percent::FULL)
    );
    assert_eq!(sets[0].status, TaskSetStatus::Active);
    // Also where the counts are left out of the answer: no evidence is no success.
    assert!(!sets[0].is_up());

    let scaled = bench.send(Effect::ScaleTaskSet { task_set: arn.clone(), scale: HALF }).await;
    assert_eq!(scaled, Answer::Acknowledged(Acknowledgement::Done));
    assert_eq!(bench.sets().await[0].scale, HALF);

    for route in ["public", "internal"] {
        let (shares, expect) = (Shares { a: 900, b: 100 }, Some(Shares { a: 100, b: 0 }));
        let write = Effect::SetWeights { route: route.to_owned(), shares, expect };
        assert_eq!(bench.send(write.clone()).await, Answer::Acknowledged(Acknowledgement::Echo(shares)));
        assert_eq!(bench.weights(route).await, Weights::Pair(shares));
        // The weights are others now than this write expects.
        let stale = bench.send(write).await;
        assert!(matches!(stale, Answer::Refused { class: RefusalClass::Conflict, .. }), "{stale:?}");
    }

    let primary = bench.send(Effect::SetPrimary { task_set: arn.clone() }).await;
    assert_eq!(primary, Answer::Acknowledged(Acknowledgement::Done));
    assert_eq!(bench.sets().await[0].status, TaskSetStatus::Primary);
}

async fn a_task_set_is_deleted_by_its_external_id(bench: &Bench) {
    let arn = bench.create("pm1/contract/01JD6Z6H1W/2.1").await;
    let delete =
        |external_id: &str| Effect::DeleteTaskSet { task_set: arn.clone(), external_id: external_id.into() };
    let foreign = bench.send(delete("pm1/somebody/else/1.1")).await;
    assert!(matches!(foreign, Answer::Refused { class: RefusalClass::Permanent, .. }), "{foreign:?}");
    let done = bench.send(delete("pm1/contract/01JD6Z6H1W/2.1")).await;
    assert_eq!(done, Answer::Acknowledged(Acknowledgement::Done));
    let left = bench.sets().await;
    assert!(left.iter().all(|set| set.arn != arn || set.status == TaskSetStatus::Draining), "{left:?}");
}

async fn preflight_reads_definition_load_balancer_and_targets(bench: &Bench) {
    let needs = [Need::Preflight(bench.revision.clone()), Need::LoadBalancer];
    let extra = bench.look(&needs).await.extra;
    let Some(Seen::Known(preflight)) = extra.preflight else { panic!("{:?}", extra.preflight) };
    let definition = preflight.task_definition.unwrap();
    assert!(definition.active && definition.awsvpc && definition.containers["web"].contains(&8080));
    assert_eq!(preflight.targets.len(), 2);
    let owners: Vec<&str> =
        preflight.load_balancer.actions.iter().map(|action| action.owner.as_str()).collect();
    assert_eq!(owners.len(), 2, "{owners:?}");
    assert!(owners.contains(&bench.listener.as_str()), "{owners:?}");
    let of_groups = &preflight.load_balancer.of_groups;
    assert!(of_groups[&Group::A].len() == 1 && of_groups[&Group::A] == of_groups[&Group::B], "{of_groups:?}");
}

/// What is not there is told apart from what could not be read, and is no reason to try again.
async fn absence_is_known(mut bench: Bench) {
    let rule = bench.plan.spec.routes.production[0].rule.clone().unwrap();
    bench.clients.elb.delete_rule().rule_arn(rule.to_string()).send().await.unwrap();
    let gone = bench.weights("public").await;
    assert_eq!(gone, Weights::Gone);
    let (route, shares) = ("public".to_owned(), Shares { a: 100, b: 0 });
    let write = bench.send(Effect::SetWeights { route, shares, expect: None }).await;
    assert!(matches!(write, Answer::Refused { class: RefusalClass::Permanent, .. }), "{write:?}");

    let missing = bench.plan.spec.ecs.service.to_string() + "-none";
    bench.plan.spec.ecs.service = missing.parse().unwrap();
    let Seen::Known(service) = bench.look(&[]).await.service else { panic!("the service is unknown") };
    assert_eq!(service.status, ServiceStatus::Missing);
    let create = Effect::CreateTaskSet {
        group: Group::B,
        revision: bench.revision.clone(),
        scale: Percent::FULL,
        external_id: EXTERNAL_ID.to_owned(),
        token: unique("token"),
    };
    let refused = bench.send(create).await;
    assert!(matches!(refused, Answer::Refused { class: RefusalClass::Permanent, .. }), "{refused:?}");
}

async fn contract_of_ecs_and_elb(endpoint: &str, subnets: &[String]) {
    let bench = Bench::new(endpoint, subnets).await;
    a_release_is_accepted_and_read_right(&bench).await;
    a_task_set_is_deleted_by_its_external_id(&bench).await;
    preflight_reads_definition_load_balancer_and_targets(&bench).await;
    absence_is_known(bench).await;
}

/// Alarms over rpc-v2-cbor, which is what the Rust SDK speaks and boto3 does not. Since when the alarm burns, if that is
/// told.
async fn contract_of_cloudwatch(endpoint: &str, mut bench: Bench) -> Option<Timestamp> {
    bench.clients.cloudwatch = Clients::new(&config(endpoint).await).cloudwatch;
    bench.cloud = AwsCloud::new(bench.clients.clone(), &Settings::default(), Arc::new(SystemClock));
    let (burning, unknown) = (unique("burning"), unique("unknown"));
    let alarms = json!([{"name": burning, "watches": "service"}, {"name": unknown, "watches": "service"}]);
    bench.plan.spec.alarms = serde_json::from_value(alarms).unwrap();
    let client = &bench.clients.cloudwatch;
    let call = client.put_metric_alarm().alarm_name(&burning).namespace("contract").metric_name("errors");
    let call = call.statistic(Statistic::Sum).period(60).evaluation_periods(3).threshold(5.5);
    let call = call.comparison_operator(ComparisonOperator::GreaterThanThreshold);
    call.treat_missing_data("ignore").send().await.unwrap();
    for state in [StateValue::Ok, StateValue::Alarm] {
        let call = client.set_alarm_state().alarm_name(&burning).state_value(state).state_reason("by hand");
        call.send().await.unwrap();
    }

    let since = Timestamp::UNIX_EPOCH;
    let seen = bench.look(&[Need::AlarmHistory(burning.clone(), since)]).await;
    let Seen::Known(alarm) = &seen.alarms[&burning] else { panic!("{:?}", seen.alarms) };
    assert_eq!(alarm.state, AlarmState::Alarm);
    // Three periods of a minute, and two minutes for publishing and evaluation.
    assert_eq!(alarm.range.millis(), 5 * 60_000);
    let Seen::Known(absent) = &seen.alarms[&unknown] else { panic!("{:?}", seen.alarms) };
    assert_eq!(absent.state, AlarmState::Missing);
    let Seen::Known(history) = &seen.extra.alarm_history[&burning] else { panic!("{:?}", seen.extra) };
    let states: Vec<AlarmState> = history.iter().map(|(_, state)| *state).collect();
    assert!(states.ends_with(&[AlarmState::Ok, AlarmState::Alarm]), "{history:?}");
    // By this a history is known to have caught up with the state.
    let last = history.last().map(|(at, _)| *at);
    assert!(alarm.transitioned_at.is_none() || alarm.transitioned_at == last, "{alarm:?} {history:?}");
    alarm.transitioned_at
}

fn any_subnets() -> Vec<String> {
    vec!["subnet-0a1b2c3d".to_owned(), "subnet-4e5f6a7b".to_owned()]
}

#[tokio::test]
async fn the_sandbox_keeps_the_contract_of_the_adapters() {
    let sandbox = Sandbox::start(SandboxSettings::default()).await.unwrap();
    contract_of_ecs_and_elb(sandbox.endpoint(), &any_subnets()).await;
    let bench = Bench::new(sandbox.endpoint(), &any_subnets()).await;
    let since = contract_of_cloudwatch(sandbox.endpoint(), bench).await;
    assert!(since.is_some(), "as AWS does, and ministack does not");
}

/// moto keeps task sets but runs none; its account has subnets of its own.
#[tokio::test]
#[ignore = "needs moto: run .ci/contracts"]
async fn moto_keeps_the_contract_of_ecs_and_elb() {
    let subnets: Vec<String> = given("POINTSMAN_MOTO_SUBNETS").split(',').map(str::to_owned).collect();
    contract_of_ecs_and_elb(&given("POINTSMAN_MOTO"), &subnets).await;
}

/// ministack has no task sets: the rest of the pass goes to the sandbox.
#[tokio::test]
#[ignore = "needs ministack: run .ci/contracts"]
async fn ministack_keeps_the_contract_of_cloudwatch() {
    let sandbox = Sandbox::start(SandboxSettings::default()).await.unwrap();
    let bench = Bench::new(sandbox.endpoint(), &any_subnets()).await;
    contract_of_cloudwatch(&given("POINTSMAN_MINISTACK"), bench).await;
}
