use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::effect::{Effect, Resource, Shares};
use crate::model::facts::*;
use crate::model::{Plan, RefusalClass, Revision};
use crate::records::command::{All, PromoteStep, Verb};
use crate::records::status::Outcome;
use crate::records::strategy::{OnTimeout, Pause, Step};
use crate::records::{Group, Percent, Span};
use crate::store::convert::to_json;
use crate::store::lenient;

/// Texts as long as AWS and `check` allow.
pub(in crate::store) struct Longest {
    pub(in crate::store) alarms: usize,
    pub(in crate::store) alarm_name: usize,
}

fn arn(resource: &str, index: usize) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:{resource}/{:0<96}/{index:016x}", "app")
}

fn plan(size: &Longest) -> Plan {
    let alarm = |index: usize| {
        let name = format!("{index:03}{}", "n".repeat(size.alarm_name - 3));
        serde_json::json!({"name": name, "watches": "service", "noData": "hold"})
    };
    let route = |index: usize| {
        let name = format!("{index}{}", "r".repeat(62));
        serde_json::json!({"name": name, "rule": arn("listener-rule", index)})
    };
    let spec = serde_json::json!({
        "ecs": {"cluster": "arn:aws:ecs:eu-central-1:111122223333:cluster/prod",
                "service": "arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout"},
        "taskDefinitionFamily": "f".repeat(255),
        "container": {"name": "app", "port": 8080},
        "targetGroups": {"a": arn("targetgroup", 1), "b": arn("targetgroup", 2)},
        "routes": {"production": (0..8).map(route).collect::<Vec<_>>(), "test": route(9)},
        "taskSet": {"network": {"subnets": vec!["subnet-0123456789abcdef0"; 16],
                                "securityGroups": vec!["sg-0123456789abcdef0"; 5]},
                    "tags": (0..40).map(|i| (format!("tag-{i}"), "v".repeat(64))).collect::<BTreeMap<_, _>>()},
        "alarms": (0..size.alarms).map(alarm).collect::<Vec<_>>(),
        "defaultStrategy": "fast"
    });
    let shift = |index: u16| Step::Shift {
        weight: Percent::from_tenths(index * 33 + 1).unwrap(),
        scale: Percent::FULL,
        bake: Span::from_mins(15),
    };
    let mut steps: Vec<Step> = (0..29).map(shift).collect();
    steps.push(Step::Pause(Pause { timeout: Span::from_mins(1440), on_timeout: OnTimeout::Continue }));
    Plan { spec: serde_json::from_value(spec).unwrap(), strategy: "s".repeat(63), steps }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_260_000 + second).unwrap()
}

