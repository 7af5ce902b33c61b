//! The region's heart: the one owner of the model, the metrics and their time.
//!
//! Calls, the passing of time and reports of the data plane all go through one lock, in the order in
//! which they come. After each, what follows from it goes out: new routes to the load balancers at
//! once, orders for tasks and health checks with the next beat.

mod news;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::call_log::is_mutating;
use super::clock;
use super::faults::Faults;
use super::messages::Messages;
use super::metrics::{CloudWatch, Tempo};
use super::plane::metrics::{AlbMetrics, host_counts};
use super::plane::tasks::TaskEvent;
use super::plane::{ListenerEvent, Plane, PlaneEvent};
use super::state::Held;
use super::weather::{VERSIONS_MAX, Weather};
use super::wire::{Backend, Refusal, Request, Service};
use crate::world::alarm::Alarms;
use crate::world::{Api, Region, Routing, Tuning};

/// How often the load balancers' counters become metrics.
const DRAIN_EVERY: Duration = Duration::from_secs(1);
/// The longest sleep between two beats, so that a jump of the clock does no lasting harm.
const BEAT_MAX: Duration = Duration::from_secs(1);
/// Reports taken in one beat before orders are given again.
const EVENTS_PER_BEAT: usize = 256;
/// The longest a load balancer call waits for its routes to be in effect.
const ROUTES_MAX: Duration = Duration::from_secs(2);
/// Exit code of a container that was killed from outside: 128 + SIGKILL.
const KILLED: i32 = 137;
/// Why tasks stopped that an earlier process ran.
const RESTARTED: &str = "The sandbox was restarted";

/// Everything that changes.
struct Core {
    region: Region,
    cloudwatch: CloudWatch,
    alarms: Alarms,
    /// Earlier versions, the latest first; only while reads may be stale.
    past: VecDeque<Version>,
    /// What became of the listeners' ports, by ARN.
    ports: BTreeMap<String, Result<u16, String>>,
    /// What the news were compared with.
    seen: news::Seen,
}

/// How the region was before a change.
struct Version {
    region: Region,
    alarms: Alarms,
    replaced_at: Timestamp,
}

impl Core {
    fn call(&mut self, now: Timestamp, api: Api, operation: &str, input: Value) -> Result<Value, Refusal> {
        let Self { region, cloudwatch, alarms, .. } = self;
        let answer = match api {
            Api::Ecs | Api::Elb => region.call(now, api, operation, input),
            Api::CloudWatch => cloudwatch.call(alarms, now, operation, input),
        };
        Ok(answer?)
    }

    /// Answers from an earlier version: as far back as asked, or as there is among those that were replaced
    /// after `since`.
    fn stale_call(
        &self,
        versions: u32,
        since: Timestamp,
        now: Timestamp,
        api: Api,
        request: Request,
    ) -> Result<Value, Refusal> {
        let back = usize::try_from(versions).unwrap_or(usize::MAX);
        let recent = self.past.iter().take(back).take_while(|version| version.replaced_at >= since);
        let (region, alarms) = match recent.last() {
            Some(version) => (version.region.clone(), version.alarms.clone()),
            None => (self.region.clone(), self.alarms.clone()),
        };
        let mut then = Self {
            region,
            alarms,
            cloudwatch: self.cloudwatch.clone(),
            past: VecDeque::new(),
            ports: BTreeMap::new(),
            seen: news::Seen::default(),
        };
        then.call(now, api, &request.operation, request.input)
    }

    /// Lets time pass; what metrics say about alarms comes after what happened to the targets.
    fn advance(&mut self, now: Timestamp) {
        self.region.advance(now);
        self.cloudwatch.evaluate(&mut self.alarms, now);
    }

    fn next_due(&self) -> Option<Timestamp> {
        [self.region.next_due(), self.cloudwatch.next_due()].into_iter().flatten().min()
    }
}

/// The model, its data plane's orders and their clock.
pub(super) struct Heart {
    core: Mutex<Core>,
    /// Set by whatever may change something, under the lock.
    touched: AtomicBool,
    routing: watch::Sender<Arc<Routing>>,
    nudged: Notify,
    faults: Arc<Faults>,
    weather: Arc<Weather>,
    /// Who is told what happens.
    messages: Arc<Messages>,
    /// Set when changed routes are to be in effect before the call that changed them is answered.
    prompt: OnceLock<Arc<Plane>>,
}

impl Heart {
    pub(super) fn new(
        (account, region): (&str, &str),
        tuning: Tuning,
        speed: u32,
        faults: Arc<Faults>,
        weather: Arc<Weather>,
        messages: Arc<Messages>,
        held: Option<Held>,
    ) -> Self {
        let (region, alarms, cloudwatch) = if let Some(Held { region, alarms, metrics, .. }) = held {
            let mut region = region.tuned(tuning);
            region.tasks_lost(clock::now(), RESTARTED);
            (region, alarms, CloudWatch::with(clock::now(), speed, metrics))
        } else {
            let alarms = Alarms::new(region, account);
            (Region::new(account, region, tuning), alarms, CloudWatch::new(Tempo::new(speed)))
        };
        let (past, ports, seen) = (VecDeque::new(), BTreeMap::new(), news::Seen::default());
        let mut core = Core { region, cloudwatch, alarms, past, ports, seen };
        core.take_note_of_alarms();
        let routing = watch::Sender::new(Arc::new(core.region.routing()));
        let (core, nudged, prompt) = (Mutex::new(core), Notify::new(), OnceLock::new());
        let touched = AtomicBool::new(true);
        Self { core, touched, routing, nudged, faults, weather, messages, prompt }
    }

