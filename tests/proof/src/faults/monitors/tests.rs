//! Monitors that cannot fail prove nothing: real logs are spoilt, and each spoilt one must be found out by the right
//! monitor.

use std::sync::Arc;

use pointsman_core::model::observed::{AlarmState, Service};
use pointsman_core::model::{Answer, Effect, Facts, Shares};
use pointsman_core::records::status::Outcome;
use pointsman_core::records::{Group, Percent};

use super::super::fault::{Fault, Op};
use super::super::log::{Entry, Reading, What, Wrote};
use super::super::world::Planned;
use super::super::{base, run, scenarios};
use super::{Property, check};

mod emergency;

fn log_of(scenario: &str, faults: &[Planned]) -> Vec<Entry> {
    let scenario = scenarios::named(scenario).expect("a scenario");
    run::run(&base(&scenario).expect("a base"), &scenario, faults).expect("runs").log
}

fn found(log: &[Entry]) -> Vec<Property> {
    check(log).iter().map(|finding| finding.property).collect()
}

/// Spoils a good release's log and expects that this property is found broken.
fn spoilt(property: Property, spoil: impl Fn(&mut Vec<Entry>)) {
    expects("good", &[], property, spoil);
}

fn expects(scenario: &str, faults: &[Planned], property: Property, spoil: impl Fn(&mut Vec<Entry>)) {
    let mut log = log_of(scenario, faults);
    assert_eq!(check(&log), [], "the log is clean before it is spoilt");
    spoil(&mut log);
    let found = found(&log);
    assert!(found.contains(&property), "{property:?} is not found, but {found:?}");
}

fn place(log: &[Entry], mut is: impl FnMut(&What) -> bool) -> usize {
    log.iter().position(|entry| is(&entry.what)).expect("the log has it")
}

fn sends(effect: impl Fn(&Effect) -> bool) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Sent(action) if effect(&action.effect))
}

fn canary(effect: &Effect) -> bool {
    matches!(effect, Effect::SetWeights { route, shares, .. } if route == "public" && shares.a > 0)
}

fn everything(effect: &Effect) -> bool {
    matches!(effect, Effect::SetWeights { route, shares, .. } if route == "public" && shares.a == 0)
}

fn deletion(effect: &Effect) -> bool {
    matches!(effect, Effect::DeleteTaskSet { .. })
}

fn last_write_before(log: &[Entry], at: usize) -> usize {
    log[..at].iter().rposition(|entry| matches!(entry.what, What::Wrote(_))).expect("a write")
}

fn last_reading_before(log: &[Entry], at: usize, is: impl Fn(&Reading) -> bool) -> usize {
    log[..at]
        .iter()
        .rposition(|entry| matches!(&entry.what, What::Read(reading) if is(reading)))
        .expect("a reading")
}

fn wrote(entry: &mut Entry) -> &mut Wrote {
    match &mut entry.what {
        What::Wrote(wrote) => wrote,
        other => panic!("{other} is no write"),
    }
}

fn rewrite(entry: &mut Entry, change: impl FnOnce(&mut Facts)) {
    change(Arc::make_mut(&mut wrote(entry).facts));
}

fn resend(entry: &mut Entry, change: impl FnOnce(&mut Effect)) {
    match &mut entry.what {
        What::Sent(action) => change(&mut action.effect),
        other => panic!("{other} is not sent"),
    }
}

fn success(log: &[Entry]) -> usize {
    place(
        log,
        |what| matches!(what, What::Wrote(wrote) if wrote.ended.iter().any(|it| it.outcome == Outcome::Succeeded)),
    )
}

#[test]
fn clean_logs_are_found_clean() {
    for scenario in ["good", "first", "alarm-in-bake", "supersede-in-bake", "rollback-after-success"] {
        assert_eq!(check(&log_of(scenario, &[])), [], "{scenario}");
    }
}

#[test]
fn an_effect_without_its_intent_is_found() {
    spoilt(Property::WriteAhead, |log| {
        let intent = last_write_before(log, place(log, sends(canary)));
        log.remove(intent);
    });
}

