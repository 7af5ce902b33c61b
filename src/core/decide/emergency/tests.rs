use super::*;
use crate::model::Revision;
use crate::model::facts::{Candidate, Identity, Progress, ReleaseKind};
use crate::model::observed::{Alarm, Extra, Service, ServiceStatus, Targets, TaskSet};
use crate::records::Group;

const A_SET: &str = "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/1";
const B_SET: &str = "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/2";

/// Stable in a, candidate in b with 10 % of `public` and 50 % of `internal`; the alarm of group b burns, twice.
pub(crate) struct Scene {
    pub(crate) facts: Facts,
    pub(crate) observed: Observed,
    before: Emergency,
}

fn percent(tenths: u16) -> Shares {
    Shares::giving(Group::B, Percent::from_tenths(tenths).unwrap())
}

fn set(arn: &str, group: Group) -> TaskSet {
    TaskSet {
        arn: arn.to_owned(),
        external_id: None,
        revision: Revision { family: "checkout".to_owned(), number: 41 },
        status: TaskSetStatus::Active,
        group: Some(group),
        scale: Percent::FULL,
        computed: 6,
        running: 6,
        pending: 0,
        steady: true,
    }
}

fn alarm(state: AlarmState) -> Seen<Alarm> {
    Seen::Known(Alarm { state, transitioned_at: None, range: Span::from_mins(3), needs_missing_data: false })
}

fn plan() -> Plan {
    let elb = "arn:aws:elasticloadbalancing:eu-central-1:111122223333";
    let ecs = "arn:aws:ecs:eu-central-1:111122223333";
    let rule = |number: u8| format!("{elb}:listener-rule/app/x/1/2/{number}");
    let spec = serde_json::from_value(serde_json::json!({
        "ecs": { "cluster": format!("{ecs}:cluster/prod"), "service": format!("{ecs}:service/prod/checkout") },
        "taskDefinitionFamily": "checkout",
        "container": { "name": "web", "port": 8080 },
        "targetGroups": { "a": format!("{elb}:targetgroup/a/1"), "b": format!("{elb}:targetgroup/b/2") },
        "routes": { "production": [
            { "name": "public", "rule": rule(3) }, { "name": "internal", "rule": rule(4) }
        ] },
        "taskSet": {},
        "alarms": [{ "name": "b-5xx", "watches": "b" }, { "name": "a-5xx", "watches": "a" }],
        "strategies": { "fast": { "allAtOnce": {} } },
        "defaultStrategy": "fast"
    }));
    Plan { spec: spec.unwrap(), strategy: "fast".to_owned(), steps: Vec::new() }
}

fn release() -> Release {
    let revision = |number| Revision { family: "checkout".to_owned(), number };
    Release {
        id: ReleaseId { generation: 42, attempt: 1 },
        kind: ReleaseKind::Ordinary,
        identity: Identity {
            task_definition: "checkout:43".to_owned(),
            strategy: None,
            request_id: None,
            spec_hash: String::new(),
            takes_back: None,
        },
        started_at: Timestamp::UNIX_EPOCH,
        stable: Some(Version {
            revision: revision(41),
            task_set: A_SET.to_owned(),
            external_id: "pm1/test/u1/41.1".to_owned(),
            group: Group::A,
            scale: Percent::FULL,
        }),
        before: BTreeMap::new(),
        candidate: Candidate {
            revision: revision(43),
            group: Group::B,
            external_id: "pm1/test/u1/43.1".to_owned(),
            token: String::new(),
            task_set: Some(B_SET.to_owned()),
            scale: Percent::FULL,
        },
        desired_at_start: 6,
        progress: Progress { gate_passed: true, exposed: true, ..Progress::default() },
        latch: None,
        promoted: BTreeSet::new(),
        break_glass: BTreeSet::new(),
        uncertain: false,
    }
}

impl Scene {
    pub(crate) fn burning() -> Self {
        let weights = [("public", percent(100)), ("internal", percent(500))];
        let routes = weights.map(|(name, shares)| (name.to_owned(), Seen::Known(Weights::Pair(shares))));
        let acknowledged = weights.map(|(name, shares)| (name.to_owned(), Acknowledged { shares, epoch: 7 }));
        let service = Service {
            status: ServiceStatus::Active,
            external: true,
            desired_count: 6,
            task_sets: vec![
                TaskSet { status: TaskSetStatus::Primary, ..set(A_SET, Group::A) },
                set(B_SET, Group::B),
            ],
        };
        let targets = Targets { healthy: 6, ..Targets::default() };
        Self {
            facts: Facts {
                plan: Some(plan()),
                release: Some(release()),
                acknowledged: acknowledged.into(),
                ..Facts::default()
            },
            observed: Observed {
                service: Seen::Known(service),
                routes: routes.into(),
                alarms: [("b-5xx", AlarmState::Alarm), ("a-5xx", AlarmState::Ok)]
                    .map(|(name, state)| (name.to_owned(), alarm(state)))
                    .into(),
                extra: Extra { targets: [(Group::A, Seen::Known(targets))].into(), ..Extra::default() },
            },
            before: Emergency { burning: ["b-5xx".to_owned()].into(), ..Emergency::default() },
        }
    }

