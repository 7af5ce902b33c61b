//! The version that serves loses its tasks in a release and gets them back: the candidate fills in meanwhile, and has its
//! own share again afterwards.

use pointsman_core::decide::response::Limit;
use pointsman_core::decide::{Next, WaitingOn};
use pointsman_core::model::Effect;
use pointsman_core::model::facts::HaltReason;
use pointsman_core::model::observed::AlarmState;
use pointsman_core::records::command::{All, PromoteStep, Verb};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::Strategy;
use pointsman_core::records::{Group, Percent, Span};

use crate::hands::{finish, is_halted, pass, stable};
use crate::lost_versions::{EVERYTHING_TO_A, EVERYTHING_TO_B, without_tasks_in_a};
use crate::sim::{Fault, Sim};

const A_TENTH_TO_B: [(Group, u32); 2] = [(Group::A, 900), (Group::B, 100)];
const A_LONG_BAKE: &str = r#"[{"weight": 10, "bake": "10m"}]"#;
const A_LONG_PAUSE: &str = r#"[{"weight": 10, "bake": "10s"}, {"pause": {"timeout": "10m"}}]"#;
const A_PAUSE_FIRST: &str = r#"[{"pause": {"timeout": "10m"}}, {"weight": 10, "bake": "10s"}]"#;

/// Version 2 is in the step that lasts.
fn in_the_long_step(steps: &str) -> Sim {
    let strategy = Strategy { steps: serde_json::from_str(steps).expect("steps"), ..Strategy::default() };
    let mut sim = Sim::serving(|spec| {
        spec.strategies.insert("fast".to_owned(), strategy);
    });
    sim.ask(2);
    let lasts = |sim: &Sim| {
        let Some(Next::Wait(wait)) = &sim.last_next else { return false };
        let left = wait.left.unwrap_or_default() > Span::from_mins(5);
        left && matches!(wait.on, WaitingOn::Bake { .. } | WaitingOn::Pause { .. })
    };
    sim.run_until(lasts, 200);
    sim
}

/// Version 1 loses its tasks, and version 2 gets everything.
fn lose_tasks_of_a(sim: &mut Sim) {
    sim.hand = Some(without_tasks_in_a);
    sim.last_next = None;
    sim.run_until(|sim| sim.region.production_weights() == EVERYTHING_TO_B, 10);
    pass(sim, 4);
}

fn filling_in(steps: &str) -> Sim {
    let mut sim = in_the_long_step(steps);
    lose_tasks_of_a(&mut sim);
    sim
}

fn goes_on(sim: &Sim) -> bool {
    sim.facts().release.as_ref().is_some_and(|release| release.latch.is_none())
}

fn promote_all(sim: &mut Sim) {
    let release = sim.release_id();
    sim.command(Verb::Promote, &release, Some(PromoteStep::All(All::All)));
}

fn written_to_production(sim: &Sim) -> usize {
    let production = |it: &&Effect| matches!(it, Effect::SetWeights { route, .. } if route == "public");
    sim.effects.iter().filter(production).count()
}

#[test]
fn a_candidate_that_filled_in_has_its_own_share_again_when_stable_is_up() {
    for (steps, own) in
        [(A_LONG_BAKE, A_TENTH_TO_B), (A_LONG_PAUSE, A_TENTH_TO_B), (A_PAUSE_FIRST, EVERYTHING_TO_A)]
    {
        for suspended in [false, true] {
            let mut sim = filling_in(steps);
            sim.suspend(suspended);
            sim.hand = None;
            sim.effects.clear();
            pass(&mut sim, 20);
            assert_eq!(sim.region.production_weights(), own, "{steps} {suspended}");
            assert_eq!(written_to_production(&sim), 1);
            assert!(goes_on(&sim));
            sim.suspend(false);
            promote_all(&mut sim);
            finish(&mut sim);
            assert_eq!(sim.ended.last().map(|ended| ended.outcome), Some(Outcome::Succeeded));
        }
    }
}

#[test]
fn a_bake_or_a_pause_goes_on_from_where_it_was_when_stable_is_up_again() {
    for steps in [A_LONG_BAKE, A_LONG_PAUSE] {
        let left = |sim: &Sim| match &sim.last_next {
            Some(Next::Wait(wait)) => wait.left.expect("how long is known"),
            next => panic!("{next:?}"),
        };
        let mut sim = filling_in(steps);
        let before = left(&sim);
        sim.hand = None;
        pass(&mut sim, 20);
        assert!(left(&sim) < before, "{} after {before}", left(&sim));
    }
}

