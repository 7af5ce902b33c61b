//! Before a release starts: what is waited for, for how long, and from where it begins.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::decide::Asked;
use pointsman_core::model::Seen;
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Doubt, LateWrite, Pending, ReleaseKind, Retained};
use pointsman_core::model::observed::{
    AlarmState, ForwardAction, LoadBalancer, Preflight, ServiceStatus, Targets, TaskDefinition,
    TaskSetStatus, Weights,
};
use pointsman_core::records::check::RefusalCode;
use pointsman_core::records::{Group, Span};

use super::unanswered::idle;
use super::{Look, ask};
use crate::second_opinion::scene::{
    GROUP_A, GROUP_B, ID_B, MOMENT, PREVIEW, PUBLIC, SET_B, alarm, all_to, set, unread, version,
};

const STARTS: &str = "Preparing; again";
const DOUBTS: &str = "wait for RefusalStands";

fn rule(owner: &str) -> ForwardAction {
    ForwardAction {
        owner: owner.to_owned(),
        load_balancer: "edge".to_owned(),
        groups: vec![(GROUP_A.to_owned(), 1), (GROUP_B.to_owned(), 0)],
        sticky: None,
        unknown_action: None,
        oidc: false,
    }
}

/// Version 1 serves from a, version 2 is asked for, and everything is as it must be.
fn starting() -> Look {
    let mut look = idle();
    let edge = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/edge/1".to_owned();
    let edge = BTreeSet::from([edge]);
    let definition = TaskDefinition {
        active: true,
        awsvpc: false,
        containers: BTreeMap::from([("web".to_owned(), BTreeSet::from([8080]))]),
    };
    let of_groups = BTreeMap::from([(Group::A, edge.clone()), (Group::B, edge)]);
    look.observed.extra.preflight = Some(Seen::Known(Preflight {
        task_definition: Some(definition),
        load_balancer: LoadBalancer { of_groups, actions: vec![rule(PUBLIC), rule(PREVIEW)] },
        targets: BTreeMap::new(),
    }));
    let Asked::Valid { spec, .. } = &mut look.service else { unreachable!("it is valid") };
    let strategies = serde_json::json!({"fast": {"allAtOnce": {}}});
    spec.strategies = serde_json::from_value(strategies).expect("a strategy");
    look.facts.pending = Some(Pending::default());
    look
}

fn preflight(look: &mut Look) -> &mut Preflight {
    let Some(Seen::Known(preflight)) = &mut look.observed.extra.preflight else { unreachable!("it is read") };
    preflight
}

fn pending(look: &mut Look) -> &mut Pending {
    look.facts.pending.as_mut().expect("it waits")
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_release_starts_when_nothing_is_in_its_way() {
    ask(&[
        ("nothing is", starting, |_| {}, STARTS),
        ("nobody looked", starting, |it| it.observed.extra.preflight = None, "look"),
        (
            "nothing could be seen",
            starting,
            |it| it.observed.extra.preflight = Some(unread()),
            "wait for Observation",
        ),
        (
            "the service could not be read",
            starting,
            |it| it.observed.service = unread(),
            "wait for Observation",
        ),
        (
            "an alarm that watches it burns",
            starting,
            |it| drop(it.observed.alarms.insert("b-5xx".to_owned(), alarm(AlarmState::Alarm))),
            "wait for AlarmBeforeStart",
        ),
        (
            "an alarm that watches the other group burns",
            starting,
            |it| drop(it.observed.alarms.insert("a-5xx".to_owned(), alarm(AlarmState::Alarm))),
            STARTS,
        ),
        (
            "an alarm burns that was set aside",
            starting,
            |it| {
                it.observed.alarms.insert("b-5xx".to_owned(), alarm(AlarmState::Alarm));
                pending(it).break_glass.insert("b-5xx".to_owned());
            },
            STARTS,
        ),
        (
            "an alarm could not be read",
            starting,
            |it| drop(it.observed.alarms.insert("a-5xx".to_owned(), unread())),
            "wait for Observation",
        ),
        (
            "its group has a task set that is being deleted",
            starting,
            |it| {
                it.sets().push(set("task-set/c", "pm1/test/u/9.1", Group::B));
                it.candidate().status = TaskSetStatus::Draining;
            },
            "wait for GroupBusy",
        ),
        (
            "its group has a target that drains",
            starting,
            |it| drop(preflight(it).targets.insert(Group::B, Targets { draining: 1, ..Targets::default() })),
            "wait for GroupBusy",
        ),
        (
            "the other group has targets",
            starting,
            |it| drop(preflight(it).targets.insert(Group::A, Targets { healthy: 4, ..Targets::default() })),
            STARTS,
        ),
        (
            "desiredCount is 0",
            starting,
            |it| {
                let Seen::Known(service) = &mut it.observed.service else { unreachable!("it is read") };
                service.desired_count = 0;
            },
            "wait for ServiceScaledToZero",
        ),
        (
            "the service is being deleted",
            starting,
            |it| {
                let Seen::Known(service) = &mut it.observed.service else { unreachable!("it is read") };
                service.status = ServiceStatus::Draining;
            },
            DOUBTS,
        ),
        (
            "its route gives some to each group, and what is not claimed is not put right",
            starting,
            |it| {
                it.facts.claims.clear();
                it.shows("public", Shares { a: 9, b: 1 });
            },
            DOUBTS,
        ),
        (
            "its rule does not exist any more",
            starting,
            |it| drop(it.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Gone))),
            "wait for Observation",
        ),
        ("its route gives nobody anything", starting, |it| it.shows("public", Shares { a: 0, b: 0 }), DOUBTS),
        (
            "its route gives all to the other side",
            starting,
            |it| it.shows("public", all_to(Group::B)),
            "look",
        ),
        ("what serves is seen in the other group", starting, |it| it.stable().group = Some(Group::B), DOUBTS),
        (
            "somebody made a task set",
            starting,
            |it| it.sets().push(set("task-set/c", "somebody's", Group::A)),
            DOUBTS,
        ),
    ]);
}

