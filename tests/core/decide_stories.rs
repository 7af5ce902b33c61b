//! What the decision core does, told as sentences. Each story runs the production `decide` and `settle` in a
//! small world, and at its end no property may have been violated.

use pointsman_core::decide::Next;
use pointsman_core::model::Effect;
use pointsman_core::model::facts::{HaltReason, LatchCause};
use pointsman_core::model::observed::AlarmState;
use pointsman_core::records::command::{All, PromoteStep, Verb};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::{OnTimeout, Pause, StepSpec, Strategy};
use pointsman_core::records::{Group, Span};

use crate::sim::{Fault, Sim};

fn calls(sim: &Sim) -> Vec<&'static str> {
    sim.effects.iter().map(Effect::name).collect()
}

fn outcome(sim: &Sim) -> Outcome {
    sim.ended.last().expect("a release has ended").outcome
}

fn at_step(sim: &Sim, tenths: u32) -> bool {
    let Some(weights) = sim.region.weights_of("public") else { return false };
    weights.share(Group::B).tenths() == u16::try_from(tenths).expect("small") && sim.facts().release.is_some()
}

fn baking_canary() -> Sim {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(|sim| at_step(sim, 100), 100);
    sim
}

fn finish(sim: &mut Sim) {
    sim.run_until(Sim::is_settled, 800);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_first_release_gives_all_traffic_in_one_write_after_its_gate() {
    let mut sim = Sim::new(|_| {});
    sim.ask(1);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
    // The test route, then production, each once.
    assert_eq!(calls(&sim), ["CreateTaskSet", "SetWeights", "SetWeights", "SetPrimary"]);
}

#[test]
fn a_two_step_canary_costs_five_calls_besides_the_test_route() {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
    let test_route = "SetWeights";
    let canary = ["SetWeights", "SetWeights", "SetPrimary", "DeleteTaskSet"];
    let expected: Vec<&str> = ["CreateTaskSet", test_route].into_iter().chain(canary).collect();
    assert_eq!(calls(&sim), expected);
    assert_eq!(sim.region.task_sets().len(), 1);
    assert_eq!(sim.durable.stable.as_ref().map(|stable| stable.group), Some(Group::B));
}

#[test]
fn a_firing_alarm_during_bake_sends_all_traffic_back_and_stays_latched() {
    let mut sim = baking_canary();
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.pass(Fault::None);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert_eq!(sim.region.production_weights(), [(Group::A, 100), (Group::B, 0)]);
    assert_eq!(sim.durable.quarantined.len(), 1);
    assert_eq!(sim.region.task_sets().len(), 1, "the candidate is cleaned up");
}

#[test]
fn an_alarm_that_came_and_went_between_two_looks_rolls_back() {
    let mut sim = baking_canary();
    sim.be_away(Span::from_secs(30));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.let_time_pass(Span::from_secs(1));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    sim.let_time_pass(Span::from_secs(5));
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert_eq!(sim.ended.last().map(|ended| ended.reason.as_str()), Some("Alarm"));
}

#[test]
fn an_alarm_on_the_stable_group_never_blocks() {
    let mut sim = Sim::serving(|_| {});
    sim.region.set_alarm(sim.now, "a-5xx", AlarmState::Alarm);
    sim.ask(2);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_service_in_alarm_does_not_start_and_is_refused_at_the_deadline() {
    let mut sim = Sim::serving(|_| {});
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.ask(2);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Refused);
    assert_eq!(calls(&sim), Vec::<&str>::new(), "nothing was touched");
}

#[test]
fn break_glass_sets_the_burning_alarm_aside_until_it_was_ok_once() {
    let mut sim = Sim::serving(|_| {});
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.ask(2);
    sim.pass(Fault::None);
    let release = sim.release_id();
    sim.command(Verb::BreakGlass, &release, None);
    sim.run_until(|sim| at_step(sim, 100), 200);
    sim.region.set_alarm(sim.now, "latency", AlarmState::Ok);
    sim.pass(Fault::None);
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
}

#[test]
fn missing_evidence_holds_and_then_rolls_back() {
    let mut sim = baking_canary();
    sim.region.remove_alarm("b-5xx");
    for _ in 0..10 {
        sim.pass(Fault::None);
        assert!(at_step(&sim, 100), "it holds");
    }
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert_eq!(sim.ended.last().map(|ended| ended.reason.as_str()), Some("NoEvidence"));
}

#[test]
fn silence_at_weight_zero_is_not_yet_evidence_but_under_traffic_it_is_missing() {
    let mut sim = Sim::serving(|_| {});
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::InsufficientData);
    sim.ask(2);
    sim.run_until(|sim| at_step(sim, 100), 100);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
}

