//! The AWS resources of the demo: what a platform team has before it hands a service to the daemon.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, Statistic};
use aws_sdk_ecs::types::{
    Compatibility, ContainerDefinition, DeploymentController, DeploymentControllerType, KeyValuePair,
    NetworkMode, PortMapping, SchedulingStrategy,
};
use aws_sdk_elasticloadbalancingv2 as elb;
use elb::types::{
    Action, ActionTypeEnum, FixedResponseActionConfig, ForwardActionConfig, HttpHeaderConditionConfig,
    PathPatternConditionConfig, ProtocolEnum, RuleCondition, TargetGroupAttribute, TargetGroupTuple,
    TargetTypeEnum,
};
use tokio::net::{TcpListener, TcpStream};

use super::records::{CONTAINER, CONTAINER_PORT};
use super::{DESIRED_COUNT, NAME, Site};
use crate::demo::DemoError;
use crate::demo::pace::{ALARM_PERIOD_SECS, ALARM_THRESHOLD, DEREGISTRATION_SECS, HEALTH_CHECK_SECS};
use crate::records::names::{Arn, PerGroup};
use crate::sandbox::Sandbox;

/// Of a network that the sandbox only knows by name.
pub const SUBNETS: [&str; 2] = ["subnet-0a1b2c3d", "subnet-4e5f6a7b"];
/// Ports tried for the listener: another program may take a free one first.
const PORTS: usize = 5;
/// Looks at a new listener, 50 ms apart.
const LOOKS: usize = 60;

/// The faults of each version's task definition.
const VERSIONS: [&[(&str, &str)]; 3] = [&[], &[], &[("ERROR_RATE", "50")]];

/// Makes everything: cluster, task definitions, service, load balancer, rules and alarms.
pub async fn build(sdk: &SdkConfig, sandbox: &Sandbox) -> Result<Site, DemoError> {
    let ecs = aws_sdk_ecs::Client::new(sdk);
    let (cluster, service) = ecs_service(&ecs).await?;
    let elb = elb::Client::new(sdk);
    let groups = PerGroup {
        a: target_group(&elb, &format!("{NAME}-a")).await?,
        b: target_group(&elb, &format!("{NAME}-b")).await?,
    };
    let made = elb.create_load_balancer().name(NAME).set_subnets(Some(SUBNETS.map(str::to_owned).to_vec()));
    let made = made.send().await.map_err(failed("create the load balancer"))?;
    let balancer = arn(made.load_balancers().first().and_then(|one| one.load_balancer_arn()))?;
    let (listener, port) = listener(&elb, &balancer, sandbox).await?;
    let header = HttpHeaderConditionConfig::builder().http_header_name("x-preview").values("yes").build();
    let preview = RuleCondition::builder().field("http-header").http_header_config(header).build();
    let paths = PathPatternConditionConfig::builder().values("/*").build();
    let everything = RuleCondition::builder().field("path-pattern").path_pattern_config(paths).build();
    let test = rule(&elb, &listener, 10, preview, &groups).await?;
    let production = rule(&elb, &listener, 20, everything, &groups).await?;

    let cloudwatch = aws_sdk_cloudwatch::Client::new(sdk);
    let group_alarms = PerGroup { a: format!("{NAME}-a-5xx"), b: format!("{NAME}-b-5xx") };
    for (name, group) in [(&group_alarms.a, &groups.a), (&group_alarms.b, &groups.b)] {
        alarm(&cloudwatch, name, "HTTPCode_Target_5XX_Count", &balancer, Some(group)).await?;
    }
    let service_alarm = format!("{NAME}-elb-5xx");
    alarm(&cloudwatch, &service_alarm, "HTTPCode_ELB_5XX_Count", &balancer, None).await?;
    Ok(Site { cluster, service, groups, production, test, port, group_alarms, service_alarm })
}

/// An AWS call of the demo failed.
fn failed<E: std::error::Error + Send + Sync + 'static>(action: &'static str) -> impl Fn(E) -> DemoError {
    move |source| DemoError::Aws { action, source: Box::new(source) }
}

fn arn(text: Option<&str>) -> Result<Arn, DemoError> {
    let text = text.ok_or(DemoError::Missing { what: "an ARN in an answer" })?;
    text.parse().map_err(DemoError::Name)
}

async fn ecs_service(ecs: &aws_sdk_ecs::Client) -> Result<(Arn, Arn), DemoError> {
    let made =
        ecs.create_cluster().cluster_name("prod").send().await.map_err(failed("create the cluster"))?;
    let cluster = arn(made.cluster().and_then(|cluster| cluster.cluster_arn()))?;
    for faults in VERSIONS {
        task_definition(ecs, faults).await?;
    }
    let external = DeploymentController::builder().r#type(DeploymentControllerType::External).build();
    let made = ecs
        .create_service()
        .cluster(cluster.as_str())
        .service_name(NAME)
        .desired_count(DESIRED_COUNT)
        .scheduling_strategy(SchedulingStrategy::Replica)
        .deployment_controller(external.map_err(failed("create the service"))?)
        .send()
        .await
        .map_err(failed("create the service"))?;
    Ok((cluster, arn(made.service().and_then(|service| service.service_arn()))?))
}

