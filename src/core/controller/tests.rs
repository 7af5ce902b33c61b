//! Runs and the loop over fakes of the ports, with scripted decisions and paused time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::time::{advance, sleep};

use std::sync::atomic::AtomicBool;

use super::inputs::{Core, Read};
use super::tell::{bare_status, change, newly_stuck};
use super::*;
use crate::clock::TokioClock;
use crate::decide::emergency::tests::Scene;
use crate::decide::safety::{Property, Violation};
use crate::decide::{Asked, Decision, Input, Limits, Next, Wait, WaitingOn};
use crate::model::effect::WayBack;
use crate::model::facts::LatchCause;
use crate::model::facts::{HaltReason, Outstanding, Pending};
use crate::model::observed::{Extra, Weights};
use crate::model::{
    Acknowledgement, Action, Answer, Effect, Facts, Need, Observed, Plan, RefusalClass, Seen, Shares,
};
use crate::ports::{Cloud, Remembered, StateWrite, Store, Wishes};
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::status::{Condition, Phase};
use crate::records::{DesiredReleaseSpec, Group, Percent};
use crate::telemetry::Metrics;

const POLL: Span = Span::from_secs(2);
const IDLE: Span = Span::from_secs(60);
const OPERATION: Span = Span::from_secs(6);

/// Both tables and AWS, with a log of everything that was done to them, in order.
#[derive(Default)]
struct Fake {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    asked: BTreeMap<ServiceKey, Wishes>,
    state: BTreeMap<ServiceKey, Remembered>,
    log: Vec<String>,
    /// Answers for the next writes, first come first served.
    refuse_writes: Vec<Option<StoreError>>,
    /// How many of the next lists fail.
    lists_fail: u32,
    /// Answer for `remembered`.
    too_new: bool,
    /// What every read of the world is asked for besides.
    needs: Vec<BTreeSet<Need>>,
    answer: Option<Answer>,
    /// What every read shows, when a test says so.
    observed: Option<Observed>,
    /// The table cannot be reached.
    down: bool,
    observe_takes: Span,
    write_takes: Span,
    carry_out_takes: Span,
    observe_panics: Option<String>,
    observing: usize,
    most_observing: usize,
    reads: usize,
}

impl Fake {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
    fn log(&self) -> Vec<String> {
        self.inner().log.clone()
    }
    fn ask(&self, name: &str) -> ServiceKey {
        let service = serde_json::json!({ "spec": spec(name) });
        let wishes = Wishes { service: Some(service), desired: None, commands: Vec::new() };
        self.inner().asked.insert(key(name), wishes);
        key(name)
    }
}

#[async_trait]
impl Store for Fake {
    async fn list(&self) -> Result<BTreeSet<ServiceKey>, StoreError> {
        let mut inner = self.inner();
        if inner.lists_fail > 0 {
            inner.lists_fail -= 1;
            return Err(StoreError::Unavailable {
                action: "list services",
                retry: true,
                source: "no list".into(),
            });
        }
        Ok(inner.asked.keys().cloned().collect())
    }
    async fn wishes(&self, key: &ServiceKey) -> Result<Wishes, StoreError> {
        self.inner().reads += 1;
        if self.inner().down {
            return Err(unavailable());
        }
        let nothing = Wishes { service: None, desired: None, commands: Vec::new() };
        Ok(self.inner().asked.get(key).cloned().unwrap_or(nothing))
    }
    async fn remembered(&self, key: &ServiceKey) -> Result<Option<Remembered>, StoreError> {
        let mut inner = self.inner();
        inner.log.push("recall".to_owned());
        if inner.too_new {
            return Err(StoreError::TooNew { key: key.clone(), min_reader: 9, mine: 1 });
        }
        Ok(inner.state.get(key).cloned())
    }
    async fn write(&self, key: &ServiceKey, write: StateWrite, _: &Permit) -> Result<u64, StoreError> {
        let takes = self.inner().write_takes;
        sleep(takes.std()).await;
        let mut inner = self.inner();
        if let Some(refused) = inner.refuse_writes.pop().flatten() {
            inner.log.push("refused write".to_owned());
            return Err(refused);
        }
        let rev = inner.state.get(key).map_or(0, |remembered| remembered.rev);
        if rev != write.rev {
            inner.log.push("conflict".to_owned());
            return Err(StoreError::Conflict { key: key.clone() });
        }
        inner.log.push(format!(
            "write {} outstanding {}",
            write.facts.generation,
            write.facts.outstanding.len()
        ));
        let status = Some(write.status);
        inner.state.insert(key.clone(), Remembered { rev: rev + 1, facts: write.facts, status });
        Ok(rev + 1)
    }
}

