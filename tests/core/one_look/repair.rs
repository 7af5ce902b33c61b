//! Weights that somebody else moved while nothing is released, and the share of a version that lost its tasks.

use pointsman_core::decide::Asked;
use pointsman_core::model::facts::{
    Drift, Halt, HaltReason, LateWrite, Pending, ReleaseKind, Retained, Stage, Trouble,
};
use pointsman_core::model::observed::TaskSetStatus;
use pointsman_core::model::{RefusalClass, Resource, Seen};
use pointsman_core::records::managed_service::{IdleDrift, Route};
use pointsman_core::records::{Group, Span};

use super::requests::asked;
use super::unanswered::idle;
use super::watch::LANDS;
use super::{Look, ask};
use crate::second_opinion::scene::{
    ID_B, MOMENT, SET_B, WATCHED, all_to, identity, revision, set, tenths, unread, version, weights,
};

const TO_A: &str = "set route public to a 100 % / b 0 %";
const TO_B: &str = "set route public to a 0 % / b 100 %";

fn somebodys(look: &mut Look) {
    look.sets().push(set("task-set/c", "somebody's", Group::B));
}

fn reverts(look: &mut Look) {
    let Asked::Valid { spec, .. } = &mut look.service else { unreachable!("it is valid") };
    spec.drift.idle = IdleDrift::Revert;
}

/// Half of the traffic goes to a group without tasks, for the second look.
fn outage() -> Look {
    let mut look = idle();
    look.shows("public", tenths(500));
    look.facts.drift.outage_reads = 1;
    look
}

/// What serves has no task, and what is kept warm has.
fn kept_beside_a_lost_one() -> Look {
    let mut look = kept_beside_one_that_serves();
    look.shows("public", tenths(500));
    look.facts.drift.outage_reads = 1;
    look.stable().running = 0;
    look
}

/// Both run.
pub fn kept_beside_one_that_serves() -> Look {
    let mut look = idle();
    look.sets().push(set(SET_B, ID_B, Group::B));
    let version = version(SET_B, ID_B, Group::B, 2);
    look.facts.retained = Some(Retained { version, kept: Span::ZERO, uncertain: false, release: None });
    look
}

#[test]
fn weight_on_a_group_that_cannot_answer_is_put_right_in_the_second_look() {
    ask(&[
        ("the second", outage, |_| {}, TO_A),
        ("the first", outage, |it| it.facts.drift.outage_reads = 0, "look"),
        ("somebody's set answers", outage, somebodys, "settled"),
        (
            "somebody's set is being deleted",
            outage,
            |it| {
                somebodys(it);
                it.candidate().status = TaskSetStatus::Draining;
            },
            TO_A,
        ),
        (
            "somebody's set has no task",
            outage,
            |it| {
                somebodys(it);
                it.candidate().running = 0;
            },
            TO_A,
        ),
        ("the group has no weight", outage, |it| it.shows("public", all_to(Group::A)), "settled"),
        ("the claims are given up", outage, |it| it.facts.claims.clear(), "settled"),
        (
            "a person has to act first",
            outage,
            |it| {
                let reason = HaltReason::StateContradicts;
                it.facts.halted = Some(Halt { reason, detail: String::new() });
            },
            "halted: StateContradicts",
        ),
        ("the service cannot be read", outage, |it| it.observed.service = unread(), "settled"),
        ("nothing that is recorded answers", outage, |it| it.stable().running = 0, "settled"),
        ("it was put right five times within the hour", outage, |it| it.facts.drift.repairs = 5, TO_A),
        (
            "it was put right six times within the hour",
            outage,
            |it| it.facts.drift.repairs = 6,
            "halted: DriftFight",
        ),
        (
            "the last attempt was just refused",
            outage,
            |it| it.facts.trouble = Some(refused(Resource::Route("public".to_owned()))),
            "wait for Effect",
        ),
        (
            "something else was just refused",
            outage,
            |it| it.facts.trouble = Some(refused(Resource::Primary)),
            TO_A,
        ),
    ]);
}

