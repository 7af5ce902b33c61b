//! The version that serves, or the one to go back to, is gone or forgotten: traffic stays with what can answer.

use std::cell::Cell;

use pointsman_core::decide::response::Phase;
use pointsman_core::decide::{Asked, Next};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{HaltReason, Outstanding};
use pointsman_core::model::observed::AlarmState;
use pointsman_core::model::{Effect, Observed, Seen};
use pointsman_core::records::command::Verb;
use pointsman_core::records::managed_service::{IdleDrift, ManagedServiceSpec};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Percent, Span};

use crate::hands::{at, candidate, finish, is_halted, pass, stable};
use crate::sim::{Fault, Sim};

pub const EVERYTHING_TO_A: [(Group, u32); 2] = [(Group::A, 100), (Group::B, 0)];
pub const EVERYTHING_TO_B: [(Group, u32); 2] = [(Group::A, 0), (Group::B, 100)];

/// Somebody deletes a task set, and makes another one PRIMARY before, as ECS demands.
fn lose(sim: &mut Sim, task_set: &str, instead: &str) {
    sim.make_primary_by_hand(instead);
    sim.delete_by_hand(task_set);
    sim.last_next = None;
}

/// Version 2 was lost while version 1 was kept warm, and traffic has gone to version 1.
fn retained_version_took_over() -> Sim {
    let mut sim = at(Phase::Retaining);
    let (serving, kept) =
        (stable(&sim), sim.facts().retained.as_ref().expect("kept").version.task_set.clone());
    lose(&mut sim, &serving, &kept);
    sim.run_until(|sim| sim.region.production_weights() == EVERYTHING_TO_A, 30);
    sim
}

fn serving_revision(sim: &Sim) -> Option<u32> {
    sim.durable.stable.as_ref().map(|stable| stable.revision.number)
}

fn made_a_task_set(sim: &Sim) -> bool {
    sim.effects.iter().any(|effect| matches!(effect, Effect::CreateTaskSet { .. }))
}

fn wrote_weights(sim: &Sim) -> bool {
    sim.effects.iter().any(|effect| matches!(effect, Effect::SetWeights { .. }))
}

