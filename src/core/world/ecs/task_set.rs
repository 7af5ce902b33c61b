//! Task sets of services with the EXTERNAL deployment controller.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::scheduler::{Controller, Stability, StoredService, StoredSet};
use super::{
    Around, CreateTaskSet, Ecs, Failure, Launch, Scale, ServiceStatus, TaskDefinition, TaskSet,
    TaskSetStatus, Tenths, check_tag_count, client, count, invalid,
};
use crate::world::ApiError;
use crate::world::elb::Elb;

/// Client tokens remembered per service; the oldest goes first.
const TOKENS_MAX: usize = 1_000;

/// What a client token was used for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct TokenUse {
    request: CreateTaskSet,
    set: String,
    at: Timestamp,
}

fn not_found() -> ApiError {
    ApiError::client("TaskSetNotFoundException", "The specified task set does not exist.")
}

fn checked_scale(scale: &Scale) -> Result<(), ApiError> {
    if scale.unit != "PERCENT" {
        return Err(invalid(format!(
            "The scale unit {} is not supported. Specify PERCENT and try again.",
            scale.unit
        )));
    }
    if !(Tenths(0)..=Tenths(1000)).contains(&scale.value) {
        return Err(invalid("Scale value must be between 0 and 100."));
    }
    Ok(())
}

/// Checks how tasks would run, for task sets and ECS-controlled services alike; the launch type.
pub(super) fn check_launch(
    launch: &Launch,
    definition: &TaskDefinition,
    elb: &Elb,
) -> Result<String, ApiError> {
    if definition.status != "ACTIVE" {
        return Err(client("TaskDefinition is inactive"));
    }
    let strategy = launch.capacity_provider_strategy.as_ref().filter(|strategy| !strategy.is_empty());
    if launch.launch_type.is_some() && strategy.is_some() {
        return Err(invalid(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        ));
    }
    let launch_type = launch.launch_type.clone().unwrap_or_else(|| {
        let fargate = strategy.is_some() || definition.supports("FARGATE");
        if fargate { "FARGATE".to_owned() } else { "EC2".to_owned() }
    });
    if !definition.supports(&launch_type) {
        return Err(invalid(format!("Task definition does not support launch_type {launch_type}.")));
    }
    if definition.network_mode() == "awsvpc" && launch.network_configuration.is_none() {
        return Err(invalid(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ));
    }
    if launch.load_balancers.len() > 1 {
        return Err(invalid("load balancers can have at most 1 items."));
    }
    for load_balancer in &launch.load_balancers {
        let Some(group) = &load_balancer.target_group_arn else {
            return Err(invalid(
                "targetGroupArn must be specified: Classic Load Balancers are not supported.",
            ));
        };
        let (Some(name), Some(port)) = (&load_balancer.container_name, load_balancer.container_port) else {
            return Err(invalid("Container name and container port must be specified with a load balancer."));
        };
        definition.check_container(name, port)?;
        if !elb.group_exists(group) {
            return Err(invalid(format!(
                "The specified target group does not exist. (targetGroupArn: {group})"
            )));
        }
        if elb.user_of(group).is_none() {
            return Err(invalid(format!(
                "The target group with targetGroupArn {group} does not have an associated load balancer."
            )));
        }
        if definition.network_mode() == "awsvpc" && elb.target_type(group) != Some("ip") {
            return Err(invalid(format!(
                "The provided target group {group} has target type {}, which is incompatible with the awsvpc \
                 network mode specified in the task definition.",
                elb.target_type(group).unwrap_or("instance")
            )));
        }
    }
    Ok(launch_type)
}

impl StoredService {
    pub(super) fn set_shape(&self, set: &StoredSet, now: Timestamp) -> TaskSet {
        TaskSet {
            id: set.id.clone(),
            task_set_arn: set.arn.clone(),
            service_arn: self.arn.clone(),
            cluster_arn: self.cluster_arn.clone(),
            external_id: set.external_id.clone(),
            status: set.status,
            task_definition: set.template.task_definition_arn.clone(),
            computed_desired_count: set.computed(self.desired_count),
            pending_count: count(self.tasks_of(&set.id).filter(|task| task.is_pending()).count()),
            running_count: count(self.tasks_of(&set.id).filter(|task| task.is_running()).count()),
            created_at: set.created_at,
            updated_at: set.updated_at,
            launch: set.launch.clone(),
            scale: set.scale.clone(),
            stability_status: set.stability_status(),
            stability_status_at: now,
            tags: Vec::new(),
        }
    }

