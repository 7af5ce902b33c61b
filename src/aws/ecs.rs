//! Amazon ECS: the service with its task sets, task definitions, stopped tasks, and the task-set mutations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::SdkError;
use aws_sdk_ecs::types;

use super::batch::{Source, Suspects};
use super::budget::{Family, Limiter, Urgency};
use super::clients;
use super::error::CallError;
use super::lease_gate::LeaseGate;
use crate::model::observed::{Service, ServiceStatus, TaskDefinition, TaskSet, TaskSetStatus};
use crate::model::{Plan, Revision, Seen};
use crate::records::managed_service::{ManagedServiceSpec, TaskSetTemplate};
use crate::records::names::{Arn, PerGroup};
use crate::records::{Group, Percent};

/// `DescribeServices` takes ten services of one cluster (`aws-facts.md` §1.11).
const SERVICES_PER_CALL: usize = 10;
/// The operation of [`Services`].
const DESCRIBE_SERVICES: &str = "DescribeServices";
/// `DescribeTasks` takes a hundred.
const TASKS_PER_CALL: usize = 100;
/// Pages of stopped tasks that are looked through for a reason; a hundred tasks each.
const MOST_TASK_PAGES: usize = 10;

/// An ECS service as AWS answered it; none when AWS does not know it.
pub type ServiceAnswer = Option<Arc<types::Service>>;

/// `DescribeServices`, ten services of a cluster at a time.
#[derive(Debug)]
pub struct Services {
    /// Client.
    pub client: Client,
    /// Budget.
    pub limiter: Limiter,
}

#[async_trait]
impl Source for Services {
    /// Cluster ARN, service ARN.
    type Key = (String, String);
    type Item = ServiceAnswer;

    fn divide(&self, keys: BTreeSet<Self::Key>, suspects: &Suspects<Self::Key>) -> Vec<Vec<Self::Key>> {
        let mut of_cluster: BTreeMap<String, Vec<Self::Key>> = BTreeMap::new();
        for key in keys {
            of_cluster.entry(key.0.clone()).or_default().push(key);
        }
        of_cluster.into_values().flat_map(|keys| suspects.divide(keys, SERVICES_PER_CALL)).collect()
    }

    async fn turn(&self) -> Result<(), CallError> {
        self.limiter.turn(DESCRIBE_SERVICES, Family::Services, Urgency::Look).await
    }

    async fn describe(
        &self,
        keys: &[Self::Key],
    ) -> Result<BTreeMap<Self::Key, Seen<ServiceAnswer>>, CallError> {
        let cluster = keys.first().map(|(cluster, _)| cluster.clone());
        let answer = self
            .client
            .describe_services()
            .set_cluster(cluster)
            .set_services(Some(keys.iter().map(|(_, service)| service.clone()).collect()))
            .send()
            .await
            .map_err(|error| CallError::of_read(DESCRIBE_SERVICES, &error))?;
        let mut found: BTreeMap<String, Seen<ServiceAnswer>> = BTreeMap::new();
        for failure in answer.failures() {
            let reason = failure.reason().unwrap_or("no reason given");
            let seen = if reason == "MISSING" {
                Seen::Known(None)
            } else {
                let detail = failure.detail().unwrap_or_default();
                Seen::Unknown(format!("{DESCRIBE_SERVICES}: {reason} {detail}"))
            };
            found.insert(failure.arn().unwrap_or_default().to_owned(), seen);
        }
        for service in answer.services.unwrap_or_default() {
            if let Some(arn) = service.service_arn.clone() {
                found.insert(arn, Seen::Known(Some(Arc::new(service))));
            }
        }
        Ok(keys.iter().filter_map(|key| Some((key.clone(), found.remove(&key.1)?))).collect())
    }

    fn absence(&self, error: &CallError) -> Option<ServiceAnswer> {
        // No cluster, no service in it.
        (error.code() == Some("ClusterNotFoundException")).then_some(None)
    }
}

