//! Carries out health checks: real HTTP requests or bare connections, always fresh ones, at each order's own pace.
//!
//! It reports every single result. Thresholds and target states are the model's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PlaneEvent;
use super::report::Reporter;
use super::upstream::loopback;
use crate::world::{Address, ProbeCheck, ProbeOrder};

/// However fast the sandbox's clock runs, a target is not probed more often.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
/// However fast the sandbox's clock runs, a target has this long to answer: its own speed is not scaled,
/// and a busy machine must not look like a broken release.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// The result of one health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Target group ARN.
    pub group: String,
    /// The probed target.
    pub target: Address,
    /// Whether it passed.
    pub healthy: bool,
    /// AWS's description of the failure; empty when it passed.
    pub detail: String,
}

/// The health checks of the plane.
#[derive(Debug)]
pub(super) struct HealthChecker {
    running: Mutex<BTreeMap<(String, Address), (ProbeOrder, CancellationToken)>>,
    reporter: Reporter,
    speed: watch::Receiver<f64>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl HealthChecker {
    pub fn new(
        reporter: Reporter,
        speed: watch::Receiver<f64>,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self { running: Mutex::default(), reporter, speed, tracker, shutdown }
    }

    /// Starts new checks, restarts changed ones, ends those not ordered any more.
    pub fn sync(&self, orders: Vec<ProbeOrder>) {
        if self.shutdown.is_cancelled() {
            return;
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latest = BTreeMap::new();
        for order in orders {
            let key = (order.group.clone(), order.target.clone());
            let kept = running.remove(&key).and_then(|(earlier, stop)| {
                if earlier == order {
                    return Some(stop);
                }
                stop.cancel();
                None
            });
            let stop = kept.unwrap_or_else(|| self.start(order.clone()));
            if let Some((_, twice)) = latest.insert(key, (order, stop)) {
                twice.cancel();
            }
        }
        for (_, stop) in running.values() {
            stop.cancel();
        }
        *running = latest;
    }

    fn start(&self, order: ProbeOrder) -> CancellationToken {
        let stop = self.shutdown.child_token();
        let (until, reporter, speed) = (stop.clone(), self.reporter.clone(), self.speed.clone());
        self.tracker.spawn(async move {
            until.run_until_cancelled(probe_forever(&order, &reporter, speed)).await;
        });
        stop
    }
}

/// Returns when an interval has passed since `last`, also when the interval changes meanwhile.
async fn next_turn(last: Instant, interval_ms: u64, speed: &mut watch::Receiver<f64>) {
    loop {
        let interval = scaled(interval_ms, *speed.borrow_and_update()).max(INTERVAL_MIN);
        let due = last.checked_add(interval);
        tokio::select! {
            () = sleep_until(due.unwrap_or(last)), if due.is_some() => return,
            Ok(()) = speed.changed() => {}
            else => std::future::pending().await,
        }
    }
}

async fn probe_forever(order: &ProbeOrder, reporter: &Reporter, mut speed: watch::Receiver<f64>) {
    loop {
        let began = Instant::now();
        let limit = scaled(order.timeout_ms, *speed.borrow()).max(TIMEOUT_MIN);
        let verdict = match timeout(limit, probe(order)).await {
            Ok(Some(verdict)) => verdict,
            Ok(None) => Err("Health checks failed".to_owned()),
            Err(_) => Err("Request timed out".to_owned()),
        };
        let result = ProbeResult {
            group: order.group.clone(),
            target: order.target.clone(),
            healthy: verdict.is_ok(),
            detail: verdict.err().unwrap_or_default(),
        };
        reporter.report(PlaneEvent::Probe(result)).await;
        next_turn(began, order.interval_ms, &mut speed).await;
    }
}

/// Milliseconds of the region's clock in real time.
#[expect(clippy::cast_precision_loss, reason = "intervals are seconds to minutes, far below 2^52 ms")]
fn scaled(millis: u64, speed: f64) -> Duration {
    Duration::try_from_secs_f64(millis as f64 / 1000.0 / speed).unwrap_or(Duration::MAX)
}

fn judge(status: StatusCode, matcher: &[(u16, u16)]) -> Result<(), String> {
    let code = status.as_u16();
    if matcher.iter().any(|(from, to)| (*from..=*to).contains(&code)) {
        Ok(())
    } else {
        Err(format!("Health checks failed with these codes: [{code}]"))
    }
}

/// One health check; `None` when the target took no connection or gave no HTTP response at all.
async fn probe(order: &ProbeOrder) -> Option<Result<(), String>> {
    let address = loopback(&order.target)?;
    let stream = TcpStream::connect(address).await.ok()?;
    match &order.check {
        ProbeCheck::Connect => Some(Ok(())),
        ProbeCheck::Http { path, matcher } => {
            ask(stream, address, path).await.map(|status| judge(status, matcher))
        }
    }
}

/// One HTTP request; `None` without a response.
async fn ask(stream: TcpStream, address: SocketAddr, path: &str) -> Option<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let path: Uri = path.parse().ok()?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "ELB-HealthChecker/2.0")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .ok()?;
    // Polled here, not spawned: an aborted check leaves nothing behind.
    let exchange = async { sender.send_request(request).await.ok().map(|response| response.status()) };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        status = &mut exchange => status,
        _ = connection => exchange.await,
    }
}
