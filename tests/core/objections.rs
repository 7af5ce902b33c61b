//! The second opinion (`decide::safety`) knows every property: one decision that breaks it, and the words of the
//! objection. `second_opinion.rs` has those of deletions and of bakes one by one.

use pointsman_core::decide::response::Phase;
use pointsman_core::decide::{Decision, Next};
use pointsman_core::model::effect::{Resource, Shares};
use pointsman_core::model::facts::{LatchCause, Outstanding, Release};
use pointsman_core::model::observed::AlarmState;
use pointsman_core::model::{Action, Effect, Revision};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Percent, Span};

use crate::sim::{Fault, Sim};

/// Where the service stands, what befalls the pass, what is decided instead, and the words of the objection.
type Row = (fn() -> Sim, Fault, fn(&mut Decision), &'static str);

/// Version 1 serves from a, and version 2 has come this far.
fn at(phase: Phase) -> Sim {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_secs(4));
    sim.ask(2);
    sim.run_until(|sim| Phase::of(sim.facts()) == phase, 400);
    sim
}

fn idle() -> Sim {
    Sim::serving(|_| {})
}

fn preparing() -> Sim {
    let mut sim = at(Phase::Preparing);
    let made = |sim: &Sim| sim.facts().release.as_ref().is_some_and(|it| it.candidate.task_set.is_some());
    sim.run_until(made, 20);
    sim
}

fn baking() -> Sim {
    at(Phase::Baking)
}

fn burning() -> Sim {
    let mut sim = baking();
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim
}

/// The write back got no answer.
fn going_back() -> Sim {
    let mut sim = burning();
    sim.pass(Fault::LostCall);
    assert_eq!(Phase::of(sim.facts()), Phase::GoingBack);
    assert!(!sim.facts().outstanding.is_empty());
    sim
}

fn leaving() -> Sim {
    at(Phase::Leaving)
}

fn leaving_as_primary() -> Sim {
    let mut sim = leaving();
    let arn = sim.facts().cleanups[0].task_set.clone().expect("it was made");
    sim.make_primary_by_hand(&arn);
    sim
}

fn release(it: &mut Decision) -> &mut Release {
    it.facts.release.as_mut().expect("in flight")
}

fn serving(it: &Decision) -> String {
    it.facts.stable.as_ref().expect("something serves").task_set.clone()
}

fn announce(it: &mut Decision, effect: &Effect) {
    let entry = Outstanding { effect: effect.clone(), unknown: false, looked: 0 };
    it.facts.outstanding.insert(effect.resource(), entry);
}

fn act(it: &mut Decision, effect: Effect) {
    announce(it, &effect);
    it.next = Next::Act(Action { effect, rollback: false });
}

fn write(it: &mut Decision, route: &str, a: u32, b: u32) {
    act(it, Effect::SetWeights { route: route.to_owned(), shares: Shares { a, b }, expect: None });
}

fn create(it: &mut Decision) {
    let effect = Effect::CreateTaskSet {
        group: Group::B,
        revision: Revision { family: "checkout".to_owned(), number: 3 },
        scale: Percent::FULL,
        external_id: "pm1/test/other/9.1".to_owned(),
        token: "T".to_owned(),
    };
    act(it, effect);
}

fn delete_the_leaving_one(it: &mut Decision) {
    let Some(job) = it.facts.cleanups.first().cloned() else { return };
    let task_set = job.task_set.expect("it was made");
    act(it, Effect::DeleteTaskSet { task_set, external_id: job.external_id });
}