#[async_trait]
impl Cloud for Fake {
    async fn observe(&self, plan: &Plan, needs: &BTreeSet<Need>) -> Observed {
        let takes = {
            let mut inner = self.inner();
            inner.needs.push(needs.clone());
            inner.observing += 1;
            inner.most_observing = inner.most_observing.max(inner.observing);
            inner.observe_takes
        };
        sleep(takes.std()).await;
        let panics = {
            let mut inner = self.inner();
            inner.observing -= 1;
            inner.observe_panics.as_ref() == Some(&plan.spec.task_definition_family)
        };
        assert!(!panics, "the adapter met something new");
        if let Some(observed) = &self.inner().observed {
            return observed.clone();
        }
        Observed {
            service: Seen::Unknown("not looked at".to_owned()),
            routes: BTreeMap::new(),
            alarms: BTreeMap::new(),
            extra: Extra::default(),
        }
    }
    async fn carry_out(&self, _: &Plan, action: &Action, _: &Permit) -> Answer {
        let takes = self.inner().carry_out_takes;
        self.inner().log.push("call".to_owned());
        sleep(takes.std()).await;
        let mut inner = self.inner();
        let durable = inner
            .state
            .values()
            .any(|remembered| remembered.facts.outstanding.contains_key(&action.effect.resource()));
        assert!(durable, "the effect was not announced");
        inner.log.push("answer".to_owned());
        inner.answer.clone().unwrap_or(Answer::Acknowledged(Acknowledgement::Done))
    }
    async fn take_back(&self, _: &Plan, back: &WayBack, permit: &EmergencyPermit) -> Answer {
        assert!(permit.stands());
        let mut inner = self.inner();
        inner.log.push(format!("take back {}", back.route()));
        let answer =
            inner.answer.clone().unwrap_or(Answer::Acknowledged(Acknowledgement::Echo(back.shares())));
        if let (Some(observed), Answer::Acknowledged(_)) = (&mut inner.observed, &answer) {
            let now = Seen::Known(Weights::Pair(back.shares()));
            observed.routes.insert(back.route().to_owned(), now);
        }
        answer
    }
}

type Script = Box<dyn FnMut(&Input<'_>) -> Decision>;

thread_local! {
    // A paused runtime has one thread, and each test has its own.
    static SCRIPT: RefCell<Option<Script>> = const { RefCell::new(None) };
}

/// What `decide` does in this test.
fn script(decide: impl FnMut(&Input<'_>) -> Decision + 'static) {
    SCRIPT.with_borrow_mut(|script| *script = Some(Box::new(decide)));
}

fn scripted(input: &Input<'_>) -> Decision {
    // Taken out while it runs, so that a script that panics can be asked again.
    SCRIPT.with_borrow_mut(|script| script.as_mut().expect("a test brings a script")(input))
}

fn settle(facts: &Facts, effect: &Effect, answer: &Answer, _: u64) -> Facts {
    let mut facts = facts.clone();
    match answer {
        Answer::Acknowledged(_) => drop(facts.outstanding.remove(&effect.resource())),
        _ => {
            facts.outstanding.entry(effect.resource()).and_modify(|outstanding| outstanding.unknown = true);
        }
    }
    facts
}

/// A status whose timestamps change in every pass.
fn explain(input: &Input<'_>, decision: &Decision, _: Option<&ReleaseStatus>) -> ReleaseStatus {
    let mut status = bare_status(input.key, &decision.facts, Phase::Pending);
    if let Next::Wait(wait) = &decision.next {
        status.status.waiting_on = Some(crate::records::status::WaitingOn {
            reason: wait.on.name().to_owned(),
            message: format!("waits; {} left", wait.left.unwrap_or(POLL)),
            until: input.now,
            deadline: None,
            then: "go on".to_owned(),
            otherwise: None,
        });
    }
    status
}

fn spec(family: &str) -> serde_json::Value {
    let elb = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let ecs = "arn:aws:ecs:eu-central-1:111122223333";
    serde_json::json!({
        "ecs": { "cluster": format!("{ecs}:cluster/prod"), "service": format!("{ecs}:service/prod/web") },
        "taskDefinitionFamily": family,
        "container": { "name": "web", "port": 8080 },
        "targetGroups": { "a": format!("{elb}:targetgroup/a/1"), "b": format!("{elb}:targetgroup/b/2") },
        "routes": { "production": [{ "name": "public", "rule": format!("{elb}:listener-rule/app/e/1/2/3") }] },
        "taskSet": {},
        "strategies": { "fast": { "allAtOnce": {} } },
        "defaultStrategy": "fast"
    })
}

#[expect(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    clippy::unwrap_in_result,
    reason = "it stands in for the real reader, whose shape it must have"
)]
fn read_service(_: &ServiceKey, item: &serde_json::Value) -> Read<ManagedServiceSpec> {
    Ok((
        serde_json::from_value(item["spec"].clone()).expect("the spec of these tests"),
        "sha256:1".to_owned(),
    ))
}

#[expect(clippy::result_large_err, reason = "as above")]
fn read_desired(_: &ServiceKey, _: &serde_json::Value) -> Read<DesiredReleaseSpec> {
    unreachable!("these tests write no desired releases")
}

fn core() -> Core {
    Core {
        decide: scripted,
        settle,
        explain,
        read_service,
        read_desired,
        plan_to_observe: |facts, service| match service {
            Asked::Valid { spec, .. } => {
                Some(Plan { spec: spec.clone(), strategy: String::new(), steps: Vec::new() })
            }
            Asked::Absent | Asked::Invalid { .. } => facts.plan.clone(),
        },
        violations: |_, _| Vec::new(),
    }
}

