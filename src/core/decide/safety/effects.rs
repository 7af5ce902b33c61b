//! What no effect may do, by its kind.

use super::{Note, Property, in_flight, is_armed};
use crate::decide::{Decision, Input};
use crate::model::effect::Shares;
use crate::model::facts::{Facts, Release, ReleaseKind};
use crate::model::observed::{AlarmState, TaskSet, TaskSetStatus, Weights};
use crate::model::{Effect, Plan, Resource, Seen};
use crate::records::Group;
use crate::records::managed_service::Route;

/// Asks of the one effect of a decision what every effect owes, and what its kind does.
pub(super) fn judge(input: &Input<'_>, decision: &Decision, effect: &Effect, note: Note<'_>) {
    let facts = &decision.facts;
    let entry = facts.outstanding.get(&effect.resource());
    note(Property::WriteAhead, entry.is_none_or(|entry| entry.effect != *effect), &|| {
        format!("{effect} is not announced")
    });
    goes_back_when_latched(input, facts, effect, note);
    let Some(plan) = &facts.plan else {
        note(Property::WriteAhead, true, &|| format!("{effect} goes by no plan"));
        return;
    };
    match effect {
        Effect::SetWeights { route, shares, .. } => set_weights(input, facts, plan, route, *shares, note),
        Effect::CreateTaskSet { .. } => creation(input, facts, plan, effect, note),
        Effect::DeleteTaskSet { task_set, external_id } => {
            claimed(facts, plan.spec.ecs.service.as_str(), note);
            deletion(facts, task_set, external_id, note);
            quiesced(input, facts, plan, task_set, note);
        }
        Effect::ScaleTaskSet { task_set, .. } => {
            claimed(facts, plan.spec.ecs.service.as_str(), note);
            note(Property::RollbackAssetStays, candidate(facts) != Some(task_set), &|| {
                format!("scales {task_set}")
            });
        }
        Effect::SetPrimary { task_set } => {
            claimed(facts, plan.spec.ecs.service.as_str(), note);
            let stable = facts.stable.as_ref().map(|stable| &stable.task_set);
            let ours = candidate(facts) == Some(task_set) || stable == Some(task_set);
            note(Property::TombstonesStay, !ours || facts.tombstones.contains(task_set), &|| {
                format!("{task_set} becomes PRIMARY")
            });
        }
    }
}

/// The task set of the release in flight.
fn candidate(facts: &Facts) -> Option<&String> {
    in_flight(facts)?.candidate.task_set.as_ref()
}

/// A latched release asks for one thing alone: weight on the recorded stable version, or on its own when nothing of that
/// one runs.
fn goes_back_when_latched(input: &Input<'_>, facts: &Facts, effect: &Effect, note: Note<'_>) {
    let Some(release) = in_flight(facts).filter(|release| release.latch.is_some()) else { return };
    let back = match (effect, &release.stable) {
        (Effect::SetWeights { shares, .. }, Some(stable)) => {
            shares.of(stable.group.other()) == 0 || only_the_candidate_runs(input, release)
        }
        _ => false,
    };
    note(Property::LatchStays, !back, &|| format!("latched, and wants to {effect}"));
}

/// What is not claimed may be somebody else's.
fn claimed(facts: &Facts, arn: &str, note: Note<'_>) {
    note(Property::WriteAhead, !facts.claims.contains(arn), &|| format!("{arn} is not claimed"));
}

// --- weights

fn set_weights(input: &Input<'_>, facts: &Facts, plan: &Plan, route: &str, shares: Shares, note: Note<'_>) {
    let named = |it: &&Route| it.name == route;
    let Some(known) = plan.routes().find(named) else {
        note(Property::GateBeforeTraffic, true, &|| format!("{route} is not in the plan"));
        return;
    };
    for arn in known.rule.iter().chain(&known.listener_default) {
        claimed(facts, arn.as_str(), note);
    }
    note(Property::GateBeforeTraffic, shares.a == 0 && shares.b == 0, &|| {
        format!("{route}: both groups at 0")
    });
    if plan.spec.routes.production.iter().any(|it| it.name == route) {
        for group in [Group::A, Group::B] {
            if shares.of(group) > 0 {
                traffic(facts, route, group, note);
            }
        }
        answered(input, route, shares, note);
        forward(input, facts, plan, route, shares, note);
    }
}

