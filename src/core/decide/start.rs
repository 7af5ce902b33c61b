//! From a pending request to a release: preflight by reads only, then claims, the pinned plan and the way
//! back, durable in one transaction before the first mutation.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use super::pass::{Pass, unread};
use super::preflight::{Finding, Ground, examine};
use super::{Asked, Next, Wait, WaitingOn};
use crate::model::facts::{
    Candidate, Doubt, Facts, Pending, Progress, Release, ReleaseId, ReleaseKind, Version,
};
use crate::model::observed::Preflight;
use crate::model::{Need, Plan, Revision, Seen};
use crate::records::check::{Refusal, RefusalCode};
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::status::Outcome;
use crate::records::strategy::Step;
use crate::records::{Group, Percent, Span};

/// Preflight reads every rule of the load balancer; while something passing is waited for, it is repeated at
/// this multiple of the ordinary poll.
const PREFLIGHT_POLLS: u64 = 5;
/// A refusal is final, and what it rests on may have been read as it was a moment ago: a service or a revision
/// made just before its record. ECS "follows an eventual consistency model" and states no bound (ECS API
/// Reference, `DescribeServices`), so a refusal must stand in every read of this time.
const REFUSAL_STANDS: Span = Span::from_secs(3);

/// Brings a pending request to its start, its refusal, or says what it waits for.
pub(super) fn start(pass: &mut Pass<'_>) -> Option<Next> {
    let pending = pass.facts.pending.clone()?;
    let identity = pass.identity_of(Some(&pending))?;
    let (plan, revision) = match resolve(pass, &pending)? {
        ControlFlow::Continue(resolved) => resolved,
        ControlFlow::Break(next) => return Some(next),
    };
    // It may have failed since it was asked for: a request that came while its revision was on the way back. Of a return
    // that an operator asked for, a person has said so.
    if pending.identity.is_none()
        && let Some(refusal) = super::request::quarantined(&pass.facts, &identity, &revision)
    {
        return Some(refuse(pass, &refusal));
    }
    if let Some((arn, owner)) = pass.input.claim_denied {
        pass.facts.claims.remove(arn);
        return Some(refuse(pass, &claimed(arn, owner)));
    }
    if pass.input.suspended() {
        return Some(pass.wait(WaitingOn::Suspended));
    }
    let Some(preflight) = &pass.input.observed.extra.preflight else {
        return Some(Pass::look(Need::Preflight(revision)));
    };
    let finding = match preflight {
        Seen::Unknown(_) => Finding::Passing(unread("preflight", Some(preflight))),
        Seen::Known(read) => judge(pass, &plan, &revision, read, &pending),
    };
    match finding {
        Finding::Impossible(refusal) => Some(refuse_if_it_stands(pass, revision, &refusal)),
        Finding::Passing(on) => Some(wait_to_start(pass, &plan, &revision, on)),
        Finding::Fit(ground) => {
            begin(pass, plan, revision, ground, identity, &pending);
            Some(Next::Again)
        }
    }
}

/// The plan and the revision, or what comes of it that there are none.
fn resolve(pass: &mut Pass<'_>, pending: &Pending) -> Option<ControlFlow<Next, (Plan, Revision)>> {
    if pending.identity.is_some() {
        return Some(resolve_return(pass));
    }
    let Some(service) = pass.input.service.valid() else {
        return Some(ControlFlow::Break(wait_for_service(pass)));
    };
    let desired = pass.input.desired.valid()?;
    let kept = pass.facts.retained.as_ref().filter(|_| pending.return_to_retained);
    Some(match (Plan::resolve(service, desired), kept) {
        (Ok((plan, _)), Some(kept)) => ControlFlow::Continue((plan, kept.version.revision.clone())),
        (Ok(resolved), None) => ControlFlow::Continue(resolved),
        (Err(refusal), _) => ControlFlow::Break(refuse(pass, &refusal)),
    })
}

/// An operator's return goes by what is kept, whatever the records say by now, and also when they cannot be read:
/// whoever spoilt them may be asleep.
fn resolve_return(pass: &mut Pass<'_>) -> ControlFlow<Next, (Plan, Revision)> {
    let Some(kept) = &pass.facts.retained else {
        if let Some(open) = pass.take_open_request() {
            let message = "no earlier version is kept any more".to_owned();
            pass.end_request(open, Outcome::Failed, "NothingRetained", message);
        }
        return ControlFlow::Break(Next::Again);
    };
    let revision = kept.version.revision.clone();
    let plan = match pass.input.service {
        Asked::Valid { spec, .. } => Some(Plan::observing(spec)),
        Asked::Invalid { .. } => pass.plan().cloned(),
        Asked::Absent => None,
    };
    match plan {
        Some(plan) => ControlFlow::Continue((plan, revision)),
        None => ControlFlow::Break(wait_for_service(pass)),
    }
}

