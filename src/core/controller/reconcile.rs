//! One run for one service: load → observe → decide → record → carry out one effect → settle, and again while
//! there is something to do at once.
//!
//! What is recorded is durable before what it announces is done, so a crash between any two lines is a case that
//! `decide` knows. A run never learns why it was started.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::inputs::{Core, Records, nothing_to_observe};
use super::memory::{Memory, Slot};
use super::response::{Call, Reason, Response};
use super::tell::{announce, bare_status, history};
use super::trouble::{ReconcileError, backoff, guarded, store};
use super::workqueue::{Lane, Trigger};
use crate::decide::{Decision, Input, Limits, Next, Wait};
use crate::model::facts::{Halt, HaltReason};
use crate::model::{Action, Answer, Facts, Need, Plan};
use crate::ports::{Clock, Cloud, HistoryItem, Permit, StateWrite, Store};
use crate::records::status::{Outcome, Phase};
use crate::records::{ReleaseStatus, ServiceKey, Span};
use crate::telemetry::{Metrics, chain};

/// Turns in one run; then the others get theirs.
pub const TURNS: u32 = 16;
/// Looks in a row without a decision.
pub const LOOKS: u32 = 4;
/// Panicking runs in a row after which a service is halted.
pub const PANICS: u32 = 3;
/// Nothing comes again sooner, whatever a decision says.
const SOONEST: Span = Span::from_millis(100);

/// Everything a run needs.
pub struct Reconciler {
    /// The tables.
    pub store: Arc<dyn Store>,
    /// AWS.
    pub cloud: Arc<dyn Cloud>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The pure part.
    pub core: Core,
    /// The same for every service.
    pub limits: Limits,
    /// The longest that one mutating call may take: it starts only while the lease outlasts it.
    pub operation: Span,
    /// Traffic is taken back unrecorded once a state item alone has refused for so long, the lease being held: as long
    /// as a permit outlasts the last beat, so that this is no hastier than without a lease. None: never.
    pub unrecorded_after: Option<Span>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Verdict {
    /// Come again after this; none: nothing is left of the service.
    pub again: Option<Span>,
    /// How it came to that.
    pub why: Trigger,
    /// For metrics.
    pub outcome: &'static str,
    /// What went wrong.
    pub trouble: Option<String>,
}

/// What a turn leads to.
enum Turn {
    AtOnce,
    Look(BTreeSet<Need>),
    Later(Span, &'static str),
    Gone,
}

impl Reconciler {
    /// Brings one service as far as it can go at once. `stop` ends the run between two turns.
    pub async fn run(
        &self,
        key: &ServiceKey,
        slot: &mut Slot,
        permit: &Permit,
        stop: &CancellationToken,
    ) -> Verdict {
        let mut looks = 0;
        let mut needs = BTreeSet::new();
        for _ in 0..TURNS {
            match Box::pin(self.turn(key, slot, permit, &needs)).await {
                Ok(Turn::AtOnce) => {
                    (looks, needs) = (0, BTreeSet::new());
                }
                Ok(Turn::Look(more)) => {
                    looks += 1;
                    if looks >= LOOKS {
                        warn!(?more, "looked {LOOKS} times in a row without a decision");
                        return Verdict::later(self.limits.poll, "looking");
                    }
                    // A union, so that two things wanted in turn are at last seen together.
                    needs.extend(more);
                }
                Ok(Turn::Later(after, outcome)) => {
                    (slot.failures, slot.panics) = (0, 0);
                    slot.emergency.burning.clear();
                    if slot.blocked.ended() {
                        info!("the tables do again what they are asked");
                    }
                    return Verdict::later(after, outcome);
                }
                Ok(Turn::Gone) => {
                    return Verdict { again: None, why: Trigger::Deadline, outcome: "gone", trouble: None };
                }
                Err(error) => {
                    slot.still_needs(needs);
                    let verdict = self.failed(slot, &error);
                    return Box::pin(self.look_unrecorded(slot, permit, &error, verdict)).await;
                }
            }
            if stop.is_cancelled() {
                break;
            }
        }
        Verdict { again: Some(Span::ZERO), why: Trigger::Turn, outcome: "unfinished", trouble: None }
    }

