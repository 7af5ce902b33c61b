//! What is left when a release has ended: a version kept warm, task sets to remove, claims to give up.
//!
//! **Quiesce before destroy** (`semantics` 4.4): a task set is deleted only when every weight write that could
//! still land is known to have been followed by an acknowledged one of this epoch, the quiet time has passed,
//! and two fresh reads of the whole load balancer show its group at weight 0 everywhere.

use std::collections::BTreeSet;

use super::pass::{Pass, unread};
use super::{Asked, Next, Wait, WaitingOn};
use crate::model::effect::short;
use crate::model::facts::{Cleanup, Halt, HaltReason, Version};
use crate::model::observed::{ForwardAction, TaskSet, TaskSetStatus};
use crate::model::{Effect, Need, Resource, Seen};
use crate::records::{Group, Span};

/// Consecutive fresh reads of the whole load balancer before a deletion.
pub(super) const ZERO_READS: u8 = 2;
/// A stuck clean-up is looked at this often.
const STUCK_POLL: Span = Span::from_mins(5);

/// Adds the watched time to every clock, and takes note of a crash or a change of hands.
pub(super) fn begin_pass(pass: &mut Pass<'_>) {
    let input = pass.input;
    let (watched, suspended) = (input.watched, pass.input.suspended());
    super::foreign::let_late_calls_age(pass);
    let facts = &mut pass.facts;
    if facts.uid.is_empty() {
        input.fresh_uid.clone_into(&mut facts.uid);
    }
    if let Some(release) = &mut facts.release {
        let progress = &mut release.progress;
        if !suspended {
            progress.in_stage = progress.in_stage.plus(watched);
        }
        if progress.exposed {
            progress.exposed_for = progress.exposed_for.plus(watched);
        }
        if let Some(latch) = &mut release.latch {
            latch.elapsed = latch.elapsed.plus(watched);
        }
    }
    if let Some(retained) = facts.retained.as_mut().filter(|_| !suspended) {
        retained.kept = retained.kept.plus(watched);
    }
    for cleanup in &mut facts.cleanups {
        cleanup.elapsed = cleanup.elapsed.plus(watched);
    }
    if facts.drift.repairs > 0 {
        facts.drift.window = facts.drift.window.plus(watched);
        if facts.drift.window >= super::repair::WINDOW {
            facts.drift = crate::model::facts::Drift::default();
        }
    }
    // Announced, and nobody lived to see the answer.
    let crashed = facts.outstanding.values().any(|entry| !entry.unknown);
    for entry in facts.outstanding.values_mut() {
        entry.unknown = true;
    }
    let changed_hands = facts.epoch != 0 && facts.epoch != input.epoch;
    if crashed || changed_hands {
        super::settle::mark_uncertain(facts);
    }
    begin_quiet_anew(pass);
}

/// Weight that is seen on a group begins the quiet time and the fresh reads of its clean-up anew, whichever rule has the
/// say in this pass: the next read may be older than this one.
fn begin_quiet_anew(pass: &mut Pass<'_>) {
    let seen = [Group::A, Group::B].map(|group| (group, has_weight(pass, group)));
    // One whose task set nobody has seen waits for its creation to become impossible, not for traffic to end.
    for job in pass.facts.cleanups.iter_mut().filter(|job| job.task_set.is_some()) {
        if seen.contains(&(job.group, true)) {
            (job.quiet, job.zero_reads) = (Span::ZERO, 0);
        }
    }
}

/// Whether a route of ours, or any rule of the load balancer, is seen to give the group weight.
fn has_weight(pass: &Pass<'_>, group: Group) -> bool {
    let mut routes = pass.production().into_iter().chain(pass.test_route());
    routes.any(|route| pass.live(&route).is_some_and(|live| live.of(group) > 0))
        || weight_somewhere(pass, group).is_some()
}