fn wait_for_service(pass: &Pass<'_>) -> Next {
    pass.wait(WaitingOn::Record { detail: "the ManagedService is missing or refused".to_owned() })
}

fn judge(pass: &Pass<'_>, plan: &Plan, revision: &Revision, read: &Preflight, pending: &Pending) -> Finding {
    let Some(service) = pass.service() else {
        return Finding::Passing(unread("the ECS service", Some(&pass.input.observed.service)));
    };
    examine(&super::preflight::Question {
        plan,
        revision,
        service,
        read,
        routes: &pass.input.observed.routes,
        alarms: &pass.input.observed.alarms,
        break_glass: &pending.break_glass,
        stable: pass.facts.stable.as_ref(),
        returning: pending
            .return_to_retained
            .then(|| pass.facts.retained.as_ref().map(|kept| &kept.version))
            .flatten(),
        external_prefix: &pass.external_prefix(),
    })
}

fn wait_to_start(pass: &mut Pass<'_>, plan: &Plan, revision: &Revision, on: WaitingOn) -> Next {
    let limit = plan.spec.deadlines.start;
    let watched = pass.input.watched;
    let Some(pending) = &mut pass.facts.pending else { return Next::Again };
    pending.doubt = None;
    pending.waited = pending.waited.plus(watched);
    let left = limit.minus(pending.waited);
    if left == Span::ZERO {
        let refusal = Refusal {
            code: RefusalCode::StartDeadline,
            field: "spec.deadlines.start".to_owned(),
            value: limit.to_string(),
            allowed: "what the release waits for comes about in time".to_owned(),
            fix: format!("mend it ({}), then send the command retry or write a new requestId", on.told()),
        };
        return refuse(pass, &refusal);
    }
    Next::Wait(Wait {
        on,
        poll: pass.input.limits.poll.times(PREFLIGHT_POLLS),
        left: None,
        deadline: Some(left),
        needs: BTreeSet::from([Need::Preflight(revision.clone())]),
    })
}

/// Refuses what was found to be impossible in every read for long enough; until then it is read again.
fn refuse_if_it_stands(pass: &mut Pass<'_>, revision: Revision, refusal: &Refusal) -> Next {
    let watched = pass.input.watched;
    let Some(pending) = &mut pass.facts.pending else { return Next::Again };
    pending.doubt = match &pending.doubt {
        Some(doubt) if doubt.code == refusal.code => {
            Some(Doubt { code: refusal.code, stood: doubt.stood.plus(watched) })
        }
        _ => Some(Doubt { code: refusal.code, stood: Span::ZERO }),
    };
    let stood = pending.doubt.as_ref().map_or(Span::ZERO, |doubt| doubt.stood);
    if stood >= REFUSAL_STANDS {
        return refuse(pass, refusal);
    }
    let left = Some(REFUSAL_STANDS.minus(stood));
    let on = WaitingOn::RefusalStands { refusal: refusal.to_string() };
    let needs = BTreeSet::from([Need::Preflight(revision)]);
    Next::Wait(Wait { on, poll: pass.input.limits.poll, left, deadline: left, needs })
}

fn refuse(pass: &mut Pass<'_>, refusal: &Refusal) -> Next {
    if let Some(open) = pass.take_open_request() {
        pass.end_request(open, Outcome::Refused, &format!("{:?}", refusal.code), refusal.to_string());
    }
    Next::Again
}

fn claimed(arn: &str, owner: &str) -> Refusal {
    Refusal {
        code: RefusalCode::AlreadyClaimed,
        field: "spec".to_owned(),
        value: arn.to_owned(),
        allowed: "resources that no other service manages".to_owned(),
        // Claims go with the record alone: what an edited one no longer names stays claimed.
        fix: format!("leave it to {owner}, or delete that ManagedService, which is what gives its claims up"),
    }
}

