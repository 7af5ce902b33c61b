//! What AWS does not promise, as numbers: how long things take, and what the documentation leaves open.

use jiff::SignedDuration;

/// Who runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// The model itself: all tasks start after [`Tuning::task_start`] and answer health checks as
    /// `POINTSMAN_SIM` in their task definition says.
    Simulated,
    /// Real processes outside of the model, told through [`crate::world::Region::task_orders`] and
    /// [`crate::world::Region::probe_orders`], reporting back. Tasks whose definition has a
    /// `POINTSMAN_SIM` are ghosts: the model runs them as it does all tasks of a simulated region.
    External,
}

/// How this region behaves where AWS leaves it open. The defaults are the conservative reading of
/// `aws-facts.md` §10: whatever makes a controller's life harder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tuning {
    /// Who runs the tasks.
    pub runtime: Runtime,
    /// From a simulated task's order to RUNNING (image pull, network interface).
    pub task_start: SignedDuration,
    /// From SIGTERM until a simulated container has stopped. The default is the whole stop time-out
    /// of 30 s, as if the container ignored SIGTERM (`aws-facts.md` §1.9).
    pub stop_timeout: SignedDuration,
    /// How long the four conditions of `STEADY_STATE` must have held before it is reported.
    pub steady_lag: SignedDuration,
    /// From registration in a target group until its health checks begin.
    pub target_registration: SignedDuration,
    /// Deregistration delays are divided by this; at least 1.
    pub draining_speed: i32,
    /// Intervals of the health checks that the model makes are divided by this; at least 1. Those of a
    /// real runtime are its own matter.
    pub modelled_check_speed: i32,
    /// From RUNNING until a task whose `POINTSMAN_SIM` is `crash` exits with code 1.
    pub crash_after: SignedDuration,
    /// Delay before the second replacement of a task set whose tasks keep failing; it doubles each
    /// time. The first replacement is made at once.
    pub restart_delay: SignedDuration,
    /// Upper bound of the delay between replacements.
    pub restart_delay_max: SignedDuration,
    /// How long STOPPED tasks can still be described.
    pub stopped_retention: SignedDuration,
    /// How long `CreateTaskSet` remembers a client token. AWS documents a day for `RunTask` only, so
    /// the default is short: nobody may rely on it for durable de-duplication.
    pub client_token_life: SignedDuration,
    /// Task sets per service (`aws-facts.md` §1.4).
    pub max_task_sets: u32,
    /// Whether DRAINING task sets count to that limit; unknown, so the default is yes.
    pub draining_sets_count: bool,
}

impl Tuning {
    /// The same behaviour where lengths that AWS gives go this many times faster. What has begun keeps the end
    /// that it was given.
    #[must_use]
    pub fn at_speed(self, speed: u32) -> Self {
        let speed = i32::try_from(speed).unwrap_or(i32::MAX).max(1);
        Self { draining_speed: speed, modelled_check_speed: speed, ..self }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            runtime: Runtime::Simulated,
            task_start: SignedDuration::from_secs(20),
            stop_timeout: SignedDuration::from_secs(30),
            steady_lag: SignedDuration::from_secs(10),
            target_registration: SignedDuration::from_secs(5),
            draining_speed: 1,
            modelled_check_speed: 1,
            crash_after: SignedDuration::from_secs(3),
            restart_delay: SignedDuration::from_secs(5),
            restart_delay_max: SignedDuration::from_mins(15),
            stopped_retention: SignedDuration::from_hours(1),
            client_token_life: SignedDuration::from_mins(10),
            max_task_sets: 5,
            draining_sets_count: true,
        }
    }
}
