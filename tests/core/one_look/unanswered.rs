//! Effects whose answer was lost: what is repeated, when, and what is not.

use pointsman_core::decide::response::Phase;
use pointsman_core::decide::settle;
use pointsman_core::model::facts::{LateWrite, Stage};
use pointsman_core::model::observed::TaskSetStatus;
use pointsman_core::model::{Acknowledgement, Answer, Effect, Facts};
use pointsman_core::records::{Group, Percent, Span};

use super::{Look, ask};
use crate::second_opinion::scene::{
    ID_B, SET_A, SET_B, Scene, all_to, cleanup, latch, revision, set, tenths, unread, weights,
};

fn makes_primary(task_set: &str) -> Effect {
    Effect::SetPrimary { task_set: task_set.to_owned() }
}

/// One alarm cannot be read, so that nothing goes forward.
fn without_evidence(look: &mut Look, effect: Effect) {
    look.observed.alarms.insert("b-5xx".to_owned(), unread());
    look.lose(effect);
}

fn all_baked() -> Look {
    let mut look = Look::baking();
    (look.progress().step, look.progress().stage) = (3, Stage::Completing);
    look.wrote("public", all_to(Group::B));
    look
}

#[test]
fn while_evidence_is_missing_only_what_goes_forward_is_not_repeated() {
    const HOLDS: &str = "wait for Evidence";
    ask(&[
        (
            "the candidate is scaled",
            Look::shifting,
            |it| {
                let scale = Percent::FULL;
                without_evidence(it, Effect::ScaleTaskSet { task_set: SET_B.to_owned(), scale });
            },
            "scale task set b to 100 %",
        ),
        (
            "the candidate becomes PRIMARY",
            all_baked,
            |it| without_evidence(it, makes_primary(SET_B)),
            "make task set b PRIMARY",
        ),
        (
            "it gets more",
            Look::shifting,
            |it| without_evidence(it, weights("public", all_to(Group::B))),
            HOLDS,
        ),
        (
            "it gets more on a route that cannot be read",
            Look::shifting,
            |it| {
                without_evidence(it, weights("public", all_to(Group::B)));
                it.observed.routes.insert("public".to_owned(), unread());
            },
            HOLDS,
        ),
        (
            "it gets what it has",
            Look::shifting,
            |it| without_evidence(it, weights("public", tenths(100))),
            "set route public to a 90 % / b 10 %",
        ),
        (
            "it gets back what a late write took",
            Look::shifting,
            |it| {
                without_evidence(it, weights("public", tenths(100)));
                let (route, shares) = ("public".to_owned(), tenths(50));
                it.facts.late.push(LateWrite { route, shares, age: Span::ZERO, landed: false });
                it.shows("public", shares);
            },
            HOLDS,
        ),
        (
            "it loses what a person gave it before anything was written",
            Look::at_the_gate,
            |it| without_evidence(it, weights("public", all_to(Group::A))),
            "set route public to a 100 % / b 0 %",
        ),
    ]);
}

/// The version that serves has no task, seen for the first time; version 2 is in the bake of its 10 %.
fn stable_without_tasks() -> Look {
    let mut look = Look::baking();
    look.stable().running = 0;
    look
}

/// A person, or a stale read, shows everything on the candidate, and the write of its share was not answered.
fn puts_back_its_share(look: &mut Look) {
    look.lose(weights("public", tenths(100)));
    look.shows("public", all_to(Group::B));
}

