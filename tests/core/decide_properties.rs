//! Properties of the decision core under arbitrary histories: people, alarms and faults at every seam.
//!
//! Every pass of every history is judged by `safety::violations` and by monitors of the world itself; after
//! the faults stop, every history must come to rest. The run prints what it reached and insists that nothing
//! was left out; seeded bugs show that the judges can fail.

use std::collections::BTreeMap;

use pointsman_core::decide::Next;
use pointsman_core::model::Effect;
use pointsman_core::model::observed::AlarmState;
use pointsman_core::records::command::{All, PromoteStep, Verb};
use pointsman_core::records::managed_service::ManagedServiceSpec;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::{OnTimeout, Pause, Scale, StepSpec, Strategy as Shape};
use pointsman_core::records::{Group, Percent, Span};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::sim::{Bug, Fault, STAGES, Sim};

/// Histories in the ordinary run; each has up to [`LONGEST`] happenings.
const HISTORIES: u32 = 500;
/// And of them so many run behind two production routes besides.
const WITH_TWO_ROUTES: u32 = 150;
const LONGEST: usize = 40;
/// Passes within which a history must have come to rest once the faults stop: the longest chain is a first
/// release that waits for its start, prepares, fails late, leaves slowly, and a second one behind it.
const PASSES_TO_REST: u32 = 1_500;

/// How many production routes the service has.
#[derive(Clone, Copy, Debug)]
enum Routes {
    One,
    Two,
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happening {
    Passes(u8, Fault),
    Ask(u32, bool),
    Withdraw,
    WithdrawService,
    Alarm(u8, AlarmState),
    Command(Verb),
    MoveByHand(u32),
    Suspend(bool),
    DesiredCount(u32),
    Sick(Group, bool),
    Away(u64),
    DeleteByHand,
    LoseAlarm,
    /// An alarm burns for one pass, in which effects meet this fault, and is OK again.
    Blink(u8, Fault),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::CrashBefore),
        1 => Just(Fault::CrashAfter),
        1 => Just(Fault::LostAnswer),
        1 => Just(Fault::LostCall),
        1 => Just(Fault::Late),
        1 => Just(Fault::Throttled),
        1 => Just(Fault::Denied),
        1 => Just(Fault::TakeOver),
        1 => Just(Fault::ServiceUnread),
        1 => Just(Fault::RoutesUnread),
        1 => Just(Fault::AlarmsUnread),
        1 => Just(Fault::StaleRoutes),
        1 => Just(Fault::TargetsUnwell),
        1 => Just(Fault::DesiredJustGrew),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let alarm = prop_oneof![
        2 => Just(AlarmState::Ok),
        1 => Just(AlarmState::Alarm),
        1 => Just(AlarmState::InsufficientData)
    ];
    let verb = prop_oneof![
        3 => Just(Verb::Promote),
        1 => Just(Verb::Abort),
        1 => Just(Verb::Rollback),
        1 => Just(Verb::Retry),
        1 => Just(Verb::BreakGlass)
    ];
    prop_oneof![
        24 => (1..40_u8, fault()).prop_map(|(n, fault)| Happening::Passes(n, fault)),
        5 => (1..=6_u32, any::<bool>()).prop_map(|(revision, again)| Happening::Ask(revision, again)),
        1 => Just(Happening::Withdraw),
        1 => Just(Happening::WithdrawService),
        6 => (0..3_u8, alarm).prop_map(|(which, state)| Happening::Alarm(which, state)),
        3 => verb.prop_map(Happening::Command),
        2 => (0..=10_u32).prop_map(Happening::MoveByHand),
        1 => any::<bool>().prop_map(Happening::Suspend),
        1 => (0..6_u32).prop_map(Happening::DesiredCount),
        1 => (prop_oneof![Just(Group::A), Just(Group::B)], any::<bool>()).prop_map(|(g, sick)| Happening::Sick(g, sick)),
        5 => (1..400_u64).prop_map(Happening::Away),
        1 => Just(Happening::DeleteByHand),
        2 => Just(Happening::LoseAlarm),
        3 => (0..3_u8, prop_oneof![Just(Fault::Denied), Just(Fault::Throttled), Just(Fault::LostCall)])
            .prop_map(|(which, fault)| Happening::Blink(which, fault)),
    ]
}

