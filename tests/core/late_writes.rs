//! A weight write whose answer was lost may land long after the next step's write. It is ours, and no person's hand.

use pointsman_core::decide::{Next, WaitingOn};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::LatchCause;
use pointsman_core::model::observed::{AlarmState, TaskSet};
use pointsman_core::model::{Effect, Observed, Resource, Seen};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Span};

use crate::sim::{Fault, Sim};

const ALARM: &str = "b-5xx";

fn share_of_b(sim: &Sim) -> u16 {
    sim.region.weights_of("public").map_or(0, |live| live.share(Group::B).tenths())
}

/// The whole bake lies ahead at 100 %; the first attempt to write 10 % got no answer and was repeated.
fn lost_its_first_step() -> Sim {
    lost_its_first_step_of(Span::from_mins(8))
}

fn lost_its_first_step_of(bake: Span) -> Sim {
    let mut sim = Sim::serving(|spec| {
        spec.bake = bake;
        spec.retention = Span::from_mins(30);
        spec.waits.quiet_after_unknown = Span::from_mins(3);
    });
    sim.ask(2);
    let on_test_route = |sim: &Sim| sim.facts().release.as_ref().is_some_and(|r| r.progress.test_shifted);
    sim.run_until(on_test_route, 100);
    // The next effect is the first step's.
    sim.pass(Fault::LostCall);
    sim.run_until(|sim| share_of_b(sim) == 1000, 100);
    let first = Shares { a: 900, b: 100 };
    let asked = |effect: &&Effect| matches!(effect, Effect::SetWeights { shares, .. } if *shares == first);
    assert_eq!(sim.effects.iter().filter(asked).count(), 1, "the repeated one");
    sim
}

/// The lost attempt lands now, or a person does the same.
fn at_ten_percent_again(sim: &mut Sim) {
    sim.move_by_hand(90, 10);
}

fn how_it_ended(sim: &mut Sim) -> (Outcome, String) {
    sim.run_until(Sim::is_settled, 2000);
    assert_eq!(sim.violations, Vec::<String>::new());
    let last = sim.ended.last().expect("a release has ended");
    (last.outcome, last.reason.clone())
}

