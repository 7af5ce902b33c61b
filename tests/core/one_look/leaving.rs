//! What is left when a release has ended: a route that is gone, a task set that leaves, a version kept warm.

use pointsman_core::decide::{Asked, Next};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Absent, Drift, LateWrite, Outstanding, Retained};
use pointsman_core::model::observed::{Targets, TaskSetStatus, Weights};
use pointsman_core::model::{Effect, Resource, Seen};
use pointsman_core::records::{Group, Span};

use super::{Look, ask};
use crate::second_opinion::scene::{
    self, MOMENT, QUIET, QUIET_AFTER_UNKNOWN, SET_A, SET_B, WATCHED, all_to, latch, load_balancer, tenths,
    unread, version, weights,
};

const BACK: &str = "set route public to a 100 % / b 0 %";

/// A release that was turned around and whose traffic is not back yet.
fn going_back() -> Look {
    let mut look = Look::baking();
    look.release().latch = Some(latch());
    look.progress().stage = pointsman_core::model::facts::Stage::GoingBack;
    look
}

/// Its rule was not there in so many looks, over this time.
fn absent(look: &mut Look, reads: u8, watched: Span) {
    look.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Gone));
    look.facts.absent.insert("public".to_owned(), Absent { reads, watched });
}

#[test]
fn a_rule_is_gone_for_good_after_three_looks_and_the_time_that_a_write_takes_to_be_seen() {
    const LOOKS_AGAIN: &str = "wait for RollbackVerify";
    const CLOSED: &str = "RolledBack: aborted by mara; the rule of route public does not exist any more, so nothing was written back there; again";
    ask(&[
        ("twice, for long", going_back, |it| absent(it, 1, Span::from_mins(1)), LOOKS_AGAIN),
        (
            "three times, for a moment less",
            going_back,
            |it| absent(it, 2, it.spec().waits.propagation.minus(MOMENT)),
            LOOKS_AGAIN,
        ),
        ("three times, for as long", going_back, |it| absent(it, 2, it.spec().waits.propagation), CLOSED),
        (
            "the time before the first look does not count",
            going_back,
            |it| {
                it.facts.plan.as_mut().expect("a plan").spec.waits.propagation = WATCHED.times(3);
                it.watched = WATCHED;
                absent(it, 0, Span::ZERO);
                it.pass();
                it.pass();
            },
            LOOKS_AGAIN,
        ),
        (
            "a lost write to it is repeated until that is certain",
            going_back,
            |it| {
                it.wrote("public", all_to(Group::A));
                absent(it, 1, Span::from_mins(1));
                it.lose(weights("public", all_to(Group::A)));
            },
            BACK,
        ),
    ]);
}

#[test]
fn a_route_is_back_when_it_gives_stable_all_and_not_when_it_gives_nobody_anything() {
    ask(&[
        (
            "stable has all",
            going_back,
            |it| it.wrote("public", all_to(Group::A)),
            "RolledBack: aborted by mara; again",
        ),
        (
            "nobody has any",
            going_back,
            |it| {
                it.wrote("public", all_to(Group::A));
                it.shows("public", Shares { a: 0, b: 0 });
            },
            BACK,
        ),
    ]);
}

#[test]
fn a_lost_write_to_a_rule_is_forgotten_only_in_a_look_that_does_not_find_the_rule() {
    let mut look = going_back();
    absent(&mut look, 3, Span::from_mins(1));
    look.observed.routes.insert("public".to_owned(), unread());
    look.lose(weights("public", all_to(Group::A)));
    look.pass();
    assert!(look.facts.outstanding.contains_key(&Resource::Route("public".to_owned())));
}