async fn task_definition(ecs: &aws_sdk_ecs::Client, faults: &[(&str, &str)]) -> Result<(), DemoError> {
    let environment =
        faults.iter().map(|(name, value)| KeyValuePair::builder().name(*name).value(*value).build());
    let container = ContainerDefinition::builder()
        .name(CONTAINER)
        .image("pointsman/demo:1")
        .port_mappings(PortMapping::builder().container_port(i32::from(CONTAINER_PORT)).build())
        .set_environment(Some(environment.collect()))
        .build();
    ecs.register_task_definition()
        .family(NAME)
        .network_mode(NetworkMode::Awsvpc)
        .requires_compatibilities(Compatibility::Fargate)
        .cpu("256")
        .memory("512")
        .container_definitions(container)
        .send()
        .await
        .map_err(failed("register a task definition"))?;
    Ok(())
}

async fn target_group(elb: &elb::Client, name: &str) -> Result<Arn, DemoError> {
    let made = elb
        .create_target_group()
        .name(name)
        .protocol(ProtocolEnum::Http)
        .port(i32::from(CONTAINER_PORT))
        .vpc_id("vpc-0a1b2c3d")
        .target_type(TargetTypeEnum::Ip)
        .health_check_path("/health")
        .health_check_interval_seconds(seconds(HEALTH_CHECK_SECS))
        .health_check_timeout_seconds(2)
        .healthy_threshold_count(2)
        .unhealthy_threshold_count(2)
        .send()
        .await
        .map_err(failed("create a target group"))?;
    let group = arn(made.target_groups().first().and_then(|one| one.target_group_arn()))?;
    let delay = TargetGroupAttribute::builder()
        .key("deregistration_delay.timeout_seconds")
        .value(DEREGISTRATION_SECS.to_string())
        .build();
    elb.modify_target_group_attributes()
        .target_group_arn(group.as_str())
        .attributes(delay)
        .send()
        .await
        .map_err(failed("set the deregistration delay"))?;
    Ok(group)
}

fn seconds(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A listener on a port of this machine that is really open.
async fn listener(elb: &elb::Client, balancer: &Arn, sandbox: &Sandbox) -> Result<(Arn, u16), DemoError> {
    let nobody = FixedResponseActionConfig::builder().status_code("404").build();
    let nobody =
        Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(nobody).build();
    for _ in 0..PORTS {
        let port = free_port().await.map_err(DemoError::Port)?;
        let made = elb
            .create_listener()
            .load_balancer_arn(balancer.as_str())
            .protocol(ProtocolEnum::Http)
            .port(i32::from(port))
            .default_actions(nobody.clone())
            .send()
            .await
            .map_err(failed("create the listener"))?;
        let listener = arn(made.listeners().first().and_then(|one| one.listener_arn()))?;
        if is_open(sandbox, &listener, port).await {
            return Ok((listener, port));
        }
        let gone = elb.delete_listener().listener_arn(listener.as_str()).send().await;
        gone.map_err(failed("delete the listener"))?;
    }
    Err(DemoError::Missing { what: "a free port for the listener" })
}

async fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(listener.local_addr()?.port())
}

/// Whether it is the sandbox that listens there, and takes connections.
async fn is_open(sandbox: &Sandbox, listener: &Arn, port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for _ in 0..LOOKS {
        let state = &sandbox.state()["ports"][listener.as_str()];
        if state.get("failed").is_some() {
            return false;
        }
        if state.get("localPort").is_some() && TcpStream::connect(address).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// A rule that forwards to the pair, all weight on the first group.
async fn rule(
    elb: &elb::Client,
    listener: &Arn,
    priority: i32,
    condition: RuleCondition,
    groups: &PerGroup<Arn>,
) -> Result<Arn, DemoError> {
    let group =
        |arn: &Arn, weight| TargetGroupTuple::builder().target_group_arn(arn.as_str()).weight(weight).build();
    let forward =
        ForwardActionConfig::builder().target_groups(group(&groups.a, 1)).target_groups(group(&groups.b, 0));
    let action = Action::builder().r#type(ActionTypeEnum::Forward).forward_config(forward.build()).build();
    let made = elb
        .create_rule()
        .listener_arn(listener.as_str())
        .priority(priority)
        .conditions(condition)
        .actions(action)
        .send()
        .await
        .map_err(failed("create a rule"))?;
    arn(made.rules().first().and_then(|one| one.rule_arn()))
}

async fn alarm(
    cloudwatch: &aws_sdk_cloudwatch::Client,
    name: &str,
    metric: &str,
    balancer: &Arn,
    group: Option<&Arn>,
) -> Result<(), DemoError> {
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let balancer = balancer.resource().trim_start_matches("loadbalancer/");
    let mut dimensions = vec![dimension("LoadBalancer", balancer)];
    dimensions.extend(group.map(|group| dimension("TargetGroup", group.resource())));
    cloudwatch
        .put_metric_alarm()
        .alarm_name(name)
        .namespace("AWS/ApplicationELB")
        .metric_name(metric)
        .set_dimensions(Some(dimensions))
        .statistic(Statistic::Sum)
        .period(seconds(ALARM_PERIOD_SECS))
        .evaluation_periods(1)
        .threshold(f64::from(ALARM_THRESHOLD))
        .comparison_operator(ComparisonOperator::GreaterThanOrEqualToThreshold)
        .treat_missing_data("notBreaching")
        .send()
        .await
        .map_err(failed("put an alarm"))?;
    Ok(())
}
