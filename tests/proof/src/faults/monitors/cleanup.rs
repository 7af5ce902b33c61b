//! What stays, what goes, and after what.

use pointsman_core::model::facts::Version;
use pointsman_core::model::observed::{TaskSet, TaskSetStatus};
use pointsman_core::model::{Answer, Effect};
use pointsman_core::records::status::Outcome;

use super::super::log::{Landed, Reading, What};
use super::super::region::GROUPS;
use super::{Note, Property, Tale, lives};

pub(super) fn check(tale: &Tale<'_>, note: Note<'_>) {
    for (at, _, landed) in tale.landed() {
        assets(tale, at, landed, note);
        one_set_per_group(at, landed, note);
    }
    for (at, entry, action) in tale.sent() {
        if let Effect::DeleteTaskSet { task_set, external_id } = &action.effect {
            by_id(tale, at, task_set, external_id, note);
            quiesced(tale, at, entry.by, task_set, note);
            retention(tale, at, task_set, note);
        }
    }
}

fn stands(version: &Version, sets: &[TaskSet]) -> bool {
    sets.iter().any(|set| {
        set.arn == version.task_set && set.status != TaskSetStatus::Draining && set.scale >= version.scale
    })
}

/// The way back of a release in flight, and what is kept warm, are there.
fn assets(tale: &Tale<'_>, at: usize, landed: &Landed, note: Note<'_>) {
    let Some(facts) = tale.facts(at) else { return };
    let way_back = facts.release.as_ref().and_then(|release| release.stable.as_ref());
    let kept = facts.retained.as_ref().map(|kept| &kept.version);
    for version in way_back.into_iter().chain(kept).chain(&facts.stable) {
        if !stands(version, &landed.service.task_sets) {
            note(
                Property::RollbackAssetStays,
                at,
                format!("{} of {} is gone or small", version.task_set, version.revision),
            );
        }
    }
}

fn one_set_per_group(at: usize, landed: &Landed, note: Note<'_>) {
    let sets = &landed.service.task_sets;
    for group in GROUPS {
        let living = sets.iter().filter(|set| lives(set, group)).count();
        if living > 1 {
            note(Property::OneSetPerGroup, at, format!("{living} task sets in group {group}"));
        }
    }
    if let Effect::CreateTaskSet { group, external_id, .. } = &landed.effect {
        let other =
            sets.iter().any(|set| set.group == Some(*group) && set.external_id.as_ref() != Some(external_id));
        if other && landed.accepted {
            note(Property::OneSetPerGroup, at, format!("a set is made in {group}, which is not empty"));
        }
    }
}

fn by_id(tale: &Tale<'_>, at: usize, task_set: &str, external_id: &str, note: Note<'_>) {
    let Some(facts) = tale.facts(at) else { return };
    let mut object = |what: &str| note(Property::DeleteById, at, format!("{task_set} {what}"));
    if !facts.tombstones.iter().any(|dead| dead == task_set) {
        object("has no tombstone");
    }
    if !facts.cleanups.iter().any(|job| job.task_set.as_deref() == Some(task_set)) {
        object("is not up for removal");
    }
    let made_as = tale.all().find_map(|(_, entry)| {
        let sets = match &entry.what {
            What::Landed(landed) => &landed.service.task_sets,
            What::Read(Reading::Service(service)) => &service.task_sets,
            _ => return None,
        };
        sets.iter().find(|set| set.arn == task_set)?.external_id.clone()
    });
    if made_as.as_deref() != Some(external_id) {
        object("was made under another external id");
    }
    let needed = [facts.stable.as_ref(), facts.retained.as_ref().map(|kept| &kept.version)];
    let way_back = facts.release.as_ref().and_then(|release| release.stable.as_ref());
    if needed.into_iter().flatten().chain(way_back).any(|version| version.task_set == task_set) {
        object("is still needed");
    }
}