#[test]
fn a_rule_that_is_gone_takes_the_late_writes_of_its_route_along_and_no_others() {
    let mut look = going_back();
    for route in ["public", "internal"] {
        let write = LateWrite { route: route.to_owned(), shares: tenths(50), age: Span::ZERO, landed: false };
        look.facts.late.push(write);
    }
    absent(&mut look, 3, Span::from_mins(1));
    look.pass();
    assert_eq!(look.facts.late.iter().map(|write| write.route.as_str()).collect::<Vec<_>>(), ["internal"]);
}

// --- the removal of a task set

/// The candidate went back; its quiet time is over, and the load balancer was looked at once.
pub fn removing() -> Look {
    let mut look = Look::of(scene::Scene::removing());
    look.facts.cleanups[0].zero_reads = 1;
    look.observed.extra.load_balancer = Some(Seen::Known(load_balancer(100, 0)));
    look
}

fn quiet(look: &mut Look, quiet: Span) {
    look.facts.cleanups[0].quiet = quiet;
}

const DELETES: &str = "delete task set b";

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_task_set_leaves_when_its_quiet_time_is_over_and_nothing_gives_it_weight() {
    ask(&[
        ("all is quiet", removing, |_| {}, DELETES),
        ("for a moment less than it takes", removing, |it| quiet(it, QUIET.minus(MOMENT)), "wait for Quiet"),
        (
            "it is the first look at the load balancer",
            removing,
            |it| it.facts.cleanups[0].zero_reads = 0,
            "look",
        ),
        (
            "an answer was lost meanwhile",
            removing,
            |it| {
                it.facts.cleanups[0].uncertain = true;
                quiet(it, QUIET_AFTER_UNKNOWN.minus(MOMENT));
            },
            "wait for Quiet",
        ),
        (
            "an answer was lost long ago",
            removing,
            |it| {
                it.facts.cleanups[0].uncertain = true;
                quiet(it, QUIET_AFTER_UNKNOWN);
            },
            DELETES,
        ),
        (
            "a write of the route was never answered",
            removing,
            |it| it.lose(weights("public", all_to(Group::A))),
            BACK,
        ),
        (
            "an owner before this one wrote the weights",
            removing,
            |it| it.facts.acknowledged.get_mut("public").expect("written").epoch = 6,
            BACK,
        ),
        ("the route shows weight that was not written", removing, |it| it.shows("public", tenths(1)), BACK),
        (
            "the weights were never written, and show none of it",
            removing,
            |it| it.facts.acknowledged.clear(),
            DELETES,
        ),
        (
            "some rule gives it weight",
            removing,
            |it| it.observed.extra.load_balancer = Some(Seen::Known(load_balancer(100, 1))),
            "wait for GroupAtZero",
        ),
        (
            "it is PRIMARY",
            removing,
            |it| it.candidate().status = TaskSetStatus::Primary,
            "make task set a PRIMARY",
        ),
        (
            "it is PRIMARY, and the version that serves is not listed",
            removing,
            |it| {
                it.candidate().status = TaskSetStatus::Primary;
                it.sets().remove(0);
            },
            "wait for GroupAtZero",
        ),
        (
            "it goes by another name",
            removing,
            |it| it.candidate().external_id = Some("pm1/test/u/9.1".to_owned()),
            "wait for GroupAtZero",
        ),
        (
            "stable is not up, for a moment less than the patience with it",
            removing,
            |it| {
                it.stable().steady = false;
                it.facts.cleanups[0].elapsed = it.spec().deadlines.capacity.minus(MOMENT);
            },
            "wait for StableBeforeCleanUp",
        ),
        (
            "stable is not up, and patience with it is over",
            removing,
            |it| {
                it.stable().steady = false;
                it.facts.cleanups[0].elapsed = it.spec().deadlines.capacity;
            },
            DELETES,
        ),
        (
            "it is being deleted",
            removing,
            |it| it.candidate().status = TaskSetStatus::Draining,
            "wait for Gone",
        ),
        (
            "its deletion was acknowledged",
            removing,
            |it| it.facts.cleanups[0].deleted = true,
            "wait for Gone",
        ),
    ]);
}

