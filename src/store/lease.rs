//! The lease in `DynamoDB`: the table's four calls, and the task that carries out what the protocol
//! ([`crate::lease`]) asks for.

mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::lease::{LeaseTiming, LeaseWatch, Renewal, Step};
use crate::ports::{Clock, Permit, StoreError};

pub use table::{DynamoLease, LeaseTable};

/// How often a leaving owner looks whether its last permit is gone.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Competes for the lease, keeps it while it can, and publishes the permit: `Some` while it is held, `None`
/// otherwise. Ends when `shutdown` is cancelled, having given the lease up so that a successor need not wait.
///
/// Giving up: the permit stops allowing anything at once; then, when every clone of it is dropped, at the
/// latest after `operation` (by when whatever began under it has ended), the item is marked as released.
///
/// `holder` must be unique to this process, also across restarts.
pub async fn keep(
    table: Arc<dyn LeaseTable>,
    clock: Arc<dyn Clock>,
    holder: String,
    timing: LeaseTiming,
    permits: channel::Sender<Option<Permit>>,
    shutdown: CancellationToken,
) {
    let mut keeper = Keeper {
        watch: LeaseWatch::new(holder.clone(), timing),
        table,
        clock,
        holder,
        timing,
        permits,
        valid_until_ms: Arc::default(),
        published: None,
        troubled: false,
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = keeper.step() => {}
        }
    }
    keeper.leave().await;
}

struct Keeper {
    watch: LeaseWatch,
    table: Arc<dyn LeaseTable>,
    clock: Arc<dyn Clock>,
    holder: String,
    timing: LeaseTiming,
    permits: channel::Sender<Option<Permit>>,
    /// Shared with the permit of the present epoch.
    valid_until_ms: Arc<AtomicU64>,
    /// The epoch of the permit that is published.
    published: Option<u64>,
    /// The last call failed, and that was said.
    troubled: bool,
}

impl Keeper {
    async fn step(&mut self) {
        match self.watch.next(self.clock.monotonic_ms()) {
            Step::Wait { ms } => tokio::time::sleep(Duration::from_millis(ms.max(1))).await,
            Step::Read => {
                let answer = self.limited(self.table.read()).await;
                let now = self.clock.monotonic_ms();
                match answer {
                    Ok(item) => self.watch.read(now, item),
                    Err(()) => self.watch.failed(now),
                }
            }
            Step::Take { seen } => {
                let sent = self.clock.monotonic_ms();
                let answer = self.limited(self.table.take(&self.holder, seen.as_ref())).await;
                self.watch.answered(sent, self.clock.monotonic_ms(), answer.ok());
            }
            Step::Renew { epoch } => {
                let sent = self.clock.monotonic_ms();
                let answer = self.limited(self.table.renew(&self.holder, epoch)).await;
                self.watch.answered(sent, self.clock.monotonic_ms(), answer.ok());
            }
        }
        self.publish();
    }

    /// A call to the table, no longer than a renewal's share of time: a hanging one must leave time for
    /// another. Trouble is said once, and once when it is over.
    async fn limited<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, ()> {
        let error = match tokio::time::timeout(self.timing.renew.std(), call).await {
            Ok(Ok(answer)) => {
                if self.troubled {
                    info!("the lease table answers again");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        if !self.troubled {
            warn!(error, "the lease table could not be read or written; it is tried again");
        }
        Err(())
    }

    fn publish(&mut self) {
        self.troubled = self.watch.is_troubled();
        let now = self.clock.monotonic_ms();
        match self.watch.held(now) {
            Some((epoch, until)) => {
                if self.published != Some(epoch) {
                    self.withdraw();
                    // A permit of an earlier epoch must never become valid again: each has a cell of its own.
                    self.valid_until_ms = Arc::new(AtomicU64::new(until));
                    let permit =
                        Permit::new(epoch, Arc::clone(&self.valid_until_ms), Arc::clone(&self.clock));
                    self.published = Some(epoch);
                    self.permits.send_replace(Some(permit));
                    info!(epoch, "the lease is held");
                }
                self.valid_until_ms.store(until, Ordering::SeqCst);
            }
            None => {
                if let Some(epoch) = self.withdraw() {
                    warn!(epoch, "the lease is not held any more; nothing is written");
                }
            }
        }
    }

    fn withdraw(&mut self) -> Option<u64> {
        let epoch = self.published.take()?;
        self.valid_until_ms.store(0, Ordering::SeqCst);
        self.permits.send_replace(None);
        Some(epoch)
    }

    async fn leave(mut self) {
        let owned = self.watch.epoch();
        self.withdraw();
        let Some(epoch) = owned else { return };
        let longest = self.timing.operation.std();
        let drained = async {
            // The last reference is ours: no pass holds a permit.
            while Arc::strong_count(&self.valid_until_ms) > 1 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(longest, drained).await.is_err() {
            info!(epoch, "a pass still holds its permit; what it began has had its time");
        }
        match self.limited(self.table.release(&self.holder, epoch)).await {
            Ok(Renewal::Done) => info!(epoch, "the lease is given up"),
            Ok(Renewal::Lost) => info!(epoch, "the lease had already been taken over"),
            Err(()) => {
                warn!(epoch, "the lease could not be given up; a successor waits for its time to live");
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
