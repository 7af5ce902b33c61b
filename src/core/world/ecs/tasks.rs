//! Tasks as callers and the runtime see them.

use super::task::StoredTask;
use super::{Around, Ecs, Failure, StopCode, Task, invalid};
use crate::world::{Address, ApiError, TaskOrder};

/// Tasks in one `DescribeTasks` call.
const TASKS_PER_CALL: usize = 100;

/// The filters of `ListTasks`.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Service name or ARN.
    pub service_name: Option<String>,
    /// Task set or deployment id; the only filter when it is given.
    pub started_by: Option<String>,
    /// RUNNING (the default) or STOPPED.
    pub desired_status: Option<String>,
    /// Task definition family.
    pub family: Option<String>,
}

impl Ecs {
    /// `ListTasks`: ARNs, in order of creation within a service.
    pub(in crate::world) fn list_tasks(
        &self,
        cluster: Option<&str>,
        filter: &TaskFilter,
    ) -> Result<Vec<String>, ApiError> {
        let cluster = self.cluster_name(cluster)?;
        let others = [&filter.service_name, &filter.desired_status, &filter.family];
        if filter.started_by.is_some() && others.iter().any(|other| other.is_some()) {
            return Err(invalid(
                "When you specify startedBy as the filter, it must be the only filter that you use.",
            ));
        }
        let desired = filter.desired_status.as_deref().unwrap_or("RUNNING");
        if !["RUNNING", "PENDING", "STOPPED"].contains(&desired) {
            return Err(invalid(format!("Invalid desired status {desired}.")));
        }
        let key = match &filter.service_name {
            Some(given) => Some(self.service_key(Some(&cluster), given)?),
            None => None,
        };
        let services = self
            .services
            .iter()
            .filter(|(held, _)| key.as_ref().map_or(held.0 == cluster, |key| *held == key));
        let matches = |task: &&StoredTask| {
            task.desired_status() == desired
                && filter.started_by.as_ref().is_none_or(|set| task.set == *set)
                && filter
                    .family
                    .as_ref()
                    .is_none_or(|family| task.template.revision.split(':').next() == Some(family.as_str()))
        };
        let tasks = services.flat_map(|(_, service)| service.tasks.values()).filter(matches);
        Ok(tasks.map(|task| task.arn.clone()).collect())
    }

    /// `DescribeTasks` by id or ARN.
    pub(in crate::world) fn describe_tasks(
        &self,
        cluster: Option<&str>,
        tasks: &[String],
    ) -> Result<(Vec<Task>, Vec<Failure>), ApiError> {
        let cluster = self.cluster_name(cluster)?;
        if tasks.is_empty() {
            return Err(invalid("Tasks cannot be empty."));
        }
        if tasks.len() > TASKS_PER_CALL {
            return Err(invalid("Tasks cannot have more than 100 elements."));
        }
        let prefix = format!("task/{cluster}/");
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for given in tasks {
            let arn =
                if given.starts_with("arn:") { given.clone() } else { self.arn(&format!("{prefix}{given}")) };
            match self.services.task(&arn).filter(|(service, _)| service.cluster == cluster) {
                Some((service, task)) => found.push(task.shape(&service.cluster_arn, &service.name)),
                None => missing.push(self.missing(&prefix, given)),
            }
        }
        Ok((found, missing))
    }

    /// `StopTask`: its target drains, then it gets SIGTERM; the service starts another in its place.
    pub(in crate::world) fn stop_task(
        &mut self,
        cluster: Option<&str>,
        task: &str,
        reason: Option<&str>,
        around: &mut Around<'_>,
    ) -> Result<Task, ApiError> {
        let cluster = self.cluster_name(cluster)?;
        let arn = if task.starts_with("arn:") {
            task.to_owned()
        } else {
            self.arn(&format!("task/{cluster}/{task}"))
        };
        let (service, key) =
            self.services.home_mut(&arn).ok_or_else(|| invalid("The referenced task was not found."))?;
        let (cluster_arn, name) = (service.cluster_arn.clone(), service.name.clone());
        let task =
            service.tasks.get_mut(&key).ok_or_else(|| invalid("The referenced task was not found."))?;
        let reason = reason.unwrap_or("Task stopped by user");
        task.order_stop(around.now, reason, StopCode::UserInitiated, around.elb, around.tuning);
        Ok(task.shape(&cluster_arn, &name))
    }

    /// Tasks that a real runtime should start or stop.
    pub(in crate::world) fn task_orders(&self) -> Vec<TaskOrder> {
        self.services.task_orders()
    }

    /// A real runtime started a task.
    pub(in crate::world) fn task_started(&mut self, task: &str, address: Address, around: &mut Around<'_>) {
        let Some((service, key)) = self.services.home_mut(task) else { return };
        if let Some(task) = service.tasks.get_mut(&key) {
            task.start(around.now, address, around.elb, around.tuning);
        }
    }

    /// A task stopped: because it was told to, or by itself. Whether it was known.
    pub(in crate::world) fn task_stopped(
        &mut self,
        task: &str,
        exit_code: Option<i32>,
        reason: &str,
        around: &mut Around<'_>,
    ) -> bool {
        let Some((service, key)) = self.services.home_mut(task) else { return false };
        let Some(task) = service.tasks.get_mut(&key).filter(|task| !task.is_stopped()) else { return false };
        let failed = task.is_wanted();
        let set = task.set.clone();
        task.stopped(around.now, exit_code, reason, around.elb, around.tuning);
        if failed {
            service.note_failure(&set, around);
        }
        true
    }

    /// Every task that has not stopped yet stops now, through no fault of its own.
    pub(in crate::world) fn tasks_lost(&mut self, reason: &str, around: &mut Around<'_>) {
        let Around { now, elb, tuning, .. } = around;
        for key in self.services.keys().cloned().collect::<Vec<_>>() {
            let Some(service) = self.services.get_mut(&key) else { continue };
            for task in service.tasks.values_mut() {
                task.lost(*now, reason, elb, tuning);
            }
        }
    }

    /// Target group and address of a task that has both.
    pub(in crate::world) fn target_of(&self, task: &str) -> Option<(String, Address)> {
        let (_, task) = self.services.task(task)?;
        let (group, address) = task.target()?;
        Some((group.to_owned(), address.clone()))
    }
}
