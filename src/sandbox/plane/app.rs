//! The demo web app: what a task runs when its image is not a local command. Every task is its own
//! HTTP server on its own port, inside this process.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::Rng;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faults::{Faults, Unhealthy};
use super::tasks::{Ended, Life};

/// After a failed accept, usually for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Open connections of one task; further ones are closed at once.
const CONNECTIONS_MAX: usize = 8192;

/// What one demo task answers.
struct App {
    faults: Faults,
    started_at: Instant,
    revision: HeaderValue,
    task: HeaderValue,
    hello: Bytes,
    fault: Bytes,
    frozen: watch::Receiver<bool>,
}

impl App {
    fn new(faults: Faults, life: &Life) -> Self {
        let body = |message: &str| {
            let json = serde_json::json!({
                "message": message,
                "revision": life.order.revision,
                "task": life.short_id(),
            });
            Bytes::from(format!("{json}\n"))
        };
        let header = |text: &str| {
            HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("not-a-header-value"))
        };
        Self {
            faults,
            started_at: Instant::now(),
            revision: header(&life.order.revision),
            task: header(life.short_id()),
            hello: body("hello"),
            fault: body("this request failed because ERROR_RATE or UNHEALTHY is set"),
            frozen: life.frozen.clone(),
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        // Read and forgotten: an answer before the end of an upload would break the connection.
        while let Some(Ok(_)) = request.body_mut().frame().await {}
        // An error means that nobody is left to freeze it.
        let _ = self.frozen.clone().wait_for(|frozen| !frozen).await;
        let fails = if matches!(request.uri().path(), "/health" | "/healthz") {
            match self.faults.unhealthy {
                Unhealthy::Never => false,
                Unhealthy::Always => true,
                Unhealthy::After(delay) => self.started_at.elapsed() >= delay,
            }
        } else {
            if !self.faults.latency.is_zero() {
                sleep(self.faults.latency).await;
            }
            let rate = self.faults.errors_per_mille;
            rate > 0 && rand::rng().random_range(0..1000) < rate
        };
        let mut response = Response::new(Full::new(if fails { &self.fault } else { &self.hello }.clone()));
        if fails {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-revision", self.revision.clone());
        headers.insert("x-task", self.task.clone());
        response
    }
}

/// Runs one demo task from start to end.
pub(super) async fn run(life: &Life) -> Ended {
    let faults = match Faults::parse(&life.order.environment) {
        Ok(faults) => faults,
        Err(error) => return Ended::failed(None, error.to_string()),
    };
    if life.stop.run_until_cancelled(sleep(faults.start_delay)).await.is_none() {
        return Ended::stopped(Some(0));
    }
    if let Some(code) = faults.crash_on_boot {
        return Ended::failed(Some(code), "Essential container in task exited".to_owned());
    }
    let socket = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
        Ok(socket) => socket,
        Err(error) => return Ended::failed(None, format!("no port for the task: {error}")),
    };
    let port = match socket.local_addr() {
        Ok(address) => address.port(),
        Err(error) => return Ended::failed(None, format!("no address for the task: {error}")),
    };
    let app = Arc::new(App::new(faults, life));
    // Cancelled to end keep-alive connections politely, dropped with `abort` to cut them.
    let (polite, abort) = (CancellationToken::new(), CancellationToken::new());
    let _abort_on_return = abort.clone().drop_guard();
    let connections = TaskTracker::new();
    life.started(port).await;
    let crash = async {
        match faults.crash_after {
            Some(after) => sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = life.stop.cancelled() => {}
        () = crash => {
            return Ended::failed(Some(1), "Essential container in task exited".to_owned());
        }
        () = accept(&socket, &app, &connections, &polite, &abort) => {}
    }
    drop(socket);
    polite.cancel();
    connections.close();
    match timeout(life.stop_timeout, connections.wait()).await {
        Ok(()) => Ended::stopped(Some(0)),
        // 128 + SIGKILL, as a container shows it.
        Err(_) => Ended::stopped(Some(137)),
    }
}

async fn accept(
    socket: &TcpListener,
    app: &Arc<App>,
    connections: &TaskTracker,
    polite: &CancellationToken,
    abort: &CancellationToken,
) {
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a demo task cannot accept a connection");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        if connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "task connection keeps Nagle's algorithm");
        }
        let (app, polite, abort) = (Arc::clone(app), polite.clone(), abort.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let app = Arc::clone(&app);
                async move { Ok::<_, Infallible>(app.answer(request).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let serve = async {
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = polite.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            };
            if let Some(Err(error)) = abort.run_until_cancelled(serve).await {
                tracing::debug!(%error, "task connection ended");
            }
        });
    }
}
