//! A second opinion on every decision: what may never be decided, whatever the ladder says.
//!
//! This is written from the properties (`docs/architecture.md`), not from the rules, and shares no code with
//! them beyond the data. Property tests, the fault harness and the model checker all ask it; the daemon asks
//! it too, and refuses to carry out an effect that violates one.

use std::fmt;

use super::{Decision, Input, Next};
use crate::model::effect::Shares;
use crate::model::facts::{Facts, Release, ReleaseKind};
use crate::model::observed::{AlarmState, TaskSet, TaskSetStatus, Weights};
use crate::model::{Effect, Resource, Seen};
use crate::records::managed_service::Watches;
use crate::records::status::Outcome;
use crate::records::strategy::Step;
use crate::records::{Group, Span};

/// What a decision would break.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which property.
    pub property: Property,
    /// The evidence.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.detail)
    }
}

/// The properties that a single decision can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// Production weight goes only to a version that passed its gate or serves already.
    GateBeforeTraffic,
    /// The recorded way back is never scaled, deleted or forgotten while a release is in flight.
    RollbackAssetStays,
    /// A task set is made only in a group that no other set is in.
    OneRevisionPerGroup,
    /// An armed ALARM latches in the very decision that sees it.
    AlarmMeansStable,
    /// The latch stays until the release has ended, and then it has not succeeded.
    LatchStays,
    /// An effect is announced, and the way back recorded, before it is asked for.
    WriteAhead,
    /// Nothing is deleted but a tombstoned set behind the barrier, the quiet time and two zero reads.
    QuiesceBeforeDestroy,
    /// A tombstone never gets weight.
    TombstonesStay,
    /// Traffic is not taken from tasks that answer to be given to a group without any.
    TrafficIsAnswered,
    /// An unknown outcome is forgotten only when its resource cannot change any more.
    UnknownIsUnknown,
    /// A forward weight needs every armed alarm's answer.
    NoEvidenceNoSuccess,
    /// A bake counts only watched time.
    BakeIsWatched,
    /// Generations never fall; no forward effect of an older request.
    GenerationsGrow,
    /// A wait has a reason and, but for the rollback write and people, an end.
    WaitsEnd,
}

/// Everything that `decision` would break. Empty for every decision of the shipped core.
pub fn violations(input: &Input<'_>, decision: &Decision) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut note = |property, broken: bool, detail: &dyn Fn() -> String| {
        if broken {
            found.push(Violation { property, detail: detail() });
        }
    };
    alarm_means_stable(input, decision, &mut note);
    latch_stays(input, decision, &mut note);
    asset_is_recorded(input, decision, &mut note);
    unknown_is_unknown(input, decision, &mut note);
    clocks(input, decision, &mut note);
    if let Next::Act(action) = &decision.next {
        announced(decision, &action.effect, &mut note);
        effect(input, decision, &action.effect, &mut note);
    }
    if let Next::Wait(wait) = &decision.next {
        note(Property::WaitsEnd, wait.poll == Span::ZERO, &|| format!("{} has no poll", wait.on.name()));
    }
    found
}

type Note<'a> = &'a mut dyn FnMut(Property, bool, &dyn Fn() -> String);

fn in_flight(facts: &Facts) -> Option<&Release> {
    facts.release.as_ref()
}

fn is_armed(watches: Watches, group: Group) -> bool {
    matches!((watches, group), (Watches::Service, _) | (Watches::A, Group::A) | (Watches::B, Group::B))
}

fn alarm_means_stable(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let (Some(before), Some(plan)) = (in_flight(input.facts), &input.facts.plan) else { return };
    if before.latch.is_some() {
        return;
    }
    let burning = plan.spec.alarms.iter().find(|alarm| {
        is_armed(alarm.watches, before.candidate.group)
            && !before.break_glass.contains(&alarm.name)
            && matches!(input.observed.alarms.get(&alarm.name), Some(Seen::Known(read)) if read.state == AlarmState::Alarm)
    });
    let Some(burning) = burning else { return };
    // A command of this very pass may set it aside.
    let set_aside = in_flight(&decision.facts).is_some_and(|after| after.break_glass.contains(&burning.name));
    let turned = match in_flight(&decision.facts) {
        Some(after) => after.latch.is_some(),
        None => decision.ended.iter().any(|ended| ended.outcome != Outcome::Succeeded),
    };
    note(Property::AlarmMeansStable, !turned && !set_aside, &|| format!("{} is in ALARM", burning.name));
}

