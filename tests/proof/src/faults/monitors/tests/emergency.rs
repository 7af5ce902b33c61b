//! Logs of a way back without a lease, and of one over two routes, spoilt.

use pointsman_core::model::effect::Shares;
use pointsman_core::model::observed::{AlarmState, TaskSetStatus};
use pointsman_core::model::{Action, Effect};
use pointsman_core::records::{Group, Percent};

use super::super::super::log::{Entry, Reading, What};
use super::super::{Property, check};
use super::{expects, last_reading_before, log_of, place, rewrite, wrote};

const CUT_OFF: &str = "emergency-in-shift";

/// Spoils the log of an emergency.
fn spoilt(property: Property, spoil: impl Fn(&mut Vec<Entry>)) {
    expects(CUT_OFF, &[], property, spoil);
}

fn taken_back(log: &[Entry]) -> usize {
    place(log, |what| matches!(what, What::SentWithoutLease(_)))
}

/// Changes the last reading of this sort before traffic was taken back.
fn seen_before(log: &mut [Entry], change: impl Fn(&mut Reading) -> bool) {
    let back = taken_back(log);
    let changed = log[..back].iter_mut().rev().any(|entry| match &mut entry.what {
        What::Read(reading) => change(reading),
        _ => false,
    });
    assert!(changed, "there was such a reading");
}

fn resent(entry: &mut Entry) -> &mut Effect {
    match &mut entry.what {
        What::SentWithoutLease(action) => &mut action.effect,
        other => panic!("{other} is not sent without a lease"),
    }
}

#[test]
fn an_emergency_is_found_clean() {
    for scenario in [CUT_OFF, "emergency-in-bake", "cut-off-in-bake", "two-routes-back"] {
        assert_eq!(check(&log_of(scenario, &[])), [], "{scenario}");
    }
    let both = log_of("emergency-in-bake", &[]);
    let sent = both.iter().filter(|entry| matches!(entry.what, What::SentWithoutLease(_))).count();
    assert_eq!(sent, 2, "both routes");
    let calm = log_of("cut-off-in-bake", &[]);
    assert!(!calm.iter().any(|entry| matches!(entry.what, What::SentWithoutLease(_))), "nothing burns");
}

#[test]
fn a_way_back_on_one_look_at_the_alarms_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        seen_before(log, |reading| match reading {
            Reading::Alarms(states) => states.insert("b-5xx".to_owned(), AlarmState::Ok).is_some(),
            _ => false,
        });
    });
}

#[test]
fn a_way_back_to_a_set_that_is_not_primary_any_more_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        seen_before(log, |reading| match reading {
            Reading::Service(service) => {
                service.task_sets.iter_mut().for_each(|set| set.status = TaskSetStatus::Active);
                true
            }
            _ => false,
        });
    });
}

#[test]
fn a_way_back_to_a_set_that_is_not_healthy_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        seen_before(log, |reading| match reading {
            Reading::Targets(Group::A, healthy, _) => {
                *healthy = 1;
                true
            }
            _ => false,
        });
    });
}

#[test]
fn a_way_back_over_weights_of_somebody_else_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        seen_before(log, |reading| match reading {
            Reading::Routes(routes) => routes.insert("public".to_owned(), Shares { a: 3, b: 2 }).is_some(),
            _ => false,
        });
    });
}

#[test]
fn a_step_forward_without_a_lease_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        let back = taken_back(log);
        if let Effect::SetWeights { shares, .. } = resent(&mut log[back]) {
            *shares = Shares { a: 0, b: 100 };
        }
    });
}

#[test]
fn anything_else_without_a_lease_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        let back = taken_back(log);
        *resent(&mut log[back]) = Effect::ScaleTaskSet { task_set: "arn:x".to_owned(), scale: Percent::FULL };
    });
    spoilt(Property::NewestEpochActs, |log| {
        let back = taken_back(log);
        let mut again = log[back].clone();
        let effect = resent(&mut log[back]).clone();
        again.what = What::Sent(Action { effect, rollback: true });
        log.insert(back, again);
    });
}

#[test]
fn a_way_back_while_the_lease_is_merely_lost_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        let lapsed = place(log, |what| matches!(what, What::Lapsed));
        log[lapsed].what = What::Unleased;
    });
}

#[test]
fn a_second_way_back_of_the_same_route_is_found() {
    spoilt(Property::GuardedWithoutLease, |log| {
        let renewed = place(log, |what| matches!(what, What::Renewed));
        let again = log[taken_back(log)].clone();
        log.insert(renewed, again);
    });
}

#[test]
fn an_emergency_that_is_not_recorded_is_found() {
    spoilt(Property::EmergencyIsRecorded, |log| {
        let renewed = place(log, |what| matches!(what, What::Renewed));
        let recorded = renewed + place(&log[renewed..], |what| matches!(what, What::Wrote(_)));
        assert!(wrote(&mut log[recorded]).facts.release.is_some());
        rewrite(&mut log[recorded], |facts| facts.release.as_mut().expect("a release").latch = None);
    });
}

#[test]
fn a_lost_answer_of_an_emergency_that_is_forgotten_is_found() {
    spoilt(Property::EmergencyIsRecorded, |log| {
        let call = log[taken_back(log)].call;
        log.retain(|entry| !(entry.call == call && matches!(entry.what, What::Answered(..))));
    });
}

#[test]
fn the_smaller_route_first_is_found() {
    expects("two-routes-back", &[], Property::LargestFirst, |log| {
        let back = place(log, |what| matches!(what, What::Sent(action) if action.rollback));
        let seen = last_reading_before(log, back, |reading| matches!(reading, Reading::Routes(_)));
        if let What::Read(Reading::Routes(routes)) = &mut log[seen].what {
            routes.insert("public".to_owned(), Shares { a: 95, b: 5 });
            routes.insert("internal".to_owned(), Shares { a: 50, b: 50 });
        }
    });
}

#[test]
fn a_route_that_refuses_and_stops_the_other_is_found() {
    expects("two-routes-back", &[], Property::LargestFirst, |log| {
        let back = place(log, |what| matches!(what, What::Sent(action) if action.rollback));
        let again = log[back].clone();
        log.insert(back, again.clone());
        log.insert(back, again);
    });
}