    pub(super) fn failed(&self, slot: &mut Slot, error: &ReconcileError) -> Verdict {
        slot.failures = slot.failures.saturating_add(1);
        if let ReconcileError::Panicked { detail, .. } = error {
            slot.panics = slot.panics.saturating_add(1);
            slot.panic_detail.clone_from(detail);
            self.metrics.panicked();
        }
        let trouble = chain(error);
        let again = backoff(self.limits.poll, slot.failures, slot.lane);
        match error {
            // Said once each time it begins; repeats are for those who look closer.
            _ if slot.failures > 1 => debug!(error = %trouble, failures = slot.failures, "failed again"),
            ReconcileError::Panicked { .. } => error!(error = %trouble, "panicked; the other services go on"),
            _ => warn!(error = %trouble, "failed; comes again"),
        }
        if let Some(lasted) = slot.blocked.failed(error, self.clock.monotonic_ms()) {
            error!(error = %trouble, %lasted, "a table does not do what is needed: nothing of this service goes forward");
        }
        // The last try before a halt begins with what is durable: it may be the rest that a pass panics over.
        let last_try = matches!(error, ReconcileError::Panicked { .. }) && slot.panics + 1 >= PANICS;
        match error.response() {
            _ if last_try => slot.forget(),
            Response::Remember => {}
            // Of the permit the loop makes sure before each run, and `act` before each call.
            Response::Doubt | Response::StopActing => slot.doubt(),
            Response::Retry | Response::Reject => slot.forget(),
            Response::ReadAgain => {
                slot.forget();
                slot.known = None;
            }
            Response::Hold => {
                slot.forget();
                (slot.known, slot.waiting) = (None, Some("Halted"));
            }
        }
        Verdict { again: Some(again), why: Trigger::Retry, outcome: error.category(), trouble: Some(trouble) }
    }

    /// A run was dropped in the middle, as by a crash.
    pub(super) fn took_too_long(&self, slot: &mut Slot, longest: Span) -> Verdict {
        self.failed(slot, &ReconcileError::TooLong { longest })
    }

    async fn turn(
        &self,
        key: &ServiceKey,
        slot: &mut Slot,
        permit: &Permit,
        needs: &BTreeSet<Need>,
    ) -> Result<Turn, ReconcileError> {
        let (wishes, mut unread) = self.wishes(key, slot).await?;
        slot.show_labels(wishes.service.as_ref());
        let records = Records::read(&self.core, key, wishes, self.clock.now())?;
        let Some(mut memory) = self.memory(key, slot, permit, records.ask_nothing()).await? else {
            return Ok(Turn::Gone);
        };
        memory.needs.extend(needs.iter().cloned());
        let turn = Box::pin(self.pass(key, slot, &mut memory, permit, &records, &mut unread)).await;
        // Whatever came of it, and here alone: `failed` says what becomes of it after an error.
        slot.memory = Some(memory);
        match (turn, unread) {
            // What can't be read is told as soon as there is nothing more to bring back at once.
            (Ok(Turn::Look(_) | Turn::Later(..) | Turn::Gone), Some(error)) => Err(error),
            (turn, _) => turn,
        }
    }