fn step(weight: u16, scale: Option<u16>, bake: u64) -> StepSpec {
    StepSpec {
        weight: Percent::from_tenths(weight),
        scale: scale.and_then(Percent::from_tenths).map(Scale::Fixed),
        bake: Some(Span::from_secs(bake)),
        pause: None,
    }
}

/// Small steps, a scale of its own, a pause that goes on by itself: every stage can be reached.
fn new_sim(routes: Routes, on_timeout: OnTimeout) -> Sim {
    let pause = Pause { timeout: Span::from_secs(60), on_timeout };
    let steps = vec![
        step(10, Some(250), 8),
        StepSpec { pause: Some(pause), ..StepSpec::default() },
        step(500, None, 6),
    ];
    let record = |spec: &mut ManagedServiceSpec| {
        let shape = Shape { steps: Some(steps), ..Shape::default() };
        spec.strategies.insert("fast".to_owned(), shape);
    };
    match routes {
        Routes::One => Sim::new(record),
        Routes::Two => Sim::behind_two_routes(record),
    }
}

fn happen(sim: &mut Sim, happening: &Happening, count: &mut u32) {
    match happening {
        Happening::Passes(n, fault) => {
            // What cannot be read, or is read wrong, is so for a while.
            let lasting = if fault.is_of_reading() { (*n).min(8) } else { 1 };
            for pass in 0..*n {
                sim.pass(if pass < lasting { *fault } else { Fault::None });
            }
        }
        Happening::Ask(revision, again) => {
            *count += 1;
            let id = format!("request-{count}");
            sim.ask_as(*revision, again.then_some(id.as_str()));
        }
        Happening::Withdraw => sim.desired = pointsman_core::decide::Asked::Absent,
        Happening::WithdrawService => sim.withdraw_service_for_a_while(),
        Happening::Alarm(which, state) => {
            let name = ["a-5xx", "b-5xx", "latency"][usize::from(*which)];
            sim.region.set_alarm_if_there(sim.now, name, *state);
        }
        Happening::Blink(which, fault) => {
            let name = ["a-5xx", "b-5xx", "latency"][usize::from(*which)];
            sim.region.set_alarm_if_there(sim.now, name, AlarmState::Alarm);
            sim.pass(*fault);
            sim.region.set_alarm_if_there(sim.now, name, AlarmState::Ok);
            sim.pass(Fault::None);
        }
        Happening::Command(verb) => {
            let release = match verb {
                Verb::Rollback | Verb::Retry => sim.last_release_id(),
                Verb::Promote | Verb::Abort | Verb::BreakGlass => sim.release_id(),
            };
            sim.command(*verb, &release, Some(PromoteStep::All(All::All)));
        }
        Happening::MoveByHand(tenth) => {
            let routes = sim.region.production_routes();
            // An odd share is the last one's, if there are several.
            let route = if tenth % 2 == 1 { routes.last() } else { routes.first() };
            sim.move_route_by_hand(route.expect("a route"), 10 - tenth, *tenth);
        }
        Happening::Suspend(suspend) => sim.suspend(*suspend),
        Happening::DesiredCount(count) => sim.region.set_desired_count(sim.now, *count),
        Happening::Sick(group, sick) => sim.region.make_sick(sim.now, *group, *sick),
        Happening::Away(seconds) => sim.be_away(Span::from_secs(*seconds)),
        Happening::DeleteByHand => sim.delete_some_set_by_hand(),
        Happening::LoseAlarm => sim.region.remove_alarm("b-5xx"),
    }
}

/// Everything that people and the world did to make progress impossible is put right.
fn calm_down(sim: &mut Sim) {
    sim.restore_service();
    sim.suspend(false);
    sim.region.set_desired_count(sim.now, 4);
    for group in crate::sim::GROUPS {
        sim.region.make_sick(sim.now, group, false);
    }
    sim.region.restore_alarms(sim.now);
    sim.last_next = None;
}

