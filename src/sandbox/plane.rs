//! The data plane of the sandbox: turns the region model's plain-data orders into real things on
//! 127.0.0.1. Listeners become reverse proxies for HTTP or TCP, task orders become servers or processes, probe
//! orders become health checks.
//!
//! It decides nothing that AWS's control plane decides: it has no thresholds, no scheduling and no
//! target registration. Orders come in, events go out; the model in between is the caller's. It opens
//! and connects to loopback addresses only.

pub mod faults;
pub mod health;
pub mod metrics;
pub mod pick;
pub mod tasks;
pub mod wildcard;

mod app;
mod command;
mod flow;
mod listeners;
mod proxy;
mod report;
mod rules;
mod slow;
mod table;
mod upstream;

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::health::{HealthChecker, ProbeResult};
use self::listeners::{Listeners, Nodes};
use self::metrics::AlbMetrics;
use self::proxy::ProxySettings;
use self::report::Reporter;
use self::tasks::{TaskEvent, TaskRuntime};
use crate::world::{ProbeOrder, Routing, TaskOrder};

/// Ports below this need privileges, so they are moved.
const PRIVILEGED_BELOW: u16 = 1024;

/// What a stickiness cookie is worth whose target group now has weight 0. AWS does not document it
/// (`aws-facts.md` §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StickyAtZero {
    /// The client stays on its group until its cookie ends: the worse case for a rollback, and so the
    /// one that a controller should be tested against.
    #[default]
    Honour,
    /// The client is distributed anew by weight.
    Reweigh,
}

/// Settings of the data plane. Durations are real time.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaneSettings {
    /// Added to listener ports below 1024: 80 is served on 8080.
    pub privileged_port_offset: u16,
    /// Virtual load-balancer machines; connections are spread over them in turn.
    pub nodes: NonZeroU32,
    /// Until the slowest node applies a changed listener or rule. Node `i` of `n` takes `i / n` of it. Changed
    /// targets are known to all nodes at once: a target that is gone must get nothing.
    pub propagation: Duration,
    /// Cookies to groups of weight 0.
    pub sticky_at_zero: StickyAtZero,
    /// A deliberate fault, to show that tests would notice it: this share of requests (in thousandths)
    /// goes to a weight-0 group of the same action.
    pub leak_per_mille: u32,
    /// For connecting to a target, then 504. AWS: 10 s.
    pub connect_timeout: Duration,
    /// From SIGTERM to SIGKILL. ECS: 30 s.
    pub stop_timeout: Duration,
    /// For a local command to listen on its port.
    pub start_timeout: Duration,
    /// Health check intervals and timeouts are divided by this at first; above 0.
    pub speed: f64,
}

impl Default for PlaneSettings {
    fn default() -> Self {
        Self {
            privileged_port_offset: 8000,
            nodes: NonZeroU32::MIN,
            propagation: Duration::ZERO,
            sticky_at_zero: StickyAtZero::Honour,
            leak_per_mille: 0,
            connect_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_mins(1),
            speed: 1.0,
        }
    }
}

impl PlaneSettings {
    /// The local port that serves a listener's port; `None` for port 0 and for an offset that leads out
    /// of the range of ports.
    pub fn local_port(&self, listener_port: u16) -> Option<u16> {
        match listener_port {
            0 => None,
            low if low < PRIVILEGED_BELOW => low.checked_add(self.privileged_port_offset),
            port => Some(port),
        }
    }
}

/// What became of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerEvent {
    /// It takes connections on 127.0.0.1.
    Open {
        /// Listener ARN.
        listener: String,
        /// Port as created by the user.
        port: u16,
        /// Port that is really open.
        local_port: u16,
    },
    /// Its port cannot be opened. It is tried again every second; only a new reason is told again.
    Failed {
        /// Listener ARN.
        listener: String,
        /// Port as created by the user.
        port: u16,
        /// Why, for people.
        reason: String,
    },
}

/// What the plane tells its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneEvent {
    /// A task started or stopped.
    Task(TaskEvent),
    /// A health check was carried out.
    Probe(ProbeResult),
    /// A listener was opened or could not be.
    Listener(ListenerEvent),
}

