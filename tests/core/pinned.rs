//! By which plan a service is observed: the pinned one while anything goes by it, whatever the record says by now.

use std::collections::BTreeSet;

use pointsman_core::decide::{Asked, plan_to_observe};
use pointsman_core::model::facts::{Outstanding, Pending};
use pointsman_core::model::{Effect, Facts, Plan};
use pointsman_core::records::Span;
use pointsman_core::records::managed_service::ManagedServiceSpec;

use crate::sim::Sim;

/// Facts after each sort of thing that goes by the pinned plan, that thing alone; and the record, edited since.
fn scenes() -> (Facts, Vec<(&'static str, Facts)>, Asked<ManagedServiceSpec>) {
    let mut sim = Sim::serving(|spec| spec.retention = Span::from_mins(5));
    sim.ask(2);
    sim.run_until(|sim| sim.facts().release.is_some(), 20);
    let releasing = sim.facts().clone();
    sim.run_until(|sim| sim.facts().retained.is_some(), 400);
    let retaining = sim.facts().clone();
    sim.run_until(|sim| !sim.facts().cleanups.is_empty(), 400);
    let leaving = sim.facts().clone();
    sim.run_until(Sim::is_settled, 400);
    let idle = Facts { plan: retaining.plan.clone(), ..sim.facts().clone() };
    assert!(idle.release.is_none() && idle.retained.is_none() && idle.cleanups.is_empty());

    let Asked::Valid { mut spec, .. } = sim.service else { panic!("the record is valid") };
    spec.retention = Span::from_mins(7);
    let release = Facts { release: releasing.release, ..idle.clone() };
    let cleanup = Facts { cleanups: leaving.cleanups, ..idle.clone() };
    let retained = Facts { retained: retaining.retained, ..idle.clone() };
    let mut doubt = idle.clone();
    let effect = Effect::SetPrimary { task_set: "set".to_owned() };
    doubt.outstanding.insert(effect.resource(), Outstanding { effect, unknown: true, looked: 0 });
    let alone = vec![("release", release), ("cleanup", cleanup), ("doubt", doubt), ("retained", retained)];
    (idle, alone, Asked::Valid { spec, hash: "sha256:edited".to_owned() })
}

fn retention(plan: Option<Plan>) -> Option<Span> {
    plan.map(|plan| plan.spec.retention)
}

#[test]
fn whatever_goes_by_the_pinned_plan_is_looked_at_by_it_and_the_edit_counts_afterwards() {
    let (idle, alone, edited) = scenes();
    for (what, facts) in &alone {
        assert_eq!(retention(plan_to_observe(facts, &edited)), Some(Span::from_mins(5)), "{what}");
    }
    assert_eq!(retention(plan_to_observe(&idle, &edited)), Some(Span::from_mins(7)));
    // The next request is judged by the record, though the previous version is still kept.
    let mut asked = alone[3].1.clone();
    let (waited, break_glass) = (Span::ZERO, BTreeSet::new());
    asked.pending =
        Some(Pending { waited, return_to_retained: false, identity: None, break_glass, doubt: None });
    assert_eq!(retention(plan_to_observe(&asked, &edited)), Some(Span::from_mins(7)));
}

#[test]
fn without_a_record_the_last_plan_says_where_to_look() {
    let (idle, _, _) = scenes();
    assert_eq!(plan_to_observe(&idle, &Asked::Absent), idle.plan);
    assert_eq!(plan_to_observe(&Facts::default(), &Asked::Absent), None);
}
