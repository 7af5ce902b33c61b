//! One region: the entry points of the model. Each one first lets everything due up to `now` happen,
//! then acts, then lets the scheduler react.

mod happenings;
mod typed;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ecs::{Around, Ecs, Members, Text};
use super::elb::{Elb, Surroundings};
use super::ids::Ids;
use super::tuning::Tuning;
use super::{Address, Api, ApiError, ProbeOrder, Routing, TaskOrder};

/// Things that one [`Region::advance`] lets happen at most. A region that has more due at once goes on
/// with the next call; only a crash loop with all durations at zero gets there.
const HAPPENINGS_PER_ADVANCE: usize = 100_000;

/// One AWS region of one account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Region {
    /// How the program that runs now wants it, not the one that saved it.
    #[serde(skip)]
    tuning: Tuning,
    ids: Ids,
    ecs: Ecs,
    elb: Elb,
    /// When something happens next. Derived from the rest after each change, so that the many reads of
    /// a large region cost nothing.
    due: Option<Timestamp>,
}

impl Region {
    /// An empty region.
    pub fn new(account: &str, region: &str, tuning: Tuning) -> Self {
        Self {
            tuning,
            ids: Ids::default(),
            ecs: Ecs::new(account, region),
            elb: Elb::new(account, region),
            due: None,
        }
    }

    /// One API call in AWS's shapes as JSON. `input` and output have the member names of the API model;
    /// timestamps are epoch seconds.
    pub fn call(
        &mut self,
        now: Timestamp,
        api: Api,
        operation: &str,
        input: Value,
    ) -> Result<Value, ApiError> {
        if operation.starts_with("Describe") || operation.starts_with("List") {
            self.advance(now);
            return match api {
                Api::Ecs => self.ecs.look::<Members>(operation, input, now),
                Api::Elb => self.elb.look(operation, input),
                Api::CloudWatch => Err(unknown(operation)),
            };
        }
        match api {
            Api::Ecs => self.on_ecs(now, |ecs, around| ecs.call(operation, input, around)),
            Api::Elb => self.on_elb(now, |elb, around| elb.call(operation, input, around)),
            Api::CloudWatch => Err(unknown(operation)),
        }
    }

    /// One call of ECS that changes nothing, as [`Region::call`] answers it, in JSON text.
    pub fn written_look(
        &mut self,
        now: Timestamp,
        operation: &str,
        input: Value,
    ) -> Result<String, ApiError> {
        self.ecs_at(now).look::<Text>(operation, input, now)
    }

    fn on_ecs<T>(&mut self, now: Timestamp, act: impl FnOnce(&mut Ecs, &mut Around<'_>) -> T) -> T {
        self.advance(now);
        let Self { tuning, ids, ecs, elb, .. } = self;
        let output = act(ecs, &mut Around { now, elb, ids, tuning });
        self.settle(now);
        output
    }

    fn on_elb<T>(&mut self, now: Timestamp, act: impl FnOnce(&mut Elb, &mut Surroundings<'_>) -> T) -> T {
        self.advance(now);
        let output = act(&mut self.elb, &mut Surroundings { now, ids: &mut self.ids, tuning: &self.tuning });
        self.settle(now);
        output
    }

    fn settle(&mut self, now: Timestamp) {
        let Self { tuning, ids, ecs, elb, .. } = self;
        ecs.settle(&mut Around { now, elb, ids, tuning });
        self.due = [ecs.next_due(), elb.next_due()].into_iter().flatten().min();
    }

    /// This region after a look at everything in it, whatever was touched or is due. It must be the same.
    #[cfg(test)]
    pub(super) fn scanned(&self, now: Timestamp) -> Self {
        let mut region = self.clone();
        let Self { tuning, ids, ecs, elb, .. } = &mut region;
        elb.scan(now, tuning);
        ecs.scan(&mut Around { now, elb, ids, tuning });
        region.settle(now);
        region
    }

    /// A look at ECS once everything due up to `now` has happened.
    fn ecs_at(&mut self, now: Timestamp) -> &Ecs {
        self.advance(now);
        &self.ecs
    }

    /// As [`Region::ecs_at`], for load balancing.
    fn elb_at(&mut self, now: Timestamp) -> &Elb {
        self.advance(now);
        &self.elb
    }

    /// Lets everything due up to `now` happen, in order of time.
    pub fn advance(&mut self, now: Timestamp) {
        for _ in 0..HAPPENINGS_PER_ADVANCE {
            let Some(due) = self.due.filter(|due| *due <= now) else { return };
            self.elb.advance(due, &self.tuning);
            let Self { tuning, ids, ecs, elb, .. } = self;
            ecs.advance(&mut Around { now: due, elb, ids, tuning });
            self.settle(due);
        }
    }

    /// When [`Region::advance`] has something to do next; `None` when nothing will happen by itself.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Tasks that a real runtime should run, those that already do included, or should stop. An order
    /// stays until [`Region::task_stopped`] is told, also for a task never started.
    pub fn task_orders(&self) -> Vec<TaskOrder> {
        self.ecs.task_orders()
    }

    /// A real runtime started a task: it is RUNNING, and its target is registered.
    pub fn task_started(&mut self, now: Timestamp, task: &str, address: Address) {
        self.on_ecs(now, |ecs, around| ecs.task_started(task, address, around));
    }

    /// A task stopped: as ordered, or by itself, in which case it is replaced.
    pub fn task_stopped(&mut self, now: Timestamp, task: &str, exit_code: Option<i32>, reason: &str) {
        self.on_ecs(now, |ecs, around| ecs.task_stopped(task, exit_code, reason, around));
    }

    /// The same region for a program that just started: it behaves as `tuning` says from now on.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self { tuning, ..self }
    }

    /// From now on, lengths that AWS gives go this many times faster.
    pub fn set_speed(&mut self, speed: u32) {
        self.tuning = self.tuning.clone().at_speed(speed);
    }

    /// Whatever ran the tasks is gone, and all of them with it. They stop for this reason and are replaced
    /// at once: nobody's application failed, so no delay between replacements grows.
    pub fn tasks_lost(&mut self, now: Timestamp, reason: &str) {
        self.on_ecs(now, |ecs, around| ecs.tasks_lost(reason, around));
    }

    /// Targets that a real runtime should probe, at their pace.
    pub fn probe_orders(&self) -> Vec<ProbeOrder> {
        self.elb.probe_orders()
    }

    /// The result of one probe. `detail` is AWS's sentence for a failed one, for example
    /// `Health checks failed with these codes: [500]` or `Request timed out`.
    pub fn target_probed(
        &mut self,
        now: Timestamp,
        group: &str,
        target: &Address,
        healthy: bool,
        detail: &str,
    ) {
        self.advance(now);
        // Most probes confirm what is known; only a change concerns the scheduler.
        if self.elb.probed(group, target, healthy, detail, now, &self.tuning) {
            self.settle(now);
        }
    }

    /// What the data plane routes by.
    pub fn routing(&self) -> Routing {
        self.elb.routing()
    }

    /// The version of [`Region::routing`] without making it.
    pub fn routing_version(&self) -> u64 {
        self.elb.version()
    }

    /// How this region behaves.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }
}

fn unknown(operation: &str) -> ApiError {
    ApiError::client("UnknownOperationException", format!("{operation} is not part of this model"))
}