#[test]
fn two_swapped_effects_are_found() {
    spoilt(Property::GateBeforeTraffic, |log| {
        let made = place(log, sends(|effect| matches!(effect, Effect::CreateTaskSet { .. })));
        let shifted = place(log, sends(canary));
        let (first, second) = (log[made].what.clone(), log[shifted].what.clone());
        (log[made].what, log[shifted].what) = (second, first);
    });
}

#[test]
fn a_gate_passed_without_healthy_targets_is_found() {
    spoilt(Property::GateOnEvidence, |log| {
        for entry in log {
            if let What::Read(Reading::Targets(_, healthy, _)) = &mut entry.what {
                *healthy = 0;
            }
        }
    });
}

#[test]
fn weight_on_an_empty_group_is_found() {
    spoilt(Property::NothingOnEmpty, |log| {
        let gone = place(log, |what| matches!(what, What::Landed(landed) if deletion(&landed.effect)));
        if let What::Landed(landed) = &mut log[gone].what {
            landed.routes.insert("public".to_owned(), Shares { a: 100, b: 0 });
            landed.service.task_sets.retain(|set| set.group != Some(Group::A));
        }
    });
}

/// Nothing runs in the candidate's group when its first share lands; `known`: nor did it in any look.
fn lands_on_nothing(log: &mut [Entry], known: bool) {
    let shifted = place(log, |what| matches!(what, What::Landed(landed) if canary(&landed.effect)));
    let stops = |service: &mut Service| {
        let theirs = service.task_sets.iter_mut().filter(|set| set.group == Some(Group::B));
        theirs.for_each(|set| set.running = 0);
    };
    for entry in &mut log[..=shifted] {
        match &mut entry.what {
            What::Read(Reading::Service(service)) if known => stops(service),
            What::Landed(landed) if canary(&landed.effect) => stops(&mut landed.service),
            _ => {}
        }
    }
}

#[test]
fn weight_on_a_group_that_was_known_to_be_empty_is_found() {
    spoilt(Property::NothingOnEmpty, |log| lands_on_nothing(log, true));
    let mut log = log_of("good", &[]);
    lands_on_nothing(&mut log, false);
    assert!(!found(&log).contains(&Property::NothingOnEmpty), "its tasks died on the way");
    // The first share, made again by a former owner when stable's tasks are dead.
    let late = [Planned { call: 94, fault: Fault::TakeOver(5) }];
    assert_eq!(check(&log_of("stable-dies-in-bake", &late)), []);
}

#[test]
fn a_way_back_that_is_gone_too_early_is_found() {
    spoilt(Property::RollbackAssetStays, |log| {
        let shifted = place(log, |what| matches!(what, What::Landed(landed) if canary(&landed.effect)));
        if let What::Landed(landed) = &mut log[shifted].what {
            landed.service.task_sets.retain(|set| set.group != Some(Group::A));
        }
    });
}

#[test]
fn a_way_back_at_half_its_scale_is_found() {
    spoilt(Property::RollbackAssetStays, |log| {
        let shifted = place(log, |what| matches!(what, What::Landed(landed) if canary(&landed.effect)));
        if let What::Landed(landed) = &mut log[shifted].what {
            landed
                .service
                .task_sets
                .iter_mut()
                .for_each(|set| set.scale = Percent::from_tenths(500).expect("half"));
        }
    });
}

#[test]
fn a_retention_cut_short_is_found() {
    spoilt(Property::RetentionIsKept, |log| {
        let late = log[place(log, sends(deletion))].at_ms - 20_000;
        let success = success(log);
        log[success].at_ms = late;
    });
}

#[test]
fn a_second_revision_in_a_group_is_found() {
    spoilt(Property::OneSetPerGroup, |log| {
        let shifted = place(log, |what| matches!(what, What::Landed(landed) if canary(&landed.effect)));
        if let What::Landed(landed) = &mut log[shifted].what {
            landed.service.task_sets.iter_mut().for_each(|set| set.group = Some(Group::B));
        }
    });
}

