//! The API calls as functions, for callers in this process that want no JSON.

use jiff::Timestamp;

use crate::world::ecs::{
    Cluster, CreateService, CreateTaskSet, Failure, RegisterTaskDefinition, Scale, Service, Task,
    TaskDefinition, TaskFilter, TaskSet, UpdateService,
};
use crate::world::elb::{
    Attribute, CreateListener, CreateLoadBalancer, CreateRule, CreateTargetGroup, Listener, LoadBalancer,
    ModifyListener, ModifyRule, Rule, TargetDescription, TargetGroup, TargetHealthDescription,
};
use crate::world::{ApiError, Region};

/// Found things, and what was not there.
pub type Described<T> = Result<(Vec<T>, Vec<Failure>), ApiError>;

impl Region {
    /// `CreateCluster`.
    pub fn create_cluster(&mut self, now: Timestamp, name: &str) -> Result<Cluster, ApiError> {
        self.on_ecs(now, |ecs, _| ecs.create_cluster(Some(name), &[]))
    }

    /// `RegisterTaskDefinition`.
    pub fn register_task_definition(
        &mut self,
        now: Timestamp,
        input: RegisterTaskDefinition,
    ) -> Result<TaskDefinition, ApiError> {
        self.on_ecs(now, |ecs, _| ecs.register_task_definition(now, input))
    }

    /// `DeregisterTaskDefinition`.
    pub fn deregister_task_definition(
        &mut self,
        now: Timestamp,
        name: &str,
    ) -> Result<TaskDefinition, ApiError> {
        self.on_ecs(now, |ecs, _| ecs.deregister_task_definition(now, name))
    }

    /// `DescribeTaskDefinition`.
    pub fn describe_task_definition(
        &mut self,
        now: Timestamp,
        name: &str,
    ) -> Result<TaskDefinition, ApiError> {
        self.ecs_at(now).task_definition(name).cloned()
    }

    /// `CreateService`.
    pub fn create_service(&mut self, now: Timestamp, input: CreateService) -> Result<Service, ApiError> {
        self.on_ecs(now, |ecs, around| ecs.create_service(input, around))
    }

    /// `UpdateService`.
    pub fn update_service(&mut self, now: Timestamp, input: UpdateService) -> Result<Service, ApiError> {
        self.on_ecs(now, |ecs, around| ecs.update_service(input, around))
    }

    /// `DeleteService`.
    pub fn delete_service(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        force: bool,
    ) -> Result<Service, ApiError> {
        self.on_ecs(now, |ecs, around| ecs.delete_service(Some(cluster), service, force, around))
    }

    /// `DescribeServices`, tags included.
    pub fn describe_services(
        &mut self,
        now: Timestamp,
        cluster: &str,
        services: &[String],
    ) -> Described<Service> {
        self.ecs_at(now).describe_services(Some(cluster), services, true, now)
    }

    /// `CreateTaskSet`.
    pub fn create_task_set(&mut self, now: Timestamp, input: CreateTaskSet) -> Result<TaskSet, ApiError> {
        self.on_ecs(now, |ecs, around| ecs.create_task_set(input, around))
    }

    /// `UpdateTaskSet`.
    pub fn update_task_set(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        task_set: &str,
        scale: Scale,
    ) -> Result<TaskSet, ApiError> {
        self.on_ecs(now, |ecs, _| ecs.update_task_set(Some(cluster), service, task_set, scale, now))
    }

    /// `DeleteTaskSet`.
    pub fn delete_task_set(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        task_set: &str,
        force: bool,
    ) -> Result<TaskSet, ApiError> {
        self.on_ecs(now, |ecs, _| ecs.delete_task_set(Some(cluster), service, task_set, force, now))
    }

    /// `UpdateServicePrimaryTaskSet`.
    pub fn update_service_primary_task_set(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        task_set: &str,
    ) -> Result<TaskSet, ApiError> {
        self.on_ecs(now, |ecs, _| ecs.update_service_primary_task_set(Some(cluster), service, task_set, now))
    }

    /// `DescribeTaskSets`, tags included; all of the service when `task_sets` is empty.
    pub fn describe_task_sets(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        task_sets: &[String],
    ) -> Described<TaskSet> {
        self.ecs_at(now).describe_task_sets(Some(cluster), service, task_sets, true, now)
    }

