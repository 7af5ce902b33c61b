//! Hand-made situations, each with an honest decision, to be bent by a row of a table.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pointsman_core::decide::safety::{Property, violations};
use pointsman_core::decide::{Asked, Decision, Input, Limits, Next, Wait, WaitingOn};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{
    Acknowledged, Candidate, Cleanup, Ended, Identity, Latch, LatchCause, Outstanding, Progress, Release,
    ReleaseId, ReleaseKind, Stage, Version,
};
use pointsman_core::model::observed::{
    Alarm, AlarmState, Extra, ForwardAction, LoadBalancer, Service, ServiceStatus, TaskSet, TaskSetStatus,
};
use pointsman_core::model::{Action, Effect, Facts, Observed, Plan, Revision, Seen};
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::{Pause, Step};
use pointsman_core::records::{Group, Percent, Span};

/// The task set that serves, and the candidate's.
pub const SET_A: &str = "task-set/a";
pub const SET_B: &str = "task-set/b";
pub const ID_A: &str = "pm1/test/u/1.1";
pub const ID_B: &str = "pm1/test/u/2.1";
pub const GROUP_A: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/a/1";
pub const GROUP_B: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/b/2";
pub const PUBLIC: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener-rule/app/x/1/2/3";
pub const PREVIEW: &str = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener-rule/app/x/1/2/4";
pub const SERVICE: &str = "arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout";
/// The bake of the 10 % step; that of the last one is 30 s.
pub const BAKE: Span = Span::from_secs(20);
/// Propagation and quiet together.
pub const QUIET: Span = Span::from_secs(8);
pub const QUIET_AFTER_UNKNOWN: Span = Span::from_secs(60);
/// How long the candidate is held on the test route.
pub const HOLD: Span = Span::from_secs(4);
pub const WATCHED: Span = Span::from_secs(2);
pub const MOMENT: Span = Span::from_millis(1);
pub const EPOCH: u64 = 7;

/// What the second opinion is asked: a situation and a decision in it.
pub struct Scene {
    pub observed: Observed,
    pub before: Facts,
    pub after: Facts,
    pub next: Next,
    pub ended: Vec<Ended>,
}

/// What is wrong, the situation, what is bent in it, and the one objection; none: the decision is honest.
pub type Row = (&'static str, fn() -> Scene, fn(&mut Scene), Option<(Property, &'static str)>);

/// Nothing is objected to.
pub const FINE: Option<(Property, &str)> = None;

