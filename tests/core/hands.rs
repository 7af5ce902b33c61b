//! What happens when somebody else changes the world: one test for each row of the table in `docs/operating.md`,
//! through the phases in which the answer differs.
//!
//! `decide_stories.rs` tells those of weights and alarms in a bake, of outages and of a falling desiredCount;
//! `lost_versions.rs` and `filling_in.rs` those of a version that is gone, `gone_routes.rs` those of a deleted rule; `refusals.rs` what a
//! request meets afterwards.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::decide::response::{Class, Phase, Work};
use pointsman_core::decide::{Input, Limits, Next, decide, settle};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Facts, HaltReason};
use pointsman_core::model::observed::{Service, ServiceStatus, TaskSetStatus, Weights};
use pointsman_core::model::{Acknowledgement, Answer, Effect, Mutation, Observed, RefusalClass, Seen};
use pointsman_core::records::managed_service::{IdleDrift, Route};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::{Scale, StepSpec, Strategy};
use pointsman_core::records::{Group, Percent, Span};

use crate::sim::trouble::{Injection, What};
use crate::sim::{Fault, Sim};

const LONG: u32 = 800;

/// Version 1 serves from a, and version 2 has come this far with its release.
pub fn at(phase: Phase) -> Sim {
    let steps = vec![StepSpec {
        weight: Percent::from_tenths(100),
        scale: Percent::from_tenths(500).map(Scale::Fixed),
        bake: Some(Span::from_secs(20)),
        pause: None,
    }];
    let mut sim = Sim::serving(|spec| {
        spec.strategies.insert("fast".to_owned(), Strategy { steps: Some(steps), ..Strategy::default() });
        spec.retention = Span::from_mins(5);
    });
    if phase == Phase::Idle {
        return sim;
    }
    sim.ask(2);
    let there = |sim: &Sim| {
        let made = sim.facts().release.as_ref().is_none_or(|release| release.candidate.task_set.is_some());
        Phase::of(sim.facts()) == phase && made
    };
    sim.run_until(there, 200);
    sim
}

pub fn candidate(sim: &Sim) -> String {
    sim.facts().release.as_ref().and_then(|release| release.candidate.task_set.clone()).expect("it is made")
}

pub fn stable(sim: &Sim) -> String {
    sim.facts().stable.as_ref().expect("something serves").task_set.clone()
}

fn last(sim: &Sim) -> (Outcome, &str) {
    let ended = sim.ended.last().expect("a release has ended");
    (ended.outcome, &ended.reason)
}

fn until_ended(sim: &mut Sim) {
    sim.run_until(|sim| !sim.ended.is_empty(), LONG);
}

fn until_ended_again(sim: &mut Sim) {
    let before = sim.ended.len();
    sim.run_until(|sim| sim.ended.len() > before, LONG);
}

pub fn finish(sim: &mut Sim) {
    sim.last_next = None;
    sim.run_until(Sim::is_settled, LONG);
    assert_eq!(sim.violations, Vec::<String>::new());
}

pub fn is_halted(sim: &Sim, reason: HaltReason) -> bool {
    matches!(&sim.last_next, Some(Next::Halted(halt)) if halt.reason == reason)
}

pub fn pass(sim: &mut Sim, times: u32) {
    for _ in 0..times {
        sim.pass(Fault::None);
    }
}

// --- weights

#[test]
fn weight_given_to_a_candidate_before_its_gate_is_put_back() {
    let mut sim = at(Phase::Preparing);
    sim.move_by_hand(50, 50);
    sim.run_until(|sim| sim.region.production_weights()[1].1 == 0, 20);
    assert!(sim.ended.is_empty());
    finish(&mut sim);
    assert_eq!(last(&sim).0, Outcome::Succeeded);
}

