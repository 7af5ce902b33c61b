//! A version is lost: its task set is gone, or has no running task. Who takes its place?
//!
//! While nothing is released it is the version kept warm. [`super::repair`] gives it the traffic, and with the first
//! acknowledged write it *is* the version that serves, for good: a version that crashes again and again happens to run
//! in some look, and must not get its traffic back by that. In flight it is the candidate behind its gate, which fills in
//! for as long as the way back is not up.

use super::pass::{Pass, remember};
use super::{Next, WaitingOn, backoff, forward, repair, request, way_back};
use crate::model::effect::Shares;
use crate::model::facts::{Facts, Halt, HaltReason, Latch, LatchCause, Lost, Quarantined, Retained, Version};
use crate::model::observed::TaskSetStatus;
use crate::model::{Effect, Resource};
use crate::records::Span;
use crate::records::status::Outcome;

/// Consecutive observations in which the version that serves has no running task and the one kept warm has, before it
/// counts as lost: one may be stale.
const READS: u8 = 2;

/// The way back gets its share back after at most this many incidents within [`repair::WINDOW`]: half of those after which
/// a person is called. With one more it is one that crashes again and again, and the candidate keeps what it has.
pub(super) const GIVE_BACKS: u32 = 3;

// --- while nothing is released

/// Counts the observations, and lets the version kept warm that was given the traffic take over. Changes facts only.
pub(super) fn note(pass: &mut Pass<'_>) {
    let Some((stable, kept)) = serving_and_kept(pass) else {
        pass.facts.lost = Lost::default();
        return;
    };
    if pass.service().is_none() {
        return;
    }
    count(pass, &stable, &kept.version);
    if was_given_the_traffic(pass, &kept.version) {
        pass.facts.retained = None;
        pass.facts.stable = Some(kept.version.clone());
        pass.facts.lost = Lost::default();
        quarantine_lost(pass, &stable);
        pass.clean_up(&stable, kept.uncertain);
        request::answer_with(pass, &kept.version.revision);
    }
}

fn serving_and_kept(pass: &Pass<'_>) -> Option<(Version, Retained)> {
    let idle = pass.release().is_none();
    pass.facts.stable.clone().zip(pass.facts.retained.clone()).filter(|_| idle)
}

/// When both start at the same time, after an outage of everything or a desiredCount of 0, it is chance whose first task
/// is up before. The version that serves has as long as a step's capacity then.
fn count(pass: &mut Pass<'_>, stable: &Version, kept: &Version) {
    let (stable_gone, kept_gone) = (pass.known_gone(stable), pass.known_gone(kept));
    let set_is_there =
        pass.task_set(&stable.task_set).is_some_and(|set| set.status != TaskSetStatus::Draining);
    let at_zero = pass.service().is_some_and(|service| service.desired_count == 0);
    let (watched, patience) = (pass.input.watched, patience(pass));
    let lost = &mut pass.facts.lost;
    if !stable_gone {
        *lost = Lost::default();
        return;
    }
    lost.restarting = if at_zero || kept_gone {
        Some(Span::ZERO)
    } else {
        lost.restarting.map(|since| since.plus(watched).min(patience)).filter(|_| set_is_there)
    };
    let waits = lost.restarting.is_some_and(|since| since < patience);
    lost.reads = if waits || kept_gone { 0 } else { lost.reads.saturating_add(1).min(READS) };
}

fn patience(pass: &Pass<'_>) -> Span {
    pass.plan().map_or(Span::ZERO, |plan| plan.spec.deadlines.capacity)
}

/// By a repair of ours, whatever the lost version does by now; or by a person, while it is lost.
fn was_given_the_traffic(pass: &Pass<'_>, kept: &Version) -> bool {
    if pass.known_gone(kept) || pass.misplaced(kept) {
        return false;
    }
    let all = Pass::all_to(kept.group);
    let routes = pass.production();
    let written = |route: &String| pass.facts.acknowledged.get(route).map(|write| write.shares);
    let repaired = routes.iter().any(|route| written(route).is_some_and(|shares| shares.same_ratio(all)));
    let shown = |route: &str| pass.live(route).is_some_and(|live| live.same_ratio(all));
    let has_everything = routes.iter().all(|route| super::gone::is_gone(pass, route) || shown(route));
    repaired || (is_lost(pass) && has_everything)
}