    /// A task set by id or ARN.
    fn set_index(&self, given: &str) -> Result<usize, ApiError> {
        self.sets.iter().position(|set| set.id == given || set.arn == given).ok_or_else(not_found)
    }

    fn check_external(&self) -> Result<(), ApiError> {
        if self.status != ServiceStatus::Active {
            return Err(ApiError::client("ServiceNotActiveException", "Service was not ACTIVE."));
        }
        if self.controller != Controller::External {
            return Err(invalid(
                "Task sets are only supported for services with an EXTERNAL deployment controller.",
            ));
        }
        Ok(())
    }

    /// The set that an earlier call with this token made; an error if that call asked for another.
    fn remembered(
        &self,
        request: &CreateTaskSet,
        around: &Around<'_>,
    ) -> Result<Option<&StoredSet>, ApiError> {
        let Some(token) = &request.client_token else { return Ok(None) };
        if token.is_empty() || token.len() > 36 || !token.bytes().all(|byte| (33..=126).contains(&byte)) {
            return Err(invalid("Client token must be up to 36 ASCII characters in the range of 33-126."));
        }
        let Some(used) = self.tokens.get(token) else { return Ok(None) };
        if used.at + around.tuning.client_token_life <= around.now {
            return Ok(None);
        }
        let Some(set) = self.sets.iter().find(|set| set.id == used.set) else { return Ok(None) };
        if used.request != *request {
            return Err(invalid("The client token was already used with different parameters."));
        }
        Ok(Some(set))
    }

    fn remember(&mut self, request: CreateTaskSet, set: &str, around: &Around<'_>) {
        let life = around.tuning.client_token_life;
        self.tokens.retain(|_, used| used.at + life > around.now);
        if self.tokens.len() >= TOKENS_MAX {
            let oldest = self.tokens.iter().min_by_key(|(_, used)| used.at).map(|(token, _)| token.clone());
            oldest.map(|token| self.tokens.remove(&token));
        }
        if let Some(token) = request.client_token.clone() {
            self.tokens.insert(token, TokenUse { request, set: set.to_owned(), at: around.now });
        }
    }
}

impl Ecs {
    fn external(&mut self, cluster: Option<&str>, service: &str) -> Result<&mut StoredService, ApiError> {
        let key = self.service_key(cluster, service)?;
        let service = self.services.get_mut(&key).ok_or_else(not_found)?;
        service.check_external()?;
        Ok(service)
    }

    fn tagged(&self, mut set: TaskSet) -> TaskSet {
        set.tags = self.tags_of(&set.task_set_arn);
        set
    }

    /// `CreateTaskSet` (`aws-facts.md` §1.4, §1.6, §1.8).
    pub(in crate::world) fn create_task_set(
        &mut self,
        input: CreateTaskSet,
        around: &mut Around<'_>,
    ) -> Result<TaskSet, ApiError> {
        let key = self.service_key(input.cluster.as_deref(), &input.service)?;
        let service = self.services.get(&key).ok_or_else(not_found)?;
        service.check_external()?;
        if let Some(set) = service.remembered(&input, around)? {
            return Ok(self.tagged(service.set_shape(set, around.now)));
        }
        let definition = self.task_definition(&input.task_definition)?;
        let launch_type = check_launch(&input.launch, definition, around.elb)?;
        let scale = input.scale.clone().unwrap_or_default();
        checked_scale(&scale)?;
        check_tag_count(input.tags.len())?;
        let counted =
            |set: &&StoredSet| around.tuning.draining_sets_count || set.status != TaskSetStatus::Draining;
        let held = count(service.sets.iter().filter(counted).count());
        if held >= around.tuning.max_task_sets {
            return Err(invalid(format!(
                "{held} deployments exist on the service. Unable to create new TaskSet since this exceeds the maximum limit."
            )));
        }
        let template = definition.template(input.launch.load_balancers.first(), &launch_type);
        let mut launch = input.launch.clone();
        if launch.capacity_provider_strategy.is_none() {
            launch.launch_type = Some(launch_type.clone());
        }
        if launch_type == "FARGATE" {
            launch.platform_version.get_or_insert_with(|| "LATEST".to_owned());
        }
        let id = around.ids.task_set();
        let arn = self.arn(&format!("task-set/{}/{}/{id}", key.0, key.1));
        let mut set = StoredSet::new(id.clone(), arn.clone(), template, launch, scale, around.now);
        set.external_id.clone_from(&input.external_id);
        let tags = input.tags.clone();
        let service = self.services.get_mut(&key).ok_or_else(not_found)?;
        service.remember(input, &id, around);
        let shape = service.set_shape(&set, around.now);
        service.sets.push(set);
        self.set_tags(&arn, &tags);
        Ok(self.tagged(shape))
    }

