//! What the parts of a status show: the records, the phase, the step, routes, sets and alarms.

use super::super::*;
use super::scene::*;
use crate::decide::WaitingOn;
use crate::model::Action;
use crate::model::effect::Effect;
use crate::model::facts::*;
use crate::records::Percent;
use crate::records::managed_service::{AlarmRef, ManagedServiceSpec};

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

#[test]
fn each_condition_keeps_an_instant_of_its_own() {
    let mut scene = Scene::baking();
    let mut before = scene.status();
    for (condition, second) in before.status.conditions.iter_mut().zip(1..) {
        condition.last_transition_time = now() - Span::from_secs(second).signed();
    }
    scene.previous = Some(before.clone());
    assert_eq!(scene.status().status.conditions, before.status.conditions);
}

#[test]
fn while_nothing_is_released_production_routes_should_show_what_serves_and_others_what_was_written() {
    let mut scene = Scene::idle(false);
    scene.write("preview", Shares::giving(Group::A, Percent::FULL));
    assert_eq!(scene.says("InSync"), "True WeightsVerified");
    scene.facts.acknowledged.remove("public");
    scene.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Pair(ten_percent())));
    let told = scene.says("InSync");
    assert_eq!(told, "False WeightsDiffer route public shows a 90 % / b 10 % instead of a 0 % / b 100 %");
}

#[test]
fn a_rule_that_is_gone_is_out_of_sync() {
    let mut scene = Scene::baking();
    scene.observed.routes.insert("public".to_owned(), Seen::Known(Weights::Gone));
    assert_eq!(scene.says("InSync"), "False WeightsDiffer route public: it does not exist");
}

fn job(task_set: &str, elapsed: Span) -> Cleanup {
    Cleanup {
        task_set: Some(task_set.to_owned()),
        external_id: task_set.to_owned(),
        group: Group::A,
        uncertain: false,
        quiet: Span::ZERO,
        zero_reads: 0,
        deleted: false,
        elapsed,
    }
}

#[test]
fn of_several_sets_that_leave_the_one_that_is_stuck_is_named() {
    let mut scene = Scene::idle(false);
    let limit = scene.facts.plan.as_ref().unwrap().spec.deadlines.cleanup;
    scene.facts.cleanups = vec![job(B_SET, Span::ZERO), job(A_SET, limit)];
    let told = scene.says("CleanedUp");
    assert!(told.starts_with("False CleanupStuck ecs-svc/1 should have left"), "{told}");
}

#[test]
fn primary_is_where_it_should_be_on_what_serves_or_on_the_candidate() {
    let primary = |which: usize, arn: &str| {
        let mut scene = Scene::baking();
        let Seen::Known(service) = &mut scene.observed.service else { unreachable!("it is read") };
        service.task_sets[0].status = TaskSetStatus::Active;
        service.task_sets[which].status = TaskSetStatus::Primary;
        service.task_sets[which].arn = arn.to_owned();
        scene.condition("PrimaryCurrent").unwrap().1
    };
    assert_eq!(primary(0, A_SET), "StableIsPrimary");
    assert_eq!(primary(1, B_SET), "CandidateIsPrimary");
    assert_eq!(primary(1, "another"), "PrimaryElsewhere");
}

#[test]
fn a_halt_is_a_condition_of_its_own() {
    let mut scene = Scene::idle(false);
    assert_eq!(scene.condition("Halted"), None);
    scene.facts.halted = Some(Halt { reason: HaltReason::DriftFight, detail: "six times".to_owned() });
    let told = scene.says("Halted");
    assert!(told.starts_with("True DriftFight halted (DriftFight): six times"), "{told}");
}

#[test]
fn a_rollback_is_stuck_after_a_minute_and_not_a_moment_sooner() {
    let mut scene = Scene::baking();
    scene.latch(Span::from_millis(59_999));
    assert_eq!(scene.condition("RollbackStuck"), None);
    scene.latch(Span::from_secs(60));
    assert!(scene.condition("RollbackStuck").is_some());
}