    fn next(&self) -> Result<WayBack, Stays> {
        judge(&self.facts, &self.observed, &self.before).1
    }

    fn release(&mut self) -> &mut Release {
        self.facts.release.as_mut().unwrap()
    }

    fn stable(&mut self) -> &mut TaskSet {
        let Seen::Known(service) = &mut self.observed.service else { unreachable!("it was read") };
        &mut service.task_sets[0]
    }

    fn shows(&mut self, route: &str, weights: Seen<Weights>) {
        self.observed.routes.insert(route.to_owned(), weights);
    }
}

#[test]
fn the_route_with_the_most_weight_goes_back_first_then_the_others_each_once() {
    let mut scene = Scene::burning();
    let stable = Shares::giving(Group::A, Percent::FULL);
    for (route, left) in [("internal", 500), ("public", 100)] {
        let back = scene.next().unwrap();
        assert_eq!((back.route(), back.shares(), back.expect()), (route, stable, percent(left)));
        scene.before.done.insert(route.to_owned(), stable);
        // The weight that is seen may be older than the write.
        scene.shows(route, Seen::Known(Weights::Pair(stable)));
    }
    assert_eq!(scene.next(), Err(Stays::Done));
}

type Change = fn(&mut Scene);

#[expect(clippy::too_many_lines, reason = "one row for each condition")]
#[test]
fn each_condition_alone_keeps_traffic_where_it_is() {
    let moved = |route: &str| Stays::NotOurWeights(route.to_owned());
    let table: Vec<(&str, Change, Stays)> = vec![
        ("no release", |s| s.facts.release = None, Stays::NothingToTakeBack),
        ("no plan", |s| s.facts.plan = None, Stays::NothingToTakeBack),
        ("a first release", |s| s.release().stable = None, Stays::NothingToTakeBack),
        ("never exposed", |s| s.release().progress.exposed = false, Stays::NothingToTakeBack),
        ("ALARM for the first time", |s| s.before.burning.clear(), Stays::NoAlarmTwice),
        (
            "ALARM no longer",
            |s| drop(s.observed.alarms.insert("b-5xx".to_owned(), alarm(AlarmState::Ok))),
            Stays::NoAlarmTwice,
        ),
        (
            "the alarm cannot be read",
            |s| drop(s.observed.alarms.insert("b-5xx".to_owned(), Seen::Unknown("throttled".to_owned()))),
            Stays::NoAlarmTwice,
        ),
        (
            "an alarm on stable's group",
            |s| {
                s.observed.alarms.insert("b-5xx".to_owned(), alarm(AlarmState::Ok));
                s.observed.alarms.insert("a-5xx".to_owned(), alarm(AlarmState::Alarm));
                s.before.burning.insert("a-5xx".to_owned());
            },
            Stays::NoAlarmTwice,
        ),
        (
            "set aside by an operator",
            |s| s.release().break_glass = ["b-5xx".to_owned()].into(),
            Stays::NoAlarmTwice,
        ),
        (
            "the service cannot be read",
            |s| s.observed.service = Seen::Unknown("5xx".to_owned()),
            Stays::StableNotSound,
        ),
        ("stable is gone", |s| s.stable().arn.push('x'), Stays::StableNotSound),
        ("stable leaves", |s| s.stable().status = TaskSetStatus::Draining, Stays::StableNotSound),
        (
            "another owner completed the release, and may remove stable at any moment",
            |s| s.stable().status = TaskSetStatus::Active,
            Stays::StableNotSound,
        ),
        ("stable in another group", |s| s.stable().group = Some(Group::B), Stays::StableNotSound),
        (
            "stable was scaled down",
            |s| s.stable().scale = Percent::from_tenths(500).unwrap(),
            Stays::StableNotSound,
        ),
        ("a stable task is missing", |s| s.stable().running = 5, Stays::StableNotSound),
        (
            "stable runs nothing",
            |s| (s.stable().computed, s.stable().running) = (0, 0),
            Stays::StableNotSound,
        ),
        ("its targets are unread", |s| s.observed.extra.targets.clear(), Stays::StableNotSound),
        (
            "a target is not healthy",
            |s| {
                let targets = Targets { healthy: 5, unhealthy: 1, ..Targets::default() };
                s.observed.extra.targets.insert(Group::A, Seen::Known(targets));
            },
            Stays::StableNotSound,
        ),
        (
            "one route was moved",
            |s| s.shows("public", Seen::Known(Weights::Pair(percent(200)))),
            moved("public"),
        ),
        (
            "one route cannot be read",
            |s| s.shows("public", Seen::Unknown("throttled".to_owned())),
            moved("public"),
        ),
        (
            "one route forwards elsewhere",
            |s| s.shows("internal", Seen::Known(Weights::NotOurPair("redirect".to_owned()))),
            moved("internal"),
        ),
        (
            "tried too often",
            |s| s.before.tried = [("public".to_owned(), TRIES), ("internal".to_owned(), TRIES)].into(),
            Stays::Done,
        ),
        (
            "moved again after it was taken back",
            |s| {
                let stable = Shares::giving(Group::A, Percent::FULL);
                s.before.done = [("public".to_owned(), stable), ("internal".to_owned(), stable)].into();
            },
            moved("public"),
        ),
    ];
    for (what, change, stays) in table {
        let mut scene = Scene::burning();
        change(&mut scene);
        assert_eq!(scene.next(), Err(stays), "{what}");
    }
}

