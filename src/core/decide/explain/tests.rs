use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::*;
use crate::decide::{Limits, Wait, WaitingOn};
use crate::model::effect::{Effect, RefusalClass};
use crate::model::facts::*;
use crate::model::observed::{Alarm, Extra, Service, ServiceStatus};
use crate::model::{Action, Observed};
use crate::records::check::{Refusal, RefusalCode};
use crate::records::{DesiredReleaseSpec, Percent, ServiceKey};

const A_SET: &str = "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/1";
const B_SET: &str = "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/2";

/// One service in the middle of a release, at 10 % and baking; each test changes what it is about.
struct Scene {
    key: ServiceKey,
    limits: Limits,
    service: Asked<ManagedServiceSpec>,
    desired: Asked<DesiredReleaseSpec>,
    observed: Observed,
    facts: Facts,
    next: Next,
    previous: Option<ReleaseStatus>,
}

fn now() -> Timestamp {
    "2026-11-21T10:06:41Z".parse().unwrap()
}

fn service_spec() -> ManagedServiceSpec {
    let elb = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    serde_json::from_value(serde_json::json!({
        "ecs": {
            "cluster": "arn:aws:ecs:eu-central-1:111122223333:cluster/prod",
            "service": "arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout"
        },
        "taskDefinitionFamily": "checkout",
        "container": {"name": "web", "port": 8080},
        "targetGroups": {"a": format!("{elb}:targetgroup/a/1"), "b": format!("{elb}:targetgroup/b/2")},
        "routes": {
            "production": [{"name": "public", "rule": format!("{elb}:listener-rule/app/x/1/2/3")}],
            "test": {"name": "preview", "rule": format!("{elb}:listener-rule/app/x/1/2/4")}
        },
        "taskSet": {"launchType": "FARGATE"},
        "alarms": [
            {"name": "checkout-b-5xx", "watches": "b"},
            {"name": "checkout-a-5xx", "watches": "a"},
            {"name": "checkout-p99", "watches": "service"}
        ],
        "strategies": {"fast": {"steps": [
            {"weight": 10, "bake": "5m"},
            {"pause": {"timeout": "2h"}},
            {"weight": 50, "scale": 100, "bake": "5m"}
        ]}},
        "defaultStrategy": "fast",
        "testHold": "2m"
    }))
    .unwrap()
}

fn version(number: u32, group: Group, arn: &str) -> Version {
    Version {
        revision: Revision { family: "checkout".to_owned(), number },
        task_set: arn.to_owned(),
        external_id: format!("pm1/test/u1/{number}.1"),
        group,
        scale: Percent::FULL,
    }
}

fn set(version: &Version, running: u32, status: TaskSetStatus) -> TaskSet {
    TaskSet {
        arn: version.task_set.clone(),
        external_id: Some(version.external_id.clone()),
        revision: version.revision.clone(),
        status,
        group: Some(version.group),
        scale: version.scale,
        computed: 6,
        running,
        pending: 6 - running,
        steady: running == 6,
    }
}

fn alarm(state: AlarmState) -> Seen<Alarm> {
    Seen::Known(Alarm { state, transitioned_at: None, range: Span::from_mins(3), needs_missing_data: false })
}

fn ten_percent() -> Shares {
    Shares::giving(Group::B, Percent::from_tenths(100).unwrap())
}

