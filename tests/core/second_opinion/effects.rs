//! What no effect may do, but the removal of a task set.

use pointsman_core::decide::safety::Property::{
    GateBeforeTraffic, LatchStays, NoEvidenceNoSuccess, OneRevisionPerGroup, RollbackAssetStays,
    TombstonesStay, TrafficIsAnswered, WriteAhead,
};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Acknowledged, Release, Retained};
use pointsman_core::model::observed::{AlarmState, TaskSetStatus, Weights};
use pointsman_core::model::{Effect, Seen};
use pointsman_core::records::{Group, Percent, Span};

use super::scene::*;

fn scales(task_set: &str) -> Effect {
    Effect::ScaleTaskSet { task_set: task_set.to_owned(), scale: Percent::FULL }
}

fn makes_primary(task_set: &str) -> Effect {
    Effect::SetPrimary { task_set: task_set.to_owned() }
}

#[test]
fn an_effect_is_announced_and_goes_by_a_plan() {
    let not = Some((WriteAhead, "is not announced"));
    ask(&[
        ("nothing is announced", Scene::shifting, |s| s.after.outstanding.clear(), not),
        (
            "something else is announced",
            Scene::shifting,
            |s| s.after.outstanding.values_mut().for_each(|it| it.effect = weights("public", tenths(500))),
            not,
        ),
        ("there is no plan", Scene::shifting, |s| s.after.plan = None, Some((WriteAhead, "goes by no plan"))),
    ]);
}

#[test]
fn an_effect_names_what_is_claimed_alone() {
    let not = |arn| Some((WriteAhead, arn));
    ask(&[
        ("a rule is not", Scene::shifting, |s| s.unclaim(PUBLIC), not(PUBLIC)),
        ("that of another route is not", Scene::shifting, |s| s.unclaim(PREVIEW), FINE),
        (
            "a listener is not",
            Scene::shifting,
            |s| {
                s.each_plan(|plan| {
                    let route = &mut plan.spec.routes.production[0];
                    route.listener_default = route.rule.take();
                });
                s.unclaim(PUBLIC);
            },
            not(PUBLIC),
        ),
        ("the service is not, when a set is made", Scene::creating, |s| s.unclaim(SERVICE), not(SERVICE)),
        ("its group is not", Scene::creating, |s| s.unclaim(GROUP_B), not(GROUP_B)),
        ("the service is not, when a set is removed", Scene::removing, |s| s.unclaim(SERVICE), not(SERVICE)),
        (
            "the service is not, when a set is scaled",
            Scene::baking,
            |s| {
                s.announce(scales(SET_B));
                s.unclaim(SERVICE);
            },
            not(SERVICE),
        ),
        (
            "the service is not, when PRIMARY moves",
            Scene::baking,
            |s| {
                s.announce(makes_primary(SET_B));
                s.unclaim(SERVICE);
            },
            not(SERVICE),
        ),
    ]);
}

#[test]
fn a_latched_release_asks_for_its_way_back_and_nothing_else() {
    let latched = Some((LatchStays, "latched, and wants to"));
    ask(&[
        (
            "a little stays on the candidate",
            Scene::going_back,
            |s| s.announce(weights("public", tenths(1))),
            latched,
        ),
        ("the candidate is scaled", Scene::going_back, |s| s.announce(scales(SET_B)), latched),
        ("the candidate becomes PRIMARY", Scene::going_back, |s| s.announce(makes_primary(SET_B)), latched),
        (
            "it latches in this very decision, and goes on",
            Scene::shifting,
            |s| s.becomes().latch = Some(latch()),
            latched,
        ),
        (
            "a first one has no way back",
            Scene::first,
            |s| {
                s.each_release(|it| it.latch = Some(latch()));
                s.announce(weights("preview", all_to(Group::A)));
            },
            latched,
        ),
    ]);
}