#[test]
fn a_lost_write_that_would_give_more_to_a_group_without_tasks_is_not_repeated() {
    const PUTS_BACK: &str = "set route public to a 90 % / b 10 %";
    ask(&[
        ("both run", Look::baking, puts_back_its_share, PUTS_BACK),
        ("the way back has no task", stable_without_tasks, puts_back_its_share, "wait for Bake"),
        (
            "the way back has none, and nobody can read the route",
            stable_without_tasks,
            |it| {
                puts_back_its_share(it);
                it.observed.routes.insert("public".to_owned(), unread());
            },
            "wait for Observation",
        ),
        (
            "it has none, nobody knows whether the first step was made, and a stale read shows weights of before",
            stable_without_tasks,
            |it| {
                it.facts.acknowledged.remove("public");
                (it.progress().shifted, it.progress().stage) = (false, Stage::Shifting);
                (it.progress().steady_reads, it.progress().settled) = (2, Span::ZERO);
                puts_back_its_share(it);
            },
            "wait for StableSteady",
        ),
        (
            "it has none, and the write takes from it",
            stable_without_tasks,
            |it| it.lose(weights("public", tenths(500))),
            "set route public to a 50 % / b 50 %",
        ),
        (
            "it has none, and the write leaves it what it has",
            stable_without_tasks,
            |it| it.lose(weights("public", tenths(100))),
            PUTS_BACK,
        ),
        (
            "it has none and gets none, on a route that nobody can read",
            stable_without_tasks,
            |it| {
                it.wrote("public", all_to(Group::B));
                it.lose(weights("public", all_to(Group::B)));
                it.observed.routes.insert("public".to_owned(), unread());
            },
            "set route public to a 0 % / b 100 %",
        ),
        (
            "it has none, nor has the candidate, which never had traffic",
            stable_without_tasks,
            |it| {
                puts_back_its_share(it);
                it.candidate().running = 0;
                it.progress().exposed = false;
            },
            PUTS_BACK,
        ),
    ]);
}

/// The candidate's task set was asked for, and nobody knows whether it was made.
fn creating() -> Look {
    let mut look = Look::of(Scene::creating());
    let group = Group::B;
    let (revision, scale) = (revision(2), Percent::FULL);
    let (external_id, token) = (ID_B.to_owned(), "token".to_owned());
    look.lose(Effect::CreateTaskSet { group, revision, scale, external_id, token });
    look
}

fn looked(look: &mut Look) -> &mut u8 {
    &mut look.facts.outstanding.values_mut().next().expect("lost").looked
}

#[test]
fn a_task_set_is_looked_for_twice_before_it_is_asked_for_again() {
    const ASKS: &str = "create a task set of checkout:2 in group b at 100 %";
    ask(&[
        ("it was not looked for", creating, |_| {}, "look"),
        ("once", creating, Look::pass, "look"),
        (
            "twice",
            creating,
            |it| {
                it.pass();
                it.pass();
                assert_eq!(*looked(it), 2);
            },
            ASKS,
        ),
        ("it is there", creating, |it| it.sets().push(set(SET_B, ID_B, Group::B)), "again"),
        (
            "another one is there",
            creating,
            |it| it.sets().push(set("task-set/c", "pm1/test/u/1.2", Group::A)),
            "look",
        ),
        (
            "it was that of a release before",
            creating,
            |it| {
                it.release().candidate.external_id = "pm1/test/u/2.2".to_owned();
                it.facts.outstanding.values_mut().for_each(|entry| entry.looked = 2);
            },
            ASKS,
        ),
    ]);
}

