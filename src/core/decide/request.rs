//! A changed record becomes a new generation. What that means depends on what it names: the version that
//! serves, the one kept warm, the one being released, or something new.

use super::pass::Pass;
use super::{Asked, Next, WaitingOn};
use crate::model::facts::{Ended, Facts, Identity, LatchCause, Pending, Release, ReleaseKind, Version};
use crate::model::{Plan, Revision};
use crate::records::check::{Refusal, RefusalCode};
use crate::records::desired_release::DesiredReleaseSpec;
use crate::records::status::Outcome;

/// Takes note of the desired record. Changes facts only; never an effect.
pub(super) fn observe(pass: &mut Pass<'_>) -> Option<Next> {
    match pass.input.desired {
        Asked::Absent => {
            forget(pass);
            None
        }
        Asked::Invalid { refusal, hash, .. } => refuse_unreadable(pass, refusal, hash),
        Asked::Valid { spec, hash } => observe_valid(pass, spec, hash),
    }
}

/// The record was deleted. A release in flight latches elsewhere; what has not started is dropped.
fn forget(pass: &mut Pass<'_>) {
    if pass.facts.asked.is_none() {
        return;
    }
    if let Some(open) = pass.take_open_request() {
        pass.end_request(open, Outcome::Superseded, "RecordDeleted", "the record was deleted".to_owned());
    }
    pass.facts.asked = None;
}

/// A record that cannot be read is refused once and touches nothing, a release in flight included.
///
/// It is remembered under a mark of its own: the mended record may have the very same spec, and must count as
/// new then.
fn refuse_unreadable(pass: &mut Pass<'_>, refusal: &Refusal, hash: &str) -> Option<Next> {
    let mark = format!("refused:{:?}:{}:{hash}", refusal.code, refusal.field);
    if pass.facts.asked.as_ref().is_some_and(|asked| asked.spec_hash == mark) {
        return None;
    }
    let unread = |spec_hash| Identity {
        task_definition: String::new(),
        strategy: None,
        request_id: None,
        spec_hash,
        takes_back: None,
    };
    next_generation(pass, unread(mark));
    refuse(pass, unread(hash.to_owned()), refusal);
    Some(Next::Again)
}

fn observe_valid(pass: &mut Pass<'_>, spec: &DesiredReleaseSpec, hash: &str) -> Option<Next> {
    if pass.facts.asked.as_ref().is_some_and(|asked| asked.spec_hash == hash) {
        return None;
    }
    // Without its ManagedService a request cannot even be judged; it keeps until there is one.
    let service = match pass.input.service {
        Asked::Valid { spec, .. } => spec,
        Asked::Absent => return absent_service(pass),
        Asked::Invalid { refusal, .. } => return unfit_service(pass, refusal),
    };
    let identity = Identity {
        task_definition: spec.task_definition.clone(),
        strategy: spec.strategy.clone(),
        request_id: spec.request_id.clone(),
        spec_hash: hash.to_owned(),
        takes_back: None,
    };
    let resolved = Plan::resolve(service, spec);
    if let (Ok((_, revision)), Some(asked)) = (&resolved, &mut pass.facts.asked)
        && same_request(asked, &identity, revision)
    {
        // Written differently, meaning the same.
        asked.spec_hash = identity.spec_hash;
        return Some(Next::Again);
    }
    next_generation(pass, identity.clone());
    match resolved {
        Err(refusal) => refuse(pass, identity, &refusal),
        Ok((_, revision)) => accept(pass, identity, &revision),
    }
    Some(Next::Again)
}

fn absent_service(pass: &Pass<'_>) -> Option<Next> {
    // In flight or in housekeeping, the deletion of the service is dealt with by the other rules.
    if pass.facts.is_busy() || pass.facts.retained.is_some() || !pass.facts.claims.is_empty() {
        return None;
    }
    Some(pass.wait(WaitingOn::Record { detail: "there is no ManagedService of this name".to_owned() }))
}

fn unfit_service(pass: &Pass<'_>, refusal: &Refusal) -> Option<Next> {
    if pass.facts.is_busy() || pass.facts.retained.is_some() {
        return None;
    }
    Some(pass.wait(WaitingOn::Record { detail: format!("the ManagedService is refused: {refusal}") }))
}

pub(super) fn same_request(asked: &Identity, new: &Identity, revision: &Revision) -> bool {
    asked.strategy == new.strategy
        && asked.request_id == new.request_id
        && asked.task_definition.parse::<Revision>().is_ok_and(|before| before == *revision)
}