fn is_lost(pass: &Pass<'_>) -> bool {
    pass.facts.lost.reads >= READS
}

/// The record asks for a version that was lost: it does not start again by itself, and status says why.
fn quarantine_lost(pass: &mut Pass<'_>, lost: &Version) {
    let Some(ended) = pass.facts.last.clone() else { return };
    let entry = Quarantined {
        revision: lost.revision.clone(),
        release: ended.release,
        request_id: ended.identity.request_id,
        cause: LatchCause::CandidateLost,
        at: pass.input.now,
    };
    remember(&mut pass.facts.quarantined, entry);
}

/// The version that serves does not run and the one kept warm does: that one must not go, and nothing may start as if it
/// were not there, before it is settled who serves.
pub(super) fn in_question(pass: &Pass<'_>) -> bool {
    pass.service().is_some()
        && serving_and_kept(pass).is_some_and(|(stable, kept)| {
            let kept = &kept.version;
            pass.known_gone(&stable) && !pass.known_gone(kept) && !pass.misplaced(kept)
        })
}

/// It is in question, and the next look tells more.
pub(super) fn in_doubt(pass: &Pass<'_>) -> bool {
    let restarts = pass.facts.lost.restarting.is_some_and(|since| since < patience(pass));
    in_question(pass) && !is_lost(pass) && !restarts
}

/// Nothing else is begun while the version that serves has its time to start again.
pub(super) fn hold(pass: &Pass<'_>) -> Option<Next> {
    if !in_question(pass) || is_lost(pass) {
        return None;
    }
    let left = patience(pass).minus(pass.facts.lost.restarting.unwrap_or_default());
    Some(pass.wait_with(WaitingOn::StableSteady, Some(left), Some(left)))
}

/// The recorded version whose tasks can answer: the one that serves, else the one kept warm once it is sure.
pub(super) fn running_version(pass: &Pass<'_>) -> Option<Version> {
    let sure = pass.release().is_some() || is_lost(pass);
    let stable = pass.facts.stable.iter();
    let retained = pass.facts.retained.iter().filter(|_| sure).map(|kept| &kept.version);
    let runs = |version: &&Version| !pass.known_gone(version) && !pass.misplaced(version);
    stable.chain(retained).find(runs).cloned()
}

// --- in flight

/// The share of a way back that is gone goes to the candidate that passed its gate and runs, burning or not: it answers
/// some requests, an empty group none. `forward` brings it to its full scale.
pub(super) fn stable_lost(pass: &mut Pass<'_>) -> Option<Next> {
    if pass.facts.halted.is_some() {
        return None;
    }
    let release = pass.release()?;
    let (stable, candidate) = (release.stable.clone()?, release.candidate.version()?);
    if !pass.stable_is_gone() || !release.progress.gate_passed || pass.known_gone(&candidate) {
        return None;
    }
    let gives_away = |route: &String| {
        let shown = pass.live(route).is_some_and(|live| live.of(stable.group) > 0);
        let open = pass.outstanding(&Resource::Route(route.clone())).map(|open| &open.effect);
        shown || matches!(open, Some(Effect::SetWeights { shares, .. }) if shares.of(stable.group) > 0)
    };
    let Some(route) = pass.production().into_iter().find(gives_away) else {
        repair::end_incident(pass);
        return None;
    };
    if repair::fight_is_lost(pass, &route) {
        return None;
    }
    if let Some(wait) = backoff::after_trouble_with(pass, &route) {
        return Some(wait);
    }
    if let Some(release) = &mut pass.facts.release {
        release.progress.exposed = true;
    }
    Some(repair::put_right(pass, &route, &candidate))
}

