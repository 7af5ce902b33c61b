//! One request through a load balancer: rule, group, target, answer.
//!
//! Every request is decided on its own against the newest table of its node, also on a connection
//! that was opened long before: that is how an Application Load Balancer applies a weight change.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use tokio::sync::watch;
use tokio::time::Instant;

use super::StickyAtZero;
use super::metrics::Sample;
use super::rules::{RequestView, redirect_location};
use super::table::{Action, Choice, Forward, ListenerTable, Table};
use super::upstream::{Limits, PooledBody, SendError, UpstreamBody};

/// How long a client of a listener that is not known yet may be silent: the default of AWS.
const UNROUTED_IDLE: Duration = Duration::from_mins(1);
/// Name of the group stickiness cookie.
const GROUP_COOKIE: &str = "AWSALBTG";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Headers that concern one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// What all requests share.
#[derive(Clone, Debug)]
pub(super) struct ProxySettings {
    /// For making a connection to a target.
    pub connect: Duration,
    pub at_zero: StickyAtZero,
    pub leak_per_mille: Arc<AtomicU32>,
}

/// One client connection to one listener on one node.
pub(super) struct Session {
    began: Instant,
    /// Cached, so that an unchanged table costs one atomic load per request.
    newest: RefCell<Option<Arc<ListenerTable>>>,
    node: RefCell<watch::Receiver<Arc<Table>>>,
    client: Arc<Client>,
}

/// The part of a session that its requests need while they run.
struct Client {
    settings: ProxySettings,
    listener: Arc<str>,
    node: watch::Receiver<Arc<Table>>,
    address: IpAddr,
    address_text: HeaderValue,
}