#[test]
fn a_retained_version_that_took_over_keeps_its_traffic_when_retention_ends_and_counts_as_stable() {
    let mut sim = retained_version_took_over();
    finish(&mut sim);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_A);
    assert_eq!(serving_revision(&sim), Some(1));
    assert_eq!(sim.durable.quarantined.len(), 1, "the lost version does not start again by itself");
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn the_fix_for_a_lost_version_is_released_over_the_retained_one_that_took_over() {
    let mut sim = retained_version_took_over();
    sim.ask(3);
    finish(&mut sim);
    assert_eq!(sim.ended.last().map(|ended| ended.outcome), Some(Outcome::Succeeded));
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_version_that_crashes_again_and_again_does_not_get_its_traffic_back_by_a_fix_that_comes_while_it_runs() {
    let mut sim = at(Phase::Retaining);
    sim.hand = Some(without_tasks_in_b);
    sim.last_next = None;
    sim.run_until(|sim| sim.region.production_weights() == EVERYTHING_TO_A, 30);
    sim.hand = None;
    sim.ask(3);
    sim.run_until(|sim| sim.facts().release.is_some(), 400);
    let written = sim.effects.iter().rev().find_map(|effect| match effect {
        Effect::SetWeights { route, shares, .. } if route == "public" => Some((shares.a, shares.b)),
        _ => None,
    });
    assert_eq!(written, Some((100, 0)), "nothing was given back to the version that crashes");
    assert_eq!(serving_revision(&sim), Some(1));
    finish(&mut sim);
    assert_eq!(serving_revision(&sim), Some(3));
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_record_edited_back_to_the_version_that_took_over_is_answered_with_what_serves() {
    for at_once in [false, true] {
        let mut sim = if at_once { at(Phase::Retaining) } else { retained_version_took_over() };
        if at_once {
            sim.hand = Some(without_tasks_in_b);
        }
        sim.effects.clear();
        let before = sim.ended.len();
        sim.ask(1);
        sim.run_until(|sim| sim.ended.len() > before, 20);
        let last = sim.ended.last().expect("it was answered");
        assert_eq!((last.outcome, last.reason.as_str()), (Outcome::Succeeded, "AlreadyServing"));
        finish(&mut sim);
        assert!(!made_a_task_set(&sim), "{:?}", sim.effects);
        assert_eq!(
            (serving_revision(&sim), sim.region.production_weights()),
            (Some(1), EVERYTHING_TO_A.to_vec())
        );
    }
}

#[test]
fn a_rollback_after_the_version_before_took_over_is_told_that_it_serves() {
    let mut sim = retained_version_took_over();
    sim.effects.clear();
    let release = sim.last_release_id();
    sim.command(Verb::Rollback, &release, None);
    finish(&mut sim);
    let answer = sim.durable.answers.last().expect("it was answered");
    assert!(answer.done && answer.reason.contains("checkout:1 serves"), "{answer:?}");
    assert!(!made_a_task_set(&sim), "{:?}", sim.effects);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_A);
}

#[test]
fn a_rollback_asked_for_in_the_moment_in_which_the_version_is_lost_ends_with_the_one_before() {
    let mut sim = at(Phase::Retaining);
    sim.hand = Some(without_tasks_in_b);
    let release = sim.last_release_id();
    sim.command(Verb::Rollback, &release, None);
    sim.effects.clear();
    sim.last_next = None;
    finish(&mut sim);
    let last = sim.ended.last().expect("it was answered");
    assert_eq!((last.outcome, last.reason.as_str()), (Outcome::Succeeded, "AlreadyServing"));
    assert!(!made_a_task_set(&sim), "{:?}", sim.effects);
    assert_eq!(serving_revision(&sim), Some(1));
}

#[test]
fn what_a_person_set_before_a_release_is_not_held_against_it() {
    let mut sim = at(Phase::Retaining);
    let (serving, kept) =
        (stable(&sim), sim.facts().retained.as_ref().expect("kept").version.task_set.clone());
    sim.move_by_hand(100, 0);
    lose(&mut sim, &serving, &kept);
    sim.ask(3);
    finish(&mut sim);
    let last = sim.ended.last().expect("it has ended");
    assert_eq!((last.outcome, last.reason.as_str()), (Outcome::Succeeded, "Baked"));
    assert_eq!(serving_revision(&sim), Some(3));
}

thread_local! {
    static LOOKS: Cell<u32> = const { Cell::new(0) };
}

fn once_without_tasks_in_b(seen: &mut Observed) {
    if LOOKS.replace(LOOKS.get() + 1) == 0 {
        without_tasks_in_b(seen);
    }
}

#[test]
fn one_look_without_a_task_of_what_serves_moves_nothing_also_when_a_write_is_to_be_repeated() {
    for repeated in [false, true] {
        let mut sim = at(Phase::Retaining);
        sim.be_away(Span::from_secs(5));
        if repeated {
            let shares = Shares::giving(Group::B, Percent::FULL);
            let effect = Effect::SetWeights { route: "public".to_owned(), shares, expect: None };
            let open = Outstanding { effect: effect.clone(), unknown: true, looked: 0 };
            sim.durable.outstanding.insert(effect.resource(), open);
        }
        LOOKS.set(0);
        sim.hand = Some(once_without_tasks_in_b);
        pass(&mut sim, 10);
        assert!(LOOKS.get() > 1);
        assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
        assert_eq!(sim.facts().stable.as_ref().map(|stable| stable.revision.number), Some(2));
        assert!(sim.facts().retained.is_some());
    }
}

/// Somebody scaled the service to 0 and up again, and the version kept warm has its tasks first.
fn the_kept_one_starts_first() -> Sim {
    let mut sim = at(Phase::Retaining);
    sim.region.set_desired_count(sim.now, 0);
    sim.last_next = None;
    pass(&mut sim, 5);
    sim.region.set_desired_count(sim.now, 4);
    sim.hand = Some(without_tasks_in_b);
    let runs = |sim: &Sim| sim.region.task_sets().iter().any(|set| set.running_count > 0);
    sim.run_until(runs, 50);
    sim.effects.clear();
    sim
}

#[test]
fn a_service_that_was_scaled_to_zero_is_served_by_the_same_version_when_it_wakes() {
    let mut sim = the_kept_one_starts_first();
    // A request may come meanwhile; nothing starts before it is clear who serves.
    sim.ask(3);
    pass(&mut sim, 20);
    assert_eq!(sim.effects, Vec::new());
    assert!(sim.facts().retained.is_some());
    sim.hand = None;
    sim.run_until(|sim| sim.facts().release.is_some(), 400);
    assert_eq!(serving_revision(&sim), Some(2));
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
}

#[test]
fn a_version_that_does_not_start_again_after_a_while_is_lost_to_the_one_that_did() {
    let mut sim = the_kept_one_starts_first();
    sim.run_until(|sim| sim.region.production_weights() == EVERYTHING_TO_A, 600);
    finish(&mut sim);
    assert_eq!(serving_revision(&sim), Some(1));
}

#[test]
fn a_stable_version_lost_in_a_bake_leaves_its_share_to_the_candidate_and_the_release_goes_on() {
    let mut sim = at(Phase::Baking);
    let (lost, candidate) = (stable(&sim), candidate(&sim));
    lose(&mut sim, &lost, &candidate);
    sim.run_until(|sim| sim.region.production_weights() == EVERYTHING_TO_B, 10);
    assert!(sim.ended.is_empty(), "it still bakes");
    finish(&mut sim);
    assert_eq!(sim.ended.last().map(|ended| ended.outcome), Some(Outcome::Succeeded));
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
}

#[test]
fn a_stable_version_lost_before_the_first_step_leaves_all_traffic_to_the_candidate_behind_its_gate() {
    let mut sim = at(Phase::Preparing);
    let (lost, candidate) = (stable(&sim), candidate(&sim));
    lose(&mut sim, &lost, &candidate);
    sim.run_until(|sim| sim.region.production_weights()[1].1 > 0, 100);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
    finish(&mut sim);
}

/// Stable is lost in a bake and the candidate burns: nothing better exists.
fn nothing_to_go_back_to() -> Sim {
    let mut sim = at(Phase::Baking);
    let (lost, candidate) = (stable(&sim), candidate(&sim));
    lose(&mut sim, &lost, &candidate);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    // One look is not enough to believe that stable is gone.
    pass(&mut sim, 8);
    assert!(is_halted(&sim, HaltReason::NoRollbackTarget), "{:?}", sim.last_next);
    sim
}

#[test]
fn with_nothing_to_go_back_to_the_burning_candidate_gets_what_an_empty_group_would_get() {
    let sim = nothing_to_go_back_to();
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_newer_request_ends_a_release_that_has_nothing_to_go_back_to_and_is_carried_out() {
    let mut sim = nothing_to_go_back_to();
    sim.ask(3);
    sim.run_until(|sim| !sim.ended.is_empty(), 20);
    assert_eq!((sim.ended[0].outcome, sim.ended[0].reason.as_str()), (Outcome::Failed, "NoRollbackTarget"));
    assert_eq!(sim.durable.quarantined.len(), 1);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    finish(&mut sim);
    assert_eq!(sim.ended.last().map(|ended| ended.outcome), Some(Outcome::Succeeded));
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_A);
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn the_lost_version_asked_for_once_more_is_made_anew() {
    let mut sim = nothing_to_go_back_to();
    sim.ask_as(1, Some("once more"));
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Ok);
    sim.run_until(|sim| sim.ended.len() == 2, 400);
    let ends: Vec<Outcome> = sim.ended.iter().map(|ended| ended.outcome).collect();
    assert_eq!(ends, [Outcome::Failed, Outcome::Succeeded]);
    assert_eq!(sim.durable.stable.as_ref().map(|stable| stable.revision.number), Some(1));
    assert_eq!(sim.violations, Vec::<String>::new());
}

/// Version 2 serves, and the daemon's memory is that of a time before.
fn with_an_older_memory(retention: Span, suspend: bool) -> Sim {
    let mut sim = Sim::serving(|spec| spec.retention = retention);
    let older = sim.durable.clone();
    sim.ask(2);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    sim.run_until(|sim| retention > Span::from_mins(1) || sim.is_settled(), 400);
    sim.suspend(suspend);
    sim.be_away(Span::from_secs(30));
    sim.durable = older;
    sim.effects.clear();
    sim
}

#[test]
fn an_older_memory_that_does_not_know_what_serves_moves_no_traffic_and_calls_a_person() {
    for retention in [Span::from_secs(1), Span::from_mins(60)] {
        for suspend in [false, true] {
            let mut sim = with_an_older_memory(retention, suspend);
            pass(&mut sim, 20);
            assert!(is_halted(&sim, HaltReason::StateContradicts), "{:?}", sim.last_next);
            assert!(!wrote_weights(&sim), "{:?}", sim.effects);
            assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
        }
    }
}

#[test]
fn what_an_older_memory_did_not_know_is_removed_once_a_person_gave_the_recorded_version_its_traffic() {
    let mut sim = with_an_older_memory(Span::from_mins(60), false);
    let recorded = stable(&sim);
    pass(&mut sim, 5);
    sim.move_by_hand(100, 0);
    sim.make_primary_by_hand(&recorded);
    sim.run_until(|sim| sim.region.task_sets().len() == 1, 600);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_A);
}

