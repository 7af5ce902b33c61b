//! For those who watch the daemon itself.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answers::{ApiError, Endpoint, Health, Index};
use super::{STUCK_AFTER, Sources};

/// What there is, with the parameters it knows.
const ENDPOINTS: [(&str, &str); 6] = [
    (
        "/v1/services?namespace=&phase=&label=name=value&limit=&cursor=",
        "services with phase, waiting reason, burning alarms",
    ),
    (
        "/v1/services/{namespace}/{name}",
        "everything about one service: why it waits, until when, what comes next",
    ),
    ("/v1/services/{namespace}/{name}/history", "releases that ended lately"),
    ("/healthz", "200 while the loop attempts passes, also when AWS fails"),
    ("/readyz", "200 while this process owns shards and has listed their services"),
    ("/metrics", "metrics in the Prometheus text format"),
];

pub(super) async fn index() -> Json<Index> {
    let endpoint =
        |(path, answers): (&str, &str)| Endpoint { path: path.to_owned(), answers: answers.to_owned() };
    Json(Index {
        program: "pointsman".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        endpoints: ENDPOINTS.into_iter().map(endpoint).collect(),
    })
}

/// Passes are attempted, also while AWS fails: otherwise ECS would kill the daemon in an outage.
pub(super) async fn healthz(State(sources): State<Sources>) -> Response {
    let age = sources.heartbeat.age(sources.clock.as_ref());
    let ok = age < STUCK_AFTER;
    let message = if ok {
        "passes are attempted".to_owned()
    } else {
        format!("no pass was attempted for {STUCK_AFTER} or longer: the loop is stuck; restart the process")
    };
    answer(&sources, ok, message)
}

/// This process owns shards and knows their services.
pub(super) async fn readyz(State(sources): State<Sources>) -> Response {
    let snapshot = sources.snapshot();
    let (held, all) = (snapshot.shards_held, snapshot.shards);
    let (ok, message) = match (held, snapshot.listed) {
        (0, _) => (
            false,
            "no shard is owned: other processes have them, the state table cannot be reached, or the others go by \
             another number of shards"
                .to_owned(),
        ),
        (_, true) => (true, format!("{held} of {all} shards are owned, and their services are looked after")),
        (_, false) => (false, format!("{held} of {all} shards are owned, their services are not listed yet")),
    };
    answer(&sources, ok, message)
}

fn answer(sources: &Sources, ok: bool, message: String) -> Response {
    let snapshot = sources.snapshot();
    let body = Health {
        ok,
        message,
        last_attempt: sources.heartbeat.age(sources.clock.as_ref()),
        attempted: sources.heartbeat.attempted(),
        shards_held: snapshot.shards_held,
        shards: snapshot.shards,
        listed: snapshot.listed,
    };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

pub(super) async fn metrics(State(sources): State<Sources>) -> Result<Response, ApiError> {
    // The content type that scrapers of the OpenMetrics text ask for.
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match sources.metrics.encode() {
        Ok(text) => Ok(([(header::CONTENT_TYPE, kind)], text).into_response()),
        Err(error) => {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", format!("metrics: {error}")))
        }
    }
}
