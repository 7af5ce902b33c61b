//! What turns a release around: evidence, weights that are not ours, deadlines, versions that are gone.

use pointsman_core::decide::{Asked, Next, WaitingOn};
use pointsman_core::model::Seen;
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Halt, HaltReason, LateWrite, Stage};
use pointsman_core::model::observed::{AlarmState, TaskSetStatus};
use pointsman_core::records::managed_service::NoData;
use pointsman_core::records::strategy::{OnTimeout, Step};
use pointsman_core::records::{Group, Span};

use super::unanswered::idle;
use super::{Look, ask};
use crate::second_opinion::scene::{
    MOMENT, QUIET_AFTER_UNKNOWN, WATCHED, alarm, all_to, tenths, unread, weights,
};

/// As long as a request of unknown outcome can land, and two polls.
pub const LANDS: Span = QUIET_AFTER_UNKNOWN.plus(WATCHED.times(2));

fn silent(look: &mut Look, exposed_for: Span) {
    let Seen::Known(mut silent) = alarm(AlarmState::InsufficientData) else { unreachable!("it is read") };
    silent.range = Span::from_mins(3);
    look.observed.alarms.insert("b-5xx".to_owned(), Seen::Known(silent));
    look.facts.plan.as_mut().expect("a plan").spec.alarm_policy.no_data = NoData::Hold;
    look.progress().exposed_for = exposed_for;
}

#[test]
fn silence_is_missing_evidence_once_the_traffic_is_older_than_what_the_alarm_looks_at() {
    ask(&[
        ("just as old", Look::baking, |it| silent(it, Span::from_mins(3)), "wait for Bake"),
        ("older", Look::baking, |it| silent(it, Span::from_mins(3).plus(MOMENT)), "wait for Evidence"),
    ]);
}

fn unreadable(look: &mut Look, for_how_long: Span) {
    look.observed.alarms.insert("b-5xx".to_owned(), unread());
    look.progress().without_evidence = for_how_long;
}

fn evidence_deadline(look: &Look) -> Span {
    look.spec().alarm_policy.evidence_deadline
}

#[test]
fn a_release_goes_without_evidence_for_its_deadline_and_not_a_moment_longer() {
    ask(&[
        (
            "it lacks a moment",
            Look::baking,
            |it| unreadable(it, evidence_deadline(it).minus(MOMENT)),
            "wait for Evidence",
        ),
        (
            "it is over",
            Look::baking,
            |it| unreadable(it, evidence_deadline(it)),
            "latched by NoEvidence; GoingBack; set route public to a 100 % / b 0 %",
        ),
    ]);
}

/// In this stage for so much less than its limit.
fn nearly(look: &mut Look, stage: Stage, limit: Span, less: Span) {
    (look.progress().stage, look.progress().in_stage) = (stage, limit.minus(less));
}

const TURNS: &str = "latched by Deadline; GoingBack; set route public to a 100 % / b 0 %";

