//! The way out: what the plane tells the model.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::PlaneEvent;

/// Sends events into the caller's bounded queue. While the plane runs, a full queue holds the sender
/// back and nothing is lost; at shutdown nobody may be reading any more, so what does not fit is
/// dropped and logged.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    pub events: mpsc::Sender<PlaneEvent>,
    pub shutdown: CancellationToken,
}

impl Reporter {
    pub async fn report(&self, event: PlaneEvent) {
        let permit = tokio::select! {
            biased;
            permit = self.events.reserve() => permit.ok(),
            () = self.shutdown.cancelled() => None,
        };
        if let Some(permit) = permit {
            permit.send(event);
        } else {
            tracing::debug!(?event, "nobody is left to hear this event");
        }
    }
}
