//! Announced effects whose outcome is not known: the same absolute write again, until one is acknowledged.

use std::collections::BTreeSet;

use super::Next;
use super::pass::Pass;
use crate::model::effect::Shares;
use crate::model::facts::{Outstanding, Stage};
use crate::model::{Effect, Resource};
use crate::records::Span;

/// Fresh reads in which a task set is looked for before its creation is repeated.
const LOOKS: u8 = 2;

/// Whether a write that waits to be repeated gives the candidate more than it is known to have, on the test route too:
/// a step forward, which nobody can say has been made.
pub(super) fn goes_forward(pass: &Pass<'_>) -> bool {
    let Some(release) = pass.release() else { return false };
    let group = release.candidate.group;
    pass.facts.outstanding.values().any(|entry| match &entry.effect {
        Effect::SetWeights { route, shares, .. } => {
            let known = pass.facts.acknowledged.get(route).map(|write| write.shares);
            let more = |than: Option<Shares>| than.is_none_or(|than| shares.gives_more_to(group, than));
            // Acknowledged once does not mean in force: a late write may have taken it back.
            shares.of(group) > 0 && (more(known) || pass.live(route).is_some_and(|live| more(Some(live))))
        }
        _ => false,
    })
}

/// Repeats what must be repeated; the first one, for a pass has one effect.
pub(super) fn repeat(pass: &mut Pass<'_>) -> Option<Next> {
    let all: Vec<(Resource, Outstanding)> =
        pass.facts.outstanding.iter().map(|(resource, entry)| (resource.clone(), entry.clone())).collect();
    all.into_iter().find_map(|(resource, entry)| match resource {
        Resource::NewTaskSet(external_id) => creation(pass, &external_id, &entry),
        Resource::Route(route) => weights(pass, &route, &entry.effect),
        Resource::Primary => primary(pass, &entry),
        Resource::TaskSet(_) => scale(pass, entry.effect),
    })
}

/// A creation may have worked: it is looked for by its external id, and only then asked for again with the
/// same token.
fn creation(pass: &mut Pass<'_>, external_id: &str, entry: &Outstanding) -> Option<Next> {
    let wanted = pass.release().is_some_and(|release| release.candidate.external_id == external_id);
    if !wanted {
        // Given up in the meantime: `housekeeping` looks for it and removes it.
        return None;
    }
    let service = pass.service()?;
    if let Some(set) = service.task_sets.iter().find(|set| set.external_id.as_deref() == Some(external_id)) {
        let arn = set.arn.clone();
        super::settle::found(&mut pass.facts, external_id, &arn);
        return Some(Next::Again);
    }
    let resource = Resource::NewTaskSet(external_id.to_owned());
    if entry.looked < LOOKS {
        if let Some(entry) = pass.facts.outstanding.get_mut(&resource) {
            entry.looked += 1;
        }
        return Some(Next::Look(BTreeSet::new()));
    }
    Some(pass.act(entry.effect.clone(), false))
}

fn weights(pass: &mut Pass<'_>, route: &str, effect: &Effect) -> Option<Next> {
    let Effect::SetWeights { shares, .. } = *effect else { return None };
    // With no release in flight only one thing is right: everything on the version that serves, or, if that one is gone,
    // on the one that is kept warm.
    let shares = match (pass.release(), &pass.facts.stable) {
        (Some(_), _) => {
            // As any other write: not from tasks that answer to a group that lost its own. The release goes on without it,
            // or back by its deadline.
            if pass.would_starve(route, shares) {
                return None;
            }
            shares
        }
        (None, Some(stable)) => {
            let serves = super::lost::running_version(pass).map_or(stable.group, |version| version.group);
            let shares = Pass::all_to(serves);
            if pass.would_starve(route, shares) {
                return None;
            }
            shares
        }
        (None, None) => return None,
    };
    // Forward only from what was judged: whoever moves weights in between wins.
    let judged = pass.live(route).filter(|_| goes_forward(pass));
    Some(pass.set_weights(route, shares, judged, false))
}

fn primary(pass: &mut Pass<'_>, entry: &Outstanding) -> Option<Next> {
    // PRIMARY is a label: past its deadline the release succeeds without it (`forward::complete`).
    let completing = pass.release().is_some_and(|release| release.progress.stage == Stage::Completing);
    if completing && pass.stage_left() == Some(Span::ZERO) {
        return None;
    }
    let Effect::SetPrimary { task_set: announced } = &entry.effect else { return None };
    pass.service()?;
    let stable = pass.facts.stable.as_ref().map(|stable| stable.task_set.clone());
    let wanted = match pass.release() {
        Some(release) => {
            [release.candidate.task_set.clone(), stable].into_iter().flatten().find(|set| set == announced)
        }
        None => stable,
    };
    if let Some(task_set) = wanted.filter(|set| pass.task_set(set).is_some()) {
        return Some(pass.act(Effect::SetPrimary { task_set }, false));
    }
    // Nobody is to become PRIMARY. While the announced set is there it may yet, which moves no traffic and holds nobody
    // up; once it is gone nothing can come of it.
    if pass.task_set(announced).is_some() {
        return None;
    }
    let entry = pass.facts.outstanding.get_mut(&Resource::Primary)?;
    if entry.looked < LOOKS {
        entry.looked += 1;
        return Some(Next::Look(BTreeSet::new()));
    }
    pass.facts.outstanding.remove(&Resource::Primary);
    Some(Next::Again)
}

/// Scaling is repeated for a candidate; a deletion is repeated by its clean-up, after fresh reads.
fn scale(pass: &mut Pass<'_>, effect: Effect) -> Option<Next> {
    let Effect::ScaleTaskSet { task_set, .. } = &effect else { return None };
    let candidate = pass.release().and_then(|release| release.candidate.task_set.clone());
    if candidate.as_ref() != Some(task_set) {
        return None;
    }
    Some(pass.act(effect, false))
}