#[test]
fn the_version_kept_warm_gets_the_traffic_of_a_lost_one_in_the_second_look_unless_that_one_may_start_again() {
    ask(&[
        ("what serves has no task, and what is kept warm has", kept_beside_a_lost_one, |_| {}, "look"),
        (
            "what serves had no task in the look before either",
            kept_beside_a_lost_one,
            |it| it.facts.lost.reads = 1,
            TO_B,
        ),
        (
            "what serves has its time to start again",
            kept_beside_a_lost_one,
            |it| {
                it.facts.lost.reads = 1;
                it.facts.lost.restarting = Some(Span::ZERO);
            },
            "wait for StableSteady",
        ),
        (
            "and that time is over",
            kept_beside_a_lost_one,
            |it| it.facts.lost.restarting = Some(it.spec().deadlines.capacity),
            "look",
        ),
        (
            "nothing is to run",
            kept_beside_a_lost_one,
            |it| {
                it.facts.lost.reads = 1;
                let Seen::Known(service) = &mut it.observed.service else { unreachable!("it is read") };
                service.desired_count = 0;
            },
            "wait for StableSteady",
        ),
    ]);
}

#[test]
fn what_was_kept_warm_and_given_the_traffic_takes_over_while_it_can_answer() {
    type Bend = fn(&mut Look);
    let rows: [(&str, Bend, u32); 4] = [
        ("it runs", |_| {}, 2),
        ("it has no task either", |it| it.candidate().running = 0, 1),
        (
            "a person gave it everything, and what served is lost",
            |it| {
                it.wrote("public", all_to(Group::A));
                it.shows("public", all_to(Group::B));
                it.facts.lost.reads = 1;
            },
            2,
        ),
        ("it is seen in the other group", |it| it.candidate().group = Some(Group::A), 1),
    ];
    for (what, bend, serves) in rows {
        let mut look = kept_beside_a_lost_one();
        look.wrote("public", all_to(Group::B));
        bend(&mut look);
        look.pass();
        let stable = look.facts.stable.as_ref().map(|stable| stable.revision.clone());
        assert_eq!(stable, Some(revision(serves)), "{what}");
    }
}

#[test]
fn a_request_for_the_version_that_takes_over_is_answered_and_one_for_another_waits() {
    for (return_to_retained, number, waits) in [(false, 2, false), (true, 3, false), (false, 3, true)] {
        let mut look = kept_beside_a_lost_one();
        look.wrote("public", all_to(Group::B));
        asked(&mut look, identity(number));
        look.facts.pending = Some(Pending { return_to_retained, ..Pending::default() });
        look.pass();
        assert_eq!(look.facts.pending.is_some(), waits, "{return_to_retained} {number}");
    }
}

#[test]
fn an_incident_is_over_when_all_routes_show_one_version() {
    fn filled_in() -> Look {
        let mut look = Look::baking();
        look.stable().running = 0;
        look.progress().stable_gone_reads = 3;
        look.wrote("public", all_to(Group::B));
        look
    }
    for look in [idle, filled_in] {
        let mut look = look();
        look.facts.drift.routes.insert("public".to_owned());
        look.pass();
        assert!(look.facts.drift.routes.is_empty(), "{:?}", look.observed.routes);
    }
}

fn refused(resource: Resource) -> Trouble {
    Trouble { resource, class: Some(RefusalClass::Throttled), message: String::new(), fresh: true }
}

#[test]
fn a_lost_fight_says_what_each_route_shows_by_now() {
    let mut look = outage();
    look.facts.drift.repairs = 6;
    let routes = &mut look.facts.plan.as_mut().expect("a plan").spec.routes.production;
    routes.push(Route { name: "internal".to_owned(), ..routes[0].clone() });
    look.observed.routes.insert("internal".to_owned(), unread());
    look.pass();
    let halt = look.facts.halted.expect("it gives up");
    assert!(halt.detail.ends_with("now public a 50 % / b 50 %, internal unread"), "{}", halt.detail);
}

#[test]
fn after_the_repair_that_lost_the_fight_the_count_begins_anew() {
    let mut look = outage();
    look.facts.drift = Drift { repairs: 6, outage_reads: 1, ..Drift::default() };
    look.pass();
    assert_eq!(look.facts.drift, Drift::default());
}

/// Somebody gave half of the traffic to a set of theirs, for the second look, and the record says to put that right.
fn drift() -> Look {
    let mut look = idle();
    somebodys(&mut look);
    reverts(&mut look);
    look.shows("public", tenths(500));
    look.facts.drift.idle_reads = 1;
    look
}