impl Scene {
    fn baking() -> Self {
        let (stable, candidate) = (version(41, Group::A, A_SET), version(43, Group::B, B_SET));
        let spec = service_spec();
        let wish = DesiredReleaseSpec {
            task_definition: "checkout:43".to_owned(),
            strategy: None,
            request_id: Some("gha-1".to_owned()),
        };
        let (plan, _) = Plan::resolve(&spec, &wish).unwrap();
        let all_b = Shares::giving(Group::B, Percent::FULL);
        let routes = [("public", ten_percent()), ("preview", all_b)];
        let observed = Observed {
            service: Seen::Known(Service {
                status: ServiceStatus::Active,
                external: true,
                desired_count: 6,
                task_sets: vec![
                    set(&stable, 6, TaskSetStatus::Primary),
                    set(&candidate, 6, TaskSetStatus::Active),
                ],
            }),
            routes: routes
                .iter()
                .map(|(name, at)| ((*name).to_owned(), Seen::Known(Weights::Pair(*at))))
                .collect(),
            alarms: ["checkout-b-5xx", "checkout-a-5xx", "checkout-p99"]
                .map(|name| (name.to_owned(), alarm(AlarmState::Ok)))
                .into(),
            extra: Extra::default(),
        };
        let identity = Identity {
            task_definition: "checkout:43".to_owned(),
            strategy: None,
            request_id: Some("gha-1".to_owned()),
            spec_hash: "sha256:6c1f".to_owned(),
        };
        let facts = Facts {
            uid: "u1".to_owned(),
            generation: 42,
            attempt: 1,
            asked: Some(identity.clone()),
            plan: Some(plan),
            stable: Some(stable.clone()),
            release: Some(release(identity, stable, &candidate)),
            acknowledged: routes
                .iter()
                .map(|(name, shares)| ((*name).to_owned(), Acknowledged { shares: *shares, epoch: 7 }))
                .collect(),
            epoch: 7,
            ..Facts::default()
        };
        let on = WaitingOn::Bake { weight: Percent::from_tenths(100).unwrap() };
        let mut scene = Self {
            key: "payments/checkout".parse().unwrap(),
            limits: Limits {
                installation: "test".to_owned(),
                poll: Span::from_secs(2),
                idle_poll: Span::from_secs(30),
            },
            service: Asked::Valid { spec, hash: "sha256:aa07".to_owned() },
            desired: Asked::Valid { spec: wish, hash: "sha256:6c1f".to_owned() },
            observed,
            facts,
            next: Next::Settled,
            previous: None,
        };
        scene.waits(on, Some(Span::from_millis(99_980)), None);
        scene
    }

    /// Nothing in flight: checkout:43 serves in b, checkout:41 may be kept in a.
    fn idle(retained: bool) -> Self {
        let mut scene = Self::baking();
        let release = scene.facts.release.take().unwrap();
        scene.facts.stable = release.candidate.version();
        let kept =
            Retained { version: release.stable.clone().unwrap(), kept: Span::from_mins(3), uncertain: false };
        scene.facts.retained = retained.then_some(kept);
        scene.ended(Outcome::Succeeded, "Baked", "100 %, baked, PRIMARY");
        scene.next = Next::Settled;
        scene.write("public", Shares::giving(Group::B, Percent::FULL));
        scene
    }

    fn ended(&mut self, outcome: Outcome, reason: &str, message: &str) {
        self.facts.last = Some(Ended {
            release: ReleaseId { generation: 42, attempt: 1 },
            identity: self.facts.asked.clone().unwrap(),
            outcome,
            reason: reason.to_owned(),
            message: message.to_owned(),
            strategy: "fast".to_owned(),
            started_at: now(),
            at: now(),
        });
    }

    fn write(&mut self, route: &str, shares: Shares) {
        self.facts.acknowledged.insert(route.to_owned(), Acknowledged { shares, epoch: 7 });
        self.observed.routes.insert(route.to_owned(), Seen::Known(Weights::Pair(shares)));
    }

    fn waits(&mut self, on: WaitingOn, left: Option<Span>, deadline: Option<Span>) {
        self.next = Next::Wait(Wait { on, poll: Span::from_secs(2), left, deadline, needs: BTreeSet::new() });
    }

    fn progress(&mut self) -> &mut Progress {
        &mut self.facts.release.as_mut().unwrap().progress
    }

    fn latch(&mut self, elapsed: Span) {
        self.facts.release.as_mut().unwrap().latch = Some(Latch {
            cause: LatchCause::Alarm,
            detail: "checkout-b-5xx".to_owned(),
            at: now(),
            tried: BTreeMap::new(),
            elapsed,
        });
    }

    fn status(&self) -> ReleaseStatus {
        let input = Input {
            key: &self.key,
            now: now(),
            watched: Span::ZERO,
            epoch: 7,
            limits: &self.limits,
            service: &self.service,
            desired: &self.desired,
            commands: &[],
            observed: &self.observed,
            facts: &self.facts,
            fresh_uid: "u1",
            claim_denied: None,
        };
        let decision = Decision {
            facts: self.facts.clone(),
            next: self.next.clone(),
            claim: BTreeSet::new(),
            unclaim: BTreeSet::new(),
            ended: Vec::new(),
        };
        status(&input, &decision, self.previous.as_ref())
    }

