//! Production weights that are not what we wrote last: whose are they, and what now?
//!
//! - A *stale read* shows an older value of our own for a while: several observations must agree, over the propagation
//!   wait, before anything is believed.
//! - A *late write* of our own: its answer was lost, it was repeated, and the first attempt lands after the next
//!   step's write. AWS has no conditional write that would prevent it. Each such attempt is remembered for as long as
//!   it can land; it is put back, once, and on the same evidence as any share of the candidate.
//! - Everything else is a *person*. Toward stable it is their rollback and wins; toward the candidate it is put back.

use std::collections::BTreeSet;

use super::evidence::{Evidence, world_readable};
use super::pass::Pass;
use super::{Asked, Next, WaitingOn};
use crate::model::effect::Shares;
use crate::model::facts::{Facts, KEPT, LatchCause, LateWrite};
use crate::model::{Effect, Resource};
use crate::records::Span;

/// A late write that a look has seen is known for as long as reads can be stale after it, and for less than so many polls
/// more: a pass adds two at most until the next look that sees it.
const SEEN_FOR: u64 = 3;

/// This many consecutive observations, and the propagation wait, before weights that differ from ours are believed.
pub(super) const READS: u8 = 3;

/// The first production route that shows other weights than ours: its name, what it shows, what we wrote.
pub(super) fn first(pass: &Pass<'_>) -> Option<(String, Shares, Shares)> {
    pass.production().into_iter().find_map(|route| {
        let (live, expected) = (pass.live(&route)?, pass.expected(&route)?);
        let other = match pass.outstanding(&Resource::Route(route.clone())) {
            None => !live.same_ratio(expected),
            Some(open) => is_less_than_both(pass, &route, live, expected, &open.effect),
        };
        other.then_some((route, live, expected))
    })
}

/// While a write is open the route shows that one or the last one, or what a late one brought. Less of the candidate
/// than any of them is a person's, and they may well act just when AWS does not answer us.
fn is_less_than_both(pass: &Pass<'_>, route: &str, live: Shares, expected: Shares, open: &Effect) -> bool {
    let (Some(release), Effect::SetWeights { shares: announced, .. }) = (pass.release(), open) else {
        return false;
    };
    let less = |than: Shares| than.gives_more_to(release.candidate.group, live);
    less(expected) && less(*announced) && !is_late_write(pass, route, live)
}

/// Looks again, latches, or puts weights back; nothing when all is as written, or when others must speak first.
pub(super) fn answer(pass: &mut Pass<'_>, evidence: &Evidence) -> Option<Next> {
    let found = first(pass);
    if !believed(pass, found.is_some())? {
        // Holding is free of risk; it counts against the stage's deadline.
        let route = found.map(|(route, ..)| route).unwrap_or_default();
        return Some(pass.wait_in_stage(WaitingOn::ForeignWeights { route }, None));
    }
    let (route, live, expected) = found?;
    let candidate = pass.release()?.candidate.group;
    let less = expected.gives_more_to(candidate, live);
    if less && is_late_write(pass, &route, live) {
        let clear = *evidence == Evidence::Clear && world_readable(pass).is_ok();
        let version = pass.release()?.candidate.version();
        // The rules behind this one say what is missing, and end the release: `candidate_lost`, `hold_without_evidence`.
        if !clear || version.is_none_or(|version| pass.known_gone(&version)) {
            return None;
        }
        forget(pass);
        mark_landed(pass, &route, live);
        return Some(pass.set_weights(&route, expected, Some(live), false));
    }
    forget(pass);
    if less {
        let detail = format!("route {route} was set to {} % by hand", live.share(candidate));
        pass.latch(LatchCause::MovedByHand, detail);
        return Some(Next::Again);
    }
    if pass.would_starve(&route, expected) {
        return None;
    }
    Some(pass.set_weights(&route, expected, None, false))
}

/// Whether enough observations agree; none when there is nothing to believe.
fn believed(pass: &mut Pass<'_>, foreign: bool) -> Option<bool> {
    let watched = pass.input.watched;
    let propagation = pass.plan()?.spec.waits.propagation;
    let progress = &mut pass.facts.release.as_mut()?.progress;
    if !foreign {
        forget(pass);
        return None;
    }
    if progress.foreign_reads > 0 {
        progress.foreign_for = progress.foreign_for.plus(watched);
    }
    progress.foreign_reads = progress.foreign_reads.saturating_add(1).min(READS);
    Some(progress.foreign_reads == READS && progress.foreign_for >= propagation)
}