#[test]
fn a_group_is_free_when_its_last_target_is_gone() {
    fn left() -> Look {
        let mut look = removing();
        look.sets().pop();
        look
    }
    ask(&[
        ("nobody looked", left, |_| {}, "look"),
        (
            "one is draining",
            left,
            |it| {
                let targets = Targets { draining: 1, ..Targets::default() };
                it.observed.extra.targets.insert(Group::B, Seen::Known(targets));
            },
            "wait for Gone",
        ),
        (
            "none is there",
            left,
            |it| drop(it.observed.extra.targets.insert(Group::B, Seen::Known(Targets::default()))),
            "again",
        ),
    ]);
}

#[test]
fn a_task_set_that_nobody_knows_whether_it_was_made_is_waited_for_as_long_as_it_can_be() {
    fn in_the_dark() -> Look {
        let mut look = removing();
        look.sets().pop();
        look.facts.cleanups[0].task_set = None;
        look
    }
    ask(&[
        (
            "for a moment less",
            in_the_dark,
            |it| quiet(it, QUIET_AFTER_UNKNOWN.minus(MOMENT)),
            "wait for Quiet",
        ),
        ("for as long", in_the_dark, |it| quiet(it, QUIET_AFTER_UNKNOWN), "again"),
        (
            "for as long, while its group has weight",
            in_the_dark,
            |it| {
                quiet(it, QUIET_AFTER_UNKNOWN);
                it.shows("preview", all_to(Group::B));
            },
            "again",
        ),
    ]);
}

/// Version 1 serves from a; nothing else is there, but for what is kept.
fn keeping() -> Look {
    let mut look = removing();
    look.facts.cleanups.clear();
    look.facts.tombstones.clear();
    let version = version(SET_B, scene::ID_B, Group::B, 2);
    look.facts.retained = Some(Retained { version, kept: Span::ZERO, uncertain: false, release: None });
    look
}
fn kept(look: &mut Look, less: Span) {
    let retention = look.spec().retention;
    look.facts.retained.as_mut().expect("kept").kept = retention.minus(less);
}

#[test]
fn a_version_is_kept_warm_for_its_retention_and_not_a_moment_longer() {
    ask(&[
        ("it lacks a moment", keeping, |it| kept(it, MOMENT), "wait for Retention"),
        ("it is over", keeping, |it| kept(it, Span::ZERO), "wait for Quiet"),
    ]);
}

#[test]
fn the_hour_of_repairs_begins_with_the_first_of_them() {
    let mut look = removing();
    look.watched = WATCHED;
    look.pass();
    assert_eq!(look.facts.drift.window, Span::ZERO);
    look.facts.drift = Drift { repairs: 1, ..Drift::default() };
    look.pass();
    assert_eq!((look.facts.drift.repairs, look.facts.drift.window), (1, WATCHED));
    look.facts.drift.window = Span::from_mins(60).minus(WATCHED);
    look.pass();
    assert_eq!(look.facts.drift, Drift::default());
}

#[test]
fn a_release_is_uncertain_after_a_crash_between_an_effect_and_its_answer() {
    for (unknown, uncertain) in [(false, true), (true, false)] {
        let mut look = Look::shifting();
        let effect = weights("public", all_to(Group::B));
        look.facts.outstanding.insert(effect.resource(), Outstanding { effect, unknown, looked: 0 });
        look.pass();
        assert_eq!(look.release().uncertain, uncertain, "the answer was lost: {unknown}");
    }
}

