//! Weights that somebody else moved. An outage is put right at once in every state; other drift while nothing
//! is being released is reported or reverted, as the record says.

use std::collections::BTreeSet;

use super::pass::Pass;
use super::{Next, backoff, foreign, lost};
use crate::model::Seen;
use crate::model::facts::{Drift, Halt, HaltReason, Version};
use crate::records::managed_service::IdleDrift;
use crate::records::{Group, Span};

/// Incidents that are put right within [`WINDOW`] before the daemon stops fighting and calls a person.
pub(super) const REPAIRS: u32 = 6;
/// See [`REPAIRS`].
pub(super) const WINDOW: Span = Span::from_mins(60);
/// Observations that must agree: one may be a stale read of our own earlier weights.
const READS: u8 = 2;

/// Weight on a group whose tasks cannot answer, while a recorded version's can (`semantics` 5.8).
///
/// A candidate with traffic and no running task is not repaired but rolled back (`latch`). The other way round, once
/// the way back is gone, the candidate is the only version there is.
pub(super) fn outage(pass: &mut Pass<'_>) -> Option<Next> {
    if pass.facts.halted.is_some() || gave_up(pass) {
        return None;
    }
    let gated = pass.release().is_some_and(|release| release.progress.gate_passed);
    let exposed = pass.release().is_some_and(|release| release.progress.exposed);
    if exposed || gated && pass.stable_is_gone() {
        return lost::stable_lost(pass).or_else(|| lost::give_back(pass));
    }
    if lost::in_doubt(pass) {
        return Some(Next::Look(BTreeSet::new()));
    }
    let Some((route, target)) = find_outage(pass) else {
        pass.facts.drift.outage_reads = 0;
        end_incident(pass);
        return None;
    };
    if fight_is_lost(pass, &route) {
        return None;
    }
    if let Some(wait) = backoff::after_trouble_with(pass, &route) {
        return Some(wait);
    }
    if !confirmed(&mut pass.facts.drift.outage_reads) {
        return Some(Next::Look(BTreeSet::new()));
    }
    Some(put_right(pass, &route, &target))
}

/// The claims went with the record: what was ours may be another service's by now, also when the record is back. The
/// next release claims it again.
fn gave_up(pass: &Pass<'_>) -> bool {
    pass.facts.claims.is_empty()
}

fn find_outage(pass: &Pass<'_>) -> Option<(String, Version)> {
    pass.service()?;
    let target = lost::running_version(pass)?;
    pass.production().into_iter().find_map(|route| {
        let live = pass.live(&route)?;
        let dead = target.group.other();
        let outage = live.of(dead) > 0 && !pass.has_running_set(dead) && !pass.route_outstanding(&route);
        outage.then(|| (route, target.clone()))
    })
}

/// Counts one more agreeing observation; whether there are enough. Then the count starts anew.
fn confirmed(reads: &mut u8) -> bool {
    *reads = reads.saturating_add(1);
    if *reads < READS {
        return false;
    }
    *reads = 0;
    true
}

/// It counts when it is acknowledged (`settle`): a repair that AWS refuses is no fight, and is tried again.
pub(super) fn put_right(pass: &mut Pass<'_>, route: &str, target: &Version) -> Next {
    pass.facts.drift.repairing = Some(route.to_owned());
    pass.set_weights(route, Pass::all_to(target.group), None, true)
}

/// Nothing more is to be put right. What comes next is another incident; after too many of them the weights are on the
/// healthy set, and a person must find out who moves them.
pub(super) fn end_incident(pass: &mut Pass<'_>) {
    let routes = pass.production();
    let unread = |route: &String| {
        pass.route_outstanding(route)
            || !matches!(pass.input.observed.routes.get(route), Some(Seen::Known(_)))
    };
    if pass.service().is_none() || routes.iter().any(unread) {
        return;
    }
    let all_on = |group| {
        let all = Pass::all_to(group);
        routes.iter().all(|route| pass.live(route).is_some_and(|live| live.same_ratio(all)))
    };
    if all_on(Group::A) || all_on(Group::B) {
        pass.facts.drift.routes.clear();
    }
    if pass.facts.drift.repairs >= REPAIRS {
        give_up(pass);
    }
}

/// Whether to put this route right would be one incident too many; the last one that is not is brought to its end.
pub(super) fn fight_is_lost(pass: &mut Pass<'_>, route: &str) -> bool {
    let drift = &pass.facts.drift;
    let one_too_many = drift.repairs >= REPAIRS && (drift.routes.is_empty() || drift.routes.contains(route));
    if one_too_many {
        give_up(pass);
    }
    one_too_many
}

fn give_up(pass: &mut Pass<'_>) {
    let shown: Vec<String> = pass
        .production()
        .into_iter()
        .map(|route| match pass.live(&route) {
            Some(live) => format!("{route} a {} % / b {} %", live.share(Group::A), live.share(Group::B)),
            None => format!("{route} unread"),
        })
        .collect();
    pass.facts.halted = Some(Halt {
        reason: HaltReason::DriftFight,
        detail: format!("weights were put right {REPAIRS} times within {WINDOW}; now {}", shown.join(", ")),
    });
    // Whoever ends the halt gets the full number again.
    pass.facts.drift = Drift::default();
}

/// Other drift while nothing is being released: a late write of our own is put back, anybody else's weights as the
/// record says.
pub(super) fn idle_drift(pass: &mut Pass<'_>) -> Option<Next> {
    let stable = pass.facts.stable.clone()?;
    if pass.release().is_some() || gave_up(pass) || pass.known_gone(&stable) || pass.misplaced(&stable) {
        return None;
    }
    let revert = pass.input.service.valid().is_some_and(|spec| spec.drift.idle == IdleDrift::Revert);
    let target = Pass::all_to(stable.group);
    let drifted = pass.production().into_iter().find_map(|route| {
        let live = pass.live(&route).filter(|live| !live.same_ratio(target))?;
        (revert || foreign::is_late_write(pass, &route, live)).then_some((route, live))
    });
    let Some((route, live)) = drifted else {
        pass.facts.drift.idle_reads = 0;
        return None;
    };
    if !confirmed(&mut pass.facts.drift.idle_reads) {
        return Some(Next::Look(BTreeSet::new()));
    }
    foreign::mark_landed(pass, &route, live);
    Some(put_right(pass, &route, &stable))
}