/// Nothing is in flight; version 1 serves from a.
pub fn idle() -> Look {
    let mut look = Look::baking();
    look.facts.release = None;
    look.sets().pop();
    look.wrote("public", all_to(Group::A));
    look.wrote("preview", all_to(Group::A));
    look
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn with_nothing_in_flight_what_was_lost_is_repeated_for_the_version_that_serves() {
    ask(&[
        ("nothing was lost", idle, |_| {}, "settled"),
        (
            "its weights",
            idle,
            |it| it.lose(weights("public", all_to(Group::A))),
            "set route public to a 100 % / b 0 %",
        ),
        (
            "weights of what is gone",
            idle,
            |it| it.lose(weights("public", all_to(Group::B))),
            "set route public to a 100 % / b 0 %",
        ),
        (
            "its weights, which stand though it has no task, while another set has some",
            idle,
            |it| {
                it.lose(weights("public", all_to(Group::A)));
                it.stable().running = 0;
                it.sets().push(set("task-set/c", "somebody's", Group::B));
            },
            "set route public to a 100 % / b 0 %",
        ),
        (
            "its weights, and another set alone can answer what is left on it",
            idle,
            |it| {
                it.lose(weights("public", all_to(Group::A)));
                it.shows("public", tenths(500));
                it.stable().running = 0;
                it.sets().push(set("task-set/c", "somebody's", Group::B));
            },
            "settled",
        ),
        ("its being PRIMARY", idle, |it| it.lose(makes_primary(SET_A)), "make task set a PRIMARY"),
        (
            "that another set, which is there, becomes PRIMARY",
            idle,
            |it| {
                *it.sets() = vec![set("task-set/c", "somebody's", Group::B)];
                it.facts.stable.as_mut().expect("it serves").task_set = "task-set/gone".to_owned();
                it.lose(makes_primary("task-set/c"));
            },
            "settled",
        ),
        (
            "that a set becomes PRIMARY which is gone by now",
            idle,
            |it| {
                it.facts.stable.as_mut().expect("it serves").task_set = "task-set/gone".to_owned();
                it.lose(makes_primary("task-set/c"));
            },
            "look",
        ),
        (
            "that, and it was looked for twice",
            idle,
            |it| {
                it.facts.stable.as_mut().expect("it serves").task_set = "task-set/gone".to_owned();
                it.lose(makes_primary("task-set/c"));
                it.pass();
                it.pass();
                assert_eq!(*looked(it), 2);
            },
            "again",
        ),
        (
            "a scaling of what went back",
            idle,
            |it| {
                it.sets().push(set(SET_B, ID_B, Group::B));
                it.candidate().status = TaskSetStatus::Draining;
                let scale = Percent::FULL;
                it.lose(Effect::ScaleTaskSet { task_set: SET_B.to_owned(), scale });
            },
            "settled",
        ),
    ]);
}

/// Two task sets leave of which nobody knows whether they were made.
fn in_the_dark() -> Facts {
    let cleanups = ["pm1/test/u/8.1", "pm1/test/u/9.1"].map(|id| cleanup(None, id)).into();
    Facts { cleanups, ..Facts::default() }
}

#[test]
fn a_creation_that_is_answered_after_all_names_the_set_of_its_own_clean_up_alone() {
    let effect = Effect::CreateTaskSet {
        group: Group::B,
        revision: revision(2),
        scale: Percent::FULL,
        external_id: "pm1/test/u/9.1".to_owned(),
        token: "token".to_owned(),
    };
    let created = Acknowledgement::Created { task_set: "task-set/c".to_owned() };
    let facts = settle(&in_the_dark(), &effect, &Answer::Acknowledged(created), 3);
    let named: Vec<_> = facts.cleanups.iter().map(|job| job.task_set.as_deref()).collect();
    assert_eq!(named, [None, Some("task-set/c")]);
    assert_eq!(facts.tombstones, ["task-set/c"]);
}

#[test]
fn a_deletion_that_is_acknowledged_is_that_of_its_own_set_alone() {
    let cleanups = vec![cleanup(Some("task-set/c"), "pm1/test/u/9.1"), cleanup(Some(SET_B), ID_B)];
    let before = Facts { cleanups, ..Facts::default() };
    let effect = Effect::DeleteTaskSet { task_set: SET_B.to_owned(), external_id: ID_B.to_owned() };
    let facts = settle(&before, &effect, &Answer::Acknowledged(Acknowledgement::Done), 3);
    assert_eq!(facts.cleanups.iter().map(|job| job.deleted).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_release_that_is_latched_goes_back_whatever_stage_it_was_in() {
    let mut look = Look::baking();
    assert_eq!(Phase::of(&look.facts), Phase::Baking);
    look.release().latch = Some(latch());
    assert_eq!(Phase::of(&look.facts), Phase::GoingBack);
}
