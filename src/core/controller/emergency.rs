//! A run without a lease, or one with it that could not record anything for as long: look, judge, and take one route back
//! at most (`decide::emergency`). What was done is remembered by the process, and recorded by the first run that can.

use tracing::{debug, error, warn};

use super::memory::{Memory, Slot};
use super::reconcile::{Following, Reconciler, Verdict};
use super::response::{Call, Reason};
use super::tell::bare_status;
use super::trouble::{ReconcileError, guarded};
use super::workqueue::Trigger;
use crate::decide::emergency::{self, Emergency};
use crate::model::effect::WayBack;
use crate::model::{Answer, Facts, Plan};
use crate::ports::{EmergencyPermit, Permit, StateWrite};
use crate::records::status::Phase;
use crate::records::{ServiceKey, Span};

/// Between two writes of one emergency.
const NEXT_ROUTE: Span = Span::from_millis(100);

impl Reconciler {
    /// Looks at one service whose shard was ours until its lease could not be renewed.
    pub(super) async fn run_without_lease(&self, slot: &mut Slot, permit: &EmergencyPermit) -> Verdict {
        // Of a run that was under way as the lease ran out. The first one with it again must read the table, and so record
        // what is done here, also when this one is still under way then.
        slot.forget();
        // A copy: a look that takes too long is dropped where it stands.
        let Some(facts) = slot.known.clone() else {
            return without_lease(self.limits.idle_poll, "without_lease");
        };
        self.look_for_an_emergency(slot, &facts, permit).await
    }

    /// After a run that failed with the lease held: when the service's own state item has refused for so long that a lease
    /// would have run out, the guards of a way back without one are enough for one with it. Nobody else has the shard, no
    /// effect is sent that is not announced in `known`, and this comes after the run, so that nothing goes on beside it.
    pub(super) async fn look_unrecorded(
        &self,
        slot: &mut Slot,
        permit: &Permit,
        error: &ReconcileError,
        verdict: Verdict,
    ) -> Verdict {
        // An item that others wrote, or that can't be understood, says that `known` is not the last word.
        let refused = error.blocked_call().is_some_and(|call| call != Call::ReadRecords);
        let for_long = |after| slot.blocked.unrecorded_for(after, self.clock.monotonic_ms());
        if !refused || !self.unrecorded_after.is_some_and(for_long) {
            return verdict;
        }
        let Some(facts) = slot.known.clone() else { return verdict };
        let permit = EmergencyPermit::part_of(permit.clone(), self.operation);
        let looked = self.look_for_an_emergency(slot, &facts, &permit).await;
        if !slot.emergency.tried.is_empty() {
            // The next run must read the table, and so record what was done here, before anything else.
            slot.forget();
        }
        Verdict { again: verdict.again.min(looked.again), ..verdict }
    }

    /// One look on the facts that were durable last, and one write at most: without a lease, or while nothing can be recorded.
    async fn look_for_an_emergency(
        &self,
        slot: &mut Slot,
        facts: &Facts,
        permit: &EmergencyPermit,
    ) -> Verdict {
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
                debug!(why = stays.name(), "traffic stays where it is");
                without_lease(self.limits.poll, "without_lease")
            }
        }
    }

    /// What was done without a lease becomes durable before anything else is decided: the release is latched.
    pub(super) async fn record_emergency(
        &self,
        key: &ServiceKey,
        slot: &mut Slot,
        memory: &mut Memory,
        permit: &Permit,
    ) -> Result<(), ReconcileError> {
        if slot.emergency.tried.is_empty() {
            slot.emergency = Emergency::default();
            return Ok(());
        }
        let recorded = emergency::record(&memory.facts, &slot.emergency, permit.epoch(), self.clock.now());
        let detail = emergency::detail(&slot.emergency);
        let Some(facts) = recorded else {
            self.metrics.emergency("unrecorded");
            error!(detail, "traffic was taken back without a lease, in a release that is over");
            slot.emergency = Emergency::default();
            return Ok(());
        };
        let status = memory.status.clone().unwrap_or_else(|| bare_status(key, &facts, Phase::RollingBack));
        let following = Following { key, permit, began_ms: 0, plan: None, status: status.clone() };
        let write = StateWrite::of(memory.rev, facts, status);
        self.write(&following, memory, write, Reason::Emergency).await?;
        slot.blocked.recorded();
        self.metrics.emergency("recorded");
        warn!(detail, "the table answers again; what was done without it is recorded");
        slot.emergency = Emergency::default();
        Ok(())
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
        error!(route, result, detail, "traffic is taken back to stable, and nothing can be recorded");
    }
}

fn without_lease(again: Span, outcome: &'static str) -> Verdict {
    let trouble = "the lease has run out and cannot be renewed: nothing goes forward".to_owned();
    Verdict { again: Some(again), why: Trigger::Deadline, outcome, trouble: Some(trouble) }
}
