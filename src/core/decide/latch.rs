//! Every reason to turn a release around. Once latched, a release only goes back; the latch is never removed.

use super::evidence::{Evidence, judge};
use super::forward::STEADY_READS;
use super::pass::Pass;
use super::response::{AtLimit, Limit, at_limit, limit_of};
use super::{Asked, Next, foreign, lost};
use crate::model::facts::{LatchCause, Release, Trouble};
use crate::model::observed::{TaskSet, TaskSetStatus};
use crate::model::{Plan, Resource};
use crate::records::Span;
use crate::records::strategy::{OnTimeout, Step};

/// This many consecutive observations without a version's task set, or without a running task of it, before it counts
/// as gone: a list read right after the creation may lack it, and one read may be stale.
pub(super) const MISSING_READS: u8 = 3;

/// How long the stage under way may take; none for one without an end of its own.
pub(super) fn stage_deadline(plan: &Plan, release: &Release, steps: &[Step]) -> Option<Span> {
    let limit = limit_of(release.progress.stage)?;
    match steps.get(usize::from(release.progress.step)) {
        Some(Step::Pause(pause)) if limit == Limit::Pause => Some(pause.timeout),
        Some(Step::Pause(_) | Step::Shift { .. }) | None => limit.span(plan),
    }
}

/// What the watchers of a release in flight say: it goes back, it must look closer or hold, or all is clear.
pub(super) enum Watch {
    /// Latched now, or nothing to watch.
    Done,
    /// Nothing forward in this pass.
    Hold(Next),
}

/// Looks for a new reason to latch, worst first.
pub(super) fn watch(pass: &mut Pass<'_>) -> Watch {
    count_stable(pass);
    if pass.release().is_none_or(|release| release.latch.is_some()) {
        return Watch::Done;
    }
    let evidence = judge(pass);
    if let Evidence::Burning(alarm) = &evidence {
        pass.latch(LatchCause::Alarm, alarm.clone());
        return Watch::Done;
    }
    if record_deleted(pass) {
        pass.latch(LatchCause::RecordDeleted, "the record was deleted");
        return Watch::Done;
    }
    if astray_for_too_long(pass) {
        return Watch::Done;
    }
    if let Some(hold) = foreign::answer(pass, &evidence) {
        return if pass.release().is_some_and(|r| r.latch.is_some()) {
            Watch::Done
        } else {
            Watch::Hold(hold)
        };
    }
    if candidate_lost(pass) || deadline_passed(pass) {
        return Watch::Done;
    }
    hold_without_evidence(pass, evidence)
}

fn count_stable(pass: &mut Pass<'_>) {
    let Some(stable) = pass.release().and_then(|release| release.stable.clone()) else { return };
    if pass.service().is_none() {
        return;
    }
    let gone = pass.known_gone(&stable);
    let up = !gone && pass.task_set(&stable.task_set).is_some_and(TaskSet::is_up);
    let back = up && lost::fills_in(&pass.facts);
    let Some(release) = &mut pass.facts.release else { return };
    let count = |reads: u8, seen, most| if seen { reads.saturating_add(1).min(most) } else { 0 };
    let progress = &mut release.progress;
    progress.stable_gone_reads = count(progress.stable_gone_reads, gone, MISSING_READS);
    progress.stable_up_reads = count(progress.stable_up_reads, back, STEADY_READS);
}

fn record_deleted(pass: &Pass<'_>) -> bool {
    matches!(pass.input.desired, Asked::Absent) || matches!(pass.input.service, Asked::Absent)
}

/// Weights that stay other than they should be, or whose write stays open, end the release in every stage: some have no
/// deadline of their own, and a candidate with the wrong share is judged wrongly.
fn astray_for_too_long(pass: &mut Pass<'_>) -> bool {
    let watched = pass.input.watched;
    let routes = pass.production();
    let open = foreign::first(pass).is_some()
        || lost::to_give_back(pass).is_some()
        || routes.iter().any(|route| pass.route_outstanding(route));
    let unread = routes.iter().any(|route| pass.live(route).is_none());
    let Some(limit) = pass.plan().and_then(|plan| Limit::WeightWrite.span(plan)) else { return false };
    let Some(release) = &mut pass.facts.release else { return false };
    let astray = &mut release.progress.astray;
    match (open, unread) {
        (true, _) => *astray = astray.plus(watched),
        (false, true) => {}
        (false, false) => *astray = Span::ZERO,
    }
    if *astray < limit {
        return false;
    }
    let detail = too_long(pass, Limit::WeightWrite, limit);
    pass.latch(LatchCause::Deadline, detail);
    true
}