fn live_through(
    history: &[Happening],
    routes: Routes,
    bug: Bug,
    reached: &mut BTreeMap<String, u64>,
) -> Result<(), String> {
    let timeout = if history.len().is_multiple_of(2) { OnTimeout::Continue } else { OnTimeout::Rollback };
    let mut sim = new_sim(routes, timeout);
    sim.ask(1);
    // Most histories begin where most services are: a version serves, and a release is under way.
    if history.len() % 4 != 1 {
        sim.run_until(Sim::is_settled, 100);
        sim.ask(2);
        for _ in 0..history.len() % 8 {
            sim.pass(Fault::None);
        }
    }
    sim.bug = bug;
    let mut count = 0;
    for happening in history {
        happen(&mut sim, happening, &mut count);
    }
    calm_down(&mut sim);
    let mut resting = 0;
    for _ in 0..PASSES_TO_REST {
        sim.pass(Fault::None);
        let halted = matches!(sim.last_next, Some(Next::Halted(_)));
        let waits = sim.waits_for_a_record() || sim.waits_for_a_person();
        let at_rest = sim.is_settled() || halted || waits;
        resting = if at_rest { resting + 1 } else { 0 };
        if resting == 3 {
            break;
        }
    }
    for (name, times) in &sim.reached {
        *reached.entry(name.clone()).or_default() += times;
    }
    for ended in &sim.ended {
        *reached.entry(format!("outcome {:?}", ended.outcome)).or_default() += 1;
    }
    if !sim.violations.is_empty() {
        return Err(sim.violations.join("\n"));
    }
    if resting < 3 {
        return Err(format!("not at rest after {PASSES_TO_REST} passes: {:#?}", sim.last_next));
    }
    at_rest_all_is_well(&mut sim)
}

/// A quiet service costs no effect, holds one task set, and has its traffic where tasks can answer.
fn at_rest_all_is_well(sim: &mut Sim) -> Result<(), String> {
    let effects = sim.effects.len();
    for _ in 0..5 {
        sim.pass(Fault::None);
    }
    if sim.effects.len() != effects {
        return Err(format!("not quiet at rest: {:?}", &sim.effects[effects..]));
    }
    if !sim.is_settled() {
        return Ok(());
    }
    if sim.region.task_sets().len() > 1 {
        return Err(format!("{} task sets at rest", sim.region.task_sets().len()));
    }
    let Some(stable) = &sim.durable.stable else { return Ok(()) };
    // What is not claimed any more may be somebody else's, and is left alone.
    if sim.durable.claims.is_empty() {
        return Ok(());
    }
    // Somebody may have deleted what served; then nothing better is left, and no rule can mend it.
    if !sim.region.has_task_set(stable.group) {
        return Ok(());
    }
    for route in sim.region.production_routes() {
        let weights = sim.region.group_weights(route);
        let dead = weights.iter().find(|(group, weight)| *weight > 0 && !sim.region.has_task_set(*group));
        if let Some((group, weight)) = dead {
            return Err(format!(
                "at rest {route} has weight {weight} on group {group}, where no task set is"
            ));
        }
        if weights.iter().all(|(_, weight)| *weight == 0) {
            return Err(format!("at rest the traffic of {route} goes nowhere"));
        }
    }
    Ok(())
}

