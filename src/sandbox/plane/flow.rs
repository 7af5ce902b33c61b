//! One TCP connection through a Network Load Balancer.
//!
//! The target group is drawn by weight once, when the connection comes in, and then a target in turn. Connections
//! that are open "are not affected and continue until they are closed" (`aws-facts.md` §2), neither by new weights
//! nor by the deregistration of their target. Nothing is read of what is carried.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::proxy::ProxySettings;
use super::table::{Action, Table};
use super::upstream::Target;

/// Carries one connection until both sides have closed it, or its listener is gone.
pub(super) async fn carry(
    mut client: TcpStream,
    settings: ProxySettings,
    listener: Arc<str>,
    node: watch::Receiver<Arc<Table>>,
    stop: CancellationToken,
) {
    let table = Arc::clone(&node.borrow());
    // A client that cannot be served is closed without a word: there is no protocol to say it in.
    let Some(target) = target_for(&table, &listener, &settings) else { return };
    let Ok(Some(mut upstream)) = timeout(settings.connect, target.stream()).await else {
        tracing::debug!(listener = &*listener, "the target of a TCP connection cannot be reached");
        return;
    };
    for (stream, side) in [(&client, "client"), (&upstream, "target")] {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, side, "connection keeps Nagle's algorithm");
        }
    }
    let carried = stop.run_until_cancelled(copy_bidirectional(&mut client, &mut upstream)).await;
    if let Some(Err(error)) = carried {
        tracing::debug!(%error, listener = &*listener, "TCP connection broke");
    }
}

/// Draws the group by weight and takes its next target; `None` when there is none.
fn target_for(table: &Table, listener: &str, settings: &ProxySettings) -> Option<Arc<Target>> {
    let Action::Forward(forward) = table.listeners.get(listener)?.default_action()? else { return None };
    let (leak, mut rng) = (settings.leak_per_mille.load(Ordering::Relaxed), rand::rng());
    let chosen = forward.choose(None, settings.at_zero, leak, &mut rng)?;
    chosen.choice.next_target(&mut rng).map(Arc::clone)
}
