//! The load balancers' listeners: real sockets that follow the routing, and the nodes behind them.
//!
//! A load balancer is several machines, and a change reaches them one after another. Each accepted
//! connection belongs to one node and sees the routing as far as that node knows it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::AlbMetrics;
use super::proxy::{ProxySettings, Session};
use super::report::Reporter;
use super::table::Table;
use super::{ListenerEvent, PlaneEvent, PlaneSettings};
use crate::world::Routing;

/// Open client connections of one listener; further ones wait in the accept queue.
const CONNECTIONS_MAX: usize = 8192;
/// Routing versions on their way to one node; the sender waits when the node lags that far behind.
const VERSIONS_UNDER_WAY_MAX: usize = 1024;
/// Between two tries to open a listener whose port was taken.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// For requests in flight when a listener is closed.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// One virtual machine of the load balancers.
#[derive(Debug)]
pub(super) struct Node {
    table: watch::Sender<Arc<Table>>,
    delayed: Option<mpsc::Sender<(Instant, Arc<Table>)>>,
    delay: Duration,
}

/// The nodes of the plane, shared between the follower and the accept loops.
#[derive(Debug)]
pub(super) struct Nodes(Vec<Node>);

impl Nodes {
    /// Node `i` of `count` (from 1) learns of a change after `i / count` of `propagation`, so the last
    /// one has the whole delay.
    pub fn start(settings: &PlaneSettings, tracker: &TaskTracker, shutdown: &CancellationToken) -> Self {
        let count = settings.nodes.get();
        let nodes = (1..=count).map(|place| {
            let delay = settings.propagation * place / count;
            let (table, _) = watch::channel(Arc::default());
            if delay.is_zero() {
                return Node { table, delayed: None, delay };
            }
            let (delayed, mut due) = mpsc::channel::<(Instant, Arc<Table>)>(VERSIONS_UNDER_WAY_MAX);
            let (node, shutdown) = (table.clone(), shutdown.clone());
            tracker.spawn(async move {
                let apply = async {
                    while let Some((at, table)) = due.recv().await {
                        sleep_until(at).await;
                        node.send_replace(table);
                    }
                };
                shutdown.run_until_cancelled(apply).await;
            });
            Node { table, delayed: Some(delayed), delay }
        });
        Self(nodes.collect())
    }

    async fn publish(&self, table: &Arc<Table>, at_once: bool) {
        let now = Instant::now();
        for node in &self.0 {
            match &node.delayed {
                Some(delayed) if !at_once => {
                    // A closed channel means that the plane is shutting down.
                    let _ = delayed.send((now + node.delay, Arc::clone(table))).await;
                }
                _ => drop(node.table.send_replace(Arc::clone(table))),
            }
        }
    }

    /// Returns once every node routes by this version or a later one.
    pub async fn reached(&self, version: u64) {
        for node in &self.0 {
            // The sender is ours, so waiting cannot fail.
            let _ = node.table.subscribe().wait_for(|table| table.version >= version).await;
        }
    }

    fn of_connection(&self, connection: usize) -> watch::Receiver<Arc<Table>> {
        self.0[connection % self.0.len()].table.subscribe()
    }
}

/// An open listener.
struct Open {
    local_port: u16,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

/// Keeps the open sockets in line with the routing.
pub(super) struct Listeners {
    pub settings: PlaneSettings,
    pub proxy: ProxySettings,
    pub nodes: Arc<Nodes>,
    pub metrics: Arc<AlbMetrics>,
    pub reporter: Reporter,
    pub tracker: TaskTracker,
    pub shutdown: CancellationToken,
}

impl Listeners {
    /// Runs until shutdown.
    pub async fn follow(self, mut routing: watch::Receiver<Arc<Routing>>) {
        let mut open: BTreeMap<String, Open> = BTreeMap::new();
        let mut failed: BTreeMap<String, String> = BTreeMap::new();
        let mut table = Arc::new(Table::default());
        let mut again = interval(BIND_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut first = true;
        let mut published = true;
        loop {
            let current = Arc::clone(&routing.borrow_and_update());
            if first || current.version != table.version {
                table = Arc::new(Table::compile(&current, &table, &self.metrics));
                self.nodes.publish(&table, first).await;
                first = false;
            }
            self.close_gone(&mut open, &current).await;
            self.open_new(&mut open, &mut failed, &current).await;
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                changed = routing.changed(), if published => published = changed.is_ok(),
                _ = again.tick(), if !failed.is_empty() => {}
            }
        }
        for listener in open.into_values() {
            listener.close().await;
        }
    }