#[test]
fn a_late_write_of_our_own_is_put_back_and_the_release_goes_on() {
    let mut sim = lost_its_first_step();
    at_ten_percent_again(&mut sim);
    sim.run_until(|sim| share_of_b(sim) == 1000, 20);
    assert_eq!(how_it_ended(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_late_write_that_lands_after_success_is_put_back_whatever_drift_idle_says() {
    let mut sim = lost_its_first_step_of(Span::from_secs(10));
    sim.run_until(|sim| sim.facts().release.is_none(), 500);
    at_ten_percent_again(&mut sim);
    sim.run_until(|sim| share_of_b(sim) == 1000, 20);
    at_ten_percent_again(&mut sim);
    for _ in 0..20 {
        sim.pass(Fault::None);
        assert_eq!(share_of_b(&sim), 100, "a person's are reported and stay");
    }
}

#[test]
fn a_put_back_that_is_refused_is_tried_again() {
    let mut sim = lost_its_first_step();
    at_ten_percent_again(&mut sim);
    sim.pass(Fault::Throttled);
    sim.run_until(|sim| share_of_b(sim) == 1000, 60);
    assert_eq!(how_it_ended(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn each_lost_attempt_lands_once_so_that_a_second_time_is_a_person() {
    let mut sim = lost_its_first_step();
    at_ten_percent_again(&mut sim);
    sim.run_until(|sim| share_of_b(sim) == 1000, 20);
    at_ten_percent_again(&mut sim);
    assert_eq!(how_it_ended(&mut sim), (Outcome::RolledBack, "MovedByHand".to_owned()));
}

#[test]
fn other_weights_than_those_of_the_lost_attempt_are_a_persons() {
    let mut sim = lost_its_first_step();
    sim.move_by_hand(100, 0);
    assert_eq!(how_it_ended(&mut sim), (Outcome::RolledBack, "MovedByHand".to_owned()));
}

#[test]
fn after_the_quiet_time_nothing_can_land_any_more() {
    let mut sim = lost_its_first_step();
    let quiet = sim.facts().plan.as_ref().expect("a plan").quiet(true);
    let until = sim.now + quiet.signed();
    sim.run_until(|sim| sim.now > until, 2000);
    assert_eq!(share_of_b(&sim), 1000, "the bake is longer");
    at_ten_percent_again(&mut sim);
    assert_eq!(how_it_ended(&mut sim), (Outcome::RolledBack, "MovedByHand".to_owned()));
}

#[test]
fn a_late_write_is_put_back_only_on_the_evidence_of_a_step_forward() {
    let mut sim = lost_its_first_step();
    sim.region.remove_alarm(ALARM);
    at_ten_percent_again(&mut sim);
    for _ in 0..15 {
        sim.pass(Fault::None);
        assert_eq!(share_of_b(&sim), 100, "it holds");
    }
    sim.region.restore_alarms(sim.now);
    sim.run_until(|sim| share_of_b(sim) == 1000, 20);
    assert_eq!(how_it_ended(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_late_write_that_lands_at_the_last_moment_is_known_whatever_stale_reads_come_between() {
    let mut sim = lost_its_first_step();
    let quiet = sim.facts().plan.as_ref().expect("a plan").quiet(true);
    let almost = quiet.minus(Span::from_secs(1));
    sim.run_until(|sim| sim.facts().late.iter().any(|write| write.age >= almost), 2000);
    at_ten_percent_again(&mut sim);
    for fault in [Fault::None, Fault::None, Fault::StaleRoutes].repeat(5) {
        sim.pass(fault);
    }
    assert!(goes_on(&sim) && share_of_b(&sim) == 100, "{:?}", sim.facts().release);
    sim.run_until(|sim| share_of_b(sim) == 1000, 20);
    assert_eq!(how_it_ended(&mut sim).0, Outcome::Succeeded);
}

fn nothing_runs_in(seen: &mut Observed, groups: &[Group]) {
    let Seen::Known(service) = &mut seen.service else { return };
    let theirs = |set: &&mut TaskSet| set.group.is_some_and(|group| groups.contains(&group));
    service.task_sets.iter_mut().filter(theirs).for_each(|set| set.running = 0);
}

#[test]
fn a_late_write_is_not_put_back_onto_a_candidate_that_lost_its_tasks_which_is_what_ends_the_release() {
    let lost: [fn(&mut Observed); 3] = [
        |seen| nothing_runs_in(seen, &[Group::B]),
        |seen| nothing_runs_in(seen, &[Group::A, Group::B]),
        // Somebody else's tasks in its group are none of its own.
        |seen| {
            nothing_runs_in(seen, &[Group::B]);
            let Seen::Known(service) = &mut seen.service else { return };
            let theirs = service.task_sets.iter().find(|set| set.group == Some(Group::A)).cloned();
            let theirs = theirs.map(|set| TaskSet { arn: "theirs".to_owned(), group: Some(Group::B), ..set });
            service.task_sets.extend(theirs.map(|set| TaskSet { external_id: None, ..set }));
        },
    ];
    for hand in lost {
        // The write is believed in the look that shows the loss.
        let mut sim = lost_its_first_step();
        at_ten_percent_again(&mut sim);
        let believed =
            |sim: &Sim| sim.facts().release.as_ref().is_some_and(|it| it.progress.foreign_reads == 2);
        sim.run_until(believed, 20);
        sim.hand = Some(hand);
        sim.effects.clear();
        for _ in 0..4 {
            sim.pass(Fault::None);
        }
        let latch =
            sim.facts().release.as_ref().map(|release| release.latch.as_ref().map(|latch| latch.cause));
        // It has gone back and ended by now where stable runs.
        let cause = latch.unwrap_or_else(|| sim.facts().quarantined.last().map(|entry| entry.cause));
        assert_eq!(cause, Some(LatchCause::CandidateLost));
        let forward = |it: &Effect| matches!(it, Effect::SetWeights { shares, .. } if shares.b > 0);
        assert!(!sim.effects.iter().any(forward), "{:?}", sim.effects);
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}

/// The first release has ended, and the first attempt to make its set PRIMARY got no answer; then the record is deleted.
fn left_with_a_late_call() -> Sim {
    let mut sim = Sim::new(|spec| {
        spec.bake = Span::from_secs(10);
        spec.waits.quiet_after_unknown = Span::from_mins(3);
    });
    sim.ask(1);
    sim.run_until(|sim| matches!(&sim.last_next, Some(Next::Wait(wait)) if wait.on.name() == "Bake"), 100);
    // The next effect is PRIMARY.
    sim.pass(Fault::LostCall);
    sim.run_until(Sim::is_settled, 100);
    let primary = |effect: &&Effect| matches!(effect, Effect::SetPrimary { .. });
    assert_eq!(sim.effects.iter().filter(primary).count(), 1, "the repeated one");
    sim.service = pointsman_core::decide::Asked::Absent;
    sim
}

fn waits_for_late_calls(sim: &Sim) -> bool {
    matches!(&sim.last_next, Some(Next::Wait(wait)) if wait.on == WaitingOn::LateCalls && wait.deadline.is_some())
}

#[test]
fn claims_are_given_up_only_when_no_call_of_ours_can_land_any_more() {
    let mut sim = left_with_a_late_call();
    let quiet = sim.facts().plan.as_ref().expect("a plan").quiet(true);
    let until = sim.now + quiet.minus(Span::from_secs(20)).signed();
    while sim.now < until {
        sim.pass(Fault::None);
        assert!(waits_for_late_calls(&sim) && !sim.durable.claims.is_empty(), "{:?}", sim.last_next);
    }
    sim.run_until(|sim| sim.durable.claims.is_empty(), 20);
    assert_eq!(sim.violations, Vec::<String>::new());
}

#[test]
fn claims_of_a_service_without_a_lost_answer_are_given_up_at_once() {
    let mut sim = Sim::serving(|_| {});
    sim.service = pointsman_core::decide::Asked::Absent;
    sim.pass(Fault::None);
    assert!(sim.durable.claims.is_empty(), "{:?}", sim.last_next);
}

#[test]
fn a_new_owner_does_not_give_up_the_claims_earlier() {
    let mut sim = left_with_a_late_call();
    for _ in 0..10 {
        sim.pass(Fault::TakeOver);
        assert!(waits_for_late_calls(&sim) && !sim.durable.claims.is_empty(), "{:?}", sim.last_next);
    }
}

/// At 10 %; what routes showed before is all on stable, as after a person's rollback.
fn at_the_first_step(propagation: Span) -> Sim {
    let mut sim = Sim::serving(|spec| {
        spec.bake = Span::from_mins(8);
        spec.waits.propagation = propagation;
    });
    sim.ask(2);
    sim.run_until(|sim| share_of_b(sim) == 100, 100);
    sim
}

fn goes_on(sim: &Sim) -> bool {
    sim.facts().release.as_ref().is_some_and(|release| release.latch.is_none())
}

#[test]
fn stale_reads_with_a_fresh_one_between_them_add_up_to_nobodys_hand() {
    let mut sim = at_the_first_step(Span::from_secs(4));
    for _ in 0..10 {
        for fault in [Fault::StaleRoutes, Fault::StaleRoutes, Fault::None] {
            sim.pass(fault);
        }
    }
    assert!(goes_on(&sim), "{:?}", sim.facts().release);
}

#[test]
fn reads_that_agree_are_believed_no_sooner_than_a_weight_takes_to_be_seen() {
    // A look each two seconds: the sixth is ten seconds after the first.
    let mut sim = at_the_first_step(Span::from_secs(10));
    for _ in 0..5 {
        sim.pass(Fault::StaleRoutes);
    }
    assert!(goes_on(&sim), "{:?}", sim.facts().release);
    sim.pass(Fault::StaleRoutes);
    assert!(!goes_on(&sim), "then it is a person");
}

/// Rolled back from 10 %, with an owner that comes after it and whose clean-up wants its own acknowledgement.
fn rolled_back_before_the_owner_changed() -> Sim {
    let mut sim = at_the_first_step(Span::from_secs(4));
    sim.region.set_alarm(sim.now, ALARM, AlarmState::Alarm);
    sim.run_until(|sim| sim.facts().release.is_none(), 100);
    sim.epoch += 1;
    sim
}

/// What is written to the production route until all is quiet, and what of it goes before all other work.
fn written(sim: &mut Sim) -> (usize, usize) {
    sim.effects.clear();
    sim.urgent.clear();
    sim.run_until(Sim::is_settled, 2000);
    assert_eq!(share_of_b(sim), 0);
    let of_production =
        |effect: &&Effect| matches!(effect, Effect::SetWeights { route, .. } if route == "public");
    (sim.effects.iter().filter(of_production).count(), sim.urgent.iter().filter(of_production).count())
}

#[test]
fn a_clean_up_that_brings_no_traffic_back_leaves_the_reserve_to_those_that_do() {
    assert_eq!(written(&mut rolled_back_before_the_owner_changed()), (1, 0));
}

#[test]
fn traffic_that_comes_back_to_a_group_that_is_being_cleaned_up_is_brought_back_before_all_else() {
    let mut sim = rolled_back_before_the_owner_changed();
    sim.move_by_hand(90, 10);
    assert_eq!(written(&mut sim), (1, 1));
}

/// At 10 %, with a write of 100 % announced that AWS does not answer.
fn a_step_forward_without_an_answer() -> Sim {
    let mut sim = at_the_first_step(Span::from_secs(4));
    let open = |sim: &Sim| sim.facts().outstanding.contains_key(&Resource::Route("public".to_owned()));
    for _ in 0..400 {
        sim.pass(Fault::LostCall);
        if open(&sim) {
            return sim;
        }
    }
    panic!("no step forward: {:?}", sim.last_next);
}

#[test]
fn a_step_forward_that_gets_no_answer_is_not_repeated_over_a_persons_rollback() {
    let mut sim = a_step_forward_without_an_answer();
    sim.move_by_hand(100, 0);
    for fault in [Fault::LostCall; 8].into_iter().chain([Fault::None; 8]) {
        sim.pass(fault);
        assert_eq!(share_of_b(&sim), 0, "{:?}", sim.last_next);
    }
    assert_eq!(how_it_ended(&mut sim), (Outcome::RolledBack, "MovedByHand".to_owned()));
}

#[test]
fn a_step_forward_that_gets_no_answer_is_repeated_where_the_route_shows_what_was_before() {
    let mut sim = a_step_forward_without_an_answer();
    for fault in [Fault::StaleRoutes, Fault::None, Fault::StaleRoutes, Fault::None] {
        sim.pass(fault);
    }
    sim.run_until(|sim| share_of_b(sim) == 1000, 20);
    assert_eq!(how_it_ended(&mut sim).0, Outcome::Succeeded);
}

#[test]
fn a_step_forward_that_gets_no_answer_is_not_repeated_while_the_service_is_suspended() {
    let mut sim = a_step_forward_without_an_answer();
    sim.suspend(true);
    for _ in 0..20 {
        sim.pass(Fault::None);
        assert_eq!(share_of_b(&sim), 100, "{:?}", sim.last_next);
    }
    sim.suspend(false);
    assert_eq!(how_it_ended(&mut sim).0, Outcome::Succeeded);
}
