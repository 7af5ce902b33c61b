//! The error table, held to production code cell by cell: operation × class × phase, each once and lasting.
//!
//! Each cell is brought about in the small world: the phase is reached, the operation meets the class once and the
//! release must end as if nothing had been; then it meets it for as long as the phase lasts, and what follows must
//! be what the table says. That nothing is asked for where the table says so is watched in every run of every
//! other test too (`sim::trouble`).

use pointsman_core::decide::response::{
    Class, Limit, Phase, Read, Response, Work, leaves_doubt, to_failed_read, to_failed_work,
};
use pointsman_core::model::observed::AlarmState;
use pointsman_core::model::{Effect, Mutation};
use pointsman_core::records::managed_service::IdleDrift;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::{OnTimeout, Pause, Scale, StepSpec, Strategy};
use pointsman_core::records::{Group, Percent, Span};

use crate::sim::trouble::{Injection, What};
use crate::sim::{Fault, Sim};

/// More passes than every limit of the record together needs, at 2 s and more each.
const LONG: u32 = 500;
/// A trouble that lasts is met at least this often: it is tried again, and not just once.
const TRIED_AGAIN: u32 = 3;
/// Trouble without an end.
const EVER: u32 = u32::MAX;

fn step(weight: u16, scale: u16, bake: u64) -> StepSpec {
    StepSpec {
        weight: Percent::from_tenths(weight),
        scale: Percent::from_tenths(scale).map(Scale::Fixed),
        bake: Some(Span::from_secs(bake)),
        pause: None,
    }
}

/// Version 1 serves from a; a release of version 2 passes every phase.
fn serving() -> Sim {
    let pause = Pause { timeout: Span::from_mins(5), on_timeout: OnTimeout::Continue };
    let steps =
        vec![step(100, 250, 8), StepSpec { pause: Some(pause), ..StepSpec::default() }, step(500, 1000, 6)];
    Sim::serving(|spec| {
        let shape = Strategy { steps: Some(steps), ..Strategy::default() };
        spec.strategies.insert("fast".to_owned(), shape);
        spec.drift.idle = IdleDrift::Revert;
        // Shorter than every other limit, so that each is told from it.
        spec.alarm_policy.evidence_deadline = Span::from_secs(40);
    })
}

/// A release succeeded while nobody could tell whether PRIMARY was moved: that doubt is left.
fn doubtful_primary(at: Phase) -> Sim {
    let lost = What::Work(Work::SetPrimary, Class::Unknown, false);
    let mut sim = if at == Phase::Retaining { serving() } else { Sim::new(|_| {}) };
    sim.ask(if at == Phase::Retaining { 2 } else { 1 });
    for lasting in [Phase::Completing, Phase::Retaining, Phase::Idle] {
        sim.injections.push(Injection::new(lasting, lost, EVER));
    }
    sim.run_until(|sim| !sim.ended.is_empty(), LONG);
    sim.ended.clear();
    sim.effects.clear();
    sim.injections.clear();
    sim
}

fn phase(sim: &Sim) -> Phase {
    Phase::of(sim.facts())
}

/// What somebody else does, so that the phase lasts or the operation is wanted in it.
fn prepare(sim: &mut Sim, at: Phase, what: What) {
    match (what, at) {
        (What::Work(Work::ProductionWeights, ..), Phase::Starting | Phase::Idle) => sim.move_by_hand(0, 1),
        (What::Work(Work::ProductionWeights, ..), Phase::Retaining | Phase::Leaving) => {
            sim.move_by_hand(50, 50);
        }
        (What::Work(Work::ProductionWeights, ..), Phase::Preparing | Phase::Scaling | Phase::Pausing) => {
            sim.move_by_hand(30, 70);
        }
        (What::Work(Work::ProductionWeights, ..), Phase::Baking) => sim.move_by_hand(1, 99),
        (What::Work(Work::ScaleTaskSet, ..) | What::Read(Read::LastStop), Phase::Shifting) => {
            scale_by_hand(sim);
        }
        (What::Work(Work::TestWeights, ..), Phase::Leaving) => {
            sim.region.write_weights(sim.now, "preview", 50, 50);
        }
        (What::Work(Work::SetPrimary, ..), Phase::Leaving) => {
            let leaving = sim.facts().cleanups[0].task_set.clone().expect("it was made");
            let plan = sim.durable.plan.clone().expect("pinned");
            sim.region.carry_out(sim.now, &plan, &Effect::SetPrimary { task_set: leaving });
        }
        (What::Read(Read::AlarmHistory), _) => {
            sim.region.set_alarm(sim.now, "latency", AlarmState::InsufficientData);
            sim.let_time_pass(Span::from_secs(1));
            sim.region.set_alarm(sim.now, "latency", AlarmState::Ok);
        }
        _ => {}
    }
}

