//! What may be sent without a lease, and what must be written of it.

use std::collections::BTreeSet;

use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{Facts, Release, Version};
use pointsman_core::model::observed::{AlarmState, TaskSet, TaskSetStatus};
use pointsman_core::model::{Action, Answer, Effect, Resource};

use super::super::fault::Op;
use super::super::log::{Entry, Reading, What};
use super::super::run::LEFT;
use super::traffic::is_armed;
use super::{Note, Property, Tale, is_production};

/// What the latch says of a release whose traffic was taken back without a lease.
const RECORDED: &str = "EmergencyRollback";

pub(super) fn check(tale: &Tale<'_>, note: Note<'_>) {
    for (at, entry) in tale.all() {
        if let What::SentWithoutLease(action) = &entry.what {
            guarded(tale, at, entry, action, note);
            recorded(tale, at, entry, &action.effect.resource(), note);
        }
    }
}

const fn is_of_the_lease(what: &What) -> bool {
    matches!(what, What::Started | What::Unleased | What::Lapsed | What::Renewed | What::Died)
}

/// Since when this process's lease has lapsed, by its last word about it.
pub(super) fn lapsed(tale: &Tale<'_>, at: usize, by: u32) -> Option<usize> {
    let word = tale.before(at).find(|(_, entry)| entry.by == by && is_of_the_lease(&entry.what));
    word.filter(|(_, entry)| matches!(entry.what, What::Lapsed)).map(|(index, _)| index)
}

/// Since when this process has recorded nothing, once that opens a way back: its lease has lapsed, or it holds it, its
/// state refuses, and did so first as long ago as a lease lives without beats, whether or not one lapsed meanwhile. (The loop
/// begins anew also with a run that ended well and had nothing to record, which the log does not show.)
fn shut_out(tale: &Tale<'_>, at: usize, by: u32) -> Option<usize> {
    let mine = || tale.before(at).filter(|(_, entry)| entry.by == by);
    let answered = |entry: &Entry| !tale.log.iter().any(|it| it.call == entry.call && is_refusal(&it.what));
    let (told, _) = mine().find(|(_, entry)| match entry.what {
        What::Started => true,
        What::Wrote(_) => answered(entry),
        _ => false,
    })?;
    let first = mine().take_while(|(index, _)| *index > told).filter(|(_, it)| is_refusal(&it.what)).last();
    if let Some(lapsed) = lapsed(tale, at, by) {
        return Some(first.map_or(lapsed, |(refused, _)| refused.min(lapsed)));
    }
    let (_, word) = mine().find(|(_, entry)| is_of_the_lease(&entry.what))?;
    let (since, first) = first.filter(|_| matches!(word.what, What::Started | What::Renewed))?;
    let lasted = tale.log.get(at)?.at_ms.saturating_sub(first.at_ms);
    (is_refused(tale, at, by) && lasted >= LEFT.millis()).then_some(since)
}

/// Whether this process's last try at the records or its state was refused, and it was the state.
pub(super) fn is_refused(tale: &Tale<'_>, at: usize, by: u32) -> bool {
    let last = tale.before(at).filter(|(_, entry)| entry.by == by).find_map(|(_, entry)| match &entry.what {
        What::Read(Reading::Other(Op::Wishes | Op::Remembered) | Reading::Failed(Op::Wishes))
        | What::Wrote(_)
        | What::Unwritten { overtaken: true } => Some(false),
        refused if is_refusal(refused) => Some(true),
        _ => None,
    });
    last == Some(true)
}

const fn is_refusal(what: &What) -> bool {
    matches!(what, What::Unwritten { overtaken: false } | What::Read(Reading::Failed(Op::Remembered)))
}