/// Which rule of the load balancer gives the group weight, when they were read.
fn weight_somewhere(pass: &Pass<'_>, group: Group) -> Option<String> {
    let read = pass.input.observed.extra.load_balancer.as_ref()?.known()?;
    let arn = pass.plan()?.spec.target_groups.of(group).as_str();
    let gives =
        |action: &&ForwardAction| action.groups.iter().any(|(name, weight)| name == arn && *weight > 0);
    read.actions.iter().find(gives).map(|action| action.owner.clone())
}

/// The next move of housekeeping.
pub(super) fn tend(pass: &mut Pass<'_>) -> Option<Next> {
    if pass.release().is_some() {
        return None;
    }
    if let Some(halt) = unknown_version_serves(pass) {
        return Some(Next::Halted(halt));
    }
    note_orphans(pass);
    end_retention(pass);
    if let Some(job) = pass.facts.cleanups.first().cloned() {
        return Some(remove(pass, &job));
    }
    super::lost::hold(pass).or_else(|| give_up_claims(pass))
}

/// Nothing to do: the world is as it should be, or the previous version is kept warm.
pub(super) fn rest(pass: &Pass<'_>) -> Next {
    let Some(kept) = &pass.facts.retained else { return Next::Settled };
    if pass.input.suspended() {
        return pass.wait(WaitingOn::Suspended);
    }
    let left = pass.plan().map_or(Span::ZERO, |plan| plan.spec.retention).minus(kept.kept);
    // A pass counts at most twice the ordinary poll, so retention is watched at that pace.
    pass.wait_with(WaitingOn::Retention, Some(left), Some(left))
}

/// Task sets with our mark that no record names: a late creation, or one whose memory was lost.
fn orphans(pass: &Pass<'_>) -> Vec<(Version, TaskSetStatus)> {
    let prefix = pass.external_prefix();
    let known: BTreeSet<&str> = pass
        .facts
        .stable
        .iter()
        .chain(pass.facts.retained.iter().map(|kept| &kept.version))
        .map(|version| version.task_set.as_str())
        .collect();
    let version = |set: &TaskSet| {
        let external_id = set.external_id.clone().filter(|id| id.starts_with(&prefix))?;
        let version = Version {
            revision: set.revision.clone(),
            task_set: set.arn.clone(),
            external_id,
            group: set.group?,
            scale: set.scale,
        };
        Some((version, set.status))
    };
    let sets = pass.service().into_iter().flat_map(|service| &service.task_sets);
    sets.filter(|set| set.status != TaskSetStatus::Draining && !known.contains(set.arn.as_str()))
        .filter_map(version)
        .collect()
}

fn note_orphans(pass: &mut Pass<'_>) {
    for (orphan, _) in orphans(pass) {
        pass.clean_up(&orphan, true);
    }
}

/// A late creation is never PRIMARY and never has traffic. A task set that has both came of a release that our memory
/// does not know: it is older than the world, and nothing that it says is a reason to move anything (`semantics` 5.11).
fn unknown_version_serves(pass: &Pass<'_>) -> Option<Halt> {
    let facts = &pass.facts;
    let has_traffic = |group: Group| {
        pass.production().iter().any(|route| pass.live(route).is_some_and(|live| live.of(group) > 0))
    };
    let leaves = |version: &Version| {
        facts.tombstones.contains(&version.task_set)
            || facts.cleanups.iter().any(|job| job.external_id == version.external_id)
    };
    let (version, _) = orphans(pass).into_iter().find(|(version, status)| {
        *status == TaskSetStatus::Primary && !leaves(version) && has_traffic(version.group)
    })?;
    Some(Halt {
        reason: HaltReason::StateContradicts,
        detail: format!(
            "{} is PRIMARY and has traffic, and what is remembered does not know it: is the state that of an earlier \
             time?",
            version.revision
        ),
    })
}

