//! What an answer does to the facts. Proved together with `decide`: both run in every property test.

use super::pass::cut;
use super::response::{Class, leaves_doubt};
use crate::model::facts::{Acknowledged, Drift, Trouble};
use crate::model::{Acknowledgement, Answer, Effect, Facts, RefusalClass, Resource};

/// The facts after an announced effect was answered.
///
/// Acknowledged: done, and whatever was unknown on the same resource is settled with it. Refused: certainly
/// not done, so the announcement goes, unless an *earlier* attempt on the resource is still unknown.
/// Unknown: it stays outstanding until a later write on the resource is acknowledged; no read settles it.
pub fn settle(facts: &Facts, effect: &Effect, answer: &Answer, epoch: u64) -> Facts {
    let mut facts = facts.clone();
    let resource = effect.resource();
    match answer {
        Answer::Acknowledged(acknowledgement) => {
            facts.outstanding.remove(&resource);
            facts.trouble = None;
            acknowledged(&mut facts, effect, acknowledgement, epoch);
        }
        Answer::Refused { class, message } => {
            not_acknowledged(&mut facts, &resource, Class::Refused(*class));
            facts.trouble = Some(trouble(resource, Some(*class), message));
        }
        Answer::Unknown { message } => {
            not_acknowledged(&mut facts, &resource, Class::Unknown);
            facts.trouble = Some(trouble(resource, None, message));
        }
    }
    facts
}

fn not_acknowledged(facts: &mut Facts, resource: &Resource, class: Class) {
    if leaves_doubt(class) {
        if let Some(outstanding) = facts.outstanding.get_mut(resource) {
            outstanding.unknown = true;
        }
        mark_uncertain(facts);
    } else if facts.outstanding.get(resource).is_some_and(|outstanding| !outstanding.unknown) {
        facts.outstanding.remove(resource);
    }
}

fn trouble(resource: Resource, class: Option<RefusalClass>, message: &str) -> Trouble {
    Trouble { resource, class, message: cut(message), fresh: true }
}

/// From now on clean-ups wait as long as a signed request can linger, also that of a version that is kept warm.
pub(super) fn mark_uncertain(facts: &mut Facts) {
    if let Some(release) = &mut facts.release {
        release.uncertain = true;
    }
    if let Some(retained) = &mut facts.retained {
        retained.uncertain = true;
    }
    for cleanup in &mut facts.cleanups {
        cleanup.uncertain = true;
    }
}

fn acknowledged(facts: &mut Facts, effect: &Effect, acknowledgement: &Acknowledgement, epoch: u64) {
    match effect {
        Effect::SetWeights { route, shares, .. } => {
            // The echo is what AWS says it has; if it is not what was asked for, the next read will differ
            // from it and the write is repeated.
            let shares = match acknowledgement {
                Acknowledgement::Echo(echo) => *echo,
                Acknowledgement::Done | Acknowledgement::Created { .. } => *shares,
            };
            facts.acknowledged.insert(route.clone(), Acknowledged { shares, epoch });
            facts.late.retain(|write| write.route != *route || !write.landed);
            if facts.drift.repairing.as_ref() == Some(route) {
                facts.drift.repairing = None;
                repaired(&mut facts.drift, route);
            }
        }
        Effect::CreateTaskSet { external_id, .. } => {
            if let Acknowledgement::Created { task_set } = acknowledgement {
                found(facts, external_id, task_set);
            }
        }
        Effect::DeleteTaskSet { task_set, .. } => {
            for cleanup in &mut facts.cleanups {
                if cleanup.task_set.as_ref() == Some(task_set) {
                    cleanup.deleted = true;
                }
            }
        }
        Effect::ScaleTaskSet { .. } | Effect::SetPrimary { .. } => {}
    }
}

/// An incident puts each route right once, and counts once.
fn repaired(drift: &mut Drift, route: &str) {
    if drift.routes.contains(route) {
        drift.routes.clear();
    }
    if drift.routes.is_empty() {
        drift.repairs = drift.repairs.saturating_add(1);
    }
    drift.routes.insert(route.to_owned());
}

/// A task set of ours is there: the candidate's, or one whose creation was given up in the meantime.
pub(super) fn found(facts: &mut Facts, external_id: &str, task_set: &str) {
    facts.outstanding.remove(&Resource::NewTaskSet(external_id.to_owned()));
    if let Some(release) = &mut facts.release
        && release.candidate.external_id == external_id
    {
        release.candidate.task_set = Some(task_set.to_owned());
    }
    for cleanup in &mut facts.cleanups {
        if cleanup.external_id == external_id && cleanup.task_set.is_none() {
            cleanup.task_set = Some(task_set.to_owned());
            super::pass::remember(&mut facts.tombstones, task_set.to_owned());
        }
    }
}