/// Facts with every list full and every option taken.
#[expect(clippy::too_many_lines, reason = "one value of every field, in their order")]
pub(in crate::store) fn full(size: &Longest) -> Facts {
    let plan = plan(size);
    let revision = Revision { family: "f".repeat(255), number: 4_294_967_295 };
    let task_set =
        format!("arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/{}", "ecs-svc/0123456789");
    let external_id = "pm1/production-eu/01JD6Z6H1W0000000000000000/4294967295.99".to_owned();
    let version = Version {
        revision: revision.clone(),
        task_set: task_set.clone(),
        external_id: external_id.clone(),
        group: Group::A,
        scale: Percent::from_tenths(5).unwrap(),
    };
    let identity = Identity {
        task_definition: "t".repeat(512),
        strategy: Some("s".repeat(63)),
        request_id: Some("r".repeat(64)),
        spec_hash: format!("sha256:{}", "0".repeat(64)),
        // A return has no strategy and no request id instead.
        takes_back: None,
    };
    let id = ReleaseId { generation: 4_294_967_295, attempt: 99 };
    let shares = Shares { a: 999, b: 1 };
    let routes: Vec<String> = plan.routes().map(|route| route.name.clone()).collect();
    let weights = |route: &String| Effect::SetWeights { route: route.clone(), shares, expect: Some(shares) };
    let outstanding = |effect| Outstanding { effect, unknown: true, looked: 2 };
    let create = Effect::CreateTaskSet {
        group: Group::B,
        revision: revision.clone(),
        scale: Percent::FULL,
        external_id: external_id.clone(),
        token: "T".repeat(32),
    };
    let mut all_outstanding: BTreeMap<_, _> =
        routes.iter().map(|route| (Resource::Route(route.clone()), outstanding(weights(route)))).collect();
    all_outstanding.insert(Resource::NewTaskSet(external_id.clone()), outstanding(create));
    all_outstanding.insert(
        Resource::TaskSet(task_set.clone()),
        outstanding(Effect::SetPrimary { task_set: task_set.clone() }),
    );
    all_outstanding.insert(Resource::Primary, outstanding(Effect::SetPrimary { task_set: task_set.clone() }));
    Facts {
        uid: "01JD6Z6H1W0000000000000000".to_owned(),
        generation: u64::MAX,
        attempt: 99,
        asked: Some(identity.clone()),
        pending: Some(Pending {
            waited: Span::from_millis(1),
            return_to_retained: true,
            identity: Some(identity.clone()),
            break_glass: plan.spec.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
            doubt: None,
        }),
        trouble: Some(Trouble {
            resource: Resource::Primary,
            class: Some(RefusalClass::Throttled),
            message: "t".repeat(300),
            fresh: true,
        }),
        release: Some(Release {
            id,
            kind: ReleaseKind::Ordinary,
            identity: identity.clone(),
            started_at: at(0),
            stable: Some(version.clone()),
            before: routes.iter().map(|route| (route.clone(), shares)).collect(),
            candidate: Candidate {
                revision: revision.clone(),
                group: Group::B,
                external_id: external_id.clone(),
                token: "T".repeat(32),
                task_set: Some(task_set.clone()),
                scale: Percent::FULL,
            },
            desired_at_start: 5000,
            progress: Progress {
                stage: Stage::GoingBack,
                baked: Span::from_millis(899_001),
                ..Progress::default()
            },
            latch: Some(Latch {
                cause: LatchCause::Alarm,
                detail: "d".repeat(512),
                at: at(1),
                tried: routes.iter().map(|route| (route.clone(), u32::MAX)).collect(),
                elapsed: Span::from_secs(1),
            }),
            promoted: (1..=30).map(PromoteStep::Step).chain([PromoteStep::All(All::All)]).collect(),
            break_glass: plan.spec.alarms.iter().map(|alarm| alarm.name.clone()).collect(),
            uncertain: true,
        }),
        stable: Some(version.clone()),
        retained: Some(Retained {
            version: version.clone(),
            kept: Span::from_mins(2),
            uncertain: false,
            release: None,
        }),
        cleanups: vec![
            Cleanup {
                task_set: Some(task_set.clone()),
                external_id,
                group: Group::B,
                uncertain: true,
                quiet: Span::from_secs(2),
                zero_reads: 1,
                deleted: false,
                elapsed: Span::from_mins(4),
            };
            2
        ],
        claims: (0..12).map(|index| arn("listener-rule", index)).collect(),
        outstanding: all_outstanding,
        acknowledged: routes
            .iter()
            .map(|route| (route.clone(), Acknowledged { shares, epoch: u64::MAX }))
            .collect(),
        tombstones: vec![task_set; KEPT],
        quarantined: vec![
            Quarantined {
                revision,
                release: id,
                request_id: Some("r".repeat(64)),
                cause: LatchCause::Deadline,
                at: at(3),
            };
            KEPT
        ],
        commands_done: vec!["01JD6ZC9T3M9T0T2H8S4V0Q7RB".to_owned(); COMMANDS_KEPT],
        commands_through: "01JD6ZC9T3M9T0T2H8S4V0Q7RB".to_owned(),
        answers: vec![
            CommandAnswer {
                id: "01JD6ZC9T3M9T0T2H8S4V0Q7RB".to_owned(),
                verb: Verb::BreakGlass,
                by: Some("b".repeat(512)),
                done: false,
                reason: "r".repeat(512),
                at: at(4),
            };
            KEPT
        ],
        alarm_marks: plan.spec.alarms.iter().map(|alarm| (alarm.name.clone(), at(5))).collect(),
        drift: Drift {
            repairs: 6,
            routes: routes.iter().cloned().collect(),
            repairing: Some("public".to_owned()),
            window: Span::from_mins(59),
            outage_reads: 1,
            idle_reads: 1,
        },
        lost: Lost { reads: u8::MAX, restarting: Some(Span::from_mins(15)) },
        halted: Some(Halt { reason: HaltReason::DriftFight, detail: "d".repeat(512) }),
        follows: true,
        absent: routes
            .iter()
            .map(|route| (route.clone(), Absent { reads: u8::MAX, watched: Span::from_mins(15) }))
            .collect(),
        late: routes
            .iter()
            .cycle()
            .take(KEPT)
            .map(|route| LateWrite { route: route.clone(), shares, age: Span::from_mins(15), landed: true })
            .collect(),
        overtaken: Some(Span::from_mins(15)),
        last: Some(Ended {
            release: id,
            identity,
            outcome: Outcome::RolledBack,
            reason: "Alarm".to_owned(),
            message: "m".repeat(512),
            strategy: "s".repeat(63),
            started_at: at(6),
            at: at(7),
        }),
        plan: Some(plan),
        epoch: 7,
    }
}

