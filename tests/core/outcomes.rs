//! Every request gets exactly one outcome, also one that needs no release of its own.

use pointsman_core::decide::Asked;
use pointsman_core::decide::response::{Class, Phase, Work};
use pointsman_core::model::RefusalClass;
use pointsman_core::model::observed::{AlarmState, Targets};
use pointsman_core::records::Span;
use pointsman_core::records::status::Outcome;

use crate::sim::trouble::{Injection, What};
use crate::sim::{Fault, Sim};

fn ends(sim: &Sim) -> Vec<(Option<&str>, Outcome, &str)> {
    sim.ended
        .iter()
        .map(|end| (end.identity.request_id.as_deref(), end.outcome, end.reason.as_str()))
        .collect()
}

fn finish(sim: &mut Sim) {
    sim.last_next = None;
    sim.run_until(Sim::is_settled, 800);
    assert_eq!(sim.violations, Vec::<String>::new());
}

fn baking_canary_asked_as(id: &str) -> Sim {
    let mut sim = Sim::serving(|_| {});
    sim.ask_as(2, Some(id));
    sim.run_until(|sim| sim.region.production_weights()[1].1 == 100 && sim.facts().release.is_some(), 100);
    sim
}

#[test]
fn the_same_revision_asked_for_again_in_flight_shares_the_outcome_of_the_release() {
    for burns in [false, true] {
        let mut sim = baking_canary_asked_as("one");
        sim.ask_as(2, Some("two"));
        sim.pass(Fault::None);
        if burns {
            sim.region.set_alarm(sim.now, "b-5xx", AlarmState::Alarm);
        }
        finish(&mut sim);
        let (outcome, reason) =
            if burns { (Outcome::RolledBack, "Alarm") } else { (Outcome::Succeeded, "Baked") };
        assert_eq!(ends(&sim), [(Some("one"), outcome, reason), (Some("two"), outcome, reason)]);
        assert_eq!(sim.ended[1].release.generation, 3);
        assert!(sim.ended[1].message.contains("2.1"), "it says which: {}", sim.ended[1].message);
        assert_eq!(sim.effects.iter().filter(|effect| effect.name() == "CreateTaskSet").count(), 1);
    }
}

#[test]
fn of_several_requests_for_the_revision_in_flight_only_the_newest_shares_its_outcome() {
    let mut sim = baking_canary_asked_as("one");
    for id in ["two", "three"] {
        sim.ask_as(2, Some(id));
        sim.pass(Fault::None);
    }
    finish(&mut sim);
    let outcomes: Vec<_> = ends(&sim).into_iter().map(|(id, outcome, _)| (id, outcome)).collect();
    assert_eq!(
        outcomes,
        [
            (Some("two"), Outcome::Superseded),
            (Some("one"), Outcome::Succeeded),
            (Some("three"), Outcome::Succeeded)
        ]
    );
}

#[test]
fn an_edit_back_to_the_version_that_serves_ends_when_traffic_is_back() {
    let mut sim = baking_canary_asked_as("one");
    sim.ask_as(1, Some("back"));
    finish(&mut sim);
    assert_eq!(
        ends(&sim),
        [
            (Some("one"), Outcome::Superseded, "Superseded"),
            (Some("back"), Outcome::Succeeded, "AlreadyServing")
        ]
    );
}

#[test]
fn a_request_that_shares_a_release_ends_once_when_its_record_is_deleted() {
    let mut sim = baking_canary_asked_as("one");
    sim.ask_as(2, Some("two"));
    sim.pass(Fault::None);
    sim.desired = Asked::Absent;
    finish(&mut sim);
    assert_eq!(
        ends(&sim),
        [
            (Some("two"), Outcome::Superseded, "RecordDeleted"),
            (Some("one"), Outcome::RolledBack, "RecordDeleted")
        ]
    );
}

/// The version that served is gone, so that the next release is a first one, and somebody has moved the weights.
#[test]
fn a_first_release_goes_by_the_weights_it_finds_and_not_by_those_written_for_a_version_that_is_gone() {
    let mut sim = Sim::serving(|spec| spec.retention = Span::ZERO);
    sim.ask(2);
    finish(&mut sim);
    sim.hand = Some(|seen| {
        if let pointsman_core::model::Seen::Known(service) = &mut seen.service {
            service.task_sets.retain(|set| set.revision.number != 2);
        }
    });
    // Its targets went with it.
    sim.twist = Some(|seen| {
        if let Some(pointsman_core::model::Seen::Known(preflight)) = &mut seen.extra.preflight {
            preflight.targets.values_mut().for_each(|targets| *targets = Targets::default());
        }
    });
    // Away from where version 2 was.
    sim.move_by_hand(1, 0);
    sim.ended.clear();
    sim.ask(3);
    sim.run_until(|sim| !sim.ended.is_empty(), 400);
    assert_eq!(sim.ended[0].outcome, Outcome::Succeeded, "{:?}", sim.ended);
}

#[test]
fn an_outcome_names_the_alarm_or_the_route_that_it_is_about() {
    let mut sim = baking_canary_asked_as("one");
    sim.region.remove_alarm("b-5xx");
    finish(&mut sim);
    let message = &sim.ended[0].message;
    assert!(
        message.starts_with("no evidence for ") && message.ends_with(": alarm b-5xx is MISSING"),
        "{message}"
    );

    let mut sim = Sim::serving(|_| {});
    sim.region.set_alarm(sim.now, "latency", AlarmState::Alarm);
    sim.ask(2);
    finish(&mut sim);
    assert!(sim.ended[0].message.contains("mend it (alarm latency is in ALARM)"), "{:?}", sim.ended);

    for class in [Class::Refused(RefusalClass::Throttled), Class::Unknown] {
        let mut sim = Sim::serving(|_| {});
        let what = What::Work(Work::ProductionWeights, class, false);
        sim.injections.push(Injection::new(Phase::Shifting, what, u32::MAX));
        sim.ask(2);
        finish(&mut sim);
        let message = &sim.ended[0].message;
        assert!(message.ends_with(": route public is not as it should be"), "{class:?}: {message}");
    }
}