    /// What outlives the program, as it is now.
    pub(super) fn held(&self) -> Held {
        let core = self.lock();
        let (region, alarms) = (core.region.clone(), core.alarms.clone());
        Held { metrics: core.cloudwatch.keep(&alarms), region, alarms, messages: self.messages.kept() }
    }

    /// Whether anything may have changed since this was last asked.
    pub(super) fn was_touched(&self) -> bool {
        // Both are asked, so that neither stays set.
        self.touched.swap(false, Ordering::Relaxed) | self.messages.were_touched()
    }

    /// What the load balancers follow.
    pub(super) fn routing(&self) -> watch::Receiver<Arc<Routing>> {
        self.routing.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic inside the model ends that call; refusing all others for ever would only hide it.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One change under the lock, after everything that was due before it.
    fn change<T>(&self, keep_version: bool, change: impl FnOnce(&mut Core, Timestamp) -> T) -> T {
        let now = clock::now();
        let mut core = self.lock();
        self.touched.store(true, Ordering::Relaxed);
        let due = core.next_due();
        core.advance(now);
        if keep_version {
            self.keep_version(&mut core, now);
            core.take_note(now, &self.messages);
        }
        let output = change(&mut core, now);
        core.tell(now, &self.messages, keep_version);
        self.publish(&core);
        // A mere look leaves nothing to be ordered: thousands of them a second must not wake the beat.
        let nudge = keep_version || core.next_due() != due;
        drop(core);
        if nudge {
            self.nudged.notify_one();
        }
        output
    }

    fn keep_version(&self, core: &mut Core, now: Timestamp) {
        let wanted = self.faults.oldest_version().max(self.weather.now().stale_versions).min(VERSIONS_MAX);
        if wanted > 0 {
            let (region, alarms) = (core.region.clone(), core.alarms.clone());
            core.past.push_front(Version { region, alarms, replaced_at: now });
        }
        core.past.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    }

    /// Hands changed routes to the load balancers, under the lock so that versions never cross.
    fn publish(&self, core: &Core) {
        let version = core.region.routing_version();
        self.routing.send_if_modified(|routing| {
            let changed = routing.version != version;
            if changed {
                *routing = Arc::new(core.region.routing());
            }
            changed
        });
    }

    /// Kills a task by its id or ARN, as if its container had died. Whether there was one to kill.
    pub(super) fn kill_task(&self, id: &str) -> bool {
        let task = self.task_named(id);
        task.is_some_and(|task| self.change(true, |core, now| core.region.kill_task(now, &task, KILLED)))
    }

    /// The ARN of a task that is to run or to stop, from its id or ARN.
    pub(super) fn task_named(&self, id: &str) -> Option<String> {
        let orders = self.lock().region.task_orders();
        let named = |task: &str| task == id || task.rsplit('/').next() == Some(id);
        orders.into_iter().map(|order| order.task).find(|task| named(task))
    }

    /// From now on, lengths that AWS gives go this many times faster.
    pub(super) fn set_speed(&self, speed: u32) {
        self.change(true, |core, now| {
            core.cloudwatch.set_speed(now, speed);
            core.region.set_speed(speed);
        });
    }

    /// How many times faster than AWS the region goes.
    pub(super) fn speed(&self) -> u32 {
        self.lock().cloudwatch.speed()
    }

    /// What there is, for people.
    pub(super) fn state(&self) -> Value {
        self.change(false, view::state)
    }

    /// From now on, while changes take no time to propagate, a call that changes routes is answered once
    /// every load balancer routes by them.
    pub(super) fn answer_after_routes(&self, plane: Arc<Plane>) {
        // Set once, at the start.
        let _ = self.prompt.set(plane);
    }

    /// Waits until the routes as they are now are in effect.
    async fn routes_in_effect(&self) {
        let Some(plane) = self.prompt.get().filter(|_| self.weather.now().propagation_millis == 0) else {
            return;
        };
        let version = self.routing.borrow().version;
        if tokio::time::timeout(ROUTES_MAX, plane.routing_reached(version)).await.is_err() {
            tracing::warn!(version, "the load balancers are slow to take up changed routes");
        }
    }

    /// Keeps time and the data plane going until `stop`.
    pub(super) async fn beat(
        self: Arc<Self>,
        plane: Arc<Plane>,
        mut events: mpsc::Receiver<PlaneEvent>,
        stop: CancellationToken,
    ) {
        let metrics = plane.metrics();
        let mut drain = tokio::time::interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let pause = self.give_orders(&plane);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.nudged.notified() => {}
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.take_reports(event, &mut events, &stop);
                }
                _ = drain.tick() => self.measure(&metrics),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Lets what is due happen, tells the data plane what to do, and how long it may rest.
    fn give_orders(&self, plane: &Plane) -> Duration {
        let now = clock::now();
        let mut core = self.lock();
        if core.next_due().is_some_and(|due| due <= now) {
            self.touched.store(true, Ordering::Relaxed);
            self.keep_version(&mut core, now);
            core.advance(now);
            core.tell(now, &self.messages, true);
            self.publish(&core);
        }
        plane.sync_tasks(core.region.task_orders());
        plane.sync_probes(core.region.probe_orders());
        let rest = core.next_due().map(|due| due.duration_since(now));
        rest.map_or(BEAT_MAX, |rest| Duration::try_from(rest).unwrap_or_default().min(BEAT_MAX))
    }

    /// None once `stop` was called: the tasks that the stop itself ends did not fail.
    fn take_reports(
        &self,
        first: PlaneEvent,
        events: &mut mpsc::Receiver<PlaneEvent>,
        stop: &CancellationToken,
    ) {
        let more = std::iter::from_fn(|| events.try_recv().ok());
        let reports = std::iter::once(first).chain(more).take(EVENTS_PER_BEAT);
        for event in reports.take_while(|_| !stop.is_cancelled()) {
            self.take_report(event);
        }
    }

    fn take_report(&self, event: PlaneEvent) {
        match event {
            PlaneEvent::Task(TaskEvent::Started { task, address }) => {
                self.change(true, |core, now| core.region.task_started(now, &task, address));
            }
            PlaneEvent::Task(TaskEvent::Stopped { task, exit_code, reason }) => {
                self.change(true, |core, now| core.region.task_stopped(now, &task, exit_code, &reason));
            }
            PlaneEvent::Probe(probe) => self.change(false, |core, now| {
                core.region.target_probed(now, &probe.group, &probe.target, probe.healthy, &probe.detail);
            }),
            PlaneEvent::Listener(ListenerEvent::Open { listener, port, local_port }) => {
                tracing::info!(listener, port, local_port, "a listener takes connections on 127.0.0.1");
                self.lock().ports.insert(listener, Ok(local_port));
            }
            PlaneEvent::Listener(ListenerEvent::Failed { listener, port, reason }) => {
                tracing::warn!(listener, port, reason, "a listener's port cannot be opened");
                self.lock().ports.insert(listener, Err(reason));
            }
        }
    }

    /// Turns what the load balancers counted into metrics, under AWS's dimensions.
    fn measure(&self, metrics: &AlbMetrics) {
        let counted = metrics.drain();
        let hosts = host_counts(&self.routing.borrow());
        self.change(false, |core, now| {
            for datum in counted.iter().chain(&hosts) {
                let mut dimensions = vec![("LoadBalancer", datum.load_balancer.as_str())];
                if let Some(group) = &datum.target_group {
                    dimensions.insert(0, ("TargetGroup", group));
                }
                core.cloudwatch.record_counted(
                    now,
                    "AWS/ApplicationELB",
                    datum.metric,
                    &dimensions,
                    &datum.values,
                    datum.unit,
                );
            }
        });
    }
}

#[async_trait]
impl Backend for Heart {
    /// Looks at ECS as it is now: the answers that are long, and asked for often.
    fn written(&self, request: &Request) -> Option<Result<String, Refusal>> {
        let now_only = request.stale_versions == 0 && self.weather.now().stale_versions == 0;
        if request.service != Service::Ecs || is_mutating(&request.operation) || !now_only {
            return None;
        }
        let (operation, input) = (&request.operation, request.input.clone());
        let written = self.change(false, |core, now| core.region.written_look(now, operation, input));
        Some(written.map_err(Refusal::from))
    }

    async fn call(&self, request: Request) -> Result<Value, Refusal> {
        let api = match request.service {
            Service::Ecs => Api::Ecs,
            Service::Elb => Api::Elb,
            Service::CloudWatch => Api::CloudWatch,
            _ => return Err(Refusal::unknown_operation(&request.operation)),
        };
        let mutating = is_mutating(&request.operation);
        // By order of a fault rule, whatever its age; else by the weather.
        let stale = match request.stale_versions {
            _ if mutating => None,
            0 if api == Api::CloudWatch => None,
            0 => self.weather.stale_read(&request.caller).map(|(versions, within)| (versions, Some(within))),
            versions => Some((versions, None)),
        };
        if let Some((versions, within)) = stale {
            return self.change(false, |core, now| {
                let since = within.map_or(Timestamp::MIN, |within| now - within);
                core.stale_call(versions, since, now, api, request)
            });
        }
        let answer =
            self.change(mutating, |core, now| core.call(now, api, &request.operation, request.input));
        if mutating && api == Api::Elb {
            self.routes_in_effect().await;
        }
        answer
    }
}