/// The state item as the first write of these facts makes it, at the revision after `rev`.
pub(in crate::store) fn item_of(service: &ServiceKey, facts: &Facts, rev: u64) -> Item {
    let write = StateWrite::of(0, facts.clone(), bare_status());
    let update = StateUpdate::new(service, &write, 1, "id").unwrap();
    let mut item = update.key;
    for (name, attribute) in &update.names {
        if let Some(value) = update.values.get(&name.replace('#', ":")) {
            item.insert(attribute.clone(), value.clone());
        }
    }
    item.insert("rev".to_owned(), n(rev + 1));
    item
}

fn bare_status() -> crate::records::ReleaseStatus {
    serde_json::from_value(serde_json::json!({"apiVersion": "pointsman/v1", "kind": "ReleaseStatus",
        "metadata": {"namespace": "a", "name": "b", "uid": "u"},
        "status": {"observedGeneration": 0, "observed": {}, "phase": "Settled", "release": null, "traffic": [],
            "taskSets": [], "alarms": [], "waitingOn": null, "conditions": [], "lastOutcome": null,
            "quarantined": [], "retained": null, "commands": []}}))
    .unwrap()
}

fn there_and_back(facts: &Facts) -> Facts {
    let value = to_value(facts).expect("facts are plain data");
    lenient::from_json(to_json(&value)).expect("what was written can be read")
}

#[test]
fn facts_with_every_field_taken_survive_the_way_through_an_item() {
    let facts = full(&Longest { alarms: 100, alarm_name: 255 });
    assert_eq!(there_and_back(&facts), facts);
    assert_eq!(there_and_back(&Facts::default()), Facts::default());
    // And through JSON, where the way through an item begins.
    let json = serde_json::to_value(&facts).unwrap();
    assert_eq!(serde_json::from_value::<Facts>(json).unwrap(), facts);
}

proptest! {
    #[test]
    fn any_weights_scales_spans_and_resources_survive_the_way_through_an_item(
        tenths in 0u16..=1000,
        millis in 0u64..31_000_000_000,
        a in 0u32..=999,
        b in 0u32..=999,
        name in "\\PC{1,40}",
        nanos in 0i32..1_000_000_000,
        step in 1..=u16::MAX,
    ) {
        let mut facts = full(&Longest { alarms: 3, alarm_name: 20 });
        let shares = Shares { a, b };
        let release = facts.release.as_mut().unwrap();
        release.candidate.scale = Percent::from_tenths(tenths).unwrap();
        release.progress.baked = Span::from_millis(millis);
        release.before.insert(name.clone(), shares);
        release.promoted.insert(PromoteStep::Step(step));
        facts.alarm_marks.insert(name.clone(), Timestamp::new(1_795_260_000, nanos).unwrap());
        let effect = Effect::SetWeights { route: name.clone(), shares, expect: None };
        let lost = Outstanding { effect, unknown: true, looked: 0 };
        facts.outstanding.insert(Resource::Route(name), lost);
        prop_assert_eq!(there_and_back(&facts), facts);
    }
}

#[test]
fn a_plan_with_a_newer_daemons_field_is_read_without_it() {
    let facts = full(&Longest { alarms: 3, alarm_name: 20 });
    let mut json = serde_json::to_value(&facts).unwrap();
    json["plan"]["spec"]["canaryAnalysis"] = serde_json::json!({"query": "x"});
    json["plan"]["spec"]["routes"]["production"][0]["mirror"] = serde_json::json!(true);
    json["novelty"] = serde_json::json!([1]);
    assert_eq!(lenient::from_json::<Facts>(json).unwrap(), facts);
}

/// What a state item's facts take, in KiB, rounded up.
fn facts_kib(size: &Longest) -> usize {
    convert::size(&to_fields(&full(size)).unwrap()).div_ceil(1024)
}