impl Session {
    pub fn new(
        settings: ProxySettings,
        listener: Arc<str>,
        mut node: watch::Receiver<Arc<Table>>,
        address: IpAddr,
    ) -> Self {
        let newest = node.borrow_and_update().listeners.get(&*listener).map(Arc::clone);
        // An address is digits, letters, dots and colons: always a valid header value.
        let address_text = HeaderValue::from_str(&address.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let client = Client { settings, listener, node: node.clone(), address, address_text };
        let (newest, node, client) = (RefCell::new(newest), RefCell::new(node), Arc::new(client));
        Self { began: Instant::now(), newest, node, client }
    }

    /// How long the client may be silent, as the load balancer is set when the connection begins.
    pub fn idle(&self) -> Duration {
        self.newest.borrow().as_ref().map_or(UNROUTED_IDLE, |table| table.idle)
    }

    fn newest(&self) -> Option<Arc<ListenerTable>> {
        let mut node = self.node.borrow_mut();
        // An error means that no newer table will come.
        if node.has_changed().unwrap_or(false) {
            let table = Arc::clone(&node.borrow_and_update());
            *self.newest.borrow_mut() = table.listeners.get(&*self.client.listener).map(Arc::clone);
        }
        self.newest.borrow().clone()
    }
}

impl Service<Request<Incoming>> for Session {
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (table, client) = (self.newest(), Arc::clone(&self.client));
        let age = self.began.elapsed();
        Box::pin(async move {
            let Some(table) = table else { return Ok(own_page(StatusCode::SERVICE_UNAVAILABLE)) };
            let mut response = client.answer(&table, request).await;
            // "client_keep_alive": one more request is taken, and its response ends the connection.
            if age >= table.keep_alive {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

impl Client {
    async fn answer(&self, table: &Arc<ListenerTable>, request: Request<Incoming>) -> Response<ProxyBody> {
        if let Some(status) = refusal(&request) {
            table.counters.own_answer(status);
            return own_page(status);
        }
        let view = RequestView {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            source: self.address,
        };
        let Some(rule) = table.rule_for(view) else {
            table.counters.own_answer(StatusCode::SERVICE_UNAVAILABLE);
            return own_page(StatusCode::SERVICE_UNAVAILABLE);
        };
        match &rule.action {
            Action::Forward(forward) => {
                self.forward(table, &rule.arn, forward, self.prepare(request, table)).await
            }
            Action::Fixed { status, content_type, body } => {
                table.counters.fixed_response();
                let mut response = Response::new(ProxyBody::Own(Full::new(body.clone())));
                *response.status_mut() = *status;
                response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
                response
            }
            Action::Redirect { status, template } => {
                table.counters.redirect();
                let location = redirect_location(template, view, table.port);
                let mut response = own_page(*status);
                match HeaderValue::from_str(&location) {
                    Ok(location) => response.headers_mut().insert(header::LOCATION, location),
                    Err(_) => return own_page(StatusCode::BAD_REQUEST),
                };
                response
            }
        }
    }

    /// Turns the client's request into the one that a target gets.
    fn prepare(&self, request: Request<Incoming>, table: &ListenerTable) -> Request<UpstreamBody> {
        let (mut parts, body) = request.into_parts();
        if let Some(authority) = parts.uri.authority() {
            // An absolute request target replaces the Host header (RFC 9112 §3.2.2).
            if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                parts.headers.insert(header::HOST, host);
            }
            parts.uri = origin_form(&parts.uri);
        } else if !parts.headers.contains_key(header::HOST) {
            // An HTTP/1.0 client may leave it out; HTTP/1.1, spoken to the target, may not.
            parts.headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        }
        parts.version = Version::HTTP_11;
        strip_hop_by_hop(&mut parts.headers);
        // Answered by this side of the proxy already.
        parts.headers.remove(header::EXPECT);
        let forwarded_for = match parts.headers.get(&X_FORWARDED_FOR) {
            None => self.address_text.clone(),
            Some(earlier) => {
                let joined = [earlier.as_bytes(), b", ", self.address_text.as_bytes()].concat();
                HeaderValue::from_bytes(&joined).unwrap_or_else(|_| self.address_text.clone())
            }
        };
        parts.headers.insert(X_FORWARDED_FOR, forwarded_for);
        parts.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        parts.headers.insert(X_FORWARDED_PORT, table.port_text.clone());
        let body = if body.is_end_stream() { Either::Left(Empty::new()) } else { Either::Right(body) };
        Request::from_parts(parts, body)
    }

    async fn forward(
        &self,
        table: &Arc<ListenerTable>,
        rule: &str,
        forward: &Forward,
        request: Request<UpstreamBody>,
    ) -> Response<ProxyBody> {
        let remembered = forward.sticky_secs.and_then(|_| remembered_group(request.headers()));
        let remembered = remembered.as_deref();
        let again = match self.attempt(table, forward, remembered, request, Try::First).await {
            Attempt::Answered(response) => return response,
            Attempt::Again(request) => *request,
        };
        // Decided anew: the first choice may be out of date, and its group at weight 0 by now.
        let newest = self.newest_table().unwrap_or_else(|| Arc::clone(table));
        if let Some(forward) = newest.forward_of(rule)
            && let Attempt::Answered(response) =
                self.attempt(&newest, forward, remembered, again, Try::Last).await
        {
            return response;
        }
        table.counters.own_answer(StatusCode::BAD_GATEWAY);
        own_page(StatusCode::BAD_GATEWAY)
    }

    async fn attempt(
        &self,
        table: &Arc<ListenerTable>,
        forward: &Forward,
        remembered: Option<&str>,
        request: Request<UpstreamBody>,
        which: Try,
    ) -> Attempt {
        let settings = &self.settings;
        let leak = settings.leak_per_mille.load(Ordering::Relaxed);
        let chosen = forward.choose(remembered, settings.at_zero, leak, &mut rand::rng());
        let target = chosen.as_ref().and_then(|chosen| chosen.choice.next_target(&mut rand::rng()));
        let (Some(chosen), Some(target)) = (chosen.as_ref(), target) else {
            table.counters.own_answer(StatusCode::SERVICE_UNAVAILABLE);
            return Attempt::Answered(own_page(StatusCode::SERVICE_UNAVAILABLE));
        };
        let sent_at = Instant::now();
        let limits = Limits { connect: settings.connect, idle: table.idle };
        let failure = match target.send(request, which == Try::Last, limits).await {
            Ok(response) => {
                let sample = Sample {
                    target_status: Some(response.status()),
                    elb_status: None,
                    response_time: Some(sent_at.elapsed()),
                    connection_failed: false,
                };
                chosen.choice.counters.record(&table.counters, sample);
                let cookie = forward.sticky_secs.filter(|_| chosen.set_cookie);
                return Attempt::Answered(relay(response, chosen.choice, cookie));
            }
            Err(failure) => failure,
        };
        let (status, connection_failed) = match failure {
            SendError::Replayable(request) if which == Try::First => return Attempt::Again(request),
            // Nothing was sent. If the table is outdated, the target may have left in good order.
            SendError::NotConnected(request) if which == Try::First && !self.is_newest(table) => {
                return Attempt::Again(request);
            }
            SendError::NotConnected(_) => (StatusCode::BAD_GATEWAY, true),
            SendError::ConnectTimedOut => (StatusCode::GATEWAY_TIMEOUT, true),
            SendError::TimedOut => (StatusCode::GATEWAY_TIMEOUT, false),
            SendError::Replayable(_) | SendError::Lost => (StatusCode::BAD_GATEWAY, false),
        };
        let sample =
            Sample { target_status: None, elb_status: Some(status), response_time: None, connection_failed };
        chosen.choice.counters.record(&table.counters, sample);
        Attempt::Answered(own_page(status))
    }

    fn newest_table(&self) -> Option<Arc<ListenerTable>> {
        self.node.borrow().listeners.get(&*self.listener).map(Arc::clone)
    }

    /// Whether this table is still the newest of the node.
    fn is_newest(&self, table: &Arc<ListenerTable>) -> bool {
        self.newest_table().is_some_and(|newest| Arc::ptr_eq(&newest, table))
    }
}

/// The first try may use a kept-alive connection or an outdated table; the last uses neither.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Try {
    First,
    Last,
}

/// What one try led to.
enum Attempt {
    Answered(Response<ProxyBody>),
    Again(Box<Request<UpstreamBody>>),
}

/// Requests that the sandbox's load balancer does not carry.
fn refusal(request: &Request<Incoming>) -> Option<StatusCode> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let upgrade = request.headers().get(header::UPGRADE)?;
    upgrade.as_bytes().eq_ignore_ascii_case(b"websocket").then_some(StatusCode::NOT_IMPLEMENTED)
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Almost no request names further headers in Connection; none is copied then.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"))
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Value of the group stickiness cookie, if the client sent one.
fn remembered_group(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == GROUP_COOKIE)
        .map(|(_, value)| value.to_owned())
}

/// Turns a target's response into the client's.
fn relay(response: Response<PooledBody>, choice: &Choice, cookie_secs: Option<u32>) -> Response<ProxyBody> {
    let mut response = response.map(ProxyBody::Relayed);
    *response.version_mut() = Version::HTTP_11;
    strip_hop_by_hop(response.headers_mut());
    if let Some(secs) = cookie_secs {
        let cookie = format!("{GROUP_COOKIE}={}; Max-Age={secs}; Path=/", choice.cookie);
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// A response of the load balancer itself.
fn own_page(status: StatusCode) -> Response<ProxyBody> {
    let page = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
    let mut response = Response::new(ProxyBody::Own(Full::new(Bytes::from(page))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("awselb/2.0"));
    response
}

/// A response body: the load balancer's own, or a target's, streamed.
pub(super) enum ProxyBody {
    Own(Full<Bytes>),
    Relayed(PooledBody),
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Relayed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Relayed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Relayed(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::sandbox::plane::metrics::AlbMetrics;
    use crate::world::{Address, GroupRoute, ListenerRoute, RouteTarget, Routing, RuleRoute, Transport};

    fn table(version: u64, port: u16, previous: &Table, metrics: &AlbMetrics) -> Table {
        let targets = vec![Address { ip: "127.0.0.1".to_owned(), port }];
        let dimension = "targetgroup/g/1".to_owned();
        let group = GroupRoute { dimension, targets, healthy: 1, ..GroupRoute::default() };
        let target = RouteTarget::Forward { groups: vec![("g".to_owned(), 1)], sticky_secs: None };
        let rules = vec![RuleRoute { arn: "rule".to_owned(), conditions: Vec::new(), target }];
        let listener = ListenerRoute {
            arn: "listener".to_owned(),
            load_balancer: "app/lb/1".to_owned(),
            port: 80,
            transport: Transport::Http,
            idle_millis: 10_000,
            keep_alive_millis: 10_000,
            rules,
        };
        let groups = BTreeMap::from([("g".to_owned(), group)]);
        let routing = Routing { version, listeners: vec![listener], groups };
        Table::compile(&routing, &routing, previous, metrics, 1.0)
    }

    /// A target that answers one request.
    async fn target() -> u16 {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_request_decided_just_before_its_target_left_is_decided_anew() {
        let metrics = AlbMetrics::default();
        // Port 1 (tcpmux) is in nobody's use: connections to it are refused.
        let gone = table(1, 1, &Table::default(), &metrics);
        let newest = Arc::new(table(2, target().await, &gone, &metrics));
        let (_node, node) = watch::channel(newest);
        let client = Client {
            settings: ProxySettings {
                connect: Duration::from_secs(10),
                at_zero: StickyAtZero::Honour,
                leak_per_mille: Arc::default(),
            },
            listener: "listener".into(),
            node,
            address: "127.0.0.1".parse().unwrap(),
            address_text: HeaderValue::from_static("127.0.0.1"),
        };
        let outdated = Arc::clone(&gone.listeners["listener"]);
        let forward = outdated.forward_of("rule").unwrap();
        let request = Request::post("/").header("host", "app.test").body(Either::Left(Empty::new())).unwrap();
        let response = client.forward(&outdated, "rule", forward, request).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