#[test]
fn groups_that_are_swapped_in_an_idle_record_move_no_traffic() {
    let mut sim = Sim::serving(|spec: &mut ManagedServiceSpec| spec.drift.idle = IdleDrift::Revert);
    let Asked::Valid { spec, .. } = &mut sim.service else { panic!("the record is valid") };
    let groups = &mut spec.target_groups;
    std::mem::swap(&mut groups.a, &mut groups.b);
    sim.last_next = None;
    pass(&mut sim, 10);
    assert!(!wrote_weights(&sim), "{:?}", sim.effects);
    assert!(matches!(sim.last_next, Some(Next::Settled)), "{:?}", sim.last_next);
}

#[test]
fn after_a_change_of_hands_a_version_kept_warm_leaves_no_sooner_than_a_late_write_of_before() {
    let mut sim = at(Phase::Retaining);
    sim.pass(Fault::TakeOver);
    sim.run_until(|sim| !sim.facts().cleanups.is_empty(), 800);
    assert!(sim.facts().cleanups[0].uncertain);
}

fn without_tasks(seen: &mut Observed, group: Group) {
    let Seen::Known(service) = &mut seen.service else { return };
    for set in service.task_sets.iter_mut().filter(|set| set.group == Some(group)) {
        set.running = 0;
    }
}