#[test]
fn a_route_that_gives_the_candidate_nothing_is_left_alone() {
    let mut scene = Scene::burning();
    for route in ["public", "internal"] {
        let written = Acknowledged { shares: percent(0), epoch: 7 };
        scene.facts.acknowledged.insert(route.to_owned(), written);
        scene.shows(route, Seen::Known(Weights::Pair(percent(0))));
    }
    assert_eq!(scene.next(), Err(Stays::Done));
}

#[test]
fn a_write_that_was_announced_and_may_have_landed_is_ours() {
    let mut scene = Scene::burning();
    let effect = Effect::SetWeights { route: "public".to_owned(), shares: percent(1000), expect: None };
    let outstanding = Outstanding { effect: effect.clone(), unknown: true, looked: 0 };
    scene.facts.outstanding.insert(effect.resource(), outstanding);
    scene.shows("public", Seen::Known(Weights::Pair(percent(1000))));
    assert_eq!(scene.next().unwrap().route(), "public");
}

#[test]
fn it_is_recorded_as_a_latch_that_names_it_and_as_acknowledged_writes() {
    let mut scene = Scene::burning();
    let stable = Shares::giving(Group::A, Percent::FULL);
    scene.before.done.insert("public".to_owned(), stable);
    scene.before.tried.insert("internal".to_owned(), 1);
    scene.before.because.insert("b-5xx".to_owned());
    assert_eq!(record(&scene.facts, &scene.before, 9, Timestamp::UNIX_EPOCH), None, "of no release");
    scene.before.release = Some(ReleaseId { generation: 42, attempt: 1 });
    let facts = record(&scene.facts, &scene.before, 9, Timestamp::UNIX_EPOCH).unwrap();
    let release = facts.release.as_ref().unwrap();
    let latch = release.latch.as_ref().unwrap();
    assert_eq!(latch.cause, LatchCause::Alarm);
    assert!(latch.detail.starts_with("EmergencyRollback: b-5xx"), "{}", latch.detail);
    assert_eq!(facts.acknowledged["public"], Acknowledged { shares: stable, epoch: 9 });
    assert_eq!(facts.acknowledged["internal"].shares, percent(500), "what was not written is not claimed");
    assert!(release.uncertain);
    let unanswered = &facts.outstanding[&Resource::Route("internal".to_owned())];
    assert!(unanswered.unknown, "it may still land");
    assert_eq!(facts.outstanding.len(), 1);
    assert_eq!(record(&Facts::default(), &scene.before, 9, Timestamp::UNIX_EPOCH), None);

    // A latch that stands keeps its cause.
    let mut latched = facts.clone();
    latched.release.as_mut().unwrap().latch.as_mut().unwrap().cause = LatchCause::Aborted;
    let again = record(&latched, &scene.before, 9, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(again.release.unwrap().latch.unwrap().cause, LatchCause::Aborted);
}

#[test]
fn why_traffic_stays_is_said_in_the_word_of_its_case() {
    let whys = [
        Stays::NothingToTakeBack,
        Stays::NoAlarmTwice,
        Stays::StableNotSound,
        Stays::NotOurWeights("public".to_owned()),
        Stays::Done,
    ];
    for why in whys {
        let case = format!("{why:?}");
        assert_eq!(why.name(), case.split('(').next().unwrap_or_default());
    }
}