    /// `ListTasks`.
    pub fn list_tasks(
        &mut self,
        now: Timestamp,
        cluster: &str,
        filter: &TaskFilter,
    ) -> Result<Vec<String>, ApiError> {
        self.ecs_at(now).list_tasks(Some(cluster), filter)
    }

    /// `DescribeTasks`.
    pub fn describe_tasks(&mut self, now: Timestamp, cluster: &str, tasks: &[String]) -> Described<Task> {
        self.ecs_at(now).describe_tasks(Some(cluster), tasks)
    }

    /// `CreateLoadBalancer`.
    pub fn create_load_balancer(
        &mut self,
        now: Timestamp,
        input: CreateLoadBalancer,
    ) -> Result<LoadBalancer, ApiError> {
        self.on_elb(now, |elb, around| elb.create_load_balancer(input, around))
    }

    /// `CreateTargetGroup`.
    pub fn create_target_group(
        &mut self,
        now: Timestamp,
        input: CreateTargetGroup,
    ) -> Result<TargetGroup, ApiError> {
        self.on_elb(now, |elb, around| elb.create_target_group(input, around))
    }

    /// `DescribeTargetGroups` by ARN; all when `arns` is empty.
    pub fn describe_target_groups(
        &mut self,
        now: Timestamp,
        arns: &[String],
    ) -> Result<Vec<TargetGroup>, ApiError> {
        self.elb_at(now).describe_target_groups(None, arns, &[])
    }

    /// `ModifyTargetGroupAttributes`.
    pub fn modify_target_group_attributes(
        &mut self,
        now: Timestamp,
        group: &str,
        changes: &[Attribute],
    ) -> Result<Vec<Attribute>, ApiError> {
        self.on_elb(now, |elb, _| elb.modify_target_group_attributes(group, changes))
    }

    /// `CreateListener`.
    pub fn create_listener(&mut self, now: Timestamp, input: CreateListener) -> Result<Listener, ApiError> {
        self.on_elb(now, |elb, around| elb.create_listener(input, around))
    }

    /// `DescribeListeners` of a load balancer, or by ARN.
    pub fn describe_listeners(
        &mut self,
        now: Timestamp,
        load_balancer: Option<&str>,
        arns: &[String],
    ) -> Result<Vec<Listener>, ApiError> {
        self.elb_at(now).describe_listeners(load_balancer, arns)
    }

    /// `ModifyListener`.
    pub fn modify_listener(&mut self, now: Timestamp, input: ModifyListener) -> Result<Listener, ApiError> {
        self.on_elb(now, |elb, around| elb.modify_listener(input, around))
    }

    /// `CreateRule`.
    pub fn create_rule(&mut self, now: Timestamp, input: CreateRule) -> Result<Rule, ApiError> {
        self.on_elb(now, |elb, around| elb.create_rule(input, around))
    }

    /// `DescribeRules` of a listener, or by ARN.
    pub fn describe_rules(
        &mut self,
        now: Timestamp,
        listener: Option<&str>,
        arns: &[String],
    ) -> Result<Vec<Rule>, ApiError> {
        self.elb_at(now).describe_rules(listener, arns)
    }

    /// `ModifyRule`.
    pub fn modify_rule(&mut self, now: Timestamp, input: ModifyRule) -> Result<Rule, ApiError> {
        self.on_elb(now, |elb, around| elb.modify_rule(input, around))
    }

    /// `DeleteRule`.
    pub fn delete_rule(&mut self, now: Timestamp, arn: &str) -> Result<(), ApiError> {
        self.on_elb(now, |elb, around| elb.delete_rule(arn, around))
    }

    /// `RegisterTargets`.
    pub fn register_targets(
        &mut self,
        now: Timestamp,
        group: &str,
        targets: &[TargetDescription],
    ) -> Result<(), ApiError> {
        self.on_elb(now, |elb, around| elb.register_targets(group, targets, around))
    }

    /// `DeregisterTargets`.
    pub fn deregister_targets(
        &mut self,
        now: Timestamp,
        group: &str,
        targets: &[TargetDescription],
    ) -> Result<(), ApiError> {
        self.on_elb(now, |elb, around| elb.deregister_targets(group, targets, now, around.tuning))
    }

    /// `DescribeTargetHealth` of all targets.
    pub fn describe_target_health(
        &mut self,
        now: Timestamp,
        group: &str,
    ) -> Result<Vec<TargetHealthDescription>, ApiError> {
        self.elb_at(now).describe_target_health(group, &[])
    }
}