/// Somebody scales the candidate down between two writes.
fn scale_by_hand(sim: &mut Sim) {
    let candidate = sim.facts().release.as_ref().and_then(|r| r.candidate.task_set.clone()).expect("made");
    let plan = sim.durable.plan.clone().expect("pinned");
    let scale = Percent::from_tenths(100).expect("a percentage");
    sim.region.carry_out(sim.now, &plan, &Effect::ScaleTaskSet { task_set: candidate, scale });
}

/// Phases that pass at once unless something else holds the service in them.
fn hold_in(at: Phase, what: What) -> Option<Injection> {
    let throttled = Class::ALL[0];
    let times = 8;
    let (holder, itself) = match at {
        Phase::Shifting => (Work::ProductionWeights, matches!(what, What::Work(Work::ProductionWeights, ..))),
        Phase::Completing => (Work::SetPrimary, matches!(what, What::Work(Work::SetPrimary, ..))),
        _ => return None,
    };
    (!itself).then(|| Injection::new(at, What::Work(holder, throttled, false), times))
}

/// Brings a service into `at` with the trouble armed, and on until it has ended or `passes` are over.
fn run(at: Phase, what: What, times: u32, passes: u32) -> Sim {
    let primary = matches!(what, What::Work(Work::SetPrimary, ..));
    let after_doubt = primary && matches!(at, Phase::Retaining | Phase::Starting | Phase::Idle);
    let mut sim = if after_doubt { doubtful_primary(at) } else { serving() };
    sim.injections.push(Injection::new(at, what, times));
    sim.injections.extend(hold_in(at, what));
    if at != Phase::Idle && !(after_doubt && at == Phase::Retaining) {
        if at == Phase::Starting {
            sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
        }
        sim.ask(2);
    }
    let (mut prepared, mut in_phase) = (false, 0);
    for _ in 0..passes {
        if phase(&sim) == at {
            in_phase += 1;
            if !std::mem::replace(&mut prepared, true) {
                prepare(&mut sim, at, what);
            }
            // What delays the start passes, so that it is the trouble that counts.
            if in_phase == 8 {
                sim.region.set_alarm(sim.now, "latency", AlarmState::Ok);
            }
        }
        if at == Phase::GoingBack && at_candidate(&sim) && sim.facts().release.is_some() {
            sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
        }
        sim.pass(Fault::None);
        if has_ended(&sim, at) {
            break;
        }
    }
    sim
}

fn at_candidate(sim: &Sim) -> bool {
    sim.region.weights_of("public").is_some_and(|weights| weights.of(Group::B) > 0)
}

/// The phase is over for good: the release has ended, or what comes after one has.
fn has_ended(sim: &Sim, at: Phase) -> bool {
    match at {
        Phase::Idle => {
            sim.is_settled() && sim.injections[0].met > 0 && sim.region.production_weights()[0].1 > 0
        }
        Phase::Leaving | Phase::Retaining => {
            sim.is_settled() && sim.injections[0].met > 0 && sim.facts().retained.is_none()
        }
        _ => !sim.ended.is_empty(),
    }
}

fn rest(sim: &mut Sim, cell: &str) {
    sim.injections.clear();
    sim.region.restore_alarms(sim.now);
    sim.last_next = None;
    for _ in 0..LONG {
        if sim.is_settled() {
            break;
        }
        sim.pass(Fault::None);
    }
    assert!(sim.is_settled(), "{cell}: not at rest: {:?}", sim.last_next);
    assert_eq!(sim.violations, Vec::<String>::new(), "{cell}");
    assert_eq!(sim.region.task_sets().len(), 1, "{cell}");
    let stable = sim.durable.stable.as_ref().expect("something serves").group;
    let weights = sim.region.weights_of("public").expect("a pair");
    assert_eq!(weights.of(stable.other()), 0, "{cell}: traffic is not on stable alone");
}

fn outcome(sim: &Sim) -> Option<Outcome> {
    sim.ended.last().map(|ended| ended.outcome)
}

/// Once: the release ends as if nothing had been.
fn once(at: Phase, what: What) {
    let cell = format!("{what:?} once in {at:?}");
    let mut sim = run(at, what, 1, LONG);
    assert_eq!(sim.injections[0].met, 1, "{cell}: never met; last move {:?}", sim.last_next);
    let expected = match at {
        Phase::Idle => None,
        Phase::Retaining if matches!(what, What::Work(Work::SetPrimary, ..)) => None,
        Phase::GoingBack => Some(Outcome::RolledBack),
        _ => Some(Outcome::Succeeded),
    };
    assert_eq!(outcome(&sim), expected, "{cell}: {:?}", sim.ended);
    rest(&mut sim, &cell);
}