/// The service as the core sees it. What cannot be understood makes the whole service unknown: half a list
/// of task sets would read as absence of the rest.
pub fn service(answer: &ServiceAnswer, groups: &PerGroup<Arn>) -> Seen<Service> {
    let Some(service) = answer else {
        return Seen::Known(Service {
            status: ServiceStatus::Missing,
            external: false,
            desired_count: 0,
            task_sets: Vec::new(),
        });
    };
    match read_service(service, groups) {
        Ok(service) => Seen::Known(service),
        Err(what) => Seen::Unknown(format!("DescribeServices: {what}")),
    }
}

fn read_service(service: &types::Service, groups: &PerGroup<Arn>) -> Result<Service, String> {
    let status = match service.status() {
        Some("ACTIVE") => ServiceStatus::Active,
        Some("DRAINING") => ServiceStatus::Draining,
        Some("INACTIVE") => ServiceStatus::Inactive,
        other => return Err(format!("service status {other:?}")),
    };
    let controller = service.deployment_controller().map(types::DeploymentController::r#type);
    Ok(Service {
        status,
        external: controller == Some(&types::DeploymentControllerType::External),
        desired_count: count("desiredCount", service.desired_count())?,
        task_sets: service
            .task_sets()
            .iter()
            .map(|task_set| read_task_set(task_set, groups))
            .collect::<Result<_, _>>()?,
    })
}

fn read_task_set(task_set: &types::TaskSet, groups: &PerGroup<Arn>) -> Result<TaskSet, String> {
    let arn = task_set.task_set_arn().ok_or("a task set without an ARN")?;
    let within = |what: String| format!("task set {arn}: {what}");
    let status = match task_set.status() {
        Some("PRIMARY") => TaskSetStatus::Primary,
        Some("ACTIVE") => TaskSetStatus::Active,
        Some("DRAINING") => TaskSetStatus::Draining,
        other => return Err(within(format!("status {other:?}"))),
    };
    let revision = task_set.task_definition().unwrap_or_default();
    let scale = task_set.scale().ok_or_else(|| within("no scale".to_owned()))?;
    let mut registered = task_set.load_balancers().iter().filter_map(types::LoadBalancer::target_group_arn);
    Ok(TaskSet {
        arn: arn.to_owned(),
        external_id: task_set.external_id().map(str::to_owned),
        revision: revision.parse::<Revision>().map_err(|error| within(error.to_string()))?,
        status,
        group: registered.find_map(|group| groups.group_of(group)),
        scale: percent(scale.value()).ok_or_else(|| within(format!("scale {}", scale.value())))?,
        computed: count("computedDesiredCount", task_set.computed_desired_count()).map_err(within)?,
        running: count("runningCount", task_set.running_count()).map_err(within)?,
        pending: count("pendingCount", task_set.pending_count()).map_err(within)?,
        steady: task_set.stability_status() == Some(&types::StabilityStatus::SteadyState),
    })
}

fn count(what: &str, value: i32) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("{what} is {value}"))
}

/// AWS's double, to the nearest tenth; none outside 0 to 100. Going through text keeps it free of casts that
/// silently wrap.
fn percent(value: f64) -> Option<Percent> {
    // `+ 0.0` turns a negative zero into zero.
    format!("{:.1}", value + 0.0).parse().ok()
}

/// What a template and a release make of a new task set.
#[derive(Clone, Copy, Debug)]
pub struct NewTaskSet<'a> {
    /// Target group it registers in.
    pub group: Group,
    /// What it runs.
    pub revision: &'a Revision,
    /// Never omitted: AWS's default is 0 % (`aws-facts.md` §1.6).
    pub scale: Percent,
    /// How it is found again.
    pub external_id: &'a str,
    /// `clientToken`.
    pub token: &'a str,
}

/// Sends one mutation through its gate, once.
macro_rules! send_gated {
    ($request:expr, $gate:expr) => {
        $request
            .customize()
            .config_override(aws_sdk_ecs::config::Config::builder().retry_config(clients::mutation_retries()))
            .interceptor($gate.clone())
            .send()
            .await
    };
}