    /// `UpdateTaskSet`: the scale, and nothing else.
    pub(in crate::world) fn update_task_set(
        &mut self,
        cluster: Option<&str>,
        service: &str,
        task_set: &str,
        scale: Scale,
        now: Timestamp,
    ) -> Result<TaskSet, ApiError> {
        let service = self.external(cluster, service)?;
        let index = service.set_index(task_set)?;
        checked_scale(&scale)?;
        let set = &mut service.sets[index];
        if set.status == TaskSetStatus::Draining {
            return Err(invalid("Unable to update a task set that is DRAINING."));
        }
        set.scale = scale;
        set.updated_at = now;
        set.stability = Stability::Unsettled;
        let shape = service.set_shape(&service.sets[index], now);
        Ok(self.tagged(shape))
    }

    /// `DeleteTaskSet`: the set drains, then it is gone. Again on a draining set changes nothing.
    pub(in crate::world) fn delete_task_set(
        &mut self,
        cluster: Option<&str>,
        service: &str,
        task_set: &str,
        force: bool,
        now: Timestamp,
    ) -> Result<TaskSet, ApiError> {
        let service = self.external(cluster, service)?;
        let index = service.set_index(task_set)?;
        let set = &mut service.sets[index];
        match set.status {
            TaskSetStatus::Primary => return Err(invalid("Primary TaskSet cannot be deleted")),
            TaskSetStatus::Active if set.scale.value > Tenths(0) && !force => {
                return Err(invalid(
                    "The task set cannot be deleted while it is scaled above 0. Use force to delete it.",
                ));
            }
            TaskSetStatus::Active => {
                set.status = TaskSetStatus::Draining;
                set.updated_at = now;
                set.stability = Stability::Unsettled;
            }
            TaskSetStatus::Draining => {}
        }
        let shape = service.set_shape(&service.sets[index], now);
        Ok(self.tagged(shape))
    }

    /// `UpdateServicePrimaryTaskSet`: a label; no scaling and no traffic follows from it.
    pub(in crate::world) fn update_service_primary_task_set(
        &mut self,
        cluster: Option<&str>,
        service: &str,
        primary: &str,
        now: Timestamp,
    ) -> Result<TaskSet, ApiError> {
        let service = self.external(cluster, service)?;
        let index = service.set_index(primary)?;
        if service.sets[index].status == TaskSetStatus::Draining {
            return Err(invalid("Unable to make a task set PRIMARY that is DRAINING."));
        }
        for (other, set) in service.sets.iter_mut().enumerate() {
            let status = match set.status {
                _ if other == index => TaskSetStatus::Primary,
                TaskSetStatus::Primary => TaskSetStatus::Active,
                status => status,
            };
            if set.status != status {
                set.status = status;
                set.updated_at = now;
            }
        }
        let shape = service.set_shape(&service.sets[index], now);
        Ok(self.tagged(shape))
    }

    /// `DescribeTaskSets` by id or ARN, or all of the service.
    pub(in crate::world) fn describe_task_sets(
        &self,
        cluster: Option<&str>,
        service: &str,
        task_sets: &[String],
        with_tags: bool,
        now: Timestamp,
    ) -> Result<(Vec<TaskSet>, Vec<Failure>), ApiError> {
        let key = self.service_key(cluster, service)?;
        let Some(service) = self.services.get(&key) else { return Err(not_found()) };
        service.check_external()?;
        let wanted = |set: &&StoredSet| {
            task_sets.is_empty() || task_sets.contains(&set.id) || task_sets.contains(&set.arn)
        };
        let shapes = service.sets.iter().filter(wanted).map(|set| {
            let shape = service.set_shape(set, now);
            if with_tags { self.tagged(shape) } else { shape }
        });
        let missing = task_sets.iter().filter(|given| service.set_index(given).is_err());
        let prefix = format!("task-set/{}/{}/", key.0, key.1);
        Ok((shapes.collect(), missing.map(|given| self.missing(&prefix, given)).collect()))
    }
}
