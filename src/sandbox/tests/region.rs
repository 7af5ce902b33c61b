//! ECS, Elastic Load Balancing and `CloudWatch` through the unmodified Rust clients, which speak
//! awsJson, awsQuery and rpc-v2-cbor.

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    ComparisonOperator, Dimension, Metric, MetricDataQuery, MetricDatum, MetricStat, StandardUnit,
    StateValue, Statistic,
};
use aws_sdk_ecs::types::{
    AwsVpcConfiguration, Compatibility, ContainerDefinition, DeploymentController, DeploymentControllerType,
    KeyValuePair, LaunchType, LoadBalancer, NetworkConfiguration, NetworkMode, PortMapping, Scale, ScaleUnit,
    SchedulingStrategy, StabilityStatus,
};
use aws_sdk_elasticloadbalancingv2 as elb;
use elb::types::{
    Action, ActionTypeEnum, ForwardActionConfig, PathPatternConditionConfig, ProtocolEnum, RuleCondition,
    TargetGroupStickinessConfig, TargetGroupTuple, TargetTypeEnum,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

mod restart;
mod speed;

fn forward(blue: (&str, i32), green: (&str, i32)) -> Action {
    let group =
        |(arn, weight): (&str, i32)| TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build();
    let stickiness = TargetGroupStickinessConfig::builder().enabled(false).build();
    let config = ForwardActionConfig::builder()
        .target_groups(group(blue))
        .target_groups(group(green))
        .target_group_stickiness_config(stickiness)
        .build();
    Action::builder().r#type(ActionTypeEnum::Forward).forward_config(config).build()
}

fn weights(actions: &[Action]) -> Vec<i32> {
    let config = actions[0].forward_config().expect("a weighted forward");
    config.target_groups().iter().filter_map(TargetGroupTuple::weight).collect()
}

/// A port that was free a moment ago, for a listener.
async fn free_port() -> i32 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    i32::from(listener.local_addr().unwrap().port())
}

struct Alb {
    listener: String,
    port: i32,
    dimension: String,
    blue: String,
    green: String,
}

async fn target_group(client: &elb::Client, name: &str) -> String {
    let made = client
        .create_target_group()
        .name(name)
        .protocol(ProtocolEnum::Http)
        .port(80)
        .vpc_id("vpc-00000001")
        .target_type(TargetTypeEnum::Ip)
        .health_check_interval_seconds(5)
        .health_check_timeout_seconds(2)
        .health_check_path("/health")
        .send()
        .await
        .expect("a target group");
    made.target_groups()[0].target_group_arn().unwrap().to_owned()
}

async fn alb(client: &elb::Client) -> Alb {
    let (blue, green) = (target_group(client, "blue").await, target_group(client, "green").await);
    let balancer = client
        .create_load_balancer()
        .name("web")
        .subnets("subnet-0000001")
        .subnets("subnet-0000002")
        .send()
        .await
        .expect("a load balancer");
    let (arn, port) = (balancer.load_balancers()[0].load_balancer_arn().unwrap(), free_port().await);
    let listener = client
        .create_listener()
        .load_balancer_arn(arn)
        .protocol(ProtocolEnum::Http)
        .port(port)
        .default_actions(forward((&blue, 100), (&green, 0)))
        .send()
        .await
        .expect("a listener");
    let dimension = arn.split_once(":loadbalancer/").unwrap().1.to_owned();
    Alb { listener: listener.listeners()[0].listener_arn().unwrap().to_owned(), port, dimension, blue, green }
}

#[tokio::test]
async fn weights_written_over_the_query_protocol_read_back_as_written() {
    let (_sandbox, config) = sandbox().await;
    let client = elb::Client::new(&config);
    let Alb { listener, blue, green, .. } = alb(&client).await;
    let paths = PathPatternConditionConfig::builder().values("/shop/*").build();
    let made = client
        .create_rule()
        .listener_arn(&listener)
        .priority(10)
        .conditions(RuleCondition::builder().field("path-pattern").path_pattern_config(paths).build())
        .actions(forward((&blue, 999), (&green, 0)))
        .send()
        .await
        .expect("a rule");
    let rule = made.rules()[0].rule_arn().unwrap();
    let changed = client.modify_rule().rule_arn(rule).actions(forward((&blue, 900), (&green, 100)));
    let changed = changed.send().await.expect("the rule changes");
    assert_eq!(weights(changed.rules()[0].actions()), [900, 100]);

    let read = client.describe_rules().rule_arns(rule).send().await.unwrap();
    let rule = &read.rules()[0];
    assert_eq!((rule.priority(), weights(rule.actions())), (Some("10"), vec![900, 100]));
    assert_eq!(rule.conditions()[0].path_pattern_config().unwrap().values(), ["/shop/*"]);
}

