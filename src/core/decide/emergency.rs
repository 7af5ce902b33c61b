//! The way back without a lease (`docs/decisions.md`, "May an owner that lost its lease act?").
//!
//! While the state table answers no beat (it cannot be reached, throttles or denies), an owner cannot renew its lease, and
//! an alarm would burn unanswered. One whose lease ran out because of that, and of nothing else, may write one thing: the weights of a release in flight back to the
//! recorded stable version. Everything that could make that wrong holds it up here. Nothing goes forward and nothing
//! is deleted without a lease, ever; the types of the port see to that.
//!
//! This is no part of the ladder: it is asked instead of it, on the facts that were durable last.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::evidence::is_armed;
use crate::model::effect::{Shares, WayBack};
use crate::model::facts::{Acknowledged, Facts, Latch, LatchCause, Outstanding, Release, ReleaseId, Version};
use crate::model::observed::{AlarmState, TaskSetStatus, Weights};
use crate::model::{Effect, Need, Observed, Plan, Resource, Seen};
use crate::records::{Percent, Span};

/// What the process remembers of an emergency between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emergency {
    /// Whose traffic was taken back.
    pub release: Option<ReleaseId>,
    /// Armed alarms that the last look saw in ALARM.
    pub burning: BTreeSet<String>,
    /// Routes that were written back, with what was written.
    pub done: BTreeMap<String, Shares>,
    /// How often each route was tried without an acknowledgement.
    pub tried: BTreeMap<String, u32>,
    /// The alarms that it was done for.
    pub because: BTreeSet<String>,
}

/// A route is tried so often in one emergency; then only a person, or the lease, can help.
pub const TRIES: u32 = 10;

/// Why traffic stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stays {
    /// No release with a recorded way back is in flight, or its candidate never had weight.
    NothingToTakeBack,
    /// No armed alarm was in ALARM in this look and the one before.
    NoAlarmTwice,
    /// The stable version is not known to be PRIMARY and to run at its recorded scale, with healthy targets.
    StableNotSound,
    /// These live weights are not what was written last: somebody else acts, or they cannot be read.
    NotOurWeights(String),
    /// Every route is back, or was tried [`TRIES`] times.
    Done,
}

impl Stays {
    /// One word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NothingToTakeBack => "NothingToTakeBack",
            Self::NoAlarmTwice => "NoAlarmTwice",
            Self::StableNotSound => "StableNotSound",
            Self::NotOurWeights(_) => "NotOurWeights",
            Self::Done => "Done",
        }
    }
}

/// The plan and the additional reads of a look, when there is something that could be taken back.
pub fn to_observe(facts: &Facts) -> Option<(&Plan, BTreeSet<Need>)> {
    let (_, stable) = way_back(facts)?;
    Some((facts.plan.as_ref()?, BTreeSet::from([Need::Targets(stable.group)])))
}

/// Judges one look: the alarms that burn, for the next one, and the one write that may be made now.
pub fn judge(
    facts: &Facts,
    observed: &Observed,
    before: &Emergency,
) -> (BTreeSet<String>, Result<WayBack, Stays>) {
    let (Some((release, stable)), Some(plan)) = (way_back(facts), facts.plan.as_ref()) else {
        return (BTreeSet::new(), Err(Stays::NothingToTakeBack));
    };
    let burning = burning(plan, release, observed);
    let next = if burning.is_disjoint(&before.burning) {
        Err(Stays::NoAlarmTwice)
    } else if is_sound(stable, observed) {
        open_route(facts, plan, stable, observed, before)
    } else {
        Err(Stays::StableNotSound)
    };
    (burning, next)
}

fn way_back(facts: &Facts) -> Option<(&Release, &Version)> {
    let release = facts.release.as_ref().filter(|release| release.progress.exposed)?;
    Some((release, release.stable.as_ref()?))
}

fn burning(plan: &Plan, release: &Release, observed: &Observed) -> BTreeSet<String> {
    let armed = plan.spec.alarms.iter().filter(|alarm| is_armed(alarm.watches, release.candidate.group));
    let names = armed.map(|alarm| &alarm.name).filter(|name| !release.break_glass.contains(*name));
    let burns = |name: &&String| {
        let alarm = observed.alarms.get(*name).and_then(Seen::known);
        alarm.is_some_and(|alarm| alarm.state == AlarmState::Alarm)
    };
    names.filter(burns).cloned().collect()
}

