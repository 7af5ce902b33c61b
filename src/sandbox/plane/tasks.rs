//! Runs tasks: turns orders into running servers or child processes and reports what became of them.
//!
//! A task runs at most once. Whatever ended it, it is reported stopped exactly once and never started
//! again; a replacement is a new task, and that is the model's decision.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::report::Reporter;
use super::{PlaneEvent, app, command};
use crate::world::{Address, TaskOrder};

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEvent {
    /// It listens and takes requests.
    Started {
        /// Task ARN.
        task: String,
        /// Where it listens.
        address: Address,
    },
    /// It has ended and holds nothing any more.
    Stopped {
        /// Task ARN.
        task: String,
        /// Exit code of its container; 128 + signal when a signal ended it; absent when it never ran.
        exit_code: Option<i32>,
        /// Why, for people.
        reason: String,
    },
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub exit_code: Option<i32>,
    pub reason: String,
}

impl Ended {
    /// Because it was told to.
    pub fn stopped(exit_code: Option<i32>) -> Self {
        Self { exit_code, reason: "Task stopped on order".to_owned() }
    }

    /// By itself.
    pub fn failed(exit_code: Option<i32>, reason: String) -> Self {
        Self { exit_code, reason }
    }
}

/// One task as its runner sees it.
#[derive(Debug)]
pub(super) struct Life {
    pub order: TaskOrder,
    /// Cancelled when the task should stop.
    pub stop: CancellationToken,
    /// From the order to stop until it is forced.
    pub stop_timeout: Duration,
    /// For a local command to accept connections.
    pub start_timeout: Duration,
    /// Whether it stands still, as after SIGSTOP.
    pub frozen: watch::Receiver<bool>,
    reporter: Reporter,
}

impl Life {
    /// The last part of the task's ARN.
    pub fn short_id(&self) -> &str {
        self.order.task.rsplit('/').next().unwrap_or(&self.order.task)
    }

    /// Reports that the task listens on this port of 127.0.0.1.
    pub async fn started(&self, port: u16) {
        let address = Address { ip: "127.0.0.1".to_owned(), port };
        let task = self.order.task.clone();
        self.reporter.report(PlaneEvent::Task(TaskEvent::Started { task, address })).await;
    }
}

/// Whether an order runs a local command instead of the demo app.
fn is_local(order: &TaskOrder) -> bool {
    order.image == "local" || order.image.starts_with("local:")
}

/// What can be done to a task.
#[derive(Clone, Debug)]
struct Switches {
    stop: CancellationToken,
    freeze: watch::Sender<bool>,
}

/// The tasks of the plane.
#[derive(Debug)]
pub(super) struct TaskRuntime {
    /// Every task of the latest orders, those that ended included, by ARN.
    known: Mutex<BTreeMap<String, Switches>>,
    reporter: Reporter,
    stop_timeout: Duration,
    start_timeout: Duration,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl TaskRuntime {
    pub fn new(
        reporter: Reporter,
        settings: &super::PlaneSettings,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let (stop_timeout, start_timeout) = (settings.stop_timeout, settings.start_timeout);
        Self { known: Mutex::default(), reporter, stop_timeout, start_timeout, tracker, shutdown }
    }

    /// Starts what is new, stops what should not run or is not ordered any more.
    pub fn sync(&self, orders: Vec<TaskOrder>) {
        if self.shutdown.is_cancelled() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latest = BTreeMap::new();
        for order in orders {
            if latest.contains_key(&order.task) {
                tracing::warn!(task = order.task, "a task was ordered twice; the first order counts");
                continue;
            }
            let earlier = known.remove(&order.task);
            let is_new = earlier.is_none();
            let switches = earlier.unwrap_or_else(|| Switches {
                stop: self.shutdown.child_token(),
                freeze: watch::Sender::new(false),
            });
            if !order.run {
                switches.stop.cancel();
            }
            if is_new {
                self.start(order.clone(), &switches);
            }
            latest.insert(order.task, switches);
        }
        for switches in known.values() {
            switches.stop.cancel();
        }
        *known = latest;
    }

    /// A task freezes or goes on; whether there is such a task, by its ARN.
    pub fn freeze(&self, task: &str, frozen: bool) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(task).map(|switches| switches.freeze.send_replace(frozen)).is_some()
    }

    fn start(&self, order: TaskOrder, switches: &Switches) {
        let life = Life {
            order,
            stop: switches.stop.clone(),
            frozen: switches.freeze.subscribe(),
            stop_timeout: self.stop_timeout,
            start_timeout: self.start_timeout,
            reporter: self.reporter.clone(),
        };
        self.tracker.spawn(async move {
            let ended = if life.stop.is_cancelled() {
                // Nobody must wait in vain for the end of a task that never began.
                Ended::failed(None, "Task stopped before it was started".to_owned())
            } else if is_local(&life.order) {
                command::run(&life).await
            } else {
                app::run(&life).await
            };
            let event = TaskEvent::Stopped {
                task: life.order.task.clone(),
                exit_code: ended.exit_code,
                reason: ended.reason,
            };
            life.reporter.report(PlaneEvent::Task(event)).await;
        });
    }
}