fn latch_stays(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let Some(before) = in_flight(input.facts).filter(|release| release.latch.is_some()) else { return };
    if let Some(after) = in_flight(&decision.facts).filter(|after| after.id == before.id) {
        let same = after.latch.as_ref().map(|l| (l.cause, &l.detail))
            == before.latch.as_ref().map(|l| (l.cause, &l.detail));
        note(Property::LatchStays, !same, &|| format!("the latch of {} changed", before.id));
    } else {
        let succeeded =
            decision.ended.iter().any(|e| e.release == before.id && e.outcome == Outcome::Succeeded);
        note(Property::LatchStays, succeeded, &|| format!("latched {} succeeded", before.id));
    }
    if let Next::Act(action) = &decision.next
        && let (Effect::SetWeights { route, shares, .. }, Some(stable)) = (&action.effect, &before.stable)
        && is_production(input.facts, route)
        && !only_the_candidate_runs(input, before)
    {
        note(Property::LatchStays, shares.of(stable.group.other()) > 0, &|| {
            format!("latched, and {route} is given {shares:?}")
        });
    }
}

fn asset_is_recorded(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    let Some(after) = in_flight(&decision.facts) else { return };
    note(Property::WriteAhead, after.stable.is_none() && after.kind != ReleaseKind::First, &|| {
        format!("{} has no recorded way back", after.id)
    });
    if let Some(before) = in_flight(input.facts).filter(|before| before.id == after.id) {
        note(Property::RollbackAssetStays, before.stable != after.stable, &|| {
            format!("the way back of {} changed", after.id)
        });
    }
}

fn announced(decision: &Decision, effect: &Effect, note: Note<'_>) {
    let entry = decision.facts.outstanding.get(&effect.resource());
    note(Property::WriteAhead, entry.is_none_or(|entry| entry.effect != *effect), &|| {
        format!("{effect} is not announced")
    });
}

fn unknown_is_unknown(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    for (resource, entry) in &input.facts.outstanding {
        if decision.facts.outstanding.contains_key(resource) {
            continue;
        }
        let excused = match resource {
            // Found by its external id, or every request signed for it has expired.
            Resource::NewTaskSet(external_id) => {
                let listed = input.observed.service.known().is_some_and(|service| {
                    service.task_sets.iter().any(|set| set.external_id.as_ref() == Some(external_id))
                });
                let waited = input.facts.cleanups.iter().any(|job| {
                    job.external_id == *external_id
                        && input
                            .facts
                            .plan
                            .as_ref()
                            .is_some_and(|p| job.quiet >= p.spec.waits.quiet_after_unknown)
                });
                listed || waited
            }
            // The task set is gone, and so is whatever could happen to it.
            Resource::TaskSet(arn) => is_gone(input, arn),
            Resource::Primary => {
                matches!(&entry.effect, Effect::SetPrimary { task_set } if is_gone(input, task_set))
            }
            Resource::Route(_) => false,
        };
        note(Property::UnknownIsUnknown, !excused, &|| format!("{} was forgotten", entry.effect));
    }
}

fn is_gone(input: &Input<'_>, arn: &str) -> bool {
    input.observed.service.known().is_some_and(|service| service.task_sets.iter().all(|set| set.arn != arn))
}

fn clocks(input: &Input<'_>, decision: &Decision, note: Note<'_>) {
    note(Property::GenerationsGrow, decision.facts.generation < input.facts.generation, &|| {
        format!("{} after {}", decision.facts.generation, input.facts.generation)
    });
    let Some(before) = in_flight(input.facts) else { return };
    let Some(after) = in_flight(&decision.facts).filter(|after| after.id == before.id) else { return };
    let (old, new) = (&before.progress, &after.progress);
    if new.step == old.step {
        let grown = new.baked.minus(old.baked);
        note(Property::BakeIsWatched, grown > input.watched, &|| {
            format!("baked {grown} in a pass that watched {}", input.watched)
        });
        return;
    }
    note(Property::BakeIsWatched, new.step < old.step || new.step > old.step + 1, &|| {
        format!("step {} after {}", new.step, old.step)
    });
    let steps = input.facts.plan.as_ref().map(|plan| match before.kind {
        ReleaseKind::Ordinary => plan.steps.clone(),
        ReleaseKind::First | ReleaseKind::Return => vec![plan.last_step()],
    });
    let done = steps.and_then(|steps| steps.get(usize::from(old.step)).copied());
    if let Some(Step::Shift { bake, .. }) = done {
        note(Property::BakeIsWatched, old.baked < bake, &|| {
            format!("left step {} after {} of {bake}", old.step, old.baked)
        });
    }
}

