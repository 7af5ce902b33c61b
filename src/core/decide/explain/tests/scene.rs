//! A service as a pass meets it, to be bent by each test.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::*;
use crate::decide::{Limits, Wait, WaitingOn, Wish};
use crate::model::Observed;
use crate::model::facts::*;
use crate::model::observed::{Alarm, Extra, Service, ServiceStatus};
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::{DesiredReleaseSpec, Percent, ServiceKey};

pub const A_SET: &str = "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/1";
pub const B_SET: &str = "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/2";

/// One service in the middle of a release, at 10 % and baking; each test changes what it is about.
pub struct Scene {
    pub key: ServiceKey,
    pub limits: Limits,
    pub service: Asked<ManagedServiceSpec>,
    pub desired: Asked<DesiredReleaseSpec>,
    pub commands: Vec<Wish>,
    pub observed: Observed,
    pub facts: Facts,
    pub next: Next,
    pub previous: Option<ReleaseStatus>,
}

pub fn now() -> Timestamp {
    "2026-11-21T10:06:41Z".parse().unwrap()
}

pub fn service_spec() -> ManagedServiceSpec {
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

pub fn version_of(number: u32, group: Group, arn: &str) -> Version {
    Version {
        revision: Revision { family: "checkout".to_owned(), number },
        task_set: arn.to_owned(),
        external_id: format!("pm1/test/u1/{number}.1"),
        group,
        scale: Percent::FULL,
    }
}

pub fn set(version: &Version, running: u32, status: TaskSetStatus) -> TaskSet {
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

pub fn alarm(state: AlarmState) -> Seen<Alarm> {
    Seen::Known(Alarm { state, transitioned_at: None, range: Span::from_mins(3), needs_missing_data: false })
}

pub fn ten_percent() -> Shares {
    Shares::giving(Group::B, Percent::from_tenths(100).unwrap())
}

impl Scene {
    pub fn baking() -> Self {
        let (stable, candidate) = (version_of(41, Group::A, A_SET), version_of(43, Group::B, B_SET));
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
            takes_back: None,
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
            commands: Vec::new(),
            observed,
            facts,
            next: Next::Settled,
            previous: None,
        };
        scene.waits(on, Some(Span::from_millis(99_980)), None);
        scene
    }

    /// Nothing in flight: checkout:43 serves in b, checkout:41 may be kept in a.
    pub fn idle(retained: bool) -> Self {
        let mut scene = Self::baking();
        let release = scene.facts.release.take().unwrap();
        scene.facts.stable = release.candidate.version();
        let kept = Retained {
            version: release.stable.clone().unwrap(),
            kept: Span::from_mins(3),
            uncertain: false,
            release: Some(release.id),
        };
        scene.facts.retained = retained.then_some(kept);
        scene.ended(Outcome::Succeeded, "Baked", "100 %, baked, PRIMARY");
        scene.next = Next::Settled;
        scene.write("public", Shares::giving(Group::B, Percent::FULL));
        scene
    }

    pub fn ended(&mut self, outcome: Outcome, reason: &str, message: &str) {
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

    pub fn write(&mut self, route: &str, shares: Shares) {
        self.facts.acknowledged.insert(route.to_owned(), Acknowledged { shares, epoch: 7 });
        self.observed.routes.insert(route.to_owned(), Seen::Known(Weights::Pair(shares)));
    }

    pub fn waits(&mut self, on: WaitingOn, left: Option<Span>, deadline: Option<Span>) {
        self.next = Next::Wait(Wait { on, poll: Span::from_secs(2), left, deadline, needs: BTreeSet::new() });
    }

    pub fn progress(&mut self) -> &mut Progress {
        &mut self.facts.release.as_mut().unwrap().progress
    }

    pub fn latch(&mut self, elapsed: Span) {
        self.facts.release.as_mut().unwrap().latch = Some(Latch {
            cause: LatchCause::Alarm,
            detail: "checkout-b-5xx".to_owned(),
            at: now(),
            tried: BTreeMap::new(),
            elapsed,
        });
    }

    pub fn status(&self) -> ReleaseStatus {
        let input = Input {
            key: &self.key,
            now: now(),
            watched: Span::ZERO,
            epoch: 7,
            limits: &self.limits,
            service: &self.service,
            desired: &self.desired,
            commands: &self.commands,
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
    pub fn told(&self) -> String {
        let waiting = self.status().status.waiting_on.expect("it waits");
        let otherwise = waiting.otherwise.map_or_else(String::new, |text| format!("\n  else: {text}"));
        format!("{}: {}\n  then: {}{otherwise}", waiting.reason, waiting.message, waiting.then)
    }

    pub fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let found = self.status().status.conditions.into_iter().find(|condition| condition.kind == kind)?;
        Some((found.status, found.reason, found.message.unwrap_or_default()))
    }

    pub fn says(&self, kind: &str) -> String {
        let (status, reason, message) = self.condition(kind).expect("the condition is there");
        format!("{status} {reason} {message}").trim_end().to_owned()
    }
}

pub fn release(identity: Identity, stable: Version, candidate: &Version) -> Release {
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
