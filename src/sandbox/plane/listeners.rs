//! The load balancers' listeners: real sockets that follow the routing, and the nodes behind them.
//!
//! A load balancer is several machines, and a change reaches them one after another. Each accepted
//! connection belongs to one node and sees the routing as far as that node knows it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flow;
use super::metrics::AlbMetrics;
use super::proxy::{ProxySettings, Session};
use super::report::Reporter;
use super::table::Table;
use super::{ListenerEvent, PlaneEvent, PlaneSettings};
use crate::world::{ListenerRoute, Routing, Transport};

/// Open client connections of one listener; further ones wait in the accept queue.
const CONNECTIONS_MAX: usize = 8192;
/// Routing versions on their way to one node; when it lags that far behind, the oldest is passed over.
const VERSIONS_UNDER_WAY_MAX: usize = 1024;
/// Between two tries to open a listener whose port was taken.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// For requests in flight when a listener is closed.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// One virtual machine of the load balancers.
#[derive(Debug)]
struct Node {
    table: watch::Sender<Arc<Table>>,
    /// The listeners and rules that it routes by, and those on their way to it with their times.
    way: Mutex<Way>,
}

#[derive(Debug, Default)]
struct Way {
    arrived: Arc<Routing>,
    due: VecDeque<(Instant, Arc<Routing>)>,
}

impl Way {
    /// What is due arrives.
    fn advance(&mut self, now: Instant) {
        while self.due.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, routing)) = self.due.pop_front() {
                self.arrived = routing;
            }
        }
    }
}

/// The nodes of the plane, shared between the follower and the accept loops.
#[derive(Debug)]
pub(super) struct Nodes {
    #[expect(clippy::struct_field_names, reason = "they are what the whole is named after")]
    nodes: Vec<Node>,
    propagation_millis: AtomicU64,
    /// Of the region's clock.
    speed: watch::Receiver<f64>,
}

impl Nodes {
    /// Node `i` of `count` (from 1) learns of a change after `i / count` of `propagation`, so the last
    /// one has the whole delay.
    pub fn new(settings: &PlaneSettings, speed: watch::Receiver<f64>) -> Self {
        let node = |_| Node { table: watch::Sender::default(), way: Mutex::default() };
        let nodes = Self {
            nodes: (0..settings.nodes.get()).map(node).collect(),
            propagation_millis: AtomicU64::new(0),
            speed,
        };
        nodes.set_propagation(settings.propagation);
        nodes
    }

    /// The delay of the slowest node for changes from now on.
    pub fn set_propagation(&self, propagation: Duration) {
        let millis = u64::try_from(propagation.as_millis()).unwrap_or(u64::MAX);
        self.propagation_millis.store(millis, Ordering::Relaxed);
    }