/// One write of a production route back to stable, by an owner whose lease has lapsed or whose state has refused for as
/// long, on two looks at the alarms and a sound stable version, while every production route stands as it was left.
fn guarded(tale: &Tale<'_>, at: usize, entry: &Entry, action: &Action, note: Note<'_>) {
    let mut object = |what: String| note(Property::GuardedWithoutLease, at, what);
    let Some(since) = shut_out(tale, at, entry.by) else {
        return object(
            "its lease has not lapsed for want of the table, nor did its state refuse for so long".to_owned(),
        );
    };
    let Some((facts, epoch)) = known(tale, at, entry.by) else {
        return object("nothing is recorded".to_owned());
    };
    let release = facts.release.as_ref().filter(|release| release.progress.exposed);
    let Some((release, stable)) = release.and_then(|release| Some((release, release.stable.as_ref()?)))
    else {
        return object("no release with a way back has been given traffic".to_owned());
    };
    let route = match &action.effect {
        Effect::SetWeights { route, shares, .. }
            if is_production(route)
                && shares.of(stable.group) > 0
                && shares.of(stable.group.other()) == 0 =>
        {
            route
        }
        other => return object(format!("{other}, and stable is in {}", stable.group)),
    };
    if burning_twice(tale, (since, at), entry.by, facts, release).is_empty() {
        object("no armed alarm was in ALARM in the last two looks".to_owned());
    }
    if !is_sound(tale, (since, at), entry.by, stable) {
        object(format!("{} was not seen PRIMARY, whole and healthy", stable.task_set));
    }
    if let Some(strange) = strange_weights(tale, (since, at), (entry.by, epoch), facts) {
        object(strange);
    }
    let resource = Resource::Route(route.clone());
    let mine = tale.log.get(since..at).unwrap_or_default();
    if acknowledged(mine, entry.by, &resource) {
        object(format!("{route} was taken back before"));
    }
}

/// Whether one of this process's writes without a lease was answered with yes.
fn acknowledged(log: &[Entry], by: u32, resource: &Resource) -> bool {
    let mine = || log.iter().filter(|entry| entry.by == by);
    let sent = mine().filter(|entry| match &entry.what {
        What::SentWithoutLease(action) => action.effect.resource() == *resource,
        _ => false,
    });
    sent.map(|entry| entry.call).any(|call| {
        mine().any(|entry| {
            entry.call == call && matches!(entry.what, What::Answered(_, Answer::Acknowledged(_)))
        })
    })
}

/// What was durable when this process wrote or read the state last, and the epoch that it was written under.
fn known<'a>(tale: &Tale<'a>, at: usize, by: u32) -> Option<(&'a Facts, u64)> {
    let (last, _) = tale.before(at).find(|(_, entry)| {
        let read = matches!(entry.what, What::Wrote(_) | What::Read(Reading::Other(Op::Remembered)));
        entry.by == by && read
    })?;
    tale.before(last + 1).find_map(|(_, entry)| match &entry.what {
        What::Wrote(wrote) => Some((&*wrote.facts, entry.epoch)),
        _ => None,
    })
}

/// What this process read between two points to see whether it must take traffic back, newest first. While it holds its
/// lease a run looks as well, behind its records; what follows the refusal is the look for a way back.
fn looks<'a>(tale: &Tale<'a>, (since, at): (usize, usize), by: u32) -> impl Iterator<Item = &'a Reading> {
    let within = tale.readings(at, by).take_while(move |(index, _)| *index > since);
    let shut_out = move |index: usize| lapsed(tale, index, by).is_some() || is_refused(tale, index, by);
    within.filter(move |(index, _)| shut_out(*index)).map(|(_, reading)| reading)
}

fn burning_twice(
    tale: &Tale<'_>,
    span: (usize, usize),
    by: u32,
    facts: &Facts,
    release: &Release,
) -> BTreeSet<String> {
    let Some(plan) = &facts.plan else { return BTreeSet::new() };
    let burn = |reading: &Reading| match reading {
        Reading::Alarms(states) => {
            let armed = plan.spec.alarms.iter().filter(|alarm| {
                is_armed(alarm.watches, release.candidate.group) && !release.break_glass.contains(&alarm.name)
            });
            let burning = armed.filter(|alarm| states.get(&alarm.name) == Some(&AlarmState::Alarm));
            Some(burning.map(|alarm| alarm.name.clone()).collect())
        }
        Reading::Failed(Op::Alarms) => Some(BTreeSet::new()),
        _ => None,
    };
    let mut last = looks(tale, span, by).filter_map(burn);
    match (last.next(), last.next()) {
        (Some(last), Some(before)) => last.intersection(&before).cloned().collect(),
        _ => BTreeSet::new(),
    }
}