#[tokio::test]
async fn an_error_of_the_query_protocol_is_the_clients_modelled_error() {
    let (sandbox, config) = sandbox().await;
    let client = elb::Client::new(&config);
    let Alb { listener, blue, .. } = alb(&client).await;
    let nowhere = blue.replace("blue", "nowhere");
    let refused = client
        .modify_listener()
        .listener_arn(&listener)
        .default_actions(forward((&blue, 1), (&nowhere, 1)))
        .send()
        .await
        .expect_err("no such group")
        .into_service_error();
    assert!(refused.is_target_group_not_found_exception(), "{refused:?}");
    let record = sandbox.calls(0).pop().unwrap();
    assert_eq!(record.result.as_deref(), Some("TargetGroupNotFound"));
    assert_eq!((record.mutating, record.resource), (true, Some(listener)));
}

#[tokio::test]
async fn a_read_that_is_ordered_stale_shows_the_weights_of_the_version_before() {
    let (sandbox, config) = sandbox().await;
    let client = elb::Client::new(&config);
    let Alb { listener, blue, green, .. } = alb(&client).await;
    sandbox.arm(rule("DescribeListeners", Effect::Stale { versions: 1 })).unwrap();
    client
        .modify_listener()
        .listener_arn(&listener)
        .default_actions(forward((&blue, 50), (&green, 50)))
        .send()
        .await
        .expect("the weights change");
    let read = || async {
        let read = client.describe_listeners().listener_arns(&listener).send().await.unwrap();
        weights(read.listeners()[0].default_actions())
    };
    assert_eq!(read().await, [100, 0]);
    assert_eq!(read().await, [50, 50]);
}

#[tokio::test]
async fn a_throttled_client_gets_the_error_that_its_retry_mode_knows() {
    let settings = SandboxSettings { weather: Conditions::of(Profile::Real), ..SandboxSettings::default() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let client = elb::Client::new(&client_config(sandbox.endpoint()).await);
    let mut codes = Vec::new();
    for _ in 0..60 {
        if let Err(refused) = client.describe_target_groups().send().await {
            codes.push(refused.into_service_error().meta().code().unwrap_or_default().to_owned());
        }
    }
    assert!(!codes.is_empty() && codes.iter().all(|code| code == "Throttling"), "{codes:?}");
}

async fn web_revision(client: &aws_sdk_ecs::Client, environment: &[(&str, &str)]) {
    let port = PortMapping::builder().container_port(8080).build();
    let environment =
        environment.iter().map(|(name, value)| KeyValuePair::builder().name(*name).value(*value).build());
    let container = ContainerDefinition::builder()
        .name("web")
        .image("pointsman/demo:1")
        .port_mappings(port)
        .set_environment(Some(environment.collect()))
        .build();
    client
        .register_task_definition()
        .family("web")
        .network_mode(NetworkMode::Awsvpc)
        .requires_compatibilities(Compatibility::Fargate)
        .cpu("256")
        .memory("512")
        .container_definitions(container)
        .send()
        .await
        .expect("a task definition");
}

async fn task_set(
    client: &aws_sdk_ecs::Client,
    revision: &str,
    group: &str,
    percent: f64,
) -> aws_sdk_ecs::types::TaskSet {
    let network = AwsVpcConfiguration::builder().subnets("subnet-0000001").build().unwrap();
    let balancer = LoadBalancer::builder().target_group_arn(group).container_name("web").container_port(8080);
    client
        .create_task_set()
        .cluster("shop")
        .service("web")
        .task_definition(revision)
        .external_id("pm1/x")
        .launch_type(LaunchType::Fargate)
        .network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build())
        .load_balancers(balancer.build())
        .scale(Scale::builder().value(percent).unit(ScaleUnit::Percent).build())
        .send()
        .await
        .expect("a task set")
        .task_set
        .unwrap()
}

/// Looks again until it is so; fails only when that takes absurdly long.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "never {what}");
}