    fn way(node: &Node) -> MutexGuard<'_, Way> {
        // Replaced as a whole, so a panic elsewhere doesn't spoil it.
        node.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a routing version on its way to every node.
    fn send(&self, routing: &Arc<Routing>, at_once: bool) {
        let (now, count) = (Instant::now(), u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let propagation = Duration::from_millis(self.propagation_millis.load(Ordering::Relaxed));
        for (place, node) in (1_u32..).zip(&self.nodes) {
            let delay = if at_once { Duration::ZERO } else { propagation / count * place };
            let mut way = Self::way(node);
            // Versions stay in order when the delay was made shorter.
            let at = way.due.back().map_or(now + delay, |(last, _)| (now + delay).max(*last));
            if way.due.len() >= VERSIONS_UNDER_WAY_MAX {
                way.due.pop_front();
            }
            way.due.push_back((at, Arc::clone(routing)));
        }
    }

    /// Lets every node route by the listeners that have reached it and the targets as they are now; when the
    /// next listeners reach a node. `latest` is the table compiled last: it carries the connections on.
    fn settle(&self, newest: &Routing, latest: &mut Arc<Table>, metrics: &AlbMetrics) -> Option<Instant> {
        let now = Instant::now();
        let mut compiled: BTreeMap<u64, Arc<Table>> = BTreeMap::new();
        let mut next = None;
        for node in &self.nodes {
            let mut way = Self::way(node);
            way.advance(now);
            let table = compiled.entry(way.arrived.version).or_insert_with(|| {
                let speed = *self.speed.borrow();
                *latest = Arc::new(Table::compile(&way.arrived, newest, latest, metrics, speed));
                Arc::clone(latest)
            });
            node.table.send_replace(Arc::clone(table));
            let due = way.due.front().map(|(at, _)| *at);
            next = [next, due].into_iter().flatten().min();
        }
        next
    }

    /// Returns once every node routes by this version or a later one.
    pub async fn reached(&self, version: u64) {
        for node in &self.nodes {
            // The sender is ours, so waiting cannot fail.
            let _ = node.table.subscribe().wait_for(|table| table.version >= version).await;
        }
    }

    fn of_connection(&self, connection: usize) -> watch::Receiver<Arc<Table>> {
        self.nodes[connection % self.nodes.len()].table.subscribe()
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
        let mut seen = None;
        let mut published = true;
        loop {
            let current = Arc::clone(&routing.borrow_and_update());
            if seen != Some(current.version) {
                self.nodes.send(&current, seen.is_none());
                seen = Some(current.version);
            }
            let next = self.nodes.settle(&current, &mut table, &self.metrics);
            self.close_gone(&mut open, &current).await;
            self.open_new(&mut open, &mut failed, &current).await;
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                changed = routing.changed(), if published => published = changed.is_ok(),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
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
                    open.insert(route.arn.clone(), self.serve(route, local_port, socket));
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

    fn serve(&self, route: &ListenerRoute, local_port: u16, socket: TcpListener) -> Open {
        let stop = self.shutdown.child_token();
        let acceptor = Acceptor {
            listener: route.arn.as_str().into(),
            transport: route.transport,
            proxy: self.proxy.clone(),
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
    transport: Transport,
    proxy: ProxySettings,
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
                        self.serve(stream, peer.ip(), node, place);
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

    /// Serves one connection, which keeps its place until it ends.
    fn serve(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        node: watch::Receiver<Arc<Table>>,
        place: OwnedSemaphorePermit,
    ) {
        let (proxy, listener, stop) = (self.proxy.clone(), Arc::clone(&self.listener), self.stop.clone());
        match self.transport {
            Transport::Http => {
                let session = Session::new(proxy, listener, node, peer);
                let connection = serve_connection(stream, session, stop);
                self.tracker.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Transport::Tcp => {
                let connection = flow::carry(stream, proxy, listener, node, stop);
                self.tracker.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, session: Session, stop: CancellationToken) {
    let idle = session.idle();
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::world::{Address, GroupRoute};

    fn routing(version: u64, port: u16) -> Arc<Routing> {
        let target = Address { ip: "127.0.0.1".to_owned(), port };
        let group = GroupRoute { targets: vec![target], ..GroupRoute::default() };
        let groups = BTreeMap::from([("group".to_owned(), group)]);
        Arc::new(Routing { version, listeners: Vec::new(), groups })
    }

    fn nodes(settings: &PlaneSettings) -> Nodes {
        Nodes::new(settings, watch::channel(1.0).1)
    }

    fn versions(nodes: &Nodes) -> Vec<u64> {
        nodes.nodes.iter().map(|node| node.table.borrow().version).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_node_learns_of_a_rule_after_its_own_delay_and_of_a_target_at_once() {
        let settings = PlaneSettings {
            nodes: NonZeroU32::new(3).unwrap(),
            propagation: Duration::from_millis(600),
            ..PlaneSettings::default()
        };
        let (nodes, metrics, mut latest) = (nodes(&settings), AlbMetrics::default(), Arc::default());
        nodes.send(&routing(1, 1), true);
        assert_eq!(nodes.settle(&routing(1, 1), &mut latest, &metrics), None);
        assert_eq!(versions(&nodes), [1, 1, 1], "the first routing is there at once");

        let second = routing(2, 2);
        nodes.send(&second, false);
        for expected in [[1, 1, 1], [2, 1, 1], [2, 2, 1], [2, 2, 2]] {
            let next = nodes.settle(&second, &mut latest, &metrics);
            assert_eq!(versions(&nodes), expected);
            let now: Vec<u16> =
                nodes.nodes.iter().flat_map(|node| node.table.borrow().target_ports()).collect();
            assert_eq!(now, [2, 2, 2], "targets are known to all at once");
            let left = next.map(|at| at.duration_since(Instant::now()));
            assert_eq!(left, (expected != [2, 2, 2]).then_some(Duration::from_millis(200)));
            tokio::time::advance(left.unwrap_or_default()).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_delay_lets_no_version_overtake_another() {
        let settings = PlaneSettings { propagation: Duration::from_secs(9), ..PlaneSettings::default() };
        let (nodes, metrics, mut latest) = (nodes(&settings), AlbMetrics::default(), Arc::default());
        nodes.send(&routing(1, 1), false);
        nodes.set_propagation(Duration::ZERO);
        nodes.send(&routing(2, 1), false);
        nodes.settle(&routing(2, 1), &mut latest, &metrics);
        assert_eq!(versions(&nodes), [0]);
        tokio::time::advance(Duration::from_secs(9)).await;
        nodes.settle(&routing(2, 1), &mut latest, &metrics);
        assert_eq!(versions(&nodes), [2]);
    }
}