#[test]
fn production_weight_goes_to_what_passed_its_gate_or_serves() {
    let gate = Some((GateBeforeTraffic, "to group b, where nothing passed its gate"));
    let dead = Some((TombstonesStay, "gives weight to a tombstone in b"));
    let both_zero = |route| Some((GateBeforeTraffic, route));
    ask(&[
        ("before the gate", Scene::shifting, |s| s.each_release(|it| it.progress.gate_passed = false), gate),
        (
            "behind the gate, without a task set",
            Scene::shifting,
            |s| s.each_release(|it| it.candidate.task_set = None),
            gate,
        ),
        (
            "the test route is for that",
            Scene::shifting,
            |s| {
                s.each_release(|it| it.progress.gate_passed = false);
                s.announce(weights("preview", all_to(Group::B)));
            },
            FINE,
        ),
        (
            "a route of nobody",
            Scene::shifting,
            |s| s.announce(weights("canary", all_to(Group::B))),
            both_zero("canary is not in the plan"),
        ),
        (
            "nobody gets anything",
            Scene::shifting,
            |s| s.announce(weights("public", Shares { a: 0, b: 0 })),
            both_zero("public: both groups at 0"),
        ),
        (
            "nobody gets anything on the test route",
            Scene::shifting,
            |s| s.announce(weights("preview", Shares { a: 0, b: 0 })),
            both_zero("preview: both groups at 0"),
        ),
        (
            "a candidate with a tombstone",
            Scene::shifting,
            |s| s.after.tombstones.push(SET_B.to_owned()),
            dead,
        ),
        (
            "a candidate with a tombstone gets nothing",
            Scene::going_back,
            |s| s.after.tombstones.push(SET_B.to_owned()),
            FINE,
        ),
        (
            "the version that serves has a tombstone",
            Scene::going_back,
            |s| s.after.tombstones.push(SET_A.to_owned()),
            Some((TombstonesStay, "gives weight to a tombstone in a")),
        ),
        (
            "another set has a tombstone",
            Scene::shifting,
            |s| s.after.tombstones.push("task-set/c".to_owned()),
            FINE,
        ),
    ]);
}

/// Nothing is released, and this is written.
fn idle(b: u16) -> Scene {
    let mut scene = Scene::baking();
    scene.both(|facts| facts.release = None);
    scene.announce(weights("public", tenths(b)));
    scene
}

#[test]
fn without_a_release_production_weight_stays_where_something_serves() {
    let gate = Some((GateBeforeTraffic, "to group b, where nothing passed its gate"));
    ask(&[
        ("on what serves", || idle(0), |_| {}, FINE),
        ("on what nobody recorded", || idle(1000), |_| {}, gate),
        (
            "on what is kept warm",
            || idle(1000),
            |s| {
                let version = version(SET_B, ID_B, Group::B, 2);
                s.after.retained =
                    Some(Retained { version, kept: Span::ZERO, uncertain: false, release: None });
            },
            FINE,
        ),
        (
            "nothing ever served, and it stays where it lay",
            || idle(1000),
            |s| s.both(|facts| facts.stable = None),
            FINE,
        ),
    ]);
}

#[test]
fn before_a_first_release_production_weight_stays_where_it_lay() {
    let gate = Some((GateBeforeTraffic, "to group a, where nothing passed its gate"));
    let ungated: fn() -> Scene = || {
        let mut scene = Scene::first();
        scene.each_release(|it| it.progress.gate_passed = false);
        scene
    };
    ask(&[
        ("on the other group", ungated, |s| s.announce(weights("public", all_to(Group::B))), FINE),
        ("on the candidate's", ungated, |s| s.announce(weights("public", all_to(Group::A))), gate),
        (
            "on the candidate's, behind the gate",
            Scene::first,
            |s| s.announce(weights("public", all_to(Group::A))),
            FINE,
        ),
    ]);
}

fn all_to_b_before(release: &mut Release) {
    release.before.insert("public".to_owned(), all_to(Group::B));
}