async fn steady(client: &aws_sdk_ecs::Client, set: &aws_sdk_ecs::types::TaskSet) {
    eventually("steady", || async {
        let read = client.describe_task_sets().cluster("shop").service("web").send().await.unwrap();
        let read = read.task_sets().iter().find(|read| read.id() == set.id()).unwrap().clone();
        read.stability_status == Some(StabilityStatus::SteadyState)
            && read.running_count == read.computed_desired_count
    })
    .await;
}

async fn external_service(client: &aws_sdk_ecs::Client) {
    client.create_cluster().cluster_name("shop").send().await.expect("a cluster");
    web_revision(client, &[]).await;
    let external =
        DeploymentController::builder().r#type(DeploymentControllerType::External).build().unwrap();
    client
        .create_service()
        .cluster("shop")
        .service_name("web")
        .desired_count(2)
        .scheduling_strategy(SchedulingStrategy::Replica)
        .deployment_controller(external)
        .send()
        .await
        .expect("a service");
}

#[tokio::test]
async fn a_task_set_is_made_over_json_and_shows_the_count_it_computed() {
    let (sandbox, config) = sandbox().await;
    let group = alb(&elb::Client::new(&config)).await.blue;
    let client = aws_sdk_ecs::Client::new(&config);
    external_service(&client).await;
    let made = task_set(&client, "web:1", &group, 50.0).await;
    assert_eq!((made.computed_desired_count, made.external_id.as_deref()), (1, Some("pm1/x")));
    assert_eq!(made.stability_status, Some(StabilityStatus::Stabilizing));
    assert!(made.created_at.is_some());

    let described = client.describe_services().cluster("shop").services("web").send().await.unwrap();
    assert_eq!(described.services()[0].task_sets()[0].task_set_arn(), made.task_set_arn());
    let record = sandbox.calls(0).into_iter().find(|record| record.operation == "CreateTaskSet").unwrap();
    assert_eq!(record.resource, made.task_set_arn);
}

#[tokio::test]
async fn an_ecs_error_is_the_clients_modelled_error() {
    let (_sandbox, config) = sandbox().await;
    let client = aws_sdk_ecs::Client::new(&config);
    external_service(&client).await;
    let refused = client.describe_task_sets().cluster("shop").service("nope").send().await;
    let refused = refused.expect_err("no such service").into_service_error();
    assert!(refused.is_service_not_found_exception(), "{refused:?}");
}

async fn errors_alarm(client: &aws_sdk_cloudwatch::Client) {
    client
        .put_metric_alarm()
        .alarm_name("errors")
        .namespace("Shop")
        .metric_name("Errors")
        .statistic(Statistic::Sum)
        .period(60)
        .evaluation_periods(1)
        .threshold(5.0)
        .comparison_operator(ComparisonOperator::GreaterThanThreshold)
        .dimensions(Dimension::builder().name("svc").value("web").build())
        .treat_missing_data("notBreaching")
        .send()
        .await
        .expect("an alarm");
}

#[tokio::test]
async fn an_alarm_goes_back_and_forth_over_cbor() {
    let (_sandbox, config) = sandbox().await;
    let client = aws_sdk_cloudwatch::Client::new(&config);
    errors_alarm(&client).await;
    client
        .set_alarm_state()
        .alarm_name("errors")
        .state_value(StateValue::Alarm)
        .state_reason("test")
        .send()
        .await
        .expect("the state is set");
    let read = client.describe_alarms().state_value(StateValue::Alarm).send().await.unwrap();
    let alarm = &read.metric_alarms()[0];
    assert_eq!(
        (alarm.alarm_name(), alarm.threshold(), alarm.period()),
        (Some("errors"), Some(5.0), Some(60))
    );
    assert!(alarm.state_transitioned_timestamp().is_some());

    let refused = client
        .set_alarm_state()
        .alarm_name("nope")
        .state_value(StateValue::Ok)
        .state_reason("x")
        .send()
        .await;
    let refused = refused.expect_err("no such alarm").into_service_error();
    assert!(refused.is_resource_not_found(), "{refused:?}");
}