#[test]
fn weight_moved_while_the_previous_version_is_retained_is_left_or_put_back_as_the_record_says() {
    for (drift, left) in [(IdleDrift::Report, true), (IdleDrift::Revert, false)] {
        let mut sim = at(Phase::Retaining);
        if let pointsman_core::decide::Asked::Valid { spec, .. } = &mut sim.service {
            spec.drift.idle = drift;
        }
        sim.move_by_hand(50, 50);
        pass(&mut sim, 10);
        assert_eq!(sim.region.production_weights()[0].1 > 0, left, "{drift:?}");
        // Before the retained version is removed its weight goes in any case.
        finish(&mut sim);
        assert_eq!(sim.region.production_weights()[0].1, 0);
    }
}

/// Seven production routes, twice moved onto the empty group; what is written shows at once.
#[test]
fn an_incident_that_moves_many_routes_is_put_right_on_all_of_them_and_counts_once() {
    let mut sim = at(Phase::Idle);
    sim.be_away(Span::from_secs(5));
    let mut facts = sim.durable.clone();
    let plan = facts.plan.as_mut().expect("pinned");
    let route = plan.spec.routes.production.remove(0);
    let names: Vec<String> = (0..7).map(|number| format!("r{number}")).collect();
    plan.spec.routes.production =
        names.iter().map(|name| Route { name: name.clone(), ..route.clone() }).collect();
    let observed = sim.region.observe(sim.now, Some(&plan.clone()), &BTreeSet::new());
    let (empty, full) = (Shares { a: 0, b: 100 }, Shares { a: 100, b: 0 });
    let mut shown: BTreeMap<String, Shares> = names.iter().map(|name| (name.clone(), empty)).collect();
    let mut writes = 0;
    for incident in 1..=2 {
        for it in shown.values_mut() {
            *it = empty;
        }
        for _ in 0..60 {
            let (next, after) = decide_once(&sim, &facts, &observed, &shown);
            facts = after;
            assert_eq!(facts.halted, None);
            let Next::Act(action) = next else { continue };
            if let Effect::SetWeights { route, shares, .. } = &action.effect {
                shown.insert(route.clone(), *shares);
                writes += 1;
            }
            let done = Answer::Acknowledged(Acknowledgement::Done);
            facts = settle(&facts, &action.effect, &done, sim.epoch);
        }
        assert!(shown.values().all(|it| it.same_ratio(full)), "{shown:?}");
        assert_eq!((writes, facts.drift.repairs), (7 * incident, incident));
    }
}

/// One decision over these facts, with the production routes showing this.
fn decide_once(
    sim: &Sim,
    facts: &Facts,
    observed: &Observed,
    shown: &BTreeMap<String, Shares>,
) -> (Next, Facts) {
    let pairs = shown.iter().map(|(name, shares)| (name.clone(), Seen::Known(Weights::Pair(*shares))));
    let observed = Observed { routes: pairs.collect(), ..observed.clone() };
    let limits =
        Limits { installation: "test".to_owned(), poll: Span::from_secs(2), idle_poll: Span::from_secs(60) };
    let input = Input {
        key: &"payments/checkout".parse().expect("a key"),
        now: sim.now,
        watched: Span::from_secs(2),
        epoch: sim.epoch,
        limits: &limits,
        service: &sim.service,
        desired: &sim.desired,
        commands: &[],
        observed: &observed,
        facts,
        fresh_uid: "uid",
        claim_denied: None,
    };
    let decision = decide(&input);
    (decision.next, decision.facts)
}

// --- routes

fn swapped(seen: &mut Observed) {
    seen.routes.insert("public".to_owned(), Seen::Known(Weights::NotOurPair("another group".to_owned())));
}

/// The rule forwards elsewhere: nothing of it can be written.
fn lose_the_route(sim: &mut Sim) {
    sim.hand = Some(swapped);
    let refused = Class::Refused(RefusalClass::Permanent);
    for phase in Phase::ALL {
        let what = What::Work(Work::ProductionWeights, refused, false);
        sim.injections.push(Injection::new(phase, what, u32::MAX));
    }
}

