//! Services: creation, change, deletion, and how they are described.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::scheduler::{Controller, Stability, StoredService, StoredSet};
use super::task_set::check_launch;
use super::{
    Around, CreateService, Deployment, DeploymentController, Ecs, Failure, Launch, Scale, Service,
    ServiceStatus, StabilityStatus, TaskSetStatus, UpdateService, check_tag_count, invalid,
};
use crate::world::ApiError;

/// Services in one `DescribeServices` call.
const SERVICES_PER_CALL: usize = 10;

/// Members that a service keeps as given and shows again.
const ECHOED: [&str; 9] = [
    "deploymentConfiguration",
    "placementConstraints",
    "placementStrategy",
    "schedulingStrategy",
    "enableECSManagedTags",
    "propagateTags",
    "enableExecuteCommand",
    "availabilityZoneRebalancing",
    "platformFamily",
];

/// What `UpdateService` may change beside the two counted members when the controller is EXTERNAL
/// (`aws-facts.md` §1.2).
const EXTERNAL_MAY_CHANGE: [&str; 4] =
    ["placementConstraints", "placementStrategy", "enableECSManagedTags", "propagateTags"];

fn service_not_found() -> ApiError {
    ApiError::client("ServiceNotFoundException", "Service not found.")
}

fn defaults() -> BTreeMap<String, Value> {
    let defaults = json!({
        "deploymentConfiguration": { "maximumPercent": 200, "minimumHealthyPercent": 100 },
        "placementConstraints": [],
        "placementStrategy": [],
        "schedulingStrategy": "REPLICA",
        "enableECSManagedTags": false,
        "propagateTags": "NONE",
        "enableExecuteCommand": false,
        "availabilityZoneRebalancing": "ENABLED",
    });
    match defaults {
        Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// Refuses on an EXTERNAL service what belongs to its task sets, or is not supported there.
fn check_external(input: &CreateService) -> Result<(), ApiError> {
    let launch = &input.launch;
    let given = [
        ("taskDefinition", input.task_definition.is_some()),
        ("launchType", launch.launch_type.is_some()),
        ("networkConfiguration", launch.network_configuration.is_some()),
        ("loadBalancers", !launch.load_balancers.is_empty()),
        ("serviceRegistries", !launch.service_registries.is_empty()),
        ("platformVersion", launch.platform_version.is_some()),
        (
            "capacityProviderStrategy",
            launch.capacity_provider_strategy.as_ref().is_some_and(|s| !s.is_empty()),
        ),
    ];
    if let Some((member, _)) = given.iter().find(|(_, given)| *given) {
        return Err(invalid(format!(
            "{member} cannot be specified on a service with an EXTERNAL deployment controller. Specify it on the task set."
        )));
    }
    if input.other.get("schedulingStrategy").is_some_and(|strategy| strategy == "DAEMON") {
        return Err(invalid(
            "The EXTERNAL deployment controller type is not supported for services using the DAEMON scheduling strategy.",
        ));
    }
    if input.other.get("serviceConnectConfiguration").is_some_and(|config| config["enabled"] == true) {
        return Err(invalid(
            "The EXTERNAL deployment controller type is not supported for services using Service Connect.",
        ));
    }
    let deployment = input.other.get("deploymentConfiguration").unwrap_or(&Value::Null);
    if deployment["deploymentCircuitBreaker"]["enable"] == true {
        return Err(invalid(
            "Deployment circuit breaker feature is only supported with ECS deployment controller.",
        ));
    }
    if deployment["alarms"]["enable"] == true {
        return Err(invalid(
            "Alarm based rollback feature is only supported with ECS deployment controller.",
        ));
    }
    Ok(())
}

impl StoredService {
    fn shape(&self, now: Timestamp) -> Service {
        let primary = self.sets.iter().find(|set| set.status == TaskSetStatus::Primary);
        let external = self.controller == Controller::External;
        Service {
            service_arn: self.arn.clone(),
            service_name: self.name.clone(),
            cluster_arn: self.cluster_arn.clone(),
            status: self.status,
            desired_count: self.desired_count,
            running_count: self.running_count(),
            pending_count: self.pending_count(),
            task_definition: primary.map(|set| set.template.task_definition_arn.clone()),
            launch: primary.map(|set| set.launch.clone()).unwrap_or_default(),
            deployment_controller: DeploymentController {
                kind: if external { "EXTERNAL" } else { "ECS" }.to_owned(),
            },
            task_sets: external.then(|| self.sets.iter().map(|set| self.set_shape(set, now)).collect()),
            deployments: if external { Vec::new() } else { self.deployments(now) },
            events: self.events.iter().cloned().collect(),
            created_at: self.created_at,
            health_check_grace_period_seconds: self.grace_secs,
            tags: Vec::new(),
            other: self.other.clone(),
        }
    }

    fn deployments(&self, now: Timestamp) -> Vec<Deployment> {
        let shapes = self.sets.iter().rev().map(|set| {
            let shape = self.set_shape(set, now);
            let steady = shape.stability_status == StabilityStatus::SteadyState;
            Deployment {
                id: shape.id,
                status: shape.status,
                task_definition: shape.task_definition,
                desired_count: shape.computed_desired_count,
                pending_count: shape.pending_count,
                running_count: shape.running_count,
                created_at: shape.created_at,
                updated_at: shape.updated_at,
                rollout_state: if steady { "COMPLETED" } else { "IN_PROGRESS" }.to_owned(),
            }
        });
        shapes.collect()
    }

    fn unsettle(&mut self) {
        for set in &mut self.sets {
            set.stability = Stability::Unsettled;
        }
    }

    /// Makes `set` the PRIMARY deployment; the others go on until it is steady.
    fn deploy(&mut self, mut set: StoredSet) {
        for other in self.sets.iter_mut().filter(|other| other.status == TaskSetStatus::Primary) {
            other.status = TaskSetStatus::Active;
        }
        set.status = TaskSetStatus::Primary;
        self.sets.push(set);
    }
}

impl Ecs {
    fn deployment_of(
        &self,
        definition: &str,
        launch: &Launch,
        around: &mut Around<'_>,
    ) -> Result<StoredSet, ApiError> {
        let definition = self.task_definition(definition)?;
        let launch_type = check_launch(launch, definition, around.elb)?;
        let template = definition.template(launch.load_balancers.first(), &launch_type);
        let mut launch = launch.clone();
        if launch.capacity_provider_strategy.is_none() {
            launch.launch_type = Some(launch_type);
        }
        let id = around.ids.task_set();
        Ok(StoredSet::new(id.clone(), id, template, launch, Scale::percent(100), around.now))
    }

    /// `CreateService`.
    pub(in crate::world) fn create_service(
        &mut self,
        input: CreateService,
        around: &mut Around<'_>,
    ) -> Result<Service, ApiError> {
        let cluster = self.cluster_name(input.cluster.as_deref())?;
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if input.service_name.is_empty()
            || input.service_name.len() > 255
            || !input.service_name.chars().all(valid)
        {
            return Err(invalid(
                "Invalid service name. Must be 1-255 characters of letters, digits, - and _.",
            ));
        }
        check_tag_count(input.tags.len())?;
        let key = (cluster.clone(), input.service_name.clone());
        let token = input.other.get("clientToken").and_then(Value::as_str).map(str::to_owned);
        if let Some(existing) = self.services.get(&key) {
            match existing.status {
                ServiceStatus::Active if token.is_some() && token == existing.created_with => {
                    return Ok(self.tagged_service(existing, around.now));
                }
                ServiceStatus::Active => return Err(invalid("Creation of service was not idempotent.")),
                ServiceStatus::Draining => {
                    return Err(invalid("Unable to Start a service that is still Draining."));
                }
                ServiceStatus::Inactive => {}
            }
        }
        let kind = input.deployment_controller.as_ref().map_or("ECS", |controller| controller.kind.as_str());
        let (controller, first) = match kind {
            "EXTERNAL" => {
                check_external(&input)?;
                (Controller::External, None)
            }
            "ECS" => {
                let definition = input.task_definition.as_deref();
                let definition = definition.ok_or_else(|| invalid("TaskDefinition can not be blank."))?;
                (Controller::Ecs, Some(self.deployment_of(definition, &input.launch, around)?))
            }
            other => {
                return Err(invalid(format!(
                    "The deployment controller type {other} is not part of this model."
                )));
            }
        };
        let arn = self.arn(&format!("service/{cluster}/{}", input.service_name));
        let mut other = defaults();
        other.extend(input.other.into_iter().filter(|(member, _)| ECHOED.contains(&member.as_str())));
        let mut service = StoredService {
            name: input.service_name,
            arn: arn.clone(),
            cluster_arn: self.arn(&format!("cluster/{cluster}")),
            cluster,
            status: ServiceStatus::Active,
            controller,
            desired_count: input.desired_count.unwrap_or(0),
            grace_secs: input.health_check_grace_period_seconds,
            other,
            created_at: around.now,
            sets: Vec::new(),
            // STOPPED tasks of an INACTIVE namesake stay describable for their hour.
            tasks: self.services.take(&key).map(|old| old.tasks).unwrap_or_default(),
            events: VecDeque::new(),
            tokens: BTreeMap::new(),
            created_with: token,
        };
        if let Some(first) = first {
            service.deploy(first);
        }
        self.services.insert(key.clone(), service);
        self.tags.remove(&arn);
        self.set_tags(&arn, &input.tags);
        let created = self.services.get(&key).ok_or_else(service_not_found)?;
        Ok(self.tagged_service(created, around.now))
    }

    fn tagged_service(&self, service: &StoredService, now: Timestamp) -> Service {
        Service { tags: self.tags_of(&service.arn), ..service.shape(now) }
    }

    /// `UpdateService`. On an EXTERNAL service only the desired count, placement, grace period and tag
    /// options can change (`aws-facts.md` §1.2).
    pub(in crate::world) fn update_service(
        &mut self,
        input: UpdateService,
        around: &mut Around<'_>,
    ) -> Result<Service, ApiError> {
        let key = self.service_key(input.cluster.as_deref(), &input.service)?;
        let service = self.services.get(&key).ok_or_else(service_not_found)?;
        if service.status != ServiceStatus::Active {
            return Err(ApiError::client("ServiceNotActiveException", "Service was not ACTIVE."));
        }
        let current = match service.controller {
            Controller::External => {
                let members = input.other.keys().map(String::as_str);
                let refused = members.chain(input.task_definition.as_ref().map(|_| "taskDefinition"));
                if let Some(member) = refused.into_iter().find(|member| !EXTERNAL_MAY_CHANGE.contains(member))
                {
                    return Err(invalid(format!(
                        "Unable to update {member} on services with an EXTERNAL deployment controller."
                    )));
                }
                None
            }
            Controller::Ecs => service.sets.iter().find(|set| set.status == TaskSetStatus::Primary),
        };
        let force = input.other.get("forceNewDeployment") == Some(&Value::Bool(true));
        let next = match (current, &input.task_definition) {
            (Some(current), Some(definition)) => {
                Some(self.deployment_of(definition, &current.launch, around)?)
            }
            (Some(current), None) if force => {
                let definition = current.template.task_definition_arn.clone();
                Some(self.deployment_of(&definition, &current.launch, around)?)
            }
            _ => None,
        };
        let service = self.services.get_mut(&key).ok_or_else(service_not_found)?;
        if let Some(desired) = input.desired_count {
            service.desired_count = desired;
            service.unsettle();
        }
        if let Some(grace) = input.health_check_grace_period_seconds {
            service.grace_secs = Some(grace);
        }
        service.other.extend(input.other.into_iter().filter(|(member, _)| ECHOED.contains(&member.as_str())));
        if let Some(next) = next {
            service.deploy(next);
        }
        let service = self.services.get(&key).ok_or_else(service_not_found)?;
        Ok(self.tagged_service(service, around.now))
    }

    /// `DeleteService`: DRAINING while tasks stop, then INACTIVE.
    pub(in crate::world) fn delete_service(
        &mut self,
        cluster: Option<&str>,
        service: &str,
        force: bool,
        around: &mut Around<'_>,
    ) -> Result<Service, ApiError> {
        let key = self.service_key(cluster, service)?;
        let service = self.services.get_mut(&key).ok_or_else(service_not_found)?;
        if service.status == ServiceStatus::Inactive {
            return Err(service_not_found());
        }
        if service.desired_count > 0 && !force {
            return Err(invalid(
                "The service cannot be stopped while the primary deployment is scaled above 0.",
            ));
        }
        service.desired_count = 0;
        service.status = ServiceStatus::Draining;
        for set in &mut service.sets {
            set.status = TaskSetStatus::Draining;
            set.updated_at = around.now;
        }
        Ok(service.shape(around.now))
    }

    /// `DescribeServices`: the cheap poll, task sets included.
    pub(in crate::world) fn describe_services(
        &self,
        cluster: Option<&str>,
        services: &[String],
        with_tags: bool,
        now: Timestamp,
    ) -> Result<(Vec<Service>, Vec<Failure>), ApiError> {
        let cluster = self.cluster_name(cluster)?;
        if services.is_empty() {
            return Err(invalid("Services cannot be empty."));
        }
        if services.len() > SERVICES_PER_CALL {
            return Err(invalid("Services cannot have more than 10 elements."));
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for given in services {
            let service = self.any_service_key(&cluster, given).and_then(|key| self.services.get(&key));
            match service {
                None => missing.push(self.missing("service/", given)),
                Some(service) if with_tags => {
                    let mut shape = self.tagged_service(service, now);
                    for set in shape.task_sets.iter_mut().flatten() {
                        set.tags = self.tags_of(&set.task_set_arn);
                    }
                    found.push(shape);
                }
                Some(service) => found.push(service.shape(now)),
            }
        }
        Ok((found, missing))
    }

    /// `ListServices`: ARNs of those that are not INACTIVE.
    pub(in crate::world) fn list_services(&self, cluster: Option<&str>) -> Result<Vec<String>, ApiError> {
        let cluster = self.cluster_name(cluster)?;
        let listed =
            self.services.values().filter(|s| s.cluster == cluster && s.status != ServiceStatus::Inactive);
        Ok(listed.map(|service| service.arn.clone()).collect())
    }
}
