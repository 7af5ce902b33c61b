//! Traffic goes back to the recorded stable version: one absolute weight write a route, and nothing else.
//!
//! No capacity check, no alarm, no hook and no other API stands between the latch and those writes
//! (`semantics` 4.2). One guard: if the recorded stable set is *known* to be unable to answer, weights stay.

use super::pass::{Pass, remember};
use super::{Next, WaitingOn, backoff, gone, lost};
use crate::model::Resource;
use crate::model::facts::{
    Cleanup, Halt, HaltReason, Latch, LatchCause, Quarantined, Release, ReleaseKind, Stage, Version,
};
use crate::records::Span;
use crate::records::status::Outcome;

/// What to do next for a latched release.
pub(super) fn go_back(pass: &mut Pass<'_>) -> Option<Next> {
    let release = pass.release()?;
    let latch = release.latch.clone()?;
    let Some(stable) = release.stable.clone() else {
        return Some(end_first(pass, &latch));
    };
    if let Some(release) = &mut pass.facts.release
        && release.progress.stage != Stage::GoingBack
    {
        release.progress.stage = Stage::GoingBack;
        release.progress.in_stage = Span::ZERO;
    }
    let exposed = pass.release().is_some_and(|r| r.progress.exposed);
    let open = open_routes(pass, &stable, exposed);
    if open.is_empty() {
        return Some(end_back(pass, &latch, exposed));
    }
    Some(write_back(pass, &stable, &latch, &open))
}

/// A production route that is not yet known to be back.
struct Open {
    route: String,
    /// How much it gives the candidate, in tenths of a percent; unknown counts as everything.
    exposure: u16,
    /// Whether a write helps, or only another look does.
    write: bool,
}

fn open_routes(pass: &Pass<'_>, stable: &Version, exposed: bool) -> Vec<Open> {
    let target = Pass::all_to(stable.group);
    let mut open = Vec::new();
    for route in pass.production() {
        if gone::is_gone(pass, &route) {
            continue;
        }
        let written = pass.facts.acknowledged.get(&route).map(|write| write.shares);
        let written_back = written.is_some_and(|shares| shares.same_ratio(target));
        let outstanding = pass.route_outstanding(&route);
        match pass.live(&route) {
            Some(live) if live.of(stable.group.other()) == 0 && live.of(stable.group) > 0 => {
                // A read alone proves nothing: it may be older than our last write, and a write may still land.
                // Only an acknowledged write of what should be, with none outstanding, closes a route.
                if outstanding || !(written_back || written.is_none()) {
                    open.push(Open { route, exposure: 0, write: true });
                }
            }
            Some(live) => {
                let exposure = live.share(stable.group.other()).tenths();
                open.push(Open { route, exposure, write: true });
            }
            // Never written and never read: there is nothing of ours to take back.
            None if !exposed && !outstanding => {}
            None => {
                let foreign = pass.not_our_pair(&route).is_some();
                open.push(Open { route, exposure: 1000, write: outstanding || !(written_back || foreign) });
            }
        }
    }
    open
}

fn write_back(pass: &mut Pass<'_>, stable: &Version, latch: &Latch, open: &[Open]) -> Next {
    if open.iter().any(|route| route.write) && pass.known_gone(stable) {
        return lost::without_target(pass, stable, latch);
    }
    // Routes that were tried less come first, so that one that refuses never stops the others.
    let tried = |route: &Open| latch.tried.get(&route.route).copied().unwrap_or(0);
    let next = open
        .iter()
        .filter(|route| route.write)
        .min_by_key(|route| (tried(route), std::cmp::Reverse(route.exposure)));
    let Some(next) = next else {
        return look_again(pass, open);
    };
    if let Some(wait) = backoff::on_the_way_back(pass, &next.route, tried(next)) {
        return wait;
    }
    if let Some(Release { latch: Some(latch), .. }) = &mut pass.facts.release {
        *latch.tried.entry(next.route.clone()).or_default() += 1;
    }
    pass.set_weights(&next.route, Pass::all_to(stable.group), None, true)
}

fn look_again(pass: &Pass<'_>, open: &[Open]) -> Next {
    // One that AWS does not know is looked at until that is certain, and closed then.
    let mut others = open.iter().filter(|route| !gone::is_absent(pass, &route.route));
    let foreign = others.find_map(|route| Some((&route.route, pass.not_our_pair(&route.route)?)));
    match foreign {
        Some((route, what)) => Next::Halted(Halt {
            reason: HaltReason::StateContradicts,
            detail: format!("route {route} shows {what}, which the daemon must not rewrite"),
        }),
        None => pass.wait(WaitingOn::RollbackVerify),
    }
}

