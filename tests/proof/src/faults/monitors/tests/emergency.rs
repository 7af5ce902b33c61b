//! Logs of a way back without a lease, and of one over two routes, spoilt.

use pointsman_core::model::effect::Shares;
use pointsman_core::model::observed::{AlarmState, TaskSetStatus};
use pointsman_core::model::{Action, Effect};
use pointsman_core::records::{Group, Percent};

use super::super::super::fault::{Fault, Op};
use super::super::super::log::{Entry, Reading, What};
use super::super::super::run::LEFT;
use super::super::super::world::Planned;
use super::super::{Property, check};
use super::{expects, last_reading_before, last_write_before, log_of, place, rewrite, wrote};

const CUT_OFF: &str = "emergency-in-shift";
const REFUSED: &str = "item-refuses-in-bake";
const READ_ONLY: &str = "item-is-read-only-in-shift";

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
    for scenario in [CUT_OFF, "emergency-in-bake", "cut-off-in-bake", REFUSED, READ_ONLY, "two-routes-back"] {
        assert_eq!(check(&log_of(scenario, &[])), [], "{scenario}");
    }
    for (scenario, routes) in [("emergency-in-bake", 2), (REFUSED, 2), (READ_ONLY, 1)] {
        let log = log_of(scenario, &[]);
        let sent = log.iter().filter(|entry| matches!(entry.what, What::SentWithoutLease(_))).count();
        assert_eq!(sent, routes, "{scenario}: each route once");
    }
    // The lease lapses over a state that is throttled, and comes back before that does.
    let storms = [Planned { call: 1, fault: Fault::Weather(12) }];
    assert_eq!(check(&log_of(CUT_OFF, &storms)), [], "both in turn");
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

/// The first write that was told of after traffic was taken back.
fn record(log: &[Entry]) -> usize {
    let back = taken_back(log);
    back + place(&log[back..], |what| matches!(what, What::Wrote(_)))
}

#[test]
fn a_way_back_too_early_after_the_first_refusal_is_found() {
    expects(REFUSED, &[], Property::GuardedWithoutLease, |log| {
        let back = taken_back(log);
        let wrote = last_write_before(log, back);
        let almost = log[back].at_ms - LEFT.millis() + 1;
        log[wrote + 1..back].iter_mut().for_each(|entry| entry.at_ms = entry.at_ms.max(almost));
    });
}

#[test]
fn a_way_back_too_early_after_the_last_write_is_found() {
    expects(REFUSED, &[], Property::GuardedWithoutLease, |log| {
        let back = taken_back(log);
        let fresh_ms = log[back].at_ms - LEFT.millis();
        let wrote = log[last_write_before(log, back)].clone();
        let later = log.iter().position(|entry| entry.at_ms > fresh_ms).expect("a later entry");
        log.insert(later, Entry { at_ms: fresh_ms + 1, ..wrote });
    });
}

#[test]
fn a_way_back_beside_an_item_that_answers_is_found() {
    let answers = [What::Read(Reading::Other(Op::Remembered)), What::Unwritten { overtaken: true }];
    for answer in answers {
        expects(REFUSED, &[], Property::GuardedWithoutLease, |log| {
            let back = taken_back(log);
            let refused =
                last_reading_before(log, back, |reading| matches!(reading, Reading::Failed(Op::Remembered)));
            log[refused].what = answer.clone();
        });
    }
}

#[test]
fn a_way_back_past_an_item_that_refuses_once_the_lease_is_lost_is_found() {
    expects(REFUSED, &[], Property::GuardedWithoutLease, |log| {
        let back = taken_back(log);
        let lost = Entry { what: What::Unleased, ..log[back].clone() };
        log.insert(back, lost);
    });
}

#[test]
fn a_way_back_past_an_item_that_refuses_on_one_look_is_found() {
    expects(REFUSED, &[], Property::GuardedWithoutLease, |log| {
        seen_before(log, |reading| match reading {
            Reading::Alarms(states) => states.insert("b-5xx".to_owned(), AlarmState::Ok).is_some(),
            _ => false,
        });
    });
}

#[test]
fn the_look_of_a_run_behind_its_records_does_not_count_for_a_way_back() {
    expects(READ_ONLY, &[], Property::GuardedWithoutLease, |log| {
        let back = taken_back(log);
        let mut looks = log[..back].iter_mut().rev().filter_map(|entry| match &mut entry.what {
            What::Read(Reading::Alarms(states)) => Some(states),
            _ => None,
        });
        // The newest is the look for a way back, then comes its run's.
        looks.nth(2).expect("the look before").insert("b-5xx".to_owned(), AlarmState::Ok);
    });
}

#[test]
fn a_way_back_past_an_item_that_refuses_which_the_next_write_leaves_out_is_found() {
    expects(REFUSED, &[], Property::EmergencyIsRecorded, |log| {
        let record = record(log);
        rewrite(&mut log[record], |facts| facts.release.as_mut().expect("a release").latch = None);
    });
    expects(REFUSED, &[], Property::EmergencyIsRecorded, |log| {
        let record = record(log);
        log.remove(record);
    });
    expects(REFUSED, &[], Property::EmergencyIsRecorded, |log| {
        let call = log[taken_back(log)].call;
        log.retain(|entry| !(entry.call == call && matches!(entry.what, What::Answered(..))));
    });
}

#[test]
fn a_call_before_a_way_back_is_recorded_is_found() {
    expects(REFUSED, &[], Property::EmergencyIsRecorded, |log| {
        let back = taken_back(log);
        let What::SentWithoutLease(action) = log[back].what.clone() else { unreachable!() };
        let forward = Entry { what: What::Sent(action), ..log[back].clone() };
        log.insert(record(log), forward);
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
