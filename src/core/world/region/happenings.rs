//! What happens to a region without any API call: applications fall ill, processes die.

use jiff::Timestamp;

use crate::world::{Address, Region};

impl Region {
    /// The application in a simulated task fails its health checks from now on (`broken`), or passes
    /// them again. Whether there is such a task with a registered target.
    pub fn break_task(&mut self, now: Timestamp, task: &str, broken: bool) -> bool {
        self.advance(now);
        match self.ecs.target_of(task) {
            Some((group, address)) => self.set_target_unhealthy(now, &group, &address, broken),
            None => false,
        }
    }

    /// A simulated target fails its health checks from now on (`unhealthy`), or passes them again; the
    /// thresholds of its group still apply. Whether the target is registered.
    pub fn set_target_unhealthy(
        &mut self,
        now: Timestamp,
        group: &str,
        target: &Address,
        unhealthy: bool,
    ) -> bool {
        self.on_elb(now, |elb, around| elb.set_sick(group, target, unhealthy, now, around.tuning))
    }

    /// A task's container exits with this code, as if killed from outside. Whether it was there.
    pub fn kill_task(&mut self, now: Timestamp, task: &str, exit_code: i32) -> bool {
        self.on_ecs(now, |ecs, around| {
            ecs.task_stopped(task, Some(exit_code), "Essential container in task exited", around)
        })
    }
}