/// What took too long; of weights, those of which route.
fn too_long(pass: &Pass<'_>, which: Limit, limit: Span) -> String {
    let refused = match &pass.facts.trouble {
        Some(Trouble { resource: Resource::Route(route), .. }) => Some(route.clone()),
        Some(_) | None => None,
    };
    let outstanding = || pass.production().into_iter().find(|route| pass.route_outstanding(route));
    let astray = foreign::first(pass).map(|(route, ..)| route).or_else(outstanding).or(refused);
    let route = astray.filter(|_| which == Limit::WeightWrite);
    let route = route.map_or_else(String::new, |route| format!(": route {route} is not as it should be"));
    format!("{} took longer than {limit}{route}", which.name())
}

/// The candidate's task set is gone, or leaves, or carries traffic with no running task.
fn candidate_lost(pass: &mut Pass<'_>) -> bool {
    let Some(service) = pass.service() else { return false };
    let Some(release) = pass.facts.release.as_mut() else { return false };
    let Some(arn) = release.candidate.task_set.clone() else { return false };
    let set = service.task_sets.iter().find(|set| set.arn == arn);
    let alive = set.is_some_and(|set| {
        set.status != TaskSetStatus::Draining && !(release.progress.exposed && set.running == 0)
    });
    if alive {
        release.progress.missing_reads = 0;
        return false;
    }
    release.progress.missing_reads = release.progress.missing_reads.saturating_add(1).min(MISSING_READS);
    // A list read right after the creation may lack it; traffic on dead tasks is not waited for.
    let seen_dead = set.is_some() && release.progress.exposed;
    if seen_dead || release.progress.missing_reads >= MISSING_READS {
        pass.latch(LatchCause::CandidateLost, "the candidate's task set is gone or has no running task");
        return true;
    }
    false
}

fn deadline_passed(pass: &mut Pass<'_>) -> bool {
    let steps = pass.steps();
    let (Some(plan), Some(release)) = (pass.plan(), pass.release()) else { return false };
    let Some(limit) = stage_deadline(plan, release, &steps) else { return false };
    if release.progress.in_stage < limit {
        return false;
    }
    let Some(which) = limit_of(release.progress.stage) else { return false };
    let goes_on = match at_limit(which) {
        AtLimit::GoBack => false,
        AtLimit::GoOn => true,
        AtLimit::AsThePauseSays => matches!(
            steps.get(usize::from(release.progress.step)),
            Some(Step::Pause(pause)) if pause.on_timeout == OnTimeout::Continue
        ),
    };
    if goes_on {
        return false;
    }
    let detail = too_long(pass, which, limit);
    pass.latch(LatchCause::Deadline, detail);
    true
}

fn hold_without_evidence(pass: &mut Pass<'_>, evidence: Evidence) -> Watch {
    let watched = pass.input.watched;
    let hold = match evidence {
        Evidence::Clear | Evidence::Burning(_) => None,
        Evidence::History(needs) => {
            // The time went by here: the turn with the answer follows at once.
            if let Some(release) = &mut pass.facts.release {
                release.progress.without_evidence = release.progress.without_evidence.plus(watched);
            }
            return Watch::Hold(Next::Look(needs));
        }
        Evidence::Missing(on) => Some(on),
    };
    let gated = pass.release().is_some_and(|r| r.progress.gate_passed);
    let hold = hold.or_else(|| if gated { super::evidence::world_readable(pass).err() } else { None });
    let limit = pass.plan().map_or(Span::ZERO, |plan| plan.spec.alarm_policy.evidence_deadline);
    let Some(release) = &mut pass.facts.release else { return Watch::Done };
    let Some(on) = hold else {
        release.progress.without_evidence = Span::ZERO;
        return Watch::Done;
    };
    release.progress.without_evidence = release.progress.without_evidence.plus(watched);
    let missing_for = release.progress.without_evidence;
    if missing_for >= limit {
        let time = super::explain::brief(missing_for);
        pass.latch(LatchCause::NoEvidence, format!("no evidence for {time}: {}", on.told()));
        return Watch::Done;
    }
    Watch::Hold(pass.wait_with(on, None, Some(limit.minus(missing_for))))
}
