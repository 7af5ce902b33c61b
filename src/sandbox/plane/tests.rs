//! The plane on real loopback sockets.

mod flowing;
mod proxying;
mod running;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::tasks::TaskEvent;
use super::{ListenerEvent, Plane, PlaneEvent, PlaneSettings};
use crate::world::{
    Address, GroupRoute, ListenerRoute, RouteTarget, Routing, RuleRoute, TaskOrder, Transport,
};

/// For anything that should happen soon: a guard against hanging, never an assertion about time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A plane with one listener, its events and its routing.
struct Bench {
    plane: Plane,
    routing: watch::Sender<Arc<Routing>>,
    events: mpsc::Receiver<PlaneEvent>,
    shutdown: CancellationToken,
    port: u16,
    transport: Transport,
    /// Of the load balancer, in milliseconds.
    idle: u64,
    keep_alive: u64,
    orders: BTreeMap<String, TaskOrder>,
}

/// What a client got.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// One keep-alive connection to the listener.
struct Browser(SendRequest<Full<Bytes>>);

impl Browser {
    async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let exchange = async {
            self.0.ready().await.unwrap();
            let (parts, body) = self.0.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: parts.status, headers: parts.headers, body }
        };
        timeout(PATIENCE, exchange).await.expect("an answer in good time")
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).header("host", "app.test").body(Full::default()).unwrap()).await
    }
}

/// A free port below the range from which the kernel serves everyone else, so that no connection of a
/// test running at the same time can take it before the listener opens.
async fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 37;
        let port = u16::try_from(12_000 + turn % 20_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return port;
        }
    }
    panic!("no free port in a thousand");
}

fn forward(groups: &[(&str, u32)]) -> RouteTarget {
    let groups = groups.iter().map(|(arn, weight)| ((*arn).to_owned(), *weight)).collect();
    RouteTarget::Forward { groups, sticky_secs: None }
}

fn default_rule(target: RouteTarget) -> RuleRoute {
    RuleRoute { arn: "rule/default".to_owned(), conditions: Vec::new(), target }
}

impl Bench {
    async fn start(settings: PlaneSettings) -> Self {
        let (routing, watched) = watch::channel(Arc::default());
        let (events_in, events) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let plane = Plane::start(settings, watched, events_in, shutdown.clone());
        let port = free_port().await;
        let (transport, orders) = (Transport::Http, BTreeMap::new());
        Self {
            plane,
            routing,
            events,
            shutdown,
            port,
            transport,
            idle: 60_000,
            keep_alive: 3_600_000,
            orders,
        }
    }

    async fn event(&mut self) -> PlaneEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in good time").expect("a running plane")
    }

    /// Orders one more demo task with this environment.
    fn order(&mut self, task: &str, revision: &str, environment: &[(&str, &str)]) {
        let order = TaskOrder {
            task: format!("arn:aws:ecs:eu-test-1:1:task/demo/{task}"),
            revision: revision.to_owned(),
            container: "web".to_owned(),
            image: "example/web:1".to_owned(),
            command: Vec::new(),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            container_port: 8080,
            run: true,
        };
        self.put(task, order);
    }

    fn put(&mut self, task: &str, order: TaskOrder) {
        self.orders.insert(task.to_owned(), order);
        self.plane.sync_tasks(self.orders.values().cloned().collect());
    }

    fn stop_task(&mut self, task: &str) {
        self.orders.get_mut(task).unwrap().run = false;
        self.plane.sync_tasks(self.orders.values().cloned().collect());
    }

    async fn task_event(&mut self) -> TaskEvent {
        loop {
            if let PlaneEvent::Task(event) = self.event().await {
                return event;
            }
        }
    }

    /// Runs a healthy demo task and returns its address.
    async fn run_task(&mut self, task: &str, revision: &str, environment: &[(&str, &str)]) -> Address {
        self.order(task, revision, environment);
        match self.task_event().await {
            TaskEvent::Started { task: arn, address } if arn.ends_with(task) => address,
            other => panic!("{task} should have started: {other:?}"),
        }
    }

    async fn stopped(&mut self) -> (Option<i32>, String) {
        match self.task_event().await {
            TaskEvent::Stopped { exit_code, reason, .. } => (exit_code, reason),
            other @ TaskEvent::Started { .. } => panic!("a task should have stopped: {other:?}"),
        }
    }

    /// Publishes rules and groups and waits until they hold on every node.
    async fn publish(&mut self, rules: Vec<RuleRoute>, groups: &[(&str, &[Address])]) {
        let version = self.routing.borrow().version + 1;
        let groups = groups.iter().map(|(arn, targets)| {
            let route = GroupRoute {
                dimension: format!("targetgroup/{arn}/1"),
                targets: targets.to_vec(),
                healthy: u32::try_from(targets.len()).unwrap(),
                ..GroupRoute::default()
            };
            ((*arn).to_owned(), route)
        });
        let listener = ListenerRoute {
            arn: "listener/1".to_owned(),
            load_balancer: "app/lb/1".to_owned(),
            port: self.port,
            transport: self.transport,
            idle_millis: self.idle,
            keep_alive_millis: self.keep_alive,
            rules,
        };
        let routing = Routing { version, listeners: vec![listener], groups: groups.collect() };
        self.routing.send_replace(Arc::new(routing));
        self.plane.routing_reached(version).await;
        if version == 1 {
            match self.event().await {
                PlaneEvent::Listener(ListenerEvent::Open { local_port, .. }) => {
                    assert_eq!(local_port, self.port);
                }
                other => panic!("the listener should have opened: {other:?}"),
            }
        }
    }

    async fn browser(&self) -> Browser {
        Browser::connect(self.port).await
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.plane.stopped()).await.expect("everything ends at shutdown");
    }
}