#[test]
fn a_rule_that_forwards_elsewhere_is_never_rewritten() {
    for phase in [Phase::Preparing, Phase::Baking, Phase::Retaining, Phase::Idle] {
        let mut sim = at(phase);
        lose_the_route(&mut sim);
        let production = |sim: &Sim| {
            let ours =
                |effect: &&Effect| matches!(effect, Effect::SetWeights { route, .. } if route == "public");
            sim.effects.iter().filter(ours).count()
        };
        let before = production(&sim);
        pass(&mut sim, 100);
        assert_eq!(production(&sim), before, "{phase:?}");
        let met: u32 = sim.injections.iter().map(|injection| injection.met).sum();
        assert_eq!(met, 0, "{phase:?}: a write of a route that is not ours was tried");
        match phase {
            // It held for the evidence deadline; nothing had been shifted.
            Phase::Preparing => assert_eq!(last(&sim), (Outcome::Failed, "NoEvidence")),
            // It held as long, latched, and cannot write the way back.
            Phase::Baking => {
                assert!(is_halted(&sim, HaltReason::StateContradicts), "{phase:?} {:?}", sim.last_next);
            }
            _ => assert!(sim.ended.len() <= 1, "{phase:?}"),
        }
        // The rule is put right: everything ends by itself.
        sim.hand = None;
        sim.injections.clear();
        finish(&mut sim);
        if matches!(phase, Phase::Preparing | Phase::Baking) {
            assert_eq!(last(&sim).1, "NoEvidence", "{phase:?}");
            assert_eq!(sim.region.production_weights()[1].1, 0);
        }
    }
}

#[test]
fn conditions_and_stickiness_that_somebody_changes_are_kept_by_every_write() {
    for phase in [Phase::Preparing, Phase::Scaling, Phase::Baking, Phase::Retaining, Phase::Idle] {
        let mut sim = at(phase);
        sim.region.edit_production_rule(sim.now, "/shop/*", 120);
        let writes = sim.effects.len();
        finish(&mut sim);
        assert_eq!(sim.region.production_rule(), (vec!["/shop/*".to_owned()], Some(120)), "{phase:?}");
        if matches!(phase, Phase::Preparing | Phase::Scaling | Phase::Baking) {
            assert_eq!(last(&sim).0, Outcome::Succeeded, "{phase:?}");
            assert!(sim.effects.len() > writes, "{phase:?}: the rule was written after the edit");
        }
        // Shares are not what is set any more: the next start is refused.
        sim.ask(3);
        until_ended_again(&mut sim);
        assert_eq!(last(&sim), (Outcome::Refused, "Sticky"), "{phase:?}");
    }
}

#[test]
fn a_rule_that_somebody_adds_keeps_a_task_set_alive_while_it_gives_its_group_weight() {
    for phase in [Phase::Preparing, Phase::Baking, Phase::Retaining] {
        let mut sim = at(phase);
        let rule = sim.region.forward_elsewhere(sim.now, None, 1, 1);
        sim.last_next = None;
        sim.run_until(|sim| Phase::of(sim.facts()) == Phase::Leaving, LONG);
        pass(&mut sim, 200);
        assert_eq!(Phase::of(sim.facts()), Phase::Leaving, "{phase:?}: {:?}", sim.last_next);
        assert_eq!(sim.region.task_sets().len(), 2, "{phase:?}: version 1 serves the partner's requests");
        sim.region.forward_elsewhere(sim.now, Some(&rule), 0, 1);
        finish(&mut sim);
        assert_eq!(sim.region.task_sets().len(), 1, "{phase:?}");
        sim.ask(3);
        until_ended_again(&mut sim);
        assert_eq!(last(&sim), (Outcome::Refused, "GroupUsedElsewhere"), "{phase:?}");
    }
}

#[test]
fn a_candidate_that_went_back_stays_while_an_added_rule_gives_it_weight() {
    let mut sim = at(Phase::Baking);
    let rule = sim.region.forward_elsewhere(sim.now, None, 0, 1);
    let release = sim.release_id();
    sim.command(pointsman_core::records::command::Verb::Abort, &release, None);
    until_ended(&mut sim);
    pass(&mut sim, 200);
    assert_eq!(sim.region.task_sets().len(), 2);
    sim.region.forward_elsewhere(sim.now, Some(&rule), 1, 0);
    finish(&mut sim);
    assert_eq!(sim.region.task_sets().len(), 1);
}

