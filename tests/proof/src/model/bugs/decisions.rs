//! Bugs in what is decided: the shipped decision, changed.

use pointsman_core::decide::{Decision, Input, Next, decide};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::facts::{LatchCause, Outstanding, Release};
use pointsman_core::model::observed::{AlarmState, TaskSet, TaskSetStatus};
use pointsman_core::model::{Acknowledgement, Action, Answer, Effect, Facts, Resource};
use pointsman_core::records::{Group, Percent};

fn sets<'a>(input: &Input<'a>) -> &'a [TaskSet] {
    input.observed.service.known().map_or(&[], |service| &service.task_sets)
}

fn primary<'a>(input: &Input<'a>) -> Option<&'a TaskSet> {
    sets(input).iter().find(|set| set.status == TaskSetStatus::Primary)
}

/// Asks for another effect, and announces it as it should be.
fn act_instead(mut decision: Decision, effect: Effect) -> Decision {
    let entry = Outstanding { effect: effect.clone(), unknown: false, looked: 0 };
    decision.facts.outstanding.insert(effect.resource(), entry);
    decision.next = Next::Act(Action { effect, rollback: false });
    decision
}

pub(super) fn lost_is_done(facts: &Facts, effect: &Effect, answer: &Answer, epoch: u64) -> Facts {
    let yes = match (answer, effect) {
        (Answer::Unknown { .. }, Effect::SetWeights { shares, .. }) => {
            Answer::Acknowledged(Acknowledgement::Echo(*shares))
        }
        _ => answer.clone(),
    };
    pointsman_core::decide::settle(facts, effect, &yes, epoch)
}

pub(super) fn refused_is_settled(facts: &Facts, effect: &Effect, answer: &Answer, epoch: u64) -> Facts {
    let mut after = pointsman_core::decide::settle(facts, effect, answer, epoch);
    if matches!(answer, Answer::Refused { .. }) {
        after.outstanding.remove(&effect.resource());
    }
    after
}

pub(super) fn no_tombstone(input: &Input<'_>) -> Decision {
    let mut decision = decide(input);
    decision.facts.tombstones.clear();
    decision
}

pub(super) fn unlatch(input: &Input<'_>) -> Decision {
    let mut decision = decide(input);
    let ok =
        input.observed.alarms.values().all(|seen| seen.known().is_some_and(|it| it.state == AlarmState::Ok));
    if let Some(release) = decision.facts.release.as_mut().filter(|_| ok) {
        release.latch = None;
    }
    decision
}

pub(super) fn delete_by_role(input: &Input<'_>) -> Decision {
    let decision = decide(input);
    let other = sets(input).iter().find(|set| set.status == TaskSetStatus::Active);
    match (&decision.next, other) {
        (Next::Act(Action { effect: Effect::DeleteTaskSet { external_id, .. }, .. }), Some(set)) => {
            let effect =
                Effect::DeleteTaskSet { task_set: set.arn.clone(), external_id: external_id.clone() };
            act_instead(decision, effect)
        }
        // By role there is nothing to hand back either: what was made PRIMARY is what serves.
        (Next::Act(Action { effect: Effect::SetPrimary { .. }, .. }), Some(set))
            if decision.facts.release.is_none() =>
        {
            let external_id = set.external_id.clone().unwrap_or_default();
            act_instead(decision, Effect::DeleteTaskSet { task_set: set.arn.clone(), external_id })
        }
        _ => decision,
    }
}

fn is_latched(facts: &Facts) -> bool {
    facts.release.as_ref().is_some_and(|release| release.latch.is_some())
}

pub(super) fn back_by_role(input: &Input<'_>) -> Decision {
    let decision = decide(input);
    let group = primary(input).and_then(|set| set.group);
    match (&decision.next, group) {
        (Next::Act(Action { effect: Effect::SetWeights { route, .. }, .. }), Some(group))
            if is_latched(&decision.facts) =>
        {
            let shares = Shares::giving(group, Percent::FULL);
            let effect = Effect::SetWeights { route: route.clone(), shares, expect: None };
            act_instead(decision, effect)
        }
        _ => decision,
    }
}

pub(super) fn back_to_majority(input: &Input<'_>) -> Decision {
    let mut decision = decide(input);
    let before = decision.facts.acknowledged.get("public").map(|write| write.shares);
    if let Some(release) = &mut decision.facts.release
        && let Some(shares) = before
        && release.latch.is_some()
        && shares.share(release.candidate.group) > shares.share(release.candidate.group.other())
    {
        release.stable = release.candidate.version();
    }
    decision
}