/// The step that waits for a promotion.
fn pausing(on_timeout: OnTimeout) -> Look {
    let mut look = Look::baking();
    let plan = look.facts.plan.as_mut().expect("a plan");
    if let Some(Step::Pause(pause)) = plan.steps.get_mut(1) {
        pause.on_timeout = on_timeout;
    }
    look.progress().step = 1;
    look
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_stage_ends_at_its_deadline_and_not_a_moment_sooner() {
    ask(&[
        (
            "scaling lacks a moment",
            Look::shifting,
            |it| {
                it.candidate().running = 3;
                nearly(it, Stage::Scaling, it.spec().deadlines.capacity, MOMENT);
            },
            "wait for TaskSetSteady",
        ),
        (
            "scaling is over",
            Look::shifting,
            |it| nearly(it, Stage::Scaling, it.spec().deadlines.capacity, Span::ZERO),
            TURNS,
        ),
        (
            "writing is over",
            Look::shifting,
            |it| nearly(it, Stage::Shifting, it.spec().deadlines.weight_write, Span::ZERO),
            TURNS,
        ),
        (
            "a pause lacks a moment",
            || pausing(OnTimeout::Rollback),
            |it| nearly(it, Stage::Pausing, Span::from_mins(60), MOMENT),
            "wait for Pause",
        ),
        (
            "a pause is over",
            || pausing(OnTimeout::Rollback),
            |it| nearly(it, Stage::Pausing, Span::from_mins(60), Span::ZERO),
            TURNS,
        ),
        (
            "a pause is over that goes on by itself",
            || pausing(OnTimeout::Continue),
            |it| nearly(it, Stage::Pausing, Span::from_mins(60), Span::ZERO),
            "Scaling; again",
        ),
        (
            "a pause that goes on by itself lacks a moment",
            || pausing(OnTimeout::Continue),
            |it| nearly(it, Stage::Pausing, Span::from_mins(60), MOMENT),
            "wait for Pause",
        ),
        (
            "a pause follows whose time is shorter than a look",
            || pausing(OnTimeout::Continue),
            |it| {
                if let Some(Step::Pause(pause)) = it.facts.plan.as_mut().expect("a plan").steps.get_mut(1) {
                    pause.timeout = MOMENT;
                }
                it.watched = WATCHED;
                it.progress().stage = Stage::Scaling;
            },
            "Pausing; wait for Pause",
        ),
        (
            "a write of the weights that are in force was not answered for as long as one may take",
            Look::baking,
            |it| {
                it.lose(weights("public", tenths(100)));
                it.progress().astray = it.spec().deadlines.weight_write;
            },
            TURNS,
        ),
        (
            "weights are astray for a moment less than a write may take",
            Look::baking,
            |it| {
                it.shows("public", tenths(50));
                it.progress().astray = it.spec().deadlines.weight_write.minus(MOMENT);
            },
            "wait for ForeignWeights",
        ),
        (
            "weights are astray for as long as a write may take",
            Look::baking,
            |it| {
                it.shows("public", tenths(50));
                it.progress().astray = it.spec().deadlines.weight_write;
            },
            TURNS,
        ),
    ]);
}

#[test]
fn a_candidate_is_lost_when_it_is_missing_for_long_enough_or_dead_under_traffic() {
    const LOST: &str = "latched by CandidateLost; GoingBack; set route public to a 100 % / b 0 %";
    ask(&[
        (
            "it is not listed for the second time",
            Look::baking,
            |it| {
                it.sets().pop();
                it.progress().missing_reads = 1;
            },
            "wait for TaskSetSteady",
        ),
        (
            "it is not listed for the third time",
            Look::baking,
            |it| {
                it.sets().pop();
                it.progress().missing_reads = 2;
            },
            LOST,
        ),
        ("it has no task under traffic", Look::baking, |it| it.candidate().running = 0, LOST),
        (
            "it is being deleted under traffic",
            Look::baking,
            |it| it.candidate().status = TaskSetStatus::Draining,
            LOST,
        ),
        (
            "it has no task yet, and no traffic",
            Look::at_the_gate,
            |it| {
                (it.candidate().running, it.candidate().steady) = (0, false);
                it.progress().missing_reads = 2;
            },
            "wait for TaskSetSteady",
        ),
    ]);
}

// --- weights that are not ours

const BY_HAND: &str = "latched by MovedByHand; GoingBack; set route public to a 100 % / b 0 %";
const PUT_BACK: &str = "set route public to a 90 % / b 10 %";

/// The candidate has less than was written, in this many looks before, over this time.
fn less(look: &mut Look, reads: u8, for_how_long: Span) {
    look.shows("public", tenths(50));
    (look.progress().foreign_reads, look.progress().foreign_for) = (reads, for_how_long);
}

#[test]
fn weights_are_believed_after_three_looks_and_the_time_that_a_write_takes_to_be_seen() {
    ask(&[
        ("twice, for long", Look::baking, |it| less(it, 1, Span::from_mins(1)), "wait for ForeignWeights"),
        (
            "three times, for a moment less",
            Look::baking,
            |it| less(it, 2, it.spec().waits.propagation.minus(MOMENT)),
            "wait for ForeignWeights",
        ),
        ("three times, for as long", Look::baking, |it| less(it, 2, it.spec().waits.propagation), BY_HAND),
        (
            "the time before the first look does not count",
            Look::baking,
            |it| {
                it.facts.plan.as_mut().expect("a plan").spec.waits.propagation = WATCHED.times(3);
                it.progress().settled = WATCHED.times(3);
                it.watched = WATCHED;
                less(it, 0, Span::ZERO);
                it.pass();
                it.pass();
            },
            "wait for ForeignWeights",
        ),
    ]);
}

/// A write of these weights got no answer so long ago, and another one followed.
fn late(look: &mut Look, shares: Shares, age: Span) {
    look.facts.late.push(LateWrite { route: "public".to_owned(), shares, age, landed: false });
}

/// At the last moment, and then the route shows for a slow look what was written after it.
fn seen_and_seen_no_more_for_a_look(look: &mut Look) {
    late(look, tenths(50), LANDS.minus(MOMENT));
    less(look, 0, Span::ZERO);
    look.pass();
    look.watched = WATCHED.times(2);
    look.shows("public", tenths(100));
    look.pass();
}

#[test]
fn a_late_write_is_known_for_as_long_as_it_can_land_or_is_being_looked_at() {
    ask(&[
        (
            "it can land for a moment yet",
            Look::baking,
            |it| {
                late(it, tenths(50), LANDS.minus(MOMENT));
                less(it, 0, Span::ZERO);
                it.pass();
                it.progress().foreign_reads = 2;
                it.progress().foreign_for = Span::from_mins(1);
            },
            PUT_BACK,
        ),
        (
            "it cannot land any more when it is first seen",
            Look::baking,
            |it| {
                late(it, tenths(50), LANDS);
                less(it, 0, Span::ZERO);
                it.pass();
                it.progress().foreign_reads = 2;
                it.progress().foreign_for = Span::from_mins(1);
            },
            BY_HAND,
        ),
        (
            "it was seen, and slow looks with a stale one between them come after",
            Look::baking,
            |it| {
                seen_and_seen_no_more_for_a_look(it);
                it.watched = WATCHED.times(2);
                less(it, 2, Span::from_mins(1));
            },
            PUT_BACK,
        ),
        (
            "it was seen, and two looks after it see it no more",
            Look::baking,
            |it| {
                seen_and_seen_no_more_for_a_look(it);
                it.pass();
                it.watched = WATCHED.times(2);
                less(it, 2, Span::from_mins(1));
            },
            BY_HAND,
        ),
        (
            "it is of other weights",
            Look::baking,
            |it| {
                late(it, tenths(60), Span::ZERO);
                less(it, 2, Span::from_mins(1));
            },
            BY_HAND,
        ),
        (
            "it is of another route",
            Look::baking,
            |it| {
                late(it, tenths(50), Span::ZERO);
                it.facts.late[0].route = "internal".to_owned();
                less(it, 2, Span::from_mins(1));
            },
            BY_HAND,
        ),
    ]);
}

#[test]
fn a_late_write_is_known_for_longer_by_its_own_weights_in_place_of_ours_alone() {
    for (its, shown, known) in [(50, 50, true), (50, 30, false), (100, 100, false)] {
        let mut look = Look::baking();
        late(&mut look, tenths(its), LANDS.minus(MOMENT));
        look.shows("public", tenths(shown));
        look.pass();
        look.watched = WATCHED;
        look.pass();
        assert_eq!(!look.facts.late.is_empty(), known, "{its} seen as {shown}, and 100 is ours");
    }
}

#[test]
fn of_several_attempts_at_a_late_write_that_is_seen_one_alone_is_known_for_longer_and_none_while_halted() {
    let known = |halted: Option<Halt>| {
        let mut look = Look::baking();
        for _ in 0..3 {
            late(&mut look, tenths(50), LANDS.minus(MOMENT));
        }
        look.shows("public", tenths(50));
        look.facts.halted = halted;
        look.pass();
        look.watched = WATCHED;
        look.pass();
        look.facts.late.len()
    };
    assert_eq!(known(None), 1);
    let halt = Halt { reason: HaltReason::DriftFight, detail: "weights were put right".to_owned() };
    assert_eq!(known(Some(halt)), 0);
}

#[test]
fn the_claims_of_a_deleted_service_wait_for_as_long_as_a_late_write_is_known_and_not_from_moment_to_moment() {
    let mut look = idle();
    look.service = Asked::Absent;
    late(&mut look, tenths(50), LANDS.minus(WATCHED));
    look.facts.overtaken = Some(LANDS);
    let Next::Wait(wait) = look.decide().next else { panic!("it waits") };
    assert_eq!((wait.on, wait.left), (WaitingOn::LateCalls, Some(WATCHED)));
}

#[test]
fn a_late_write_that_nobody_puts_back_does_not_keep_the_claims_of_a_deleted_service() {
    let mut look = idle();
    late(&mut look, tenths(50), LANDS.minus(MOMENT));
    look.wrote("public", all_to(Group::A));
    look.shows("public", tenths(50));
    look.stable().running = 0;
    look.service = Asked::Absent;
    for watched in [Span::ZERO, WATCHED, WATCHED] {
        look.watched = watched;
        look.pass();
    }
    assert!(look.facts.late.is_empty() && look.facts.claims.is_empty(), "{:?}", look.facts.claims);
}

#[test]
fn of_several_late_writes_the_one_that_landed_is_struck_out() {
    let mut look = Look::baking();
    late(&mut look, tenths(50), Span::ZERO);
    late(&mut look, tenths(60), Span::ZERO);
    late(&mut look, tenths(50), Span::ZERO);
    look.facts.late[2].route = "internal".to_owned();
    less(&mut look, 2, Span::from_mins(1));
    look.pass();
    assert_eq!(look.facts.late.iter().map(|write| write.landed).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn weights_that_give_the_candidate_more_are_put_back_unless_stable_has_no_task() {
    ask(&[
        (
            "stable answers",
            Look::baking,
            |it| {
                less(it, 2, Span::from_mins(1));
                it.shows("public", tenths(500));
            },
            PUT_BACK,
        ),
        (
            "stable has no task",
            Look::baking,
            |it| {
                less(it, 2, Span::from_mins(1));
                it.shows("public", all_to(Group::B));
                it.stable().running = 0;
            },
            "wait for Bake",
        ),
    ]);
}