/// As `shifting`, and no write of production was ever acknowledged.
fn unwritten() -> Scene {
    let mut scene = Scene::shifting();
    scene.both(|facts| {
        facts.acknowledged.remove("public");
    });
    scene.observed.alarms.remove("b-5xx");
    scene
}

#[test]
fn a_step_forward_needs_every_armed_alarm() {
    let without = Some((NoEvidenceNoSuccess, "public goes forward without b-5xx"));
    let gone: fn(&mut Scene) = |s| {
        s.observed.alarms.remove("b-5xx");
    };
    ask(&[
        ("one was not asked", Scene::shifting, gone, without),
        (
            "one cannot be read",
            Scene::shifting,
            |s| {
                s.observed.alarms.insert("b-5xx".to_owned(), unread());
            },
            without,
        ),
        ("one is unknown to AWS", Scene::shifting, |s| s.sees("b-5xx", AlarmState::Missing), without),
        (
            "one has no data, which the record judges",
            Scene::shifting,
            |s| s.sees("b-5xx", AlarmState::InsufficientData),
            FINE,
        ),
        (
            "one of stable's group was not asked",
            Scene::shifting,
            |s| {
                s.observed.alarms.remove("a-5xx");
            },
            FINE,
        ),
        (
            "no more than it has",
            Scene::shifting,
            |s| {
                s.observed.alarms.clear();
                s.announce(weights("public", tenths(100)));
            },
            FINE,
        ),
        ("more than before the release", unwritten, |_| {}, without),
        ("no more than before the release", unwritten, |s| s.each_release(all_to_b_before), FINE),
        ("nobody knows what it has", unwritten, |s| s.each_release(|it| it.before.clear()), without),
        (
            "more than was written, and no more than before the release",
            unwritten,
            |s| {
                let write = Acknowledged { shares: tenths(100), epoch: EPOCH };
                s.before.acknowledged.insert("public".to_owned(), write);
                s.each_release(all_to_b_before);
            },
            without,
        ),
    ]);
}

/// Everything goes to the candidate's group while the route shows this, and so many tasks run in a and b.
fn moved(live: Option<Shares>, a: u32, b: u32) -> Scene {
    let mut scene = Scene::shifting();
    if let Some(live) = live {
        scene.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Pair(live)));
    }
    (scene.sets()[0].running, scene.sets()[1].running) = (a, b);
    scene
}

#[test]
fn traffic_is_not_given_to_an_empty_group() {
    let empty = Some((TrafficIsAnswered, "public gives weight to group b, which has no running task"));
    ask(&[
        ("both run", || moved(Some(tenths(100)), 4, 4), |_| {}, FINE),
        ("the candidate does not run", || moved(Some(tenths(100)), 4, 0), |_| {}, empty),
        ("nobody knows what it has", || moved(None, 4, 0), |_| {}, empty),
        ("it has everything already", || moved(Some(all_to(Group::B)), 4, 0), |_| {}, FINE),
        ("nothing runs", || moved(Some(tenths(100)), 0, 0), |_| {}, FINE),
        ("nobody sees the tasks", || moved(Some(tenths(100)), 4, 0), |s| s.observed.service = unread(), FINE),
        (
            "it leaves",
            || moved(Some(tenths(100)), 4, 4),
            |s| s.sets()[1].status = TaskSetStatus::Draining,
            empty,
        ),
        (
            "it is in another group",
            || moved(Some(tenths(100)), 4, 4),
            |s| s.sets()[1].group = Some(Group::A),
            empty,
        ),
        (
            "the way back does not run",
            Scene::going_back,
            |s| s.sets()[0].running = 0,
            Some((TrafficIsAnswered, "public gives weight to group a, which has no running task")),
        ),
    ]);
}

