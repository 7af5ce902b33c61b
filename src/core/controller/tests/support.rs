//! Fakes of the ports, a service run by hand, and the whole loop under way.

use super::*;

pub(super) const POLL: Span = Span::from_secs(2);
pub(super) const IDLE: Span = Span::from_secs(60);
pub(super) const UNRECORDED: Span = Span::from_secs(18);
pub(super) const OPERATION: Span = Span::from_secs(6);

/// Both tables and AWS, with a log of everything that was done to them, in order.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) asked: BTreeMap<ServiceKey, Wishes>,
    pub(super) state: BTreeMap<ServiceKey, Remembered>,
    pub(super) log: Vec<String>,
    /// Answers for the next writes, first come first served.
    pub(super) refuse_writes: Vec<Option<StoreError>>,
    /// How many of the next lists fail.
    pub(super) lists_fail: u32,
    /// Answer for `remembered`.
    pub(super) too_new: bool,
    /// What every read of the world is asked for besides.
    pub(super) needs: Vec<BTreeSet<Need>>,
    pub(super) answer: Option<Answer>,
    /// What every read shows, when a test says so.
    pub(super) observed: Option<Observed>,
    /// Calls that the table does not do.
    pub(super) trouble: Option<TableTrouble>,
    /// The table cannot be reached, which a call finds out after so long.
    pub(super) down: bool,
    pub(super) down_after: Span,
    /// Calls that wait to find it out.
    pub(super) in_vain: usize,
    pub(super) observe_takes: Span,
    pub(super) write_takes: Span,
    pub(super) carry_out_takes: Span,
    pub(super) observe_panics: Option<String>,
    pub(super) observing: usize,
    pub(super) most_observing: usize,
    pub(super) reads: usize,
}

/// Calls of one sort that fail, for as long as it is there.
pub(super) struct TableTrouble {
    pub(super) call: Call,
    /// Writes that are let through before.
    pub(super) spared: usize,
    /// The write is done all the same.
    pub(super) landed: bool,
    pub(super) error: fn() -> StoreError,
    pub(super) met: usize,
}

impl Inner {
    /// What befalls a call, and whether it is done all the same.
    fn befalls(&mut self, here: impl Fn(Call) -> bool) -> Option<(StoreError, bool)> {
        let trouble = self.trouble.as_mut().filter(|trouble| here(trouble.call))?;
        if trouble.spared > 0 {
            trouble.spared -= 1;
            return None;
        }
        trouble.met += 1;
        Some(((trouble.error)(), trouble.landed))
    }
}