/// What becomes of the quiet time and of the count of looks that showed nothing.
type Anew = (&'static str, fn(&mut Look), (Span, u8));

#[test]
fn what_gives_a_group_weight_again_begins_its_quiet_time_anew_and_what_cannot_be_read_holds_it() {
    let rows: [Anew; 9] = [
        ("nothing", |_| {}, (QUIET, 2)),
        ("a route shows weight", |it| it.shows("public", tenths(1)), (Span::ZERO, 0)),
        (
            "a route shows another group",
            |it| {
                let elsewhere = Weights::NotOurPair("a redirect".to_owned());
                it.observed.routes.insert("public".to_owned(), Seen::Known(elsewhere));
            },
            (Span::ZERO, 0),
        ),
        (
            "a route cannot be read",
            |it| drop(it.observed.routes.insert("public".to_owned(), unread())),
            (QUIET, 0),
        ),
        (
            "a route cannot be read, and its weights are those of an owner before",
            |it| {
                it.observed.routes.insert("public".to_owned(), unread());
                it.facts.acknowledged.get_mut("public").expect("written").epoch = 6;
            },
            (Span::ZERO, 0),
        ),
        (
            "some rule gives it weight",
            |it| it.observed.extra.load_balancer = Some(Seen::Known(load_balancer(100, 1))),
            (Span::ZERO, 0),
        ),
        (
            "a route shows weight, and is looked at again before it is put right",
            |it| {
                it.candidate().running = 0;
                it.shows("public", tenths(1));
            },
            (Span::ZERO, 0),
        ),
        (
            "the test route does, and PRIMARY comes first",
            |it| {
                it.shows("preview", all_to(Group::B));
                it.lose(Effect::SetPrimary { task_set: SET_A.to_owned() });
            },
            (Span::ZERO, 0),
        ),
        (
            "some rule does, and PRIMARY comes first",
            |it| {
                it.observed.extra.load_balancer = Some(Seen::Known(load_balancer(100, 1)));
                it.lose(Effect::SetPrimary { task_set: SET_A.to_owned() });
            },
            (Span::ZERO, 0),
        ),
    ];
    for (what, bend, expected) in rows {
        let mut look = removing();
        bend(&mut look);
        look.pass();
        let job = &look.facts.cleanups[0];
        assert_eq!((job.quiet, job.zero_reads), expected, "{what}");
    }
}

#[test]
fn the_candidate_of_a_first_release_stays_while_a_write_of_its_test_route_may_still_land() {
    ask(&[(
        "it was never answered",
        removing,
        |it| {
            it.facts.stable = None;
            it.sets().remove(0);
            it.lose(weights("preview", all_to(Group::B)));
        },
        "set route preview to a 100 % / b 0 %",
    )]);
}

#[test]
fn a_clean_up_past_its_deadline_is_looked_at_slowly() {
    for (less, poll) in [(MOMENT, WATCHED), (Span::ZERO, Span::from_mins(5))] {
        let mut look = removing();
        quiet(&mut look, Span::ZERO);
        look.facts.cleanups[0].elapsed = look.spec().deadlines.cleanup.minus(less);
        let Next::Wait(wait) = look.decide().next else { panic!("it waits for its quiet time") };
        assert_eq!(wait.poll, poll);
    }
}

// --- claims, and versions that nobody expects

/// Nothing of it is left.
pub fn deleted() -> Look {
    let mut look = removing();
    look.facts.cleanups.clear();
    look.facts.tombstones.clear();
    look.facts.stable = None;
    look.sets().clear();
    look.service = Asked::Absent;
    look
}

#[test]
fn claims_are_given_up_when_nothing_is_left_that_could_change_what_they_name() {
    let given_up = |bend: fn(&mut Look)| {
        let mut look = deleted();
        bend(&mut look);
        look.decide().facts.claims.is_empty()
    };
    assert!(given_up(|_| {}));
    assert!(!given_up(|it| it.lose(weights("public", all_to(Group::A)))), "a write was never answered");
    assert!(!given_up(|it| it.service = Look::baking().service), "the record is there");
}

#[test]
fn a_version_that_nobody_remembers_is_left_alone_only_where_it_is_primary_and_has_traffic() {
    fn unknown() -> Look {
        let mut look = removing();
        look.facts.cleanups.clear();
        look.facts.tombstones.clear();
        look.stable().status = TaskSetStatus::Active;
        look.candidate().status = TaskSetStatus::Primary;
        look.shows("public", tenths(500));
        look
    }
    const HALTS: &str = "halted: StateContradicts";
    ask(&[
        ("both", unknown, |_| {}, HALTS),
        ("it has no traffic", unknown, |it| it.shows("public", all_to(Group::A)), "make task set a PRIMARY"),
        ("it is not PRIMARY", unknown, |it| it.candidate().status = TaskSetStatus::Active, BACK),
        ("it went back", unknown, |it| it.facts.tombstones.push(SET_B.to_owned()), BACK),
        ("it leaves", unknown, |it| it.facts.cleanups.push(scene::cleanup(Some(SET_B), scene::ID_B)), BACK),
        (
            "something else leaves",
            unknown,
            |it| it.facts.cleanups.push(scene::cleanup(Some("task-set/c"), "pm1/test/u/9.1")),
            HALTS,
        ),
    ]);
}

#[test]
fn a_version_kept_warm_takes_the_place_of_one_that_is_lost_once_it_was_given_the_traffic() {
    /// Version 1 lost its tasks, and the time of version 2, which is kept, is over.
    fn lost() -> Look {
        let mut look = keeping();
        kept(&mut look, Span::ZERO);
        look.stable().running = 0;
        look.wrote("public", all_to(Group::B));
        look
    }
    let serves = |bend: fn(&mut Look)| {
        let mut look = lost();
        bend(&mut look);
        look.pass();
        let number = look.facts.stable.map(|stable| stable.revision.number);
        (number, look.facts.retained.is_some())
    };
    assert_eq!(serves(|_| {}), (Some(2), false));
    let unreadable = serves(|it| drop(it.observed.routes.insert("public".to_owned(), unread())));
    assert_eq!(unreadable, (Some(2), false), "an acknowledged write of ours gave it the traffic");
    let not_written = serves(|it| it.wrote("public", all_to(Group::A)));
    assert_eq!(not_written, (Some(1), true), "one look may be stale");
    assert_eq!(serves(|it| it.candidate().running = 0), (Some(1), false), "it is lost too");
}

#[test]
fn a_set_that_nobody_remembers_takes_no_traffic_from_the_version_that_serves_from_the_same_group() {
    fn twin() -> Look {
        let mut look = keeping();
        kept(&mut look, Span::from_mins(30));
        look.sets().push(scene::set("task-set/c", "pm1/test/u/9.1", Group::A));
        look
    }
    ask(&[("the other group runs", twin, |_| {}, "wait for GroupAtZero")]);
}

#[test]
fn each_set_that_nobody_remembers_is_put_up_for_removal_once() {
    let mut look = removing();
    look.facts.cleanups.clear();
    look.facts.tombstones.clear();
    look.sets().push(scene::set("task-set/c", "pm1/test/u/9.1", Group::B));
    look.pass();
    look.pass();
    let leave: Vec<_> = look.facts.cleanups.iter().filter_map(|job| job.task_set.as_deref()).collect();
    assert_eq!(leave, [SET_B, "task-set/c"]);
}

#[test]
fn only_what_brings_traffic_back_goes_before_all_other_work() {
    let urgent = |bend: fn(&mut Look)| {
        let mut look = removing();
        bend(&mut look);
        let Next::Act(action) = look.decide().next else { panic!("it writes weights") };
        action.rollback
    };
    assert!(urgent(|it| it.shows("public", tenths(1))), "some of it is there");
    let earlier = |it: &mut Look| it.facts.acknowledged.get_mut("public").expect("written").epoch = 6;
    assert!(!urgent(earlier), "a write that only asks for an acknowledgement");
    assert!(!urgent(|it| it.shows("preview", tenths(1))), "the test route has no traffic");
}
