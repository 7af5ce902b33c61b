//! A release goes forward: make the candidate, judge it, then step by step scale, check, shift, bake.

use super::pass::{Pass, unread};
use super::{Next, WaitingOn};
use crate::model::effect::Shares;
use crate::model::facts::{Release, ReleaseKind, Retained, Stage};
use crate::model::observed::{TaskSet, TaskSetStatus};
use crate::model::{Effect, Need, Plan, Seen};
use crate::records::command::{All, PromoteStep};
use crate::records::status::Outcome;
use crate::records::strategy::{Pause, Step};
use crate::records::{Percent, Span};

/// This many consecutive observations must show the candidate up before it counts: stabilityStatus may carry
/// an old answer right after a change (`aws-facts.md` §1.7).
pub(super) const STEADY_READS: u8 = 2;

/// No forward step when desiredCount fell below this share of the start (`semantics` 5.9).
const DESIRED_FLOOR_TENTHS: u64 = 800;

/// The steps that a release of this kind carries out. A first release has nothing to compare with, and the
/// retained version has been judged before: one write to 100 %, and the bake.
pub(super) fn steps_of(plan: &Plan, kind: ReleaseKind) -> Vec<Step> {
    match kind {
        ReleaseKind::Ordinary => plan.steps.clone(),
        ReleaseKind::First | ReleaseKind::Return => vec![plan.last_step()],
    }
}

/// The next forward move of an unlatched release whose watchers are content.
pub(super) fn go_forward(pass: &mut Pass<'_>) -> Option<Next> {
    let release = pass.release()?;
    if pass.service().is_none() {
        return Some(pass.wait_in_stage(unread("the ECS service", Some(&pass.input.observed.service)), None));
    }
    let Some(arn) = release.candidate.task_set.clone() else {
        return Some(create(pass));
    };
    let Some(set) = pass.task_set(&arn) else {
        // Just made and not listed yet; `latch` gives up on it when that lasts.
        let on = WaitingOn::TaskSetSteady { running: 0, desired: 0, last_stop: None };
        return Some(pass.wait_in_stage(on, None));
    };
    if !release.progress.gate_passed {
        return Some(gate(pass, set));
    }
    Some(step(pass, set))
}

/// The candidate's share by the steps: that of the last one that was written. None once the last one is under way, which
/// gives it everything.
pub(super) fn share_by_steps(plan: &Plan, release: &Release) -> Option<Percent> {
    let steps = steps_of(plan, release.kind);
    let under_way = usize::from(release.progress.step);
    if under_way + 1 >= steps.len() {
        return None;
    }
    let written = steps.iter().take(under_way + usize::from(release.progress.shifted));
    let mut shares = written.rev().filter_map(|step| match step {
        Step::Shift { weight, .. } => Some(*weight),
        Step::Pause(_) => None,
    });
    Some(shares.next().unwrap_or(Percent::ZERO))
}

fn enter(pass: &mut Pass<'_>, stage: Stage) {
    if let Some(release) = &mut pass.facts.release
        && release.progress.stage != stage
    {
        release.progress.stage = stage;
        release.progress.in_stage = Span::ZERO;
    }
}

fn create(pass: &mut Pass<'_>) -> Next {
    let Some(release) = pass.release() else { return Next::Again };
    let candidate = release.candidate.clone();
    let found = pass.service().and_then(|service| {
        service.task_sets.iter().find(|set| set.external_id.as_ref() == Some(&candidate.external_id))
    });
    if let Some(set) = found {
        let arn = set.arn.clone();
        super::settle::found(&mut pass.facts, &candidate.external_id, &arn);
        return Next::Again;
    }
    pass.act(
        Effect::CreateTaskSet {
            group: candidate.group,
            revision: candidate.revision,
            scale: candidate.scale,
            external_id: candidate.external_id,
            token: candidate.token,
        },
        false,
    )
}

// --- the gate

fn gate(pass: &mut Pass<'_>, set: &TaskSet) -> Next {
    enter(pass, Stage::Preparing);
    let waits_for = steady(pass, set)
        .or_else(|| targets_healthy(pass, set))
        .or_else(|| on_test_route(pass))
        .or_else(|| held(pass));
    if let Some(next) = waits_for {
        return next;
    }
    if let Some(release) = &mut pass.facts.release {
        release.progress.gate_passed = true;
    }
    Next::Again
}

