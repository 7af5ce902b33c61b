//! Where traffic may go, and on what evidence.

use std::collections::BTreeSet;

use pointsman_core::model::Effect;
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Facts, Release, ReleaseKind};
use pointsman_core::model::observed::{AlarmState, Service};
use pointsman_core::records::managed_service::Watches;
use pointsman_core::records::status::Outcome;
use pointsman_core::records::strategy::Step;
use pointsman_core::records::{Group, Percent};

use super::super::fault::Op;
use super::super::log::{Entry, Landed, Reading, What, Wrote};
use super::super::region::GROUPS;
use super::emergency::{is_refused, lapsed};
use super::{Note, Property, Tale, is_production, lives, production_write};

pub(super) fn check(tale: &Tale<'_>, note: Note<'_>) {
    for (at, entry, action) in tale.sent() {
        let Some(facts) = tale.facts(at) else { continue };
        if let Some(shares) = production_write(&action.effect) {
            gate(facts, at, shares, note);
            plan_weights(facts, at, shares, note);
            if let Some(release) = &facts.release {
                evidence(tale, at, entry.by, release, &action.effect, note);
            }
        }
        if action.rollback {
            largest_first(tale, at, entry.by, &action.effect, note);
        }
        latched(facts, at, &action.effect, note);
    }
    for (at, entry, landed) in tale.landed() {
        nothing_on_empty(tale, at, entry, landed, note);
    }
    gate_evidence(tale, note);
    alarms(tale, note);
    latch_stays(tale, note);
}

/// A version serves in the group, or the candidate there has passed its gate.
fn gate(facts: &Facts, at: usize, shares: Shares, note: Note<'_>) {
    let recorded: Vec<Group> = [
        facts.stable.as_ref(),
        facts.retained.as_ref().map(|kept| &kept.version),
        facts.release.as_ref().and_then(|release| release.stable.as_ref()),
    ]
    .into_iter()
    .flatten()
    .map(|version| version.group)
    .collect();
    let gated = facts.release.as_ref().filter(|release| release.progress.gate_passed);
    for group in GROUPS.into_iter().filter(|group| shares.of(*group) > 0) {
        let allowed = recorded.contains(&group)
            || gated.is_some_and(|release| release.candidate.group == group)
            || (facts.stable.is_none() && facts.release.as_ref().is_none_or(|r| r.candidate.group != group));
        if !allowed {
            note(
                Property::GateBeforeTraffic,
                at,
                format!("group {group} is given weight, and nothing there passed its gate"),
            );
        }
    }
    if shares.a + shares.b == 0 {
        note(Property::WeightsOfThePlan, at, "both groups are given nothing".to_owned());
    }
}

fn plan_weights(facts: &Facts, at: usize, shares: Shares, note: Note<'_>) {
    let Some(plan) = &facts.plan else { return };
    let mut allowed = BTreeSet::from([Percent::ZERO, Percent::FULL]);
    allowed.extend(plan.steps.iter().filter_map(|step| match step {
        Step::Shift { weight, .. } => Some(*weight),
        Step::Pause(_) => None,
    }));
    if let Some(release) = &facts.release {
        let share = shares.share(release.candidate.group);
        if !allowed.contains(&share) {
            note(Property::WeightsOfThePlan, at, format!("{share} % is no step of the plan"));
        }
    }
}

/// More for the candidate than it was given before, by whoever sent it.
fn goes_forward(tale: &Tale<'_>, at: usize, release: &Release, route: &str, shares: Shares) -> bool {
    let group = release.candidate.group;
    let last = tale.before(at).find_map(|(_, entry)| match &entry.what {
        What::Landed(landed) => landed.routes.get(route).copied(),
        _ => None,
    });
    let before = last.or_else(|| release.before.get(route).copied());
    before.is_none_or(|before| shares.gives_more_to(group, before))
}