fn is_production(facts: &Facts, route: &str) -> bool {
    facts
        .plan
        .as_ref()
        .is_some_and(|plan| plan.spec.routes.production.iter().any(|known| known.name == route))
}

fn effect(input: &Input<'_>, decision: &Decision, effect: &Effect, note: Note<'_>) {
    match effect {
        Effect::SetWeights { route, shares, .. } => {
            let known =
                decision.facts.plan.as_ref().is_some_and(|plan| plan.routes().any(|r| r.name == *route));
            note(Property::GateBeforeTraffic, !known, &|| format!("{route} is not in the plan"));
            if is_production(&decision.facts, route) {
                weights(input, decision, route, *shares, note);
            }
        }
        Effect::CreateTaskSet { group, external_id, .. } => {
            creation(input, decision, *group, external_id, note);
        }
        Effect::DeleteTaskSet { task_set, external_id } => {
            deletion(input, decision, task_set, external_id, note);
        }
        Effect::ScaleTaskSet { task_set, .. } => {
            let candidate =
                in_flight(&decision.facts).and_then(|release| release.candidate.task_set.as_ref());
            note(Property::RollbackAssetStays, candidate != Some(task_set), &|| format!("scales {task_set}"));
        }
        Effect::SetPrimary { task_set } => {
            let candidate =
                in_flight(&decision.facts).and_then(|release| release.candidate.task_set.as_ref());
            let stable = decision.facts.stable.as_ref().map(|stable| &stable.task_set);
            let ours = candidate == Some(task_set) || stable == Some(task_set);
            note(Property::TombstonesStay, !ours, &|| format!("{task_set} becomes PRIMARY"));
        }
    }
}

fn weights(input: &Input<'_>, decision: &Decision, route: &str, shares: Shares, note: Note<'_>) {
    note(Property::GateBeforeTraffic, shares.a + shares.b == 0, &|| format!("{route}: both groups at 0"));
    let facts = &decision.facts;
    for group in [Group::A, Group::B] {
        if shares.of(group) == 0 {
            continue;
        }
        let recorded = [facts.stable.as_ref(), facts.retained.as_ref().map(|kept| &kept.version)];
        let serves = recorded.iter().flatten().find(|version| version.group == group);
        let gated = in_flight(facts).filter(|r| r.candidate.group == group && r.progress.gate_passed);
        let way_back = in_flight(facts).and_then(|r| r.stable.as_ref()).filter(|v| v.group == group);
        // Before a first release nothing serves, and its traffic lies where it lay.
        let nothing_serves =
            facts.stable.is_none() && in_flight(facts).is_none_or(|r| r.kind == ReleaseKind::First);
        let untouched = nothing_serves && in_flight(facts).is_none_or(|r| r.candidate.group != group);
        let allowed = serves.is_some() || gated.is_some() || way_back.is_some() || untouched;
        note(Property::GateBeforeTraffic, !allowed, &|| {
            format!("{route} gives weight to group {group}, where nothing passed its gate")
        });
        let set = serves.map(|version| version.task_set.clone());
        let tombstoned = set.is_some_and(|arn| facts.tombstones.contains(&arn));
        note(Property::TombstonesStay, tombstoned, &|| {
            format!("{route} gives weight to a tombstone in {group}")
        });
    }
    answered(input, route, shares, note);
    forward(input, decision, route, shares, note);
}