// --- the task definition

#[test]
fn a_task_definition_deregistered_before_its_task_set_is_made_fails_the_release() {
    let mut sim = Sim::serving(|_| {});
    let throttled = What::Work(Work::CreateTaskSet, Class::Refused(RefusalClass::Throttled), false);
    sim.injections.push(Injection::new(Phase::Preparing, throttled, 1));
    sim.ask(2);
    sim.run_until(|sim| sim.facts().release.is_some(), 50);
    assert!(sim.facts().release.as_ref().is_some_and(|release| release.candidate.task_set.is_none()));
    sim.region.deregister(sim.now, 2);
    until_ended(&mut sim);
    assert_eq!(last(&sim), (Outcome::Failed, "Deadline"));
    finish(&mut sim);
    assert_eq!(sim.region.task_sets().len(), 1);
}

/// AWS: services that reference an INACTIVE task definition run on, and can still be scaled
/// (API reference of `DeregisterTaskDefinition`).
#[test]
fn a_task_definition_deregistered_afterwards_disturbs_no_release_and_is_refused_the_next_time() {
    for phase in [Phase::Preparing, Phase::Scaling, Phase::Baking, Phase::Retaining, Phase::Idle] {
        let mut sim = at(phase);
        sim.region.deregister(sim.now, 1);
        sim.region.deregister(sim.now, 2);
        finish(&mut sim);
        assert!(sim.ended.iter().all(|ended| ended.outcome == Outcome::Succeeded), "{phase:?}");
        assert_eq!(sim.region.task_sets()[0].running_count, 4, "{phase:?}");
        sim.ask_as(if phase == Phase::Idle { 2 } else { 1 }, Some("again"));
        until_ended_again(&mut sim);
        assert_eq!(last(&sim), (Outcome::Refused, "TaskDefinitionUnfit"), "{phase:?}");
    }
}

#[test]
fn the_way_back_to_a_deregistered_task_definition_needs_no_new_task() {
    let mut sim = at(Phase::Baking);
    sim.region.deregister(sim.now, 1);
    let release = sim.release_id();
    sim.command(pointsman_core::records::command::Verb::Abort, &release, None);
    until_ended(&mut sim);
    assert_eq!(last(&sim).0, Outcome::RolledBack);
    finish(&mut sim);
    assert_eq!(sim.region.production_weights()[1].1, 0);
}

// --- the service

fn gone(seen: &mut Observed) {
    seen.service = Seen::Known(Service {
        status: ServiceStatus::Missing,
        external: false,
        desired_count: 0,
        task_sets: Vec::new(),
    });
}

fn draining(seen: &mut Observed) {
    if let Seen::Known(service) = &mut seen.service {
        service.status = ServiceStatus::Draining;
        for set in &mut service.task_sets {
            (set.status, set.running) = (TaskSetStatus::Draining, 0);
        }
    }
}

#[test]
fn a_deleted_or_draining_service_ends_its_release_and_is_not_made_anew() {
    for hand in [gone as fn(&mut Observed), draining] {
        for phase in [Phase::Preparing, Phase::Baking, Phase::Retaining, Phase::Idle] {
            let mut sim = at(phase);
            sim.hand = Some(hand);
            sim.effects.clear();
            pass(&mut sim, 60);
            assert_eq!(sim.effects, Vec::new(), "{phase:?}");
            match phase {
                Phase::Preparing => assert_eq!(last(&sim), (Outcome::Failed, "CandidateLost")),
                // There is nothing to go back to: weights stay, a person is called.
                Phase::Baking => {
                    assert!(is_halted(&sim, HaltReason::NoRollbackTarget), "{:?}", sim.last_next);
                }
                _ => {}
            }
            assert_eq!(sim.violations, Vec::<String>::new(), "{phase:?}");
        }
    }
}