/// Everything for the candidate is no step while the way back has no running task: some answer is better than none.
fn fills_in(seen: Option<&Service>, release: &Release, shares: Shares) -> bool {
    let (Some(seen), Some(stable)) = (seen, &release.stable) else { return false };
    let runs = seen.task_sets.iter().any(|set| set.arn == stable.task_set && set.running > 0);
    !runs && shares.of(stable.group) == 0
}

fn evidence(tale: &Tale<'_>, at: usize, by: u32, release: &Release, effect: &Effect, note: Note<'_>) {
    let Some((intent, wrote)) = tale.intent(at, by) else { return };
    let Effect::SetWeights { route, shares, .. } = effect else { return };
    let seen = tale.readings(at, by).find_map(|(_, reading)| match reading {
        Reading::Service(service) => Some(service),
        _ => None,
    });
    if !goes_forward(tale, at, release, route, *shares) || fills_in(seen, release, *shares) {
        return;
    }
    let Some(plan) = &wrote.facts.plan else { return };
    let group = release.candidate.group;
    let mut readings = tale.readings(intent, by);
    let read = readings.find_map(|(_, reading)| match reading {
        Reading::Alarms(states) => Some(Some(states)),
        Reading::Failed(Op::Alarms) => Some(None),
        _ => None,
    });
    let armed = plan.spec.alarms.iter().filter(|alarm| is_armed(alarm.watches, group));
    for alarm in armed {
        let state = read.flatten().and_then(|states| states.get(&alarm.name));
        let fine = matches!(state, Some(AlarmState::Ok | AlarmState::InsufficientData));
        if !fine && !release.break_glass.contains(&alarm.name) {
            note(
                Property::NoEvidenceNoSuccess,
                at,
                format!("forward, and the last look at {} gave {state:?}", alarm.name),
            );
        }
    }
    let Some(seen) = seen else { return };
    let needed = shares.share(group).of(seen.desired_count);
    let running = release
        .candidate
        .task_set
        .as_ref()
        .and_then(|arn| seen.task_sets.iter().find(|set| set.arn == *arn))
        .map_or(0, |set| set.running);
    if running < needed {
        note(Property::CapacityFirst, at, format!("{running} tasks run, {needed} are needed"));
    }
}

pub(super) fn is_armed(watches: Watches, candidate: Group) -> bool {
    match watches {
        Watches::Service => true,
        Watches::A => candidate == Group::A,
        Watches::B => candidate == Group::B,
    }
}

/// From the latch until the release has ended, production weights toward stable and nothing else.
fn latched(facts: &Facts, at: usize, effect: &Effect, note: Note<'_>) {
    let Some(release) = facts.release.as_ref().filter(|release| release.latch.is_some()) else { return };
    let Some(stable) = &release.stable else { return };
    match effect {
        Effect::SetWeights { route, shares, .. } if is_production(route) => {
            if shares.of(stable.group.other()) > 0 {
                note(Property::LatchStays, at, format!("latched, and {effect}"));
            }
        }
        _ => note(Property::RollbackIsStatic, at, format!("latched, and {effect}")),
    }
}