impl Fake {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
    pub(super) fn log(&self) -> Vec<String> {
        self.inner().log.clone()
    }
    pub(super) fn ask(&self, name: &str) -> ServiceKey {
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
        if let Some((error, _)) = self.inner().befalls(|call| call == Call::ReadRecords) {
            return Err(error);
        }
        if self.inner().down {
            let after = {
                let mut inner = self.inner();
                inner.in_vain += 1;
                inner.down_after
            };
            sleep(after.std()).await;
            self.inner().in_vain -= 1;
            return Err(unavailable());
        }
        let nothing = Wishes { service: None, desired: None, commands: Vec::new() };
        Ok(self.inner().asked.get(key).cloned().unwrap_or(nothing))
    }
    async fn remembered(&self, key: &ServiceKey) -> Result<Option<Remembered>, StoreError> {
        let mut inner = self.inner();
        inner.log.push("recall".to_owned());
        if let Some((error, _)) = inner.befalls(|call| call == Call::ReadState) {
            return Err(error);
        }
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
        let lost = inner.befalls(|call| matches!(call, Call::Write(_)));
        if let Some((error, false)) = lost {
            inner.log.push("refused write".to_owned());
            return Err(error);
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
        if let Some((error, _)) = lost {
            return Err(error);
        }
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

pub(super) type Script = Box<dyn FnMut(&Input<'_>) -> Decision>;

thread_local! {
    // A paused runtime has one thread, and each test has its own.
    static SCRIPT: RefCell<Option<Script>> = const { RefCell::new(None) };
}

/// What `decide` does in this test.
pub(super) fn script(decide: impl FnMut(&Input<'_>) -> Decision + 'static) {
    SCRIPT.with_borrow_mut(|script| *script = Some(Box::new(decide)));
}

pub(super) fn scripted(input: &Input<'_>) -> Decision {
    // Taken out while it runs, so that a script that panics can be asked again.
    SCRIPT.with_borrow_mut(|script| script.as_mut().expect("a test brings a script")(input))
}

pub(super) fn settle(facts: &Facts, effect: &Effect, answer: &Answer, _: u64) -> Facts {
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
pub(super) fn explain(input: &Input<'_>, decision: &Decision, _: Option<&ReleaseStatus>) -> ReleaseStatus {
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

pub(super) fn spec(family: &str) -> serde_json::Value {
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
pub(super) fn read_service(_: &ServiceKey, item: &serde_json::Value) -> Read<ManagedServiceSpec> {
    Ok((
        serde_json::from_value(item["spec"].clone()).expect("the spec of these tests"),
        "sha256:1".to_owned(),
    ))
}

#[expect(clippy::result_large_err, reason = "as above")]
pub(super) fn read_desired(_: &ServiceKey, _: &serde_json::Value) -> Read<DesiredReleaseSpec> {
    unreachable!("these tests write no desired releases")
}

pub(super) fn core() -> Core {
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

pub(super) fn key(name: &str) -> ServiceKey {
    format!("team/{name}").parse().unwrap()
}

pub(super) fn reconciler(fake: &Arc<Fake>) -> Reconciler {
    Reconciler {
        store: Arc::<Fake>::clone(fake),
        cloud: Arc::<Fake>::clone(fake),
        clock: Arc::new(TokioClock::starting_at("2026-11-21T10:00:00Z".parse().unwrap())),
        core: core(),
        limits: Limits { installation: "main".to_owned(), poll: POLL, idle_poll: IDLE },
        operation: OPERATION,
        unrecorded_after: Some(UNRECORDED),
        metrics: Arc::default(),
    }
}

/// A permit that lasts until this instant of the monotonic clock.
pub(super) fn permit(reconciler: &Reconciler, epoch: u64, until_ms: u64) -> Permit {
    Permit::new(epoch, Arc::new(AtomicU64::new(until_ms)), Arc::clone(&reconciler.clock))
}

/// One service, run by hand.
pub(super) struct Bench {
    pub(super) fake: Arc<Fake>,
    pub(super) reconciler: Reconciler,
    pub(super) key: ServiceKey,
    pub(super) slot: Slot,
    pub(super) permit: Permit,
}

impl Bench {
    pub(super) fn new() -> Self {
        let fake = Arc::<Fake>::default();
        let key = fake.ask("web");
        let reconciler = reconciler(&fake);
        let permit = permit(&reconciler, 1, u64::MAX);
        Self { fake, reconciler, key, slot: Slot::default(), permit }
    }
    pub(super) async fn run(&mut self) -> Verdict {
        self.reconciler.run(&self.key, &mut self.slot, &self.permit, &CancellationToken::new()).await
    }
    pub(super) fn remembered(&self) -> Facts {
        self.fake.inner().state[&self.key].facts.clone()
    }
}

pub(super) fn decision(facts: Facts, next: Next) -> Decision {
    let (claim, unclaim, ended) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    Decision { facts, next, claim, unclaim, ended }
}

pub(super) fn shift() -> Action {
    let shares = Shares::giving(Group::A, Percent::FULL);
    Action {
        effect: Effect::SetWeights { route: "public".to_owned(), shares, expect: None },
        rollback: false,
    }
}

pub(super) fn act(facts: &Facts) -> Decision {
    let action = shift();
    let mut facts = facts.clone();
    facts.generation += 1;
    let outstanding = Outstanding { effect: action.effect.clone(), unknown: false, looked: 0 };
    facts.outstanding.insert(action.effect.resource(), outstanding);
    decision(facts, Next::Act(action))
}

pub(super) fn wait(facts: Facts) -> Decision {
    let wait =
        Wait { on: WaitingOn::TestHold, poll: POLL, left: None, deadline: None, needs: BTreeSet::new() };
    decision(facts, Next::Wait(wait))
}

/// Acts once, then waits.
pub(super) fn act_once(input: &Input<'_>) -> Decision {
    if input.facts.generation == 0 { act(input.facts) } else { wait(input.facts.clone()) }
}

pub(super) fn unavailable() -> StoreError {
    let source = Box::new(std::io::Error::other("no route"));
    StoreError::Unavailable { action: "write", retry: true, source }
}

/// The whole loop under way.
pub(super) struct Running {
    pub(super) fake: Arc<Fake>,
    pub(super) lease: watch::Sender<Permits>,
    pub(super) hints: mpsc::Sender<ServiceKey>,
    pub(super) views: watch::Receiver<Arc<Snapshot>>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: CancellationToken,
    pub(super) ended: tokio::task::JoinHandle<Result<(), LeaseKeeperGone>>,
}

pub(super) fn start(fake: Arc<Fake>) -> Running {
    let reconciler = reconciler(&fake);
    let clock = Arc::clone(&reconciler.clock);
    let metrics = Arc::clone(&reconciler.metrics);
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
    Running { fake, lease, hints, views, heartbeat, clock, metrics, shutdown, ended }
}

impl Running {
    pub(super) fn grant(&self, epoch: u64) {
        self.grant_shards(ShardCount::ONE, &[(0, epoch)]);
    }
    pub(super) fn grant_shards(&self, shards: ShardCount, epochs: &[(u16, u64)]) {
        let permit = |epoch| Permit::new(epoch, Arc::new(AtomicU64::new(u64::MAX)), Arc::clone(&self.clock));
        let held = epochs.iter().map(|(shard, epoch)| (Shard(*shard), permit(*epoch))).collect();
        self.lease.send_replace(Permits { shards, held, ..Permits::default() });
    }
    pub(super) fn recalls(&self) -> usize {
        self.fake.log().iter().filter(|line| *line == "recall").count()
    }
}

pub(super) async fn secs(number: u64) {
    sleep(Span::from_secs(number).std()).await;
}