/// The bound of 32 KiB (`semantics` 1.8) holds for ordinary services in flight. It cannot hold for every
/// record that `check` allows: 100 alarm names of 255 characters alone are three times 25 KB (plan, marks,
/// break glass). `DynamoDB`'s own limit of 400 KB is far away, and status adds at most some 40 KB.
#[test]
fn a_state_item_stays_far_below_400_kb_and_an_ordinary_one_below_32_kib() {
    assert!(facts_kib(&Longest { alarms: 100, alarm_name: 255 }) <= 160);
    assert!(facts_kib(&Longest { alarms: 100, alarm_name: 60 }) <= 74);
    let mut ordinary = full(&Longest { alarms: 10, alarm_name: 60 });
    ordinary.answers.truncate(1);
    // An operator's return waits, and a lost version is counted, only while nothing is in flight.
    ordinary.pending.as_mut().unwrap().identity = None;
    ordinary.lost = Lost::default();
    // What is kept warm goes, or comes back, before a release begins.
    ordinary.retained = None;
    ordinary.outstanding.clear();
    ordinary.absent.clear();
    let bytes = convert::size(&to_fields(&ordinary).unwrap());
    assert!(bytes <= 32 * 1024, "{bytes}");
}

fn ended(message: String) -> HistoryItem {
    HistoryItem {
        generation: 41,
        attempt: 1,
        release: "checkout-41.1".to_owned(),
        outcome: Outcome::Refused,
        reason: "Malformed".to_owned(),
        message,
        revision: "checkout:41".to_owned(),
        strategy: "fast".to_owned(),
        request_id: None,
        spec_hash: "sha256:41".to_owned(),
        takes_back: None,
        started_at: at(0),
        ended_at: at(60),
    }
}

#[test]
fn a_history_item_is_cut_to_its_bound_at_a_characters_edge_and_expires_after_180_days() {
    let service = "payments/checkout".parse().unwrap();
    let item = history_item(&service, &ended("ä".repeat(20_000))).unwrap();
    let size = convert::size(&item);
    assert!((HISTORY_BYTES - 8..=HISTORY_BYTES).contains(&size), "{size}");
    assert!(text(&item, "message").unwrap().ends_with("ä…"));
    assert_eq!(text(&item, "sk"), Some("000000041.01"));
    let days = (count(&item, "expireAt").unwrap() - u64::try_from(at(60).as_second()).unwrap()) / 86_400;
    assert_eq!(days, 180);
    let short = history_item(&service, &ended("as written".to_owned())).unwrap();
    assert_eq!(text(&short, "message"), Some("as written"));
}

fn reason(code: &str, item: Option<Item>) -> CancellationReason {
    CancellationReason::builder().code(code).message(code).set_item(item).build()
}

fn cancelled(claims: &[&str], reasons: &[CancellationReason]) -> Attempt {
    let write = StateWrite {
        rev: 3,
        facts: Facts::default(),
        status: bare_status(),
        claim: claims.iter().map(|arn| (*arn).to_owned()).collect(),
        unclaim: BTreeSet::from(["arn:gone".to_owned()]),
        ended: vec![],
    };
    cancelled_for(reasons, &write, "mine")
}

#[test]
fn a_cancelled_transaction_is_understood_by_its_worst_reason() {
    let none = || reason("None", None);
    let failed = |item| reason("ConditionalCheckFailed", Some(item));
    let state = |id: &str| Item::from([("writeId".to_owned(), s(id))]);
    let owner = || Item::from([("owner".to_owned(), s("other/service"))]);

    // Losing the race counts before a claim that is taken: read again first.
    let both = cancelled(&["arn:x"], &[failed(state("theirs")), failed(owner()), none()]);
    assert!(matches!(both, Attempt::Conflict));
    let ours = cancelled(&["arn:x"], &[failed(state("mine")), none(), none()]);
    assert!(matches!(ours, Attempt::Landed), "the SDK repeated a call that had landed");
    let taken = cancelled(
        &["arn:w", "arn:x"],
        &[none(), none(), failed(owner()), reason("TransactionConflict", None)],
    );
    assert!(matches!(taken, Attempt::Taken { arn, owner } if arn == "arn:x" && owner == "other/service"));
    let not_ours = cancelled(&["arn:x"], &[none(), none(), failed(owner())]);
    assert!(matches!(not_ours, Attempt::NotOurs(arns) if arns.contains("arn:gone")));
    for code in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
        let busy = cancelled(&["arn:x"], &[reason(code, None), none(), none()]);
        assert!(matches!(busy, Attempt::Perhaps(StoreError::Unavailable { retry: true, .. })), "{code}");
    }
    let wrong = cancelled(&["arn:x"], &[reason("ValidationError", None), none(), none()]);
    assert!(matches!(wrong, Attempt::Refused(StoreError::Unavailable { retry: false, .. })));
}