/// The running data plane. It stops when its shutdown token is cancelled; await [`Plane::stopped`]
/// then, so that every child process is reaped.
#[derive(Debug)]
pub struct Plane {
    tasks: TaskRuntime,
    health: HealthChecker,
    metrics: Arc<AlbMetrics>,
    nodes: Arc<Nodes>,
    leak: Arc<AtomicU32>,
    speed: watch::Sender<f64>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Plane {
    /// Starts the plane on the current tokio runtime. Listeners follow `routing` on their own. The caller
    /// must keep reading `events`: when that queue is full, tasks and health checks wait for it.
    pub fn start(
        mut settings: PlaneSettings,
        routing: watch::Receiver<Arc<Routing>>,
        events: mpsc::Sender<PlaneEvent>,
        shutdown: CancellationToken,
    ) -> Self {
        if !(settings.speed.is_finite() && settings.speed > 0.0) {
            tracing::warn!(settings.speed, "a speed must be above 0; health checks run at speed 1");
            settings.speed = 1.0;
        }
        let (tracker, metrics) = (TaskTracker::new(), Arc::new(AlbMetrics::default()));
        let reporter = Reporter { events, shutdown: shutdown.clone() };
        let leak = Arc::new(AtomicU32::new(settings.leak_per_mille));
        let (speed, watched) = watch::channel(settings.speed);
        let nodes = Arc::new(Nodes::new(&settings, watched.clone()));
        let listeners = Listeners {
            settings: settings.clone(),
            proxy: ProxySettings {
                connect: settings.connect_timeout,
                at_zero: settings.sticky_at_zero,
                leak_per_mille: Arc::clone(&leak),
            },
            nodes: Arc::clone(&nodes),
            metrics: Arc::clone(&metrics),
            reporter: reporter.clone(),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        };
        tracker.spawn(listeners.follow(routing));
        Self {
            tasks: TaskRuntime::new(reporter.clone(), &settings, tracker.clone(), shutdown.clone()),
            health: HealthChecker::new(reporter, watched, tracker.clone(), shutdown.clone()),
            metrics,
            nodes,
            leak,
            speed,
            tracker,
            shutdown,
        }
    }

    /// From now on, a changed listener or rule takes this long to reach the slowest node.
    pub fn set_propagation(&self, propagation: Duration) {
        self.nodes.set_propagation(propagation);
    }

    /// From now on, this share of requests (in thousandths) goes to a weight-0 group of the same action.
    pub fn set_leak(&self, per_mille: u32) {
        self.leak.store(per_mille, Ordering::Relaxed);
    }

    /// From now on, health check intervals and timeouts are divided by this. A check that waits for its turn comes
    /// as if the interval had always been so long.
    pub fn set_speed(&self, speed: u32) {
        self.speed.send_replace(f64::from(speed.max(1)));
    }

    /// A task freezes or goes on, as after SIGSTOP and SIGCONT: it takes connections and answers nothing.
    /// Whether there is such a task.
    pub fn freeze_task(&self, task: &str, frozen: bool) -> bool {
        self.tasks.freeze(task, frozen)
    }

    /// Brings the running tasks in line with these orders: all that should run or are known to stop.
    /// A task that is missing from them is stopped. Returns at once; events tell the rest.
    pub fn sync_tasks(&self, orders: Vec<TaskOrder>) {
        self.tasks.sync(orders);
    }

    /// Brings the health checks in line with these orders. A new check is carried out at once.
    pub fn sync_probes(&self, orders: Vec<ProbeOrder>) {
        self.health.sync(orders);
    }

    /// The load balancers' counters, for draining.
    pub fn metrics(&self) -> Arc<AlbMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Returns once every node routes by this version or a later one: from then on, no new request is
    /// decided by an older one.
    pub async fn routing_reached(&self, version: u64) {
        self.nodes.reached(version).await;
    }

    /// Returns when, after shutdown, all tasks, processes and connections have ended.
    pub async fn stopped(&self) {
        self.shutdown.cancelled().await;
        self.tracker.close();
        self.tracker.wait().await;
    }
}