pub fn without_tasks_in_a(seen: &mut Observed) {
    without_tasks(seen, Group::A);
}

fn without_tasks_in_b(seen: &mut Observed) {
    without_tasks(seen, Group::B);
}

/// Version 2 went back and is being removed; then version 1 loses its tasks for good, and somebody gives version 2 a share.
fn only_what_leaves_can_answer() -> Sim {
    let mut sim = at(Phase::Baking);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.run_until(|sim| !sim.facts().cleanups.is_empty(), 100);
    sim.hand = Some(without_tasks_in_a);
    sim.move_by_hand(90, 10);
    sim.effects.clear();
    sim
}

#[test]
fn a_clean_up_takes_no_traffic_from_the_only_tasks_that_answer() {
    let mut sim = only_what_leaves_can_answer();
    pass(&mut sim, 20);
    assert!(!wrote_weights(&sim), "{:?}", sim.effects);
    let Some(Next::Wait(wait)) = &sim.last_next else { panic!("{:?}", sim.last_next) };
    assert_eq!(wait.on.name(), "GroupAtZero");
    // As soon as stable runs again the clean-up goes on.
    sim.hand = None;
    finish(&mut sim);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_A);
}

#[test]
fn a_write_of_unknown_outcome_is_not_repeated_onto_a_group_that_lost_its_tasks() {
    let mut sim = only_what_leaves_can_answer();
    let shares = Shares::giving(Group::A, Percent::FULL);
    let effect = Effect::SetWeights { route: "public".to_owned(), shares, expect: None };
    let open = Outstanding { effect: effect.clone(), unknown: true, looked: 0 };
    sim.be_away(Span::from_secs(5));
    sim.durable.outstanding.insert(effect.resource(), open);
    pass(&mut sim, 20);
    assert!(!wrote_weights(&sim), "{:?}", sim.effects);
}

#[test]
fn a_repair_of_unknown_outcome_is_not_repeated_onto_a_way_back_that_was_lost_in_preparation() {
    let mut sim = at(Phase::Preparing);
    let (lost, candidate) = (stable(&sim), candidate(&sim));
    sim.move_by_hand(0, 100);
    lose(&mut sim, &lost, &candidate);
    sim.be_away(Span::from_secs(10));
    let shares = Shares::giving(Group::A, Percent::FULL);
    let effect = Effect::SetWeights { route: "public".to_owned(), shares, expect: None };
    let open = Outstanding { effect: effect.clone(), unknown: true, looked: 0 };
    sim.durable.outstanding.insert(effect.resource(), open);
    sim.effects.clear();
    finish(&mut sim);
    assert!(!sim.effects.contains(&effect), "{:?}", sim.effects);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
}

#[test]
fn who_gives_a_lost_version_its_share_again_and_again_is_not_fought_for_ever() {
    let mut sim = at(Phase::Baking);
    let (lost, candidate) = (stable(&sim), candidate(&sim));
    lose(&mut sim, &lost, &candidate);
    for _ in 0..6 {
        sim.run_until(|sim| sim.region.production_weights() == EVERYTHING_TO_B, 20);
        sim.move_by_hand(90, 10);
    }
    pass(&mut sim, 10);
    assert!(is_halted(&sim, HaltReason::DriftFight), "{:?}", sim.last_next);
}