    /// Observe, decide, follow. What the memory wants to see is struck out once it was decided by.
    async fn pass(
        &self,
        key: &ServiceKey,
        slot: &mut Slot,
        memory: &mut Memory,
        permit: &Permit,
        records: &Records,
        unread: &mut Option<ReconcileError>,
    ) -> Result<Turn, ReconcileError> {
        if slot.panics >= PANICS && memory.facts.halted.is_none() {
            Box::pin(self.halt_for_panics(key, slot, memory, permit)).await?;
        }
        let pinned = (self.core.plan_to_observe)(&memory.facts, &records.service);
        let began_ms = self.clock.monotonic_ms();
        let observed = match &pinned {
            Some(plan) => self.cloud.observe(plan, &memory.needs).await,
            None => nothing_to_observe(),
        };
        slot.observed_ms = Some(began_ms);
        let fresh_uid = self.fresh_uid(&memory.facts);
        let denied = slot.claim_denied.clone();
        let input = Input {
            key,
            now: self.clock.now(),
            watched: self.watched(memory.last_pass_ms, began_ms),
            epoch: permit.epoch(),
            limits: &self.limits,
            service: &records.service,
            desired: &records.desired,
            commands: &records.commands,
            observed: &observed,
            facts: &memory.facts,
            fresh_uid: &fresh_uid,
            claim_denied: denied.as_ref(),
        };
        let decision = match guarded("deciding", || (self.core.decide)(&input)) {
            Ok(decision) => decision,
            Err(error) => {
                memory.forgets_a_look(began_ms);
                return Err(error);
            }
        };
        if let Some(error) = unread.take_if(|_| !goes_back(&decision)) {
            return Err(error);
        }
        if let Err(error) = self.second_opinion(&input, &decision) {
            memory.forgets_a_look(began_ms);
            memory.keeps_time_of(&decision.facts);
            return Err(error);
        }
        let status = self.explain(&input, &decision, memory.status.as_ref(), slot);
        if !matches!(decision.next, Next::Look(_)) {
            slot.claim_denied = None;
        }
        slot.lane = Some(lane_of(&decision.facts));
        slot.shown = Some(Arc::new(status.clone()));
        announce(&mut slot.announced, &decision.next, &status);
        if records.ask_nothing() && is_over(&decision) {
            return Ok(Turn::Gone);
        }
        let wanted = match &decision.next {
            Next::Wait(wait) => wait.needs.clone(),
            _ => BTreeSet::new(),
        };
        let following = Following { key, permit, began_ms, plan: pinned, status };
        let turn = Box::pin(self.follow(slot, memory, decision, following)).await?;
        memory.needs = wanted;
        Ok(turn)
    }

    /// An effect that breaks a property is not carried out. Bringing traffic back is the one exception: it is
    /// never held up, only complained about.
    fn second_opinion(&self, input: &Input<'_>, decision: &Decision) -> Result<(), ReconcileError> {
        let Next::Act(action) = &decision.next else { return Ok(()) };
        let found = guarded("judging a decision", || (self.core.violations)(input, decision))?;
        let Some(first) = found.first() else { return Ok(()) };
        error!(violation = %first, effect = %action.effect, "the decision breaks a property; this is a bug");
        if action.rollback {
            return Ok(());
        }
        Err(ReconcileError::Unsafe { violation: first.to_string() })
    }

    /// Records a decision, then does what it says.
    async fn follow(
        &self,
        slot: &mut Slot,
        memory: &mut Memory,
        decision: Decision,
        following: Following<'_>,
    ) -> Result<Turn, ReconcileError> {
        let Decision { facts, next, claim, unclaim, ended } = decision;
        // Also if nothing comes of it.
        memory.forgets_a_look(following.began_ms);
        let newly_pinned =
            facts.plan.as_ref().filter(|plan| memory.facts.plan.as_ref() != Some(*plan)).cloned();
        let acts = matches!(next, Next::Act(_));
        let bound = !claim.is_empty() || !unclaim.is_empty() || !ended.is_empty();
        let decided = acts || bound || memory.is_changed_by(&facts);
        if !decided {
            // So it is, whatever becomes of the write.
            memory.goes_on(&facts);
        }
        let why = if acts {
            Some(Reason::Intent)
        } else if decided || memory.is_told_otherwise_by(&following.status) {
            Some(Reason::Change)
        } else if memory.answered {
            Some(Reason::Answer)
        } else {
            let due = memory.checkpoint_due(self.clock.monotonic_ms(), self.limits.poll);
            due.then_some(Reason::Checkpoint)
        };
        if let Some(why) = why {
            let told: Vec<HistoryItem> = ended.iter().map(|ended| history(following.key, ended)).collect();
            let write = StateWrite {
                rev: memory.rev,
                ended: told.clone(),
                facts,
                status: following.status.clone(),
                claim,
                unclaim,
            };
            if let Err(error) = self.write(&following, memory, write, why).await {
                // Nothing was written: the next decision is told who has it.
                slot.claim_denied = Some(error.rejected()?);
                return Ok(Turn::AtOnce);
            }
            slot.failures = 0;
            slot.blocked.recorded();
            slot.know(&memory.facts);
            slot.show_ended(told);
        } else {
            memory.status = Some(following.status.clone());
        }
        Ok(match next {
            Next::Act(action) => {
                let plan = newly_pinned.as_ref().or(following.plan.as_ref());
                self.act(memory, &action, plan, &following).await?;
                Turn::AtOnce
            }
            Next::Look(needs) => Turn::Look(needs),
            Next::Again => Turn::AtOnce,
            Next::Wait(wait) => Turn::Later(self.after(&memory.facts, &wait), "waiting"),
            Next::Settled => Turn::Later(self.limits.idle_poll, "settled"),
            Next::Halted(_) => {
                let busy = memory.facts.is_busy();
                Turn::Later(if busy { self.limits.poll } else { self.limits.idle_poll }, "halted")
            }
        })
    }