/// Two observations in a row show the set up at the scale that was asked for.
fn steady(pass: &mut Pass<'_>, set: &TaskSet) -> Option<Next> {
    let release = pass.facts.release.as_mut()?;
    let up = set.is_up() && set.scale == release.candidate.scale;
    let reads = &mut release.progress.steady_reads;
    *reads = if up { reads.saturating_add(1).min(STEADY_READS) } else { 0 };
    if *reads >= STEADY_READS {
        return None;
    }
    if up {
        return Some(Next::Look(std::collections::BTreeSet::new()));
    }
    let last_stop = match pass.input.observed.extra.last_stop.get(&set.arn) {
        Some(Seen::Known(why)) => Some(why.clone()),
        Some(Seen::Unknown(_)) | None => None,
    };
    let on = WaitingOn::TaskSetSteady { running: set.running, desired: set.computed, last_stop };
    let group = pass.release()?.candidate.group;
    Some(pass.wait_reading(on, pass.stage_left(), Need::LastStop(set.arn.clone(), group)))
}

/// One look at the targets, before the first traffic.
fn targets_healthy(pass: &mut Pass<'_>, set: &TaskSet) -> Option<Next> {
    let release = pass.release()?;
    if release.progress.targets_healthy {
        return None;
    }
    let group = release.candidate.group;
    let need = Need::Targets(group);
    match pass.input.observed.extra.targets.get(&group) {
        None => Some(Pass::look(need)),
        Some(Seen::Unknown(why)) => {
            let on = WaitingOn::Observation { what: format!("targets of group {group}: {why}") };
            Some(pass.wait_reading(on, pass.stage_left(), need))
        }
        Some(Seen::Known(targets)) if targets.healthy >= set.computed && targets.initial == 0 => {
            if let Some(release) = &mut pass.facts.release {
                release.progress.targets_healthy = true;
            }
            None
        }
        Some(Seen::Known(targets)) => {
            let on = WaitingOn::TargetsHealthy {
                healthy: targets.healthy,
                wanted: set.computed,
                reason: targets.reason.clone(),
            };
            Some(pass.wait_reading(on, pass.stage_left(), need))
        }
    }
}

/// The test route shows the candidate alone. A return skips it: that version was judged before.
fn on_test_route(pass: &mut Pass<'_>) -> Option<Next> {
    let release = pass.release()?;
    if release.progress.test_shifted || release.kind == ReleaseKind::Return {
        return None;
    }
    let route = pass.test_route()?;
    let target = Pass::all_to(release.candidate.group);
    match pass.live(&route) {
        Some(live) if live.same_ratio(target) && written(pass, &route, target) => {
            if let Some(release) = &mut pass.facts.release {
                release.progress.test_shifted = true;
            }
            None
        }
        Some(_) => Some(pass.set_weights(&route, target, None, false)),
        None => {
            let on = unread(&format!("route {route}"), pass.input.observed.routes.get(&route));
            Some(pass.wait_in_stage(on, None))
        }
    }
}

fn held(pass: &mut Pass<'_>) -> Option<Next> {
    let hold = pass.plan()?.spec.test_hold;
    let has_test_route = pass.test_route().is_some();
    let watched = pass.input.watched;
    let release = pass.facts.release.as_mut()?;
    if !has_test_route || release.kind == ReleaseKind::Return || release.progress.held >= hold {
        return None;
    }
    release.progress.held = release.progress.held.plus(watched);
    let left = hold.minus(release.progress.held);
    Some(pass.wait_in_stage(WaitingOn::TestHold, Some(left)))
}

/// Our last acknowledged write of the route is this.
fn written(pass: &Pass<'_>, route: &str, target: Shares) -> bool {
    pass.facts.acknowledged.get(route).is_some_and(|write| write.shares.same_ratio(target))
}

// --- the steps

fn step(pass: &mut Pass<'_>, set: &TaskSet) -> Next {
    let steps = pass.steps();
    let index = pass.release().map_or(0, |release| usize::from(release.progress.step));
    match steps.get(index) {
        None => complete(pass, set),
        Some(Step::Pause(Pause { timeout, .. })) => {
            fill_up(pass, set).unwrap_or_else(|| pause(pass, *timeout))
        }
        // Nobody else can answer: the candidate gets all, at every step.
        Some(Step::Shift { bake, .. }) if pass.stable_is_gone() => {
            shift_step(pass, set, Percent::FULL, Percent::FULL, *bake)
        }
        Some(Step::Shift { weight, scale, bake }) => shift_step(pass, set, *weight, *scale, *bake),
    }
}