#[test]
fn edits_that_act_at_once_or_choose_among_strategies_do_not_count_as_later() {
    let edits: [fn(&mut ManagedServiceSpec); 3] = [
        |spec| spec.suspend = true,
        |spec| spec.release_may_choose = vec!["fast".to_owned()],
        |spec| spec.default_strategy = "slow".to_owned(),
    ];
    for edit in edits {
        let mut scene = Scene::baking();
        let Asked::Valid { spec, .. } = &mut scene.service else { unreachable!("it is valid") };
        edit(spec);
        assert_eq!(scene.condition("PlanPinned"), None);
    }
}

#[test]
fn a_template_is_outdated_only_when_nothing_is_going_to_take_the_new_one() {
    let outdated = |bend: fn(&mut Scene)| {
        let mut scene = Scene::idle(false);
        let Asked::Valid { spec, .. } = &mut scene.service else { unreachable!("it is valid") };
        spec.task_set.platform_version = Some("1.4.0".to_owned());
        bend(&mut scene);
        scene.condition("TemplateOutdated").is_some()
    };
    assert!(outdated(|_| {}));
    assert!(!outdated(|it| it.facts.release = Scene::baking().facts.release), "a release is in flight");
    assert!(!outdated(|it| it.facts.pending = Some(Pending::default())), "one is about to start");
    assert!(!outdated(|it| it.ended(Outcome::Failed, "Aborted", "")), "the last one failed");
}

#[test]
fn at_the_end_of_a_release_missing_evidence_still_sends_it_back() {
    let mut scene = Scene::baking();
    scene.progress().stage = Stage::Completing;
    let on = WaitingOn::Evidence { alarm: "checkout-p99".to_owned(), state: "MISSING".to_owned() };
    scene.waits(on, None, Some(Span::from_mins(9)));
    assert!(scene.told().ends_with("else: all traffic goes back to checkout:41"), "{}", scene.told());
}

#[test]
fn a_version_that_was_judged_before_skips_the_test_route() {
    let then = |kind: ReleaseKind| {
        let mut scene = Scene::baking();
        *scene.progress() = Progress::default();
        scene.facts.release.as_mut().unwrap().kind = kind;
        scene.waits(WaitingOn::TargetsHealthy { healthy: 1, wanted: 6, reason: None }, None, None);
        scene.status().status.waiting_on.unwrap().then
    };
    assert_eq!(then(ReleaseKind::Ordinary), "put test route preview on it");
    assert_eq!(then(ReleaseKind::Return), "scale to 100 %, then shift to 100 %");
}

#[test]
fn what_is_waited_for_ends_after_now() {
    let mut scene = Scene::baking();
    let until = |scene: &Scene| {
        let waiting = scene.status().status.waiting_on.unwrap();
        (Span::between(now(), waiting.until), waiting.deadline.map(|at| Span::between(now(), at)))
    };
    scene.waits(WaitingOn::StableSteady, Some(Span::from_secs(5)), Some(Span::from_secs(9)));
    assert_eq!(until(&scene), (Span::from_secs(5), Some(Span::from_secs(9))));
    let effect = Effect::SetPrimary { task_set: B_SET.to_owned() };
    scene.next = Next::Act(Action { effect, rollback: false });
    assert_eq!(until(&scene), (Span::from_secs(10), None));
    let poll = scene.limits.poll;
    scene.next = Next::Again;
    assert_eq!(until(&scene), (poll, None));
    scene.next = Next::Halted(Halt { reason: HaltReason::DriftFight, detail: String::new() });
    assert_eq!(until(&scene), (poll, None));
}

#[test]
fn of_more_alarms_than_are_listed_it_is_said_that_none_burns() {
    let mut scene = Scene::baking();
    for number in 0..LISTED {
        let name = format!("alarm-{number}");
        scene.observed.alarms.insert(name.clone(), alarm(AlarmState::Ok));
        let alarms = &mut scene.facts.plan.as_mut().unwrap().spec.alarms;
        let one = AlarmRef { name, ..alarms[2].clone() };
        alarms.push(one);
    }
    let told = scene.told();
    assert!(told.contains("left while no armed alarm is in ALARM"), "{told}");
}

#[test]
fn a_time_that_is_left_is_rounded_up_to_seconds_but_for_less_than_one() {
    for (millis, shown) in [(400, 400), (1_000, 1_000), (1_001, 2_000), (99_980, 100_000)] {
        assert_eq!(brief(Span::from_millis(millis)), Span::from_millis(shown));
    }
}