/// Asks for exactly the objection of each row.
pub fn ask(rows: &[Row]) {
    let mut wrong = Vec::new();
    for (what, scene, bend, objection) in rows {
        let mut scene = scene();
        bend(&mut scene);
        let found = scene.objections();
        let told: Vec<&str> = found.iter().map(|(_, detail)| detail.as_str()).collect();
        let right = match objection {
            None => found.is_empty(),
            Some((property, words)) => {
                matches!(&found[..], [it] if it.0 == *property && it.1.contains(words))
            }
        };
        if !right {
            wrong.push(format!("{what}: {objection:?}, and it said {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub fn all_to(group: Group) -> Shares {
    Shares::giving(group, Percent::FULL)
}

pub fn tenths(of_b: u16) -> Shares {
    Shares::giving(Group::B, Percent::from_tenths(of_b).unwrap())
}

pub fn weights(route: &str, shares: Shares) -> Effect {
    Effect::SetWeights { route: route.to_owned(), shares, expect: None }
}

pub fn alarm(state: AlarmState) -> Seen<Alarm> {
    Seen::Known(Alarm { state, transitioned_at: None, range: Span::from_mins(3), needs_missing_data: false })
}

pub fn unread<T>() -> Seen<T> {
    Seen::Unknown("throttled".to_owned())
}

pub fn revision(number: u32) -> Revision {
    Revision { family: "checkout".to_owned(), number }
}

pub fn version(task_set: &str, external_id: &str, group: Group, number: u32) -> Version {
    Version {
        revision: revision(number),
        task_set: task_set.to_owned(),
        external_id: external_id.to_owned(),
        group,
        scale: Percent::FULL,
    }
}

pub fn set(arn: &str, external_id: &str, group: Group) -> TaskSet {
    TaskSet {
        arn: arn.to_owned(),
        external_id: Some(external_id.to_owned()),
        revision: revision(1),
        status: TaskSetStatus::Active,
        group: Some(group),
        scale: Percent::FULL,
        computed: 4,
        running: 4,
        pending: 0,
        steady: true,
    }
}

pub fn identity(number: u32) -> Identity {
    let task_definition = format!("checkout:{number}");
    Identity {
        task_definition,
        strategy: None,
        request_id: None,
        spec_hash: format!("sha256:{number}"),
        takes_back: None,
    }
}

pub fn ended(generation: u64, outcome: Outcome) -> Ended {
    Ended {
        release: ReleaseId { generation, attempt: 1 },
        identity: identity(2),
        outcome,
        reason: String::new(),
        message: String::new(),
        strategy: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
        at: Timestamp::UNIX_EPOCH,
    }
}

pub fn latch() -> Latch {
    Latch {
        cause: LatchCause::Aborted,
        detail: "aborted by mara".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        tried: BTreeMap::new(),
        elapsed: Span::ZERO,
    }
}

pub fn cleanup(task_set: Option<&str>, external_id: &str) -> Cleanup {
    Cleanup {
        task_set: task_set.map(str::to_owned),
        external_id: external_id.to_owned(),
        group: Group::B,
        uncertain: false,
        quiet: QUIET,
        zero_reads: 2,
        deleted: false,
        elapsed: Span::ZERO,
    }
}

pub fn waits(on: WaitingOn, left: Option<Span>, deadline: Option<Span>) -> Next {
    Next::Wait(Wait { on, poll: WATCHED, left, deadline, needs: BTreeSet::new() })
}

fn spec() -> ManagedServiceSpec {
    let spec = serde_json::from_value(serde_json::json!({
        "ecs": {"cluster": "arn:aws:ecs:eu-central-1:111122223333:cluster/prod", "service": SERVICE},
        "taskDefinitionFamily": "checkout",
        "container": {"name": "web", "port": 8080},
        "targetGroups": {"a": GROUP_A, "b": GROUP_B},
        "routes": {"production": [{"name": "public", "rule": PUBLIC}], "test": {"name": "preview", "rule": PREVIEW}},
        "taskSet": {},
        "alarms": [{"name": "a-5xx", "watches": "a"}, {"name": "b-5xx", "watches": "b"},
                   {"name": "latency", "watches": "service"}],
        "strategies": {"fast": {"allAtOnce": {}}},
        "defaultStrategy": "fast",
        "testHold": "4s", "bake": "30s", "retention": "40s",
        "waits": {"propagation": "4s", "quiet": "4s", "quietAfterUnknown": "60s"}
    }));
    spec.unwrap()
}

fn plan() -> Plan {
    let mut plan = Plan::observing(&spec());
    let canary = Percent::from_tenths(100).unwrap();
    let pause = Pause {
        timeout: Span::from_mins(60),
        on_timeout: pointsman_core::records::strategy::OnTimeout::Rollback,
    };
    plan.steps.insert(0, Step::Shift { weight: canary, scale: Percent::FULL, bake: BAKE });
    plan.steps.insert(1, Step::Pause(pause));
    plan
}

fn release() -> Release {
    Release {
        id: ReleaseId { generation: 2, attempt: 1 },
        kind: ReleaseKind::Ordinary,
        identity: identity(2),
        started_at: Timestamp::UNIX_EPOCH,
        stable: Some(version(SET_A, ID_A, Group::A, 1)),
        before: BTreeMap::from([
            ("public".to_owned(), all_to(Group::A)),
            ("preview".to_owned(), all_to(Group::A)),
        ]),
        candidate: Candidate {
            revision: revision(2),
            group: Group::B,
            external_id: ID_B.to_owned(),
            token: "token".to_owned(),
            task_set: Some(SET_B.to_owned()),
            scale: Percent::FULL,
        },
        desired_at_start: 4,
        progress: Progress {
            targets_healthy: true,
            test_shifted: true,
            held: HOLD,
            gate_passed: true,
            shifted: true,
            exposed: true,
            stage: Stage::Baking,
            ..Progress::default()
        },
        latch: None,
        promoted: BTreeSet::new(),
        break_glass: BTreeSet::new(),
        uncertain: false,
    }
}

fn facts() -> Facts {
    let written = |shares| Acknowledged { shares, epoch: EPOCH };
    Facts {
        uid: "u".to_owned(),
        generation: 2,
        attempt: 1,
        asked: Some(identity(2)),
        release: Some(release()),
        plan: Some(plan()),
        stable: Some(version(SET_A, ID_A, Group::A, 1)),
        claims: [SERVICE, GROUP_A, GROUP_B, PUBLIC, PREVIEW].map(str::to_owned).into(),
        acknowledged: BTreeMap::from([
            ("public".to_owned(), written(tenths(100))),
            ("preview".to_owned(), written(all_to(Group::B))),
        ]),
        epoch: EPOCH,
        ..Facts::default()
    }
}

fn observed() -> Observed {
    let primary = TaskSet { status: TaskSetStatus::Primary, ..set(SET_A, ID_A, Group::A) };
    let service = Service {
        status: ServiceStatus::Active,
        external: true,
        desired_count: 4,
        task_sets: vec![primary, set(SET_B, ID_B, Group::B)],
    };
    let alarms = ["a-5xx", "b-5xx", "latency"].map(|name| (name.to_owned(), alarm(AlarmState::Ok)));
    let extra = Extra { load_balancer: Some(Seen::Known(load_balancer(100, 0))), ..Extra::default() };
    Observed { service: Seen::Known(service), routes: BTreeMap::new(), alarms: alarms.into(), extra }
}

/// Two rules: one with these weights on our groups, one that forwards elsewhere.
pub fn load_balancer(a: u32, b: u32) -> LoadBalancer {
    let rule = |owner: &str, groups| ForwardAction {
        owner: owner.to_owned(),
        load_balancer: "edge".to_owned(),
        groups,
        sticky: None,
        unknown_action: None,
        oidc: false,
    };
    let ours = rule(PUBLIC, vec![(GROUP_A.to_owned(), a), (GROUP_B.to_owned(), b)]);
    let theirs = rule("another", vec![("somebody's".to_owned(), 1)]);
    LoadBalancer { of_groups: BTreeMap::new(), actions: vec![ours, theirs] }
}

impl Scene {
    /// A release in its first step, of 10 %, that has baked for some of its time.
    pub fn baking() -> Self {
        let (before, after) = (facts(), facts());
        let bake = WaitingOn::Bake { weight: Percent::from_tenths(100).unwrap() };
        let next = waits(bake, Some(BAKE), None);
        let mut scene = Self { observed: observed(), before, after, next, ended: Vec::new() };
        scene.was().progress.baked = Span::from_secs(5);
        scene.becomes().progress.baked = Span::from_secs(7);
        scene
    }

    /// The first step is baked, and the next one begins.
    pub fn stepping() -> Self {
        let mut scene = Self::baking();
        scene.was().progress.baked = BAKE;
        scene.becomes().progress = Progress { step: 1, baked: Span::ZERO, ..scene.was().progress.clone() };
        scene.next = Next::Again;
        scene
    }

    /// The last step gives the candidate everything.
    pub fn shifting() -> Self {
        let mut scene = Self::baking();
        scene.both(|facts| {
            let progress = &mut facts.release.as_mut().unwrap().progress;
            (progress.step, progress.shifted, progress.baked) = (2, false, Span::ZERO);
        });
        scene.announce(weights("public", all_to(Group::B)));
        scene
    }

    /// The candidate has been held on the test route for long enough, and passes its gate.
    pub fn at_the_gate() -> Self {
        let mut scene = Self::baking();
        scene.both(|facts| {
            facts.acknowledged.remove("public");
            let progress = &mut facts.release.as_mut().unwrap().progress;
            (progress.baked, progress.shifted, progress.exposed) = (Span::ZERO, false, false);
            progress.stage = Stage::Preparing;
        });
        scene.was().progress.gate_passed = false;
        scene.next = Next::Again;
        scene
    }

    /// Everything is baked, and the release succeeds.
    pub fn succeeding() -> Self {
        let mut scene = Self::baking();
        scene.was().progress.step = 3;
        scene.after.release = None;
        scene.after.stable = Some(version(SET_B, ID_B, Group::B, 2));
        scene.ended.push(ended(2, Outcome::Succeeded));
        scene.next = Next::Again;
        scene
    }

    /// A latched release writes its traffic back.
    pub fn going_back() -> Self {
        let mut scene = Self::baking();
        scene.each_release(|release| release.latch = Some(latch()));
        scene.announce(weights("public", all_to(Group::A)));
        scene
    }

    /// A release of the first version, in group a, while the traffic lies on b, where nothing is.
    pub fn first() -> Self {
        let mut scene = Self::baking();
        scene.both(|facts| facts.stable = None);
        scene.each_release(|release| {
            release.kind = ReleaseKind::First;
            release.stable = None;
            release.candidate.group = Group::A;
        });
        scene
    }

    /// The candidate's task set is asked for.
    pub fn creating() -> Self {
        let mut scene = Self::at_the_gate();
        scene.each_release(|release| {
            release.candidate.task_set = None;
            release.progress = Progress::default();
        });
        scene.sets().pop();
        scene.announce(Effect::CreateTaskSet {
            group: Group::B,
            revision: revision(2),
            scale: Percent::FULL,
            external_id: ID_B.to_owned(),
            token: "token".to_owned(),
        });
        scene
    }

    /// A candidate that went back leaves, and its time has come.
    pub fn removing() -> Self {
        let mut scene = Self::baking();
        scene.both(|facts| {
            facts.release = None;
            facts.tombstones = vec![SET_B.to_owned()];
            facts.cleanups = vec![cleanup(Some(SET_B), ID_B)];
            facts.acknowledged.values_mut().for_each(|write| write.shares = all_to(Group::A));
        });
        scene.announce(Effect::DeleteTaskSet { task_set: SET_B.to_owned(), external_id: ID_B.to_owned() });
        scene
    }

    /// The release before the decision.
    pub fn was(&mut self) -> &mut Release {
        self.before.release.as_mut().unwrap()
    }

    /// The release after it.
    pub fn becomes(&mut self) -> &mut Release {
        self.after.release.as_mut().unwrap()
    }

    /// Bends the facts before the decision and after it alike.
    pub fn both(&mut self, bend: fn(&mut Facts)) {
        bend(&mut self.before);
        bend(&mut self.after);
    }

    /// As `both`, of the release.
    pub fn each_release(&mut self, bend: fn(&mut Release)) {
        bend(self.was());
        bend(self.becomes());
    }

    /// As `both`, of the one clean-up.
    pub fn each_cleanup(&mut self, bend: fn(&mut Cleanup)) {
        bend(&mut self.before.cleanups[0]);
        bend(&mut self.after.cleanups[0]);
    }

    pub fn each_plan(&mut self, bend: fn(&mut Plan)) {
        bend(self.before.plan.as_mut().unwrap());
        bend(self.after.plan.as_mut().unwrap());
    }

    /// The task sets that are seen.
    pub fn sets(&mut self) -> &mut Vec<TaskSet> {
        let Seen::Known(service) = &mut self.observed.service else { unreachable!("it is read") };
        &mut service.task_sets
    }

    pub fn sees(&mut self, name: &str, state: AlarmState) {
        self.observed.alarms.insert(name.to_owned(), alarm(state));
    }

    /// An operator set this alarm aside before the decision.
    pub fn sets_aside(&mut self, name: &str) {
        for facts in [&mut self.before, &mut self.after] {
            facts.release.as_mut().unwrap().break_glass.insert(name.to_owned());
        }
    }

    pub fn unclaim(&mut self, arn: &str) {
        self.after.claims.remove(arn);
    }

    /// The decision asks for this effect, and announces it.
    pub fn announce(&mut self, effect: Effect) {
        self.after.outstanding.clear();
        let entry = Outstanding { effect: effect.clone(), unknown: false, looked: 0 };
        self.after.outstanding.insert(effect.resource(), entry);
        self.next = Next::Act(Action { effect, rollback: false });
    }

    /// An effect of which nobody knows what became of it, before the decision and after it.
    pub fn lose(&mut self, effect: &Effect) {
        for facts in [&mut self.before, &mut self.after] {
            let entry = Outstanding { effect: effect.clone(), unknown: true, looked: 0 };
            facts.outstanding.insert(effect.resource(), entry);
        }
    }

    /// As `lose`; and the decision forgets it.
    pub fn lose_and_forget(&mut self, effect: &Effect) {
        self.lose(effect);
        self.after.outstanding.clear();
    }

    /// What is objected to, in order.
    fn objections(&self) -> Vec<(Property, String)> {
        let (service, desired) = (Asked::Absent, Asked::Absent);
        let key = "payments/checkout".parse().unwrap();
        let limits = Limits { installation: "test".to_owned(), poll: WATCHED, idle_poll: WATCHED };
        let input = Input {
            key: &key,
            now: Timestamp::UNIX_EPOCH,
            watched: WATCHED,
            epoch: EPOCH,
            limits: &limits,
            service: &service,
            desired: &desired,
            commands: &[],
            observed: &self.observed,
            facts: &self.before,
            fresh_uid: "u",
            claim_denied: None,
        };
        let decision = Decision {
            facts: self.after.clone(),
            next: self.next.clone(),
            claim: BTreeSet::new(),
            unclaim: BTreeSet::new(),
            ended: self.ended.clone(),
        };
        violations(&input, &decision).into_iter().map(|it| (it.property, it.detail)).collect()
    }
}