fn end_retention(pass: &mut Pass<'_>) {
    let Some(kept) = pass.facts.retained.clone() else { return };
    // What is put up for removal is no way back any more, and nothing is removed now.
    if pass.input.suspended() {
        return;
    }
    let retention = pass.plan().map_or(Span::ZERO, |plan| plan.spec.retention);
    let returning = pass.facts.pending.as_ref().is_some_and(|pending| pending.return_to_retained);
    let in_the_way = pass.facts.pending.is_some() && !returning;
    let service_deleted = matches!(pass.input.service, Asked::Absent);
    let over = in_the_way || service_deleted || (kept.kept >= retention && !returning);
    // It may be all there is.
    if over && !super::lost::in_question(pass) {
        pass.facts.retained = None;
        pass.clean_up(&kept.version, kept.uncertain);
    }
}

/// A deleted `ManagedService` keeps its claims until everything of it is gone. A request that has not started is
/// nothing of it: it keeps until there is a record again, and would lock others out for as long. What may still land is
/// something of it: the next owner's resources are none of ours.
fn give_up_claims(pass: &mut Pass<'_>) -> Option<Next> {
    let deleted = matches!(pass.input.service, Asked::Absent);
    let facts = &pass.facts;
    let idle = facts.release.is_none()
        && facts.retained.is_none()
        && facts.cleanups.is_empty()
        && facts.outstanding.is_empty();
    if !deleted || !idle || facts.claims.is_empty() {
        return None;
    }
    if let Some(left) = super::foreign::late_calls(pass) {
        return Some(pass.wait_with(WaitingOn::LateCalls, Some(left), Some(left)));
    }
    pass.unclaim_all();
    Some(Next::Again)
}

// --- the removal of one task set

fn remove(pass: &mut Pass<'_>, job: &Cleanup) -> Next {
    if pass.service().is_none() {
        return wait(pass, job, unread("the ECS service", Some(&pass.input.observed.service)), None);
    }
    let Some(arn) = job.task_set.clone() else {
        return await_late_creation(pass, job);
    };
    match pass.task_set(&arn) {
        None => finish(pass, job),
        Some(set) if job.deleted || set.status == TaskSetStatus::Draining => {
            wait(pass, job, WaitingOn::Gone { group: job.group }, None)
        }
        Some(set) => quiesce(pass, job, set),
    }
}

/// A creation whose answer was lost may still bring a task set about.
fn await_late_creation(pass: &mut Pass<'_>, job: &Cleanup) -> Next {
    let found = pass.service().and_then(|service| {
        service.task_sets.iter().find(|set| set.external_id.as_ref() == Some(&job.external_id))
    });
    if let Some(set) = found {
        let arn = set.arn.clone();
        super::settle::found(&mut pass.facts, &job.external_id, &arn);
        return Next::Again;
    }
    let limit = pass.plan().map_or(Span::ZERO, |plan| plan.spec.waits.quiet_after_unknown);
    if job.quiet >= limit {
        // No request signed back then is accepted any more (`reliability.md` §0.4).
        pass.facts.outstanding.remove(&Resource::NewTaskSet(job.external_id.clone()));
        pass.facts.cleanups.remove(0);
        return Next::Again;
    }
    count_quiet(pass);
    wait(pass, job, WaitingOn::Quiet { group: job.group }, Some(limit.minus(job.quiet)))
}

fn quiesce(pass: &mut Pass<'_>, job: &Cleanup, set: &TaskSet) -> Next {
    // Its writes serve the deletion, which suspension holds up.
    if pass.input.suspended() {
        return wait(pass, job, WaitingOn::Suspended, None);
    }
    if let Some(next) = barrier(pass, job) {
        return next;
    }
    if let Some(next) = hand_primary_back(pass, job, set) {
        return next;
    }
    if let Some(next) = stable_first(pass, job) {
        return next;
    }
    if let Some(owner) = weight_somewhere(pass, job.group) {
        return wait(pass, job, WaitingOn::GroupAtZero { owner }, None);
    }
    let Some(quiet) = pass.plan().map(|plan| plan.quiet(job.uncertain)) else { return Next::Again };
    if job.quiet < quiet {
        count_quiet(pass);
        return wait(pass, job, WaitingOn::Quiet { group: job.group }, Some(quiet.minus(job.quiet)));
    }
    zero_everywhere(pass, job, set)
}

