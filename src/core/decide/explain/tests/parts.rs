//! What the parts of a status show: the records, the phase, the step, routes, sets and alarms.

use super::super::*;
use super::scene::*;
use crate::decide::WaitingOn;
use crate::model::facts::*;
use crate::records::Percent;

#[test]
fn a_retry_of_a_refused_request_is_accepted_while_it_is_in_flight() {
    let mut scene = Scene::baking();
    scene.ended(Outcome::Refused, "Sticky", "spec.routes (public) is group stickiness of 1h");
    scene.facts.attempt = 2;
    assert_eq!(scene.says("Accepted"), "True Valid");
}

#[test]
fn the_request_is_shown_by_its_revision_however_it_was_written() {
    let arn = "arn:aws:ecs:eu-central-1:111122223333:task-definition/checkout:43";
    for (written, shown) in [("checkout:43", Some("checkout:43")), (arn, Some("checkout:43")), ("", None)] {
        let mut scene = Scene::baking();
        scene.facts.asked.as_mut().unwrap().task_definition = written.to_owned();
        assert_eq!(scene.status().status.observed.task_definition.as_deref(), shown, "{written:?}");
    }
}

#[test]
fn before_its_gate_a_release_is_prepared_until_its_targets_are_healthy() {
    let rows = [
        (false, false, Phase::Preparing),
        (false, true, Phase::Gating),
        (true, true, Phase::Baking),
        // A set that came back may be looked at anew; its gate stays passed.
        (true, false, Phase::Baking),
    ];
    for (gate_passed, targets_healthy, phase) in rows {
        let mut scene = Scene::baking();
        (scene.progress().gate_passed, scene.progress().targets_healthy) = (gate_passed, targets_healthy);
        assert_eq!(scene.status().status.phase, phase, "{gate_passed} {targets_healthy}");
    }
}

#[test]
fn a_step_shows_how_much_of_its_bake_is_done_and_the_last_one_all_of_it() {
    let shown = |scene: &Scene| scene.status().status.release.unwrap().step.unwrap();
    let mut scene = Scene::baking();
    assert_eq!((shown(&scene).index, shown(&scene).bake_done), (1, Span::from_millis(200_020)));
    scene.progress().step = 4;
    scene.progress().baked = Span::ZERO;
    let last = shown(&scene);
    assert_eq!((last.index, last.of, last.bake_done), (4, 4, last.bake));
}

#[test]
fn the_test_route_is_told_from_those_of_production() {
    let traffic = Scene::baking().status().status.traffic;
    let told: Vec<_> = traffic.iter().map(|route| (route.route.as_str(), route.test)).collect();
    assert_eq!(told, [("public", false), ("preview", true)]);
}

#[test]
fn a_set_that_is_up_again_does_not_say_why_a_task_of_it_stopped() {
    let mut scene = Scene::baking();
    scene.observed.extra.last_stop.insert(A_SET.to_owned(), Seen::Known("exit code 1".to_owned()));
    let stopped = scene.status().status.task_sets.iter().find_map(|set| set.last_stop.clone());
    assert_eq!(stopped, None);
}

/// The role of the set in group b.
fn role_of_b(scene: &Scene) -> Role {
    let sets = scene.status().status.task_sets;
    sets.iter().find(|set| set.target_group == Some(Group::B)).unwrap().role
}

#[test]
fn a_set_is_the_candidates_by_its_name_alone_and_leaves_by_our_mark_or_by_our_memory() {
    let mut scene = Scene::baking();
    scene.facts.release.as_mut().unwrap().candidate.task_set = None;
    assert_eq!(role_of_b(&scene), Role::Candidate, "its creation was not answered yet");

    scene.facts.release = None;
    assert_eq!(role_of_b(&scene), Role::Leaving, "it bears our mark");
    let Seen::Known(service) = &mut scene.observed.service else { unreachable!("it is read") };
    service.task_sets[1].external_id = Some("somebody's".to_owned());
    assert_eq!(role_of_b(&scene), Role::Foreign);
    scene.facts.tombstones.push(B_SET.to_owned());
    assert_eq!(role_of_b(&scene), Role::Leaving, "we know that it went back");
}

#[test]
fn alarms_are_armed_for_a_request_that_waits_and_for_nothing_else() {
    let armed = |scene: &Scene| {
        let mut alarms = scene.status().status.alarms;
        alarms.retain(|alarm| alarm.armed);
        alarms.into_iter().map(|alarm| alarm.name).collect::<Vec<_>>()
    };
    // Version 43 serves from b, so that the next one comes to a.
    let mut scene = Scene::idle(false);
    assert_eq!(armed(&scene), Vec::<String>::new());
    scene.facts.pending = Some(Pending::default());
    assert_eq!(armed(&scene), ["checkout-a-5xx", "checkout-p99"]);
}

#[test]
fn a_route_that_gives_nobody_anything_is_not_back() {
    let mut scene = Scene::baking();
    scene.latch(Span::from_secs(5));
    scene.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Pair(Shares { a: 0, b: 0 })));
    scene.waits(WaitingOn::RollbackVerify, None, None);
    let told = scene.told();
    assert!(told.contains("verifying public at 0 % on a fresh read"), "{told}");
    scene.write("public", Shares::giving(Group::A, Percent::FULL));
    let told = scene.told();
    assert!(told.contains("verifying every route on a fresh read"), "{told}");
}