#[test]
fn drift_that_harms_nobody_is_put_right_where_the_record_says_so() {
    ask(&[
        ("it says so", drift, |_| {}, TO_A),
        ("in the first look", drift, |it| it.facts.drift.idle_reads = 0, "look"),
        ("it says nothing", drift, |it| it.service = Look::baking().service, "settled"),
        ("all is as it should be", drift, |it| it.shows("public", all_to(Group::A)), "settled"),
        ("the claims are given up", drift, |it| it.facts.claims.clear(), "settled"),
        ("what serves has no task", drift, |it| it.stable().running = 0, "settled"),
        ("what serves is seen in the other group", drift, |it| it.stable().group = Some(Group::B), "settled"),
        (
            "a write is open",
            drift,
            |it| {
                let effect = weights("public", tenths(500));
                it.lose(effect);
            },
            TO_A,
        ),
    ]);
}

#[test]
fn a_late_write_of_ours_is_put_right_whatever_the_record_says_while_it_can_land_or_is_being_looked_at() {
    fn late(look: &mut Look, age: Span, looks: u8) {
        look.service = Look::baking().service;
        let (route, shares) = ("public".to_owned(), tenths(500));
        look.facts.late.push(LateWrite { route, shares, age, landed: false });
        look.facts.drift.idle_reads = looks;
    }
    ask(&[
        ("it can land for a moment yet", drift, |it| late(it, LANDS.minus(MOMENT), 0), "look"),
        ("it cannot when it is first seen", drift, |it| late(it, LANDS, 0), "settled"),
        (
            "its time runs out while it is looked at",
            drift,
            |it| {
                late(it, LANDS.minus(MOMENT), 0);
                it.wrote("public", all_to(Group::A));
                it.shows("public", tenths(500));
                it.pass();
                it.watched = WATCHED.times(4);
            },
            TO_A,
        ),
    ]);
}

#[test]
fn looks_that_show_drift_and_an_outage_are_forgotten_with_the_first_that_does_not() {
    let mut look = drift();
    look.facts.drift.outage_reads = 1;
    look.shows("public", all_to(Group::A));
    look.pass();
    assert_eq!(look.facts.drift, Drift::default());
}

/// In the first step the version that serves has lost its tasks, for the third look.
fn lost() -> Look {
    let mut look = Look::baking();
    look.progress().stable_gone_reads = 3;
    look.stable().running = 0;
    look
}

/// In the first step the version that serves had lost its tasks, and is seen up once since.
fn up_again() -> Look {
    let mut look = Look::baking();
    look.wrote("public", all_to(Group::B));
    look.progress().stable_up_reads = 1;
    look
}

const BACK_TO_A: &str = "set route public to a 90 % / b 10 %";

#[test]
fn what_a_candidate_has_beyond_its_steps_goes_back_to_a_version_that_is_up_again() {
    ask(&[
        ("it is up for the second look", up_again, |_| {}, BACK_TO_A),
        ("for the first one", up_again, |it| it.progress().stable_up_reads = 0, "wait for Bake"),
        ("a task of it is missing", up_again, |it| it.stable().running = 3, "wait for Bake"),
        ("it leaves", up_again, |it| it.stable().status = TaskSetStatus::Draining, "wait for Bake"),
        ("traffic was moved three times", up_again, |it| it.facts.drift.repairs = 3, BACK_TO_A),
        ("four times", up_again, |it| it.facts.drift.repairs = 4, "wait for Bake"),
        (
            "in a pause",
            up_again,
            |it| {
                (it.progress().step, it.progress().shifted, it.progress().stage) = (1, false, Stage::Pausing);
            },
            BACK_TO_A,
        ),
        (
            "in a pause before any step",
            up_again,
            |it| {
                it.facts.plan.as_mut().expect("a plan").steps.remove(0);
                (it.progress().shifted, it.progress().stage) = (false, Stage::Pausing);
            },
            TO_A,
        ),
        ("the last step gives it everything", up_again, |it| it.progress().step = 2, "wait for Bake"),
        (
            "a return has no other step",
            up_again,
            |it| it.release().kind = ReleaseKind::Return,
            "wait for Bake",
        ),
    ]);
}