/// Every route of ours: the group at weight 0 by an acknowledged write of this epoch, nothing outstanding, and
/// the read agrees. "Read equals desired" alone does not prove that nothing is in flight.
fn barrier(pass: &mut Pass<'_>, job: &Cleanup) -> Option<Next> {
    let target = Pass::all_to(job.group.other());
    let mut routes = pass.production();
    routes.extend(pass.test_route());
    for route in routes {
        if super::gone::is_gone(pass, &route) {
            continue;
        }
        let outstanding = pass.route_outstanding(&route);
        let live = pass.live(&route);
        let written = pass.facts.acknowledged.get(&route).copied();
        let reads_zero = live.is_some_and(|live| live.of(job.group) == 0);
        // Never written and at 0: no write of ours can be on its way.
        let stands = match written {
            None => !outstanding,
            Some(write) => !outstanding && write.epoch == pass.input.epoch && write.shares.of(job.group) == 0,
        };
        if stands && reads_zero {
            continue;
        }
        let unreadable = live.is_none() && pass.not_our_pair(&route).is_none();
        if stands && unreadable {
            // Nothing was seen that could shorten it: the quiet time stands still, and the fresh reads begin anew.
            reset_zero_reads(pass);
        } else {
            reset_quiet(pass);
        }
        if live.is_none() {
            if let Some(what) = pass.not_our_pair(&route) {
                let owner = format!("{route}, which shows {what}");
                return Some(wait(pass, job, WaitingOn::GroupAtZero { owner }, None));
            }
            let on = unread(&format!("route {route}"), pass.input.observed.routes.get(&route));
            return Some(wait(pass, job, on, None));
        }
        if let Some(serves) = pass.facts.stable.as_ref().filter(|stable| stable.group == job.group) {
            let owner = format!("{route}, and {} serves from group {} too", serves.revision, job.group);
            return Some(wait(pass, job, WaitingOn::GroupAtZero { owner }, None));
        }
        if pass.production().contains(&route) && pass.would_starve(&route, Pass::all_to(job.group.other())) {
            reset_quiet(pass);
            let owner =
                format!("{route}, and group {} has no running task to take its traffic", job.group.other());
            return Some(wait(pass, job, WaitingOn::GroupAtZero { owner }, None));
        }
        // Traffic that is still there, or again, is brought back before all else. A write that only asks for an
        // acknowledgement waits its turn, and leaves to the ways back what is kept for them.
        let brings_back = !reads_zero && pass.production().contains(&route);
        return Some(pass.set_weights(&route, target, None, brings_back));
    }
    None
}

/// PRIMARY cannot be deleted (`aws-facts.md` §1.5).
fn hand_primary_back(pass: &mut Pass<'_>, job: &Cleanup, set: &TaskSet) -> Option<Next> {
    if set.status != TaskSetStatus::Primary {
        return None;
    }
    match pass.facts.stable.clone() {
        Some(stable) if pass.task_set(&stable.task_set).is_some() => {
            Some(pass.act(Effect::SetPrimary { task_set: stable.task_set }, false))
        }
        Some(_) | None => {
            let owner = format!("PRIMARY, and no other version is there: {}", short(&set.arn));
            Some(wait(pass, job, WaitingOn::GroupAtZero { owner }, None))
        }
    }
}

/// The version that serves must be up before another one goes; a stable that stays broken is waited for no
/// longer than a step's capacity.
fn stable_first(pass: &mut Pass<'_>, job: &Cleanup) -> Option<Next> {
    let stable = pass.facts.stable.as_ref()?;
    let set = pass.task_set(&stable.task_set)?;
    let patience = pass.plan()?.spec.deadlines.capacity;
    if set.is_up() || job.elapsed >= patience {
        return None;
    }
    Some(wait(pass, job, WaitingOn::StableBeforeCleanUp, Some(patience.minus(job.elapsed))))
}

