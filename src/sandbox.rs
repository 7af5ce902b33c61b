//! A region on your laptop: one loopback port speaks the AWS protocols to unmodified SDKs, and behind
//! it things really move.
//!
//! [`Sandbox::start`] puts the parts together. Several sandboxes can run side by side in one process;
//! each has its own account of the world. Calls come in through the front (`front`), are
//! read by the protocols ([`wire`]), may be hit by ordered [`faults`], and end in the call log.

mod call_log;
mod clock;
mod control;
mod dynamodb;
pub mod faults;
mod front;
mod heart;
mod lambda;
mod messages;
pub mod metrics;
pub mod plane;
mod state;
mod sts;
mod throttle;
mod weather;
pub mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::call_log::CallLog;
pub use self::call_log::CallRecord;
use self::control::Control;
use self::dynamodb::DynamoDb;
use self::faults::{FaultRule, Faults};
use self::front::Front;
use self::heart::Heart;
use self::lambda::Lambda;
pub use self::lambda::LocalFunction;
use self::messages::Messages;
use self::plane::{Plane, PlaneSettings};
pub use self::state::StateError;
use self::state::{Held, Keeper, StateFile};
use self::sts::{Sessions, Sts};
use self::throttle::Throttle;
use self::weather::Weather;
pub use self::weather::{BadConditions, Conditions, ConditionsChange, Profile};
use self::wire::{Backend, Service};
use crate::world::{Runtime, Tuning};