/// Two agreeing reads of everything, by this process, after the last weight write landed and the quiet time.
fn quiesced(tale: &Tale<'_>, at: usize, by: u32, task_set: &str, note: Note<'_>) {
    let mut object = |what: String| note(Property::QuiesceBeforeDestroy, at, what);
    let Some(facts) = tale.facts(at) else { return };
    let Some(job) = facts.cleanups.iter().find(|job| job.task_set.as_deref() == Some(task_set)) else {
        return;
    };
    let last_landed = tale.before(at).find_map(|(index, entry)| match &entry.what {
        What::Landed(Landed { effect: Effect::SetWeights { .. }, .. }) => Some(index),
        _ => None,
    });
    // By this process: what a process that was overtaken is told late, nobody else can know.
    let last_acknowledged = tale.before(at).find_map(|(_, entry)| match &entry.what {
        What::Answered(Effect::SetWeights { .. }, Answer::Acknowledged(_)) if entry.by == by => {
            Some(entry.at_ms)
        }
        _ => None,
    });
    let weight_at = last_landed.unwrap_or_default();
    let looks: Vec<bool> = tale
        .readings(at, by)
        .take_while(|(index, _)| *index > weight_at)
        .filter_map(|(_, reading)| match reading {
            Reading::Balancer(most) => Some(most.get(&job.group) == Some(&0)),
            _ => None,
        })
        .take(2)
        .collect();
    if looks != [true, true] {
        object(format!("the last looks at the load balancer: {looks:?}"));
    }
    let primary = tale.readings(at, by).find_map(|(_, reading)| match reading {
        Reading::Service(service) => Some(
            service.task_sets.iter().any(|set| set.arn == task_set && set.status == TaskSetStatus::Primary),
        ),
        _ => None,
    });
    if primary != Some(false) {
        object(format!("{task_set} is PRIMARY or was not looked at"));
    }
    let Some(plan) = &facts.plan else { return };
    let quiet = plan.quiet(was_uncertain(tale, at));
    let since =
        tale.log.get(at).map_or(0, |entry| entry.at_ms).saturating_sub(last_acknowledged.unwrap_or_default());
    if since < quiet.millis() && last_acknowledged.is_some() {
        object(format!("{since} ms after the last weight write; {quiet} must pass"));
    }
}

/// An answer was lost or a process changed between the last start of a release and this point.
fn was_uncertain(tale: &Tale<'_>, at: usize) -> bool {
    let ended = tale.before(at).find_map(|(index, entry)| match &entry.what {
        What::Wrote(wrote) if !wrote.ended.is_empty() => Some(index),
        _ => None,
    });
    let Some(ended) = ended else { return false };
    let id = tale.facts(ended).and_then(|facts| Some(facts.release.as_ref()?.id));
    let began = tale
        .writes()
        .find(|(_, _, wrote)| wrote.facts.release.as_ref().map(|release| release.id) == id && id.is_some())
        .map_or(ended, |(index, _, _)| index);
    let epoch = |index: usize| tale.log.get(index).map(|entry| entry.epoch);
    tale.log.get(began..ended).unwrap_or_default().iter().any(|entry| {
        matches!(&entry.what, What::Answered(_, Answer::Unknown { .. }))
            || (matches!(entry.what, What::Wrote(_)) && Some(entry.epoch) != epoch(began))
    })
}

/// The version before the last success stays for the retention, unless somebody wants something else.
fn retention(tale: &Tale<'_>, at: usize, task_set: &str, note: Note<'_>) {
    let succeeded = tale.before(at).find_map(|(index, entry)| match &entry.what {
        What::Wrote(wrote) if wrote.ended.iter().any(|ended| ended.outcome == Outcome::Succeeded) => {
            Some((index, entry.at_ms, wrote))
        }
        _ => None,
    });
    let Some((index, since_ms, wrote)) = succeeded else { return };
    let kept = wrote.facts.retained.as_ref().is_some_and(|kept| kept.version.task_set == task_set);
    let wished = tale.log.get(index..at).unwrap_or_default();
    let wished = wished.iter().any(|entry| matches!(entry.what, What::Happened(_)));
    let retention = wrote.facts.plan.as_ref().map_or(0, |plan| plan.spec.retention.millis());
    let now_ms = tale.log.get(at).map_or(0, |entry| entry.at_ms);
    if kept && !wished && now_ms < since_ms + retention {
        note(
            Property::RetentionIsKept,
            at,
            format!("{task_set} was kept for {} ms", now_ms.saturating_sub(since_ms)),
        );
    }
}
