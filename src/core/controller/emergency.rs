//! A run without a lease: look, judge, and take one route back at most (`decide::emergency`). What was done is
//! remembered by the process, and recorded by the first run that has the lease again.

use tracing::{debug, error};

use super::reconcile::{Reconciler, Slot, Verdict};
use super::trouble::guarded;
use super::workqueue::Trigger;
use crate::decide::emergency;
use crate::model::effect::WayBack;
use crate::model::{Answer, Facts, Plan};
use crate::ports::EmergencyPermit;
use crate::records::Span;

/// Between two writes of one emergency.
const NEXT_ROUTE: Span = Span::from_millis(100);

impl Reconciler {
    /// Looks at one service whose shard was ours until the state table could not be reached.
    pub(super) async fn run_without_lease(&self, slot: &mut Slot, permit: &EmergencyPermit) -> Verdict {
        let Some(facts) = slot.known.take() else {
            return without_lease(self.limits.idle_poll, "without_lease");
        };
        let verdict = self.look_without_lease(slot, &facts, permit).await;
        slot.known = Some(facts);
        verdict
    }

    async fn look_without_lease(&self, slot: &mut Slot, facts: &Facts, permit: &EmergencyPermit) -> Verdict {
        let Some((plan, needs)) = emergency::to_observe(facts) else {
            return without_lease(self.limits.idle_poll, "without_lease");
        };
        let began_ms = self.clock.monotonic_ms();
        let observed = self.cloud.observe(plan, &needs).await;
        slot.observed_ms = Some(began_ms);
        let judged = guarded("judging an emergency", || emergency::judge(facts, &observed, &slot.emergency));
        let (burning, next) = match judged {
            Ok(judged) => judged,
            Err(error) => return self.failed(slot, &error),
        };
        let twice: Vec<String> = burning.intersection(&slot.emergency.burning).cloned().collect();
        slot.emergency.burning = burning;
        match next {
            Ok(back) if permit.stands() => {
                slot.emergency.because.extend(twice);
                slot.emergency.release = facts.release.as_ref().map(|release| release.id);
                self.take_back(slot, plan, &back, permit).await;
                without_lease(NEXT_ROUTE, "emergency")
            }
            Ok(_) => without_lease(self.limits.poll, "without_lease"),
            Err(stays) => {
                debug!(why = stays.name(), "without a lease traffic stays where it is");
                without_lease(self.limits.poll, "without_lease")
            }
        }
    }

    /// The shard of a service has another owner: what was done without a lease can't be recorded by us.
    pub(super) fn overtaken(&self, slot: &Slot) {
        if !slot.emergency.tried.is_empty() {
            self.metrics.emergency("overtaken");
            let detail = emergency::detail(&slot.emergency);
            error!(detail, "traffic was taken back without a lease, and another daemon has the service now");
        }
    }

    async fn take_back(&self, slot: &mut Slot, plan: &Plan, back: &WayBack, permit: &EmergencyPermit) {
        let route = back.route().to_owned();
        *slot.emergency.tried.entry(route.clone()).or_default() += 1;
        let answer = self.cloud.take_back(plan, back, permit).await;
        let result = match &answer {
            Answer::Acknowledged(_) => {
                slot.emergency.done.insert(route.clone(), back.shares());
                "acknowledged"
            }
            Answer::Refused { .. } => "refused",
            Answer::Unknown { .. } => "unknown",
        };
        self.metrics.emergency(result);
        let detail = emergency::detail(&slot.emergency);
        error!(route, result, detail, "traffic is taken back to stable without a lease");
    }
}

fn without_lease(again: Span, outcome: &'static str) -> Verdict {
    let trouble =
        "the state table cannot be reached and the lease has run out: nothing goes forward".to_owned();
    Verdict { again: Some(again), why: Trigger::Deadline, outcome, trouble: Some(trouble) }
}
