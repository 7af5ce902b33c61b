//! The service scheduler: keeps every task set at its computed desired count, replaces failed and
//! unhealthy tasks, drains deleted sets, and judges stability.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::task::{Progress, StoredTask};
use super::task_definition::Template;
use super::task_set::TokenUse;
use super::{
    Around, Launch, Scale, ServiceEvent, ServiceStatus, StabilityStatus, StopCode, TaskSetStatus, count,
};
use crate::world::elb::{Elb, Health};
use crate::world::tuning::Tuning;
use crate::world::wire::shared;

/// Events that `DescribeServices` shows (`aws-facts.md` §1.11).
const EVENTS_MAX: usize = 100;
/// Lower bound of the delay between replacements, so that no tuning makes an endless loop in no time.
const RESTART_DELAY_MIN: SignedDuration = SignedDuration::from_secs(1);
/// STOPPED tasks kept per service: a bound on memory beside the hour that AWS keeps them.
const STOPPED_MAX: usize = 500;

/// Who replaces a service's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Controller {
    Ecs,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Stability {
    /// Some condition does not hold, or a call just changed the set.
    Unsettled,
    /// All conditions hold since then.
    Since(Timestamp),
    Steady,
}

/// A task set; also a deployment of an ECS-controlled service, which works the same way inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredSet {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) status: TaskSetStatus,
    pub(super) external_id: Option<String>,
    pub(super) launch: Launch,
    pub(super) scale: Scale,
    #[serde(with = "shared")]
    pub(super) template: Arc<Template>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) stability: Stability,
    /// Failed tasks since it was last steady.
    failures: u32,
    /// No replacement before this instant.
    retry_at: Option<Timestamp>,
}