/// The ECS calls that are made one by one.
#[derive(Clone, Debug)]
pub struct Ecs {
    /// Client.
    pub client: Client,
    /// Budget.
    pub limiter: Limiter,
}

impl Ecs {
    /// `CreateTaskSet`: answers the new task set's ARN.
    pub async fn create(
        &self,
        spec: &ManagedServiceSpec,
        new: &NewTaskSet<'_>,
        gate: &LeaseGate,
    ) -> Result<String, CallError> {
        const OPERATION: &str = "CreateTaskSet";
        let incomplete = |what| CallError::incomplete(OPERATION, what);
        let template = &spec.task_set;
        let request =
            self.client
                .create_task_set()
                .cluster(spec.ecs.cluster.as_str())
                .service(spec.ecs.service.as_str())
                .task_definition(new.revision.to_string())
                .external_id(new.external_id)
                .client_token(new.token)
                .scale(scale(new.scale))
                .load_balancers(
                    types::LoadBalancer::builder()
                        .target_group_arn(spec.target_groups.of(new.group).as_str())
                        .container_name(&spec.container.name)
                        .container_port(i32::from(spec.container.port.get()))
                        .build(),
                )
                .set_capacity_provider_strategy(capacity(template)?)
                .set_launch_type(launch_type(template))
                .set_platform_version(template.platform_version.clone())
                .set_network_configuration(network(template).map_err(|what| unbuildable(OPERATION, &what))?)
                .set_service_registries(
                    template.service_registry.as_ref().map(|arn| {
                        vec![types::ServiceRegistry::builder().registry_arn(arn.as_str()).build()]
                    }),
                )
                .set_tags(Some(tags(template, new.external_id)));
        let answer =
            send_gated!(request, gate).map_err(|error| CallError::of_mutation(OPERATION, &error, gate))?;
        let task_set = answer.task_set.ok_or_else(|| incomplete("the task set"))?;
        // A token that AWS still knows from something else would answer with that other set.
        if task_set.external_id().is_some_and(|id| id != new.external_id) {
            return Err(incomplete("our external id"));
        }
        task_set.task_set_arn.ok_or_else(|| incomplete("the task set's ARN"))
    }

    /// `UpdateTaskSet`: the only thing it can change is the scale.
    pub async fn scale(
        &self,
        plan: &Plan,
        task_set: &str,
        percent: Percent,
        gate: &LeaseGate,
    ) -> Result<(), CallError> {
        let request = self
            .client
            .update_task_set()
            .cluster(plan.spec.ecs.cluster.as_str())
            .service(plan.spec.ecs.service.as_str())
            .task_set(task_set)
            .scale(scale(percent));
        mutated("UpdateTaskSet", send_gated!(request, gate), gate)
    }

    /// `DeleteTaskSet`, by ARN and with force: it is at weight 0 and still runs.
    pub async fn delete(&self, plan: &Plan, task_set: &str, gate: &LeaseGate) -> Result<(), CallError> {
        let request = self
            .client
            .delete_task_set()
            .cluster(plan.spec.ecs.cluster.as_str())
            .service(plan.spec.ecs.service.as_str())
            .task_set(task_set)
            .force(true);
        mutated("DeleteTaskSet", send_gated!(request, gate), gate)
    }

    /// `UpdateServicePrimaryTaskSet`.
    pub async fn set_primary(&self, plan: &Plan, task_set: &str, gate: &LeaseGate) -> Result<(), CallError> {
        let request = self
            .client
            .update_service_primary_task_set()
            .cluster(plan.spec.ecs.cluster.as_str())
            .service(plan.spec.ecs.service.as_str())
            .primary_task_set(task_set);
        mutated("UpdateServicePrimaryTaskSet", send_gated!(request, gate), gate)
    }