// --- desiredCount

#[test]
fn a_desired_count_that_grows_is_followed_by_both_versions_in_every_phase() {
    for phase in [Phase::Preparing, Phase::Baking, Phase::Retaining, Phase::Idle] {
        let mut sim = at(phase);
        sim.region.set_desired_count(sim.now, 8);
        finish(&mut sim);
        assert!(sim.ended.iter().all(|ended| ended.outcome == Outcome::Succeeded), "{phase:?}");
        assert_eq!(sim.region.desired_count(sim.now), 8, "{phase:?}: it is never written");
        let serving = sim.region.task_sets();
        assert_eq!(serving[0].running_count, 8, "{phase:?}");
    }
}

#[test]
fn a_desired_count_of_zero_in_a_bake_calls_a_person_and_goes_back_when_it_is_raised() {
    let mut sim = at(Phase::Baking);
    sim.region.set_desired_count(sim.now, 0);
    pass(&mut sim, 40);
    assert!(is_halted(&sim, HaltReason::NoRollbackTarget), "{:?}", sim.last_next);
    assert_eq!(sim.region.desired_count(sim.now), 0, "it is never written");
    sim.region.set_desired_count(sim.now, 4);
    until_ended(&mut sim);
    assert_eq!(last(&sim), (Outcome::RolledBack, "CandidateLost"));
    finish(&mut sim);
    assert_eq!(sim.region.desired_count(sim.now), 4);
}

#[test]
fn a_desired_count_that_falls_before_the_first_step_fails_the_release_at_its_deadline() {
    let mut sim = at(Phase::Preparing);
    sim.region.set_desired_count(sim.now, 3);
    until_ended(&mut sim);
    assert_eq!(last(&sim), (Outcome::Failed, "Deadline"));
    assert_eq!(sim.region.desired_count(sim.now), 3);
}

#[test]
fn a_desired_count_of_zero_disturbs_nobody_who_releases_nothing() {
    for phase in [Phase::Retaining, Phase::Idle] {
        let mut sim = at(phase);
        sim.region.set_desired_count(sim.now, 0);
        sim.effects.clear();
        pass(&mut sim, 20);
        assert_eq!(sim.effects, Vec::new(), "{phase:?}");
    }
}

#[test]
fn no_operation_of_the_daemon_can_write_desired_count() {
    let written: Vec<String> = Mutation::ALL.iter().map(|mutation| format!("{mutation:?}")).collect();
    assert!(!written.contains(&"UpdateService".to_owned()), "{written:?}");
}

// --- task sets

#[test]
fn a_candidate_deleted_by_hand_fails_before_its_traffic_and_rolls_back_after() {
    for (phase, outcome) in [(Phase::Preparing, Outcome::Failed), (Phase::Baking, Outcome::RolledBack)] {
        let mut sim = at(phase);
        let candidate = candidate(&sim);
        sim.delete_by_hand(&candidate);
        until_ended(&mut sim);
        assert_eq!(last(&sim), (outcome, "CandidateLost"));
        finish(&mut sim);
        assert_eq!(sim.region.production_weights()[1].1, 0);
    }
}

#[test]
fn a_stable_set_deleted_by_hand_does_not_stop_the_release_that_replaces_it() {
    for phase in [Phase::Preparing, Phase::Baking] {
        let mut sim = at(phase);
        let (candidate, stable) = (candidate(&sim), stable(&sim));
        sim.make_primary_by_hand(&candidate);
        sim.delete_by_hand(&stable);
        finish(&mut sim);
        assert_eq!(last(&sim).0, Outcome::Succeeded, "{phase:?}");
        assert_eq!(sim.durable.stable.as_ref().map(|version| version.task_set.clone()), Some(candidate));
    }
}

#[test]
fn a_serving_set_deleted_by_hand_while_the_previous_one_is_retained_sends_traffic_there() {
    let mut sim = at(Phase::Retaining);
    let serving = stable(&sim);
    let retained = sim.facts().retained.as_ref().expect("kept").version.clone();
    sim.make_primary_by_hand(&retained.task_set);
    sim.delete_by_hand(&serving);
    sim.run_until(|sim| sim.region.production_weights()[0].1 > 0, 30);
    assert_eq!(sim.region.production_weights()[1].1, 0);
    assert_eq!(retained.group, Group::A);
}