#[tokio::test]
async fn a_body_that_the_client_compressed_is_counted_to_the_last_datum() {
    let (_sandbox, config) = sandbox().await;
    let client = aws_sdk_cloudwatch::Client::new(&config);
    let now = clock::now().as_second();
    let datum = MetricDatum::builder()
        .metric_name("Requests")
        .timestamp(DateTime::from_secs(now - 60))
        .value(1.0)
        .unit(StandardUnit::Count)
        .build();
    // 1,000 data are far over the 10,240 bytes from which the client compresses.
    client
        .put_metric_data()
        .namespace("Shop")
        .set_metric_data(Some(vec![datum; 1_000]))
        .send()
        .await
        .expect("kept");
    let metric = Metric::builder().namespace("Shop").metric_name("Requests").build();
    let stat = MetricStat::builder().metric(metric).period(60).stat("Sum").build();
    let read = client
        .get_metric_data()
        .metric_data_queries(MetricDataQuery::builder().id("a").metric_stat(stat).build())
        .start_time(DateTime::from_secs(now - 300))
        .end_time(DateTime::from_secs(now + 60))
        .send()
        .await
        .expect("readable");
    let sum: f64 = read.metric_data_results()[0].values().iter().sum();
    assert!((sum - 1_000.0).abs() < f64::EPSILON, "{sum}");
}

/// Status and text of one request through a load balancer, on a connection of its own.
async fn get(port: i32) -> (u16, String) {
    let address = (Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[tokio::test]
async fn errors_of_a_bad_revision_reach_the_alarm_and_one_weight_write_ends_them() {
    let settings = SandboxSettings { speed: 60, ..SandboxSettings::default() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let config = client_config(sandbox.endpoint()).await;
    let (ecs, elb) = (aws_sdk_ecs::Client::new(&config), elb::Client::new(&config));
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&config);
    let alb = alb(&elb).await;
    external_service(&ecs).await;
    web_revision(&ecs, &[("ERROR_RATE", "100%")]).await;
    let good = task_set(&ecs, "web:1", &alb.blue, 100.0).await;
    let bad = task_set(&ecs, "web:2", &alb.green, 100.0).await;
    steady(&ecs, &good).await;
    steady(&ecs, &bad).await;
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    cloudwatch
        .put_metric_alarm()
        .alarm_name("green-5xx")
        .namespace("AWS/ApplicationELB")
        .metric_name("HTTPCode_Target_5XX_Count")
        .dimensions(dimension("LoadBalancer", &alb.dimension))
        .dimensions(dimension("TargetGroup", alb.green.rsplit(':').next().unwrap()))
        .statistic(Statistic::Sum)
        .period(60)
        .evaluation_periods(1)
        .threshold(0.0)
        .comparison_operator(ComparisonOperator::GreaterThanThreshold)
        .treat_missing_data("notBreaching")
        .send()
        .await
        .expect("an alarm");
    assert_eq!(get(alb.port).await.0, 200, "all weight is on the good revision");

    let shift = |blue, green| {
        let actions = forward((&alb.blue, blue), (&alb.green, green));
        elb.modify_listener().listener_arn(&alb.listener).default_actions(actions).send()
    };
    shift(0, 100).await.unwrap();
    eventually("in ALARM", || async {
        let (status, answer) = get(alb.port).await;
        assert!(status >= 500 && answer.contains("web:2"), "only the bad revision answers: {answer}");
        let read = cloudwatch.describe_alarms().alarm_names("green-5xx").send().await.unwrap();
        read.metric_alarms()[0].state_value() == Some(&StateValue::Alarm)
    })
    .await;
    shift(100, 0).await.unwrap();
    for _ in 0..50 {
        let (status, answer) = get(alb.port).await;
        assert!(status == 200 && answer.contains("web:1"), "the write was acknowledged: {answer}");
    }
}

#[tokio::test]
async fn a_killed_task_is_replaced_and_says_how_it_ended() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_ecs::Client::new(&config);
    let group = alb(&elb::Client::new(&config)).await.blue;
    external_service(&client).await;
    let set = task_set(&client, "web:1", &group, 50.0).await;
    steady(&client, &set).await;
    let tasks = || client.list_tasks().cluster("shop").service_name("web").send();
    let victim = tasks().await.unwrap().task_arns()[0].clone();
    assert!(sandbox.kill_task(victim.rsplit('/').next().unwrap()));
    eventually("replaced", || async {
        let read = tasks().await.unwrap();
        let replaced = read.task_arns().len() == 1 && read.task_arns()[0] != victim;
        replaced && sandbox.state()["clusters"][0]["services"][0]["runningCount"] == 1
    })
    .await;
    let stopped = client.describe_tasks().cluster("shop").tasks(&victim).send().await.unwrap();
    assert_eq!(stopped.tasks()[0].containers()[0].exit_code(), Some(137));
    assert!(!sandbox.kill_task("nobody"));
}