fn is_sound(tale: &Tale<'_>, span: (usize, usize), by: u32, stable: &Version) -> bool {
    let seen: Option<Option<&TaskSet>> = looks(tale, span, by).find_map(|reading| match reading {
        Reading::Service(service) => Some(service.task_sets.iter().find(|set| set.arn == stable.task_set)),
        Reading::Failed(Op::Service) => Some(None),
        _ => None,
    });
    let healthy = looks(tale, span, by).find_map(|reading| match reading {
        Reading::Targets(group, healthy, _) if *group == stable.group => Some(*healthy),
        Reading::Failed(Op::Targets) => Some(0),
        _ => None,
    });
    seen.flatten().is_some_and(|set| {
        set.status == TaskSetStatus::Primary
            && set.scale >= stable.scale
            && set.computed > 0
            && set.running >= set.computed
            && healthy.is_some_and(|healthy| healthy >= set.computed)
    })
}

/// A production route that showed, in the last look, what none of the last two writes up to this epoch left there.
fn strange_weights(
    tale: &Tale<'_>,
    (since, at): (usize, usize),
    (by, epoch): (u32, u64),
    facts: &Facts,
) -> Option<String> {
    let (plan, release) = (facts.plan.as_ref()?, facts.release.as_ref()?);
    let seen = looks(tale, (since, at), by).find_map(|reading| match reading {
        Reading::Routes(routes) => Some(routes.clone()),
        Reading::Failed(Op::Routes) => Some(std::collections::BTreeMap::new()),
        _ => None,
    });
    let seen = seen.unwrap_or_default();
    plan.spec.routes.production.iter().find_map(|route| {
        let Some(live) = seen.get(&route.name) else {
            return Some(format!("{} was not read", route.name));
        };
        let landed = tale.before(at).filter_map(|(_, other)| match &other.what {
            What::Landed(landed) if other.epoch <= epoch => match &landed.effect {
                Effect::SetWeights { route: written, shares, .. } if *written == route.name => Some(*shares),
                _ => None,
            },
            _ => None,
        });
        let ours: Vec<Shares> = landed.take(2).chain(release.before.get(&route.name).copied()).collect();
        let fine = ours.iter().any(|shares| shares.same_ratio(*live));
        (!fine).then(|| format!("{} was at {}/{}, which nobody here wrote", route.name, live.a, live.b))
    })
}

/// The first thing that a process does once it can is to write down what it did without a lease or a record.
fn recorded(tale: &Tale<'_>, at: usize, sent: &Entry, resource: &Resource, note: Note<'_>) {
    let mut object = |at: usize, what: &str| note(Property::EmergencyIsRecorded, at, what.to_owned());
    let next = tale.all().skip(at + 1).find(|(_, entry)| {
        let tells = match &entry.what {
            // Not one that was sent before, and landed late.
            What::Wrote(_) => entry.call > sent.call,
            What::Sent(_) | What::Died | What::Unleased => true,
            _ => false,
        };
        entry.by == sent.by && tells
    });
    let Some((index, entry)) = next else { return };
    let wrote = match &entry.what {
        What::Wrote(wrote) => wrote,
        What::Sent(_) => return object(index, "it sends before it records what it did without a lease"),
        _ => return,
    };
    let Some(before) = tale.facts(index).and_then(|facts| facts.release.as_ref()) else { return };
    let latch = wrote.facts.release.as_ref().filter(|now| now.id == before.id);
    let latch = latch.and_then(|release| release.latch.as_ref());
    if latch.is_none_or(|latch| before.latch.is_none() && !latch.detail.starts_with(RECORDED)) {
        object(index, "what it did without a lease is not recorded");
    }
    let since = tale.log.get(at..index).unwrap_or_default();
    if !acknowledged(since, sent.by, resource) && !wrote.facts.outstanding.contains_key(resource) {
        object(index, "a write without a lease that was never answered is not outstanding");
    }
}