fn key(name: &str) -> ServiceKey {
    format!("team/{name}").parse().unwrap()
}

fn reconciler(fake: &Arc<Fake>) -> Reconciler {
    Reconciler {
        store: Arc::<Fake>::clone(fake),
        cloud: Arc::<Fake>::clone(fake),
        clock: Arc::new(TokioClock::starting_at("2026-11-21T10:00:00Z".parse().unwrap())),
        core: core(),
        limits: Limits { installation: "main".to_owned(), poll: POLL, idle_poll: IDLE },
        operation: OPERATION,
        metrics: Arc::default(),
    }
}

/// A permit that lasts until this instant of the monotonic clock.
fn permit(reconciler: &Reconciler, epoch: u64, until_ms: u64) -> Permit {
    Permit::new(epoch, Arc::new(AtomicU64::new(until_ms)), Arc::clone(&reconciler.clock))
}

/// One service, run by hand.
struct Bench {
    fake: Arc<Fake>,
    reconciler: Reconciler,
    key: ServiceKey,
    slot: Slot,
    permit: Permit,
}

impl Bench {
    fn new() -> Self {
        let fake = Arc::<Fake>::default();
        let key = fake.ask("web");
        let reconciler = reconciler(&fake);
        let permit = permit(&reconciler, 1, u64::MAX);
        Self { fake, reconciler, key, slot: Slot::default(), permit }
    }
    async fn run(&mut self) -> Verdict {
        self.reconciler.run(&self.key, &mut self.slot, &self.permit, &CancellationToken::new()).await
    }
    fn remembered(&self) -> Facts {
        self.fake.inner().state[&self.key].facts.clone()
    }
}

fn decision(facts: Facts, next: Next) -> Decision {
    let (claim, unclaim, ended) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    Decision { facts, next, claim, unclaim, ended }
}

fn shift() -> Action {
    let shares = Shares::giving(Group::A, Percent::FULL);
    Action {
        effect: Effect::SetWeights { route: "public".to_owned(), shares, expect: None },
        rollback: false,
    }
}

fn act(facts: &Facts) -> Decision {
    let action = shift();
    let mut facts = facts.clone();
    facts.generation += 1;
    let outstanding = Outstanding { effect: action.effect.clone(), unknown: false, looked: 0 };
    facts.outstanding.insert(action.effect.resource(), outstanding);
    decision(facts, Next::Act(action))
}

fn wait(facts: Facts) -> Decision {
    let wait =
        Wait { on: WaitingOn::TestHold, poll: POLL, left: None, deadline: None, needs: BTreeSet::new() };
    decision(facts, Next::Wait(wait))
}

/// Acts once, then waits.
fn act_once(input: &Input<'_>) -> Decision {
    if input.facts.generation == 0 { act(input.facts) } else { wait(input.facts.clone()) }
}

fn unavailable() -> StoreError {
    let source = Box::new(std::io::Error::other("no route"));
    StoreError::Unavailable { action: "write", retry: true, source }
}