/// Lasting: what the table says.
fn lasting(at: Phase, what: What, response: Response) {
    let cell = format!("{what:?} lasting in {at:?}");
    let mut sim = run(at, what, EVER, LONG);
    let met = sim.injections[0].met;
    let least = if response == Response::GoesOn { 1 } else { TRIED_AGAIN };
    assert!(met >= least, "{cell}: met {met} times only; {:?}", sim.ended);
    let ended = sim.ended.last().cloned();
    let message =
        ended.as_ref().map_or(String::new(), |ended| format!("{}: {}", ended.reason, ended.message));
    match response {
        Response::NotAsked => unreachable!("asked for"),
        Response::GoesOn => {
            let expected = if at == Phase::GoingBack { Outcome::RolledBack } else { Outcome::Succeeded };
            assert_eq!(outcome(&sim), Some(expected).filter(|_| at != Phase::Idle), "{cell}: {message}");
        }
        Response::RollsBackAfter(limit) => {
            let back = matches!(outcome(&sim), Some(Outcome::RolledBack | Outcome::Failed));
            assert!(back, "{cell}: {message} {:?}", sim.last_next);
            let word = match limit {
                Limit::Evidence => "NoEvidence".to_owned(),
                other => format!("Deadline: {} took longer", other.name()),
            };
            assert!(message.starts_with(&word), "{cell}: {message} and not {word}");
        }
        Response::GoesOnAfter(limit) => {
            assert_eq!(
                (outcome(&sim), limit),
                (Some(Outcome::Succeeded), Limit::Primary),
                "{cell}: {message}"
            );
            assert!(message.contains("PRIMARY could not be moved"), "{cell}: {message}");
        }
        Response::RefusedAfter(limit) => {
            assert_eq!((outcome(&sim), limit), (Some(Outcome::Refused), Limit::Start), "{cell}: {message}");
            assert_eq!(sim.effects.len(), 0, "{cell}: {:?}", sim.effects);
        }
        Response::Persists => {
            assert_eq!(phase(&sim), at, "{cell}: {message} {:?}", sim.last_next);
            assert!(!sim.is_settled(), "{cell}");
        }
    }
    rest(&mut sim, &cell);
}

#[test]
fn every_cell_of_the_error_table_is_what_happens() {
    let (mut cells, mut injected) = (0, 0);
    let mut wrong = Vec::new();
    let mut judge = |at: Phase, what: What, response: Response| {
        injected += 1;
        for check in [true, false] {
            let done =
                std::panic::catch_unwind(|| if check { once(at, what) } else { lasting(at, what, response) });
            if let Err(payload) = done {
                let text = payload.downcast_ref::<String>().cloned().unwrap_or_default();
                wrong.push(text);
            }
        }
    };
    for at in Phase::ALL {
        for work in Work::ALL {
            for class in Class::ALL {
                cells += 1;
                let response = to_failed_work(work, class, at);
                if response == Response::NotAsked {
                    continue;
                }
                judge(at, What::Work(work, class, false), response);
                if leaves_doubt(class) {
                    // A set that is there, or is gone, shows itself; of a write no read proves that it was the last.
                    let shows = matches!(work, Work::CreateTaskSet | Work::DeleteTaskSet)
                        || (work == Work::SetPrimary && at == Phase::Completing);
                    judge(at, What::Work(work, class, true), if shows { Response::GoesOn } else { response });
                }
            }
        }
        for read in Read::ALL {
            cells += 1;
            let response = to_failed_read(read, at);
            if response != Response::NotAsked {
                judge(at, What::Read(read), response);
            }
        }
    }
    println!("{cells} cells, {injected} troubles brought about, each once and lasting");
    for text in &wrong {
        println!("WRONG {text}");
    }
    assert!(wrong.is_empty(), "{} of them: {wrong:#?}", wrong.len());
}

#[test]
fn only_a_lost_answer_leaves_a_doubt_behind() {
    for class in Class::ALL {
        let create = What::Work(Work::CreateTaskSet, class, false);
        let mut sim = serving();
        sim.injections.push(Injection::new(Phase::Preparing, create, EVER));
        sim.ask(2);
        sim.run_until(|sim| sim.injections[0].met == 1, 20);
        let open = sim.facts().outstanding.values().any(|entry| entry.unknown);
        let uncertain = sim.facts().release.as_ref().is_some_and(|release| release.uncertain);
        assert_eq!((open, uncertain), (leaves_doubt(class), leaves_doubt(class)), "{class:?}");
        assert_eq!(leaves_doubt(class), class == Class::Unknown);
    }
}

#[test]
fn every_operation_that_changes_aws_is_work_of_the_table_but_for_the_tags_of_adoption() {
    for work in Work::ALL {
        assert!(Mutation::ALL.iter().any(|mutation| Work::done_by(*mutation).contains(&work)), "{work:?}");
    }
    let idle: Vec<Mutation> =
        Mutation::ALL.into_iter().filter(|mutation| Work::done_by(*mutation).is_empty()).collect();
    assert_eq!(idle, [Mutation::TagResource]);
}