/// A PRIMARY that is to be removed is just deleted, which AWS refuses.
pub(super) fn primary_kept(input: &Input<'_>) -> Decision {
    let decision = decide(input);
    let job = decision
        .facts
        .cleanups
        .first()
        .and_then(|job| Some((job.task_set.clone()?, job.external_id.clone())));
    match (&decision.next, job) {
        (Next::Act(Action { effect: Effect::SetPrimary { .. }, .. }), Some((task_set, external_id)))
            if decision.facts.release.is_none() =>
        {
            act_instead(decision, Effect::DeleteTaskSet { task_set, external_id })
        }
        _ => decision,
    }
}

/// All traffic is on the candidate, and it bakes.
fn at_full(decision: &Decision) -> Option<&Release> {
    let release = decision.facts.release.as_ref()?;
    let written = decision.facts.acknowledged.get("public")?.shares;
    let full = written.share(release.candidate.group) == Percent::FULL;
    (full && release.progress.shifted && matches!(decision.next, Next::Wait(_))).then_some(release)
}

pub(super) fn stable_scaled_down(input: &Input<'_>) -> Decision {
    let decision = decide(input);
    match at_full(&decision).and_then(|release| release.stable.clone()) {
        Some(stable) => {
            act_instead(decision, Effect::ScaleTaskSet { task_set: stable.task_set, scale: Percent::ZERO })
        }
        None => decision,
    }
}

pub(super) fn stable_deleted_early(input: &Input<'_>) -> Decision {
    let decision = decide(input);
    match at_full(&decision).and_then(|release| release.stable.clone()) {
        Some(stable) => {
            let effect = Effect::DeleteTaskSet { task_set: stable.task_set, external_id: stable.external_id };
            act_instead(decision, effect)
        }
        None => decision,
    }
}

/// The latch of this cause is never set. It is still decided as if it were, once; then the release goes on.
fn without(input: &Input<'_>, cause: LatchCause) -> Decision {
    let mut decision = decide(input);
    let was = input.facts.release.as_ref().filter(|release| release.latch.is_none());
    let turned = match (was, &decision.facts.release) {
        (Some(_), Some(now)) => now.latch.as_ref().is_some_and(|latch| latch.cause == cause),
        _ => false,
    };
    if turned && let Some(was) = was.filter(|was| was.progress.exposed) {
        decision.facts.release = Some(was.clone());
        decision.facts.outstanding.clone_from(&input.facts.outstanding);
        decision.next = Next::Again;
    }
    decision
}

pub(super) fn superseded_goes_on(input: &Input<'_>) -> Decision {
    without(input, LatchCause::Superseded)
}

/// The abort is answered and, once there is traffic, not carried out.
pub(super) fn abort_too_late(input: &Input<'_>) -> Decision {
    let decision = decide(input);
    let exposed = input.facts.release.as_ref().is_some_and(|release| release.progress.exposed);
    if !exposed || input.commands.is_empty() {
        return decision;
    }
    let mut facts = input.facts.clone();
    facts.answers.clone_from(&decision.facts.answers);
    facts.commands_done.clone_from(&decision.facts.commands_done);
    decide(&Input { facts: &facts, commands: &[], ..*input })
}

/// Repeats a lost creation under another external id.
pub(super) fn new_token(input: &Input<'_>) -> Decision {
    let mut decision = decide(input);
    let Some(release) = &mut decision.facts.release else { return decision };
    let old = Resource::NewTaskSet(release.candidate.external_id.clone());
    let lost = decision.facts.outstanding.get(&old).filter(|entry| entry.unknown).cloned();
    let Some(Effect::CreateTaskSet { group, revision, scale, token, .. }) = lost.map(|entry| entry.effect)
    else {
        return decision;
    };
    let external_id = format!("{}9", release.candidate.external_id);
    release.candidate.external_id.clone_from(&external_id);
    decision.facts.outstanding.remove(&old);
    act_instead(decision, Effect::CreateTaskSet { group, revision, scale, external_id, token })
}

pub(super) fn creation_forgotten(input: &Input<'_>) -> Decision {
    let mut decision = decide(input);
    decision.facts.cleanups.retain(|job| job.task_set.is_some());
    if decision.facts.release.is_none() {
        decision.facts.outstanding.retain(|resource, _| !matches!(resource, Resource::NewTaskSet(_)));
    }
    decision
}

/// Both groups, for wrappers that look at each.
pub(super) const GROUPS: [Group; 2] = [Group::A, Group::B];
