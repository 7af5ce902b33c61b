//! Serves the routes over HTTP/1, with a limit on everything that a client could hold on to.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::records::Span;

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// A request's head must have come in this time; an idle connection is closed after it too.
const HEADERS_WITHIN: Span = Span::from_secs(10);
/// A connection ends after this, however slowly its client reads.
const CONNECTION_LASTS: Span = Span::from_mins(5);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;
/// How long answers under way may take at shutdown.
const CLOSING: Span = Span::from_secs(3);
/// After an accept that failed, for example for want of file descriptors.
const ACCEPT_AGAIN: Span = Span::from_millis(100);

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The semaphore of connections was closed, which nobody does.
    #[error("the connections' limit is gone")]
    LimitGone,
}

/// Answers on `listener` until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.map_err(|_| ServeError::LimitGone)?,
            () = shutdown.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the API cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN.std()).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN.std())
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            match tokio::time::timeout(CONNECTION_LASTS.std(), connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a connection to the API ended"),
                Err(_) => tracing::debug!("a connection to the API lasted too long"),
            }
        });
    }
    // What is being answered is answered; a client that does not read is not waited for.
    let closing: Duration = CLOSING.std();
    if tokio::time::timeout(closing, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections to the API were dropped at shutdown");
    }
    Ok(())
}