/// Some production traffic goes to this group.
fn traffic(facts: &Facts, route: &str, group: Group, note: Note<'_>) {
    let release = in_flight(facts);
    let way_back = release.and_then(|it| it.stable.as_ref());
    let recorded = [facts.stable.as_ref(), facts.retained.as_ref().map(|kept| &kept.version), way_back];
    let gated = release.filter(|it| it.progress.gate_passed).and_then(|it| it.candidate.version());
    let versions = recorded.into_iter().flatten().chain(&gated);
    let sets: Vec<&String> = versions.filter(|it| it.group == group).map(|it| &it.task_set).collect();
    // Before a first release nothing serves, and its traffic lies where it lay.
    let nothing_serves = facts.stable.is_none() && release.is_none_or(|it| it.kind == ReleaseKind::First);
    let untouched = nothing_serves && release.is_none_or(|it| it.candidate.group != group);
    note(Property::GateBeforeTraffic, sets.is_empty() && !untouched, &|| {
        format!("{route} gives weight to group {group}, where nothing passed its gate")
    });
    note(Property::TombstonesStay, sets.iter().any(|set| facts.tombstones.contains(set)), &|| {
        format!("{route} gives weight to a tombstone in {group}")
    });
}

/// No group without a running task gets traffic that the other one could answer.
fn answered(input: &Input<'_>, route: &str, shares: Shares, note: Note<'_>) {
    let Some(service) = input.observed.service.known() else { return };
    let runs = |group| service.task_sets.iter().any(|set| set.group == Some(group) && is_alive(set));
    let live = match input.observed.routes.get(route) {
        Some(Seen::Known(Weights::Pair(live))) => Some(*live),
        Some(_) | None => None,
    };
    for group in [Group::A, Group::B] {
        let more = live.is_none_or(|live| shares.gives_more_to(group, live));
        let starves = shares.of(group) > 0 && more && !runs(group) && runs(group.other());
        note(Property::TrafficIsAnswered, starves, &|| {
            format!("{route} gives weight to group {group}, which has no running task")
        });
    }
}

fn is_alive(set: &TaskSet) -> bool {
    set.status != TaskSetStatus::Draining && set.running > 0
}

/// The way back has no running task, and the candidate has: then it gets the traffic whatever else is true of it.
fn only_the_candidate_runs(input: &Input<'_>, release: &Release) -> bool {
    let (Some(service), Some(stable)) = (input.observed.service.known(), &release.stable) else {
        return false;
    };
    let runs =
        |arn: Option<&String>| service.task_sets.iter().any(|set| Some(&set.arn) == arn && is_alive(set));
    !runs(Some(&stable.task_set)) && runs(release.candidate.task_set.as_ref())
}

/// A write that gives the candidate more needs every armed alarm's good word, also when it repeats one whose answer was
/// lost.
fn forward(input: &Input<'_>, facts: &Facts, plan: &Plan, route: &str, shares: Shares, note: Note<'_>) {
    let Some(release) = in_flight(facts) else { return };
    let group = release.candidate.group;
    let written = input.facts.acknowledged.get(route).map(|write| write.shares);
    let before = written.or(release.before.get(route).copied());
    let more = before.is_none_or(|before| shares.gives_more_to(group, before));
    if !more || only_the_candidate_runs(input, release) {
        return;
    }
    for alarm in plan.spec.alarms.iter().filter(|alarm| is_armed(alarm, group)) {
        let answered = matches!(input.observed.alarms.get(&alarm.name), Some(Seen::Known(read)) if read.state != AlarmState::Missing);
        note(Property::NoEvidenceNoSuccess, !answered, &|| {
            format!("{route} goes forward without {}", alarm.name)
        });
    }
}

// --- task sets

