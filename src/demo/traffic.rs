//! Steady traffic from outside: an HTTP client of its own, most of it over kept-alive connections, some over
//! fresh ones. It knows nothing of releases.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::judge::{Answer, Request};
use crate::ports::Clock;

/// Requests per second in all, while answers come as fast as they should.
pub const RATE: u32 = 250;
/// Clients that keep their connection.
const KEEPING: u32 = 16;
/// Clients that open a connection for every request: a fifth of the traffic.
const FRESH: u32 = 4;
/// One client's time between two requests: RATE over all of them.
const EVERY: Duration = Duration::from_millis(1_000 * (KEEPING + FRESH) as u64 / RATE as u64);
/// For connecting and the whole answer; longer than any honest answer here.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that are remembered; beyond, nothing more is sent. Over half an hour at [`RATE`].
const REQUESTS_MAX: usize = 500_000;

/// Running traffic.
pub struct Traffic {
    seen: Arc<Mutex<Vec<Request>>>,
    stop: CancellationToken,
    clients: TaskTracker,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl Traffic {
    /// Starts sending to `uri`, whose host is an address on this machine.
    pub fn start(uri: &Uri, clock: &Arc<dyn Clock>) -> Self {
        let (seen, stop, clients) = (Arc::default(), CancellationToken::new(), TaskTracker::new());
        let began = Instant::now();
        for place in 0..KEEPING + FRESH {
            let fresh = place >= KEEPING;
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            let sender = Sender {
                // One pool each: a client that keeps its connection has exactly one.
                client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector),
                uri: uri.clone(),
                fresh,
                clock: Arc::clone(clock),
                seen: Arc::clone(&seen),
            };
            // Spread evenly, so that the whole is steady.
            clients.spawn(sender.run(began + EVERY * place / (KEEPING + FRESH), stop.clone()));
        }
        clients.close();
        Self { seen, stop, clients }
    }

    /// The requests that ended since the first `from` of them.
    pub fn since(&self, from: usize) -> Vec<Request> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(from..).unwrap_or_default().to_vec()
    }

    /// Sends nothing more, waits for the answers under way, and hands out everything that was seen.
    pub async fn stop(self) -> Vec<Request> {
        self.stop.cancel();
        self.clients.wait().await;
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One client.
struct Sender {
    client: Client<HttpConnector, Empty<Bytes>>,
    uri: Uri,
    fresh: bool,
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Sender {
    async fn run(self, begin: Instant, stop: CancellationToken) {
        let mut ticks = interval_at(begin, EVERY);
        // After a slow answer a burst to make up for it would not be steady traffic.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let started = self.clock.now();
            let answer = match timeout(PATIENCE, self.ask()).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no whole answer within {} s", PATIENCE.as_secs())),
            };
            let request = Request { started, ended: self.clock.now(), answer, fresh: self.fresh };
            // A push leaves the list whole, so a panic elsewhere doesn't spoil it.
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() >= REQUESTS_MAX {
                return;
            }
            seen.push(request);
        }
    }

    async fn ask(&self) -> Result<Answer, String> {
        let mut request = http::Request::get(&self.uri);
        if self.fresh {
            request = request.header(header::CONNECTION, "close");
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| crate::telemetry::chain(&error))?;
        let (head, body) = answer.into_parts();
        body.collect().await.map_err(|error| crate::telemetry::chain(&error))?;
        let revision = head.headers.get("x-revision").and_then(|value| value.to_str().ok());
        Ok(Answer { status: head.status.as_u16(), revision: revision.map(Arc::from) })
    }
}