#[tokio::test(start_paused = true)]
async fn the_intent_is_durable_before_the_call_and_the_answer_after_it() {
    let mut bench = Bench::new();
    script(act_once);
    let verdict = bench.run().await;
    assert_eq!(
        bench.fake.log()[..5],
        ["recall", "write 1 outstanding 1", "call", "answer", "write 1 outstanding 0"]
    );
    assert_eq!(verdict.outcome, "waiting");
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_cannot_be_written_is_not_carried_out() {
    let mut bench = Bench::new();
    script(act_once);
    bench.fake.inner().refuse_writes = vec![Some(unavailable())];
    let verdict = bench.run().await;
    assert_eq!((verdict.outcome, verdict.why), ("store", Trigger::Retry));
    assert_eq!(verdict.trouble.as_deref(), Some("failed to write the state: failed to write: no route"));
    assert_eq!(bench.fake.log(), ["recall", "refused write"]);
}

/// A second opinion that objects to everything.
fn objects(_: &Input<'_>, _: &Decision) -> Vec<Violation> {
    vec![Violation { property: Property::GateBeforeTraffic, detail: "in this test".to_owned() }]
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_breaks_a_property_is_neither_announced_nor_carried_out() {
    let mut bench = Bench::new();
    script(act_once);
    bench.reconciler.core.violations = objects;
    let verdict = bench.run().await;
    assert_eq!((verdict.outcome, verdict.why), ("unsafe", Trigger::Retry));
    assert_eq!(bench.fake.log(), ["recall"]);
}

#[tokio::test(start_paused = true)]
async fn bringing_traffic_back_is_carried_out_whatever_the_second_opinion_says() {
    let mut bench = Bench::new();
    script(|input| {
        let mut decided = act_once(input);
        if let Next::Act(action) = &mut decided.next {
            action.rollback = true;
        }
        decided
    });
    bench.reconciler.core.violations = objects;
    let verdict = bench.run().await;
    assert_eq!(verdict.outcome, "waiting");
    assert!(bench.fake.log().contains(&"call".to_owned()), "{:?}", bench.fake.log());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_written_leaves_the_effect_outstanding_for_the_next_run() {
    let mut bench = Bench::new();
    script(act_once);
    bench.fake.inner().refuse_writes = vec![Some(unavailable()), None];
    assert_eq!(bench.run().await.outcome, "store");
    assert_eq!(bench.fake.log(), ["recall", "write 1 outstanding 1", "call", "answer", "refused write"]);
    script(|input| {
        assert_eq!(input.facts.outstanding.len(), 1);
        wait(input.facts.clone())
    });
    assert_eq!(bench.run().await.outcome, "waiting");
}

#[tokio::test(start_paused = true)]
async fn another_writer_makes_a_run_read_again() {
    let mut bench = Bench::new();
    script(|input| wait(input.facts.clone()));
    bench.run().await;
    bench.fake.inner().state.get_mut(&bench.key).unwrap().rev += 1;
    bench.fake.inner().state.get_mut(&bench.key).unwrap().facts.generation = 7;
    script(|input| if input.facts.generation == 7 { wait(input.facts.clone()) } else { act(input.facts) });
    assert_eq!(bench.run().await.outcome, "conflict");
    assert_eq!(bench.run().await.outcome, "waiting");
    assert!(!bench.fake.log().contains(&"call".to_owned()));
    assert_eq!(bench.remembered().generation, 7);
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_start_when_the_lease_may_end_before_it() {
    let mut bench = Bench::new();
    script(act_once);
    // The write of the intent uses up what the lease had to spare.
    bench.fake.inner().write_takes = Span::from_secs(2);
    bench.permit = permit(&bench.reconciler, 1, OPERATION.millis() + 1_000);
    assert_eq!(bench.run().await.outcome, "no_lease");
    assert_eq!(bench.fake.log(), ["recall", "write 1 outstanding 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_another_service_has_is_told_to_the_next_decision_only() {
    let mut bench = Bench::new();
    let taken = StoreError::ClaimTaken { arn: "arn:x".to_owned(), owner: "team/other".to_owned() };
    bench.fake.inner().refuse_writes = vec![Some(taken)];
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    script(move |input| {
        let mut told = seen.lock().unwrap();
        told.push(input.claim_denied.cloned());
        let mut facts = input.facts.clone();
        match told.len() {
            1 => Decision { claim: BTreeSet::from(["arn:x".to_owned()]), ..wait(facts) },
            2 => {
                facts.generation = 1;
                decision(facts, Next::Again)
            }
            _ => wait(facts),
        }
    });
    assert_eq!(bench.run().await.outcome, "waiting");
    let denied = Some(("arn:x".to_owned(), "team/other".to_owned()));
    assert_eq!(*told.lock().unwrap(), [None, denied, None]);
}

#[tokio::test(start_paused = true)]
async fn looking_ends_after_four_looks_and_sees_together_what_was_wanted_in_turn() {
    let mut bench = Bench::new();
    let mut group = Group::B;
    script(move |input| {
        group = group.other();
        decision(input.facts.clone(), Next::Look(BTreeSet::from([Need::Targets(group)])))
    });
    assert_eq!(bench.run().await.outcome, "looking");
    let needs = bench.fake.inner().needs.clone();
    assert_eq!(needs.len(), 4);
    assert_eq!(needs[0], BTreeSet::new());
    assert_eq!(needs[2], BTreeSet::from([Need::Targets(Group::A), Need::Targets(Group::B)]));
}

#[tokio::test(start_paused = true)]
async fn what_a_wait_wants_to_see_is_read_by_the_next_run() {
    let mut bench = Bench::new();
    script(|input| {
        let mut decision = wait(input.facts.clone());
        if let Next::Wait(wait) = &mut decision.next {
            wait.needs.insert(Need::LoadBalancer);
        }
        decision
    });
    bench.run().await;
    bench.run().await;
    assert_eq!(bench.fake.inner().needs[1], BTreeSet::from([Need::LoadBalancer]));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_never_rests_gives_the_others_a_turn() {
    let mut bench = Bench::new();
    script(|input| act(input.facts));
    let verdict = bench.run().await;
    assert_eq!((verdict.again, verdict.why), (Some(Span::ZERO), Trigger::Turn));
    assert_eq!(bench.fake.log().iter().filter(|line| *line == "call").count(), 16);
}

#[tokio::test(start_paused = true)]
async fn clocks_are_written_every_thirty_seconds_and_timestamps_never() {
    let mut bench = Bench::new();
    let watched = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&watched);
    script(move |input| {
        seen.lock().unwrap().push(input.watched);
        let mut facts = input.facts.clone();
        let pending = facts.pending.get_or_insert_with(|| Pending {
            waited: Span::ZERO,
            return_to_retained: false,
            break_glass: BTreeSet::new(),
            doubt: None,
        });
        pending.waited = pending.waited.plus(input.watched);
        wait(facts)
    });
    for _ in 0..40 {
        bench.run().await;
        advance(POLL.std()).await;
    }
    let metrics = &bench.reconciler.metrics;
    assert_eq!((metrics.state_writes("change"), metrics.state_writes("checkpoint")), (1, 2));
    assert_eq!(bench.remembered().pending.unwrap().waited, Span::from_secs(60));
    advance(Span::from_mins(60).std()).await;
    bench.run().await;
    let watched = watched.lock().unwrap().clone();
    assert_eq!(watched[..2], [Span::ZERO, POLL]);
    assert_eq!(*watched.last().unwrap(), POLL.times(2), "an hour without passes counts as two polls");
    // A process that starts anew has watched nothing yet.
    bench.slot = Slot::default();
    let fresh = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&fresh);
    script(move |input| {
        *seen.lock().unwrap() = Some(input.watched);
        wait(input.facts.clone())
    });
    bench.run().await;
    assert_eq!(*fresh.lock().unwrap(), Some(Span::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_effect_begins_with_its_acknowledgement() {
    let mut bench = Bench::new();
    bench.fake.inner().carry_out_takes = Span::from_secs(3);
    let watched = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&watched);
    script(move |input| {
        seen.lock().unwrap().push(input.watched);
        act_once(input)
    });
    bench.run().await;
    assert_eq!(*watched.lock().unwrap(), [Span::ZERO, Span::ZERO]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_is_not_written_however_often_it_is_looked_at() {
    let mut bench = Bench::new();
    script(|input| decision(input.facts.clone(), Next::Settled));
    for _ in 0..100 {
        assert_eq!(bench.run().await.again, Some(IDLE));
        advance(IDLE.std()).await;
    }
    assert_eq!(bench.fake.log(), ["recall", "write 0 outstanding 0"]);
}

#[tokio::test(start_paused = true)]
async fn three_panics_in_a_row_halt_a_service_which_is_decided_for_all_the_same() {
    let mut bench = Bench::new();
    script(|_| panic!("a hole in the ladder"));
    for _ in 0..3 {
        let verdict = bench.run().await;
        assert_eq!(verdict.outcome, "panicked");
        assert_eq!(verdict.trouble.as_deref(), Some("panicked while deciding: a hole in the ladder"));
    }
    assert!(bench.fake.inner().state.is_empty());
    script(|input| {
        let halt = input.facts.halted.clone().expect("halted before it is asked again");
        assert_eq!(halt.reason, HaltReason::Panicked);
        act_once(input)
    });
    bench.run().await;
    assert!(bench.fake.log().contains(&"call".to_owned()), "its way back is still carried out");
    assert_eq!(bench.remembered().halted.unwrap().detail, "a hole in the ladder");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_told_does_not_hold_up_a_decision() {
    let mut bench = Bench::new();
    bench.reconciler.core.explain = |_, _, _| panic!("no words");
    script(act_once);
    assert_eq!(bench.run().await.outcome, "waiting");
    assert!(bench.fake.log().contains(&"call".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_a_newer_daemon_wrote_is_left_alone() {
    let mut bench = Bench::new();
    bench.fake.inner().too_new = true;
    script(|_| unreachable!("nothing is decided on what cannot be read"));
    let verdict = bench.run().await;
    assert_eq!(verdict.outcome, "too_new");
    assert!(verdict.trouble.unwrap().contains("needs reader version 9"));
    assert_eq!(bench.fake.log(), ["recall"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_without_records_and_memory_is_forgotten_without_a_write() {
    let mut bench = Bench::new();
    bench.fake.inner().asked.clear();
    script(|_| unreachable!("there is nothing to decide"));
    assert_eq!(bench.run().await.again, None);
    assert_eq!(bench.fake.log(), ["recall"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_settled_as_unknown() {
    let mut bench = Bench::new();
    bench.fake.inner().answer = Some(Answer::Unknown { message: "timed out".to_owned() });
    script(act_once);
    bench.run().await;
    assert!(bench.remembered().outstanding.values().all(|outstanding| outstanding.unknown));
    bench.fake.inner().answer =
        Some(Answer::Refused { class: RefusalClass::Throttled, message: "slow down".to_owned() });
    script(|input| if input.facts.generation == 1 { act(input.facts) } else { wait(input.facts.clone()) });
    bench.run().await;
    let text = bench.reconciler.metrics.encode().unwrap();
    assert!(text.contains("pointsman_effects_total{effect=\"SetWeights\",result=\"unknown\"} 1"));
    assert!(text.contains("pointsman_effects_total{effect=\"SetWeights\",result=\"refused\"} 1"));
}

#[test]
fn a_change_of_what_is_done_is_said_once() {
    let waiting = wait(Facts::default()).next;
    let mut announced = None;
    let said: Vec<(String, String)> =
        [&waiting, &waiting, &Next::Again, &waiting, &Next::Settled, &Next::Settled, &Next::Act(shift())]
            .into_iter()
            .filter_map(|next| change(&mut announced, next))
            .collect();
    let said: Vec<(&str, &str)> = said.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    assert_eq!(
        said,
        [
            ("nothing", "wait for TestHold"),
            ("wait for TestHold", "settled"),
            ("settled", "set route public to a 100 % / b 0 %"),
        ]
    );
}

#[test]
fn a_rollback_that_is_stuck_is_said_once_each_time_it_gets_stuck() {
    let status = |kind: &str| {
        let key = "payments/checkout".parse().unwrap();
        let mut status = bare_status(&key, &Facts::default(), Phase::RollingBack);
        status.status.conditions.push(Condition {
            kind: kind.to_owned(),
            status: "True".to_owned(),
            reason: "Throttled".to_owned(),
            message: Some("for 1m1s".to_owned()),
            observed_generation: 42,
            last_transition_time: Timestamp::UNIX_EPOCH,
        });
        status
    };
    let (going, stuck) = (status("Progressing"), status("RollbackStuck"));
    let mut memory = false;
    let said: Vec<Option<&str>> = [&going, &stuck, &stuck, &going, &stuck]
        .into_iter()
        .map(|status| newly_stuck(&mut memory, status))
        .collect();
    assert_eq!(said, [None, Some("for 1m1s"), None, None, Some("for 1m1s")]);
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_is_repeated_is_announced_again_under_this_runs_condition() {
    let mut bench = Bench::new();
    bench.reconciler.core.explain =
        |input, decision, _| bare_status(input.key, &decision.facts, Phase::Pending);
    bench.fake.inner().answer = Some(Answer::Unknown { message: "timed out".to_owned() });
    script(act_once);
    bench.run().await;
    let before = bench.fake.log().len();
    // The facts hold the very same effect already: nothing changes but that it is sent once more.
    let mut repeated = false;
    script(move |input| {
        let facts = input.facts.clone();
        if std::mem::replace(&mut repeated, true) { wait(facts) } else { decision(facts, Next::Act(shift())) }
    });
    bench.run().await;
    assert_eq!(bench.fake.log()[before..][..3], ["write 1 outstanding 1", "call", "answer"]);
}

/// The whole loop under way.
struct Running {
    fake: Arc<Fake>,
    lease: watch::Sender<Permits>,
    hints: mpsc::Sender<ServiceKey>,
    views: watch::Receiver<Arc<Snapshot>>,
    heartbeat: Arc<Heartbeat>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
    ended: tokio::task::JoinHandle<Result<(), LeaseKeeperGone>>,
}

fn start(fake: Arc<Fake>) -> Running {
    let reconciler = reconciler(&fake);
    let clock = Arc::clone(&reconciler.clock);
    let (lease, permits) = watch::channel(Permits { shards: ShardCount::ONE, ..Permits::default() });
    let (hints, hinted) = mpsc::channel(8);
    let (snapshots, views) = watch::channel(Arc::default());
    let heartbeat = Arc::<Heartbeat>::default();
    let shutdown = CancellationToken::new();
    let timing = Timing {
        resync: Span::from_mins(5),
        concurrency: NonZeroUsize::new(4).unwrap(),
        longest_run: Span::from_mins(5),
        drain: Span::from_secs(20),
    };
    let controller = Controller {
        reconciler: Arc::new(reconciler),
        permits,
        hints: hinted,
        snapshots,
        heartbeat: Arc::clone(&heartbeat),
        timing,
    };
    let ended = tokio::spawn(run(controller, shutdown.clone()));
    Running { fake, lease, hints, views, heartbeat, clock, shutdown, ended }
}

impl Running {
    fn grant(&self, epoch: u64) {
        self.grant_shards(ShardCount::ONE, &[(0, epoch)]);
    }
    fn grant_shards(&self, shards: ShardCount, epochs: &[(u16, u64)]) {
        let permit = |epoch| Permit::new(epoch, Arc::new(AtomicU64::new(u64::MAX)), Arc::clone(&self.clock));
        let held = epochs.iter().map(|(shard, epoch)| (Shard(*shard), permit(*epoch))).collect();
        self.lease.send_replace(Permits { shards, held, ..Permits::default() });
    }
    fn recalls(&self) -> usize {
        self.fake.log().iter().filter(|line| *line == "recall").count()
    }
}

async fn secs(number: u64) {
    sleep(Span::from_secs(number).std()).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_without_a_lease_and_nothing_remembered_across_two() {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.hints.send(key.clone()).await.unwrap();
    secs(600).await;
    assert_eq!(running.fake.inner().reads, 0);
    assert!(
        running.heartbeat.age(&*running.clock) <= TICK,
        "waiting for the lease is no reason to be killed"
    );
    running.grant(1);
    secs(60).await;
    let reads = running.fake.inner().reads;
    assert!((20..=40).contains(&reads), "{reads} passes in a minute at a poll of 2 s");
    assert!(running.views.borrow().services.contains_key(&key));
    running.grant_shards(ShardCount::ONE, &[]);
    secs(60).await;
    assert!(running.fake.inner().reads <= reads + 1);
    assert!(running.views.borrow().shards_held == 0 && running.views.borrow().services.is_empty());
    running.grant(2);
    secs(10).await;
    assert_eq!(running.recalls(), 2, "once for each lease");
}

#[tokio::test(start_paused = true)]
async fn a_lost_shard_takes_its_services_along_and_no_others() {
    let two = ShardCount::new(2).unwrap();
    let fake = Arc::<Fake>::default();
    let keys: Vec<ServiceKey> = ["one", "two", "three", "four", "five"].map(|name| fake.ask(name)).to_vec();
    let (zero, one): (Vec<ServiceKey>, Vec<ServiceKey>) =
        keys.into_iter().partition(|key| two.shard_of(key) == Shard(0));
    assert!(!zero.is_empty() && !one.is_empty());
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant_shards(two, &[(0, 1), (1, 1)]);
    secs(10).await;
    assert_eq!(running.views.borrow().services.len(), 5);
    assert_eq!((running.views.borrow().shards_held, running.views.borrow().shards), (2, 2));

    let recalls = running.recalls();
    running.grant_shards(two, &[(1, 1)]);
    secs(10).await;
    let shown = |running: &Running| running.views.borrow().services.keys().cloned().collect::<Vec<_>>();
    assert_eq!(shown(&running).len(), one.len());
    assert!(one.iter().all(|key| shown(&running).contains(key)));
    assert_eq!(running.recalls(), recalls, "the others are remembered");
    running.hints.send(zero[0].clone()).await.unwrap();
    secs(10).await;
    assert!(!shown(&running).contains(&zero[0]), "a hint about another's service wakes nobody");

    running.grant_shards(two, &[(0, 3), (1, 1)]);
    secs(10).await;
    assert_eq!(shown(&running).len(), 5);
    assert_eq!(running.recalls(), recalls + zero.len(), "what came back is read anew, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn an_effect_is_sent_under_the_epoch_of_its_services_shard() {
    let two = ShardCount::new(2).unwrap();
    let fake = Arc::<Fake>::default();
    let keys: Vec<ServiceKey> = ["one", "two", "three", "four", "five"].map(|name| fake.ask(name)).to_vec();
    let epochs = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&epochs);
    script(move |input| {
        seen.lock().unwrap().insert(input.key.clone(), input.epoch);
        wait(input.facts.clone())
    });
    let running = start(fake);
    running.grant_shards(two, &[(0, 7), (1, 4)]);
    secs(10).await;
    for key in keys {
        let epoch = if two.shard_of(&key) == Shard(0) { 7 } else { 4 };
        assert_eq!(epochs.lock().unwrap().get(&key), Some(&epoch), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_hints_never_makes_two_runs_of_one_service() {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    fake.inner().observe_takes = Span::from_secs(3);
    script(|input| decision(input.facts.clone(), Next::Settled));
    let running = start(fake);
    running.grant(1);
    for _ in 0..50 {
        running.hints.send(key.clone()).await.unwrap();
        sleep(Span::from_millis(200).std()).await;
    }
    secs(10).await;
    assert_eq!(running.fake.inner().most_observing, 1);
    let reads = running.fake.inner().reads;
    assert!(
        (4..=6).contains(&reads),
        "{reads}: each hint is answered by a run that began after it, not by its own"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_runs_panic_does_not_stop_the_others() {
    let fake = Arc::<Fake>::default();
    let (bad, good) = (fake.ask("bad"), fake.ask("good"));
    fake.inner().observe_panics = Some("bad".to_owned());
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant(1);
    secs(30).await;
    let views = running.views.borrow().clone();
    assert_eq!(views.services[&bad].trouble.as_deref(), Some("the adapter met something new"));
    assert!(views.services[&good].trouble.is_none() && views.services[&good].status.is_some());
    let halted = running.fake.inner().state[&bad].facts.halted.clone();
    assert_eq!(halted.map(|halt| halt.reason), Some(HaltReason::Panicked));
    running.fake.inner().observe_panics = None;
    secs(10).await;
    assert!(running.views.borrow().services[&bad].trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_the_call_under_way_be_settled_and_starts_no_other() {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    fake.inner().carry_out_takes = Span::from_secs(5);
    script(|input| act(input.facts));
    let running = start(fake);
    running.grant(1);
    secs(2).await;
    running.shutdown.cancel();
    running.ended.await.unwrap().unwrap();
    assert_eq!(
        running.fake.log(),
        ["recall", "write 1 outstanding 1", "call", "answer", "write 1 outstanding 0"]
    );
    assert!(running.fake.inner().state[&key].facts.outstanding.is_empty());
}

#[tokio::test(start_paused = true)]
async fn runs_that_hang_stop_the_heartbeat_until_they_are_dropped() {
    let fake = Arc::<Fake>::default();
    for name in ["one", "two", "three", "four", "five"] {
        fake.ask(name);
    }
    fake.inner().observe_takes = Span::from_mins(60);
    script(|_| unreachable!("nothing is ever seen"));
    let running = start(fake);
    running.grant(1);
    secs(200).await;
    assert!(running.heartbeat.age(&*running.clock) >= Span::from_secs(150));
    secs(101).await;
    assert!(running.heartbeat.age(&*running.clock) < Span::from_secs(10));
    assert_eq!(running.heartbeat.attempted(), 5, "the dropped runs made room for the fifth");
}

#[tokio::test(start_paused = true)]
async fn the_loop_ends_when_nobody_keeps_the_lease_any_more() {
    let running = start(Arc::default());
    drop(running.lease);
    assert!(running.ended.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_lists_each_second_until_it_knows_the_services() {
    let fake = Arc::<Fake>::default();
    fake.inner().lists_fail = 10;
    let key = fake.ask("found");
    script(|input| decision(input.facts.clone(), Next::Settled));
    let running = start(Arc::clone(&fake));
    running.grant(1);
    // Ten failures a second apart, each spread by a tenth; doubled ones would take more than five minutes.
    secs(15).await;
    assert!(running.views.borrow().services.contains_key(&key));
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_later_is_found_without_a_hint() {
    let fake = Arc::<Fake>::default();
    script(|input| decision(input.facts.clone(), Next::Settled));
    let running = start(Arc::clone(&fake));
    running.grant(1);
    secs(5).await;
    let key = fake.ask("late");
    secs(400).await;
    assert!(running.views.borrow().services.contains_key(&key));
    let text = Metrics::default().encode().unwrap();
    assert!(text.ends_with("# EOF\n"));
}

/// A release of `team/web` at 10 % and 50 % whose alarm burns, known to a running loop; then the table is gone.
async fn cut_off() -> (Running, ServiceKey, Arc<AtomicBool>) {
    let fake = Arc::<Fake>::default();
    let key = fake.ask("web");
    let scene = Scene::burning();
    {
        let mut inner = fake.inner();
        let remembered = Remembered { rev: 3, facts: scene.facts, status: None };
        inner.state.insert(key.clone(), remembered);
        inner.observed = Some(scene.observed);
    }
    script(|input| wait(input.facts.clone()));
    let running = start(fake);
    running.grant(4);
    secs(10).await;
    running.fake.inner().down = true;
    secs(18).await;
    let stands = Arc::new(AtomicBool::new(true));
    (running, key, stands)
}

impl Running {
    fn lapse(&self, epoch: u64, stands: &Arc<AtomicBool>) {
        let permit = EmergencyPermit::new(epoch, Arc::clone(stands));
        let lapsed = BTreeMap::from([(Shard(0), permit)]);
        let shards = ShardCount::ONE;
        self.lease.send_replace(Permits { shards, lapsed, ..Permits::default() });
    }

    fn taken_back(&self) -> Vec<String> {
        let log = self.fake.log();
        log.into_iter().filter(|line| line.starts_with("take back") || line == "call").collect()
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_table_a_burning_release_goes_back_once_a_route_and_is_recorded_afterwards() {
    let (running, key, stands) = cut_off().await;
    assert!(running.taken_back().is_empty(), "nothing happens while the lease may still be renewed");
    running.lapse(4, &stands);
    secs(60).await;
    assert_eq!(running.taken_back(), ["take back internal", "take back public"]);

    // The table is back, and nobody else had the shard.
    running.fake.inner().down = false;
    stands.store(false, Ordering::SeqCst);
    running.grant(4);
    secs(10).await;
    let facts = running.fake.inner().state[&key].facts.clone();
    let latch = facts.release.unwrap().latch.unwrap();
    assert_eq!(latch.cause, LatchCause::Alarm);
    assert!(latch.detail.starts_with("EmergencyRollback: b-5xx"), "{}", latch.detail);
    assert_eq!(facts.acknowledged["public"].epoch, 4);
    assert_eq!(running.taken_back().len(), 2, "and nothing is taken back again");
}

#[tokio::test(start_paused = true)]
async fn without_the_table_nothing_happens_unless_every_guard_agrees() {
    let changes: [fn(&mut Observed); 3] = [
        |observed| observed.alarms.clear(),
        |observed| observed.service = Seen::Unknown("5xx".to_owned()),
        |observed| drop(observed.routes.remove("public")),
    ];
    for change in changes {
        let (running, _, stands) = cut_off().await;
        change(running.fake.inner().observed.as_mut().unwrap());
        running.lapse(4, &stands);
        secs(60).await;
        assert!(running.taken_back().is_empty());
    }
    // A permit that does not stand, or that is of another epoch than what was known.
    for (epoch, standing) in [(4, false), (5, true)] {
        let (running, _, stands) = cut_off().await;
        stands.store(standing, Ordering::SeqCst);
        running.lapse(epoch, &stands);
        secs(60).await;
        assert!(running.taken_back().is_empty(), "epoch {epoch}, stands {standing}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_back_is_only_told_when_another_owner_has_the_shard() {
    let (running, key, stands) = cut_off().await;
    running.lapse(4, &stands);
    secs(60).await;
    running.fake.inner().down = false;
    running.grant(6);
    secs(10).await;
    let facts = running.fake.inner().state[&key].facts.clone();
    assert!(facts.release.unwrap().latch.is_none(), "the new owner's facts are its own");
}
