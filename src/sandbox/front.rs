//! The one HTTP port of the sandbox: reads a call, lets the ordered faults have their way, hands it to
//! the service's backend, writes it into the log and answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::call_log::{CallLog, Ending};
use super::clock;
use super::faults::{Cut, Faults, Plan, throttled};
use super::sts::Sessions;
use super::throttle::Throttle;
use super::weather::Weather;
use super::wire::{self, Answer, BODY_BYTES_MAX, Backend, Call, Reading, Refusal, Service};

/// Connections served at once; further clients wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 1_024;
/// How long an unanswered call is kept open before its connection is reset: longer than SDKs wait.
const SILENCE_MAX: Duration = Duration::from_mins(5);
/// How long open connections may finish their answer when the sandbox stops.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// Between failed accepts, so that running out of file handles doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Where the control API lives; no AWS client asks for such a path.
const CONTROL_PREFIX: &str = "/_sandbox";

/// What serves the port.
pub(super) struct Front {
    pub(super) backends: BTreeMap<Service, Arc<dyn Backend>>,
    pub(super) faults: Arc<Faults>,
    pub(super) throttle: Throttle,
    pub(super) weather: Arc<Weather>,
    pub(super) log: Arc<CallLog>,
    /// Whose the access keys are that STS handed out.
    pub(super) sessions: Arc<Sessions>,
    pub(super) control: Router,
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset by order of a fault rule")]
struct Reset;

enum Outcome {
    Answer(Response<Bytes>),
    Silence,
    Reset,
}

impl Front {
    /// Serves until `stop`.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = TaskTracker::new();
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (front, stop) = (Arc::clone(&self), stop.clone());
                    connections.spawn(async move {
                        front.connection(stream, stop).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the sandbox cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        if tokio::time::timeout(FAREWELL_MAX, connections.wait()).await.is_err() {
            tracing::debug!("connections that were still busy are dropped");
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, stop: CancellationToken) {
        // Small answers go out at once; a failure only costs latency.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| Arc::clone(&self).handle(request));
        let mut connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        let served = tokio::select! {
            served = &mut connection => served,
            () = stop.cancelled() => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                tokio::time::timeout(FAREWELL_MAX, &mut connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = served {
            if error.is_user() {
                // Lingering 0 s makes the close a reset, as from a broken peer, rather than an orderly end.
                let _ = connection.into_parts().io.into_inner().set_zero_linger();
            } else {
                tracing::debug!(%error, "a client's connection broke");
            }
        }
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Reset> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is broken or over 16 MiB\n"));
        };
        let body = body.to_bytes();
        if head.uri.path().starts_with(CONTROL_PREFIX) {
            let answer: Result<_, Infallible> =
                self.control.clone().oneshot(Request::from_parts(head, Body::from(body))).await;
            let Ok(answer) = answer;
            return Ok(answer);
        }
        let call = match wire::read(&head, &body) {
            Reading::Call(mut call) => {
                let session = call.caller.access_key.as_deref().and_then(|key| self.sessions.principal(key));
                call.caller.principal = session;
                *call
            }
            Reading::Refused(framing, refusal) => {
                return Ok(wire::answer(&framing, &Err(refusal), &request_id()).map(Body::from));
            }
            Reading::Foreign => return Ok(plain(StatusCode::NOT_FOUND, GREETING)),
        };
        // In a task of its own: a client that hangs up does not undo its call, as with AWS.
        let framing = call.framing.clone();
        let outcome = tokio::spawn(self.carry_out(call)).await.unwrap_or_else(|failed| {
            tracing::error!(error = %failed, "a call of the sandbox panicked");
            let refusal = Refusal::new("InternalFailure", "the sandbox failed; its log says how", 500);
            Outcome::Answer(wire::answer(&framing, &Err(refusal), &request_id()))
        });
        match outcome {
            Outcome::Answer(answer) => Ok(answer.map(Body::from)),
            Outcome::Reset => Err(Reset),
            Outcome::Silence => {
                tokio::time::sleep(SILENCE_MAX).await;
                Err(Reset)
            }
        }
    }

    async fn carry_out(self: Arc<Self>, call: Call) -> Outcome {
        let began = clock::now();
        let request_id = request_id();
        let mut plan = self.faults.plan(&call);
        if plan.latency_millis > 0 {
            tokio::time::sleep(Duration::from_millis(plan.latency_millis)).await;
        }
        if !plan.held_by.is_empty() {
            self.faults.released(&plan.held_by).await;
        }
        if let Some(bucket) = self.over_rate(&call) {
            tracing::debug!(bucket, operation = call.operation, "throttled");
            plan.before = plan.before.or_else(|| Some(Cut::Refuse(throttled(call.service))));
            plan.effects.push("rateExceeded");
        }
        let Plan { stale_versions, late_millis, before, after, effects, .. } = plan;
        if let (None, Some(millis), Some(cut)) = (&before, late_millis, &after) {
            let outcome = cut_off(cut.clone(), None, &call, &request_id);
            tokio::spawn(self.take_effect_later(call, millis, effects, request_id, began));
            return outcome;
        }
        let (result, cut) = match before {
            Some(cut) => (None, Some(cut)),
            None => (Some(self.backend(&call, stale_versions).await), after),
        };
        // What the client is told goes into the log; what it is not told, as it really ended.
        let result = match &cut {
            Some(Cut::Refuse(refusal)) if result.is_none() => Some(Err(refusal.clone())),
            _ => result,
        };
        let ended = clock::now();
        let ending =
            Ending { began, ended, result: result.as_ref(), faults: effects, request_id: &request_id };
        self.log.add(&call, ending).await;
        match (cut, result) {
            (Some(cut), result) => cut_off(cut, result.as_ref(), &call, &request_id),
            (None, None) => Outcome::Reset,
            (None, Some(result)) => Outcome::Answer(wire::answer(&call.framing, &result, &request_id)),
        }
    }

    /// The effect of a call whose client was cut off before it.
    async fn take_effect_later(
        self: Arc<Self>,
        call: Call,
        millis: u64,
        faults: Vec<&'static str>,
        request_id: String,
        began: Timestamp,
    ) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let result = self.backend(&call, 0).await;
        let ended = clock::now();
        let ending = Ending { began, ended, result: Some(&result), faults, request_id: &request_id };
        self.log.add(&call, ending).await;
    }

    fn over_rate(&self, call: &Call) -> Option<&'static str> {
        let weather = self.weather.now();
        if !weather.throttling || weather.is_observer(&call.caller) {
            return None;
        }
        self.throttle.take(call.service, &call.operation, clock::now()).err()
    }

    async fn backend(&self, call: &Call, stale_versions: u32) -> Result<Answer, Refusal> {
        let Some(backend) = self.backends.get(&call.service) else {
            return Err(Refusal::unknown_operation(&call.operation));
        };
        let (service, operation, input) = (call.service, call.operation.clone(), call.input.clone());
        let caller = call.caller.clone();
        let request = wire::Request { service, operation, input, caller, stale_versions };
        if call.framing.is_json()
            && let Some(written) = backend.written(&request)
        {
            return Ok(Answer::Json(written?.into()));
        }
        Ok(backend.call(request).await?.into())
    }
}

/// What a client sees of a call that is cut off.
fn cut_off(cut: Cut, result: Option<&Result<Answer, Refusal>>, call: &Call, request_id: &str) -> Outcome {
    match (cut, result) {
        (Cut::Silence, _) => Outcome::Silence,
        (Cut::Refuse(refusal), _) => Outcome::Answer(wire::answer(&call.framing, &Err(refusal), request_id)),
        (Cut::Half, Some(result)) => {
            let answer = wire::answer(&call.framing, result, request_id);
            Outcome::Answer(answer.map(|body| body.slice(..body.len() / 2)))
        }
        (Cut::Reset | Cut::Half, _) => Outcome::Reset,
    }
}

const GREETING: &str = "This is a pointsman sandbox: an AWS endpoint for SDKs and the aws CLI (AWS_ENDPOINT_URL).\n\
                        People may look at /_sandbox/state and /_sandbox/calls.\n";

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// A request id of AWS's form.
pub(super) fn request_id() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