fn next_step(pass: &mut Pass<'_>) -> Next {
    if let Some(release) = &mut pass.facts.release {
        let progress = &mut release.progress;
        progress.step = progress.step.saturating_add(1);
        progress.shifted = false;
        progress.settled = Span::ZERO;
        progress.baked = Span::ZERO;
        progress.steady_reads = 0;
        // Each step's stages have deadlines of their own.
        progress.stage = Stage::Scaling;
        progress.in_stage = Span::ZERO;
    }
    Next::Again
}

/// A step brings what carries everything, because stable is gone, to its full scale; a pause may last too long for that.
fn fill_up(pass: &mut Pass<'_>, set: &TaskSet) -> Option<Next> {
    if !pass.stable_is_gone() || set.scale == Percent::FULL {
        return None;
    }
    enter(pass, Stage::Scaling);
    scale_up(pass, set, Percent::FULL)
}

/// A pause ends by promotion, or at its time-out (`latch` deals with the one that rolls back).
fn pause(pass: &mut Pass<'_>, timeout: Span) -> Next {
    enter(pass, Stage::Pausing);
    let Some(release) = pass.release() else { return Next::Again };
    let number = release.progress.step.saturating_add(1);
    let promoted = release.promoted.contains(&PromoteStep::Step(number))
        || release.promoted.contains(&PromoteStep::All(All::All));
    if promoted || release.progress.in_stage >= timeout {
        return next_step(pass);
    }
    let left = pass.stage_left();
    pass.wait_with(WaitingOn::Pause { step: number }, left, left)
}

fn shift_step(pass: &mut Pass<'_>, set: &TaskSet, weight: Percent, scale: Percent, bake: Span) -> Next {
    // What carries everything, because stable is gone, is brought to its full scale within the bake, too.
    let too_small = pass.stable_is_gone() && set.scale < scale;
    if !too_small && pass.release().is_some_and(|release| release.progress.shifted) {
        let has = if super::lost::fills_in(&pass.facts) { Percent::FULL } else { weight };
        return bake_step(pass, has, bake);
    }
    let target = {
        let Some(release) = pass.release() else { return Next::Again };
        Shares::giving(release.candidate.group, weight)
    };
    let routes = pass.production();
    let begun = routes.iter().any(|route| written(pass, route, target));
    // A step whose writing has begun stays in it, also when the write was refused: else its clock would start anew
    // with each attempt, and never run out.
    let shifting = pass.release().is_some_and(|release| release.progress.stage == Stage::Shifting);
    enter(pass, if begun || shifting { Stage::Shifting } else { Stage::Scaling });
    if let Some(next) = scale_up(pass, set, scale) {
        return next;
    }
    if let Some(on) = guard(pass, set, weight) {
        return pass.wait_in_stage(on, None);
    }
    for route in &routes {
        let Some(live) = pass.live(route) else {
            let on = unread(&format!("route {route}"), pass.input.observed.routes.get(route));
            return pass.wait_in_stage(on, None);
        };
        if !live.same_ratio(target) || !written(pass, route, target) {
            return shift(pass, route, live, target);
        }
    }
    if let Some(release) = &mut pass.facts.release {
        release.progress.shifted = true;
    }
    enter(pass, Stage::Baking);
    Next::Again
}

fn shift(pass: &mut Pass<'_>, route: &str, live: Shares, target: Shares) -> Next {
    enter(pass, Stage::Shifting);
    if let Some(release) = &mut pass.facts.release {
        // From the announcement on, the candidate may have production traffic.
        release.progress.exposed = true;
    }
    pass.set_weights(route, target, Some(live), false)
}

/// Scale first, and never down.
fn scale_up(pass: &mut Pass<'_>, set: &TaskSet, scale: Percent) -> Option<Next> {
    let release = pass.facts.release.as_mut()?;
    let wanted = scale.max(release.candidate.scale);
    if set.scale < wanted {
        release.candidate.scale = wanted;
        release.progress.steady_reads = 0;
        return Some(pass.act(Effect::ScaleTaskSet { task_set: set.arn.clone(), scale: wanted }, false));
    }
    release.candidate.scale = wanted;
    steady(pass, set)
}

