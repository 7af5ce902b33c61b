//! Routes whose rule or listener AWS does not know any more.
//!
//! Somebody deleted it, mostly to make it anew, and then it has another ARN: this one never comes back, sends no traffic
//! and takes no write. So it counts as closed for the way back, for what is outstanding and for the barrier of a
//! clean-up; else a release could never end and no other one begin. Nothing goes forward without it.

use super::pass::Pass;
use crate::model::observed::Weights;
use crate::model::{Resource, Seen};
use crate::records::Span;

/// This many consecutive observations, and the propagation wait, before it is believed: as with foreign weights.
const READS: u8 = super::foreign::READS;

/// Counts the observations, and forgets what was written to a route that is gone unless a release still counts on it.
pub(super) fn note(pass: &mut Pass<'_>) {
    let observed = pass.input.observed;
    let watched = pass.input.watched;
    for (route, seen) in &observed.routes {
        match seen {
            Seen::Known(Weights::Gone) => {
                let absent = pass.facts.absent.entry(route.clone()).or_default();
                if absent.reads > 0 {
                    absent.watched = absent.watched.plus(watched);
                }
                absent.reads = absent.reads.saturating_add(1).min(READS);
            }
            Seen::Known(Weights::Pair(_) | Weights::NotOurPair(_)) => {
                pass.facts.absent.remove(route);
            }
            // It says nothing.
            Seen::Unknown(_) => {}
        }
    }
    pass.facts.absent.retain(|route, _| observed.routes.contains_key(route));
    if pass.release().is_none_or(|release| release.latch.is_some()) {
        forget(pass);
    }
}

/// No write of ours can land there, and the next rule under this name was never written.
fn forget(pass: &mut Pass<'_>) {
    let gone: Vec<String> = pass
        .facts
        .absent
        .keys()
        .filter(|route| is_gone(pass, route) && is_absent(pass, route))
        .cloned()
        .collect();
    for route in gone {
        pass.facts.acknowledged.remove(&route);
        pass.facts.late.retain(|write| write.route != route);
        pass.facts.outstanding.remove(&Resource::Route(route));
    }
}

/// AWS did not know it in this very observation.
pub(super) fn is_absent(pass: &Pass<'_>, route: &str) -> bool {
    matches!(pass.input.observed.routes.get(route), Some(Seen::Known(Weights::Gone)))
}

/// It is known to be gone for good.
pub(super) fn is_gone(pass: &Pass<'_>, route: &str) -> bool {
    let propagation = pass.plan().map_or(Span::ZERO, |plan| plan.spec.waits.propagation);
    let absent = pass.facts.absent.get(route);
    absent.is_some_and(|absent| absent.reads >= READS && absent.watched >= propagation)
}

/// Adds to what is said of a way back which routes could not take part in it.
pub(super) fn told(pass: &Pass<'_>, detail: &str) -> String {
    let routes = pass.production();
    let mut gone = routes.iter().filter(|route| is_gone(pass, route));
    let Some(first) = gone.next() else { return detail.to_owned() };
    let more = match gone.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!(
        "{detail}; the rule of route {first}{more} does not exist any more, so nothing was written back there"
    )
}