    /// Carries out the announced effect and settles its answer. An answer that cannot be written is known to this
    /// process alone: the table says that the effect is outstanding, which is what the next process must go by.
    async fn act(
        &self,
        memory: &mut Memory,
        action: &Action,
        plan: Option<&Plan>,
        following: &Following<'_>,
    ) -> Result<(), ReconcileError> {
        if !following.permit.allows(self.operation.millis()) {
            return Err(ReconcileError::LeaseEnding);
        }
        let answer = match plan {
            Some(plan) => self.cloud.carry_out(plan, action, following.permit).await,
            None => Answer::Refused {
                class: crate::model::RefusalClass::Permanent,
                message: "there is no plan to carry it out by".to_owned(),
            },
        };
        let result = match &answer {
            Answer::Acknowledged(_) => "acknowledged",
            Answer::Refused { .. } => "refused",
            Answer::Unknown { .. } => "unknown",
        };
        if matches!(answer, Answer::Acknowledged(_)) {
            // What waits for the effect (hold, propagation, quiet) begins now, and not with the pass that sent it.
            memory.last_pass_ms = Some(self.clock.monotonic_ms());
        }
        self.metrics.effect(action.effect.name(), result);
        debug!(effect = %action.effect, ?answer, "carried out");
        let epoch = following.permit.epoch();
        let facts =
            guarded("settling", || (self.core.settle)(&memory.facts, &action.effect, &answer, epoch))?;
        memory.answered = true;
        memory.facts = facts.clone();
        let write = StateWrite::of(memory.rev, facts, following.status.clone());
        self.write(following, memory, write, Reason::Answer).await
    }

    pub(super) async fn write(
        &self,
        following: &Following<'_>,
        memory: &mut Memory,
        write: StateWrite,
        why: Reason,
    ) -> Result<(), ReconcileError> {
        let (facts, status) = (write.facts.clone(), write.status.clone());
        let written = self.store.write(following.key, write, following.permit).await;
        memory.rev = written.map_err(store(Call::Write(why)))?;
        self.metrics.state_written(why.name());
        memory.facts = facts;
        memory.status = Some(status);
        memory.last_write_ms = self.clock.monotonic_ms();
        (memory.unsaved, memory.answered) = (false, false);
        Ok(())
    }

    /// A status that cannot be told must not keep a decision from being followed.
    fn explain(
        &self,
        input: &Input<'_>,
        decision: &Decision,
        before: Option<&ReleaseStatus>,
        slot: &mut Slot,
    ) -> ReleaseStatus {
        match guarded("explaining", || (self.core.explain)(input, decision, before)) {
            Ok(status) => {
                slot.waiting = match &decision.next {
                    Next::Wait(wait) => Some(wait.on.name()),
                    Next::Halted(_) => Some("Halted"),
                    _ => None,
                };
                status
            }
            Err(error) => {
                self.metrics.panicked();
                error!(error = %chain(&error), "the status is kept as it was");
                before.cloned().unwrap_or_else(|| bare_status(input.key, &decision.facts, Phase::Pending))
            }
        }
    }