/// No landing leaves weight on a group without a task, unless its tasks died between the look that its sender went by and
/// the landing: nothing can stop what is on its way.
fn nothing_on_empty(tale: &Tale<'_>, at: usize, entry: &Entry, landed: &Landed, note: Note<'_>) {
    // What takes no task away and gives no weight changes nothing about it.
    if matches!(landed.effect, Effect::CreateTaskSet { .. } | Effect::SetPrimary { .. }) {
        return;
    }
    // Before the first release has moved anything, weight lies where it lay.
    let untouched = tale.facts(at).is_none_or(|facts| facts.stable.is_none())
        && !tale.landed().any(|(index, _, it)| index <= at && production_write(&it.effect).is_some());
    let production = landed.routes.iter().filter(|(route, _)| is_production(route) && !untouched);
    let before = tale.before(at).find_map(|(_, entry)| match &entry.what {
        What::Landed(landed) => Some(&landed.routes),
        _ => None,
    });
    let writes = matches!(landed.effect, Effect::SetWeights { .. });
    let sent = tale.sent().find(|(_, sent, _)| sent.call == entry.call).map_or(at, |(sent, ..)| sent);
    let gone_by = tale.readings(sent, entry.by).find_map(|(_, reading)| match reading {
        Reading::Service(service) => Some(service),
        _ => None,
    });
    for (route, live) in production {
        // Weights that were in force moved nothing: the last task may have died a moment before they were written again.
        let before = before.and_then(|routes| routes.get(route)).filter(|_| writes);
        let given = |group| before.is_none_or(|before| live.gives_more_to(group, *before));
        for group in GROUPS.into_iter().filter(|group| live.of(*group) > 0 && given(*group)) {
            let runs =
                |service: &Service| service.task_sets.iter().any(|set| lives(set, group) && set.running > 0);
            let ran = writes && gone_by.is_some_and(runs);
            if !runs(&landed.service) && !ran {
                note(
                    Property::NothingOnEmpty,
                    at,
                    format!("group {group} has weight {} of {route} and no running set", live.of(group)),
                );
            }
        }
    }
}

/// Of a release that goes back, the first route is one that gives the candidate most; and none is written a third time
/// before each of the others was once.
fn largest_first(tale: &Tale<'_>, at: usize, by: u32, effect: &Effect, note: Note<'_>) {
    let Effect::SetWeights { route, .. } = effect else { return };
    let Some((_, wrote)) = tale.intent(at, by) else { return };
    let Some(release) = &wrote.facts.release else { return };
    let (Some(latch), Some(stable)) = (&release.latch, &release.stable) else { return };
    let seen = tale.readings(at, by).find_map(|(_, reading)| match reading {
        Reading::Routes(routes) => Some(Some(routes)),
        Reading::Failed(Op::Routes) => Some(None),
        _ => None,
    });
    let Some(seen) = seen.flatten() else { return };
    let most = |route: &str| seen.get(route).map_or(0, |live| live.share(stable.group.other()).tenths());
    let sent = |route: &str| {
        let back = tale.sent().filter(|(index, _, action)| *index < at && action.rollback);
        let its = back.filter(|(index, _, action)| {
            let then = tale.facts(*index).and_then(|facts| facts.release.as_ref());
            then.is_some_and(|then| then.id == release.id && then.latch.is_some())
                && matches!(&action.effect, Effect::SetWeights { route: other, .. } if other == route)
        });
        its.count()
    };
    let others = seen.keys().filter(|other| is_production(other) && *other != route && most(other) > 0);
    for other in others {
        let first = latch.tried.keys().all(|tried| tried == route) && sent(route) == 0;
        if first && most(other) > most(route) {
            note(Property::LargestFirst, at, format!("{route} goes back before {other}, which has more"));
        }
        if sent(route) >= 2 && sent(other) == 0 {
            note(Property::LargestFirst, at, format!("{route} again, and {other} was never written"));
        }
    }
}

/// The write that passes the gate comes after two steady looks, healthy targets and the held test route.
fn gate_evidence(tale: &Tale<'_>, note: Note<'_>) {
    let mut passed = BTreeSet::new();
    for (at, entry, wrote) in tale.writes() {
        let Some(release) = &wrote.facts.release else { continue };
        if !release.progress.gate_passed || !passed.insert(release.id) || release.kind == ReleaseKind::Return
        {
            continue;
        }
        let Some(arn) = &release.candidate.task_set else { continue };
        let group = release.candidate.group;
        let steady = |reading: &Reading| match reading {
            Reading::Service(service) => service
                .task_sets
                .iter()
                .any(|set| set.arn == *arn && set.steady && set.running >= set.computed && set.computed > 0),
            _ => false,
        };
        let all: Vec<&Reading> = tale
            .before(at)
            .filter_map(|(_, entry)| match &entry.what {
                What::Read(reading) => Some(reading),
                _ => None,
            })
            .collect();
        let steady_looks = all.iter().filter(|reading| steady(reading)).count();
        let healthy = all.iter().any(|reading| {
            matches!(reading, Reading::Targets(of, healthy, total) if *of == group && *healthy > 0 && healthy == total)
        });
        let shown = tale.landed().find(|(index, _, landed)| {
            *index < at && landed.routes.get("preview").is_some_and(|live| live.of(group.other()) == 0)
        });
        let hold = wrote.facts.plan.as_ref().map_or(0, |plan| plan.spec.test_hold.millis());
        let was_held = shown.is_some_and(|(_, shown, _)| entry.at_ms >= shown.at_ms + hold);
        if steady_looks < 2 || !healthy || !was_held {
            note(
                Property::GateOnEvidence,
                at,
                format!(
                    "{steady_looks} steady looks, targets healthy: {healthy}, test route held: {was_held}"
                ),
            );
        }
    }
}