#[test]
fn it_goes_back_in_one_write_that_others_may_hold_up_or_end() {
    ask(&[
        (
            "a person has moved weights since",
            up_again,
            |it| it.shows("public", all_to(Group::A)),
            "wait for ForeignWeights",
        ),
        (
            "the last attempt was just refused",
            up_again,
            |it| it.facts.trouble = Some(refused(Resource::Route("public".to_owned()))),
            "wait for Effect",
        ),
        (
            "a person has to act first",
            up_again,
            |it| {
                let reason = HaltReason::StateContradicts;
                it.facts.halted = Some(Halt { reason, detail: String::new() });
            },
            "halted: StateContradicts",
        ),
        (
            "the alarms cannot be read",
            up_again,
            |it| {
                it.observed.alarms.insert("b-5xx".to_owned(), Seen::Unknown("throttled".to_owned()));
            },
            BACK_TO_A,
        ),
        (
            "it has not gone back for as long as a write may take",
            up_again,
            |it| it.progress().astray = it.spec().deadlines.weight_write,
            "latched by Deadline; GoingBack; set route public to a 100 % / b 0 %",
        ),
        (
            "as long, and a person has to act first",
            up_again,
            |it| {
                it.progress().astray = it.spec().deadlines.weight_write;
                let reason = HaltReason::StateContradicts;
                it.facts.halted = Some(Halt { reason, detail: String::new() });
            },
            "halted: StateContradicts",
        ),
        (
            "one of two routes is back already",
            up_again,
            |it| {
                let routes = &mut it.facts.plan.as_mut().expect("a plan").spec.routes.production;
                let internal = Route { name: "internal".to_owned(), ..routes[0].clone() };
                routes.push(internal);
                it.wrote("internal", all_to(Group::B));
                it.wrote("public", tenths(100));
            },
            "set route internal to a 90 % / b 10 %",
        ),
        ("it had its share all along", up_again, |it| it.wrote("public", tenths(100)), "wait for Bake"),
        ("a write is not acknowledged", up_again, |it| it.lose(weights("public", all_to(Group::B))), TO_B),
    ]);
}

#[test]
fn a_version_that_lost_its_tasks_before_the_first_share_leaves_everything_to_the_candidate_behind_its_gate() {
    fn unexposed() -> Look {
        let mut look = lost();
        look.wrote("public", all_to(Group::A));
        (look.progress().exposed, look.progress().shifted) = (false, false);
        look
    }
    ask(&[
        ("the loss is certain", unexposed, |_| {}, TO_B),
        ("it is not", unexposed, |it| it.progress().stable_gone_reads = 1, "Scaling; look"),
        (
            "the write that leaves it everything is open, after the sixth time",
            unexposed,
            |it| {
                it.wrote("public", all_to(Group::B));
                it.lose(weights("public", all_to(Group::B)));
                it.facts.drift.repairs = 6;
            },
            TO_B,
        ),
        (
            "it runs, and a person gave half to a candidate that does not, for the second look",
            unexposed,
            |it| {
                (it.stable().running, it.candidate().running) = (4, 0);
                it.shows("public", tenths(500));
                it.facts.drift.outage_reads = 1;
            },
            TO_A,
        ),
    ]);
    let mut look = unexposed();
    look.pass();
    assert!(look.progress().exposed, "from the announcement on");
}

#[test]
fn the_share_of_a_version_that_lost_its_tasks_goes_to_the_candidate_that_runs() {
    ask(&[
        ("it runs", lost, |_| {}, TO_B),
        ("the loss is not certain", lost, |it| it.progress().stable_gone_reads = 1, "wait for Bake"),
        (
            "it does not run either",
            lost,
            |it| it.candidate().running = 0,
            "latched by CandidateLost; GoingBack; halted: NoRollbackTarget",
        ),
        ("it has everything", lost, |it| it.wrote("public", all_to(Group::B)), "wait for Bake"),
        ("it was given away six times", lost, |it| it.facts.drift.repairs = 6, "halted: DriftFight"),
        (
            "the last attempt was just refused",
            lost,
            |it| it.facts.trouble = Some(refused(Resource::Route("public".to_owned()))),
            "wait for Effect",
        ),
        (
            "a person has to act first",
            lost,
            |it| {
                let reason = HaltReason::StateContradicts;
                it.facts.halted = Some(Halt { reason, detail: String::new() });
            },
            "halted: StateContradicts",
        ),
        (
            "it has not passed its gate",
            lost,
            |it| {
                (it.progress().gate_passed, it.progress().stage) = (false, Stage::Preparing);
                it.progress().steady_reads = 2;
            },
            "again",
        ),
    ]);
}