#[test]
fn a_person_moving_weight_back_is_a_rollback_and_wins() {
    let mut sim = baking_canary();
    sim.move_by_hand(100, 0);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert_eq!(sim.ended.last().map(|ended| ended.reason.as_str()), Some("MovedByHand"));
}

#[test]
fn a_person_moving_weight_forward_is_put_back() {
    let mut sim = baking_canary();
    sim.move_by_hand(1, 99);
    sim.run_until(|sim| at_step(sim, 100), 20);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_stale_read_of_our_own_weights_is_no_foreign_hand() {
    let mut sim = baking_canary();
    sim.pass(Fault::StaleRoutes);
    sim.pass(Fault::StaleRoutes);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_newer_request_supersedes_and_never_makes_a_third_task_set() {
    let mut sim = baking_canary();
    sim.ask(3);
    for _ in 0..300 {
        sim.pass(Fault::None);
        assert!(sim.region.task_sets().len() <= 2);
        if sim.is_settled() {
            break;
        }
    }
    finish(&mut sim);
    let outcomes: Vec<Outcome> = sim.ended.iter().map(|ended| ended.outcome).collect();
    assert_eq!(outcomes, [Outcome::Superseded, Outcome::Succeeded]);
    assert_eq!(sim.durable.stable.as_ref().map(|stable| stable.revision.number), Some(3));
}

#[test]
fn an_edit_back_to_stable_in_flight_only_goes_back() {
    let mut sim = baking_canary();
    sim.ask(1);
    finish(&mut sim);
    assert_eq!(sim.ended[0].outcome, Outcome::Superseded);
    assert_eq!(calls(&sim).iter().filter(|name| **name == "CreateTaskSet").count(), 1);
}

#[test]
fn an_edit_back_to_the_retained_revision_returns_without_a_new_task_set() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(60));
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    sim.effects.clear();
    sim.ask(1);
    sim.run_until(|sim| sim.ended.len() == 2, 400);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
    assert_eq!(calls(&sim), ["SetWeights", "SetPrimary"]);
    assert_eq!(sim.durable.stable.as_ref().map(|stable| stable.revision.number), Some(1));
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_rollback_command_after_success_returns_to_the_retained_version() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(60));
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    let last = sim.ended[0].release;
    sim.command(Verb::Rollback, &format!("checkout-{last}"), None);
    sim.run_until(|sim| sim.ended.len() == 2, 400);
    assert_eq!(sim.durable.stable.as_ref().map(|stable| stable.revision.number), Some(1));
}

#[test]
fn a_return_that_is_given_up_leaves_neither_a_retained_version_nor_its_task_set() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(60));
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    let last = sim.ended[0].release;
    sim.command(Verb::Rollback, &format!("checkout-{last}"), None);
    sim.run_until(|sim| sim.facts().release.is_some(), 50);
    let returning = sim.release_id();
    sim.command(Verb::Abort, &returning, None);
    sim.run_until(|sim| sim.ended.len() == 2, 400);
    assert!(sim.durable.retained.is_none(), "what leaves is not kept for another return");
    finish(&mut sim);
    assert_eq!(sim.durable.stable.as_ref().map(|stable| stable.revision.number), Some(2));
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_rollback_command_without_a_record_is_refused_and_holds_nothing_up() {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    let last = sim.ended[0].release;
    sim.desired = pointsman_core::decide::Asked::Absent;
    sim.pass(Fault::None);
    assert!(sim.durable.retained.is_some(), "the command must find a version to return to");
    sim.command(Verb::Rollback, &format!("checkout-{last}"), None);
    sim.run_until(|sim| sim.durable.retained.is_none() && sim.is_settled(), 400);
    assert!(sim.durable.answers.iter().all(|answer| !answer.done), "{:?}", sim.durable.answers);
    assert_eq!(sim.region.task_sets().len(), 1, "retention has ended");
}