    async fn close_gone(&self, open: &mut BTreeMap<String, Open>, routing: &Routing) {
        let stays = |arn: &str, listener: &Open| {
            routing.listeners.iter().any(|route| {
                route.arn == arn && self.settings.local_port(route.port) == Some(listener.local_port)
            })
        };
        let gone: Vec<_> =
            open.iter().filter(|(arn, one)| !stays(arn, one)).map(|(arn, _)| arn.clone()).collect();
        for arn in gone {
            if let Some(listener) = open.remove(&arn) {
                listener.close().await;
            }
        }
    }

    async fn open_new(
        &self,
        open: &mut BTreeMap<String, Open>,
        failed: &mut BTreeMap<String, String>,
        routing: &Routing,
    ) {
        failed.retain(|arn, _| routing.listeners.iter().any(|route| route.arn == *arn));
        for route in &routing.listeners {
            if open.contains_key(&route.arn) {
                continue;
            }
            let bound = match self.settings.local_port(route.port) {
                None => Err(format!("port {} cannot be served on this machine", route.port)),
                Some(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                    .await
                    .map(|socket| (port, socket))
                    .map_err(|error| format!("127.0.0.1:{port} cannot be opened: {error}")),
            };
            let event = match bound {
                Ok((local_port, socket)) => {
                    failed.remove(&route.arn);
                    open.insert(route.arn.clone(), self.serve(&route.arn, local_port, socket));
                    ListenerEvent::Open { listener: route.arn.clone(), port: route.port, local_port }
                }
                Err(reason) => {
                    // The same reason is told once, however often opening is tried.
                    if failed.insert(route.arn.clone(), reason.clone()).as_ref() == Some(&reason) {
                        continue;
                    }
                    ListenerEvent::Failed { listener: route.arn.clone(), port: route.port, reason }
                }
            };
            self.reporter.report(PlaneEvent::Listener(event)).await;
        }
    }

    fn serve(&self, arn: &str, local_port: u16, socket: TcpListener) -> Open {
        let stop = self.shutdown.child_token();
        let acceptor = Acceptor {
            listener: arn.into(),
            proxy: self.proxy,
            client_idle: self.settings.client_idle_timeout,
            nodes: Arc::clone(&self.nodes),
            tracker: self.tracker.clone(),
            stop: stop.clone(),
        };
        Open { local_port, stop, accepting: self.tracker.spawn(acceptor.run(socket)) }
    }
}

impl Open {
    /// Closes the socket; returns when the port is free. Requests in flight may still finish.
    async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, port = self.local_port, "the accept loop of a listener broke");
        }
    }
}

/// Accepts the connections of one listener.
struct Acceptor {
    listener: Arc<str>,
    proxy: ProxySettings,
    client_idle: Duration,
    nodes: Arc<Nodes>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Acceptor {
    async fn run(self, socket: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut accepted = 0_usize;
        let accept = async {
            // The semaphore is never closed.
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                match socket.accept().await {
                    Ok((stream, peer)) => {
                        let node = self.nodes.of_connection(accepted);
                        accepted = accepted.wrapping_add(1);
                        let session = Session::new(self.proxy, Arc::clone(&self.listener), node, peer.ip());
                        let connection =
                            serve_connection(stream, session, self.client_idle, self.stop.clone());
                        self.tracker.spawn(async move {
                            connection.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, listener = &*self.listener, "cannot accept a connection");
                        sleep(ACCEPT_AGAIN).await;
                    }
                }
            }
        };
        self.stop.run_until_cancelled(accept).await;
    }
}

async fn serve_connection(stream: TcpStream, session: Session, idle: Duration, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "client connection keeps Nagle's algorithm");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .serve_connection(TokioIo::new(stream), session);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(CLOSING_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
}