/// How often expired `DynamoDB` items are removed. AWS promises days; nothing may depend on it.
const TTL_SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Reports of the data plane that may wait for the heart before their senders do.
const REPORTS_MAX: usize = 1_024;
/// Events that may wait for their functions; what is beyond is dropped.
const INVOCATIONS_MAX: usize = 1_000;
/// How long a task without a process takes to start, and to stop: about what the demo application takes.
const GHOST_CHANGES: SignedDuration = SignedDuration::from_secs(1);
/// How long the parts may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How a sandbox is made.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// How many times faster alarm periods, health checks and draining go; 1 is real time.
    pub speed: u32,
    /// Account id, twelve digits.
    pub account: String,
    /// Region name.
    pub region: String,
    /// What AWS does not promise: propagation, stale reads, request rates.
    pub weather: Conditions,
    /// Append the call log to this file, as JSON lines.
    pub call_log: Option<PathBuf>,
    /// The data plane. Its speed is replaced by that of the sandbox, its nodes, propagation and leak by
    /// those of the weather.
    pub plane: PlaneSettings,
    /// Lambda functions that are there from the start.
    pub functions: Vec<LocalFunction>,
    /// Keep the region in this file and go on with what it holds; its `DynamoDB` tables live in a file beside
    /// it. Without one, everything is gone when the sandbox stops.
    pub state: Option<PathBuf>,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self {
            port: 0,
            speed: 1,
            account: "000000000000".to_owned(),
            region: "eu-central-1".to_owned(),
            weather: Conditions::of(Profile::Calm),
            call_log: None,
            plane: PlaneSettings::default(),
            functions: Vec::new(),
            state: None,
        }
    }
}

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The port is taken or forbidden.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The call log's file cannot be opened.
    #[error("cannot open the call log {}", path.display())]
    CallLog {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The `DynamoDB` engine does not start.
    #[error("cannot start the DynamoDB engine")]
    DynamoDb(#[source] dynoxide::DynoxideError),
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A function that was given cannot be one.
    #[error("cannot add the function {name}")]
    Function {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: crate::world::ApiError,
    },
}

/// A running sandbox. Dropping it stops it in the background; [`Sandbox::stop`] waits for that.
pub struct Sandbox {
    endpoint: String,
    faults: Arc<Faults>,
    log: Arc<CallLog>,
    heart: Arc<Heart>,
    plane: Arc<Plane>,
    weather: Arc<Weather>,
    stop: CancellationToken,
    parts: TaskTracker,
    /// Ends last: it saves what the other parts left, and only then lets go of the file.
    keeping: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Starts all parts; the endpoint answers when this returns.
    pub async fn start(settings: SandboxSettings) -> Result<Self, SandboxError> {
        let opened = settings.state.as_deref();
        let opened = opened.map(|path| StateFile::open(path, &settings.account, &settings.region));
        let (file, held) = opened.transpose()?.unzip();
        let (listener, address) = listen(settings.port).await?;
        let (stop, parts) = (CancellationToken::new(), TaskTracker::new());
        let log = CallLog::open(settings.call_log.as_deref(), &parts, stop.clone()).await;
        let log = Arc::new(log.map_err(|source| SandboxError::CallLog {
            path: settings.call_log.clone().unwrap_or_default(),
            source,
        })?);
        let faults = Arc::new(Faults::new(&settings.account));
        let endpoint = format!("http://{address}");

        let weather = Arc::new(Weather::new(settings.weather.clone()));
        let dynamodb = start_dynamodb(&settings, file.as_ref(), &weather)?;
        parts.spawn(sweep_expired(Arc::clone(&dynamodb), stop.clone()));
        let (invocations, invoked) = mpsc::channel(INVOCATIONS_MAX);
        let whereabouts = (settings.region.as_str(), settings.account.as_str(), endpoint.as_str());
        let lambda = Arc::new(Lambda::new(whereabouts, settings.speed, invocations.clone(), stop.clone()));
        for function in &settings.functions {
            let failed = |source| SandboxError::Function { name: function.name.clone(), source };
            lambda.add_local(function).map_err(failed)?;
        }
        parts.spawn(Arc::clone(&lambda).work(invoked));
        let held = held.flatten();
        let kept = held.as_ref().map(|held| held.messages.clone());
        let here = (endpoint.as_str(), settings.region.as_str(), settings.account.as_str());
        let messages = Arc::new(Messages::new(here, invocations, kept));
        let around = (&faults, &weather, &messages);
        let (heart, plane) = start_heart(&settings, around, held, &stop, &parts);
        let keeper = file.map(|file| Keeper::start(file, Arc::clone(&heart))).transpose()?;
        let about = Arc::new(json!({
            "endpoint": endpoint,
            "account": settings.account,
            "region": settings.region,
        }));
        let control = Control {
            faults: Arc::clone(&faults),
            log: Arc::clone(&log),
            heart: Arc::clone(&heart),
            plane: Arc::clone(&plane),
            weather: Arc::clone(&weather),
            lambda: Arc::clone(&lambda),
            about,
        };
        let sessions = Arc::new(Sessions::default());
        let mut backends = backends(&heart, &dynamodb, &messages, &settings.account, &sessions);
        backends.insert(Service::Lambda, lambda);
        let front = Arc::new(Front {
            backends,
            sessions,
            faults: Arc::clone(&faults),
            throttle: Throttle::default(),
            weather: Arc::clone(&weather),
            log: Arc::clone(&log),
            control: control::router(control),
        });
        parts.spawn(front.serve(listener, stop.clone()));
        parts.close();
        let keeping = keeper.map(|keeper| tokio::spawn(keeper.keep(stop.clone(), parts.clone())));
        Ok(Self { endpoint, faults, log, heart, plane, weather, stop, parts, keeping })
    }

    /// The URL for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Arms a fault rule; its id takes it away again. `None` when too many are armed.
    pub fn arm(&self, rule: FaultRule) -> Option<u64> {
        self.faults.arm(rule).ok()
    }

    /// Takes away one fault rule, or all of them.
    pub fn disarm(&self, id: Option<u64>) {
        self.faults.disarm(id);
    }

    /// Changes the weather from now on; answers with all its values.
    pub fn change_weather(&self, change: ConditionsChange) -> Result<Conditions, BadConditions> {
        let now = self.weather.change(change)?;
        apply_weather(&self.plane, &now);
        Ok(now)
    }

    /// What the Region holds, as `GET /_sandbox/state` shows it.
    pub fn state(&self) -> Value {
        self.heart.state()
    }

    /// Kills a task by its id or ARN, as if its container had died; whether there was one to kill.
    pub fn kill_task(&self, id: &str) -> bool {
        self.heart.kill_task(id)
    }

    /// The call log after a sequence number, oldest first.
    pub fn calls(&self, after: u64) -> Vec<CallRecord> {
        self.log.after(after, usize::MAX)
    }

    /// Stops all parts and waits for them, up to a bound.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_MAX, self.parts.wait()).await.is_err() {
            tracing::warn!("a part of the sandbox did not stop in time");
        }
        if let Some(keeping) = self.keeping.take()
            && let Err(error) = keeping.await
        {
            tracing::error!(%error, "the last changes may not have been saved");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs a sandbox until `shutdown`; `ready` is told when its endpoint answers.
pub async fn run(
    settings: SandboxSettings,
    shutdown: CancellationToken,
    ready: impl FnOnce(&Sandbox),
) -> Result<(), SandboxError> {
    let sandbox = Sandbox::start(settings).await?;
    ready(&sandbox);
    shutdown.cancelled().await;
    sandbox.stop().await;
    Ok(())
}

/// How the model behaves under a sandbox: real tasks, and none of the waits that AWS leaves open, which
/// would only make people wait. The speed divides what AWS gives a length to. Ghosts, which the model
/// runs, start and stop within [`GHOST_CHANGES`].
fn tuning(speed: u32) -> Tuning {
    Tuning {
        runtime: Runtime::External,
        steady_lag: SignedDuration::from_millis(500),
        target_registration: SignedDuration::ZERO,
        task_start: GHOST_CHANGES,
        stop_timeout: GHOST_CHANGES,
        ..Tuning::default()
    }
    .at_speed(speed)
}

/// Starts the `DynamoDB` engine, in a file beside the region's or in memory.
fn start_dynamodb(
    settings: &SandboxSettings,
    state: Option<&StateFile>,
    weather: &Arc<Weather>,
) -> Result<Arc<DynamoDb>, SandboxError> {
    let SandboxSettings { account, region, .. } = settings;
    let weather = Arc::clone(weather);
    let started = match state.map(StateFile::tables) {
        None => DynamoDb::in_memory(account, region, weather).map_err(SandboxError::DynamoDb)?,
        Some(path) => DynamoDb::in_file(&path, account, region, weather)
            .map_err(|source| StateError::Tables { path, source })?,
    };
    Ok(Arc::new(started))
}

/// Starts the model and its data plane.
fn start_heart(
    settings: &SandboxSettings,
    (faults, weather, messages): (&Arc<Faults>, &Arc<Weather>, &Arc<Messages>),
    held: Option<Held>,
    stop: &CancellationToken,
    parts: &TaskTracker,
) -> (Arc<Heart>, Arc<Plane>) {
    let SandboxSettings { account, region, speed, .. } = settings;
    let (faults, now) = (Arc::clone(faults), weather.now());
    let (weather, messages) = (Arc::clone(weather), Arc::clone(messages));
    let heart = Heart::new((account, region), tuning(*speed), *speed, faults, weather, messages, held);
    let heart = Arc::new(heart);
    let (reports, events) = mpsc::channel(REPORTS_MAX);
    let plane = PlaneSettings {
        speed: f64::from(*speed),
        nodes: NonZeroU32::new(now.nodes).unwrap_or(NonZeroU32::MIN),
        propagation: Duration::from_millis(now.propagation_millis),
        leak_per_mille: now.leak_per_mille,
        ..settings.plane.clone()
    };
    let plane = Arc::new(Plane::start(plane, heart.routing(), reports, stop.clone()));
    heart.answer_after_routes(Arc::clone(&plane));
    parts.spawn(Arc::clone(&heart).beat(Arc::clone(&plane), events, stop.clone()));
    let until_stopped = Arc::clone(&plane);
    parts.spawn(async move { until_stopped.stopped().await });
    (heart, plane)
}

/// Tells the data plane what it has to know of changed conditions.
fn apply_weather(plane: &Plane, now: &Conditions) {
    plane.set_propagation(Duration::from_millis(now.propagation_millis));
    plane.set_leak(now.leak_per_mille);
}

fn backends(
    heart: &Arc<Heart>,
    dynamodb: &Arc<DynamoDb>,
    messages: &Arc<Messages>,
    account: &str,
    sessions: &Arc<Sessions>,
) -> BTreeMap<Service, Arc<dyn Backend>> {
    let heart = |service| (service, Arc::clone(heart) as Arc<dyn Backend>);
    let dynamodb = |service| (service, Arc::clone(dynamodb) as Arc<dyn Backend>);
    let messages = |service| (service, Arc::clone(messages) as Arc<dyn Backend>);
    let sts: Arc<dyn Backend> = Arc::new(Sts { account: account.to_owned(), sessions: Arc::clone(sessions) });
    BTreeMap::from([
        heart(Service::Ecs),
        heart(Service::Elb),
        heart(Service::CloudWatch),
        dynamodb(Service::DynamoDb),
        dynamodb(Service::DynamoDbStreams),
        (Service::Sts, sts),
        messages(Service::Sqs),
        messages(Service::Sns),
        messages(Service::Events),
    ])
}

async fn listen(port: u16) -> Result<(TcpListener, SocketAddr), SandboxError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |source| SandboxError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn sweep_expired(dynamodb: Arc<DynamoDb>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TTL_SWEEP_EVERY) => {}
        }
        if let Err(error) = dynamodb.sweep_expired().await {
            tracing::warn!(%error, "expired DynamoDB items cannot be removed");
        }
    }
}