#[test]
fn a_deleted_record_takes_the_ordinary_way_back() {
    let mut sim = baking_canary();
    sim.desired = pointsman_core::decide::Asked::Absent;
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_deleted_service_record_gives_up_its_claims_at_the_very_end() {
    let mut sim = baking_canary();
    sim.service = pointsman_core::decide::Asked::Absent;
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert!(sim.durable.claims.is_empty());
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_deleted_service_record_gives_up_its_claims_though_a_request_waits_for_it() {
    let mut sim = Sim::serving(|_| {});
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.ask(2);
    sim.run_until(|sim| sim.durable.pending.is_some(), 10);
    sim.service = pointsman_core::decide::Asked::Absent;
    sim.run_until(|sim| sim.durable.claims.is_empty(), 20);
    assert!(sim.durable.pending.is_some(), "the request keeps until there is a record again");
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn an_abort_goes_back_and_an_abort_of_nothing_is_harmless() {
    let mut sim = baking_canary();
    let release = sim.release_id();
    sim.command(Verb::Abort, "checkout-99.1", None);
    sim.pass(Fault::None);
    assert!(at_step(&sim, 100));
    sim.command(Verb::Abort, &release, None);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    let done: Vec<bool> = sim.durable.answers.iter().map(|answer| answer.done).collect();
    assert_eq!(done, [false, true]);
}

fn pausing(on_timeout: OnTimeout) -> Sim {
    let pause = Pause { timeout: Span::from_secs(60), on_timeout };
    let steps = vec![StepSpec { pause: Some(pause), ..StepSpec::default() }];
    let strategy = Strategy { steps: Some(steps), ..Strategy::default() };
    let mut sim = Sim::serving(|spec| {
        spec.strategies.insert("fast".to_owned(), strategy);
    });
    sim.ask(2);
    sim.run_until(|sim| matches!(&sim.last_next, Some(Next::Wait(wait)) if wait.on.name() == "Pause"), 100);
    sim
}

#[test]
fn a_pause_waits_for_its_promotion() {
    let mut sim = pausing(OnTimeout::Rollback);
    let release = sim.release_id();
    sim.command(Verb::Promote, &release, Some(PromoteStep::All(All::All)));
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_pause_that_nobody_ends_goes_back_or_on_as_the_record_says() {
    let mut sim = pausing(OnTimeout::Rollback);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Failed, "it never had production weight");
    let mut sim = pausing(OnTimeout::Continue);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_candidate_that_never_gets_healthy_fails_without_traffic_and_the_next_one_succeeds() {
    let mut sim = Sim::serving(|_| {});
    sim.ask(5);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Failed);
    assert!(!calls(&sim).contains(&"SetWeights"), "{:?}", calls(&sim));
    sim.ask(6);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_quarantined_revision_needs_a_new_request_id_or_a_retry() {
    let mut sim = baking_canary();
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.pass(Fault::None);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    finish(&mut sim);
    sim.ask(1);
    finish(&mut sim);
    sim.ask(2);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Refused);
    sim.ask_as(2, Some("again"));
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_request_for_a_revision_that_is_on_its_way_back_does_not_start_it_again() {
    let mut sim = baking_canary();
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.pass(Fault::Denied);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    if let pointsman_core::decide::Asked::Valid { spec, hash } = &mut sim.desired {
        spec.strategy = Some("fast".to_owned());
        *hash = "sha256:the same revision, asked for differently".to_owned();
    }
    sim.last_next = None;
    finish(&mut sim);
    let outcomes: Vec<Outcome> = sim.ended.iter().map(|ended| ended.outcome).collect();
    assert_eq!(outcomes, [Outcome::RolledBack, Outcome::Refused]);
}

#[test]
fn weight_on_an_empty_group_is_put_right_while_idle() {
    let mut sim = Sim::serving(|_| {});
    sim.move_by_hand(0, 1);
    sim.run_until(|sim| sim.region.production_weights()[0].1 > 0, 10);
    finish(&mut sim);
}

#[test]
fn a_fight_over_weights_ends_with_a_person_and_with_traffic_on_the_healthy_set() {
    let mut sim = Sim::serving(|_| {});
    for _ in 0..6 {
        sim.move_by_hand(0, 1);
        sim.run_until(|sim| sim.region.production_weights()[0].1 > 0, 10);
    }
    sim.pass(Fault::None);
    assert!(matches!(&sim.last_next, Some(Next::Halted(halt)) if halt.reason == HaltReason::DriftFight));
    assert_eq!(sim.region.production_weights()[1].1, 0);
}

#[test]
fn other_idle_drift_is_left_alone_unless_the_record_says_revert() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(60));
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    sim.move_by_hand(50, 50);
    for _ in 0..10 {
        sim.pass(Fault::None);
    }
    assert_eq!(sim.region.production_weights(), [(Group::A, 50), (Group::B, 50)]);
    if let pointsman_core::decide::Asked::Valid { spec, .. } = &mut sim.service {
        spec.drift.idle = pointsman_core::records::managed_service::IdleDrift::Revert;
    }
    sim.run_until(|sim| sim.region.production_weights()[0].1 == 0, 10);
}

#[test]
fn suspension_holds_the_forward_steps_but_not_the_way_back() {
    let mut sim = baking_canary();
    if let pointsman_core::decide::Asked::Valid { spec, .. } = &mut sim.service {
        spec.suspend = true;
    }
    for _ in 0..60 {
        sim.pass(Fault::None);
        assert!(at_step(&sim, 100));
    }
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.run_until(|sim| !sim.ended.is_empty(), 10);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    for _ in 0..60 {
        sim.pass(Fault::None);
    }
    assert!(!calls(&sim).contains(&"DeleteTaskSet"), "nothing is deleted while suspended");
}

#[test]
fn falling_desired_count_holds_the_next_step_and_then_goes_back() {
    let mut sim = baking_canary();
    sim.region.set_desired_count(sim.now, 2);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert_eq!(sim.ended.last().map(|ended| ended.reason.as_str()), Some("Deadline"));
}

#[test]
fn a_service_scaled_to_zero_waits_and_is_then_refused() {
    let mut sim = Sim::serving(|_| {});
    sim.region.set_desired_count(sim.now, 0);
    sim.let_time_pass(Span::from_secs(20));
    sim.ask(2);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Refused);
    assert_eq!(calls(&sim), Vec::<&str>::new());
}

#[test]
fn when_the_way_back_is_gone_weights_stay_and_a_person_is_called() {
    let mut sim = baking_canary();
    let stable = sim.durable.stable.clone().expect("a stable version");
    let candidate = sim.facts().release.as_ref().and_then(|r| r.candidate.task_set.clone()).expect("made");
    // Only a set that is not PRIMARY can be deleted: somebody moved PRIMARY first.
    let plan = sim.durable.plan.clone().expect("pinned");
    sim.region.carry_out(sim.now, &plan, &Effect::SetPrimary { task_set: candidate });
    sim.region.delete_set_by_hand(sim.now, &stable.task_set);
    sim.let_time_pass(Span::from_secs(20));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.pass(Fault::None);
    assert!(
        matches!(&sim.last_next, Some(Next::Halted(halt)) if halt.reason == HaltReason::NoRollbackTarget)
    );
    assert!(at_step(&sim, 100), "weights stay");
}

#[test]
fn a_first_release_in_alarm_is_left_in_place_and_counts_as_stable() {
    let mut sim = Sim::new(|_| {});
    sim.ask(1);
    sim.run_until(|sim| sim.facts().release.as_ref().is_some_and(|r| r.progress.exposed), 100);
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.run_until(|sim| !sim.ended.is_empty(), 20);
    assert_eq!(outcome(&sim), Outcome::Failed);
    assert_eq!(sim.ended[0].reason, "NoRollbackTarget");
    sim.region.set_alarm(sim.now, "latency", AlarmState::Ok);
    sim.ask(2);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn a_creation_whose_answer_was_lost_makes_no_second_task_set() {
    for fault in [Fault::LostAnswer, Fault::LostCall, Fault::CrashBefore, Fault::CrashAfter, Fault::Late] {
        let mut sim = Sim::serving(|_| {});
        sim.ask(2);
        while !sim.effects.iter().any(|effect| effect.name() == "CreateTaskSet") {
            let create_is_next = sim.facts().release.is_some();
            sim.pass(if create_is_next { fault } else { Fault::None });
            if create_is_next {
                break;
            }
        }
        for _ in 0..200 {
            assert!(sim.region.task_sets().len() <= 2, "{fault:?}");
            sim.pass(Fault::None);
        }
        finish(&mut sim);
        assert_eq!(outcome(&sim), Outcome::Succeeded, "{fault:?}");
    }
}

fn writes_toward_the_candidate(sim: &Sim) -> usize {
    let forward = |effect: &&Effect| match effect {
        Effect::SetWeights { route, shares, .. } => route == "public" && shares.of(Group::B) > 0,
        _ => false,
    };
    sim.effects.iter().filter(forward).count()
}

/// A canary whose last share was sent once, and lost on its way without a word.
fn canary_with_a_lost_step() -> Sim {
    let mut sim = baking_canary();
    while sim.facts().outstanding.is_empty() {
        sim.pass(Fault::LostCall);
    }
    assert_eq!(writes_toward_the_candidate(&sim), 1, "the first share alone has arrived");
    sim
}

#[test]
fn a_lost_step_forward_is_not_repeated_when_an_alarm_came_and_went_meanwhile() {
    let mut sim = canary_with_a_lost_step();
    sim.be_away(Span::from_secs(5));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.let_time_pass(Span::from_secs(1));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::RolledBack);
    assert_eq!(writes_toward_the_candidate(&sim), 1, "the flap is found before the write is sent again");
}

#[test]
fn a_lost_write_of_the_test_route_is_not_repeated_when_an_alarm_came_and_went_meanwhile() {
    let preview = |sim: &Sim| {
        let forward = |effect: &&Effect| match effect {
            Effect::SetWeights { route, shares, .. } => route == "preview" && shares.of(Group::B) > 0,
            _ => false,
        };
        sim.effects.iter().filter(forward).count()
    };
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    while !sim.facts().outstanding.keys().any(|it| matches!(it, pointsman_core::model::Resource::Route(_))) {
        let made = sim.facts().release.as_ref().is_some_and(|release| release.candidate.task_set.is_some());
        sim.pass(if made { Fault::LostCall } else { Fault::None });
    }
    let sent = preview(&sim);
    sim.be_away(Span::from_secs(5));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.let_time_pass(Span::from_secs(1));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Failed);
    assert_eq!(preview(&sim), sent, "the flap is found before the write is sent again");
}