fn zero_everywhere(pass: &mut Pass<'_>, job: &Cleanup, set: &TaskSet) -> Next {
    match &pass.input.observed.extra.load_balancer {
        None => return Pass::look(Need::LoadBalancer),
        Some(Seen::Unknown(_)) => {
            let on = unread("the load balancer", pass.input.observed.extra.load_balancer.as_ref());
            return wait_reading(pass, job, on, Need::LoadBalancer);
        }
        // `quiesce` has seen that nothing gives it weight.
        Some(Seen::Known(_)) => {}
    }
    let reads = bump_zero_reads(pass);
    if reads < ZERO_READS {
        return Pass::look(Need::LoadBalancer);
    }
    let ours = set.external_id.as_ref() == Some(&job.external_id);
    if !ours {
        let owner = format!("a task set that is not ours: {}", short(&set.arn));
        return wait(pass, job, WaitingOn::GroupAtZero { owner }, None);
    }
    pass.act(Effect::DeleteTaskSet { task_set: set.arn.clone(), external_id: job.external_id.clone() }, false)
}

/// The task set is no longer listed; its targets must be gone too before the group counts as free.
fn finish(pass: &mut Pass<'_>, job: &Cleanup) -> Next {
    let on = WaitingOn::Gone { group: job.group };
    match pass.input.observed.extra.targets.get(&job.group) {
        None => Pass::look(Need::Targets(job.group)),
        Some(Seen::Known(targets)) if targets.total() == 0 => {
            let unanswered = job.task_set.clone().map(Resource::TaskSet);
            if let Some(open) = unanswered.and_then(|resource| pass.facts.outstanding.remove(&resource)) {
                super::foreign::may_still_land(pass, open.effect);
            }
            pass.facts.cleanups.remove(0);
            Next::Again
        }
        Some(Seen::Known(_)) => wait_reading(pass, job, on, Need::Targets(job.group)),
        Some(Seen::Unknown(why)) => {
            let on = WaitingOn::Observation { what: format!("targets of group {}: {why}", job.group) };
            wait_reading(pass, job, on, Need::Targets(job.group))
        }
    }
}

fn count_quiet(pass: &mut Pass<'_>) {
    let watched = pass.input.watched;
    if let Some(job) = pass.facts.cleanups.first_mut() {
        job.quiet = job.quiet.plus(watched);
    }
}

fn reset_quiet(pass: &mut Pass<'_>) {
    if let Some(job) = pass.facts.cleanups.first_mut() {
        job.quiet = Span::ZERO;
    }
    reset_zero_reads(pass);
}

fn reset_zero_reads(pass: &mut Pass<'_>) {
    if let Some(job) = pass.facts.cleanups.first_mut() {
        job.zero_reads = 0;
    }
}

fn bump_zero_reads(pass: &mut Pass<'_>) -> u8 {
    let Some(job) = pass.facts.cleanups.first_mut() else { return 0 };
    job.zero_reads = job.zero_reads.saturating_add(1).min(ZERO_READS);
    job.zero_reads
}

fn wait(pass: &Pass<'_>, job: &Cleanup, on: WaitingOn, left: Option<Span>) -> Next {
    Next::Wait(wait_for(pass, job, on, left, BTreeSet::new()))
}

fn wait_reading(pass: &Pass<'_>, job: &Cleanup, on: WaitingOn, need: Need) -> Next {
    Next::Wait(wait_for(pass, job, on, None, BTreeSet::from([need])))
}

/// A clean-up never gives up: past its deadline it is `CleanupStuck`, and looked at slowly.
fn wait_for(
    pass: &Pass<'_>,
    job: &Cleanup,
    on: WaitingOn,
    left: Option<Span>,
    needs: BTreeSet<Need>,
) -> Wait {
    let limit = pass.plan().map_or(Span::ZERO, |plan| plan.spec.deadlines.cleanup);
    let stuck = job.elapsed >= limit;
    let poll = if stuck { STUCK_POLL } else { pass.input.limits.poll };
    Wait { on, poll, left, deadline: Some(limit.minus(job.elapsed)), needs }
}