    /// `message | then | otherwise` of what is waited for.
    fn told(&self) -> String {
        let waiting = self.status().status.waiting_on.expect("it waits");
        let otherwise = waiting.otherwise.map_or_else(String::new, |text| format!("\n  else: {text}"));
        format!("{}: {}\n  then: {}{otherwise}", waiting.reason, waiting.message, waiting.then)
    }

    fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let found = self.status().status.conditions.into_iter().find(|condition| condition.kind == kind)?;
        Some((found.status, found.reason, found.message.unwrap_or_default()))
    }

    fn says(&self, kind: &str) -> String {
        let (status, reason, message) = self.condition(kind).expect("the condition is there");
        format!("{status} {reason} {message}").trim_end().to_owned()
    }
}

fn release(identity: Identity, stable: Version, candidate: &Version) -> Release {
    Release {
        id: ReleaseId { generation: 42, attempt: 1 },
        kind: ReleaseKind::Ordinary,
        identity,
        started_at: now(),
        before: BTreeMap::from([("public".to_owned(), Shares::giving(Group::A, Percent::FULL))]),
        stable: Some(stable),
        candidate: Candidate {
            revision: candidate.revision.clone(),
            group: Group::B,
            external_id: candidate.external_id.clone(),
            token: "T".to_owned(),
            task_set: Some(candidate.task_set.clone()),
            scale: Percent::from_tenths(100).unwrap(),
        },
        desired_at_start: 6,
        progress: Progress {
            targets_healthy: true,
            test_shifted: true,
            gate_passed: true,
            shifted: true,
            baked: Span::from_millis(200_020),
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

#[test]
fn a_bake_says_how_long_it_lasts_what_watches_it_and_what_follows() {
    let scene = Scene::baking();
    insta::assert_snapshot!(scene.told(), @r"
    Bake: baking 10 % on checkout:43; 1m40s of 5m left while its 2 armed alarms are OK
      then: pause for a promotion
    ");
    let status = scene.status().status;
    assert_eq!(status.phase, Phase::Baking);
    assert_eq!(status.waiting_on.unwrap().until.to_string(), "2026-11-21T10:08:20.98Z");
    let step = status.release.unwrap().step.unwrap();
    assert_eq!((step.index, step.of, step.bake), (1, 4, Span::from_mins(5)));
}

#[test]
fn every_wait_before_the_gate_says_what_follows_and_what_happens_otherwise() {
    let (fifteen, hold) = (Span::from_mins(15), Span::from_secs(45));
    let mut told = String::new();
    let mut tell = |scene: &Scene| told.push_str(&(scene.told() + "\n"));

    let mut preparing = Scene::baking();
    *preparing.progress() = Progress::default();
    for on in [
        WaitingOn::TaskSetSteady { running: 0, desired: 0, last_stop: None },
        WaitingOn::TaskSetSteady { running: 2, desired: 6, last_stop: Some("exit code 1".to_owned()) },
        WaitingOn::TargetsHealthy {
            healthy: 4,
            wanted: 6,
            reason: Some("Target.ResponseCodeMismatch".to_owned()),
        },
    ] {
        preparing.waits(on, None, Some(fifteen));
        tell(&preparing);
    }
    preparing.progress().targets_healthy = true;
    preparing.waits(WaitingOn::TestHold, Some(hold), Some(fifteen));
    tell(&preparing);
    insta::assert_snapshot!(told, @r"
    TaskSetSteady: the task set of checkout:43 is made; waiting for its first tasks
      then: check that every target is healthy
      else: the release fails; production traffic was never touched
    TaskSetSteady: 2 of 6 tasks of checkout:43 run; the last one stopped: exit code 1
      then: check that every target is healthy
      else: the release fails; production traffic was never touched
    TargetsHealthy: 4 of 6 targets of checkout:43 are healthy; the first other one: Target.ResponseCodeMismatch
      then: put test route preview on it
      else: the release fails; production traffic was never touched
    TestHold: checkout:43 is held on test route preview; 45s left while its 2 armed alarms are OK
      then: shift to 10 %
      else: the release fails; production traffic was never touched
    ");
}

#[test]
fn every_wait_in_a_step_says_what_with_figures_what_follows_and_what_happens_otherwise() {
    let half = Percent::from_tenths(500).unwrap();
    let (fifteen, left) = (Span::from_mins(15), Span::from_secs(45));
    let mut told = String::new();
    let mut tell = |scene: &Scene| told.push_str(&(scene.told() + "\n"));

    let mut shifting = Scene::baking();
    shifting.progress().step = 2;
    shifting.progress().stage = Stage::Shifting;
    let moved = Seen::Known(Weights::Pair(Shares { a: 50, b: 50 }));
    shifting.observed.routes.insert("public".to_owned(), moved);
    for on in [
        WaitingOn::Capacity { weight: half, running: 1, wanted: 3 },
        WaitingOn::StableSteady,
        WaitingOn::DesiredCountFell { now: 4, at_start: 6 },
        WaitingOn::Evidence { alarm: "checkout-p99".to_owned(), state: "INSUFFICIENT_DATA".to_owned() },
        WaitingOn::ForeignWeights { route: "public".to_owned() },
        WaitingOn::Propagation { weight: half },
        WaitingOn::Effect {
            resource: Resource::Route("public".to_owned()),
            class: Some(RefusalClass::Denied),
            message: "not authorized to perform ModifyRule".to_owned(),
        },
        WaitingOn::Observation { what: "route public: throttled".to_owned() },
    ] {
        shifting.waits(on, Some(left), Some(fifteen));
        tell(&shifting);
    }
    insta::assert_snapshot!(told, @r"
    Capacity: 1 of the 3 tasks run that checkout:43 needs to take 50 %
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    StableSteady: checkout:41 is starting or replacing tasks and needs its full strength first
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    DesiredCountFell: desiredCount fell from 6 to 4 during the release, below 80 % of its start, so no step goes forward; raise it again, and suspend scale-in during releases
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    Evidence: alarm checkout-p99 is INSUFFICIENT_DATA: no step of checkout:43 goes forward without evidence
      then: go on where it was, once the alarm has an answer
      else: all traffic goes back to checkout:41
    ForeignWeights: route public shows a 50 % / b 50 %, but a 90 % / b 10 % was written last; looking again before believing it
      then: go on where it was
      else: all traffic goes back to checkout:41
    Propagation: 50 % written to every route for checkout:43; 45s until the load balancer has it everywhere
      then: bake for 5m
      else: all traffic goes back to checkout:41
    Effect: the last change of the weights of route public was denied: not authorized to perform ModifyRule; give the daemon's role that permission (deploy/ has the policy); it keeps trying
      then: go on where it was
      else: all traffic goes back to checkout:41
    Observation: cannot see route public: throttled; nothing moves on a guess, so it is read again
      then: go on where it was
      else: all traffic goes back to checkout:41
    ");
}

#[test]
fn what_waits_outside_of_a_release_says_the_command_or_the_place_to_look() {
    let mut told = String::new();
    let mut tell = |scene: &Scene| told.push_str(&(scene.told() + "\n"));

    let mut pending = Scene::idle(false);
    pending.facts.pending = Some(Pending::default());
    for on in [
        WaitingOn::AlarmBeforeStart { alarm: "checkout-p99".to_owned() },
        WaitingOn::GroupBusy { group: Group::A },
        WaitingOn::ServiceScaledToZero,
    ] {
        pending.waits(on, None, Some(Span::from_mins(15)));
        tell(&pending);
    }

    let mut idle = Scene::idle(true);
    idle.waits(WaitingOn::Retention, Some(Span::from_mins(12)), Some(Span::from_mins(12)));
    tell(&idle);
    for on in [
        WaitingOn::Quiet { group: Group::A },
        WaitingOn::GroupAtZero { owner: "listener-rule/app/x/1/2/9".to_owned() },
        WaitingOn::Gone { group: Group::A },
    ] {
        idle.waits(on, None, Some(Span::from_mins(50)));
        tell(&idle);
    }
    idle.waits(
        WaitingOn::Record { detail: "there is no ManagedService of this name".to_owned() },
        None,
        None,
    );
    tell(&idle);
    insta::assert_snapshot!(told, @r"
    AlarmBeforeStart: alarm checkout-p99 is in ALARM, so checkout-42.1 does not start; mend it, or set it aside with `pointsman break-glass payments/checkout --release checkout-42.1`
      then: start checkout-42.1
      else: checkout-42.1 is refused; nothing was touched
    GroupBusy: target group a must be empty first: it still has targets or a task set that leaves
      then: start checkout-42.1
      else: checkout-42.1 is refused; nothing was touched
    ServiceScaledToZero: the ECS service has desiredCount 0, and a release would have no tasks to judge
      then: start checkout-42.1
      else: checkout-42.1 is refused; nothing was touched
    Retention: checkout:41 is kept running; 12m left; to return to it: `pointsman rollback payments/checkout --release checkout-42.1`
      then: remove checkout:41; from then on a return needs a release of its own
    Quiet: target group a stays at weight 0 until nothing can still be on its way to it
      then: check every rule of the load balancer twice, then delete the task set
      else: condition CleanupStuck; it is tried on and on
    GroupAtZero: a task set cannot be removed: its target group is still in use by listener-rule/app/x/1/2/9; take its weight away there
      then: delete the task set once nothing sends traffic there
      else: condition CleanupStuck; it is tried on and on
    Gone: the task set of target group a is being deleted: tasks stop and targets drain
      then: nothing; everything is as it should be
      else: condition CleanupStuck; it is tried on and on
    Record: waiting for a record: there is no ManagedService of this name
      then: judge the request
    ");
}

#[test]
fn a_pause_shows_the_command_that_ends_it_and_what_its_time_out_does() {
    let mut scene = Scene::baking();
    scene.progress().step = 1;
    scene.progress().stage = Stage::Pausing;
    scene.waits(WaitingOn::Pause { step: 2 }, Some(Span::from_mins(90)), Some(Span::from_mins(90)));
    insta::assert_snapshot!(scene.told(), @r"
    Pause: paused before going on with checkout:43; to go on, within 1h30m: `pointsman promote payments/checkout --release checkout-42.1 --step 2`
      then: scale to 100 %, then shift to 50 %
      else: all traffic goes back to checkout:41
    ");
    assert_eq!(scene.status().status.phase, Phase::Paused);
}

#[test]
fn the_last_bake_is_followed_by_primary_and_success() {
    let mut scene = Scene::baking();
    scene.progress().step = 3;
    scene.waits(WaitingOn::Bake { weight: Percent::FULL }, Some(Span::from_mins(14)), None);
    insta::assert_snapshot!(scene.told(), @r"
    Bake: baking 100 % on checkout:43; 14m of 15m left while its 2 armed alarms are OK
      then: make checkout:43 PRIMARY; then the release has succeeded
    ");
}

#[test]
fn an_effect_under_way_is_named() {
    let mut scene = Scene::baking();
    let effect = Effect::SetWeights { route: "public".to_owned(), shares: ten_percent(), expect: None };
    scene.next = Next::Act(Action { effect, rollback: false });
    insta::assert_snapshot!(scene.told(), @r"
    Acting: asking AWS to set route public to a 90 % / b 10 %
      then: look again and verify it
    ");
}

#[test]
fn a_look_in_between_keeps_the_last_wait_of_the_same_step_only() {
    let mut scene = Scene::baking();
    scene.previous = Some(scene.status());
    scene.next = Next::Again;
    assert_eq!(scene.status().status.waiting_on.unwrap().reason, "Bake");
    scene.progress().step = 2;
    scene.progress().shifted = false;
    insta::assert_snapshot!(scene.told(), @r"
    Deciding: the last wait is over; looking again before the next move
      then: scale to 100 %, then shift to 50 %
    ");
}

#[test]
fn a_bake_without_an_armed_alarm_admits_it() {
    let mut scene = Scene::baking();
    scene.facts.plan.as_mut().unwrap().spec.alarms.retain(|alarm| alarm.name == "checkout-a-5xx");
    assert!(scene.told().contains("left while no alarm is armed"), "{}", scene.told());
}

#[test]
fn the_ordinary_conditions_of_a_bake() {
    let scene = Scene::baking();
    let told: Vec<String> = scene
        .status()
        .status
        .conditions
        .iter()
        .map(|condition| format!("{}={} {}", condition.kind, condition.status, condition.reason))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    Accepted=True Valid
    Progressing=True Baking
    RollbackArmed=True StableRunning
    InSync=True WeightsVerified
    CleanedUp=True NothingLeft
    PrimaryCurrent=True StableIsPrimary
    ");
}

#[test]
fn a_condition_keeps_its_instant_until_its_status_changes() {
    let mut scene = Scene::baking();
    let mut before = scene.status();
    for condition in &mut before.status.conditions {
        condition.last_transition_time = "2026-11-21T09:00:00Z".parse().unwrap();
    }
    scene.previous = Some(before);
    scene.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Pair(Shares { a: 1, b: 0 })));
    let after = scene.status().status.conditions;
    let at = |kind: &str| {
        let found = after.iter().find(|condition| condition.kind == kind).unwrap();
        (found.status.as_str(), found.last_transition_time.to_string())
    };
    assert_eq!(at("Accepted"), ("True", "2026-11-21T09:00:00Z".to_owned()));
    assert_eq!(at("InSync"), ("False", now().to_string()));
}

#[test]
fn a_refused_record_says_so_while_the_release_goes_on() {
    let mut scene = Scene::baking();
    let refusal = Refusal {
        code: RefusalCode::Malformed,
        field: "spec.taskDefinition".to_owned(),
        value: "\"checkout\u{1b}[31m\"".to_owned(),
        allowed: "family:revision".to_owned(),
        fix: "name a revision".to_owned(),
    };
    scene.desired = Asked::Invalid { refusal, hash: "sha256:0".to_owned() };
    insta::assert_snapshot!(scene.says("Accepted"), @r#"False Malformed spec.taskDefinition is "checkout\u{1b}[31m"; allowed: family:revision; name a revision; the release in flight goes on by its pinned plan"#);
    assert_eq!(scene.status().status.phase, Phase::Baking);
}

#[test]
fn a_refused_request_is_the_phase_until_something_else_is_asked_for() {
    let mut scene = Scene::idle(false);
    scene.ended(Outcome::Refused, "Sticky", "spec.routes (public) is group stickiness of 1h");
    assert_eq!(scene.status().status.phase, Phase::Refused);
    assert_eq!(scene.says("Accepted"), "False Sticky spec.routes (public) is group stickiness of 1h");
    scene.facts.pending = Some(Pending::default());
    scene.facts.attempt = 2;
    assert_eq!(scene.status().status.phase, Phase::Pending);
    assert_eq!(scene.says("Accepted"), "True Valid");
}

#[test]
fn a_rollback_that_takes_longer_than_a_minute_is_stuck_and_says_where_and_why() {
    let mut scene = Scene::baking();
    scene.latch(Span::from_secs(59));
    scene.waits(WaitingOn::RollbackVerify, None, None);
    assert_eq!(scene.condition("RollbackStuck"), None);
    insta::assert_snapshot!(scene.told(), @r"
    RollbackVerify: 100 % was written back to checkout:41; verifying public at 10 % on a fresh read
      then: tell the outcome, then remove the task set that went back
    ");
    scene.latch(Span::from_millis(60_400));
    scene.facts.trouble = Some(Trouble {
        resource: Resource::Route("public".to_owned()),
        class: Some(RefusalClass::Throttled),
        message: "Rate exceeded".to_owned(),
        fresh: false,
    });
    insta::assert_snapshot!(scene.says("RollbackStuck"), @"True Throttled traffic has been on its way back to checkout:41 for 1m1s; routes: public at 10 %; the last write was throttled: Rate exceeded; it is sent again");
    assert_eq!(scene.status().status.phase, Phase::RollingBack);
    assert_eq!(scene.status().status.release.unwrap().latched.unwrap().cause, "Alarm");
}

#[test]
fn a_dead_stable_version_disarms_the_way_back_and_halts_it() {
    let mut scene = Scene::baking();
    if let Seen::Known(service) = &mut scene.observed.service {
        service.task_sets[0].running = 0;
    }
    insta::assert_snapshot!(scene.says("RollbackArmed"), @"False StableGone checkout:41 has no running task, so no traffic can go back to it");
    scene.latch(Span::ZERO);
    scene.next = Next::Halted(Halt {
        reason: HaltReason::NoRollbackTarget,
        detail: "stable checkout:41 has no running task; weights stay where they are".to_owned(),
    });
    insta::assert_snapshot!(scene.told(), @r"
    Halted: halted (NoRollbackTarget): stable checkout:41 has no running task; weights stay where they are; the daemon goes on as soon as that changes
      then: write 100 % back to checkout:41 as soon as it has a running task
    ");
    assert_eq!(scene.status().status.phase, Phase::Halted);
}

#[test]
fn what_cannot_be_read_is_unknown_and_shows_what_was_read_last() {
    let mut scene = Scene::baking();
    scene.previous = Some(scene.status());
    scene.observed.service = Seen::Unknown("throttled".to_owned());
    scene.observed.routes.insert("public".to_owned(), Seen::Unknown("throttled".to_owned()));
    assert_eq!(scene.says("RollbackArmed"), "Unknown NotReadable the ECS service cannot be read: throttled");
    assert_eq!(scene.says("InSync"), "Unknown NotReadable cannot read route public (throttled)");
    let public = scene.status().status.traffic.remove(0);
    assert_eq!((public.b.tenths(), public.verified), (100, false));
}

#[test]
fn drift_names_what_is_there_and_what_should_be() {
    let mut scene = Scene::idle(false);
    let moved = Seen::Known(Weights::Pair(Shares { a: 20, b: 80 }));
    scene.observed.routes.insert("public".to_owned(), moved);
    insta::assert_snapshot!(scene.says("InSync"), @"False WeightsDiffer route public shows a 20 % / b 80 % instead of a 0 % / b 100 %");
    let gone = Seen::Known(Weights::NotOurPair("a redirect".to_owned()));
    scene.observed.routes.insert("public".to_owned(), gone);
    assert_eq!(scene.says("InSync"), "False WeightsDiffer route public: a redirect");
    assert!(scene.status().status.traffic.iter().all(|route| route.route != "public"));
}

#[test]
fn a_write_without_an_answer_is_not_verified() {
    let mut scene = Scene::baking();
    let effect = Effect::SetWeights { route: "public".to_owned(), shares: ten_percent(), expect: None };
    let lost = Outstanding { effect, unknown: true, looked: 0 };
    scene.facts.outstanding.insert(Resource::Route("public".to_owned()), lost);
    assert_eq!(scene.says("InSync"), "False WriteOutstanding a weight write is not acknowledged yet: public");
    assert!(!scene.status().status.traffic[0].verified);
}

#[test]
fn alarms_that_burn_are_listed_first_and_at_most_ten() {
    let mut scene = Scene::baking();
    let template = scene.facts.plan.as_ref().unwrap().spec.alarms[2].clone();
    let alarms = &mut scene.facts.plan.as_mut().unwrap().spec.alarms;
    for number in 0..20 {
        let name = format!("more-{number}");
        alarms.push(crate::records::managed_service::AlarmRef { name: name.clone(), ..template.clone() });
        let state = if number == 17 { AlarmState::Alarm } else { AlarmState::Ok };
        scene.observed.alarms.insert(name, alarm(state));
    }
    scene.observed.alarms.remove("checkout-p99");
    let listed = scene.status().status.alarms;
    assert_eq!(listed.len(), 10);
    assert_eq!((listed[0].name.as_str(), listed[0].state.as_str()), ("more-17", "ALARM"));
    assert_eq!((listed[1].name.as_str(), listed[1].state.as_str()), ("checkout-p99", "UNREADABLE"));
    assert!(listed.iter().all(|alarm| alarm.armed), "the one on stable's group comes last");
}

#[test]
fn edits_in_flight_are_named_as_counting_later() {
    let mut scene = Scene::baking();
    assert_eq!(scene.condition("PlanPinned"), None);
    let edit = |scene: &mut Scene, change: fn(&mut ManagedServiceSpec)| {
        let mut spec = service_spec();
        change(&mut spec);
        scene.service = Asked::Valid { spec, hash: "sha256:new".to_owned() };
    };
    edit(&mut scene, |spec| spec.suspend = true);
    assert_eq!(scene.condition("PlanPinned"), None, "suspend acts at once");
    assert_eq!(scene.status().status.phase, Phase::Suspended);
    edit(&mut scene, |spec| spec.bake = Span::from_mins(1));
    insta::assert_snapshot!(scene.says("PlanPinned"), @"True EditedInFlight the ManagedService was edited during checkout-42.1; the edit counts from the next release, only suspend and releaseMayChoose act at once");
    edit(&mut scene, |spec| {
        spec.strategies.remove("fast");
    });
    assert!(scene.condition("PlanPinned").is_some(), "the steps of its strategy are others now");
}

#[test]
fn an_edited_template_without_a_new_revision_is_outdated() {
    let mut scene = Scene::idle(false);
    assert_eq!(scene.condition("TemplateOutdated"), None);
    let mut spec = service_spec();
    spec.task_set.platform_version = Some("1.4.0".to_owned());
    scene.service = Asked::Valid { spec, hash: "sha256:new".to_owned() };
    insta::assert_snapshot!(scene.says("TemplateOutdated"), @"True TemplateEdited spec.taskSet was edited after checkout:43 was released; it runs by the old template until the next release (a new requestId on the same revision does not change it: release a new revision)");
}

#[test]
fn an_alarm_that_goes_silent_when_all_is_well_comes_with_the_command_that_mends_it() {
    let mut scene = Scene::baking();
    if let Some(Seen::Known(alarm)) = scene.observed.alarms.get_mut("checkout-b-5xx") {
        alarm.needs_missing_data = true;
    }
    insta::assert_snapshot!(scene.says("AlarmNeedsMissingData"), @r#"True SilentWhenWell alarm checkout-b-5xx gets no data while nothing fails and then says INSUFFICIENT_DATA, which holds releases up; make missing data count as fine: aws cloudwatch describe-alarms --alarm-names 'checkout-b-5xx' --query 'MetricAlarms[0]' | jq 'del(.AlarmArn,.AlarmConfigurationUpdatedTimestamp,.StateValue,.StateReason,.StateReasonData,.StateUpdatedTimestamp,.StateTransitionedTimestamp,.EvaluationState) | .TreatMissingData="notBreaching"' > alarm.json && aws cloudwatch put-metric-alarm --cli-input-json file://alarm.json"#);
}

#[test]
fn a_stuck_clean_up_says_what_blocks_it() {
    let mut scene = Scene::idle(false);
    scene.facts.cleanups.push(Cleanup {
        task_set: Some(A_SET.to_owned()),
        external_id: "pm1/test/u1/41.1".to_owned(),
        group: Group::A,
        uncertain: false,
        quiet: Span::ZERO,
        zero_reads: 0,
        deleted: false,
        elapsed: Span::from_mins(59),
    });
    scene.waits(
        WaitingOn::GroupAtZero { owner: "listener-rule/9".to_owned() },
        None,
        Some(Span::from_mins(1)),
    );
    assert_eq!(scene.says("CleanedUp"), "False Removing ecs-svc/1 leaves target group a");
    assert_eq!(scene.status().status.phase, Phase::CleaningUp);
    scene.facts.cleanups[0].elapsed = Span::from_mins(60);
    insta::assert_snapshot!(scene.says("CleanedUp"), @"False CleanupStuck ecs-svc/1 should have left target group a within 1h; a task set cannot be removed: its target group is still in use by listener-rule/9; take its weight away there");
}

#[test]
fn a_first_release_says_that_there_is_no_way_back() {
    let mut scene = Scene::baking();
    scene.facts.stable = None;
    let release = scene.facts.release.as_mut().unwrap();
    (release.kind, release.stable) = (ReleaseKind::First, None);
    assert!(scene.says("RollbackArmed").starts_with("False FirstRelease"));
    let on = WaitingOn::Evidence { alarm: "checkout-p99".to_owned(), state: "MISSING".to_owned() };
    scene.waits(on, None, Some(Span::from_mins(9)));
    insta::assert_snapshot!(scene.told(), @r"
    Evidence: alarm checkout-p99 is MISSING: no step of checkout:43 goes forward without evidence
      then: go on where it was, once the alarm has an answer
      else: the release fails and stays in place: there is no earlier version
    ");
}

#[test]
fn texts_of_others_cannot_touch_a_terminal() {
    assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
    assert_eq!(plain(&"x".repeat(600)).chars().count(), 513);
    let mut scene = Scene::baking();
    scene.facts.answers.push(CommandAnswer {
        id: "01J".to_owned(),
        verb: crate::records::Verb::Abort,
        by: Some("\u{7}eve".to_owned()),
        done: true,
        reason: "going back".to_owned(),
        at: now(),
    });
    let answer = scene.status().status.commands.remove(0);
    assert_eq!((answer.by.as_deref(), answer.verdict.as_str()), (Some("\\u{7}eve"), "Done"));
}

#[test]
fn a_return_to_the_kept_version_is_told_by_the_version_that_serves() {
    let mut scene = Scene::idle(false);
    scene.facts.stable = Some(version(41, Group::A, A_SET));
    assert_eq!(scene.status().status.last_outcome.unwrap().revision, "checkout:41");
}