#[test]
fn an_alarm_that_nobody_minds_is_found() {
    spoilt(Property::AlarmLatches, |log| {
        let shifted = place(log, sends(everything));
        let burning = last_reading_before(log, shifted, |reading| matches!(reading, Reading::Alarms(_)));
        if let What::Read(Reading::Alarms(states)) = &mut log[burning].what {
            states.insert("b-5xx".to_owned(), AlarmState::Alarm);
        }
    });
}

#[test]
fn a_latch_that_goes_again_is_found() {
    expects("alarm-in-bake", &[], Property::LatchStays, |log| {
        let latched = log
            .iter()
            .rposition(|entry| {
                matches!(&entry.what, What::Wrote(wrote) if wrote.facts.release.as_ref().is_some_and(|it| it.latch.is_some()))
            })
            .expect("a latch");
        rewrite(&mut log[latched], |facts| facts.release.as_mut().expect("a release").latch = None);
    });
}

#[test]
fn another_effect_on_the_way_back_is_found() {
    expects("alarm-in-bake", &[], Property::RollbackIsStatic, |log| {
        let back = log
            .iter()
            .position(|entry| matches!(&entry.what, What::Sent(action) if action.rollback))
            .expect("a way back");
        resend(&mut log[back], |effect| {
            *effect = Effect::ScaleTaskSet { task_set: "arn:x".to_owned(), scale: Percent::FULL };
        });
    });
}

#[test]
fn a_second_candidate_is_found() {
    spoilt(Property::OneCandidate, |log| {
        let shifted = place(log, |what| matches!(what, What::Landed(landed) if canary(&landed.effect)));
        if let What::Landed(landed) = &mut log[shifted].what {
            let mut twin = landed.service.task_sets.last().expect("a candidate").clone();
            twin.arn.push('x');
            landed.service.task_sets.push(twin);
        }
    });
}

#[test]
fn an_effect_after_a_take_over_is_found() {
    spoilt(Property::NewestEpochActs, |log| {
        let shifted = place(log, sends(everything));
        let mut lost = log[shifted].clone();
        lost.what = What::Unleased;
        log.insert(shifted, lost);
    });
}

#[test]
fn a_write_of_an_older_epoch_is_found() {
    spoilt(Property::NewestEpochActs, |log| {
        let success = success(log);
        log[success].epoch -= 1;
    });
}

#[test]
fn two_effects_for_one_intent_are_found() {
    let twice = |log: &mut Vec<Entry>| {
        let shifted = place(log, sends(everything));
        let again = log[shifted].clone();
        log.insert(shifted + 1, again);
    };
    spoilt(Property::WriteAhead, twice);
    spoilt(Property::OneEffectAPass, twice);
}

#[test]
fn a_share_that_is_no_step_of_the_plan_is_found() {
    spoilt(Property::WeightsOfThePlan, |log| {
        let shifted = place(log, sends(canary));
        resend(&mut log[shifted], |effect| {
            if let Effect::SetWeights { shares, .. } = effect {
                *shares = Shares { a: 300, b: 700 };
            }
        });
    });
}

#[test]
fn a_forward_step_of_an_older_request_is_found() {
    spoilt(Property::GenerationsGrow, |log| {
        let intent = last_write_before(log, place(log, sends(everything)));
        rewrite(&mut log[intent], |facts| {
            facts.generation += 1;
            facts.asked.as_mut().expect("a request").task_definition = "checkout:9".to_owned();
        });
    });
}

#[test]
fn somebody_elses_task_set_is_found() {
    spoilt(Property::OursAlone, |log| {
        let primary = place(log, sends(|effect| matches!(effect, Effect::SetPrimary { .. })));
        resend(&mut log[primary], |effect| {
            *effect = Effect::SetPrimary { task_set: "arn:somebody/else".to_owned() };
        });
    });
}

#[test]
fn a_release_that_ends_twice_is_found() {
    spoilt(Property::EndsOnce, |log| {
        let success = success(log);
        let ended = wrote(&mut log[success]).ended.clone();
        let last = log.iter().rposition(|entry| matches!(entry.what, What::Wrote(_))).expect("a write");
        wrote(&mut log[last]).ended = ended;
    });
}

