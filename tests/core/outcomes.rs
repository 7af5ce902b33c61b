//! Every request gets exactly one outcome, also one that needs no release of its own.

use pointsman_core::decide::Asked;
use pointsman_core::model::observed::AlarmState;
use pointsman_core::records::status::Outcome;

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