/// Whether the candidate has everything on some route, and not by its steps.
pub(super) fn fills_in(facts: &Facts) -> bool {
    filled_in(facts).is_some()
}

/// The production routes on which it does, and what they show by its steps.
fn filled_in(facts: &Facts) -> Option<(Vec<String>, Shares)> {
    let (plan, release) = (facts.plan.as_ref()?, facts.release.as_ref()?);
    let group = release.candidate.group;
    let by_steps = Shares::giving(group, forward::share_by_steps(plan, release)?);
    let written = |route: &str| facts.acknowledged.get(route).map(|write| write.shares);
    let everything = |route: &String| written(route).is_some_and(|shares| shares.of(group.other()) == 0);
    let routes = plan.spec.routes.production.iter().map(|route| route.name.clone());
    let routes: Vec<String> = routes.filter(everything).collect();
    (!routes.is_empty()).then_some((routes, by_steps))
}

/// A route on which the candidate need not fill in any more: the way back is up, in agreeing looks, and it did not lose
/// its tasks too often. What it shows, and what it is to show.
pub(super) fn to_give_back(pass: &Pass<'_>) -> Option<(String, Shares, Shares)> {
    let up = pass.release()?.progress.stable_up_reads >= forward::STEADY_READS;
    if !up || pass.facts.halted.is_some() || pass.facts.drift.repairs > GIVE_BACKS {
        return None;
    }
    let (routes, by_steps) = filled_in(&pass.facts)?;
    routes.into_iter().find_map(|route| {
        // Weights that are not ours are `foreign`'s.
        let written = pass.expected(&route)?;
        let live = pass.live(&route).filter(|live| live.same_ratio(written))?;
        (!pass.route_outstanding(&route)).then_some((route, live, by_steps))
    })
}

/// The candidate is left with its share by the steps. That is the end of an incident and no step: it takes traffic from the
/// candidate, needs no evidence, and is done while suspended too. The bake goes on, for at no time of it had the
/// candidate less than its share.
pub(super) fn give_back(pass: &mut Pass<'_>) -> Option<Next> {
    let (route, live, by_steps) = to_give_back(pass)?;
    backoff::after_trouble_with(pass, &route)
        .or_else(|| Some(pass.set_weights(&route, by_steps, Some(live), false)))
}

/// The way back has no running task. It may come back, and then traffic does; until then the candidate has what an empty
/// group would have. A newer request is not made to wait for it.
pub(super) fn without_target(pass: &mut Pass<'_>, stable: &Version, latch: &Latch) -> Next {
    if let Some(next) = stable_lost(pass) {
        return next;
    }
    if pass.stable_is_gone() {
        request::ask_anew(pass, stable);
    }
    let candidate = pass.release().and_then(|release| release.candidate.version());
    let runs = candidate.filter(|candidate| !pass.known_gone(candidate));
    // The latch is durable before anything follows from it.
    let latched_before = pass.input.facts.release.as_ref().is_some_and(|release| release.latch.is_some());
    if let Some(candidate) = runs
        && latched_before
        && pass.facts.pending.is_some()
        && pass.stable_is_gone()
    {
        return replace_lost(pass, stable, candidate, latch);
    }
    let no_target = || Halt {
        reason: HaltReason::NoRollbackTarget,
        detail: format!("stable {} has no running task; weights stay where they are", stable.revision),
    };
    Next::Halted(pass.facts.halted.clone().unwrap_or_else(no_target))
}

/// Nothing better exists than the candidate: it counts as stable for the request that waits.
fn replace_lost(pass: &mut Pass<'_>, stable: &Version, candidate: Version, latch: &Latch) -> Next {
    let message = format!("{}; {} is gone, so it is left in place", latch.detail, stable.revision);
    let Some(release) = pass.end_release(Outcome::Failed, "NoRollbackTarget", message) else {
        return Next::Again;
    };
    way_back::quarantine(pass, &release, latch);
    pass.clean_up(stable, release.uncertain);
    pass.facts.stable = Some(candidate);
    pass.facts.retained = None;
    Next::Again
}