impl StoredSet {
    pub(super) fn new(
        id: String,
        arn: String,
        template: Arc<Template>,
        launch: Launch,
        scale: Scale,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            arn,
            status: TaskSetStatus::Active,
            external_id: None,
            launch,
            scale,
            template,
            created_at: now,
            updated_at: now,
            stability: Stability::Unsettled,
            failures: 0,
            retry_at: None,
        }
    }

    /// `ceil(desired × scale)`; nothing for a set that drains.
    pub(super) fn computed(&self, desired: u32) -> u32 {
        if self.status == TaskSetStatus::Draining {
            return 0;
        }
        let tenths = u64::try_from(self.scale.value.0).unwrap_or(0);
        u32::try_from((u64::from(desired) * tenths).div_ceil(1000)).unwrap_or(u32::MAX)
    }

    pub(super) fn stability_status(&self) -> StabilityStatus {
        match self.stability {
            Stability::Steady => StabilityStatus::SteadyState,
            Stability::Unsettled | Stability::Since(_) => StabilityStatus::Stabilizing,
        }
    }

    pub(super) fn target_group(&self) -> Option<&str> {
        self.launch.load_balancers.first()?.target_group_arn.as_deref()
    }

    /// Counts a failed task. The first one is replaced at once; after that the delay doubles until the
    /// set is steady again. Tasks that fail while a delay runs add nothing.
    fn note_failure(&mut self, now: Timestamp, tuning: &Tuning) {
        if self.retry_at.is_some() {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(2) else { return };
        let factor = 1_i32.checked_shl(doublings.min(30)).unwrap_or(i32::MAX);
        let delay = tuning.restart_delay.checked_mul(factor).unwrap_or(tuning.restart_delay_max);
        self.retry_at = Some(now + delay.min(tuning.restart_delay_max).max(RESTART_DELAY_MIN));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredService {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) cluster: String,
    pub(super) cluster_arn: String,
    pub(super) status: ServiceStatus,
    pub(super) controller: Controller,
    pub(super) desired_count: u32,
    pub(super) grace_secs: Option<u32>,
    pub(super) other: BTreeMap<String, Value>,
    pub(super) created_at: Timestamp,
    /// In order of creation.
    pub(super) sets: Vec<StoredSet>,
    /// By order of creation; STOPPED ones stay for a while.
    pub(super) tasks: BTreeMap<u64, StoredTask>,
    pub(super) events: VecDeque<ServiceEvent>,
    /// Client tokens of `CreateTaskSet`.
    pub(super) tokens: BTreeMap<String, TokenUse>,
    /// The client token that created it.
    pub(super) created_with: Option<String>,
}

impl StoredService {
    pub(super) fn is_active(&self) -> bool {
        self.status == ServiceStatus::Active
    }

    /// Whether an ARN names this service or one of its task sets.
    pub(super) fn owns(&self, arn: &str) -> bool {
        (self.arn == arn && self.status != ServiceStatus::Inactive)
            || self.sets.iter().any(|set| set.arn == arn)
    }

    pub(super) fn running_count(&self) -> u32 {
        count(self.tasks.values().filter(|task| task.is_running()).count())
    }

    pub(super) fn pending_count(&self) -> u32 {
        count(self.tasks.values().filter(|task| task.is_pending()).count())
    }

    pub(super) fn tasks_of<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a StoredTask> {
        self.tasks.values().filter(move |task| task.set == set)
    }

    pub(super) fn event(&mut self, message: String, around: &mut Around<'_>) {
        self.events.push_front(ServiceEvent { id: around.ids.uuid(), created_at: around.now, message });
        self.events.truncate(EVENTS_MAX);
    }

    /// `(service web, taskSet ecs-svc/1)`, as AWS's events begin.
    fn subject(&self, set: &StoredSet) -> String {
        match self.controller {
            Controller::External => format!("(service {}, taskSet {})", self.name, set.id),
            Controller::Ecs => format!("(service {})", self.name),
        }
    }

    fn grace(&self) -> SignedDuration {
        SignedDuration::from_secs(self.grace_secs.unwrap_or(0).into())
    }

    /// When an unhealthy task is old enough to be replaced; `None` for a task that is not unhealthy.
    fn replaced_at(&self, task: &StoredTask, elb: &Elb) -> Option<Timestamp> {
        let (group, address) = task.target().filter(|_| task.is_wanted())?;
        let unhealthy = matches!(elb.health(group, address), Some(Health::Unhealthy { .. }));
        task.started_at.filter(|_| unhealthy).map(|at| at + self.grace())
    }

    pub(super) fn next_due(&self, elb: &Elb, tuning: &Tuning) -> Option<Timestamp> {
        let tasks = self.tasks.values().filter_map(StoredTask::due);
        let sick = self.tasks.values().filter_map(|task| self.replaced_at(task, elb));
        let retries = self.sets.iter().filter_map(|set| set.retry_at);
        let steady = self.sets.iter().filter_map(|set| match set.stability {
            Stability::Since(at) => Some(at + tuning.steady_lag),
            Stability::Unsettled | Stability::Steady => None,
        });
        tasks.chain(sick).chain(retries).chain(steady).min()
    }

    /// What its tasks do by themselves up to now; those that can no longer be described.
    pub(super) fn advance(&mut self, around: &mut Around<'_>) -> Vec<StoredTask> {
        let now = around.now;
        let forgotten = self.tasks.extract_if(.., |_, task| task.is_forgotten(now));
        let forgotten = forgotten.map(|(_, task)| task).collect();
        let mut failed = Vec::new();
        for task in self.tasks.values_mut() {
            let wanted = task.is_wanted();
            let Around { elb, ids, tuning, .. } = around;
            task.advance(now, |port| ids.address(port), elb, tuning);
            if wanted && task.is_stopped() {
                failed.push(task.set.clone());
            }
        }
        for set in failed {
            self.note_failure(&set, around);
        }
        forgotten
    }

    pub(super) fn note_failure(&mut self, set: &str, around: &Around<'_>) {
        if let Some(set) = self.sets.iter_mut().find(|held| held.id == set) {
            set.note_failure(around.now, around.tuning);
        }
    }

    /// One round of the scheduler; the ARNs of task sets that are gone.
    pub(super) fn settle(&mut self, around: &mut Around<'_>) -> Vec<String> {
        self.replace_unhealthy(around);
        for index in 0..self.sets.len() {
            self.match_count(index, around);
        }
        // Before stability is judged: a call that changes nothing must find nothing left to settle.
        self.terminate_drained(around);
        self.judge_stability(around);
        if self.roll_over(around.now) {
            for index in 0..self.sets.len() {
                self.match_count(index, around);
            }
            self.terminate_drained(around);
        }
        self.forget_oldest_stopped();
        let gone = self.drop_drained(around.elb);
        let at_rest = self.sets.is_empty() && self.tasks.values().all(StoredTask::is_stopped);
        if self.status == ServiceStatus::Draining && at_rest {
            self.status = ServiceStatus::Inactive;
        }
        gone
    }

    /// Tasks whose targets have drained get their SIGTERM.
    fn terminate_drained(&mut self, around: &mut Around<'_>) {
        for task in self.tasks.values_mut() {
            if task.progress == Progress::Deactivating && !task.has_draining_target(around.elb) {
                task.terminate(around.now, around.tuning);
            }
        }
    }

    fn replace_unhealthy(&mut self, around: &mut Around<'_>) {
        let due = |task: &StoredTask| self.replaced_at(task, around.elb).is_some_and(|at| at <= around.now);
        let sick: Vec<u64> = self.tasks.iter().filter(|(_, task)| due(task)).map(|(key, _)| *key).collect();
        for key in sick {
            let Some(task) = self.tasks.get_mut(&key) else { continue };
            let group = task.target_group.clone().unwrap_or_default();
            let reason = format!("Task failed ELB health checks in (target-group {group})");
            let code = StopCode::ServiceSchedulerInitiated;
            task.order_stop(around.now, &reason, code, around.elb, around.tuning);
            let (set, arn) = (task.set.clone(), task.arn.clone());
            self.note_failure(&set, around);
            let id = arn.rsplit('/').next().unwrap_or_default();
            let name = &self.name;
            let message = format!("(service {name}) (task {id}) is unhealthy in (target-group {group})");
            self.event(message, around);
        }
    }

    /// Starts what is missing and stops what is too much: pending tasks first, then the youngest.
    fn match_count(&mut self, index: usize, around: &mut Around<'_>) {
        let Some(set) = self.sets.get_mut(index) else { return };
        if set.retry_at.is_some_and(|at| at <= around.now) {
            set.retry_at = None;
        }
        let wanted = set.computed(self.desired_count) as usize;
        let mut held: Vec<u64> = self
            .tasks
            .iter()
            .filter(|(_, t)| t.set == set.id && t.is_wanted())
            .map(|(key, _)| *key)
            .collect();
        if held.len() == wanted {
            return;
        }
        let set = set.clone();
        if held.len() < wanted && set.retry_at.is_none() {
            self.start_tasks(&set, wanted - held.len(), around);
        }
        held.sort_by_key(|key| (!self.tasks.get(key).is_some_and(StoredTask::is_pending), u64::MAX - key));
        let reason = match set.status {
            TaskSetStatus::Draining => format!("Task set {} is being deleted", set.id),
            _ => format!("Scaling activity initiated by (deployment {})", set.id),
        };
        for key in held.iter().take(held.len().saturating_sub(wanted)) {
            if let Some(task) = self.tasks.get_mut(key) {
                let code = StopCode::ServiceSchedulerInitiated;
                task.order_stop(around.now, &reason, code, around.elb, around.tuning);
            }
        }
    }

    fn start_tasks(&mut self, set: &StoredSet, missing: usize, around: &mut Around<'_>) {
        let base = self.cluster_arn.replacen(":cluster/", ":task/", 1);
        let mut names = String::new();
        for _ in 0..missing {
            let id = around.ids.hex32();
            names.extend([" (task ", &id, ")"]);
            let task = StoredTask::ordered(
                format!("{base}/{id}"),
                &set.id,
                Arc::clone(&set.template),
                set.target_group().map(str::to_owned),
                around.now,
                around.tuning,
            );
            self.tasks.insert(around.ids.sequence(), task);
        }
        let message = format!("{} has started {missing} tasks:{names}.", self.subject(set));
        self.event(message, around);
    }

    /// The conditions of `STEADY_STATE`, word for word (`aws-facts.md` §1.7); there are no container
    /// instances here.
    fn is_settled(&self, set: &StoredSet, elb: &Elb) -> bool {
        if set.status == TaskSetStatus::Draining {
            return false;
        }
        let mut running = 0;
        for task in self.tasks_of(&set.id) {
            match task.progress {
                Progress::Pending | Progress::Deactivating => return false,
                Progress::Stopping | Progress::Stopped => {}
                Progress::Running => {
                    running += 1;
                    let healthy = match task.target() {
                        Some((group, address)) => matches!(elb.health(group, address), Some(Health::Healthy)),
                        None => true,
                    };
                    if !healthy {
                        return false;
                    }
                }
            }
        }
        running == set.computed(self.desired_count)
    }

    fn judge_stability(&mut self, around: &mut Around<'_>) {
        let settled: Vec<bool> = self.sets.iter().map(|set| self.is_settled(set, around.elb)).collect();
        let mut steady = Vec::new();
        for (set, settled) in self.sets.iter_mut().zip(settled) {
            let before = set.stability;
            set.stability = match (settled, before) {
                (false, _) => Stability::Unsettled,
                (true, Stability::Unsettled) => Stability::Since(around.now),
                (true, Stability::Since(at)) if at + around.tuning.steady_lag <= around.now => {
                    Stability::Steady
                }
                (true, before) => before,
            };
            if set.stability == Stability::Steady && before != Stability::Steady {
                set.failures = 0;
                set.retry_at = None;
                steady.push(set.clone());
            }
        }
        for set in steady {
            let message = format!("{} has reached a steady state.", self.subject(&set));
            self.event(message, around);
        }
    }

    /// An ECS-controlled service drains its old deployments once the new one is steady.
    fn roll_over(&mut self, now: Timestamp) -> bool {
        let primary_steady =
            |set: &StoredSet| set.status == TaskSetStatus::Primary && set.stability == Stability::Steady;
        if self.controller == Controller::External || !self.sets.iter().any(primary_steady) {
            return false;
        }
        let mut changed = false;
        for set in self.sets.iter_mut().filter(|set| set.status == TaskSetStatus::Active) {
            set.status = TaskSetStatus::Draining;
            set.updated_at = now;
            changed = true;
        }
        changed
    }

    /// A DRAINING set is gone when its tasks have stopped and their targets are deregistered.
    fn drop_drained(&mut self, elb: &Elb) -> Vec<String> {
        let tasks = &self.tasks;
        let mut gone = Vec::new();
        self.sets.retain(|set| {
            let mut own = tasks.values().filter(|task| task.set == set.id);
            let stays = set.status != TaskSetStatus::Draining
                || own.any(|task| !task.is_stopped() || task.has_draining_target(elb));
            if !stays {
                gone.push(set.arn.clone());
            }
            stays
        });
        gone
    }

    fn forget_oldest_stopped(&mut self) {
        let stopped: Vec<u64> =
            self.tasks.iter().filter(|(_, task)| task.is_stopped()).map(|(key, _)| *key).collect();
        for key in stopped.iter().take(stopped.len().saturating_sub(STOPPED_MAX)) {
            self.tasks.remove(key);
        }
    }
}
