//! One task from its order to STOPPED.
//!
//! PENDING → RUNNING → (DEACTIVATING while its target drains) → STOPPING (SIGTERM) → STOPPED.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::task_definition::{Behaviour, Template};
use super::{StopCode, Task};
use crate::world::elb::{Elb, Prober};
use crate::world::tuning::Tuning;
use crate::world::wire::shared;
use crate::world::{Address, TaskOrder};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Progress {
    Pending,
    Running,
    /// Its target is being deregistered; it still answers the connections it has.
    Deactivating,
    /// Has got SIGTERM.
    Stopping,
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StopOrder {
    pub(super) at: Timestamp,
    pub(super) reason: String,
    pub(super) code: StopCode,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StoredTask {
    pub(super) arn: String,
    /// The task set's or deployment's id.
    pub(super) set: String,
    pub(super) progress: Progress,
    /// How the model runs it; `None` when a real process does.
    modelled: Option<Behaviour>,
    #[serde(with = "shared")]
    pub(super) template: Arc<Template>,
    /// Target group to register in.
    pub(super) target_group: Option<String>,
    pub(super) address: Option<Address>,
    pub(super) stop: Option<StopOrder>,
    created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) stopped_at: Option<Timestamp>,
    exit_code: Option<i32>,
    /// When the next thing happens to it by itself: start, crash, stop, or being forgotten.
    due: Option<Timestamp>,
}

impl StoredTask {
    pub(super) fn ordered(
        arn: String,
        set: &str,
        template: Arc<Template>,
        target_group: Option<String>,
        now: Timestamp,
        tuning: &Tuning,
    ) -> Self {
        let modelled = template.modelled(tuning);
        let starts = modelled.is_some_and(|behaviour| behaviour != Behaviour::Never);
        Self {
            arn,
            set: set.to_owned(),
            progress: Progress::Pending,
            modelled,
            template,
            target_group,
            address: None,
            stop: None,
            created_at: now,
            started_at: None,
            stopped_at: None,
            exit_code: None,
            due: starts.then(|| now + tuning.task_start),
        }
    }

    /// Counts toward its task set's computed desired count.
    pub(super) fn is_wanted(&self) -> bool {
        self.stop.is_none() && matches!(self.progress, Progress::Pending | Progress::Running)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.progress == Progress::Pending
    }

    /// DEACTIVATING tasks count as running: they still run, and AWS's counts of a draining deployment
    /// fall only when its tasks stop.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.progress, Progress::Running | Progress::Deactivating)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.progress == Progress::Stopped
    }

    pub(super) fn target(&self) -> Option<(&str, &Address)> {
        Some((self.target_group.as_deref()?, self.address.as_ref()?))
    }

    /// RUNNING: it has an address, and its target is registered.
    pub(super) fn start(&mut self, now: Timestamp, address: Address, elb: &mut Elb, tuning: &Tuning) {
        self.address = Some(address.clone());
        if self.stop.is_some() || self.progress != Progress::Pending {
            return;
        }
        self.progress = Progress::Running;
        self.started_at = Some(now);
        let crashes = self.modelled == Some(Behaviour::Crash);
        self.due = crashes.then(|| now + tuning.crash_after);
        if let Some(group) = &self.target_group {
            // Refused only when the group is full or was deleted; then the task stays without target
            // and its task set never becomes steady, which is what a user sees in AWS, too.
            let prober = self.modelled.map_or(Prober::Runtime, |behaviour| Prober::Model {
                sick: behaviour == Behaviour::Unhealthy,
            });
            let _refused = elb.register(group, address, prober, now, tuning);
        }
    }

    /// Orders its stop: first its target drains, then it gets SIGTERM.
    pub(super) fn order_stop(
        &mut self,
        now: Timestamp,
        reason: &str,
        code: StopCode,
        elb: &mut Elb,
        tuning: &Tuning,
    ) {
        if self.stop.is_some() || self.is_stopped() {
            return;
        }
        self.stop = Some(StopOrder { at: now, reason: reason.to_owned(), code });
        let drains = self.progress == Progress::Running
            && self.target().is_some_and(|(group, address)| elb.deregister(group, address, now, tuning));
        if drains {
            self.progress = Progress::Deactivating;
            self.due = None;
        } else {
            self.terminate(now, tuning);
        }
    }

    /// SIGTERM.
    pub(super) fn terminate(&mut self, now: Timestamp, tuning: &Tuning) {
        let was_pending = self.progress == Progress::Pending;
        self.progress = Progress::Stopping;
        self.due = self.modelled.map(|_| if was_pending { now } else { now + tuning.stop_timeout });
    }

    /// Whether its target still drains.
    pub(super) fn has_draining_target(&self, elb: &Elb) -> bool {
        self.target().is_some_and(|(group, address)| elb.is_draining(group, address))
    }

    /// STOPPED: ordered or not.
    pub(super) fn stopped(
        &mut self,
        now: Timestamp,
        exit_code: Option<i32>,
        reason: &str,
        elb: &mut Elb,
        tuning: &Tuning,
    ) {
        if self.is_stopped() {
            return;
        }
        // A container that ended did run, even if nobody saw it RUNNING.
        let ran = self.started_at.is_some() || exit_code.is_some();
        let code = if ran { StopCode::EssentialContainerExited } else { StopCode::TaskFailedToStart };
        self.stop.get_or_insert_with(|| StopOrder { at: now, reason: reason.to_owned(), code });
        if let Some((group, address)) = self.target() {
            elb.deregister(group, address, now, tuning);
        }
        self.progress = Progress::Stopped;
        self.exit_code = exit_code;
        self.stopped_at = Some(now);
        self.due = Some(now + tuning.stopped_retention);
    }

    /// STOPPED because what ran it is gone. A stop that was ordered before keeps its reason.
    pub(super) fn lost(&mut self, now: Timestamp, reason: &str, elb: &mut Elb, tuning: &Tuning) {
        if self.is_stopped() {
            return;
        }
        let code = StopCode::ServiceSchedulerInitiated;
        self.stop.get_or_insert_with(|| StopOrder { at: now, reason: reason.to_owned(), code });
        self.stopped(now, None, reason, elb, tuning);
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    pub(super) fn is_forgotten(&self, now: Timestamp) -> bool {
        self.is_stopped() && self.due.is_some_and(|at| at <= now)
    }

    /// What a task that the model runs does by itself at `now`; `address` is for a task that starts.
    pub(super) fn advance(
        &mut self,
        now: Timestamp,
        address: impl FnOnce(u16) -> Address,
        elb: &mut Elb,
        tuning: &Tuning,
    ) {
        if self.due.is_none_or(|at| at > now) {
            return;
        }
        match self.progress {
            Progress::Pending if self.modelled == Some(Behaviour::PullError) => {
                let reason = format!(
                    "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref {}: not found",
                    self.template.image
                );
                self.stopped(now, None, &reason, elb, tuning);
            }
            Progress::Pending => {
                self.due = None;
                let address = address(self.template.container_port);
                self.start(now, address, elb, tuning);
            }
            Progress::Running => {
                self.stopped(now, Some(1), "Essential container in task exited", elb, tuning);
            }
            // 143 = 128 + SIGTERM.
            Progress::Stopping => {
                let exit_code = self.started_at.map(|_| 143);
                self.stopped(now, exit_code, "", elb, tuning);
            }
            Progress::Deactivating | Progress::Stopped => {}
        }
    }

    /// Whether there is an order for a real runtime.
    pub(super) fn has_order(&self) -> bool {
        self.modelled.is_none() && !self.is_stopped()
    }

    /// What a real runtime should do about it.
    pub(super) fn order(&self) -> Option<TaskOrder> {
        if !self.has_order() {
            return None;
        }
        let run = match self.progress {
            Progress::Pending | Progress::Running | Progress::Deactivating => true,
            Progress::Stopping => false,
            Progress::Stopped => return None,
        };
        let template = &self.template;
        Some(TaskOrder {
            task: self.arn.clone(),
            revision: template.revision.clone(),
            container: template.container.clone(),
            image: template.image.clone(),
            command: template.command.clone(),
            environment: template.environment.clone(),
            container_port: template.container_port,
            run,
        })
    }

    fn last_status(&self) -> &'static str {
        match self.progress {
            Progress::Pending => "PENDING",
            Progress::Running => "RUNNING",
            Progress::Deactivating => "DEACTIVATING",
            Progress::Stopping => "STOPPING",
            Progress::Stopped => "STOPPED",
        }
    }

    pub(super) fn desired_status(&self) -> &'static str {
        if self.stop.is_some() { "STOPPED" } else { "RUNNING" }
    }

    fn attachment(&self, address: &Address) -> Value {
        let id = self.arn.rsplit('/').next().unwrap_or_default();
        let eni = format!("eni-{}", id.get(..17).unwrap_or(id));
        json!({
            "id": id,
            "type": "ElasticNetworkInterface",
            "status": if self.is_stopped() { "DELETED" } else { "ATTACHED" },
            "details": [
                { "name": "networkInterfaceId", "value": eni },
                { "name": "privateIPv4Address", "value": address.ip },
            ],
        })
    }

    pub(super) fn shape(&self, cluster_arn: &str, service: &str) -> Task {
        let mut container = json!({
            "name": self.template.container,
            "image": self.template.image,
            "taskArn": self.arn,
            "lastStatus": self.last_status(),
            "healthStatus": "UNKNOWN",
            "networkInterfaces": [],
        });
        if let Some(address) = &self.address {
            container["networkInterfaces"] = json!([{ "privateIpv4Address": address.ip }]);
        }
        if let Some(code) = self.exit_code {
            container["exitCode"] = Value::from(code);
        } else if let Some(stop) = self.stop.as_ref().filter(|_| self.is_stopped()) {
            container["reason"] = Value::from(stop.reason.as_str());
        }
        Task {
            task_arn: self.arn.clone(),
            cluster_arn: cluster_arn.to_owned(),
            task_definition_arn: self.template.task_definition_arn.clone(),
            group: format!("service:{service}"),
            started_by: self.set.clone(),
            last_status: self.last_status().to_owned(),
            desired_status: self.desired_status().to_owned(),
            launch_type: self.template.launch_type.clone(),
            created_at: self.created_at,
            started_at: self.started_at,
            stopping_at: self.stop.as_ref().map(|stop| stop.at),
            stopped_at: self.stopped_at,
            stopped_reason: self.stop.as_ref().map(|stop| stop.reason.clone()),
            stop_code: self.stop.as_ref().map(|stop| stop.code),
            containers: vec![container],
            attachments: self.address.iter().map(|address| self.attachment(address)).collect(),
            health_status: "UNKNOWN".to_owned(),
        }
    }
}