const ROWS: &[Row] = &[
    (
        baking,
        Fault::None,
        |it| {
            if let Next::Wait(wait) = &mut it.next {
                wait.poll = Span::ZERO;
            }
        },
        "WaitsEnd: Propagation has no poll",
    ),
    (
        burning,
        Fault::None,
        |it| {
            if let Some(release) = &mut it.facts.release {
                release.latch = None;
            }
        },
        "AlarmMeansStable: latency is in ALARM",
    ),
    (
        going_back,
        Fault::None,
        |it| {
            let latch = it.facts.release.as_mut().and_then(|release| release.latch.as_mut());
            if let Some(latch) = latch {
                latch.cause = LatchCause::Aborted;
            }
        },
        "LatchStays: the latch of 2.1 changed",
    ),
    (
        going_back,
        Fault::None,
        |it| {
            for ended in &mut it.ended {
                ended.outcome = Outcome::Succeeded;
            }
        },
        "LatchStays: latched 2.1 succeeded",
    ),
    (going_back, Fault::None, |it| write(it, "public", 50, 50), "LatchStays: latched, and public is given"),
    (going_back, Fault::None, |it| write(it, "public", 0, 1), "LatchStays: latched, and public goes forward"),
    (baking, Fault::None, |it| release(it).stable = None, "WriteAhead: 2.1 has no recorded way back"),
    (
        baking,
        Fault::None,
        |it| release(it).stable.as_mut().expect("recorded").group = Group::B,
        "RollbackAssetStays: the way back of 2.1 changed",
    ),
    (
        going_back,
        Fault::None,
        |it| {
            it.facts.outstanding.remove(&Resource::Route("public".to_owned()));
        },
        "WriteAhead: set route public to a 100 % / b 0 % is not announced",
    ),
    (
        going_back,
        Fault::None,
        |it| {
            it.facts.outstanding.clear();
            it.next = Next::Again;
        },
        "UnknownIsUnknown: set route public to a 100 % / b 0 % was forgotten",
    ),
    (idle, Fault::None, |it| it.facts.generation = 0, "GenerationsGrow: 0 after 1"),
    (baking, Fault::None, |it| write(it, "nowhere", 1, 0), "GateBeforeTraffic: nowhere is not in the plan"),
    (baking, Fault::None, |it| write(it, "public", 0, 0), "GateBeforeTraffic: public: both groups at 0"),
    (
        preparing,
        Fault::None,
        |it| write(it, "public", 90, 10),
        "GateBeforeTraffic: public gives weight to group b, where nothing passed its gate",
    ),
    (
        baking,
        Fault::None,
        |it| {
            let arn = serving(it);
            it.facts.tombstones.push(arn);
            write(it, "public", 1, 0);
        },
        "TombstonesStay: public gives weight to a tombstone in a",
    ),
    (
        baking,
        Fault::AlarmsUnread,
        |it| write(it, "public", 0, 1),
        "NoEvidenceNoSuccess: public goes forward without b-5xx",
    ),
    (
        baking,
        Fault::None,
        |it| {
            let effect = Effect::ScaleTaskSet { task_set: serving(it), scale: Percent::FULL };
            act(it, effect);
        },
        "RollbackAssetStays: scales arn:",
    ),
    (
        leaving,
        Fault::None,
        |it| {
            let task_set = it.facts.cleanups[0].task_set.clone().expect("it was made");
            act(it, Effect::SetPrimary { task_set });
        },
        "becomes PRIMARY",
    ),
    (
        baking,
        Fault::ServiceUnread,
        create,
        "OneRevisionPerGroup: a task set is made without seeing the service",
    ),
    (baking, Fault::None, create, "OneRevisionPerGroup: group b has a task set already"),
    (
        idle,
        Fault::None,
        |it| {
            it.facts.claims.clear();
            create(it);
        },
        "WriteAhead: nothing is claimed",
    ),
    (
        leaving,
        Fault::None,
        delete_the_leaving_one,
        "QuiesceBeforeDestroy: group a is not known to be at 0 everywhere",
    ),
    (leaving_as_primary, Fault::None, delete_the_leaving_one, "is PRIMARY"),
];

#[test]
fn every_property_is_objected_with_what_breaks_it() {
    for (scene, fault, forge, words) in ROWS {
        let mut sim = scene();
        assert_eq!(sim.violations, Vec::<String>::new(), "before {words}");
        sim.forge = Some(Box::new(forge));
        for _ in 0..10 {
            sim.pass(*fault);
            if !sim.violations.is_empty() {
                break;
            }
        }
        assert!(sim.violations.iter().any(|found| found.contains(words)), "{words}: {:?}", sim.violations);
    }
}
