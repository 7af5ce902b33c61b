//! Connections to targets: kept alive, pooled per target, and honest about what became of a request.
//!
//! The caller must know whether a failed request can have reached the target: only then is sending
//! it again safe. hyper hands a request back when not a byte of it was written; one that may have
//! been written is sent again only if it is idempotent and had no body (RFC 9110 §9.2.2).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{Either, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::world::Address;

/// Idle connections kept for one target; more are closed.
const IDLE_MAX: usize = 1024;
/// How long a pooled connection may take to finish its previous exchange before it is given up.
const READY_WAIT: Duration = Duration::from_millis(100);

/// A request body on its way to a target.
pub(super) type UpstreamBody = Either<Empty<Bytes>, Incoming>;

/// Time limits of one exchange with a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For making a connection.
    pub connect: Duration,
    /// From sending the request to the head of the response, and for a connection between two requests.
    pub idle: Duration,
}

/// Why a target gave no response.
#[derive(Debug)]
pub(super) enum SendError {
    /// No connection was made; the request is untouched.
    NotConnected(Box<Request<UpstreamBody>>),
    /// The connection could not be made in time; the request is untouched.
    ConnectTimedOut,
    /// A kept-alive connection had closed; the request can safely go out on another one.
    Replayable(Box<Request<UpstreamBody>>),
    /// The request may have reached the target, which closed or broke the connection.
    Lost,
    /// No response within the limit.
    TimedOut,
}

/// One target and its idle connections.
#[derive(Debug)]
pub(super) struct Target {
    /// `None` for an address outside this machine: the sandbox never connects there.
    address: Option<SocketAddr>,
    /// With the time since when they are; the one used last at the end.
    idle: Mutex<VecDeque<(Instant, SendRequest<UpstreamBody>)>>,
}

/// The loopback socket address of a target; `None` for anything else.
pub(super) fn loopback(address: &Address) -> Option<SocketAddr> {
    let ip = address.ip.parse::<std::net::IpAddr>().ok()?;
    ip.is_loopback().then_some(SocketAddr::new(ip, address.port))
}

impl Target {
    pub fn new(address: &Address) -> Self {
        Self { address: loopback(address), idle: Mutex::default() }
    }

    /// Sends one request and waits for the head of its response. With `fresh`, on a new connection.
    pub async fn send(
        self: &Arc<Self>,
        request: Request<UpstreamBody>,
        fresh: bool,
        limits: Limits,
    ) -> Result<Response<PooledBody>, SendError> {
        let pooled = if fresh { None } else { self.checkout(limits.idle).await };
        let (mut connection, replay) = match pooled {
            Some(connection) => (connection, replay_of(&request)),
            None => match timeout(limits.connect, self.connect()).await {
                Err(_) => return Err(SendError::ConnectTimedOut),
                Ok(None) => return Err(SendError::NotConnected(Box::new(request))),
                Ok(Some(connection)) => (connection, None),
            },
        };
        match timeout(limits.idle, connection.try_send_request(request)).await {
            Err(_) => Err(SendError::TimedOut),
            Ok(Ok(response)) => Ok(response.map(|body| PooledBody::new(body, connection, Arc::clone(self)))),
            Ok(Err(mut failure)) => Err(match failure.take_message() {
                Some(unsent) => SendError::Replayable(Box::new(unsent)),
                None if failure.error().is_parse() => SendError::Lost,
                None => replay.map_or(SendError::Lost, |again| SendError::Replayable(Box::new(again))),
            }),
        }
    }

    /// A new TCP connection to the target.
    pub async fn stream(&self) -> Option<TcpStream> {
        TcpStream::connect(self.address?).await.ok()
    }

    async fn connect(&self) -> Option<SendRequest<UpstreamBody>> {
        let stream = self.stream().await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "target connection keeps Nagle's algorithm");
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        // Ends when the sender is dropped or the target closes.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "target connection ended");
            }
        });
        Some(sender)
    }

    /// The connection used last. Those that were idle for too long are closed.
    async fn checkout(&self, idle: Duration) -> Option<SendRequest<UpstreamBody>> {
        loop {
            let mut connection = {
                let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                while all.front().is_some_and(|(since, _)| since.elapsed() >= idle) {
                    all.pop_front();
                }
                all.pop_back()?.1
            };
            if connection.is_ready() {
                return Some(connection);
            }
            if !connection.is_closed() && matches!(timeout(READY_WAIT, connection.ready()).await, Ok(Ok(())))
            {
                return Some(connection);
            }
        }
    }

    fn give_back(&self, connection: SendRequest<UpstreamBody>) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push_back((Instant::now(), connection));
        }
    }
}

/// A copy for a second try, if a second try is allowed once the first may have reached the target.
fn replay_of(request: &Request<UpstreamBody>) -> Option<Request<UpstreamBody>> {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if !idempotent || !matches!(request.body(), Either::Left(_)) {
        return None;
    }
    let mut copy = Request::new(Either::Left(Empty::new()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// A response body that gives its connection back to the pool once it was read to its end. Dropped
/// earlier, it closes the connection: the rest of the response is of no use to the next request.
#[derive(Debug)]
pub(super) struct PooledBody {
    inner: Incoming,
    lease: Option<(SendRequest<UpstreamBody>, Arc<Target>)>,
}

impl PooledBody {
    fn new(inner: Incoming, connection: SendRequest<UpstreamBody>, target: Arc<Target>) -> Self {
        let mut body = Self { inner, lease: Some((connection, target)) };
        body.return_if_done();
        body
    }

    fn return_if_done(&mut self) {
        if self.inner.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((connection, target)) = self.lease.take() {
            target.give_back(connection);
        }
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) => self.return_if_done(),
            Poll::Ready(Some(Err(_))) => self.lease = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