/// Weights are verified back: the outcome is told now, clean-up goes on after it.
fn end_back(pass: &mut Pass<'_>, latch: &Latch, exposed: bool) -> Next {
    let outcome = match latch.cause {
        LatchCause::Superseded => Outcome::Superseded,
        LatchCause::Alarm
        | LatchCause::MovedByHand
        | LatchCause::Aborted
        | LatchCause::RecordDeleted
        | LatchCause::Deadline
        | LatchCause::NoEvidence
        | LatchCause::CandidateLost => {
            if exposed {
                Outcome::RolledBack
            } else {
                Outcome::Failed
            }
        }
    };
    let message = gone::told(pass, &latch.detail);
    let Some(release) = pass.end_release(outcome, cause_name(latch.cause), message) else {
        return Next::Again;
    };
    quarantine(pass, &release, latch);
    leave(pass, &release);
    Next::Again
}

/// The candidate of a release that went back is removed, also when its creation is still in the dark.
fn leave(pass: &mut Pass<'_>, release: &Release) {
    // A return's candidate was running before; it leaves like any other.
    if release.kind == ReleaseKind::Return {
        pass.facts.retained = None;
    }
    if let Some(version) = release.candidate.version() {
        pass.clean_up(&version, release.uncertain);
        return;
    }
    let external_id = release.candidate.external_id.clone();
    if pass.outstanding(&Resource::NewTaskSet(external_id.clone())).is_some() {
        pass.facts.cleanups.push(Cleanup {
            task_set: None,
            external_id,
            group: release.candidate.group,
            uncertain: true,
            quiet: Span::ZERO,
            zero_reads: 0,
            deleted: false,
            elapsed: Span::ZERO,
        });
    }
}

pub(super) fn quarantine(pass: &mut Pass<'_>, release: &Release, latch: &Latch) {
    let verdict = match latch.cause {
        LatchCause::Alarm
        | LatchCause::MovedByHand
        | LatchCause::Deadline
        | LatchCause::NoEvidence
        | LatchCause::CandidateLost => true,
        // These say nothing about the revision.
        LatchCause::Aborted | LatchCause::RecordDeleted | LatchCause::Superseded => false,
    };
    if verdict {
        let entry = Quarantined {
            revision: release.candidate.revision.clone(),
            release: release.id,
            request_id: release.identity.request_id.clone(),
            cause: latch.cause,
            at: pass.input.now,
        };
        remember(&mut pass.facts.quarantined, entry);
    }
}

/// A first release has nothing to go back to (`semantics` 4.5).
fn end_first(pass: &mut Pass<'_>, latch: &Latch) -> Next {
    let exposed = pass.release().is_some_and(|r| r.progress.exposed);
    let superseded = latch.cause == LatchCause::Superseded;
    let outcome = if superseded && !exposed { Outcome::Superseded } else { Outcome::Failed };
    let message = if exposed {
        format!("{}; there is no earlier version to go back to, so it is left in place", latch.detail)
    } else {
        latch.detail.clone()
    };
    let reason = if exposed { "NoRollbackTarget" } else { cause_name(latch.cause) };
    let Some(release) = pass.end_release(outcome, reason, message) else { return Next::Again };
    quarantine(pass, &release, latch);
    match release.candidate.version() {
        // Nothing better exists: it counts as stable for the next release.
        Some(version) if exposed => pass.facts.stable = Some(version),
        Some(_) | None => leave(pass, &release),
    }
    Next::Again
}

/// The stable one-word name of a cause.
pub(super) const fn cause_name(cause: LatchCause) -> &'static str {
    match cause {
        LatchCause::Alarm => "Alarm",
        LatchCause::MovedByHand => "MovedByHand",
        LatchCause::Aborted => "Aborted",
        LatchCause::RecordDeleted => "RecordDeleted",
        LatchCause::Superseded => "Superseded",
        LatchCause::Deadline => "Deadline",
        LatchCause::NoEvidence => "NoEvidence",
        LatchCause::CandidateLost => "CandidateLost",
    }
}

#[cfg(test)]
mod tests;