#[test]
fn a_lost_step_forward_is_not_repeated_while_alarms_cannot_be_read() {
    let mut sim = canary_with_a_lost_step();
    for _ in 0..5 {
        sim.pass(Fault::AlarmsUnread);
    }
    assert_eq!(writes_toward_the_candidate(&sim), 1);
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn no_forward_weight_lands_after_the_way_back_was_verified() {
    // The write of the canary's share is lost and lands later; meanwhile the alarm fires.
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(|sim| sim.facts().release.as_ref().is_some_and(|r| r.progress.gate_passed), 100);
    sim.pass(Fault::Late);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.run_until(|sim| !sim.ended.is_empty(), 50);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    finish(&mut sim);
    assert_eq!(sim.region.production_weights(), [(Group::A, 100), (Group::B, 0)]);
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_lost_forward_write_is_not_repeated_while_an_alarm_cannot_be_read() {
    let mut sim = Sim::serving(|_| {});
    sim.ask(2);
    sim.run_until(|sim| sim.facts().release.as_ref().is_some_and(|r| r.progress.test_shifted), 100);
    // The next effect is the canary's share: it is lost, and nobody can tell.
    sim.pass(Fault::LostCall);
    sim.run_until(|sim| !sim.facts().outstanding.is_empty(), 20);
    for _ in 0..4 {
        sim.pass(Fault::AlarmsUnread);
        assert_eq!(sim.region.production_weights()[1].1, 0, "without evidence nothing goes forward");
    }
    finish(&mut sim);
    assert_eq!(outcome(&sim), Outcome::Succeeded);
}

#[test]
fn an_unready_latch_cause_is_told_by_its_name() {
    let mut sim = baking_canary();
    sim.region.make_sick(sim.now, Group::B, true);
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.run_until(|sim| !sim.ended.is_empty(), 50);
    assert_eq!(sim.durable.quarantined[0].cause, LatchCause::Alarm);
}

#[test]
fn routes_that_cannot_be_read_hold_the_quiet_time_up_and_do_not_begin_it_anew() {
    let mut sim = Sim::serving(|spec| spec.waits.quiet = Span::from_mins(2));
    sim.ask(2);
    let quiet = |sim: &Sim| sim.facts().cleanups.first().map(|job| job.quiet);
    sim.run_until(|sim| quiet(sim).is_some_and(|quiet| quiet > Span::from_secs(20)), 800);
    let before = quiet(&sim);
    for _ in 0..5 {
        sim.pass(Fault::RoutesUnread);
        assert_eq!(quiet(&sim), before, "it is not watched either");
    }
    finish(&mut sim);
    assert_eq!(sim.region.task_sets().len(), 1);
}