fn forget(pass: &mut Pass<'_>) {
    if let Some(release) = &mut pass.facts.release {
        release.progress.foreign_reads = 0;
        release.progress.foreign_for = Span::ZERO;
    }
}

/// A call that was announced before and whose outcome nobody knows is followed by another one now. It may land in this
/// release or in the next; weights that do are known by it.
pub(super) fn may_still_land(pass: &mut Pass<'_>, earlier: Effect) {
    pass.facts.overtaken = Some(Span::ZERO);
    let Effect::SetWeights { route, shares, .. } = earlier else { return };
    if pass.production().contains(&route) {
        let late = &mut pass.facts.late;
        late.push(LateWrite { route, shares, age: Span::ZERO, landed: false });
        late.drain(..late.len().saturating_sub(KEPT));
    }
}

/// Past the quiet time no request of back then is accepted any more. One that landed right before is seen in the next
/// look, and a pass adds two polls at most. From then on it is old enough to be forgotten soon, and not older with each
/// look that sees it, for however long it takes to believe it.
pub(super) fn let_late_calls_age(pass: &mut Pass<'_>) {
    let (watched, poll) = (pass.input.watched, pass.input.limits.poll);
    let lands = lands(&pass.facts, poll);
    let propagation = pass.plan().map_or(Span::ZERO, |plan| plan.spec.waits.propagation);
    let when_seen = lands.minus(propagation.plus(poll.times(SEEN_FOR)));
    let mut late = std::mem::take(&mut pass.facts.late);
    for write in &mut late {
        write.age = write.age.plus(watched);
    }
    late.retain(|write| write.age < lands);
    // What nobody puts back must not be known for ever, nor hold the claims of a deleted service.
    let put_back = !matches!(pass.input.service, Asked::Absent) && pass.facts.halted.is_none();
    // Of several attempts at the same one has landed: the one that `mark_landed` strikes out.
    let mut seen = BTreeSet::new();
    for write in late.iter_mut().rev().filter(|write| put_back && is_shown(pass, write)) {
        if seen.insert(write.route.clone()) {
            write.age = write.age.min(when_seen);
        }
    }
    pass.facts.late = late;
    pass.facts.overtaken = pass.facts.overtaken.map(|age| age.plus(watched).min(lands));
}

/// In place of what we wrote after it.
fn is_shown(pass: &Pass<'_>, write: &LateWrite) -> bool {
    let (live, ours) = (pass.live(&write.route), pass.expected(&write.route));
    live.zip(ours).is_some_and(|(live, ours)| live.same_ratio(write.shares) && !live.same_ratio(ours))
}

/// How long a call that was followed by another counts as one that may land.
fn lands(facts: &Facts, poll: Span) -> Span {
    facts.plan.as_ref().map_or(Span::ZERO, |plan| plan.quiet(true)).plus(poll.times(2))
}

/// For how much longer a call of ours may land, or one that has is known; none when nothing can land any more.
pub(super) fn late_calls(pass: &Pass<'_>) -> Option<Span> {
    let (facts, lands) = (&pass.facts, lands(&pass.facts, pass.input.limits.poll));
    let ages = facts.late.iter().map(|write| write.age).chain(facts.overtaken);
    ages.map(|age| lands.minus(age)).max().filter(|left| *left > Span::ZERO)
}

/// Whether these weights are those of a write of ours that can still land.
pub(super) fn is_late_write(pass: &Pass<'_>, route: &str, live: Shares) -> bool {
    pass.facts.late.iter().any(|write| write.route == route && write.shares.same_ratio(live))
}

/// That write has landed, so that the same weights a second time are not its doing: `settle` strikes it out with the
/// acknowledgement of what puts it back.
pub(super) fn mark_landed(pass: &mut Pass<'_>, route: &str, live: Shares) {
    let its = |write: &&mut LateWrite| write.route == route && write.shares.same_ratio(live);
    // One that is marked already was met by a put-back that AWS refused.
    if let Some(write) = pass.facts.late.iter_mut().filter(its).max_by_key(|write| write.landed) {
        write.landed = true;
    }
}