    /// The task definition; none when AWS does not know it.
    pub async fn task_definition(&self, revision: &Revision) -> Result<Option<TaskDefinition>, CallError> {
        const OPERATION: &str = "DescribeTaskDefinition";
        self.limiter.turn(OPERATION, Family::Tasks, Urgency::Look).await?;
        let answer =
            self.client.describe_task_definition().task_definition(revision.to_string()).send().await;
        let answer = match answer.map_err(|error| CallError::of_read(OPERATION, &error)) {
            Ok(answer) => answer,
            Err(error) if is_unknown_task_definition(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let definition =
            answer.task_definition.ok_or_else(|| CallError::incomplete(OPERATION, "the task definition"))?;
        let ports = |container: &types::ContainerDefinition| {
            let ports = container.port_mappings().iter().filter_map(types::PortMapping::container_port);
            ports.filter_map(|port| u16::try_from(port).ok()).collect::<BTreeSet<_>>()
        };
        Ok(Some(TaskDefinition {
            active: definition.status() == Some(&types::TaskDefinitionStatus::Active),
            awsvpc: definition.network_mode() == Some(&types::NetworkMode::Awsvpc),
            containers: definition
                .container_definitions()
                .iter()
                .map(|container| (container.name().unwrap_or_default().to_owned(), ports(container)))
                .collect(),
        }))
    }

    /// Why the task of `task_set` that stopped last did so; none when none has.
    ///
    /// `ListTasks` cannot filter by `startedBy` together with anything else, so all stopped tasks of the
    /// service are listed and sorted out here (`semantics` 4.1, step 6). ECS forgets them after an hour.
    pub async fn last_stop(&self, plan: &Plan, task_set: &str) -> Result<Option<String>, CallError> {
        let started_by = format!("ecs-svc/{}", crate::model::effect::short(task_set));
        let mut last: Option<types::Task> = None;
        for tasks in self.stopped_tasks(plan).await?.chunks(TASKS_PER_CALL) {
            const OPERATION: &str = "DescribeTasks";
            self.limiter.turn(OPERATION, Family::Tasks, Urgency::Look).await?;
            let answer = self
                .client
                .describe_tasks()
                .cluster(plan.spec.ecs.cluster.as_str())
                .set_tasks(Some(tasks.to_vec()))
                .send()
                .await
                .map_err(|error| CallError::of_read(OPERATION, &error))?;
            let ours = answer.tasks.unwrap_or_default().into_iter();
            let ours = ours.filter(|task| task.started_by() == Some(&started_by));
            last = last.into_iter().chain(ours).max_by_key(stopped_at);
        }
        Ok(last.map(|task| why_stopped(&task)))
    }

    async fn stopped_tasks(&self, plan: &Plan) -> Result<Vec<String>, CallError> {
        const OPERATION: &str = "ListTasks";
        let mut arns = Vec::new();
        let mut token = None;
        for _ in 0..MOST_TASK_PAGES {
            self.limiter.turn(OPERATION, Family::Tasks, Urgency::Look).await?;
            let page = self
                .client
                .list_tasks()
                .cluster(plan.spec.ecs.cluster.as_str())
                .service_name(crate::model::effect::short(plan.spec.ecs.service.as_str()))
                .desired_status(types::DesiredStatus::Stopped)
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| CallError::of_read(OPERATION, &error))?;
            arns.extend(page.task_arns.unwrap_or_default());
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        // With more pages than that, the reason of one of the first thousand is reason enough.
        Ok(arns)
    }
}

/// ECS says it with a `ClientException` and these words.
fn is_unknown_task_definition(error: &CallError) -> bool {
    error.code() == Some("ClientException")
        && error.to_string().to_ascii_lowercase().contains("unable to describe task definition")
}

fn mutated<O, E>(
    operation: &'static str,
    answer: Result<O, SdkError<E, aws_sdk_ecs::config::http::HttpResponse>>,
    gate: &LeaseGate,
) -> Result<(), CallError>
where
    E: aws_sdk_ecs::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    answer.map(|_| ()).map_err(|error| CallError::of_mutation(operation, &error, gate))
}

fn unbuildable(operation: &'static str, what: &str) -> CallError {
    CallError { operation, cause: super::error::Cause::NotSent(what.to_owned()) }
}

fn scale(percent: Percent) -> types::Scale {
    types::Scale::builder().unit(types::ScaleUnit::Percent).value(f64::from(percent.tenths()) / 10.0).build()
}

fn capacity(
    template: &TaskSetTemplate,
) -> Result<Option<Vec<types::CapacityProviderStrategyItem>>, CallError> {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let items = template.capacity_provider_strategy.iter().map(|item| {
        types::CapacityProviderStrategyItem::builder()
            .capacity_provider(&item.capacity_provider)
            .base(number(item.base))
            .weight(number(item.weight))
            .build()
            .map_err(|error| unbuildable("CreateTaskSet", &error.to_string()))
    });
    let items = items.collect::<Result<Vec<_>, _>>()?;
    Ok((!items.is_empty()).then_some(items))
}

/// A capacity provider strategy excludes it; records with both are refused, and AWS would refuse them too.
fn launch_type(template: &TaskSetTemplate) -> Option<types::LaunchType> {
    if !template.capacity_provider_strategy.is_empty() {
        return None;
    }
    template.launch_type.map(|launch_type| types::LaunchType::from(launch_type.as_str()))
}

fn network(template: &TaskSetTemplate) -> Result<Option<types::NetworkConfiguration>, String> {
    let Some(network) = &template.network else { return Ok(None) };
    let public = if network.assign_public_ip {
        types::AssignPublicIp::Enabled
    } else {
        types::AssignPublicIp::Disabled
    };
    let awsvpc = types::AwsVpcConfiguration::builder()
        .set_subnets(Some(network.subnets.clone()))
        .set_security_groups((!network.security_groups.is_empty()).then(|| network.security_groups.clone()))
        .assign_public_ip(public)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Some(types::NetworkConfiguration::builder().awsvpc_configuration(awsvpc).build()))
}