#[test]
fn a_candidate_that_fills_in_in_a_pause_is_brought_to_its_full_scale_and_paused_on() {
    let scale = |sim: &Sim| sim.facts().release.as_ref().expect("in flight").candidate.scale;
    for steps in [A_LONG_PAUSE, A_PAUSE_FIRST] {
        let mut sim = in_the_long_step(steps);
        pass(&mut sim, 5);
        assert!(scale(&sim) < Percent::FULL, "{steps}");
        lose_tasks_of_a(&mut sim);
        assert_eq!(scale(&sim), Percent::FULL, "{steps}");
        assert!(matches!(&sim.last_next, Some(Next::Wait(wait)) if wait.on.name() == "Pause"));
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}

#[test]
fn stable_is_not_given_its_share_back_before_it_is_steady() {
    let mut sim = filling_in(A_LONG_BAKE);
    sim.hand = Some(|seen| {
        let pointsman_core::model::Seen::Known(service) = &mut seen.service else { return };
        service
            .task_sets
            .iter_mut()
            .filter(|set| set.group == Some(Group::A))
            .for_each(|set| set.steady = false);
    });
    pass(&mut sim, 20);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
    assert!(
        matches!(&sim.last_next, Some(Next::Wait(wait)) if wait.on == WaitingOn::Bake { weight: Percent::FULL })
    );
    sim.hand = None;
    pass(&mut sim, 5);
    assert_eq!(sim.region.production_weights(), A_TENTH_TO_B);
}

#[test]
fn a_stable_version_that_crashes_again_and_again_does_not_move_traffic_for_ever() {
    let mut sim = in_the_long_step(A_LONG_PAUSE);
    for _ in 0..4 {
        lose_tasks_of_a(&mut sim);
        sim.hand = None;
        pass(&mut sim, 10);
    }
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B, "after the fourth time it stays");
    sim.effects.clear();
    for _ in 0..4 {
        lose_tasks_of_a(&mut sim);
        sim.hand = None;
        pass(&mut sim, 10);
    }
    assert_eq!(sim.effects, Vec::new());
    assert!(goes_on(&sim) && !is_halted(&sim, HaltReason::DriftFight));
    promote_all(&mut sim);
    finish(&mut sim);
    assert_eq!(sim.ended.last().map(|ended| ended.outcome), Some(Outcome::Succeeded));
}

#[test]
fn a_share_that_cannot_be_given_back_ends_the_release_by_the_deadline_of_a_weight_write() {
    let mut sim = filling_in(r#"[{"weight": 10, "bake": "40m"}]"#);
    sim.hand = None;
    let limit = Limit::WeightWrite.span(sim.facts().plan.as_ref().expect("a plan")).expect("it has one");
    let until = sim.now + limit.minus(Span::from_secs(20)).signed();
    while sim.now < until {
        sim.pass(Fault::Denied);
        assert!(goes_on(&sim), "{:?}", sim.facts().release);
    }
    for _ in 0..20 {
        sim.pass(Fault::Denied);
    }
    assert!(!goes_on(&sim));
    finish(&mut sim);
    assert_eq!(
        sim.ended.last().map(|it| (it.outcome, it.reason.as_str())),
        Some((Outcome::RolledBack, "Deadline"))
    );
}

#[test]
fn a_share_that_is_given_back_without_an_answer_is_not_given_to_tasks_that_are_gone_again() {
    for happens in [false, true] {
        let mut sim = filling_in(A_LONG_BAKE);
        sim.hand = None;
        let given_back = |sim: &Sim| sim.facts().outstanding.len() == 1;
        for _ in 0..10 {
            if !given_back(&sim) {
                sim.pass(if happens { Fault::LostAnswer } else { Fault::LostCall });
            }
        }
        assert!(given_back(&sim));
        sim.hand = Some(without_tasks_in_a);
        pass(&mut sim, 10);
        assert_eq!(sim.region.production_weights(), EVERYTHING_TO_B);
        assert!(goes_on(&sim) && sim.facts().outstanding.is_empty(), "{:?}", sim.facts().outstanding);
        sim.hand = None;
        pass(&mut sim, 10);
        assert_eq!(sim.region.production_weights(), A_TENTH_TO_B);
        assert_eq!(sim.violations, Vec::<String>::new());
    }
}

#[test]
fn whoever_moves_weight_while_the_candidate_fills_in_is_understood_and_not_written_over() {
    let mut sim = filling_in(A_LONG_BAKE);
    sim.move_by_hand(50, 50);
    sim.hand = None;
    sim.effects.clear();
    sim.run_until(|sim| !sim.ended.is_empty(), 60);
    assert_eq!(sim.ended[0].reason, "MovedByHand");
    assert_eq!(written_to_production(&sim), 1, "all to stable: {:?}", sim.effects);
    assert_eq!(sim.region.production_weights(), EVERYTHING_TO_A);
}

#[test]
fn a_candidate_that_burns_while_it_fills_in_goes_back_as_soon_as_stable_runs() {
    let mut sim = filling_in(A_LONG_BAKE);
    sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
    pass(&mut sim, 5);
    sim.hand = None;
    sim.effects.clear();
    sim.run_until(|sim| !sim.ended.is_empty(), 20);
    assert_eq!(sim.ended[0].outcome, Outcome::RolledBack);
    assert_eq!(written_to_production(&sim), 1);
    let serves = sim.region.task_sets().into_iter().find(|set| set.task_set_arn == stable(&sim));
    assert!(serves.is_some());
}