/// From here on no forward effect of an older generation starts.
fn next_generation(pass: &mut Pass<'_>, identity: Identity) {
    if let Some(open) = pass.take_open_request() {
        pass.end_request(
            open,
            Outcome::Superseded,
            "Superseded",
            "a newer request took its place".to_owned(),
        );
    }
    pass.facts.generation += 1;
    pass.facts.attempt = 1;
    pass.facts.asked = Some(identity);
    // A person has acted.
    pass.facts.halted = None;
}

fn refuse(pass: &mut Pass<'_>, identity: Identity, refusal: &Refusal) {
    pass.end_request(identity, Outcome::Refused, &format!("{:?}", refusal.code), refusal.to_string());
}

fn accept(pass: &mut Pass<'_>, identity: Identity, revision: &Revision) {
    let serving = |facts: &Facts| facts.stable.as_ref().is_some_and(|stable| stable.revision == *revision);
    if let Some(release) = pass.release() {
        if release.candidate.revision == *revision && release.latch.is_none() {
            pass.facts.follows = true;
            return;
        }
        let nothing_to_go_back_to = release.kind == ReleaseKind::First && release.progress.exposed;
        if release.latch.is_none() && !nothing_to_go_back_to {
            pass.latch(LatchCause::Superseded, format!("by generation {}", pass.facts.generation));
        }
        if serving(&pass.facts) {
            pass.facts.follows = true;
        } else {
            pass.facts.pending = Some(Pending::default());
        }
        return;
    }
    if serving(&pass.facts) {
        already_serving(pass, identity, revision);
        return;
    }
    if let Some(refusal) = quarantined(&pass.facts, &identity, revision) {
        refuse(pass, identity, &refusal);
        return;
    }
    let retained = pass.facts.retained.as_ref().is_some_and(|kept| kept.version.revision == *revision);
    pass.facts.pending = Some(Pending { return_to_retained: retained, ..Pending::default() });
}

fn already_serving(pass: &mut Pass<'_>, identity: Identity, revision: &Revision) {
    let message = format!("{revision} already serves");
    pass.end_request(identity, Outcome::Succeeded, "AlreadyServing", message);
}

/// This version has taken over: a request that waits to release it, or to go back to it, is answered.
pub(super) fn answer_with(pass: &mut Pass<'_>, serves: &Revision) {
    let Some(pending) = pass.facts.pending.clone() else { return };
    let Some(identity) = pass.identity_of(Some(&pending)) else { return };
    let the_same = identity.task_definition.parse::<Revision>().is_ok_and(|revision| revision == *serves);
    if the_same || pending.return_to_retained {
        pass.facts.pending = None;
        already_serving(pass, identity, serves);
    }
}

/// A request for the version that served, made while it served, needs a release of its own when that version is gone.
pub(super) fn ask_anew(pass: &mut Pass<'_>, lost: &Version) {
    let asked = pass.facts.asked.as_ref().and_then(|asked| asked.task_definition.parse::<Revision>().ok());
    if pass.facts.follows && asked.is_some_and(|revision| revision == lost.revision) {
        pass.facts.follows = false;
        pass.facts.pending = Some(Pending::default());
    }
}

/// Ends the request that followed this release, which has just ended: every request has an outcome (`semantics` 4.3).
pub(super) fn end_follower(pass: &mut Pass<'_>, release: &Release, ended: &Ended) {
    if !std::mem::take(&mut pass.facts.follows) {
        return;
    }
    let Some(asked) = pass.facts.asked.clone() else { return };
    match asked.task_definition.parse::<Revision>() {
        Ok(revision) if revision != release.candidate.revision => already_serving(pass, asked, &revision),
        Ok(_) | Err(_) => {
            let message =
                format!("as {}, which was in flight with this revision: {}", release.id, ended.message);
            pass.end_request(asked, ended.outcome, &ended.reason, message);
        }
    }
}

/// A revision that failed starts again only when a person says so: by a new request id, or by `retry`.
pub(super) fn quarantined(facts: &Facts, identity: &Identity, revision: &Revision) -> Option<Refusal> {
    let entry = facts.quarantined.iter().rev().find(|entry| entry.revision == *revision)?;
    if identity.request_id.is_some() && identity.request_id != entry.request_id {
        return None;
    }
    Some(Refusal {
        code: RefusalCode::Quarantined,
        field: "spec.taskDefinition".to_owned(),
        value: format!(
            "{revision}, which failed in {} ({})",
            entry.release,
            super::way_back::cause_name(entry.cause)
        ),
        allowed: "a revision that has not failed, or a new requestId".to_owned(),
        fix: "write a new spec.requestId, or send the command retry".to_owned(),
    })
}