fn runner(cases: u32, max_shrink_iters: u32) -> TestRunner {
    // The same histories in every run; a longer run is a larger number.
    let config = Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn histories() -> impl Strategy<Value = Vec<Happening>> {
    proptest::collection::vec(happening(), 1..LONGEST)
}

/// The number of histories can be raised from outside, for a longer look.
fn cases() -> u32 {
    std::env::var("POINTSMAN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(HISTORIES)
}

#[test]
fn no_history_violates_a_property_and_every_one_comes_to_rest() {
    all_come_to_rest(cases(), Routes::One);
}

#[test]
fn no_history_violates_a_property_behind_two_production_routes() {
    all_come_to_rest(cases().saturating_mul(WITH_TWO_ROUTES) / HISTORIES, Routes::Two);
}

fn all_come_to_rest(cases: u32, routes: Routes) {
    let reached = std::cell::RefCell::new(BTreeMap::new());
    let result = runner(cases, 400).run(&histories(), |history| {
        live_through(&history, routes, Bug::None, &mut reached.borrow_mut()).map_err(TestCaseError::fail)
    });
    let reached = reached.into_inner();
    println!("reached in {cases} histories, production routes: {routes:?}:");
    for (name, times) in &reached {
        println!("  {times:>8}  {name}");
    }
    if let Err(error) = result {
        panic!("{error}");
    }
    // Some waits are rare: those of one route are enough.
    let rare = |name: &String| matches!(routes, Routes::Two) && name.starts_with("wait ");
    let missing: Vec<String> = must_be_reached(routes)
        .into_iter()
        .filter(|name| !reached.contains_key(name) && !rare(name))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "never reached");
}

fn must_be_reached(routes: Routes) -> Vec<String> {
    let mut names: Vec<String> = STAGES.iter().map(|stage| format!("stage {stage:?}")).collect();
    let written: &[&str] = match routes {
        Routes::One => &["public"],
        Routes::Two => &["public", "internal"],
    };
    names.extend(written.iter().map(|route| format!("weights of {route}")));
    for effect in ["CreateTaskSet", "ScaleTaskSet", "DeleteTaskSet", "SetPrimary", "SetWeights"] {
        names.push(format!("effect {effect}"));
    }
    for cause in [
        "Alarm",
        "MovedByHand",
        "Aborted",
        "RecordDeleted",
        "Superseded",
        "Deadline",
        "NoEvidence",
        "CandidateLost",
    ] {
        names.push(format!("latch {cause}"));
    }
    for wait in [
        "Observation",
        "Record",
        "ServiceScaledToZero",
        "AlarmBeforeStart",
        "RefusalStands",
        "Effect",
        "TaskSetSteady",
        "TargetsHealthy",
        "TestHold",
        "Capacity",
        "DesiredCountFell",
        "Evidence",
        "ForeignWeights",
        "Propagation",
        "Bake",
        "Pause",
        "Suspended",
        "RollbackVerify",
        "StableBeforeCleanUp",
        "Quiet",
        "Gone",
        "Retention",
    ] {
        names.push(format!("wait {wait}"));
    }
    for outcome in
        [Outcome::Refused, Outcome::Succeeded, Outcome::RolledBack, Outcome::Failed, Outcome::Superseded]
    {
        names.push(format!("outcome {outcome:?}"));
    }
    names.push("late effect".to_owned());
    names
}

/// Some history must show the bug; the judges are blind otherwise.
fn is_caught(bug: Bug) {
    let found = runner(cases(), 0).run(&histories(), |history| {
        live_through(&history, Routes::One, bug, &mut BTreeMap::new()).map_err(TestCaseError::fail)
    });
    assert!(found.is_err(), "{bug:?} was not noticed in {} histories", cases());
}

#[test]
fn a_latch_that_goes_with_its_alarm_is_caught() {
    is_caught(Bug::Unlatch);
}

#[test]
fn deleting_by_role_is_caught() {
    is_caught(Bug::DeleteByRole);
}

#[test]
fn acting_before_recording_is_caught() {
    is_caught(Bug::ActBeforeRecord);
}

#[test]
fn baking_by_the_wall_clock_is_caught() {
    is_caught(Bug::BakeByWallClock);
}

#[test]
fn taking_a_read_for_an_acknowledgement_is_caught() {
    is_caught(Bug::ReadEqualsDone);
}

#[test]
fn every_effect_names_itself_by_what_it_changes() {
    let effect = Effect::SetPrimary { task_set: "arn:aws:ecs:r:1:task-set/c/s/ecs-svc/1".to_owned() };
    assert_eq!(effect.to_string(), "make task set 1 PRIMARY");
}