/// An armed ALARM that a process reads latches with its next word about the release.
fn alarms(tale: &Tale<'_>, note: Note<'_>) {
    for (at, entry) in tale.all() {
        let What::Read(Reading::Alarms(states)) = &entry.what else { continue };
        let Some(facts) = tale.facts(at) else { continue };
        let (Some(release), Some(plan)) = (&facts.release, &facts.plan) else { continue };
        let burning = plan.spec.alarms.iter().find(|alarm| {
            is_armed(alarm.watches, release.candidate.group)
                && !release.break_glass.contains(&alarm.name)
                && states.get(&alarm.name) == Some(&AlarmState::Alarm)
        });
        let Some(burning) = burning.filter(|_| release.latch.is_none()) else { continue };
        // Without the table, or the state in it, nothing can be written; the history of the alarm is asked before the next
        // effect.
        let mut failed = lapsed(tale, at, entry.by).is_some() || is_refused(tale, at, entry.by);
        for (index, later) in tale.all().skip(at + 1) {
            match &later.what {
                // The latch itself could not be written: it must come before the next effect all the same.
                What::Befell(Op::Write, _) => failed = true,
                // Not one that was sent before the look, and landed late.
                What::Wrote(wrote) if later.by == entry.by && later.call > entry.call => {
                    if turned_around(wrote, release) {
                        break;
                    }
                    if !failed {
                        let detail = format!("{} was in ALARM, and the release goes on", burning.name);
                        note(Property::AlarmLatches, index, detail);
                        break;
                    }
                }
                What::Sent(action) if later.by == entry.by => {
                    let detail = format!("{} was in ALARM, and then {}", burning.name, action.effect);
                    note(Property::AlarmLatches, index, detail);
                    break;
                }
                _ => {}
            }
        }
    }
}

fn turned_around(wrote: &Wrote, release: &Release) -> bool {
    match wrote.facts.release.as_ref().filter(|later| later.id == release.id) {
        Some(later) => later.latch.is_some(),
        None => wrote.ended.iter().all(|ended| ended.outcome != Outcome::Succeeded),
    }
}

fn latch_stays(tale: &Tale<'_>, note: Note<'_>) {
    let mut latched: Option<(&Release, usize)> = None;
    for (at, _, wrote) in tale.writes() {
        if let Some((before, _)) = latched {
            let same = wrote.facts.release.as_ref().filter(|release| release.id == before.id);
            if same.is_some_and(|release| release.latch.is_none()) {
                note(Property::LatchStays, at, format!("the latch of {} is gone", before.id));
            }
            let name = before.id.to_string();
            let succeeded = wrote
                .ended
                .iter()
                .any(|ended| ended.release.ends_with(&name) && ended.outcome == Outcome::Succeeded);
            if succeeded {
                note(Property::LatchStays, at, format!("{} was latched and succeeded", before.id));
            }
        }
        if let Some(release) = wrote.facts.release.as_ref().filter(|release| release.latch.is_some()) {
            latched = Some((release, at));
        } else if wrote.facts.release.is_none() {
            latched = None;
        }
    }
}