#[test]
fn primary_moved_by_hand_moves_no_traffic_and_is_put_right_in_the_end() {
    for phase in [Phase::Preparing, Phase::Baking] {
        let mut sim = at(phase);
        let candidate = candidate(&sim);
        sim.make_primary_by_hand(&candidate);
        let weights = sim.region.production_weights();
        sim.pass(Fault::None);
        assert_eq!(sim.region.production_weights(), weights);
        let release = sim.release_id();
        sim.command(pointsman_core::records::command::Verb::Abort, &release, None);
        finish(&mut sim);
        let sets = sim.region.task_sets();
        assert_eq!(sets.len(), 1, "{phase:?}: the candidate could be deleted, for PRIMARY went back");
    }
    let mut sim = at(Phase::Retaining);
    let retained = sim.facts().retained.as_ref().expect("kept").version.task_set.clone();
    sim.make_primary_by_hand(&retained);
    finish(&mut sim);
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_scale_changed_by_hand_fails_the_gate_and_is_put_right_before_a_step() {
    let small = Percent::from_tenths(100).expect("a percentage");
    let mut sim = at(Phase::Preparing);
    let set = candidate(&sim);
    sim.scale_by_hand(&set, small);
    until_ended(&mut sim);
    assert_eq!(last(&sim), (Outcome::Failed, "Deadline"));
    let mut sim = at(Phase::Baking);
    let set = candidate(&sim);
    sim.scale_by_hand(&set, small);
    finish(&mut sim);
    assert_eq!(last(&sim).0, Outcome::Succeeded, "the next step scaled it to what it needs");
    assert_eq!(sim.region.task_sets()[0].running_count, 4);
}

fn intruder(seen: &mut Observed) {
    let Seen::Known(service) = &mut seen.service else { return };
    let Some(mut foreign) = service.task_sets.first().cloned() else { return };
    "arn:aws:ecs:eu-central-1:111122223333:task-set/prod/checkout/ecs-svc/7".clone_into(&mut foreign.arn);
    foreign.external_id = None;
    (foreign.status, foreign.group) = (TaskSetStatus::Active, Some(Group::B));
    service.task_sets.push(foreign);
}

#[test]
fn a_foreign_task_set_in_the_candidates_group_holds_the_next_step_and_is_never_touched() {
    for (phase, outcome) in [(Phase::Preparing, Outcome::Failed), (Phase::Baking, Outcome::RolledBack)] {
        let mut sim = at(phase);
        sim.hand = Some(intruder);
        until_ended(&mut sim);
        assert_eq!(last(&sim), (outcome, "Deadline"), "{phase:?}");
        assert!(
            !sim.effects.iter().any(|effect| format!("{effect:?}").contains("ecs-svc/7\"")),
            "{phase:?}: {:?}",
            sim.effects
        );
        assert_eq!(sim.region.production_weights()[1].1, 0);
    }
}

// --- alarms

#[test]
fn an_alarm_deleted_before_the_gate_fails_the_release_without_traffic() {
    let mut sim = at(Phase::Preparing);
    sim.region.remove_alarm("b-5xx");
    until_ended(&mut sim);
    assert_eq!(last(&sim), (Outcome::Failed, "NoEvidence"));
}

#[test]
fn an_alarm_deleted_or_burning_after_success_changes_nothing_by_itself() {
    for burn in [true, false] {
        let mut sim = at(Phase::Retaining);
        sim.effects.clear();
        if burn {
            sim.region.set_alarm(sim.now, "b-5xx", pointsman_core::model::observed::AlarmState::Alarm);
        } else {
            sim.region.remove_alarm("b-5xx");
        }
        pass(&mut sim, 20);
        assert_eq!(sim.effects, Vec::new());
    }
}
