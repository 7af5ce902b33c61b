//! What must be durable before it is done, and who may write.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::model::facts::{ReleaseId, ReleaseKind};
use pointsman_core::model::{Answer, Effect, Plan, Resource};
use pointsman_core::records::names::Arn;

use super::super::log::What;
use super::emergency::lapsed;
use super::{Note, Property, Tale, is_forward};

pub(super) fn check(tale: &Tale<'_>, note: Note<'_>) {
    write_ahead(tale, note);
    one_candidate(tale, note);
    order(tale, note);
    ends_once(tale, note);
    unknown_is_unknown(tale, note);
    ours_alone(tale, note);
    claimed(tale, note);
    one_release(tale, note);
    newest_request(tale, note);
}

fn write_ahead(tale: &Tale<'_>, note: Note<'_>) {
    for (at, entry, action) in tale.sent() {
        let mut missing = |what: String| note(Property::WriteAhead, at, what);
        let effect = &action.effect;
        let Some((intent, wrote)) = tale.intent(at, entry.by) else {
            missing(format!("{effect} without any intent"));
            continue;
        };
        let announced = wrote.facts.outstanding.get(&effect.resource());
        if announced.is_none_or(|entry| entry.effect != *effect) {
            missing(format!("{effect} was not announced"));
        }
        let sent_before =
            tale.sent().any(|(index, other, _)| index > intent && index < at && other.by == entry.by);
        if sent_before {
            missing(format!("{effect} is the second one for one intent"));
        }
        let no_way_back = wrote
            .facts
            .release
            .as_ref()
            .is_some_and(|release| release.stable.is_none() && release.kind != ReleaseKind::First);
        if no_way_back {
            missing("the way back is not recorded".to_owned());
        }
        if wrote.facts.plan.is_none() {
            missing("no plan is recorded".to_owned());
        }
    }
}

/// What an effect names is claimed on the table, whoever wrote there last.
fn claimed(tale: &Tale<'_>, note: Note<'_>) {
    for (at, _, action) in tale.sent() {
        let Some(wrote) = tale.before(at).find_map(|(_, entry)| match &entry.what {
            What::Wrote(wrote) => Some(wrote),
            _ => None,
        }) else {
            continue;
        };
        let Some(plan) = &wrote.facts.plan else { continue };
        for arn in named(plan, &action.effect) {
            if !wrote.claims.iter().any(|claimed| claimed == arn) {
                let what = format!("{} names {arn}, which is not claimed", action.effect);
                note(Property::OneReleaseOnItsOwn, at, what);
            }
        }
    }
}

/// The resources of the record that an effect names.
fn named<'a>(plan: &'a Plan, effect: &Effect) -> Vec<&'a str> {
    let spec = &plan.spec;
    let groups = [spec.target_groups.a.as_str(), spec.target_groups.b.as_str()];
    match effect {
        Effect::SetWeights { route, .. } => {
            let route = plan.routes().find(|known| known.name == *route);
            let rule = route.and_then(|route| route.rule.as_ref().or(route.listener_default.as_ref()));
            rule.map(Arn::as_str).into_iter().chain(groups).collect()
        }
        Effect::CreateTaskSet { group, .. } => {
            vec![spec.ecs.service.as_str(), spec.target_groups.of(*group).as_str()]
        }
        Effect::ScaleTaskSet { .. } | Effect::DeleteTaskSet { .. } | Effect::SetPrimary { .. } => {
            vec![spec.ecs.service.as_str()]
        }
    }
}

/// A release gives way to the next one, or to none, only with an end; and what is made, is made for the one in flight.
fn one_release(tale: &Tale<'_>, note: Note<'_>) {
    let mut in_flight: Option<ReleaseId> = None;
    let mut over: BTreeSet<&str> = BTreeSet::new();
    for (at, _, wrote) in tale.writes() {
        over.extend(wrote.ended.iter().map(|ended| ended.release.as_str()));
        let now = wrote.facts.release.as_ref().map(|release| release.id);
        if let Some(before) = in_flight.filter(|before| now != Some(*before))
            && !over.contains(format!("checkout-{before}").as_str())
        {
            let next = now.map_or_else(|| "no release".to_owned(), |id| id.to_string());
            note(
                Property::OneReleaseOnItsOwn,
                at,
                format!("{next} is in flight, and {before} has not ended"),
            );
        }
        in_flight = now;
    }
    for (at, entry, action) in tale.sent() {
        let Effect::CreateTaskSet { external_id, .. } = &action.effect else { continue };
        let Some((_, wrote)) = tale.intent(at, entry.by) else { continue };
        let wanted = wrote.facts.release.as_ref().map(|release| release.candidate.external_id.as_str());
        if wanted != Some(external_id.as_str()) {
            let what = format!("a task set is made as {external_id}, and {wanted:?} is in flight");
            note(Property::OneReleaseOnItsOwn, at, what);
        }
    }
}

fn one_candidate(tale: &Tale<'_>, note: Note<'_>) {
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (at, _, landed) in tale.landed() {
        for set in &landed.service.task_sets {
            let Some(external_id) = &set.external_id else { continue };
            let arns = made.entry(external_id.clone()).or_default();
            if arns.insert(set.arn.clone()) && arns.len() > 1 {
                note(Property::OneCandidate, at, format!("a second task set of {external_id}"));
            }
        }
    }
}