#[test]
fn what_waits_to_start_waits_for_its_deadline_and_a_refusal_must_stand_for_three_seconds() {
    fn waited(look: &mut Look, less: Span) {
        let Some(Seen::Known(service)) = Some(&mut look.observed.service) else { unreachable!("it is read") };
        service.desired_count = 0;
        pending(look).waited = look.spec().deadlines.start.minus(less);
    }
    fn stood(look: &mut Look, code: RefusalCode, stood: Span) {
        preflight(look).task_definition = None;
        pending(look).doubt = Some(Doubt { code, stood });
    }
    const REFUSED: &str = "Refused: spec.deadlines.start is 15m; allowed: what the release waits for comes about in time; \
        mend it (the ECS service has desiredCount 0), then send the command retry or write a new requestId; again";
    const UNFIT: &str = "Refused: spec.taskDefinition is checkout:2 (unknown to ECS); allowed: a registered revision; \
        register it first; again";
    ask(&[
        ("a moment is left", starting, |it| waited(it, MOMENT), "wait for ServiceScaledToZero"),
        ("its time is over", starting, |it| waited(it, Span::ZERO), REFUSED),
        (
            "a moment is missing",
            starting,
            |it| stood(it, RefusalCode::TaskDefinitionUnfit, Span::from_secs(3).minus(MOMENT)),
            DOUBTS,
        ),
        ("it stands", starting, |it| stood(it, RefusalCode::TaskDefinitionUnfit, Span::from_secs(3)), UNFIT),
        (
            "another one stood until now",
            starting,
            |it| stood(it, RefusalCode::ServiceUnfit, Span::from_secs(3)),
            DOUBTS,
        ),
        (
            "it stood until now, in a look that took as long",
            starting,
            |it| {
                it.watched = Span::from_secs(2);
                stood(it, RefusalCode::TaskDefinitionUnfit, Span::from_secs(1));
            },
            UNFIT,
        ),
    ]);
}

#[test]
fn the_kind_of_a_release_is_that_of_what_serves_and_of_what_is_kept() {
    type Bend = fn(&mut Look);
    let rows: [(&str, Bend, ReleaseKind, Group); 4] = [
        ("version 1 serves", |_| {}, ReleaseKind::Ordinary, Group::B),
        (
            "it is being deleted",
            |it| it.stable().status = TaskSetStatus::Draining,
            ReleaseKind::First,
            Group::B,
        ),
        (
            "it is gone, and traffic lies on b",
            |it| {
                it.sets().clear();
                it.wrote("public", all_to(Group::B));
            },
            ReleaseKind::First,
            Group::A,
        ),
        (
            "version 2 is kept, and asked for again",
            |it| {
                let version = version(SET_B, ID_B, Group::B, 2);
                it.facts.retained =
                    Some(Retained { version, kept: Span::ZERO, uncertain: true, release: None });
                it.sets().push(set(SET_B, ID_B, Group::B));
                pending(it).return_to_retained = true;
            },
            ReleaseKind::Return,
            Group::B,
        ),
    ];
    for (what, bend, kind, group) in rows {
        let mut look = starting();
        bend(&mut look);
        look.pass();
        let uncertain = kind == ReleaseKind::Return;
        let release = look.release();
        assert_eq!(
            (release.kind, release.candidate.group, release.uncertain),
            (kind, group, uncertain),
            "{what}"
        );
        assert_eq!(release.stable.is_none(), kind == ReleaseKind::First, "{what}");
    }
}

#[test]
fn what_was_written_counts_for_the_rule_that_it_was_written_to() {
    let kept = |bend: fn(&mut Look)| {
        let mut look = starting();
        for route in ["public", "preview"] {
            let (route, shares, age) = (route.to_owned(), all_to(Group::A), Span::ZERO);
            look.facts.late.push(LateWrite { route, shares, age, landed: false });
        }
        bend(&mut look);
        look.pass();
        let late: Vec<_> = look.facts.late.iter().map(|write| write.route.clone()).collect();
        (look.facts.acknowledged.into_keys().collect::<Vec<_>>(), late)
    };
    let both = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        (names.clone(), names)
    };
    let (written, late) = kept(|_| {});
    assert_eq!((written, late.len()), (both(&["preview", "public"]).0, 2));
    let made_anew = kept(|it| {
        let another = format!("{PUBLIC}9").parse().expect("an ARN");
        it.facts.plan.as_mut().expect("a plan").spec.routes.production[0].rule = Some(another);
    });
    assert_eq!(made_anew, both(&["preview"]));
    let new = kept(|it| it.facts.plan.as_mut().expect("a plan").spec.routes.test = None);
    assert_eq!(new, both(&["public"]));
}