/// What must hold right before each forward weight write, on fresh reads. Alarms and foreign weights were
/// judged before.
fn guard(pass: &Pass<'_>, set: &TaskSet, weight: Percent) -> Option<WaitingOn> {
    let release = pass.release()?;
    let service = pass.service()?;
    let wanted = weight.of(service.desired_count);
    if set.running < wanted {
        return Some(WaitingOn::Capacity { weight, running: set.running, wanted });
    }
    let (now, at_start) = (service.desired_count, release.desired_at_start);
    if u64::from(now) * 1000 < u64::from(at_start) * DESIRED_FLOOR_TENTHS {
        return Some(WaitingOn::DesiredCountFell { now, at_start });
    }
    // Whatever else registers there would get the candidate's traffic unjudged.
    let group = release.candidate.group;
    if service.task_sets.iter().any(|other| other.group == Some(group) && other.arn != set.arn) {
        return Some(WaitingOn::GroupBusy { group });
    }
    // Stable needs its full strength as long as it carries traffic; releasing over a broken stable must still
    // work (`reliability.md` L10), so only a set that changes holds a step, not one that stays unhealthy.
    let stable = release.stable.as_ref().and_then(|stable| pass.task_set(&stable.task_set));
    let gone = pass.stable_is_gone();
    let perhaps_gone = release.progress.stable_gone_reads > 0;
    let changes = stable.is_some_and(|stable| stable.pending > 0 && !stable.steady);
    if !gone && (perhaps_gone || changes) {
        return Some(WaitingOn::StableSteady);
    }
    None
}

fn bake_step(pass: &mut Pass<'_>, weight: Percent, bake: Span) -> Next {
    enter(pass, Stage::Baking);
    let propagation = pass.plan().map_or(Span::ZERO, |plan| plan.spec.waits.propagation);
    let watched = pass.input.watched;
    let Some(release) = &mut pass.facts.release else { return Next::Again };
    let progress = &mut release.progress;
    if progress.settled < propagation {
        progress.settled = progress.settled.plus(watched);
        let left = propagation.minus(progress.settled);
        return pass.wait_with(WaitingOn::Propagation { weight }, Some(left), None);
    }
    if progress.baked < bake {
        progress.baked = progress.baked.plus(watched);
        let left = bake.minus(progress.baked);
        return pass.wait_with(WaitingOn::Bake { weight }, Some(left), None);
    }
    next_step(pass)
}

// --- the end

/// PRIMARY after the bake and before the outcome: a rollback never needs it, and `DescribeServices` is right
/// when CI is told.
fn complete(pass: &mut Pass<'_>, set: &TaskSet) -> Next {
    enter(pass, Stage::Completing);
    let (Some(plan), Some(release)) = (pass.plan(), pass.release()) else { return Next::Again };
    let out_of_time = release.progress.in_stage >= plan.spec.deadlines.primary;
    if set.status != TaskSetStatus::Primary && !out_of_time {
        return pass.act(Effect::SetPrimary { task_set: set.arn.clone() }, false);
    }
    succeed(pass, set.status == TaskSetStatus::Primary)
}

fn succeed(pass: &mut Pass<'_>, primary: bool) -> Next {
    let message = if primary {
        "100 %, baked, PRIMARY".to_owned()
    } else {
        "100 % and baked, but PRIMARY could not be moved in time".to_owned()
    };
    let taken = pass.release().and_then(|release| release.identity.takes_back);
    let back = taken.map_or_else(String::new, |taken| format!("; {taken} is taken back"));
    let Some(release) = pass.end_release(Outcome::Succeeded, "Baked", message + &back) else {
        return Next::Again;
    };
    // What it was found guilty of before, it has been cleared of.
    pass.facts.quarantined.retain(|entry| entry.revision != release.candidate.revision);
    pass.facts.stable = release.candidate.version();
    pass.facts.retained = release.stable.map(|version| Retained {
        version,
        kept: Span::ZERO,
        uncertain: release.uncertain,
        release: Some(release.id),
    });
    Next::Again
}