fn creation(input: &Input<'_>, facts: &Facts, plan: &Plan, effect: &Effect, note: Note<'_>) {
    let Effect::CreateTaskSet { group, revision, external_id, .. } = effect else { return };
    let wanted =
        in_flight(facts).map(|it| (&it.candidate.external_id, it.candidate.group, &it.candidate.revision));
    note(Property::WriteAhead, wanted != Some((external_id, *group, revision)), &|| {
        format!("{external_id} is no candidate")
    });
    claimed(facts, plan.spec.ecs.service.as_str(), note);
    claimed(facts, plan.spec.target_groups.of(*group).as_str(), note);
    let Some(service) = input.observed.service.known() else {
        note(Property::OneRevisionPerGroup, true, &|| {
            "a task set is made without seeing the service".to_owned()
        });
        return;
    };
    let mut in_it = service.task_sets.iter().filter(|set| set.group == Some(*group));
    let taken = in_it.any(|set| set.external_id.as_ref() != Some(external_id));
    note(Property::OneRevisionPerGroup, taken, &|| format!("group {group} has a task set already"));
}

/// Whether this very set may be deleted at all.
fn deletion(facts: &Facts, arn: &str, external_id: &str, note: Note<'_>) {
    let property = Property::QuiesceBeforeDestroy;
    note(property, !facts.tombstones.iter().any(|dead| dead == arn), &|| format!("{arn} has no tombstone"));
    let release = in_flight(facts);
    let recorded = [facts.stable.as_ref(), facts.retained.as_ref().map(|kept| &kept.version)];
    let versions = recorded.into_iter().chain([release.and_then(|it| it.stable.as_ref())]).flatten();
    let mut needed = versions.map(|it| &it.task_set).chain(candidate(facts));
    note(Property::RollbackAssetStays, needed.any(|it| it == arn), &|| format!("{arn} is still needed"));
    let job = facts.cleanups.iter().find(|job| job.task_set.as_deref() == Some(arn));
    note(property, job.is_some_and(|job| job.external_id != external_id), &|| {
        format!("{arn} does not go by {external_id}")
    });
}

/// Whether nothing can bring the set traffic any more.
fn quiesced(input: &Input<'_>, facts: &Facts, plan: &Plan, arn: &str, note: Note<'_>) {
    let property = Property::QuiesceBeforeDestroy;
    let Some(job) = facts.cleanups.iter().find(|job| job.task_set.as_deref() == Some(arn)) else {
        note(property, true, &|| format!("{arn} is not up for removal"));
        return;
    };
    note(property, job.quiet < plan.quiet(job.uncertain), &|| format!("quiet for {} only", job.quiet));
    note(property, job.zero_reads < 2, &|| format!("{} zero reads", job.zero_reads));
    for Route { name, .. } in plan.routes() {
        let open = facts.outstanding.contains_key(&Resource::Route(name.clone()));
        note(property, open, &|| format!("a write of {name} is outstanding"));
        let written = facts.acknowledged.get(name);
        let stands = written.is_none_or(|it| it.epoch == input.epoch && it.shares.of(job.group) == 0);
        note(property, !stands, &|| format!("no barrier on {name}"));
    }
    note(property, !at_zero(input, facts, job.group), &|| {
        format!("group {} is not known to be at 0 everywhere", job.group)
    });
    let service = input.observed.service.known();
    let set = service.and_then(|service| service.task_sets.iter().find(|set| set.arn == arn));
    let ours = set.is_some_and(|set| set.external_id.as_ref() == Some(&job.external_id));
    note(property, !ours, &|| format!("{arn} is not known to be {}", job.external_id));
    note(property, set.is_some_and(|set| set.status == TaskSetStatus::Primary), &|| {
        format!("{arn} is PRIMARY")
    });
}

/// Whether a fresh read of the whole load balancer shows the group at weight 0 everywhere.
pub(super) fn at_zero(input: &Input<'_>, facts: &Facts, group: Group) -> bool {
    let read = input.observed.extra.load_balancer.as_ref().and_then(Seen::known);
    let (Some(plan), Some(read)) = (&facts.plan, read) else { return false };
    let arn = plan.spec.target_groups.of(group).as_str();
    let mut all = read.actions.iter().flat_map(|action| &action.groups);
    all.all(|(name, weight)| *weight == 0 || name != arn)
}