/// The template's tags and the daemon's own two; the daemon's win.
fn tags(template: &TaskSetTemplate, external_id: &str) -> Vec<types::Tag> {
    let mut tags = template.tags.clone();
    tags.insert("managed-by".to_owned(), "pointsman".to_owned());
    tags.insert("pointsman:release".to_owned(), external_id.to_owned());
    tags.into_iter().map(|(key, value)| types::Tag::builder().key(key).value(value).build()).collect()
}

fn stopped_at(task: &types::Task) -> Option<(i64, u32)> {
    let at = task.stopped_at().or(task.stopping_at()).or(task.created_at())?;
    Some((at.secs(), at.subsec_nanos()))
}

/// The task's own words, then those of its containers that did not end well.
fn why_stopped(task: &types::Task) -> String {
    let mut why = task.stopped_reason().unwrap_or("stopped without a reason").to_owned();
    for container in task.containers() {
        let name = container.name().unwrap_or("a container");
        let exit = container.exit_code().filter(|code| *code != 0).map(|code| format!("exit code {code}"));
        let said = exit.into_iter().chain(container.reason().map(str::to_owned)).collect::<Vec<_>>();
        if !said.is_empty() {
            why.push_str("; ");
            why.push_str(name);
            why.push_str(": ");
            why.push_str(&said.join(", "));
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_is_read_to_the_nearest_tenth_and_never_guessed() {
        let tenths = |value| percent(value).map(Percent::tenths);
        assert_eq!(tenths(0.1 + 0.2), Some(3));
        assert_eq!(tenths(33.3), Some(333));
        assert_eq!(tenths(100.0), Some(1000));
        assert_eq!(tenths(0.0), Some(0));
        assert_eq!(tenths(-0.0), Some(0));
        for value in [-1.0, 100.1, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(tenths(value), None, "{value}");
        }
    }

    #[test]
    fn every_percentage_survives_the_way_to_aws_and_back() {
        for tenths in 0..=1000 {
            let there = Percent::from_tenths(tenths).unwrap();
            assert_eq!(percent(scale(there).value()), Some(there));
        }
    }
}