#[test]
fn when_the_candidate_alone_runs_it_gets_the_traffic_whatever_else_is_true_of_it() {
    let without = Some((NoEvidenceNoSuccess, "public goes forward without b-5xx"));
    let latched = Some((LatchStays, "latched, and wants to"));
    let unasked: fn() -> Scene = || {
        let mut scene = moved(None, 0, 4);
        scene.observed.alarms.remove("b-5xx");
        scene
    };
    let goes_back: fn() -> Scene = || {
        let mut scene = moved(None, 0, 4);
        scene.each_release(|it| it.latch = Some(latch()));
        scene
    };
    ask(&[
        ("without an alarm's answer", unasked, |_| {}, FINE),
        ("though it goes back", goes_back, |_| {}, FINE),
        ("stable runs as well", unasked, |s| s.sets()[0].running = 1, without),
        ("stable runs as well, and it goes back", goes_back, |s| s.sets()[0].running = 1, latched),
        ("neither runs", unasked, |s| s.sets()[1].running = 0, without),
        (
            "stable leaves",
            unasked,
            |s| (s.sets()[0].running, s.sets()[0].status) = (4, TaskSetStatus::Draining),
            FINE,
        ),
        ("nobody sees the tasks", unasked, |s| s.observed.service = unread(), without),
        ("it becomes PRIMARY, and goes back", goes_back, |s| s.announce(makes_primary(SET_B)), latched),
    ]);
}

fn creates(group: Group, number: u32, external_id: &str) -> Effect {
    let (revision, external_id) = (revision(number), external_id.to_owned());
    Effect::CreateTaskSet { group, revision, scale: Percent::FULL, external_id, token: "token".to_owned() }
}

#[test]
fn a_task_set_is_made_for_the_candidate_and_in_a_group_of_its_own() {
    let nobody = Some((WriteAhead, "is no candidate"));
    let taken = Some((OneRevisionPerGroup, "group b has a task set already"));
    ask(&[
        ("of another name", Scene::creating, |s| s.announce(creates(Group::B, 2, ID_A)), nobody),
        ("of another revision", Scene::creating, |s| s.announce(creates(Group::B, 3, ID_B)), nobody),
        (
            "in another group",
            Scene::creating,
            |s| {
                s.sets().clear();
                s.announce(creates(Group::A, 2, ID_B));
            },
            nobody,
        ),
        ("for no release", Scene::creating, |s| s.both(|facts| facts.release = None), nobody),
        ("beside another one", Scene::creating, |s| s.sets().push(set("task-set/c", "c", Group::B)), taken),
        (
            "beside one without a name",
            Scene::creating,
            |s| {
                let mut other = set("task-set/c", "c", Group::B);
                other.external_id = None;
                s.sets().push(other);
            },
            taken,
        ),
        ("once more, by the same name", Scene::creating, |s| s.sets().push(set(SET_B, ID_B, Group::B)), FINE),
        (
            "into the unknown",
            Scene::creating,
            |s| s.observed.service = unread(),
            Some((OneRevisionPerGroup, "without seeing the service")),
        ),
    ]);
}

#[test]
fn the_candidate_alone_is_scaled_and_becomes_primary() {
    let scaled = Some((RollbackAssetStays, "scales task-set/a"));
    let primary = Some((TombstonesStay, "becomes PRIMARY"));
    ask(&[
        ("the candidate is scaled", Scene::baking, |s| s.announce(scales(SET_B)), FINE),
        ("the way back is scaled", Scene::baking, |s| s.announce(scales(SET_A)), scaled),
        ("the candidate becomes PRIMARY", Scene::baking, |s| s.announce(makes_primary(SET_B)), FINE),
        ("what serves becomes PRIMARY", Scene::baking, |s| s.announce(makes_primary(SET_A)), FINE),
        (
            "somebody else's becomes PRIMARY",
            Scene::baking,
            |s| s.announce(makes_primary("task-set/c")),
            primary,
        ),
        (
            "a tombstone becomes PRIMARY",
            Scene::baking,
            |s| {
                s.announce(makes_primary(SET_B));
                s.after.tombstones.push(SET_B.to_owned());
            },
            primary,
        ),
    ]);
}
