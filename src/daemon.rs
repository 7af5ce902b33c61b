//! The daemon, put together: tables, lease, stream, AWS, the loop and the API, started and stopped in order.
//!
//! Nothing is decided here. `controller` runs on ports; this module is the only one that knows which adapters
//! stand behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_config::SdkConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::aws::{self, AwsCloud, Clients};
use crate::clock::SystemClock;
use crate::config::{Config, EmergencyRollback};
use crate::controller::inputs::Core;
use crate::controller::reconcile::Reconciler;
use crate::controller::{self, Controller, Heartbeat, LeaseKeeperGone, Snapshot};
use crate::lease::{BadTiming, LeaseTiming};
use crate::ports::{Clock, Permits};
use crate::records::{ServiceKey, Span};
use crate::store::lease::{self, DynamoLease, Keeping};
use crate::store::{DynamoStore, Tables, stream};
use crate::telemetry::Metrics;
use crate::{api, decide, records};

/// Hints that wait to be looked at. They only wake: when the queue is full, the stream reader waits.
const HINTS: usize = 1_024;
/// Time between two looks at the table's stream; AWS's own poller takes four a second (`aws-facts.md` §4.4).
const STREAM_EVERY: Span = Span::from_millis(250);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct DaemonSettings {
    /// Its configuration.
    pub config: Config,
    /// Region, credentials, endpoint and time-outs of every AWS client; best made by [`aws::load_config`].
    pub sdk: SdkConfig,
}

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The lease's times do not hold together.
    #[error("failed to use the lease settings")]
    Lease(#[source] BadTiming),
    /// The status API cannot listen.
    #[error("failed to listen on {address} for the status API")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// What the loop shows.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Where the status API listens.
    pub api: SocketAddr,
    ended: JoinHandle<Result<(), LeaseKeeperGone>>,
}

impl Daemon {
    /// Returns when the daemon has stopped: passes under way ended, the lease handed over.
    pub async fn stopped(self) -> Result<(), LeaseKeeperGone> {
        match self.ended.await {
            Ok(ended) => ended,
            Err(lost) => {
                error!(error = %lost, "the loop's task is lost");
                Err(LeaseKeeperGone)
            }
        }
    }
}

/// The shipped core.
pub fn core() -> Core {
    Core {
        decide: decide::decide,
        settle: decide::settle,
        explain: decide::explain::status,
        read_service: records::check::read_service,
        read_desired: records::check::read_desired,
        plan_to_observe: decide::plan_to_observe,
        violations: decide::safety::violations,
    }
}

/// Starts everything; `shutdown` stops it in order.
pub async fn start(settings: DaemonSettings, shutdown: CancellationToken) -> Result<Daemon, DaemonError> {
    let DaemonSettings { config, sdk } = settings;
    let timing = lease_timing(&config)?;
    // First of all, so that a taken port is said before anything has been touched.
    let (listener, address) = listen(config.listen).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::default());
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
    let operation = timing.operation;
    let tables = Tables { records: config.records_table.clone(), state: config.state_table.clone() };

    // The lease outlives the loop: what is under way settles before another daemon takes over.
    let after_loop = CancellationToken::new();
    let (granted, permits) = watch::channel(Permits { shards: config.shards, ..Permits::default() });
    let holder = format!("pointsman/{}", ulid::Ulid::generate());
    let keeping = Keeping {
        holder: holder.clone(),
        seed: rand::random(),
        shards: config.shards,
        timing,
        emergency: config.emergency_rollback == EmergencyRollback::Guarded,
    };
    let table = DynamoLease::new(dynamodb.clone(), tables.state.clone(), operation.std());
    let keeper =
        tokio::spawn(lease::keep(Arc::new(table), Arc::clone(&clock), keeping, granted, after_loop.clone()));

    let (hint, hints) = mpsc::channel::<ServiceKey>(HINTS);
    let streams = aws_sdk_dynamodbstreams::Client::new(&sdk);
    let every = STREAM_EVERY.std();
    let follower =
        stream::follow(dynamodb.clone(), streams, tables.records.clone(), every, hint, shutdown.clone());
    let follower = tokio::spawn(follower);

    let store = DynamoStore::new(dynamodb, tables, Arc::clone(&clock), operation.std());
    let aws_settings = aws::Settings { operation, ..aws::Settings::default() };
    let cloud = AwsCloud::new(Clients::new(&sdk), &aws_settings, Arc::clone(&clock));
    let sharer = tokio::spawn(cloud.clone().share(permits.clone()));
    let reconciler = reconciler(&config, cloud, timing, store, &clock, &metrics);
    let (shown, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let heartbeat = Arc::new(Heartbeat::default());
    let controller = Controller {
        reconciler,
        permits,
        hints,
        snapshots: shown,
        heartbeat: Arc::clone(&heartbeat),
        timing: config.timing(),
    };
    let sources = api::Sources { snapshots: snapshots.clone(), heartbeat, metrics, clock };
    // It answers until the loop has ended: a drain is worth watching.
    let answers = tokio::spawn(answer(listener, sources, after_loop.clone()));
    info!(holder, installation = %config.installation, api = %address, "started");
    let ended = tokio::spawn(async move {
        let ended = controller::run(controller, shutdown.clone()).await;
        shutdown.cancel();
        after_loop.cancel();
        let tasks = [
            (keeper, "lease keeper"),
            (sharer, "part of the request budget"),
            (follower, "stream reader"),
            (answers, "status API"),
        ];
        for (task, lost) in tasks {
            if let Err(error) = task.await {
                error!(%error, "the {lost} is lost");
            }
        }
        info!("stopped");
        ended
    });
    Ok(Daemon { snapshots, api: address, ended })
}

fn reconciler(
    config: &Config,
    cloud: AwsCloud,
    timing: LeaseTiming,
    store: DynamoStore,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Arc<Reconciler> {
    let (operation, guarded) = (timing.operation, config.emergency_rollback == EmergencyRollback::Guarded);
    Arc::new(Reconciler {
        store: Arc::new(store),
        cloud: Arc::new(cloud),
        clock: Arc::clone(clock),
        core: core(),
        limits: config.limits(),
        operation,
        unrecorded_after: guarded.then(|| timing.ttl.minus(timing.margin)),
        metrics: Arc::clone(metrics),
    })
}

async fn answer(listener: TcpListener, sources: api::Sources, until: CancellationToken) {
    if let Err(failed) = api::serve(listener, api::router(sources), until).await {
        error!(error = %failed, "the status API failed");
    }
}

async fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), DaemonError> {
    let failed = |source| DaemonError::Listen { address: wanted, source };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn lease_timing(config: &Config) -> Result<LeaseTiming, DaemonError> {
    config.lease.checked().map_err(DaemonError::Lease)
}