fn answered(input: &Input<'_>, route: &str, shares: Shares, note: Note<'_>) {
    let Some(service) = input.observed.service.known() else { return };
    let runs = |group| {
        let alive = |set: &TaskSet| set.status != TaskSetStatus::Draining && set.running > 0;
        service.task_sets.iter().any(|set| set.group == Some(group) && alive(set))
    };
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

/// The way back has no running task, and the candidate has: then it gets the traffic whatever else is true of it.
fn only_the_candidate_runs(input: &Input<'_>, release: &Release) -> bool {
    let (Some(service), Some(stable)) = (input.observed.service.known(), &release.stable) else {
        return false;
    };
    let runs = |arn: Option<&String>| {
        let alive = |set: &TaskSet| set.status != TaskSetStatus::Draining && set.running > 0;
        arn.is_some_and(|arn| service.task_sets.iter().any(|set| set.arn == *arn && alive(set)))
    };
    !runs(Some(&stable.task_set)) && runs(release.candidate.task_set.as_ref())
}

/// A write that gives the candidate more needs every armed alarm's good word, also when it repeats one whose answer was
/// lost.
fn forward(input: &Input<'_>, decision: &Decision, route: &str, shares: Shares, note: Note<'_>) {
    let Some(release) = in_flight(&decision.facts) else { return };
    let group = release.candidate.group;
    let before =
        input.facts.acknowledged.get(route).map(|write| write.shares).or(release.before.get(route).copied());
    let more = before.is_none_or(|before| shares.gives_more_to(group, before));
    if !more || only_the_candidate_runs(input, release) {
        return;
    }
    note(Property::LatchStays, release.latch.is_some(), &|| format!("latched, and {route} goes forward"));
    let Some(plan) = &decision.facts.plan else { return };
    for alarm in plan.spec.alarms.iter().filter(|alarm| is_armed(alarm.watches, group)) {
        let answered = matches!(input.observed.alarms.get(&alarm.name), Some(Seen::Known(read)) if read.state != AlarmState::Missing);
        note(Property::NoEvidenceNoSuccess, !answered, &|| {
            format!("{route} goes forward without {}", alarm.name)
        });
    }
}

fn creation(input: &Input<'_>, decision: &Decision, group: Group, external_id: &str, note: Note<'_>) {
    let Some(service) = input.observed.service.known() else {
        note(Property::OneRevisionPerGroup, true, &|| {
            "a task set is made without seeing the service".to_owned()
        });
        return;
    };
    let other = service
        .task_sets
        .iter()
        .find(|set| set.group == Some(group) && set.external_id.as_deref() != Some(external_id));
    note(Property::OneRevisionPerGroup, other.is_some(), &|| format!("group {group} has a task set already"));
    let claimed = decision.facts.claims.is_empty();
    note(Property::WriteAhead, claimed, &|| "nothing is claimed".to_owned());
}

fn deletion(input: &Input<'_>, decision: &Decision, arn: &str, external_id: &str, note: Note<'_>) {
    let facts = &decision.facts;
    let property = Property::QuiesceBeforeDestroy;
    note(property, !facts.tombstones.iter().any(|dead| dead == arn), &|| format!("{arn} has no tombstone"));
    let kept = [facts.stable.as_ref(), facts.retained.as_ref().map(|kept| &kept.version)];
    let way_back = in_flight(facts).and_then(|release| release.stable.as_ref());
    let needed = kept.into_iter().flatten().chain(way_back).any(|version| version.task_set == arn);
    note(Property::RollbackAssetStays, needed, &|| format!("{arn} is still needed"));
    let Some(job) = facts.cleanups.iter().find(|job| job.task_set.as_deref() == Some(arn)) else {
        note(property, true, &|| format!("{arn} is not up for removal"));
        return;
    };
    let Some(plan) = &facts.plan else { return };
    note(property, job.external_id != external_id, &|| format!("{arn} goes by {external_id}"));
    note(property, job.quiet < plan.quiet(job.uncertain), &|| format!("quiet for {} only", job.quiet));
    note(property, job.zero_reads < 2, &|| format!("{} zero reads", job.zero_reads));
    for route in plan.routes() {
        let open = facts.outstanding.contains_key(&Resource::Route(route.name.clone()));
        note(property, open, &|| format!("a write of {} is outstanding", route.name));
        if let Some(write) = facts.acknowledged.get(&route.name) {
            let stands = write.epoch == input.epoch && write.shares.of(job.group) == 0;
            note(property, !stands, &|| format!("no barrier on {}", route.name));
        }
    }
    let groups = &plan.spec.target_groups;
    let read = input.observed.extra.load_balancer.as_ref().and_then(Seen::known);
    let at_zero = read.is_some_and(|read| {
        read.actions.iter().all(|action| {
            action.groups.iter().all(|(name, weight)| *weight == 0 || name != groups.of(job.group).as_str())
        })
    });
    note(property, !at_zero, &|| format!("group {} is not known to be at 0 everywhere", job.group));
    let primary = input.observed.service.known().is_some_and(|service| {
        service.task_sets.iter().any(|set| set.arn == arn && set.status == TaskSetStatus::Primary)
    });
    note(property, primary, &|| format!("{arn} is PRIMARY"));
}