/// Epochs, revisions and generations on the table.
fn order(tale: &Tale<'_>, note: Note<'_>) {
    let (mut epoch, mut rev, mut generation) = (0, None, 0);
    for (at, entry, wrote) in tale.writes() {
        if entry.epoch < epoch {
            note(Property::NewestEpochActs, at, format!("epoch {} writes after epoch {epoch}", entry.epoch));
        }
        if rev.is_some_and(|rev| wrote.rev != rev + 1) {
            note(Property::GenerationsGrow, at, format!("revision {} after {rev:?}", wrote.rev));
        }
        if wrote.facts.generation < generation {
            note(
                Property::GenerationsGrow,
                at,
                format!("generation {} after {generation}", wrote.facts.generation),
            );
        }
        (epoch, rev, generation) = (entry.epoch, Some(wrote.rev), wrote.facts.generation);
    }
    for (at, entry, action) in tale.sent() {
        let Some((intent, _)) = tale.intent(at, entry.by) else { continue };
        let newer = tale.writes().any(|(index, other, _)| index < intent && other.epoch > entry.epoch);
        if newer {
            note(
                Property::NewestEpochActs,
                at,
                format!("epoch {} sends {} after a newer one took over", entry.epoch, action.effect),
            );
        }
        let unleased = tale
            .before(at)
            .any(|(_, other)| other.by == entry.by && matches!(other.what, What::Unleased | What::Died));
        if unleased || lapsed(tale, at, entry.by).is_some() {
            note(Property::NewestEpochActs, at, format!("{} is sent without a lease", action.effect));
        }
    }
}

fn ends_once(tale: &Tale<'_>, note: Note<'_>) {
    let mut over = BTreeSet::new();
    for (at, _, wrote) in tale.writes() {
        if let Some(release) = &wrote.facts.release
            && over.contains(&format!("checkout-{}", release.id))
        {
            note(Property::EndsOnce, at, format!("{} goes on after its end", release.id));
        }
        for ended in &wrote.ended {
            if !over.insert(ended.release.clone()) {
                note(Property::EndsOnce, at, format!("{} ends again, {:?}", ended.release, ended.outcome));
            }
        }
    }
}

/// An outstanding weight or PRIMARY leaves the facts by an answer on the same resource alone.
fn unknown_is_unknown(tale: &Tale<'_>, note: Note<'_>) {
    let writes: Vec<_> = tale.writes().collect();
    let mut since: BTreeMap<Resource, usize> = BTreeMap::new();
    for pair in writes.windows(2) {
        let [(_, _, before), (at, _, after)] = pair else { continue };
        for (resource, entry) in &before.facts.outstanding {
            let from = *since.entry(resource.clone()).or_insert(0);
            if after.facts.outstanding.contains_key(resource)
                || !matches!(resource, Resource::Route(_) | Resource::Primary)
            {
                continue;
            }
            let settled = tale.answers(from, *at, resource).any(|answer| match answer {
                Answer::Acknowledged(_) => true,
                Answer::Refused { .. } => !entry.unknown,
                Answer::Unknown { .. } => false,
            });
            if !settled {
                note(Property::UnknownIsUnknown, *at, format!("{} was forgotten", entry.effect));
            }
            since.insert(resource.clone(), *at);
        }
    }
}

fn ours_alone(tale: &Tale<'_>, note: Note<'_>) {
    let ours = |external_id: &str| external_id.starts_with("pm1/proof/");
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, entry) in tale.all() {
        let sets = match &entry.what {
            What::Landed(landed) => &landed.service.task_sets,
            What::Read(super::super::log::Reading::Service(service)) => &service.task_sets,
            _ => continue,
        };
        known.extend(sets.iter().filter_map(|set| Some((set.arn.as_str(), set.external_id.as_deref()?))));
    }
    for (at, _, action) in tale.sent() {
        let fine = match &action.effect {
            Effect::CreateTaskSet { external_id, token, .. } => ours(external_id) && token.len() == 32,
            Effect::SetWeights { route, .. } => ["public", "internal", "preview"].contains(&route.as_str()),
            Effect::ScaleTaskSet { task_set, .. } | Effect::SetPrimary { task_set } => {
                known.get(task_set.as_str()).is_some_and(|id| ours(id))
            }
            Effect::DeleteTaskSet { task_set, external_id } => {
                ours(external_id) && known.get(task_set.as_str()) == Some(&external_id.as_str())
            }
        };
        if !fine {
            note(Property::OursAlone, at, action.effect.to_string());
        }
    }
}

/// Once another revision is asked for, the older request goes forward no more.
fn newest_request(tale: &Tale<'_>, note: Note<'_>) {
    for (at, _, action) in tale.sent() {
        let Some(facts) = tale.facts(at) else { continue };
        let (Some(release), Some(asked)) = (&facts.release, &facts.asked) else { continue };
        let number = format!(":{}", release.candidate.revision.number);
        let older = facts.generation > release.id.generation && !asked.task_definition.ends_with(&number);
        let goes_on = release.kind == ReleaseKind::First && release.progress.exposed;
        if older && !goes_on && is_forward(&action.effect, release) {
            note(
                Property::GenerationsGrow,
                at,
                format!("{} for {}, and {} is asked for", action.effect, release.id, asked.task_definition),
            );
        }
    }
}