/// What is not known does not count: in an emergency nobody waits, but nobody guesses either.
///
/// The set must still be PRIMARY. Another owner that brought the release to its end made the candidate so before it may
/// remove the stable set; from then on it may be gone at any moment, however healthy it is and whoever wrote
/// the weights. As long as it is PRIMARY, that owner has its whole quiet time before it, in which a write of ours
/// lands or is too old for its signature.
fn is_sound(stable: &Version, observed: &Observed) -> bool {
    let sets = observed.service.known().map(|service| service.task_sets.as_slice()).unwrap_or_default();
    let Some(set) = sets.iter().find(|set| set.arn == stable.task_set) else { return false };
    let healthy = observed.extra.targets.get(&stable.group).and_then(Seen::known);
    set.status == TaskSetStatus::Primary
        && set.group == Some(stable.group)
        && set.scale >= stable.scale
        && set.is_up()
        && healthy.is_some_and(|targets| targets.healthy >= set.computed)
}

/// The route with the most weight on the candidate, if *every* production route stands as we left it.
fn open_route(
    facts: &Facts,
    plan: &Plan,
    stable: &Version,
    observed: &Observed,
    before: &Emergency,
) -> Result<WayBack, Stays> {
    let mut open: Vec<WayBack> = Vec::new();
    for route in &plan.spec.routes.production {
        let name = &route.name;
        let moved = || Stays::NotOurWeights(name.clone());
        let Some(Seen::Known(Weights::Pair(live))) = observed.routes.get(name) else {
            return Err(moved());
        };
        if !left_by_us(facts, name, before).iter().any(|shares| shares.same_ratio(*live)) {
            return Err(moved());
        }
        let tried = before.tried.get(name).copied().unwrap_or(0);
        if live.of(stable.group.other()) > 0 && !before.done.contains_key(name) && tried < TRIES {
            open.push(WayBack::new(name.clone(), stable.group, *live));
        }
    }
    let exposure = |back: &WayBack| back.expect().share(stable.group.other());
    open.into_iter().max_by_key(exposure).ok_or(Stays::Done)
}

/// What a route may show when nobody but us has written: the last acknowledged write, the one that was announced
/// after it and may have landed, or what was written in this emergency.
fn left_by_us(facts: &Facts, route: &str, before: &Emergency) -> Vec<Shares> {
    if let Some(done) = before.done.get(route) {
        return vec![*done];
    }
    let acknowledged = facts.acknowledged.get(route).map(|written| written.shares);
    let at_start = facts.release.as_ref().and_then(|release| release.before.get(route).copied());
    let announced = facts.outstanding.get(&Resource::Route(route.to_owned()));
    let announced = announced.and_then(|outstanding| match outstanding.effect {
        Effect::SetWeights { shares, .. } => Some(shares),
        _ => None,
    });
    // A try of ours in this emergency whose answer was lost may have landed as well.
    let tried =
        before.tried.get(route).and(facts.release.as_ref()).and_then(|release| release.stable.as_ref());
    let tried = tried.map(|stable| Shares::giving(stable.group, Percent::FULL));
    [acknowledged.or(at_start), announced, tried].into_iter().flatten().collect()
}

/// The facts of the next write once the table answers again and the lease is still ours: the release is latched, and
/// what was written counts as acknowledged under `epoch`. None: there is nothing to add; the release ended, or turned
/// around by itself.
pub fn record(facts: &Facts, emergency: &Emergency, epoch: u64, now: Timestamp) -> Option<Facts> {
    let mut facts = facts.clone();
    let release = facts.release.as_mut().filter(|release| Some(release.id) == emergency.release)?;
    let stable = release.stable.as_ref()?;
    // A try whose answer was lost may still land.
    for route in emergency.tried.keys().filter(|route| !emergency.done.contains_key(*route)) {
        let shares = Shares::giving(stable.group, Percent::FULL);
        let effect = Effect::SetWeights { route: route.clone(), shares, expect: None };
        let outstanding = Outstanding { effect: effect.clone(), unknown: true, looked: 0 };
        facts.outstanding.insert(effect.resource(), outstanding);
    }
    for (route, shares) in &emergency.done {
        facts.acknowledged.insert(route.clone(), Acknowledged { shares: *shares, epoch });
    }
    // Time has passed in which others may have written; the long quiet wait covers it.
    release.uncertain = true;
    if release.latch.is_none() {
        release.latch = Some(Latch {
            cause: LatchCause::Alarm,
            detail: detail(emergency),
            at: now,
            tried: BTreeMap::new(),
            elapsed: Span::ZERO,
        });
    }
    Some(facts)
}

/// One sentence, for status and history.
pub fn detail(emergency: &Emergency) -> String {
    let alarms = emergency.because.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("EmergencyRollback: {alarms} burned while nothing could be recorded")
}

#[cfg(test)]
pub(crate) mod tests;