/// Claims, plan, binding and the way back: everything that must be durable before the first mutation.
fn begin(
    pass: &mut Pass<'_>,
    plan: Plan,
    revision: Revision,
    ground: Ground,
    identity: crate::model::facts::Identity,
    pending: &Pending,
) {
    let id = ReleaseId { generation: pass.facts.generation, attempt: pass.facts.attempt };
    let wanted = claims_of(&plan.spec);
    let missing: BTreeSet<String> = wanted.difference(&pass.facts.claims).cloned().collect();
    pass.claim(missing);

    let kind = ground.kind;
    let returning = pass.facts.retained.clone().filter(|_| kind == ReleaseKind::Return);
    let candidate = match &returning {
        Some(kept) => standing_candidate(&kept.version),
        None => new_candidate(pass, &plan, revision, &ground, id),
    };
    for (name, seen) in &pass.input.observed.alarms {
        if let Seen::Known(alarm) = seen
            && let Some(at) = alarm.transitioned_at
        {
            pass.facts.alarm_marks.insert(name.clone(), at);
        }
    }
    let names: BTreeSet<&String> = plan.spec.alarms.iter().map(|alarm| &alarm.name).collect();
    pass.facts.alarm_marks.retain(|name, _| names.contains(name));
    keep_own_writes(&mut pass.facts, &plan);
    // A release goes by the weights that it found: what was written before and does not show any more, somebody has
    // written over since.
    pass.facts
        .acknowledged
        .retain(|name, write| ground.weights.get(name).is_some_and(|found| found.same_ratio(write.shares)));
    if kind == ReleaseKind::First {
        // Nothing serves: weights lie where they lie.
        pass.facts.stable = None;
    }
    pass.facts.release = Some(Release {
        id,
        kind,
        identity,
        started_at: pass.input.now,
        stable: pass.facts.stable.clone(),
        before: ground.weights,
        candidate,
        desired_at_start: ground.desired_count,
        progress: Progress::default(),
        latch: None,
        promoted: BTreeSet::new(),
        break_glass: pending.break_glass.clone(),
        uncertain: returning.is_some_and(|kept| kept.uncertain),
    });
    pass.facts.plan = Some(plan);
    pass.facts.pending = None;
}

/// What was written last counts for the rule or listener that it was written to; a route of the same name may be
/// another one by now.
fn keep_own_writes(facts: &mut Facts, plan: &Plan) {
    let same = |name: &String| {
        let owner = |plan: &Plan| {
            let route = plan.routes().find(|route| route.name == *name)?;
            route.rule.as_ref().or(route.listener_default.as_ref()).cloned()
        };
        let before = facts.plan.as_ref().and_then(owner);
        before.is_some() && before == owner(plan)
    };
    facts.acknowledged.retain(|name, _| same(name));
    facts.late.retain(|write| same(&write.route));
}

fn standing_candidate(version: &Version) -> Candidate {
    Candidate {
        revision: version.revision.clone(),
        group: version.group,
        external_id: version.external_id.clone(),
        token: String::new(),
        task_set: Some(version.task_set.clone()),
        scale: Percent::FULL,
    }
}

fn new_candidate(
    pass: &Pass<'_>,
    plan: &Plan,
    revision: Revision,
    ground: &Ground,
    id: ReleaseId,
) -> Candidate {
    let external_id = format!("{}{}.{}", pass.external_prefix(), id.generation, id.attempt);
    let first_scale = super::forward::steps_of(plan, ground.kind)
        .iter()
        .find_map(|step| match step {
            Step::Shift { scale, .. } => Some(*scale),
            Step::Pause(_) => None,
        })
        .unwrap_or(Percent::FULL);
    Candidate {
        revision,
        group: ground.candidate_group,
        token: client_token(&external_id),
        external_id,
        task_set: None,
        scale: first_scale,
    }
}

/// `base32(sha256(externalId ‖ "create"))` cut to 32 characters (`semantics` 1.5); `clientToken` holds 36.
pub(super) fn client_token(external_id: &str) -> String {
    let digest = Sha256::new().chain_update(external_id).chain_update("create").finalize();
    let mut token = BASE32_NOPAD.encode(&digest);
    token.truncate(32);
    token
}

/// One claim for the service, each group and each route.
fn claims_of(spec: &ManagedServiceSpec) -> BTreeSet<String> {
    let routes = spec.routes.production.iter().chain(spec.routes.test.iter());
    let mut claims: BTreeSet<String> = routes
        .filter_map(|route| route.rule.as_ref().or(route.listener_default.as_ref()))
        .map(|arn| arn.as_str().to_owned())
        .collect();
    claims.insert(spec.ecs.service.as_str().to_owned());
    for group in [Group::A, Group::B] {
        claims.insert(spec.target_groups.of(group).as_str().to_owned());
    }
    claims
}

/// Live weights by route, as they stood at the start.
pub(super) type Before = BTreeMap<String, crate::model::Shares>;
