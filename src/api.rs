//! The status API: what each service does, why it waits and what comes next, for dashboards and people on call.
//!
//! It reads only, and answers from the snapshot that the loop publishes: no request reaches AWS or a table, so
//! that nobody can slow a rollback down by looking at it. It listens on loopback unless told otherwise; it has
//! no authentication of its own.
//!
//! **Architecture Invariant:** nothing here decides, writes, or waits for anything but its caller.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

use crate::controller::{Heartbeat, Snapshot};
use crate::ports::Clock;
use crate::records::Span;
use crate::telemetry::Metrics;

pub mod answers;
mod health;
pub mod serve;
mod services;
#[cfg(test)]
mod tests;

use answers::ApiError;
pub use serve::{ServeError, serve};
pub(crate) use services::{serving, weight};

/// A loop that has not attempted a pass for this long is taken for stuck.
pub const STUCK_AFTER: Span = Span::from_secs(60);

/// Everything the API answers from.
#[derive(Clone)]
pub struct Sources {
    /// What the loop shows.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Whether the loop attempts passes.
    pub heartbeat: Arc<Heartbeat>,
    /// What the daemon counts.
    pub metrics: Arc<Metrics>,
    /// Tells time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }
}

/// The routes. Every answer but `/metrics` is JSON, errors included.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(health::index))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/v1/services", get(services::list))
        .route("/v1/services/{namespace}/{name}", get(services::one))
        .route("/v1/services/{namespace}/{name}/history", get(services::history))
        .fallback(no_such_path)
        .method_not_allowed_fallback(reads_only)
        .layer(DefaultBodyLimit::max(0))
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(panicked))
        .with_state(sources)
}

async fn no_such_path() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NoSuchPath", "there is nothing here; GET / lists what there is")
}

async fn reads_only() -> ApiError {
    let message = "this API only reads; records are written with `pointsman apply` and its other commands";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "ReadsOnly", message)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the payload over")]
fn panicked(payload: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let what = crate::controller::trouble::panic_text(payload.as_ref());
    tracing::error!(what, "answering a request panicked");
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal",
        "the answer could not be made; the log says why",
    )
    .into_response()
}
