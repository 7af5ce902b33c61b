//! A route whose rule somebody deleted: AWS gives the next one another ARN, so this one never comes back.

use pointsman_core::decide::Next;
use pointsman_core::decide::response::{Class, Phase, Work};
use pointsman_core::model::observed::{AlarmState, Weights};
use pointsman_core::model::{Effect, Observed, Resource, Seen};
use pointsman_core::records::Span;
use pointsman_core::records::command::Verb;
use pointsman_core::records::status::Outcome;

use crate::sim::trouble::{Injection, What};
use crate::sim::{Fault, Sim};

/// Version 1 serves from a, and version 2 has come this far.
fn at(phase: Phase) -> Sim {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(5));
    if phase != Phase::Idle {
        sim.ask(2);
        let made = |sim: &Sim| {
            sim.facts().release.as_ref().is_none_or(|release| release.candidate.task_set.is_some())
        };
        sim.run_until(|sim| Phase::of(sim.facts()) == phase && made(sim), 200);
    }
    sim
}

fn ends(sim: &Sim) -> Vec<(u64, Outcome)> {
    sim.ended.iter().map(|end| (end.release.generation, end.outcome)).collect()
}

fn until_ended(sim: &mut Sim, times: usize) {
    sim.run_until(|sim| sim.ended.len() >= times, 400);
    assert_eq!(sim.violations, Vec::<String>::new());
}

fn finish(sim: &mut Sim) {
    sim.last_next = None;
    sim.run_until(Sim::is_settled, 800);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn a_rule_made_anew_ends_the_release_that_counts_on_the_old_one_and_the_next_one_starts() {
    for phase in [Phase::Preparing, Phase::Baking] {
        let mut sim = at(phase);
        sim.delete_rule_by_hand();
        sim.remake_rule_by_hand(1, 0);
        sim.ask(3);
        until_ended(&mut sim, 1);
        assert_eq!(ends(&sim), [(2, Outcome::Superseded)], "{phase:?}");
        let told = sim.ended[0].message.contains("route public does not exist any more");
        assert_eq!(told, phase == Phase::Baking, "{}", sim.ended[0].message);
        finish(&mut sim);
        assert_eq!(ends(&sim), [(2, Outcome::Superseded), (3, Outcome::Succeeded)], "{phase:?}");
        assert_eq!(sim.region.production_weights()[0].1, 0, "version 3 serves by the new rule");
        assert_eq!(sim.region.task_sets().len(), 1, "{phase:?}");
    }
}

#[test]
fn a_rule_deleted_for_good_holds_the_release_and_then_ends_it() {
    for (phase, outcome) in [(Phase::Preparing, Outcome::Failed), (Phase::Baking, Outcome::RolledBack)] {
        let mut sim = at(phase);
        sim.delete_rule_by_hand();
        sim.effects.clear();
        until_ended(&mut sim, 1);
        assert_eq!(
            (sim.ended[0].outcome, sim.ended[0].reason.as_str()),
            (outcome, "NoEvidence"),
            "{phase:?}"
        );
        finish(&mut sim);
        let wrote = |effect: &Effect| matches!(effect, Effect::SetWeights { route, .. } if route == "public");
        assert!(!sim.effects.iter().any(wrote), "{phase:?}: {:?}", sim.effects);
        assert_eq!(sim.region.task_sets().len(), 1, "{phase:?}: the candidate is removed");
        sim.ask(3);
        until_ended(&mut sim, 2);
        assert_eq!(sim.ended[1].outcome, Outcome::Refused, "{phase:?}");
    }
}

#[test]
fn the_candidate_stays_while_the_rule_made_anew_gives_its_group_weight() {
    let mut sim = at(Phase::Baking);
    sim.delete_rule_by_hand();
    sim.remake_rule_by_hand(1, 1);
    let release = sim.release_id();
    sim.command(Verb::Abort, &release, None);
    until_ended(&mut sim, 1);
    for _ in 0..200 {
        sim.pass(Fault::None);
    }
    assert_eq!(sim.region.task_sets().len(), 2);
    sim.move_by_hand(1, 0);
    finish(&mut sim);
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn the_version_kept_warm_is_removed_though_the_rule_was_made_anew_meanwhile() {
    let mut sim = at(Phase::Retaining);
    sim.delete_rule_by_hand();
    sim.remake_rule_by_hand(0, 1);
    finish(&mut sim);
    assert_eq!(sim.region.task_sets().len(), 1);
}

#[test]
fn a_rule_that_is_missing_in_two_reads_alone_is_written_back_like_any_other() {
    let mut sim = at(Phase::Baking);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    sim.hand = Some(|seen: &mut Observed| {
        seen.routes.insert("public".to_owned(), Seen::Known(Weights::Gone));
    });
    sim.pass(Fault::None);
    sim.pass(Fault::None);
    assert!(sim.ended.is_empty() && !matches!(sim.last_next, Some(Next::Halted(_))), "{:?}", sim.last_next);
    sim.hand = None;
    sim.effects.clear();
    until_ended(&mut sim, 1);
    assert_eq!(sim.effects.first().map(Effect::name), Some("SetWeights"));
    assert_eq!(sim.region.production_weights()[1].1, 0);
}

#[test]
fn a_lost_weight_write_to_a_rule_that_is_gone_holds_no_later_release_up() {
    for phase in [Phase::Baking, Phase::Idle] {
        let mut sim = at(phase);
        for phase in Phase::ALL {
            let lost = What::Work(Work::ProductionWeights, Class::Unknown, false);
            sim.injections.push(Injection::new(phase, lost, u32::MAX));
        }
        if phase == Phase::Idle {
            // An outage to be put right.
            sim.move_by_hand(0, 1);
        } else {
            let release = sim.release_id();
            sim.command(Verb::Abort, &release, None);
        }
        let route = Resource::Route("public".to_owned());
        sim.run_until(|sim| sim.facts().outstanding.contains_key(&route), 20);
        sim.delete_rule_by_hand();
        sim.remake_rule_by_hand(1, 0);
        sim.pass(Fault::None);
        sim.injections.clear();
        sim.ask(3);
        finish(&mut sim);
        assert_eq!(ends(&sim).last(), Some(&(sim.facts().generation, Outcome::Succeeded)), "{phase:?}");
    }
}

/// The answer of PRIMARY was lost, the release succeeded without it, and then its task set goes.
fn nothing_runs(seen: &mut Observed) {
    if let Seen::Known(service) = &mut seen.service {
        service.task_sets.iter_mut().for_each(|set| set.running = 0);
    }
}

#[test]
fn a_lost_primary_of_a_task_set_that_is_gone_holds_no_later_release_up() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::ZERO);
    for phase in Phase::ALL {
        let lost = What::Work(Work::SetPrimary, Class::Unknown, false);
        sim.injections.push(Injection::new(phase, lost, u32::MAX));
    }
    sim.ask(2);
    until_ended(&mut sim, 1);
    assert!(sim.facts().outstanding.contains_key(&Resource::Primary));
    let serving = sim.facts().stable.as_ref().expect("it serves").task_set.clone();
    sim.delete_by_hand(&serving);
    // Nor does the version before run: there is nobody to become PRIMARY instead.
    sim.hand = Some(nothing_runs);
    sim.last_next = None;
    sim.run_until(|sim| !sim.facts().outstanding.contains_key(&Resource::Primary), 20);
    assert_eq!(sim.violations, Vec::<String>::new());
}