#[test]
fn a_forward_step_without_the_alarms_is_found() {
    spoilt(Property::NoEvidenceNoSuccess, |log| {
        let shifted = place(log, sends(everything));
        let last = last_reading_before(log, shifted, |reading| matches!(reading, Reading::Alarms(_)));
        log[last].what = What::Read(Reading::Failed(Op::Alarms));
    });
}

#[test]
fn traffic_before_capacity_is_found() {
    spoilt(Property::CapacityFirst, |log| {
        let shifted = place(log, sends(everything));
        let last = last_reading_before(log, shifted, |reading| matches!(reading, Reading::Service(_)));
        if let What::Read(Reading::Service(service)) = &mut log[last].what {
            let candidate = service.task_sets.iter_mut().find(|set| set.group == Some(Group::B));
            candidate.expect("a candidate").running = 0;
        }
    });
}

#[test]
fn a_bake_cut_short_is_found() {
    spoilt(Property::BakeIsWhole, |log| {
        let late = log[success(log)].at_ms - 5_000;
        let landed = place(log, |what| matches!(what, What::Landed(landed) if everything(&landed.effect)));
        log[landed].at_ms = late;
    });
}

#[test]
fn an_unknown_outcome_that_a_read_settles_is_found() {
    let log = log_of("good", &[]);
    let call = log[place(&log, sends(canary))].call;
    let lost = [Planned { call, fault: Fault::LoseAnswer }];
    expects("good", &lost, Property::UnknownIsUnknown, |log| {
        // The repeated write never was.
        log.retain(
            |entry| !matches!(&entry.what, What::Answered(effect, Answer::Acknowledged(_)) if canary(effect)),
        );
    });
}

#[test]
fn a_deletion_after_one_look_is_found() {
    spoilt(Property::QuiesceBeforeDestroy, |log| {
        let last = last_reading_before(log, place(log, sends(deletion)), |reading| {
            matches!(reading, Reading::Balancer(_))
        });
        log.remove(last);
    });
}

#[test]
fn a_deletion_of_the_wrong_task_set_is_found() {
    spoilt(Property::DeleteById, |log| {
        let wrong = log
            .iter()
            .find_map(|entry| match &entry.what {
                What::Wrote(wrote) => Some(wrote.facts.release.as_ref()?.candidate.task_set.clone()?),
                _ => None,
            })
            .expect("a candidate");
        let deleted = place(log, sends(deletion));
        resend(&mut log[deleted], |effect| {
            if let Effect::DeleteTaskSet { task_set, .. } = effect {
                *task_set = wrong;
            }
        });
    });
}

#[test]
fn a_write_at_rest_is_found() {
    spoilt(Property::IdleIsQuiet, |log| {
        let last = log.iter().rposition(|entry| matches!(entry.what, What::Wrote(_))).expect("a write");
        let again = log[last].clone();
        log.push(again);
    });
}

#[test]
fn a_call_on_a_resource_that_is_not_claimed_is_found() {
    // The production rule: the third of what is claimed, and the one that only weight writes name.
    spoilt(Property::OneReleaseOnItsOwn, |log| {
        for entry in log {
            if let What::Wrote(wrote) = &mut entry.what {
                wrote.claims.retain(|arn| !arn.contains(":listener-rule/"));
            }
        }
    });
}

#[test]
fn a_release_that_gives_way_without_an_end_is_found() {
    expects("supersede-in-bake", &[], Property::OneReleaseOnItsOwn, |log| {
        let ended = place(log, |what| matches!(what, What::Wrote(wrote) if !wrote.ended.is_empty()));
        wrote(&mut log[ended]).ended.clear();
    });
}

#[test]
fn a_task_set_for_another_release_than_the_one_in_flight_is_found() {
    spoilt(Property::OneReleaseOnItsOwn, |log| {
        let made = place(log, sends(|effect| matches!(effect, Effect::CreateTaskSet { .. })));
        resend(&mut log[made], |effect| {
            if let Effect::CreateTaskSet { external_id, .. } = effect {
                external_id.push('9');
            }
        });
    });
}