    async fn halt_for_panics(
        &self,
        key: &ServiceKey,
        slot: &Slot,
        memory: &mut Memory,
        permit: &Permit,
    ) -> Result<(), ReconcileError> {
        let mut facts = memory.facts.clone();
        let detail: String = slot.panic_detail.chars().take(300).collect();
        facts.halted = Some(Halt { reason: HaltReason::Panicked, detail });
        let mut status = memory.status.clone().unwrap_or_else(|| bare_status(key, &facts, Phase::Halted));
        status.status.phase = Phase::Halted;
        let following = Following { key, permit, began_ms: 0, plan: None, status: status.clone() };
        let write = StateWrite::of(memory.rev, facts, status);
        error!(panics = slot.panics, detail = slot.panic_detail, "halted: its passes panic");
        self.write(&following, memory, write, Reason::Halt).await
    }

    /// Time this process has watched since its last pass; zero in the first.
    fn watched(&self, last_ms: Option<u64>, now_ms: u64) -> Span {
        let passed = last_ms.map_or(0, |last_ms| now_ms.saturating_sub(last_ms));
        Span::from_millis(passed).min(self.limits.poll.times(2))
    }

    /// Commands and alarms of a service in flight are read at least every `poll`, whatever is waited for.
    fn after(&self, facts: &Facts, wait: &Wait) -> Span {
        let in_flight = facts.release.is_some() || facts.pending.is_some();
        let poll = if in_flight { wait.poll.min(self.limits.poll) } else { wait.poll };
        wait.left.map_or(poll, |left| poll.min(left)).max(SOONEST)
    }

    fn fresh_uid(&self, facts: &Facts) -> String {
        if facts.uid.is_empty() {
            let since_1970 = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
            ulid::Ulid::from_parts(since_1970, rand::random()).to_string()
        } else {
            String::new()
        }
    }
}

/// What the second half of a turn needs of the first.
pub(super) struct Following<'a> {
    pub(super) key: &'a ServiceKey,
    pub(super) permit: &'a Permit,
    /// When the turn began to look, monotonic.
    pub(super) began_ms: u64,
    pub(super) plan: Option<Plan>,
    pub(super) status: ReleaseStatus,
}

impl Verdict {
    const fn later(after: Span, outcome: &'static str) -> Self {
        Self { again: Some(after), why: Trigger::Deadline, outcome, trouble: None }
    }
}

/// A release that is latched, now or before, takes traffic back, or is over because it has none.
fn goes_back(decision: &Decision) -> bool {
    let latched = match &decision.facts.release {
        Some(release) => release.latch.is_some(),
        None => decision.ended.iter().any(|ended| ended.outcome != Outcome::Succeeded),
    };
    latched
        && match &decision.next {
            Next::Act(action) => action.rollback,
            Next::Look(_) | Next::Again | Next::Wait(_) | Next::Settled | Next::Halted(_) => true,
        }
}

/// Nothing is asked, nothing is left and nothing is to be written.
fn is_over(decision: &Decision) -> bool {
    let facts = &decision.facts;
    let bound = !decision.claim.is_empty() || !decision.unclaim.is_empty() || !decision.ended.is_empty();
    matches!(decision.next, Next::Settled)
        && !bound
        && !facts.is_busy()
        && facts.retained.is_none()
        && facts.claims.is_empty()
}

fn lane_of(facts: &Facts) -> Lane {
    match &facts.release {
        Some(release) if release.latch.is_some() => Lane::Rollback,
        Some(_) => Lane::InFlight,
        None if !facts.cleanups.is_empty() || !facts.outstanding.is_empty() => Lane::InFlight,
        None if facts.pending.is_some() => Lane::New,
        None => Lane::Idle,
    }
}
